// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Mechanisms that copy through a descriptor, and the copy alone.

#include "bench_link.hpp"
#include "bench_run.hpp"
#include "bench_uring.hpp"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <fstream>
#include <mqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace bench {

namespace {

// Bytes that any of them lets wait, at most.
constexpr std::size_t most_between = 1 << 20;

// The payload is made in one private buffer and read into another, as programs do.
class copying_link : public link {
public:
	explicit copying_link(const shape& of) : link(of), buffer_(of.bytes * of.batch) {}
	void open_producer() override { ends_[0].close(); }
	void open_consumer(unsigned) override { ends_[1].close(); }
	[[nodiscard]] std::span<const std::byte> received(unsigned index) const override
	{
		return std::span(buffer_).subspan(index * shape_.bytes, shape_.bytes);
	}
	// What lies between the two is counted in bytes, and has no buffers to get to know.
	[[nodiscard]] std::uint64_t warm_up() const override { return most_between / shape_.bytes + 2 + shape_.batch; }

protected:
	std::span<std::byte> payload(unsigned index)
	{
		return std::span(buffer_).subspan(index * shape_.bytes, shape_.bytes);
	}
	// The payload of all messages of a call; who sends on takes it from where it was read.
	std::span<const std::byte> outgoing(std::uint64_t first, unsigned count)
	{
		if (source_)
			return {source_->received(0).data(), count * shape_.bytes};
		for (unsigned i = 0; i < count; i++)
			write_words(payload(i), first + i, shape_.how);
		return std::span(buffer_).first(count * shape_.bytes);
	}
	void check(std::uint64_t first, unsigned count)
	{
		for (unsigned i = 0; i < count; i++)
			check_words(payload(i), first + i, shape_.how);
	}
	// Whole messages: what arrived, completed to the end of the last one.
	unsigned read_messages(unsigned most)
	{
		const auto into = std::span(buffer_).first(at_a_time(most) * shape_.bytes);
		std::size_t have = 0;
		do {
			const ssize_t n = read_some(into.subspan(have));
			if (n <= 0)
				die("read");
			have += static_cast<std::size_t>(n);
		} while (have % shape_.bytes);
		return static_cast<unsigned>(have / shape_.bytes);
	}
	virtual ssize_t read_some(std::span<std::byte> into) { return ::read(ends_[0].fd(), into.data(), into.size()); }
	void take_ends(const std::array<int, 2>& fds)
	{
		ends_[0] = descriptor(fds[0]);
		ends_[1] = descriptor(fds[1]);
	}

	std::array<descriptor, 2> ends_; // read from [0], write to [1]
	std::vector<std::byte> buffer_;
};

class stream_link : public copying_link {
public:
	using copying_link::copying_link;
	void produce(std::uint64_t first, unsigned count) override
	{
		for (auto left = outgoing(first, count); !left.empty();) {
			const ssize_t n = write_some(left);
			if (n < 0)
				die("write");
			left = left.subspan(static_cast<std::size_t>(n));
		}
	}
	unsigned consume(std::uint64_t first, unsigned most) override
	{
		const unsigned count = read_messages(most);
		check(first, count);
		return count;
	}

protected:
	virtual ssize_t write_some(std::span<const std::byte> from)
	{
		return ::write(ends_[1].fd(), from.data(), from.size());
	}
};

// As large as it may be without privilege: fewer switches.
constexpr int pipe_bytes = most_between;

class pipe_link : public stream_link {
public:
	explicit pipe_link(const shape& of) : stream_link(of)
	{
		std::array<int, 2> fds = {};
		if (::pipe2(fds.data(), O_CLOEXEC) < 0)
			die("pipe");
		take_ends(fds);
		(void)::fcntl(fds[1], F_SETPIPE_SZ, pipe_bytes);
	}
};

class unix_stream_link : public stream_link {
public:
	explicit unix_stream_link(const shape& of) : stream_link(of)
	{
		std::array<int, 2> fds = {};
		if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) < 0)
			die("socketpair");
		take_ends(fds);
	}
};

// The same through io_uring, with buffer and socket registered: each side's pages are looked up once.
class uring_fixed_link : public unix_stream_link {
public:
	explicit uring_fixed_link(const shape& of) : unix_stream_link(of), producer_(1, true), consumer_(1, true) {}
	void open_producer() override
	{
		unix_stream_link::open_producer();
		start(producer_, ends_[1]);
	}
	void open_consumer(unsigned index) override
	{
		unix_stream_link::open_consumer(index);
		start(consumer_, ends_[0]);
	}

protected:
	ssize_t read_some(std::span<std::byte> into) override { return move(IORING_OP_READ_FIXED, into); }
	// What is sent on lies in the buffer of the link that it came by.
	ssize_t write_some(std::span<const std::byte> from) override
	{
		return move(source_ ? IORING_OP_WRITE : IORING_OP_WRITE_FIXED, from);
	}

private:
	void start(uring& own, const descriptor& end)
	{
		own_ = &own;
		own_->enable();
		own_->register_file(end.fd());
		own_->register_buffer(buffer_);
	}
	ssize_t move(std::uint8_t how, std::span<const std::byte> bytes)
	{
		io_uring_sqe& entry = own_->prepare();
		entry.opcode = how;
		entry.flags = IOSQE_FIXED_FILE;
		entry.addr = reinterpret_cast<std::uint64_t>(bytes.data());
		entry.len = static_cast<std::uint32_t>(std::min<std::size_t>(bytes.size(), 1 << 30));
		own_->submit_and_wait();
		const auto done = own_->next();
		if (!done)
			return 0;
		if (done->result < 0)
			errno = -done->result;
		return done->result;
	}

	uring producer_;
	uring consumer_;
	uring* own_ = nullptr;
};

// Loopback; nothing waits for more to send with it, and buffers are as large as may be without privilege,
// because those that grow by themselves are never in a steady state.
class tcp_link : public stream_link {
public:
	explicit tcp_link(const shape& of) : stream_link(of)
	{
		const auto listener = checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
		sockaddr_in address = {};
		address.sin_family = AF_INET;
		address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		socklen_t length = sizeof(address);
		auto* const at = reinterpret_cast<sockaddr*>(&address);
		if (::bind(listener.fd(), at, length) < 0 || ::listen(listener.fd(), 1) < 0 ||
		    ::getsockname(listener.fd(), at, &length) < 0)
			die("listening at a loopback port");
		ends_[1] = checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
		const int room = 212'992;
		(void)::setsockopt(listener.fd(), SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
		(void)::setsockopt(ends_[1].fd(), SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
		if (::connect(ends_[1].fd(), at, length) < 0)
			die("connecting over loopback");
		ends_[0] = checked(::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC), "accept");
		const int on = 1;
		(void)::setsockopt(ends_[1].fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	}
};

// A packet a message; messages longer than a packet may be go in several.
class seqpacket_link : public copying_link {
public:
	explicit seqpacket_link(const shape& of) : copying_link(of), piece_(std::min(of.bytes, most_piece))
	{
		std::array<int, 2> fds = {};
		if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) < 0)
			die("socketpair");
		take_ends(fds);
		const std::size_t packets = of.batch * ((of.bytes + piece_ - 1) / piece_);
		headers_.resize(packets);
		vectors_.resize(packets);
	}
	void produce(std::uint64_t first, unsigned count) override
	{
		const unsigned packets = prepare(outgoing(first, count), count);
		for (unsigned done = 0; done < packets;) {
			const int n =
				::sendmmsg(ends_[1].fd(), headers_.data() + done, std::min(packets - done, 1024U), 0);
			if (n < 0)
				die("sendmmsg");
			done += static_cast<unsigned>(n);
		}
	}
	unsigned consume(std::uint64_t first, unsigned most) override
	{
		const unsigned packets = prepare(buffer_, at_a_time(most));
		const unsigned per_message = packets / at_a_time(most);
		unsigned done = 0;
		do {
			const int n = ::recvmmsg(ends_[0].fd(), headers_.data() + done, std::min(packets - done, 1024U),
						 MSG_WAITFORONE, nullptr);
			if (n <= 0)
				die("recvmmsg");
			done += static_cast<unsigned>(n);
		} while (done % per_message);
		check(first, done / per_message);
		return done / per_message;
	}

private:
	static constexpr std::size_t most_piece = 128 << 10;

	unsigned prepare(std::span<const std::byte> bytes, unsigned count)
	{
		unsigned packets = 0;
		for (unsigned i = 0; i < count; i++) {
			for (auto rest = bytes.subspan(i * shape_.bytes, shape_.bytes); !rest.empty(); packets++) {
				const std::size_t length = std::min(rest.size(), piece_);
				vectors_[packets] = {const_cast<std::byte*>(rest.data()), length};
				headers_[packets] = {};
				headers_[packets].msg_hdr.msg_iov = &vectors_[packets];
				headers_[packets].msg_hdr.msg_iovlen = 1;
				rest = rest.subspan(length);
			}
		}
		return packets;
	}

	std::size_t piece_;
	std::vector<mmsghdr> headers_;
	std::vector<iovec> vectors_;
};

// As large messages, and as many waiting, as the system lets this user have.
class mq_link : public copying_link {
public:
	explicit mq_link(const shape& of) : copying_link(of)
	{
		const rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
		const bool privileged = ::setrlimit(RLIMIT_MSGQUEUE, &all) == 0;
		const auto most = static_cast<std::size_t>(privileged ? 256 << 10 : limit("msgsize_max", 8192));
		piece_ = std::min(of.bytes, most);
		mq_attr attributes = {};
		attributes.mq_msgsize = static_cast<long>(piece_);
		attributes.mq_maxmsg =
			privileged ? static_cast<long>(std::clamp<std::size_t>(most_between / piece_, 4, 64))
				   : limit("msg_max", 10);
		const std::string name = "/fbuf-bench-" + std::to_string(::getpid());
		queue_ = descriptor(::mq_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600, &attributes));
		if (queue_.fd() < 0)
			die("mq_open");
		::mq_unlink(name.c_str());
	}
	void produce(std::uint64_t first, unsigned count) override
	{
		const auto bytes = outgoing(first, count);
		for (unsigned i = 0; i < count; i++)
			for (auto rest = bytes.subspan(i * shape_.bytes, shape_.bytes); !rest.empty();) {
				const std::size_t length = std::min(rest.size(), piece_);
				if (::mq_send(queue_.fd(), reinterpret_cast<const char*>(rest.data()), length, 0) < 0)
					die("mq_send");
				rest = rest.subspan(length);
			}
	}
	// One at a time: there is no call for more.
	unsigned consume(std::uint64_t first, unsigned) override
	{
		for (std::size_t have = 0; have < shape_.bytes;) {
			// The room must be a whole piece, even for the shorter last one.
			auto* const at = have + piece_ <= shape_.bytes ? buffer_.data() + have : last_piece();
			const ssize_t n = ::mq_receive(queue_.fd(), reinterpret_cast<char*>(at), piece_, nullptr);
			if (n < 0)
				die("mq_receive");
			if (at == last_.data())
				std::memcpy(buffer_.data() + have, at, static_cast<std::size_t>(n));
			have += static_cast<std::size_t>(n);
		}
		check(first, 1);
		return 1;
	}

private:
	static long limit(const std::string& which, long otherwise)
	{
		std::ifstream file("/proc/sys/fs/mqueue/" + which);
		long value = 0;
		return file >> value ? value : otherwise;
	}
	std::byte* last_piece()
	{
		last_.resize(piece_);
		return last_.data();
	}

	std::size_t piece_ = 0;
	std::vector<std::byte> last_;
	descriptor queue_;
};

// The pipe refers to the producer's pages, and the consumer's read copies from them. The producer may
// write a page again when the pipe has forgotten it: after as many other pages as the pipe can hold.
class vmsplice_link : public copying_link {
public:
	explicit vmsplice_link(const shape& of)
		: copying_link(of), stride_((of.bytes + touched_page - 1) / touched_page * touched_page)
	{
		std::array<int, 2> fds = {};
		if (::pipe2(fds.data(), O_CLOEXEC) < 0)
			die("pipe");
		take_ends(fds);
		(void)::fcntl(fds[1], F_SETPIPE_SZ, pipe_bytes);
		const auto slots = static_cast<std::size_t>(::fcntl(fds[1], F_GETPIPE_SZ)) / touched_page;
		const std::size_t pages = stride_ / touched_page;
		count_ = (slots + pages - 1) / pages + of.batch;
		vectors_.resize(of.batch);
	}
	void open_producer() override
	{
		copying_link::open_producer();
		memory_.emplace(count_ * stride_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	}
	void produce(std::uint64_t first, unsigned count) override
	{
		for (unsigned i = 0; i < count; i++) {
			const auto at = memory_->bytes().subspan((next_++ % count_) * stride_, shape_.bytes);
			make(at, first + i, i);
			vectors_[i] = {at.data(), at.size()};
		}
		for (auto left = std::span(vectors_).first(count); !left.empty();)
			left = rest_of(left, splice(left));
	}
	unsigned consume(std::uint64_t first, unsigned most) override
	{
		const unsigned count = read_messages(most);
		check(first, count);
		return count;
	}
	[[nodiscard]] std::uint64_t warm_up() const override
	{
		return (std::max<std::uint64_t>(copying_link::warm_up(), 2 * count_) + shape_.batch - 1) /
		       shape_.batch * shape_.batch;
	}

private:
	std::size_t splice(std::span<const iovec> what)
	{
		const ssize_t n = ::vmsplice(ends_[1].fd(), what.data(), what.size(), 0);
		if (n < 0)
			die("vmsplice");
		return static_cast<std::size_t>(n);
	}
	static std::span<iovec> rest_of(std::span<iovec> all, std::size_t done)
	{
		while (!all.empty() && done >= all[0].iov_len) {
			done -= all[0].iov_len;
			all = all.subspan(1);
		}
		if (done)
			all[0] = {static_cast<std::byte*>(all[0].iov_base) + done, all[0].iov_len - done};
		return all;
	}

	std::size_t stride_;
	std::size_t count_ = 0;
	std::uint64_t next_ = 0;
	std::optional<mapping> memory_;
	std::vector<iovec> vectors_;
};

// No transfer at all: the copy alone, made by the consumer from a buffer of its own.
class memcpy_link : public link {
public:
	explicit memcpy_link(const shape& of) : link(of), from_(of.bytes), to_(of.bytes) {}
	void open_producer() override {}
	void open_consumer(unsigned) override {}
	void produce(std::uint64_t, unsigned) override {}
	unsigned consume(std::uint64_t first, unsigned most) override
	{
		const unsigned count = at_a_time(most);
		for (unsigned i = 0; i < count; i++) {
			write_words(from_, first + i, shape_.how);
			std::memcpy(to_.data(), from_.data(), to_.size());
			check_words(to_, first + i, shape_.how);
		}
		return count;
	}
	[[nodiscard]] std::span<const std::byte> received(unsigned) const override { return to_; }
	[[nodiscard]] std::uint64_t warm_up() const override { return 2ULL * shape_.batch; }

private:
	std::vector<std::byte> from_;
	std::vector<std::byte> to_;
};

template <typename Link>
std::unique_ptr<link> make_one(const shape& of)
{
	return std::make_unique<Link>(of);
}

struct kind {
	const char* name;
	std::unique_ptr<link> (*make)(const shape& of);
};

constexpr kind kinds[] = {
	{"pipe", make_one<pipe_link>},
	{"unix-stream", make_one<unix_stream_link>},
	{"uring-fixed", make_one<uring_fixed_link>},
	{"unix-seqpacket", make_one<seqpacket_link>},
	{"tcp", make_one<tcp_link>},
	{"mq", make_one<mq_link>},
	{"vmsplice", make_one<vmsplice_link>},
	{"memcpy", make_one<memcpy_link>},
};

} // namespace

std::unique_ptr<link> make_copying_link(const std::string& mechanism, const shape& of)
{
	const auto* const found = std::ranges::find(kinds, mechanism, &kind::name);
	return found == std::end(kinds) ? nullptr : found->make(of);
}

} // namespace bench
