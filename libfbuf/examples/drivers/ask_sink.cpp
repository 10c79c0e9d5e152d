// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// ask_sink FILE...: the FNV-1a hash of each file, by the kernel's sink, which reads it where it lies.
#include "driver.hpp"

#include <vector>

namespace {

// A file in an fbuf of the channel to the sink; its length.
std::size_t load(const char* path, fbuf::sender& to, fbuf::buffer& into)
{
	const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		examples::die(path, {errno, std::system_category()});
	const off_t size = ::lseek(fd, 0, SEEK_END);
	into = examples::checked(to.allocate(static_cast<std::size_t>(size > 0 ? size : 1)), "allocate");
	std::size_t done = 0;
	while (done < static_cast<std::size_t>(size)) {
		const ssize_t got =
			::pread(fd, into.data().data() + done, into.size() - done, static_cast<off_t>(done));
		if (got <= 0)
			examples::die(path, {got ? errno : EIO, std::system_category()});
		done += static_cast<std::size_t>(got);
	}
	::close(fd);
	return done;
}

} // namespace

int main(int argc, char** argv)
{
	examples::program me(1ULL << 30);
	auto [sender, end] = examples::checked(me.domain.create_channel(), "channel");
	examples::driver sink("sink");
	fbufs_sample_start args = me.wanted(4096, 8);
	args.receiver = end.fd();
	sink.start(args);
	for (int i = 1; i < argc; i++) {
		fbuf::buffer buffer;
		const std::size_t length = load(argv[i], sender, buffer);
		examples::checked(sender.send(std::move(buffer), length, static_cast<std::uint64_t>(i)), "send");
		const fbuf::message message = examples::checked(me.receiver.receive(), "receive");
		fbufs_answer answer;
		std::memcpy(&answer, message.data().data(), sizeof(answer));
		std::printf("%016llx %llu %s\n", answer.hash, answer.length, argv[i]);
	}
}
