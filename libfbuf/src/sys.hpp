// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The one seam to the device: no other file calls ioctl or mmap on it.
#pragma once

#include <fbuf/error.hpp>

#include <linux/fbufs.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

namespace fbuf::sys {

inline std::unexpected<std::error_code> failure(int error)
{
	return std::unexpected(std::error_code(error, std::generic_category()));
}

inline std::unexpected<std::error_code> last_failure()
{
	return failure(errno);
}

// Whether a signal that ended a call is a reason to tell the caller, as for read(2): only one with a handler
// without SA_RESTART is. Which signal it was cannot be known, so any such handler will do.
bool may_interrupt() noexcept;

// The vector calls return how many elements they did, or -errno. Goes on after signals that are no reason to
// end: a call that says EINTR has done nothing.
long call(int fd, unsigned long request, void* args) noexcept;
// The same, once.
long call_once(int fd, unsigned long request, void* args) noexcept;

template <typename Args>
Args sized() noexcept
{
	Args args = {};
	args.size = sizeof(args);
	return args;
}

template <typename T>
std::uint64_t pointer(T* address) noexcept
{
	return reinterpret_cast<std::uintptr_t>(address);
}

long alloc(int fd, std::size_t bytes, std::span<fbufs_buffer> out, std::uint32_t flags = 0) noexcept;
long handles(int fd, unsigned long request, std::span<const std::uint64_t> which) noexcept;
std::byte* map(int fd, std::uint32_t pool, std::uint64_t span, bool writable) noexcept;
void unmap(std::byte* base, std::uint64_t span) noexcept;
// Negative: for ever.
result<bool> wait(int fd, short events, std::chrono::milliseconds timeout);

} // namespace fbuf::sys
