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
	/// The handles of fbufs that came home since the last call, of messages sent with
	/// aggregate::want_notice(). Does not wait; wait_notice() does.
	[[nodiscard]] result<std::vector<std::uint64_t>> notices();
	/// Wait for notices. False: time-out. A negative time-out waits for ever.
	[[nodiscard]] result<bool> wait_notice(std::chrono::milliseconds timeout);

private:
	friend class domain;
	explicit pool(detail::domain_state* domain) noexcept : domain_(domain) {}
	detail::domain_state* domain_;
};

} // namespace fbuf
