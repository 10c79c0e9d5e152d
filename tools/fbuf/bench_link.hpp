// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// One way to move messages from one process to another, as the benchmarks drive it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace bench {

// How much of the payload producer and consumer touch.
enum class touch { header, page };

struct shape {
	std::size_t bytes;  // of a message
	unsigned batch;     // messages handed over at a time
	touch how;
};

// Messages that a link lets wait, where it counts messages: few of the long ones, and a full batch.
unsigned queue_depth(const shape& of);

// What the module counted on both sides of a link, for those that have a module.
struct effort {
	std::uint64_t faults = 0;
	std::uint64_t ptes = 0;
	std::uint64_t tlb_flushes = 0;
	std::uint64_t pages = 0;
};

// Made before the fork; afterwards each process opens its side.
class link {
public:
	virtual ~link() = default;
	virtual void open_producer() = 0;
	virtual void open_consumer() = 0;
	// Produce and send `count` messages, at most shape.batch; the first has number `first`.
	virtual void produce(std::uint64_t first, unsigned count) = 0;
	// Receive and consume as many as are there, at least 1 and at most `most`; returns how many.
	// Throws tool::failure when a message is not the one with that number.
	virtual unsigned consume(std::uint64_t first, unsigned most) = 0;
	// What this side has caused so far.
	virtual effort caused() { return {}; }
};

constexpr std::size_t touched_page = 4096;

// One word of the message, or of each of its pages, is written and checked.
inline void write_words(std::span<std::byte> payload, std::uint64_t number, touch how)
{
	const std::size_t end = how == touch::header ? 1 : payload.size();
	for (std::size_t at = 0; at < end; at += touched_page)
		std::memcpy(payload.data() + at, &number, sizeof(number));
}
[[noreturn]] void mismatch();
inline void check_words(std::span<const std::byte> payload, std::uint64_t number, touch how)
{
	const std::size_t end = how == touch::header ? 1 : payload.size();
	for (std::size_t at = 0; at < end; at += touched_page) {
		std::uint64_t word;
		std::memcpy(&word, payload.data() + at, sizeof(word));
		if (word != number)
			mismatch();
	}
}

std::span<const char* const> mechanisms();
// Throws tool::failure for a mechanism that is not known.
std::unique_ptr<link> make_link(const std::string& mechanism, const shape& of);

} // namespace bench
