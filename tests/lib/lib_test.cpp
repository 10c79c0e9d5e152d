// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The rules of the design through the library, in two processes where two are meant.

#include <fbuf/fbuf.hpp>

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <optional>
#include <sys/resource.h>
#include <sys/socket.h>
#include <thread>

namespace {

using namespace std::chrono_literals;

// A sender with its pool, and a receiver in a domain of its own, in one process.
struct Pair {
	fbuf::domain originator = *fbuf::domain::open();
	fbuf::pool pool;
	fbuf::domain other = *fbuf::domain::open();
	fbuf::sender sender;
	fbuf::receiver receiver;

	explicit Pair(const fbuf::channel_options& options = {}, std::uint64_t bytes = 4 << 20,
		      fbuf::store_to_lent store = fbuf::store_to_lent::faults)
		: pool(*originator.create_pool(bytes, store))
	{
		auto [made, end] = *originator.create_channel(options);
		sender = std::move(made);
		receiver = *other.attach_receiver(std::move(end));
	}
	~Pair()
	{
		sender = {};
		receiver = {};
	}
};

void fill(std::span<std::byte> bytes, int seed)
{
	for (std::size_t i = 0; i < bytes.size(); i++)
		bytes[i] = static_cast<std::byte>(i * 7 + static_cast<std::size_t>(seed));
}

bool holds(std::span<const std::byte> bytes, int seed)
{
	for (std::size_t i = 0; i < bytes.size(); i++)
		if (bytes[i] != static_cast<std::byte>(i * 7 + static_cast<std::size_t>(seed)))
			return false;
	return true;
}

// While it lives, the process may map nothing more.
class NoMoreAddressSpace {
public:
	NoMoreAddressSpace()
	{
		std::uint64_t pages = 0;
		std::ifstream("/proc/self/statm") >> pages;
		::getrlimit(RLIMIT_AS, &before_);
		rlimit now = before_;
		now.rlim_cur = pages * 4096 + (1 << 20);
		EXPECT_EQ(::setrlimit(RLIMIT_AS, &now), 0);
	}
	NoMoreAddressSpace(const NoMoreAddressSpace&) = delete;
	NoMoreAddressSpace& operator=(const NoMoreAddressSpace&) = delete;
	~NoMoreAddressSpace() { ::setrlimit(RLIMIT_AS, &before_); }

private:
	rlimit before_ = {};
};

TEST(LibPool, CanBeMadeOnceThereIsRoom)
{
	fbuf::domain originator = *fbuf::domain::open();
	{
		const NoMoreAddressSpace limit;
		EXPECT_EQ(originator.create_pool(4 << 20).error(), std::errc::not_enough_memory);
	}
	EXPECT_EQ(originator.create_pool(8 << 20).error(), std::errc::file_exists);
	auto pool = originator.create_pool(4 << 20);
	ASSERT_TRUE(pool);
	EXPECT_TRUE(pool->allocate(4096));
	EXPECT_EQ(originator.create_pool(4 << 20).error(), std::errc::file_exists);
}

// The messages are off the queue by then: they wait for the next call.
TEST(LibReceive, LosesNothingWhenAPoolCannotBeMapped)
{
	Pair pair;
	for (int i = 0; i < 3; i++) {
		fbuf::aggregate parts(static_cast<std::uint64_t>(i));
		for (int j = 0; j <= i; j++) {
			auto own = *pair.sender.allocate(4096);
			fill(own.data(), 10 * i + j);
			ASSERT_TRUE(parts.append(std::move(own), 0, 4096));
		}
		ASSERT_TRUE(pair.sender.send({&parts, 1}));
	}
	std::array<fbuf::message, 3> messages;
	for (int again = 0; again < 2; again++) {
		const NoMoreAddressSpace limit;
		const auto none = pair.receiver.receive(messages);
		ASSERT_FALSE(none);
		EXPECT_EQ(none.error(), std::errc::not_enough_memory);
		EXPECT_FALSE(messages[0]);
	}
	EXPECT_TRUE(*pair.receiver.wait(0ms));
	ASSERT_EQ(pair.receiver.receive(std::span(messages).first(2)), 2u);
	messages[2] = *pair.receiver.receive();
	for (int i = 0; i < 3; i++) {
		const auto slices = messages[static_cast<std::size_t>(i)].slices();
		ASSERT_EQ(slices.size(), static_cast<std::size_t>(i + 1));
		EXPECT_EQ(messages[static_cast<std::size_t>(i)].cookie(), static_cast<std::uint64_t>(i));
		for (int j = 0; j <= i; j++)
			EXPECT_TRUE(holds(slices[static_cast<std::size_t>(j)].data, 10 * i + j));
	}
	EXPECT_FALSE(*pair.receiver.wait(0ms));
}

TEST(LibReceive, ReleasesWhatWaitsWhenItEnds)
{
	Pair pair;
	auto own = *pair.sender.allocate(4096);
	ASSERT_TRUE(pair.sender.lend(own, 4096));
	{
		const NoMoreAddressSpace limit;
		ASSERT_FALSE(pair.receiver.receive());
	}
	EXPECT_FALSE(*pair.pool.is_home(own));
	pair.receiver = {};
	EXPECT_TRUE(*pair.pool.is_home(own));
}

TEST(LibLend, ComesHomeAndIsLentAgain)
{
	Pair pair({}, 1 << 20, fbuf::store_to_lent::faults);
	fbuf::buffer own = *pair.sender.allocate(8192);
	const std::uint64_t handle = own.handle();
	for (int round = 0; round < 3; round++) {
		fill(own.data(), round);
		const auto sent = pair.sender.lend(own, 8192, 7);
		ASSERT_TRUE(sent) << sent.error().message();
		EXPECT_EQ(sent->bytes, 8192u);
		EXPECT_TRUE(own);
		EXPECT_FALSE(*pair.pool.is_home(own));
		EXPECT_EQ(pair.sender.lend(own, 8192).error(), std::errc::permission_denied);
		{
			const fbuf::message got = *pair.receiver.receive();
			EXPECT_TRUE(holds(got.data(), round));
		}
		ASSERT_TRUE(pair.other.flush());
		EXPECT_TRUE(*pair.pool.wait_notice(5s));
		EXPECT_EQ(*pair.pool.notices(), std::vector{handle});
		EXPECT_TRUE(*pair.pool.is_home(own));
	}
	EXPECT_EQ(pair.pool.is_home({}).error(), std::errc::invalid_argument);
}

TEST(LibLend, DestroyedIsGivenAway)
{
	Pair pair({}, 1 << 20, fbuf::store_to_lent::faults);
	std::uint64_t handle = 0;
	std::uint64_t used = 0;
	{
		fbuf::buffer own = *pair.sender.allocate(4096);
		handle = own.handle();
		used = *pair.pool.used();
		fill(own.data(), 1);
		ASSERT_TRUE(pair.sender.lend(own, 4096));
		fbuf::buffer moved = std::move(own);
	}
	fbuf::message got = *pair.receiver.receive();
	EXPECT_TRUE(holds(got.data(), 1));
	got.release();
	ASSERT_TRUE(pair.other.flush());
	// It is on the channel's free list, for the next one.
	EXPECT_EQ(*pair.pool.notices(), std::vector{handle});
	EXPECT_TRUE(pair.sender.allocate(4096));
	EXPECT_EQ(*pair.pool.used(), used);
}

TEST(LibLend, StoresGoToACopy)
{
	Pair pair({}, 1 << 20, fbuf::store_to_lent::copies);
	fbuf::buffer own = *pair.sender.allocate(8192);
	fill(own.data(), 1);
	ASSERT_TRUE(pair.sender.lend(own, 8192));
	const fbuf::message got = *pair.receiver.receive();
	fill(own.data(), 2);
	EXPECT_TRUE(got.locked());
	EXPECT_TRUE(holds(got.data(), 1));
	EXPECT_TRUE(holds(own.data(), 2));
	EXPECT_EQ(pair.originator.count()->bytes_copied, 8192u);
}

TEST(LibLend, StoresWait)
{
	Pair pair({}, 1 << 20, fbuf::store_to_lent::waits);
	fbuf::buffer own = *pair.sender.allocate(8192);
	fill(own.data(), 1);
	ASSERT_TRUE(pair.sender.lend(own, 8192));
	fbuf::message got = *pair.receiver.receive();
	std::thread writer([&] { fill(own.data(), 2); });
	std::this_thread::sleep_for(30ms);
	EXPECT_TRUE(holds(got.data(), 1));
	got.release();
	EXPECT_TRUE(pair.other.flush());
	writer.join();
	EXPECT_TRUE(holds(own.data(), 2));
}

bool no_vm_operation(const fbuf::counters& before, const fbuf::counters& after)
{
	return before.ptes_set == after.ptes_set && before.ptes_cleared == after.ptes_cleared &&
	       before.tlb_flushes == after.tlb_flushes && before.faults == after.faults &&
	       before.pages_allocated == after.pages_allocated;
}

TEST(LibCopyBelow, NothingIsCopiedIntoTheQueueUnlessToldSo)
{
	Pair pair;
	EXPECT_EQ(pair.sender.copy_below(), 0u);
	const auto sent = *pair.sender.send(*pair.sender.allocate(64), 64);
	EXPECT_EQ(sent.messages_copied, 0u);
	EXPECT_EQ(sent.bytes_copied, 0u);
	EXPECT_EQ(pair.originator.count()->bytes_copied, 0u);
}

TEST(LibCopyBelow, ABufferIsTheSendersAgain)
{
	Pair pair;
	pair.sender.copy_below(4097);
	const std::byte* place = nullptr;
	for (int i = 0; i < 20; i++) {
		auto buffer = *pair.sender.allocate(4096);
		if (place) {
			EXPECT_EQ(buffer.data().data(), place) << "the last one, and still writable";
		}
		place = buffer.data().data();
		fill(buffer.data(), i);
		const auto before = *pair.originator.count();
		const auto sent = pair.sender.send(std::move(buffer), 4096, 5);
		ASSERT_TRUE(sent) << sent.error().message();
		EXPECT_FALSE(buffer);
		EXPECT_EQ(sent->messages, 1u);
		EXPECT_EQ(sent->messages_copied, 1u);
		EXPECT_EQ(sent->bytes_copied, 4096u);
		if (i > 2) {
			EXPECT_TRUE(no_vm_operation(before, *pair.originator.count()));
		}
		const auto message = *pair.receiver.receive();
		EXPECT_TRUE(message.locked());
		EXPECT_EQ(message.cookie(), 5u);
		EXPECT_TRUE(holds(message.data(), i));
	}
	// From the setting on, and above what can be copied, it is handed over.
	EXPECT_EQ(pair.sender.send(*pair.sender.allocate(4097), 4097)->messages_copied, 0u);
	pair.sender.copy_below(1 << 20);
	EXPECT_EQ(pair.sender.send(*pair.sender.allocate(20000), 16384)->messages_copied, 1u);
	EXPECT_EQ(pair.sender.send(*pair.sender.allocate(20000), 16385)->messages_copied, 0u);
}

TEST(LibCopyBelow, AFailedSendLeavesTheBuffer)
{
	Pair pair({.depth = 1});
	pair.sender.copy_below(100);
	pair.sender.set_nonblocking(true).value();
	ASSERT_TRUE(pair.sender.send(*pair.sender.allocate(64), 64));
	auto buffer = *pair.sender.allocate(64);
	EXPECT_EQ(pair.sender.send(std::move(buffer), 64).error(), std::errc::resource_unavailable_try_again);
	ASSERT_TRUE(buffer);
	EXPECT_EQ(pair.sender.send(std::move(buffer), 0).error(), std::errc::result_out_of_range);
	(void)*pair.receiver.receive();
	EXPECT_TRUE(pair.sender.send(std::move(buffer), 64));
	EXPECT_FALSE(buffer);
}

TEST(LibCopyBelow, PacketsOfBothKinds)
{
	Pair pair;
	pair.sender.copy_below(100);
	std::vector<fbuf::packet> packets(6);
	ASSERT_EQ(*pair.sender.allocate(4096, packets), 6u);
	for (std::size_t i = 0; i < 6; i++) {
		fill(packets[i].own.data(), static_cast<int>(i));
		packets[i].length = i % 2 ? 4096 : 64;
		packets[i].cookie = i;
	}
	const auto sent = *pair.sender.send(std::span(packets));
	EXPECT_EQ(sent.messages, 6u);
	EXPECT_EQ(sent.messages_copied, 3u);
	EXPECT_EQ(sent.bytes, 3u * (4096 + 64));
	EXPECT_EQ(sent.bytes_copied, 3u * 64);
	for (std::size_t i = 0; i < 6; i++) {
		EXPECT_FALSE(packets[i].own);
		const auto message = *pair.receiver.receive();
		EXPECT_EQ(message.cookie(), i);
		EXPECT_EQ(message.length(), i % 2 ? 4096u : 64u);
		EXPECT_TRUE(holds(message.data(), static_cast<int>(i)));
	}
}

TEST(LibCopyBelow, WhatIsLentIsNot)
{
	Pair pair;
	pair.sender.copy_below(100);
	fbuf::buffer own = *pair.sender.allocate(64);
	EXPECT_EQ(pair.sender.lend(own, 64)->messages_copied, 0u);
	EXPECT_EQ(pair.sender.send(std::move(own), 64).error(), std::errc::permission_denied);
}

TEST(LibPlain, EitherWay)
{
	Pair pair;
	pair.sender.copy_below(1000);
	std::vector<std::byte> data(50000);
	for (const std::size_t bytes : {std::size_t{1}, std::size_t{999}, std::size_t{1000}, std::size_t{50000}}) {
		fill(data, static_cast<int>(bytes));
		const auto sent = pair.sender.send(std::span<const std::byte>(data).first(bytes), bytes);
		ASSERT_TRUE(sent) << sent.error().message();
		EXPECT_EQ(sent->messages, 1u);
		EXPECT_EQ(sent->bytes, bytes);
		EXPECT_EQ(sent->bytes_copied, bytes) << "once, in any case";
		EXPECT_EQ(sent->messages_copied, bytes < 1000 ? 1u : 0u);
		fill(data, 3);
		const auto message = *pair.receiver.receive();
		EXPECT_EQ(message.cookie(), bytes);
		EXPECT_EQ(message.length(), bytes);
		EXPECT_TRUE(message.locked());
		EXPECT_TRUE(holds(message.data(), static_cast<int>(bytes)));
	}
	EXPECT_EQ(pair.originator.count()->bytes_copied, 1000u) << "by the module";
	EXPECT_EQ(pair.sender.send(std::span<const std::byte>()).error(), std::errc::result_out_of_range);
}

TEST(LibPlain, ManyWithOneCall)
{
	Pair pair;
	std::vector<std::byte> data(9000);
	fill(data, 0);
	std::vector<fbuf::plain> messages;
	for (std::size_t i = 0; i < 60; i++)
		messages.push_back({std::span(data).subspan(i * 7, i % 3 ? 40 : 5000), i});
	for (const std::size_t below : {std::size_t{0}, std::size_t{100}, std::size_t{20000}}) {
		pair.sender.copy_below(below);
		const auto calls = pair.originator.count()->calls;
		const auto sent = pair.sender.send(std::span<const fbuf::plain>(messages));
		ASSERT_TRUE(sent) << sent.error().message();
		EXPECT_EQ(sent->messages, 60u);
		EXPECT_EQ(sent->messages_copied, below == 0 ? 0u : below == 100 ? 40u : 60u);
		EXPECT_EQ(sent->bytes_copied, sent->bytes);
		EXPECT_EQ(sent->bytes, 40u * 40 + 20u * 5000);
		if (below == 20000) {
			EXPECT_EQ(pair.originator.count()->calls, calls + 2) << "one to send, one to count";
		}
		for (const fbuf::plain& each : messages) {
			const auto message = *pair.receiver.receive();
			EXPECT_EQ(message.cookie(), each.cookie);
			ASSERT_EQ(message.length(), each.data.size());
			EXPECT_TRUE(std::ranges::equal(message.data(), each.data));
		}
		ASSERT_TRUE(pair.other.flush());
	}
	messages[1].data = {};
	EXPECT_EQ(pair.sender.send(std::span<const fbuf::plain>(messages)).error(), std::errc::result_out_of_range);
}

TEST(LibPlain, NonBlockingSendsWhatFits)
{
	Pair pair({.depth = 4});
	pair.sender.copy_below(100);
	pair.sender.set_nonblocking(true).value();
	const std::vector<std::byte> data(200);
	const std::vector<fbuf::plain> messages = {
		{std::span(data).first(10)}, {data}, {data}, {std::span(data).first(10)}, {data}};
	const auto sent = pair.sender.send(std::span(messages));
	ASSERT_TRUE(sent) << sent.error().message();
	EXPECT_EQ(sent->messages, 4u);
	EXPECT_EQ(sent->messages_copied, 2u);
	EXPECT_EQ(pair.sender.send(std::span(messages)).error(), std::errc::resource_unavailable_try_again);
}

// A pool that has room for fewer than are to be sent at a time: they go one after the other.
TEST(LibPlain, WithAPoolThatIsSmallerThanTheVector)
{
	Pair pair({}, 4 * 4096);
	const std::vector<std::byte> data(4096, std::byte{9});
	const std::vector<fbuf::plain> messages(20, fbuf::plain{data});
	std::thread reader([&] {
		for (int i = 0; i < 40; i++) {
			const auto message = *pair.receiver.receive();
			EXPECT_TRUE(std::ranges::equal(message.data(), data));
		}
		EXPECT_TRUE(pair.other.flush());
	});
	EXPECT_EQ(pair.sender.send(std::span(messages))->messages, 20u);
	pair.sender.copy_below(8192);
	EXPECT_EQ(pair.sender.send(std::span(messages))->messages, 20u);
	reader.join();
}

TEST(LibRule01OnePoolPerProcess, SecondPoolIsRefused)
{
	Pair pair;
	auto second = *fbuf::domain::open();
	EXPECT_EQ(second.create_pool(1 << 20).error(), std::errc::file_exists);
}

TEST(LibRule02OneOwner, SentBufferIsEmptyAndRefusedAgain)
{
	Pair pair;
	auto buffer = *pair.sender.allocate(4096);
	ASSERT_TRUE(pair.sender.send(std::move(buffer), 10));
	EXPECT_FALSE(buffer);
	EXPECT_EQ(pair.sender.send(std::move(buffer), 10).error(), std::errc::result_out_of_range);
}

TEST(LibRule02OneOwner, FailedSendLeavesTheBuffer)
{
	Pair pair({.depth = 1});
	pair.sender.set_nonblocking(true).value();
	ASSERT_TRUE(pair.sender.send(*pair.sender.allocate(4096), 10));
	auto buffer = *pair.sender.allocate(4096);
	fill(buffer.data(), 3);
	EXPECT_EQ(pair.sender.send(std::move(buffer), 10).error(), std::errc::resource_unavailable_try_again);
	ASSERT_TRUE(buffer);
	fill(buffer.data(), 4);
	EXPECT_EQ(pair.sender.send(std::move(buffer), 5000).error(), std::errc::result_out_of_range);
	ASSERT_TRUE(buffer);
	(void)*pair.receiver.receive();
	EXPECT_TRUE(pair.sender.send(std::move(buffer), 10));
}

TEST(LibRule03ComesHome, SameFbufServesAgain)
{
	Pair pair({.secure = false});
	auto first = *pair.sender.allocate(4096);
	const std::byte* place = first.data().data();
	std::vector<fbuf::buffer> rest;
	for (int i = 0; i < 40; i++)
		rest.push_back(*pair.sender.allocate(4096));
	ASSERT_TRUE(pair.sender.send(std::move(first), 1));
	{
		auto message = *pair.receiver.receive();
	}
	ASSERT_TRUE(pair.other.flush());
	const auto where = *pair.originator.locate(place);
	EXPECT_EQ(where.state == "free" || where.state == "owned", true) << where.state;
	EXPECT_FALSE(where.locked);
}

TEST(LibRule04KeepAndForward, HeldMessageGoesOnWithoutACopy)
{
	Pair pair;
	auto third = *fbuf::domain::open();
	auto [sender, end] = *pair.other.create_channel();
	auto receiver = *third.attach_receiver(std::move(end));
	auto buffer = *pair.sender.allocate(8192);
	fill(buffer.data(), 9);
	ASSERT_TRUE(pair.sender.send(std::move(buffer), 8192, 77));
	auto held = *pair.receiver.receive();
	fbuf::aggregate onwards(5);
	ASSERT_TRUE(onwards.append(held, 0, 4096, 100));
	ASSERT_TRUE(onwards.append(held));
	auto sent = sender.send(std::span(&onwards, 1));
	ASSERT_TRUE(sent) << sent.error().message();
	EXPECT_EQ(sent->bytes, 100u + 8192u);
	EXPECT_EQ(sent->bytes_copied, 0u);
	held.release();
	ASSERT_TRUE(pair.other.flush());
	auto got = *receiver.receive();
	ASSERT_EQ(got.slices().size(), 2u);
	EXPECT_EQ(got.cookie(), 5u);
	EXPECT_EQ(got.length(), 8292u);
	EXPECT_TRUE(holds(got.slices()[1].data, 9));
	EXPECT_EQ(std::memcmp(got.slices()[0].data.data(), got.slices()[1].data.data() + 4096, 100), 0);
	EXPECT_EQ(pair.other.count()->bytes_copied, 0u);
	got.release();
	receiver = {};
	sender = {};
}

TEST(LibRule05DomainBelongsToItsProcess, ChildMustOpenItsOwn)
{
	Pair pair;
	EXPECT_EQ(uapi::in_child([&] {
			  auto made = pair.sender.allocate(1 << 20);
			  return !made && made.error() == std::errc::operation_not_permitted ? 0 : 1;
		  }),
		  0);
}

TEST(LibRule06Death, KilledReceiverHangsUpAndLeavesNothing)
{
	Pair pair;
	auto extra = *pair.sender.add_receiver();
	// The sending process keeps no descriptor of the end that goes to the child.
	int ready[2];
	ASSERT_EQ(::pipe(ready), 0);
	const pid_t child = ::fork();
	if (child == 0) {
		auto domain = *fbuf::domain::open();
		auto receiver = *domain.attach_receiver(std::move(extra));
		(void)!::write(ready[1], "", 1);
		auto message = *receiver.receive();
		::pause();
		::_exit(0);
	}
	extra = fbuf::endpoint();
	char byte;
	ASSERT_EQ(::read(ready[0], &byte, 1), 1);
	pair.receiver = {};
	auto buffer = *pair.sender.allocate(4096);
	const std::byte* place = buffer.data().data();
	ASSERT_TRUE(pair.sender.send(std::move(buffer), 1));
	EXPECT_TRUE(pair.originator.locate(place)->locked);
	::kill(child, SIGKILL);
	::waitpid(child, nullptr, 0);
	EXPECT_TRUE(uapi::polls(pair.sender.fd(), POLLHUP, 5000));
	EXPECT_EQ(pair.sender.send(*pair.pool.allocate(4096), 1).error(), std::errc::broken_pipe);
	EXPECT_FALSE(pair.originator.locate(place)->locked);
}

TEST(LibRule07MandatoryLock, StoreAfterSendFaults)
{
	Pair pair;
	auto buffer = *pair.sender.allocate(4096);
	auto* place = reinterpret_cast<std::uint8_t*>(buffer.data().data());
	*place = 1;
	ASSERT_TRUE(pair.sender.send(std::move(buffer), 1));
	auto message = *pair.receiver.receive();
	EXPECT_TRUE(message.locked());
	EXPECT_TRUE(uapi::store_faults(place));
	EXPECT_EQ(uapi::detail::fault_address, place);
	EXPECT_EQ(*place, 1);
	EXPECT_EQ(static_cast<int>(message.data()[0]), 1);
}

TEST(LibRule08NoPins, DirectReadIntoABufferIsRefused)
{
	Pair pair;
	auto buffer = *pair.sender.allocate(4096);
	int fds[2];
	ASSERT_EQ(::pipe(fds), 0);
	iovec vector = {buffer.data().data(), 4096};
	EXPECT_EQ(::vmsplice(fds[1], &vector, 1, 0), -1);
	EXPECT_EQ(errno, EFAULT);
	EXPECT_TRUE(pair.sender.send(std::move(buffer), 1));
	::close(fds[0]);
	::close(fds[1]);
}

TEST(LibRule09Confidential, MovedFbufIsZero)
{
	Pair pair({}, 64 << 10);
	std::vector<fbuf::buffer> all;
	for (int i = 0; i < 16; i++) {
		all.push_back(*pair.sender.allocate(4096));
		std::memset(all.back().data().data(), 'S', 4096);
	}
	for (auto& each : all)
		ASSERT_TRUE(pair.sender.send(std::move(each), 4096));
	for (int i = 0; i < 16; i++)
		(void)*pair.receiver.receive();
	ASSERT_TRUE(pair.other.flush());
	// The pool is full of what went over the first channel.
	auto [second, end] = *pair.originator.create_channel();
	auto receiver = *pair.other.attach_receiver(std::move(end));
	auto buffer = second.allocate(4096);
	ASSERT_TRUE(buffer) << buffer.error().message();
	ASSERT_TRUE(second.send(std::move(*buffer), 4096));
	auto message = *receiver.receive();
	EXPECT_TRUE(std::ranges::all_of(message.data(), [](std::byte b) { return b == std::byte{0}; }));
	message.release();
	receiver = {};
	second = {};
}

TEST(LibRule10ReadOnly, ReceiversWindowCannotBeWritten)
{
	Pair pair;
	ASSERT_TRUE(pair.sender.send(*pair.sender.allocate(4096), 1));
	auto message = *pair.receiver.receive();
	auto* place = const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(message.data().data()));
	EXPECT_EQ(::mprotect(place, 4096, PROT_READ | PROT_WRITE), -1);
	EXPECT_EQ(errno, EACCES);
}

TEST(LibRule11Volatile, SecureMakesItSo)
{
	Pair pair({.secure = false});
	auto buffer = *pair.sender.allocate(4096);
	auto* place = reinterpret_cast<std::uint8_t*>(buffer.data().data());
	*place = 1;
	ASSERT_TRUE(pair.sender.send(std::move(buffer), 1));
	auto message = *pair.receiver.receive();
	EXPECT_FALSE(message.locked());
	EXPECT_FALSE(uapi::store_faults(place));
	ASSERT_TRUE(message.secure());
	EXPECT_TRUE(message.locked());
	EXPECT_TRUE(uapi::store_faults(place));
}

TEST(LibRule12Vectors, OneCallOneFlush)
{
	Pair pair;
	std::vector<fbuf::aggregate> messages;
	for (int i = 0; i < 32; i++) {
		auto buffer = *pair.sender.allocate(4096);
		fill(buffer.data(), i);
		messages.emplace_back(i);
		ASSERT_TRUE(messages.back().append(std::move(buffer), 0, 4096));
	}
	const auto before = *pair.originator.count();
	const auto sent = pair.sender.send(messages);
	const auto after = *pair.originator.count();
	ASSERT_TRUE(sent);
	EXPECT_EQ(sent->messages, 32u);
	EXPECT_EQ(after.tlb_flushes - before.tlb_flushes, 1u);
	std::vector<fbuf::message> got(32);
	EXPECT_EQ(*pair.receiver.receive(got), 32u);
	for (int i = 0; i < 32; i++)
		EXPECT_TRUE(holds(got[static_cast<std::size_t>(i)].data(), i));
}

TEST(LibRule12Vectors, PacketsThatWereNotSentAreGivenBackByTheNextAllocation)
{
	Pair pair({.depth = 2});
	pair.sender.set_nonblocking(true).value();
	std::vector<fbuf::packet> packets(4);
	ASSERT_EQ(*pair.sender.allocate(4096, packets), 4u);
	// As many as are at hand, so that allocating needs no call.
	auto more = *pair.sender.allocate(4096);
	ASSERT_EQ(pair.sender.send(packets)->messages, 2u);
	const auto used = pair.originator.count()->allocs;
	for (int i = 0; i < 50; i++)
		ASSERT_EQ(*pair.sender.allocate(4096, packets), 4u);
	EXPECT_EQ(pair.originator.count()->allocs, used);
	for (const fbuf::packet& each : packets)
		EXPECT_TRUE(each.own);
}

TEST(LibRule12Vectors, PacketsAreAllocatedSentAndReceivedTogether)
{
	Pair pair;
	std::vector<fbuf::packet> packets(32);
	std::vector<fbuf::message> got(32);
	for (int round = 0; round < 3; round++) {
		const auto allocated = *pair.originator.count();
		ASSERT_EQ(*pair.sender.allocate(4096, packets), 32u);
		EXPECT_LE(pair.originator.count()->calls - allocated.calls, 2u) << "one for them, one to count";
		for (std::size_t i = 0; i < packets.size(); i++) {
			ASSERT_TRUE(packets[i].own);
			EXPECT_EQ(packets[i].length, 4096u);
			fill(packets[i].own.data(), static_cast<int>(i) + round);
			packets[i].cookie = i;
		}
		const auto sent = pair.sender.send(packets);
		ASSERT_TRUE(sent);
		EXPECT_EQ(sent->messages, 32u);
		EXPECT_EQ(sent->bytes, 32u * 4096);
		for (const fbuf::packet& each : packets)
			EXPECT_FALSE(each.own);
		// What it holds from the round before is released by the same call.
		ASSERT_EQ(*pair.receiver.receive(got), 32u);
		for (std::size_t i = 0; i < got.size(); i++) {
			EXPECT_EQ(got[i].cookie(), i);
			EXPECT_TRUE(holds(got[i].data(), static_cast<int>(i) + round));
		}
		EXPECT_EQ(pair.other.count()->releases, 32u * static_cast<unsigned>(round));
	}
}

// Longer and shorter ones, with messages that are copied, have several slices, or want a notice in between.
TEST(LibRule12Vectors, AVectorHasNothingOfTheOneBefore)
{
	Pair pair;
	std::uint64_t cookie = 0;
	const auto receive_and_check = [&](std::size_t count, std::size_t slices) {
		std::vector<fbuf::message> got(count);
		ASSERT_EQ(*pair.receiver.receive(got), count);
		for (std::size_t i = 0; i < count; i++) {
			EXPECT_EQ(got[i].cookie(), cookie + i);
			EXPECT_EQ(got[i].slices().size(), slices);
			EXPECT_TRUE(holds(got[i].data(), static_cast<int>(cookie + i)));
		}
		cookie += count;
	};
	const auto send_packets = [&](std::size_t count, std::size_t copied) {
		std::vector<fbuf::packet> packets(count);
		ASSERT_EQ(*pair.sender.allocate(4096, packets), count);
		for (std::size_t i = 0; i < count; i++) {
			fill(packets[i].own.data(), static_cast<int>(cookie + i));
			packets[i].length = i % 2 ? 4096 : 64;
			packets[i].cookie = cookie + i;
		}
		const auto sent = *pair.sender.send(packets);
		EXPECT_EQ(sent.messages, count);
		EXPECT_EQ(sent.messages_copied, copied);
		receive_and_check(count, 1);
	};
	const auto send_aggregate = [&] {
		fbuf::aggregate two(cookie);
		two.want_notice();
		for (int i = 0; i < 2; i++) {
			auto own = *pair.sender.allocate(4096);
			fill(own.data(), static_cast<int>(cookie));
			ASSERT_TRUE(two.append(std::move(own), 0, 4096));
		}
		ASSERT_EQ(pair.sender.send({&two, 1})->messages, 1u);
		receive_and_check(1, 2);
	};
	for (const std::size_t count : {5u, 20u, 3u, 32u}) {
		send_packets(count, 0);
		send_aggregate();
		send_packets(count, 0);
		pair.sender.copy_below(100);
		send_packets(count, (count + 1) / 2);
		pair.sender.copy_below(0);
		send_packets(count + 1, 0);
		std::vector<std::byte> bytes(5000);
		fill(bytes, static_cast<int>(cookie));
		const fbuf::plain plain = {bytes, cookie};
		ASSERT_EQ(pair.sender.send({&plain, 1})->messages, 1u);
		receive_and_check(1, 1);
	}
}

TEST(LibRule12Vectors, APacketThatCannotGoLeavesAllOfThem)
{
	Pair pair;
	std::vector<fbuf::packet> packets(3);
	ASSERT_EQ(*pair.sender.allocate(4096, packets), 3u);
	packets[2].length = 5000;
	EXPECT_EQ(pair.sender.send(packets).error(), std::errc::result_out_of_range);
	for (const fbuf::packet& each : packets)
		EXPECT_TRUE(each.own);
	packets[2].length = 1;
	EXPECT_EQ(pair.sender.send(packets)->messages, 3u);
}

TEST(LibRule13Bounded, SenderWaitsForRoomAndEveryReceiverGetsAll)
{
	Pair pair({.depth = 4});
	auto second = *pair.other.attach_receiver(*pair.sender.add_receiver());
	std::thread thread([&] {
		for (int i = 0; i < 20; i++)
			EXPECT_TRUE(pair.sender.send(*pair.sender.allocate(4096), 1, static_cast<std::uint64_t>(i)));
	});
	for (std::uint64_t i = 0; i < 20; i++) {
		EXPECT_EQ(pair.receiver.receive()->cookie(), i);
		EXPECT_EQ(second.receive()->cookie(), i);
	}
	thread.join();
}

TEST(LibRule14Descriptors, EndsPassThroughARendezvous)
{
	const std::string path = "/tmp/fbuf-lib-test-" + std::to_string(::getpid());
	Pair pair;
	auto listener = fbuf::listener::listen(path);
	ASSERT_TRUE(listener) << listener.error().message();
	EXPECT_EQ(fbuf::listener::listen(path).error(), std::errc::address_in_use);
	const pid_t child = ::fork();
	if (child == 0) {
		// Without its own copies of the descriptors it sees the sender's end go.
		pair.sender = {};
		pair.receiver = {};
		auto domain = *fbuf::domain::open();
		auto peer = fbuf::connection::connect(path, 5s);
		if (!peer || peer->peer()->pid != ::getppid())
			::_exit(1);
		auto receiver = *domain.attach_receiver(*peer->take());
		auto message = receiver.receive();
		const bool right = message && holds(message->data(), 42);
		message = fbuf::message();
		const bool ended = receiver.receive().error() == fbuf::errc::end_of_stream;
		::_exit(right && ended ? 0 : 2);
	}
	auto peer = *listener->accept();
	EXPECT_EQ(peer.peer()->pid, child);
	ASSERT_TRUE(peer.pass(*pair.sender.add_receiver()));
	pair.receiver = {};
	auto buffer = *pair.sender.allocate(100000);
	fill(buffer.data(), 42);
	ASSERT_TRUE(pair.sender.send(std::move(buffer), 100000));
	pair.sender = {};
	int status = 0;
	::waitpid(child, &status, 0);
	EXPECT_EQ(status, 0);
}

TEST(LibRule14Descriptors, StrangersAreToldSo)
{
	const std::string path = "/tmp/fbuf-lib-stranger-" + std::to_string(::getpid());
	auto listener = *fbuf::listener::listen(path);
	auto peer = *fbuf::connection::connect(path);
	{
		auto other = *listener.accept();
	}
	EXPECT_EQ(peer.take().error(), fbuf::errc::no_end_passed);
	EXPECT_EQ(fbuf::connection::connect("/tmp/no-such-fbuf-path").error(), std::errc::no_such_file_or_directory);
}

TEST(LibRule15Steady, VolatileCachedMakesNoVirtualMemoryOperation)
{
	Pair pair({.secure = false});
	const auto round = [&] {
		auto buffer = *pair.sender.allocate(65536);
		buffer.data()[0] = std::byte{1};
		ASSERT_TRUE(pair.sender.send(std::move(buffer), 65536));
		auto message = *pair.receiver.receive();
		EXPECT_EQ(message.data()[0], std::byte{1});
	};
	for (int i = 0; i < 100; i++)
		round();
	const auto sent = *pair.originator.count();
	const auto received = *pair.other.count();
	for (int i = 0; i < 1000; i++)
		round();
	const auto sent_after = *pair.originator.count();
	const auto received_after = *pair.other.count();
	for (const auto field : {&fbuf::counters::faults, &fbuf::counters::ptes_set, &fbuf::counters::ptes_cleared,
				 &fbuf::counters::tlb_flushes, &fbuf::counters::pages_allocated}) {
		EXPECT_EQ(sent.*field, sent_after.*field);
		EXPECT_EQ(received.*field, received_after.*field);
	}
	// Allocation and release made no calls of their own; the counter reads are the two more.
	EXPECT_LE(sent_after.calls - sent.calls, 1001u);
	EXPECT_LE(received_after.calls - received.calls, 1001u);
}

TEST(LibRule16Errors, ExplainNamesTheRemedy)
{
	EXPECT_EQ(fbuf::domain::open("/dev/no-such-device").error(), fbuf::errc::no_module);
	EXPECT_NE(fbuf::explain(fbuf::errc::no_module).find("make load"), std::string::npos);
	Pair pair;
	EXPECT_EQ(pair.sender.allocate(0).error(), std::errc::invalid_argument);
	EXPECT_EQ(pair.sender.allocate(std::size_t{2} << 30).error(), std::errc::invalid_argument);
	EXPECT_EQ(pair.originator.locate(&pair).error(), std::errc::result_out_of_range);
	EXPECT_EQ(pair.other.attach_receiver(fbuf::endpoint(::dup(pair.receiver.fd()))).error(),
		  std::errc::device_or_resource_busy);
}

TEST(Notices, TellWhatCameHome)
{
	Pair pair;
	auto buffer = *pair.sender.allocate(4096);
	const auto handle = buffer.handle();
	fbuf::aggregate message;
	ASSERT_TRUE(message.append(std::move(buffer), 0, 1));
	message.want_notice();
	ASSERT_TRUE(pair.sender.send(std::span(&message, 1)));
	EXPECT_FALSE(*pair.pool.wait_notice(0ms));
	(void)*pair.receiver.receive();
	ASSERT_TRUE(pair.other.flush());
	EXPECT_TRUE(*pair.pool.wait_notice(1000ms));
	EXPECT_EQ(*pair.pool.notices(), std::vector{handle});
	EXPECT_TRUE(pair.pool.notices()->empty());
}

TEST(Report, NamesFbufChannelAndAddress)
{
	int fds[2];
	ASSERT_EQ(::pipe(fds), 0);
	const int status = uapi::in_child([&] {
		auto domain = *fbuf::domain::open();
		(void)*domain.create_pool(1 << 20);
		auto [sender, end] = *domain.create_channel();
		fbuf::report_violations(domain, fds[1]).value();
		auto buffer = *sender.allocate(4096);
		volatile auto* place = reinterpret_cast<volatile std::uint8_t*>(buffer.data().data());
		place[5] = 1;
		(void)*sender.send(std::move(buffer), 4096);
		place[5] = 2;
		return 0;
	});
	EXPECT_EQ(status, 128 + SIGBUS);
	char text[512] = {};
	ASSERT_GT(::read(fds[0], text, sizeof(text) - 1), 0);
	EXPECT_NE(std::strstr(text, "byte 5 of fbuf 0x"), nullptr) << text;
	EXPECT_NE(std::strstr(text, "of channel "), nullptr) << text;
	EXPECT_NE(std::strstr(text, "locked until all its receivers release it"), nullptr) << text;
}

} // namespace
