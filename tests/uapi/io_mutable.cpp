// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// FBUFS_MAKE_MUTABLE: the pages of a message that nobody else holds change their owner, others are copied.

#include "support/io.hpp"

#include <sched.h>

#include <chrono>
#include <memory>

namespace {

using namespace uapi;

constexpr std::size_t bytes = 4 * page;

// A channel whose ends are not attached yet, and can be by whoever is forked.
struct Loose {
	Fd watcher = open_domain();
	Fd sender, receiver;

	explicit Loose(std::uint32_t flags = 0) { EXPECT_EQ(channel_create(watcher, flags, 0, sender, receiver), 0); }
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

//
// While somebody else releases it
//

// A message of the other process that two domains of this one hold: one takes it over at the moment in which the other
// one, who reads until then, releases it.
class IoMutableRace : public IoTest {
protected:
	using Clock = std::chrono::steady_clock;

	// How the other one came by it: also sent to it, or sent on to it.
	enum class Way { shared, forwarded };

	struct Race {
		Loose loose;
		Ends wire = make_unix_stream();
		Remote from{1 << 20};
		// What was taken before makes room for the next.
		Actor to{bytes};
		Fd third = open_domain();
		Fd receiver;
		std::unique_ptr<Channel> on;
		std::unique_ptr<Window> view;

		Race(Way way, std::uint32_t flags);
		[[nodiscard]] Received other(const Received& mine) const;
	};
	// What became of one message.
	struct Outcome {
		fbufs_make_mutable made = {};
		long result = -1, released = -1;
		bool taken_good = false, view_good = true;
	};

	// That takes many times as long with checkers.
	const int rounds = kernel_is_checked() ? 100 : 500;
	void run(Way way, std::uint32_t flags);

private:
	static fbufs_buffer send_new(const Race& race, unsigned seed, bool notice);
	static Outcome meet(const Race& race, const Received& mine, const Received& theirs, const Bytes& data,
			    Clock::duration later);
	static void expect_true(const Race& race, const fbufs_buffer& buffer, const Outcome& outcome, bool notice);
	static void expect_nothing_lost(const Race& race);
};

IoMutableRace::Race::Race(Way way, std::uint32_t flags) : loose(flags)
{
	const int sender = loose.sender, out = wire.in;
	EXPECT_EQ(from.run([=](Actor& actor) { return attach(sender, actor.domain); }), 0);
	EXPECT_EQ(attach(loose.receiver, to.domain), 0);
	if (way == Way::forwarded) {
		on = std::make_unique<Channel>(to.domain, third, flags);
		return;
	}
	EXPECT_EQ(from.run([=](Actor&) {
		Fd added;
		const long result = add_receiver(sender, added);
		if (result == 0)
			pass_fd(out, added);
		return result;
	}),
		  0);
	receiver = take_fd(wire.out);
	EXPECT_EQ(attach(receiver, third), 0);
}

// The message as the other domain holds it.
Received IoMutableRace::Race::other(const Received& mine) const
{
	if (!on)
		return Received(receiver);
	fbufs_message forward = {};
	forward.slices = 1;
	EXPECT_EQ(send(on->sender, {forward}, {slice_of(mine.slices[0].fbuf, 0, bytes, mine.handle())}), 1);
	return Received(on->receiver);
}

fbufs_buffer IoMutableRace::send_new(const Race& race, unsigned seed, bool notice)
{
	const int sender = race.loose.sender;
	return race.from.run([=](Actor& actor) {
		const fbufs_buffer buffer = alloc_one(sender, bytes);
		const Bytes data = pattern(bytes, seed);
		if (buffer.fbuf)
			std::memcpy(actor.at(buffer), data.data(), bytes);
		const std::uint32_t flags = notice ? FBUFS_MESSAGE_NOTICE : 0;
		return send_one(sender, buffer.fbuf, 0, bytes, seed, FBUFS_DONTWAIT, flags) == 1 ? buffer
												 : fbufs_buffer{};
	});
}

IoMutableRace::Outcome IoMutableRace::meet(const Race& race, const Received& mine, const Received& theirs,
					   const Bytes& data, Clock::duration later)
{
	Outcome outcome;
	std::atomic<int> ready = 0;
	const auto begin = [&] {
		for (ready++; ready < 2;)
			::sched_yield();
		return Clock::now();
	};
	std::thread releaser([&] {
		const std::uint8_t* const seen = race.view->at(theirs.slices[0].position);
		const auto until = begin() + later;
		do
			outcome.view_good &=
				!faults([&] { outcome.view_good &= std::memcmp(seen, data.data(), bytes) == 0; });
		while (Clock::now() < until);
		outcome.released = handles(race.third, FBUFS_RELEASE, {theirs.handle()});
	});
	const auto until = begin() - later;
	while (Clock::now() < until)
		;
	outcome.result = make_mutable(race.to.domain, mine.handle(), outcome.made);
	if (outcome.result == 0) {
		std::uint8_t* const taken = race.to.window.at(outcome.made.out_position);
		outcome.taken_good = std::memcmp(taken, data.data(), bytes) == 0;
		std::memset(taken, 0x77, bytes);
	}
	releaser.join();
	return outcome;
}

// Where the pages are is as the call said, and the originator has heard of it once.
void IoMutableRace::expect_true(const Race& race, const fbufs_buffer& buffer, const Outcome& outcome, bool notice)
{
	struct Origin {
		std::uint32_t state;
		bool written;
		std::uint64_t used;
		long notices;
		std::uint64_t noticed[2];
	};
	const bool taken = outcome.made.out_how == FBUFS_MUTABLE_TAKEN;
	const Origin origin = race.from.run([=](Actor& actor) {
		Origin now = {actor.state(buffer), taken && !store_faults(actor.at(buffer)), actor.used(), 0, {}};
		fbufs_notices args = {};
		args.size = sizeof(args);
		args.fbufs = address(now.noticed);
		args.count = 2;
		now.notices = call(actor.domain, FBUFS_NOTICES, args);
		return now;
	});
	EXPECT_EQ(origin.state, taken ? FBUFS_STATE_EMPTY : FBUFS_STATE_FREE);
	EXPECT_FALSE(origin.written);
	EXPECT_EQ(origin.used, taken ? 0u : bytes);
	EXPECT_EQ(origin.notices, notice ? 1 : 0);
	EXPECT_EQ(origin.noticed[0], notice ? buffer.fbuf : 0u);
	EXPECT_EQ(race.to.used(), bytes);
	EXPECT_EQ(gauges(race.third)[FBUFS_GAUGE_PAGES], (origin.used + bytes) / page);
	EXPECT_TRUE(race.to.contents(outcome.made.out_position, bytes) == Bytes(bytes, 0x77));
	EXPECT_EQ(locate(race.to.domain, outcome.made.out_position).out_state, FBUFS_STATE_OWNED);
	EXPECT_EQ(outcome.made.out_offset, 0u);
	EXPECT_EQ(outcome.made.out_length, bytes);
}

// All pages of either pool can be had, and no message is left but those for re-use.
void IoMutableRace::expect_nothing_lost(const Race& race)
{
	EXPECT_LE(gauges(race.third)[FBUFS_GAUGE_MESSAGES], race.on ? 2u : 1u);
	const int sender = race.loose.sender;
	const std::size_t home = race.from.run([=](Actor&) {
		std::size_t n = 0;
		while (alloc_one(sender).fbuf)
			n++;
		return n;
	});
	EXPECT_EQ(home, (1 << 20) / page);
	std::size_t mine = 0;
	while (alloc_one(race.to.domain).fbuf)
		mine++;
	EXPECT_EQ(mine, bytes / page);
}

void IoMutableRace::run(Way way, std::uint32_t flags)
{
	Race race(way, flags);
	constexpr Clock::duration shortest = std::chrono::microseconds(1), longest = std::chrono::microseconds(500);
	// Two threads on a busy machine wait for each other a lot: not for ever.
	const auto deadline = Clock::now() + std::chrono::seconds(kernel_is_checked() ? 40 : 6);
	Clock::duration later = {}, step = shortest;
	bool before = false;
	int taken = 0, round = 0;
	for (; round < rounds && Clock::now() < deadline && !HasFailure(); round++) {
		const auto seed = static_cast<unsigned>(round);
		const bool notice = round % 2;
		const fbufs_buffer buffer = send_new(race, seed, notice);
		const Received mine(race.loose.receiver);
		ASSERT_EQ(mine.result, 1);
		const Received theirs = race.other(mine);
		ASSERT_EQ(theirs.result, 1);
		if (!race.view)
			race.view = std::make_unique<Window>(window_of(race.third, buffer.fbuf));
		const std::uint64_t copied = counters(race.to.domain)[FBUFS_COUNT_BYTES_COPIED];
		const Outcome outcome = meet(race, mine, theirs, pattern(bytes, seed), later);
		ASSERT_EQ(outcome.result, 0);
		const bool won = outcome.made.out_how == FBUFS_MUTABLE_TAKEN;
		SCOPED_TRACE(testing::Message() << "round " << round << (won ? ", taken" : ", copied"));
		EXPECT_TRUE(won || outcome.made.out_how == FBUFS_MUTABLE_COPIED) << outcome.made.out_how;
		EXPECT_EQ(outcome.released, 1);
		EXPECT_TRUE(outcome.taken_good) << "not what was sent";
		EXPECT_TRUE(outcome.view_good) << "changed for who still held it";
		EXPECT_EQ(counters(race.to.domain)[FBUFS_COUNT_BYTES_COPIED] - copied, won ? 0u : bytes);
		expect_true(race, buffer, outcome, notice);
		EXPECT_EQ(handles(race.to.domain, FBUFS_FREE, {outcome.made.out_fbuf}), 1);
		// Who was late has less to wait in the next round: so they come to meet.
		step = won == before ? std::min(2 * step, longest) : shortest;
		later += won ? step : -step;
		before = won;
		taken += won;
	}
	EXPECT_GE(round, 20);
	EXPECT_GT(taken, 0);
	EXPECT_LT(taken, round);
	expect_nothing_lost(race);
}

TEST_F(IoMutableRace, WithTheOtherReceiversRelease)
{
	run(Way::shared, 0);
}

TEST_F(IoMutableRace, WithTheOtherReceiversReleaseVolatile)
{
	run(Way::shared, FBUFS_CHANNEL_VOLATILE);
}

TEST_F(IoMutableRace, WithTheReleaseOfWhatWasSentOn)
{
	run(Way::forwarded, 0);
}

TEST_F(IoMutableRace, WithTheReleaseOfWhatWasSentOnVolatile)
{
	run(Way::forwarded, FBUFS_CHANNEL_VOLATILE);
}

} // namespace
