// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Who waits gives way to whom it waits for: see kmod/turn.h.

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <sched.h>
#include <sys/resource.h>

namespace {

using namespace uapi;

// In the real-time classes a thread works until it waits. To sleep and to be woken costs as much as the message, and
// without turns each of these threads does so for each of them. On a slow machine a turn takes so long that it is tried
// less and less often; the first few times at least it is.
class Turns : public ::testing::TestWithParam<int> {};

TEST_P(Turns, GivesWayToWhoIsReady)
{
	constexpr int rounds = 400;
	const Originator from{64 * page};
	const Channel there(from.domain, from.domain), back(from.domain, from.domain);
	const auto pass = [&](const Channel& out, const Channel& in, bool first) {
		cpu_set_t here;
		CPU_ZERO(&here);
		CPU_SET(0, &here);
		ASSERT_EQ(::sched_setaffinity(0, sizeof(here), &here), 0);
		const sched_param priority = {.sched_priority = 1};
		ASSERT_EQ(::sched_setscheduler(0, GetParam(), &priority), 0);
		rusage before = {}, after = {};
		::getrusage(RUSAGE_THREAD, &before);
		for (int i = 0; i < rounds; i++) {
			if (first) {
				ASSERT_EQ(send_one(out.sender, alloc_one(out.sender).fbuf, 0, 1), 1);
			}
			const Received received(in.receiver, 0);
			ASSERT_EQ(handles(from.domain, FBUFS_RELEASE, {received.handle()}), 1);
			if (!first) {
				ASSERT_EQ(send_one(out.sender, alloc_one(out.sender).fbuf, 0, 1), 1);
			}
		}
		::getrusage(RUSAGE_THREAD, &after);
		EXPECT_LE(after.ru_nvcsw - before.ru_nvcsw, rounds - 4) << "times it slept, of " << rounds;
	};
	std::thread other([&] { pass(back, there, false); });
	std::thread one([&] { pass(there, back, true); });
	one.join();
	other.join();
}

INSTANTIATE_TEST_SUITE_P(Classes, Turns, ::testing::Values(SCHED_FIFO, SCHED_RR), [](const auto& test) {
	return std::string(test.param == SCHED_FIFO ? "Fifo" : "RoundRobin");
});

} // namespace
