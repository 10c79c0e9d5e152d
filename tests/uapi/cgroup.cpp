// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Run by tests/tools/module inside a memory cgroup of FBUFS_CGROUP_MIB; elsewhere there is no limit to meet.

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

namespace {

using namespace uapi;

TEST(Cgroup, DISABLED_PagesAreChargedToTheCaller)
{
	const char* mebibytes = std::getenv("FBUFS_CGROUP_MIB");
	ASSERT_NE(mebibytes, nullptr);
	const std::size_t limit = std::strtoul(mebibytes, nullptr, 10);
	Originator origin(256 << 20);
	std::vector<fbufs_buffer> batch(1);
	std::vector<std::uint64_t> all;
	long result = 0;
	while ((result = alloc(origin.domain, 1 << 20, batch)) == 1 && all.size() < 64)
		all.push_back(batch[0].fbuf);
	EXPECT_EQ(result, -ENOMEM);
	EXPECT_GE(all.size(), 4u);
	EXPECT_LT(all.size(), limit);
	EXPECT_EQ(handles(origin.domain, FBUFS_FREE, all), static_cast<long>(all.size()));
	EXPECT_EQ(alloc(origin.domain, 1 << 20, batch), 1);
}

} // namespace
