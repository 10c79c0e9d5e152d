// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "cmd_bench.hpp"
#include "bench_pattern.hpp"
#include "bench_run.hpp"
#include "tool.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sched.h>

namespace tool {

namespace {

struct options {
	std::vector<std::string> mechanisms;
	std::vector<std::size_t> bytes = {64, 4096, 8192, 16384, 65536, 262144, 1048576, 4194304, 16777216};
	std::vector<unsigned> batches = {1, 32};
	std::uint64_t messages = 0; // 0: as many as are steady
	std::vector<std::string> patterns = {"stream", "pingpong"};
	std::vector<std::string> touches = {"header", "page"};
	bool explain = false;
	unsigned repeat = 0; // 0: once by instructions, three times by the wall
	timing time;
	std::string output;
};

// What copies lets up to a megabyte wait, fills and empties it in turn: several times that. Files of some 32 megabytes
// wait, or six larger ones; and three vectors of them, for the first ones differ by where the system's free memory is.
std::uint64_t several_fillings(const std::string& mechanism, const bench::shape& of)
{
	if (mechanism == "memfd-sealed")
		return std::clamp<std::uint64_t>((128 << 20) / of.bytes, of.batch == 1 ? 4 : 3 * of.batch, 8192);
	return mechanism.starts_with("fbufs") ? 8 : std::max<std::uint64_t>((2 << 20) / of.bytes, 4);
}

// Enough to be steady, few enough to end.
std::uint64_t message_count(const options& want, const std::string& mechanism, const std::string& pattern,
			    const bench::shape& of)
{
	const auto whole = [&](std::uint64_t count) { return (count + of.batch - 1) / of.batch * of.batch; };
	if (want.messages)
		return whole(want.messages);
	const bool header_only = of.how <= bench::touch::header;
	const bool free_of_size = header_only && (mechanism == "fbufs-volatile-cached" ||
						  mechanism == "fbufs-secure-cached" || mechanism == "uring-msg");
	// What a message leaves behind is freed by RCU, for some hundred messages at a time.
	const bool freed_in_heaps = mechanism == "memfd-sealed" || mechanism == "uring-msg";
	const bool copies_nothing = mechanism.starts_with("fbufs") || mechanism == "uring-msg" || mechanism == "mremap";
	const std::uint64_t budget = free_of_size		? 1ULL << 40
				     : mechanism == "uring-msg" ? 1ULL << 33
				     : copies_nothing		? 1ULL << 31
								: 1ULL << 26;
	// So many that what the kernel does on the side now and then, some 300,000 instructions at a time, is lost in
	// them.
	const std::uint64_t most = free_of_size || freed_in_heaps ? 8192 : mechanism.starts_with("fbufs") ? 4096 : 1024;
	const std::uint64_t fits = std::min(budget / of.bytes, most);
	// Each is one after the other there, and as long as two; or goes to several processes.
	if (pattern == "pingpong")
		return std::clamp<std::uint64_t>(fits, 4, freed_in_heaps ? 4096 : 1024);
	const std::uint64_t least = several_fillings(mechanism, of);
	return whole(std::max(pattern == "stream" ? fits : fits / 4, least));
}

class report {
public:
	explicit report(const options& want) : time_(want.time), to_(want.output) {}
	// `spread`: of several runs, how far they lie apart, of the middle one.
	void add(const bench::measurement& of, const bench::outcome& all, std::optional<double> spread)
	{
		nlohmann::ordered_json record = {
			{"bench", "transfer"},	 {"mechanism", of.mechanism},
			{"pattern", of.pattern}, {"bytes", of.of.bytes},
			{"batch", of.of.batch},	 {"touch", bench::name_of(of.of.how)},
			{"ns", all.ns},		 {"clock", time_.clock},
			{"turns", time_.turns},	 {"messages", all.messages},
		};
		if (spread) {
			record["spread"] = *spread;
			record["disturbed"] = *spread > most_spread;
			if (*spread > most_spread)
				std::fprintf(stderr,
					     "fbuf bench: disturbed: %s %s, %zu bytes: the runs differ by %.0f %%\n",
					     of.mechanism.c_str(), of.pattern.c_str(), of.of.bytes, *spread * 100);
		}
		if (of.mechanism.starts_with("fbufs") && of.pattern != "pingpong") {
			record["receiver_faults"] = all.consumer.faults;
			record["receiver_ptes"] = all.consumer.ptes;
			record["receiver_tlb_flushes"] = all.consumer.tlb_flushes;
		}
		if (all.latency)
			add_latency(record, *all.latency);
		if (all.explained)
			add_explanation(record, all);
		to_.add(record);
		empty_ = false;
	}
	[[nodiscard]] bool empty() const { return empty_; }

private:
	static constexpr double most_spread = 0.1;

	static void add_latency(nlohmann::ordered_json& record, const bench::latencies& of)
	{
		record["median"] = of.median;
		record["p99"] = of.p99;
		record["p999"] = of.p999;
		record["max"] = of.most;
		record["samples"] = of.samples;
	}
	// All of a message, as "ns" is; pingpong is two of them a round.
	static void add_explanation(nlohmann::ordered_json& record, const bench::outcome& all)
	{
		const auto messages = static_cast<double>(all.messages) * (record["pattern"] == "pingpong" ? 2 : 1);
		nlohmann::ordered_json why;
		for (const auto& [name, count] : all.explained->counts)
			why[name] = static_cast<double>(count) / messages;
		const auto samples = all.explained->samples_user + all.explained->samples_kernel;
		if (samples) {
			why["user_share"] =
				static_cast<double>(all.explained->samples_user) / static_cast<double>(samples);
			why["user_samples"] = samples;
		}
		if (all.caused) {
			why["fbufs_faults"] = static_cast<double>(all.caused->faults) / messages;
			why["fbufs_ptes"] = static_cast<double>(all.caused->ptes) / messages;
			why["fbufs_tlb_flushes"] = static_cast<double>(all.caused->tlb_flushes) / messages;
			why["fbufs_pages"] = static_cast<double>(all.caused->pages) / messages;
			why["fbufs_copied"] = static_cast<double>(all.caused->copied) / messages;
		}
		record["per_message"] = why;
	}

	timing time_;
	bench::records to_;
	bool empty_ = true;
};

unsigned repetitions(const options& want)
{
	return want.repeat ? want.repeat : (want.time.clock == "icount" ? 1 : 3);
}

void run_one(const options& want, const std::string& mechanism, const std::string& pattern, const bench::shape& of,
	     report& to)
{
	const bench::measurement what{mechanism, pattern, of, message_count(want, mechanism, pattern, of),
				      want.explain};
	std::vector<bench::outcome> runs;
	for (unsigned i = 0; i < repetitions(want); i++)
		runs.push_back(bench::measure(what));
	std::ranges::sort(runs, {}, &bench::outcome::ns);
	const bench::outcome& middle = runs[runs.size() / 2];
	std::optional<double> spread;
	if (runs.size() > 1)
		spread = (runs.back().ns - runs.front().ns) / middle.ns;
	to.add(what, middle, spread);
}

void run_size(const options& want, const std::string& mechanism, std::size_t bytes, report& to)
{
	for (const std::string& touch : want.touches)
		for (const std::string& pattern : want.patterns) {
			if (mechanism == "memcpy" && pattern != "stream")
				continue;
			const std::vector<unsigned> batches =
				pattern == "pingpong" ? std::vector<unsigned>{1} : want.batches;
			for (const unsigned batch : batches)
				run_one(want, mechanism, pattern, {bytes, batch, bench::touch_of(touch)}, to);
		}
}

void say_what_is_not_counted()
{
	const bench::observer all;
	for (const std::string& what : all.missing())
		std::fprintf(stderr, "fbuf bench: not counted: %s\n", what.c_str());
}

void run(options& want)
{
	take_turns(want.time);
	report to(want);
	if (want.explain)
		say_what_is_not_counted();
	for (const std::string& mechanism : usable_mechanisms(want.mechanisms))
		for (const std::size_t bytes : want.bytes) {
			if (bytes <= bench::largest(mechanism))
				run_size(want, mechanism, bytes, to);
			else
				std::fprintf(stderr, "fbuf bench: %s is left out for %zu bytes: it moves %zu at most\n",
					     mechanism.c_str(), bytes, bench::largest(mechanism));
		}
	if (to.empty())
		throw failure(failed, "nothing could be measured");
}

std::vector<std::string> strings(std::span<const char* const> names)
{
	return {names.begin(), names.end()};
}

std::string footer()
{
	std::string text = "Mechanisms:";
	for (const char* name : bench::mechanisms())
		text += std::string(" ") + name;
	text += "\nPatterns:";
	for (const char* name : bench::patterns())
		text += std::string(" ") + name;
	return text +
	       "\n(fan-N: one message to N receivers; pipeline-N: through N processes; many-N: from N senders).\n"
	       "fbufs-copy: messages up to 16K that the module copies into the queue, on a secure and cached channel.\n"
	       "What this machine lacks is left out, and the reason is printed.\n"
	       "A record is one JSON object a line; \"ns\" is per message, pingpong is half a round trip. --explain adds,\n"
	       "from messages sent after those that are timed: per message the system calls, context switches, faults,\n"
	       "TLB flushes, pages that the whole system allocated, the share of user space, and what the module counted;\n"
	       "hardware counters where there are any; and latencies, again of other messages: median, p99, p999 and max.\n"
	       "Those of pingpong are half a round trip. Those of the other patterns are from before a message is produced\n"
	       "until each receiver has checked it, over all receivers, and a batch is sent at one time: latencies under\n"
	       "load, for the producer never waits but for room, so that a message stands in line behind those before it.\n"
	       "Example:\n  fbuf bench transfer -m fbufs-secure-cached -m unix-stream -s 64K -s 1M -p stream";
}

void add_transfer(CLI::App& bench)
{
	auto want = std::make_shared<options>();
	CLI::App* transfer =
		bench.add_subcommand("transfer", "From process to process, all work of all of them counted");
	transfer->add_option("-m,--mechanism", want->mechanisms, "which; default: all (see below)");
	transfer->add_option("-s,--bytes", want->bytes, "payload of a message, 8 to 64M; a suffix K, M is understood")
		->transform(CLI::AsSizeValue(false))
		->check(CLI::Range(std::size_t{8}, std::size_t{64} << 20))
		->capture_default_str();
	transfer->add_option("-b,--batch", want->batches, "messages handed over at a time; not in pingpong")
		->check(CLI::Range(1U, 64U))
		->capture_default_str();
	transfer->add_option("-n,--messages", want->messages,
			     "how many messages to measure; 0: as many as give a steady figure")
		->capture_default_str();
	transfer->add_option("-p,--pattern", want->patterns, "which; all: every one")
		->check(CLI::IsMember(strings(bench::patterns())) | CLI::IsMember({"all"}))
		->capture_default_str();
	transfer->add_option("-t,--touch", want->touches,
			     "none, header (one word a message), page (one word a page), all (every word); "
			     "each of them is measured")
		->check(CLI::IsMember({"none", "header", "page", "all"}))
		->capture_default_str();
	transfer->add_flag("-e,--explain", want->explain, "also measure what the figures are made of");
	transfer->add_option("-r,--repeat", want->repeat,
			     "runs of each, of which the middle one is taken; 0: 3, or 1 with --clock icount")
		->check(CLI::Range(0U, 99U))
		->capture_default_str();
	add_timing(*transfer, want->time);
	transfer->add_option("-o,--output", want->output, "append the records to a file instead of printing them");
	transfer->footer(footer());
	transfer->callback([want] {
		if (std::ranges::find(want->patterns, "all") != want->patterns.end())
			want->patterns = strings(bench::patterns());
		run(*want);
	});
}

} // namespace

void add_timing(CLI::App& to, timing& want)
{
	to.add_option("--clock", want.clock,
		      "what to call the clock in the records: wall, or icount in a VM that counts instructions")
		->check(CLI::IsMember({"wall", "icount"}))
		->capture_default_str();
	to.add_option(
		  "--turns", want.turns,
		  "fair: the processes have their turns as the scheduler finds fair, and a figure depends on when each\n"
		  "comes; fifo: each works until it has to wait (SCHED_FIFO), and figures repeat.\n"
		  "Default: fifo with --clock icount, else fair")
		->check(CLI::IsMember({"fair", "fifo"}));
}

void take_turns(timing& want)
{
	if (want.turns.empty())
		want.turns = want.clock == "icount" ? "fifo" : "fair";
	const bool fifo = want.turns == "fifo";
	const sched_param first = {.sched_priority = fifo ? 1 : 0};
	if (::sched_setscheduler(0, fifo ? SCHED_FIFO : SCHED_OTHER, &first) < 0)
		throw failure(failed, std::string("cannot have turns ") + want.turns + ": " + std::strerror(errno) +
					      "; --turns fifo needs root or CAP_SYS_NICE, --turns fair does not");
}

std::vector<std::string> usable_mechanisms(const std::vector<std::string>& wanted)
{
	std::vector<std::string> can;
	for (const std::string& each : wanted.empty() ? strings(bench::mechanisms()) : wanted) {
		const std::string why = bench::missing(each);
		if (why.empty())
			can.push_back(each);
		else
			std::fprintf(stderr, "fbuf bench: %s is left out: %s\n", each.c_str(), why.c_str());
	}
	return can;
}

void add_bench(CLI::App& app)
{
	CLI::App* command =
		app.add_subcommand("bench", "Measure transfers of fbufs and of other mechanisms side by side");
	command->require_subcommand(1);
	add_transfer(*command);
	add_bench_alloc(*command);
	add_bench_fdio(*command);
	add_bench_paper(*command);
}

} // namespace tool
