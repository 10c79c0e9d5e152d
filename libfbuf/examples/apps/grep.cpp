// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// grep [-f] TEXT: the lines of standard input that contain it.

#include "stream.hpp"

#include <algorithm>
#include <string>
#include <unistd.h>

namespace {

void put(apps::stream& to, std::string_view line)
{
	while (!line.empty()) {
		const auto room = to.room(std::min(line.size(), apps::block));
		const std::size_t fits = std::min(room.size(), line.size());
		std::ranges::copy(std::as_bytes(std::span(line.substr(0, fits))), room.begin());
		to.put(fits);
		line.remove_prefix(fits);
	}
}

} // namespace

int main(int argc, char** argv)
{
	const bool fbufs = apps::take_option(argc, argv);
	if (argc != 2)
		apps::fail("usage: grep [-f] TEXT");
	const std::string_view wanted = argv[1];
	const auto through = apps::open_stream(fbufs, STDIN_FILENO, STDOUT_FILENO);
	const auto look_at = [&](std::string_view line) {
		if (line.find(wanted) != std::string_view::npos)
			put(*through, line);
	};
	std::string begun; // a line whose end is still to come
	for (auto bytes = through->next(); !bytes.empty(); bytes = through->next()) {
		std::string_view rest = apps::text(bytes);
		for (auto end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
			const std::string_view line = rest.substr(0, end + 1);
			if (begun.empty()) {
				look_at(line);
			} else {
				look_at(begun.append(line));
				begun.clear();
			}
			rest.remove_prefix(end + 1);
		}
		begun.append(rest);
	}
	look_at(begun);
	through->finish();
}
