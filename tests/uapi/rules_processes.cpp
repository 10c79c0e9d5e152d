// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Rules 5 and 6: processes, and how they end.

#include "support/io.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

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
// 5
//

TEST(Rule05DomainsDoNotInherit, AChildCannotUseThem)
{
	Pair pair;
	const fbufs_buffer buffer = pair.send_new(1);
	const fbufs_buffer own = alloc_one(pair.from.domain);
	EXPECT_EQ(in_child([&] {
			  CHILD_EXPECT(handles(pair.from.domain, FBUFS_FREE, {own.fbuf}) == -EPERM);
			  CHILD_EXPECT(send_one(pair.channel.sender, own.fbuf, 0, 1) == -EPERM);
			  CHILD_EXPECT(Received(pair.channel.receiver).result == -EPERM);
			  const Window window(pair.from.domain, pair.from.pool.out_pool, pair.from.pool.out_span,
					      PROT_READ);
			  CHILD_EXPECT(window.error() == EPERM);
			  // Nor do its own domain and the name of the pool help.
			  const Fd domain = open_domain();
			  CHILD_EXPECT(attach(pair.channel.receiver, domain) == -EBUSY);
			  const Window other(domain, pair.from.pool.out_pool, pair.from.pool.out_span, PROT_READ);
			  CHILD_EXPECT(other.error() == ENOENT);
			  return 0;
		  }),
		  0);
	EXPECT_EQ(end_info(pair.channel.receiver).out_queued, 1u);
	EXPECT_EQ(pair.state(buffer), FBUFS_STATE_SENT);
	EXPECT_EQ(pair.state(own), FBUFS_STATE_OWNED);
}

TEST(Rule05DomainsDoNotInherit, AChildHasNoWindow)
{
	Pair pair;
	const fbufs_buffer buffer = pair.send_new(1);
	const Received received(pair.channel.receiver);
	ASSERT_EQ(*pair.window.at(buffer.position), 1);
	for (const volatile std::uint8_t* where : {pair.from.at(buffer), pair.window.at(buffer.position)})
		EXPECT_EQ(in_child([=] { return (void)*where, 0; }), 128 + SIGSEGV);
	// MADV_DOFORK does not undo it.
	EXPECT_EQ(::madvise(pair.from.window.base(), pair.from.window.span(), MADV_DOFORK), -1);
	EXPECT_EQ(errno, EINVAL);
}

TEST(Rule05DomainsDoNotInherit, EndsAreCloseOnExec)
{
	Pair pair;
	Fd more;
	ASSERT_EQ(add_receiver(pair.channel.sender, more), 0);
	for (const int fd : {pair.channel.sender.get(), pair.channel.receiver.get(), more.get()})
		EXPECT_EQ(::fcntl(fd, F_GETFD), FD_CLOEXEC);
}

TEST(Rule05DomainsDoNotInherit, AnInheritedDescriptorKeepsNothingAlive)
{
	Fd sender, receiver;
	const Fd here = open_domain();
	ASSERT_EQ(channel_create(here, 0, 0, sender, receiver), 0);
	ASSERT_EQ(attach(receiver, here), 0);
	int control[2];
	ASSERT_EQ(::pipe(control), 0);
	Process middle([&](int socket) {
		const Originator origin;
		CHILD_EXPECT(attach(sender, origin.domain) == 0);
		CHILD_EXPECT(send_one(sender, alloc_one(sender).fbuf, 0, 1) == 1);
		CHILD_EXPECT(alloc_one(sender).fbuf != 0);
		if (::fork() == 0) {
			// The grandchild inherits the domain and the ends, and outlives the middle.
			::close(control[1]);
			(void)hear(control[0]);
			::_exit(0);
		}
		tell(socket, 'k');
		::pause();
		return 0;
	});
	const Fd reading(control[0]);
	Fd writing(control[1]);
	ASSERT_EQ(hear(middle.socket()), 'k');
	middle.kill();
	EXPECT_TRUE(eventually([&] { return (poll_events(receiver) & POLLHUP) != 0; }));
	EXPECT_TRUE(eventually([&] { return gauges(here)[FBUFS_GAUGE_FBUFS] == 1; })) << "only the message's";
	EXPECT_EQ(handles(here, FBUFS_RELEASE, {Received(receiver).handle()}), 1);
	EXPECT_TRUE(eventually([&] { return gauges(here)[FBUFS_GAUGE_PAGES] == 0; }));
	writing.reset();
}

// A signal that is not for us, or an io_uring that ends, is no reason to fail. The call begins anew after each, so that
// an open must fit between two of them: under the checkers of a debug kernel it takes longer than the 100 us.
TEST(Rule05Domains, TheDeviceOpensWhateverIsPending)
{
	struct sigaction action = {};
	action.sa_handler = [](int) {};
	action.sa_flags = SA_RESTART;
	::sigaction(SIGUSR2, &action, nullptr);
	const auto begin = std::chrono::steady_clock::now();
	for (int i = 0; i < 20; i++)
		(void)open_domain();
	const auto one = (std::chrono::steady_clock::now() - begin) / 20;
	const auto pause = std::max<std::chrono::nanoseconds>(std::chrono::microseconds(100), 2 * one);
	std::atomic<bool> stop = false;
	const pthread_t target = ::pthread_self();
	std::thread signals([&] {
		while (!stop) {
			::pthread_kill(target, SIGUSR2);
			std::this_thread::sleep_for(pause);
		}
	});
	int failed = 0, error = 0;
	for (int i = 0; i < 2000; i++) {
		const Fd domain = open_domain();
		if (domain < 0) {
			failed++;
			error = errno;
		}
	}
	stop = true;
	signals.join();
	EXPECT_EQ(failed, 0) << "times of 2000: " << std::strerror(error);
}

//
// 6
//

// What a process may be about when it is killed. Each tells 'k' when it is ready.
struct Death {
	const char* name;
	int (*body)(int socket, const Fd& sender, const Fd& receiver);
};

void PrintTo(const Death& death, std::ostream* out)
{
	*out << death.name;
}

int die_owning(int socket, const Fd& sender, const Fd&)
{
	const Originator origin;
	CHILD_EXPECT(attach(sender, origin.domain) == 0);
	std::vector<fbufs_buffer> buffers(10);
	CHILD_EXPECT(alloc(sender, 5 * page, buffers) == 10);
	CHILD_EXPECT(alloc(origin.domain, page, buffers) == 10);
	std::memset(origin.at(buffers[0]), 1, page);
	CHILD_EXPECT(handles(origin.domain, FBUFS_FREE, {buffers[1].fbuf}) == 1);
	tell(socket, 'k');
	return ::pause();
}

int die_sending(int socket, const Fd& sender, const Fd&)
{
	const Originator origin;
	CHILD_EXPECT(attach(sender, origin.domain) == 0);
	for (std::uint32_t i = 0; i < depth; i++)
		CHILD_EXPECT(send_one(sender, alloc_one(sender).fbuf, 0, page, i) == 1);
	const fbufs_buffer more = alloc_one(sender);
	tell(socket, 'k');
	(void)send_one(sender, more.fbuf, 0, page);
	return 1;
}

// Two copied messages fill the pool; the third waits for it.
int die_copying(int socket, const Fd& sender, const Fd&)
{
	const Originator origin(2 * page);
	CHILD_EXPECT(attach(sender, origin.domain) == 0);
	const fbufs_message message = copied_message();
	const fbufs_slice slice = memory_slice("copied", 6);
	CHILD_EXPECT(send(sender, {message, message}, {slice, slice}) == 2);
	tell(socket, 'k');
	(void)send(sender, {message}, {slice});
	return 1;
}

// The socket is full and nobody reads; fbufs of the process are queued beside it.
int die_sending_a_file(int socket, const Fd& sender, const Fd&)
{
	const Originator origin;
	CHILD_EXPECT(attach(sender, origin.domain) == 0);
	CHILD_EXPECT(send_one(sender, alloc_one(sender).fbuf, 0, page) == 1);
	const Ends full = make_unix_stream();
	const Fd file = temporary_file();
	CHILD_EXPECT(::ftruncate(file, 64 << 20) == 0);
	fbufs_send_file args = send_file_args(full.in, file, 0, 64 << 20);
	tell(socket, 'k');
	(void)call(origin.domain, FBUFS_SEND_FILE, args);
	return 1;
}

int die_waiting(int socket, const Fd&, const Fd& receiver)
{
	const Fd domain = open_domain();
	CHILD_EXPECT(attach(receiver, domain) == 0);
	tell(socket, 'k');
	(void)Received(receiver, 0);
	return 1;
}

// A call whose answer never comes: what it sent stays queued.
int die_calling(int socket, const Fd& sender, const Fd& receiver)
{
	const Originator origin;
	CHILD_EXPECT(attach(sender, origin.domain) == 0);
	CHILD_EXPECT(attach(receiver, origin.domain) == 0);
	const Channel silent(origin.domain, origin.domain);
	const std::vector<fbufs_message> answers(1);
	const std::vector<fbufs_slice> answer_slices(1);
	std::vector<fbufs_message> messages(1);
	std::vector<fbufs_slice> slices(1);
	messages[0].slices = 1;
	slices[0].fbuf = alloc_one(sender).fbuf;
	slices[0].length = page;
	fbufs_call args = call_args(silent.receiver, messages, slices, answers, answer_slices);
	tell(socket, 'k');
	(void)call(sender, FBUFS_CALL, args);
	return 1;
}

// Sends to itself: some fbufs are queued, some held, some sent on from what is held.
int die_holding(int socket, const Fd& sender, const Fd& receiver)
{
	const Originator origin;
	CHILD_EXPECT(attach(sender, origin.domain) == 0);
	CHILD_EXPECT(attach(receiver, origin.domain) == 0);
	for (int i = 0; i < 6; i++)
		CHILD_EXPECT(send_one(sender, alloc_one(sender).fbuf, 0, page) == 1);
	const Received first(receiver), second(receiver);
	fbufs_message message = {};
	message.slices = 1;
	message.flags = FBUFS_MESSAGE_NOTICE;
	fbufs_slice slice = first.slices[0];
	slice.hold = first.handle();
	CHILD_EXPECT(send(sender, {message}, {slice}) == 1);
	tell(socket, 'k');
	return ::pause();
}

// Its domain's descriptor and those of its ends are all elsewhere, too.
int die_passed_on(int socket, const Fd& sender, const Fd& receiver)
{
	const Originator origin;
	CHILD_EXPECT(attach(sender, origin.domain) == 0);
	CHILD_EXPECT(attach(receiver, origin.domain) == 0);
	CHILD_EXPECT(send_one(sender, alloc_one(sender).fbuf, 0, page) == 1);
	tell(socket, 'k');
	pass_fd(socket, origin.domain);
	return ::pause();
}

class Rule06DeathLeavesNothing : public ::testing::TestWithParam<Death> {};

TEST_P(Rule06DeathLeavesNothing, AtAnyPoint)
{
	const Fd here = open_domain();
	const auto before = gauges(here);
	Fd sender, receiver;
	ASSERT_EQ(channel_create(here, 0, depth, sender, receiver), 0);
	Process child([&](int socket) { return GetParam().body(socket, sender, receiver); });
	ASSERT_EQ(hear(child.socket()), 'k');
	// Time to get to where it blocks.
	::usleep(100000);
	child.kill();
	const auto sees_hangup = [&] { return ((poll_events(sender) | poll_events(receiver)) & POLLHUP) != 0; };
	EXPECT_TRUE(eventually(sees_hangup));
	sender.reset();
	receiver.reset();
	// Domains and pools may be about in descriptors that were passed on; LeakCheck looks at those.
	for (const fbufs_gauge gauge :
	     {FBUFS_GAUGE_CHANNELS, FBUFS_GAUGE_ENDS, FBUFS_GAUGE_WINDOWS, FBUFS_GAUGE_MESSAGES, FBUFS_GAUGE_FBUFS,
	      FBUFS_GAUGE_PAGES, FBUFS_GAUGE_METADATA})
		EXPECT_TRUE(eventually([&] { return gauges(here)[gauge] == before[gauge]; })) << gauge;
}

INSTANTIATE_TEST_SUITE_P(Deaths, Rule06DeathLeavesNothing,
			 ::testing::Values(Death{"Owning", die_owning}, Death{"Sending", die_sending},
					   Death{"Copying", die_copying}, Death{"SendingAFile", die_sending_a_file},
					   Death{"Waiting", die_waiting}, Death{"Calling", die_calling},
					   Death{"Holding", die_holding}, Death{"PassedOn", die_passed_on}),
			 [](const auto& death) { return std::string(death.param.name); });

TEST(Rule06DeathOfTheOriginator, WhatReceiversHoldStays)
{
	const Fd here = open_domain();
	Fd sender, receiver;
	ASSERT_EQ(channel_create(here, 0, depth, sender, receiver), 0);
	ASSERT_EQ(attach(receiver, here), 0);
	Process child([&](int socket) {
		const Originator origin;
		CHILD_EXPECT(attach(sender, origin.domain) == 0);
		for (std::uint8_t i = 1; i <= 3; i++) {
			const fbufs_buffer buffer = alloc_one(sender, 2 * page);
			std::memset(origin.at(buffer), i, 2 * page);
			CHILD_EXPECT(send_one(sender, buffer.fbuf, 0, 2 * page, i) == 1);
		}
		CHILD_EXPECT(alloc_one(sender, 100 * page).fbuf != 0);
		tell(socket, 'k');
		return ::pause();
	});
	ASSERT_EQ(hear(child.socket()), 'k');
	const Received first(receiver);
	ASSERT_EQ(first.result, 1);
	child.kill();
	EXPECT_TRUE(eventually([&] { return (poll_events(receiver) & POLLHUP) != 0; }));
	EXPECT_TRUE(eventually([&] { return gauges(here)[FBUFS_GAUGE_PAGES] == 6; }));

	fbufs_pool_info info = {};
	info.size = sizeof(info);
	info.pool = FBUFS_HANDLE_POOL(first.slices[0].fbuf);
	ASSERT_EQ(call(here, FBUFS_POOL_INFO, info), 0);
	const Window window(here, info.pool, info.out_span, PROT_READ);
	ASSERT_EQ(window.error(), 0);
	EXPECT_EQ(window.at(first.slices[0].position)[2 * page - 1], 1);
	for (std::uint8_t i = 2; i <= 3; i++) {
		const Received next(receiver);
		ASSERT_EQ(next.message.cookie, i);
		EXPECT_EQ(*window.at(next.slices[0].position), i);
		EXPECT_EQ(handles(here, FBUFS_RELEASE, {next.handle()}), 1);
	}
	EXPECT_EQ(Received(receiver).result, 0) << "the end of the stream";
	EXPECT_EQ(gauges(here)[FBUFS_GAUGE_PAGES], 2u);
	EXPECT_EQ(handles(here, FBUFS_RELEASE, {first.handle()}), 1);
	EXPECT_EQ(gauges(here)[FBUFS_GAUGE_PAGES], 0u);
	EXPECT_TRUE(load_faults(window.at(first.slices[0].position)));
}

} // namespace
