// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The ways that messages can go through descriptors, as `fbuf bench fdio` names them.
#pragma once

#include "bench_run.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace bench {

// Of the file that messages come from or go to; it is used again from its start.
constexpr std::size_t file_bytes = 64 << 20;

// What throws when this machine, or who runs the program, lacks something that is needed.
struct unavailable {
	std::string why;
};

// The sender writes to one end, the receiver reads from the other.
struct ends {
	descriptor to;
	descriptor from;
};

// What a path needs lives as long as it; each measurement opens ends of its own, before the fork.
class path {
public:
	virtual ~path() = default;
	virtual ends open() = 0;
	// Messages come from a file; otherwise they are made in memory.
	[[nodiscard]] virtual bool from_file() const { return false; }
	// Messages go to a file, which can be read when they all are there.
	[[nodiscard]] virtual bool to_file() const { return false; }
};

std::span<const char* const> paths();
// Throws `unavailable`.
std::unique_ptr<path> make_path(const std::string& name);

// A file in memory, without a name. The first word of each of its pages is the page's number.
descriptor make_source();

} // namespace bench
