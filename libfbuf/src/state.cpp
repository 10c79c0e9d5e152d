// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "state.hpp"

#include <unistd.h>

#include <algorithm>
#include <new>
#include <ranges>

namespace fbuf::detail {

namespace {

// Bytes that a sender allocates ahead at most.
constexpr std::size_t bytes_ahead = std::size_t{4} << 20;

// Releases that are collected before they are worth a call of their own.
constexpr std::size_t max_releases = 64;

} // namespace

// --- fbufs at hand ---------------------------------------------------------------

buffer_cache::stock buffer_cache::take_all() noexcept
{
	room_ = 0;
	return {std::move(ready_), std::exchange(count_, 0)};
}

void buffer_cache::give_up(const stock& which) noexcept
{
	for (const entry& each : std::span(which.entries.get(), which.count))
		give_up(each.handle);
}

// As many as are worth a call; of no channel, only what is asked for.
std::size_t buffer_cache::burst(std::size_t bytes) const noexcept
{
	if (!keeps_)
		return 1;
	return std::clamp<std::size_t>(bytes_ahead / std::max<std::size_t>(bytes, 1), 1, most_ahead);
}

result<buffer> buffer_cache::take_fresh(std::size_t bytes, std::size_t count, bool wait)
{
	if (bytes == 0)
		return sys::failure(EINVAL);
	stock unfit = {};
	const std::size_t rounded = page_round(bytes);
	int fd;
	{
		const std::lock_guard guard(lock_);
		fd = fd_;
		if (keeps_ && fd >= 0 && rounded != bytes_) {
			unfit = take_all();
			bytes_ = rounded;
		}
	}
	give_up(unfit);
	if (fd < 0)
		return sys::failure(EPIPE);
	std::vector<fbufs_buffer> fresh(count ? count : burst(bytes));
	const long got = sys::alloc(fd, bytes, fresh, wait ? 0 : FBUFS_DONTWAIT);
	if (got < 0)
		return sys::failure(static_cast<int>(-got));
	fresh.resize(static_cast<std::size_t>(got));
	const fbufs_buffer first = fresh.front();
	refill(std::span(fresh).subspan(1), rounded);
	return buffer(this, first.fbuf, domain_->own(first.position), rounded);
}

std::size_t buffer_cache::take_ready(std::size_t bytes, std::span<packet> out) noexcept
{
	std::size_t count = 0;
	for (;;) {
		{
			const std::lock_guard guard(lock_);
			const std::size_t most =
				page_round(bytes) == bytes_ ? std::min(out.size(), count + count_) : count;
			const entry* from = ready_.get() + count_;
			const std::size_t before = count;
			for (; count < most && !out[count].own; count++) {
				out[count].own = make(*--from);
				out[count].length = bytes;
			}
			count_ -= count - before;
			if (count == most)
				return count;
		}
		// What it owns comes back here, under the lock.
		out[count].own = {};
	}
}

std::size_t buffer_cache::wanted(std::size_t target) noexcept
{
	const std::lock_guard guard(lock_);
	return count_ < target ? target - count_ : 0;
}

void buffer_cache::refill(std::span<const fbufs_buffer> fresh, std::size_t bytes) noexcept
{
	std::unique_lock guard(lock_);
	if (page_round(bytes) == bytes_ && make_room(count_ + fresh.size())) {
		// Last home, first used: its lines are still warm.
		for (const auto& each : std::views::reverse(fresh))
			ready_[count_++] = {each.fbuf, domain_->own(each.position)};
		return;
	}
	guard.unlock();
	for (const auto& each : fresh)
		give_up(each.fbuf);
}

bool buffer_cache::grow(std::size_t count) noexcept
{
	const std::size_t room = std::max({count, 2 * room_, most_ahead});
	std::unique_ptr<entry[]> larger(new (std::nothrow) entry[room]);
	if (!larger)
		return false;
	std::copy_n(ready_.get(), count_, larger.get());
	ready_ = std::move(larger);
	room_ = room;
	return true;
}

void buffer_cache::give_back_other(std::uint64_t handle, std::byte* data, std::size_t size, bool lent) noexcept
{
	// Only the module knows whether one that was lent is home.
	if (!lent) {
		const std::lock_guard guard(lock_);
		if (size == bytes_ && make_room(count_ + 1)) {
			ready_[count_++] = {handle, data};
			return;
		}
	}
	give_up(handle);
}

bool buffer_cache::drop_ready() noexcept
{
	std::unique_lock guard(lock_);
	const stock left = take_all();
	guard.unlock();
	give_up(left);
	return left.count > 0;
}

buffer buffer_cache::adopt(std::uint64_t handle, std::uint64_t position, std::size_t size) noexcept
{
	return buffer(this, handle, domain_->own(position), size);
}

void buffer_cache::give_up(std::uint64_t handle) noexcept
{
	sys::handles(domain_->fd(), FBUFS_FREE, {&handle, 1});
}

void buffer_cache::close() noexcept
{
	{
		const std::lock_guard guard(lock_);
		fd_ = -1;
		bytes_ = 0;
	}
	drop_ready();
}

// --- the domain ------------------------------------------------------------------

domain_state::~domain_state()
{
	// Closing the domain releases and frees everything; only the windows are left.
	for (const auto& [id, each] : windows_)
		sys::unmap(each->base, each->span);
	if (own_base_)
		sys::unmap(own_base_, pool_span_);
	::close(fd_);
}

result<void> domain_state::make_pool(std::uint64_t bytes, store_to_lent store)
{
	auto args = sys::sized<fbufs_pool_create>();
	args.flags = store == store_to_lent::waits    ? FBUFS_POOL_STORE_WAIT
		     : store == store_to_lent::copies ? FBUFS_POOL_STORE_COPY
						      : 0;
	args.bytes = bytes;
	const std::lock_guard guard(windows_mutex_);
	// One that was made before, but could not be mapped, is still there.
	const bool made = pool_span_ && !own_base_ && pool_bytes_ == bytes && pool_flags_ == args.flags;
	if (!made) {
		if (const long done = sys::call(fd_, FBUFS_POOL_CREATE, &args); done < 0)
			return sys::failure(static_cast<int>(-done));
		pool_ = args.out_pool;
		pool_span_ = args.out_span;
		pool_bytes_ = bytes;
		pool_flags_ = args.flags;
	}
	own_base_ = sys::map(fd_, pool_, pool_span_, true);
	if (!own_base_)
		return sys::last_failure();
	return {};
}

result<const std::byte*> domain_state::locate_any(std::uint64_t position)
{
	const auto id = static_cast<std::uint32_t>(position >> FBUFS_POOL_SHIFT);
	const std::uint64_t offset = position - FBUFS_POOL_OFFSET(id);
	const std::lock_guard guard(windows_mutex_);
	auto place = windows_.find(id);
	if (place == windows_.end()) {
		auto args = sys::sized<fbufs_pool_info>();
		args.pool = id;
		if (const long done = sys::call(fd_, FBUFS_POOL_INFO, &args); done < 0)
			return sys::failure(static_cast<int>(-done));
		std::byte* base = sys::map(fd_, id, args.out_span, false);
		if (!base)
			return sys::last_failure();
		place = windows_.emplace(id, std::make_unique<window>(id, args.out_span, base)).first;
	}
	recent_.store(place->second.get(), std::memory_order_release);
	return place->second->base + offset;
}

buffer_cache* domain_state::make_cache(int fd)
{
	const std::lock_guard guard(caches_mutex_);
	caches_.push_back(std::make_unique<buffer_cache>(this, fd, true));
	return caches_.back().get();
}

buffer_cache* domain_state::find_cache(int fd) noexcept
{
	const std::lock_guard guard(caches_mutex_);
	for (const auto& each : caches_)
		if (each->fd() == fd)
			return each.get();
	return &loose_;
}

void domain_state::release_later(std::uint64_t handle) noexcept
{
	std::unique_lock guard(releases_lock_);
	releases_.push_back(handle);
	if (releases_.size() < max_releases)
		return;
	guard.unlock();
	(void)flush();
}

std::size_t domain_state::take_releases(std::vector<std::uint64_t>& into, std::size_t more)
{
	const std::lock_guard guard(releases_lock_);
	const std::size_t count = releases_.size();
	if (into.size() < count + more) [[unlikely]]
		into.resize(count + more);
	if (count > 0) {
		std::ranges::copy(releases_, into.begin());
		releases_.clear();
	}
	return count;
}

result<void> domain_state::flush()
{
	std::vector<std::uint64_t> which;
	{
		const std::lock_guard guard(releases_lock_);
		which.swap(releases_);
	}
	if (which.empty())
		return {};
	const long done = sys::handles(fd_, FBUFS_RELEASE, which);
	if (done < 0)
		return sys::failure(static_cast<int>(-done));
	return {};
}

} // namespace fbuf::detail
