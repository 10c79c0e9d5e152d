// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "sys.hpp"

#include <fbuf/rendezvous.hpp>

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <thread>

namespace fbuf {

namespace {

// What comes with a descriptor, so that other protocols are told from this one.
struct greeting {
	char magic[8];
	std::uint32_t version;
	std::uint32_t reserved;
};
constexpr greeting our_greeting = {{'f', 'b', 'u', 'f', 's', 'e', 'n', 'd'}, FBUFS_ABI_VERSION, 0};

result<sockaddr_un> address_of(const std::string& path)
{
	sockaddr_un address = {};
	address.sun_family = AF_UNIX;
	if (path.empty() || path.size() >= sizeof(address.sun_path))
		return sys::failure(ENAMETOOLONG);
	std::memcpy(address.sun_path, path.data(), path.size());
	return address;
}

int connect_to(int fd, const sockaddr_un& address)
{
	return ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) < 0 ? errno : 0;
}

result<int> make_socket()
{
	const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return sys::last_failure();
	return fd;
}

// A path that nobody listens on any more is only in the way. The probe is of another type than the
// listener, which would refuse it (EPROTOTYPE) without ever seeing it.
void remove_left_over(const sockaddr_un& address)
{
	struct stat status = {};
	if (::lstat(address.sun_path, &status) < 0 || !S_ISSOCK(status.st_mode))
		return;
	const int probe = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (probe < 0)
		return;
	if (connect_to(probe, address) == ECONNREFUSED)
		::unlink(address.sun_path);
	::close(probe);
}

} // namespace

connection::~connection()
{
	if (fd_ >= 0)
		::close(fd_);
}

result<connection> connection::connect(const std::string& path, std::chrono::milliseconds patience)
{
	const auto address = address_of(path);
	if (!address)
		return std::unexpected(address.error());
	const auto deadline = std::chrono::steady_clock::now() + patience;
	for (;;) {
		auto fd = make_socket();
		if (!fd)
			return std::unexpected(fd.error());
		connection made(*fd);
		const int error = connect_to(*fd, *address);
		if (!error)
			return made;
		const bool absent = error == ENOENT || error == ECONNREFUSED;
		if (!absent || std::chrono::steady_clock::now() >= deadline)
			return sys::failure(error);
		std::this_thread::sleep_for(std::chrono::milliseconds(20));
	}
}

result<credentials> connection::peer() const
{
	ucred from = {};
	socklen_t length = sizeof(from);
	if (::getsockopt(fd_, SOL_SOCKET, SO_PEERCRED, &from, &length) < 0)
		return sys::last_failure();
	return credentials{from.pid, from.uid, from.gid};
}

result<void> connection::pass(endpoint&& end)
{
	greeting hello = our_greeting;
	iovec data = {&hello, sizeof(hello)};
	alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
	msghdr message = {};
	message.msg_iov = &data;
	message.msg_iovlen = 1;
	message.msg_control = control;
	message.msg_controllen = sizeof(control);
	cmsghdr* header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	const int fd = end.fd();
	std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	while (::sendmsg(fd_, &message, MSG_NOSIGNAL) < 0)
		if (errno != EINTR || sys::may_interrupt())
			return sys::last_failure();
	endpoint gone = std::move(end);
	return {};
}

result<endpoint> connection::take()
{
	greeting hello = {};
	iovec data = {&hello, sizeof(hello)};
	alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
	msghdr message = {};
	message.msg_iov = &data;
	message.msg_iovlen = 1;
	message.msg_control = control;
	message.msg_controllen = sizeof(control);
	ssize_t length = 0;
	while ((length = ::recvmsg(fd_, &message, MSG_CMSG_CLOEXEC)) < 0)
		if (errno != EINTR || sys::may_interrupt())
			return sys::last_failure();

	endpoint end;
	const cmsghdr* header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
	    header->cmsg_len == CMSG_LEN(sizeof(int))) {
		int fd = -1;
		std::memcpy(&fd, CMSG_DATA(header), sizeof(fd));
		end = endpoint(fd);
	}
	if (length == 0)
		return std::unexpected(make_error_code(errc::no_end_passed));
	if (length != sizeof(hello) || std::memcmp(&hello, &our_greeting, sizeof(hello)) != 0 || !end || !end.info())
		return std::unexpected(make_error_code(errc::bad_peer));
	return end;
}

result<listener> listener::listen(const std::string& path, mode_t mode)
{
	const auto address = address_of(path);
	if (!address)
		return std::unexpected(address.error());
	auto fd = make_socket();
	if (!fd)
		return std::unexpected(fd.error());
	remove_left_over(*address);
	listener made(*fd, {});
	if (::bind(*fd, reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) < 0)
		return sys::last_failure();
	made.path_ = path;
	// Nobody can connect before listen(), so the mode is right for whoever does.
	if (::chmod(path.c_str(), mode) < 0 || ::listen(*fd, 64) < 0)
		return sys::last_failure();
	return made;
}

listener::~listener()
{
	if (fd_ < 0)
		return;
	::close(fd_);
	if (!path_.empty())
		::unlink(path_.c_str());
}

result<connection> listener::accept()
{
	int fd = -1;
	while ((fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC)) < 0)
		if (errno != EINTR || sys::may_interrupt())
			return sys::last_failure();
	return connection(fd);
}

} // namespace fbuf
