// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// A memfd for each message: made, written, sealed, passed, mapped by the receiver, and gone. The receiver
// can trust it, and for that it cannot be used again.

#include "bench_link.hpp"
#include "bench_run.hpp"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

namespace bench {

namespace {

constexpr int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

class memfd_link : public link {
public:
	explicit memfd_link(const shape& of)
		: link(of),
		  group_(static_cast<unsigned>(std::clamp<std::size_t>(most_in_packet / of.bytes, 1, of.batch)))
	{
		std::array<int, 2> fds = {};
		if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) < 0)
			die("socketpair");
		ends_[0] = descriptor(fds[0]);
		ends_[1] = descriptor(fds[1]);
		// The memory of what waits is counted by nobody: a few packets, no more.
		const int room = 1;
		(void)::setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	}
	void open_producer() override { ends_[0].close(); }
	void open_consumer(unsigned) override { ends_[1].close(); }
	// Many in a packet.
	void produce(std::uint64_t first, unsigned count) override
	{
		std::vector<descriptor> made;
		for (unsigned i = 0; i < count; i++) {
			made.push_back(make_file(first + i, i));
			if (made.size() < group_ && i + 1 < count)
				continue;
			pass(made);
			made.clear();
		}
	}
	// The same files: nobody can change them.
	void forward(link& in, std::uint64_t, unsigned) override { pass(static_cast<memfd_link&>(in).held_); }
	unsigned consume(std::uint64_t first, unsigned) override
	{
		give_back();
		const unsigned count = take();
		for (unsigned i = 0; i < count; i++) {
			if ((::fcntl(held_[i].fd(), F_GET_SEALS) & seals) != seals)
				die("a message is not sealed");
			// Faults are cheaper taken together, where all pages will be looked at.
			windows_.push_back(std::make_unique<mapping>(shape_.bytes, PROT_READ, MAP_SHARED | populate(),
								     held_[i].fd()));
			check_words(received(i), first + i, shape_.how);
		}
		return count;
	}
	void give_back() override
	{
		windows_.clear();
		held_.clear();
	}
	[[nodiscard]] std::span<const std::byte> received(unsigned index) const override
	{
		return windows_[index]->bytes();
	}
	// Nothing is used twice; the packets that the socket holds are at most that many.
	[[nodiscard]] std::uint64_t warm_up() const override { return std::max(shape_.batch, 8 * group_); }

private:
	static constexpr std::size_t most = 64; // the batch's limit
	static constexpr std::size_t most_in_packet = 4 << 20;

	[[nodiscard]] int populate() const { return shape_.how >= touch::page ? MAP_POPULATE : 0; }
	descriptor make_file(std::uint64_t number, unsigned index) const
	{
		auto file = checked(::memfd_create("fbuf-bench", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create");
		if (::ftruncate(file.fd(), static_cast<off_t>(shape_.bytes)) < 0)
			die("ftruncate");
		{
			const mapping window(shape_.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | populate(), file.fd());
			make(window.bytes(), number, index);
		}
		if (::fcntl(file.fd(), F_ADD_SEALS, seals) < 0)
			die("sealing");
		return file;
	}
	void pass(std::span<const descriptor> files)
	{
		alignas(cmsghdr) std::array<char, CMSG_SPACE(most * sizeof(int))> control = {};
		char word = 0;
		iovec payload = {&word, 1};
		msghdr message = {};
		message.msg_iov = &payload;
		message.msg_iovlen = 1;
		message.msg_control = control.data();
		message.msg_controllen = CMSG_SPACE(files.size() * sizeof(int));
		cmsghdr* const header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(files.size() * sizeof(int));
		for (std::size_t i = 0; i < files.size(); i++) {
			const int fd = files[i].fd();
			std::memcpy(CMSG_DATA(header) + i * sizeof(fd), &fd, sizeof(fd));
		}
		if (::sendmsg(ends_[1].fd(), &message, 0) < 0)
			die("sendmsg");
	}
	unsigned take()
	{
		alignas(cmsghdr) std::array<char, CMSG_SPACE(most * sizeof(int))> control = {};
		char word = 0;
		iovec payload = {&word, 1};
		msghdr message = {};
		message.msg_iov = &payload;
		message.msg_iovlen = 1;
		message.msg_control = control.data();
		message.msg_controllen = control.size();
		if (::recvmsg(ends_[0].fd(), &message, MSG_CMSG_CLOEXEC) <= 0)
			die("recvmsg");
		const cmsghdr* const header = CMSG_FIRSTHDR(&message);
		const std::size_t count = header ? (header->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
		for (std::size_t i = 0; i < count; i++) {
			int fd = -1;
			std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd), sizeof(fd));
			held_.emplace_back(fd);
		}
		return static_cast<unsigned>(count);
	}

	unsigned group_;
	std::array<descriptor, 2> ends_; // read from [0], write to [1]
	std::vector<descriptor> held_;
	std::vector<std::unique_ptr<mapping>> windows_;
};

} // namespace

std::unique_ptr<link> make_memfd_link(const std::string& mechanism, const shape& of)
{
	return mechanism == "memfd-sealed" ? std::make_unique<memfd_link>(of) : nullptr;
}

} // namespace bench
