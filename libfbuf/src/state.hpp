// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// What senders, receivers, buffers and messages of a domain share.
#pragma once

#include "sys.hpp"

#include <fbuf/channel.hpp>
#include <fbuf/pool.hpp>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

namespace fbuf::detail {

class domain_state;

// Where a pool is mapped, as one position in it shows.
class place_of_pool {
public:
	place_of_pool() = default;
	place_of_pool(std::uint64_t position, const std::byte* address)
		: base_(position & ~mask), start_(address - (position & mask))
	{
	}
	[[nodiscard]] bool has(std::uint64_t position) const noexcept { return (position & ~mask) == base_; }
	[[nodiscard]] const std::byte* at(std::uint64_t position) const noexcept { return start_ + (position & mask); }

private:
	static constexpr std::uint64_t mask = FBUFS_POOL_OFFSET(1) - 1;
	std::uint64_t base_ = 1; // no pool's
	const std::byte* start_ = nullptr;
};

// For people: why bytes were copied.
std::string_view reason_text(std::uint32_t reason);

// For sections of a few instructions, entered far more often than contended.
class spinlock {
public:
	void lock() noexcept
	{
		if (flag_.test_and_set(std::memory_order_acquire)) [[unlikely]]
			wait();
	}
	void unlock() noexcept { flag_.clear(std::memory_order_release); }

private:
	[[gnu::noinline, gnu::cold]] void wait() noexcept
	{
		do
			std::this_thread::yield();
		while (flag_.test_and_set(std::memory_order_acquire));
	}
	std::atomic_flag flag_ = ATOMIC_FLAG_INIT;
};

// Fbufs that one descriptor (a sender's end, or the domain) allocated, ready to be handed out.
//
// The buffers of a sender can outlive it: the cache lives as long as the domain, and forgets the
// descriptor when it is closed.
class buffer_cache {
public:
	// Fbufs that a sender allocates ahead.
	static constexpr std::size_t most_ahead = 32;

	// keeps: what comes back without having been sent is for the next who wants one.
	buffer_cache(domain_state* domain, int fd, bool keeps) : domain_(domain), fd_(fd), keeps_(keeps) {}

	// One at hand of this many bytes, or of an allocation of up to `count`; 0: of as many as are worth a call.
	result<buffer> take(std::size_t bytes, std::size_t count = 0, bool wait = true)
	{
		lock_.lock();
		if (page_round(bytes) == bytes_ && count_ > 0) [[likely]] {
			const entry next = ready_[--count_];
			lock_.unlock();
			return make(next);
		}
		lock_.unlock();
		return take_fresh(bytes, count, wait);
	}
	// Those at hand of this many bytes, up to `out.size()`. Returns how many.
	std::size_t take_ready(std::size_t bytes, std::span<packet> out) noexcept;
	// Whether a send should ask for more, and how many: fills room of that many.
	std::size_t wanted(std::size_t target) noexcept;
	// What came with a send. Does not fail: what there is no room for is given up.
	void refill(std::span<const fbufs_buffer> fresh, std::size_t bytes) noexcept;
	// Give up what is at hand. Whether there was any.
	bool drop_ready() noexcept;
	// An fbuf that the module allocated for this descriptor.
	buffer adopt(std::uint64_t handle, std::uint64_t position, std::size_t size) noexcept;
	[[nodiscard]] int fd() const noexcept { return fd_; }
	void give_back(std::uint64_t handle, std::byte* data, std::size_t size, bool lent) noexcept
	{
		if (!lent) [[likely]] {
			lock_.lock();
			if (size == bytes_ && count_ < room_) [[likely]] {
				ready_[count_++] = {handle, data};
				lock_.unlock();
				return;
			}
			lock_.unlock();
		}
		give_back_other(handle, data, size, lent);
	}
	// The sender goes: what is at hand is freed, and what comes back later too.
	void close() noexcept;
	[[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

private:
	struct entry {
		std::uint64_t handle;
		std::byte* data;
	};
	static std::size_t page_round(std::size_t bytes) noexcept { return (bytes + 4095) & ~std::size_t{4095}; }
	result<buffer> take_fresh(std::size_t bytes, std::size_t count, bool wait);
	[[nodiscard]] std::size_t burst(std::size_t bytes) const noexcept;
	struct stock {
		std::unique_ptr<entry[]> entries;
		std::size_t count;
	};
	// What is at hand, which is nothing afterwards. Under the lock.
	stock take_all() noexcept;
	void give_up(const stock& which) noexcept;
	buffer make(const entry& from) const noexcept
	{
		return buffer(const_cast<buffer_cache*>(this), from.handle, from.data, bytes_);
	}
	// Of another length, or one more than there is room for, or one that is not kept at all.
	void give_back_other(std::uint64_t handle, std::byte* data, std::size_t size, bool lent) noexcept;
	// Room for so many, if there is memory for it. Under the lock.
	bool make_room(std::size_t count) noexcept { return count <= room_ || grow(count); }
	bool grow(std::size_t count) noexcept;
	void give_up(std::uint64_t handle) noexcept;

	domain_state* domain_;
	spinlock lock_;
	int fd_;
	const bool keeps_;
	std::size_t bytes_ = 0; // of the fbufs at hand: one length at a time; 0: none is kept
	std::size_t count_ = 0; // of them
	std::size_t room_ = 0;
	std::unique_ptr<entry[]> ready_;
};

class domain_state {
	struct window {
		std::uint32_t pool;
		std::uint64_t span;
		std::byte* base;
	};

public:
	explicit domain_state(int fd) : fd_(fd) {}
	domain_state(const domain_state&) = delete;
	~domain_state();

	[[nodiscard]] int fd() const noexcept { return fd_; }

	result<void> make_pool(std::uint64_t bytes, store_to_lent store);
	[[nodiscard]] std::uint32_t pool() const noexcept { return pool_; }
	[[nodiscard]] std::uint64_t pool_span() const noexcept { return pool_span_; }
	[[nodiscard]] std::byte* own_base() const noexcept { return own_base_; }
	// Where a position in the own pool is mapped.
	[[nodiscard]] std::byte* own(std::uint64_t position) const noexcept
	{
		return own_base_ + (position - FBUFS_POOL_OFFSET(pool_));
	}
	// Where a position in any pool that this domain may see is mapped; maps it if need be.
	result<const std::byte*> locate(std::uint64_t position)
	{
		const window* last = recent_.load(std::memory_order_acquire);
		if (last && last->pool == position >> FBUFS_POOL_SHIFT) [[likely]]
			return last->base + (position - FBUFS_POOL_OFFSET(last->pool));
		if (own_base_ && pool_ == position >> FBUFS_POOL_SHIFT)
			return own(position);
		return locate_any(position);
	}

	buffer_cache* make_cache(int fd);
	// The cache of a sender's descriptor.
	buffer_cache* find_cache(int fd) noexcept;
	buffer_cache* loose_cache() noexcept { return &loose_; }

	void release_later(std::uint64_t handle) noexcept;
	// What is to be released, to the front of a vector of the caller's, with room for `more` behind it.
	// Returns how many.
	std::size_t take_releases(std::vector<std::uint64_t>& into, std::size_t more);
	result<void> flush();

private:
	result<const std::byte*> locate_any(std::uint64_t position);

	int fd_;
	std::uint32_t pool_ = 0;
	std::uint64_t pool_span_ = 0;
	std::uint64_t pool_bytes_ = 0; // as asked for
	std::uint32_t pool_flags_ = 0;
	std::byte* own_base_ = nullptr;

	std::mutex windows_mutex_;
	std::map<std::uint32_t, std::unique_ptr<window>> windows_;
	std::atomic<window*> recent_ = nullptr;

	std::mutex caches_mutex_;
	std::vector<std::unique_ptr<buffer_cache>> caches_;
	// What belongs to no channel is zeroed when it is allocated: only the module does that.
	buffer_cache loose_{this, fd_, false};

	spinlock releases_lock_;
	std::vector<std::uint64_t> releases_;
};

} // namespace fbuf::detail
