// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Rules 8 to 11: pins, who sees what, windows that are read-only for good, volatile mode.

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <liburing.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace {

using namespace uapi;

struct Pair {
	Originator from;
	Fd to = open_domain();
	Channel channel;
	Window window;

	explicit Pair(std::uint32_t flags = 0, std::uint64_t bytes = 1 << 20)
		: from(bytes), channel(from.domain, to, flags),
		  window(to, from.pool.out_pool, from.pool.out_span, PROT_READ)
	{
	}
	fbufs_buffer fill(std::uint8_t value, std::uint32_t pages = 1)
	{
		const fbufs_buffer buffer = alloc_one(channel.sender, pages * page);
		std::memset(from.at(buffer), value, pages * page);
		return buffer;
	}
	long send_pages(const fbufs_buffer& buffer, std::uint32_t pages = 1)
	{
		return send_one(channel.sender, buffer.fbuf, 0, pages * static_cast<std::uint32_t>(page));
	}
	// Received and released at once.
	void pass(const fbufs_buffer& buffer, std::uint32_t pages = 1)
	{
		EXPECT_EQ(send_pages(buffer, pages), 1);
		EXPECT_EQ(handles(to, FBUFS_RELEASE, {Received(channel.receiver).handle()}), 1);
	}
};

bool all_are(const std::uint8_t* bytes, std::size_t n, std::uint8_t value)
{
	return std::all_of(bytes, bytes + n, [=](std::uint8_t byte) { return byte == value; });
}

//
// 8: windows cannot be pinned at all, so nothing is ever in the way of a lock.
//

// Attempts to get references to pages of a window that outlive the call; -errno of each.
std::vector<long> pin_attempts(std::uint8_t* where)
{
	std::vector<long> results;
	const Fd disk(::open("/dev/vda", O_RDWR | O_DIRECT));
	results.push_back(disk < 0 ? -errno * 1000 : ::read(disk, where, page) < 0 ? -errno : 0);
	results.push_back(::pwrite(disk, where, page, 0) < 0 ? -errno : 0);

	int ends[2];
	if (::pipe(ends) < 0)
		return {};
	const Fd out(ends[0]), in(ends[1]);
	const iovec vector = {where, page};
	for (const unsigned flags : {0u, static_cast<unsigned>(SPLICE_F_GIFT)})
		results.push_back(::vmsplice(in, &vector, 1, flags | SPLICE_F_NONBLOCK) < 0 ? -errno : 0);

	io_uring ring;
	if (::io_uring_queue_init(4, &ring, 0) < 0)
		return {};
	results.push_back(::io_uring_register_buffers(&ring, &vector, 1));
	io_uring_prep_read(io_uring_get_sqe(&ring), disk, where, page, 0);
	::io_uring_submit(&ring);
	io_uring_cqe* done = nullptr;
	results.push_back(::io_uring_wait_cqe(&ring, &done) == 0 ? done->res : 0);
	::io_uring_queue_exit(&ring);
	return results;
}

TEST(Rule08PinnedPages, AWindowCannotBePinned)
{
	for (const bool touched : {false, true}) {
		Pair pair;
		const fbufs_buffer buffer = alloc_one(pair.channel.sender);
		if (touched)
			std::memset(pair.from.at(buffer), 3, page);
		EXPECT_EQ(pin_attempts(pair.from.at(buffer)), std::vector<long>(6, -EFAULT));
		ASSERT_EQ(pair.send_pages(buffer), 1);
		const Received received(pair.channel.receiver);
		EXPECT_TRUE(received.message.flags & FBUFS_MESSAGE_LOCKED);
		EXPECT_TRUE(all_are(pair.window.at(buffer.position), page, touched ? 3 : 0));
		EXPECT_EQ(pin_attempts(pair.from.at(buffer)), std::vector<long>(6, -EFAULT)) << "locked";
		EXPECT_TRUE(all_are(pair.window.at(buffer.position), page, touched ? 3 : 0));
	}
}

TEST(Rule08PinnedPages, TheAttemptsWorkOnOtherMemory)
{
	auto* plain = static_cast<std::uint8_t*>(
		::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	const auto results = pin_attempts(plain);
	ASSERT_EQ(results.size(), 6u);
	for (const long result : results)
		EXPECT_GE(result, 0);
	::munmap(plain, page);
}

//
// 9
//

TEST(Rule09WhatReceiversSee, NothingBeforeTheSend)
{
	for (const std::uint32_t flags : {0u, FBUFS_CHANNEL_UNCACHED | 0u}) {
		Pair pair(flags);
		const fbufs_buffer unbound = alloc_one(pair.from.domain);
		const Fd third = open_domain();
		const Channel other(pair.from.domain, third);
		const fbufs_buffer others = alloc_one(other.sender);
		for (const fbufs_buffer& buffer : {unbound, others}) {
			*pair.from.at(buffer) = 1;
			EXPECT_TRUE(load_faults(pair.window.at(buffer.position)));
		}
		ASSERT_EQ(send_one(other.sender, others.fbuf, 0, page), 1);
		EXPECT_TRUE(load_faults(pair.window.at(others.position))) << "sent to somebody else";
	}
}

TEST(Rule09WhatReceiversSee, UncachedOnlyWhatIsHeld)
{
	Pair pair(FBUFS_CHANNEL_UNCACHED);
	const fbufs_buffer buffer = pair.fill(1, 4);
	const volatile std::uint8_t* where = pair.window.at(buffer.position);
	ASSERT_EQ(send_one(pair.channel.sender, buffer.fbuf, page + 10, 10), 1);
	EXPECT_TRUE(load_faults(where + page)) << "queued, not received";
	const Received received(pair.channel.receiver);
	EXPECT_TRUE(load_faults(where));
	EXPECT_FALSE(load_faults(where + page));
	EXPECT_TRUE(load_faults(where + 2 * page));
	EXPECT_TRUE(load_faults(where + 3 * page));
	EXPECT_EQ(where[page + 10], 1);
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {received.handle()}), 1);
	EXPECT_TRUE(load_faults(where + page)) << "released";
	EXPECT_EQ(detail::fault_address, where + page);
}

TEST(Rule09WhatReceiversSee, CachedWhatIsOfTheChannelUntilItsEndCloses)
{
	Pair pair;
	const fbufs_buffer buffer = pair.fill(1);
	pair.pass(buffer);
	EXPECT_FALSE(load_faults(pair.window.at(buffer.position)));
	pair.channel.receiver.reset();
	EXPECT_TRUE(load_faults(pair.window.at(buffer.position)));
}

TEST(Rule09WhatReceiversSee, WhatIsStillHeldOutlivesTheEnd)
{
	for (const std::uint32_t flags : {0u, FBUFS_CHANNEL_UNCACHED | 0u}) {
		Pair pair(flags);
		const fbufs_buffer held = pair.fill(1), gone = pair.fill(2);
		ASSERT_EQ(pair.send_pages(held), 1);
		ASSERT_EQ(pair.send_pages(gone), 1);
		const Received first(pair.channel.receiver), second(pair.channel.receiver);
		EXPECT_EQ(*pair.window.at(held.position), 1);
		EXPECT_EQ(*pair.window.at(gone.position), 2);
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {second.handle()}), 1);
		pair.channel.receiver.reset();
		EXPECT_FALSE(load_faults(pair.window.at(held.position)));
		EXPECT_TRUE(load_faults(pair.window.at(gone.position)));
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {first.handle()}), 1);
		EXPECT_TRUE(load_faults(pair.window.at(held.position)));
	}
}

TEST(Rule09WhatReceiversSee, AnotherChannelGetsFreshPages)
{
	constexpr std::uint32_t pages = 8;
	Pair pair(0, pages * page);
	const Fd third = open_domain();
	const Channel other(pair.from.domain, third);
	const Window window(third, pair.from.pool.out_pool, pair.from.pool.out_span, PROT_READ);

	std::vector<fbufs_buffer> old;
	for (std::uint32_t i = 0; i < pages; i++)
		old.push_back(pair.fill(0xaa));
	for (const fbufs_buffer& buffer : old) {
		pair.pass(buffer);
		EXPECT_EQ(*pair.window.at(buffer.position), 0xaa);
	}
	// The pool is full of the first channel's fbufs: one must move.
	const fbufs_buffer moved = alloc_one(other.sender);
	ASSERT_NE(moved.fbuf, 0u);
	EXPECT_TRUE(all_are(pair.from.at(moved), page, 0));
	*pair.from.at(moved) = 0xbb;
	ASSERT_EQ(send_one(other.sender, moved.fbuf, 0, page), 1);
	const Received received(other.receiver);
	EXPECT_EQ(*window.at(moved.position), 0xbb);
	EXPECT_TRUE(all_are(window.at(moved.position) + 1, page - 1, 0));
	EXPECT_TRUE(load_faults(pair.window.at(moved.position)));
	int visible = 0;
	for (const fbufs_buffer& buffer : old)
		visible += !load_faults(pair.window.at(buffer.position));
	EXPECT_EQ(visible, static_cast<int>(pages) - 1);
	for (const fbufs_buffer& buffer : old)
		EXPECT_EQ(load_faults(window.at(buffer.position)), buffer.position != moved.position);
}

TEST(Rule09WhatReceiversSee, PagesAreZeroBeforeAnybodySeesThem)
{
	Pair pair;
	for (const int fd : {pair.from.domain.get(), pair.channel.sender.get()})
		for (const std::uint32_t pages : {1u, 3u, 16u}) {
			const fbufs_buffer buffer = alloc_one(fd, pages * page);
			ASSERT_NE(buffer.fbuf, 0u);
			EXPECT_TRUE(all_are(pair.from.at(buffer), pages * page, 0));
			std::memset(pair.from.at(buffer), 0xcc, pages * page);
			ASSERT_EQ(handles(pair.from.domain, FBUFS_FREE, {buffer.fbuf}), 1);
		}
	// Without a channel they may go to any, later: zero again.
	for (const std::uint32_t pages : {1u, 3u, 16u}) {
		const fbufs_buffer buffer = alloc_one(pair.from.domain, pages * page);
		EXPECT_TRUE(all_are(pair.from.at(buffer), pages * page, 0));
		ASSERT_EQ(send_one(pair.channel.sender, buffer.fbuf, 0, 1), 1);
		const Received received(pair.channel.receiver);
		EXPECT_TRUE(all_are(pair.window.at(buffer.position), pages * page, 0));
	}
}

TEST(Rule09WhatReceiversSee, NoReferenceOutlivesTheRelease)
{
	Pair pair(FBUFS_CHANNEL_UNCACHED);
	const fbufs_buffer buffer = pair.fill(1);
	ASSERT_EQ(pair.send_pages(buffer), 1);
	const Received received(pair.channel.receiver);
	std::uint8_t* where = pair.window.at(buffer.position);
	EXPECT_EQ(*where, 1);
	EXPECT_EQ(pin_attempts(where), std::vector<long>(6, -EFAULT));
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {received.handle()}), 1);
	EXPECT_EQ(pin_attempts(where), std::vector<long>(6, -EFAULT));
}

TEST(Rule09WhatReceiversSee, OnlyPoolsThatHaveToDoWithThem)
{
	Pair pair;
	const Fd stranger = open_domain();
	EXPECT_EQ(Window(stranger, pair.from.pool.out_pool, pair.from.pool.out_span, PROT_READ).error(), ENOENT);
	EXPECT_EQ(Window(stranger, 0x7fff, pair.from.pool.out_span, PROT_READ).error(), ENOENT);
	fbufs_pool_info info = {};
	info.size = sizeof(info);
	info.pool = pair.from.pool.out_pool;
	EXPECT_EQ(call(stranger, FBUFS_POOL_INFO, info), -ENOENT);
	EXPECT_EQ(call(pair.to, FBUFS_POOL_INFO, info), 0);
	EXPECT_EQ(info.out_span, pair.from.pool.out_span);

	// With the domain's descriptor, its receiver's window shows nothing any more.
	const fbufs_buffer buffer = pair.fill(1);
	ASSERT_EQ(pair.send_pages(buffer), 1);
	ASSERT_EQ(Received(pair.channel.receiver).result, 1);
	EXPECT_EQ(*pair.window.at(buffer.position), 1);
	pair.to.reset();
	EXPECT_TRUE(load_faults(pair.window.at(buffer.position)));
	EXPECT_EQ(locate(pair.from.domain, buffer.position).out_state, FBUFS_STATE_FREE);
}

//
// 10
//

// The flags that the kernel reports for the mapping at an address.
std::string mapping_flags(const void* where)
{
	char begin[32];
	std::snprintf(begin, sizeof(begin), "%lx-", reinterpret_cast<unsigned long>(where));
	std::ifstream maps("/proc/self/smaps");
	bool found = false;
	for (std::string line; std::getline(maps, line);) {
		found |= line.starts_with(begin);
		if (found && line.starts_with("VmFlags:"))
			return line.substr(8) + " ";
	}
	return "";
}

TEST(Rule10ReadOnlyForGood, AReceiversWindow)
{
	Pair pair;
	const Fd third = open_domain();
	Fd receiver;
	ASSERT_EQ(add_receiver(pair.channel.sender, receiver), 0);
	ASSERT_EQ(attach(receiver, third), 0);
	const std::uint32_t pool = pair.from.pool.out_pool;
	const std::size_t span = pair.from.pool.out_span;
	EXPECT_EQ(Window(third, pool, span, PROT_READ | PROT_WRITE).error(), EACCES);
	EXPECT_EQ(Window(third, pool, span, PROT_WRITE).error(), EACCES);
	EXPECT_EQ(Window(third, pool, span, PROT_READ | PROT_EXEC).error(), EACCES);
	EXPECT_EQ(Window(third, pool, span, PROT_NONE).error(), EACCES);
	const std::string flags = mapping_flags(pair.window.base());
	ASSERT_NE(flags, "");
	for (const char* absent : {" wr ", " mw ", " ex ", " me "})
		EXPECT_EQ(flags.find(absent), std::string::npos) << flags;
	for (const char* present : {" rd ", " sh ", " dc ", " de ", " dd ", " pf ", " io "})
		EXPECT_NE(flags.find(present), std::string::npos) << flags << " lacks" << present;
	EXPECT_EQ(::mprotect(pair.window.base(), span, PROT_READ | PROT_WRITE), -1);
	EXPECT_EQ(errno, EACCES);
}

TEST(Rule10ReadOnlyForGood, ASecondDomainOfTheOriginatorIsAReceiverToo)
{
	Pair pair;
	EXPECT_EQ(pair.window.error(), 0);
	EXPECT_EQ(Window(pair.to, pair.from.pool.out_pool, pair.from.pool.out_span, PROT_READ).error(), EEXIST);
	pair.window = Window();
	EXPECT_EQ(Window(pair.to, pair.from.pool.out_pool, pair.from.pool.out_span, PROT_READ | PROT_WRITE).error(),
		  EACCES);
}

TEST(Rule10ReadOnlyForGood, AWindowIsTheWholePoolShared)
{
	Originator from;
	from.window = Window();
	const std::size_t span = from.pool.out_span;
	const auto map = [&](std::size_t bytes, int flags, std::uint64_t offset) {
		void* place = ::mmap(nullptr, bytes, PROT_READ, flags, from.domain,
				     static_cast<off_t>(FBUFS_POOL_OFFSET(from.pool.out_pool) + offset));
		if (place != MAP_FAILED)
			::munmap(place, bytes);
		return place == MAP_FAILED ? errno : 0;
	};
	EXPECT_EQ(map(span, MAP_PRIVATE, 0), EINVAL);
	EXPECT_EQ(map(span - page, MAP_SHARED, 0), EINVAL);
	EXPECT_EQ(map(span + page, MAP_SHARED, 0), EINVAL);
	EXPECT_EQ(map(span, MAP_SHARED, page), EINVAL);
	EXPECT_EQ(map(span - page, MAP_SHARED, page), EINVAL);
	EXPECT_EQ(map(span, MAP_SHARED, 0), 0);
}

//
// 11
//

TEST(Rule11VolatileMode, ExpectChangeUntilItIsSecured)
{
	Pair pair(FBUFS_CHANNEL_VOLATILE);
	Fd second;
	ASSERT_EQ(add_receiver(pair.channel.sender, second), 0);
	ASSERT_EQ(attach(second, pair.to), 0);
	const fbufs_buffer buffer = pair.fill(1);
	ASSERT_EQ(pair.send_pages(buffer), 1);
	const Received received(pair.channel.receiver);
	EXPECT_FALSE(received.message.flags & FBUFS_MESSAGE_LOCKED);
	const volatile std::uint8_t* seen = pair.window.at(buffer.position);
	EXPECT_EQ(*seen, 1);
	*pair.from.at(buffer) = 2;
	EXPECT_EQ(*seen, 2);

	const auto locks = counters(pair.to)[FBUFS_COUNT_LOCKS];
	EXPECT_EQ(handles(pair.to, FBUFS_SECURE, {received.handle()}), 1);
	EXPECT_EQ(counters(pair.to)[FBUFS_COUNT_LOCKS], locks + 1);
	EXPECT_TRUE(store_faults(pair.from.at(buffer)));
	EXPECT_EQ(detail::fault_address, pair.from.at(buffer));
	EXPECT_EQ(*seen, 2);
	EXPECT_EQ(*pair.from.at(buffer), 2);

	// Again: no harm, no work. And the other receiver is told.
	const auto flushes = counters(pair.from.domain)[FBUFS_COUNT_TLB_FLUSHES];
	EXPECT_EQ(handles(pair.to, FBUFS_SECURE, {received.handle()}), 1);
	EXPECT_EQ(counters(pair.from.domain)[FBUFS_COUNT_TLB_FLUSHES], flushes);
	const Received other(second);
	EXPECT_TRUE(other.message.flags & FBUFS_MESSAGE_LOCKED);
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {received.handle()}), 1);
	EXPECT_TRUE(store_faults(pair.from.at(buffer))) << "the other one still holds it";
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {other.handle()}), 1);

	// At home the lock is gone.
	EXPECT_EQ(alloc_one(pair.channel.sender).position, buffer.position);
	EXPECT_FALSE(store_faults(pair.from.at(buffer)));
}

TEST(Rule11VolatileMode, SendingOnOverASecureChannelLocks)
{
	Pair pair(FBUFS_CHANNEL_VOLATILE);
	const Fd third = open_domain();
	const Channel onward(pair.to, third);
	const fbufs_buffer buffer = pair.fill(1);
	ASSERT_EQ(pair.send_pages(buffer), 1);
	const Received received(pair.channel.receiver);
	fbufs_message message = {};
	message.slices = 1;
	fbufs_slice slice = received.slices[0];
	slice.hold = received.handle();
	ASSERT_EQ(send(onward.sender, {message}, {slice}), 1);
	EXPECT_TRUE(store_faults(pair.from.at(buffer)));
	EXPECT_TRUE(Received(onward.receiver).message.flags & FBUFS_MESSAGE_LOCKED);
}

} // namespace
