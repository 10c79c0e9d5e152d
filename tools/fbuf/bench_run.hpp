// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// What the benchmarks share: a clock, two processes, records, and handles of the system's objects.
#pragma once

#include "tool.hpp"

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <functional>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <semaphore.h>
#include <sys/mman.h>
#include <sys/types.h>

namespace bench {

// Ends the program with what `doing` failed with: errno.
[[noreturn]] void die(const char* doing);

std::uint64_t now_ns(clockid_t clock = CLOCK_MONOTONIC);

// Let the kernel finish what the measurement before left to it: the memory of processes that ended. Then wait for its
// next tick: what it does by the tick, such as freeing memory, is to fall on the same messages in every run.
void settle();

// What lies between the two is what tests/vm/profile looks at: instructions that do nothing.
inline void mark_begin()
{
#ifdef __x86_64__
	asm volatile("nopl 0x46420001(%%rax)" ::: "memory");
#endif
}
inline void mark_end()
{
#ifdef __x86_64__
	asm volatile("nopl 0x46420002(%%rax)" ::: "memory");
#endif
}

// Runs each in a process of its own until all have ended. When one fails, the others are ended, and this
// throws: a failure with the code of the first that failed.
void in_processes(const std::vector<std::function<void()>>& roles);

// Runs `child` in a process of its own and `parent` here; throws when either failed.
void in_two(const std::function<void()>& child, const std::function<void()>& parent);

// One JSON object a line, on the output or appended to a file.
class records {
public:
	explicit records(const std::string& file);
	void add(const nlohmann::ordered_json& record);

private:
	std::ofstream file_;
};

// What one process waits for, and another tells it, in memory that they share: each tell() ends one wait().
class event {
public:
	event();
	event(const event&) = delete;
	void tell();
	void wait();

private:
	sem_t told_;
};

// Owns a file descriptor.
class descriptor {
public:
	descriptor() = default;
	explicit descriptor(int fd) : fd_(fd) {}
	descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
	descriptor& operator=(descriptor&& other) noexcept
	{
		std::swap(fd_, other.fd_);
		return *this;
	}
	~descriptor() { close(); }
	void close();
	[[nodiscard]] int fd() const { return fd_; }

private:
	int fd_ = -1;
};

// `fd`, or the end of the program with what `doing` failed with.
descriptor checked(int fd, const char* doing);

// Owns a mapping, see mmap(2).
class mapping {
public:
	mapping(std::size_t bytes, int protection, int flags, int fd = -1, off_t offset = 0);
	mapping(const mapping&) = delete;
	~mapping();
	[[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

private:
	std::span<std::byte> bytes_;
};

// An object that the processes share which are forked after it was made.
template <typename T>
class shared_memory {
public:
	shared_memory() : memory_(sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS)
	{
		new (memory_.bytes().data()) T();
	}
	T* operator->() const { return std::launder(reinterpret_cast<T*>(memory_.bytes().data())); }
	T& operator*() const { return *operator->(); }

private:
	mapping memory_;
};

} // namespace bench
