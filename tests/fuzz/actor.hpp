// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// A process that does its part of a program. Results of calls do not matter, save for what must never be: a message
// that was reported as locked changes, or cannot be read, while it is held.
#pragma once

#include "fuzz/program.hpp"

#include <linux/fbufs.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace fuzz {

inline constexpr std::size_t board_fbufs = 32;
inline constexpr std::size_t board_messages = 16;
inline constexpr std::size_t end_slots = 8;

// Descriptors that all actors have from the beginning: both ends of each.
enum Shared : unsigned { pipe, small_pipe, unix_stream, unix_datagram, tcp, udp, file, shared_kinds };

// What actors let each other know, in shared memory. Any of it may be out of date.
struct Board {
	std::array<std::atomic<std::uint32_t>, actors> pool;
	std::array<std::atomic<std::uint64_t>, actors> span;
	std::array<std::atomic<int>, actors> pid;
	std::array<std::array<std::atomic<int>, end_slots>, actors> ends;
	std::array<std::atomic<std::uint64_t>, board_fbufs> fbufs;
	std::array<std::array<std::atomic<std::uint64_t>, board_messages>, actors> messages;
	std::atomic<unsigned> next_fbuf;
	std::atomic<const char*> violation;
};

class Actor {
public:
	Actor(unsigned self, Board& board, const std::array<std::array<int, 2>, shared_kinds>& shared);
	void run(const Op& op);
	// Of everything that is held.
	void expect_unchanged();

private:
	struct Held {
		std::uint64_t message;
		const std::uint8_t* data;
		std::size_t length;
		std::uint64_t sum;
	};
	struct Window {
		std::uint8_t* base = nullptr;
		std::size_t span = 0;
		std::uint64_t offset = 0;
	};

	void apart(const Op& op);
	void dispatch(const Op& op);

	void do_open();
	void do_pool_create(const Op& op);
	void do_map(const Op& op);
	void do_unmap(const Op& op);
	void do_alloc(const Op& op);
	void do_handles(const Op& op, unsigned long request);
	void do_channel_create(const Op& op);
	void do_fetch(const Op& op);
	void do_attach(const Op& op);
	void do_add_receiver(const Op& op);
	void make_copied(const Op& op, std::span<fbufs_message> messages, std::span<fbufs_slice> slices) const;
	void do_send(const Op& op);
	void do_receive(const Op& op);
	void do_call(const Op& op);
	void note_messages(const fbufs_message* messages, const fbufs_slice* slice, long n);
	void do_notices(const Op& op);
	void do_ask(const Op& op);
	void do_io(const Op& op);
	void do_cancel(const Op& op);
	void do_make_mutable(const Op& op);
	void do_send_file(const Op& op);
	void do_touch(const Op& op);
	void do_change(const Op& op);
	void do_close(const Op& op);
	void do_raw(const Op& op);
	void do_poll(const Op& op);
	void do_drain(const Op& op);

	[[nodiscard]] int end(unsigned slot) const;
	void put_end(unsigned slot, int fd);
	[[nodiscard]] int fd(unsigned which) const;
	[[nodiscard]] std::uint64_t fbuf(unsigned index) const;
	[[nodiscard]] std::uint64_t message(unsigned index) const;
	void post_fbuf(std::uint64_t fbuf);
	void post_message(std::uint64_t message);
	[[nodiscard]] const std::uint8_t* find(std::uint64_t position, std::size_t length) const;
	void remember(std::uint64_t message, std::uint64_t position, std::size_t length);
	void forget(std::uint64_t message);
	void expect_unchanged(const Held& held);
	void forget_windows();

	unsigned self_;
	Board& board_;
	std::array<std::array<int, 2>, shared_kinds> shared_;
	std::atomic<int> domain_ = -1;
	std::array<Window, actors> windows_ = {};
	std::vector<Held> held_;
	unsigned next_message_ = 0;
	bool copies_ = false; // stores to what is locked go to private copies
	// Nobody else in this process: what is held stays held until this thread says otherwise.
	bool alone_ = true;
};

} // namespace fuzz
