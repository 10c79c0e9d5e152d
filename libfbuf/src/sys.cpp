// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "sys.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace fbuf::sys {

long call(int fd, unsigned long request, void* args) noexcept
{
	const long done = ::ioctl(fd, request, args);
	return done < 0 ? -errno : done;
}

long alloc(int fd, std::size_t bytes, std::span<fbufs_buffer> out, std::uint32_t flags) noexcept
{
	auto args = sized<fbufs_alloc>();
	args.flags = flags;
	args.bytes = bytes;
	args.buffers = pointer(out.data());
	args.count = static_cast<std::uint32_t>(out.size());
	return call(fd, FBUFS_ALLOC, &args);
}

long handles(int fd, unsigned long request, std::span<const std::uint64_t> which) noexcept
{
	auto args = sized<fbufs_handles>();
	args.handles = pointer(which.data());
	args.count = static_cast<std::uint32_t>(which.size());
	return call(fd, request, &args);
}

std::byte* map(int fd, std::uint32_t pool, std::uint64_t span, bool writable) noexcept
{
	void* base = ::mmap(nullptr, span, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd,
			    static_cast<off_t>(FBUFS_POOL_OFFSET(pool)));
	return base == MAP_FAILED ? nullptr : static_cast<std::byte*>(base);
}

void unmap(std::byte* base, std::uint64_t span) noexcept
{
	::munmap(base, span);
}

result<bool> wait(int fd, short events, long milliseconds)
{
	pollfd entry = {fd, events, 0};
	const int ready = ::poll(&entry, 1, milliseconds < 0 ? -1 : static_cast<int>(milliseconds));
	if (ready < 0)
		return last_failure();
	return ready > 0;
}

} // namespace fbuf::sys
