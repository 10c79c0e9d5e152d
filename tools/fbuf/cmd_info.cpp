// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "tool.hpp"

#include <cstdio>
#include <iostream>
#include <sys/utsname.h>

namespace tool {

namespace {

void print_text(const fbuf::capabilities& can, const fbuf::gauges& now, const utsname& machine)
{
	std::printf("module      interface version %u, Linux %s %s\n", can.version, machine.release, machine.machine);
	std::printf("limits      %u receivers a channel, %u messages a queue, %u slices a message, %u held messages\n",
		    can.max_receivers, can.max_depth, can.max_slices, can.max_held);
	std::printf("            %s an fbuf, %s a pool, pages of %u bytes\n",
		    human_bytes(static_cast<double>(can.max_bytes)).c_str(),
		    human_bytes(static_cast<double>(can.max_pool)).c_str(), can.page_size);
	std::printf("in use      %llu domains, %llu pools, %llu channels, %llu ends, %llu windows, %llu messages\n",
		    static_cast<unsigned long long>(now.domains), static_cast<unsigned long long>(now.pools),
		    static_cast<unsigned long long>(now.channels), static_cast<unsigned long long>(now.ends),
		    static_cast<unsigned long long>(now.windows), static_cast<unsigned long long>(now.messages));
	std::printf("            %llu fbufs in %llu pages, %s of metadata, %llu operations on descriptors\n",
		    static_cast<unsigned long long>(now.fbufs), static_cast<unsigned long long>(now.pages),
		    human_bytes(static_cast<double>(now.metadata)).c_str(), static_cast<unsigned long long>(now.io));
}

void print_json(const fbuf::capabilities& can, const fbuf::gauges& now, const utsname& machine)
{
	const nlohmann::ordered_json out = {
		{"version", can.version},
		{"kernel", machine.release},
		{"machine", machine.machine},
		{"limits",
		 {{"receivers", can.max_receivers},
		  {"depth", can.max_depth},
		  {"slices", can.max_slices},
		  {"held", can.max_held},
		  {"fbuf_bytes", can.max_bytes},
		  {"pool_bytes", can.max_pool},
		  {"page_size", can.page_size}}},
		{"in_use",
		 {{"domains", now.domains},
		  {"pools", now.pools},
		  {"channels", now.channels},
		  {"ends", now.ends},
		  {"windows", now.windows},
		  {"messages", now.messages},
		  {"fbufs", now.fbufs},
		  {"pages", now.pages},
		  {"metadata_bytes", now.metadata},
		  {"io", now.io}}},
	};
	std::cout << out.dump(2) << '\n';
}

void run(bool json)
{
	const auto domain = expect(fbuf::domain::open(), "cannot open /dev/fbufs");
	const auto can = expect(domain.query(), "cannot ask the module");
	const auto now = expect(domain.gauge(), "cannot ask the module");
	utsname machine = {};
	::uname(&machine);
	if (json)
		print_json(can, now, machine);
	else
		print_text(can, now, machine);
}

} // namespace

void add_info(CLI::App& app)
{
	auto json = std::make_shared<bool>(false);
	CLI::App* command = app.add_subcommand("info", "What the loaded module can do and what is in use");
	command->add_flag("-j,--json", *json, "as JSON");
	command->footer("Examples:\n"
			"  fbuf info\n"
			"  fbuf info --json | jq .in_use.pages\n"
			"Its own domain is among those in use.");
	command->callback([json] { run(*json); });
}

} // namespace tool
