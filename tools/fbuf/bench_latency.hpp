// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// How long messages take.
#pragma once

#include "bench_run.hpp"

#include <cstdint>
#include <span>

namespace bench {

// Nanoseconds.
struct latencies {
	std::uint64_t median, p99, p999, most, samples;
};

// Sorts what it is given, at least one.
latencies quantiles_of(std::span<std::uint64_t> took);

// When each batch of messages was sent and how long each of its messages took, in memory that the processes share which
// are forked after it was made. Messages are counted from 0.
class journeys {
public:
	// Each source sends `messages`, `batch` of them at a time, to each receiver.
	journeys(std::uint64_t messages, unsigned batch, unsigned sources, unsigned receivers);
	// In a process that calls the next two, before.
	void prepare() const;
	// The batch that begins with this message is about to be produced.
	void depart(unsigned source, std::uint64_t message) const;
	// The receiver has checked `count` messages from that one on.
	void arrive(unsigned receiver, unsigned source, std::uint64_t message, unsigned count) const;
	// Over all receivers.
	[[nodiscard]] latencies result() const;

private:
	[[nodiscard]] std::span<std::uint64_t> words() const;
	// Of each source, of each batch.
	[[nodiscard]] std::span<std::uint64_t> sent() const { return words().first(sources_ * batches_); }
	// Of each receiver, of each source, of each message.
	[[nodiscard]] std::span<std::uint64_t> took() const { return words().subspan(sources_ * batches_); }

	std::uint64_t messages_;
	unsigned batch_;
	std::uint64_t batches_;
	unsigned sources_;
	mapping memory_;
};

} // namespace bench
