// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Rules 1 to 4: who owns what.

#include "support/io.hpp"
#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <set>

namespace {

using namespace uapi;

constexpr std::uint32_t depth = 8;

// Two domains of this process: the originator's, with a channel to the other's.
struct Pair {
	Originator from;
	Fd to = open_domain();
	Channel channel;
	Window window;

	explicit Pair(std::uint32_t flags = 0, std::uint64_t bytes = 1 << 20)
		: from(bytes), channel(from.domain, to, flags, depth),
		  window(to, from.pool.out_pool, from.pool.out_span, PROT_READ)
	{
	}
	fbufs_buffer send_new(std::uint8_t value, std::uint32_t message_flags = 0)
	{
		const fbufs_buffer buffer = alloc_one(channel.sender);
		std::memset(from.at(buffer), value, page);
		EXPECT_EQ(send_one(channel.sender, buffer.fbuf, 0, page, value, 0, message_flags), 1);
		return buffer;
	}
	std::uint32_t state(const fbufs_buffer& buffer) { return locate(from.domain, buffer.position).out_state; }
};

//
// 1
//

TEST(Rule01OnePoolPerProcess, SecondCreateIsEexist)
{
	const Originator first;
	fbufs_pool_create again = {};
	EXPECT_EQ(pool_create(first.domain, page, again), -EEXIST);
	EXPECT_EQ(again.out_pool, 0u);

	const Fd second = open_domain();
	EXPECT_EQ(pool_create(second, page, again), -EEXIST);
	std::vector<fbufs_buffer> buffers(1);
	EXPECT_EQ(alloc(second, page, buffers), -ENXIO);
	EXPECT_EQ(gauges(first.domain)[FBUFS_GAUGE_POOLS], 1u);
	EXPECT_EQ(alloc(first.domain, page, buffers), 1);
}

TEST(Rule01OnePoolPerProcess, OneOfManyThreadsWins)
{
	for (const bool shared : {true, false}) {
		const Fd one = open_domain();
		std::vector<Fd> domains(8);
		std::atomic<int> made = 0, exist = 0;
		std::vector<std::thread> threads;
		for (Fd& own : domains) {
			own = open_domain();
			threads.emplace_back([&] {
				fbufs_pool_create args = {};
				const long result = pool_create(shared ? one : own, page, args);
				made += result == 0;
				exist += result == -EEXIST;
			});
		}
		for (std::thread& thread : threads)
			thread.join();
		EXPECT_EQ(made, 1);
		EXPECT_EQ(exist, 7);
	}
}

TEST(Rule01OnePoolPerProcess, EveryProcessHasItsOwn)
{
	const Originator parent;
	EXPECT_EQ(in_child([&] {
			  const Originator child;
			  CHILD_EXPECT(child.window.error() == 0);
			  CHILD_EXPECT(child.pool.out_pool != parent.pool.out_pool);
			  const fbufs_buffer buffer = alloc_one(child.domain);
			  CHILD_EXPECT(FBUFS_HANDLE_POOL(buffer.fbuf) == child.pool.out_pool);
			  CHILD_EXPECT(!store_faults(child.at(buffer)));
			  return 0;
		  }),
		  0);
}

TEST(Rule01OnePoolPerProcess, ThePoolGoesWithItsDomain)
{
	auto first = std::make_unique<Originator>();
	first->domain.reset();
	// Its window is still mapped.
	Originator second;
	EXPECT_NE(second.pool.out_pool, 0u);
	EXPECT_NE(second.pool.out_pool, first->pool.out_pool);
	EXPECT_NE(alloc_one(second.domain).fbuf, 0u);
}

TEST(Rule01OnePoolPerProcess, OnlyItsProcessAllocates)
{
	Pair pair;
	const auto before = gauges(pair.from.domain);
	EXPECT_EQ(in_child([&] {
			  std::vector<fbufs_buffer> buffers(1);
			  CHILD_EXPECT(alloc(pair.from.domain, page, buffers) == -EPERM);
			  CHILD_EXPECT(alloc(pair.channel.sender, page, buffers) == -EPERM);
			  return 0;
		  }),
		  0);
	// Another domain of the same process has no pool to allocate from.
	std::vector<fbufs_buffer> buffers(1);
	EXPECT_EQ(alloc(pair.to, page, buffers), -ENXIO);
	EXPECT_EQ(gauges(pair.from.domain), before);
}

//
// 2
//

TEST(Rule02OneOwner, TheOriginatorLosesItWithTheSend)
{
	Pair pair;
	const fbufs_buffer buffer = pair.send_new(1);
	EXPECT_EQ(pair.state(buffer), FBUFS_STATE_SENT);
	EXPECT_EQ(handles(pair.from.domain, FBUFS_FREE, {buffer.fbuf}), -EBUSY);
	EXPECT_EQ(send_one(pair.channel.sender, buffer.fbuf, 0, page), -EACCES);
	EXPECT_EQ(pair.state(buffer), FBUFS_STATE_SENT);
	EXPECT_EQ(end_info(pair.channel.receiver).out_queued, 1u);
	EXPECT_EQ(locate(pair.from.domain, buffer.position).out_holders, 1u);
}

// Nor twice in a call, nor after others went the same way and came back, nor while the kernel is to give it back.
TEST(Rule02OneOwner, TheOriginatorLosesItAlsoAfterOtherMessages)
{
	for (const std::uint32_t flags : {0u, FBUFS_CHANNEL_VOLATILE | 0u}) {
		Pair pair(flags);
		warm(pair.channel, pair.to, 4);
		const fbufs_buffer buffer = alloc_one(pair.channel.sender);
		fbufs_message message = {};
		message.slices = 1;
		fbufs_slice slice = {};
		slice.fbuf = buffer.fbuf;
		slice.length = page;
		EXPECT_EQ(send(pair.channel.sender, {message, message}, {slice, slice}), 1);
		EXPECT_EQ(send_one(pair.channel.sender, buffer.fbuf, 0, page), -EACCES);
		EXPECT_EQ(pair.state(buffer), FBUFS_STATE_SENT);
		const Received first(pair.channel.receiver);
		EXPECT_EQ(send_one(pair.channel.sender, buffer.fbuf, 0, page), -EACCES);
		EXPECT_EQ(locate(pair.from.domain, buffer.position).out_holders, 1u);
		EXPECT_EQ(end_info(pair.channel.receiver).out_queued, 0u);
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {first.handle()}), 1);

		const fbufs_buffer lent = alloc_one(pair.channel.sender);
		EXPECT_EQ(send_one(pair.channel.sender, lent.fbuf, 0, page, 0, 0, FBUFS_MESSAGE_LEND), 1);
		EXPECT_EQ(send_one(pair.channel.sender, lent.fbuf, 0, page), -EACCES);
		const Received second(pair.channel.receiver);
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {second.handle()}), 1);
		// It came back, under the same handle.
		EXPECT_EQ(pair.state(lent), FBUFS_STATE_OWNED);
		EXPECT_EQ(send_one(pair.channel.sender, lent.fbuf, 0, page), 1);
	}
}

TEST(Rule02OneOwner, HomeIsNotTheOriginators)
{
	Pair pair;
	const fbufs_buffer buffer = pair.send_new(1);
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {Received(pair.channel.receiver).handle()}), 1);
	EXPECT_EQ(pair.state(buffer), FBUFS_STATE_FREE);
	EXPECT_EQ(handles(pair.from.domain, FBUFS_FREE, {buffer.fbuf}), -ENOENT);
	EXPECT_LT(send_one(pair.channel.sender, buffer.fbuf, 0, page), 0);
	EXPECT_EQ(pair.state(buffer), FBUFS_STATE_FREE);
	const fbufs_buffer again = alloc_one(pair.channel.sender);
	EXPECT_EQ(again.position, buffer.position);
	EXPECT_NE(again.fbuf, buffer.fbuf);
	EXPECT_EQ(handles(pair.from.domain, FBUFS_FREE, {buffer.fbuf}), -ENOENT);
	EXPECT_EQ(send_one(pair.channel.sender, buffer.fbuf, 0, page), -ENOENT);
	EXPECT_EQ(pair.state(again), FBUFS_STATE_OWNED);
}

// The header says ENOENT for an old handle, of FREE and of SEND, in the same words.
TEST(Rule02OneOwner, SendOfAnFbufAtHomeIsEnoent)
{
	Pair pair;
	const fbufs_buffer buffer = alloc_one(pair.from.domain);
	EXPECT_EQ(handles(pair.from.domain, FBUFS_FREE, {buffer.fbuf}), 1);
	EXPECT_EQ(handles(pair.from.domain, FBUFS_FREE, {buffer.fbuf}), -ENOENT);
	EXPECT_EQ(send_one(pair.channel.sender, buffer.fbuf, 0, page), -ENOENT);
}

TEST(Rule02OneOwner, AReceiverCanNeitherFreeNorResendWithoutHolding)
{
	Pair pair;
	const fbufs_buffer buffer = pair.send_new(1);
	const Channel onward(pair.to, pair.from.domain);
	EXPECT_EQ(handles(pair.to, FBUFS_FREE, {buffer.fbuf}), -ENXIO);
	EXPECT_EQ(send_one(onward.sender, buffer.fbuf, 0, page), -ENOENT);

	const Received received(pair.channel.receiver);
	fbufs_message message = {};
	message.slices = 1;
	fbufs_slice slice = {};
	slice.fbuf = buffer.fbuf;
	slice.hold = received.handle();
	slice.length = page;
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {received.handle()}), 1);
	EXPECT_EQ(send(onward.sender, {message}, {slice}), -ENOENT);
	EXPECT_EQ(end_info(onward.receiver).out_queued, 0u);
	EXPECT_EQ(pair.state(buffer), FBUFS_STATE_FREE);
}

TEST(Rule02OneOwner, OnlyTheBytesOfTheHeldMessageGoOn)
{
	Pair pair;
	const fbufs_buffer whole = alloc_one(pair.channel.sender, 3 * page);
	const fbufs_buffer other = pair.send_new(2);
	ASSERT_EQ(send_one(pair.channel.sender, whole.fbuf, 100, 1000), 1);
	const Received first(pair.channel.receiver), second(pair.channel.receiver);
	const Channel onward(pair.to, pair.from.domain);
	const auto try_send = [&](std::uint64_t fbuf, std::uint32_t offset, std::uint32_t length) {
		fbufs_message message = {};
		message.slices = 1;
		fbufs_slice slice = {};
		slice.fbuf = fbuf;
		slice.hold = second.handle();
		slice.offset = offset;
		slice.length = length;
		return send(onward.sender, {message}, {slice}, FBUFS_DONTWAIT);
	};
	EXPECT_EQ(try_send(whole.fbuf, 99, 1), -EACCES);
	EXPECT_EQ(try_send(whole.fbuf, 100, 1001), -EACCES);
	EXPECT_EQ(try_send(whole.fbuf, 1100, 1), -EACCES);
	EXPECT_EQ(try_send(whole.fbuf, 0xffffffff, 0xffffffff), -EACCES);
	EXPECT_EQ(try_send(other.fbuf, 0, 1), -EACCES);
	EXPECT_EQ(try_send(whole.fbuf, 100, 0), -EINVAL);
	EXPECT_EQ(locate(pair.from.domain, whole.position).out_holders, 1u);
	EXPECT_EQ(end_info(onward.receiver).out_queued, 0u);
	EXPECT_EQ(try_send(whole.fbuf, 100, 1000), 1);
	EXPECT_EQ(try_send(whole.fbuf, 1099, 1), 1);
	EXPECT_EQ(locate(pair.from.domain, whole.position).out_holders, 3u);
}

TEST(Rule02OneOwner, AHoldIsOfItsDomainAndEndsOnce)
{
	Pair pair;
	const fbufs_buffer buffer = pair.send_new(1);
	const Received received(pair.channel.receiver);
	for (const unsigned long request : {FBUFS_RELEASE, FBUFS_SECURE}) {
		EXPECT_EQ(handles(pair.from.domain, request, {received.handle()}), -ENOENT);
		EXPECT_EQ(handles(pair.to, request, {received.handle() + 1}), -ENOENT);
		EXPECT_EQ(handles(pair.to, request, {received.handle() + (1ull << 32)}), -ENOENT);
		EXPECT_EQ(handles(pair.to, request, {0}), -ENOENT);
		EXPECT_EQ(handles(pair.to, request, {~0ull}), -ENOENT);
	}
	EXPECT_EQ(pair.state(buffer), FBUFS_STATE_SENT);
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {received.handle()}), 1);
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {received.handle()}), -ENOENT);
	EXPECT_EQ(handles(pair.to, FBUFS_SECURE, {received.handle()}), -ENOENT);

	// Its place in the table is used again; the old handle is still nobody's.
	pair.send_new(2);
	const Received next(pair.channel.receiver);
	EXPECT_NE(next.handle(), received.handle());
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {received.handle()}), -ENOENT);
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {next.handle()}), 1);
}

TEST(Rule02OneOwner, AnFbufOfAChannelGoesOverNoOther)
{
	Pair pair;
	const Channel other(pair.from.domain, pair.to);
	const fbufs_buffer buffer = alloc_one(pair.channel.sender);
	EXPECT_EQ(send_one(other.sender, buffer.fbuf, 0, page), -EXDEV);
	warm(other, pair.to, 2);
	EXPECT_EQ(send_one(other.sender, buffer.fbuf, 0, page), -EXDEV);
	EXPECT_EQ(pair.state(buffer), FBUFS_STATE_OWNED);
	EXPECT_FALSE(store_faults(pair.from.at(buffer)));
	EXPECT_EQ(send_one(pair.channel.sender, buffer.fbuf, 0, page), 1);
}

TEST(Rule02OneOwner, AnotherDomainsEndSendsNothingOfTheOriginators)
{
	Pair pair;
	const Channel back(pair.to, pair.from.domain);
	const fbufs_buffer buffer = alloc_one(pair.from.domain);
	EXPECT_EQ(send_one(back.sender, buffer.fbuf, 0, page), -ENOENT);
	EXPECT_EQ(pair.state(buffer), FBUFS_STATE_OWNED);
}

//
// 3
//

TEST(Rule03ComesHome, LastInFirstOutOnItsChannel)
{
	Pair pair;
	const Channel other(pair.from.domain, pair.to);
	std::vector<fbufs_buffer> sent;
	std::vector<std::uint64_t> held;
	for (std::uint8_t i = 0; i < 4; i++)
		sent.push_back(pair.send_new(0x40 + i));
	for (int i = 0; i < 4; i++)
		held.push_back(Received(pair.channel.receiver).handle());
	const std::vector<std::size_t> order = {2, 0, 3, 1};
	for (const std::size_t i : order)
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {held[i]}), 1);
	for (const fbufs_buffer& buffer : sent)
		EXPECT_EQ(locate(pair.from.domain, buffer.position).out_channel, pair.channel.id);

	// Neither another channel nor the domain gets at them while the pool has room.
	for (const int fd : {other.sender.get(), pair.from.domain.get()})
		for (const fbufs_buffer& buffer : sent)
			EXPECT_NE(alloc_one(fd).position, buffer.position);
	for (std::size_t i = 4; i-- > 0;) {
		const fbufs_buffer buffer = alloc_one(pair.channel.sender);
		EXPECT_EQ(buffer.position, sent[order[i]].position);
		EXPECT_NE(buffer.fbuf, sent[order[i]].fbuf);
		EXPECT_EQ(*pair.from.at(buffer), 0x40 + order[i]) << "old contents";
	}
}

TEST(Rule03ComesHome, FbufsOfTheDomainJoinTheChannelTheyAreSentOn)
{
	Pair pair;
	const fbufs_buffer buffer = alloc_one(pair.from.domain);
	EXPECT_EQ(locate(pair.from.domain, buffer.position).out_channel, 0u);
	ASSERT_EQ(send_one(pair.channel.sender, buffer.fbuf, 0, page), 1);
	EXPECT_EQ(locate(pair.from.domain, buffer.position).out_channel, pair.channel.id);
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {Received(pair.channel.receiver).handle()}), 1);
	EXPECT_EQ(alloc_one(pair.channel.sender).position, buffer.position);
}

TEST(Rule03ComesHome, WithANoticeOfTheSentHandle)
{
	Pair pair;
	warm(pair.channel, pair.to, 2);
	const fbufs_buffer silent = pair.send_new(1);
	const fbufs_buffer loud = pair.send_new(2, FBUFS_MESSAGE_NOTICE);
	const Received first(pair.channel.receiver), second(pair.channel.receiver);
	EXPECT_FALSE(polls(pair.from.domain, POLLIN));
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {first.handle()}), 1);
	EXPECT_FALSE(polls(pair.from.domain, POLLIN));
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {second.handle()}), 1);
	EXPECT_TRUE(polls(pair.from.domain, POLLIN));

	std::vector<std::uint64_t> room(4);
	fbufs_notices args = {};
	args.size = sizeof(args);
	args.fbufs = address(room.data());
	args.count = 4;
	EXPECT_EQ(call(pair.from.domain, FBUFS_NOTICES, args), 1);
	EXPECT_EQ(room[0], loud.fbuf);
	EXPECT_NE(room[0], silent.fbuf);
	EXPECT_EQ(call(pair.from.domain, FBUFS_NOTICES, args), 0);
	EXPECT_FALSE(polls(pair.from.domain, POLLIN));
}

TEST(Rule03ComesHome, WhoeverIsLastAndHoweverItEnds)
{
	Pair pair;
	Fd second;
	ASSERT_EQ(add_receiver(pair.channel.sender, second), 0);
	const auto receive_and_hang = [&](int socket) {
		const Fd domain = open_domain();
		CHILD_EXPECT(attach(second, domain) == 0);
		tell(socket, 'a');
		CHILD_EXPECT(Received(second, 0).result == 1);
		tell(socket, 'r');
		::pause();
		return 0;
	};
	Process child(receive_and_hang);
	ASSERT_EQ(hear(child.socket()), 'a');
	const fbufs_buffer held = pair.send_new(1);
	ASSERT_EQ(hear(child.socket()), 'r');
	const fbufs_buffer queued = pair.send_new(2);
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {Received(pair.channel.receiver).handle()}), 1);
	EXPECT_EQ(pair.state(held), FBUFS_STATE_SENT);
	EXPECT_EQ(pair.state(queued), FBUFS_STATE_SENT);
	child.kill();
	EXPECT_TRUE(eventually([&] { return pair.state(held) == FBUFS_STATE_FREE; }));
	EXPECT_TRUE(eventually([&] { return pair.state(queued) == FBUFS_STATE_FREE; }));
	const std::set<std::uint64_t> home = {held.position, queued.position};
	EXPECT_TRUE(home.contains(alloc_one(pair.channel.sender).position));
	EXPECT_TRUE(home.contains(alloc_one(pair.channel.sender).position));
}

// Of several channels and of all kinds, side by side in one vector: what nobody else holds comes home.
TEST(Rule03ComesHome, ReleasedInOneVectorFromSeveralChannels)
{
	Pair pair;
	const Channel uncached(pair.from.domain, pair.to, FBUFS_CHANNEL_UNCACHED | FBUFS_CHANNEL_VOLATILE);
	const Channel fan(pair.from.domain, pair.to), back(pair.to, pair.from.domain);
	Fd second;
	const Fd third = open_domain();
	ASSERT_EQ(add_receiver(fan.sender, second), 0);
	ASSERT_EQ(attach(second, third), 0);
	const auto send_over = [&](const Channel& channel, std::uint32_t flags = 0) {
		const fbufs_buffer buffer = alloc_one(channel.sender);
		EXPECT_EQ(send_one(channel.sender, buffer.fbuf, 0, page, 0, 0, flags), 1);
		return buffer;
	};
	const auto take = [&](const Channel& channel) { return Received(channel.receiver).handle(); };

	// From the second time on there are messages for re-use.
	for (int round = 0; round < 3; round++) {
		std::vector<fbufs_buffer> home, shared;
		std::vector<std::uint64_t> held;
		const fbufs_buffer sent_on = send_over(pair.channel);
		const Received first(pair.channel.receiver);
		fbufs_message message = {};
		message.slices = 1;
		fbufs_slice slice = first.slices[0];
		slice.hold = first.handle();
		ASSERT_EQ(send(back.sender, {message}, {slice}), 1);
		held.push_back(first.handle());
		for (int i = 0; i < 3; i++) {
			home.push_back(send_over(pair.channel, i == 2 ? FBUFS_MESSAGE_NOTICE : 0));
			held.push_back(take(pair.channel));
			shared.push_back(send_over(fan));
			held.push_back(take(fan));
			home.push_back(send_over(uncached));
			held.push_back(take(uncached));
			const std::vector<fbufs_buffer> two = {alloc_one(pair.channel.sender),
							       alloc_one(pair.channel.sender)};
			message.slices = 2;
			std::vector<fbufs_slice> slices(2);
			slices[0].fbuf = two[0].fbuf;
			slices[1].fbuf = two[1].fbuf;
			slices[0].length = slices[1].length = page;
			ASSERT_EQ(send(pair.channel.sender, {message}, slices), 1);
			held.push_back(take(pair.channel));
			home.insert(home.end(), two.begin(), two.end());
			home.push_back(send_over(pair.channel));
			held.push_back(take(pair.channel));
		}
		ASSERT_EQ(handles(pair.to, FBUFS_RELEASE, held), static_cast<long>(held.size()));
		for (const fbufs_buffer& buffer : home)
			EXPECT_EQ(pair.state(buffer), FBUFS_STATE_FREE);
		for (const fbufs_buffer& buffer : shared) {
			EXPECT_EQ(pair.state(buffer), FBUFS_STATE_SENT);
			EXPECT_EQ(handles(third, FBUFS_RELEASE, {Received(second).handle()}), 1);
			EXPECT_EQ(pair.state(buffer), FBUFS_STATE_FREE);
		}
		EXPECT_EQ(pair.state(sent_on), FBUFS_STATE_SENT);
		EXPECT_EQ(handles(pair.from.domain, FBUFS_RELEASE, {take(back)}), 1);
		EXPECT_EQ(pair.state(sent_on), FBUFS_STATE_FREE);
		EXPECT_TRUE(polls(pair.from.domain, POLLIN));
	}
}

// The channel has no sender any more that could use them again.
TEST(Rule03ComesHome, FbufsOfAClosedChannelGo)
{
	for (const std::uint32_t mode : {0u, FBUFS_CHANNEL_VOLATILE | 0u, FBUFS_CHANNEL_UNCACHED | 0u}) {
		Pair pair(mode);
		const fbufs_buffer at_home = pair.send_new(1);
		const Received first(pair.channel.receiver);
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {first.handle()}), 1);
		EXPECT_EQ(pair.state(at_home), FBUFS_STATE_FREE);
		const fbufs_buffer held = pair.send_new(2);
		pair.send_new(3);
		pair.send_new(4);
		const Received second(pair.channel.receiver);
		EXPECT_EQ(gauges(pair.from.domain)[FBUFS_GAUGE_FBUFS], 3u);
		pair.channel.sender.reset();
		EXPECT_EQ(gauges(pair.from.domain)[FBUFS_GAUGE_FBUFS], 3u);
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {second.handle()}), 1);
		EXPECT_EQ(pair.state(held), FBUFS_STATE_EMPTY);
		EXPECT_EQ(gauges(pair.from.domain)[FBUFS_GAUGE_FBUFS], 2u);
		EXPECT_EQ(gauges(pair.from.domain)[FBUFS_GAUGE_CHANNELS], 1u);
		pair.channel.receiver.reset();
		EXPECT_EQ(gauges(pair.from.domain)[FBUFS_GAUGE_FBUFS], 0u);
		EXPECT_EQ(gauges(pair.from.domain)[FBUFS_GAUGE_PAGES], 0u);
		EXPECT_EQ(gauges(pair.from.domain)[FBUFS_GAUGE_CHANNELS], 0u);
	}
}

// A read makes the list that it comes home to.
TEST(Rule03ComesHome, FilledForAChannelThatIsOlderThanThePool)
{
	Fd domain = open_domain(), sender, receiver;
	const Fd other = open_domain();
	ASSERT_EQ(channel_create(domain, FBUFS_CHANNEL_ATTACH_SENDER, depth, sender, receiver), 0);
	fbufs_pool_create pool;
	ASSERT_EQ(pool_create(domain, 1 << 20, pool), 0);
	const Ends pipe = make_pipe();
	ASSERT_EQ(::write(pipe.in, "hello", 5), 5);
	fbufs_io_op op = read_op(pipe.out, page);
	op.end = sender;
	ASSERT_EQ(submit(domain, op), 1);
	const fbufs_completion read = finish_one(domain);
	ASSERT_EQ(read.result, 5);
	ASSERT_EQ(handles(domain, FBUFS_FREE, {read.fbuf}), 1);
	EXPECT_EQ(gauges(other)[FBUFS_GAUGE_FBUFS], 1u);
	sender.reset();
	EXPECT_EQ(gauges(other)[FBUFS_GAUGE_FBUFS], 0u) << "it is at home on a closed channel";
	// The domain and its pool go before the channel and its lists.
	domain.reset();
	receiver.reset();
	EXPECT_EQ(gauges(other)[FBUFS_GAUGE_POOLS], 0u);
	EXPECT_EQ(gauges(other)[FBUFS_GAUGE_CHANNELS], 0u);
}

//
// 4
//

TEST(Rule04ReceiversMay, KeepReadSendOnAndRelease)
{
	Pair pair;
	const Fd third = open_domain();
	const Channel onward(pair.to, third, FBUFS_CHANNEL_UNCACHED);
	const fbufs_buffer buffer = pair.send_new(7);
	const Received kept(pair.channel.receiver);
	EXPECT_EQ(*pair.window.at(buffer.position), 7);

	// Others come and go meanwhile.
	for (std::uint8_t i = 0; i < 20; i++) {
		pair.send_new(i);
		EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {Received(pair.channel.receiver).handle()}), 1);
	}
	EXPECT_EQ(*pair.window.at(buffer.position), 7);

	const auto before = gauges(third);
	fbufs_message message = {};
	message.slices = 1;
	message.cookie = 99;
	fbufs_slice slice = {};
	slice.fbuf = kept.slices[0].fbuf;
	slice.hold = kept.handle();
	slice.offset = 16;
	slice.length = 100;
	ASSERT_EQ(send(onward.sender, {message}, {slice}), 1);
	EXPECT_EQ(gauges(third)[FBUFS_GAUGE_PAGES], before[FBUFS_GAUGE_PAGES]);
	EXPECT_EQ(gauges(third)[FBUFS_GAUGE_FBUFS], before[FBUFS_GAUGE_FBUFS]);
	EXPECT_EQ(counters(pair.to)[FBUFS_COUNT_BYTES_COPIED], 0u);

	const Received last(onward.receiver);
	ASSERT_EQ(last.result, 1);
	EXPECT_EQ(last.message.cookie, 99u);
	EXPECT_EQ(last.message.length, 100u);
	EXPECT_EQ(last.slices[0].position, buffer.position + 16);
	const Window window(third, pair.from.pool.out_pool, pair.from.pool.out_span, PROT_READ);
	EXPECT_EQ(*window.at(last.slices[0].position), 7);

	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {kept.handle()}), 1);
	EXPECT_EQ(pair.state(buffer), FBUFS_STATE_SENT);
	EXPECT_EQ(*window.at(last.slices[0].position), 7);
	EXPECT_EQ(handles(third, FBUFS_RELEASE, {last.handle()}), 1);
	EXPECT_EQ(pair.state(buffer), FBUFS_STATE_FREE);
	EXPECT_TRUE(load_faults(window.at(last.slices[0].position)));
}

// In one vector: an fbuf that the receiver knows, one of another process's pool that is sent on, and a new one.
TEST(Rule04ReceiversMay, SendOnBesideTheirOwn)
{
	Process source([](int socket) {
		const Originator own;
		Fd sender, receiver;
		CHILD_EXPECT(channel_create(own.domain, FBUFS_CHANNEL_ATTACH_SENDER, 0, sender, receiver) == 0);
		pass_fd(socket, receiver);
		CHILD_EXPECT(hear(socket) == 'a');
		const fbufs_buffer buffer = alloc_one(sender);
		*own.at(buffer) = 9;
		CHILD_EXPECT(send_one(sender, buffer.fbuf, 0, page) == 1);
		CHILD_EXPECT(hear(socket) == 'e');
		return 0;
	});
	const Fd in = take_fd(source.socket());
	Pair pair;
	ASSERT_EQ(attach(in, pair.from.domain), 0);
	tell(source.socket(), 'a');
	const Received held(in, 0);
	ASSERT_EQ(held.result, 1);
	fbufs_pool_info info = {};
	info.size = sizeof(info);
	info.pool = static_cast<std::uint32_t>(held.slices[0].position >> FBUFS_POOL_SHIFT);
	ASSERT_EQ(call(pair.from.domain, FBUFS_POOL_INFO, info), 0);

	pair.send_new(1);
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {Received(pair.channel.receiver).handle()}), 1);
	std::vector<fbufs_buffer> own(2);
	ASSERT_EQ(alloc(pair.channel.sender, page, own), 2);
	*pair.from.at(own[0]) = 2;
	*pair.from.at(own[1]) = 3;
	std::vector<fbufs_message> messages(3);
	std::vector<fbufs_slice> slices(3);
	for (std::uint32_t i = 0; i < 3; i++) {
		messages[i].slices = 1;
		slices[i].length = page;
	}
	slices[0].fbuf = own[0].fbuf;
	slices[1].fbuf = held.slices[0].fbuf;
	slices[1].hold = held.handle();
	slices[2].fbuf = own[1].fbuf;
	ASSERT_EQ(send(pair.channel.sender, messages, slices), 3);

	std::vector<fbufs_message> got(3);
	std::vector<fbufs_slice> seen(3);
	ASSERT_EQ(receive(pair.channel.receiver, got, seen), 3);
	ASSERT_EQ(seen[0].position, own[0].position);
	ASSERT_EQ(seen[1].position, held.slices[0].position);
	ASSERT_EQ(seen[2].position, own[1].position);
	const Window others(pair.to, info.pool, info.out_span, PROT_READ);
	const std::uint64_t faults = counters(pair.to)[FBUFS_COUNT_FAULTS];
	EXPECT_EQ(*pair.window.at(seen[0].position), 2);
	EXPECT_EQ(*pair.window.at(seen[2].position), 3);
	EXPECT_EQ(counters(pair.to)[FBUFS_COUNT_FAULTS], faults) << "they came with the call";
	EXPECT_EQ(*others.at(seen[1].position), 9);
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {got[0].message, got[1].message, got[2].message}), 3);
	EXPECT_TRUE(load_faults(others.at(seen[1].position)));
	EXPECT_EQ(handles(pair.from.domain, FBUFS_RELEASE, {held.handle()}), 1);
	for (const fbufs_buffer& each : own)
		EXPECT_EQ(pair.state(each), FBUFS_STATE_FREE);
	tell(source.socket(), 'e');
	EXPECT_EQ(source.wait(), 0);
}

} // namespace
