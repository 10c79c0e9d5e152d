// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
#pragma once

#include <fbuf/buffer.hpp>

#include <chrono>
#include <vector>

namespace fbuf {

namespace detail {
class domain_state;
}

/// What a store of the originator to a lent fbuf does while that is locked. Lent are buffers of
/// sender::lend(), and those that io writes and gives back. Whatever else is locked faults.
enum class store_to_lent {
	faults, ///< SIGBUS at its address
	waits,	///< the thread waits until the fbuf is home; a system call that would store gets EFAULT
	copies, ///< this process goes on with a private copy of the page; readers keep what was sent.
		///< The copies become the fbuf's bytes when it is sent again; counters::bytes_copied counts both
};

/// The pool of this process, through its domain. There is at most one.
///
/// Lifetime: that of the domain. Thread-safety: all calls.
class pool {
public:
	/// Number of the pool.
	[[nodiscard]] std::uint32_t id() const noexcept;
	/// Bytes of memory in use, free fbufs included.
	[[nodiscard]] result<std::uint64_t> used() const;
	/// An fbuf of at least @p bytes, zeroed, that belongs to no channel yet: it becomes the
	/// channel's that it is first sent on.
	/// Errors: std::errc::no_buffer_space: the pool is full of fbufs that are this process's own;
	/// std::errc::not_enough_memory. Waits while it is full of fbufs that were sent.
	[[nodiscard]] result<buffer> allocate(std::size_t bytes);
	/// Whether a buffer that was lent is this process's again. A buffer that was not lent is.
	/// Errors: std::errc::invalid_argument: it is empty.
	[[nodiscard]] result<bool> is_home(const buffer& lent) const;
	/// The handles of fbufs that came home since the last call, of messages sent with
	/// aggregate::want_notice() or sender::lend(). Does not wait; wait_notice() does.
	[[nodiscard]] result<std::vector<std::uint64_t>> notices();
	/// Wait for notices. False: time-out. A negative time-out waits for ever.
	[[nodiscard]] result<bool> wait_notice(std::chrono::milliseconds timeout);

private:
	friend class domain;
	explicit pool(detail::domain_state* domain) noexcept : domain_(domain) {}
	detail::domain_state* domain_;
};

} // namespace fbuf
