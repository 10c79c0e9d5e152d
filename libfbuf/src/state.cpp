// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "state.hpp"

#include <unistd.h>

#include <algorithm>

namespace fbuf::detail {

namespace {

// Bytes that a sender allocates ahead at most.
constexpr std::size_t bytes_ahead = std::size_t{4} << 20;

// Releases that are collected before they are worth a call of their own.
constexpr std::size_t max_releases = 64;

} // namespace

// --- fbufs at hand ---------------------------------------------------------------

void buffer_cache::drop_all(std::vector<fbufs_buffer>& which) noexcept
{
	for (const auto& each : which) {
		const std::uint64_t handle = each.fbuf;
		sys::handles(domain_->fd(), FBUFS_FREE, {&handle, 1});
	}
	which.clear();
}

// As many as are worth a call; of no channel, only what is asked for: each is zeroed.
std::size_t buffer_cache::burst(std::size_t bytes) const noexcept
{
	if (this == domain_->loose_cache())
		return 1;
	return std::clamp<std::size_t>(bytes_ahead / std::max<std::size_t>(bytes, 1), 1, most_ahead);
}

result<buffer> buffer_cache::take_fresh(std::size_t bytes, std::size_t count, bool wait)
{
	std::vector<fbufs_buffer> unfit;
	const std::size_t rounded = page_round(std::max<std::size_t>(bytes, 1));
	int fd;
	{
		const std::lock_guard guard(lock_);
		if (rounded != bytes_) {
			unfit.swap(ready_);
			bytes_ = rounded;
		}
		fd = fd_;
	}
	drop_all(unfit);
	if (fd < 0)
		return sys::failure(EPIPE);
	if (bytes == 0)
		return sys::failure(EINVAL);
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
	const std::lock_guard guard(lock_);
	if (page_round(bytes) != bytes_)
		return 0;
	const std::size_t count = std::min(out.size(), ready_.size());
	const fbufs_buffer* from = ready_.data() + ready_.size();
	for (packet& each : out.first(count)) {
		each.own = make(*--from);
		each.length = bytes;
	}
	ready_.resize(ready_.size() - count);
	return count;
}

std::size_t buffer_cache::wanted(std::size_t target) noexcept
{
	const std::lock_guard guard(lock_);
	return ready_.size() < target ? target - ready_.size() : 0;
}

void buffer_cache::refill(std::span<const fbufs_buffer> fresh, std::size_t bytes)
{
	std::unique_lock guard(lock_);
	if (page_round(bytes) == bytes_) {
		// Last home, first used: its lines are still warm.
		ready_.insert(ready_.end(), fresh.rbegin(), fresh.rend());
		return;
	}
	guard.unlock();
	std::vector<fbufs_buffer> unfit(fresh.begin(), fresh.end());
	drop_all(unfit);
}

bool buffer_cache::drop_ready() noexcept
{
	std::unique_lock guard(lock_);
	std::vector<fbufs_buffer> left;
	left.swap(ready_);
	guard.unlock();
	const bool any = !left.empty();
	drop_all(left);
	return any;
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
	if (const long done = sys::call(fd_, FBUFS_POOL_CREATE, &args); done < 0)
		return sys::failure(static_cast<int>(-done));
	std::byte* base = sys::map(fd_, args.out_pool, args.out_span, true);
	if (!base)
		return sys::last_failure();
	pool_ = args.out_pool;
	pool_span_ = args.out_span;
	own_base_ = base;
	return {};
}

result<const std::byte*> domain_state::locate_any(std::uint64_t position)
{
	const auto id = static_cast<std::uint32_t>(position >> FBUFS_POOL_SHIFT);
	const std::uint64_t offset = position - FBUFS_POOL_OFFSET(id);
	const std::lock_guard guard(windows_mutex_);
	auto& place = windows_[id];
	if (!place) {
		auto args = sys::sized<fbufs_pool_info>();
		args.pool = id;
		if (const long done = sys::call(fd_, FBUFS_POOL_INFO, &args); done < 0)
			return sys::failure(static_cast<int>(-done));
		std::byte* base = sys::map(fd_, id, args.out_span, false);
		if (!base)
			return sys::last_failure();
		place = std::make_unique<window>(id, args.out_span, base);
	}
	recent_.store(place.get(), std::memory_order_release);
	return place->base + offset;
}

buffer_cache* domain_state::make_cache(int fd)
{
	const std::lock_guard guard(caches_mutex_);
	caches_.push_back(std::make_unique<buffer_cache>(this, fd));
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

void domain_state::take_releases(std::vector<std::uint64_t>& into)
{
	into.clear();
	const std::lock_guard guard(releases_lock_);
	into.swap(releases_);
}

result<void> domain_state::flush()
{
	std::vector<std::uint64_t> which;
	take_releases(which);
	if (which.empty())
		return {};
	const long done = sys::handles(fd_, FBUFS_RELEASE, which);
	if (done < 0)
		return sys::failure(static_cast<int>(-done));
	return {};
}

} // namespace fbuf::detail
