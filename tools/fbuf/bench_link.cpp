// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "bench_link.hpp"
#include "bench_run.hpp"
#include "tool.hpp"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace bench {

namespace {

using tool::expect;
using tool::failure;

constexpr std::size_t page = touched_page;

// --- copying through a descriptor ------------------------------------------------------

// The payload is made in one private buffer and read into another, as programs do.
class copying_link : public link {
public:
	explicit copying_link(const shape& of) : shape_(of), buffer_(of.bytes * of.batch) {}
	~copying_link() override
	{
		for (const int fd : fds_)
			if (fd >= 0)
				::close(fd);
	}
	void open_producer() override { close_one(0); }
	void open_consumer() override { close_one(1); }

protected:
	std::span<std::byte> payload(unsigned index)
	{
		return std::span(buffer_).subspan(index * shape_.bytes, shape_.bytes);
	}
	void write_all(std::span<const std::byte> bytes)
	{
		while (!bytes.empty()) {
			const ssize_t n = ::write(fds_[1], bytes.data(), bytes.size());
			if (n < 0)
				die("write");
			bytes = bytes.subspan(static_cast<std::size_t>(n));
		}
	}
	// Whole messages: what arrived, completed to the end of the last one.
	std::size_t read_messages(std::span<std::byte> into)
	{
		std::size_t have = 0;
		do {
			const ssize_t n = ::read(fds_[0], into.data() + have, into.size() - have);
			if (n <= 0)
				die("read");
			have += static_cast<std::size_t>(n);
		} while (have % shape_.bytes);
		return have;
	}
	void close_one(std::size_t which)
	{
		::close(fds_[which]);
		fds_[which] = -1;
	}

	shape shape_;
	std::array<int, 2> fds_ = {-1, -1}; // read from [0], write to [1]
	std::vector<std::byte> buffer_;
};

class stream_link : public copying_link {
public:
	using copying_link::copying_link;
	void produce(std::uint64_t first, unsigned count) override
	{
		for (unsigned i = 0; i < count; i++)
			write_words(payload(i), first + i, shape_.how);
		write_all(std::span(buffer_).first(count * shape_.bytes));
	}
	unsigned consume(std::uint64_t first, unsigned most) override
	{
		const std::size_t have = read_messages(std::span(buffer_).first(std::min(most, shape_.batch) * shape_.bytes));
		const auto count = static_cast<unsigned>(have / shape_.bytes);
		for (unsigned i = 0; i < count; i++)
			check_words(payload(i), first + i, shape_.how);
		return count;
	}
};

class pipe_link : public stream_link {
public:
	explicit pipe_link(const shape& of) : stream_link(of)
	{
		if (::pipe2(fds_.data(), O_CLOEXEC) < 0)
			die("pipe");
		// As large as it may be without privilege: fewer switches.
		(void)::fcntl(fds_[1], F_SETPIPE_SZ, 1 << 20);
	}
};

class unix_stream_link : public stream_link {
public:
	explicit unix_stream_link(const shape& of) : stream_link(of)
	{
		if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds_.data()) < 0)
			die("socketpair");
	}
};

// A packet a message; messages longer than a packet may be go in several.
class seqpacket_link : public copying_link {
public:
	explicit seqpacket_link(const shape& of) : copying_link(of), piece_(std::min(of.bytes, most_piece))
	{
		if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds_.data()) < 0)
			die("socketpair");
		const std::size_t packets = of.batch * ((of.bytes + piece_ - 1) / piece_);
		headers_.resize(packets);
		vectors_.resize(packets);
	}
	void produce(std::uint64_t first, unsigned count) override
	{
		for (unsigned i = 0; i < count; i++)
			write_words(payload(i), first + i, shape_.how);
		const unsigned packets = prepare(count);
		for (unsigned done = 0; done < packets;) {
			const int n = ::sendmmsg(fds_[1], headers_.data() + done, std::min(packets - done, 1024U), 0);
			if (n < 0)
				die("sendmmsg");
			done += static_cast<unsigned>(n);
		}
	}
	unsigned consume(std::uint64_t first, unsigned most) override
	{
		const unsigned per_message = prepare(1);
		const unsigned packets = prepare(std::min(most, shape_.batch));
		unsigned done = 0;
		do {
			const int n = ::recvmmsg(fds_[0], headers_.data() + done, std::min(packets - done, 1024U),
						 MSG_WAITFORONE, nullptr);
			if (n <= 0)
				die("recvmmsg");
			done += static_cast<unsigned>(n);
		} while (done % per_message);
		for (unsigned i = 0; i < done / per_message; i++)
			check_words(payload(i), first + i, shape_.how);
		return done / per_message;
	}

private:
	static constexpr std::size_t most_piece = 128 << 10;

	unsigned prepare(unsigned count)
	{
		unsigned packets = 0;
		for (unsigned i = 0; i < count; i++) {
			for (auto rest = payload(i); !rest.empty(); packets++) {
				const std::size_t length = std::min(rest.size(), piece_);
				vectors_[packets] = {rest.data(), length};
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

// No transfer at all: the copy alone, made by the consumer from a buffer of its own.
class memcpy_link : public link {
public:
	explicit memcpy_link(const shape& of) : shape_(of), from_(of.bytes), to_(of.bytes) {}
	void open_producer() override {}
	void open_consumer() override {}
	void produce(std::uint64_t, unsigned) override {}
	unsigned consume(std::uint64_t first, unsigned most) override
	{
		const unsigned count = std::min(most, shape_.batch);
		for (unsigned i = 0; i < count; i++) {
			write_words(from_, first + i, shape_.how);
			std::memcpy(to_.data(), from_.data(), to_.size());
			check_words(to_, first + i, shape_.how);
		}
		return count;
	}

private:
	shape shape_;
	std::vector<std::byte> from_;
	std::vector<std::byte> to_;
};

// --- fbufs -------------------------------------------------------------------------------

class fbufs_link : public link {
public:
	fbufs_link(const shape& of, bool secure, bool cached) : shape_(of), options_{secure, cached, queue_depth(of)}
	{
		static unsigned made;
		path_ = "/tmp/fbuf-bench-" + std::to_string(::getpid()) + "-" + std::to_string(made++);
		listener_ = expect(fbuf::listener::listen(path_), "cannot listen at " + path_);
	}
	~fbufs_link() override
	{
		// Before the domain, and the descriptors last.
		held_.clear();
		batch_.clear();
		fresh_.clear();
		sender_.reset();
		receiver_.reset();
	}
	void open_producer() override
	{
		open_domain();
		// What waits, what the consumer holds, and what the producer has at hand.
		const std::uint64_t fbufs = options_.depth + 2ULL * shape_.batch + 4;
		const std::uint64_t room = fbufs * ((shape_.bytes + page - 1) / page * page);
		expect(domain_->create_pool(room), "cannot make a pool");
		auto [sender, end] = expect(domain_->create_channel(options_), "cannot make a channel");
		sender_ = std::move(sender);
		auto peer = expect(listener_->accept(), "waiting for the consumer");
		expect(peer.pass(std::move(end)), "cannot pass the channel");
		batch_.resize(shape_.batch);
		// The first messages go through every fbuf that the pool has room for, so that all of them
		// are known to both sides before anything is measured.
		for (std::uint64_t i = 0; i < fbufs; i++)
			fresh_.push_back(expect(sender_->allocate(shape_.bytes), "cannot allocate"));
	}
	void open_consumer() override
	{
		open_domain();
		auto peer = expect(fbuf::connection::connect(path_), "cannot connect to " + path_);
		receiver_ = expect(domain_->attach_receiver(expect(peer.take(), "the producer")), "cannot attach");
		held_.resize(shape_.batch);
	}
	void produce(std::uint64_t first, unsigned count) override
	{
		if (count == 1) {
			auto buffer = next_buffer();
			write_words(buffer.data().first(shape_.bytes), first, shape_.how);
			(void)expect(sender_->send(std::move(buffer), shape_.bytes, first), "cannot send");
			return;
		}
		const auto batch = std::span(batch_).first(count);
		std::size_t have = 0;
		for (; have < count && !fresh_.empty(); have++)
			batch[have] = {next_buffer(), shape_.bytes};
		while (have < count)
			have += expect(sender_->allocate(shape_.bytes, batch.subspan(have)), "cannot allocate");
		for (fbuf::packet& each : batch) {
			write_words(each.own.data().first(shape_.bytes), first, shape_.how);
			each.cookie = first++;
		}
		for (auto left = batch; !left.empty();)
			left = left.subspan(expect(sender_->send(left), "cannot send").messages);
	}
	unsigned consume(std::uint64_t first, unsigned most) override
	{
		const auto count = static_cast<unsigned>(
			expect(receiver_->receive(std::span(held_).first(std::min(most, shape_.batch))), "cannot receive"));
		for (unsigned i = 0; i < count; i++)
			check_words(held_[i].data(), first + i, shape_.how);
		return count;
	}
	effort caused() override
	{
		const auto now = expect(domain_->count(), "cannot count");
		return {now.faults, now.ptes_set + now.ptes_cleared, now.tlb_flushes, now.pages_allocated};
	}

private:
	fbuf::buffer next_buffer()
	{
		if (fresh_.empty())
			return expect(sender_->allocate(shape_.bytes), "cannot allocate");
		fbuf::buffer buffer = std::move(fresh_.back());
		fresh_.pop_back();
		return buffer;
	}
	void open_domain() { domain_.emplace(expect(fbuf::domain::open(), "cannot open /dev/fbufs")); }
	shape shape_;
	fbuf::channel_options options_;
	std::string path_;
	std::optional<fbuf::listener> listener_;
	std::optional<fbuf::domain> domain_;
	std::optional<fbuf::sender> sender_;
	std::optional<fbuf::receiver> receiver_;
	std::vector<fbuf::buffer> fresh_;
	std::vector<fbuf::packet> batch_;
	std::vector<fbuf::message> held_;
};

constexpr const char* names[] = {
	"fbufs-volatile-cached", "fbufs-secure-cached", "fbufs-volatile-uncached", "fbufs-secure-uncached",
	"pipe", "unix-stream", "unix-seqpacket", "memcpy",
};

} // namespace

unsigned queue_depth(const shape& of)
{
	return std::max(of.batch, 64U);
}

void mismatch()
{
	throw failure(tool::mismatch, "a message is not what was sent");
}

std::span<const char* const> mechanisms()
{
	return names;
}

std::unique_ptr<link> make_link(const std::string& mechanism, const shape& of)
{
	if (mechanism.starts_with("fbufs-"))
		return std::make_unique<fbufs_link>(of, mechanism.find("secure") != std::string::npos,
						    mechanism.find("uncached") == std::string::npos);
	if (mechanism == "pipe")
		return std::make_unique<pipe_link>(of);
	if (mechanism == "unix-stream")
		return std::make_unique<unix_stream_link>(of);
	if (mechanism == "unix-seqpacket")
		return std::make_unique<seqpacket_link>(of);
	if (mechanism == "memcpy")
		return std::make_unique<memcpy_link>(of);
	throw failure(tool::usage, "no such mechanism: " + mechanism);
}

} // namespace bench
