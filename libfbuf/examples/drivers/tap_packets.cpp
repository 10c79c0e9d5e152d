// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// tap_packets INTERFACE FILE: what the interface receives and sends, to a pcap file, until SIGINT,
// SIGTERM, or the end of standard input. The messages of the tap are what the file consists of.
#include "driver.hpp"

#include <poll.h>

#include <csignal>

namespace {

volatile std::sig_atomic_t stopped = 0;

// With nanoseconds, packets of Ethernet (also what the loopback interface looks like).
struct file_header {
	std::uint32_t magic = 0xa1b23c4d;
	std::uint16_t major = 2, minor = 4;
	std::uint32_t zone = 0, accuracy = 0, snap = 0, link = 1;
};

void write_all(int fd, const void* from, std::size_t length)
{
	if (::write(fd, from, length) != static_cast<ssize_t>(length))
		examples::die("write", {errno, std::system_category()});
}

// Write what is there.
void drain(examples::program& me, int file)
{
	for (;;) {
		fbuf::message blocks[16];
		auto got = me.receiver.receive(blocks);
		if (!got)
			break;
		for (std::size_t i = 0; i < *got; i++)
			write_all(file, blocks[i].data().data(), blocks[i].data().size());
	}
}

} // namespace

int main(int argc, char** argv)
{
	if (argc != 3) {
		std::fprintf(stderr, "usage: tap_packets INTERFACE FILE\n");
		return 2;
	}
	struct sigaction action = {};
	action.sa_handler = [](int) { stopped = 1; };
	::sigaction(SIGINT, &action, nullptr);
	::sigaction(SIGTERM, &action, nullptr);
	const int file = ::open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (file < 0)
		examples::die(argv[2], {errno, std::system_category()});
	file_header header;
	header.snap = 65535;
	write_all(file, &header, sizeof(header));

	examples::program me(64 << 20, 256);
	examples::checked(me.receiver.set_nonblocking(true), "receiver");
	examples::driver tap("tap");
	fbufs_sample_start args = me.wanted(256 << 10, 64);
	args.snap = header.snap;
	std::strncpy(args.name, argv[1], sizeof(args.name) - 1);
	tap.start(args);
	std::fprintf(stderr, "listening on %s\n", argv[1]);
	while (!stopped) {
		pollfd entry = {me.receiver.fd(), POLLIN, 0};
		::poll(&entry, 1, 100);
		drain(me, file);
	}
	tap.stop();
	drain(me, file);
	const fbufs_sample_status status = tap.status();
	std::fprintf(stderr, "%llu packets in %llu blocks, %llu dropped\n", status.done, status.messages,
		     status.dropped);
	return status.dropped || status.errors ? 1 : 0;
}
