// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "bench_link.hpp"
#include "bench_path.hpp"
#include "bench_run.hpp"
#include "bench_sender.hpp"
#include "cmd_bench.hpp"
#include "tool.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <ctime>
#include <functional>
#include <unistd.h>

namespace tool {

namespace {

struct options {
	std::vector<std::string> paths;
	std::vector<std::string> mechanisms;
	std::vector<std::size_t> bytes = {4096, 65536, 1048576};
	std::uint64_t messages = 0; // 0: as many as are steady
	timing time;
	std::string output;
};

struct measurement {
	std::string path;
	std::string mechanism;
	std::size_t bytes;
	std::uint64_t messages;
};

// Nanoseconds a message.
struct times {
	double both = 0;
	double sender = 0;
	std::optional<double> receiver;
	std::optional<double> copied;
};

// Memory of both processes.
struct common {
	std::atomic<std::uint64_t> received = 0;
	std::atomic<pid_t> sender = 0;
	bench::event all_received; // where the clocks start, and where they stop
	std::optional<double> copied;
};

using shared_state = bench::shared_memory<common>;

// What the clocks say at one moment. That of a process stands while it does not run; what the kernel
// does in its own processes is on none but the first.
struct moment {
	std::uint64_t both;
	std::uint64_t sender;
	std::uint64_t receiver;
};

moment read_clocks(pid_t sender)
{
	clockid_t of_sender = CLOCK_PROCESS_CPUTIME_ID;
	if (sender != 0 && ::clock_getcpuclockid(sender, &of_sender) != 0)
		throw failure(failed, "the clock of the other process cannot be read");
	return {bench::now_ns(), bench::now_ns(of_sender), bench::now_ns(CLOCK_PROCESS_CPUTIME_ID)};
}

double per_message(std::uint64_t from, std::uint64_t to, const measurement& of)
{
	return static_cast<double>(to - from) / static_cast<double>(of.messages);
}

std::uint64_t message_count(const options& want, std::size_t bytes)
{
	return want.messages ? want.messages : std::clamp<std::uint64_t>((128 << 20) / bytes, 64, 32768);
}

// Messages before the first that counts: every buffer has been used.
std::uint64_t warm_up_of(const measurement& of)
{
	return std::max<std::uint64_t>((32 << 20) / of.bytes, 8);
}

// Reads each message into a buffer of its own process, whichever way it was sent.
class receiver {
public:
	receiver(bench::descriptor from, const bench::job& job, common& state, bool takes = false)
		: from_(std::move(from)), job_(job), state_(state), buffer_(job.bytes, 1)
	{
		if (takes)
			taker_ = bench::make_fbufs_reader(from_.fd(), job);
	}
	// Nobody may wait for a receiver that has failed.
	~receiver()
	{
		state_.received = std::uint64_t{1} << 63;
		// Where the clocks start, and where they stop.
		state_.all_received.tell();
		state_.all_received.tell();
	}
	void receive(std::uint64_t from, std::uint64_t to)
	{
		for (std::uint64_t number = from; number < to; number++) {
			bench::check_words(taker_ ? taker_->next() : read_one(), job_.word_of(number),
					   bench::touch::header);
			state_.received.store(number + 1, std::memory_order_release);
		}
	}
	// All of them, and nothing of the last one is left to be done with the next.
	void receive_all(std::uint64_t from, std::uint64_t to)
	{
		receive(from, to);
		if (taker_)
			taker_->give_back();
	}
	void seek(std::uint64_t number) { ::lseek(from_.fd(), static_cast<off_t>(job_.offset_of(number)), SEEK_SET); }

private:
	std::span<const std::byte> read_one()
	{
		for (std::size_t have = 0; have < job_.bytes;)
			have += bench::moved(::read(from_.fd(), buffer_[0].data() + have, job_.bytes - have), "read");
		return buffer_[0];
	}

	bench::descriptor from_;
	std::unique_ptr<bench::reader> taker_;
	bench::job job_;
	common& state_;
	bench::buffers buffer_;
};

// Whether fbufs of one program arrive at another as they are.
bool is_local(const std::string& path)
{
	return path == "mem-unix" || path == "mem-pipe";
}

void send_messages(bench::sender& by, std::uint64_t from, std::uint64_t to)
{
	for (std::uint64_t number = from; number < to; number++)
		by.send(number);
}

// From when the warm-up is received to when the last message that counts is. All clocks are read by the
// receiver. Nothing is under way then: the sender waits, for it would be left to chance how much of what
// it is ahead is counted.
times measure_stream(const measurement& of, bench::job job, bench::ends ends)
{
	const shared_state state;
	job.to = ends.to.fd();
	job.received = &state->received;
	const std::uint64_t warm_up = warm_up_of(of);
	const std::uint64_t end = warm_up + of.messages;
	moment start = {};
	moment stop = {};
	bench::in_two(
		[&] {
			ends.from.close();
			state->sender = ::getpid();
			const auto by = bench::make_sender(of.mechanism, of.path, job);
			const auto send_all = [&](std::uint64_t first, std::uint64_t last) {
				send_messages(*by, first, last);
				// What is on its way in the background may need the sender to go on.
				by->finish();
				state->all_received.wait();
			};
			send_all(0, warm_up);
			send_all(warm_up, end);
			state->copied = by->copied();
		},
		[&] {
			ends.to.close();
			receiver to(std::move(ends.from), job, *state, of.mechanism == "fbufs" && is_local(of.path));
			bench::settle();
			to.receive_all(0, warm_up);
			start = read_clocks(state->sender);
			bench::mark_begin();
			state->all_received.tell();
			to.receive_all(warm_up, end);
			bench::mark_end();
			stop = read_clocks(state->sender);
			state->all_received.tell();
		});
	return {per_message(start.both, stop.both, of), per_message(start.sender, stop.sender, of),
		per_message(start.receiver, stop.receiver, of), state->copied};
}

// Nobody receives: what the file holds is checked when all is there.
times measure_file(const measurement& of, bench::job job, bench::ends ends)
{
	const shared_state state;
	job.to = ends.to.fd();
	job.received = &state->received;
	const std::uint64_t warm_up = warm_up_of(of);
	const std::uint64_t end = warm_up + of.messages;
	const auto by = bench::make_sender(of.mechanism, of.path, job);
	bench::settle();
	send_messages(*by, 0, warm_up);
	const moment start = read_clocks(0);
	bench::mark_begin();
	send_messages(*by, warm_up, end);
	bench::mark_end();
	const moment stop = read_clocks(0);
	by->finish();
	receiver check(std::move(ends.from), job, *state);
	for (std::uint64_t number = end - std::min<std::uint64_t>(end, bench::file_bytes / of.bytes); number < end;
	     number++) {
		check.seek(number);
		check.receive(number, number + 1);
	}
	return {per_message(start.both, stop.both, of), per_message(start.sender, stop.sender, of), {}, by->copied()};
}

class report {
public:
	explicit report(const options& want) : time_(want.time), to_(want.output) {}
	void add(const measurement& of, const times& took)
	{
		add(of, "both", took.both, took.copied);
		add(of, "sender", took.sender, took.copied);
		if (took.receiver)
			add(of, "receiver", *took.receiver, {});
	}
	[[nodiscard]] bool empty() const { return empty_; }

private:
	void add(const measurement& of, const char* side, double ns, std::optional<double> copied)
	{
		nlohmann::ordered_json record = {
			{"bench", "fdio"},	{"path", of.path},	{"mechanism", of.mechanism},
			{"side", side},		{"bytes", of.bytes},	{"ns", ns},
			{"clock", time_.clock}, {"turns", time_.turns}, {"messages", of.messages},
		};
		if (copied)
			record["copied"] = *copied;
		to_.add(record);
		empty_ = false;
	}

	timing time_;
	bench::records to_;
	bool empty_ = true;
};

// Now and then one is an outlier (TCP has a state of its own): the lower of two, or where they differ the middle one
// of three.
times measure_again(const std::function<times()>& measure)
{
	std::vector<times> runs = {measure(), measure()};
	const auto [least, most] = std::minmax(runs[0].both, runs[1].both);
	if (most > least * 1.01)
		runs.push_back(measure());
	std::ranges::sort(runs, {}, &times::both);
	return runs[(runs.size() - 1) / 2];
}

void run_path(const options& want, const std::string& name, const std::vector<std::string>& mechanisms, report& to)
{
	const auto path = bench::make_path(name);
	const bench::descriptor source = path->from_file() ? bench::make_source() : bench::descriptor();
	for (const std::string& mechanism : mechanisms) {
		if (!bench::sends_on(mechanism, name))
			continue;
		for (const std::size_t bytes : want.bytes) {
			const measurement of{name, mechanism, bytes, message_count(want, bytes)};
			bench::job job;
			job.bytes = bytes;
			job.source = source.fd();
			const auto measure = path->to_file() ? measure_file : measure_stream;
			to.add(of, measure_again([&] { return measure(of, job, path->open()); }));
		}
	}
}

void left_out(const std::string& what, const std::string& why)
{
	std::fprintf(stderr, "fbuf bench: %s is left out: %s\n", what.c_str(), why.c_str());
}

std::vector<std::string> usable(const std::vector<std::string>& mechanisms)
{
	std::vector<std::string> can;
	for (const std::string& each : mechanisms) {
		const std::string why = bench::sender_missing(each);
		if (why.empty())
			can.push_back(each);
		else
			left_out(each, why);
	}
	return can;
}

void run(options& want)
{
	take_turns(want.time);
	report to(want);
	const auto all = bench::paths();
	const auto mechanisms = usable(want.mechanisms.empty() ? bench::sender_names() : want.mechanisms);
	for (const std::string& path :
	     want.paths.empty() ? std::vector<std::string>(all.begin(), all.end()) : want.paths) {
		const auto sends = [&](const std::string& each) { return bench::sends_on(each, path); };
		if (std::ranges::none_of(mechanisms, sends))
			continue;
		try {
			run_path(want, path, mechanisms, to);
		} catch (const bench::unavailable& lack) {
			left_out(path, lack.why);
		}
	}
	if (to.empty())
		throw failure(failed, "nothing could be measured: no path that can be had here takes these mechanisms");
}

std::string footer()
{
	std::string text = "Paths:";
	for (const char* name : bench::paths())
		text += std::string(" ") + name;
	text += "\nMechanisms:";
	for (const std::string& name : bench::sender_names())
		text += " " + name;
	return text +
	       "\nA mechanism is measured on the paths on which it makes sense. *-veth (two network namespaces) and\n"
	       "mem-file-direct (a RAM disk) need root.\n"
	       "A record is one JSON object a line; \"ns\" is per message: of \"side\" both by the clock on the wall,\n"
	       "of sender and receiver by the processor time of the process; \"copied\" is the share of the messages\n"
	       "that the kernel says it copied although it was asked not to.\n"
	       "It is the lower of two measurements, or the middle one of three where these differ by more than 1 %.\n"
	       "Example:\n  fbuf bench fdio -P mem-tcp -m write -m msg-zerocopy -s 64K";
}

} // namespace

void add_bench_fdio(CLI::App& bench)
{
	auto want = std::make_shared<options>();
	CLI::App* fdio = bench.add_subcommand("fdio", "Through sockets, pipes and files, by all that Linux has for it");
	const auto all = bench::paths();
	fdio->add_option("-P,--path", want->paths, "which; default: all (see below)")
		->check(CLI::IsMember(std::vector<std::string>(all.begin(), all.end())));
	fdio->add_option("-m,--mechanism", want->mechanisms, "which; default: all (see below)")
		->check(CLI::IsMember(bench::sender_names()));
	fdio->add_option("-s,--bytes", want->bytes, "payload of a message, whole pages; a suffix K, M is understood")
		->transform(CLI::AsSizeValue(false))
		->check(CLI::Range(bench::touched_page, bench::file_bytes))
		->check([](const std::string& bytes) {
			return std::stoull(bytes) % bench::touched_page ? "Value " + bytes + " is not a multiple of 4K"
									: "";
		})
		->capture_default_str();
	fdio->add_option("-n,--messages", want->messages,
			 "how many messages to measure; 0: as many as give a steady figure")
		->capture_default_str();
	add_timing(*fdio, want->time);
	fdio->add_option("-o,--output", want->output, "append the records to a file instead of printing them");
	fdio->footer(footer());
	fdio->callback([want] { run(*want); });
}

} // namespace tool
