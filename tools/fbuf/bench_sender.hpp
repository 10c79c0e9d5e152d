// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The mechanisms by which `fbuf bench fdio` sends: each message by a call, or calls, of its own.
#pragma once

#include "bench_path.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace bench {

// What a sender is to do.
struct job {
	std::size_t bytes = 0; // of a message
	int to = -1;	       // the descriptor to write to; it blocks
	int source = -1;       // the file with the messages; -1: the sender makes them
	// How many messages the receiver has read so far, in memory that it shares.
	const std::atomic<std::uint64_t>* received = nullptr;

	// Where a message is in the file that it comes from or goes to.
	[[nodiscard]] std::uint64_t offset_of(std::uint64_t number) const
	{
		return number % (file_bytes / bytes) * bytes;
	}
	// The word that a message starts with.
	[[nodiscard]] std::uint64_t word_of(std::uint64_t number) const;
};

// Made in the process that sends.
class sender {
public:
	explicit sender(const job& of) : job_(of) {}
	virtual ~sender() = default;
	// Make the message, where it does not come from a file, and send all of it. The numbers start
	// with 0 and have no gap.
	virtual void send(std::uint64_t number) = 0;
	// Wait until nobody refers to the payload of any message any more.
	virtual void finish() {}
	// The share of the messages that the kernel says it copied although it was asked not to; nothing
	// where it does not say.
	[[nodiscard]] virtual std::optional<double> copied() const { return {}; }

protected:
	// Write to the descriptor until all is there.
	void write_all(std::span<const std::byte> bytes) const;
	job job_;
};

// Buffers for the payload, page-aligned, used in turn.
class buffers {
public:
	buffers(std::size_t bytes, std::size_t count);
	[[nodiscard]] std::span<std::byte> operator[](std::uint64_t number) const
	{
		return memory_.bytes().subspan(number % count_ * bytes_, bytes_);
	}
	[[nodiscard]] std::size_t count() const { return count_; }
	[[nodiscard]] std::span<std::byte> all() const { return memory_.bytes(); }

private:
	std::size_t bytes_;
	std::size_t count_;
	mapping memory_;
};

// What a call moved; the end of the program when that is nothing.
std::size_t moved(ssize_t n, const char* doing);

// Each once, in the order in which they are measured.
std::vector<std::string> sender_names();
// Whether it makes sense on the path.
bool sends_on(const std::string& mechanism, const std::string& path);
// Why the mechanism cannot be used here; empty when it can.
std::string sender_missing(const std::string& mechanism);
// For a mechanism that makes sense on the path.
std::unique_ptr<sender> make_sender(const std::string& mechanism, const std::string& path, const job& of);

// Those that live in files of their own.
std::unique_ptr<sender> make_msg_zerocopy_sender(const job& of);
std::unique_ptr<sender> make_uring_sender(const job& of);
std::unique_ptr<sender> make_uring_zc_sender(const job& of);
std::unique_ptr<sender> make_fbufs_sender(const job& of);
std::unique_ptr<sender> make_fbufs_file_sender(const job& of);

// Reads whole messages in the process that receives.
class reader {
public:
	virtual ~reader() = default;
	// The bytes of the next message, until the next call.
	virtual std::span<const std::byte> next() = 0;
	// Be done with that one now, and not at the next call.
	virtual void give_back() = 0;
};

// Takes fbufs as they come, where they can.
std::unique_ptr<reader> make_fbufs_reader(int fd, const job& of);

} // namespace bench
