// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "pump.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <unistd.h>

namespace tool {

namespace {

struct options {
	std::string path;
	std::string file;
	std::string from;
	std::size_t block = 0;
	unsigned wait = 10;
	bool secure = false;
	bool checksum = false;
	bool json = false;
	bool quiet = false;
};

int open_output(const std::string& file)
{
	if (file == "-")
		return ::dup(STDOUT_FILENO);
	const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		throw failure(failed, "cannot write " + file + ": " + std::strerror(errno));
	return fd;
}

void write_all(int fd, std::span<const std::byte> bytes, const std::string& name)
{
	while (!bytes.empty()) {
		const ssize_t n = ::write(fd, bytes.data(), bytes.size());
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			throw failure(failed, "cannot write " + name + ": " + std::strerror(errno));
		bytes = bytes.subspan(static_cast<std::size_t>(n));
	}
}

// From what a descriptor stands for, instead of from a sender.
void run_from(const options& want)
{
	const std::string& file = want.path.empty() ? "-" : want.path;
	place from = place::open(want.from, direction::from);
	place to = place::open(file == "-" ? file : "file:" + file, direction::to);
	pump_options how;
	how.block = want.block ? want.block : how.block;
	how.checksum = want.checksum;
	how.json = want.json;
	how.quiet = want.quiet;
	pump(from, to, "received", how);
}

void run_channel(const options& asked)
{
	options want = asked;
	if (want.file.empty())
		want.file = "-";
	auto domain = expect(fbuf::domain::open(), "cannot open /dev/fbufs");
	auto peer = expect(fbuf::connection::connect(want.path, std::chrono::seconds(want.wait)),
			   "cannot connect to " + want.path);
	auto end = expect(peer.take(), "the sender at " + want.path);
	auto receiver = expect(domain.attach_receiver(std::move(end)), "cannot attach to the channel");
	const int output = open_output(want.file);

	summary total{.role = "received"};
	std::unique_ptr<checksum> sum = want.checksum ? std::make_unique<checksum>() : nullptr;
	progress bar(!want.quiet);
	const auto start = std::chrono::steady_clock::now();
	for (;;) {
		auto message = receiver.receive();
		if (!message && message.error() == fbuf::errc::end_of_stream)
			break;
		if (!message)
			throw failure("cannot receive", message.error());
		if (message->cookie() != total.bytes)
			throw failure(failed, "the stream has a gap: is the sender 'fbuf send'?");
		if (want.secure && !message->locked())
			expect(message->secure(), "cannot lock a message");
		for (const fbuf::slice& slice : message->slices()) {
			if (sum)
				sum->add(slice.data);
			write_all(output, slice.data, want.file);
		}
		total.bytes += message->length();
		total.messages++;
		bar.at(total.bytes);
	}
	if (::close(output) < 0)
		throw failure(failed, "cannot write " + want.file + ": " + std::strerror(errno));
	total.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
	total.counted = expect(domain.count(), "cannot read the counters");
	if (sum)
		total.sha256 = sum->hex();
	if (!want.quiet || want.json || want.checksum)
		total.print(want.json);
}

void run(const options& want)
{
	if (want.from.empty() && want.path.empty())
		throw failure(usage, "recv: the path of a sender, or --from, is needed");
	if (!want.from.empty() && !want.file.empty())
		throw failure(usage, "recv --from takes one file");
	if (want.from.empty())
		run_channel(want);
	else
		run_from(want);
}

} // namespace

void add_recv(CLI::App& app)
{
	auto want = std::make_shared<options>();
	CLI::App* command =
		app.add_subcommand("recv", "Receive what 'fbuf send' sends, or what comes from a socket or file");
	command->add_option("path", want->path, "UNIX socket path of the sender; with --from: the file");
	command->add_option("file", want->file, "where to write it; '-' or nothing: standard output");
	command->add_option("-f,--from", want->from, std::string("receive from there, listening: ") + place_help);
	command->add_option("-b,--block", want->block, "with --from: bytes of an fbuf; default 256K")
		->transform(CLI::AsSizeValue(false))
		->check(CLI::Range(std::size_t{1}, std::size_t{1} << 30));
	command->add_option("-w,--wait", want->wait, "seconds to wait for the sender to appear")->capture_default_str();
	command->add_flag("-s,--secure", want->secure, "lock messages of a volatile channel before reading them");
	command->add_flag("-c,--checksum", want->checksum, "print the SHA-256 of what was received");
	command->add_flag("-j,--json", want->json, "final line as JSON");
	command->add_flag("-q,--quiet", want->quiet, "no progress, no final line");
	command->footer(
		"Examples:\n"
		"  fbuf recv /run/user/1000/film film.mkv\n"
		"  fbuf recv /tmp/tree.sock - | tar x -C /there\n"
		"  fbuf recv --from tcp:0.0.0.0:9000 film.mkv    # one connection; tcp-connect: goes and gets it\n"
		"The final line and progress go to standard error.");
	command->callback([want] { run(*want); });
}

} // namespace tool
