// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Through the memory of a real PCI device, by DMA in both directions.
#include "driver.hpp"

using namespace kapi;

namespace {

struct Edu : testing::Test {
	Originator me;
	ToDriver to{me.domain};
	FromDriver from{me.domain};
	Fd driver = open_driver("edu");

	long begin() { return start(driver, wanted(me.domain, from.sender, to.receiver)); }
};

} // namespace

TEST_F(Edu, BytesComeBack)
{
	ASSERT_EQ(begin(), 0);
	const auto before = counters(me.domain);
	for (const std::uint32_t bytes : {1u, 64u, 4095u, 4096u}) {
		const fbufs_buffer buffer = alloc_one(to.sender);
		for (std::uint32_t i = 0; i < 4096; i++)
			me.at(buffer)[i] = static_cast<std::uint8_t>(i * 7 + bytes);
		const std::vector<std::uint8_t> sent(me.at(buffer), me.at(buffer) + bytes);
		ASSERT_EQ(send_one(to.sender, buffer.fbuf, 0, bytes, bytes), 1);
		const Received got(from.receiver, 0);
		ASSERT_EQ(got.result, 1);
		EXPECT_EQ(got.message.cookie, bytes);
		EXPECT_EQ(got.message.length, bytes);
		EXPECT_NE(got.slices[0].fbuf, buffer.fbuf);
		EXPECT_EQ(std::memcmp(me.window.at(got.slices[0].position), sent.data(), bytes), 0);
		EXPECT_EQ(handles(me.domain, FBUFS_RELEASE, {got.handle()}), 1);
	}
	EXPECT_EQ(counters(me.domain)[FBUFS_COUNT_BYTES_COPIED], before[FBUFS_COUNT_BYTES_COPIED]);
	EXPECT_EQ(status(driver).errors, 0u);
}

TEST_F(Edu, GathersSlices)
{
	ASSERT_EQ(begin(), 0);
	const fbufs_buffer one = alloc_one(to.sender), two = alloc_one(to.sender, 3 * page);
	std::memset(me.at(one), 'a', page);
	std::memset(me.at(two), 'b', 3 * page);
	fbufs_message message = {};
	message.slices = 2;
	ASSERT_EQ(send(to.sender, {message}, {{one.fbuf, 0, 0, 96, 1000}, {two.fbuf, 0, 0, 4000, 200}}), 1);
	const Received got(from.receiver, 0);
	ASSERT_EQ(got.result, 1);
	const std::string whole(reinterpret_cast<char*>(me.window.at(got.slices[0].position)), got.message.length);
	EXPECT_EQ(whole, std::string(1000, 'a') + std::string(200, 'b'));
}

// A device writes to it: it can be neither delivered nor freed until it is unmapped.
TEST_F(Edu, RefusesToGiveAwayWhatADeviceReaches)
{
	const Lenient lenient;
	ASSERT_EQ(begin(), 0);
	fbufs_mapped_misuse said = {};
	ASSERT_EQ(call(driver, FBUFS_EDU_MISUSE, said), 0);
	EXPECT_EQ(said.deliver, -EBUSY);
	EXPECT_EQ(said.free, -EBUSY);
	EXPECT_EQ(said.delivered, 1);
	const Received got(from.receiver, 0);
	ASSERT_EQ(got.result, 1);
	EXPECT_EQ(got.message.length, 1u);
	EXPECT_EQ(handles(me.domain, FBUFS_RELEASE, {got.handle()}), 1);
	// That was all of it.
	EXPECT_EQ(Received(from.receiver).result, -EAGAIN);
}

TEST_F(Edu, TooLongIsAnError)
{
	ASSERT_EQ(begin(), 0);
	const fbufs_buffer buffer = alloc_one(to.sender, 2 * page);
	ASSERT_EQ(send_one(to.sender, buffer.fbuf, 0, 4097), 1);
	EXPECT_TRUE(eventually([&] { return status(driver).errors == 1; }));
}

TEST_F(Edu, ProgramDiesDuringDma)
{
	Fd watch = open_domain();
	driver.reset();
	for (int i = 0; i < 5; i++) {
		Process program([&](int socket) {
			Originator own;
			ToDriver out(own.domain);
			FromDriver in(own.domain);
			Fd edu = open_driver("edu");
			CHILD_EXPECT(start(edu, wanted(own.domain, in.sender, out.receiver)) == 0);
			const fbufs_buffer buffer = alloc_one(out.sender);
			CHILD_EXPECT(send_one(out.sender, buffer.fbuf, 0, 4096) == 1);
			tell(socket, 'r');
			::pause();
			return 0;
		});
		ASSERT_EQ(hear(program.socket()), 'r');
		::usleep(static_cast<useconds_t>(i * 40000));
	}
	EXPECT_TRUE(eventually([&] { return gauges(watch)[FBUFS_GAUGE_POOLS] == 1; }, 15000));
}
