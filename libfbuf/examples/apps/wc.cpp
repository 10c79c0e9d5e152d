// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// wc [-f]: lines, words and bytes of standard input.

#include "stream.hpp"

#include <cstdio>
#include <unistd.h>

int main(int argc, char** argv)
{
	const bool fbufs = apps::take_option(argc, argv);
	const auto from = apps::open_stream(fbufs, STDIN_FILENO, -1);
	unsigned long lines = 0;
	unsigned long words = 0;
	unsigned long bytes = 0;
	bool within = false;
	for (auto block = from->next(); !block.empty(); block = from->next()) {
		bytes += block.size();
		for (const char each : apps::text(block)) {
			const bool space = each == ' ' || (each >= '\t' && each <= '\r');
			lines += each == '\n';
			words += !space && !within;
			within = !space;
		}
	}
	std::printf("%lu %lu %lu\n", lines, words, bytes);
}
