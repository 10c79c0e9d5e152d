// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The lock, attacked: a secure message is sent, and then every way into its pages is tried, through the
// window of the originator and through that of a receiver. Each must end as documented, and after each no
// byte that a receiver can see may differ: one receiver is in this process, another one in a process of
// its own. The same with an fbuf that is lent, in pools whose stores wait or go to a copy, and with one that
// the kernel has: its bytes lie in a socket, from where they are read time and again.

#include "support/io.hpp"

#include <gtest/gtest.h>

#include <liburing.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

namespace {

using namespace uapi;

// Linux 6.7, newer than the headers of some distributions.
constexpr std::uint64_t userfault_wp_unpopulated = 1 << 13;
constexpr std::uint64_t userfault_wp_async = 1 << 15;

constexpr std::uint8_t evil = 0xee;
constexpr std::size_t fbuf_pages = 4;
constexpr std::size_t fbuf_bytes = fbuf_pages * page;

// What the originator wrote; never the evil byte.
Bytes good_bytes()
{
	Bytes bytes(fbuf_bytes);
	for (std::size_t i = 0; i < bytes.size(); i++)
		bytes[i] = static_cast<std::uint8_t>(1 + (i + i / page) % 101);
	return bytes;
}

struct Pipe {
	Fd out, in;
	Pipe()
	{
		int fds[2] = {-1, -1};
		if (::pipe2(fds, O_CLOEXEC) == 0) {
			out = Fd(fds[0]);
			in = Fd(fds[1]);
		}
	}
	void fill(std::size_t bytes) const
	{
		const Bytes data(bytes, evil);
		ASSERT_EQ(::write(in, data.data(), bytes), static_cast<ssize_t>(bytes));
	}
};

// A receiver in a process of its own, which reports what it sees.
class Witness {
public:
	Witness() = default;
	Witness(const Witness&) = delete;
	Witness& operator=(const Witness&) = delete;
	~Witness() { end(); }

	void start(int receiver, const fbufs_pool_create& pool)
	{
		child_ = ::fork();
		if (child_ == 0)
			::_exit(live(receiver, pool));
		ASSERT_GT(child_, 0);
		char ready = 0;
		ASSERT_EQ(::read(answers_.out, &ready, 1), 1);
		ASSERT_EQ(ready, 'r');
	}
	void receive()
	{
		char got = 0;
		ASSERT_EQ(::write(orders_.in, "r", 1), 1);
		ASSERT_EQ(::read(answers_.out, &got, 1), 1);
		ASSERT_EQ(got, 'g');
	}
	Bytes look()
	{
		Bytes seen(fbuf_bytes);
		if (::write(orders_.in, "l", 1) != 1)
			return {};
		for (std::size_t done = 0; done < seen.size();) {
			const ssize_t n = ::read(answers_.out, seen.data() + done, seen.size() - done);
			if (n <= 0)
				return {};
			done += static_cast<std::size_t>(n);
		}
		return seen;
	}
	void end()
	{
		if (child_ > 0) {
			::kill(child_, SIGKILL);
			::waitpid(child_, nullptr, 0);
		}
		child_ = -1;
	}

private:
	int live(int receiver, const fbufs_pool_create& pool)
	{
		::prctl(PR_SET_PDEATHSIG, SIGKILL);
		const Fd domain = open_domain();
		if (attach(receiver, domain) != 0)
			return 1;
		const Window window(domain, pool.out_pool, pool.out_span, PROT_READ);
		if (window.error() || ::write(answers_.in, "r", 1) != 1)
			return 2;
		std::vector<fbufs_message> messages(1);
		std::vector<fbufs_slice> slices(1);
		std::uint64_t position = 0; // of the first message, which it keeps
		for (char order; ::read(orders_.out, &order, 1) == 1;) {
			if (order == 'r') {
				if (uapi::receive(receiver, messages, slices) != 1 || ::write(answers_.in, "g", 1) != 1)
					return 3;
				position = position ? position : slices[0].position;
			} else if (::write(answers_.in, window.at(position), fbuf_bytes) !=
				   static_cast<ssize_t>(fbuf_bytes)) {
				return 4;
			}
		}
		return 0;
	}

	Pipe orders_, answers_;
	pid_t child_ = -1;
};

enum class Pages { fresh, touched };
enum class Through { originator, receiver };
enum class Entries { gone, back };	// whether page-table entries are there when the attack begins
enum class Way { given, lent, kernel }; // how the fbuf goes: in a message, or by a write that the kernel is at

// What a pool does with stores, and how its fbuf goes.
struct Pool {
	const char* name;
	std::uint32_t store;
	Way way;
};

// An originator, a receiver in the same process, a witness, and one fbuf.
class Scene {
public:
	explicit Scene(const Pool& kind) : pool(kind) {}

	void open(Pages pages, Entries entries)
	{
		entries_ = entries;
		ASSERT_EQ(origin.window.error(), 0);
		ASSERT_EQ(channel_create(origin.domain, 0, 0, sender, receiver), 0);
		ASSERT_EQ(attach(sender, origin.domain), 0);
		ASSERT_EQ(attach(receiver, domain), 0);
		ASSERT_EQ(add_receiver(sender, witness_end_), 0);
		ASSERT_NO_FATAL_FAILURE(witness.start(witness_end_, origin.pool));
		map_receiver();
		ASSERT_EQ(window.error(), 0);
		std::vector<fbufs_buffer> buffers(2);
		ASSERT_EQ(alloc(sender, fbuf_bytes, buffers), 2);
		buffer = buffers[0];
		neighbour = buffers[1];
		expected = Bytes(fbuf_bytes, 0);
		if (pages == Pages::touched) {
			expected = good_bytes();
			std::memcpy(origin.at(buffer), expected.data(), fbuf_bytes);
		}
	}
	void map_receiver() { window = Window(domain, origin.pool.out_pool, origin.pool.out_span, PROT_READ); }
	void map_originator()
	{
		origin.window =
			Window(origin.domain, origin.pool.out_pool, origin.pool.out_span, PROT_READ | PROT_WRITE);
	}

	void send()
	{
		ASSERT_NO_FATAL_FAILURE(deliver());
		for (std::size_t i = 0; entries_ == Entries::back && i < fbuf_bytes; i += page) {
			ASSERT_FALSE(load_faults(origin.at(buffer) + i));
			if (pool.way != Way::kernel) {
				ASSERT_FALSE(load_faults(window.at(buffer.position) + i));
			}
		}
	}
	// The same without a look at it.
	void deliver()
	{
		sent = true;
		if (pool.way == Way::kernel) {
			ASSERT_EQ(submit(origin.domain, write_op(socket_.in), {slice_of(buffer.fbuf, 0, fbuf_bytes)}),
				  1);
			ASSERT_EQ(locate(origin.domain, buffer.position).out_state, FBUFS_STATE_SENT);
			return;
		}
		const std::uint32_t lend = pool.way == Way::lent ? FBUFS_MESSAGE_LEND : 0;
		ASSERT_EQ(send_one(sender, buffer.fbuf, 0, fbuf_bytes, 0, 0, lend), 1);
		std::vector<fbufs_message> messages(1);
		std::vector<fbufs_slice> slices(1);
		ASSERT_EQ(receive(receiver, messages, slices), 1);
		held = messages[0].message;
		ASSERT_EQ(messages[0].flags, FBUFS_MESSAGE_LOCKED);
		ASSERT_EQ(slices[0].position, buffer.position);
		ASSERT_NO_FATAL_FAILURE(witness.receive());
	}
	// What the receiver in this process reads.
	Bytes look() const
	{
		if (pool.way != Way::kernel) {
			const std::uint8_t* at = window.at(buffer.position);
			return Bytes(at, at + fbuf_bytes);
		}
		Bytes seen(fbuf_bytes);
		EXPECT_TRUE(eventually([&] {
			return ::recv(socket_.out, seen.data(), fbuf_bytes, MSG_PEEK | MSG_DONTWAIT) ==
			       static_cast<ssize_t>(fbuf_bytes);
		})) << "the bytes do not lie in the socket";
		return seen;
	}
	Bytes look_originator() const
	{
		const std::uint8_t* at = origin.at(buffer);
		return Bytes(at, at + fbuf_bytes);
	}
	// Not through a window of this process.
	void check_elsewhere()
	{
		const Bytes seen = pool.way == Way::kernel ? look() : witness.look();
		EXPECT_TRUE(seen == expected) << "the receiver in another process, or at the socket, sees a change";
	}
	// Nothing that anybody reads has changed, but the originator's private copies.
	void check()
	{
		ASSERT_TRUE(sent) << "the attack never sent: it tests nothing";
		EXPECT_TRUE(look() == expected) << "the receiver sees a change";
		check_elsewhere();
		if (!origin.window.error() && pool.store != FBUFS_POOL_STORE_COPY) {
			EXPECT_TRUE(look_originator() == expected) << "the originator sees a change";
		}
	}
	// Nobody has it any more.
	void release()
	{
		witness.end();
		if (pool.way != Way::kernel) {
			EXPECT_EQ(handles(domain, FBUFS_RELEASE, {held}), 1);
			return;
		}
		EXPECT_TRUE(read_some(socket_.out, fbuf_bytes) == expected) << "the last reader sees a change";
		EXPECT_EQ(finish_one(origin.domain).result, static_cast<std::int64_t>(fbuf_bytes));
	}
	// What was lent is the originator's again, as it saw it.
	void check_back()
	{
		if (pool.way == Way::given) {
			release();
			return;
		}
		const Bytes mine = look_originator();
		release();
		EXPECT_EQ(locate(origin.domain, buffer.position).out_state, FBUFS_STATE_OWNED);
		EXPECT_TRUE(look_originator() == mine) << "what the originator stored has gone";
		EXPECT_FALSE(store_faults(origin.at(buffer)));
		EXPECT_EQ(handles(origin.domain, FBUFS_FREE, {buffer.fbuf}), 1);
	}
	// The lock was this fbuf's only, and it ends with the last release: what was refused was refused by it.
	void check_end()
	{
		ASSERT_EQ(origin.window.error(), 0);
		EXPECT_FALSE(store_faults(origin.at(neighbour)));
		check_back();
		std::vector<fbufs_buffer> again(1);
		ASSERT_EQ(alloc(sender, fbuf_bytes, again), 1);
		// One with private copies is not used again.
		if (pool.store != FBUFS_POOL_STORE_COPY) {
			EXPECT_EQ(again[0].position, buffer.position);
		}
		EXPECT_FALSE(store_faults(origin.at(again[0])));
		EXPECT_EQ(window.at(again[0].position)[0], evil) << "the two windows show different pages";
	}

	const Pool pool;
	Originator origin{4 << 20, pool.store};
	Fd domain = open_domain();
	Fd sender, receiver;
	Window window;
	fbufs_buffer buffer = {}, neighbour = {};
	Bytes expected;
	std::uint64_t held = 0;
	bool sent = false;
	Witness witness;

private:
	Fd witness_end_;
	Ends socket_ = make_unix_stream();
	Entries entries_ = Entries::gone;
};

// Where the attack goes in.
struct Target {
	Scene& scene;
	Window& window;
	int domain;
	bool own;

	std::uint8_t* at(std::size_t offset = 0) const { return window.at(scene.buffer.position) + offset; }
	[[nodiscard]] bool waits() const { return own && scene.pool.store == FBUFS_POOL_STORE_WAIT; }
	[[nodiscard]] bool copies() const { return own && scene.pool.store == FBUFS_POOL_STORE_COPY; }
	// What a system call that stores there gives: its usual result, into a copy, or EFAULT.
	[[nodiscard]] long stored(long usual) const { return copies() ? usual : -EFAULT; }
};

// A result of a system call as 0 or more, or -errno.
long result_of(long result)
{
	return result < 0 ? -errno : result;
}

/*
 * A mapping that is read-only answers a store with SIGSEGV, before the module is asked; the originator's,
 * which is not, with SIGBUS.
 */
thread_local volatile std::sig_atomic_t last_signal = 0;

void note_signal(int signal, siginfo_t* info, void* context)
{
	last_signal = signal;
	detail::handler(signal, info, context);
}

void catch_segv()
{
	struct sigaction action = {};
	action.sa_sigaction = note_signal;
	action.sa_flags = SA_SIGINFO | SA_NODEFER;
	::sigaction(SIGSEGV, &action, nullptr);
}

/*
 * A store that waits is given up by a signal, at its third tick: at the first ones the thread may not have come to the
 * store.
 */
constexpr int enough_ticks = 3;
thread_local volatile std::sig_atomic_t ticks = 0;

void note_tick(int)
{
	const int now = ticks + 1;
	ticks = now;
	if (now >= enough_ticks && detail::armed)
		siglongjmp(detail::jump, 1);
}

class Ticking {
public:
	Ticking()
	{
		ticks = 0;
		::signal(SIGUSR2, note_tick);
		sigevent event = {};
		event.sigev_notify = SIGEV_THREAD_ID;
		event.sigev_signo = SIGUSR2;
		event._sigev_un._tid = static_cast<pid_t>(::syscall(SYS_gettid));
		error_ = ::timer_create(CLOCK_MONOTONIC, &event, &timer_);
		const itimerspec every = {{0, 1'000'000}, {0, 1'000'000}};
		error_ = error_ || ::timer_settime(timer_, 0, &every, nullptr);
		EXPECT_FALSE(error_);
	}
	Ticking(const Ticking&) = delete;
	Ticking& operator=(const Ticking&) = delete;
	~Ticking() { ::timer_delete(timer_); }

private:
	timer_t timer_ = {};
	bool error_ = false;
};

enum class End { stored, refused, waited };

// How a store ends.
End end_of(const Target& target, const std::function<void()>& store)
{
	if (!target.waits())
		return faults(store) ? End::refused : End::stored;
	const Ticking ticking;
	if (!faults(store))
		return End::stored;
	return ticks >= enough_ticks ? End::waited : End::refused;
}

End usual_end(const Target& target)
{
	if (target.waits())
		return End::waited;
	return target.copies() ? End::stored : End::refused;
}

void expect_refused(const Target& target, std::uint8_t* where, const std::function<void()>& store)
{
	last_signal = 0;
	const End end = end_of(target, store);
	EXPECT_EQ(end, usual_end(target));
	EXPECT_EQ(last_signal, target.own ? 0 : SIGSEGV);
	if (end == End::refused) {
		EXPECT_EQ(detail::fault_address, where);
	}
}

void expect_store_refused(const Target& target, std::size_t offset)
{
	std::uint8_t* const where = target.at(offset);
	expect_refused(target, where, [=] { *static_cast<volatile std::uint8_t*>(where) = evil; });
	if (target.copies()) {
		EXPECT_EQ(*where, evil);
	}
}

void expect_all_stores_refused(const Target& target)
{
	for (std::size_t i = 0; i < fbuf_bytes; i += page) {
		expect_store_refused(target, i);
		expect_store_refused(target, i + page - 1);
	}
}

// What other processes do to this one, while it waits.
void by_other(const std::function<int(pid_t)>& body)
{
	::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	const pid_t me = ::getpid();
	EXPECT_EQ(in_child([&] { return body(me); }), 0) << "which check of the other process failed";
}

/*
 * Attacks. Each sends when it wants to.
 */

void store_same_thread(Target& target)
{
	target.scene.send();
	expect_all_stores_refused(target);
	std::uint8_t* const at = target.at(page);
	expect_refused(target, at, [=] { __atomic_fetch_add(at, 1, __ATOMIC_SEQ_CST); });
	// A compare-and-exchange writes even when it does not match.
	expect_refused(target, at, [=] {
		auto* const word = reinterpret_cast<std::uint64_t*>(at);
		std::uint64_t wrong = 0x1234567812345678;
		__atomic_compare_exchange_n(word, &wrong, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	});
	expect_refused(target, at, [=] { asm volatile("movnti %1, %0" : "=m"(*at) : "r"(0x11223344)); });
	expect_refused(target, at, [=] {
		std::uint8_t* to = at;
		std::size_t n = 2 * page;
		asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(evil) : "memory");
	});
	// Over the border of two pages.
	EXPECT_EQ(end_of(target, [=] { asm volatile("movq %1, %0"
						    : "=m"(at[-4])
						    : "r"(0x1122334455667788)); }),
		  usual_end(target));
}

void store_other_thread(Target& target)
{
	target.scene.send();
	std::thread([&] { expect_all_stores_refused(target); }).join();
}

void store_during_send(Target& target)
{
	std::atomic<bool> stop = false;
	std::atomic<unsigned> refused = 0;
	std::atomic<unsigned> stored = 0;
	std::thread thread([&] {
		std::uint8_t value = 0;
		while (!stop) {
			for (std::size_t i = 0; i < fbuf_bytes; i += page / 2) {
				volatile std::uint8_t* at = target.at(i);
				if (end_of(target, [&] { *at = value++; }) == End::stored)
					stored++;
				else
					refused++;
			}
		}
	});
	while (target.own && stored < 100)
		std::this_thread::yield();
	target.scene.send();
	target.scene.expected = target.scene.look();
	const unsigned before = refused, stores = stored;
	for (int i = 0; i < 5; i++) {
		std::this_thread::sleep_for(std::chrono::milliseconds(5));
		EXPECT_TRUE(target.scene.look() == target.scene.expected) << "after " << i;
	}
	while (target.copies() ? stored < stores + 20 : refused < before + 20)
		std::this_thread::yield();
	if (!target.copies()) {
		EXPECT_LE(stored, stores + 1) << "stores after the send went through";
	}
	stop = true;
	thread.join();
	EXPECT_EQ(stored, target.own ? stored.load() : 0U);
}

int cloned(void* argument)
{
	const auto& target = *static_cast<Target*>(argument);
	for (std::size_t i = 0; i < fbuf_bytes; i += page)
		if (end_of(target, [&] { *static_cast<volatile std::uint8_t*>(target.at(i)) = evil; }) !=
		    usual_end(target))
			return 1;
	const Pipe pipe;
	if (::write(pipe.in, "\xee", 1) != 1 || result_of(::read(pipe.out, target.at(), 1)) != target.stored(1))
		return 2;
	return 0;
}

void store_clone_vm(Target& target)
{
	target.scene.send();
	std::vector<std::uint8_t> stack(1 << 18);
	const pid_t child = ::clone(cloned, stack.data() + stack.size(), CLONE_VM | SIGCHLD, &target);
	ASSERT_GT(child, 0);
	int status = -1;
	ASSERT_EQ(::waitpid(child, &status, 0), child);
	EXPECT_EQ(status, 0);
}

// A signal frame of another thread of execution is written by the kernel.
int cloned_signal_stack(void* argument)
{
	const auto& target = *static_cast<Target*>(argument);
	stack_t stack = {};
	stack.ss_sp = target.at();
	stack.ss_size = fbuf_bytes;
	if (::sigaltstack(&stack, nullptr))
		return 1;
	struct sigaction action = {};
	action.sa_handler = [](int) { ::_exit(2); };
	action.sa_flags = SA_ONSTACK;
	::sigaction(SIGUSR1, &action, nullptr);
	::signal(SIGBUS, SIG_DFL);
	::kill(::getpid(), SIGUSR1);
	return 3;
}

void signal_frame(Target& target)
{
	target.scene.send();
	std::vector<std::uint8_t> stack(1 << 18);
	const pid_t child = ::clone(cloned_signal_stack, stack.data() + stack.size(), CLONE_VM | SIGCHLD, &target);
	ASSERT_GT(child, 0);
	int status = 0;
	ASSERT_EQ(::waitpid(child, &status, 0), child);
	if (target.copies()) {
		EXPECT_EQ(WEXITSTATUS(status), 2) << "the handler runs, on the copy";
	} else {
		EXPECT_TRUE(WIFSIGNALED(status));
	}
}

void read_calls(Target& target)
{
	target.scene.send();
	const Pipe pipe;
	pipe.fill(2 * page);
	for (std::size_t i = 0; i < fbuf_bytes; i += page) {
		EXPECT_EQ(result_of(::read(pipe.out, target.at(i), 64)), target.stored(64));
		const iovec part = {target.at(i), 64};
		EXPECT_EQ(result_of(::readv(pipe.out, &part, 1)), target.stored(64));
	}
	EXPECT_EQ(result_of(::getrandom(target.at(), 64, 0)), target.stored(64));
	int sockets[2];
	ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	const Fd a(sockets[0]), b(sockets[1]);
	ASSERT_EQ(::write(a, "evil", 4), 4);
	EXPECT_EQ(result_of(::recv(b, target.at(), 4, 0)), target.stored(4));
	const Fd file(::memfd_create("evil", MFD_CLOEXEC));
	ASSERT_EQ(::pwrite(file, Bytes(fbuf_bytes, evil).data(), fbuf_bytes, 0), static_cast<ssize_t>(fbuf_bytes));
	EXPECT_EQ(result_of(::pread(file, target.at(), fbuf_bytes, 0)), target.stored(fbuf_bytes));
}

// The module's own outputs.
void module_outputs(Target& target)
{
	target.scene.send();
	auto* const out = reinterpret_cast<fbufs_query*>(target.at());
	EXPECT_EQ(result_of(::ioctl(target.domain, FBUFS_QUERY, out)), target.scene.expected[0] ? -E2BIG : -EINVAL)
		<< "its size is what lies there";
	fbufs_alloc args = {};
	args.size = sizeof(args);
	args.bytes = page;
	args.count = 1;
	args.buffers = address(target.at(page));
	const std::uint64_t pages_before = gauges(target.scene.origin.domain)[FBUFS_GAUGE_PAGES];
	for (int i = 0; i < 8; i++)
		EXPECT_EQ(call(target.scene.sender, FBUFS_ALLOC, args), target.stored(1));
	if (!target.copies()) {
		EXPECT_LE(gauges(target.scene.origin.domain)[FBUFS_GAUGE_PAGES], pages_before + 1)
			<< "lost by failed calls";
	}
	fbufs_receive receive_args = {};
	receive_args.size = sizeof(receive_args);
	receive_args.count = 1;
	receive_args.nslices = 1;
	fbufs_slice slice = {};
	receive_args.messages = address(target.at(page));
	receive_args.slices = address(&slice);
	ASSERT_EQ(send_one(target.scene.sender, target.scene.neighbour.fbuf, 0, 1), 1);
	fbufs_message message = {};
	if (target.copies()) {
		receive_args.slices = address(target.at(2 * page));
		ASSERT_EQ(call(target.scene.receiver, FBUFS_RECEIVE, receive_args), 1);
		std::memcpy(&message, target.at(page), sizeof(message));
	} else {
		EXPECT_EQ(call(target.scene.receiver, FBUFS_RECEIVE, receive_args), -EFAULT);
		receive_args.messages = address(&message);
		receive_args.slices = address(target.at(page));
		EXPECT_EQ(call(target.scene.receiver, FBUFS_RECEIVE, receive_args), -EFAULT);
		receive_args.slices = address(&slice);
		ASSERT_EQ(call(target.scene.receiver, FBUFS_RECEIVE, receive_args), 1) << "the message went lost";
	}
	EXPECT_EQ(handles(target.scene.domain, FBUFS_RELEASE, {message.message}), 1);
	target.scene.witness.receive();
	fbufs_buffer fresh = {};
	args.buffers = address(&fresh);
	args.bytes = fbuf_bytes;
	ASSERT_EQ(call(target.scene.sender, FBUFS_ALLOC, args), 1);
	target.scene.neighbour = fresh;
}

void protect(Target& target)
{
	target.scene.send();
	for (const int protection :
	     {PROT_READ, PROT_READ | PROT_WRITE, PROT_NONE, PROT_WRITE, PROT_READ | PROT_WRITE | PROT_EXEC}) {
		EXPECT_EQ(result_of(::mprotect(target.at(), fbuf_bytes, protection)), -EACCES) << protection;
		EXPECT_EQ(result_of(::mprotect(target.at(page), page, protection)), -EACCES) << protection;
		EXPECT_EQ(result_of(::mprotect(target.window.base(), target.window.span(), protection)), -EACCES)
			<< protection;
		EXPECT_EQ(result_of(::syscall(SYS_pkey_mprotect, target.at(), fbuf_bytes, protection, -1)), -EACCES);
		expect_store_refused(target, page);
	}
	expect_all_stores_refused(target);
}

// mprotect before the send, when the entries are writable and dirty, must not matter either.
void protect_before_send(Target& target)
{
	for (const int protection : {PROT_READ, PROT_READ | PROT_WRITE})
		EXPECT_EQ(result_of(::mprotect(target.at(), fbuf_bytes, protection)), -EACCES);
	target.scene.send();
	for (const int protection : {PROT_READ, PROT_READ | PROT_WRITE})
		EXPECT_EQ(result_of(::mprotect(target.at(), fbuf_bytes, protection)), -EACCES);
	expect_all_stores_refused(target);
}

void expect_remap_refused(void* from, std::size_t old_bytes, std::size_t new_bytes, int flags, void* to = nullptr)
{
	void* const result = ::mremap(from, old_bytes, new_bytes, flags, to);
	const int error = errno;
	EXPECT_EQ(result, MAP_FAILED) << old_bytes << " -> " << new_bytes << ", flags " << flags;
	EXPECT_TRUE(error == EINVAL || error == EFAULT) << error << " " << old_bytes << " -> " << new_bytes;
}

void move_window(Target& target)
{
	target.scene.send();
	const std::size_t span = target.window.span();
	std::uint8_t* const base = target.window.base();
	auto* const room = static_cast<std::uint8_t*>(
		::mmap(nullptr, 2 * span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	ASSERT_NE(static_cast<void*>(room), MAP_FAILED);
	const int fixed = MREMAP_MAYMOVE | MREMAP_FIXED;

	EXPECT_EQ(::mremap(base, span, span, MREMAP_MAYMOVE), base) << "nothing to do";
	expect_remap_refused(base, span, span, fixed, room);
	expect_remap_refused(base, span, span - page, 0);
	expect_remap_refused(base, span, page, MREMAP_MAYMOVE);
	expect_remap_refused(base, span, span + page, 0);
	expect_remap_refused(base, span, 2 * span, MREMAP_MAYMOVE);
	expect_remap_refused(base, span, 2 * span, fixed, room);
	expect_remap_refused(base, span, page, fixed, room);
	expect_remap_refused(base, 0, span, MREMAP_MAYMOVE);
	expect_remap_refused(base, 0, page, MREMAP_MAYMOVE);
	expect_remap_refused(target.at(), 0, fbuf_bytes, fixed, room);
	expect_remap_refused(target.at(), fbuf_bytes, fbuf_bytes, fixed, room);
	expect_remap_refused(target.at(), page, 2 * page, MREMAP_MAYMOVE);
	expect_remap_refused(target.at(), fbuf_bytes, page, 0);
	expect_remap_refused(base, span, span, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	expect_remap_refused(target.at(), page, page, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	expect_remap_refused(base, span, span, fixed | MREMAP_DONTUNMAP, room);
	::munmap(room, 2 * span);
	expect_all_stores_refused(target);
}

// While another thread tries to store through either place.
void move_window_under_stores(Target& target)
{
	const std::size_t span = target.window.span();
	auto* const room = static_cast<std::uint8_t*>(
		::mmap(nullptr, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	std::atomic<bool> stop = false;
	std::thread thread([&] {
		while (!stop)
			end_of(target, [&] { *static_cast<volatile std::uint8_t*>(target.at(page)) = evil; });
	});
	target.scene.send();
	target.scene.expected = target.scene.look();
	for (int i = 0; i < 50; i++) {
		expect_remap_refused(target.window.base(), span, span, MREMAP_MAYMOVE | MREMAP_FIXED, room);
		EXPECT_TRUE(target.scene.look() == target.scene.expected);
	}
	stop = true;
	thread.join();
	::munmap(room, span);
	expect_all_stores_refused(target);
}

long try_map(std::size_t bytes, int protection, int flags, int fd, std::uint64_t offset, void* where = nullptr)
{
	void* const result = ::mmap(where, bytes, protection, flags, fd, static_cast<off_t>(offset));
	if (result == MAP_FAILED)
		return -errno;
	::munmap(result, bytes);
	return 0;
}

void second_window(Target& target)
{
	target.scene.send();
	const std::size_t span = target.window.span();
	const std::uint64_t offset = FBUFS_POOL_OFFSET(target.scene.origin.pool.out_pool);
	const int both = PROT_READ | PROT_WRITE;
	const Fd stranger = open_domain();

	EXPECT_EQ(try_map(span, PROT_READ, MAP_SHARED, target.domain, offset), -EEXIST);
	EXPECT_EQ(try_map(span, both, MAP_SHARED, target.domain, offset), target.own ? -EEXIST : -EACCES);
	EXPECT_EQ(try_map(span, PROT_READ | PROT_EXEC, MAP_SHARED, target.domain, offset), -EACCES);
	EXPECT_EQ(try_map(span, both, MAP_PRIVATE, target.domain, offset), -EINVAL);
	EXPECT_EQ(try_map(page, PROT_READ, MAP_SHARED, target.domain, offset), -EINVAL);
	EXPECT_EQ(try_map(page, both, MAP_SHARED, target.domain, target.scene.buffer.position), -EINVAL);
	EXPECT_EQ(try_map(span, both, MAP_SHARED, stranger, offset), -ENOENT);
	EXPECT_EQ(try_map(span, PROT_READ, MAP_SHARED, stranger, offset), -ENOENT);
	expect_all_stores_refused(target);
}

void map_files(Target& target)
{
	target.scene.send();
	char name[96];
	std::snprintf(name, sizeof(name), "/proc/self/map_files/%lx-%lx",
		      static_cast<unsigned long>(address(target.window.base())),
		      static_cast<unsigned long>(address(target.window.base() + target.window.span())));
	const Fd file(::open(name, O_RDWR | O_CLOEXEC));
	EXPECT_LT(file.get(), 0);
	if (file.get() >= 0) {
		const Bytes data(page, evil);
		EXPECT_LT(::pwrite(file, data.data(), page, 0), 0);
		EXPECT_LT(try_map(target.window.span(), PROT_READ | PROT_WRITE, MAP_SHARED, file,
				  FBUFS_POOL_OFFSET(target.scene.origin.pool.out_pool)),
			  0);
	}
}

void remap_pages(Target& target)
{
	target.scene.send();
	const std::size_t neighbour = (target.scene.neighbour.position & ((1ULL << FBUFS_POOL_SHIFT) - 1)) / page;
	EXPECT_LT(result_of(::syscall(SYS_remap_file_pages, target.at(), page, 0, neighbour, 0)), 0);
	EXPECT_LT(result_of(::syscall(SYS_remap_file_pages, target.at(), fbuf_bytes, 0, neighbour, 0)), 0);
	EXPECT_LT(result_of(::syscall(SYS_remap_file_pages, target.window.base(), target.window.span(), 0,
				      FBUFS_POOL_OFFSET(target.scene.origin.pool.out_pool) / page, 0)),
		  0);
	expect_all_stores_refused(target);
}

long vm_write(pid_t pid, void* to, std::size_t bytes)
{
	Bytes data(bytes, evil);
	const iovec local = {data.data(), bytes}, remote = {to, bytes};
	return result_of(::process_vm_writev(pid, &local, 1, &remote, 1, 0));
}

void process_vm(Target& target)
{
	target.scene.send();
	EXPECT_EQ(vm_write(::getpid(), target.at(), fbuf_bytes), -EFAULT);
	EXPECT_EQ(vm_write(::getpid(), target.at(page + 1), 1), -EFAULT);
	by_other([&](pid_t pid) { return vm_write(pid, target.at(page), 8) == -EFAULT ? 0 : 1; });
	expect_all_stores_refused(target);
}

void trace(Target& target)
{
	target.scene.send();
	long words[fbuf_pages];
	for (std::size_t i = 0; i < fbuf_pages; i++)
		std::memcpy(&words[i], target.scene.expected.data() + i * page, sizeof(long));
	by_other([&](pid_t pid) {
		if (::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) || ::ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr))
			return 1;
		int status;
		if (::waitpid(pid, &status, __WALL) != pid)
			return 2;
		int failed = 0;
		for (std::size_t i = 0; i < fbuf_pages; i++) {
			errno = 0;
			if (::ptrace(PTRACE_PEEKDATA, pid, target.at(i * page), nullptr) != words[i] || errno)
				failed = 3;
			if (::ptrace(PTRACE_POKEDATA, pid, target.at(i * page), 0xeeeeeeeeUL) != -1 || errno != EIO)
				failed = 4;
			if (::ptrace(PTRACE_POKETEXT, pid, target.at(i * page + 1), 0xeeeeeeeeUL) != -1 || errno != EIO)
				failed = 5;
		}
		::ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
		return failed;
	});
	expect_all_stores_refused(target);
}

int memory_file(const std::string& process, const Target& target)
{
	const Fd file(::open(("/proc/" + process + "/mem").c_str(), O_RDWR | O_CLOEXEC));
	if (file.get() < 0)
		return 10;
	for (std::size_t i = 0; i < fbuf_bytes; i += page) {
		const auto offset = static_cast<off_t>(address(target.at(i)));
		std::uint8_t data[64];
		std::memset(data, evil, sizeof(data));
		if (::pwrite(file, data, sizeof(data), offset) != -1 || errno != EIO)
			return 11;
		if (::pread(file, data, sizeof(data), offset) != sizeof(data) ||
		    std::memcmp(data, target.scene.expected.data() + i, sizeof(data)) != 0)
			return 12;
	}
	return 0;
}

void proc_mem(Target& target)
{
	target.scene.send();
	EXPECT_EQ(memory_file("self", target), 0);
	by_other([&](pid_t pid) { return memory_file(std::to_string(pid), target); });
	expect_all_stores_refused(target);
}

// A userfaultfd with features, or one that failed.
Fd open_userfaultfd(std::uint64_t features)
{
	Fd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
	uffdio_api api = {};
	api.api = UFFD_API;
	api.features = features;
	if (fd.get() < 0 || ::ioctl(fd, UFFDIO_API, &api))
		return Fd();
	return fd;
}

long userfault_register(int fd, void* start, std::size_t bytes, std::uint64_t mode)
{
	uffdio_register args = {};
	args.range = {address(static_cast<std::uint8_t*>(start)), bytes};
	args.mode = mode;
	return result_of(::ioctl(fd, UFFDIO_REGISTER, &args));
}

long userfault_protect(int fd, void* start, std::size_t bytes, std::uint64_t mode)
{
	uffdio_writeprotect args = {};
	args.range = {address(static_cast<std::uint8_t*>(start)), bytes};
	args.mode = mode;
	return result_of(::ioctl(fd, UFFDIO_WRITEPROTECT, &args));
}

// The same on ordinary memory, which shows that the request is a good one.
void expect_userfault_works(int fd, std::uint64_t mode)
{
	void* const memory = ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT_EQ(userfault_register(fd, memory, page, mode), 0) << mode;
	::munmap(memory, 2 * page);
}

void userfault(Target& target)
{
	target.scene.send();
	const Fd fd = open_userfaultfd(0);
	ASSERT_GE(fd.get(), 0);
	for (const std::uint64_t mode :
	     {UFFDIO_REGISTER_MODE_MISSING, UFFDIO_REGISTER_MODE_WP, UFFDIO_REGISTER_MODE_MINOR,
	      UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP}) {
		EXPECT_EQ(userfault_register(fd, target.at(), fbuf_bytes, mode), -EINVAL) << mode;
		EXPECT_EQ(userfault_register(fd, target.window.base(), target.window.span(), mode), -EINVAL) << mode;
	}
	expect_userfault_works(fd, UFFDIO_REGISTER_MODE_MISSING);
	expect_userfault_works(fd, UFFDIO_REGISTER_MODE_WP);
	uffdio_copy copy = {};
	Bytes data(page, evil);
	copy.dst = address(target.at());
	copy.src = address(data.data());
	copy.len = page;
	EXPECT_LT(::ioctl(fd, UFFDIO_COPY, &copy), 0);
	uffdio_zeropage zero = {};
	zero.range = {address(target.at()), page};
	EXPECT_LT(::ioctl(fd, UFFDIO_ZEROPAGE, &zero), 0);
	expect_all_stores_refused(target);
}

// The asynchronous write-protect mode takes any kind of memory: whatever it answers, no store may pass.
void userfault_async(Target& target)
{
	const Fd fd = open_userfaultfd(userfault_wp_async | userfault_wp_unpopulated);
	ASSERT_GE(fd.get(), 0);
	expect_userfault_works(fd, UFFDIO_REGISTER_MODE_WP);
	const bool on =
		userfault_register(fd, target.window.base(), target.window.span(), UFFDIO_REGISTER_MODE_WP) == 0;
	userfault_protect(fd, target.at(), fbuf_bytes, UFFDIO_WRITEPROTECT_MODE_WP);
	if (on && target.own) {
		// While the originator owns it, it stays writable.
		target.scene.expected[page] = 99;
		EXPECT_FALSE(faults([&] { *target.at(page) = 99; }));
		userfault_protect(fd, target.at(2 * page), page, 0);
	}
	target.scene.send();
	expect_all_stores_refused(target);
	userfault_protect(fd, target.at(), fbuf_bytes, 0);
	expect_all_stores_refused(target);
	for (std::size_t i = 0; i < fbuf_bytes; i += page)
		EXPECT_FALSE(load_faults(target.at(i)));
	userfault_protect(fd, target.at(), fbuf_bytes, UFFDIO_WRITEPROTECT_MODE_WP);
	expect_all_stores_refused(target);
	userfault_protect(fd, target.at(), fbuf_bytes, 0);
	expect_all_stores_refused(target);
	target.scene.check();
}

void userfault_async_refused(Target& target)
{
	target.scene.send();
	const Fd fd = open_userfaultfd(userfault_wp_async);
	ASSERT_GE(fd.get(), 0);
	const long whole = userfault_register(fd, target.window.base(), target.window.span(), UFFDIO_REGISTER_MODE_WP);
	const long part = userfault_register(fd, target.at(), page, UFFDIO_REGISTER_MODE_WP);
	if (target.own) {
		EXPECT_EQ(whole, -EINVAL);
		EXPECT_EQ(part, -EINVAL);
	} else {
		// The core asks for VM_MAYWRITE.
		EXPECT_TRUE(whole == -EINVAL || whole == -EPERM) << whole;
		EXPECT_TRUE(part == -EINVAL || part == -EPERM) << part;
	}
	expect_all_stores_refused(target);
}

void splices(Target& target)
{
	for (const bool sent : {false, true}) {
		const Pipe pipe;
		iovec part = {target.at(), page};
		if (sent)
			target.scene.send();
		EXPECT_EQ(result_of(::vmsplice(pipe.in, &part, 1, 0)), -EFAULT);
		EXPECT_EQ(result_of(::vmsplice(pipe.in, &part, 1, SPLICE_F_GIFT)), -EFAULT);
	}
	const Pipe pipe, more;
	pipe.fill(page);
	iovec part = {target.at(), page};
	EXPECT_EQ(result_of(::vmsplice(pipe.out, &part, 1, 0)), target.stored(page));
	pipe.fill(page);
	EXPECT_EQ(result_of(::splice(pipe.out, nullptr, more.in, nullptr, 64, 0)), 64);
	EXPECT_EQ(result_of(::vmsplice(more.out, &part, 1, 0)), target.stored(64));
	expect_all_stores_refused(target);
}

Fd open_disk()
{
	return Fd(::open("/dev/vda", O_RDONLY | O_DIRECT | O_CLOEXEC));
}

void direct_read(Target& target)
{
	target.scene.send();
	const Fd disk = open_disk();
	ASSERT_GE(disk.get(), 0);
	EXPECT_EQ(result_of(::pread(disk, target.at(), page, 0)), -EFAULT);
	EXPECT_EQ(result_of(::pread(disk, target.at(), fbuf_bytes, 0)), -EFAULT);
	expect_all_stores_refused(target);
}

// A ring, and one completion of it.
class Ring {
public:
	Ring() { error_ = io_uring_queue_init(8, &ring_, 0); }
	Ring(const Ring&) = delete;
	Ring& operator=(const Ring&) = delete;
	~Ring()
	{
		if (!error_)
			io_uring_queue_exit(&ring_);
	}
	[[nodiscard]] int error() const { return error_; }
	io_uring* operator()() { return &ring_; }
	int read(int fd, void* to, unsigned bytes, std::uint64_t offset, unsigned char flags = 0)
	{
		io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
		io_uring_prep_read(sqe, fd, to, bytes, offset);
		sqe->flags |= flags;
		return io_uring_submit(&ring_);
	}
	// Its result, or 1 << 30 when there is none in time.
	int result(unsigned ms)
	{
		io_uring_cqe* cqe = nullptr;
		__kernel_timespec limit = {ms / 1000, static_cast<long long>(ms % 1000) * 1000000};
		if (io_uring_wait_cqe_timeout(&ring_, &cqe, &limit))
			return 1 << 30;
		const int result = cqe->res;
		io_uring_cqe_seen(&ring_, cqe);
		return result;
	}

private:
	io_uring ring_ = {};
	int error_ = 0;
};

void ring_buffers(Target& target)
{
	Ring ring;
	ASSERT_EQ(ring.error(), 0);
	const iovec part = {target.at(), fbuf_bytes};
	EXPECT_EQ(io_uring_register_buffers(ring(), &part, 1), -EFAULT) << "before the send";
	target.scene.send();
	EXPECT_EQ(io_uring_register_buffers(ring(), &part, 1), -EFAULT);
	const Pipe pipe;
	for (const unsigned char flags : {0, static_cast<int>(IOSQE_ASYNC)}) {
		pipe.fill(page);
		ASSERT_EQ(ring.read(pipe.out, target.at(), page, static_cast<std::uint64_t>(-1), flags), 1);
		EXPECT_EQ(ring.result(5000), target.stored(page));
	}
	expect_all_stores_refused(target);
}

void ring_direct_before_send(Target& target)
{
	Ring ring;
	ASSERT_EQ(ring.error(), 0);
	const Fd disk = open_disk();
	ASSERT_GE(disk.get(), 0);
	ASSERT_EQ(ring.read(disk, target.at(), fbuf_bytes, 0), 1);
	target.scene.send();
	EXPECT_TRUE(target.scene.look() == target.scene.expected);
	EXPECT_EQ(ring.result(8000), -EFAULT);
	ASSERT_EQ(ring.read(disk, target.at(), fbuf_bytes, 0, IOSQE_ASYNC), 1);
	EXPECT_EQ(ring.result(8000), -EFAULT);
	expect_all_stores_refused(target);
}

void ring_pipe_pending(Target& target, unsigned char flags)
{
	Ring ring;
	ASSERT_EQ(ring.error(), 0);
	const Pipe pipe;
	ASSERT_EQ(ring.read(pipe.out, target.at(page), 64, static_cast<std::uint64_t>(-1), flags), 1);
	EXPECT_EQ(ring.result(20), 1 << 30) << "it should be pending";
	target.scene.send();
	pipe.fill(64);
	EXPECT_EQ(ring.result(8000), target.stored(64));
	expect_all_stores_refused(target);
}

void ring_pipe_polled(Target& target)
{
	ring_pipe_pending(target, 0);
}
void ring_pipe_worker(Target& target)
{
	ring_pipe_pending(target, IOSQE_ASYNC);
}

void read_blocked(Target& target)
{
	const Pipe pipe;
	std::atomic<long> result = 1;
	std::atomic<pid_t> tid = 0;
	std::thread thread([&] {
		tid = static_cast<pid_t>(::syscall(SYS_gettid));
		result = result_of(::read(pipe.out, target.at(page), 64));
	});
	for (char state = 'R'; state != 'S'; std::this_thread::yield()) {
		std::ifstream stat("/proc/self/task/" + std::to_string(tid) + "/stat");
		std::string number, name;
		stat >> number >> name >> state;
	}
	target.scene.send();
	pipe.fill(64);
	thread.join();
	EXPECT_EQ(result, target.stored(64));
	expect_all_stores_refused(target);
}

void advise(Target& target)
{
	target.scene.send();
	std::vector<int> advices = {100, 101, 102, 103};
	for (int advice = 0; advice <= 25; advice++)
		advices.push_back(advice);
	for (const int advice : advices) {
		for (const bool whole : {false, true}) {
			const long result =
				whole ? result_of(::madvise(target.window.base(), target.window.span(), advice))
				      : result_of(::madvise(target.at(), fbuf_bytes, advice));
			if (advice == MADV_DOFORK || advice == MADV_DODUMP || advice == MADV_REMOVE ||
			    advice == MADV_DONTNEED || advice == 23 /* MADV_POPULATE_WRITE */) {
				EXPECT_LT(result, 0) << advice;
			}
			EXPECT_TRUE(target.scene.look() == target.scene.expected)
				<< "madvise " << advice << ": " << result;
			expect_store_refused(target, page);
		}
	}
	EXPECT_EQ(in_child([&] { return static_cast<int>(*static_cast<volatile std::uint8_t*>(target.at())); }),
		  128 + SIGSEGV)
		<< "a child inherits the window";
	expect_all_stores_refused(target);
}

void map_over(Target& target)
{
	target.scene.send();
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	EXPECT_EQ(::mmap(target.at(page), page, PROT_READ | PROT_WRITE, flags, -1, 0), MAP_FAILED);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(::mmap(target.window.base(), page, PROT_READ | PROT_WRITE, flags, -1, 0), MAP_FAILED);
	EXPECT_EQ(errno, EINVAL);
	expect_all_stores_refused(target);
	// All of it is an unmap; what is stored there then is nobody's.
	ASSERT_EQ(::mmap(target.window.base(), target.window.span(), PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, -1,
			 0),
		  target.window.base());
	std::memset(target.at(), evil, fbuf_bytes);
	target.scene.check_elsewhere();
	// The same place again: its destructor unmaps the anonymous memory first.
	if (target.own) {
		target.scene.origin.window = Window();
		target.scene.map_originator();
	} else {
		target.scene.window = Window();
		target.scene.map_receiver();
	}
	ASSERT_EQ(target.window.error(), 0);
	expect_all_stores_refused(target);
}

// A window of the pool over the window of the pool, in one call.
void map_over_itself(Target& target)
{
	target.scene.send();
	void* const result =
		::mmap(target.window.base(), target.window.span(), target.own ? PROT_READ | PROT_WRITE : PROT_READ,
		       MAP_SHARED | MAP_FIXED, target.domain,
		       static_cast<off_t>(FBUFS_POOL_OFFSET(target.scene.origin.pool.out_pool)));
	if (result == MAP_FAILED) {
		EXPECT_EQ(errno, EEXIST);
		// Whether the old one survived a refusal is the core's to say.
		target.own ? target.scene.map_originator() : target.scene.map_receiver();
	}
	expect_all_stores_refused(target);
}

void lock_memory(Target& target)
{
	target.scene.send();
	::mlock(target.at(), fbuf_bytes);
	expect_all_stores_refused(target);
	::syscall(SYS_mlock2, target.window.base(), target.window.span(), 1);
	::mlockall(MCL_CURRENT);
	expect_all_stores_refused(target);
	::munlockall();
	::munlock(target.at(), fbuf_bytes);
	::msync(target.at(), fbuf_bytes, MS_SYNC | MS_INVALIDATE);
	expect_all_stores_refused(target);
}

void unmap(Target& target)
{
	target.scene.send();
	EXPECT_EQ(result_of(::munmap(target.at(), page)), -EINVAL);
	EXPECT_EQ(result_of(::munmap(target.at(), fbuf_bytes)), -EINVAL);
	EXPECT_EQ(result_of(::munmap(target.window.base(), page)), -EINVAL);
	EXPECT_EQ(result_of(::munmap(target.window.base() + page, target.window.span() - page)), -EINVAL);
	expect_all_stores_refused(target);
	if (target.own) {
		target.scene.origin.window = Window();
		target.scene.map_originator();
	} else {
		target.scene.window = Window();
		target.scene.map_receiver();
	}
	ASSERT_EQ(target.window.error(), 0);
	expect_all_stores_refused(target);
}

// The window is made only after the send: there never was an entry.
void map_after_send(Target& target)
{
	target.window = Window();
	if (target.own) {
		target.scene.deliver();
		target.scene.map_originator();
	} else {
		target.scene.map_receiver();
		target.scene.send();
	}
	ASSERT_EQ(target.window.error(), 0);
	expect_all_stores_refused(target);
	for (std::size_t i = 0; i < fbuf_bytes; i += page)
		EXPECT_FALSE(load_faults(target.at(i)));
	expect_all_stores_refused(target);
}

void fork_child(Target& target)
{
	target.scene.send();
	const std::uint64_t offset = FBUFS_POOL_OFFSET(target.scene.origin.pool.out_pool);
	EXPECT_EQ(in_child([&] { return static_cast<int>(*static_cast<volatile std::uint8_t*>(target.at())); }),
		  128 + SIGSEGV);
	EXPECT_EQ(in_child([&] {
			  *static_cast<volatile std::uint8_t*>(target.at()) = evil;
			  return 0;
		  }),
		  128 + SIGSEGV);
	EXPECT_EQ(in_child([&] {
			  return static_cast<int>(
				  -try_map(target.window.span(), PROT_READ, MAP_SHARED, target.domain, offset));
		  }),
		  EPERM);
	EXPECT_EQ(in_child([&] {
			  return static_cast<int>(-handles(target.scene.domain, FBUFS_RELEASE, {target.scene.held}));
		  }),
		  EPERM);
	expect_all_stores_refused(target);
}

void futexes(Target& target)
{
	target.scene.send();
	auto* const word = reinterpret_cast<std::uint32_t*>(target.at());
	std::uint32_t other = 0;
	const long private_lock =
		result_of(::syscall(SYS_futex, word, FUTEX_TRYLOCK_PI | FUTEX_PRIVATE_FLAG, 0, nullptr));
	// In a copy, a word that is 0 can be had.
	EXPECT_EQ(private_lock == 0, target.copies() && target.scene.expected[0] == 0) << private_lock;
	const long wake = result_of(::syscall(SYS_futex, &other, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 1, 1L, word,
					      FUTEX_OP(FUTEX_OP_SET, 0xeee, FUTEX_OP_CMP_EQ, 0)));
	EXPECT_EQ(wake >= 0, target.copies()) << wake;
	EXPECT_LT(result_of(::syscall(SYS_futex, word, FUTEX_TRYLOCK_PI, 0, nullptr)), 0);
	// The kernel clears a word when a thread ends.
	std::thread([&] { ::syscall(SYS_set_tid_address, target.at(page)); }).detach();
	std::this_thread::sleep_for(std::chrono::milliseconds(20));
	expect_all_stores_refused(target);
}

void soft_dirty(Target& target)
{
	target.scene.send();
	for (const char* what : {"1", "3", "4"}) {
		const Fd file(::open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC));
		EXPECT_EQ(::write(file, what, 1), 1);
		expect_all_stores_refused(target);
		for (std::size_t i = 0; i < fbuf_bytes; i += page)
			EXPECT_FALSE(load_faults(target.at(i)));
	}
	void* pages[fbuf_pages];
	int nodes[fbuf_pages] = {}, status[fbuf_pages];
	// A kernel without NUMA has no such call.
	std::fill_n(status, fbuf_pages, -ENOSYS);
	for (std::size_t i = 0; i < fbuf_pages; i++)
		pages[i] = target.at(i * page);
	::syscall(SYS_move_pages, 0, fbuf_pages, pages, nodes, status, 2);
	for (const int node : status)
		EXPECT_LT(node, 0) << "the core found a page to move";
	::syscall(SYS_mbind, target.window.base(), target.window.span(), 0, nullptr, 0, 3);
	expect_all_stores_refused(target);
}

struct Attack {
	const char* name;
	void (*run)(Target& target);
	bool changes_window = false;
};

constexpr Attack attacks[] = {
	{"StoreSameThread", store_same_thread},
	{"StoreOtherThread", store_other_thread},
	{"StoreDuringSend", store_during_send},
	{"StoreCloneVm", store_clone_vm},
	{"SignalFrame", signal_frame},
	{"Read", read_calls},
	{"ModuleOutputs", module_outputs},
	{"Mprotect", protect},
	{"MprotectBeforeSend", protect_before_send},
	{"Mremap", move_window},
	{"MremapUnderStores", move_window_under_stores},
	{"SecondWindow", second_window},
	{"MapFiles", map_files},
	{"RemapFilePages", remap_pages},
	{"ProcessVm", process_vm},
	{"Ptrace", trace},
	{"ProcMem", proc_mem},
	{"Userfault", userfault},
	{"UserfaultAsync", userfault_async},
	{"UserfaultAsyncRefused", userfault_async_refused},
	{"Splice", splices},
	{"DirectRead", direct_read},
	{"RingBuffers", ring_buffers},
	{"RingDirectBeforeSend", ring_direct_before_send},
	{"RingPipePolled", ring_pipe_polled},
	{"RingPipeWorker", ring_pipe_worker},
	{"ReadBlocked", read_blocked},
	{"Madvise", advise},
	{"MapOver", map_over},
	{"MapOverItself", map_over_itself},
	{"Mlock", lock_memory},
	{"Munmap", unmap},
	{"MapAfterSend", map_after_send},
	{"Fork", fork_child},
	{"Futex", futexes},
	{"SoftDirty", soft_dirty},
};

constexpr Pool given = {"Given", 0, Way::given};
constexpr Pool lent[] = {
	{"Wait", FBUFS_POOL_STORE_WAIT, Way::lent},
	{"Copy", FBUFS_POOL_STORE_COPY, Way::lent},
};
constexpr Pool kernel[] = {
	{"Kernel", 0, Way::kernel},
	{"KernelWait", FBUFS_POOL_STORE_WAIT, Way::kernel},
	{"KernelCopy", FBUFS_POOL_STORE_COPY, Way::kernel},
};

using Parameter = std::tuple<Attack, Pages, Through, Entries, Pool>;

// What hangs ends all of them.
class Lock : public IoTest, public testing::WithParamInterface<Parameter> {};

TEST_P(Lock, Holds)
{
	const auto& [attack, pages, through, entries, pool] = GetParam();
	catch_segv();
	Scene scene(pool);
	ASSERT_NO_FATAL_FAILURE(scene.open(pages, entries));
	const bool own = through == Through::originator;
	Target target{scene, own ? scene.origin.window : scene.window, own ? scene.origin.domain : scene.domain, own};
	ASSERT_NO_FATAL_FAILURE(attack.run(target));
	ASSERT_NO_FATAL_FAILURE(scene.check());
	scene.check_end();
}

std::string name_of(const testing::TestParamInfo<Parameter>& test)
{
	const auto& [attack, pages, through, entries, pool] = test.param;
	return std::string(attack.name) + (pages == Pages::fresh ? "_fresh" : "_touched") +
	       (through == Through::originator ? "_originator" : "_receiver") +
	       (entries == Entries::gone ? "_gone" : "_back") +
	       (pool.way == Way::given ? "" : std::string("_") + pool.name);
}

INSTANTIATE_TEST_SUITE_P(Attack, Lock,
			 testing::Combine(testing::ValuesIn(attacks), testing::Values(Pages::fresh, Pages::touched),
					  testing::Values(Through::originator, Through::receiver),
					  testing::Values(Entries::gone, Entries::back), testing::Values(given)),
			 name_of);

INSTANTIATE_TEST_SUITE_P(AttackOfLentFresh, Lock,
			 testing::Combine(testing::ValuesIn(attacks), testing::Values(Pages::fresh),
					  testing::Values(Through::originator), testing::Values(Entries::gone),
					  testing::ValuesIn(lent)),
			 name_of);

INSTANTIATE_TEST_SUITE_P(AttackOfLent, Lock,
			 testing::Combine(testing::ValuesIn(attacks), testing::Values(Pages::touched),
					  testing::Values(Through::originator, Through::receiver),
					  testing::Values(Entries::back), testing::ValuesIn(lent)),
			 name_of);

INSTANTIATE_TEST_SUITE_P(AttackOfTheKernels, Lock,
			 testing::Combine(testing::ValuesIn(attacks), testing::Values(Pages::touched),
					  testing::Values(Through::originator), testing::Values(Entries::back),
					  testing::ValuesIn(kernel)),
			 name_of);

// The lock is the whole fbuf's, also where no slice of the message lies.
TEST(LockExtent, IsTheWholeFbuf)
{
	Originator origin(4 << 20);
	ASSERT_EQ(origin.window.error(), 0);
	Fd sender, receiver;
	ASSERT_EQ(channel_create(origin.domain, FBUFS_CHANNEL_ATTACH_SENDER, 0, sender, receiver), 0);
	std::vector<fbufs_buffer> buffers(3);
	ASSERT_EQ(alloc(sender, fbuf_bytes, buffers), 3);
	for (const auto& buffer : buffers)
		std::memset(origin.at(buffer), 1, fbuf_bytes);
	ASSERT_EQ(send_one(sender, buffers[1].fbuf, page + 100, 10), 1);
	for (std::size_t i = 0; i < fbuf_bytes; i += page)
		EXPECT_TRUE(store_faults(origin.at(buffers[1]) + i));
	for (const std::size_t i : {std::size_t{0}, fbuf_bytes - 1}) {
		EXPECT_FALSE(store_faults(origin.at(buffers[0]) + i));
		EXPECT_FALSE(store_faults(origin.at(buffers[2]) + i));
	}
}

// A vector of messages with gaps between them: one call locks all of them and nothing in between.
TEST(LockExtent, IsEachFbufOfAVector)
{
	Originator origin(4 << 20);
	ASSERT_EQ(origin.window.error(), 0);
	Fd sender, receiver;
	ASSERT_EQ(channel_create(origin.domain, FBUFS_CHANNEL_ATTACH_SENDER, 0, sender, receiver), 0);
	for (const bool touched : {false, true}) {
		std::vector<fbufs_buffer> buffers(32);
		ASSERT_EQ(alloc(sender, 2 * page, buffers), 32);
		std::vector<fbufs_message> messages;
		std::vector<fbufs_slice> slices;
		for (std::size_t i = 0; i < 32; i++) {
			if (touched)
				std::memset(origin.at(buffers[i]), 1, 2 * page);
			// 0, 3, 4, 7, 8, ...: runs, gaps, and downwards.
			if (i % 4 != 0 && i % 4 != 3)
				continue;
			messages.insert(messages.begin(),
					fbufs_message{.message = 0, .cookie = i, .length = 0, .slices = 1, .flags = 0});
			slices.insert(slices.begin(), fbufs_slice{.fbuf = buffers[i].fbuf,
								  .hold = 0,
								  .position = 0,
								  .offset = 0,
								  .length = 2 * page});
		}
		ASSERT_EQ(send(sender, messages, slices), static_cast<long>(messages.size()));
		for (std::size_t i = 0; i < 32; i++) {
			const bool sent = i % 4 == 0 || i % 4 == 3;
			EXPECT_EQ(store_faults(origin.at(buffers[i])), sent) << i;
			EXPECT_EQ(store_faults(origin.at(buffers[i]) + page), sent) << i;
			EXPECT_FALSE(load_faults(origin.at(buffers[i]) + page)) << i;
		}
	}
}

} // namespace
