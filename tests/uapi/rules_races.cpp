// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Rules 7 and 11 while somebody stores: the lock has no moment in which a store slips through. Rule 3 when two
// receivers are the last at the same time.

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <sched.h>

#include <algorithm>
#include <chrono>

namespace {

using namespace uapi;

// Two domains of this process and a channel between them.
struct Pair {
	Originator from{1 << 20};
	Fd to = open_domain();
	Channel channel;
	Window window;

	explicit Pair(std::uint32_t flags = 0)
		: channel(from.domain, to, flags), window(to, from.pool.out_pool, from.pool.out_span, PROT_READ)
	{
	}
};

// A thread that stores all the time never gets through, not even in the moment of the lock.
void race(bool secure)
{
	Pair pair(secure ? FBUFS_CHANNEL_VOLATILE : 0);
	const fbufs_buffer first = alloc_one(pair.channel.sender);
	auto* word = reinterpret_cast<std::uint64_t*>(pair.from.at(first));
	const volatile auto* seen = reinterpret_cast<std::uint64_t*>(pair.window.at(first.position));
	std::atomic<std::uint64_t> stores = 0;
	std::atomic<bool> stop = false;
	ASSERT_EQ(handles(pair.from.domain, FBUFS_FREE, {first.fbuf}), 1);
	std::thread writer([&] {
		while (!stop)
			(void)faults([&] {
				while (!stop)
					__atomic_store_n(word, stores += 1, __ATOMIC_RELAXED);
			});
	});
	int changed = 0, rounds = 0;
	bool good = true;
	// Two threads on a busy machine wait for each other a lot: not for ever.
	const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
	for (; good && rounds < 1500 && std::chrono::steady_clock::now() < deadline; rounds++) {
		good = false;
		const fbufs_buffer buffer = alloc_one(pair.channel.sender);
		if (buffer.position != first.position)
			break;
		// The window is writable, and the writer is at it.
		const std::uint64_t before = stores;
		while (stores < before + 3)
			::sched_yield();
		if (send_one(pair.channel.sender, buffer.fbuf, 0, page) != 1)
			break;
		const Received received(pair.channel.receiver);
		if (secure && handles(pair.to, FBUFS_SECURE, {received.handle()}) != 1)
			break;
		const std::uint64_t value = *seen, mark = stores;
		for (int i = 0; i < 50 && stores == mark; i++)
			changed += *seen != value;
		for (int i = 0; i < 50; i++)
			changed += *seen != value;
		good = handles(pair.to, FBUFS_RELEASE, {received.handle()}) == 1;
	}
	stop = true;
	writer.join();
	EXPECT_TRUE(good) << "in round " << rounds;
	EXPECT_GE(rounds, 20);
	EXPECT_EQ(changed, 0);
}

TEST(Rule07LockedFbufs, AStoreNeverWinsAgainstASend)
{
	race(false);
}

TEST(Rule11VolatileMode, AStoreNeverWinsAgainstASecure)
{
	race(true);
}

std::vector<std::uint64_t> handles_of(const std::vector<fbufs_message>& messages)
{
	std::vector<std::uint64_t> result;
	for (const fbufs_message& each : messages)
		result.push_back(each.message);
	return result;
}

// Sends @n messages; 0, or what is wrong.
long send_some(const Pair& pair, std::uint32_t n)
{
	std::vector<fbufs_buffer> buffers(n);
	std::vector<fbufs_message> messages(n);
	std::vector<fbufs_slice> slices(n);
	const long got = alloc(pair.channel.sender, page, buffers);
	if (got < n) {
		// What there was goes back.
		std::vector<std::uint64_t> some;
		for (long i = 0; i < got; i++)
			some.push_back(buffers[static_cast<std::size_t>(i)].fbuf);
		(void)handles(pair.from.domain, FBUFS_FREE, some);
		return 1;
	}
	for (std::uint32_t i = 0; i < n; i++) {
		messages[i].slices = 1;
		slices[i].fbuf = buffers[i].fbuf;
		slices[i].length = page;
	}
	return send(pair.channel.sender, messages, slices) == n ? 0 : 1;
}

// Both give up the same messages at once: each comes home, and is good for the next round.
TEST(Rule03ComesHome, FromTwoReceiversAtOnce)
{
	constexpr std::uint32_t vector = 32;
	constexpr int rounds = 500;
	Pair pair(FBUFS_CHANNEL_VOLATILE);
	const Fd third = open_domain();
	Fd second;
	ASSERT_EQ(add_receiver(pair.channel.sender, second), 0);
	ASSERT_EQ(attach(second, third), 0);
	std::atomic<int> ready = 0;
	std::atomic<long> wrong = 0;
	// One from the first on, the other from the last: so they meet.
	const auto receive_and_release = [&](int receiver, int domain, bool backwards) {
		std::vector<fbufs_message> got(vector);
		std::vector<fbufs_slice> seen(vector);
		for (int round = 0; round < rounds; round++) {
			wrong += receive(receiver, got, seen) != vector;
			auto held = handles_of(got);
			if (backwards)
				std::ranges::reverse(held);
			for (ready++; ready < 2 * (round + 1) && !wrong;)
				::sched_yield();
			wrong += handles(domain, FBUFS_RELEASE, held) != vector;
		}
	};
	std::thread one(receive_and_release, pair.channel.receiver.get(), pair.to.get(), false);
	std::thread other(receive_and_release, second.get(), third.get(), true);
	// The last round's come home while the next one is made.
	for (int round = 0; round < rounds && !wrong; round++)
		wrong += !eventually([&] { return send_some(pair, vector) == 0; });
	if (wrong)
		pair.channel.sender.reset();
	one.join();
	other.join();
	ASSERT_EQ(wrong, 0);
	const auto stats = gauges(pair.from.domain);
	std::uint64_t home = 0;
	while (alloc_one(pair.channel.sender, page).fbuf)
		home++;
	EXPECT_EQ(home, pair.from.pool.bytes / page) << "what did not come home";
	EXPECT_LE(stats[FBUFS_GAUGE_MESSAGES], 256u) << "messages that are nobody's, and not for re-use";
}

// One thread locks what another one gives up, from the other end: each is released once, and comes home.
TEST(Rule11VolatileMode, SecuredWhileItIsReleased)
{
	constexpr std::uint32_t vector = 32;
	Pair pair(FBUFS_CHANNEL_VOLATILE);
	for (int round = 0; round < 200; round++) {
		std::vector<fbufs_message> got(vector);
		std::vector<fbufs_slice> seen(vector);
		ASSERT_EQ(send_some(pair, vector), 0);
		ASSERT_EQ(receive(pair.channel.receiver, got, seen), vector);
		const auto held = handles_of(got);
		auto backwards = held;
		std::ranges::reverse(backwards);
		std::atomic<bool> ready = false;
		std::thread locker([&] {
			ready = true;
			// It ends at the first that is gone.
			const long locked = handles(pair.to, FBUFS_SECURE, held);
			EXPECT_TRUE(locked == -ENOENT || (locked > 0 && locked <= vector)) << locked;
		});
		while (!ready)
			::sched_yield();
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, backwards), vector);
		locker.join();
		for (const fbufs_slice& each : seen)
			ASSERT_EQ(locate(pair.from.domain, each.position).out_state, FBUFS_STATE_FREE);
	}
}

// A receiver beside the other one comes, may receive, and goes, while messages are sent.
TEST(Rule13BoundedQueues, AReceiverComesAndGoesMeanwhile)
{
	Pair pair;
	std::atomic<bool> stop = false;
	std::thread visitor([&] {
		for (int round = 0; !stop; round++) {
			const Fd domain = open_domain();
			Fd end;
			EXPECT_EQ(add_receiver(pair.channel.sender, end), 0);
			EXPECT_EQ(attach(end, domain), 0);
			if (round % 2)
				(void)Received(end);
		}
	});
	long wrong = 0;
	for (int round = 0; round < 500 && !wrong; round++) {
		std::vector<fbufs_message> got(8);
		std::vector<fbufs_slice> seen(8);
		// What the visitor had comes home when it goes.
		wrong += !eventually([&] { return send_some(pair, 8) == 0; });
		wrong += receive(pair.channel.receiver, got, seen) != 8;
		wrong += handles(pair.to, FBUFS_RELEASE, handles_of(got)) != 8;
	}
	stop = true;
	visitor.join();
	EXPECT_EQ(wrong, 0);
	for (std::uint64_t at = 0; at < pair.from.pool.bytes; at += page) {
		const auto state = locate(pair.from.domain, FBUFS_POOL_OFFSET(pair.from.pool.out_pool) + at).out_state;
		EXPECT_TRUE(state == FBUFS_STATE_FREE || state == FBUFS_STATE_EMPTY || state == FBUFS_STATE_OWNED)
			<< state;
	}
}

// The sender goes while its messages are released: nothing of the channel stays.
TEST(Rule03ComesHome, WhileTheSenderGoes)
{
	constexpr std::uint32_t vector = 32;
	for (int round = 0; round < 100; round++) {
		Pair pair(round % 2 ? FBUFS_CHANNEL_VOLATILE | 0u : 0u);
		std::vector<fbufs_message> got(vector);
		std::vector<fbufs_slice> seen(vector);
		ASSERT_EQ(send_some(pair, vector), 0);
		ASSERT_EQ(receive(pair.channel.receiver, got, seen), vector);
		const auto held = handles_of(got);
		std::atomic<bool> ready = false;
		std::thread closer([&] {
			ready = true;
			pair.channel.sender.reset();
		});
		while (!ready)
			;
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, held), vector);
		closer.join();
		pair.channel.receiver.reset();
		const auto left = gauges(pair.from.domain);
		ASSERT_EQ(left[FBUFS_GAUGE_FBUFS], 0u);
		ASSERT_EQ(left[FBUFS_GAUGE_PAGES], 0u);
		ASSERT_EQ(left[FBUFS_GAUGE_CHANNELS], 0u);
		ASSERT_EQ(left[FBUFS_GAUGE_MESSAGES], 0u);
	}
}

} // namespace
