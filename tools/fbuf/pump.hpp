// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// From one descriptor to another, through fbufs unless that is not wanted, as 'fbuf send --to', 'recv --from' and
// 'relay' do.
#pragma once

#include "address.hpp"

namespace tool {

struct pump_options {
	std::size_t block = 256 << 10;
	std::uint64_t pool = 0;
	bool copy = false; // even what could be taken as it comes
	bool lock = true;  // through fbufs; else a file's own pages may go, which anybody may write meanwhile
	bool checksum = false;
	bool json = false;
	bool quiet = false;
};

void add_pump_options(CLI::App& command, pump_options& want);

// Whether it is known, before an fbuf is taken to read into, that there is nothing to read: the pool may have none
// left. Of what is no file it is not known.
bool at_end(int fd);

// Everything, up to the end; prints the final line.
void pump(place& from, place& to, const std::string& role, const pump_options& want);

} // namespace tool
