// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The device as the uapi header describes it, without libfbuf, for tests that must see every errno.
// Calls return what the ioctl returned, or -errno.
#pragma once

#include <linux/fbufs.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <utility>
#include <vector>

namespace uapi {

inline constexpr std::size_t page = 4096;

// A descriptor that closes itself.
class Fd {
public:
	Fd() = default;
	explicit Fd(int fd) : fd_(fd) {}
	Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
	Fd& operator=(Fd&& other) noexcept
	{
		std::swap(fd_, other.fd_);
		return *this;
	}
	~Fd() { reset(); }
	void reset()
	{
		if (fd_ >= 0)
			::close(std::exchange(fd_, -1));
	}
	[[nodiscard]] int get() const { return fd_; }
	operator int() const { return fd_; }

private:
	int fd_ = -1;
};

template <typename Args>
long call(int fd, unsigned long request, Args& args)
{
	const long result = ::ioctl(fd, request, &args);
	return result < 0 ? -errno : result;
}

template <typename T>
std::uint64_t address(const T* pointer)
{
	return reinterpret_cast<std::uintptr_t>(pointer);
}

inline Fd open_domain()
{
	return Fd(::open("/dev/fbufs", O_RDWR | O_CLOEXEC));
}

inline long pool_create(int domain, std::uint64_t bytes, fbufs_pool_create& out)
{
	out = {};
	out.size = sizeof(out);
	out.bytes = bytes;
	return call(domain, FBUFS_POOL_CREATE, out);
}

inline long alloc(int fd, std::uint64_t bytes, std::vector<fbufs_buffer>& out, std::uint32_t flags = 0)
{
	fbufs_alloc args = {};
	args.size = sizeof(args);
	args.flags = flags;
	args.bytes = bytes;
	args.buffers = address(out.data());
	args.count = static_cast<std::uint32_t>(out.size());
	return call(fd, FBUFS_ALLOC, args);
}

// One of FBUFS_FREE, FBUFS_RELEASE, FBUFS_SECURE.
inline long handles(int domain, unsigned long request, const std::vector<std::uint64_t>& which)
{
	fbufs_handles args = {};
	args.size = sizeof(args);
	args.handles = address(which.data());
	args.count = static_cast<std::uint32_t>(which.size());
	return call(domain, request, args);
}

inline long channel_create(int domain, std::uint32_t flags, std::uint32_t depth, Fd& sender, Fd& receiver,
			   std::uint32_t* id = nullptr)
{
	fbufs_channel_create args = {};
	args.size = sizeof(args);
	args.flags = flags;
	args.depth = depth;
	const long result = call(domain, FBUFS_CHANNEL_CREATE, args);
	if (result == 0) {
		sender = Fd(args.out_sender);
		receiver = Fd(args.out_receiver);
		if (id)
			*id = args.out_channel;
	}
	return result;
}

inline long attach(int end, int domain)
{
	fbufs_attach args = {};
	args.size = sizeof(args);
	args.domain = domain;
	return call(end, FBUFS_ATTACH, args);
}

inline long add_receiver(int sender, Fd& receiver, std::uint32_t flags = 0)
{
	fbufs_add_receiver args = {};
	args.size = sizeof(args);
	args.flags = flags;
	const long result = call(sender, FBUFS_ADD_RECEIVER, args);
	if (result == 0)
		receiver = Fd(args.out_receiver);
	return result;
}

inline long send(int sender, const std::vector<fbufs_message>& messages, const std::vector<fbufs_slice>& slices,
		 std::uint32_t flags = 0)
{
	fbufs_send args = {};
	args.size = sizeof(args);
	args.flags = flags;
	args.messages = address(messages.data());
	args.slices = address(slices.data());
	args.count = static_cast<std::uint32_t>(messages.size());
	args.nslices = static_cast<std::uint32_t>(slices.size());
	return call(sender, FBUFS_SEND, args);
}

// One message of one slice of an own fbuf.
inline long send_one(int sender, std::uint64_t fbuf, std::uint32_t offset, std::uint32_t length,
		     std::uint64_t cookie = 0, std::uint32_t flags = 0, std::uint32_t message_flags = 0)
{
	fbufs_message message = {};
	message.cookie = cookie;
	message.slices = 1;
	message.flags = message_flags;
	fbufs_slice slice = {};
	slice.fbuf = fbuf;
	slice.offset = offset;
	slice.length = length;
	return send(sender, {message}, {slice}, flags);
}

inline long receive(int receiver, std::vector<fbufs_message>& messages, std::vector<fbufs_slice>& slices,
		    std::uint32_t flags = 0, const std::vector<std::uint64_t>& release = {})
{
	fbufs_receive args = {};
	args.size = sizeof(args);
	args.flags = flags;
	args.messages = address(messages.data());
	args.slices = address(slices.data());
	args.count = static_cast<std::uint32_t>(messages.size());
	args.nslices = static_cast<std::uint32_t>(slices.size());
	args.release = address(release.data());
	args.nrelease = static_cast<std::uint32_t>(release.size());
	return call(receiver, FBUFS_RECEIVE, args);
}

inline std::vector<std::uint64_t> counters(int domain)
{
	std::vector<std::uint64_t> values(FBUFS_COUNTERS);
	fbufs_stats args = {};
	args.size = sizeof(args);
	args.counters = address(values.data());
	args.ncounters = FBUFS_COUNTERS;
	if (call(domain, FBUFS_STATS, args) < 0)
		std::abort();
	return values;
}

inline std::vector<std::uint64_t> gauges(int domain)
{
	std::vector<std::uint64_t> values(FBUFS_GAUGES);
	fbufs_stats args = {};
	args.size = sizeof(args);
	args.gauges = address(values.data());
	args.ngauges = FBUFS_GAUGES;
	if (call(domain, FBUFS_STATS, args) < 0)
		std::abort();
	return values;
}

inline bool polls(int fd, short events, int timeout_ms = 0)
{
	pollfd entry = {fd, events, 0};
	return ::poll(&entry, 1, timeout_ms) == 1 && (entry.revents & events);
}

inline short poll_events(int fd)
{
	pollfd entry = {fd, POLLIN | POLLOUT | POLLRDHUP, 0};
	return ::poll(&entry, 1, 0) == 1 ? entry.revents : 0;
}

// A window of a pool.
class Window {
public:
	Window() = default;
	Window(int domain, std::uint32_t pool, std::size_t span, int protection)
		: pool_(pool), span_(span),
		  base_(::mmap(nullptr, span, protection, MAP_SHARED, domain,
			       static_cast<off_t>(FBUFS_POOL_OFFSET(pool))))
	{
		error_ = base_ == MAP_FAILED ? errno : 0;
	}
	Window(Window&& other) noexcept { swap(other); }
	Window& operator=(Window&& other) noexcept
	{
		swap(other);
		return *this;
	}
	~Window()
	{
		if (base_ != MAP_FAILED)
			::munmap(base_, span_);
	}
	[[nodiscard]] int error() const { return error_; }
	[[nodiscard]] std::size_t span() const { return span_; }
	[[nodiscard]] std::uint8_t* base() const { return static_cast<std::uint8_t*>(base_); }
	// Where a position among the device's offsets is.
	[[nodiscard]] std::uint8_t* at(std::uint64_t position) const
	{
		return base() + (position - FBUFS_POOL_OFFSET(pool_));
	}

private:
	void swap(Window& other)
	{
		std::swap(pool_, other.pool_);
		std::swap(span_, other.span_);
		std::swap(base_, other.base_);
		std::swap(error_, other.error_);
	}
	std::uint32_t pool_ = 0;
	std::size_t span_ = 0;
	void* base_ = MAP_FAILED;
	int error_ = 0;
};

// A domain with a pool and its window.
struct Originator {
	Fd domain = open_domain();
	fbufs_pool_create pool = {};
	Window window;

	explicit Originator(std::uint64_t bytes = 16 << 20)
	{
		if (pool_create(domain, bytes, pool) == 0)
			window = Window(domain, pool.out_pool, pool.out_span, PROT_READ | PROT_WRITE);
	}
	std::uint8_t* at(const fbufs_buffer& buffer) const { return window.at(buffer.position); }
};

// Whether an access ends in SIGBUS, and where. Works in any thread; not nested.
namespace detail {
inline thread_local sigjmp_buf jump;
inline thread_local volatile std::sig_atomic_t armed = 0;
inline thread_local void* volatile fault_address = nullptr;

inline void handler(int signal, siginfo_t* info, void*)
{
	if (!armed) {
		::signal(signal, SIG_DFL);
		::raise(signal);
		return;
	}
	fault_address = info->si_addr;
	siglongjmp(jump, 1);
}
} // namespace detail

inline bool faults(const std::function<void()>& access)
{
	struct sigaction action = {};
	struct sigaction old = {};
	action.sa_sigaction = detail::handler;
	action.sa_flags = SA_SIGINFO | SA_NODEFER;
	::sigaction(SIGBUS, &action, &old);
	bool faulted = true;
	if (sigsetjmp(detail::jump, 1) == 0) {
		detail::armed = 1;
		access();
		faulted = false;
	}
	detail::armed = 0;
	return faulted;
}

inline bool store_faults(volatile std::uint8_t* where)
{
	return faults([=] { *where = 0xee; });
}

inline bool load_faults(const volatile std::uint8_t* where)
{
	return faults([=] { (void)*where; });
}

// Runs a function in a forked child and returns its exit status (128 + signal when killed).
inline int in_child(const std::function<int()>& body)
{
	const pid_t child = ::fork();
	if (child == 0)
		::_exit(body());
	int status = 0;
	::waitpid(child, &status, 0);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

} // namespace uapi
