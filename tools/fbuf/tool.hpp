// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// What the subcommands share: how they are declared, how they fail, and how they report.
#pragma once

#include <fbuf/fbuf.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace tool {

// Exit codes; the man page and --help name them.
enum exit_code { ok = 0, failed = 1, usage = 2, no_module = 3, no_permission = 4, no_peer = 5, mismatch = 6 };

// What a subcommand throws to end the program with a message.
class failure {
public:
	failure(exit_code code, std::string what) : code_(code), what_(std::move(what)) {}
	failure(std::string_view doing, const std::error_code& error);
	[[nodiscard]] exit_code code() const { return code_; }
	[[nodiscard]] const std::string& what() const { return what_; }

private:
	exit_code code_;
	std::string what_;
};

// The value, or the end of the program with a sentence.
template <typename T>
T expect(fbuf::result<T>&& value, std::string_view doing)
{
	if (!value)
		throw failure(doing, value.error());
	if constexpr (!std::is_void_v<T>)
		return std::move(*value);
}

// SHA-256 of a stream, in hexadecimal.
class checksum {
public:
	checksum();
	checksum(const checksum&) = delete;
	~checksum();
	void add(std::span<const std::byte> bytes);
	[[nodiscard]] std::string hex();

private:
	void* context_;
};

// A line on the terminal that follows a long transfer; nothing where there is no terminal.
class progress {
public:
	explicit progress(bool wanted, std::uint64_t total = 0);
	~progress();
	void at(std::uint64_t bytes);

private:
	void draw(std::uint64_t bytes);
	bool on_;
	std::uint64_t total_;
	std::chrono::steady_clock::time_point start_;
	std::chrono::steady_clock::time_point next_;
};

// The final line of send and recv.
struct summary {
	std::string role = {};
	std::uint64_t bytes = 0;
	std::uint64_t messages = 0;
	double seconds = 0;
	std::string sha256 = {};
	fbuf::counters counted = {};
	void print(bool json) const;
};

std::string human_bytes(double bytes);

void add_send(CLI::App& app);
void add_recv(CLI::App& app);
void add_relay(CLI::App& app);
void add_demo(CLI::App& app);
void add_info(CLI::App& app);
void add_bench(CLI::App& app);
void add_completion(CLI::App& app);

} // namespace tool
