// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// cat [-f] [-l PORT | -c PORT]: standard input to standard output; with -l the input is the first
// connection to that port of the loopback, with -c the output is a connection to it.

#include "stream.hpp"

#include <cstdlib>
#include <cstring>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

int connected(bool listens, const char* port)
{
	sockaddr_in address = {};
	address.sin_family = AF_INET;
	address.sin_port = htons(static_cast<in_port_t>(std::atoi(port)));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	auto* const at = reinterpret_cast<sockaddr*>(&address);
	const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
	const int on = 1;
	(void)::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (!listens)
		return ::connect(fd, at, sizeof(address)) < 0 ? -1 : fd;
	if (::bind(fd, at, sizeof(address)) < 0 || ::listen(fd, 1) < 0)
		return -1;
	return ::accept(fd, nullptr, nullptr);
}

} // namespace

int main(int argc, char** argv)
{
	const bool fbufs = apps::take_option(argc, argv);
	int in = STDIN_FILENO;
	int out = STDOUT_FILENO;
	if (argc == 3) {
		const bool listens = std::strcmp(argv[1], "-l") == 0;
		(listens ? in : out) = connected(listens, argv[2]);
	}
	if (in < 0 || out < 0)
		apps::fail("cat: no connection");
	const auto through = apps::open_stream(fbufs, in, out);
	while (!through->next().empty())
		through->pass();
	through->finish();
}
