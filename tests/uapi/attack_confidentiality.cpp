// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Who may read what: receivers see what they hold and, on a cached channel, the channel's fbufs; nothing
// of another channel, of another time, or of the pages around a forwarded slice.

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <sys/uio.h>

#include <algorithm>
#include <cstring>

namespace {

using namespace uapi;

constexpr std::uint8_t secret = 0x5a;

// A channel from an originator to domains of this process, each with its window.
struct Peer {
	Fd domain = open_domain();
	Fd end;
	Window window;

	std::vector<fbufs_message> messages{1};
	std::vector<fbufs_slice> slices{8};

	void join(int receiver, const Originator& origin)
	{
		ASSERT_EQ(attach(receiver, domain), 0);
		map(origin);
	}
	void map(const Originator& origin)
	{
		window = Window(domain, origin.pool.out_pool, origin.pool.out_span, PROT_READ);
		ASSERT_EQ(window.error(), 0);
	}
	std::uint64_t take()
	{
		EXPECT_EQ(receive(end, messages, slices, FBUFS_DONTWAIT), 1);
		return messages[0].message;
	}
	long drop(std::uint64_t message) { return handles(domain, FBUFS_RELEASE, {message}); }
	bool sees(std::uint64_t position) const { return !load_faults(window.at(position)); }
};

struct Line {
	Fd sender;
	Peer peer;

	void open(const Originator& origin, std::uint32_t flags = 0)
	{
		ASSERT_EQ(origin.window.error(), 0);
		ASSERT_EQ(channel_create(origin.domain, flags, 0, sender, peer.end), 0);
		ASSERT_EQ(attach(sender, origin.domain), 0);
		ASSERT_NO_FATAL_FAILURE(peer.join(peer.end, origin));
	}
	fbufs_buffer get(std::size_t bytes) const
	{
		std::vector<fbufs_buffer> buffers(1);
		EXPECT_EQ(alloc(sender, bytes, buffers, FBUFS_DONTWAIT), 1);
		return buffers[0];
	}
};

bool all(const std::uint8_t* from, std::size_t n, std::uint8_t value)
{
	return std::all_of(from, from + n, [=](std::uint8_t byte) { return byte == value; });
}

long vmsplice_out(int pipe, const void* from, std::size_t bytes)
{
	const iovec part = {const_cast<void*>(from), bytes};
	const long result = ::vmsplice(pipe, &part, 1, 0);
	return result < 0 ? -errno : result;
}

class Confidentiality : public testing::TestWithParam<std::uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Modes, Confidentiality,
			 testing::Values(0U, FBUFS_CHANNEL_UNCACHED, FBUFS_CHANNEL_VOLATILE,
					 FBUFS_CHANNEL_VOLATILE | FBUFS_CHANNEL_UNCACHED));

// A pool so small that what channel A gave back has to serve channel B.
TEST_P(Confidentiality, AnFbufThatChangesChannelCarriesNothing)
{
	constexpr std::size_t bytes = 8 * page;
	Originator origin(bytes);
	Line a, b;
	ASSERT_NO_FATAL_FAILURE(a.open(origin, GetParam()));
	ASSERT_NO_FATAL_FAILURE(b.open(origin, GetParam()));

	const fbufs_buffer first = a.get(bytes);
	std::memset(origin.at(first), secret, bytes);
	ASSERT_EQ(send_one(a.sender, first.fbuf, 0, bytes), 1);
	std::vector<fbufs_buffer> none(1);
	EXPECT_EQ(alloc(b.sender, bytes, none, FBUFS_DONTWAIT), -EAGAIN) << "the pool was to be full";
	const std::uint64_t held = a.peer.take();
	EXPECT_TRUE(all(a.peer.window.at(first.position), bytes, secret));
	EXPECT_FALSE(b.peer.sees(first.position)) << "B sees A's before the move";
	int fds[2];
	ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
	const Fd out(fds[0]), in(fds[1]);
	EXPECT_EQ(vmsplice_out(in, a.peer.window.at(first.position), page), -EFAULT)
		<< "a reference that a former receiver could keep";
	ASSERT_EQ(a.peer.drop(held), 1);
	EXPECT_EQ(a.peer.sees(first.position), !(GetParam() & FBUFS_CHANNEL_UNCACHED));

	const fbufs_buffer second = b.get(bytes);
	EXPECT_TRUE(all(origin.at(second), bytes, 0));
	for (std::size_t i = 0; i < bytes; i += page) {
		EXPECT_FALSE(a.peer.sees(first.position + i)) << "A still sees page " << i / page;
		EXPECT_FALSE(a.peer.sees(second.position + i)) << "A sees B's page " << i / page;
	}
	EXPECT_EQ(vmsplice_out(in, a.peer.window.at(second.position), page), -EFAULT);
	std::memcpy(origin.at(second) + page, "B", 1);
	ASSERT_EQ(send_one(b.sender, second.fbuf, page, 1), 1);
	for (std::size_t i = 0; i < bytes; i += page)
		EXPECT_FALSE(a.peer.sees(second.position + i)) << "A sees B's page " << i / page;
	b.peer.take();
	const std::uint8_t* seen = b.peer.window.at(second.position);
	EXPECT_EQ(seen[page], 'B');
	EXPECT_TRUE(all(seen + page + 1, page - 1, 0)) << "beside what was sent";
	if (!(GetParam() & FBUFS_CHANNEL_UNCACHED)) {
		EXPECT_TRUE(all(seen, page, 0));
		EXPECT_TRUE(all(seen + 2 * page, bytes - 2 * page, 0));
	} else {
		EXPECT_FALSE(b.peer.sees(second.position));
		EXPECT_FALSE(b.peer.sees(second.position + 2 * page));
		EXPECT_FALSE(b.peer.sees(second.position + bytes - 1));
	}
	for (std::size_t i = 0; i < bytes; i += page)
		EXPECT_FALSE(a.peer.sees(second.position + i)) << "A sees B's page " << i / page;
}

// The same with pieces: one large fbuf makes room for many small ones, and the reverse.
TEST_P(Confidentiality, NorInAnotherSize)
{
	constexpr std::size_t bytes = 8 * page;
	Originator origin(bytes);
	Line a, b;
	ASSERT_NO_FATAL_FAILURE(a.open(origin, GetParam()));
	ASSERT_NO_FATAL_FAILURE(b.open(origin, GetParam()));
	for (int round = 0; round < 3; round++) {
		const fbufs_buffer large = a.get(bytes);
		EXPECT_TRUE(all(origin.at(large), bytes, 0)) << round;
		std::memset(origin.at(large), secret, bytes);
		ASSERT_EQ(send_one(a.sender, large.fbuf, 0, bytes), 1);
		a.peer.drop(a.peer.take());
		std::vector<fbufs_buffer> small(8);
		ASSERT_EQ(alloc(b.sender, page, small, FBUFS_DONTWAIT), 8);
		for (const auto& buffer : small) {
			EXPECT_TRUE(all(origin.at(buffer), page, 0)) << round;
			EXPECT_FALSE(a.peer.sees(buffer.position));
			std::memset(origin.at(buffer), secret, page);
			ASSERT_EQ(send_one(b.sender, buffer.fbuf, 0, 1), 1);
		}
		for (std::size_t i = 0; i < small.size(); i++)
			b.peer.drop(b.peer.take());
	}
}

TEST(ConfidentialityOfChannels, ASliceOfAPageShowsItsPage)
{
	Originator origin(1 << 20);
	Line line;
	ASSERT_NO_FATAL_FAILURE(line.open(origin, FBUFS_CHANNEL_UNCACHED));
	const fbufs_buffer buffer = line.get(4 * page);
	std::memset(origin.at(buffer) + page + 10, secret, 20);
	EXPECT_FALSE(line.peer.sees(buffer.position + page)) << "before the send";
	ASSERT_EQ(send_one(line.sender, buffer.fbuf, page + 10, 20), 1);
	EXPECT_FALSE(line.peer.sees(buffer.position + page)) << "before the receive";
	const std::uint64_t held = line.peer.take();
	EXPECT_EQ(line.peer.slices[0].position, buffer.position + page + 10);
	EXPECT_TRUE(all(line.peer.window.at(buffer.position + page + 10), 20, secret));
	EXPECT_TRUE(all(line.peer.window.at(buffer.position + page), 10, 0));
	for (const std::size_t i : {std::size_t{0}, 2 * page, 3 * page})
		EXPECT_FALSE(line.peer.sees(buffer.position + i)) << i;
	// Two slices in one message, a page apart.
	EXPECT_EQ(line.peer.drop(held), 1);
	for (std::size_t i = 0; i < 4; i++)
		EXPECT_FALSE(line.peer.sees(buffer.position + i * page)) << "after the release";
	const fbufs_buffer again = line.get(4 * page);
	std::vector<fbufs_slice> slices(2);
	slices[0].fbuf = slices[1].fbuf = again.fbuf;
	slices[0].offset = page - 1;
	slices[0].length = 1;
	slices[1].offset = 3 * page;
	slices[1].length = 1;
	fbufs_message message = {};
	message.slices = 2;
	ASSERT_EQ(send(line.sender, {message}, slices), 1);
	line.peer.take();
	EXPECT_TRUE(line.peer.sees(again.position));
	EXPECT_FALSE(line.peer.sees(again.position + page));
	EXPECT_FALSE(line.peer.sees(again.position + 2 * page));
	EXPECT_TRUE(line.peer.sees(again.position + 3 * page));
}

TEST(ConfidentialityOfChannels, UncachedReleaseTakesTheMappingAway)
{
	Originator origin(1 << 20);
	Line line;
	ASSERT_NO_FATAL_FAILURE(line.open(origin, FBUFS_CHANNEL_UNCACHED));
	for (int round = 0; round < 10; round++) {
		const fbufs_buffer buffer = line.get(2 * page);
		std::memset(origin.at(buffer), round + 1, 2 * page);
		EXPECT_FALSE(line.peer.sees(buffer.position));
		ASSERT_EQ(send_one(line.sender, buffer.fbuf, 0, 2 * page), 1);
		const std::uint64_t held = line.peer.take();
		EXPECT_TRUE(all(line.peer.window.at(buffer.position), 2 * page, static_cast<std::uint8_t>(round + 1)));
		EXPECT_EQ(line.peer.drop(held), 1);
		EXPECT_FALSE(line.peer.sees(buffer.position));
		EXPECT_FALSE(line.peer.sees(buffer.position + page));
	}
}

// A domain that holds a page twice, through two ends: it stays until the second is released.
TEST(ConfidentialityOfChannels, UncachedPagesStayForTheOtherMessage)
{
	Originator origin(1 << 20);
	Line line;
	ASSERT_NO_FATAL_FAILURE(line.open(origin, FBUFS_CHANNEL_UNCACHED));
	Fd other;
	ASSERT_EQ(add_receiver(line.sender, other), 0);
	ASSERT_EQ(attach(other, line.peer.domain), 0);
	const fbufs_buffer buffer = line.get(3 * page);
	std::memset(origin.at(buffer), secret, 3 * page);
	ASSERT_EQ(send_one(line.sender, buffer.fbuf, page, 2 * page), 1);
	const std::uint64_t one = line.peer.take();
	std::vector<fbufs_message> messages(1);
	std::vector<fbufs_slice> slices(1);
	ASSERT_EQ(receive(other, messages, slices), 1);
	EXPECT_EQ(line.peer.drop(one), 1);
	EXPECT_FALSE(line.peer.sees(buffer.position));
	EXPECT_TRUE(all(line.peer.window.at(buffer.position + page), 2 * page, secret));
	EXPECT_TRUE(store_faults(origin.at(buffer)));
	EXPECT_EQ(line.peer.drop(messages[0].message), 1);
	for (std::size_t i = 0; i < 3; i++)
		EXPECT_FALSE(line.peer.sees(buffer.position + i * page));
}

TEST_P(Confidentiality, AForwardedSliceShowsItsPagesOnly)
{
	Originator origin(1 << 20);
	Line a;
	ASSERT_NO_FATAL_FAILURE(a.open(origin, GetParam()));
	// From the receiver of A on to somebody who is on no channel of the pool.
	Fd sender;
	Peer next;
	ASSERT_EQ(channel_create(a.peer.domain, GetParam(), 0, sender, next.end), 0);
	ASSERT_EQ(attach(sender, a.peer.domain), 0);
	ASSERT_EQ(attach(next.end, next.domain), 0);
	EXPECT_EQ(Window(next.domain, origin.pool.out_pool, origin.pool.out_span, PROT_READ).error(), ENOENT);

	const fbufs_buffer buffer = a.get(6 * page), other = a.get(page);
	std::memset(origin.at(buffer), secret, 6 * page);
	std::memset(origin.at(other), secret, page);
	ASSERT_EQ(send_one(a.sender, buffer.fbuf, page, 4 * page), 1);
	ASSERT_EQ(send_one(a.sender, other.fbuf, 0, page), 1);
	const std::uint64_t held = a.peer.take();
	a.peer.take();

	std::vector<fbufs_slice> slices(1);
	slices[0].fbuf = buffer.fbuf;
	slices[0].hold = held;
	slices[0].length = page;
	fbufs_message message = {};
	message.slices = 1;
	// Not what the held message does not contain.
	for (const std::uint32_t offset :
	     {0U, std::uint32_t{page - 1}, std::uint32_t{4 * page + 1}, std::uint32_t{5 * page}}) {
		slices[0].offset = offset;
		EXPECT_EQ(send(sender, {message}, slices), -EACCES) << offset;
	}
	slices[0].offset = 2 * page;
	slices[0].fbuf = other.fbuf;
	EXPECT_EQ(send(sender, {message}, slices), -EACCES) << "another fbuf by this hold";
	slices[0].fbuf = buffer.fbuf;
	ASSERT_EQ(send(sender, {message}, slices), 1);
	const std::uint64_t forwarded = next.take();
	ASSERT_NO_FATAL_FAILURE(next.map(origin));
	EXPECT_TRUE(all(next.window.at(buffer.position + 2 * page), page, secret));
	for (const std::size_t i : {0U, 1U, 3U, 4U, 5U})
		EXPECT_FALSE(next.sees(buffer.position + i * page)) << "page " << i;
	EXPECT_FALSE(next.sees(other.position));

	// It may pass on what it has, no more.
	Fd onward, last;
	ASSERT_EQ(channel_create(next.domain, 0, 0, onward, last), 0);
	ASSERT_EQ(attach(onward, next.domain), 0);
	slices[0].hold = forwarded;
	slices[0].offset = page;
	EXPECT_EQ(send(onward, {message}, slices), -EACCES);

	EXPECT_EQ(a.peer.drop(held), 1);
	EXPECT_TRUE(next.sees(buffer.position + 2 * page)) << "still held";
	EXPECT_EQ(store_faults(origin.at(buffer)), !(GetParam() & FBUFS_CHANNEL_VOLATILE));
	EXPECT_EQ(next.drop(forwarded), 1);
	EXPECT_FALSE(next.sees(buffer.position + 2 * page)) << "released";
	std::vector<fbufs_buffer> again(1);
	ASSERT_EQ(alloc(a.sender, 6 * page, again), 1);
	EXPECT_EQ(again[0].position, buffer.position);
	EXPECT_FALSE(next.sees(buffer.position + 2 * page)) << "the next use";
}

TEST_P(Confidentiality, AClosedReceiverKeepsOnlyWhatItHolds)
{
	Originator origin(1 << 20);
	Line line;
	ASSERT_NO_FATAL_FAILURE(line.open(origin, GetParam()));
	Peer other;
	ASSERT_EQ(add_receiver(line.sender, other.end), 0);
	ASSERT_NO_FATAL_FAILURE(other.join(other.end, origin));

	std::vector<fbufs_buffer> buffers(3);
	ASSERT_EQ(alloc(line.sender, page, buffers), 3);
	for (const auto& buffer : buffers) {
		std::memset(origin.at(buffer), secret, page);
		ASSERT_EQ(send_one(line.sender, buffer.fbuf, 0, page), 1);
	}
	const std::uint64_t released = line.peer.take(), held = line.peer.take();
	EXPECT_TRUE(line.peer.sees(buffers[0].position));
	EXPECT_TRUE(line.peer.sees(buffers[1].position));
	EXPECT_EQ(line.peer.drop(released), 1);
	line.peer.end.reset();
	EXPECT_FALSE(line.peer.sees(buffers[0].position)) << "released before";
	EXPECT_TRUE(all(line.peer.window.at(buffers[1].position), page, secret)) << "held";
	EXPECT_FALSE(line.peer.sees(buffers[2].position)) << "queued when it closed";
	// The other receiver is not concerned.
	for (int i = 0; i < 3; i++) {
		const std::uint64_t message = other.take();
		EXPECT_TRUE(other.sees(other.slices[0].position));
		EXPECT_EQ(other.drop(message), 1);
	}
	EXPECT_EQ(line.peer.drop(held), 1);
	EXPECT_FALSE(line.peer.sees(buffers[1].position)) << "released after";
	// The next use of the same pages by the channel.
	std::vector<fbufs_buffer> next(3);
	ASSERT_EQ(alloc(line.sender, page, next), 3);
	for (const auto& buffer : next) {
		std::memset(origin.at(buffer), 0x77, page);
		EXPECT_TRUE(faults(
			[&] { EXPECT_NE(*line.peer.window.at(buffer.position), 0x77) << "reads what comes next"; }));
	}
	// Mapping the pool again is for those who have something to do with it.
	line.peer.window = Window();
	EXPECT_EQ(Window(line.peer.domain, origin.pool.out_pool, origin.pool.out_span, PROT_READ).error(), ENOENT);
}

// A receiving end that takes the place of one that went sees nothing of what went before by itself.
TEST(ConfidentialityOfChannels, ANewReceiverInAnOldPlaceHasNoOldMapping)
{
	Originator origin(1 << 20);
	Line line;
	ASSERT_NO_FATAL_FAILURE(line.open(origin));
	const fbufs_buffer buffer = line.get(page);
	std::memset(origin.at(buffer), secret, page);
	ASSERT_EQ(send_one(line.sender, buffer.fbuf, 0, page), 1);
	line.peer.drop(line.peer.take());
	Peer next;
	ASSERT_EQ(add_receiver(line.sender, next.end), 0);
	line.peer.end.reset();
	Peer third;
	ASSERT_EQ(add_receiver(line.sender, third.end), 0);
	ASSERT_NO_FATAL_FAILURE(third.join(third.end, origin));
	const fbufs_buffer again = line.get(page);
	ASSERT_EQ(again.position, buffer.position);
	origin.at(again)[0] = 7;
	ASSERT_EQ(send_one(line.sender, again.fbuf, 0, page), 1);
	third.take();
	EXPECT_EQ(third.window.at(again.position)[0], 7);
	EXPECT_FALSE(line.peer.sees(again.position));
}

// What the originator keeps for itself, or never sent, nobody else sees.
TEST_P(Confidentiality, UnsentFbufsOfTheDomainAreTheOriginatorsOwn)
{
	Originator origin(1 << 20);
	Line line;
	ASSERT_NO_FATAL_FAILURE(line.open(origin, GetParam()));
	std::vector<fbufs_buffer> own(1);
	ASSERT_EQ(alloc(origin.domain, page, own), 1);
	std::memset(origin.at(own[0]), secret, page);
	EXPECT_FALSE(line.peer.sees(own[0].position));
	EXPECT_EQ(handles(origin.domain, FBUFS_FREE, {own[0].fbuf}), 1);
	EXPECT_FALSE(line.peer.sees(own[0].position));
	// Freed and allocated again it is zero, then becomes the channel's.
	ASSERT_EQ(alloc(origin.domain, page, own), 1);
	EXPECT_TRUE(all(origin.at(own[0]), page, 0));
	origin.at(own[0])[1] = 1;
	ASSERT_EQ(send_one(line.sender, own[0].fbuf, 0, 2), 1);
	line.peer.take();
	EXPECT_EQ(line.peer.window.at(own[0].position)[1], 1);
	EXPECT_TRUE(all(line.peer.window.at(own[0].position) + 2, page - 2, 0));
}

// After the sender's end closed, the channel's free fbufs are gone from its receivers.
TEST(ConfidentialityOfChannels, AClosedChannelsFreeFbufsAreGone)
{
	Originator origin(4 * page);
	Line a, b;
	ASSERT_NO_FATAL_FAILURE(a.open(origin));
	ASSERT_NO_FATAL_FAILURE(b.open(origin));
	std::vector<fbufs_buffer> buffers(4);
	ASSERT_EQ(alloc(a.sender, page, buffers), 4);
	for (const auto& buffer : buffers) {
		std::memset(origin.at(buffer), secret, page);
		ASSERT_EQ(send_one(a.sender, buffer.fbuf, 0, page), 1);
	}
	std::vector<std::uint64_t> held;
	for (int i = 0; i < 4; i++)
		held.push_back(a.peer.take());
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(a.peer.drop(held[static_cast<std::size_t>(i)]), 1);
	a.sender.reset();
	for (std::size_t i = 0; i < 3; i++)
		EXPECT_FALSE(a.peer.sees(buffers[i].position)) << i;
	EXPECT_TRUE(all(a.peer.window.at(buffers[3].position), page, secret));
	EXPECT_TRUE(store_faults(origin.at(buffers[3])));
	std::vector<fbufs_buffer> next(3);
	ASSERT_EQ(alloc(b.sender, page, next, FBUFS_DONTWAIT), 3);
	for (const auto& buffer : next) {
		EXPECT_TRUE(all(origin.at(buffer), page, 0));
		EXPECT_FALSE(a.peer.sees(buffer.position));
	}
	EXPECT_EQ(a.peer.drop(held[3]), 1);
	EXPECT_FALSE(a.peer.sees(buffers[3].position));
}

// A stranger's window is not to be had, whatever the number.
TEST(ConfidentialityOfChannels, AStrangerMapsNothing)
{
	Originator origin(1 << 20);
	Line line;
	ASSERT_NO_FATAL_FAILURE(line.open(origin));
	const Fd stranger = open_domain();
	for (std::uint32_t pool = 0; pool < origin.pool.out_pool + 3; pool++)
		EXPECT_EQ(Window(stranger, pool, origin.pool.out_span, PROT_READ).error(), ENOENT) << pool;
	// An end that is not attached gives nothing either.
	Fd loose;
	ASSERT_EQ(add_receiver(line.sender, loose), 0);
	EXPECT_EQ(Window(stranger, origin.pool.out_pool, origin.pool.out_span, PROT_READ).error(), ENOENT);
}

} // namespace
