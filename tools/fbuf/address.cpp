// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "address.hpp"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>
#include <unistd.h>

namespace tool {

namespace {

[[noreturn]] void fail(const std::string& doing, int error)
{
	throw failure(doing, std::error_code(error, std::generic_category()));
}

struct spec {
	std::string kind;
	std::string rest;
};

spec split(const std::string& text)
{
	if (text == "-")
		return {"-", ""};
	const auto colon = text.find(':');
	if (colon == std::string::npos)
		throw failure(usage, "'" + text + "' is none of " + place_help);
	return {text.substr(0, colon), text.substr(colon + 1)};
}

// HOST:PORT, [HOST]:PORT.
std::pair<std::string, std::string> host_and_port(const std::string& text)
{
	const auto colon = text.rfind(':');
	if (colon == std::string::npos || colon + 1 == text.size())
		throw failure(usage, "'" + text + "' is no HOST:PORT");
	std::string host = text.substr(0, colon);
	if (host.size() >= 2 && host.front() == '[' && host.back() == ']')
		host = host.substr(1, host.size() - 2);
	return {host, text.substr(colon + 1)};
}

// The first address at which `use` succeeds; it returns a descriptor or -1.
int internet(const std::string& text, int type, bool listens, int (*use)(int fd, const addrinfo& at))
{
	const auto [host, port] = host_and_port(text);
	addrinfo hints = {};
	hints.ai_socktype = type;
	hints.ai_flags = listens ? AI_PASSIVE : 0;
	addrinfo* list = nullptr;
	if (const int code = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &list); code)
		throw failure(no_peer, text + ": " + ::gai_strerror(code));
	int fd = -1, error = ENOENT;
	for (const addrinfo* at = list; at && fd < 0; at = at->ai_next) {
		fd = ::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
		if (fd >= 0 && use(fd, *at) < 0) {
			error = errno;
			::close(fd);
			fd = -1;
		}
	}
	::freeaddrinfo(list);
	if (fd < 0)
		fail((listens ? "cannot listen at " : "cannot connect to ") + text, error);
	return fd;
}

int connect_to(int fd, const addrinfo& at)
{
	return ::connect(fd, at.ai_addr, at.ai_addrlen);
}

int bind_to(int fd, const addrinfo& at)
{
	const int on = 1;
	::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	return ::bind(fd, at.ai_addr, at.ai_addrlen);
}

int accept_one(int listener, const std::string& text)
{
	const int fd = ::listen(listener, 1) < 0 ? -1 : ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
	const int error = errno;
	::close(listener);
	if (fd < 0)
		fail("waiting for a connection at " + text, error);
	return fd;
}

int unix_socket(const std::string& path, bool listens)
{
	sockaddr_un at = {};
	at.sun_family = AF_UNIX;
	if (path.empty() || path.size() >= sizeof(at.sun_path))
		throw failure(usage, "'" + path + "' is too long, or empty, for a UNIX socket");
	std::memcpy(at.sun_path, path.data(), path.size());
	const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const auto* address = reinterpret_cast<const sockaddr*>(&at);
	if (!listens) {
		if (::connect(fd, address, sizeof(at)) < 0)
			fail("cannot connect to " + path, errno);
		return fd;
	}
	if (::bind(fd, address, sizeof(at)) < 0)
		fail("cannot listen at " + path, errno);
	const int peer = accept_one(fd, path);
	::unlink(path.c_str());
	return peer;
}

int open_file(const std::string& path, direction way)
{
	const int fd = way == direction::from ? ::open(path.c_str(), O_RDONLY | O_CLOEXEC)
					      : ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		throw failure(failed, (way == direction::from ? "cannot read " : "cannot write ") + path + ": " +
					      std::strerror(errno));
	return fd;
}

int inherited(const std::string& number)
{
	int fd = -1;
	const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), fd);
	if (error != std::errc{} || end != number.data() + number.size() || ::fcntl(fd, F_GETFD) < 0)
		throw failure(usage, "fd:" + number + " is no open descriptor");
	return ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

} // namespace

place place::open(const std::string& text, direction way)
{
	const auto [kind, rest] = split(text);
	const bool from = way == direction::from;
	if (kind == "-")
		return {::dup(from ? STDIN_FILENO : STDOUT_FILENO), false, from ? "standard input" : "standard output"};
	if (kind == "tcp-connect" || (kind == "tcp" && !from))
		return {internet(rest, SOCK_STREAM, false, connect_to), false, text};
	if (kind == "tcp-listen" || kind == "tcp")
		return {accept_one(internet(rest, SOCK_STREAM, true, bind_to), text), false, text};
	if (kind == "udp")
		return {internet(rest, SOCK_DGRAM, from, from ? bind_to : connect_to), true, text};
	if (kind == "unix-connect" || (kind == "unix" && !from))
		return {unix_socket(rest, false), false, text};
	if (kind == "unix-listen" || kind == "unix")
		return {unix_socket(rest, true), false, text};
	if (kind == "file")
		return {open_file(rest, way), false, rest};
	if (kind == "fd")
		return {inherited(rest), false, text};
	throw failure(usage, "'" + text + "' is none of " + place_help);
}

place::~place()
{
	if (fd_ >= 0)
		::close(fd_);
}

void place::finish()
{
	// A datagram without bytes is the end that the other side of 'fbuf' understands.
	if (datagrams_)
		(void)::send(fd_, "", 0, MSG_NOSIGNAL);
	else
		(void)::shutdown(fd_, SHUT_WR);
	if (::close(std::exchange(fd_, -1)) < 0)
		throw failure(failed, "cannot write " + name_ + ": " + std::strerror(errno));
}

} // namespace tool
