// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "pump.hpp"

#include <memory>

namespace tool {

namespace {

struct options : pump_options {
	std::string from;
	std::string to;
};

void run(const options& want)
{
	place from = place::open(want.from, direction::from);
	place to = place::open(want.to, direction::to);
	pump(from, to, "relayed", want);
}

} // namespace

void add_relay(CLI::App& app)
{
	auto want = std::make_shared<options>();
	CLI::App* command = app.add_subcommand("relay", "Pass a stream on from one place to another through fbufs");
	command->add_option("from", want->from, std::string("where it comes from: ") + place_help)->required();
	command->add_option("to", want->to, std::string("where it goes to: ") + place_help)->required();
	add_pump_options(*command, *want);
	command->footer(
		"FROM tcp: and unix: listen for one connection, TO tcp: and unix: connect; tcp-listen:, tcp-connect:,\n"
		"unix-listen: and unix-connect: say which.\n"
		"Examples:\n"
		"  fbuf relay tcp:0.0.0.0:8000 unix:/run/app.sock\n"
		"  fbuf relay file:film.mkv tcp:player:9000\n"
		"The final line says what was copied, and why; it and progress go to standard error.");
	command->callback([want] { run(*want); });
}

} // namespace tool
