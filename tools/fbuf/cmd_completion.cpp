// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "tool.hpp"

#include <iostream>

namespace tool {

namespace {

// Words for the completion of one command: its subcommands and options.
std::string words_of(const CLI::App& command)
{
	std::string words;
	for (const CLI::App* sub : command.get_subcommands({}))
		words += sub->get_name() + " ";
	for (const CLI::Option* option : command.get_options()) {
		for (const std::string& name : option->get_lnames())
			words += "--" + name + " ";
	}
	return words;
}

void print_bash(const CLI::App& app)
{
	std::cout << "_fbuf() {\n"
		     "\tlocal word=${COMP_WORDS[COMP_CWORD]} words\n"
		     "\tcase ${COMP_WORDS[1]} in\n";
	for (const CLI::App* sub : app.get_subcommands({}))
		std::cout << "\t" << sub->get_name() << ") words='" << words_of(*sub) << "' ;;\n";
	std::cout << "\tesac\n"
		     "\t[ \"$COMP_CWORD\" -eq 1 ] && words='"
		  << words_of(app)
		  << "'\n"
		     "\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
		     "}\n"
		     "complete -o default -F _fbuf fbuf\n";
}

} // namespace

void add_completion(CLI::App& app)
{
	CLI::App* command = app.add_subcommand("completion", "Print the completion script for bash");
	command->footer("Example:\n  source <(fbuf completion)");
	command->callback([&app] { print_bash(app); });
}

} // namespace tool
