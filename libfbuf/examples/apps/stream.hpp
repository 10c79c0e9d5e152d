// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Bytes in and out by read(2) and write(2), or by fbufs: the programs around it do not know which.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

namespace apps {

class stream {
public:
	virtual ~stream() = default;
	// The next bytes of the input, until the next call; none at its end.
	virtual std::span<const std::byte> next() = 0;
	// Room for at least so many bytes of output, at most a block.
	virtual std::span<std::byte> room(std::size_t bytes) = 0;
	// The first bytes of that room are output.
	virtual void put(std::size_t bytes) = 0;
	// What next() gave last is output, as it is.
	virtual void pass() = 0;
	// Everything that was put goes out.
	virtual void finish() = 0;
};

constexpr std::size_t block = 64 << 10;

// Either descriptor may be -1, where a program has none.
std::unique_ptr<stream> open_stream(bool fbufs, int in, int out);

// Ends the program.
[[noreturn]] void fail(std::string_view what);

// Whether the first argument is -f: by fbufs. It is taken away.
bool take_option(int& argc, char**& argv);

inline std::string_view text(std::span<const std::byte> bytes)
{
	return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

} // namespace apps
