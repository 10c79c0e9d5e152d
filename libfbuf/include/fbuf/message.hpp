// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
#pragma once

#include <fbuf/buffer.hpp>

#include <array>
#include <memory>
#include <vector>

namespace fbuf {

namespace detail {
class domain_state;
}

/// A part of an fbuf in a received message.
struct slice {
	std::span<const std::byte> data; ///< its bytes, in place
	std::uint64_t fbuf = 0;		 ///< handle of the fbuf
	std::uint32_t offset = 0;	 ///< of the first byte in the fbuf
};

/// A received message: bytes that lie where their originator wrote them.
///
/// Lifetime: its slices can be read until it is released, at the latest by its destructor. Releases
/// are collected and travel with the next receive of any receiver of the domain, or with
/// domain::flush(). Must not outlive its domain.
/// Thread-safety: like an int; different messages can be used and released by different threads.
class message {
public:
	message() = default;
	message(message&& other) noexcept { swap(other); }
	message& operator=(message&& other) noexcept
	{
		message(std::move(other)).swap(*this);
		return *this;
	}
	~message()
	{
		if (domain_)
			release();
	}

	[[nodiscard]] explicit operator bool() const noexcept { return domain_; }
	[[nodiscard]] std::span<const slice> slices() const noexcept
	{
		return {count_ > 1 ? more_.get() : &one_, count_};
	}
	/// The bytes of the first slice; of the whole message when it has only one.
	[[nodiscard]] std::span<const std::byte> data() const noexcept { return slices()[0].data; }
	/// Bytes in all slices.
	[[nodiscard]] std::uint64_t length() const noexcept { return length_; }
	/// The number that the sender gave it.
	[[nodiscard]] std::uint64_t cookie() const noexcept { return cookie_; }
	/// Whether nobody can change it: always on a secure channel, after secure() on a volatile one.
	[[nodiscard]] bool locked() const noexcept { return locked_; }

	/// Takes the originators' write access away. On success locked().
	[[nodiscard]] result<void> secure();
	/// Ends the use of the message; it is empty afterwards.
	void release() noexcept;

private:
	friend class aggregate;
	friend class io;
	friend class receiver;
	friend result<struct taken_over> make_mutable(class domain& which, message&& held);
	// Empty; its handle is somebody else's to release.
	void forget() noexcept
	{
		domain_ = nullptr;
		count_ = 0;
		if (more_) [[unlikely]]
			more_.reset();
	}
	void swap(message& other) noexcept
	{
		std::swap(domain_, other.domain_);
		std::swap(handle_, other.handle_);
		std::swap(cookie_, other.cookie_);
		std::swap(length_, other.length_);
		std::swap(count_, other.count_);
		std::swap(locked_, other.locked_);
		std::swap(one_, other.one_);
		std::swap(more_, other.more_);
	}

	detail::domain_state* domain_ = nullptr;
	std::uint64_t handle_ = 0;
	std::uint64_t cookie_ = 0;
	std::uint64_t length_ = 0;
	std::uint32_t count_ = 0;
	bool locked_ = false;
	slice one_;
	std::unique_ptr<slice[]> more_;
};

/// A message in the making: an ordered list of slices, of own buffers and of held messages.
///
/// Owns the buffers appended to it until they are sent. Thread-safety: like an int.
class aggregate {
public:
	explicit aggregate(std::uint64_t cookie = 0) : cookie_(cookie) {}
	aggregate(aggregate&&) = default;
	aggregate& operator=(aggregate&&) = default;

	/// Append the bytes [offset, offset + length) of an own buffer and own the buffer from now on.
	/// Errors: std::errc::result_out_of_range, and the buffer is still the caller's.
	[[nodiscard]] result<void> append(buffer&& own, std::size_t offset, std::size_t length);
	/// Append more of a buffer that was appended last, for instance another range of it.
	[[nodiscard]] result<void> append_more(std::size_t offset, std::size_t length);
	/// Append a part of a slice of a message that this process holds, to send it on without a copy.
	/// The message must be held until the send.
	/// Errors: std::errc::result_out_of_range.
	[[nodiscard]] result<void> append(const message& held, std::size_t slice, std::size_t offset,
					  std::size_t length);
	/// Append all of a held message.
	[[nodiscard]] result<void> append(const message& held);
	/// Ask for a notice when the own buffers come home; see pool::notices().
	void want_notice() noexcept { notice_ = true; }
	/// Bytes so far.
	[[nodiscard]] std::uint64_t length() const noexcept { return length_; }

private:
	friend class io;
	friend class sender;
	struct part {
		std::uint64_t fbuf;
		std::uint64_t hold;
		std::uint32_t offset;
		std::uint32_t length;
	};
	void add(const part& next);
	[[nodiscard]] std::span<const part> parts() const noexcept
	{
		return many_.empty() ? std::span<const part>(few_).first(count_) : std::span<const part>(many_);
	}
	void sent() noexcept;

	std::uint64_t cookie_;
	std::uint64_t length_ = 0;
	bool notice_ = false;
	std::uint32_t count_ = 0;
	std::array<part, 2> few_{};
	std::vector<part> many_;
	buffer first_;
	std::vector<buffer> buffers_;
};

} // namespace fbuf
