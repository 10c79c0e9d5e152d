// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// What an input means: a sequence of operations, each done by one of a few processes (actors). Operations have one
// size and every byte string is a program, so that the fuzzer's mutations keep what they do not touch.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace fuzz {

enum Code : std::uint8_t {
	open_domain,
	pool_create,
	map,
	unmap,
	alloc,
	give_back,
	channel_create,
	fetch, // a descriptor of another actor's
	attach,
	add_receiver,
	send,
	receive,
	ask_and_receive, // FBUFS_CALL
	release,
	secure,
	notices,
	ask, // calls that only tell
	io_write,
	io_read,
	io_collect,
	cancel,
	make_mutable,
	send_file,
	touch,	// a load or store in a window
	change, // what may not be done to a window
	close_end,
	raw, // a call with any number, flags, size and bytes
	poll,
	drain, // read a shared descriptor as anybody would
	die,
	codes,
};

inline constexpr unsigned actors = 3;
inline constexpr std::uint8_t in_thread = 0x40; // beside what follows
inline constexpr std::uint8_t in_child = 0x80;	// by a forked child

struct Op {
	std::uint8_t code;
	std::uint8_t who;
	std::uint8_t a, b, c, d;
	std::uint16_t n;
	std::uint32_t x, y;

	[[nodiscard]] Code which() const { return static_cast<Code>(code % codes); }
	[[nodiscard]] unsigned actor() const { return (who & 0x3f) % actors; }
};
static_assert(sizeof(Op) == 16);

inline constexpr std::size_t max_ops = 64;

using Program = std::vector<Op>;

inline Program decode(const std::uint8_t* data, std::size_t size)
{
	Program program(std::min(size / sizeof(Op), max_ops));
	if (!program.empty())
		std::memcpy(program.data(), data, program.size() * sizeof(Op));
	return program;
}

// Programs to begin with, in seeds.cpp.
struct Seed {
	const char* name;
	Program program;
};
std::vector<Seed> seeds();

} // namespace fuzz
