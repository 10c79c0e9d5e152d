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
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
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

inline long pool_create(int domain, std::uint64_t bytes, fbufs_pool_create& out, std::uint32_t flags = 0)
{
	out = {};
	out.size = sizeof(out);
	out.flags = flags;
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

// Where messages and slices are, or go to, for FBUFS_SEND, FBUFS_RECEIVE, and the parts of FBUFS_CALL.
template <typename Args>
void set_vectors(Args& args, const std::vector<fbufs_message>& messages, const std::vector<fbufs_slice>& slices)
{
	args.messages = address(messages.data());
	args.slices = address(slices.data());
	args.count = static_cast<std::uint32_t>(messages.size());
	args.nslices = static_cast<std::uint32_t>(slices.size());
}

inline void set_release(fbufs_receive& args, const std::vector<std::uint64_t>& release)
{
	args.release = address(release.data());
	args.nrelease = static_cast<std::uint32_t>(release.size());
}

inline long send(int sender, const std::vector<fbufs_message>& messages, const std::vector<fbufs_slice>& slices,
		 std::uint32_t flags = 0)
{
	fbufs_send args = {};
	args.size = sizeof(args);
	args.flags = flags;
	set_vectors(args, messages, slices);
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

// A message whose bytes the kernel copies from the caller's memory, and such a slice of it.
inline fbufs_message copied_message(std::uint32_t slices = 1, std::uint64_t cookie = 0)
{
	fbufs_message message = {};
	message.cookie = cookie;
	message.slices = slices;
	message.flags = FBUFS_MESSAGE_COPY;
	return message;
}

inline fbufs_slice memory_slice(const void* at, std::size_t length)
{
	fbufs_slice slice = {};
	slice.address = reinterpret_cast<std::uintptr_t>(at);
	slice.length = static_cast<std::uint32_t>(length);
	return slice;
}

inline long receive(int receiver, std::vector<fbufs_message>& messages, std::vector<fbufs_slice>& slices,
		    std::uint32_t flags = 0, const std::vector<std::uint64_t>& release = {})
{
	fbufs_receive args = {};
	args.size = sizeof(args);
	args.flags = flags;
	set_vectors(args, messages, slices);
	set_release(args, release);
	return call(receiver, FBUFS_RECEIVE, args);
}

// The vectors are to stay where they are until the call is made.
inline fbufs_call call_args(int receiver, const std::vector<fbufs_message>& messages,
			    const std::vector<fbufs_slice>& slices, const std::vector<fbufs_message>& answers,
			    const std::vector<fbufs_slice>& answer_slices,
			    const std::vector<std::uint64_t>& release = {})
{
	fbufs_call args = {};
	args.size = sizeof(args);
	args.receiver = receiver;
	set_vectors(args.send, messages, slices);
	set_vectors(args.receive, answers, answer_slices);
	set_release(args.receive, release);
	return args;
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
		: pool_(pool), span_(span), base_(::mmap(nullptr, span, protection, MAP_SHARED, domain,
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

	explicit Originator(std::uint64_t bytes = 16 << 20, std::uint32_t flags = 0)
	{
		if (pool_create(domain, bytes, pool, flags) == 0)
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

// What lies at a position of the own pool.
inline fbufs_locate locate(int domain, std::uint64_t position)
{
	fbufs_locate args = {};
	args.size = sizeof(args);
	args.position = position;
	if (call(domain, FBUFS_LOCATE, args) < 0)
		std::abort();
	return args;
}

inline fbufs_end_info end_info(int end)
{
	fbufs_end_info args = {};
	args.size = sizeof(args);
	if (call(end, FBUFS_END_INFO, args) < 0)
		std::abort();
	return args;
}

// One fbuf, without waiting; its handle is 0 when there is none.
inline fbufs_buffer alloc_one(int fd, std::uint64_t bytes = page)
{
	std::vector<fbufs_buffer> buffers(1);
	return alloc(fd, bytes, buffers, FBUFS_DONTWAIT) == 1 ? buffers[0] : fbufs_buffer{};
}

// One message, without waiting unless told; its handle is 0 when there is none.
struct Received {
	fbufs_message message = {};
	std::vector<fbufs_slice> slices;
	long result = 0;

	explicit Received(int receiver, std::uint32_t flags = FBUFS_DONTWAIT)
	{
		std::vector<fbufs_message> messages(1);
		slices.resize(FBUFS_MAX_SLICES);
		result = receive(receiver, messages, slices, flags);
		if (result == 1)
			message = messages[0];
		slices.resize(message.slices);
	}
	[[nodiscard]] std::uint64_t handle() const { return message.message; }
};

// A channel whose ends are attached, the sending end first.
struct Channel {
	Fd sender;
	Fd receiver;
	std::uint32_t id = 0;

	Channel(int from, int to, std::uint32_t flags = 0, std::uint32_t depth = 0)
	{
		const long created =
			channel_create(from, flags | FBUFS_CHANNEL_ATTACH_SENDER, depth, sender, receiver, &id);
		const long attached = created < 0 ? created : attach(receiver, to);
		if (attached < 0) {
			std::fprintf(stderr, "no channel from %d to %d: %s\n", from, to,
				     std::strerror(static_cast<int>(-attached)));
			std::abort();
		}
	}
};

// Sends @n messages and has them released, so that the channel has messages for re-use: whatever is sent from
// here on is first looked at by the way of the module that is for the usual message.
inline void warm(const Channel& channel, int to, std::size_t n = 1)
{
	std::vector<std::uint64_t> held;
	for (std::size_t i = 0; i < n; i++)
		if (send_one(channel.sender, alloc_one(channel.sender).fbuf, 0, page) != 1)
			std::abort();
	for (std::size_t i = 0; i < n; i++)
		held.push_back(Received(channel.receiver).handle());
	if (handles(to, FBUFS_RELEASE, held) != static_cast<long>(n))
		std::abort();
}

inline bool eventually(const std::function<bool()>& condition, int timeout_ms = 5000)
{
	for (int waited = 0; !condition(); waited += 10) {
		if (waited >= timeout_ms)
			return false;
		::usleep(10000);
	}
	return true;
}

inline void pass_fd(int socket, int fd)
{
	char byte = 'f';
	iovec data = {&byte, 1};
	alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
	msghdr message = {};
	message.msg_iov = &data;
	message.msg_iovlen = 1;
	message.msg_control = control;
	message.msg_controllen = sizeof(control);
	cmsghdr* header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	if (::sendmsg(socket, &message, MSG_NOSIGNAL) != 1)
		std::abort();
}

inline Fd take_fd(int socket)
{
	char byte = 0;
	iovec data = {&byte, 1};
	alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
	msghdr message = {};
	message.msg_iov = &data;
	message.msg_iovlen = 1;
	message.msg_control = control;
	message.msg_controllen = sizeof(control);
	int fd = -1;
	if (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&message))
		std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return Fd(fd);
}

// A forked process with a socket to this one. It dies with this object at the latest.
class Process {
public:
	explicit Process(const std::function<int(int socket)>& body)
	{
		int sockets[2];
		if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
			std::abort();
		pid_ = ::fork();
		if (pid_ == 0) {
			::prctl(PR_SET_PDEATHSIG, SIGKILL);
			::close(sockets[0]);
			::_exit(body(sockets[1]));
		}
		::close(sockets[1]);
		socket_ = Fd(sockets[0]);
	}
	Process(const Process&) = delete;
	Process& operator=(const Process&) = delete;
	~Process() { kill(); }
	void kill()
	{
		if (pid_ > 0)
			::kill(pid_, SIGKILL);
		wait();
	}
	// Its exit status, or 128 + the signal.
	int wait()
	{
		int status = 0;
		if (pid_ <= 0 || ::waitpid(std::exchange(pid_, -1), &status, 0) < 0)
			return -1;
		return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	}
	[[nodiscard]] pid_t pid() const { return pid_; }
	[[nodiscard]] int socket() const { return socket_; }

private:
	pid_t pid_ = -1;
	Fd socket_;
};

// A word between processes: what the other one is told, or 0 when it is gone.
inline void tell(int socket, char what)
{
	(void)!::send(socket, &what, 1, MSG_NOSIGNAL);
}

inline char hear(int socket)
{
	char what = 0;
	return ::read(socket, &what, 1) == 1 ? what : 0;
}

// A call that may block, in a thread. A call that does not come back is interrupted, and says EINTR.
class Blocked {
public:
	explicit Blocked(std::function<long()> body)
	{
		struct sigaction action = {};
		action.sa_handler = [](int) {};
		::sigaction(SIGUSR1, &action, nullptr);
		thread_ = std::thread([this, body = std::move(body)] {
			result_ = body();
			done_ = true;
		});
	}
	Blocked(const Blocked&) = delete;
	Blocked& operator=(const Blocked&) = delete;
	~Blocked() { (void)result(0); }
	// True when the call has not come back for a while.
	[[nodiscard]] bool waits(int ms = 150) const
	{
		return !eventually([this] { return done_.load(); }, ms);
	}
	void interrupt()
	{
		while (!eventually([this] { return done_.load(); }, 20))
			signal();
	}
	// Disturb the call, once.
	void signal() { ::pthread_kill(thread_.native_handle(), SIGUSR1); }
	long result(int timeout_ms = 5000)
	{
		if (thread_.joinable()) {
			if (!eventually([this] { return done_.load(); }, timeout_ms))
				interrupt();
			thread_.join();
		}
		return result_;
	}

private:
	std::atomic<bool> done_ = false;
	long result_ = 0;
	std::thread thread_;
};

// In a child process, where GoogleTest cannot tell: says what is wrong and exits with 1.
#define CHILD_EXPECT(condition)                                                                                        \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			std::fprintf(stderr, "%s:%d: in the child: %s\n", __FILE__, __LINE__, #condition);             \
			return 1;                                                                                      \
		}                                                                                                      \
	} while (0)

} // namespace uapi
