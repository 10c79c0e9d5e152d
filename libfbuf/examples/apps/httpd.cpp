// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// httpd [-f] PORT REQUESTS: a web server at the loopback. GET /BYTES runs the program cgi, which lies
// beside this one, and hands on what it writes into a pipe. Ends after so many requests.

#include "stream.hpp"

#include <array>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

int listen_at(const char* port)
{
	sockaddr_in address = {};
	address.sin_family = AF_INET;
	address.sin_port = htons(static_cast<in_port_t>(std::atoi(port)));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int on = 1;
	(void)::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0 || ::listen(fd, 8) < 0)
		apps::fail("httpd: cannot listen");
	return fd;
}

// The number in "GET /NUMBER ".
std::string wanted(int client)
{
	std::array<char, 4096> request = {};
	std::size_t have = 0;
	while (have < request.size() - 1 && !std::strstr(request.data(), "\r\n\r\n")) {
		const ssize_t n = ::read(client, request.data() + have, request.size() - 1 - have);
		if (n <= 0)
			break;
		have += static_cast<std::size_t>(n);
	}
	const std::string_view line(request.data());
	if (!line.starts_with("GET /"))
		return "0";
	return std::to_string(std::strtoul(request.data() + 5, nullptr, 10));
}

pid_t start_cgi(const std::string& program, bool fbufs, const std::string& bytes, int out)
{
	const pid_t pid = ::fork();
	if (pid)
		return pid;
	::dup2(out, STDOUT_FILENO);
	if (fbufs)
		::execl(program.c_str(), "cgi", "-f", bytes.c_str(), nullptr);
	else
		::execl(program.c_str(), "cgi", bytes.c_str(), nullptr);
	::_exit(127);
}

void serve(int client, const std::string& program, bool fbufs)
{
	std::array<int, 2> ends = {};
	if (::pipe2(ends.data(), O_CLOEXEC) < 0)
		apps::fail("httpd: no pipe");
	const std::string bytes = wanted(client);
	const pid_t cgi = start_cgi(program, fbufs, bytes, ends[1]);
	::close(ends[1]);
	const std::string head = "HTTP/1.0 200 OK\r\nContent-Length: " + bytes + "\r\n\r\n";
	if (::write(client, head.data(), head.size()) < 0)
		apps::fail("httpd: the client is gone");
	{
		const auto through = apps::open_stream(fbufs, ends[0], client);
		while (!through->next().empty())
			through->pass();
		through->finish();
	}
	::close(ends[0]);
	::waitpid(cgi, nullptr, 0);
}

} // namespace

int main(int argc, char** argv)
{
	const std::string own = argv[0];
	const std::string program = own.substr(0, own.rfind('/') + 1) + "cgi";
	const bool fbufs = apps::take_option(argc, argv);
	if (argc != 3)
		apps::fail("usage: httpd [-f] PORT REQUESTS");
	const int listener = listen_at(argv[1]);
	for (int i = std::atoi(argv[2]); i > 0; i--) {
		const int client = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
		serve(client, program, fbufs);
		::close(client);
	}
}
