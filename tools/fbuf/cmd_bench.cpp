// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "bench_link.hpp"
#include "bench_run.hpp"
#include "tool.hpp"

#include <unistd.h>

namespace tool {

void add_bench_fdio(CLI::App& bench);

namespace {

struct options {
	std::vector<std::string> mechanisms;
	std::vector<std::size_t> bytes = {64,      4096,    8192,    16384,   65536,
					  262144, 1048576, 4194304, 16777216};
	std::vector<unsigned> batches = {1, 32};
	std::uint64_t messages = 0; // 0: as many as are steady
	std::string pattern = "all";
	std::string touch = "all";
	std::string clock = "wall";
	std::string output;
};

struct measurement {
	std::string mechanism;
	std::string pattern;
	bench::shape shape;
	std::uint64_t messages;
};

// Enough to be steady, few enough to end.
std::uint64_t message_count(const options& want, const std::string& mechanism, const bench::shape& of)
{
	if (want.messages)
		return (want.messages + of.batch - 1) / of.batch * of.batch;
	const bool free_of_size = mechanism.starts_with("fbufs-volatile-cached") && of.how == bench::touch::header;
	const std::uint64_t budget = free_of_size ? 1ULL << 40 : (mechanism.starts_with("fbufs") ? 1ULL << 29 : 1ULL << 26);
	const std::uint64_t fits = budget / of.bytes;
	const std::uint64_t count = std::clamp<std::uint64_t>(fits, 8, free_of_size ? 8192 : 1024);
	return (count + 2 * of.batch - 1) / of.batch * of.batch;
}

// Messages before the first that counts: every fbuf and every page of a buffer has been used by then.
std::uint64_t warm_up_of(const bench::shape& of)
{
	return std::uint64_t{bench::queue_depth(of)} * 4;
}

// The producer is ahead of the consumer by what the queue holds, when the clock starts. So that it is
// as far ahead when the clock stops, it goes on producing for a while.
void produce_stream(bench::link& link, const measurement& of)
{
	const std::uint64_t end = warm_up_of(of.shape) + of.messages + warm_up_of(of.shape);
	for (std::uint64_t done = 0; done < end; done += of.shape.batch)
		link.produce(done, of.shape.batch);
}

void consume_until(bench::link& link, std::uint64_t from, std::uint64_t to, unsigned batch)
{
	while (from < to)
		from += link.consume(from, static_cast<unsigned>(std::min<std::uint64_t>(batch, to - from)));
}

bench::effort difference(const bench::effort& a, const bench::effort& b)
{
	return {a.faults - b.faults, a.ptes - b.ptes, a.tlb_flushes - b.tlb_flushes, a.pages - b.pages};
}

// Time from when the warm-up is consumed to when the last message that counts is. A single clock, read
// by the consumer: whatever either process does in between is counted.
double measure_stream(const measurement& of, bench::effort& effort)
{
	const std::uint64_t warm_up = warm_up_of(of.shape);
	auto link = bench::make_link(of.mechanism, of.shape);
	std::uint64_t elapsed = 0;
	bench::in_two(
		[&] {
			link->open_producer();
			produce_stream(*link, of);
			::_exit(ok);
		},
		[&] {
			link->open_consumer();
			bench::settle();
			consume_until(*link, 0, warm_up, of.shape.batch);
			const auto before = link->caused();
			const std::uint64_t start = bench::now_ns();
			bench::mark_begin();
			consume_until(*link, warm_up, warm_up + of.messages, of.shape.batch);
			bench::mark_end();
			elapsed = bench::now_ns() - start;
			effort = difference(link->caused(), before);
			consume_until(*link, warm_up + of.messages, 2 * warm_up + of.messages, of.shape.batch);
		});
	return static_cast<double>(elapsed) / static_cast<double>(of.messages);
}

// Half a round trip.
double measure_pingpong(const measurement& of)
{
	auto there = bench::make_link(of.mechanism, of.shape);
	auto back = bench::make_link(of.mechanism, of.shape);
	const std::uint64_t warm_up = std::uint64_t{bench::queue_depth(of.shape)} * 2;
	// One more, so that the end of the other process is not counted.
	const std::uint64_t end = warm_up + of.messages + 1;
	std::uint64_t elapsed = 0;
	bench::in_two(
		[&] {
			there->open_consumer();
			back->open_producer();
			for (std::uint64_t i = 0; i < end; i++) {
				consume_until(*there, i, i + 1, 1);
				back->produce(i, 1);
			}
			::_exit(ok);
		},
		[&] {
			there->open_producer();
			back->open_consumer();
			bench::settle();
			std::uint64_t start = 0;
			for (std::uint64_t i = 0; i < end; i++) {
				if (i == warm_up) {
					start = bench::now_ns();
					bench::mark_begin();
				}
				if (i == end - 1) {
					bench::mark_end();
					elapsed = bench::now_ns() - start;
				}
				there->produce(i, 1);
				consume_until(*back, i, i + 1, 1);
			}
		});
	return static_cast<double>(elapsed) / static_cast<double>(of.messages) / 2;
}

class report {
public:
	explicit report(const options& want) : clock_(want.clock), to_(want.output) {}
	void add(const measurement& of, double ns, const bench::effort& effort)
	{
		nlohmann::ordered_json record = {
			{"bench", "transfer"},
			{"mechanism", of.mechanism},
			{"pattern", of.pattern},
			{"bytes", of.shape.bytes},
			{"batch", of.shape.batch},
			{"touch", of.shape.how == bench::touch::header ? "header" : "page"},
			{"ns", ns},
			{"clock", clock_},
			{"messages", of.messages},
		};
		if (of.mechanism.starts_with("fbufs") && of.pattern == "stream") {
			record["receiver_faults"] = effort.faults;
			record["receiver_ptes"] = effort.ptes;
			record["receiver_tlb_flushes"] = effort.tlb_flushes;
		}
		to_.add(record);
	}

private:
	std::string clock_;
	bench::records to_;
};

void run_one(const measurement& of, report& to)
{
	bench::effort effort;
	const double ns = of.pattern == "stream" ? measure_stream(of, effort) : measure_pingpong(of);
	to.add(of, ns, effort);
}

void run(const options& want)
{
	report to(want);
	const auto all = bench::mechanisms();
	const std::vector<std::string> mechanisms =
		want.mechanisms.empty() ? std::vector<std::string>(all.begin(), all.end()) : want.mechanisms;
	for (const std::string& mechanism : mechanisms)
		for (const std::size_t bytes : want.bytes)
			for (const auto how : {bench::touch::header, bench::touch::page}) {
				if (want.touch != "all" && (want.touch == "page") != (how == bench::touch::page))
					continue;
				const bool streams = want.pattern != "pingpong";
				const bool pingpongs = want.pattern != "stream" && mechanism != "memcpy";
				for (const unsigned batch : want.batches) {
					measurement of{mechanism, "stream", {bytes, batch, how}, 0};
					of.messages = message_count(want, mechanism, of.shape);
					if (streams)
						run_one(of, to);
				}
				measurement of{mechanism, "pingpong", {bytes, 1, how}, 0};
				of.messages = std::min<std::uint64_t>(message_count(want, mechanism, of.shape), want.messages ? want.messages : 256);
				if (pingpongs)
					run_one(of, to);
			}
}

} // namespace

void add_bench(CLI::App& app)
{
	auto want = std::make_shared<options>();
	CLI::App* command = app.add_subcommand("bench", "Measure transfers of fbufs and of other mechanisms side by side");
	CLI::App* transfer = command->add_subcommand("transfer", "From one process to another, all work of both counted");
	command->require_subcommand(1);
	transfer->add_option("-m,--mechanism", want->mechanisms, "which; default: all (see below)");
	transfer->add_option("-s,--bytes", want->bytes, "payload of a message; a suffix K, M is understood")
		->transform(CLI::AsSizeValue(false))
		->capture_default_str();
	transfer->add_option("-b,--batch", want->batches, "messages handed over at a time, in the stream")
		->check(CLI::Range(1U, 64U))
		->capture_default_str();
	transfer->add_option("-n,--messages", want->messages, "how many messages to measure; 0: as many as give a steady figure")
		->capture_default_str();
	transfer->add_option("-p,--pattern", want->pattern, "stream, pingpong or all")
		->check(CLI::IsMember({"stream", "pingpong", "all"}))
		->capture_default_str();
	transfer->add_option("-t,--touch", want->touch, "header (one word a message), page (one word a page) or all")
		->check(CLI::IsMember({"header", "page", "all"}))
		->capture_default_str();
	transfer->add_option("--clock", want->clock, "what to call the clock in the records: wall, or icount in a VM that counts "
						     "instructions")
		->check(CLI::IsMember({"wall", "icount"}))
		->capture_default_str();
	transfer->add_option("-o,--output", want->output, "append the records to a file instead of printing them");
	std::string footer = "Mechanisms:";
	for (const char* name : bench::mechanisms())
		footer += std::string(" ") + name;
	footer += "\nA record is one JSON object a line; \"ns\" is per message, pingpong is half a round trip.\n"
		  "Example:\n  fbuf bench transfer -m fbufs-secure-cached -m unix-stream -s 64K -s 1M -p stream";
	transfer->footer(footer);
	transfer->callback([want] { run(*want); });
	add_bench_fdio(*command);
}

} // namespace tool
