// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// FBUFS_MAKE_MUTABLE: the pages of a message that nobody else holds change their owner, others are copied.

#include "support/io.hpp"

namespace {

using namespace uapi;

constexpr std::size_t bytes = 4 * page;

// A channel whose ends are not attached yet, and can be by whoever is forked.
struct Loose {
	Fd watcher = open_domain();
	Fd sender, receiver;

	Loose() { EXPECT_EQ(channel_create(watcher, 0, 0, sender, receiver), 0); }
};

// The originator is another process, which sends to this one.
class IoMutable : public IoTest {
protected:
	Loose loose;
	Remote from{1 << 20};
	Actor to{1 << 20};
	Fd third = open_domain();
	Gauges before{loose.watcher};

	void SetUp() override
	{
		IoTest::SetUp();
		const int sender = loose.sender;
		ASSERT_EQ(from.run([=](Actor& actor) { return attach(sender, actor.domain); }), 0);
		ASSERT_EQ(attach(loose.receiver, to.domain), 0);
	}
	[[nodiscard]] long send_from(const fbufs_buffer& buffer, std::uint32_t offset, std::uint32_t length) const
	{
		const int sender = loose.sender;
		return from.run([=](Actor&) { return send_one(sender, buffer.fbuf, offset, length); });
	}
	// A message of such a part of a new fbuf.
	[[nodiscard]] Received message(fbufs_buffer& buffer, std::uint32_t offset = 0,
				       std::uint32_t length = bytes) const
	{
		buffer = from.filled(bytes, 5);
		EXPECT_EQ(send_from(buffer, offset, length), 1);
		return Received(loose.receiver);
	}
	void expect_mine(const fbufs_make_mutable& made, std::uint32_t offset, std::uint32_t length)
	{
		const fbufs_locate found = locate(to.domain, made.out_position);
		EXPECT_EQ(found.out_fbuf, made.out_fbuf);
		EXPECT_EQ(found.out_state, FBUFS_STATE_OWNED);
		EXPECT_EQ(found.out_bytes, bytes);
		EXPECT_EQ(FBUFS_HANDLE_POOL(made.out_fbuf), to.pool.out_pool);
		EXPECT_EQ(made.out_offset, offset);
		EXPECT_EQ(made.out_length, length);
		const Bytes data = pattern(bytes, 5);
		const auto begin = data.begin() + static_cast<std::ptrdiff_t>(offset);
		EXPECT_TRUE(to.contents(made.out_position + offset, length) ==
			    Bytes(begin, begin + static_cast<std::ptrdiff_t>(length)));
		for (std::size_t at = 0; at < bytes; at += page)
			EXPECT_FALSE(store_faults(to.window.at(made.out_position) + at));
	}
};

TEST_F(IoMutable, WhatIsLentIsCopied)
{
	const fbufs_buffer buffer = from.filled(bytes, 5);
	const int sender = loose.sender;
	ASSERT_EQ(from.run([=](Actor&) { return send_one(sender, buffer.fbuf, 0, bytes, 0, 0, FBUFS_MESSAGE_LEND); }),
		  1);
	const Received received(loose.receiver);
	ASSERT_EQ(received.result, 1);
	fbufs_make_mutable made;
	ASSERT_EQ(make_mutable(to.domain, received.message.message, made), 0);
	EXPECT_EQ(made.out_how, FBUFS_MUTABLE_COPIED);
	expect_mine(made, 0, bytes);
	EXPECT_EQ(from.run([=](Actor& actor) { return actor.state(buffer); }), FBUFS_STATE_OWNED);
}

TEST_F(IoMutable, SoleHolderTakesThePages)
{
	fbufs_buffer buffer;
	const Received received = message(buffer);
	ASSERT_EQ(received.result, 1);
	const std::uint64_t copied = counters(to.domain)[FBUFS_COUNT_BYTES_COPIED];
	const std::uint64_t pages = gauges(to.domain)[FBUFS_GAUGE_PAGES];
	const std::uint64_t fbufs = gauges(to.domain)[FBUFS_GAUGE_FBUFS];
	EXPECT_EQ(from.used(), bytes);
	EXPECT_EQ(to.used(), 0u);
	const Window window = window_of(to.domain, buffer.fbuf);
	EXPECT_FALSE(load_faults(window.at(buffer.position)));
	fbufs_make_mutable made;
	ASSERT_EQ(make_mutable(to.domain, received.handle(), made), 0);
	EXPECT_EQ(made.out_how, FBUFS_MUTABLE_TAKEN);
	expect_mine(made, 0, bytes);
	EXPECT_EQ(counters(to.domain)[FBUFS_COUNT_BYTES_COPIED], copied);
	EXPECT_EQ(gauges(to.domain)[FBUFS_GAUGE_PAGES], pages);
	EXPECT_EQ(gauges(to.domain)[FBUFS_GAUGE_FBUFS], fbufs);
	EXPECT_EQ(from.used(), 0u) << "it left its originator's pool";
	EXPECT_EQ(to.used(), bytes);
	// Nothing of it is left over there.
	EXPECT_EQ(from.state(buffer), FBUFS_STATE_EMPTY);
	EXPECT_TRUE(from.store_faults(buffer));
	EXPECT_TRUE(from.load_faults(buffer));
	EXPECT_TRUE(load_faults(window.at(buffer.position))) << "nor in the window of it";
	EXPECT_EQ(from.run([=](Actor& actor) { return handles(actor.domain, FBUFS_FREE, {buffer.fbuf}); }), -ENOENT);
	EXPECT_EQ(send_from(buffer, 0, 1), -ENOENT);
	EXPECT_EQ(handles(to.domain, FBUFS_RELEASE, {received.handle()}), -ENOENT) << "the message is released";
	// What the taker writes is the taker's.
	std::memset(to.window.at(made.out_position), 0x77, bytes);
	const fbufs_buffer fresh = from.filled(bytes, 9);
	EXPECT_NE(fresh.fbuf, buffer.fbuf);
	EXPECT_TRUE(to.contents(made.out_position, bytes) == Bytes(bytes, 0x77));
	// It is an fbuf like others: it is sent, comes home, and is freed.
	const Ends pipe = make_pipe();
	EXPECT_EQ(complete(to.domain, write_op(make_unix_datagram().in, 1), {slice_of(made.out_fbuf, 0, bytes)}).cookie,
		  1u);
	EXPECT_EQ(handles(to.domain, FBUFS_FREE, {made.out_fbuf}), 1);
	EXPECT_EQ(handles(to.domain, FBUFS_FREE, {made.out_fbuf}), -ENOENT);
}

TEST_F(IoMutable, PartOfAnFbuf)
{
	fbufs_buffer buffer;
	const Received received = message(buffer, page + 100, 5000);
	fbufs_make_mutable made;
	ASSERT_EQ(make_mutable(to.domain, received.handle(), made), 0);
	EXPECT_EQ(made.out_how, FBUFS_MUTABLE_TAKEN);
	expect_mine(made, page + 100, 5000);
}

TEST_F(IoMutable, PartOfAnFbufCopied)
{
	fbufs_buffer buffer;
	ASSERT_EQ(from.run([=, sender = loose.sender.get()](Actor&) {
		Fd receiver;
		const long added = add_receiver(sender, receiver);
		return added < 0 ? added : (::dup2(receiver, 250) == 250 ? 0 : -1);
	}),
		  0);
	const std::uint64_t copied = counters(to.domain)[FBUFS_COUNT_BYTES_COPIED];
	const Received received = message(buffer, page + 100, 5000);
	fbufs_make_mutable made;
	ASSERT_EQ(make_mutable(to.domain, received.handle(), made), 0);
	EXPECT_EQ(made.out_how, FBUFS_MUTABLE_COPIED) << "it waits for another receiver";
	EXPECT_EQ(counters(to.domain)[FBUFS_COUNT_BYTES_COPIED] - copied, 5000u);
	expect_mine(made, page + 100, 5000);
	// Not a byte more than was sent.
	const Bytes all = to.contents(made.out_position, bytes);
	EXPECT_EQ(from.used(), bytes);
	EXPECT_EQ(to.used(), bytes);
	EXPECT_EQ(from.state(buffer), FBUFS_STATE_SENT);
	EXPECT_TRUE(from.has_pattern(buffer, bytes, 5));
	EXPECT_EQ(handles(to.domain, FBUFS_RELEASE, {received.handle()}), -ENOENT);
	EXPECT_EQ(from.run([](Actor&) { return ::close(250); }), 0);
	EXPECT_TRUE(from.becomes(buffer, FBUFS_STATE_FREE));
}

TEST_F(IoMutable, CopiedWhileItIsForwarded)
{
	const Channel on(to.domain, third);
	fbufs_buffer buffer;
	const Received received = message(buffer);
	fbufs_message forward = {};
	forward.slices = 1;
	ASSERT_EQ(send(on.sender, {forward}, {slice_of(buffer.fbuf, 0, 10, received.handle())}), 1);
	fbufs_make_mutable made;
	ASSERT_EQ(make_mutable(to.domain, received.handle(), made), 0);
	EXPECT_EQ(made.out_how, FBUFS_MUTABLE_COPIED);
	expect_mine(made, 0, bytes);
	std::memset(to.window.at(made.out_position), 0x77, bytes);
	const Received last(on.receiver);
	ASSERT_EQ(last.result, 1);
	{
		const Window window = window_of(third, buffer.fbuf);
		const Bytes data = pattern(10, 5);
		EXPECT_TRUE(look(window, last.slices) == data) << "the copy is not the original";
	}
	// Now it is the only one.
	ASSERT_EQ(handles(third, FBUFS_RELEASE, {last.handle()}), 1);
	EXPECT_TRUE(from.becomes(buffer, FBUFS_STATE_FREE));
}

// The kernel is a holder as any other.
TEST_F(IoMutable, CopiedWhileTheKernelHasIt)
{
	const Ends pipe = make_pipe();
	fbufs_buffer buffer;
	const Received received = message(buffer);
	ASSERT_EQ(submit(to.domain, write_op(pipe.in), {slice_of(buffer.fbuf, 0, page, received.handle())}), 1);
	fbufs_make_mutable made;
	ASSERT_EQ(make_mutable(to.domain, received.handle(), made), 0);
	EXPECT_EQ(made.out_how, FBUFS_MUTABLE_COPIED);
	std::memset(to.window.at(made.out_position), 0x77, bytes);
	EXPECT_TRUE(read_some(pipe.out, bytes) == pattern(page, 5));
	EXPECT_EQ(finish_one(to.domain).result, static_cast<std::int64_t>(page));
}

// What was taken from a pipe, with the writer's operation over and not.
TEST_F(IoMutable, OfWhatWasTakenFromAPipe)
{
	const Loose ends;
	int fds[2];
	ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
	const Ends pipe = {Fd(fds[1]), Fd(fds[0])};
	for (const bool gives : {true, false}) {
		Remote writer(1 << 20);
		const fbufs_buffer buffer = writer.filled(bytes, 5);
		ASSERT_EQ(writer.submit(write_op(pipe.in, 1, 1, gives ? FBUFS_IO_GIVE : 0),
					{slice_of(buffer.fbuf, 0, bytes)}),
			  1);
		const Done done = complete(to.domain, read_op(pipe.out, bytes));
		ASSERT_NE(done.message, 0u);
		EXPECT_EQ(writer.finish(1, gives ? 3000 : 50).n, gives ? 1u : 0u);
		fbufs_make_mutable made;
		if (gives) {
			// Its operation has let go of it a little later.
			const std::uint64_t gone = gauges(to.domain)[FBUFS_GAUGE_IO];
			(void)eventually([&] { return gauges(to.domain)[FBUFS_GAUGE_IO] < gone; }, 300);
		}
		ASSERT_EQ(make_mutable(to.domain, done.message, made), 0);
		EXPECT_EQ(made.out_how, gives ? FBUFS_MUTABLE_TAKEN : FBUFS_MUTABLE_COPIED);
		expect_mine(made, 0, bytes);
		if (!gives) {
			EXPECT_EQ(writer.finish().n, 1u);
			EXPECT_EQ(writer.state(buffer), FBUFS_STATE_OWNED);
			EXPECT_TRUE(writer.has_pattern(buffer, bytes, 5));
		}
		EXPECT_EQ(handles(to.domain, FBUFS_FREE, {made.out_fbuf}), 1);
	}
}

TEST_F(IoMutable, OwnPoolsMessageIsCopied)
{
	const Channel self(to.domain, third);
	// Received by the originator itself, over its own channel.
	Fd sender, receiver;
	ASSERT_EQ(channel_create(to.domain, FBUFS_CHANNEL_ATTACH_SENDER, 0, sender, receiver), 0);
	ASSERT_EQ(attach(receiver, to.domain), 0);
	const fbufs_buffer buffer = to.filled(bytes, 5);
	ASSERT_EQ(send_one(sender, buffer.fbuf, 0, bytes), 1);
	const Received received(receiver);
	fbufs_make_mutable made;
	ASSERT_EQ(make_mutable(to.domain, received.handle(), made), 0);
	EXPECT_EQ(made.out_how, FBUFS_MUTABLE_COPIED);
	EXPECT_NE(made.out_fbuf, buffer.fbuf);
	expect_mine(made, 0, bytes);
	EXPECT_TRUE(to.becomes(buffer, FBUFS_STATE_FREE)) << "released, it is home";
}

TEST_F(IoMutable, Refused)
{
	fbufs_buffer buffer;
	const Received received = message(buffer);
	fbufs_make_mutable args = {};
	EXPECT_EQ(make_mutable(third, received.handle(), args), -ENXIO) << "no pool";
	EXPECT_EQ(make_mutable(to.domain, received.handle() + (1ULL << 32), args), -ENOENT);
	EXPECT_EQ(make_mutable(to.domain, 0, args), -ENOENT);
	EXPECT_EQ(make_mutable(to.domain, ~0ULL, args), -ENOENT);
	EXPECT_EQ(make_mutable(to.domain, buffer.fbuf, args), -ENOENT) << "a handle of an fbuf is none";
	EXPECT_EQ(make_mutable(loose.receiver, received.handle(), args), -ENOTTY);
	EXPECT_EQ(in_child([&] { return make_mutable(to.domain, received.handle(), args) == -EPERM ? 0 : 1; }), 0);
	for (const auto change :
	     {+[](fbufs_make_mutable& a) { a.size -= 8; }, +[](fbufs_make_mutable& a) { a.flags = 1; },
	      +[](fbufs_make_mutable& a) { a.__reserved = 1; }}) {
		args = {};
		args.size = sizeof(args);
		args.message = received.handle();
		change(args);
		EXPECT_EQ(call(to.domain, FBUFS_MAKE_MUTABLE, args), -EINVAL);
	}
	EXPECT_EQ(handles(to.domain, FBUFS_RELEASE, {received.handle()}), 1) << "it is still held";
	EXPECT_EQ(make_mutable(to.domain, received.handle(), args), -ENOENT) << "an old handle";
}

TEST_F(IoMutable, ManySlicesRefused)
{
	const fbufs_buffer buffer = from.filled(bytes, 5);
	ASSERT_EQ(from.run([=, sender = loose.sender.get()](Actor&) {
		fbufs_message two = {};
		two.slices = 2;
		return send(sender, {two}, {slice_of(buffer.fbuf, 0, 10), slice_of(buffer.fbuf, 10, 10)});
	}),
		  1);
	const Received received(loose.receiver);
	fbufs_make_mutable made;
	EXPECT_EQ(make_mutable(to.domain, received.handle(), made), -EINVAL);
	EXPECT_EQ(to.used(), 0u);
	EXPECT_EQ(from.state(buffer), FBUFS_STATE_SENT);
	EXPECT_EQ(handles(to.domain, FBUFS_RELEASE, {received.handle()}), 1);
}

TEST_F(IoMutable, FullPool)
{
	std::vector<fbufs_buffer> buffers(256);
	ASSERT_EQ(alloc(to.domain, page, buffers), 256);
	fbufs_buffer buffer;
	const Received received = message(buffer);
	fbufs_make_mutable made;
	EXPECT_EQ(make_mutable(to.domain, received.handle(), made), -ENOBUFS);
	const Window window = window_of(to.domain, buffer.fbuf);
	EXPECT_TRUE(look(window, received.slices) == pattern(bytes, 5)) << "still held";
	const Channel out(to.domain, third);
	ASSERT_EQ(send_one(out.sender, buffers[0].fbuf, 0, 1), 1);
	EXPECT_EQ(make_mutable(to.domain, received.handle(), made), -EAGAIN) << "something is on its way";
	EXPECT_EQ(handles(to.domain, FBUFS_FREE, {buffers[1].fbuf, buffers[2].fbuf, buffers[3].fbuf, buffers[4].fbuf}),
		  4);
	EXPECT_EQ(make_mutable(to.domain, received.handle(), made), 0) << "free ones make room";
	expect_mine(made, 0, bytes);
}

TEST_F(IoMutable, ManyTimes)
{
	for (int i = 0; i < 300; i++) {
		fbufs_buffer buffer;
		const Received received = message(buffer);
		fbufs_make_mutable made;
		ASSERT_EQ(make_mutable(to.domain, received.handle(), made), 0) << i;
		ASSERT_EQ(made.out_how, FBUFS_MUTABLE_TAKEN) << i;
		ASSERT_TRUE(to.contents(made.out_position, bytes) == pattern(bytes, 5)) << i;
		ASSERT_EQ(handles(to.domain, FBUFS_FREE, {made.out_fbuf}), 1);
	}
	EXPECT_EQ(from.used(), 0u);
}

TEST_F(IoMutable, OutlivesItsOriginator)
{
	fbufs_buffer buffer, other;
	const Received before_end = message(buffer), after_end = message(other);
	fbufs_make_mutable made, late;
	ASSERT_EQ(make_mutable(to.domain, before_end.handle(), made), 0);
	from.end();
	expect_mine(made, 0, bytes);
	ASSERT_EQ(make_mutable(to.domain, after_end.handle(), late), 0);
	EXPECT_EQ(late.out_how, FBUFS_MUTABLE_TAKEN);
	expect_mine(late, 0, bytes);
}

// Nothing of these is left.
TEST(IoMutableEnds, GaugesComeBack)
{
	const Fd watcher = open_domain();
	const Gauges before(watcher);
	{
		const Loose loose;
		const Remote from(1 << 20);
		const Actor to(1 << 20);
		const int sender = loose.sender;
		ASSERT_EQ(from.run([=](Actor& actor) { return attach(sender, actor.domain); }), 0);
		ASSERT_EQ(attach(loose.receiver, to.domain), 0);
		for (int i = 0; i < 5; i++) {
			const fbufs_buffer buffer = from.filled(bytes, 5);
			ASSERT_EQ(from.run([=](Actor&) { return send_one(sender, buffer.fbuf, 0, bytes); }), 1);
			fbufs_make_mutable made;
			ASSERT_EQ(make_mutable(to.domain, Received(loose.receiver).handle(), made), 0);
		}
	}
	EXPECT_TRUE(before.are_back());
}

} // namespace
