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
			std::vector<std::uint64_t> held;
			for (const fbufs_message& each : got)
				held.push_back(each.message);
			if (backwards)
				std::ranges::reverse(held);
			for (ready++; ready < 2 * (round + 1) && !wrong;)
				::sched_yield();
			wrong += handles(domain, FBUFS_RELEASE, held) != vector;
		}
	};
	std::thread one(receive_and_release, pair.channel.receiver.get(), pair.to.get(), false);
	std::thread other(receive_and_release, second.get(), third.get(), true);
	for (int round = 0; round < rounds && !wrong; round++) {
		std::vector<fbufs_buffer> buffers;
		// The last round's come home while the next one is made.
		for (int tries = 0; buffers.size() < vector && tries < 100000; tries++) {
			const fbufs_buffer buffer = alloc_one(pair.channel.sender);
			if (buffer.fbuf)
				buffers.push_back(buffer);
		}
		if (buffers.size() < vector) {
			wrong++;
			break;
		}
		std::vector<fbufs_message> messages(vector);
		std::vector<fbufs_slice> slices(vector);
		for (std::uint32_t i = 0; i < vector; i++) {
			messages[i].slices = 1;
			slices[i].fbuf = buffers[i].fbuf;
			slices[i].length = page;
		}
		EXPECT_EQ(send(pair.channel.sender, messages, slices), vector);
	}
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

} // namespace
