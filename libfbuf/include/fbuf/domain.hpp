// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
#pragma once

#include <fbuf/channel.hpp>
#include <fbuf/pool.hpp>

#include <array>
#include <string>
#include <string_view>
#include <utility>

namespace fbuf {

/// What the module has counted for a domain, since it was opened.
struct counters {
	std::uint64_t messages_sent, bytes_sent, messages_received, bytes_received;
	std::uint64_t bytes_copied; ///< payload that the module copied
	std::uint64_t allocs, releases, calls;
	std::uint64_t faults;	     ///< page faults in windows
	std::uint64_t faults_denied; ///< of these, ended in SIGBUS
	std::uint64_t ptes_set;	     ///< page-table entries made
	std::uint64_t ptes_cleared;  ///< pages whose entries were taken away
	std::uint64_t tlb_flushes, pages_allocated, pages_freed;
	std::uint64_t locks; ///< fbufs locked
};

/// What there is in the whole module.
struct gauges {
	std::uint64_t domains, pools, channels, ends, windows, messages, fbufs, pages;
	std::uint64_t metadata; ///< bytes that the module keeps for fbufs
	std::uint64_t io;	///< operations on descriptors that are not over
};

/// What the module is and can do.
struct capabilities {
	std::uint32_t version, max_receivers, max_depth, max_slices, max_held, page_size;
	std::uint64_t max_bytes, max_pool;
};

/// Where a place in the own pool is.
struct location {
	std::uint64_t fbuf = 0;	   ///< its handle; 0: none there
	std::uint64_t offset = 0;  ///< of the place in the fbuf
	std::uint64_t bytes = 0;   ///< length of the fbuf
	std::string_view state;	   ///< "empty", "free", "owned", "sending", "sent", "leaving"
	bool locked = false;	   ///< nobody may write it
	std::uint32_t channel = 0; ///< number of its channel, or 0
	std::uint32_t holders = 0; ///< slices of it in messages
};

/// What this process owns and holds: an open /dev/fbufs.
///
/// Belongs to the process that opened it: after fork(), the child must open its own.
/// Thread-safety: all calls.
class domain {
public:
	/// Errors: errc::no_module; std::errc::permission_denied; errc::wrong_version.
	[[nodiscard]] static result<domain> open(const char* device = "/dev/fbufs");
	domain(domain&& other) noexcept;
	domain& operator=(domain&& other) noexcept;
	~domain();

	/// Make the pool of this process. It uses no memory before it is needed.
	/// @param bytes how much it may use at most
	/// @param store what a store of this process to a lent fbuf does while that is locked
	/// Errors: std::errc::file_exists; invalid_argument (0, or over capabilities::max_pool); not_enough_memory:
	/// there is no room to map it, and the same call will do when there is.
	[[nodiscard]] result<pool> create_pool(std::uint64_t bytes, store_to_lent store = store_to_lent::faults);

	/// A channel: this process's sending end, and the first receiving end, to be passed on.
	/// The domain should have a pool, or the sender can only send messages on.
	[[nodiscard]] result<std::pair<sender, endpoint>> create_channel(const channel_options& options = {});
	/// A channel whose two ends are both to be passed on.
	[[nodiscard]] result<std::pair<endpoint, endpoint>> create_loose_channel(const channel_options& options = {});
	/// Make an end this domain's. Errors: std::errc::device_or_resource_busy: it is attached.
	[[nodiscard]] result<sender> attach_sender(endpoint&& end);
	[[nodiscard]] result<receiver> attach_receiver(endpoint&& end);

	/// Release now what was to travel with the next receive.
	[[nodiscard]] result<void> flush();

	/// For poll: readable with notices, writable when the pool has room again.
	[[nodiscard]] int fd() const noexcept;
	[[nodiscard]] result<counters> count() const;
	[[nodiscard]] result<gauges> gauge() const;
	[[nodiscard]] result<capabilities> query() const;
	/// What lies at an address in the window of the own pool.
	/// Errors: std::errc::result_out_of_range when the address is elsewhere.
	[[nodiscard]] result<location> locate(const void* address) const;

private:
	friend class io;
	friend result<struct taken_over> make_mutable(domain& which, message&& held);
	friend result<void> report_violations(const domain& which, int fd);
	explicit domain(std::unique_ptr<detail::domain_state> state);
	std::unique_ptr<detail::domain_state> state_;
};

} // namespace fbuf
