// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Rules 12 to 16: vectors, queues, descriptors, steady state, errors.

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <liburing.h>
#include <sys/epoll.h>

#include <algorithm>
#include <numeric>

namespace {

using namespace uapi;

struct Pair {
	Originator from;
	Fd to = open_domain();
	Channel channel;
	Window window;

	explicit Pair(std::uint32_t flags = 0, std::uint32_t depth = 64)
		: from(4 << 20), channel(from.domain, to, flags, depth),
		  window(to, from.pool.out_pool, from.pool.out_span, PROT_READ)
	{
	}
	[[nodiscard]] std::uint64_t count(fbufs_counter which) const { return counters(from.domain)[which]; }
	// Allocated, in the order of their addresses, and written.
	std::vector<fbufs_buffer> written(std::size_t n, std::uint32_t pages = 1)
	{
		std::vector<fbufs_buffer> buffers(n);
		EXPECT_EQ(alloc(channel.sender, pages * page, buffers), static_cast<long>(n));
		std::sort(buffers.begin(), buffers.end(), [](auto& a, auto& b) { return a.position < b.position; });
		for (const fbufs_buffer& buffer : buffers)
			std::memset(from.at(buffer), 1, pages * page);
		return buffers;
	}
	long send_all(const std::vector<fbufs_buffer>& buffers)
	{
		std::vector<fbufs_message> messages(buffers.size());
		std::vector<fbufs_slice> slices(buffers.size());
		for (std::size_t i = 0; i < buffers.size(); i++) {
			messages[i].slices = 1;
			messages[i].cookie = i;
			slices[i].fbuf = buffers[i].fbuf;
			slices[i].length = page;
		}
		return send(channel.sender, messages, slices, FBUFS_DONTWAIT);
	}
	std::vector<std::uint64_t> receive_all(std::size_t n)
	{
		std::vector<fbufs_message> messages(n);
		std::vector<fbufs_slice> slices(n);
		EXPECT_EQ(receive(channel.receiver, messages, slices, FBUFS_DONTWAIT), static_cast<long>(n));
		std::vector<std::uint64_t> held;
		for (const fbufs_message& message : messages)
			held.push_back(message.message);
		return held;
	}
};

//
// 12
//

TEST(Rule12Vectors, ASendOf32MessagesMakesOneFlush)
{
	Pair pair;
	const auto buffers = pair.written(32);
	const auto flushes = pair.count(FBUFS_COUNT_TLB_FLUSHES), cleared = pair.count(FBUFS_COUNT_PTES_CLEARED);
	EXPECT_EQ(pair.send_all(buffers), 32);
	EXPECT_EQ(pair.count(FBUFS_COUNT_TLB_FLUSHES), flushes + 1);
	EXPECT_EQ(pair.count(FBUFS_COUNT_PTES_CLEARED), cleared + 32);
	EXPECT_EQ(pair.count(FBUFS_COUNT_MESSAGES_SENT), 32u);
	EXPECT_EQ(pair.count(FBUFS_COUNT_LOCKS), 32u);
	for (const fbufs_buffer& buffer : buffers)
		EXPECT_TRUE(store_faults(pair.from.at(buffer)));
}

TEST(Rule12Vectors, AlsoOfFbufsThatAreNotAdjacent)
{
	for (const std::uint32_t pages : {1u, 4u}) {
		Pair pair;
		const auto buffers = pair.written(64, pages);
		std::vector<fbufs_buffer> odd;
		for (std::size_t i = 1; i < buffers.size(); i += 2)
			odd.push_back(buffers[i]);
		const auto flushes = pair.count(FBUFS_COUNT_TLB_FLUSHES);
		EXPECT_EQ(pair.send_all(odd), 32);
		EXPECT_EQ(pair.count(FBUFS_COUNT_TLB_FLUSHES), flushes + 1);
		// All are locked, and no neighbour is.
		for (std::size_t i = 0; i < buffers.size(); i++)
			for (std::uint32_t at = 0; at < pages; at++)
				EXPECT_EQ(store_faults(pair.from.at(buffers[i]) + at * page), i % 2 == 1);
	}
}

TEST(Rule12Vectors, AlsoInAnyOrderAndAsSlicesOfOneMessage)
{
	Pair pair;
	auto buffers = pair.written(64);
	std::vector<fbufs_slice> slices;
	for (std::size_t i = 0; i < 32; i++) {
		fbufs_slice slice = {};
		slice.fbuf = buffers[(i * 37 + 11) % 64].fbuf;
		slice.length = 1;
		slices.push_back(slice);
	}
	fbufs_message message = {};
	message.slices = 32;
	const auto flushes = pair.count(FBUFS_COUNT_TLB_FLUSHES);
	EXPECT_EQ(send(pair.channel.sender, {message}, slices), 1);
	EXPECT_EQ(pair.count(FBUFS_COUNT_TLB_FLUSHES), flushes + 1);
	for (std::size_t i = 0; i < 32; i++)
		EXPECT_TRUE(store_faults(pair.from.at(buffers[(i * 37 + 11) % 64])));
}

TEST(Rule12Vectors, WhatWasNeverWrittenNeedsNoFlush)
{
	Pair pair;
	pair.from.window = Window();
	std::vector<fbufs_buffer> buffers(32);
	ASSERT_EQ(alloc(pair.channel.sender, page, buffers), 32);
	const auto flushes = pair.count(FBUFS_COUNT_TLB_FLUSHES);
	EXPECT_EQ(pair.send_all(buffers), 32);
	EXPECT_EQ(pair.count(FBUFS_COUNT_TLB_FLUSHES), flushes);
}

TEST(Rule12Vectors, ASecureOf32MessagesMakesOneFlush)
{
	Pair pair(FBUFS_CHANNEL_VOLATILE);
	const auto buffers = pair.written(32);
	ASSERT_EQ(pair.send_all(buffers), 32);
	const auto held = pair.receive_all(32);
	const auto flushes = pair.count(FBUFS_COUNT_TLB_FLUSHES);
	EXPECT_EQ(handles(pair.to, FBUFS_SECURE, held), 32);
	for (const fbufs_buffer& buffer : buffers)
		EXPECT_TRUE(store_faults(pair.from.at(buffer)));
	EXPECT_EQ(pair.count(FBUFS_COUNT_TLB_FLUSHES), flushes + 1);
}

TEST(Rule12Vectors, AReleaseOf32UncachedMessagesMakesOneFlush)
{
	Pair pair(FBUFS_CHANNEL_UNCACHED);
	const auto buffers = pair.written(32);
	ASSERT_EQ(pair.send_all(buffers), 32);
	const auto held = pair.receive_all(32);
	const auto before = counters(pair.to)[FBUFS_COUNT_TLB_FLUSHES];
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, held), 32);
	for (const fbufs_buffer& buffer : buffers)
		EXPECT_TRUE(load_faults(pair.window.at(buffer.position)));
	EXPECT_EQ(counters(pair.to)[FBUFS_COUNT_TLB_FLUSHES], before + 1);
}

// Entries are made for a whole vector: in any order, for short fbufs and long ones, in several page tables. Each page
// is where it should be, for the originator and each of two receivers, and nobody needs a fault.
class EntriesOfAVector : public ::testing::TestWithParam<std::uint32_t> {
protected:
	struct Fbuf {
		fbufs_buffer buffer;
		std::uint32_t pages;
	};
	struct Receiver {
		Fd domain = open_domain();
		Fd end;
		Window window;

		[[nodiscard]] std::uint64_t faults() const { return counters(domain)[FBUFS_COUNT_FAULTS]; }
	};
	static constexpr std::uint32_t long_pages = 700; // more than a page table has

	Originator from_{64 << 20};
	Receiver receivers_[2];
	Fd sender_;

	void SetUp() override
	{
		ASSERT_EQ(channel_create(from_.domain, GetParam() | FBUFS_CHANNEL_ATTACH_SENDER, 64, sender_,
					 receivers_[0].end),
			  0);
		ASSERT_EQ(add_receiver(sender_, receivers_[1].end), 0);
		for (Receiver& receiver : receivers_) {
			ASSERT_EQ(attach(receiver.end, receiver.domain), 0);
			receiver.window = Window(receiver.domain, from_.pool.out_pool, from_.pool.out_span, PROT_READ);
			ASSERT_EQ(receiver.window.error(), 0);
		}
	}
	[[nodiscard]] std::uint64_t faults() const { return counters(from_.domain)[FBUFS_COUNT_FAULTS]; }
	// What is in a page, at its beginning.
	static std::uint64_t mark(const fbufs_buffer& buffer, std::uint32_t at, unsigned round)
	{
		return (buffer.position + at * page) << 8 | round;
	}
	void write(const Fbuf& fbuf, unsigned round) const
	{
		for (std::uint32_t at = 0; at < fbuf.pages; at++) {
			const std::uint64_t value = mark(fbuf.buffer, at, round);
			std::memcpy(from_.at(fbuf.buffer) + at * page, &value, sizeof(value));
		}
	}
	static void expect(const Window& window, const Fbuf& fbuf, unsigned round)
	{
		std::uint32_t wrong = 0;
		for (std::uint32_t at = 0; at < fbuf.pages; at++) {
			std::uint64_t value = 0;
			std::memcpy(&value, window.at(fbuf.buffer.position) + at * page, sizeof(value));
			wrong += value != mark(fbuf.buffer, at, round);
		}
		EXPECT_EQ(wrong, 0u) << "of " << fbuf.pages << " pages in round " << round;
	}
	void send_all(const std::vector<Fbuf>& fbufs) const
	{
		std::vector<fbufs_message> messages(fbufs.size());
		std::vector<fbufs_slice> slices(fbufs.size());
		for (std::size_t i = 0; i < fbufs.size(); i++) {
			messages[i].slices = 1;
			slices[i].fbuf = fbufs[i].buffer.fbuf;
			slices[i].length = fbufs[i].pages * page;
		}
		EXPECT_EQ(send(sender_, messages, slices, FBUFS_DONTWAIT), static_cast<long>(fbufs.size()));
	}
	static void receive_and_release(const Receiver& receiver, const std::vector<Fbuf>& fbufs, unsigned round)
	{
		std::vector<fbufs_message> messages(fbufs.size());
		std::vector<fbufs_slice> slices(fbufs.size());
		ASSERT_EQ(receive(receiver.end, messages, slices, FBUFS_DONTWAIT), static_cast<long>(fbufs.size()));
		const std::uint64_t before = receiver.faults();
		for (const Fbuf& fbuf : fbufs)
			expect(receiver.window, fbuf, round);
		EXPECT_EQ(receiver.faults(), before) << "in round " << round;
		std::vector<std::uint64_t> held;
		for (const fbufs_message& message : messages)
			held.push_back(message.message);
		EXPECT_EQ(handles(receiver.domain, FBUFS_RELEASE, held), static_cast<long>(held.size()));
	}
	// Short ones that are far from each other, in no order, and three long ones between them.
	[[nodiscard]] std::vector<Fbuf> scattered() const
	{
		std::vector<fbufs_buffer> small(600), large(3);
		EXPECT_EQ(alloc(sender_, page, small), 600);
		EXPECT_EQ(alloc(sender_, long_pages * page, large), 3);
		std::vector<Fbuf> result;
		for (std::size_t i = 0; i < 29; i++)
			result.push_back({small[i * 211 % small.size()], 1});
		for (std::size_t i = 0; i < large.size(); i++)
			result.insert(result.begin() + static_cast<long>(5 + 9 * i), {large[i], long_pages});
		return result;
	}
	// Allocate as many again. They are those that came home, for the pool has room.
	[[nodiscard]] std::vector<Fbuf> again() const
	{
		std::vector<fbufs_buffer> small(29), large(3);
		EXPECT_EQ(alloc(sender_, page, small), 29);
		EXPECT_EQ(alloc(sender_, long_pages * page, large), 3);
		std::vector<Fbuf> result;
		for (const fbufs_buffer& buffer : small)
			result.push_back({buffer, 1});
		for (const fbufs_buffer& buffer : large)
			result.push_back({buffer, long_pages});
		return result;
	}
};

TEST_P(EntriesOfAVector, Rule12MadeTogetherEachWhereItShouldBe)
{
	std::vector<Fbuf> fbufs = scattered();
	for (unsigned round = 0; round < 4; round++) {
		const std::uint64_t before = faults();
		for (const Fbuf& fbuf : fbufs)
			write(fbuf, round);
		// The first time, only the beginning of a long one is there.
		EXPECT_TRUE(!round || faults() == before) << "in round " << round;
		send_all(fbufs);
		for (const Receiver& receiver : receivers_)
			receive_and_release(receiver, fbufs, round);
		fbufs = again();
		if (round % 2)
			std::reverse(fbufs.begin(), fbufs.end());
		for (const Fbuf& fbuf : fbufs)
			EXPECT_FALSE(store_faults(from_.at(fbuf.buffer)));
	}
}

// More slices than are made ready at a time, in one message.
TEST_P(EntriesOfAVector, Rule12MadeForAllSlicesOfAMessage)
{
	std::vector<fbufs_buffer> buffers(100);
	ASSERT_EQ(alloc(sender_, page, buffers), 100);
	std::vector<fbufs_message> messages(1);
	std::vector<fbufs_slice> slices(buffers.size());
	messages[0].slices = static_cast<std::uint32_t>(slices.size());
	for (std::size_t i = 0; i < slices.size(); i++) {
		write({buffers[i], 1}, 7);
		slices[i].fbuf = buffers[i].fbuf;
		slices[i].length = page;
	}
	ASSERT_EQ(send(sender_, messages, slices, FBUFS_DONTWAIT), 1);
	for (const Receiver& receiver : receivers_) {
		ASSERT_EQ(receive(receiver.end, messages, slices, FBUFS_DONTWAIT), 1);
		const std::uint64_t before = receiver.faults();
		for (const fbufs_buffer& buffer : buffers)
			expect(receiver.window, {buffer, 1}, 7);
		EXPECT_EQ(receiver.faults(), before);
		EXPECT_EQ(handles(receiver.domain, FBUFS_RELEASE, {messages[0].message}), 1);
	}
}

INSTANTIATE_TEST_SUITE_P(Modes, EntriesOfAVector,
			 ::testing::Values(0u, FBUFS_CHANNEL_VOLATILE | 0u, FBUFS_CHANNEL_UNCACHED | 0u,
					   FBUFS_CHANNEL_VOLATILE | FBUFS_CHANNEL_UNCACHED));

// The order and the slices arrive as they were sent.
TEST(Rule12Vectors, AggregatesArriveAsSent)
{
	Pair pair;
	const auto buffers = pair.written(5, 2);
	std::vector<fbufs_message> messages(3);
	std::vector<fbufs_slice> slices(6);
	const std::uint32_t parts[3] = {1, 3, 2};
	const std::size_t which[6] = {0, 1, 3, 1, 2, 4};
	for (std::uint32_t i = 0, at = 0; i < 3; i++) {
		messages[i].cookie = 100 + i;
		messages[i].slices = parts[i];
		for (std::uint32_t j = 0; j < parts[i]; j++, at++) {
			slices[at].fbuf = buffers[which[at]].fbuf;
			slices[at].offset = at * 1000;
			slices[at].length = at + 1;
			slices[at].position = ~0ull;
		}
	}
	ASSERT_EQ(send(pair.channel.sender, messages, slices), 3);
	std::vector<fbufs_message> got(8);
	std::vector<fbufs_slice> seen(8);
	ASSERT_EQ(receive(pair.channel.receiver, got, seen), 3);
	for (std::uint32_t i = 0, at = 0; i < 3; i++) {
		std::uint64_t length = 0;
		for (std::uint32_t j = 0; j < parts[i]; j++, at++) {
			EXPECT_EQ(seen[at].fbuf, slices[at].fbuf);
			EXPECT_EQ(seen[at].hold, 0u);
			EXPECT_EQ(seen[at].offset, slices[at].offset);
			EXPECT_EQ(seen[at].length, slices[at].length);
			EXPECT_EQ(seen[at].position, buffers[which[at]].position + at * 1000);
			length += at + 1;
		}
		EXPECT_EQ(got[i].cookie, 100 + i);
		EXPECT_EQ(got[i].slices, parts[i]);
		EXPECT_EQ(got[i].length, length);
		EXPECT_EQ(got[i].flags, FBUFS_MESSAGE_LOCKED);
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {got[i].message}), 1);
	}
	for (const fbufs_buffer& buffer : buffers)
		EXPECT_EQ(locate(pair.from.domain, buffer.position).out_state, FBUFS_STATE_FREE);
}

// A vector in which messages of one slice and of six, with notices and copied are side by side.
class MixedVector {
public:
	explicit MixedVector(const std::vector<fbufs_buffer>& buffers)
	{
		for (const fbufs_buffer& buffer : buffers) {
			const auto i = static_cast<std::uint32_t>(messages.size());
			fbufs_message message = {};
			if (is_copied(i))
				message = copied_message();
			if (i % kinds == 2)
				message.flags = FBUFS_MESSAGE_NOTICE;
			message.slices = parts(i);
			message.cookie = i;
			messages.push_back(message);
			for (std::uint32_t j = 0; j < parts(i); j++) {
				fbufs_slice slice = {};
				slice.fbuf = buffer.fbuf;
				slice.offset = j;
				slice.length = i + 1;
				slices.push_back(is_copied(i) ? memory_slice(memory, i + 1) : slice);
			}
		}
	}
	static std::uint32_t parts(std::uint32_t i) { return i % kinds == 1 ? 6 : 1; }
	static bool is_copied(std::uint32_t i) { return i % kinds == 3; }

	std::vector<fbufs_message> messages;
	std::vector<fbufs_slice> slices;

private:
	static constexpr std::uint32_t kinds = 5;
	static inline std::uint8_t memory[64];
};

class VectorsOfAllKinds : public ::testing::TestWithParam<std::uint32_t> {};

// The first time they are all new, then there are some for re-use, more or fewer than there are messages.
TEST_P(VectorsOfAllKinds, Rule12ArriveAsSent)
{
	Pair pair(GetParam());
	for (const std::uint32_t count : {7u, 60u, 23u, 64u}) {
		const auto buffers = pair.written(count);
		const MixedVector sent(buffers);
		const auto from = counters(pair.from.domain);
		const auto to = counters(pair.to);
		ASSERT_EQ(send(pair.channel.sender, sent.messages, sent.slices, FBUFS_DONTWAIT), count);
		std::vector<fbufs_message> got(count);
		std::vector<fbufs_slice> seen(sent.slices.size());
		ASSERT_EQ(receive(pair.channel.receiver, got, seen), count);
		const auto bytes =
			std::accumulate(got.begin(), got.end(), std::uint64_t{0},
					[](std::uint64_t sum, const fbufs_message& each) { return sum + each.length; });
		const auto from_after = counters(pair.from.domain);
		const auto to_after = counters(pair.to);
		EXPECT_EQ(from_after[FBUFS_COUNT_MESSAGES_SENT] - from[FBUFS_COUNT_MESSAGES_SENT], count);
		EXPECT_EQ(from_after[FBUFS_COUNT_BYTES_SENT] - from[FBUFS_COUNT_BYTES_SENT], bytes);
		EXPECT_EQ(to_after[FBUFS_COUNT_MESSAGES_RECEIVED] - to[FBUFS_COUNT_MESSAGES_RECEIVED], count);
		EXPECT_EQ(to_after[FBUFS_COUNT_BYTES_RECEIVED] - to[FBUFS_COUNT_BYTES_RECEIVED], bytes);
		std::vector<std::uint64_t> held;
		for (std::uint32_t i = 0, at = 0; i < count; i++) {
			EXPECT_EQ(got[i].cookie, i);
			ASSERT_EQ(got[i].slices, MixedVector::parts(i));
			EXPECT_EQ(got[i].length, got[i].slices * (i + 1));
			for (std::uint32_t j = 0; j < got[i].slices; j++, at++) {
				EXPECT_EQ(seen[at].length, i + 1);
				EXPECT_EQ(seen[at].fbuf == buffers[i].fbuf, !MixedVector::is_copied(i));
				EXPECT_EQ(seen[at].offset, MixedVector::is_copied(i) ? 0 : j);
			}
			EXPECT_EQ(locate(pair.from.domain, buffers[i].position).out_state,
				  MixedVector::is_copied(i) ? FBUFS_STATE_OWNED : FBUFS_STATE_SENT);
			held.push_back(got[i].message);
		}
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, held), count);
		for (std::uint32_t i = 0; i < count; i++) {
			if (MixedVector::is_copied(i)) {
				EXPECT_EQ(handles(pair.from.domain, FBUFS_FREE, {buffers[i].fbuf}), 1);
			}
		}
		for (const fbufs_buffer& buffer : buffers)
			EXPECT_EQ(locate(pair.from.domain, buffer.position).out_state, FBUFS_STATE_FREE);
	}
}

// Wherever it is that one cannot be sent: those before it are, those behind it and itself are the sender's.
TEST_P(VectorsOfAllKinds, Rule12EndBeforeTheOneThatFails)
{
	constexpr std::uint32_t count = 40;
	Pair pair(GetParam());
	for (std::uint32_t bad = 1; bad < count; bad += 6) {
		const auto buffers = pair.written(count);
		MixedVector vector(buffers);
		vector.messages[bad].length = 1;
		ASSERT_EQ(send(pair.channel.sender, vector.messages, vector.slices, FBUFS_DONTWAIT), bad);
		for (std::uint32_t i = 0; i < count; i++) {
			const bool own = i >= bad || MixedVector::is_copied(i);
			EXPECT_EQ(locate(pair.from.domain, buffers[i].position).out_state,
				  own ? FBUFS_STATE_OWNED : FBUFS_STATE_SENT);
			if (own) {
				EXPECT_FALSE(store_faults(pair.from.at(buffers[i])));
				EXPECT_EQ(handles(pair.from.domain, FBUFS_FREE, {buffers[i].fbuf}), 1);
			}
		}
		std::vector<fbufs_message> got(count);
		std::vector<fbufs_slice> seen(vector.slices.size());
		ASSERT_EQ(receive(pair.channel.receiver, got, seen), bad);
		std::vector<std::uint64_t> held;
		for (std::uint32_t i = 0; i < bad; i++)
			held.push_back(got[i].message);
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, held), bad);
		for (const fbufs_buffer& buffer : buffers)
			EXPECT_EQ(locate(pair.from.domain, buffer.position).out_state, FBUFS_STATE_FREE);
	}
}

// As many as there is room for the slices of; the others are for the next calls.
TEST_P(VectorsOfAllKinds, Rule12RoomForSlicesEndsAReceive)
{
	constexpr std::uint32_t count = 30;
	Pair pair(GetParam());
	for (std::uint32_t room = 6; room < 20; room++) {
		const auto buffers = pair.written(count);
		const MixedVector sent(buffers);
		ASSERT_EQ(send(pair.channel.sender, sent.messages, sent.slices, FBUFS_DONTWAIT), count);
		std::vector<std::uint64_t> held;
		std::vector<fbufs_message> got(count);
		while (held.size() < count) {
			std::uint32_t fit = 0;
			std::uint32_t slices = 0;
			const auto next = static_cast<std::uint32_t>(held.size());
			while (next + fit < count && slices + MixedVector::parts(next + fit) <= room)
				slices += MixedVector::parts(next + fit++);
			std::vector<fbufs_slice> seen(room);
			ASSERT_EQ(receive(pair.channel.receiver, got, seen), fit);
			for (std::uint32_t i = 0; i < fit; i++) {
				EXPECT_EQ(got[i].cookie, next + i);
				EXPECT_EQ(got[i].length, MixedVector::parts(next + i) * (next + i + 1));
				held.push_back(got[i].message);
			}
			for (std::uint32_t i = slices; i < room; i++)
				EXPECT_EQ(seen[i].fbuf, 0u) << "behind what was received";
			std::vector<fbufs_slice> few(5);
			if (held.size() < count && MixedVector::parts(static_cast<std::uint32_t>(held.size())) > 5) {
				EXPECT_EQ(receive(pair.channel.receiver, got, few), -EMSGSIZE);
			}
		}
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, held), count);
		for (std::uint32_t i = 0; i < count; i++) {
			if (MixedVector::is_copied(i)) {
				EXPECT_EQ(handles(pair.from.domain, FBUFS_FREE, {buffers[i].fbuf}), 1);
			}
		}
	}
}

INSTANTIATE_TEST_SUITE_P(Modes, VectorsOfAllKinds,
			 ::testing::Values(0u, FBUFS_CHANNEL_VOLATILE | 0u, FBUFS_CHANNEL_UNCACHED | 0u,
					   FBUFS_CHANNEL_VOLATILE | FBUFS_CHANNEL_UNCACHED));

// Of the messages that a receive call has to leave nothing is kept: the table of what is held does not fill up.
TEST(Rule12Vectors, ReceivesInPiecesKeepNoPlaces)
{
	constexpr int queued = 32;
	constexpr int parts = 6;
	Pair pair;
	const auto send_another = [&] {
		const fbufs_buffer buffer = alloc_one(pair.channel.sender);
		fbufs_message message = {};
		message.slices = parts;
		std::vector<fbufs_slice> slices(parts);
		for (fbufs_slice& each : slices) {
			each.fbuf = buffer.fbuf;
			each.length = 1;
		}
		ASSERT_EQ(send(pair.channel.sender, {message}, slices), 1);
	};
	for (int i = 0; i < queued; i++)
		send_another();
	std::vector<fbufs_message> got(queued);
	// Room for one, and for nearly another one.
	std::vector<fbufs_slice> slices(2 * parts - 1);
	// Up to ten could be lost each time, fewer where the ring of the queue ends.
	for (int i = 0; i < FBUFS_MAX_HELD / parts; i++) {
		ASSERT_EQ(receive(pair.channel.receiver, got, slices), 1);
		ASSERT_EQ(handles(pair.to, FBUFS_RELEASE, {got[0].message}), 1);
		send_another();
	}
	slices.resize(parts * queued);
	EXPECT_EQ(receive(pair.channel.receiver, got, slices), queued);
}

TEST(Rule12Vectors, AnFbufIsTheReceiversWithTheFirstMessage)
{
	Pair pair;
	const auto buffers = pair.written(2);
	EXPECT_EQ(pair.send_all({buffers[0], buffers[0], buffers[1]}), 1);
	EXPECT_EQ(locate(pair.from.domain, buffers[0].position).out_holders, 1u);
	EXPECT_EQ(end_info(pair.channel.receiver).out_queued, 1u);
	EXPECT_EQ(pair.send_all({buffers[0], buffers[1]}), -EACCES);
	EXPECT_FALSE(store_faults(pair.from.at(buffers[1])));
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, pair.receive_all(1)), 1);
	EXPECT_EQ(locate(pair.from.domain, buffers[0].position).out_state, FBUFS_STATE_FREE);
}

//
// 13
//

TEST(Rule13BoundedQueues, FullIsEagainAndNotWritable)
{
	Pair pair(0, 5);
	const std::uint32_t depth = end_info(pair.channel.sender).out_depth;
	EXPECT_EQ(depth, 8u) << "5, rounded up";
	const auto buffers = pair.written(depth + 1);
	for (std::uint32_t i = 0; i < depth; i++) {
		EXPECT_TRUE(polls(pair.channel.sender, POLLOUT));
		EXPECT_EQ(send_one(pair.channel.sender, buffers[i].fbuf, 0, page, i, FBUFS_DONTWAIT), 1);
	}
	EXPECT_FALSE(polls(pair.channel.sender, POLLOUT));
	EXPECT_EQ(send_one(pair.channel.sender, buffers[depth].fbuf, 0, page, depth, FBUFS_DONTWAIT), -EAGAIN);
	EXPECT_EQ(locate(pair.from.domain, buffers[depth].position).out_state, FBUFS_STATE_OWNED);
	EXPECT_FALSE(store_faults(pair.from.at(buffers[depth])));

	// O_NONBLOCK on the descriptor does the same.
	ASSERT_EQ(::fcntl(pair.channel.sender, F_SETFL, O_NONBLOCK), 0);
	EXPECT_EQ(send_one(pair.channel.sender, buffers[depth].fbuf, 0, page), -EAGAIN);
	ASSERT_EQ(::fcntl(pair.channel.sender, F_SETFL, 0), 0);

	const Received first(pair.channel.receiver);
	EXPECT_EQ(first.message.cookie, 0u);
	EXPECT_TRUE(polls(pair.channel.sender, POLLOUT));
	EXPECT_EQ(send_one(pair.channel.sender, buffers[depth].fbuf, 0, page, depth, FBUFS_DONTWAIT), 1);
	for (std::uint32_t i = 1; i <= depth; i++)
		EXPECT_EQ(Received(pair.channel.receiver).message.cookie, i);
	EXPECT_EQ(Received(pair.channel.receiver).result, -EAGAIN);
}

// Wherever in its ring the queue begins, a vector that goes past the end of it arrives in order.
TEST(Rule13BoundedQueues, AVectorPastTheEndOfTheRingIsInOrder)
{
	Pair pair(0, 8);
	std::uint64_t cookie = 0;
	std::uint64_t expected = 0;
	for (std::uint32_t count = 1; count <= 8; count = count == 5 ? 8 : count + 1) {
		for (int i = 0; i < 9; i++) {
			const auto buffers = pair.written(count);
			std::vector<fbufs_message> messages(count);
			std::vector<fbufs_slice> slices(count);
			for (std::uint32_t j = 0; j < count; j++) {
				messages[j].slices = 1;
				messages[j].cookie = cookie++;
				slices[j].fbuf = buffers[j].fbuf;
				slices[j].length = page;
			}
			ASSERT_EQ(send(pair.channel.sender, messages, slices), count);
			std::vector<fbufs_message> got(count + 1);
			std::vector<fbufs_slice> seen(count + 1);
			ASSERT_EQ(receive(pair.channel.receiver, got, seen), count);
			std::vector<std::uint64_t> held;
			for (std::uint32_t j = 0; j < count; j++) {
				EXPECT_EQ(got[j].cookie, expected++);
				EXPECT_EQ(seen[j].fbuf, buffers[j].fbuf);
				held.push_back(got[j].message);
			}
			EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, held), count);
		}
	}
}

TEST(Rule13BoundedQueues, TheSenderWaitsAndGoesOn)
{
	Pair pair(0, 4);
	const auto buffers = pair.written(10);
	Blocked sending([&] {
		std::vector<fbufs_message> messages(10);
		std::vector<fbufs_slice> slices(10);
		for (std::size_t i = 0; i < 10; i++) {
			messages[i].slices = 1;
			messages[i].cookie = i;
			slices[i].fbuf = buffers[i].fbuf;
			slices[i].length = 1;
		}
		return send(pair.channel.sender, messages, slices);
	});
	EXPECT_TRUE(sending.waits());
	EXPECT_EQ(end_info(pair.channel.receiver).out_queued, 4u);
	for (std::size_t i = 0; i < 10; i++)
		EXPECT_EQ(Received(pair.channel.receiver, 0).message.cookie, i);
	EXPECT_EQ(sending.result(), 10);
}

// What a call that does not wait has queued before it found the queue full, a waiting receiver is woken for.
TEST(Rule13BoundedQueues, AReceiverIsWokenForWhatFitted)
{
	Pair pair(0, 4);
	const auto buffers = pair.written(5);
	Blocked receiving([&] { return Received(pair.channel.receiver, 0).result; });
	ASSERT_TRUE(receiving.waits());
	EXPECT_EQ(pair.send_all(buffers), 4);
	EXPECT_FALSE(receiving.waits(3000));
	EXPECT_EQ(receiving.result(), 1);
}

TEST(Rule13BoundedQueues, FanOutWaitsForTheSlowestAndComesHomeAfterTheLast)
{
	Pair pair(0, 2);
	const Fd third = open_domain();
	Fd slow, never;
	ASSERT_EQ(add_receiver(pair.channel.sender, slow), 0);
	ASSERT_EQ(attach(slow, third), 0);
	ASSERT_EQ(add_receiver(pair.channel.sender, never), 0);
	EXPECT_EQ(end_info(pair.channel.sender).out_receivers, 3u);
	const auto buffers = pair.written(3);
	for (std::uint32_t i = 0; i < 2; i++) {
		ASSERT_EQ(send_one(pair.channel.sender, buffers[i].fbuf, 0, page, i), 1);
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {Received(pair.channel.receiver).handle()}), 1);
	}
	EXPECT_EQ(end_info(pair.channel.sender).out_queued, 2u);
	EXPECT_EQ(send_one(pair.channel.sender, buffers[2].fbuf, 0, page, 2, FBUFS_DONTWAIT), -EAGAIN);
	const auto state = [&](int i) { return locate(pair.from.domain, buffers[i].position).out_state; };
	EXPECT_EQ(state(0), FBUFS_STATE_SENT);
	const Received held(slow);
	EXPECT_EQ(held.message.cookie, 0u);
	never.reset();
	EXPECT_EQ(state(0), FBUFS_STATE_SENT);
	EXPECT_EQ(handles(third, FBUFS_RELEASE, {held.handle()}), 1);
	EXPECT_EQ(state(0), FBUFS_STATE_FREE);
	EXPECT_EQ(state(1), FBUFS_STATE_SENT);
	EXPECT_EQ(send_one(pair.channel.sender, buffers[2].fbuf, 0, page, 2, FBUFS_DONTWAIT), 1);
	slow.reset();
	EXPECT_EQ(state(1), FBUFS_STATE_FREE);
	EXPECT_EQ(state(2), FBUFS_STATE_SENT);

	// A late receiver gets what is sent from then on.
	Fd late;
	ASSERT_EQ(add_receiver(pair.channel.sender, late), 0);
	EXPECT_EQ(end_info(late).out_queued, 0u);
	EXPECT_EQ(end_info(pair.channel.receiver).out_queued, 1u);
}

//
// 14
//

TEST(Rule14Descriptors, PollOfEveryKind)
{
	Pair pair;
	const Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
	epoll_event event = {};
	event.events = EPOLLIN | EPOLLET;
	ASSERT_EQ(::epoll_ctl(epoll, EPOLL_CTL_ADD, pair.channel.receiver, &event), 0);
	io_uring ring;
	ASSERT_EQ(::io_uring_queue_init(4, &ring, 0), 0);
	io_uring_prep_poll_add(io_uring_get_sqe(&ring), pair.channel.receiver, POLLIN);
	ASSERT_EQ(::io_uring_submit(&ring), 1);
	io_uring_cqe* done = nullptr;

	EXPECT_EQ(poll_events(pair.channel.receiver), 0);
	EXPECT_EQ(::epoll_wait(epoll, &event, 1, 0), 0);
	EXPECT_EQ(::io_uring_peek_cqe(&ring, &done), -EAGAIN);
	Blocked polling([&] { return polls(pair.channel.receiver, POLLIN, 5000); });
	EXPECT_TRUE(polling.waits());

	const auto buffers = pair.written(2);
	ASSERT_EQ(send_one(pair.channel.sender, buffers[0].fbuf, 0, page), 1);
	EXPECT_EQ(polling.result(), 1);
	EXPECT_EQ(poll_events(pair.channel.receiver), POLLIN);
	EXPECT_EQ(::epoll_wait(epoll, &event, 1, 0), 1);
	EXPECT_EQ(event.events, static_cast<std::uint32_t>(EPOLLIN));
	EXPECT_EQ(::epoll_wait(epoll, &event, 1, 0), 0) << "edge";
	__kernel_timespec patience = {5, 0};
	ASSERT_EQ(::io_uring_wait_cqe_timeout(&ring, &done, &patience), 0);
	EXPECT_TRUE(done->res & POLLIN);
	::io_uring_queue_exit(&ring);

	ASSERT_EQ(send_one(pair.channel.sender, buffers[1].fbuf, 0, page), 1);
	EXPECT_EQ(::epoll_wait(epoll, &event, 1, 0), 1) << "the next edge";
}

TEST(Rule14Descriptors, APassedReceiverWorksElsewhereAndItsDeathIsSeen)
{
	// The process is there before the channel: the descriptor must come over the socket.
	Process peer([](int socket) {
		const Fd receiver = take_fd(socket);
		const Fd domain = open_domain();
		CHILD_EXPECT(attach(receiver, domain) == 0);
		tell(socket, 'a');
		const Received received(receiver, 0);
		CHILD_EXPECT(received.result == 1);
		fbufs_pool_info info = {};
		info.size = sizeof(info);
		info.pool = FBUFS_HANDLE_POOL(received.slices[0].fbuf);
		CHILD_EXPECT(call(domain, FBUFS_POOL_INFO, info) == 0);
		const Window window(domain, info.pool, info.out_span, PROT_READ);
		CHILD_EXPECT(window.error() == 0);
		CHILD_EXPECT(*window.at(received.slices[0].position) == 77);
		return 0;
	});
	const Originator from;
	Fd sender, receiver;
	ASSERT_EQ(channel_create(from.domain, FBUFS_CHANNEL_ATTACH_SENDER, 0, sender, receiver), 0);
	pass_fd(peer.socket(), receiver);
	receiver.reset();
	ASSERT_EQ(hear(peer.socket()), 'a');
	EXPECT_EQ(poll_events(sender), POLLOUT);
	const fbufs_buffer buffer = alloc_one(sender);
	*from.at(buffer) = 77;
	ASSERT_EQ(send_one(sender, buffer.fbuf, 0, 1), 1);
	EXPECT_EQ(peer.wait(), 0);
	EXPECT_TRUE(eventually([&] { return (poll_events(sender) & POLLHUP) != 0; }));
	EXPECT_EQ(poll_events(sender) & POLLOUT, 0);
	EXPECT_TRUE(eventually([&] { return locate(from.domain, buffer.position).out_state == FBUFS_STATE_FREE; }));
	EXPECT_EQ(end_info(sender).out_hangup, 1u);
	std::vector<fbufs_buffer> more(1);
	EXPECT_EQ(alloc(sender, page, more), -EPIPE);
	const fbufs_buffer unbound = alloc_one(from.domain);
	EXPECT_EQ(send_one(sender, unbound.fbuf, 0, 1), -EPIPE);
	EXPECT_EQ(locate(from.domain, unbound.position).out_state, FBUFS_STATE_OWNED);
}

TEST(Rule14Descriptors, AReceiverSeesTheSenderGoAndGetsTheRest)
{
	Pair pair;
	const auto buffers = pair.written(2);
	for (const fbufs_buffer& buffer : buffers)
		ASSERT_EQ(send_one(pair.channel.sender, buffer.fbuf, 0, page), 1);
	EXPECT_EQ(poll_events(pair.channel.receiver), POLLIN);
	pair.channel.sender.reset();
	EXPECT_EQ(poll_events(pair.channel.receiver), POLLIN | POLLHUP | POLLRDHUP);
	const Received first(pair.channel.receiver), second(pair.channel.receiver);
	EXPECT_EQ(first.result, 1);
	EXPECT_EQ(second.result, 1);
	EXPECT_EQ(*pair.window.at(buffers[1].position), 1);
	EXPECT_EQ(poll_events(pair.channel.receiver), POLLHUP | POLLRDHUP);
	EXPECT_EQ(Received(pair.channel.receiver, 0).result, 0);
	EXPECT_EQ(end_info(pair.channel.receiver).out_hangup, 1u);
	// What they hold stays, and has no channel to come home to.
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {first.handle(), second.handle()}), 2);
	EXPECT_EQ(locate(pair.from.domain, buffers[0].position).out_state, FBUFS_STATE_EMPTY);
}

//
// 15
//

TEST(Rule15SteadyState, CachedAndVolatileMakesNoVmOperation)
{
	Pair pair(FBUFS_CHANNEL_VOLATILE);
	const auto round = [&](std::uint8_t value) {
		const fbufs_buffer buffer = alloc_one(pair.channel.sender, 4 * page);
		for (std::uint32_t at = 0; at < 4; at++)
			pair.from.at(buffer)[at * page] = value;
		if (send_one(pair.channel.sender, buffer.fbuf, 0, 4 * page) != 1)
			return false;
		const Received received(pair.channel.receiver);
		for (std::uint32_t at = 0; at < 4; at++)
			if (pair.window.at(received.slices[0].position)[at * page] != value)
				return false;
		return handles(pair.to, FBUFS_RELEASE, {received.handle()}) == 1;
	};
	for (std::uint8_t i = 0; i < 10; i++)
		ASSERT_TRUE(round(i));
	const auto from = counters(pair.from.domain), to = counters(pair.to), gauge = gauges(pair.to);
	int good = 0;
	for (int i = 0; i < 1000; i++)
		good += round(static_cast<std::uint8_t>(i));
	EXPECT_EQ(good, 1000);
	for (const fbufs_counter which : {FBUFS_COUNT_PTES_SET, FBUFS_COUNT_PTES_CLEARED, FBUFS_COUNT_TLB_FLUSHES,
					  FBUFS_COUNT_FAULTS, FBUFS_COUNT_PAGES_ALLOCATED, FBUFS_COUNT_BYTES_COPIED}) {
		EXPECT_EQ(counters(pair.from.domain)[which], from[which]) << which;
		EXPECT_EQ(counters(pair.to)[which], to[which]) << which;
	}
	EXPECT_EQ(counters(pair.from.domain)[FBUFS_COUNT_MESSAGES_SENT], from[FBUFS_COUNT_MESSAGES_SENT] + 1000);
	EXPECT_EQ(counters(pair.to)[FBUFS_COUNT_MESSAGES_RECEIVED], to[FBUFS_COUNT_MESSAGES_RECEIVED] + 1000);
	EXPECT_EQ(counters(pair.to)[FBUFS_COUNT_BYTES_RECEIVED], to[FBUFS_COUNT_BYTES_RECEIVED] + 4000 * page);
	EXPECT_EQ(counters(pair.to)[FBUFS_COUNT_RELEASES], to[FBUFS_COUNT_RELEASES] + 1000);
	EXPECT_EQ(gauges(pair.to), gauge);
}

} // namespace
