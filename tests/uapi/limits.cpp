// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// What happens where something ends: pools, queues, tables, memory; waiting and being interrupted.

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <sys/resource.h>

#include <algorithm>
#include <memory>

namespace {

using namespace uapi;

struct Pair {
	Originator from;
	Fd to = open_domain();
	Channel channel;

	explicit Pair(std::uint64_t bytes = 1 << 20, std::uint32_t depth = 64, std::uint32_t flags = 0)
		: from(bytes), channel(from.domain, to, flags, depth)
	{
	}
	fbufs_buffer send_new()
	{
		const fbufs_buffer buffer = alloc_one(channel.sender);
		EXPECT_EQ(send_one(channel.sender, buffer.fbuf, 0, page), 1);
		return buffer;
	}
	std::uint32_t state(const fbufs_buffer& buffer) { return locate(from.domain, buffer.position).out_state; }
	std::uint64_t used()
	{
		fbufs_pool_info info = {};
		info.size = sizeof(info);
		info.pool = from.pool.out_pool;
		EXPECT_EQ(call(from.domain, FBUFS_POOL_INFO, info), 0);
		return info.out_used;
	}
};

//
// What the module keeps for itself
//

TEST(Metadata, IsAtMost64BytesAPageInUseAndNoneForTheRest)
{
	const Fd watcher = open_domain();
	const std::uint64_t before = gauges(watcher)[FBUFS_GAUGE_METADATA];
	const Originator from(std::uint64_t{64} << 30);
	ASSERT_NE(from.window.base(), nullptr);
	EXPECT_EQ(gauges(watcher)[FBUFS_GAUGE_METADATA], before) << "of 64 GiB nothing is used";
	for (const std::uint64_t pages : {1, 3, 64}) {
		std::vector<fbufs_buffer> buffers(4096 / pages);
		const std::uint64_t start = gauges(watcher)[FBUFS_GAUGE_METADATA];
		ASSERT_EQ(alloc(from.domain, pages * page, buffers), static_cast<long>(buffers.size()));
		const std::uint64_t grown = gauges(watcher)[FBUFS_GAUGE_METADATA] - start;
		EXPECT_GT(grown, 0u);
		EXPECT_LE(grown, 64 * pages * buffers.size()) << pages << " pages each";
	}
}

// As CHANNEL_SPARES in kmod/channel.h.
constexpr std::uint32_t spares = 128;

// A channel over which vectors are sent, received and released.
struct Stream : Pair {
	static constexpr std::uint32_t depth = 512;
	std::uint64_t sent = 0, received = 0;
	std::vector<std::uint64_t> held;

	explicit Stream(std::uint32_t flags = 0) : Pair(depth * page, depth, flags) {}
	[[nodiscard]] std::uint64_t messages() const { return gauges(from.domain)[FBUFS_GAUGE_MESSAGES]; }
	// Each is the bytes of its number.
	void send_some(std::uint32_t n, std::uint32_t slices_each = 1)
	{
		std::vector<fbufs_buffer> buffers(n);
		std::vector<fbufs_message> vector(n);
		std::vector<fbufs_slice> slices;
		ASSERT_EQ(alloc(channel.sender, page, buffers), static_cast<long>(n));
		for (std::uint32_t i = 0; i < n; i++, sent++) {
			std::memcpy(from.at(buffers[i]), &sent, sizeof(sent));
			vector[i].cookie = sent;
			vector[i].slices = slices_each;
			fbufs_slice slice = {};
			slice.fbuf = buffers[i].fbuf;
			slice.length = sizeof(sent);
			slices.insert(slices.end(), slices_each, slice);
		}
		ASSERT_EQ(send(channel.sender, vector, slices, FBUFS_DONTWAIT), static_cast<long>(n));
	}
	void receive_some(std::uint32_t n)
	{
		std::vector<fbufs_message> vector(n);
		std::vector<fbufs_slice> slices(8 * n);
		ASSERT_EQ(receive(channel.receiver, vector, slices, FBUFS_DONTWAIT), static_cast<long>(n));
		std::size_t at = 0, wrong = 0;
		for (const fbufs_message& each : vector) {
			std::uint64_t number = 0;
			std::memcpy(&number, from.window.at(slices[at].position), sizeof(number));
			wrong += each.cookie != received || number != received;
			received++;
			at += each.slices;
			held.push_back(each.message);
		}
		EXPECT_EQ(wrong, 0u);
	}
	// All that are held, so many in a call.
	void release_all(std::size_t n)
	{
		for (auto at = held.begin(); at != held.end();) {
			const auto end = at + std::min(static_cast<std::ptrdiff_t>(n), held.end() - at);
			ASSERT_EQ(handles(to, FBUFS_RELEASE, {at, end}), end - at);
			at = end;
		}
		held.clear();
	}
};

TEST(MessagesForReuse, AreFewHoweverManyThereWere)
{
	for (const std::uint32_t flags : {0u, FBUFS_CHANNEL_VOLATILE, FBUFS_CHANNEL_UNCACHED})
		for (const std::uint32_t slices : {1, 2, 5})
			for (const std::size_t vector : {1, 5, 1000}) {
				SCOPED_TRACE(testing::Message() << flags << ": " << slices << " slices, " << vector);
				Stream stream(flags);
				ASSERT_EQ(stream.messages(), 0u);
				stream.send_some(Stream::depth, slices);
				ASSERT_EQ(stream.messages(), Stream::depth);
				// Some are held and some are queued.
				stream.receive_some(Stream::depth / 2);
				ASSERT_EQ(stream.messages(), Stream::depth);
				stream.release_all(vector);
				ASSERT_EQ(stream.messages(), Stream::depth / 2 + (slices < 5 ? spares : 0));
				stream.receive_some(Stream::depth / 2);
				stream.release_all(vector);
				ASSERT_EQ(stream.messages(), slices < 5 ? spares : 0) << "long ones are not kept";
				stream.channel.sender.reset();
				stream.channel.receiver.reset();
				ASSERT_EQ(stream.messages(), 0u);
			}
}

// A receiver that goes gives up what is queued, and what it holds.
TEST(MessagesForReuse, AreFewWhenAReceiverGoes)
{
	Stream stream;
	Fd second, third = open_domain();
	ASSERT_EQ(add_receiver(stream.channel.sender, second), 0);
	ASSERT_EQ(attach(second, third), 0);
	stream.send_some(Stream::depth);
	stream.receive_some(Stream::depth);
	stream.release_all(32);
	EXPECT_EQ(stream.messages(), Stream::depth);
	for (int i = 0; i < 300; i++)
		ASSERT_EQ(Received(second).result, 1);
	third.reset();
	EXPECT_EQ(stream.messages(), spares);
	stream.send_some(200);
	stream.receive_some(200);
	EXPECT_EQ(stream.messages(), 200u);
}

// As many as are under way, and no fewer than are kept: up over the limit, and down again.
TEST(MessagesForReuse, GoOnAcrossTheLimit)
{
	Stream stream;
	std::uint64_t kept = 0;
	for (const std::uint32_t n :
	     {1u, 100u, 127u, 128u, 129u, 127u, 160u, 500u, 161u, 129u, 128u, 127u, 31u, 1u, 130u}) {
		SCOPED_TRACE(n);
		stream.send_some(n);
		EXPECT_EQ(stream.messages(), std::max<std::uint64_t>(n, kept));
		stream.receive_some(n);
		stream.release_all(n % 2 ? 32 : 50);
		kept = std::min<std::uint64_t>(spares, std::max<std::uint64_t>(n, kept));
		EXPECT_EQ(stream.messages(), kept);
	}
	EXPECT_EQ(stream.used(), 500 * page) << "each came home";
}

// Those that a send took and did not need are kept, too.
TEST(MessagesForReuse, AreKeptByASendThatStops)
{
	Stream stream;
	stream.send_some(spares);
	stream.receive_some(spares);
	stream.release_all(32);
	std::vector<fbufs_message> messages(40);
	std::vector<fbufs_slice> slices(40);
	for (int i = 0; i < 40; i++) {
		messages[i].slices = 1;
		slices[i].fbuf = i == 5 ? 0 : alloc_one(stream.channel.sender).fbuf;
		slices[i].length = 1;
	}
	EXPECT_EQ(send(stream.channel.sender, messages, slices), 5);
	const auto left = static_cast<std::uint32_t>(stream.messages());
	EXPECT_LE(left, spares);
	EXPECT_GE(left, spares - 2) << "all but those for the bad message, which is tried twice";
	stream.send_some(left - 5);
	EXPECT_EQ(stream.messages(), left) << "the others were not there";
	stream.send_some(1);
	EXPECT_EQ(stream.messages(), left + 1);
}

//
// The pool
//

TEST(PoolFull, WithNothingOutIsEnobufs)
{
	Pair pair(4 * page);
	std::vector<fbufs_buffer> buffers(6), one(1);
	EXPECT_EQ(alloc(pair.from.domain, page, buffers), 4) << "as many as there are";
	EXPECT_EQ(pair.used(), 4 * page);
	for (const int fd : {pair.from.domain.get(), pair.channel.sender.get()})
		for (const std::uint32_t flags : {0u, FBUFS_DONTWAIT})
			EXPECT_EQ(alloc(fd, page, one, flags), -ENOBUFS);
	EXPECT_EQ(pair.used(), 4 * page);
	EXPECT_FALSE(polls(pair.from.domain, POLLOUT));
	EXPECT_EQ(handles(pair.from.domain, FBUFS_FREE, {buffers[2].fbuf}), 1);
	EXPECT_TRUE(polls(pair.from.domain, POLLOUT));
	EXPECT_EQ(alloc(pair.channel.sender, page, one), 1);
	EXPECT_EQ(alloc(pair.channel.sender, 5 * page, one), -ENOBUFS) << "larger than the pool";
}

TEST(PoolFull, WithFbufsOutIsEagain)
{
	Pair pair(4 * page);
	std::vector<fbufs_buffer> buffers(4), one(1);
	ASSERT_EQ(alloc(pair.channel.sender, page, buffers), 4);
	ASSERT_EQ(send_one(pair.channel.sender, buffers[1].fbuf, 0, 1), 1);
	for (const int fd : {pair.from.domain.get(), pair.channel.sender.get()})
		EXPECT_EQ(alloc(fd, page, one, FBUFS_DONTWAIT), -EAGAIN);
	ASSERT_EQ(::fcntl(pair.from.domain, F_SETFL, O_NONBLOCK), 0);
	EXPECT_EQ(alloc(pair.from.domain, page, one), -EAGAIN);
	EXPECT_FALSE(polls(pair.from.domain, POLLOUT));
	Blocked polling([&] { return polls(pair.from.domain, POLLOUT, 5000); });
	EXPECT_TRUE(polling.waits());
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {Received(pair.channel.receiver).handle()}), 1);
	EXPECT_EQ(polling.result(), 1);
	EXPECT_EQ(alloc(pair.from.domain, page, one), 1);
}

TEST(PoolFull, AWaitingThreadIsWokenWhenOneComesHome)
{
	Pair pair(4 * page);
	for (int way = 0; way < 4; way++) {
		std::vector<fbufs_buffer> buffers(4);
		ASSERT_EQ(alloc(pair.channel.sender, page, buffers), 4);
		ASSERT_EQ(send_one(pair.channel.sender, buffers[0].fbuf, 0, 1), 1);
		std::vector<fbufs_buffer> one(1);
		Blocked waiting([&] { return alloc(way % 2 ? pair.from.domain : pair.channel.sender, page, one); });
		EXPECT_TRUE(waiting.waits());
		const Received received(pair.channel.receiver);
		if (way / 2) {
			EXPECT_EQ(handles(pair.from.domain, FBUFS_FREE, {buffers[3].fbuf}), 1);
		} else {
			EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {received.handle()}), 1);
		}
		EXPECT_EQ(waiting.result(), 1);
		if (way / 2) {
			EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {received.handle()}), 1);
		}
		for (const fbufs_buffer& buffer : {buffers[1], buffers[2], one[0]})
			EXPECT_EQ(handles(pair.from.domain, FBUFS_FREE, {buffer.fbuf}), 1);
		(void)handles(pair.from.domain, FBUFS_FREE, {buffers[3].fbuf});
	}
}

TEST(PoolFull, AWaitingThreadIsInterrupted)
{
	Pair pair(page);
	pair.send_new();
	std::vector<fbufs_buffer> one(1);
	Blocked waiting([&] { return alloc(pair.from.domain, page, one); });
	EXPECT_TRUE(waiting.waits());
	waiting.interrupt();
	EXPECT_EQ(waiting.result(), -EINTR);
	EXPECT_EQ(pair.used(), page);
}

// The span is there "so that fbufs of many sizes find room".
TEST(PoolFull, NotWhileThereIsMemoryWhateverTheSizes)
{
	Pair large(16 << 20);
	std::uint64_t pages = 0;
	for (std::uint64_t size = 1; size <= 80; size++, pages += size)
		ASSERT_NE(alloc_one(large.from.domain, size * page).fbuf, 0u)
			<< size << " pages, after " << pages << " of 4096";
	large.from.domain.reset();

	Pair small(64 * page);
	EXPECT_NE(alloc_one(small.from.domain, page).fbuf, 0u);
	EXPECT_NE(alloc_one(small.from.domain, 40 * page).fbuf, 0u) << "after 1 page of 64";
}

// More pool than machine: the module's limit is half of the memory.
TEST(MachineFull, EndsInEnomemAndLosesNothing)
{
	constexpr std::uint64_t mega = 1 << 20;
	Pair pair(4ull << 30);
	ASSERT_NE(pair.from.pool.out_pool, 0u);
	std::vector<fbufs_buffer> all, batch(64);
	long result = 0;
	while ((result = alloc(pair.from.domain, mega, batch)) > 0 && all.size() < 4096)
		all.insert(all.end(), batch.begin(), batch.begin() + result);
	EXPECT_EQ(result, -ENOMEM);
	// Up to the last page.
	std::vector<fbufs_buffer> one(1);
	std::size_t rest = 0;
	while ((result = alloc(pair.from.domain, page, one)) == 1 && rest < mega / page)
		rest++;
	EXPECT_EQ(result, -ENOMEM);
	const std::uint64_t memory = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * page;
	EXPECT_GT(all.size() * mega, memory / 4);
	EXPECT_LE(all.size() * mega, memory / 2);
	EXPECT_EQ(pair.used(), all.size() * mega + rest * page) << "nothing is lost";
	EXPECT_EQ(gauges(pair.to)[FBUFS_GAUGE_PAGES], all.size() * mega / page + rest);
	const fbufs_buffer last = all.back();
	EXPECT_FALSE(store_faults(pair.from.at(last)));

	std::vector<std::uint64_t> names;
	for (const fbufs_buffer& buffer : all)
		names.push_back(buffer.fbuf);
	EXPECT_EQ(handles(pair.from.domain, FBUFS_FREE, names), static_cast<long>(names.size()));
	std::vector<fbufs_buffer> again(8);
	EXPECT_EQ(alloc(pair.from.domain, mega, again), 8);
	EXPECT_EQ(send_one(pair.channel.sender, again[0].fbuf, 0, mega), 1);
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {Received(pair.channel.receiver).handle()}), 1);
	// Nearly all of it is free, though as fbufs of another length.
	std::vector<fbufs_buffer> small(8);
	EXPECT_EQ(alloc(pair.from.domain, page, small), 8) << "free fbufs must make room";
	EXPECT_EQ(alloc(pair.channel.sender, 3 * page, small), 8) << "free fbufs must make room";
}

//
// The queue
//

TEST(Queue, AWaitingReceiverIsWoken)
{
	Pair pair;
	Blocked first([&] { return Received(pair.channel.receiver, 0).result; });
	EXPECT_TRUE(first.waits());
	pair.send_new();
	EXPECT_EQ(first.result(), 1);
	Blocked second([&] { return Received(pair.channel.receiver, 0).result; });
	EXPECT_TRUE(second.waits());
	pair.channel.sender.reset();
	EXPECT_EQ(second.result(), 0) << "hang-up";
}

TEST(Queue, AWaitingReceiverIsInterrupted)
{
	Pair pair;
	Blocked waiting([&] { return Received(pair.channel.receiver, 0).result; });
	EXPECT_TRUE(waiting.waits());
	waiting.interrupt();
	EXPECT_EQ(waiting.result(), -EINTR);
	pair.send_new();
	EXPECT_EQ(Received(pair.channel.receiver).result, 1);
}

TEST(Queue, AWaitingSenderIsInterruptedOrTold)
{
	for (const bool hangup : {false, true}) {
		Pair pair(1 << 20, 1);
		pair.send_new();
		const fbufs_buffer buffer = alloc_one(pair.channel.sender);
		Blocked waiting([&] { return send_one(pair.channel.sender, buffer.fbuf, 0, 1); });
		EXPECT_TRUE(waiting.waits());
		if (hangup)
			pair.channel.receiver.reset();
		else
			waiting.interrupt();
		EXPECT_EQ(waiting.result(), hangup ? -EPIPE : -EINTR);
		EXPECT_EQ(pair.state(buffer), FBUFS_STATE_OWNED);
		EXPECT_FALSE(store_faults(pair.from.at(buffer)));
	}
}

TEST(Queue, AnInterruptedSendSaysWhatItDid)
{
	Pair pair(1 << 20, 2);
	std::vector<fbufs_buffer> buffers(4);
	ASSERT_EQ(alloc(pair.channel.sender, page, buffers), 4);
	Blocked waiting([&] {
		std::vector<fbufs_message> messages(4);
		std::vector<fbufs_slice> slices(4);
		for (int i = 0; i < 4; i++) {
			messages[i].slices = 1;
			slices[i].fbuf = buffers[i].fbuf;
			slices[i].length = 1;
		}
		return send(pair.channel.sender, messages, slices);
	});
	EXPECT_TRUE(waiting.waits());
	waiting.interrupt();
	EXPECT_EQ(waiting.result(), 2);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(pair.state(buffers[i]), i < 2 ? FBUFS_STATE_SENT : FBUFS_STATE_OWNED);
}

TEST(MessageTooLong, ForTheSender)
{
	Pair pair;
	const fbufs_buffer buffer = alloc_one(pair.channel.sender);
	fbufs_slice slice = {};
	slice.fbuf = buffer.fbuf;
	slice.length = 1;
	std::vector<fbufs_slice> slices(FBUFS_MAX_SLICES + 1, slice);
	fbufs_message message = {};
	for (const std::uint32_t n : {FBUFS_MAX_SLICES + 1u, FBUFS_MAX_SLICES + 2u, ~0u}) {
		message.slices = n;
		EXPECT_EQ(send(pair.channel.sender, {message}, slices), -EMSGSIZE);
	}
	message.slices = 3;
	EXPECT_EQ(send(pair.channel.sender, {message}, {slice, slice}), -EMSGSIZE);
	EXPECT_EQ(pair.state(buffer), FBUFS_STATE_OWNED);
	EXPECT_EQ(end_info(pair.channel.receiver).out_queued, 0u);

	message.slices = FBUFS_MAX_SLICES;
	EXPECT_EQ(send(pair.channel.sender, {message}, slices), 1);
	EXPECT_EQ(locate(pair.from.domain, buffer.position).out_holders, FBUFS_MAX_SLICES * 1u);
	const Received received(pair.channel.receiver);
	EXPECT_EQ(received.message.length, FBUFS_MAX_SLICES * 1u);
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {received.handle()}), 1);
	EXPECT_EQ(pair.state(buffer), FBUFS_STATE_FREE);
}

TEST(MessageTooLong, ForTheReceiverStaysQueued)
{
	Pair pair;
	std::vector<fbufs_buffer> buffers(2);
	ASSERT_EQ(alloc(pair.channel.sender, page, buffers), 2);
	std::vector<fbufs_message> messages(2);
	std::vector<fbufs_slice> slices(4);
	for (std::uint32_t i = 0; i < 4; i++) {
		slices[i].fbuf = buffers[i / 2].fbuf;
		slices[i].length = 1 + i;
	}
	messages[0].slices = messages[1].slices = 2;
	ASSERT_EQ(send(pair.channel.sender, messages, slices), 2);
	for (const std::size_t room : {0, 1}) {
		std::vector<fbufs_slice> few(room);
		EXPECT_EQ(receive(pair.channel.receiver, messages, few), -EMSGSIZE);
		EXPECT_EQ(end_info(pair.channel.receiver).out_queued, 2u);
	}
	// Room for the first of two.
	std::vector<fbufs_slice> three(3);
	EXPECT_EQ(receive(pair.channel.receiver, messages, three), 1);
	EXPECT_EQ(messages[0].length, 3u);
	EXPECT_EQ(end_info(pair.channel.receiver).out_queued, 1u);
	EXPECT_EQ(Received(pair.channel.receiver).message.length, 7u);
}

//
// Many
//

TEST(Many, Receivers)
{
	Pair pair;
	std::vector<Fd> domains(FBUFS_MAX_RECEIVERS), ends(FBUFS_MAX_RECEIVERS);
	for (std::size_t i = 1; i < ends.size(); i++) {
		domains[i] = open_domain();
		ASSERT_EQ(add_receiver(pair.channel.sender, ends[i]), 0);
		ASSERT_EQ(attach(ends[i], domains[i]), 0);
	}
	const auto before = gauges(pair.to);
	Fd extra;
	EXPECT_EQ(add_receiver(pair.channel.sender, extra), -EUSERS);
	EXPECT_EQ(extra.get(), -1);
	EXPECT_EQ(gauges(pair.to), before);
	EXPECT_EQ(end_info(pair.channel.sender).out_receivers, FBUFS_MAX_RECEIVERS * 1u);

	const fbufs_buffer buffer = alloc_one(pair.channel.sender);
	*pair.from.at(buffer) = 42;
	ASSERT_EQ(send_one(pair.channel.sender, buffer.fbuf, 0, page, 5), 1);
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {Received(pair.channel.receiver).handle()}), 1);
	for (std::size_t i = 1; i < ends.size(); i++) {
		const Received received(ends[i]);
		EXPECT_EQ(received.message.cookie, 5u);
		const Window window(domains[i], pair.from.pool.out_pool, pair.from.pool.out_span, PROT_READ);
		EXPECT_EQ(*window.at(received.slices[0].position), 42);
		EXPECT_EQ(pair.state(buffer), FBUFS_STATE_SENT);
		EXPECT_EQ(handles(domains[i], FBUFS_RELEASE, {received.handle()}), 1);
	}
	EXPECT_EQ(pair.state(buffer), FBUFS_STATE_FREE);
	// The place of one that left is free again.
	ends[30].reset();
	EXPECT_EQ(add_receiver(pair.channel.sender, extra), 0);
}

TEST(Many, Channels)
{
	constexpr int many = 10000;
	rlimit old = {}, wide = {};
	::getrlimit(RLIMIT_NOFILE, &old);
	wide.rlim_cur = wide.rlim_max = std::max<rlim_t>(old.rlim_max, 2 * many + 100);
	ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &wide), 0);
	{
		const Originator from(64 << 20);
		const Fd to = open_domain();
		std::vector<std::unique_ptr<Channel>> channels;
		for (int i = 0; i < many; i++)
			channels.push_back(std::make_unique<Channel>(from.domain, to));
		EXPECT_EQ(gauges(to)[FBUFS_GAUGE_CHANNELS], many * 1u);
		EXPECT_EQ(gauges(to)[FBUFS_GAUGE_ENDS], many * 2u);
		int good = 0;
		for (int i = 0; i < many; i++)
			good += send_one(channels[i]->sender, alloc_one(channels[i]->sender).fbuf, 0, 1, i) == 1;
		EXPECT_EQ(good, many);
		for (int i = 0; i < many; i++) {
			const Received received(channels[i]->receiver);
			good -= received.message.cookie == static_cast<std::uint64_t>(i) &&
				handles(to, FBUFS_RELEASE, {received.handle()}) == 1;
		}
		EXPECT_EQ(good, 0);
	}
	EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
}

TEST(Many, DescriptorsAreEmfileAndNothingIsLeft)
{
	Pair pair;
	rlimit old = {};
	::getrlimit(RLIMIT_NOFILE, &old);
	const int next = ::dup(0);
	::close(next);
	const auto before = gauges(pair.to);
	for (const int room : {0, 1}) {
		rlimit tight = old;
		tight.rlim_cur = static_cast<rlim_t>(next + room);
		::setrlimit(RLIMIT_NOFILE, &tight);
		Fd sender, receiver, more;
		const long create = channel_create(pair.to, 0, 0, sender, receiver);
		const long add = room ? -EMFILE : add_receiver(pair.channel.sender, more);
		::setrlimit(RLIMIT_NOFILE, &old);
		EXPECT_EQ(create, -EMFILE);
		EXPECT_EQ(add, -EMFILE);
		EXPECT_EQ(gauges(pair.to), before);
		EXPECT_EQ(end_info(pair.channel.sender).out_receivers, 1u);
	}
}

// A domain that holds many messages: one that was sent to it, and that one as it sends it on to itself again and again,
// with cookies that count up.
struct Hoarder {
	Pair pair;
	Received root;
	Channel self;
	std::vector<std::uint64_t> held;
	std::uint64_t sent = 0, received = 0;
	std::vector<fbufs_message> messages;
	std::vector<fbufs_slice> slices;

	Hoarder()
		: root((pair.send_new(), pair.channel.receiver.get())),
		  self(pair.to, pair.to, 0, FBUFS_MAX_DEPTH), held{root.handle()}
	{
	}
	[[nodiscard]] std::uint32_t queued() const { return end_info(self.receiver).out_queued; }
	[[nodiscard]] std::size_t left() const { return FBUFS_MAX_HELD - held.size(); }
	void queue(std::size_t n, std::uint32_t slices_each = 1)
	{
		messages.assign(n, {});
		for (fbufs_message& each : messages) {
			each.cookie = sent++;
			each.slices = slices_each;
		}
		slices.assign(n * slices_each, root.slices[0]);
		for (fbufs_slice& each : slices)
			each.hold = root.handle();
		ASSERT_EQ(send(self.sender, messages, slices, FBUFS_DONTWAIT), static_cast<long>(n));
	}
	// What a call with room for so many of them says. What it got is held, in order.
	long get(std::size_t room, const std::vector<std::uint64_t>& release = {})
	{
		messages.assign(room, {});
		slices.assign(2 * room, {});
		const long got = receive(self.receiver, messages, slices, FBUFS_DONTWAIT, release);
		std::size_t wrong = 0;
		for (long i = 0; i < got; i++) {
			wrong += messages[i].cookie != received++ || messages[i].length != messages[i].slices * page;
			held.push_back(messages[i].message);
		}
		EXPECT_EQ(wrong, 0u) << "out of order, or not what was sent";
		return got;
	}
	void fill_up_to(std::size_t rest)
	{
		while (left() > rest) {
			const std::size_t n = std::min<std::size_t>(left() - rest, FBUFS_MAX_DEPTH);
			queue(n);
			ASSERT_EQ(get(n), static_cast<long>(n));
		}
	}
	// Some that lie apart in the table, which are not held any more.
	std::vector<std::uint64_t> choose(std::size_t n)
	{
		std::vector<std::uint64_t> chosen;
		for (std::size_t i = 0; i < n; i++) {
			const auto at = held.begin() + static_cast<std::ptrdiff_t>(1 + i * 977 % (held.size() - 1));
			chosen.push_back(*at);
			held.erase(at);
		}
		return chosen;
	}
	void release(std::size_t n) { EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, choose(n)), static_cast<long>(n)); }
	[[nodiscard]] bool all_differ() const
	{
		std::vector<std::uint64_t> sorted = held;
		std::ranges::sort(sorted);
		return std::ranges::adjacent_find(sorted) == sorted.end();
	}
	// No place is left: a call says so and takes nothing, also one that would wait.
	void expect_full(std::uint32_t queue_length)
	{
		EXPECT_EQ(left(), 0u);
		EXPECT_EQ(get(64), -ENOBUFS);
		EXPECT_EQ(get(1), -ENOBUFS);
		Blocked patient([&] { return Received(self.receiver, 0).result; });
		EXPECT_EQ(patient.result(), -ENOBUFS);
		EXPECT_EQ(queued(), queue_length);
	}
};

void expect_as_many_as_places(Hoarder& hoarder)
{
	hoarder.fill_up_to(45);
	ASSERT_EQ(hoarder.left(), 45u);
	hoarder.queue(200);
	EXPECT_EQ(hoarder.get(100), 45) << "more than a chunk, and not whole ones";
	hoarder.expect_full(155);
	hoarder.release(1);
	EXPECT_EQ(hoarder.get(100), 1);
	hoarder.expect_full(154);
	hoarder.release(33);
	EXPECT_EQ(hoarder.get(100), 33);
	hoarder.expect_full(121);
	// Those that the same call gives back are there for it.
	EXPECT_EQ(hoarder.get(100, hoarder.choose(7)), 7);
	hoarder.expect_full(114);
	hoarder.release(114);
	EXPECT_EQ(hoarder.get(114), 114);
	EXPECT_EQ(hoarder.queued(), 0u);
}

// A call that fails, or gets fewer than it could have, keeps none of the last places.
void expect_unused_places_left(Hoarder& hoarder)
{
	hoarder.release(5);
	hoarder.queue(1);
	hoarder.queue(8, 2);
	std::vector<fbufs_message> room(8);
	std::vector<fbufs_slice> one(1), four(4);
	fbufs_receive args = {};
	args.size = sizeof(args);
	args.flags = FBUFS_DONTWAIT;
	set_vectors(args, room, four);
	args.messages = 8;
	EXPECT_EQ(call(hoarder.self.receiver, FBUFS_RECEIVE, args), -EFAULT);
	EXPECT_EQ(hoarder.queued(), 9u);
	EXPECT_EQ(hoarder.get(1), 1);
	EXPECT_EQ(receive(hoarder.self.receiver, room, one, FBUFS_DONTWAIT), -EMSGSIZE);
	// Four messages could have come, and two fit.
	EXPECT_EQ(receive(hoarder.self.receiver, room, four, FBUFS_DONTWAIT), 2);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(room[i].cookie, hoarder.received++);
		hoarder.held.push_back(room[i].message);
	}
	EXPECT_EQ(hoarder.get(8), 2);
	hoarder.expect_full(4);
	hoarder.release(4);
	EXPECT_EQ(hoarder.get(4), 4);
	EXPECT_EQ(hoarder.queued(), 0u);
}

TEST(Many, HeldMessages)
{
	Hoarder hoarder;
	expect_as_many_as_places(hoarder);
	if (!testing::Test::HasFailure())
		expect_unused_places_left(hoarder);
	EXPECT_EQ(hoarder.received, hoarder.sent);
	EXPECT_TRUE(hoarder.all_differ()) << "one place for two messages";
	EXPECT_EQ(handles(hoarder.pair.to, FBUFS_RELEASE, hoarder.held), FBUFS_MAX_HELD);
	EXPECT_EQ(hoarder.pair.used(), page);
	EXPECT_EQ(hoarder.pair.state({0, hoarder.root.slices[0].position}), FBUFS_STATE_FREE);
}

} // namespace
