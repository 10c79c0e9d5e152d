// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "state.hpp"

#include <fbuf/domain.hpp>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace fbuf {

namespace {

result<fbufs_channel_create> create(int fd, const channel_options& options, std::uint32_t flags)
{
	auto args = sys::sized<fbufs_channel_create>();
	args.flags =
		flags | (options.secure ? 0 : FBUFS_CHANNEL_VOLATILE) | (options.cached ? 0 : FBUFS_CHANNEL_UNCACHED);
	args.depth = options.depth;
	if (const long done = sys::call(fd, FBUFS_CHANNEL_CREATE, &args); done < 0)
		return sys::failure(static_cast<int>(-done));
	return args;
}

result<void> attach(int end, int domain)
{
	auto args = sys::sized<fbufs_attach>();
	args.domain = domain;
	if (const long done = sys::call(end, FBUFS_ATTACH, &args); done < 0)
		return sys::failure(static_cast<int>(-done));
	return {};
}

} // namespace

domain::domain(std::unique_ptr<detail::domain_state> state) : state_(std::move(state)) {}
domain::domain(domain&&) noexcept = default;
domain& domain::operator=(domain&&) noexcept = default;
domain::~domain() = default;

result<domain> domain::open(const char* device)
{
	const int fd = ::open(device, O_RDWR | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ENXIO || errno == ENODEV))
		return std::unexpected(make_error_code(errc::no_module));
	if (fd < 0)
		return sys::last_failure();
	domain opened(std::make_unique<detail::domain_state>(fd));
	const auto what = opened.query();
	if (!what)
		return std::unexpected(what.error());
	if (what->version != FBUFS_ABI_VERSION)
		return std::unexpected(make_error_code(errc::wrong_version));
	return opened;
}

int domain::fd() const noexcept
{
	return state_->fd();
}

result<pool> domain::create_pool(std::uint64_t bytes, store_to_lent store)
{
	if (auto made = state_->make_pool(bytes, store); !made)
		return std::unexpected(made.error());
	return pool(state_.get());
}

result<std::pair<sender, endpoint>> domain::create_channel(const channel_options& options)
{
	auto made = create(state_->fd(), options, FBUFS_CHANNEL_ATTACH_SENDER);
	if (!made)
		return std::unexpected(made.error());
	return std::pair(sender(state_.get(), endpoint(made->out_sender)), endpoint(made->out_receiver));
}

result<std::pair<endpoint, endpoint>> domain::create_loose_channel(const channel_options& options)
{
	auto made = create(state_->fd(), options, 0);
	if (!made)
		return std::unexpected(made.error());
	return std::pair(endpoint(made->out_sender), endpoint(made->out_receiver));
}

result<sender> domain::attach_sender(endpoint&& end)
{
	if (auto done = attach(end.fd(), state_->fd()); !done)
		return std::unexpected(done.error());
	return sender(state_.get(), std::move(end));
}

result<receiver> domain::attach_receiver(endpoint&& end)
{
	if (auto done = attach(end.fd(), state_->fd()); !done)
		return std::unexpected(done.error());
	return receiver(state_.get(), std::move(end));
}

result<void> domain::flush()
{
	return state_->flush();
}

result<counters> domain::count() const
{
	std::uint64_t n[FBUFS_COUNTERS] = {};
	auto args = sys::sized<fbufs_stats>();
	args.counters = sys::pointer(&n[0]);
	args.ncounters = FBUFS_COUNTERS;
	if (const long done = sys::call(state_->fd(), FBUFS_STATS, &args); done < 0)
		return sys::failure(static_cast<int>(-done));
	return counters{
		.messages_sent = n[FBUFS_COUNT_MESSAGES_SENT],
		.bytes_sent = n[FBUFS_COUNT_BYTES_SENT],
		.messages_received = n[FBUFS_COUNT_MESSAGES_RECEIVED],
		.bytes_received = n[FBUFS_COUNT_BYTES_RECEIVED],
		.bytes_copied = n[FBUFS_COUNT_BYTES_COPIED],
		.allocs = n[FBUFS_COUNT_ALLOCS],
		.releases = n[FBUFS_COUNT_RELEASES],
		.calls = n[FBUFS_COUNT_CALLS],
		.faults = n[FBUFS_COUNT_FAULTS],
		.faults_denied = n[FBUFS_COUNT_FAULTS_DENIED],
		.ptes_set = n[FBUFS_COUNT_PTES_SET],
		.ptes_cleared = n[FBUFS_COUNT_PTES_CLEARED],
		.tlb_flushes = n[FBUFS_COUNT_TLB_FLUSHES],
		.pages_allocated = n[FBUFS_COUNT_PAGES_ALLOCATED],
		.pages_freed = n[FBUFS_COUNT_PAGES_FREED],
		.locks = n[FBUFS_COUNT_LOCKS],
	};
}

result<gauges> domain::gauge() const
{
	std::uint64_t n[FBUFS_GAUGES] = {};
	auto args = sys::sized<fbufs_stats>();
	args.gauges = sys::pointer(&n[0]);
	args.ngauges = FBUFS_GAUGES;
	if (const long done = sys::call(state_->fd(), FBUFS_STATS, &args); done < 0)
		return sys::failure(static_cast<int>(-done));
	return gauges{
		.domains = n[FBUFS_GAUGE_DOMAINS],
		.pools = n[FBUFS_GAUGE_POOLS],
		.channels = n[FBUFS_GAUGE_CHANNELS],
		.ends = n[FBUFS_GAUGE_ENDS],
		.windows = n[FBUFS_GAUGE_WINDOWS],
		.messages = n[FBUFS_GAUGE_MESSAGES],
		.fbufs = n[FBUFS_GAUGE_FBUFS],
		.pages = n[FBUFS_GAUGE_PAGES],
		.metadata = n[FBUFS_GAUGE_METADATA],
		.io = n[FBUFS_GAUGE_IO],
	};
}

result<capabilities> domain::query() const
{
	auto args = sys::sized<fbufs_query>();
	if (const long done = sys::call(state_->fd(), FBUFS_QUERY, &args); done < 0)
		return sys::failure(static_cast<int>(-done));
	return capabilities{
		.version = args.out_version,
		.max_receivers = args.out_max_receivers,
		.max_depth = args.out_max_depth,
		.max_slices = args.out_max_slices,
		.max_held = args.out_max_held,
		.page_size = args.out_page_size,
		.max_bytes = args.out_max_bytes,
		.max_pool = args.out_max_pool,
	};
}

result<location> domain::locate(const void* address) const
{
	static constexpr std::string_view states[] = {"empty", "free", "owned", "sending", "sent", "leaving"};
	const std::byte* base = state_->own_base();
	const auto* place = static_cast<const std::byte*>(address);
	if (!base || place < base || place >= base + state_->pool_span())
		return sys::failure(ERANGE);
	auto args = sys::sized<fbufs_locate>();
	args.position = FBUFS_POOL_OFFSET(state_->pool()) + static_cast<std::uint64_t>(place - base);
	if (const long done = sys::call(state_->fd(), FBUFS_LOCATE, &args); done < 0)
		return sys::failure(static_cast<int>(-done));
	return location{
		.fbuf = args.out_fbuf,
		.offset = args.out_fbuf ? args.position - args.out_first : 0,
		.bytes = args.out_bytes,
		.state = args.out_state < std::size(states) ? states[args.out_state] : "unknown",
		.locked = args.out_locked != 0,
		.channel = args.out_channel,
		.holders = args.out_holders,
	};
}

// --- the pool ----------------------------------------------------------------------

std::uint32_t pool::id() const noexcept
{
	return domain_->pool();
}

result<std::uint64_t> pool::used() const
{
	auto args = sys::sized<fbufs_pool_info>();
	args.pool = domain_->pool();
	if (const long done = sys::call(domain_->fd(), FBUFS_POOL_INFO, &args); done < 0)
		return sys::failure(static_cast<int>(-done));
	return args.out_used;
}

result<buffer> pool::allocate(std::size_t bytes)
{
	return domain_->loose_cache()->take(bytes);
}

result<bool> pool::is_home(const buffer& lent) const
{
	auto args = sys::sized<fbufs_locate>();
	if (!lent)
		return sys::failure(EINVAL);
	args.position =
		FBUFS_POOL_OFFSET(domain_->pool()) + static_cast<std::uint64_t>(lent.data_ - domain_->own_base());
	if (const long done = sys::call(domain_->fd(), FBUFS_LOCATE, &args); done < 0)
		return sys::failure(static_cast<int>(-done));
	return args.out_fbuf == lent.handle_ && args.out_state == FBUFS_STATE_OWNED;
}

result<std::vector<std::uint64_t>> pool::notices()
{
	std::vector<std::uint64_t> handles(256);
	auto args = sys::sized<fbufs_notices>();
	args.fbufs = sys::pointer(handles.data());
	args.count = static_cast<std::uint32_t>(handles.size());
	const long done = sys::call(domain_->fd(), FBUFS_NOTICES, &args);
	if (done < 0)
		return sys::failure(static_cast<int>(-done));
	handles.resize(static_cast<std::size_t>(done));
	return handles;
}

result<bool> pool::wait_notice(std::chrono::milliseconds timeout)
{
	return sys::wait(domain_->fd(), POLLIN, timeout);
}

} // namespace fbuf
