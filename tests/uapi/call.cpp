// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// FBUFS_CALL: messages sent and others received in one call. Whatever is refused before is refused before anything
// is sent, and whatever happens later, out_sent says what was.

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>

namespace {

using namespace uapi;

constexpr std::uint32_t depth = 4;

// A domain, the only one of a process that can originate, and a channel each way: it is on both sides.
struct Caller {
	Originator from{64 * page};
	Channel there{from.domain, from.domain, 0, depth};
	Channel back{from.domain, from.domain, 0, depth};
	fbufs_buffer own = alloc_one(there.sender);

	// What the next call is told; one message to send, room for one.
	std::vector<fbufs_message> messages{1};
	std::vector<fbufs_slice> slices{1};
	std::vector<fbufs_message> answers{1};
	std::vector<fbufs_slice> answer_slices{1};
	std::vector<std::uint64_t> release;
	fbufs_call args = {};

	explicit Caller()
	{
		messages[0].slices = 1;
		messages[0].cookie = 7;
		slices[0].fbuf = own.fbuf;
		slices[0].length = page;
		fill();
	}
	// One more fbuf to send.
	void renew()
	{
		own = alloc_one(there.sender);
		slices[0].fbuf = own.fbuf;
	}
	void fill() { args = call_args(back.receiver, messages, slices, answers, answer_slices, release); }
	long run() { return uapi::call(there.sender, FBUFS_CALL, args); }
	[[nodiscard]] std::uint32_t state() const { return locate(from.domain, own.position).out_state; }
	void answer(std::uint64_t cookie = 9)
	{
		EXPECT_EQ(send_one(back.sender, alloc_one(back.sender).fbuf, 0, 100, cookie), 1);
	}
	// A message that the caller holds.
	std::uint64_t held()
	{
		answer(1);
		return Received(back.receiver).handle();
	}
	[[nodiscard]] std::uint32_t sent() const { return end_info(there.receiver).out_queued; }
	[[nodiscard]] std::uint32_t waiting() const { return end_info(back.receiver).out_queued; }
	// Nothing was sent, released or received, and the fbuf is the caller's.
	void expect_refused(long refusal, const char* what)
	{
		const auto before = gauges(from.domain);
		const std::uint32_t queued = sent(), answered = waiting();
		args.out_sent = args.send.out_refilled = args.receive.out_released = 77;
		EXPECT_EQ(run(), refusal) << what;
		EXPECT_EQ(args.out_sent, 0u) << what;
		EXPECT_EQ(args.send.out_refilled, 0u) << what;
		EXPECT_EQ(args.receive.out_released, 0u) << what;
		EXPECT_EQ(sent(), queued) << what;
		EXPECT_EQ(waiting(), answered) << what;
		EXPECT_EQ(state(), FBUFS_STATE_OWNED) << what;
		EXPECT_EQ(gauges(from.domain), before) << what;
		fill();
	}
	// The queue to the other side gets full.
	void fill_queue()
	{
		for (std::uint32_t i = 0; i < depth; i++)
			EXPECT_EQ(send_one(there.sender, alloc_one(there.sender).fbuf, 0, 1), 1);
	}
};

TEST(Rule12Call, SendsAndReceivesInOneCall)
{
	Caller caller;
	caller.release = {caller.held()};
	caller.answer();
	std::vector<fbufs_buffer> refill(3);
	caller.fill();
	caller.args.send.refill = address(refill.data());
	caller.args.send.refill_bytes = page;
	caller.args.send.refill_count = 3;
	const auto before = counters(caller.from.domain);
	ASSERT_EQ(caller.run(), 1);
	EXPECT_EQ(caller.args.out_sent, 1u);
	EXPECT_EQ(caller.args.send.out_refilled, 3u);
	EXPECT_EQ(caller.args.receive.out_released, 1u);
	EXPECT_EQ(caller.answers[0].cookie, 9u);
	EXPECT_EQ(caller.answers[0].length, 100u);
	EXPECT_EQ(caller.sent(), 1u);
	EXPECT_EQ(caller.waiting(), 0u);
	const auto after = counters(caller.from.domain);
	EXPECT_EQ(after[FBUFS_COUNT_MESSAGES_SENT] - before[FBUFS_COUNT_MESSAGES_SENT], 1u);
	EXPECT_EQ(after[FBUFS_COUNT_MESSAGES_RECEIVED] - before[FBUFS_COUNT_MESSAGES_RECEIVED], 1u);
	EXPECT_EQ(after[FBUFS_COUNT_CALLS] - before[FBUFS_COUNT_CALLS], 2u) << "with the one that asks for it";
	for (const fbufs_buffer& each : refill)
		EXPECT_EQ(handles(caller.from.domain, FBUFS_FREE, {each.fbuf}), 1);
	EXPECT_EQ(handles(caller.from.domain, FBUFS_RELEASE, {caller.answers[0].message}), 1);
	const Received got(caller.there.receiver);
	EXPECT_EQ(got.message.cookie, 7u);
	EXPECT_EQ(handles(caller.from.domain, FBUFS_RELEASE, {got.handle()}), 1);
}

TEST(Rule12Call, TakesVectors)
{
	Caller caller;
	for (std::uint32_t i = 1; i < depth; i++) {
		caller.messages.push_back(caller.messages[0]);
		caller.slices.push_back(caller.slices[0]);
		caller.slices[i].fbuf = alloc_one(caller.there.sender).fbuf;
		caller.answer(i);
	}
	caller.answers.resize(8);
	caller.answer_slices.resize(8);
	caller.fill();
	EXPECT_EQ(caller.run(), depth - 1);
	EXPECT_EQ(caller.args.out_sent, depth);
	EXPECT_EQ(caller.sent(), depth);
	// Nothing to send: it receives.
	caller.answer(5);
	caller.fill();
	caller.args.send.count = 0;
	EXPECT_EQ(caller.run(), 1);
	EXPECT_EQ(caller.args.out_sent, 0u);
}

// Each side is the caller of the other: a thousand questions and answers, each of them the one that belongs to it.
TEST(Rule14Call, WaitsForTheAnswer)
{
	constexpr std::uint64_t rounds = 1000;
	Caller client;
	std::thread server([&] {
		const Received first(client.there.receiver, 0);
		std::vector<std::uint64_t> held = {first.handle()};
		std::vector<fbufs_message> in = {first.message}, out(1);
		std::vector<fbufs_slice> in_slices(1), out_slices(1);
		out[0].slices = 1;
		out_slices[0].length = 8;
		for (std::uint64_t i = 0; i < rounds; i++) {
			out[0].cookie = in[0].cookie + 1;
			out_slices[0].fbuf = alloc_one(client.back.sender).fbuf;
			auto args = call_args(client.there.receiver, out, out_slices, in, in_slices, held);
			ASSERT_EQ(uapi::call(client.back.sender, FBUFS_CALL, args), i + 1 < rounds ? 1 : 0);
			ASSERT_EQ(args.receive.out_released, 1u);
			held[0] = in[0].message;
		}
	});
	std::uint64_t held = 0;
	for (std::uint64_t i = 0; i < rounds; i++) {
		if (i)
			client.slices[0].fbuf = alloc_one(client.there.sender).fbuf;
		client.messages[0].cookie = 10 * i;
		client.release.assign(held ? 1 : 0, held);
		client.fill();
		ASSERT_EQ(client.run(), 1);
		ASSERT_EQ(client.answers[0].cookie, 10 * i + 1);
		held = client.answers[0].message;
	}
	client.there.sender.reset();
	server.join();
}

TEST(Rule16Call, IsRefusedBeforeAnythingIsSent)
{
	Caller caller;
	caller.release = {caller.held()};
	caller.answer();
	caller.fill();
	const Fd null(::open("/dev/null", O_RDWR));
	Fd sender, unattached;
	ASSERT_EQ(channel_create(caller.from.domain, 0, 0, sender, unattached), 0);
	const struct {
		int fd;
		long refusal;
	} receivers[] = {{-1, -EBADF},
			 {1 << 20, -EBADF},
			 {null, -EINVAL},
			 {caller.from.domain, -EINVAL},
			 {caller.there.sender, -EINVAL},
			 {unattached, -ENXIO}};
	for (const auto& [fd, refusal] : receivers) {
		caller.args.receiver = fd;
		caller.expect_refused(refusal, "receiver");
	}
	for (std::uint32_t* field :
	     {&caller.args.send.size, &caller.args.send.flags, &caller.args.receive.size, &caller.args.receive.flags}) {
		*field = FBUFS_DONTWAIT;
		caller.expect_refused(-EINVAL, "size or flags of a part");
	}
	for (std::uint32_t* field : {&caller.args.send.count, &caller.args.send.refill_count,
				     &caller.args.receive.count, &caller.args.receive.nrelease}) {
		*field = FBUFS_MAX_VECTOR + 1;
		caller.expect_refused(-EINVAL, "a count");
	}
	caller.args.receive.count = 0;
	caller.expect_refused(-EINVAL, "no room");
	caller.slices[0].fbuf = 1;
	caller.expect_refused(-ENOENT, "no such fbuf");
	caller.slices[0].fbuf = caller.own.fbuf;
	EXPECT_EQ(uapi::call(caller.there.receiver, FBUFS_CALL, caller.args), -ENOTTY);
	EXPECT_EQ(caller.args.out_sent, 0u);
	// It can all be had.
	caller.fill();
	EXPECT_EQ(caller.run(), 1);
}

// What goes out has a beginning and an end; where only the end can be written, nothing is sent either.
TEST(Rule16Call, AStructureThatBeginsReadOnlyIsEfault)
{
	Caller caller;
	void* const two = ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	auto* const border = static_cast<std::uint8_t*>(two) + page;
	void* const args = border - offsetof(fbufs_call, send);
	std::memcpy(args, &caller.args, sizeof(caller.args));
	::mprotect(two, page, PROT_READ);
	EXPECT_EQ(::ioctl(caller.there.sender, FBUFS_CALL, args), -1);
	EXPECT_EQ(errno, EFAULT);
	EXPECT_EQ(caller.sent(), 0u);
	EXPECT_EQ(caller.state(), FBUFS_STATE_OWNED);
	::munmap(two, 2 * page);
}

TEST(Rule16Call, TheReceiverIsTheCallersOwn)
{
	Caller caller;
	EXPECT_EQ(in_child([&] {
			  const Originator own;
			  const Channel channel(own.domain, own.domain);
			  fbufs_call args = caller.args;
			  caller.slices[0].fbuf = alloc_one(channel.sender).fbuf;
			  CHILD_EXPECT(uapi::call(channel.sender, FBUFS_CALL, args) == -EPERM);
			  CHILD_EXPECT(args.out_sent == 0);
			  CHILD_EXPECT(end_info(channel.receiver).out_queued == 0);
			  return 0;
		  }),
		  0);
	caller.from.domain.reset();
	EXPECT_EQ(caller.run(), -ENODEV);
}

// The second message is bad: the first is sent, and for want of the second nothing is received.
TEST(Rule16Call, WhatIsNotSentIsNotAnswered)
{
	Caller caller;
	caller.release = {caller.held()};
	caller.answer();
	caller.messages.push_back(caller.messages[0]);
	caller.slices.push_back(caller.slices[0]);
	caller.slices[1].fbuf = 1;
	caller.fill();
	EXPECT_EQ(caller.run(), 0);
	EXPECT_EQ(caller.args.out_sent, 1u);
	EXPECT_EQ(caller.args.receive.out_released, 0u);
	EXPECT_EQ(caller.sent(), 1u);
	EXPECT_EQ(caller.waiting(), 1u);
	EXPECT_EQ(handles(caller.from.domain, FBUFS_RELEASE, caller.release), 1) << "still held";
}

// What goes wrong after the send says that it was sent, and loses nothing.
TEST(Rule16Call, WhatIsSentIsSaid)
{
	Caller caller;
	caller.release = {caller.held(), 12345};
	caller.answer();
	caller.fill();
	EXPECT_EQ(caller.run(), -ENOENT);
	EXPECT_EQ(caller.args.out_sent, 1u);
	EXPECT_EQ(caller.args.receive.out_released, 1u);
	EXPECT_EQ(caller.waiting(), 1u);
	caller.release.clear();
	for (const int which : {0, 1, 2}) {
		caller.renew();
		caller.fill();
		(which == 0 ? caller.args.receive.messages : caller.args.receive.slices) = 8;
		if (which == 2)
			caller.args.receive.nslices = 0;
		EXPECT_EQ(caller.run(), which == 2 ? -EMSGSIZE : -EFAULT) << which;
		EXPECT_EQ(caller.args.out_sent, 1u);
		EXPECT_EQ(caller.waiting(), 1u) << "the answer went lost";
		const Received sent(caller.there.receiver);
		EXPECT_EQ(handles(caller.from.domain, FBUFS_RELEASE, {sent.handle()}), 1);
	}
	const Received got(caller.back.receiver);
	EXPECT_EQ(got.message.cookie, 9u);
}

TEST(Rule13Call, DoesNotWaitWhenAskedNotTo)
{
	Caller caller;
	caller.args.flags = FBUFS_DONTWAIT;
	EXPECT_EQ(caller.run(), -EAGAIN) << "no answer";
	EXPECT_EQ(caller.args.out_sent, 1u);
	EXPECT_EQ(handles(caller.from.domain, FBUFS_RELEASE, {Received(caller.there.receiver).handle()}), 1);
	// By the descriptors: each for its own part.
	caller.renew();
	caller.fill();
	::fcntl(caller.back.receiver, F_SETFL, O_NONBLOCK);
	EXPECT_EQ(caller.run(), -EAGAIN);
	EXPECT_EQ(caller.args.out_sent, 1u);
	EXPECT_EQ(handles(caller.from.domain, FBUFS_RELEASE, {Received(caller.there.receiver).handle()}), 1);
	caller.renew();
	caller.fill_queue();
	caller.answer();
	caller.fill();
	caller.args.flags = FBUFS_DONTWAIT;
	caller.expect_refused(-EAGAIN, "no room");
	::fcntl(caller.there.sender, F_SETFL, O_NONBLOCK);
	caller.expect_refused(-EAGAIN, "no room, by the descriptor");
}

TEST(Rule14Call, ASignalEndsTheWaitAndSaysWhatWasSent)
{
	Caller caller;
	Blocked call([&] { return caller.run(); });
	EXPECT_TRUE(call.waits());
	EXPECT_EQ(caller.sent(), 1u) << "while it waits";
	call.interrupt();
	EXPECT_EQ(call.result(), -EINTR);
	EXPECT_EQ(caller.args.out_sent, 1u);
	caller.answer();
	EXPECT_EQ(Received(caller.back.receiver).message.cookie, 9u);
}

TEST(Rule14Call, ASignalBeforeThereIsRoomSendsNothing)
{
	Caller caller;
	caller.fill_queue();
	Blocked call([&] { return caller.run(); });
	EXPECT_TRUE(call.waits());
	call.interrupt();
	EXPECT_EQ(call.result(), -EINTR);
	EXPECT_EQ(caller.args.out_sent, 0u);
	EXPECT_EQ(caller.state(), FBUFS_STATE_OWNED);
}

TEST(Rule14Call, SeesTheOtherSideGo)
{
	Caller caller;
	Blocked call([&] { return caller.run(); });
	EXPECT_TRUE(call.waits());
	caller.back.sender.reset();
	EXPECT_EQ(call.result(), 0);
	EXPECT_EQ(caller.args.out_sent, 1u);
	caller.renew();
	caller.there.receiver.reset();
	caller.fill();
	EXPECT_EQ(caller.run(), -EPIPE);
	EXPECT_EQ(caller.args.out_sent, 0u);
	EXPECT_EQ(caller.state(), FBUFS_STATE_OWNED);
}

// Another thread closes the descriptor; the call has a reference.
TEST(Rule14Call, OutlivesTheDescriptorOfTheReceiver)
{
	Caller caller;
	Blocked call([&] { return caller.run(); });
	EXPECT_TRUE(call.waits());
	caller.back.receiver.reset();
	EXPECT_TRUE(call.waits());
	caller.answer();
	EXPECT_EQ(call.result(), 1);
	EXPECT_EQ(caller.answers[0].cookie, 9u);
}

TEST(Rule07Call, WhatIsSentIsLocked)
{
	Caller caller;
	std::memset(caller.from.at(caller.own), 0x11, page);
	caller.answer();
	ASSERT_EQ(caller.run(), 1);
	EXPECT_TRUE(store_faults(caller.from.at(caller.own)));
	EXPECT_EQ(*caller.from.at(caller.own), 0x11);
	EXPECT_EQ(handles(caller.from.domain, FBUFS_RELEASE, {Received(caller.there.receiver).handle()}), 1);
}

} // namespace
