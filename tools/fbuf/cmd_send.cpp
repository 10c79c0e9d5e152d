// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "pump.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

namespace tool {

namespace {

struct options {
	std::string path;
	std::string file;
	std::string to;
	std::size_t block = 0; // 0: what suits the way
	std::uint64_t pool = 0;
	unsigned receivers = 1;
	std::uint32_t depth = 64;
	bool as_volatile = false;
	bool uncached = false;
	bool lock = false;
	bool checksum = false;
	bool json = false;
	bool quiet = false;

	[[nodiscard]] std::size_t block_or(std::size_t usual) const { return block ? block : usual; }
};

int open_input(const std::string& file)
{
	if (file == "-")
		return ::dup(STDIN_FILENO);
	const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		throw failure(failed, "cannot read " + file + ": " + std::strerror(errno));
	return fd;
}

// Reads until the buffer is full (a file) or something is there (a stream). 0: the end.
std::size_t fill(int fd, std::span<std::byte> into, bool whole, const std::string& name)
{
	std::size_t have = 0;
	while (have < into.size()) {
		const ssize_t n = ::read(fd, into.data() + have, into.size() - have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			throw failure(failed, "cannot read " + name + ": " + std::strerror(errno));
		have += static_cast<std::size_t>(n);
		if (n == 0 || !whole)
			break;
	}
	return have;
}

// Gives every receiver that connects its end.
void gather(fbuf::listener& at, fbuf::sender& sender, fbuf::endpoint&& first, const options& want)
{
	for (unsigned i = 0; i < want.receivers; i++) {
		auto peer = expect(at.accept(), "waiting for receivers at " + want.path);
		fbuf::endpoint end = i == 0 ? std::move(first) : expect(sender.add_receiver(), "adding a receiver");
		expect(peer.pass(std::move(end)), "passing the channel to a receiver");
	}
}

// To what a descriptor stands for, instead of to receivers.
void run_to(const options& want)
{
	// The only positional argument is the file.
	const std::string& file = want.path.empty() ? "-" : want.path;
	place from = place::open(file == "-" ? file : "file:" + file, direction::from);
	place to = place::open(want.to, direction::to);
	pump_options how;
	how.block = want.block_or(how.block);
	how.pool = want.pool;
	how.lock = want.lock;
	how.checksum = want.checksum;
	how.json = want.json;
	how.quiet = want.quiet;
	pump(from, to, "sent", how);
}

void run_channel(const options& asked)
{
	options want = asked;
	want.block = asked.block_or(64 << 10);
	if (want.file.empty())
		want.file = "-";
	const int input = open_input(want.file);
	struct stat status = {};
	::fstat(input, &status);
	const bool regular = S_ISREG(status.st_mode);

	auto domain = expect(fbuf::domain::open(), "cannot open /dev/fbufs");
	const std::uint64_t bytes = want.pool ? want.pool : (want.depth + 36) * std::uint64_t{want.block};
	expect(domain.create_pool(bytes), "cannot make a pool of " + human_bytes(static_cast<double>(bytes)));
	auto [sender, first] = expect(
		domain.create_channel({.secure = !want.as_volatile, .cached = !want.uncached, .depth = want.depth}),
		"cannot make a channel");
	{
		auto listener = expect(fbuf::listener::listen(want.path), "cannot listen at " + want.path);
		gather(listener, sender, std::move(first), want);
	}

	summary total{.role = "sent"};
	std::unique_ptr<checksum> sum = want.checksum ? std::make_unique<checksum>() : nullptr;
	progress bar(!want.quiet, regular ? static_cast<std::uint64_t>(status.st_size) : 0);
	const auto start = std::chrono::steady_clock::now();
	while (!at_end(input)) {
		auto buffer = expect(sender.allocate(want.block), "cannot allocate an fbuf");
		const std::size_t n = fill(input, buffer.data().first(want.block), regular, want.file);
		if (n == 0)
			break;
		if (sum)
			sum->add(buffer.data().first(n));
		const auto sent = expect(sender.send(std::move(buffer), n, total.bytes), "cannot send");
		total.bytes += sent.bytes;
		total.messages += sent.messages;
		bar.at(total.bytes);
	}
	::close(input);
	total.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
	total.counted = expect(domain.count(), "cannot read the counters");
	if (sum)
		total.sha256 = sum->hex();
	if (!want.quiet || want.json || want.checksum)
		total.print(want.json);
}

void run(const options& want)
{
	if (want.to.empty() && want.path.empty())
		throw failure(usage, "send: a path at which receivers find this sender, or --to, is needed");
	if (!want.to.empty() && !want.file.empty())
		throw failure(usage, "send --to takes one file");
	if (want.to.empty() && want.lock)
		throw failure(usage,
			      "send --lock goes with --to; to receivers, everything is locked unless --volatile");
	if (want.to.empty())
		run_channel(want);
	else
		run_to(want);
}

} // namespace

void add_send(CLI::App& app)
{
	auto want = std::make_shared<options>();
	CLI::App* command = app.add_subcommand("send", "Send a file or a stream to receivers, or to a socket or file");
	command->add_option("path", want->path,
			    "UNIX socket path at which receivers find this sender; with --to: the file");
	command->add_option("file", want->file, "what to send; '-' or nothing: standard input");
	command->add_option("-t,--to", want->to, std::string("send there, without receivers: ") + place_help);
	command->add_option("-b,--block", want->block,
			    "bytes of an fbuf; a suffix K, M is understood; default 64K, with --to 256K")
		->transform(CLI::AsSizeValue(false))
		->check(CLI::Range(std::size_t{1}, std::size_t{1} << 30));
	command->add_option("-p,--pool", want->pool, "bytes of memory for fbufs; default: what the queue can hold")
		->transform(CLI::AsSizeValue(false));
	command->add_option("-n,--receivers", want->receivers, "wait for that many receivers; all get everything")
		->check(CLI::Range(1U, 64U))
		->capture_default_str();
	command->add_option("-d,--depth", want->depth, "messages that may wait for one receiver")
		->check(CLI::Range(1U, 4096U))
		->capture_default_str();
	command->add_flag("--volatile", want->as_volatile,
			  "keep write access after the send (no lock until a receiver asks)");
	command->add_flag("--uncached", want->uncached, "take receivers' mappings away at release");
	command->add_flag("-l,--lock", want->lock,
			  "with --to: read a file into fbufs, so that nobody changes what is being sent");
	command->add_flag("-c,--checksum", want->checksum, "print the SHA-256 of what was sent");
	command->add_flag("-j,--json", want->json, "final line as JSON");
	command->add_flag("-q,--quiet", want->quiet, "no progress, no final line");
	command->footer(
		"Examples:\n"
		"  fbuf send /run/user/1000/film film.mkv        # waits for one 'fbuf recv'\n"
		"  tar c . | fbuf send -n 2 /tmp/tree.sock -     # to two receivers at once\n"
		"  fbuf send --to tcp:player:9000 film.mkv       # over a socket, without a copy of what was read\n"
		"  fbuf send --to unix:/run/app.sock -\n"
		"With --to, the pages of a file go out as they are; --lock, --checksum or --pool: through fbufs.\n"
		"The final line and progress go to standard error.");
	command->callback([want] { run(*want); });
}

} // namespace tool
