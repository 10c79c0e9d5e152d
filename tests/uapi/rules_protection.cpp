// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Rule 7: a locked fbuf does not change, by any way in.

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <liburing.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include <algorithm>

namespace {

using namespace uapi;

constexpr std::uint8_t pattern = 0x5a;
constexpr std::uint8_t intruder = 0xee;

// A page full of what must not get into the fbuf.
std::uint8_t* intruders()
{
	alignas(page) static std::uint8_t bytes[page];
	std::memset(bytes, intruder, sizeof(bytes));
	return bytes;
}

// Two domains of this process and a channel between them.
struct Pair {
	Originator from{1 << 20};
	Fd to = open_domain();
	Channel channel;
	Window window;

	explicit Pair(std::uint32_t flags = 0)
		: channel(from.domain, to, flags), window(to, from.pool.out_pool, from.pool.out_span, PROT_READ)
	{
	}
};

long or_errno(long result)
{
	return result < 0 ? -errno : result;
}

//
// Ways to write into a window. Each returns what the last call said: more or equal 0, or -errno.
//

using Way = long (*)(const Window& window, std::uint8_t* where);

long store(const Window&, std::uint8_t* where)
{
	if (!store_faults(where))
		return 0;
	return detail::fault_address == where ? -EFAULT : -ERANGE;
}

long exchange(const Window&, std::uint8_t* where)
{
	return faults([=] { __atomic_fetch_add(where, 1, __ATOMIC_SEQ_CST); }) ? -EFAULT : 0;
}

long read_pipe(const Window&, std::uint8_t* where)
{
	int ends[2];
	if (::pipe(ends) < 0)
		return 0;
	const Fd out(ends[0]), in(ends[1]);
	(void)!::write(in, intruders(), 64);
	return or_errno(::read(out, where, 64));
}

long read_device(const Window&, std::uint8_t* where)
{
	const Fd zero(::open("/dev/zero", O_RDONLY));
	return or_errno(::read(zero, where, page));
}

long read_vector(const Window&, std::uint8_t* where)
{
	// Not from just any file: some file systems read directly into user pages.
	const Fd file(::memfd_create("intruders", 0));
	(void)!::write(file, intruders(), 64);
	const iovec vector = {where, 64};
	return or_errno(::preadv(file, &vector, 1, 0));
}

long receive_socket(const Window&, std::uint8_t* where)
{
	int ends[2];
	if (::socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) < 0)
		return 0;
	const Fd out(ends[0]), in(ends[1]);
	(void)!::send(in, intruders(), 64, 0);
	return or_errno(::recv(out, where, 64, MSG_DONTWAIT));
}

long put_user(const Window&, std::uint8_t* where)
{
	return or_errno(::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, where));
}

long random_bytes(const Window&, std::uint8_t* where)
{
	return or_errno(::syscall(SYS_getrandom, where, 64, 0));
}

long futex_operation(const Window&, std::uint8_t* where)
{
	static std::uint32_t other;
	return or_errno(::syscall(SYS_futex, &other, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 1, 1, where,
				  FUTEX_OP(FUTEX_OP_SET, 0xeee, FUTEX_OP_CMP_EQ, 0)));
}

long direct_read(const Window&, std::uint8_t* where)
{
	const Fd disk(::open("/dev/vda", O_RDONLY | O_DIRECT));
	return disk < 0 ? 0 : or_errno(::read(disk, where, page));
}

long splice_to_user(const Window&, std::uint8_t* where)
{
	int ends[2];
	if (::pipe(ends) < 0)
		return 0;
	const Fd out(ends[0]), in(ends[1]);
	(void)!::write(in, intruders(), 64);
	const iovec vector = {where, 64};
	return or_errno(::vmsplice(out, &vector, 1, 0));
}

long ring_read(const Window&, std::uint8_t* where)
{
	io_uring ring;
	if (::io_uring_queue_init(4, &ring, 0) < 0)
		return 0;
	const Fd zero(::open("/dev/zero", O_RDONLY));
	io_uring_prep_read(io_uring_get_sqe(&ring), zero, where, page, 0);
	::io_uring_submit(&ring);
	io_uring_cqe* done = nullptr;
	const long result = ::io_uring_wait_cqe(&ring, &done) == 0 ? done->res : 0;
	::io_uring_queue_exit(&ring);
	return result;
}

long ring_fixed(const Window&, std::uint8_t* where)
{
	io_uring ring;
	if (::io_uring_queue_init(4, &ring, 0) < 0)
		return 0;
	const iovec vector = {where, page};
	const long result = ::io_uring_register_buffers(&ring, &vector, 1);
	::io_uring_queue_exit(&ring);
	return result;
}

long own_memory_file(const Window&, std::uint8_t* where)
{
	const Fd memory(::open("/proc/self/mem", O_RDWR));
	return or_errno(::pwrite(memory, intruders(), 64, static_cast<off_t>(address(where))));
}

long own_process_write(const Window&, std::uint8_t* where)
{
	const iovec from = {intruders(), 64}, to = {where, 64};
	return or_errno(::process_vm_writev(::getpid(), &from, 1, &to, 1, 0));
}

long protect(const Window& window, std::uint8_t* where)
{
	const long all = or_errno(::mprotect(window.base(), window.span(), PROT_READ | PROT_WRITE));
	const long some = or_errno(::mprotect(where, page, PROT_READ | PROT_WRITE));
	const long less = or_errno(::mprotect(window.base(), window.span(), PROT_READ));
	return all == some && some == less ? all : 0;
}

long protect_key(const Window& window, std::uint8_t*)
{
	return or_errno(::syscall(SYS_pkey_mprotect, window.base(), window.span(), PROT_READ | PROT_WRITE, -1));
}

long move(const Window& window, std::uint8_t*)
{
	void* place = ::mmap(nullptr, window.span(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	void* moved = ::mremap(window.base(), window.span(), window.span(), MREMAP_MAYMOVE | MREMAP_FIXED, place);
	const long result = moved == MAP_FAILED ? -errno : 0;
	::munmap(place, window.span());
	return result;
}

long move_part(const Window&, std::uint8_t* where)
{
	void* moved = ::mremap(where, page, page, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	return moved == MAP_FAILED ? -errno : 0;
}

long duplicate(const Window& window, std::uint8_t*)
{
	void* copy = ::mremap(window.base(), 0, window.span(), MREMAP_MAYMOVE);
	return copy == MAP_FAILED ? -errno : 0;
}

long grow(const Window& window, std::uint8_t*)
{
	void* grown = ::mremap(window.base(), window.span(), window.span() + page, MREMAP_MAYMOVE);
	return grown == MAP_FAILED ? -errno : 0;
}

long unmap_part(const Window&, std::uint8_t* where)
{
	return or_errno(::munmap(where, page));
}

long remap_pages(const Window&, std::uint8_t* where)
{
	return or_errno(::syscall(SYS_remap_file_pages, where, page, 0, 0, 0));
}

long populate(const Window&, std::uint8_t* where)
{
	return or_errno(::madvise(where, page, MADV_POPULATE_WRITE));
}

long drop(const Window&, std::uint8_t* where)
{
	const long remove = or_errno(::madvise(where, page, MADV_REMOVE));
	const long discard = or_errno(::madvise(where, page, MADV_DONTNEED));
	return remove < 0 ? discard : 0;
}

long user_fault(const Window& window, std::uint8_t*)
{
	const Fd handler(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC)));
	uffdio_api api = {};
	api.api = UFFD_API;
	if (handler < 0 || ::ioctl(handler, UFFDIO_API, &api) < 0)
		return 0;
	long result = -EINVAL;
	for (const std::uint64_t mode :
	     {UFFDIO_REGISTER_MODE_MISSING, UFFDIO_REGISTER_MODE_WP, UFFDIO_REGISTER_MODE_MINOR}) {
		uffdio_register range = {};
		range.range.start = address(window.base());
		range.range.len = window.span();
		range.mode = mode;
		if (::ioctl(handler, UFFDIO_REGISTER, &range) == 0 || errno != EINVAL)
			result = 0;
	}
	return result;
}

// As a debugger would, from another process; its errno, or 0.
long from_outside(const std::function<long(pid_t target)>& body)
{
	const pid_t target = ::getpid();
	return -in_child([&] {
		const long result = body(target);
		return result < 0 ? static_cast<int>(-result) : 0;
	});
}

long other_memory_file(const Window&, std::uint8_t* where)
{
	return from_outside([=](pid_t target) {
		const std::string path = "/proc/" + std::to_string(target) + "/mem";
		const Fd memory(::open(path.c_str(), O_RDWR));
		return memory < 0 ? 0 : or_errno(::pwrite(memory, intruders(), 64, static_cast<off_t>(address(where))));
	});
}

long other_process_write(const Window&, std::uint8_t* where)
{
	return from_outside([=](pid_t target) {
		const iovec from = {intruders(), 64}, to = {where, 64};
		return or_errno(::process_vm_writev(target, &from, 1, &to, 1, 0));
	});
}

long poke(const Window&, std::uint8_t* where)
{
	return from_outside([=](pid_t target) -> long {
		if (::ptrace(PTRACE_SEIZE, target, 0, 0) < 0 || ::ptrace(PTRACE_INTERRUPT, target, 0, 0) < 0)
			return 0;
		::waitpid(target, nullptr, __WALL);
		const long result = or_errno(::ptrace(PTRACE_POKEDATA, target, where, 0xeeeeeeeeL));
		::ptrace(PTRACE_DETACH, target, 0, 0);
		return result;
	});
}

struct WayIn {
	const char* name;
	Way way;
	long refusal;
};

void PrintTo(const WayIn& way, std::ostream* out)
{
	*out << way.name;
}

const WayIn ways[] = {
	{"Store", store, -EFAULT},
	{"Exchange", exchange, -EFAULT},
	{"ReadPipe", read_pipe, -EFAULT},
	{"ReadDevice", read_device, -EFAULT},
	{"ReadVector", read_vector, -EFAULT},
	{"ReceiveSocket", receive_socket, -EFAULT},
	{"PutUser", put_user, -EFAULT},
	{"RandomBytes", random_bytes, -EFAULT},
	{"FutexOperation", futex_operation, -EFAULT},
	{"DirectRead", direct_read, -EFAULT},
	{"SpliceToUser", splice_to_user, -EFAULT},
	{"RingRead", ring_read, -EFAULT},
	{"RingFixed", ring_fixed, -EFAULT},
	{"OwnMemoryFile", own_memory_file, -EIO},
	{"OwnProcessWrite", own_process_write, -EFAULT},
	{"OtherMemoryFile", other_memory_file, -EIO},
	{"OtherProcessWrite", other_process_write, -EFAULT},
	{"Poke", poke, -EIO},
	{"Protect", protect, -EACCES},
	{"ProtectKey", protect_key, -EACCES},
	{"Move", move, -EINVAL},
	{"MovePart", move_part, -EINVAL},
	{"Duplicate", duplicate, -EFAULT},
	{"Grow", grow, -EFAULT},
	{"UnmapPart", unmap_part, -EINVAL},
	{"RemapPages", remap_pages, -ENODEV},
	{"Populate", populate, -EINVAL},
	{"Drop", drop, -EINVAL},
	{"UserFault", user_fault, -EINVAL},
};

enum class Page { fresh, written, read };
enum class Lock { send, secure };

class Rule07MandatoryLock : public ::testing::TestWithParam<std::tuple<WayIn, Page, Lock>> {
protected:
	// The second of three pages is tried; it must keep what it has when it is locked.
	void lock(Pair& pair, fbufs_buffer& buffer, std::uint8_t& value)
	{
		const auto& [way, touched, how] = GetParam();
		// Fresh pages have no entry in the window at all: it is mapped only afterwards.
		buffer = alloc_one(pair.channel.sender, 3 * page);
		value = 0;
		if (touched == Page::written) {
			std::memset(pair.from.at(buffer), pattern, 3 * page);
			value = pattern;
		}
		if (touched == Page::fresh)
			pair.from.window = Window();
		ASSERT_EQ(send_one(pair.channel.sender, buffer.fbuf, 0, 3 * page), 1);
		if (touched == Page::fresh)
			pair.from.window = Window(pair.from.domain, pair.from.pool.out_pool, pair.from.pool.out_span,
						  PROT_READ | PROT_WRITE);
		held_ = Received(pair.channel.receiver).handle();
		if (how == Lock::secure) {
			ASSERT_EQ(locate(pair.from.domain, buffer.position).out_locked, 0u);
			ASSERT_EQ(handles(pair.to, FBUFS_SECURE, {held_}), 1);
		}
		ASSERT_EQ(locate(pair.from.domain, buffer.position).out_locked, 1u);
		// The originator can still read, which makes entries of its own.
		if (touched != Page::fresh) {
			EXPECT_EQ(pair.from.at(buffer)[page], value);
		}
	}
	std::uint64_t held_ = 0;
};

TEST_P(Rule07MandatoryLock, NoWayIn)
{
	const auto& [way, touched, how] = GetParam();
	Pair pair(how == Lock::secure ? FBUFS_CHANNEL_VOLATILE : 0);
	fbufs_buffer buffer = {};
	std::uint8_t value = 0;
	lock(pair, buffer, value);
	if (HasFatalFailure())
		return;
	const auto unchanged = [&](const std::uint8_t* bytes) {
		return std::all_of(bytes, bytes + 3 * page, [&](std::uint8_t byte) { return byte == value; });
	};
	std::uint8_t* where = pair.from.at(buffer) + page;

	EXPECT_EQ(way.way(pair.from.window, where), way.refusal);
	EXPECT_TRUE(unchanged(pair.window.at(buffer.position)));
	EXPECT_TRUE(unchanged(pair.from.at(buffer)));
	EXPECT_EQ(store(pair.from.window, where), -EFAULT) << "after it";
	EXPECT_TRUE(unchanged(pair.window.at(buffer.position)));
	EXPECT_EQ(locate(pair.from.domain, buffer.position).out_locked, 1u);

	// Home again, it can be written.
	EXPECT_EQ(handles(pair.to, FBUFS_RELEASE, {held_}), 1);
	EXPECT_EQ(alloc_one(pair.channel.sender, 3 * page).position, buffer.position);
	EXPECT_FALSE(store_faults(where));
	EXPECT_EQ(*pair.from.at({0, buffer.position + page}), intruder);
}

std::string test_name(const ::testing::TestParamInfo<std::tuple<WayIn, Page, Lock>>& test)
{
	const auto& [way, touched, how] = test.param;
	const char* before = touched == Page::fresh ? "Fresh" : touched == Page::written ? "Written" : "Read";
	return std::string(way.name) + before + (how == Lock::send ? "Sent" : "Secured");
}

INSTANTIATE_TEST_SUITE_P(Ways, Rule07MandatoryLock,
			 ::testing::Combine(::testing::ValuesIn(ways),
					    ::testing::Values(Page::fresh, Page::written, Page::read),
					    ::testing::Values(Lock::send, Lock::secure)),
			 test_name);

// The ways themselves work where they may: the refusals above are not for another reason.
TEST(Rule07MandatoryLockControl, TheWaysWorkOnOwnedFbufs)
{
	Pair pair;
	const fbufs_buffer buffer = alloc_one(pair.channel.sender);
	for (const WayIn& way : ways) {
		const bool copies = way.way == store || way.way == exchange || way.way == read_pipe ||
				    way.way == read_device || way.way == read_vector || way.way == receive_socket ||
				    way.way == put_user || way.way == random_bytes || way.way == futex_operation ||
				    way.way == splice_to_user || way.way == ring_read;
		if (copies) {
			EXPECT_GE(way.way(pair.from.window, pair.from.at(buffer)), 0) << way.name;
		}
	}
	// The others work on memory that is not a window.
	std::uint8_t* plain = static_cast<std::uint8_t*>(
		::mmap(nullptr, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	for (const Way way : {direct_read, ring_fixed, own_memory_file, own_process_write, other_memory_file,
			      other_process_write, poke, populate})
		EXPECT_GE(way(pair.from.window, plain), 0);
	::munmap(plain, 4 * page);
}

TEST(Rule07LockedFbufs, ACallStopsWhereTheLockBegins)
{
	Pair pair;
	std::vector<fbufs_buffer> buffers(2);
	ASSERT_EQ(alloc(pair.channel.sender, page, buffers), 2);
	std::sort(buffers.begin(), buffers.end(), [](auto& a, auto& b) { return a.position < b.position; });
	ASSERT_EQ(buffers[0].position + page, buffers[1].position);
	ASSERT_EQ(send_one(pair.channel.sender, buffers[1].fbuf, 0, page), 1);
	const Fd zero(::open("/dev/zero", O_RDONLY));
	EXPECT_EQ(::read(zero, pair.from.at(buffers[0]), 2 * page), static_cast<ssize_t>(page));
}

TEST(Rule07LockedFbufs, ReceiversCannotStore)
{
	Pair pair;
	const fbufs_buffer buffer = alloc_one(pair.channel.sender);
	*pair.from.at(buffer) = pattern;
	ASSERT_EQ(send_one(pair.channel.sender, buffer.fbuf, 0, page), 1);
	const Received received(pair.channel.receiver);
	std::uint8_t* where = pair.window.at(buffer.position);
	for (const bool touched : {false, true}) {
		if (touched) {
			EXPECT_EQ(*where, pattern);
		}
		// The window itself is not writable: SIGSEGV, as for any read-only mapping.
		struct sigaction action = {}, old = {};
		action.sa_sigaction = detail::handler;
		action.sa_flags = SA_SIGINFO | SA_NODEFER;
		::sigaction(SIGSEGV, &action, &old);
		EXPECT_TRUE(store_faults(where));
		::sigaction(SIGSEGV, &old, nullptr);
		EXPECT_EQ(detail::fault_address, where);
		for (const WayIn& way : ways)
			if (way.way != store && way.way != exchange) {
				EXPECT_LT(way.way(pair.window, where), 0) << way.name;
			}
		EXPECT_EQ(*where, pattern);
	}
}

} // namespace
