// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// What the subcommands of `fbuf bench` share.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

namespace tool {

// Those that this machine has, in order; for the others says why not. None: all there are.
std::vector<std::string> usable_mechanisms(const std::vector<std::string>& wanted);

// What tells the time of a measurement, and who gives its processes their turns on a processor.
struct timing {
	std::string clock = "wall";
	std::string turns; // not given: those that go with the clock
};

void add_timing(CLI::App& to, timing& want);
// From here on this process and those that it starts have their turns as wanted. Throws tool::failure.
void take_turns(timing& want);

void add_bench_alloc(CLI::App& bench);
void add_bench_fdio(CLI::App& bench);
void add_bench_paper(CLI::App& bench);

} // namespace tool
