// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
#pragma once

#include <fbuf/error.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace fbuf {

namespace detail {
class buffer_cache;
}

/// An fbuf that this process owns and may write.
///
/// Lifetime: until it is sent, or destroyed, which gives it back without a system call. Must not
/// outlive its domain. After a successful send it is empty; the memory stays readable through
/// spans taken before (while the channel is secure, a store there ends in SIGBUS). One that was lent
/// (sender::lend()) stays as it is; destroyed before it is home, it is given away.
/// Thread-safety: like an int.
class buffer {
public:
	buffer() = default;
	buffer(buffer&& other) noexcept
		: cache_(std::exchange(other.cache_, nullptr)), handle_(other.handle_), data_(other.data_),
		  size_(std::exchange(other.size_, 0)), lent_(other.lent_)
	{
	}
	buffer& operator=(buffer&& other) noexcept
	{
		if (this == &other)
			return *this;
		if (cache_)
			give_back();
		cache_ = std::exchange(other.cache_, nullptr);
		handle_ = other.handle_;
		data_ = other.data_;
		size_ = std::exchange(other.size_, 0);
		lent_ = other.lent_;
		return *this;
	}
	~buffer()
	{
		if (cache_)
			give_back();
	}

	/// Whether it is an fbuf at all, not moved from, not sent.
	[[nodiscard]] explicit operator bool() const noexcept { return cache_; }
	/// Its bytes; whole pages, at least as many as were asked for.
	[[nodiscard]] std::span<std::byte> data() const noexcept { return {data_, size_}; }
	[[nodiscard]] std::size_t size() const noexcept { return size_; }
	/// The handle that the module knows it by, as in reports.
	[[nodiscard]] std::uint64_t handle() const noexcept { return handle_; }

private:
	friend class detail::buffer_cache;
	friend class aggregate;
	friend class pool;
	friend class sender;
	friend class io;

	buffer(detail::buffer_cache* cache, std::uint64_t handle, std::byte* data, std::size_t size)
		: cache_(cache), handle_(handle), data_(data), size_(size)
	{
	}
	void give_back() noexcept;
	detail::buffer_cache* cache_ = nullptr;
	std::uint64_t handle_ = 0;
	std::byte* data_ = nullptr;
	std::size_t size_ = 0;
	bool lent_ = false;
};

} // namespace fbuf
