// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "sys.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <climits>
#include <csignal>

namespace fbuf::sys {

namespace {

// Such a signal comes of what the program itself does, and not while a call waits.
bool is_fault(int number)
{
	return number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL || number == SIGTRAP;
}

bool interrupts(int number)
{
	struct sigaction action = {};
	if (is_fault(number) || ::sigaction(number, nullptr, &action) < 0 || action.sa_flags & SA_RESTART)
		return false;
	return action.sa_flags & SA_SIGINFO || (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
}

} // namespace

bool may_interrupt() noexcept
{
	const int saved = errno;
	bool may = false;
	for (int number = 1; number < NSIG && !may; number++)
		may = interrupts(number);
	errno = saved;
	return may;
}

long call_once(int fd, unsigned long request, void* args) noexcept
{
	const long done = ::ioctl(fd, request, args);
	return done < 0 ? -errno : done;
}

long call(int fd, unsigned long request, void* args) noexcept
{
	long done = 0;
	do
		done = call_once(fd, request, args);
	while (done == -EINTR && !may_interrupt());
	return done;
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

result<bool> wait(int fd, short events, std::chrono::milliseconds timeout)
{
	using clock = std::chrono::steady_clock;
	const auto start = clock::now();
	pollfd entry = {fd, events, 0};
	for (;;) {
		const auto passed = std::chrono::floor<std::chrono::milliseconds>(clock::now() - start);
		const auto left = std::clamp<std::int64_t>((timeout - passed).count(), 0, INT_MAX);
		const int ready = ::poll(&entry, 1, timeout.count() < 0 ? -1 : static_cast<int>(left));
		if (ready > 0)
			return true;
		if (ready == 0 && timeout - passed <= std::chrono::milliseconds(INT_MAX))
			return false;
		if (ready < 0 && (errno != EINTR || may_interrupt()))
			return last_failure();
	}
}

} // namespace fbuf::sys
