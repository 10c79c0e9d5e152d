// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "tool.hpp"

#include <cstdio>

int main(int argc, char** argv)
{
	CLI::App app("Hand buffers from process to process without copying them, locked once they are sent.", "fbuf");
	app.require_subcommand(1);
	app.set_version_flag("--version", FBUF_VERSION);
	app.footer("Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the module is not loaded or does not fit,\n"
		   "4 no permission, 5 no peer, 6 content differs.\n"
		   "'fbuf COMMAND --help' has examples. See also fbuf(1), libfbuf(3), fbufs(4).");
	tool::add_send(app);
	tool::add_recv(app);
	tool::add_relay(app);
	tool::add_demo(app);
	tool::add_info(app);
	tool::add_bench(app);
	tool::add_completion(app);
	try {
		app.parse(argc, argv);
	} catch (const CLI::ParseError& error) {
		return app.exit(error) == 0 ? tool::ok : tool::usage;
	} catch (const tool::failure& failure) {
		std::fprintf(stderr, "fbuf: %s\n", failure.what().c_str());
		return failure.code();
	} catch (const std::bad_alloc&) {
		std::fputs("fbuf: no memory\n", stderr);
		return tool::failed;
	}
	return tool::ok;
}
