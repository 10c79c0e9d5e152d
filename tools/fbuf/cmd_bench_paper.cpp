// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The table of the paper of 1993 again, and from which size on fbufs win on this machine.

#include "bench_pattern.hpp"
#include "bench_run.hpp"
#include "cmd_bench.hpp"
#include "tool.hpp"

#include <cmath>
#include <cstdio>
#include <limits>

namespace tool {

namespace {

struct options {
	timing time;
	std::string output;
	std::string pattern = "pingpong";
	std::uint64_t messages = 128;
	std::size_t largest = 1 << 20;
	bool json = false;
};

void add_common(CLI::App& to, options& want)
{
	to.add_option("-n,--messages", want.messages, "how many messages to measure for each figure")
		->check(CLI::Range(4U, 1U << 20))
		->capture_default_str();
	add_timing(to, want.time);
	to.add_option("-o,--output", want.output, "append the records to a file instead of printing them");
}

// --- what a page more costs ------------------------------------------------------------

// A line of the paper's table: microseconds a page on a DecStation 5000/200, and what comes next to it here.
struct line {
	const char* name;
	const char* mechanism;
	double paper_us;
};

constexpr line lines[] = {
	{"fbufs, cached and volatile", "fbufs-volatile-cached", 3},
	{"fbufs, volatile", "fbufs-volatile-uncached", 21},
	{"fbufs, cached", "fbufs-secure-cached", 29},
	{"fbufs", "fbufs-secure-uncached", 37},
	{"copy-on-write", "cow", 159},
	{"copy", "process-vm-readv", 204},
};

constexpr std::size_t few_pages = 64;
constexpr std::size_t many_pages = 256;
constexpr int runs = 3;

// One word of each page is written by the originator and read by the receiver, as there. A message at a time, so that
// it does not matter how the two sides take turns; of some runs the least.
double nanoseconds(const line& of, std::size_t pages, const options& want)
{
	double least = std::numeric_limits<double>::infinity();
	for (int i = 0; i < runs; i++)
		least = std::min(least, bench::measure({of.mechanism,
							"pingpong",
							{pages * bench::touched_page, 1, bench::touch::page},
							want.messages})
						.ns);
	return least;
}

void run_per_page(const options& want)
{
	bench::records to(want.output);
	for (const line& each : lines) {
		if (usable_mechanisms({each.mechanism}).empty())
			continue;
		const double few = nanoseconds(each, few_pages, want);
		const double many = nanoseconds(each, many_pages, want);
		to.add({{"bench", "per-page"},
			{"line", each.name},
			{"mechanism", each.mechanism},
			{"pages_from", few_pages},
			{"pages_to", many_pages},
			{"ns", (many - few) / static_cast<double>(many_pages - few_pages)},
			{"paper_us", each.paper_us},
			{"clock", want.time.clock},
			{"turns", want.time.turns},
			{"messages", want.messages}});
	}
}

// --- from which size on ---------------------------------------------------------------------

constexpr std::size_t smallest = 64;
constexpr const char* rivals[] = {"unix-stream", "pipe", "memfd-sealed"};
// The rival that fbufs have in each mode of their own: the same channel, with what is sent copied into its queue.
constexpr const char* copying = "-copy";

using curve = std::vector<double>; // nanoseconds for each size

std::vector<std::size_t> sizes(const options& want)
{
	std::vector<std::size_t> all;
	for (std::size_t bytes = smallest; bytes <= want.largest; bytes *= 2)
		all.push_back(bytes);
	return all;
}

curve measure_curve(const std::string& mechanism, const options& want)
{
	curve all;
	for (const std::size_t bytes : sizes(want)) {
		if (bytes > bench::largest(mechanism)) {
			all.push_back(std::numeric_limits<double>::infinity());
			continue;
		}
		const auto fits = std::clamp<std::uint64_t>((16 << 20) / bytes, 8, want.messages);
		all.push_back(bench::measure({mechanism, want.pattern, {bytes, 1, bench::touch::page}, fits}).ns);
	}
	return all;
}

// The smallest size from which on `ours` is never above `theirs`, a straight line being between two
// measured sizes; nothing when it never is.
std::optional<std::size_t> crossover(const curve& ours, const curve& theirs, const options& want)
{
	const auto all = sizes(want);
	std::size_t at = all.size();
	while (at > 0 && ours[at - 1] <= theirs[at - 1])
		at--;
	if (at == all.size())
		return {};
	if (at == 0)
		return 0;
	const double before = ours[at - 1] - theirs[at - 1];
	const double after = theirs[at] - ours[at];
	const auto step = static_cast<double>(all[at] - all[at - 1]) * before / (before + after);
	return all[at - 1] + std::max<std::size_t>(static_cast<std::size_t>(std::ceil(step)), 1);
}

std::string words(const std::optional<std::size_t>& from)
{
	if (!from)
		return "never";
	return *from ? std::to_string(*from) : "always";
}

std::map<std::string, curve> measure_all(const std::vector<std::string>& mechanisms, const options& want)
{
	std::map<std::string, curve> all;
	for (const std::string& each : mechanisms) {
		all[each] = measure_curve(each, want);
		if (each.starts_with("fbufs"))
			all[each + copying] = measure_curve(each + copying, want);
	}
	return all;
}

void print_crossover(const std::string& mechanism, const std::map<std::string, curve>& measured, const options& want)
{
	const curve& ours = measured.at(mechanism);
	std::printf("%-26s", mechanism.c_str());
	for (const char* rival : rivals)
		std::printf("%14s",
			    measured.contains(rival) ? words(crossover(ours, measured.at(rival), want)).c_str() : "-");
	std::printf("%14s\n", words(crossover(ours, measured.at(mechanism + copying), want)).c_str());
}

void add_crossover(const std::string& mechanism, const std::map<std::string, curve>& measured, const options& want,
		   bench::records& to)
{
	const auto add = [&](const char* name, const std::string& rival) {
		const auto from = crossover(measured.at(mechanism), measured.at(rival), want);
		to.add({{"bench", "crossover"},
			{"mechanism", mechanism},
			{"against", name},
			{"pattern", want.pattern},
			{"bytes", from ? nlohmann::ordered_json(*from) : nlohmann::ordered_json()},
			{"clock", want.time.clock},
			{"turns", want.time.turns}});
	};
	for (const char* rival : rivals)
		if (measured.contains(rival))
			add(rival, rival);
	add("fbufs-copy", mechanism + copying);
}

// What sender::copy_below() is to be told: where handing over begins to be cheaper than copying into the queue.
void print_setting(const std::string& mechanism, const std::map<std::string, curve>& measured, const options& want)
{
	const auto from = crossover(measured.at(mechanism), measured.at(mechanism + copying), want);
	std::printf("copy-below %s %zu\n", mechanism.c_str(), from.value_or(want.largest + 1));
}

void run_crossover(const options& want)
{
	const auto can = usable_mechanisms({"fbufs-volatile-cached", "fbufs-secure-cached", "fbufs-volatile-uncached",
					    "fbufs-secure-uncached", "unix-stream", "pipe", "memfd-sealed"});
	const auto measured = measure_all(can, want);
	std::vector<std::string> modes;
	std::ranges::copy_if(can, std::back_inserter(modes),
			     [](const std::string& each) { return each.starts_with("fbufs"); });
	if (want.json || !want.output.empty()) {
		bench::records to(want.output);
		for (const std::string& each : modes)
			add_crossover(each, measured, want, to);
		return;
	}
	std::printf(
		"bytes of a message from which on fbufs cost less (%s, one word a page written and read)\n\n%-26s%14s%14s%14s%14s\n",
		want.pattern.c_str(), "", "unix-stream", "pipe", "memfd-sealed", "fbufs-copy");
	for (const std::string& each : modes)
		print_crossover(each, measured, want);
	std::printf("\n");
	for (const std::string& each : modes)
		print_setting(each, measured, want);
}

} // namespace

void add_bench_paper(CLI::App& bench)
{
	auto per_page = std::make_shared<options>();
	CLI::App* table = bench.add_subcommand("per-page", "What a page more costs, as the paper of 1993 has it");
	add_common(*table, *per_page);
	table->footer(
		"The figure is what a message of 256 pages costs above one of 64, by page, one message at a time, the least of\n"
		"three runs; each page is written and read.\n"
		"\"paper_us\" is what Druschel and Peterson measured. \"copy\" is process_vm_readv(2), the only copy that there is,\n"
		"and copy-on-write a private mapping of a memfd made for each message.\n"
		"Example:\n  fbuf bench per-page --clock icount");
	table->callback([per_page] {
		take_turns(per_page->time);
		run_per_page(*per_page);
	});

	auto want = std::make_shared<options>();
	CLI::App* from =
		bench.add_subcommand("crossover", "From which size of a message on fbufs cost less than other ways");
	add_common(*from, *want);
	from->add_option("-p,--pattern", want->pattern, "stream or pingpong, which is one message at a time")
		->check(CLI::IsMember({"stream", "pingpong"}))
		->capture_default_str();
	from->add_option("-l,--largest", want->largest,
			 "size of a message up to which to look; a suffix K, M is understood")
		->transform(CLI::AsSizeValue(false))
		->check(CLI::Range(std::size_t{4096}, std::size_t{16} << 20))
		->capture_default_str();
	from->add_flag("-j,--json", want->json, "records instead of the table");
	from->footer(
		"Prints a table, and for each mode a line with the setting for sender::copy_below() of libfbuf: the size below\n"
		"which it is cheaper to have a message copied into the queue (fbufs-copy; up to 16K) than to hand it over.\n"
		"It holds for this machine, on which it should be quiet.\nExample:\n  fbuf bench crossover -p stream");
	from->callback([want] {
		take_turns(want->time);
		run_crossover(*want);
	});
}

} // namespace tool
