// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Senders to whom the kernel tells when it has done with a buffer, and io_uring's plain send beside them.

#include "bench_link.hpp"
#include "bench_sender.hpp"
#include "bench_uring.hpp"

#include <algorithm>
#include <cerrno>
#include <linux/errqueue.h>
#include <poll.h>
#include <sys/socket.h>

namespace bench {

namespace {

std::size_t noticed_buffers(const job& of)
{
	return std::clamp<std::size_t>((4 << 20) / of.bytes, 4, 64);
}

// See Documentation/networking/msg_zerocopy.rst of Linux. The kernel numbers the calls that send, from 0,
// and reports ranges of numbers, not always in order. Each message is one call.
class msg_zerocopy_sender : public sender {
public:
	explicit msg_zerocopy_sender(const job& of)
		: sender(of), buffers_(of.bytes, noticed_buffers(of)), busy_(buffers_.count())
	{
		const int on = 1;
		if (::setsockopt(of.to, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)) < 0)
			die("SO_ZEROCOPY");
	}
	void send(std::uint64_t number) override
	{
		while (busy_[number % busy_.size()])
			reap();
		write_words(buffers_[number], number, touch::header);
		if (send_all(buffers_[number]) != job_.bytes)
			throw tool::failure(tool::failed,
					    "MSG_ZEROCOPY took a part of a message (is RLIMIT_MEMLOCK too low?)");
		busy_[number % busy_.size()] = true;
		sent_++;
	}
	void finish() override
	{
		while (reaped_ < sent_)
			reap();
	}
	[[nodiscard]] std::optional<double> copied() const override
	{
		return static_cast<double>(copied_) / static_cast<double>(reaped_);
	}

private:
	// A socket that blocks takes all, unless memory is short; that for notifications may be.
	std::size_t send_all(std::span<const std::byte> bytes)
	{
		ssize_t n;
		while ((n = ::send(job_.to, bytes.data(), bytes.size(), MSG_ZEROCOPY | MSG_NOSIGNAL)) < 0 &&
		       errno == ENOBUFS && reaped_ < sent_)
			reap();
		return moved(n, "send");
	}
	// Wait for a notification and take it.
	void reap()
	{
		alignas(cmsghdr) char control[128];
		msghdr message = {};
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
		while (::recvmsg(job_.to, &message, MSG_ERRQUEUE) < 0) {
			pollfd error_queue = {job_.to, 0, 0};
			if (errno != EAGAIN || ::poll(&error_queue, 1, -1) < 0)
				die("MSG_ERRQUEUE");
		}
		for (cmsghdr* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
			const auto* error = reinterpret_cast<const sock_extended_err*>(CMSG_DATA(part));
			if (error->ee_origin == SO_EE_ORIGIN_ZEROCOPY)
				done(*error);
		}
	}
	void done(const sock_extended_err& range)
	{
		const std::uint32_t count = range.ee_data - range.ee_info + 1;
		for (std::uint32_t i = 0; i < count; i++)
			busy_[(range.ee_info + i) % busy_.size()] = false;
		reaped_ += count;
		copied_ += range.ee_code & SO_EE_CODE_ZEROCOPY_COPIED ? count : 0;
	}

	buffers buffers_;
	std::vector<bool> busy_; // each buffer: its notification has not come
	std::uint64_t sent_ = 0;
	std::uint64_t reaped_ = 0;
	std::uint64_t copied_ = 0;
};

class uring_sender : public sender {
public:
	explicit uring_sender(const job& of) : sender(of), buffer_(of.bytes, 1), ring_(1)
	{
		ring_.register_file(of.to);
	}
	void send(std::uint64_t number) override
	{
		write_words(buffer_[0], number, touch::header);
		for (auto rest = buffer_[0]; !rest.empty();)
			rest = rest.subspan(send_some(rest));
	}

private:
	std::size_t send_some(std::span<std::byte> bytes)
	{
		io_uring_sqe& operation = ring_.prepare();
		operation.opcode = IORING_OP_SEND;
		operation.flags = IOSQE_FIXED_FILE;
		operation.addr = reinterpret_cast<std::uint64_t>(bytes.data());
		operation.len = static_cast<std::uint32_t>(bytes.size());
		operation.msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
		ring_.submit_and_wait();
		const int result = ring_.next().value().result;
		errno = -result;
		return moved(result, "io_uring send");
	}

	buffers buffer_;
	uring ring_;
};

class uring_zc_sender : public sender {
public:
	explicit uring_zc_sender(const job& of)
		: sender(of), buffers_(of.bytes, noticed_buffers(of)), waits_(buffers_.count()),
		  ring_(static_cast<unsigned>(2 * buffers_.count()))
	{
		ring_.register_file(of.to);
		ring_.register_buffer(buffers_.all());
	}
	void send(std::uint64_t number) override
	{
		const std::size_t slot = number % waits_.size();
		wait_for(slot);
		auto rest = buffers_[number];
		write_words(rest, number, touch::header);
		while (!rest.empty())
			rest = rest.subspan(send_some(rest, slot));
	}
	void finish() override
	{
		for (std::size_t slot = 0; slot < waits_.size(); slot++)
			wait_for(slot);
	}
	[[nodiscard]] std::optional<double> copied() const override
	{
		return static_cast<double>(copied_) / static_cast<double>(notices_);
	}

private:
	std::size_t send_some(std::span<std::byte> bytes, std::size_t slot)
	{
		io_uring_sqe& operation = ring_.prepare();
		operation.opcode = IORING_OP_SEND_ZC;
		operation.flags = IOSQE_FIXED_FILE;
		operation.ioprio = IORING_RECVSEND_FIXED_BUF | IORING_SEND_ZC_REPORT_USAGE;
		operation.addr = reinterpret_cast<std::uint64_t>(bytes.data());
		operation.len = static_cast<std::uint32_t>(bytes.size());
		operation.msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
		operation.user_data = slot;
		std::optional<int> result;
		do {
			ring_.submit_and_wait();
			while (const auto what = ring_.next())
				take(*what, result);
		} while (!result);
		errno = -*result;
		return moved(*result, "io_uring send-zc");
	}
	// An operation completes twice: when the bytes are sent, and when the buffer is free.
	void take(const completion& what, std::optional<int>& result)
	{
		if (what.flags & IORING_CQE_F_NOTIF) {
			waits_[what.user_data]--;
			notices_++;
			copied_ += static_cast<unsigned>(what.result) & IORING_NOTIF_USAGE_ZC_COPIED ? 1 : 0;
			return;
		}
		result = what.result;
		waits_[what.user_data] += what.flags & IORING_CQE_F_MORE ? 1 : 0;
	}
	void wait_for(std::size_t slot)
	{
		std::optional<int> none;
		while (waits_[slot] > 0) {
			ring_.submit_and_wait();
			while (const auto what = ring_.next())
				take(*what, none);
		}
	}

	buffers buffers_;
	std::vector<unsigned> waits_; // for so many notifications, each buffer
	uring ring_;
	std::uint64_t notices_ = 0;
	std::uint64_t copied_ = 0;
};

} // namespace

std::unique_ptr<sender> make_msg_zerocopy_sender(const job& of)
{
	return std::make_unique<msg_zerocopy_sender>(of);
}

std::unique_ptr<sender> make_uring_sender(const job& of)
{
	return std::make_unique<uring_sender>(of);
}

std::unique_ptr<sender> make_uring_zc_sender(const job& of)
{
	return std::make_unique<uring_zc_sender>(of);
}

} // namespace bench
