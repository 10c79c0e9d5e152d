// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// permute [-f] NUMBER: all permutations of so many words of four letters, one a line.

#include "stream.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

int main(int argc, char** argv)
{
	constexpr std::array words = {"both", "fast", "free", "hold", "lock", "page", "pool", "read", "send", "take"};
	const bool fbufs = apps::take_option(argc, argv);
	const std::size_t count = argc == 2 ? std::strtoul(argv[1], nullptr, 10) : 0;
	if (count < 1 || count > words.size())
		apps::fail("usage: permute [-f] 1..10");
	std::array<std::size_t, words.size()> order = {};
	for (std::size_t i = 0; i < count; i++)
		order[i] = i;
	const auto to = apps::open_stream(fbufs, -1, STDOUT_FILENO);
	const std::size_t length = count * 4 + 1;
	do {
		auto* const line = reinterpret_cast<char*>(to->room(length).data());
		for (std::size_t i = 0; i < count; i++)
			std::memcpy(line + i * 4, words[order[i]], 4);
		line[length - 1] = '\n';
		to->put(length);
	} while (std::next_permutation(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count)));
	to->finish();
}
