// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// sender::call(): what it does is what send() and receive() do, one after the other.

#include <fbuf/fbuf.hpp>

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <array>
#include <csignal>
#include <thread>

namespace {

using namespace std::chrono_literals;

// A domain that sends to itself on one channel, and has the answers on another.
struct Both {
	fbuf::domain domain = *fbuf::domain::open();
	fbuf::pool pool = *domain.create_pool(4 << 20);
	fbuf::sender ask, reply;
	fbuf::receiver asked, replied;
	std::array<fbuf::message, 1> answer;

	explicit Both(std::uint32_t depth = 64)
	{
		auto [sender, end] = *domain.create_channel({.depth = depth});
		ask = std::move(sender);
		asked = *domain.attach_receiver(std::move(end));
		auto [other, other_end] = *domain.create_channel({.depth = depth});
		reply = std::move(other);
		replied = *domain.attach_receiver(std::move(other_end));
	}
	static fbuf::buffer marked(fbuf::sender& by, int mark)
	{
		auto buffer = *by.allocate(4096);
		buffer.data()[0] = static_cast<std::byte>(mark);
		return buffer;
	}
	// How many messages were received, or -errno.
	long call(fbuf::buffer& buffer)
	{
		const auto done = ask.call(std::move(buffer), 1, 0, replied, answer);
		return done ? static_cast<long>(*done) : -static_cast<long>(done.error().value());
	}
	void answer_with(int mark) { reply.send(marked(reply, mark), 1).value(); }
};

int mark_of(const fbuf::message& message)
{
	return std::to_integer<int>(message.data()[0]);
}

// A handler of what uapi::Blocked disturbs calls with, which sets one of its own first.
void handle_signals(int flags)
{
	struct sigaction action = {};
	action.sa_handler = [](int) {};
	action.sa_flags = flags;
	::sigaction(SIGUSR1, &action, nullptr);
}

// Both sides call each other; each answer is that of its question, and nothing is left of them. They know each other by
// their cookies: that a thread may read what another one wrote before it sent it, ThreadSanitizer cannot know.
TEST(LibCall, AsksAndAnswers)
{
	constexpr std::uint64_t rounds = 500;
	Both both;
	std::thread server([&] {
		std::array<fbuf::message, 1> question;
		ASSERT_EQ(both.asked.receive(question).value_or(0), 1u);
		for (std::uint64_t i = 0; i < rounds; i++) {
			ASSERT_EQ(question[0].cookie(), 2 * i);
			const auto next =
				both.reply.call(*both.reply.allocate(4096), 1, 2 * i + 1, both.asked, question);
			ASSERT_EQ(next.has_value(), i + 1 < rounds);
			if (!next) {
				ASSERT_EQ(next.error(), fbuf::errc::end_of_stream);
			}
		}
	});
	for (std::uint64_t i = 0; i < rounds; i++) {
		auto question = *both.ask.allocate(4096);
		ASSERT_EQ(both.ask.call(std::move(question), 1, 2 * i, both.replied, both.answer).value_or(0), 1u);
		ASSERT_FALSE(question) << "it was sent";
		ASSERT_EQ(both.answer[0].cookie(), 2 * i + 1);
		ASSERT_TRUE(both.answer[0].locked());
	}
	both.ask = {};
	server.join();
	const auto counts = *both.domain.count();
	EXPECT_EQ(counts.messages_sent, 2u * rounds);
	EXPECT_EQ(counts.bytes_copied, 0u);
}

TEST(LibCall, RefusedItLeavesTheBuffer)
{
	Both both;
	auto buffer = Both::marked(both.ask, 1);
	fbuf::receiver none;
	EXPECT_EQ(both.ask.call(std::move(buffer), 1, 0, none, both.answer).error(), std::errc::invalid_argument);
	EXPECT_TRUE(buffer);
	for (const std::size_t length : {std::size_t{0}, buffer.size() + 1}) {
		EXPECT_EQ(both.ask.call(std::move(buffer), length, 0, both.replied, both.answer).error(),
			  std::errc::result_out_of_range);
		EXPECT_TRUE(buffer);
	}
	both.asked = {};
	EXPECT_EQ(both.ask.call(std::move(buffer), 1, 0, both.replied, both.answer).error(), std::errc::broken_pipe);
	EXPECT_TRUE(buffer);
	EXPECT_EQ(buffer.data()[0], std::byte{1});
}

// What @p out held before is released with the call, also with one whose receive fails, and kept by one that is
// refused.
TEST(LibCall, ReleasesWhatWasThere)
{
	Both both;
	both.answer_with(1);
	ASSERT_EQ(*both.replied.receive(both.answer), 1u);
	both.answer_with(2);
	ASSERT_EQ(*both.ask.call(Both::marked(both.ask, 3), 1, 0, both.replied, both.answer), 1u);
	EXPECT_EQ(mark_of(both.answer[0]), 2);
	EXPECT_EQ(both.domain.count()->releases, 1u);
	ASSERT_TRUE(both.replied.set_nonblocking(true));
	auto buffer = Both::marked(both.ask, 4);
	EXPECT_EQ(both.ask.call(std::move(buffer), 1, 0, both.replied, both.answer).error(),
		  std::errc::resource_unavailable_try_again);
	EXPECT_FALSE(buffer) << "it was sent, and then there was no answer";
	EXPECT_EQ(both.domain.count()->releases, 2u);
	both.asked = {};
	both.answer_with(5);
	ASSERT_EQ(*both.replied.receive(both.answer), 1u);
	buffer = Both::marked(both.reply, 6);
	EXPECT_EQ(both.ask.call(std::move(buffer), 1, 0, both.replied, both.answer).error(), std::errc::broken_pipe);
	EXPECT_TRUE(buffer);
	EXPECT_EQ(both.domain.count()->releases, 2u);
	EXPECT_EQ(mark_of(both.answer[0]), 5) << "still held, and read";
	both.answer[0].release();
	EXPECT_TRUE(both.replied.wait(0ms)) << "flushes releases";
	EXPECT_EQ(both.domain.count()->releases, 3u);
}

// Longer than the receiver has prepared for: it looks again, and the question is asked once.
TEST(LibCall, AnAnswerOfManySlices)
{
	Both both;
	fbuf::aggregate parts;
	for (int i = 0; i < 100; i++)
		ASSERT_TRUE(parts.append(Both::marked(both.reply, i), 0, 1));
	ASSERT_TRUE(both.reply.send({&parts, 1}));
	ASSERT_EQ(*both.ask.call(Both::marked(both.ask, 1), 1, 0, both.replied, both.answer), 1u);
	ASSERT_EQ(both.answer[0].slices().size(), 100u);
	for (int i = 0; i < 100; i++)
		EXPECT_EQ(both.answer[0].slices()[static_cast<std::size_t>(i)].data[0], static_cast<std::byte>(i));
	EXPECT_EQ(both.asked.end().info()->queued, 1u);
}

TEST(LibCall, WhatIsToBeCopiedIs)
{
	Both both;
	both.ask.copy_below(100);
	both.answer_with(1);
	auto buffer = Both::marked(both.ask, 2);
	ASSERT_EQ(*both.ask.call(std::move(buffer), 50, 0, both.replied, both.answer), 1u);
	EXPECT_EQ(both.domain.count()->bytes_copied, 50u);
	EXPECT_EQ(mark_of(*both.asked.receive()), 2);
}

// With a handler that restarts, signals are not seen; with another one the wait ends, and the question was asked.
TEST(Signals, CallSaysWhatWasSent)
{
	for (const int flags : {SA_RESTART, 0}) {
		Both both;
		auto buffer = Both::marked(both.ask, 1);
		uapi::Blocked call([&] { return both.call(buffer); });
		handle_signals(flags);
		EXPECT_TRUE(call.waits());
		if (flags) {
			for (int i = 0; i < 10; i++)
				call.signal();
			EXPECT_TRUE(call.waits());
			both.answer_with(2);
			EXPECT_EQ(call.result(), 1);
		} else {
			call.interrupt();
			EXPECT_EQ(call.result(), -EINTR);
		}
		EXPECT_FALSE(buffer);
		EXPECT_EQ(both.asked.end().info()->queued, 1u) << "asked once";
	}
}

// While it waits for room nothing was sent: the call is made again after a handler that restarts, and sends once; after
// another one the buffer is still the caller's.
TEST(Signals, CallThatWaitsForRoomSendsOnce)
{
	for (const int flags : {SA_RESTART, 0}) {
		Both both(2);
		for (int i = 0; i < 2; i++)
			ASSERT_TRUE(both.ask.send(Both::marked(both.ask, i), 1));
		both.answer_with(9);
		auto buffer = Both::marked(both.ask, 2);
		uapi::Blocked call([&] { return both.call(buffer); });
		handle_signals(flags);
		EXPECT_TRUE(call.waits());
		if (!flags) {
			call.interrupt();
			EXPECT_EQ(call.result(), -EINTR);
			EXPECT_TRUE(buffer);
			EXPECT_EQ(both.asked.end().info()->queued, 2u);
			continue;
		}
		for (int i = 0; i < 10; i++)
			call.signal();
		EXPECT_TRUE(call.waits());
		for (int i = 0; i < 3; i++)
			EXPECT_EQ(mark_of(*both.asked.receive()), i);
		EXPECT_EQ(call.result(), 1);
		EXPECT_FALSE(buffer);
		EXPECT_EQ(both.asked.end().info()->queued, 0u) << "sent once";
	}
}

} // namespace
