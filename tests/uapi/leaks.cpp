// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
//
// After every test the module must be empty again: rule 6, "nothing is left behind".

#include "support/uapi.hpp"

#include <gtest/gtest.h>

namespace {

using namespace uapi;

class LeakCheck : public ::testing::EmptyTestEventListener {
	void OnTestEnd(const ::testing::TestInfo& info) override
	{
		std::vector<std::uint64_t> expected(FBUFS_GAUGES);
		expected[FBUFS_GAUGE_DOMAINS] = 1;
		const Fd domain = open_domain();
		// The end of a killed process is not over when its parent hears of it.
		EXPECT_TRUE(eventually([&] { return gauges(domain) == expected; }))
			<< info.test_suite_name() << "." << info.name() << " left something behind: gauges are "
			<< ::testing::PrintToString(gauges(domain));
	}
};

const bool registered = [] {
	::testing::UnitTest::GetInstance()->listeners().Append(new LeakCheck);
	return true;
}();

} // namespace
