// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "bench_pattern.hpp"
#include "bench_run.hpp"

#include <array>
#include <atomic>
#include <charconv>

namespace bench {

namespace {

constexpr const char* names[] = {
	"stream",     "pingpong",   "fan-1",  "fan-2",	"fan-4",  "fan-8",
	"pipeline-3", "pipeline-5", "many-2", "many-4", "many-8",
};

constexpr std::size_t most_processes = 16;

// How many processes do what.
struct cast {
	unsigned sources = 1;
	unsigned forwarders = 0;
	unsigned receivers = 1; // which do nothing else
};

// Which messages a phase consists of: to warm up, to measure, to explain, to come under load, to time each by itself,
// and to end with. Nothing is under way when those begin that are measured, or explained, and when they end: a producer
// is ahead by what the queue holds, and it would be left to chance how much of its work is counted.
struct plan {
	std::uint64_t measured = 0; // the first that counts
	std::uint64_t explained = 0;
	std::uint64_t loading = 0;
	std::uint64_t timed = 0;
	std::uint64_t rest = 0;
	std::uint64_t end = 0;

	plan() = default; // for rounds, which are counted by who plays
	plan(const measurement& what, const cast& who, std::uint64_t warm_up, std::uint64_t messages)
	{
		const unsigned batch = what.of.batch;
		const auto whole = [&](std::uint64_t count) { return (count + batch - 1) / batch * batch; };
		const bool has_journeys = what.explain && who.sources > 0;
		measured = whole(warm_up);
		explained = measured + whole(messages);
		loading = explained + (what.explain ? whole(messages) : 0);
		timed = loading + (has_journeys ? whole(warm_up) : 0);
		rest = timed + (has_journeys ? whole(messages) : 0);
		end = rest + (has_journeys ? whole(warm_up) : 0);
	}
};

// What the processes tell the one that started them.
struct common {
	std::array<std::uint64_t, most_processes> started = {}; // when each source began with what counts
	std::array<std::uint64_t, most_processes> stopped = {}; // when each receiver was done with it
	std::atomic<unsigned> arrivals = 0;			// of receivers where they have all that was sent
	std::array<effort, most_processes> before = {};
	std::array<effort, most_processes> after = {};
	effort consumer;
	latencies latency = {};
	std::array<event, most_processes> all_received; // told to each source
	event finished;					// told to who must stay until everything is received
};

effort difference(const effort& a, const effort& b)
{
	return {a.faults - b.faults, a.ptes - b.ptes, a.tlb_flushes - b.tlb_flushes, a.pages - b.pages,
		a.copied - b.copied};
}

void add(effort& to, const effort& what)
{
	to.faults += what.faults;
	to.ptes += what.ptes;
	to.tlb_flushes += what.tlb_flushes;
	to.pages += what.pages;
	to.copied += what.copied;
}

// One measurement: what its processes share.
class run {
public:
	run(const measurement& what, const plan& when, const cast& who) : what_(what), when_(when), who_(who)
	{
		if (what.explain)
			observer_.emplace();
		if (when.rest > when.timed)
			journeys_.emplace(when.rest - when.timed, what.of.batch, who.sources, who.receivers);
	}

	// The roles of sources come first.
	void produce(link& to, unsigned role)
	{
		prepare();
		to.open_producer();
		produce_until(to, role, 0, when_.measured);
		shared_->all_received[role].wait();
		start_the_clock(role);
		produce_until(to, role, when_.measured, when_.explained);
		shared_->all_received[role].wait();
		produce_until(to, role, when_.explained, when_.loading);
		if (what_.explain)
			shared_->all_received[role].wait();
		produce_until(to, role, when_.loading, when_.timed);
		produce_until(to, role, when_.timed, when_.rest,
			      [&](std::uint64_t at) { journeys_->depart(role, at - when_.timed); });
		produce_until(to, role, when_.rest, when_.end);
		stay();
	}
	void forward(link& from, link& to, unsigned role)
	{
		from.open_consumer(0);
		to.open_forwarder(from);
		for (std::uint64_t done = 0; done < when_.end;) {
			account(from, done, role);
			const unsigned count = from.consume(done, what_.of.batch);
			to.forward(from, done, count);
			done += count;
		}
		stay();
	}
	// A single clock: whatever any process does in between is counted.
	void consume(std::span<const std::unique_ptr<link>> from, unsigned index, unsigned role)
	{
		prepare();
		for (const auto& each : from)
			each->open_consumer(index);
		settle();
		finish_until(from, 0, when_.measured);
		const effort before = from[0]->caused();
		all_received([this] {
			if (who_.sources == 0)
				start_the_clock(0);
		});
		finish_until(from, when_.measured, when_.explained);
		mark_end();
		shared_->stopped[index] = now_ns();
		const effort after = from[0]->caused();
		if (index == 0)
			shared_->consumer = difference(after, before);
		shared_->before[role] = after;
		all_received([this] {
			if (what_.explain)
				observer_->begin();
		});
		consume_explained(from, role);
		consume_timed(from, index);
		consume_until(from, when_.rest, when_.end);
		let_go();
	}
	[[nodiscard]] outcome result(std::uint64_t messages) const
	{
		outcome all;
		const auto started = std::span(shared_->started).first(std::max(who_.sources, 1U));
		const std::uint64_t elapsed = std::ranges::max(shared_->stopped) - std::ranges::min(started);
		all.ns = static_cast<double>(elapsed) / static_cast<double>(messages);
		all.messages = messages;
		all.consumer = shared_->consumer;
		finish(all);
		return all;
	}

	// Half a round trip. One more in the end, so that the end of the other process is not counted.
	void reflect(link& there, link& back, std::uint64_t end)
	{
		there.open_consumer(0);
		back.open_producer();
		there.consume(0, 1);
		for (std::uint64_t i = 0; i + 1 < end; i++)
			back.exchange(i, there, i + 1);
		back.produce(end - 1, 1);
		stay();
	}
	void play(link& there, link& back, std::uint64_t warm_up)
	{
		there.open_producer();
		back.open_consumer(0);
		settle();
		const auto round = [&](std::uint64_t i) { there.exchange(i, back, i); };
		std::uint64_t at = 0;
		while (at < warm_up)
			round(at++);
		shared_->started[0] = now_ns();
		mark_begin();
		while (at < warm_up + what_.messages)
			round(at++);
		mark_end();
		shared_->stopped[0] = now_ns();
		if (what_.explain)
			explain_rounds(round, at);
		round(at);
		let_go();
	}
	[[nodiscard]] outcome result_of_rounds() const
	{
		outcome half = result(what_.messages);
		half.ns /= 2;
		if (what_.explain)
			half.latency = shared_->latency;
		return half;
	}

private:
	void prepare() const
	{
		if (journeys_)
			journeys_->prepare();
	}
	// A receiver has all that was sent. The last one does `then` before the sources go on; none comes here again
	// before.
	template <typename Then>
	void all_received(const Then& then) const
	{
		if (++shared_->arrivals % who_.receivers != 0)
			return;
		then();
		for (unsigned i = 0; i < who_.sources; i++)
			shared_->all_received[i].tell();
	}
	void start_the_clock(unsigned role)
	{
		shared_->started[role] = now_ns();
		if (role == 0)
			mark_begin();
	}
	// What was sent may lie in the memory of who sent it.
	void stay() const
	{
		for (unsigned i = 0; i < who_.receivers; i++)
			shared_->finished.wait();
	}
	void let_go() const
	{
		for (unsigned i = 0; i < who_.sources + who_.forwarders; i++)
			shared_->finished.tell();
	}
	template <typename Before>
	void produce_until(link& to, unsigned role, std::uint64_t first, std::uint64_t end, const Before& before)
	{
		for (; first < end; first += what_.of.batch) {
			account(to, first, role);
			before(first);
			to.produce(first, what_.of.batch);
		}
	}
	void produce_until(link& to, unsigned role, std::uint64_t first, std::uint64_t end)
	{
		produce_until(to, role, first, end, [](std::uint64_t) {});
	}
	// `then` is told of which link, from which message on, and how many.
	template <typename Then>
	static void consume_in_turn(std::span<const std::unique_ptr<link>> from, std::uint64_t first, std::uint64_t to,
				    unsigned batch, const Then& then)
	{
		for (std::uint64_t at = first; at < to; at += batch)
			for (unsigned i = 0; i < from.size(); i++)
				for (std::uint64_t own = at; own < at + batch;) {
					const unsigned count =
						from[i]->consume(own, static_cast<unsigned>(at + batch - own));
					then(i, own, count);
					own += count;
				}
	}
	template <typename Then>
	void consume_until(std::span<const std::unique_ptr<link>> from, std::uint64_t first, std::uint64_t to,
			   const Then& then) const
	{
		if (from.size() > 1)
			return consume_in_turn(from, first, to, what_.of.batch, then);
		while (first < to) {
			const auto most = static_cast<unsigned>(std::min<std::uint64_t>(what_.of.batch, to - first));
			const unsigned count = from[0]->consume(first, most);
			then(0, first, count);
			first += count;
		}
	}
	void consume_until(std::span<const std::unique_ptr<link>> from, std::uint64_t first, std::uint64_t to) const
	{
		consume_until(from, first, to, [](unsigned, std::uint64_t, unsigned) {});
	}
	// Nothing of it is left to be done with the next.
	void finish_until(std::span<const std::unique_ptr<link>> from, std::uint64_t first, std::uint64_t to) const
	{
		consume_until(from, first, to);
		for (const auto& each : from)
			each->give_back();
	}
	void consume_explained(std::span<const std::unique_ptr<link>> from, unsigned role)
	{
		if (!what_.explain)
			return;
		finish_until(from, when_.explained, when_.loading);
		shared_->after[role] = from[0]->caused();
		all_received([this] { observer_->end(); });
		consume_until(from, when_.loading, when_.timed);
	}
	void consume_timed(std::span<const std::unique_ptr<link>> from, unsigned index) const
	{
		consume_until(from, when_.timed, when_.rest, [&](unsigned source, std::uint64_t first, unsigned count) {
			journeys_->arrive(index, source, first - when_.timed, count);
		});
	}
	// A process that does not only consume knows by the number of the message where it is.
	void account(link& of, std::uint64_t number, unsigned role)
	{
		if (!what_.explain)
			return;
		if (accounts_ == 0 && number >= when_.explained) {
			shared_->before[role] = of.caused();
			accounts_ = 1;
		} else if (accounts_ == 1 && number >= when_.loading) {
			shared_->after[role] = of.caused();
			accounts_ = 2;
		}
	}
	template <typename Round>
	void explain_rounds(const Round& round, std::uint64_t& at)
	{
		std::vector<std::uint64_t> took(what_.messages);
		for (auto& each : took) {
			const std::uint64_t start = now_ns();
			round(at++);
			each = (now_ns() - start) / 2;
		}
		shared_->latency = quantiles_of(took);
		observer_->begin();
		for (std::uint64_t i = 0; i < what_.messages; i++)
			round(at++);
		observer_->end();
	}
	void finish(outcome& all) const
	{
		if (!what_.explain)
			return;
		all.explained = observer_->result();
		if (journeys_)
			all.latency = journeys_->result();
		if (!what_.mechanism.starts_with("fbufs") || what_.pattern == "pingpong")
			return;
		effort sum;
		for (std::size_t i = 0; i < most_processes; i++)
			add(sum, difference(shared_->after[i], shared_->before[i]));
		all.caused = sum;
	}

	const measurement& what_;
	plan when_;
	cast who_;
	shared_memory<common> shared_;
	std::optional<observer> observer_;
	std::optional<journeys> journeys_;
	unsigned accounts_ = 0; // of the own process, given
};

using links = std::vector<std::unique_ptr<link>>;
using roles = std::vector<std::function<void()>>;

links make_links(const measurement& what, shape of, unsigned count)
{
	links made;
	for (unsigned i = 0; i < count; i++)
		made.push_back(make_link(what.mechanism, of));
	return made;
}

outcome measure_fan(const measurement& what, unsigned receivers)
{
	shape of = what.of;
	of.receivers = receivers;
	const links link = make_links(what, of, 1);
	// With memcpy nobody sends.
	const cast who = {.sources = what.mechanism == "memcpy" ? 0U : 1U, .receivers = receivers};
	run here(what, {what, who, link[0]->warm_up(), what.messages}, who);
	roles all;
	if (who.sources > 0)
		all.emplace_back([&] { here.produce(*link[0], 0); });
	for (unsigned i = 0; i < receivers; i++)
		all.emplace_back([&, i] { here.consume(link, i, i + 1); });
	in_processes(all);
	return here.result(what.messages);
}

outcome measure_pingpong(const measurement& what)
{
	const links link = make_links(what, what.of, 2);
	// Nothing waits anywhere: it is enough that each buffer was used.
	const std::uint64_t warm_up = std::min<std::uint64_t>(link[0]->warm_up() / 2, 512);
	const std::uint64_t end = warm_up + what.messages * (what.explain ? 3 : 1) + 1;
	run here(what, {}, {});
	in_processes({[&] { here.reflect(*link[0], *link[1], end); }, [&] { here.play(*link[0], *link[1], warm_up); }});
	return here.result_of_rounds();
}

outcome measure_pipeline(const measurement& what, unsigned processes)
{
	shape of = what.of;
	of.hops = processes - 1;
	const links link = make_links(what, of, of.hops);
	const cast who = {.forwarders = of.hops - 1};
	run here(what, {what, who, link[0]->warm_up() * of.hops, what.messages}, who);
	roles all = {[&] { here.produce(*link[0], 0); }};
	for (unsigned i = 1; i < of.hops; i++)
		all.emplace_back([&, i] { here.forward(*link[i - 1], *link[i], i); });
	all.emplace_back([&] { here.consume(std::span(link).last(1), 0, of.hops); });
	in_processes(all);
	return here.result(what.messages);
}

outcome measure_many(const measurement& what, unsigned senders)
{
	const links link = make_links(what, what.of, senders);
	const std::uint64_t each = (what.messages / senders + what.of.batch - 1) / what.of.batch * what.of.batch;
	const cast who = {.sources = senders};
	run here(what, {what, who, link[0]->warm_up(), each}, who);
	roles all;
	for (unsigned i = 0; i < senders; i++)
		all.emplace_back([&, i] { here.produce(*link[i], i); });
	all.emplace_back([&] { here.consume(link, 0, senders); });
	in_processes(all);
	return here.result(each * senders);
}

unsigned number_in(const std::string& pattern)
{
	const char* const at = pattern.data() + pattern.find('-') + 1;
	unsigned number = 1;
	std::from_chars(at, pattern.data() + pattern.size(), number);
	return number;
}

} // namespace

std::span<const char* const> patterns()
{
	return names;
}

outcome measure(const measurement& what)
{
	if (what.pattern == "pingpong")
		return measure_pingpong(what);
	if (what.pattern.starts_with("pipeline-"))
		return measure_pipeline(what, number_in(what.pattern));
	if (what.pattern.starts_with("many-"))
		return measure_many(what, number_in(what.pattern));
	return measure_fan(what, what.pattern == "stream" ? 1 : number_in(what.pattern));
}

} // namespace bench
