// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "pump.hpp"

#include <csignal>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

namespace tool {

namespace {

constexpr std::size_t datagram = 1400; // fits where an Ethernet packet does

struct total {
	std::uint64_t bytes = 0, blocks = 0, copied = 0;
	bool zero_copy = false;
	std::string why;

	void add(const fbuf::transferred& done)
	{
		copied += done.copied;
		zero_copy |= done.zero_copy;
		if (done.fallback)
			why = done.why;
	}
	[[nodiscard]] std::string text() const
	{
		if (copied && zero_copy)
			return "partly copied (" + std::to_string(copied) + " bytes: " + why + ")";
		return copied ? "copied (" + std::to_string(copied) + " bytes: " + why + ")" : "zero-copy";
	}
};

struct route {
	total read, written;
	bool locked = true;
};

void print(const std::string& role, const route& went, double seconds, const std::string& sum, bool json)
{
	if (json) {
		nlohmann::ordered_json out = {
			{"role", role},
			{"bytes", went.written.bytes},
			{"blocks", went.written.blocks},
			{"seconds", seconds},
			{"locked", went.locked},
			{"read_copied", went.read.copied},
			{"read_zero_copy", went.read.zero_copy},
			{"write_copied", went.written.copied},
			{"write_zero_copy", went.written.zero_copy},
		};
		if (!sum.empty())
			out["sha256"] = sum;
		std::fprintf(stderr, "%s\n", out.dump().c_str());
		return;
	}
	if (!went.locked) {
		std::fprintf(stderr, "%s: %llu bytes in %llu blocks, straight from the file, not locked: %s\n",
			     role.c_str(), static_cast<unsigned long long>(went.written.bytes),
			     static_cast<unsigned long long>(went.written.blocks), went.written.text().c_str());
		return;
	}
	std::fprintf(stderr, "%s: %llu bytes in %llu blocks; read: %s; written: %s%s%s\n", role.c_str(),
		     static_cast<unsigned long long>(went.written.bytes),
		     static_cast<unsigned long long>(went.written.blocks), went.read.text().c_str(),
		     went.written.text().c_str(), sum.empty() ? "" : "; sha256 ", sum.c_str());
}

fbuf::transferred write_out(fbuf::io& io, place& to, fbuf::obtained&& block)
{
	if (block.held)
		return expect(io.write(to.fd(), block.held), "cannot write " + to.name());
	return expect(io.write(to.fd(), std::move(block.own), block.bytes), "cannot write " + to.name());
}

bool is_file(int fd, struct stat& status)
{
	return ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

std::uint64_t size_of(int fd)
{
	struct stat status = {};
	return is_file(fd, status) ? static_cast<std::uint64_t>(status.st_size) : 0;
}

// Whether anything asks for fbufs.
bool needs_pool(const place& from, const place& to, const pump_options& want)
{
	struct stat status = {};
	return want.lock || want.checksum || want.pool || to.datagrams() || !is_file(from.fd(), status);
}

void send_file(fbuf::io& io, place& from, place& to, std::size_t block, route& went, progress& bar)
{
	for (bool end = false; !end;) {
		const auto done = expect(io.send_file(to.fd(), from.fd(), fbuf::here, block),
					 "cannot send " + from.name() + " to " + to.name());
		went.written.add(done);
		went.written.bytes += done.bytes;
		went.written.blocks += done.bytes != 0;
		bar.at(went.written.bytes);
		end = done.end || done.bytes == 0;
	}
	went.read.zero_copy = went.written.zero_copy;
	went.locked = false;
}

void send_fbufs(fbuf::io& io, place& from, place& to, std::size_t most, const pump_options& want, checksum* sum,
		route& went, progress& bar)
{
	const bool copy = want.copy || from.datagrams() || to.datagrams();
	while (!at_end(from.fd())) {
		auto block_read = expect(io.read(from.fd(), most, {.copy = copy}), "cannot read " + from.name());
		if (block_read.bytes == 0)
			break;
		went.read.add(block_read);
		const std::size_t bytes = block_read.bytes;
		if (sum)
			for (const auto& slice :
			     block_read.held ? block_read.held.slices() : std::span<const fbuf::slice>())
				sum->add(slice.data);
		if (sum && !block_read.held)
			sum->add(block_read.data());
		const auto done = write_out(io, to, std::move(block_read));
		went.written.add(done);
		if (done.bytes != bytes)
			throw failure(failed, "could not write all of a block to " + to.name());
		went.written.bytes += bytes;
		went.written.blocks++;
		bar.at(went.written.bytes);
	}
}

} // namespace

void add_pump_options(CLI::App& command, pump_options& want)
{
	command.add_option("-b,--block", want.block, "bytes of an fbuf; a suffix K, M is understood")
		->transform(CLI::AsSizeValue(false))
		->check(CLI::Range(std::size_t{1}, std::size_t{1} << 30))
		->capture_default_str();
	command.add_option("-p,--pool", want.pool, "bytes of memory for fbufs; default: 64 blocks")
		->transform(CLI::AsSizeValue(false));
	command.add_flag("--copy", want.copy, "copy even fbufs of another process that arrive whole");
	command.add_flag("-c,--checksum", want.checksum, "print the SHA-256 of what went through");
	command.add_flag("-j,--json", want.json, "final line as JSON");
	command.add_flag("-q,--quiet", want.quiet, "no progress, no final line");
}

bool at_end(int fd)
{
	struct stat status = {};
	// Files of /proc have no size.
	if (!is_file(fd, status) || status.st_size == 0)
		return false;
	const off_t here = ::lseek(fd, 0, SEEK_CUR);
	std::byte next;
	// Those of other file systems may have more than their size.
	return here >= status.st_size && ::pread(fd, &next, 1, here) == 0;
}

void pump(place& from, place& to, const std::string& role, const pump_options& want)
{
	const std::size_t block = to.datagrams() ? std::min(want.block, datagram) : want.block;
	auto domain = expect(fbuf::domain::open(), "cannot open /dev/fbufs");
	const std::uint64_t pool = want.pool ? want.pool : 64 * ((block + 4095) / 4096 * 4096);
	expect(domain.create_pool(pool), "cannot make a pool of " + human_bytes(static_cast<double>(pool)));
	fbuf::io io(domain);
	const std::size_t most = from.datagrams() ? std::max<std::size_t>(block, 65536) : block;

	route went;
	std::unique_ptr<checksum> sum = want.checksum ? std::make_unique<checksum>() : nullptr;
	progress bar(!want.quiet, size_of(from.fd()));
	const auto start = std::chrono::steady_clock::now();
	if (needs_pool(from, to, want))
		send_fbufs(io, from, to, most, want, sum.get(), went, bar);
	else
		send_file(io, from, to, block, went, bar);
	to.finish();
	const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
	if (!want.quiet || want.json || want.checksum)
		print(role, went, seconds, sum ? sum->hex() : "", want.json);
}

} // namespace tool
