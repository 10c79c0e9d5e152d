// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "bench_uring.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace bench {

namespace {

constexpr int shared = MAP_SHARED | MAP_POPULATE;

int set_up(unsigned entries, bool disabled, io_uring_params& params)
{
	// One thread submits and waits: the kernel need not interrupt it for completions.
	params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	if (disabled)
		params.flags |= IORING_SETUP_R_DISABLED;
	return static_cast<int>(::syscall(__NR_io_uring_setup, entries, &params));
}

} // namespace

uring::uring(unsigned entries, bool disabled) : fd_(checked(set_up(entries, disabled, params_), "io_uring_setup"))
{
	const std::size_t submissions = params_.sq_off.array + params_.sq_entries * sizeof(unsigned);
	const std::size_t completions = params_.cq_off.cqes + params_.cq_entries * sizeof(io_uring_cqe);
	rings_.emplace(std::max(submissions, completions), PROT_READ | PROT_WRITE, shared, fd_.fd(),
		       IORING_OFF_SQ_RING);
	entries_.emplace(params_.sq_entries * sizeof(io_uring_sqe), PROT_READ | PROT_WRITE, shared, fd_.fd(),
			 IORING_OFF_SQES);
	for (unsigned i = 0; i < params_.sq_entries; i++)
		(&word(params_.sq_off.array))[i] = i;
}

unsigned& uring::word(unsigned offset) const
{
	return *reinterpret_cast<unsigned*>(rings_->bytes().data() + offset);
}

void uring::enlist(unsigned what, const void* argument)
{
	if (::syscall(__NR_io_uring_register, fd_.fd(), what, argument, 1) < 0)
		die("io_uring_register");
}

void uring::register_buffer(std::span<std::byte> memory)
{
	const iovec vector = {memory.data(), memory.size()};
	enlist(IORING_REGISTER_BUFFERS, &vector);
}

void uring::register_file(int fd)
{
	enlist(IORING_REGISTER_FILES, &fd);
}

io_uring_sqe& uring::prepare()
{
	const unsigned index = (word(params_.sq_off.tail) + prepared_++) % params_.sq_entries;
	auto* const entry = reinterpret_cast<io_uring_sqe*>(entries_->bytes().data()) + index;
	std::memset(entry, 0, sizeof(*entry));
	return *entry;
}

void uring::enable()
{
	if (::syscall(__NR_io_uring_register, fd_.fd(), IORING_REGISTER_ENABLE_RINGS, nullptr, 0) < 0)
		die("io_uring_register");
}

void uring::enter(unsigned wait, unsigned flags)
{
	unsigned& tail = word(params_.sq_off.tail);
	// The kernel reads the entry after it has seen the tail.
	std::atomic_ref(tail).store(tail + prepared_, std::memory_order_release);
	const auto submit = std::exchange(prepared_, 0U);
	if (::syscall(__NR_io_uring_enter, fd_.fd(), submit, wait, flags, nullptr, 0) < 0)
		die("io_uring_enter");
}

void uring::submit_and_wait()
{
	enter(1, IORING_ENTER_GETEVENTS);
}

void uring::submit()
{
	enter(0, 0);
}

std::optional<completion> uring::next()
{
	unsigned& head = word(params_.cq_off.head);
	if (head == std::atomic_ref(word(params_.cq_off.tail)).load(std::memory_order_acquire))
		return {};
	const auto* all = reinterpret_cast<const io_uring_cqe*>(rings_->bytes().data() + params_.cq_off.cqes);
	const io_uring_cqe& entry = all[head % params_.cq_entries];
	const completion taken = {entry.user_data, entry.res, entry.flags};
	// The kernel reuses the entry after it has seen the head.
	std::atomic_ref(head).store(head + 1, std::memory_order_release);
	return taken;
}

std::string uring_missing()
{
	io_uring_params params = {};
	const descriptor fd(set_up(1, false, params));
	return fd.fd() < 0 ? std::string("io_uring: ") + std::strerror(errno) : "";
}

} // namespace bench
