// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "fuzz/actor.hpp"

#include <linux/fbufs.h>

namespace fuzz {

namespace {

// Operand numbers are those that actor.cpp reads; those beyond the end slots mean the domain.
constexpr std::uint8_t the_domain = 8;

Op op(unsigned who, Code code, std::uint8_t a = 0, std::uint8_t b = 0, std::uint8_t c = 0, std::uint8_t d = 0,
      std::uint16_t n = 1, std::uint32_t x = 0, std::uint32_t y = 0)
{
	return {code, static_cast<std::uint8_t>(who), a, b, c, d, n, x, y};
}

// Actor 0 with a pool and a channel, whose receiving end is actor 1's, and both windows.
Program path(std::uint8_t flags, std::uint8_t stores = 0)
{
	return {op(0, open_domain),
		op(0, pool_create, 1, stores, 0, 0, 1, 1 << 3 | 2 | 64 << 2),
		op(0, map, 0),
		op(1, open_domain),
		op(0, channel_create, 0, 1, static_cast<std::uint8_t>(flags | FBUFS_CHANNEL_ATTACH_SENDER)),
		op(1, fetch, 0, 1, 0),
		op(0, close_end, 1),
		op(1, attach, 0),
		op(1, map, 0)};
}

Program operator+(Program program, const Program& more)
{
	program.insert(program.end(), more.begin(), more.end());
	return program;
}

// Four fbufs there and back. Both who allocates and who receives an fbuf posts it: eight a round.
Program round(std::uint8_t which = 0)
{
	const auto fbuf = static_cast<std::uint8_t>(8 * which), message = static_cast<std::uint8_t>(4 * which);
	return {op(0, alloc, 0, 0, 0, 0, 4),	    op(0, touch, 0, 3),
		op(0, send, 0, fbuf, 0, 0, 4),	    op(0, touch, 0, 3),
		op(1, receive, 0, 0, 0, 0, 8),	    op(1, touch, 0, 0),
		op(1, release, message, 0, 0, 0, 4)};
}

} // namespace

std::vector<Seed> seeds()
{
	constexpr std::uint8_t lend = 128;
	const Program lent = {op(0, alloc, 0),	       op(0, touch, 0, 3),  op(0, send, 0, 0, lend), op(1, receive, 0),
			      op(0, touch, 0, 3),      op(1, touch, 0, 0),  op(1, release, 0),	     op(0, touch, 0, 3),
			      op(0, send, 0, 0, lend), op(0, give_back, 0), op(1, receive, 0),	     op(1, release, 1)};
	const Program cached_volatile = path(FBUFS_CHANNEL_VOLATILE) + round(0) + round(1);
	return {
		{"cached", path(0) + round(0) + round(1)},
		{"uncached", path(FBUFS_CHANNEL_UNCACHED) + round()},
		{"volatile", cached_volatile},
		{"secure", path(FBUFS_CHANNEL_VOLATILE) + Program{op(0, alloc, 0), op(0, send, 0), op(1, receive, 0),
								  op(1, secure, 0), op(0, touch, 0, 3)}},
		{"dies", path(0) + Program{op(0, alloc, 0, 0, 0, 0, 8), op(0, send, 0, 0, 0, 0, 6),
					   op(1, receive, 0, 0, 0, 0, 3), op(0, die), op(1, touch, 0, 0),
					   op(1, release, 0, 0, 0, 0, 3)}},
		{"forward", path(0) + Program{op(1, channel_create, 2, 3, FBUFS_CHANNEL_ATTACH_SENDER),
					      op(2, open_domain), op(2, fetch, 1, 3, 0), op(2, attach, 0),
					      op(0, alloc, 0), op(0, send, 0), op(1, receive, 0), op(1, send, 2, 0, 8),
					      op(1, release, 0), op(2, receive, 0), op(2, map, 0), op(2, release, 0)}},
		{"fan_out", path(0) +
				    Program{op(0, add_receiver, 0, 1), op(2, open_domain), op(2, fetch, 0, 1, 0),
					    op(2, attach, 0)} +
				    round() + Program{op(2, receive, 0), op(2, make_mutable, 0)}},
		{"mutable", path(0) + Program{op(1, pool_create, 0), op(1, map, 1), op(0, alloc, 0), op(0, send, 0),
					      op(1, receive, 0), op(1, make_mutable, 0), op(1, touch, 1, 2)}},
		{"copied", path(0) + Program{op(0, send, 0, 0, 0, 128, 3), op(1, receive, 0, 0, 0, 0, 8),
					     op(0, send, 0, 0, 4, 129, 2), op(1, receive, 0, 0, 0, 0, 8),
					     op(1, release, 0, 0, 0, 0, 5)}},
		{"files", path(0) + Program{op(0, fuzz::drain, fuzz::file, 1, 0, 0, 1, 9000),
					    op(0, fuzz::send_file, tcp, fuzz::file, 2, 0, 1, 8 << 2),
					    op(1, fuzz::send_file, unix_stream, fuzz::file, 2, 0, 1, 1),
					    op(1, pool_create, 0), op(1, io_read, unix_stream, 0, 0, 0, 1, 4),
					    op(0, fuzz::send_file, udp, fuzz::file, 2, 0, 1, 8 << 2)}},
		{"lent", path(0) + lent},
		{"store_waits", path(0, FBUFS_POOL_STORE_WAIT) + lent},
		{"store_copies", path(0, FBUFS_POOL_STORE_COPY) + lent},
		{"notices",
		 path(0) + Program{op(0, alloc, 0, 0, 0, 0, 3), op(0, send, 0, 0, 2, 2, 1), op(1, receive, 0),
				   op(1, release, 0), op(0, notices, 0, 0, 0, 0, 8), op(0, poll, 0)}},
		// The second actor answers in advance; the first one asks.
		{"calls",
		 path(0) + Program{op(1, pool_create, 0), op(1, channel_create, 2, 3, FBUFS_CHANNEL_ATTACH_SENDER),
				   op(0, fetch, 1, 3, 4), op(0, attach, 4), op(1, alloc, 2), op(1, send, 2),
				   op(0, alloc, 0), op(0, ask_and_receive, 0, 1, 0, 4, 1), op(1, receive, 0),
				   op(0, ask_and_receive, 0, 1, 2, 4, 0)}},
		{"waits", path(0) + Program{op(1 | in_thread, receive, 0, 0, 1), op(0, alloc, 0), op(0, send, 0),
					    op(0 | in_child, send, 0), op(1, close_end, 0), op(0, send, 0, 0, 1)}},
		{"pipes",
		 path(0) + Program{op(0, alloc, the_domain, 0, 0, 0, 4), op(0, io_write, fuzz::pipe, 0, 2, 1, 0),
				   op(1, pool_create, 0), op(1, io_read, fuzz::pipe, 0, 0, 0, 1, 4), op(1, release, 0),
				   op(0, io_collect), op(0, io_write, small_pipe, 2, 0, 1, 0),
				   op(1, drain, small_pipe, 0, 0, 0, 1, 5000), op(0, cancel)}},
		{"sockets",
		 path(0) + Program{op(0, alloc, the_domain, 0, 0, 0, 6), op(0, io_write, unix_stream, 0, 0, 0, 0),
				   op(0, io_write, tcp, 1, 0, 0, 0), op(0, io_write, udp, 2, 0, 0, 0),
				   op(0, io_write, file, 3, 0, 0, 0), op(1, pool_create, 0),
				   op(1, io_read, tcp, 0, 0, 0, 1, 4), op(1, io_read, unix_stream, 0, 0, 0, 1, 4),
				   op(0, close_end, the_domain)}},
		{"windows",
		 path(0) + Program{op(0, alloc, 0), op(0, touch, 0, 2), op(0, change, 0, 0, 0, 0, 3),
				   op(0, change, 0, 1), op(0, change, 0, 2), op(0, change, 0, 3, 0, 0, 4),
				   op(0, change, 0, 4), op(0, touch, 0, 2), op(0, unmap, 0), op(0, send, 0)}},
		{"raw",
		 path(0) + Program{op(0, raw, 0, 0x23, 0, 64, 21, 4, 1), op(0, raw, the_domain, 0x0b, 0, 72, 37, 1),
				   op(1, raw, 0, 0x24, 0, 64, 4), op(0, ask, 0), op(1, ask, 0)}},
	};
}

} // namespace fuzz
