// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// cgi [-f] BYTES: a document of so many bytes, made by a program for a web server.

#include "stream.hpp"

#include <algorithm>
#include <cstdlib>
#include <unistd.h>

int main(int argc, char** argv)
{
	const bool fbufs = apps::take_option(argc, argv);
	if (argc != 2)
		apps::fail("usage: cgi [-f] BYTES");
	const auto to = apps::open_stream(fbufs, -1, STDOUT_FILENO);
	unsigned number = 0;
	for (std::size_t left = std::strtoul(argv[1], nullptr, 10); left > 0;) {
		const auto room = to->room(1);
		const std::size_t bytes = std::min(left, room.size());
		for (auto& each : room.first(bytes))
			each = static_cast<std::byte>('a' + number++ % 26);
		to->put(bytes);
		left -= bytes;
	}
	to->finish();
}
