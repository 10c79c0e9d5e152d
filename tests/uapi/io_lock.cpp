// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The lock while the kernel holds fbufs: from the submission until the last reference to their pages is gone,
// wherever these went, nobody writes them; then they are the originator's again, as they were.

#include "support/io.hpp"

#include <linux/if_ether.h>
#include <linux/if_packet.h>

namespace {

using namespace uapi;

constexpr std::size_t bytes = 4 * page;

class IoLock : public IoTest {
protected:
	Actor actor{8 << 20};
	Fd other = open_domain();
	Channel channel{actor.domain, other};
	fbufs_buffer buffer = actor.filled(bytes, 7);
	Bytes data = pattern(bytes, 7);

	void expect_locked(const char* when)
	{
		const fbufs_locate found = locate(actor.domain, buffer.position);
		EXPECT_EQ(found.out_fbuf, buffer.fbuf) << when;
		EXPECT_EQ(found.out_state, FBUFS_STATE_SENT) << when;
		EXPECT_EQ(found.out_locked, 1u) << when;
		for (std::size_t at = 0; at < bytes; at += page) {
			EXPECT_TRUE(store_faults(actor.at(buffer) + at)) << when;
			EXPECT_FALSE(load_faults(actor.at(buffer) + at)) << when;
		}
		const Ends pipe = make_pipe();
		ASSERT_EQ(::write(pipe.in, "evil", 4), 4);
		EXPECT_EQ(::read(pipe.out, actor.at(buffer) + 10, 4), -1) << when;
		EXPECT_EQ(errno, EFAULT) << when;
		EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {buffer.fbuf}), -EBUSY) << when;
		EXPECT_EQ(send_one(channel.sender, buffer.fbuf, 0, 1), -EACCES) << when;
		EXPECT_EQ(submit(actor.domain, write_op(pipe.in, 99), {slice_of(buffer.fbuf, 0, 1)}), -EACCES) << when;
		EXPECT_TRUE(actor.contents(buffer.position, bytes) == data) << when;
	}
	void expect_no_completion(const char* when) { EXPECT_TRUE(finish(actor.domain, 1, 30).empty()) << when; }
	void expect_back(std::int64_t result = bytes)
	{
		EXPECT_EQ(finish_one(actor.domain).result, result);
		const fbufs_locate found = locate(actor.domain, buffer.position);
		EXPECT_EQ(found.out_fbuf, buffer.fbuf);
		EXPECT_EQ(found.out_state, FBUFS_STATE_OWNED);
		EXPECT_EQ(found.out_locked, 0u);
		EXPECT_TRUE(actor.contents(buffer.position, bytes) == data);
		for (std::size_t at = 0; at < bytes; at += page)
			EXPECT_FALSE(store_faults(actor.at(buffer) + at));
		EXPECT_EQ(send_one(channel.sender, buffer.fbuf, 0, 1), 1) << "it can be sent";
	}
	void write_all(int fd, std::uint32_t flags = 0)
	{
		ASSERT_EQ(submit(actor.domain, write_op(fd, 1, 1, flags), {slice_of(buffer.fbuf, 0, bytes)}), 1);
	}
};

class IoLockKind : public IoLock, public testing::WithParamInterface<Kind> {};

TEST_P(IoLockKind, UntilTheReaderHasAll)
{
	const Kind& kind = GetParam();
	if (!kind.references)
		return;
	const Ends ends = kind.make();
	write_all(ends.in);
	expect_locked("submitted");
	expect_no_completion("nobody has read");
	if (kind.stream) {
		EXPECT_TRUE(read_some(ends.out, page) == Bytes(data.begin(), data.begin() + page));
		expect_locked("a page was read");
		expect_no_completion("a page was read");
		EXPECT_TRUE(read_some(ends.out, bytes) == Bytes(data.begin() + page, data.end()));
	} else {
		EXPECT_TRUE(read_some(ends.out, bytes) == data);
	}
	expect_back();
}

TEST_P(IoLockKind, GivenItComesHome)
{
	const Kind& kind = GetParam();
	if (!kind.references)
		return;
	const Ends ends = kind.make();
	write_all(ends.in, FBUFS_IO_GIVE);
	expect_locked("submitted");
	EXPECT_EQ(finish_one(actor.domain).result, static_cast<std::int64_t>(bytes)) << "accepted";
	expect_locked("accepted");
	EXPECT_TRUE(read_some(ends.out, bytes) == data);
	EXPECT_TRUE(actor.becomes(buffer, FBUFS_STATE_FREE)) << "nobody calls, and it comes home";
	EXPECT_TRUE(store_faults(actor.at(buffer)));
	EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {buffer.fbuf}), -ENOENT);
}

TEST_P(IoLockKind, WhatDidNotFitIsLockedToo)
{
	const Kind& kind = GetParam();
	if (!kind.stream)
		return;
	const Ends ends = kind.make();
	const fbufs_buffer large = actor.filled(4 << 20, 2);
	// A pipe takes few slices, however long they are.
	std::vector<fbufs_slice> slices;
	for (std::uint32_t at = 0; at < 4 << 20; at += 1 << 16)
		slices.push_back(slice_of(large.fbuf, at, 1 << 16));
	ASSERT_EQ(submit(actor.domain, write_op(ends.in, 1, 64), slices), 1);
	write_all(ends.in);
	expect_locked("behind another");
	for (std::size_t at = 0; at < 4 << 20; at += 1 << 18)
		EXPECT_TRUE(store_faults(actor.at(large) + at));
	expect_no_completion("full");
	// The second of them never went anywhere: cancelled, it is the originator's at once; the first is not.
	EXPECT_EQ(cancel(actor.domain, 1), 2);
	const std::vector<Done> done = finish(actor.domain, 2, 100);
	ASSERT_EQ(done.size(), 1u);
	EXPECT_EQ(done[0].result, -ECANCELED);
	EXPECT_EQ(actor.state(buffer), FBUFS_STATE_OWNED);
	EXPECT_FALSE(store_faults(actor.at(buffer)));
	EXPECT_TRUE(store_faults(actor.at(large)));
}

// A reader that looks and does not take, while stores are tried.
TEST_P(IoLockKind, WhileAReaderPeeks)
{
	const Kind& kind = GetParam();
	if (!kind.references || std::strcmp(kind.name, "Pipe") == 0)
		return;
	const Ends ends = kind.make();
	write_all(ends.in);
	for (int i = 0; i < 10; i++) {
		Bytes seen(bytes);
		ASSERT_TRUE(polls(ends.out, POLLIN, 2000));
		ssize_t n = 0;
		EXPECT_TRUE(eventually([&] {
			n = ::recv(ends.out, seen.data(), bytes, MSG_PEEK | MSG_DONTWAIT);
			return n == static_cast<ssize_t>(bytes);
		})) << n;
		EXPECT_TRUE(seen == data);
		EXPECT_TRUE(store_faults(actor.at(buffer) + i % 4 * page));
	}
	expect_no_completion("peeked");
	EXPECT_TRUE(read_some(ends.out, bytes) == data);
	expect_back();
}

INSTANTIATE_TEST_SUITE_P(On, IoLockKind, testing::ValuesIn(kinds),
			 [](const auto& test) { return std::string(test.param.name); });

TEST_F(IoLock, WhileATeeHasThem)
{
	const Ends first = make_pipe(), second = make_pipe(), third = make_pipe();
	write_all(first.in);
	ASSERT_EQ(::tee(first.out, second.in, bytes, 0), static_cast<ssize_t>(bytes));
	ASSERT_EQ(::tee(second.out, third.in, 100, 0), 100) << "a part of a page";
	EXPECT_TRUE(read_some(first.out, bytes) == data);
	expect_locked("the first has read");
	expect_no_completion("the first has read");
	EXPECT_TRUE(read_some(second.out, bytes) == data);
	expect_locked("the second has read");
	expect_no_completion("the second has read");
	EXPECT_TRUE(read_some(third.out, bytes) == Bytes(data.begin(), data.begin() + 100));
	expect_back();
}

TEST_F(IoLock, WhileATeeHasThemThatIsClosed)
{
	const Ends first = make_pipe();
	Ends second = make_pipe();
	write_all(first.in);
	ASSERT_EQ(::tee(first.out, second.in, bytes, 0), static_cast<ssize_t>(bytes));
	EXPECT_TRUE(read_some(first.out, bytes) == data);
	expect_no_completion("the first has read");
	second = {};
	expect_back();
}

TEST_F(IoLock, WhileTheyAreSplicedThroughPipes)
{
	const Ends first = make_pipe(), second = make_pipe();
	write_all(first.in);
	ASSERT_EQ(::splice(first.out, nullptr, second.in, nullptr, page + 50, 0), static_cast<ssize_t>(page + 50));
	EXPECT_TRUE(read_some(first.out, bytes) == Bytes(data.begin() + page + 50, data.end()));
	expect_locked("the rest is in the second");
	expect_no_completion("the rest is in the second");
	EXPECT_TRUE(read_some(second.out, bytes) == Bytes(data.begin(), data.begin() + page + 50));
	expect_back();
}

TEST_F(IoLock, WhileTheyAreSplicedIntoSockets)
{
	struct {
		const char* name;
		Ends (*make)();
	} const sockets[] = {{"tcp4", make_tcp4}, {"tcp6", make_tcp6}, {"unix", make_unix_stream}, {"udp", make_udp4}};
	for (const auto& socket : sockets) {
		buffer = actor.filled(bytes, 7);
		const Ends pipe = make_pipe(), ends = socket.make();
		write_all(pipe.in);
		ASSERT_EQ(::splice(pipe.out, nullptr, ends.in, nullptr, bytes, 0), static_cast<ssize_t>(bytes))
			<< socket.name;
		expect_locked(socket.name);
		expect_no_completion(socket.name);
		Bytes seen;
		while (seen.size() < bytes) {
			const Bytes more = read_some(ends.out, bytes);
			ASSERT_FALSE(more.empty()) << socket.name;
			seen.insert(seen.end(), more.begin(), more.end());
		}
		EXPECT_TRUE(seen == data) << socket.name;
		expect_back();
		EXPECT_EQ(handles(other, FBUFS_RELEASE, {Received(channel.receiver).handle()}), 1);
	}
}

TEST_F(IoLock, SplicedIntoAFileTheyAreCopied)
{
	const Ends pipe = make_pipe();
	const Fd file = temporary_file();
	write_all(pipe.in);
	ASSERT_EQ(::splice(pipe.out, nullptr, file, nullptr, bytes, 0), static_cast<ssize_t>(bytes));
	expect_back();
	std::memset(actor.at(alloc_one(actor.domain, bytes)), 0xee, bytes);
	Bytes seen(bytes);
	EXPECT_EQ(::pread(file, seen.data(), bytes, 0), static_cast<ssize_t>(bytes));
	EXPECT_TRUE(seen == data);
}

TEST_F(IoLock, SplicedOutOfASocketTheyStayLocked)
{
	const Ends socket = make_tcp4(), pipe = make_pipe();
	write_all(socket.in);
	std::size_t moved = 0;
	while (moved < bytes) {
		ASSERT_TRUE(polls(socket.out, POLLIN, 2000));
		const ssize_t n = ::splice(socket.out, nullptr, pipe.in, nullptr, bytes - moved, 0);
		ASSERT_GT(n, 0);
		moved += static_cast<std::size_t>(n);
	}
	expect_locked("in the pipe");
	expect_no_completion("in the pipe");
	Bytes seen;
	while (seen.size() < bytes) {
		const Bytes more = read_some(pipe.out, bytes);
		ASSERT_FALSE(more.empty());
		seen.insert(seen.end(), more.begin(), more.end());
	}
	EXPECT_TRUE(seen == data);
	expect_back();
}

// Who writes behind our bytes in a pipe must not write into our page.
TEST_F(IoLock, OtherBytesGoElsewhere)
{
	const Ends pipe = make_pipe();
	ASSERT_EQ(submit(actor.domain, write_op(pipe.in), {slice_of(buffer.fbuf, 0, 100)}), 1);
	ASSERT_EQ(::write(pipe.in, "evil", 4), 4);
	EXPECT_TRUE(actor.contents(buffer.position, bytes) == data);
	const Bytes seen = read_some(pipe.out, 1000);
	EXPECT_TRUE(Bytes(seen.begin(), seen.begin() + 100) == Bytes(data.begin(), data.begin() + 100));
	expect_back(100);

	const Ends socket = make_unix_stream();
	buffer = actor.filled(bytes, 7);
	ASSERT_EQ(submit(actor.domain, write_op(socket.in), {slice_of(buffer.fbuf, 0, 100)}), 1);
	ASSERT_EQ(::write(socket.in, "evil", 4), 4);
	EXPECT_TRUE(actor.contents(buffer.position, bytes) == data);
	EXPECT_EQ(read_some(socket.out, 100).size(), 100u);
}

// A reader that may write to the pages it gets would have to copy them: no page is stolen.
TEST_F(IoLock, NoPageIsMovedOutOfAPipe)
{
	const Ends pipe = make_pipe();
	const Fd file = temporary_file();
	write_all(pipe.in);
	ASSERT_EQ(::splice(pipe.out, nullptr, file, nullptr, bytes, SPLICE_F_MOVE), static_cast<ssize_t>(bytes));
	EXPECT_EQ(::pwrite(file, "evil", 4, 0), 4);
	EXPECT_TRUE(actor.contents(buffer.position, bytes) == data);
	expect_back();
}

TEST_F(IoLock, WhileSomebodyListensOnTheWire)
{
	const Fd wire(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_IP)));
	if (wire.get() < 0)
		GTEST_SKIP() << "no packet sockets: " << std::strerror(errno);
	const Ends ends = make_udp4();
	write_all(ends.in);
	EXPECT_TRUE(read_some(ends.out, bytes) == data);
	expect_locked("captured");
	expect_no_completion("captured");
	Bytes frame(1 << 16);
	std::size_t found = 0;
	while (polls(wire, POLLIN, 50)) {
		const ssize_t n = ::recv(wire, frame.data(), frame.size(), 0);
		const auto begin = frame.begin() + n - static_cast<ssize_t>(bytes);
		found += n > static_cast<ssize_t>(bytes) && Bytes(begin, begin + bytes) == data;
	}
	EXPECT_GE(found, 1u);
	expect_back();
}

// The bytes that the other side sees are those of the submission, whatever the originator tries.
TEST_F(IoLock, UnderAttack)
{
	for (const Kind& kind : kinds) {
		if (!kind.references || !kind.stream)
			continue;
		const fbufs_buffer target = actor.filled(1 << 20, 3);
		const Bytes expected = pattern(1 << 20, 3);
		const Ends ends = kind.make();
		std::atomic<bool> stop = false;
		std::atomic<unsigned> landed = 0;
		ASSERT_EQ(submit(actor.domain, write_op(ends.in), {slice_of(target.fbuf, 0, 1 << 20)}), 1);
		std::thread attacker([&] {
			const Ends pipe = make_pipe();
			for (std::size_t i = 0; !stop; i = (i + 4099) % (1 << 20)) {
				(void)!::write(pipe.in, "evil", 4);
				landed += ::read(pipe.out, actor.at(target) + i, 1) > 0;
				char rest[8];
				(void)!::read(pipe.out, rest, sizeof(rest));
			}
		});
		std::vector<Done> done;
		const Bytes seen = pump(actor.domain, ends.out, (1 << 20) - 1, done);
		EXPECT_TRUE(seen == Bytes(expected.begin(), expected.end() - 1)) << kind.name;
		EXPECT_TRUE(done.empty()) << "a byte is left, and its page is locked";
		stop = true;
		attacker.join();
		EXPECT_EQ(landed, 0u) << kind.name;
		EXPECT_EQ(read_some(ends.out, 10).size(), 1u);
		EXPECT_EQ(finish_one(actor.domain).result, 1 << 20) << kind.name;
		EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {target.fbuf}), 1);
	}
}

// While the kernel fills an fbuf, it is nobody's.
TEST_F(IoLock, WhileItIsFilled)
{
	const Ends ends = make_tcp4();
	ASSERT_EQ(submit(actor.domain, read_op(ends.out, 2 * page, 1, FBUFS_IO_ALL)), 1);
	ASSERT_EQ(::write(ends.in, "abc", 3), 3);
	ASSERT_TRUE(polls(actor.domain, POLLIN, 2000));
	EXPECT_TRUE(finish(actor.domain, 1, 30).empty());
	// The other fbuf of the pool; its handle is not known yet.
	fbufs_locate found = {};
	for (std::uint64_t at = FBUFS_POOL_OFFSET(actor.pool.out_pool);
	     at < FBUFS_POOL_OFFSET(actor.pool.out_pool) + (1 << 20); at += page) {
		found = locate(actor.domain, at);
		if (found.out_fbuf && found.out_fbuf != buffer.fbuf)
			break;
	}
	ASSERT_NE(found.out_fbuf, 0u);
	ASSERT_NE(found.out_fbuf, buffer.fbuf);
	EXPECT_EQ(found.out_state, FBUFS_STATE_SENT);
	EXPECT_EQ(found.out_locked, 1u);
	EXPECT_TRUE(store_faults(actor.window.at(found.out_first)));
	EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {found.out_fbuf}), -EBUSY);
	EXPECT_EQ(send_one(channel.sender, found.out_fbuf, 0, 1), -EACCES);
	::shutdown(ends.in, SHUT_WR);
	const Done done = finish_one(actor.domain);
	EXPECT_EQ(done.result, 3);
	EXPECT_EQ(done.fbuf, found.out_fbuf);
	EXPECT_FALSE(store_faults(actor.window.at(done.position)));
}

} // namespace
