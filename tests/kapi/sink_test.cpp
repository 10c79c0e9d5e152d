// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The kernel as receiver, and what it does with drivers that misuse it.
#include "driver.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <chrono>

using namespace kapi;

namespace {

struct Sink : testing::Test {
	Originator me;
	ToDriver questions;
	FromDriver answers{me.domain};
	Fd driver = open_driver("sink");

	explicit Sink(std::uint32_t flags = 0) : questions(me.domain, flags) {}
	long begin() { return start(driver, wanted(me.domain, answers.sender, questions.receiver)); }

	// The answer to the message with this cookie.
	fbufs_answer answer(std::uint64_t cookie)
	{
		const Received got(answers.receiver, 0);
		EXPECT_EQ(got.result, 1);
		EXPECT_EQ(got.message.cookie, cookie);
		if (got.result != 1)
			return {};
		fbufs_answer copy;
		std::memcpy(&copy, me.window.at(got.slices[0].position), sizeof(copy));
		EXPECT_EQ(handles(me.domain, FBUFS_RELEASE, {got.handle()}), 1);
		return copy;
	}

	// Fill an fbuf for the sink with something.
	fbufs_buffer fill(std::uint64_t bytes, unsigned seed)
	{
		const fbufs_buffer buffer = alloc_one(questions.sender, bytes);
		for (std::uint64_t i = 0; i < bytes; i++)
			me.at(buffer)[i] = static_cast<std::uint8_t>(i * 31 + i / 256 + seed);
		return buffer;
	}
};

struct VolatileSink : Sink {
	VolatileSink() : Sink(FBUFS_CHANNEL_VOLATILE) {}
};

} // namespace

TEST_F(Sink, AnswersWithWhatItRead)
{
	ASSERT_EQ(begin(), 0);
	std::uint64_t cookie = 1;
	for (const std::uint32_t bytes : {1u, 100u, 4096u, 12288u, 100000u}) {
		const fbufs_buffer buffer = fill(bytes, static_cast<unsigned>(cookie));
		const std::uint64_t expected = hash(me.at(buffer), bytes);
		ASSERT_EQ(send_one(questions.sender, buffer.fbuf, 0, bytes, cookie), 1);
		const fbufs_answer said = answer(cookie);
		EXPECT_EQ(said.length, bytes);
		EXPECT_EQ(said.hash, expected);
		EXPECT_EQ(said.slices, 1u);
		EXPECT_EQ(said.locked, 1u);
		cookie++;
	}
	EXPECT_EQ(status(driver).messages, cookie - 1);
}

TEST_F(Sink, ReadsSlicesInOrder)
{
	ASSERT_EQ(begin(), 0);
	const fbufs_buffer one = fill(12288, 1), two = fill(8192, 2);
	std::vector<std::uint8_t> whole;
	std::vector<fbufs_slice> slices(3);
	slices[0] = {one.fbuf, 0, 0, 4000, 5000};
	slices[1] = {two.fbuf, 0, 0, 1, 8191};
	slices[2] = {one.fbuf, 0, 0, 0, 10};
	for (const fbufs_slice& each : slices) {
		const std::uint8_t* from = me.at(each.fbuf == one.fbuf ? one : two) + each.offset;
		whole.insert(whole.end(), from, from + each.length);
	}
	fbufs_message message = {};
	message.cookie = 7;
	message.slices = 3;
	ASSERT_EQ(send(questions.sender, {message}, slices), 1);
	const fbufs_answer said = answer(7);
	EXPECT_EQ(said.length, whole.size());
	EXPECT_EQ(said.hash, hash(whole.data(), whole.size()));
	EXPECT_EQ(said.slices, 3u);
}

TEST_F(Sink, FbufsComeHomeFromTheKernel)
{
	ASSERT_EQ(begin(), 0);
	const fbufs_buffer buffer = fill(4096, 0);
	ASSERT_EQ(send_one(questions.sender, buffer.fbuf, 0, 4096, 1), 1);
	answer(1);
	EXPECT_TRUE(eventually([&] { return locate(me.domain, buffer.position).out_state == FBUFS_STATE_FREE; }));
	EXPECT_EQ(alloc_one(questions.sender).position, buffer.position);
}

// Rule 11: a volatile message is stable once the kernel secured it.
TEST_F(VolatileSink, IsSecuredBeforeItIsRead)
{
	ASSERT_EQ(begin(), 0);
	for (std::uint64_t i = 0; i < 20; i++) {
		const fbufs_buffer buffer = fill(4096, static_cast<unsigned>(i));
		const std::uint64_t expected = hash(me.at(buffer), 4096);
		ASSERT_EQ(send_one(questions.sender, buffer.fbuf, 0, 4096, i), 1);
		const fbufs_answer said = answer(i);
		EXPECT_EQ(said.hash, expected);
		EXPECT_EQ(said.locked, 1u);
	}
}

TEST_F(Sink, ManyMessages)
{
	ASSERT_EQ(begin(), 0);
	for (std::uint64_t i = 0; i < 500; i++) {
		const fbufs_buffer buffer = alloc_one(questions.sender);
		me.at(buffer)[0] = static_cast<std::uint8_t>(i);
		const std::uint64_t expected = hash(me.at(buffer), 64);
		ASSERT_EQ(send_one(questions.sender, buffer.fbuf, 0, 64, i), 1);
		ASSERT_EQ(answer(i).hash, expected);
	}
	EXPECT_EQ(status(driver).dropped, 0u);
}

TEST_F(Sink, HangUpWhenItStops)
{
	ASSERT_EQ(begin(), 0);
	const fbufs_buffer buffer = fill(4096, 0);
	driver.reset();
	questions.receiver.reset();
	answers.sender.reset();
	EXPECT_TRUE(eventually([&] { return poll_events(questions.sender) & POLLHUP; }));
	EXPECT_EQ(send_one(questions.sender, buffer.fbuf, 0, 1), -EPIPE);
}

// The notice: once for each, when the last receiver has released it, and not before.
TEST_F(Sink, HearsOfEachAnswerThatComesHome)
{
	FromDriver fan(me.domain);
	std::swap(fan, answers);
	Fd second;
	ASSERT_EQ(begin(), 0);
	ASSERT_EQ(add_receiver(answers.sender, second), 0);
	ASSERT_EQ(attach(second, me.domain), 0);
	for (std::uint64_t i = 0; i < 20; i++) {
		const fbufs_buffer buffer = fill(64, static_cast<unsigned>(i));
		ASSERT_EQ(send_one(questions.sender, buffer.fbuf, 0, 64, i), 1);
		const Received one(answers.receiver, 0), two(second, 0);
		ASSERT_EQ(one.result, 1);
		ASSERT_EQ(two.result, 1);
		EXPECT_EQ(status(driver).home, i);
		EXPECT_EQ(handles(me.domain, FBUFS_RELEASE, {one.handle()}), 1);
		EXPECT_EQ(status(driver).home, i);
		EXPECT_EQ(handles(me.domain, FBUFS_RELEASE, {two.handle()}), 1);
		EXPECT_EQ(status(driver).home, i + 1);
		// By then it was home; the source may have it at hand again.
		const fbufs_locate place = locate(me.domain, one.slices[0].position);
		EXPECT_TRUE(place.out_state == FBUFS_STATE_FREE || place.out_fbuf != one.slices[0].fbuf);
	}
}

// To close a source is to wait for what the driver has of it, but not for receivers.
TEST_F(Sink, CloseWaitsForWhatTheDriverHas)
{
	using clock = std::chrono::steady_clock;
	ASSERT_EQ(begin(), 0);
	const fbufs_buffer buffer = fill(64, 1);
	ASSERT_EQ(send_one(questions.sender, buffer.fbuf, 0, 64, 5), 1);
	const Received held(answers.receiver, 0);
	ASSERT_EQ(held.result, 1);
	const auto start = clock::now();
	ASSERT_EQ(::ioctl(driver, FBUFS_SINK_KEEP, 500UL), 0);
	ASSERT_EQ(::ioctl(driver, FBUFS_SAMPLE_STOP), 0);
	EXPECT_GE(clock::now() - start, std::chrono::milliseconds(450));
	fbufs_answer said;
	std::memcpy(&said, me.window.at(held.slices[0].position), sizeof(said));
	EXPECT_EQ(said.length, 64u);
	EXPECT_EQ(handles(me.domain, FBUFS_RELEASE, {held.handle()}), 1);
	// Nobody hears of that any more.
	EXPECT_EQ(status(driver).home, 0u);
}

TEST_F(Sink, BadArguments)
{
	fbufs_sample_start args = wanted(me.domain, answers.sender, questions.sender);
	EXPECT_EQ(start(driver, args), -EBADF);
	FromDriver more(me.domain);
	args = wanted(me.domain, more.sender, -1);
	EXPECT_EQ(start(driver, args), -EBADF);
}

// A message has at most 32 fbufs: one of more is refused with what is behind it, and those are still the driver's.
TEST_F(Sink, RefusesMessagesOfTooManyFbufs)
{
	const Lenient lenient;
	fbufs_sample_start args = wanted(me.domain, answers.sender, questions.receiver);
	// Its ring has 128 places: messages begin everywhere in it.
	args.count = 100;
	ASSERT_EQ(start(driver, args), 0);
	struct Case {
		std::uint32_t fbufs[4];
		std::uint32_t unfinished;
		std::int32_t delivered, freed;
		std::vector<std::size_t> arrive;
	};
	const Case cases[] = {
		{{32}, 0, 32, 0, {32}},
		{{33}, 0, -EMSGSIZE, 33, {}},
		{{33}, 1, -EMSGSIZE, 33, {}},
		{{100}, 0, -EMSGSIZE, 100, {}},
		{{32}, 1, -EINVAL, 32, {}},
		{{31}, 1, -EINVAL, 31, {}},
		{{1, 33}, 0, 1, 33, {1}},
		{{32, 33, 1}, 0, 32, 34, {32}},
		{{33, 1, 1}, 0, -EMSGSIZE, 35, {}},
		{{2, 32, 32, 32}, 0, 98, 0, {2, 32, 32, 32}},
		{{31, 2, 31, 33}, 0, 64, 33, {31, 2, 31}},
	};
	for (int round = 0; round < 10; round++)
		for (const Case& each : cases) {
			SCOPED_TRACE(testing::PrintToString(each.fbufs) + (each.unfinished ? "..." : ""));
			fbufs_delivery asked = {};
			std::ranges::copy(each.fbufs, asked.fbufs);
			asked.unfinished = each.unfinished;
			// What came home is at hand a little later.
			ASSERT_TRUE(eventually([&] { return call(driver, FBUFS_SINK_DELIVER, asked) == 0; }));
			EXPECT_EQ(asked.delivered, each.delivered);
			EXPECT_EQ(asked.freed, each.freed);
			std::uint64_t cookie = 0;
			for (const std::size_t slices : each.arrive) {
				const Received got(answers.receiver);
				ASSERT_EQ(got.result, 1);
				EXPECT_EQ(got.message.cookie, cookie++);
				EXPECT_EQ(got.slices.size(), slices);
				EXPECT_EQ(got.message.length, slices);
				EXPECT_EQ(handles(me.domain, FBUFS_RELEASE, {got.handle()}), 1);
			}
			EXPECT_EQ(Received(answers.receiver).result, -EAGAIN) << "of what was refused, something came";
		}
}

// Double releases, deliveries after it and sleeping where one may not: refused, and nothing breaks.
TEST_F(VolatileSink, RefusesADriverThatMisusesIt)
{
	const Lenient lenient;
	// A kernel that checks locks warns with a stack trace; others have no more than a line in the log.
	utsname kernel = {};
	ASSERT_EQ(::uname(&kernel), 0);
	const bool checks = std::string(kernel.release).contains("debug");
	EXPECT_EQ(lenient.before(), checks ? "Y" : "N");
	ASSERT_EQ(begin(), 0);
	// The sink's own work is after the same fbufs and messages: until the misuse has had each.
	fbufs_misuse said = {};
	const auto misuse = [&] {
		fbufs_misuse now = {};
		ASSERT_EQ(call(driver, FBUFS_SINK_MISUSE, now), 0);
		for (int i = 0; i < FBUFS_MISUSES; i++)
			if (now.result[i])
				said.result[i] = now.result[i];
	};
	const auto done = [&] { return std::ranges::all_of(said.result, [](auto each) { return each != 0; }); };
	for (int i = 0; i < 200 && !done(); i++) {
		misuse();
		std::vector<fbufs_buffer> buffers(32);
		ASSERT_EQ(alloc(questions.sender, page, buffers), 32);
		std::vector<fbufs_message> messages(32);
		std::vector<fbufs_slice> slices(32);
		for (std::size_t j = 0; j < 32; j++) {
			messages[j].slices = 1;
			slices[j] = {buffers[j].fbuf, 0, 0, 0, 4096};
		}
		ASSERT_EQ(send(questions.sender, messages, slices), 32);
		misuse();
		for (Received got(answers.receiver); got.result == 1; got = Received(answers.receiver))
			handles(me.domain, FBUFS_RELEASE, {got.handle()});
	}
	const int expected[FBUFS_MISUSES] = {
		-ENOENT, -ENOENT, -ENOENT, -ENOENT,  -ERANGE,  -ERANGE, -ENOENT,
		-ENOENT, -ENOENT, -ENOENT, -EDEADLK, -EDEADLK, -EINVAL, -ENOENT,
	};
	for (int i = 0; i < FBUFS_MISUSES; i++)
		EXPECT_EQ(said.result[i], expected[i]) << i;
}
