// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// After every test the module must be empty again: rule 6, "nothing is left behind".

#include "support/uapi.hpp"

#include <gtest/gtest.h>

namespace {

using namespace uapi;

class LeakCheck : public ::testing::EmptyTestEventListener {
	// What there was before it, so that one test that leaves something does not spoil the next.
	void OnTestStart(const ::testing::TestInfo&) override { before_ = gauges(open_domain()); }

	void OnTestEnd(const ::testing::TestInfo& info) override
	{
		const Fd domain = open_domain();
		// The end of a killed process is not over when its parent hears of it.
		EXPECT_TRUE(eventually([&] { return gauges(domain) == before_; }))
			<< info.test_suite_name() << "." << info.name() << " left something behind: gauges were "
			<< ::testing::PrintToString(before_) << " and are " << ::testing::PrintToString(gauges(domain));
	}

	std::vector<std::uint64_t> before_;
};

const bool registered = [] {
	::testing::UnitTest::GetInstance()->listeners().Append(new LeakCheck);
	return true;
}();

} // namespace
