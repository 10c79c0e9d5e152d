// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// What the module says about a lock is true: after calls that fail half way, for messages that are passed
// on, for vectors, and after the end of a domain whose windows are still there.

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace {

using namespace uapi;

struct Party {
	Fd domain = open_domain();
	Fd end;
	Window window;
	std::vector<fbufs_message> messages{64};
	std::vector<fbufs_slice> slices{64};

	long take() { return receive(end, messages, slices, FBUFS_DONTWAIT); }
	long drop(std::uint64_t message) { return handles(domain, FBUFS_RELEASE, {message}); }
};

class Claims : public testing::Test {
protected:
	// A channel to two receivers.
	void open(std::uint32_t flags)
	{
		ASSERT_EQ(origin.window.error(), 0);
		ASSERT_EQ(channel_create(origin.domain, flags, 0, sender, one.end), 0);
		ASSERT_EQ(attach(sender, origin.domain), 0);
		ASSERT_EQ(add_receiver(sender, two.end), 0);
		for (Party* party : {&one, &two}) {
			ASSERT_EQ(attach(party->end, party->domain), 0);
			party->window = Window(party->domain, origin.pool.out_pool, origin.pool.out_span, PROT_READ);
			ASSERT_EQ(party->window.error(), 0);
		}
	}
	fbufs_buffer get(std::size_t bytes = page)
	{
		std::vector<fbufs_buffer> buffers(1);
		EXPECT_EQ(alloc(sender, bytes, buffers), 1);
		return buffers[0];
	}
	bool can_store(const fbufs_buffer& buffer, std::uint8_t value = 1)
	{
		return !faults([&, at = origin.at(buffer)] { *static_cast<volatile std::uint8_t*>(at) = value; });
	}

	Originator origin{4 << 20};
	Fd sender;
	Party one, two;
};

// A receiver's forward over a secure channel fails after its first slice. Whoever receives the message then
// is told that it is locked only if it is.
TEST_F(Claims, AFailedForwardClaimsNoLock)
{
	ASSERT_NO_FATAL_FAILURE(open(FBUFS_CHANNEL_VOLATILE));
	Fd onward;
	Party next;
	ASSERT_EQ(channel_create(one.domain, 0, 0, onward, next.end), 0);
	ASSERT_EQ(attach(onward, one.domain), 0);

	const fbufs_buffer buffer = get();
	ASSERT_TRUE(can_store(buffer, 1));
	ASSERT_EQ(send_one(sender, buffer.fbuf, 0, page), 1);
	ASSERT_EQ(one.take(), 1);
	EXPECT_FALSE(one.messages[0].flags & FBUFS_MESSAGE_LOCKED);

	std::vector<fbufs_slice> slices(2);
	slices[0].fbuf = slices[1].fbuf = buffer.fbuf;
	slices[0].hold = slices[1].hold = one.messages[0].message;
	slices[0].length = 1;
	slices[1].length = page + 1;
	fbufs_message message = {};
	message.slices = 2;
	EXPECT_LT(send(onward, {message}, slices), 0);

	ASSERT_EQ(two.take(), 1);
	const bool claimed = two.messages[0].flags & FBUFS_MESSAGE_LOCKED;
	const volatile std::uint8_t* const seen = two.window.at(buffer.position);
	const std::uint8_t before = *seen;
	const bool stored = can_store(buffer, 2);
	if (claimed) {
		EXPECT_EQ(*seen, before) << "the receiver was told that nobody can write it";
		EXPECT_FALSE(stored);
	}
	// From here on it is true, whatever the failed call left.
	ASSERT_EQ(handles(two.domain, FBUFS_SECURE, {two.messages[0].message}), 1);
	const std::uint8_t secured = *seen;
	EXPECT_FALSE(can_store(buffer, 3));
	EXPECT_EQ(*seen, secured);
}

TEST_F(Claims, ForwardingOverASecureChannelLocks)
{
	ASSERT_NO_FATAL_FAILURE(open(FBUFS_CHANNEL_VOLATILE));
	Fd onward;
	Party next;
	ASSERT_EQ(channel_create(one.domain, 0, 0, onward, next.end), 0);
	ASSERT_EQ(attach(onward, one.domain), 0);
	ASSERT_EQ(attach(next.end, next.domain), 0);
	const fbufs_buffer buffer = get(2 * page);
	ASSERT_TRUE(can_store(buffer, 1));
	ASSERT_EQ(send_one(sender, buffer.fbuf, 0, 2 * page), 1);
	ASSERT_TRUE(can_store(buffer, 2)) << "volatile";
	ASSERT_EQ(one.take(), 1);
	fbufs_slice slice = {};
	slice.fbuf = buffer.fbuf;
	slice.hold = one.messages[0].message;
	slice.length = 1;
	fbufs_message message = {};
	message.slices = 1;
	ASSERT_EQ(send(onward, {message}, {slice}), 1);
	EXPECT_FALSE(can_store(buffer, 3));
	EXPECT_TRUE(store_faults(origin.at(buffer) + page));
	ASSERT_EQ(next.take(), 1);
	EXPECT_TRUE(next.messages[0].flags & FBUFS_MESSAGE_LOCKED);
	EXPECT_EQ(one.window.at(buffer.position)[0], 2);
	// Locked until the last of all has released it.
	EXPECT_EQ(next.drop(next.messages[0].message), 1);
	EXPECT_FALSE(can_store(buffer, 4));
	EXPECT_EQ(one.drop(one.messages[0].message), 1);
	EXPECT_FALSE(can_store(buffer, 5));
	ASSERT_EQ(two.take(), 1);
	EXPECT_TRUE(two.messages[0].flags & FBUFS_MESSAGE_LOCKED);
	EXPECT_EQ(two.window.at(buffer.position)[0], 2);
	EXPECT_EQ(two.drop(two.messages[0].message), 1);
	EXPECT_EQ(get(2 * page).position, buffer.position);
	EXPECT_TRUE(can_store(buffer, 6));
}

TEST_F(Claims, AFailedMessageOfAVectorIsNotLockedTheOnesBeforeAre)
{
	ASSERT_NO_FATAL_FAILURE(open(0));
	const fbufs_buffer good = get(), both = get(), bad = get();
	for (const auto& buffer : {good, both, bad})
		ASSERT_TRUE(can_store(buffer));
	std::vector<fbufs_slice> slices(5);
	slices[0].fbuf = good.fbuf;
	slices[1].fbuf = slices[2].fbuf = both.fbuf;
	slices[3].fbuf = bad.fbuf;
	slices[4].fbuf = bad.fbuf ^ (1ULL << 40); // an old handle
	for (auto& slice : slices)
		slice.length = 1;
	std::vector<fbufs_message> messages(2);
	messages[0].slices = 2;
	messages[1].slices = 3;
	EXPECT_EQ(send(sender, messages, slices), 1);
	EXPECT_FALSE(can_store(good, 2));
	EXPECT_FALSE(can_store(both, 2));
	EXPECT_TRUE(can_store(bad, 2));
	ASSERT_EQ(one.take(), 1);
	EXPECT_EQ(one.window.at(good.position)[0], 1);
	EXPECT_EQ(one.window.at(both.position)[0], 1);
	// It is still the originator's, to send or to free.
	EXPECT_EQ(handles(origin.domain, FBUFS_FREE, {good.fbuf}), -EBUSY);
	EXPECT_EQ(handles(origin.domain, FBUFS_FREE, {both.fbuf}), -EBUSY);
	EXPECT_EQ(handles(origin.domain, FBUFS_FREE, {bad.fbuf}), 1);
}

// "An fbuf of the caller's may be in several slices of one call", however long the call is.
TEST_F(Claims, OneFbufInTwoMessagesOfOneCallGoesWithTheFirst)
{
	ASSERT_NO_FATAL_FAILURE(open(0));
	const fbufs_buffer buffer = get();
	ASSERT_TRUE(can_store(buffer));
	fbufs_slice slice = {};
	slice.fbuf = buffer.fbuf;
	slice.length = 8;
	fbufs_message message = {};
	message.slices = 1;
	EXPECT_EQ(send(sender, std::vector<fbufs_message>(60, message), std::vector<fbufs_slice>(60, slice),
		       FBUFS_DONTWAIT),
		  1);
	EXPECT_FALSE(can_store(buffer, 2));
}

// The descriptor of a domain is closed while its windows are still mapped.
TEST_F(Claims, AWindowWithoutItsDomainShowsNothing)
{
	ASSERT_NO_FATAL_FAILURE(open(0));
	const fbufs_buffer sent = get(), kept = get();
	ASSERT_TRUE(can_store(sent, 7));
	ASSERT_TRUE(can_store(kept, 7));
	ASSERT_EQ(send_one(sender, sent.fbuf, 0, page), 1);
	ASSERT_EQ(one.take(), 1);
	ASSERT_EQ(two.take(), 1);
	EXPECT_EQ(two.window.at(sent.position)[0], 7);
	two.domain.reset();
	EXPECT_TRUE(load_faults(two.window.at(sent.position)));
	EXPECT_TRUE(polls(two.end, POLLHUP));

	origin.domain.reset();
	for (const auto& buffer : {sent, kept}) {
		EXPECT_TRUE(load_faults(origin.at(buffer)));
		EXPECT_FALSE(can_store(buffer, 8));
	}
	EXPECT_TRUE(polls(one.end, POLLHUP));
	EXPECT_EQ(one.window.at(sent.position)[0], 7) << "held, whatever happened to its originator";
	EXPECT_TRUE(load_faults(one.window.at(kept.position)));
	// The process may start anew; the old window has nothing to do with it.
	Originator again(1 << 20);
	ASSERT_EQ(again.window.error(), 0);
	std::vector<fbufs_buffer> buffers(1);
	ASSERT_EQ(alloc(again.domain, page, buffers), 1);
	EXPECT_FALSE(store_faults(again.at(buffers[0])));
	EXPECT_FALSE(can_store(sent, 9));
	EXPECT_EQ(one.window.at(sent.position)[0], 7);
	EXPECT_EQ(one.drop(one.messages[0].message), 1);
	EXPECT_TRUE(load_faults(one.window.at(sent.position)));
}

} // namespace
