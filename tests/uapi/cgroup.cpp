// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Run by tests/tools/module inside a memory cgroup, whose folder FBUFS_CGROUP is; elsewhere there is no limit to meet.

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

namespace {

using namespace uapi;

TEST(Cgroup, DISABLED_PagesAreChargedToTheCaller)
{
	constexpr std::size_t mebibyte = 1 << 20;
	const char* folder = std::getenv("FBUFS_CGROUP");
	ASSERT_NE(folder, nullptr);
	Originator origin(256 * mebibyte);
	std::vector<fbufs_buffer> batch(1);
	std::vector<std::uint64_t> all;
	all.reserve(64);
	ASSERT_EQ(alloc(origin.domain, mebibyte, batch), 1);
	all.push_back(batch[0].fbuf);

	// Eight more. The half that is left then is for what the program itself needs: for want of a page of that,
	// a process is killed.
	std::size_t used = 0;
	std::ifstream(folder + std::string("/memory.current")) >> used;
	const std::size_t limit = used + 8 * mebibyte + mebibyte / 2;
	ASSERT_TRUE((std::ofstream(folder + std::string("/memory.max")) << limit).flush());
	long result = 0;
	while ((result = alloc(origin.domain, mebibyte, batch)) == 1 && all.size() < 64)
		all.push_back(batch[0].fbuf);
	EXPECT_EQ(result, -ENOMEM);
	EXPECT_GE(all.size(), 5u);
	EXPECT_LE(all.size(), limit / mebibyte);
	EXPECT_EQ(handles(origin.domain, FBUFS_FREE, all), static_cast<long>(all.size()));
	EXPECT_EQ(alloc(origin.domain, mebibyte, batch), 1);
}

} // namespace
