// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// pass_device <IN >OUT: standard input through the memory of QEMU's edu device to standard output.
#include "driver.hpp"

namespace {

constexpr std::size_t piece = 4096;

std::size_t read_piece(std::span<std::byte> into)
{
	std::size_t done = 0;
	while (done < piece) {
		const ssize_t got = ::read(STDIN_FILENO, into.data() + done, piece - done);
		if (got < 0)
			examples::die("standard input", {errno, std::system_category()});
		if (!got)
			break;
		done += static_cast<std::size_t>(got);
	}
	return done;
}

void write_all(std::span<const std::byte> from)
{
	while (!from.empty()) {
		const ssize_t put = ::write(STDOUT_FILENO, from.data(), from.size());
		if (put < 0)
			examples::die("standard output", {errno, std::system_category()});
		from = from.subspan(static_cast<std::size_t>(put));
	}
}

} // namespace

int main()
{
	examples::program me(16 << 20);
	auto [sender, end] = examples::checked(me.domain.create_channel(), "channel");
	examples::driver edu("edu");
	fbufs_sample_start args = me.wanted(piece, 8);
	args.receiver = end.fd();
	edu.start(args);
	for (;;) {
		fbuf::buffer buffer = examples::checked(sender.allocate(piece), "allocate");
		const std::size_t length = read_piece(buffer.data());
		if (!length)
			break;
		examples::checked(sender.send(std::move(buffer), length), "send");
		const fbuf::message message = examples::checked(me.receiver.receive(), "receive");
		write_all(message.data());
	}
	const auto counted = examples::checked(me.domain.count(), "counters");
	std::fprintf(stderr, "%llu bytes copied by the module\n",
		     static_cast<unsigned long long>(counted.bytes_copied));
	return edu.status().errors ? 1 : 0;
}
