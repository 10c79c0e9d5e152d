// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// One way to move messages from one process to another, as the benchmarks drive it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace bench {

// How much of the payload producer and consumer touch: nothing, its first word, the first word of each
// page, or all of it.
enum class touch { none, header, page, all };

touch touch_of(const std::string& name);
const char* name_of(touch how);

struct shape {
	std::size_t bytes; // of a message
	unsigned batch;	   // messages handed over at a time
	touch how;
	unsigned receivers = 1; // each gets every message
	unsigned hops = 1;	// links that a message passes, one after the other
};

// Messages that a link lets wait, where it counts messages: few of the long ones, and a full batch.
unsigned queue_depth(const shape& of);

// What the module counted on one side of a link, for those that have a module.
struct effort {
	std::uint64_t faults = 0;
	std::uint64_t ptes = 0;
	std::uint64_t tlb_flushes = 0;
	std::uint64_t pages = 0;
	std::uint64_t copied = 0; // bytes
};

constexpr std::size_t touched_page = 4096;

// The words of the message that are to be touched are written and checked.
void write_every_word(std::span<std::byte> payload, std::uint64_t number);
void check_every_word(std::span<const std::byte> payload, std::uint64_t number);
[[noreturn]] void mismatch();

inline void write_word(std::byte* at, std::uint64_t number)
{
	std::memcpy(at, &number, sizeof(number));
}
inline void check_word(const std::byte* at, std::uint64_t number)
{
	std::uint64_t word;
	std::memcpy(&word, at, sizeof(word));
	if (word != number)
		mismatch();
}

// The smallest messages come first: what the benchmark does itself is part of what it measures.
inline void write_words(std::span<std::byte> payload, std::uint64_t number, touch how)
{
	if (how == touch::header)
		return write_word(payload.data(), number);
	if (how == touch::all)
		return write_every_word(payload, number);
	for (std::size_t at = 0; how == touch::page && at < payload.size(); at += touched_page)
		write_word(payload.data() + at, number);
}
inline void check_words(std::span<const std::byte> payload, std::uint64_t number, touch how)
{
	if (how == touch::header)
		return check_word(payload.data(), number);
	if (how == touch::all)
		return check_every_word(payload, number);
	for (std::size_t at = 0; how == touch::page && at < payload.size(); at += touched_page)
		check_word(payload.data() + at, number);
}

// Made before the forks; afterwards each process opens its side.
class link {
public:
	explicit link(const shape& of) : shape_(of) {}
	link(const link&) = delete;
	virtual ~link() = default;
	virtual void open_producer() = 0;
	// Of receiver `index`, where there are several.
	virtual void open_consumer(unsigned index) = 0;
	// The process that consumes from `in`, a link of the same mechanism that it has opened, sends on.
	virtual void open_forwarder(link& in);
	// Produce and send `count` messages, at most shape.batch; the first has number `first`.
	virtual void produce(std::uint64_t first, unsigned count) = 0;
	// Receive and consume as many as are there, at least 1 and at most `most`; returns how many.
	// Throws tool::failure when a message is not the one with that number.
	virtual unsigned consume(std::uint64_t first, unsigned most) = 0;
	// Be done with what was consumed last now, and not where the next is consumed.
	virtual void give_back() {}
	// Produce message `sent` and consume message `received` of `back`, a link of the same mechanism that this
	// process has opened for that: with less than a call each, where that can be had.
	virtual void exchange(std::uint64_t sent, link& back, std::uint64_t received);
	// Send on what `in` has consumed last.
	virtual void forward(link& in, std::uint64_t first, unsigned count);
	// A message consumed last; it can be read until the next is consumed.
	[[nodiscard]] virtual std::span<const std::byte> received(unsigned index) const = 0;
	// After how many messages every buffer has been used, and how far the producer can be ahead.
	[[nodiscard]] virtual std::uint64_t warm_up() const = 0;
	// What this side has caused so far.
	virtual effort caused() { return {}; }

protected:
	// Make the payload of a message, the `index`th of this call.
	void make(std::span<std::byte> at, std::uint64_t number, unsigned index) const
	{
		if (source_)
			std::memcpy(at.data(), source_->received(index).data(), at.size());
		else
			write_words(at, number, shape_.how);
	}
	[[nodiscard]] unsigned at_a_time(unsigned most) const { return std::min(most, shape_.batch); }

	shape shape_;
	const link* source_ = nullptr; // what is being sent on
};

// All mechanisms, in the order in which they are measured.
std::span<const char* const> mechanisms();
// Why the mechanism cannot be had here; empty when it can. Throws tool::failure when it is not known.
std::string missing(const std::string& mechanism);
// Bytes of the largest message that it moves.
std::size_t largest(const std::string& mechanism);
std::unique_ptr<link> make_link(const std::string& mechanism, const shape& of);

// By family; nothing when the mechanism is not one of theirs.
std::unique_ptr<link> make_fbufs_link(const std::string& mechanism, const shape& of);
std::unique_ptr<link> make_copying_link(const std::string& mechanism, const shape& of);
std::unique_ptr<link> make_ring_link(const std::string& mechanism, const shape& of);
std::unique_ptr<link> make_memfd_link(const std::string& mechanism, const shape& of);

} // namespace bench
