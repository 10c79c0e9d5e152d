// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// What the clock of 'fbuf bench transfer' counts: all the work on as many messages as it divides by, however far the
// producer can be ahead. Over a link whose work is to sleep, so that it takes that long on any machine.

#include "bench_pattern.hpp"
#include "bench_run.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace bench {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds work{10}; // more than all that sleeping takes longer
constexpr std::uint64_t messages = 32;

// Each message is a byte in a pipe.
class sleeping_link : public link {
public:
	sleeping_link(const std::string& mechanism, const shape& of) : link(of), mechanism_(mechanism)
	{
		for (unsigned i = 0; i < of.receivers; i++) {
			int fds[2];
			if (::pipe(fds) < 0)
				die("pipe");
			read_.emplace_back(fds[0]);
			write_.emplace_back(fds[1]);
		}
	}
	void open_producer() override {}
	void open_consumer(unsigned index) override { own_ = index; }
	void produce(std::uint64_t first, unsigned count) override
	{
		for (unsigned i = 0; i < count; i++) {
			work_as("producing");
			for (const descriptor& to : write_)
				put(to, static_cast<unsigned char>(first + i));
		}
	}
	unsigned consume(std::uint64_t first, unsigned) override
	{
		give_back();
		unsigned char byte = static_cast<unsigned char>(first);
		if (mechanism_ != "memcpy" && ::read(read_[own_].fd(), &byte, 1) != 1)
			die("read");
		if (byte != static_cast<unsigned char>(first))
			throw tool::failure(tool::failed, "out of order");
		work_as("consuming");
		// That of the warm-up takes no time, so that it cannot stand for another.
		held_ = first >= warm_up();
		return 1;
	}
	void give_back() override
	{
		if (std::exchange(held_, false))
			work_as("giving back");
	}
	void forward(link&, std::uint64_t first, unsigned) override
	{
		work_as("forwarding");
		put(write_[0], static_cast<unsigned char>(first));
	}
	[[nodiscard]] std::span<const std::byte> received(unsigned) const override { return {}; }
	[[nodiscard]] std::uint64_t warm_up() const override { return 4; }

private:
	void work_as(const char* what) const
	{
		if (mechanism_ == what || (mechanism_ == "memcpy" && what == std::string("consuming")))
			std::this_thread::sleep_for(work);
	}
	static void put(const descriptor& to, unsigned char byte)
	{
		if (::write(to.fd(), &byte, 1) != 1)
			die("write");
	}

	std::string mechanism_;
	std::vector<descriptor> read_, write_;
	unsigned own_ = 0;
	bool held_ = false;
};

double measured_ns(const char* mechanism, const char* pattern, unsigned batch)
{
	measurement what;
	what.mechanism = mechanism;
	what.pattern = pattern;
	what.of.bytes = 1;
	what.of.batch = batch;
	what.messages = messages;
	const outcome all = measure(what);
	EXPECT_EQ(all.messages, messages);
	return all.ns;
}

constexpr double least = std::chrono::nanoseconds(work).count();

void expect_all_of_the_work(const char* mechanism, const char* pattern, double share = 1)
{
	for (const unsigned batch : {1U, 4U}) {
		SCOPED_TRACE(testing::Message() << mechanism << ", " << pattern << ", " << batch << " at a time");
		EXPECT_GE(measured_ns(mechanism, pattern, batch), least * share);
	}
}

} // namespace

// In place of bench_link.cpp: this is the only link here.
std::unique_ptr<link> make_link(const std::string& mechanism, const shape& of)
{
	return std::make_unique<sleeping_link>(mechanism, of);
}
void link::open_forwarder(link&) {}
void link::exchange(std::uint64_t, link&, std::uint64_t) {}
void link::forward(link&, std::uint64_t, unsigned) {}

namespace {

// The producer is ahead by all that it has sent while the consumer was not there yet.
TEST(Clock, CountsTheWorkOfTheProducer)
{
	for (const char* pattern : {"stream", "fan-1", "fan-4", "pipeline-3"})
		expect_all_of_the_work("producing", pattern);
}

TEST(Clock, CountsTheWorkOfTheConsumer)
{
	for (const char* pattern : {"stream", "fan-4", "pipeline-3", "many-2", "many-8"})
		expect_all_of_the_work("consuming", pattern);
}

// What would else be done where the next is consumed, too: of as many messages, the last among them.
TEST(Clock, CountsWhatIsGivenBack)
{
	for (const char* pattern : {"stream", "fan-4", "pipeline-3", "many-2"})
		expect_all_of_the_work("giving back", pattern);
}

TEST(Clock, CountsTheWorkOfWhoSendsOn)
{
	for (const char* pattern : {"pipeline-3", "pipeline-5"})
		expect_all_of_the_work("forwarding", pattern);
}

// Who send at the same time are as many times as fast.
TEST(Clock, CountsTheWorkOfEachProducer)
{
	expect_all_of_the_work("producing", "many-2", 1 / 2.0);
	expect_all_of_the_work("producing", "many-4", 1 / 4.0);
}

TEST(Clock, CountsTheWorkWhereNobodySends)
{
	expect_all_of_the_work("memcpy", "stream");
}

} // namespace

} // namespace bench
