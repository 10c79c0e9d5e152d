// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// When a domain polls POLLIN: there is a completion, or an operation that can go on, and never without.

#include "support/io.hpp"

#include <sys/epoll.h>

namespace {

using namespace uapi;

constexpr std::size_t bytes = 2 * page;

class IoPoll : public IoTest {
protected:
	Actor actor{4 << 20};
	fbufs_buffer buffer = actor.filled(bytes, 3);

	std::vector<fbufs_slice> all() const { return {slice_of(buffer.fbuf, 0, bytes)}; }
	// Sleeps in poll until @event, which has to wake it.
	void expect_wakes(const char* what, const std::function<void()>& event)
	{
		EXPECT_FALSE(polls(actor.domain, POLLIN, 20)) << what;
		Blocked polling([&] { return polls(actor.domain, POLLIN, 4000); });
		EXPECT_TRUE(polling.waits(50)) << what;
		event();
		EXPECT_EQ(polling.result(), 1) << what;
		EXPECT_TRUE(polls(actor.domain, POLLIN)) << what << ": and stays so";
	}
};

TEST_F(IoPoll, NothingIsNoNews)
{
	EXPECT_EQ(poll_events(actor.domain), POLLOUT);
	const Fd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
	ASSERT_EQ(submit(actor.domain, write_op(null), all()), 1);
	EXPECT_TRUE(polls(actor.domain, POLLIN));
	EXPECT_EQ(finish_one(actor.domain).cookie, 1u);
	EXPECT_EQ(poll_events(actor.domain), POLLOUT) << "told";
}

TEST_F(IoPoll, WithoutAPool)
{
	const Fd domain = open_domain();
	EXPECT_EQ(poll_events(domain), 0);
}

class IoPollKind : public IoPoll, public testing::WithParamInterface<Kind> {};

TEST_P(IoPollKind, WhatCanBeRead)
{
	const Ends ends = GetParam().make();
	ASSERT_EQ(submit(actor.domain, read_op(ends.out, page)), 1);
	expect_wakes("bytes", [&] { ASSERT_EQ(::write(ends.in, "abc", 3), 3); });
	EXPECT_EQ(Call(actor.domain, {}, {}).done.size(), 1u) << "it goes on in the call";
	EXPECT_FALSE(polls(actor.domain, POLLIN));
}

TEST_P(IoPollKind, WhatEnded)
{
	if (!GetParam().stream)
		return;
	Ends ends = GetParam().make();
	ASSERT_EQ(submit(actor.domain, read_op(ends.out, page)), 1);
	expect_wakes("end", [&] { ends.in.reset(); });
	EXPECT_EQ(finish_one(actor.domain).flags, FBUFS_IO_END);
}

// References that nothing tells about.
TEST_P(IoPollKind, WhatCameBack)
{
	if (!GetParam().references)
		return;
	const Ends ends = GetParam().make();
	ASSERT_EQ(submit(actor.domain, write_op(ends.in), all()), 1);
	Bytes seen;
	expect_wakes("read", [&] { seen = read_some(ends.out, bytes); });
	EXPECT_TRUE(seen == pattern(bytes, 3));
	EXPECT_EQ(Call(actor.domain, {}, {}).done.size(), 1u);
}

TEST_P(IoPollKind, GivenIsCompleteWhenAccepted)
{
	const Ends ends = GetParam().make();
	ASSERT_EQ(submit(actor.domain, write_op(ends.in, 1, 1, FBUFS_IO_GIVE), all()), 1);
	EXPECT_TRUE(polls(actor.domain, POLLIN));
	EXPECT_EQ(finish_one(actor.domain).cookie, 1u);
	EXPECT_FALSE(polls(actor.domain, POLLIN, 20)) << "its way home is no news";
	EXPECT_TRUE(read_some(ends.out, bytes) == pattern(bytes, 3));
	EXPECT_FALSE(polls(actor.domain, POLLIN, 50)) << "nor is its coming";
	EXPECT_TRUE(actor.becomes(buffer, FBUFS_STATE_FREE));
}

INSTANTIATE_TEST_SUITE_P(Of, IoPollKind, testing::ValuesIn(kinds),
			 [](const auto& test) { return std::string(test.param.name); });

TEST_F(IoPoll, RoomForMore)
{
	for (const auto& make : {+[] { return make_pipe(); }, make_unix_stream, make_tcp4}) {
		const fbufs_buffer large = actor.filled(1 << 20);
		std::vector<fbufs_slice> slices;
		for (std::uint32_t at = 0; at < 1 << 20; at += 1 << 14)
			slices.push_back(slice_of(large.fbuf, at, 1 << 14));
		const Ends ends = make();
		int small = 1 << 17;
		(void)::setsockopt(ends.in, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		(void)::setsockopt(ends.out, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
		ASSERT_EQ(submit(actor.domain, write_op(ends.in, 1, 64), slices), 1);
		// TCP takes some more as it finds out how much there may be on the way.
		do
			ASSERT_TRUE(finish(actor.domain, 1, 50).empty());
		while (polls(actor.domain, POLLIN, 50));
		std::size_t got = 0;
		expect_wakes("room", [&] {
			while (polls(ends.out, POLLIN, 50))
				got += read_some(ends.out, 1 << 16).size();
		});
		EXPECT_LT(got, 1u << 20) << "it went on without a call";
		std::vector<Done> done;
		EXPECT_EQ(pump(actor.domain, ends.out, (1 << 20) - got, done).size(), (1 << 20) - got);
		EXPECT_EQ(done.size() + (done.empty() ? finish(actor.domain, 1).size() : 0), 1u);
		EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {large.fbuf}), 1);
	}
}

TEST_F(IoPoll, Cancelled)
{
	const Ends pipe = make_pipe();
	ASSERT_EQ(submit(actor.domain, read_op(pipe.out, page)), 1);
	expect_wakes("cancel", [&] { EXPECT_EQ(cancel(actor.domain, 1), 1); });
	EXPECT_EQ(finish_one(actor.domain).result, -ECANCELED);
}

// One that waits for another on the same descriptor is no news until that one is done.
TEST_F(IoPoll, BehindAnother)
{
	const Ends pipe = make_pipe();
	ASSERT_EQ(submit(actor.domain, read_op(pipe.out, 10, 1)), 1);
	ASSERT_EQ(submit(actor.domain, read_op(pipe.out, 10, 2)), 1);
	EXPECT_FALSE(polls(actor.domain, POLLIN, 50));
	expect_wakes("cancel of the first", [&] { EXPECT_EQ(cancel(actor.domain, 1), 1); });
	EXPECT_EQ(finish_one(actor.domain).cookie, 1u);
	expect_wakes("bytes for the second", [&] { ASSERT_EQ(::write(pipe.in, "abc", 3), 3); });
	EXPECT_EQ(finish_one(actor.domain).cookie, 2u);
}

TEST_F(IoPoll, EpollOnceAndEdges)
{
	const Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
	epoll_event event = {EPOLLIN | EPOLLET, {}}, got = {};
	ASSERT_EQ(::epoll_ctl(epoll, EPOLL_CTL_ADD, actor.domain, &event), 0);
	EXPECT_EQ(::epoll_wait(epoll, &got, 1, 20), 0);
	const Ends ends = make_tcp4();
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(submit(actor.domain, read_op(ends.out, page)), 1);
		while (::epoll_wait(epoll, &got, 1, 0) > 0)
			;
		ASSERT_EQ(::write(ends.in, "abc", 3), 3);
		ASSERT_EQ(::epoll_wait(epoll, &got, 1, 3000), 1) << i;
		EXPECT_TRUE(got.events & EPOLLIN);
		EXPECT_EQ(finish_one(actor.domain).result, 3);
	}
}

// Whoever waits in the call hears the same.
TEST_F(IoPoll, WaitingCalls)
{
	const Ends ends = make_unix_stream(), pipe = make_pipe();
	ASSERT_EQ(submit(actor.domain, read_op(ends.out, page, 1)), 1);
	ASSERT_EQ(submit(actor.domain, write_op(pipe.in, 2), all()), 1);
	Blocked both([&] { return static_cast<long>(Call(actor.domain, {}, {}, 2).done.size()); });
	EXPECT_TRUE(both.waits());
	ASSERT_EQ(::write(ends.in, "abc", 3), 3);
	EXPECT_TRUE(both.waits()) << "one of two";
	EXPECT_TRUE(read_some(pipe.out, bytes) == pattern(bytes, 3));
	EXPECT_EQ(both.result(), 2);
}

} // namespace
