// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// What a store to a lent fbuf does: fault, wait, or go to a private copy of the page.

#include "support/io.hpp"

#include <pthread.h>

namespace {

using namespace uapi;

constexpr std::size_t bytes = 4 * page;

// An originator with a pool of that kind, and a channel to a receiver in a domain of its own.
struct Lender : Originator {
	Fd reader = open_domain();
	Fd sender, receiver;
	Window read_window;

	explicit Lender(std::uint32_t store, std::uint32_t channel = 0) : Originator(1 << 20, store)
	{
		EXPECT_EQ(window.error(), 0);
		EXPECT_EQ(channel_create(domain, channel | FBUFS_CHANNEL_ATTACH_SENDER, 0, sender, receiver), 0);
		EXPECT_EQ(attach(receiver, reader), 0);
		read_window = Window(reader, pool.out_pool, pool.out_span, PROT_READ);
	}
	[[nodiscard]] fbufs_buffer filled(unsigned seed = 1) const
	{
		std::vector<fbufs_buffer> buffer(1);
		EXPECT_EQ(alloc(sender, bytes, buffer), 1);
		fill(buffer[0], seed);
		return buffer[0];
	}
	void fill(const fbufs_buffer& buffer, unsigned seed) const
	{
		const Bytes data = pattern(bytes, seed);
		std::memcpy(window.at(buffer.position), data.data(), bytes);
	}
	[[nodiscard]] long lend(const fbufs_buffer& buffer, std::uint32_t more = 0) const
	{
		return send_one(sender, buffer.fbuf, 0, bytes, 0, 0, FBUFS_MESSAGE_LEND | more);
	}
	[[nodiscard]] long release(std::uint64_t message) const { return handles(reader, FBUFS_RELEASE, {message}); }
	[[nodiscard]] Bytes seen_by_reader(const fbufs_buffer& buffer) const
	{
		return Bytes(read_window.at(buffer.position), read_window.at(buffer.position) + bytes);
	}
	[[nodiscard]] Bytes seen_by_originator(const fbufs_buffer& buffer) const
	{
		return Bytes(window.at(buffer.position), window.at(buffer.position) + bytes);
	}
	[[nodiscard]] std::uint32_t state(const fbufs_buffer& buffer) const
	{
		return locate(domain, buffer.position).out_state;
	}
	[[nodiscard]] std::uint64_t copied() const { return counters(domain)[FBUFS_COUNT_BYTES_COPIED]; }
};

// A store in a thread of its own.
class Storing {
public:
	enum Step { begins, began, stored, faulted };

	Storing(std::uint8_t* where, std::uint8_t value)
		: thread_([this, where, value] {
			  step_ = began;
			  step_ = faults([=] { *static_cast<volatile std::uint8_t*>(where) = value; }) ? faulted
												       : stored;
		  })
	{
		EXPECT_TRUE(eventually([&] { return step_ != begins; }));
	}
	// Whether it has not been done after a while.
	[[nodiscard]] bool waits() const
	{
		::usleep(50'000);
		return step_ == began;
	}
	[[nodiscard]] Step ends()
	{
		thread_.join();
		return step_;
	}
	[[nodiscard]] pthread_t thread() { return thread_.native_handle(); }

private:
	std::atomic<Step> step_ = begins;
	std::jthread thread_;
};

class Stores : public IoTest {};

TEST_F(Stores, FlagsOfThePool)
{
	Fd domain = open_domain();
	fbufs_pool_create pool;
	EXPECT_EQ(pool_create(domain, 1 << 20, pool, FBUFS_POOL_STORE_WAIT | FBUFS_POOL_STORE_COPY), -EINVAL);
	EXPECT_EQ(pool_create(domain, 1 << 20, pool, 1U << 2), -EINVAL);
	EXPECT_EQ(pool_create(domain, 1 << 20, pool, FBUFS_POOL_STORE_WAIT), 0);
	domain = Fd();
	domain = open_domain();
	EXPECT_TRUE(eventually([&] { return pool_create(domain, 1 << 20, pool, FBUFS_POOL_STORE_COPY) == 0; }));
}

TEST_F(Stores, LentComesBackUnderItsHandle)
{
	const Lender lender(0);
	const fbufs_buffer buffer = lender.filled();
	for (unsigned round = 1; round < 4; round++) {
		lender.fill(buffer, round);
		ASSERT_EQ(lender.lend(buffer, FBUFS_MESSAGE_NOTICE), 1);
		EXPECT_EQ(lender.lend(buffer), -EACCES);
		EXPECT_TRUE(store_faults(lender.window.at(buffer.position)));
		const Received got(lender.receiver);
		ASSERT_EQ(got.result, 1);
		EXPECT_TRUE(lender.seen_by_reader(buffer) == pattern(bytes, round));
		ASSERT_EQ(lender.release(got.message.message), 1);
		const fbufs_locate found = locate(lender.domain, buffer.position);
		EXPECT_EQ(found.out_state, FBUFS_STATE_OWNED);
		EXPECT_EQ(found.out_fbuf, buffer.fbuf);
		EXPECT_EQ(found.out_locked, 0u);
		std::vector<std::uint64_t> home(4);
		fbufs_notices notices = {};
		notices.size = sizeof(notices);
		notices.fbufs = address(home.data());
		notices.count = 4;
		EXPECT_EQ(call(lender.domain, FBUFS_NOTICES, notices), 1);
		EXPECT_EQ(home[0], buffer.fbuf);
		EXPECT_FALSE(store_faults(lender.window.at(buffer.position)));
	}
	EXPECT_EQ(lender.copied(), 0u);
	EXPECT_EQ(handles(lender.domain, FBUFS_FREE, {buffer.fbuf}), 1);
	EXPECT_EQ(lender.state(buffer), FBUFS_STATE_FREE);
}

TEST_F(Stores, FreedWhileLentIsGivenAway)
{
	for (const std::uint32_t store : {0U, FBUFS_POOL_STORE_WAIT, FBUFS_POOL_STORE_COPY}) {
		const Lender lender(store);
		const fbufs_buffer buffer = lender.filled(7);
		const std::uint64_t pages = gauges(lender.domain)[FBUFS_GAUGE_PAGES];
		ASSERT_EQ(lender.lend(buffer), 1);
		if (store == FBUFS_POOL_STORE_COPY)
			*lender.window.at(buffer.position) = 1;
		EXPECT_EQ(handles(lender.domain, FBUFS_FREE, {buffer.fbuf}), 1);
		EXPECT_EQ(handles(lender.domain, FBUFS_FREE, {buffer.fbuf}), -EBUSY);
		EXPECT_TRUE(store_faults(lender.window.at(buffer.position) + page));
		const Received got(lender.receiver);
		ASSERT_EQ(got.result, 1);
		EXPECT_TRUE(lender.seen_by_reader(buffer) == pattern(bytes, 7));
		ASSERT_EQ(lender.release(got.message.message), 1);
		EXPECT_EQ(handles(lender.domain, FBUFS_FREE, {buffer.fbuf}), -ENOENT);
		EXPECT_NE(lender.state(buffer), FBUFS_STATE_OWNED);
		EXPECT_LE(gauges(lender.domain)[FBUFS_GAUGE_PAGES], pages);
	}
}

TEST_F(Stores, GivenAwayFaultsInEveryPool)
{
	for (const std::uint32_t store : {0U, FBUFS_POOL_STORE_WAIT, FBUFS_POOL_STORE_COPY}) {
		const Lender lender(store);
		const fbufs_buffer buffer = lender.filled();
		ASSERT_EQ(send_one(lender.sender, buffer.fbuf, 0, bytes), 1);
		EXPECT_TRUE(store_faults(lender.window.at(buffer.position)));
		EXPECT_EQ(lender.copied(), 0u);
	}
}

//
// Copy
//

TEST_F(Stores, CopyLeavesWhatWasSent)
{
	const Lender lender(FBUFS_POOL_STORE_COPY);
	const fbufs_buffer buffer = lender.filled(1);
	const std::uint64_t pages = gauges(lender.domain)[FBUFS_GAUGE_PAGES];
	ASSERT_EQ(lender.lend(buffer), 1);
	const Received got(lender.receiver);
	ASSERT_EQ(got.result, 1);
	EXPECT_NE(got.message.flags & FBUFS_MESSAGE_LOCKED, 0u);
	EXPECT_TRUE(lender.seen_by_reader(buffer) == pattern(bytes, 1));

	Bytes mine = pattern(bytes, 1);
	mine[page + 5] = 0xaa;
	lender.window.at(buffer.position)[page + 5] = 0xaa;
	EXPECT_EQ(lender.copied(), page);
	EXPECT_EQ(gauges(lender.domain)[FBUFS_GAUGE_PAGES], pages + 1);
	EXPECT_TRUE(lender.seen_by_originator(buffer) == mine);
	EXPECT_TRUE(lender.seen_by_reader(buffer) == pattern(bytes, 1));
	// A second store to the page, and one to another.
	mine[page + 6] = 0xab;
	lender.window.at(buffer.position)[page + 6] = 0xab;
	mine[3 * page] = 0xac;
	lender.window.at(buffer.position)[3 * page] = 0xac;
	EXPECT_EQ(lender.copied(), 2 * page);
	EXPECT_TRUE(lender.seen_by_reader(buffer) == pattern(bytes, 1));
	EXPECT_TRUE(locate(lender.domain, buffer.position).out_locked);

	ASSERT_EQ(lender.release(got.message.message), 1);
	EXPECT_EQ(lender.state(buffer), FBUFS_STATE_OWNED);
	EXPECT_TRUE(lender.seen_by_originator(buffer) == mine);
	// Its own again: pages without a copy are written in place, the others stay copies.
	mine[7] = 0xad;
	lender.window.at(buffer.position)[7] = 0xad;
	mine[page + 7] = 0xae;
	lender.window.at(buffer.position)[page + 7] = 0xae;
	EXPECT_EQ(lender.copied(), 2 * page);
	EXPECT_TRUE(lender.seen_by_originator(buffer) == mine);

	// Sent again, the copies are its bytes.
	ASSERT_EQ(lender.lend(buffer), 1);
	EXPECT_EQ(lender.copied(), 4 * page);
	EXPECT_EQ(gauges(lender.domain)[FBUFS_GAUGE_PAGES], pages);
	const Received again(lender.receiver);
	ASSERT_EQ(again.result, 1);
	EXPECT_TRUE(lender.seen_by_reader(buffer) == mine);
	lender.window.at(buffer.position)[0] = 0xaf;
	EXPECT_TRUE(lender.seen_by_reader(buffer) == mine);
	ASSERT_EQ(lender.release(again.message.message), 1);
	EXPECT_EQ(handles(lender.domain, FBUFS_FREE, {buffer.fbuf}), 1);
	EXPECT_TRUE(eventually([&] { return gauges(lender.domain)[FBUFS_GAUGE_PAGES] <= pages; }));
}

// Given away after it was lent, over the same channel: the copies are its bytes, and go with it.
TEST_F(Stores, CopiesAreSentAlsoForGood)
{
	const Lender lender(FBUFS_POOL_STORE_COPY);
	const fbufs_buffer buffer = lender.filled(1);
	for (std::uint8_t round = 0; round < 3; round++) {
		ASSERT_EQ(lender.lend(buffer), 1);
		lender.window.at(buffer.position)[page + 5] = round;
		const Received lent(lender.receiver);
		ASSERT_EQ(lender.release(lent.message.message), 1);
	}
	const Bytes mine = lender.seen_by_originator(buffer);
	ASSERT_EQ(send_one(lender.sender, buffer.fbuf, 0, bytes), 1);
	const Received given(lender.receiver);
	ASSERT_EQ(given.result, 1);
	EXPECT_TRUE(lender.seen_by_reader(buffer) == mine);
	EXPECT_EQ(mine[page + 5], 2);
	EXPECT_EQ(lender.release(given.message.message), 1);
}

TEST_F(Stores, CopyOfASystemCall)
{
	const Lender lender(FBUFS_POOL_STORE_COPY);
	const fbufs_buffer buffer = lender.filled(1);
	ASSERT_EQ(lender.lend(buffer), 1);
	int ends[2];
	ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
	const Fd out(ends[0]), in(ends[1]);
	const Bytes other = pattern(2 * page, 9);
	ASSERT_EQ(::write(in, other.data(), other.size()), static_cast<ssize_t>(other.size()));
	EXPECT_EQ(::read(out, lender.window.at(buffer.position), other.size()), static_cast<ssize_t>(other.size()));
	const Received got(lender.receiver);
	ASSERT_EQ(got.result, 1);
	EXPECT_TRUE(lender.seen_by_reader(buffer) == pattern(bytes, 1));
	EXPECT_EQ(std::memcmp(lender.window.at(buffer.position), other.data(), other.size()), 0);
}

TEST_F(Stores, CopySurvivesANewWindow)
{
	Lender lender(FBUFS_POOL_STORE_COPY);
	const fbufs_buffer buffer = lender.filled(1);
	ASSERT_EQ(lender.lend(buffer), 1);
	lender.window.at(buffer.position)[9] = 0x55;
	lender.window = Window();
	lender.window = Window(lender.domain, lender.pool.out_pool, lender.pool.out_span, PROT_READ | PROT_WRITE);
	ASSERT_EQ(lender.window.error(), 0);
	EXPECT_EQ(lender.window.at(buffer.position)[9], 0x55);
	EXPECT_EQ(lender.read_window.at(buffer.position)[9], pattern(bytes, 1)[9]);
	// A debugger sees what the process sees.
	const Fd memory(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
	std::uint8_t byte = 0;
	EXPECT_EQ(::pread(memory, &byte, 1, static_cast<off_t>(address(lender.window.at(buffer.position) + 9))), 1);
	EXPECT_EQ(byte, 0x55);
}

TEST_F(Stores, CopyWhileTheKernelWrites)
{
	const Lender lender(FBUFS_POOL_STORE_COPY);
	const fbufs_buffer buffer = lender.filled(4);
	int sockets[2];
	ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	const Fd to(sockets[0]), from(sockets[1]);
	ASSERT_EQ(submit(lender.domain, write_op(to), {slice_of(buffer.fbuf, 0, bytes)}), 1);
	lender.window.at(buffer.position)[0] = 0x77;
	lender.window.at(buffer.position)[2 * page] = 0x78;
	Bytes got(bytes);
	std::size_t at = 0;
	while (at < bytes) {
		const ssize_t n = ::read(from, got.data() + at, bytes - at);
		ASSERT_GT(n, 0);
		at += static_cast<std::size_t>(n);
	}
	EXPECT_TRUE(got == pattern(bytes, 4));
	EXPECT_EQ(finish_one(lender.domain).result, static_cast<long>(bytes));
	EXPECT_EQ(lender.state(buffer), FBUFS_STATE_OWNED);
	Bytes mine = pattern(bytes, 4);
	mine[0] = 0x77;
	mine[2 * page] = 0x78;
	EXPECT_TRUE(lender.seen_by_originator(buffer) == mine);
	// Written again, it is what the process sees.
	ASSERT_EQ(submit(lender.domain, write_op(to), {slice_of(buffer.fbuf, 0, bytes)}), 1);
	for (at = 0; at < bytes;)
		at += static_cast<std::size_t>(std::max<ssize_t>(::read(from, got.data() + at, bytes - at), 0));
	EXPECT_TRUE(got == mine);
	EXPECT_EQ(finish_one(lender.domain).result, static_cast<long>(bytes));
}

TEST_F(Stores, CopyOfWhatTheKernelFillsIsRefused)
{
	const Lender lender(FBUFS_POOL_STORE_COPY);
	int ends[2];
	ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
	const Fd out(ends[0]), in(ends[1]);
	// The fbuf of an earlier use shows where the next one will be.
	const fbufs_buffer before = alloc_one(lender.domain, page);
	ASSERT_NE(before.fbuf, 0u);
	*lender.window.at(before.position) = 1;
	ASSERT_EQ(handles(lender.domain, FBUFS_FREE, {before.fbuf}), 1);
	ASSERT_EQ(submit(lender.domain, read_op(out, page, 1, FBUFS_IO_ALL)), 1);
	ASSERT_EQ(::write(in, "ab", 2), 2);
	EXPECT_TRUE(Call(lender.domain, {}, {}).done.empty());
	ASSERT_EQ(lender.state(before), FBUFS_STATE_SENT);
	EXPECT_TRUE(store_faults(lender.window.at(before.position)));
	EXPECT_EQ(cancel(lender.domain, 1), 1);
	EXPECT_EQ(lender.copied(), 2u);
}

TEST_F(Stores, CopiesAtOnceAndSends)
{
	// A thread that stores all the time; each message is read twice and must not change between.
	const Lender lender(FBUFS_POOL_STORE_COPY);
	const fbufs_buffer buffer = lender.filled(1);
	std::atomic<bool> stop = false;
	std::jthread writer([&] {
		for (std::uint8_t value = 0; !stop; value++)
			for (std::size_t at = 0; at < bytes; at += page)
				*const_cast<volatile std::uint8_t*>(lender.window.at(buffer.position) + at) = value;
	});
	const std::uint64_t before = lender.copied();
	for (int round = 0; round < 300; round++) {
		ASSERT_EQ(lender.lend(buffer), 1);
		const Received got(lender.receiver);
		ASSERT_EQ(got.result, 1);
		const Bytes once = lender.seen_by_reader(buffer);
		if (round % 16 == 0)
			std::this_thread::yield();
		EXPECT_TRUE(lender.seen_by_reader(buffer) == once) << round;
		ASSERT_EQ(lender.release(got.message.message), 1);
	}
	stop = true;
	writer.join();
	EXPECT_GT(lender.copied(), before);
}

TEST_F(Stores, CopiesGoWithTheProcess)
{
	Fd watcher = open_domain();
	const Gauges before(watcher);
	EXPECT_EQ(in_child([] {
			  const Lender lender(FBUFS_POOL_STORE_COPY);
			  const fbufs_buffer buffer = lender.filled(1);
			  if (lender.lend(buffer) != 1)
				  return 1;
			  for (std::size_t at = 0; at < bytes; at += page)
				  *lender.window.at(buffer.position + at) = 1;
			  ::kill(::getpid(), SIGKILL);
			  return 2;
		  }),
		  128 + SIGKILL);
	EXPECT_TRUE(before.are_back());
}

TEST_F(Stores, CopyOfAVolatileFbufOnceItIsSecured)
{
	const Lender lender(FBUFS_POOL_STORE_COPY, FBUFS_CHANNEL_VOLATILE);
	const fbufs_buffer buffer = lender.filled(1);
	ASSERT_EQ(lender.lend(buffer), 1);
	const Received got(lender.receiver);
	ASSERT_EQ(got.result, 1);
	lender.window.at(buffer.position)[0] = 0x11;
	EXPECT_EQ(lender.read_window.at(buffer.position)[0], 0x11);
	EXPECT_EQ(lender.copied(), 0u);
	ASSERT_EQ(handles(lender.reader, FBUFS_SECURE, {got.message.message}), 1);
	lender.window.at(buffer.position)[0] = 0x12;
	EXPECT_EQ(lender.read_window.at(buffer.position)[0], 0x11);
	EXPECT_EQ(lender.window.at(buffer.position)[0], 0x12);
	EXPECT_EQ(lender.copied(), page);
}

//
// Wait
//

// A store to what is held waits for the release, and is then there.
void expect_store_waits(const Lender& lender, const fbufs_buffer& buffer, const Received& held)
{
	Storing store(lender.window.at(buffer.position) + 3, 0x99);
	EXPECT_TRUE(store.waits());
	EXPECT_TRUE(lender.seen_by_reader(buffer) == pattern(bytes, 1));
	// The address space is not locked meanwhile.
	void* const some = ::mmap(nullptr, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT_NE(some, MAP_FAILED);
	EXPECT_EQ(::munmap(some, page), 0);
	ASSERT_EQ(lender.release(held.message.message), 1);
	EXPECT_EQ(store.ends(), Storing::stored);
	EXPECT_EQ(lender.window.at(buffer.position)[3], 0x99);
}

TEST_F(Stores, WaitUntilItIsHome)
{
	const Lender lender(FBUFS_POOL_STORE_WAIT);
	const fbufs_buffer buffer = lender.filled(1);
	ASSERT_EQ(lender.lend(buffer), 1);
	const Received got(lender.receiver);
	ASSERT_EQ(got.result, 1);
	expect_store_waits(lender, buffer, got);
	EXPECT_EQ(lender.copied(), 0u);
	EXPECT_EQ(counters(lender.domain)[FBUFS_COUNT_FAULTS_DENIED], 0u);
}

// Where the originator has read, there is an entry, which a store finds read-only.
TEST_F(Stores, WaitWhereItWasRead)
{
	const Lender lender(FBUFS_POOL_STORE_WAIT);
	const fbufs_buffer buffer = lender.filled(1);
	ASSERT_EQ(lender.lend(buffer), 1);
	const Received got(lender.receiver);
	ASSERT_EQ(got.result, 1);
	EXPECT_TRUE(lender.seen_by_originator(buffer) == pattern(bytes, 1));
	expect_store_waits(lender, buffer, got);
}

TEST_F(Stores, WaitEndsInAFaultWhenItIsGivenAway)
{
	const Lender lender(FBUFS_POOL_STORE_WAIT);
	const fbufs_buffer buffer = lender.filled(1);
	ASSERT_EQ(lender.lend(buffer), 1);
	Storing store(lender.window.at(buffer.position), 0xee);
	EXPECT_TRUE(store.waits());
	EXPECT_EQ(handles(lender.domain, FBUFS_FREE, {buffer.fbuf}), 1);
	EXPECT_EQ(store.ends(), Storing::faulted);
}

TEST_F(Stores, WaitHandlesSignals)
{
	static std::atomic<int> handled;
	handled = 0;
	struct sigaction action = {};
	action.sa_handler = [](int) { handled++; };
	ASSERT_EQ(::sigaction(SIGUSR1, &action, nullptr), 0);
	const Lender lender(FBUFS_POOL_STORE_WAIT);
	const fbufs_buffer buffer = lender.filled(1);
	ASSERT_EQ(lender.lend(buffer), 1);
	const Received got(lender.receiver);
	ASSERT_EQ(got.result, 1);
	Storing store(lender.window.at(buffer.position) + 3, 0x99);
	for (int i = 1; i <= 3; i++) {
		::usleep(10'000);
		::pthread_kill(store.thread(), SIGUSR1);
		EXPECT_TRUE(eventually([&] { return handled == i; }));
	}
	EXPECT_TRUE(store.waits());
	ASSERT_EQ(lender.release(got.message.message), 1);
	EXPECT_EQ(store.ends(), Storing::stored);
}

TEST_F(Stores, WaitNeverInASystemCall)
{
	const Lender lender(FBUFS_POOL_STORE_WAIT);
	const fbufs_buffer buffer = lender.filled(1);
	ASSERT_EQ(lender.lend(buffer), 1);
	const Fd zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
	errno = 0;
	EXPECT_EQ(::read(zero, lender.window.at(buffer.position), 8), -1);
	EXPECT_EQ(errno, EFAULT);
	EXPECT_TRUE(lender.seen_by_originator(buffer) == pattern(bytes, 1));
}

TEST_F(Stores, WaitEndsWithTheProcess)
{
	Fd watcher = open_domain();
	const Gauges before(watcher);
	const pid_t child = ::fork();
	if (child == 0) {
		const Lender lender(FBUFS_POOL_STORE_WAIT);
		const fbufs_buffer buffer = lender.filled(1);
		if (lender.lend(buffer) == 1)
			*lender.window.at(buffer.position) = 1;
		::_exit(1);
	}
	::usleep(200'000);
	int status = 0;
	EXPECT_EQ(::waitpid(child, &status, WNOHANG), 0) << "it did not wait";
	EXPECT_EQ(::kill(child, SIGKILL), 0);
	EXPECT_EQ(::waitpid(child, &status, 0), child);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_TRUE(before.are_back());
}

TEST_F(Stores, WaitEndsWithTheDomain)
{
	Lender lender(FBUFS_POOL_STORE_WAIT);
	const fbufs_buffer buffer = lender.filled(1);
	ASSERT_EQ(lender.lend(buffer), 1);
	Storing store(lender.window.at(buffer.position), 0xee);
	EXPECT_TRUE(store.waits());
	lender.domain = Fd();
	EXPECT_EQ(store.ends(), Storing::faulted);
}

// The reader is killed with the fbuf in its hands: it is the originator's again, and the store is done.
TEST_F(Stores, WaitEndsWithTheReader)
{
	Originator lender(1 << 20, FBUFS_POOL_STORE_WAIT);
	Fd sender, receiver;
	ASSERT_EQ(channel_create(lender.domain, FBUFS_CHANNEL_ATTACH_SENDER, 0, sender, receiver), 0);
	std::vector<fbufs_buffer> buffer(1);
	ASSERT_EQ(alloc(sender, bytes, buffer), 1);
	*lender.at(buffer[0]) = 1;
	ASSERT_EQ(send_one(sender, buffer[0].fbuf, 0, bytes, 0, 0, FBUFS_MESSAGE_LEND), 1);
	const pid_t child = ::fork();
	if (child == 0) {
		const Fd reader = open_domain();
		if (attach(receiver, reader) == 0 && Received(receiver).result == 1)
			::pause();
		::_exit(1);
	}
	EXPECT_TRUE(eventually([&] { return end_info(receiver).out_attached && !end_info(receiver).out_queued; }));
	receiver = Fd();
	Storing store(lender.at(buffer[0]), 2);
	EXPECT_TRUE(store.waits());
	EXPECT_EQ(::kill(child, SIGKILL), 0);
	int status = 0;
	EXPECT_EQ(::waitpid(child, &status, 0), child);
	EXPECT_TRUE(WIFSIGNALED(status)) << "it did not hold the message";
	EXPECT_EQ(store.ends(), Storing::stored);
	EXPECT_EQ(*lender.at(buffer[0]), 2);
	EXPECT_EQ(locate(lender.domain, buffer[0].position).out_state, FBUFS_STATE_OWNED);
}

TEST_F(Stores, WaitForTheKernel)
{
	const Lender lender(FBUFS_POOL_STORE_WAIT);
	const fbufs_buffer buffer = lender.filled(4);
	int ends[2];
	ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
	const Fd out(ends[0]), in(ends[1]);
	ASSERT_EQ(submit(lender.domain, write_op(in), {slice_of(buffer.fbuf, 0, page)}), 1);
	Storing store(lender.window.at(buffer.position), 0x21);
	EXPECT_TRUE(store.waits());
	Bytes got(page);
	ASSERT_EQ(::read(out, got.data(), page), static_cast<ssize_t>(page));
	EXPECT_EQ(std::memcmp(got.data(), pattern(bytes, 4).data(), page), 0);
	EXPECT_EQ(finish_one(lender.domain).result, static_cast<long>(page));
	EXPECT_EQ(store.ends(), Storing::stored);
	EXPECT_EQ(*lender.window.at(buffer.position), 0x21);
}

} // namespace
