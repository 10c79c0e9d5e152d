// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
#pragma once

#include <fbuf/message.hpp>

#include <chrono>

namespace fbuf {

namespace detail {
class domain_state;
class buffer_cache;
} // namespace detail

/// What a channel promises.
struct channel_options {
	bool secure = true;	  ///< the lock comes with the send; else only when a receiver asks
	bool cached = true;	  ///< receivers keep their mappings for the next fbufs of the channel
	std::uint32_t depth = 64; ///< messages that may wait for one receiver; a power of two, at most 4096
};

/// Which end of a channel.
enum class role { sender, receiver };

/// An end of a channel as a descriptor, attached or not: what can be passed to another process.
///
/// Owns the descriptor. Thread-safety: like an int.
class endpoint {
public:
	endpoint() = default;
	/// Takes over a descriptor that came from somewhere else.
	explicit endpoint(int fd) noexcept : fd_(fd) {}
	endpoint(endpoint&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
	endpoint& operator=(endpoint&& other) noexcept
	{
		std::swap(fd_, other.fd_);
		return *this;
	}
	~endpoint();

	[[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
	/// For poll, epoll and io_uring: readable with messages, writable with room, hang-up when the
	/// other side is gone; and for SCM_RIGHTS.
	[[nodiscard]] int fd() const noexcept { return fd_; }
	/// Give the descriptor away.
	[[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

	struct information {
		std::uint32_t channel;	 ///< number of the channel
		role end;		 ///< which end this is
		bool secure;		 ///< see channel_options
		bool cached;		 ///< see channel_options
		std::uint32_t depth;	 ///< see channel_options
		std::uint32_t receivers; ///< receiving ends there are
		std::uint32_t queued;	 ///< messages waiting; at the sender, for the slowest receiver
		bool attached;		 ///< to a domain
		bool hung_up;		 ///< the other side is gone
	};
	/// Errors: std::errc::inappropriate_io_control_operation when it is no end.
	[[nodiscard]] result<information> info() const;

private:
	int fd_ = -1;
};

/// A message of one buffer, for vectors of such: less to make than an aggregate.
struct packet {
	buffer own;		  ///< empty once it is sent
	std::size_t length = 0;	  ///< bytes of it, from its first
	std::uint64_t cookie = 0; ///< a number for the receiver
};

/// A message of plain bytes, for vectors of such. They are the caller's again when the send returns.
struct plain {
	std::span<const std::byte> data; ///< anywhere in the caller's memory, at least one
	std::uint64_t cookie = 0;	 ///< a number for the receiver
};

/// What a send did. Nothing is copied but plain bytes, and what sender::copy_below() was told to copy.
struct sent {
	std::size_t messages = 0;	 ///< queued with every receiver; the rest is untouched
	std::uint64_t bytes = 0;	 ///< of payload in them
	std::uint64_t bytes_copied = 0;	 ///< of these, copied on the way: into the queue, or into an fbuf first
	std::size_t messages_copied = 0; ///< of the messages, those copied into the queue instead of handed over
};

class receiver;

/// The sending end of a channel.
///
/// Keeps fbufs of the channel at hand, so that in the steady state allocate() makes no system call:
/// they come back with the sends. Thread-safety: one thread at a time.
class sender {
public:
	sender() = default;
	sender(sender&& other) noexcept { swap(other); }
	sender& operator=(sender&& other) noexcept
	{
		sender(std::move(other)).swap(*this);
		return *this;
	}
	~sender();

	[[nodiscard]] const endpoint& end() const noexcept { return end_; }
	[[nodiscard]] int fd() const noexcept { return end_.fd(); }

	/// An fbuf of at least @p bytes for this channel. It may hold what an earlier message of the
	/// same channel left in it, and the channel's receivers may see it. Waits while the pool is
	/// full of fbufs that were sent.
	/// Errors: std::errc::no_buffer_space: the pool is full of this process's own fbufs;
	/// std::errc::broken_pipe: no receiver is left; std::errc::not_enough_memory;
	/// std::errc::interrupted; std::errc::resource_unavailable_try_again, non-blocking.
	[[nodiscard]] result<buffer> allocate(std::size_t bytes);

	/// An fbuf of that kind for each packet, of which it becomes the own buffer, with @p bytes as its
	/// length; for fewer, the first ones, when the pool has no more. Returns for how many.
	/// Errors: as above, when there is not even one.
	[[nodiscard]] result<std::size_t> allocate(std::size_t bytes, std::span<packet> out);

	/// Send the first @p length bytes of a buffer as one message. The buffer is empty afterwards,
	/// and untouched when the send fails.
	/// Errors: std::errc::broken_pipe, resource_unavailable_try_again (non-blocking, full),
	/// result_out_of_range (length), cross_device_link (allocated for another channel), interrupted.
	[[nodiscard]] result<sent> send(buffer&& own, std::size_t length, std::uint64_t cookie = 0);

	/// Send the first @p length bytes of a buffer, and get it back, rather than have it go on the
	/// channel's free list: when its last receiver has released it, pool::is_home(), a notice
	/// (pool::notices()) names buffer::handle(), and it can be filled and sent or lent again. A store
	/// meanwhile does what the pool was made for (store_to_lent). Destroyed before, it is given away.
	/// Errors: as above, and permission_denied: it is not home yet.
	[[nodiscard]] result<sent> lend(buffer& own, std::size_t length, std::uint64_t cookie = 0);

	/// Send as send() of a buffer does, then wait for messages as @p from.receive(out) does: a request and
	/// its answer, or an answer and the next request, with one system call; with two, where the message is
	/// below copy_below(). Returns how many messages were received.
	/// Errors: as of send(), and the buffer and what @p out holds are untouched; or as of receiver::receive(),
	/// and the buffer is empty: it was sent, and from.receive() goes on. invalid_argument: @p from is no
	/// receiver.
	[[nodiscard]] result<std::size_t> call(buffer&& own, std::size_t length, std::uint64_t cookie, receiver& from,
					       std::span<message> out);

	/// Send messages with one system call and one TLB flush. Those that were sent are empty
	/// afterwards, the rest is untouched. Waits until all are queued; non-blocking, sends what fits.
	/// Errors: as above, when not even the first was sent.
	[[nodiscard]] result<sent> send(std::span<aggregate> messages);
	[[nodiscard]] result<sent> send(std::span<packet> messages);

	/// Send plain bytes, which are copied once: below copy_below() by the module into the queue, from
	/// there on by the library into an fbuf that is then handed over; sent::messages_copied says which.
	/// As there is a copy either way, most_copied + 1 suits a secure sender of nothing else.
	/// The bytes are the caller's again when the call returns.
	/// Errors: as those of send() and allocate(); result_out_of_range: no bytes.
	[[nodiscard]] result<sent> send(std::span<const std::byte> bytes, std::uint64_t cookie = 0);
	/// The same for several messages, with one system call, if those that are handed over find an fbuf
	/// without waiting; else those before them are sent first. Waits until all are queued; non-blocking,
	/// sends what fits.
	[[nodiscard]] result<sent> send(std::span<const plain> messages);

	/// Messages of fewer than @p bytes are copied into the queue instead of handed over: those of send() of
	/// a buffer, of packets, and of plain bytes, and of call(); not aggregates, and not what is lent. In secure
	/// mode that is cheaper for small ones, for no write access has to be taken away and given back; such a message
	/// is locked on any channel. A buffer that was sent so can be allocated again at once: unlike others, its
	/// memory may change under spans taken before. Which size to set `fbuf bench crossover` says. At first
	/// 0: nothing is copied. Messages of more than most_copied bytes never are.
	void copy_below(std::size_t bytes) noexcept { copy_below_ = bytes; }
	/// What copy_below() was told.
	[[nodiscard]] std::size_t copy_below() const noexcept { return copy_below_; }
	/// Bytes of the largest message that can be copied into the queue.
	static constexpr std::size_t most_copied = 16384;

	/// One more receiving end; it gets what is sent from now on.
	/// Errors: std::errc::too_many_files_open; EUSERS at 64.
	[[nodiscard]] result<endpoint> add_receiver();

	/// Wait for room. False: time-out. A negative time-out waits for ever.
	[[nodiscard]] result<bool> wait(std::chrono::milliseconds timeout) const;
	/// Whether calls return resource_unavailable_try_again instead of waiting.
	[[nodiscard]] result<void> set_nonblocking(bool nonblocking);

private:
	friend class domain;
	sender(detail::domain_state* domain, endpoint&& end);
	void swap(sender& other) noexcept
	{
		std::swap(domain_, other.domain_);
		std::swap(cache_, other.cache_);
		std::swap(end_, other.end_);
		std::swap(scratch_, other.scratch_);
		std::swap(copy_below_, other.copy_below_);
	}

	struct scratch;
	struct scratch_delete {
		void operator()(scratch* which) const noexcept;
	};
	[[nodiscard]] bool copies(std::size_t length) const noexcept
	{
		return length < copy_below_ && length <= most_copied;
	}
	// What is lent has to be home before it is sent, which the module sees to when it is handed over.
	[[nodiscard]] bool copies(const buffer& own, std::size_t length) const noexcept
	{
		return copies(length) && !own.lent_;
	}
	struct single;
	struct send_and_receive;
	result<sent> send_one(const buffer& own, std::size_t length, std::uint64_t cookie, std::uint32_t flags,
			      std::uint64_t wanted);
	result<sent> send_copy(std::span<const std::byte> bytes, std::uint64_t cookie);
	result<sent> send_some(std::span<const plain> messages);
	result<std::size_t> transmit(std::size_t refill_bytes);
	detail::domain_state* domain_ = nullptr;
	detail::buffer_cache* cache_ = nullptr;
	endpoint end_;
	std::unique_ptr<scratch, scratch_delete> scratch_;
	std::size_t copy_below_ = 0;
};

/// A receiving end of a channel. Thread-safety: one thread at a time.
class receiver {
public:
	receiver() = default;
	receiver(receiver&& other) noexcept { swap(other); }
	receiver& operator=(receiver&& other) noexcept
	{
		receiver(std::move(other)).swap(*this);
		return *this;
	}
	~receiver();

	[[nodiscard]] const endpoint& end() const noexcept { return end_; }
	[[nodiscard]] int fd() const noexcept { return end_.fd(); }

	/// Wait for the next message.
	/// Errors: errc::end_of_stream; std::errc::resource_unavailable_try_again (non-blocking);
	/// std::errc::interrupted; std::errc::no_buffer_space: 65,536 messages are held;
	/// std::errc::not_enough_memory, also when a sender's pool cannot be mapped: the messages wait for the
	/// next call, of which wait() knows, but not poll().
	[[nodiscard]] result<message> receive();
	/// Wait for a message and receive as many as are there, up to out.size(), with one system call,
	/// which also releases what @p out still holds from before.
	/// Errors: as above.
	[[nodiscard]] result<std::size_t> receive(std::span<message> out);

	/// Wait for a message, after flushing releases. False: time-out. Negative: for ever.
	[[nodiscard]] result<bool> wait(std::chrono::milliseconds timeout);
	[[nodiscard]] result<void> set_nonblocking(bool nonblocking);

private:
	friend class domain;
	friend class sender; // call()
	receiver(detail::domain_state* domain, endpoint&& end);
	void swap(receiver& other) noexcept
	{
		std::swap(domain_, other.domain_);
		std::swap(end_, other.end_);
		std::swap(scratch_, other.scratch_);
	}

	// Where a message and its slices begin, among those that a call received.
	struct position {
		std::size_t message = 0;
		std::size_t slice = 0;
	};
	struct just_receive;
	void drop(message& which);
	template <typename Args, typename First>
	result<std::size_t> fetch(std::span<message> out, Args& args, const First& first);
	result<std::size_t> hand_out(std::span<message> out, position at, std::size_t behind);
	void keep(position at, std::size_t count);
	result<std::size_t> receive_waiting(std::span<message> out);

	struct scratch;
	struct scratch_delete {
		void operator()(scratch* which) const noexcept;
	};
	detail::domain_state* domain_ = nullptr;
	endpoint end_;
	std::unique_ptr<scratch, scratch_delete> scratch_;
};

} // namespace fbuf
