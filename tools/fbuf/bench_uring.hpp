// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// As much of io_uring as the benchmarks need: one operation submitted at a time, by one thread.
#pragma once

#include "bench_run.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include <linux/io_uring.h>

namespace bench {

// Of an operation; see struct io_uring_cqe.
struct completion {
	std::uint64_t user_data;
	int result;
	unsigned flags;
};

class uring {
public:
	// `disabled`: the process that enables it is the one that uses it.
	explicit uring(unsigned entries, bool disabled = false);
	void enable();
	[[nodiscard]] int fd() const { return fd_.fd(); }
	// The only buffer and the only file, both with index 0.
	void register_buffer(std::span<std::byte> memory);
	void register_file(int fd);
	// The next operation, all zero; submit_and_wait() takes it.
	io_uring_sqe& prepare();
	// Submit what is prepared, if anything is, and wait until there is at least one completion.
	void submit_and_wait();
	// Submit without waiting.
	void submit();
	std::optional<completion> next();

private:
	void enlist(unsigned what, const void* argument);
	void enter(unsigned wait, unsigned flags);
	[[nodiscard]] unsigned& word(unsigned offset) const;

	io_uring_params params_ = {};
	descriptor fd_;
	std::optional<mapping> rings_;
	std::optional<mapping> entries_;
	unsigned prepared_ = 0;
};

// Why io_uring cannot be used here; empty when it can.
std::string uring_missing();

} // namespace bench
