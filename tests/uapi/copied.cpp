// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// FBUFS_MESSAGE_COPY: the rules for messages whose bytes the kernel copies from the sender's memory.

#include "support/io.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace {

using namespace uapi;

long send_copied(int sender, const void* at, std::size_t length, std::uint64_t cookie = 0,
		 std::uint32_t flags = FBUFS_DONTWAIT)
{
	return send(sender, {copied_message(1, cookie)}, {memory_slice(at, length)}, flags);
}

// What no message that is only copied does, once all is warm.
constexpr fbufs_counter vm_operations[] = {FBUFS_COUNT_PTES_SET, FBUFS_COUNT_PTES_CLEARED, FBUFS_COUNT_TLB_FLUSHES,
					   FBUFS_COUNT_FAULTS, FBUFS_COUNT_PAGES_ALLOCATED};

struct Pair {
	Originator from;
	Fd to = open_domain();
	Channel channel;
	Window window;

	explicit Pair(std::uint32_t flags = 0, std::uint64_t pool = 4 << 20, std::uint32_t depth = 64)
		: from(pool), channel(from.domain, to, flags, depth),
		  window(to, from.pool.out_pool, from.pool.out_span, PROT_READ)
	{
	}
	[[nodiscard]] std::uint64_t count(fbufs_counter which) const { return counters(from.domain)[which]; }
	[[nodiscard]] std::uint32_t state(std::uint64_t position) const
	{
		return locate(from.domain, position).out_state;
	}
	[[nodiscard]] std::uint32_t queued() const { return end_info(channel.receiver).out_queued; }
	[[nodiscard]] Bytes bytes(const Received& received) const
	{
		Bytes all;
		for (const fbufs_slice& slice : received.slices)
			all.insert(all.end(), window.at(slice.position), window.at(slice.position) + slice.length);
		return all;
	}
	long release(const Received& received) const { return handles(to, FBUFS_RELEASE, {received.handle()}); }
	// One goes there and back; where it was.
	std::uint64_t round(const Bytes& data)
	{
		EXPECT_EQ(send_copied(channel.sender, data.data(), data.size()), 1);
		const Received received(channel.receiver);
		if (received.result != 1)
			return 0;
		EXPECT_EQ(bytes(received), data);
		EXPECT_EQ(release(received), 1);
		return received.slices[0].position;
	}
};

class Copied : public testing::TestWithParam<std::uint32_t> {};

INSTANTIATE_TEST_SUITE_P(Modes, Copied,
			 testing::Values(0u, FBUFS_CHANNEL_VOLATILE, FBUFS_CHANNEL_UNCACHED,
					 FBUFS_CHANNEL_VOLATILE | FBUFS_CHANNEL_UNCACHED),
			 [](const auto& each) {
				 return std::string(each.param & FBUFS_CHANNEL_VOLATILE ? "Volatile" : "Secure") +
					(each.param & FBUFS_CHANNEL_UNCACHED ? "Uncached" : "Cached");
			 });

//
// 2, 3
//

TEST_P(Copied, Rule02TheSenderDoesNotOwnIt)
{
	Pair pair(GetParam());
	const Bytes data = pattern(100);
	ASSERT_EQ(send_copied(pair.channel.sender, data.data(), 100), 1);
	const Received received(pair.channel.receiver);
	const std::uint64_t fbuf = received.slices[0].fbuf;
	EXPECT_EQ(handles(pair.from.domain, FBUFS_FREE, {fbuf}), -EBUSY);
	EXPECT_EQ(send_one(pair.channel.sender, fbuf, 0, 1, 0, FBUFS_DONTWAIT), -EACCES);
	EXPECT_EQ(pair.release(received), 1);
	EXPECT_EQ(handles(pair.from.domain, FBUFS_FREE, {fbuf}), -ENOENT);
	EXPECT_EQ(send_one(pair.channel.sender, fbuf, 0, 1, 0, FBUFS_DONTWAIT), -ENOENT);
}

TEST_P(Copied, Rule03LastInFirstOut)
{
	Pair pair(GetParam());
	const Bytes data = pattern(100);
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(send_copied(pair.channel.sender, data.data(), 100), 1);
	const Received one(pair.channel.receiver), two(pair.channel.receiver), three(pair.channel.receiver);
	for (const Received* each : {&three, &one, &two})
		ASSERT_EQ(pair.release(*each), 1);
	EXPECT_EQ(locate(pair.from.domain, one.slices[0].position).out_channel, pair.channel.id);
	for (const Received* each : {&two, &one, &three}) {
		ASSERT_EQ(send_copied(pair.channel.sender, data.data(), 100), 1);
		EXPECT_EQ(Received(pair.channel.receiver).slices[0].position, each->slices[0].position);
	}
}

// Whoever is last.
TEST_P(Copied, Rule03ComesHomeAfterTheLastOfSeveral)
{
	Pair pair(GetParam());
	const Fd third = open_domain();
	Fd second;
	ASSERT_EQ(add_receiver(pair.channel.sender, second), 0);
	ASSERT_EQ(attach(second, third), 0);
	const Window view(third, pair.from.pool.out_pool, pair.from.pool.out_span, PROT_READ);
	const Bytes data = pattern(5000);
	ASSERT_EQ(send_copied(pair.channel.sender, data.data(), data.size(), 9), 1);
	const Received one(pair.channel.receiver), two(second);
	EXPECT_EQ(pair.bytes(one), data);
	EXPECT_EQ(two.message.cookie, 9u);
	EXPECT_EQ(std::memcmp(view.at(two.slices[0].position), data.data(), data.size()), 0);
	EXPECT_EQ(pair.release(one), 1);
	EXPECT_EQ(pair.state(two.slices[0].position), FBUFS_STATE_SENT);
	second.reset();
	EXPECT_EQ(handles(third, FBUFS_RELEASE, {two.handle()}), 1);
	EXPECT_EQ(pair.state(two.slices[0].position), FBUFS_STATE_FREE);
}

// It can be sent on, over any channel, like any other that is held.
TEST_P(Copied, Rule04CanBeSentOn)
{
	Pair pair(GetParam());
	const Fd third = open_domain();
	const Channel onward(pair.to, third, GetParam());
	const Bytes data = pattern(300);
	ASSERT_EQ(send_copied(pair.channel.sender, data.data(), 300), 1);
	const Received received(pair.channel.receiver);
	fbufs_message message = {};
	message.slices = 1;
	ASSERT_EQ(send(onward.sender, {message}, {slice_of(received.slices[0].fbuf, 100, 50, received.handle())}), 1);
	EXPECT_EQ(pair.release(received), 1);
	const Received last(onward.receiver);
	const Window view(third, pair.from.pool.out_pool, pair.from.pool.out_span, PROT_READ);
	EXPECT_EQ(std::memcmp(view.at(last.slices[0].position), data.data() + 100, 50), 0);
	EXPECT_EQ(handles(third, FBUFS_RELEASE, {last.handle()}), 1);
	EXPECT_EQ(pair.state(received.slices[0].position), FBUFS_STATE_FREE);
}

//
// 7, 11
//

TEST_P(Copied, Rule07NobodyCanWriteIt)
{
	Pair pair(GetParam());
	const Bytes data = pattern(FBUFS_MAX_COPY);
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(send_copied(pair.channel.sender, data.data(), data.size()), 1);
		const Received received(pair.channel.receiver);
		EXPECT_EQ(received.message.flags, FBUFS_MESSAGE_LOCKED) << "on any channel";
		const std::uint64_t at = received.slices[0].position;
		for (std::size_t offset = 0; offset < data.size(); offset += page) {
			EXPECT_TRUE(store_faults(pair.from.window.at(at) + offset));
			EXPECT_FALSE(load_faults(pair.from.window.at(at) + offset)) << "the originator can read";
			EXPECT_TRUE(store_faults(pair.from.window.at(at) + offset)) << "also after it has";
		}
		EXPECT_EQ(locate(pair.from.domain, at).out_locked, 1u);
		EXPECT_EQ(pair.bytes(received), data);
		EXPECT_EQ(pair.release(received), 1);
		EXPECT_TRUE(store_faults(pair.from.window.at(at))) << "nor is it its own afterwards";
	}
}

// What the memory holds later is not seen.
TEST_P(Copied, Rule07TheMemoryIsTheSendersAgainAtOnce)
{
	Pair pair(GetParam());
	Bytes data = pattern(2000);
	const Bytes before = data;
	ASSERT_EQ(send_copied(pair.channel.sender, data.data(), data.size()), 1);
	std::fill(data.begin(), data.end(), 0xff);
	EXPECT_EQ(pair.bytes(Received(pair.channel.receiver)), before);
}

TEST(CopiedRule11, NeedsNoSecuring)
{
	Pair pair(FBUFS_CHANNEL_VOLATILE);
	const Bytes data = pattern(64);
	ASSERT_EQ(send_copied(pair.channel.sender, data.data(), 64), 1);
	const Received received(pair.channel.receiver);
	const auto locks = pair.count(FBUFS_COUNT_LOCKS), flushes = pair.count(FBUFS_COUNT_TLB_FLUSHES);
	EXPECT_EQ(handles(pair.to, FBUFS_SECURE, {received.handle()}), 1);
	EXPECT_EQ(pair.count(FBUFS_COUNT_LOCKS), locks);
	EXPECT_EQ(pair.count(FBUFS_COUNT_TLB_FLUSHES), flushes);
}

//
// 9
//

bool is_zero(const std::uint8_t* from, const std::uint8_t* to)
{
	return std::all_of(from, to, [](std::uint8_t byte) { return byte == 0; });
}

// A pool of one fbuf, so that the next channel's can only be made of what it was.
TEST_P(Copied, Rule09AnotherChannelSeesNothingOfIt)
{
	Pair pair(GetParam(), page);
	const Bytes secret = pattern(page), data = pattern(10, 2);
	pair.round(secret);
	const Fd third = open_domain();
	const Channel other(pair.from.domain, third, GetParam());
	const Window view(third, pair.from.pool.out_pool, pair.from.pool.out_span, PROT_READ);
	ASSERT_EQ(send_copied(other.sender, data.data(), data.size()), 1);
	const Received received(other.receiver);
	const std::uint8_t* at = view.at(received.slices[0].position);
	EXPECT_EQ(std::memcmp(at, data.data(), data.size()), 0);
	EXPECT_TRUE(is_zero(at + data.size(), at + page));
	EXPECT_TRUE(load_faults(pair.window.at(received.slices[0].position))) << "the first receiver has nothing of it";
}

TEST_P(Copied, Rule09NothingBeforeTheFirstOne)
{
	Pair pair(GetParam());
	{
		const std::vector<fbufs_buffer> own = {alloc_one(pair.from.domain, 4 * page)};
		std::memset(pair.from.at(own[0]), 0xaa, 4 * page);
		ASSERT_EQ(handles(pair.from.domain, FBUFS_FREE, {own[0].fbuf}), 1);
	}
	ASSERT_EQ(send_copied(pair.channel.sender, "x", 1), 1);
	const Received received(pair.channel.receiver);
	const std::uint8_t* at = pair.window.at(received.slices[0].position);
	EXPECT_EQ(*at, 'x');
	EXPECT_TRUE(is_zero(at + 1, at + page));
}

// Fbufs that the process has written are no part of what it copies.
TEST_P(Copied, Rule09NotWithTheFbufsOfTheProcess)
{
	Pair pair(GetParam());
	const fbufs_buffer own = alloc_one(pair.channel.sender);
	*pair.from.at(own) = 0xaa;
	ASSERT_EQ(handles(pair.from.domain, FBUFS_FREE, {own.fbuf}), 1);
	EXPECT_NE(pair.round(pattern(10)), own.position);
	EXPECT_EQ(alloc_one(pair.channel.sender).position, own.position);
}

TEST(CopiedRule09, UncachedReceiversLoseIt)
{
	Pair pair(FBUFS_CHANNEL_UNCACHED);
	const std::uint64_t at = pair.round(pattern(100));
	EXPECT_TRUE(load_faults(pair.window.at(at)));
}

//
// 12
//

TEST_P(Copied, Rule12ArrivesAsSent)
{
	Pair pair(GetParam());
	for (const std::size_t bytes : {std::size_t{1}, std::size_t{7}, std::size_t{64}, page - 1, page, page + 1,
					3 * page, std::size_t{FBUFS_MAX_COPY}}) {
		const Bytes data = pattern(bytes, static_cast<unsigned>(bytes));
		const auto before = pair.count(FBUFS_COUNT_BYTES_COPIED);
		ASSERT_EQ(send_copied(pair.channel.sender, data.data(), bytes, bytes + 1), 1);
		EXPECT_EQ(pair.count(FBUFS_COUNT_BYTES_COPIED), before + bytes);
		const Received received(pair.channel.receiver);
		ASSERT_EQ(received.result, 1);
		EXPECT_EQ(received.message.cookie, bytes + 1);
		EXPECT_EQ(received.message.length, bytes);
		EXPECT_EQ(received.message.slices, 1u);
		EXPECT_EQ(received.slices[0].offset, 0u);
		EXPECT_EQ(pair.bytes(received), data);
		EXPECT_EQ(locate(pair.from.domain, received.slices[0].position).out_bytes,
			  (bytes + page - 1) / page * page);
		EXPECT_EQ(pair.release(received), 1);
	}
}

TEST_P(Copied, Rule12IsGatheredFromItsSlices)
{
	Pair pair(GetParam());
	const Bytes data = pattern(FBUFS_MAX_COPY);
	Bytes want;
	std::vector<fbufs_message> messages;
	std::vector<fbufs_slice> slices;
	// More than are copied ahead, and messages that lie across.
	for (std::uint32_t i = 0; i < 10; i++) {
		const std::uint32_t parts = i == 9 ? FBUFS_MAX_COPY_SLICES : 1 + i % 5;
		messages.push_back(copied_message(parts, i));
		for (std::uint32_t j = 0; j < parts; j++) {
			slices.push_back(memory_slice(data.data() + slices.size() * 10, 1 + j * 13));
			slices.back().position = ~0ull;
		}
	}
	ASSERT_EQ(send(pair.channel.sender, messages, slices), 10);
	std::size_t next = 0;
	for (const fbufs_message& message : messages) {
		const Received received(pair.channel.receiver);
		EXPECT_EQ(received.message.cookie, message.cookie);
		want.clear();
		for (std::uint32_t j = 0; j < message.slices; j++, next++) {
			const auto* from = reinterpret_cast<const std::uint8_t*>(slices[next].address);
			want.insert(want.end(), from, from + slices[next].length);
		}
		EXPECT_EQ(pair.bytes(received), want);
	}
}

TEST_P(Copied, Rule12MixesWithFbufsAndHeldMessages)
{
	Pair pair(GetParam());
	// Also a receiver of its own, for something to send on.
	const Channel back(pair.from.domain, pair.from.domain);
	const fbufs_buffer sent = alloc_one(back.sender), own = alloc_one(pair.channel.sender);
	*pair.from.at(sent) = 41;
	*pair.from.at(own) = 42;
	ASSERT_EQ(send_one(back.sender, sent.fbuf, 0, 1), 1);
	const Received held(back.receiver);
	fbufs_message plain = {};
	plain.slices = 1;
	fbufs_message both = {};
	both.slices = 2;
	const std::uint8_t bytes[] = {1, 2, 3};
	const fbufs_buffer more = alloc_one(pair.channel.sender);
	*pair.from.at(more) = 43;
	ASSERT_EQ(send(pair.channel.sender, {copied_message(), plain, copied_message(2), both, copied_message()},
		       {memory_slice(bytes, 1), slice_of(own.fbuf, 0, 1), memory_slice(bytes + 1, 1),
			memory_slice(bytes, 1), slice_of(sent.fbuf, 0, 1, held.handle()), slice_of(more.fbuf, 0, 1),
			memory_slice(bytes + 2, 1)}),
		  5);
	for (const Bytes& want : {Bytes{1}, Bytes{42}, Bytes{2, 1}, Bytes{41, 43}, Bytes{3}}) {
		const Received received(pair.channel.receiver);
		EXPECT_EQ(pair.bytes(received), want);
		EXPECT_EQ(pair.release(received), 1);
	}
	EXPECT_EQ(pair.state(own.position), FBUFS_STATE_FREE);
}

TEST_P(Copied, Rule12AVectorStopsAtTheFirstFailure)
{
	Pair pair(GetParam());
	const Bytes data = pattern(100);
	const std::vector<fbufs_slice> slices = {memory_slice(data.data(), 100), memory_slice(data.data(), 100),
						 memory_slice(nullptr, 100), memory_slice(data.data(), 100)};
	const std::vector<fbufs_message> messages(4, copied_message());
	EXPECT_EQ(send(pair.channel.sender, messages, slices), 2);
	EXPECT_EQ(pair.queued(), 2u);
	EXPECT_EQ(pair.count(FBUFS_COUNT_BYTES_COPIED), 200u);
	EXPECT_EQ(send(pair.channel.sender, {copied_message()}, {slices[2]}), -EFAULT);
	EXPECT_EQ(pair.queued(), 2u);
	EXPECT_EQ(send(pair.channel.sender, {copied_message()}, {slices[3]}), 1);
}

//
// 13
//

TEST(CopiedRule13, AFullQueueIsEagainAndCopiesNothing)
{
	Pair pair(0, 4 << 20, 4);
	const Bytes data = pattern(100);
	const std::vector<fbufs_slice> slices(6, memory_slice(data.data(), 100));
	EXPECT_EQ(send(pair.channel.sender, std::vector<fbufs_message>(6, copied_message()), slices, FBUFS_DONTWAIT),
		  4);
	EXPECT_EQ(send_copied(pair.channel.sender, data.data(), 100), -EAGAIN);
	EXPECT_EQ(pair.count(FBUFS_COUNT_BYTES_COPIED), 400u);
	EXPECT_FALSE(polls(pair.channel.sender, POLLOUT));
	EXPECT_EQ(pair.release(Received(pair.channel.receiver)), 1);
	EXPECT_EQ(send_copied(pair.channel.sender, data.data(), 100), 1);
}

TEST(CopiedRule13, AFullPoolIsWaitedFor)
{
	Pair pair(0, 3 * page);
	const Bytes data = pattern(100);
	const std::vector<fbufs_message> messages(5, copied_message());
	const std::vector<fbufs_slice> slices(5, memory_slice(data.data(), 100));
	EXPECT_EQ(send(pair.channel.sender, messages, slices, FBUFS_DONTWAIT), 3);
	EXPECT_TRUE(polls(pair.channel.sender, POLLOUT)) << "the queue has room";
	EXPECT_EQ(send_copied(pair.channel.sender, data.data(), 100), -EAGAIN);
	EXPECT_FALSE(polls(pair.from.domain, POLLOUT)) << "the pool has none";
	EXPECT_EQ(pair.release(Received(pair.channel.receiver)), 1);
	EXPECT_TRUE(polls(pair.from.domain, POLLOUT));

	Blocked sending([&] { return send(pair.channel.sender, messages, slices); });
	EXPECT_TRUE(sending.waits());
	EXPECT_EQ(pair.queued(), 3u);
	for (int i = 0; i < 7; i++) {
		const Received received(pair.channel.receiver, 0);
		EXPECT_EQ(pair.bytes(received), data);
		EXPECT_EQ(pair.release(received), 1);
	}
	EXPECT_EQ(sending.result(), 5);
}

TEST(CopiedRule13, WhoWaitsForThePoolIsInterruptedOrTold)
{
	Pair pair(0, page);
	const Bytes data = pattern(100);
	ASSERT_EQ(send_copied(pair.channel.sender, data.data(), 100), 1);
	Blocked interrupted([&] { return send_copied(pair.channel.sender, data.data(), 100, 0, 0); });
	EXPECT_TRUE(interrupted.waits());
	interrupted.interrupt();
	EXPECT_EQ(interrupted.result(), -EINTR);
	const Received held(pair.channel.receiver);
	Blocked told([&] { return send_copied(pair.channel.sender, data.data(), 100, 0, 0); });
	EXPECT_TRUE(told.waits());
	pair.channel.receiver.reset();
	EXPECT_EQ(told.result(), -EPIPE);
}

TEST(CopiedRule13, APoolFullOfOwnFbufsIsEnobufs)
{
	Pair pair(0, 2 * page);
	std::vector<fbufs_buffer> own(2);
	ASSERT_EQ(alloc(pair.channel.sender, page, own), 2);
	EXPECT_EQ(send_copied(pair.channel.sender, "x", 1, 0, 0), -ENOBUFS);
	EXPECT_EQ(send_copied(pair.channel.sender, pattern(3 * page).data(), 3 * page, 0, 0), -ENOBUFS)
		<< "larger than it";
	// One at home on another list makes room.
	ASSERT_EQ(handles(pair.from.domain, FBUFS_FREE, {own[0].fbuf}), 1);
	EXPECT_EQ(send_copied(pair.channel.sender, "x", 1, 0, 0), 1);
}

//
// 15
//

class CopiedSteadyState : public testing::TestWithParam<std::uint32_t> {};

TEST_P(CopiedSteadyState, Rule15NoVmOperation)
{
	Pair pair(GetParam());
	const Bytes data = pattern(FBUFS_MAX_COPY);
	const auto round = [&](std::size_t bytes) {
		if (send_copied(pair.channel.sender, data.data(), bytes) != 1)
			return false;
		const Received received(pair.channel.receiver);
		return received.result == 1 &&
		       std::memcmp(pair.window.at(received.slices[0].position), data.data(), bytes) == 0 &&
		       pair.release(received) == 1;
	};
	// Between messages of fbufs: neither takes the other's.
	const auto other = [&] {
		const fbufs_buffer buffer = alloc_one(pair.channel.sender);
		return send_one(pair.channel.sender, buffer.fbuf, 0, page) == 1 &&
		       pair.release(Received(pair.channel.receiver)) == 1;
	};
	for (const std::size_t bytes : {std::size_t{64}, page, std::size_t{FBUFS_MAX_COPY}})
		ASSERT_TRUE(round(bytes) && other());
	const auto from = counters(pair.from.domain), to = counters(pair.to), gauge = gauges(pair.to);
	int good = 0;
	for (std::size_t i = 0; i < 999; i++)
		good += round(i % 3 == 0 ? 64 : i % 3 == 1 ? page : FBUFS_MAX_COPY);
	EXPECT_EQ(good, 999);
	for (const fbufs_counter which : vm_operations) {
		EXPECT_EQ(counters(pair.from.domain)[which], from[which]) << which;
		EXPECT_EQ(counters(pair.to)[which], to[which]) << which;
	}
	EXPECT_EQ(counters(pair.from.domain)[FBUFS_COUNT_BYTES_COPIED],
		  from[FBUFS_COUNT_BYTES_COPIED] + 333 * (64 + page + FBUFS_MAX_COPY));
	EXPECT_EQ(gauges(pair.to), gauge);
}

INSTANTIATE_TEST_SUITE_P(Cached, CopiedSteadyState, testing::Values(0u, FBUFS_CHANNEL_VOLATILE),
			 [](const auto& each) { return each.param ? "Volatile" : "Secure"; });

//
// 16
//

class CopiedRule16 : public testing::Test {
protected:
	Pair pair_;
	Bytes data_ = pattern(FBUFS_MAX_COPY + 1);

	// Refused, and all is as before.
	void refused(long error, const fbufs_message& message, const std::vector<fbufs_slice>& slices, const char* what)
	{
		const auto before = gauges(pair_.from.domain);
		EXPECT_EQ(send(pair_.channel.sender, {message}, slices, FBUFS_DONTWAIT), error) << what;
		EXPECT_EQ(pair_.queued(), 0u) << what;
		EXPECT_EQ(gauges(pair_.from.domain)[FBUFS_GAUGE_MESSAGES], before[FBUFS_GAUGE_MESSAGES]) << what;
	}
	void TearDown() override { pair_.round(pattern(77)); }
};

TEST_F(CopiedRule16, Lengths)
{
	refused(-EINVAL, copied_message(), {memory_slice(data_.data(), 0)}, "nothing");
	refused(-EINVAL, copied_message(2), {memory_slice(data_.data(), 1), memory_slice(data_.data(), 0)},
		"a slice of nothing");
	refused(-EINVAL, copied_message(0), {memory_slice(data_.data(), 1)}, "no slices");
	refused(-EMSGSIZE, copied_message(), {memory_slice(data_.data(), FBUFS_MAX_COPY + 1)}, "too long");
	refused(-EMSGSIZE, copied_message(), {memory_slice(data_.data(), ~0u)}, "much too long");
	refused(-EMSGSIZE, copied_message(2), {memory_slice(data_.data(), ~0u), memory_slice(data_.data(), 2)},
		"an overflow");
	refused(-EMSGSIZE, copied_message(2),
		{memory_slice(data_.data(), FBUFS_MAX_COPY), memory_slice(data_.data(), 1)}, "too long together");
	refused(-EMSGSIZE, copied_message(17), std::vector<fbufs_slice>(17, memory_slice(data_.data(), 1)),
		"too many slices");
	refused(-EMSGSIZE, copied_message(2), {memory_slice(data_.data(), 1)}, "more slices than there are");
}

TEST_F(CopiedRule16, Fields)
{
	const fbufs_slice good = memory_slice(data_.data(), 1);
	for (const std::uint32_t flag :
	     {FBUFS_MESSAGE_NOTICE, FBUFS_MESSAGE_LOCKED, FBUFS_MESSAGE_LEND, 1u << 4, 1u << 31}) {
		fbufs_message message = copied_message();
		message.flags |= flag;
		refused(-EINVAL, message, {good}, "a flag");
	}
	fbufs_message message = copied_message();
	message.message = 1;
	refused(-EINVAL, message, {good}, "a handle");
	message = copied_message();
	message.length = 1;
	refused(-EINVAL, message, {good}, "a length");
	fbufs_slice slice = good;
	slice.hold = 1;
	refused(-EINVAL, copied_message(), {slice}, "a hold");
	slice = good;
	slice.offset = 1;
	refused(-EINVAL, copied_message(), {slice}, "an offset");
}

TEST_F(CopiedRule16, Addresses)
{
	refused(-EFAULT, copied_message(), {memory_slice(nullptr, 1)}, "NULL");
	refused(-EFAULT, copied_message(), {memory_slice(reinterpret_cast<void*>(~0ull), 1)}, "the last byte");
	refused(-EFAULT, copied_message(), {memory_slice(reinterpret_cast<void*>(0xffff888000000000ull), 8)},
		"the kernel's");
	refused(-EFAULT, copied_message(), {memory_slice(reinterpret_cast<void*>(0x7ffffffff000ull), FBUFS_MAX_COPY)},
		"across the end");
	auto* end = static_cast<std::uint8_t*>(
		::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	ASSERT_NE(end, MAP_FAILED);
	ASSERT_EQ(::mprotect(end + page, page, PROT_NONE), 0);
	refused(-EFAULT, copied_message(), {memory_slice(end + page - 10, 11)}, "what ends too early");
	refused(-EFAULT, copied_message(2), {memory_slice(data_.data(), 100), memory_slice(end + page, 1)},
		"the second slice");
	EXPECT_EQ(pair_.count(FBUFS_COUNT_BYTES_COPIED), 0u);
	EXPECT_EQ(send_copied(pair_.channel.sender, end + page - 10, 10), 1) << "all that there is";
	EXPECT_EQ(pair_.bytes(Received(pair_.channel.receiver)), Bytes(10));

	// Fbufs that the caller may not read are no memory of the caller's either.
	refused(-EFAULT, copied_message(), {memory_slice(pair_.from.window.base() + 512 * page, 1)},
		"a window without an fbuf");
	::munmap(end, 2 * page);
}

// What is copied may lie in a window: of an own fbuf, and of one that is held.
TEST_F(CopiedRule16, FromWindows)
{
	const fbufs_buffer own = alloc_one(pair_.channel.sender);
	std::memset(pair_.from.at(own), 5, page);
	ASSERT_EQ(send_copied(pair_.channel.sender, pair_.from.at(own), page), 1);
	EXPECT_EQ(pair_.bytes(Received(pair_.channel.receiver)), Bytes(page, 5));
	ASSERT_EQ(send_one(pair_.channel.sender, own.fbuf, 0, page), 1);
	ASSERT_EQ(send_copied(pair_.channel.sender, pair_.from.at(own), page), 1);
	const Received first(pair_.channel.receiver), second(pair_.channel.receiver);
	EXPECT_EQ(pair_.bytes(second), Bytes(page, 5));
}

TEST_F(CopiedRule16, SlicesThatEndWhereMemoryEnds)
{
	auto* base = static_cast<std::uint8_t*>(
		::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	ASSERT_EQ(::munmap(base + page, page), 0);
	auto* const first = reinterpret_cast<fbufs_slice*>(base + page) - 3;
	for (int i = 0; i < 3; i++)
		first[i] = memory_slice(data_.data() + i, 1);
	const std::vector<fbufs_message> messages = {copied_message(3), copied_message(1)};
	fbufs_send args = {};
	args.size = sizeof(args);
	args.messages = address(messages.data());
	args.slices = address(first);
	args.count = 2;
	args.nslices = 30;
	EXPECT_EQ(call(pair_.channel.sender, FBUFS_SEND, args), 1);
	EXPECT_EQ(pair_.bytes(Received(pair_.channel.receiver)), Bytes(data_.begin(), data_.begin() + 3));
	args.slices += sizeof(fbufs_slice);
	EXPECT_EQ(call(pair_.channel.sender, FBUFS_SEND, args), -EFAULT);
	::munmap(base, page);
}

TEST_F(CopiedRule16, NotWithoutAPoolNorForOthers)
{
	const Fd poor = open_domain();
	const Channel channel(poor, pair_.to);
	EXPECT_EQ(send_copied(channel.sender, data_.data(), 1), -ENXIO);
	Fd sender, receiver;
	ASSERT_EQ(channel_create(pair_.from.domain, 0, 0, sender, receiver), 0);
	EXPECT_EQ(send_copied(sender, data_.data(), 1), -ENXIO) << "not attached";
	EXPECT_EQ(send_copied(pair_.channel.receiver, data_.data(), 1), -ENOTTY);
	EXPECT_EQ(in_child([&] { return static_cast<int>(-send_copied(pair_.channel.sender, data_.data(), 1)); }),
		  EPERM);
	const Channel gone(pair_.from.domain, pair_.to);
	const_cast<Fd&>(gone.receiver).reset();
	EXPECT_EQ(send_copied(gone.sender, data_.data(), 1), -EPIPE);
}

} // namespace
