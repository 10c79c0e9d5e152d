// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "tool.hpp"

#include <openssl/evp.h>

#include <array>
#include <cstdio>
#include <new>
#include <unistd.h>

namespace tool {

namespace {

exit_code code_of(const std::error_code& error)
{
	if (error == fbuf::errc::no_module || error == fbuf::errc::wrong_version)
		return no_module;
	if (error == std::errc::permission_denied || error == std::errc::operation_not_permitted)
		return no_permission;
	if (error == std::errc::connection_refused || error == std::errc::no_such_file_or_directory ||
	    error == std::errc::broken_pipe || error == fbuf::errc::bad_peer || error == fbuf::errc::no_end_passed)
		return no_peer;
	return failed;
}

} // namespace

failure::failure(std::string_view doing, const std::error_code& error)
	: code_(code_of(error)), what_(std::string(doing) + ": " + fbuf::explain(error))
{
}

checksum::checksum() : context_(EVP_MD_CTX_new())
{
	if (!context_ || EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(context_), EVP_sha256(), nullptr) != 1)
		throw failure(failed, "SHA-256 is not to be had from libcrypto");
}

checksum::~checksum()
{
	EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context_));
}

void checksum::add(std::span<const std::byte> bytes)
{
	EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_), bytes.data(), bytes.size());
}

std::string checksum::hex()
{
	std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
	unsigned length = 0;
	EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_), digest.data(), &length);
	std::string text;
	for (unsigned i = 0; i < length; i++) {
		char pair[3];
		std::snprintf(pair, sizeof(pair), "%02x", digest[i]);
		text += pair;
	}
	return text;
}

std::string human_bytes(double bytes)
{
	const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	std::size_t unit = 0;
	for (; bytes >= 1024 && unit + 1 < std::size(units); unit++)
		bytes /= 1024;
	char text[32];
	std::snprintf(text, sizeof(text), unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
	return text;
}

progress::progress(bool wanted, std::uint64_t total)
	: on_(wanted && ::isatty(STDERR_FILENO)), total_(total), start_(std::chrono::steady_clock::now()), next_(start_)
{
}

progress::~progress()
{
	if (on_)
		std::fputs("\r\033[K", stderr);
}

void progress::at(std::uint64_t bytes)
{
	if (on_ && std::chrono::steady_clock::now() >= next_)
		draw(bytes);
}

void progress::draw(std::uint64_t bytes)
{
	const auto now = std::chrono::steady_clock::now();
	const double seconds = std::chrono::duration<double>(now - start_).count();
	const auto amount = static_cast<double>(bytes);
	std::string text = human_bytes(amount);
	if (total_) {
		char percent[16];
		std::snprintf(percent, sizeof(percent), " (%.0f %%)", 100 * amount / static_cast<double>(total_));
		text += " of " + human_bytes(static_cast<double>(total_)) + percent;
	}
	if (seconds > 0)
		text += ", " + human_bytes(amount / seconds) + "/s";
	std::fprintf(stderr, "\r\033[K%s", text.c_str());
	next_ = now + std::chrono::milliseconds(200);
}

void summary::print(bool json) const
{
	if (json) {
		nlohmann::ordered_json out = {
			{"role", role},
			{"bytes", bytes},
			{"messages", messages},
			{"seconds", seconds},
			{"bytes_copied", counted.bytes_copied},
			{"faults", counted.faults},
			{"ptes_set", counted.ptes_set},
			{"ptes_cleared", counted.ptes_cleared},
			{"tlb_flushes", counted.tlb_flushes},
			{"pages_allocated", counted.pages_allocated},
			{"calls", counted.calls},
		};
		if (!sha256.empty())
			out["sha256"] = sha256;
		std::fprintf(stderr, "%s\n", out.dump().c_str());
		return;
	}
	std::fprintf(stderr,
		     "%s: %llu bytes in %llu messages, %llu bytes copied between processes, %llu faults, "
		     "%llu page-table changes, %llu TLB flushes, %llu pages, %llu calls%s%s\n",
		     role.c_str(), static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(messages),
		     static_cast<unsigned long long>(counted.bytes_copied),
		     static_cast<unsigned long long>(counted.faults),
		     static_cast<unsigned long long>(counted.ptes_set + counted.ptes_cleared),
		     static_cast<unsigned long long>(counted.tlb_flushes),
		     static_cast<unsigned long long>(counted.pages_allocated),
		     static_cast<unsigned long long>(counted.calls), sha256.empty() ? "" : ", sha256 ", sha256.c_str());
}

} // namespace tool
