// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The kernel as originator, from interrupts: frames arrive whole, locked and in order, and go home.
#include "driver.hpp"

#include <set>

using namespace kapi;

namespace {

struct Camera : testing::Test {
	Originator me;
	FromDriver frames{me.domain};
	Fd driver = open_driver("camera");

	long begin(std::uint32_t bytes = 4096, std::uint32_t count = 8, std::uint64_t period = 0,
		   std::uint32_t planes = 0)
	{
		fbufs_sample_start args = wanted(me.domain, frames.sender);
		args.planes = planes;
		args.bytes = bytes;
		args.count = count;
		args.period = period;
		return start(driver, args);
	}

	// The next frame, checked; its sequence number is the cookie.
	Received next(const Window& window)
	{
		Received got(frames.receiver, 0);
		EXPECT_EQ(got.result, 1);
		if (got.result != 1)
			return got;
		const auto* frame = reinterpret_cast<const fbufs_frame*>(window.at(got.slices[0].position));
		EXPECT_EQ(frame->sequence, got.message.cookie);
		EXPECT_EQ(frame->bytes, got.message.length);
		EXPECT_TRUE(got.message.flags & FBUFS_MESSAGE_LOCKED);
		std::size_t wrong = 0, before = 0;
		for (const auto& slice : got.slices) {
			const auto* words = reinterpret_cast<const std::uint64_t*>(window.at(slice.position));
			for (std::size_t i = before ? 0 : sizeof(*frame) / 8; i < slice.length / 8; i++)
				wrong += words[i] != fbufs_frame_word(frame->sequence, before + i);
			before += slice.length / 8;
		}
		EXPECT_EQ(before, frame->bytes / 8);
		EXPECT_EQ(wrong, 0u);
		return got;
	}

	void release(const Received& held) { EXPECT_EQ(handles(me.domain, FBUFS_RELEASE, {held.handle()}), 1); }
};

} // namespace

TEST_F(Camera, FramesArriveInOrderAndWhole)
{
	for (const std::uint32_t bytes : {32u, 4096u, 12288u, 65536u}) {
		FromDriver channel(me.domain);
		std::swap(channel, frames);
		driver = open_driver("camera");
		ASSERT_EQ(begin(bytes), 0);
		for (std::uint64_t i = 0; i < 20; i++) {
			ASSERT_EQ(trigger(driver, 1), 0);
			const Received got = next(me.window);
			EXPECT_EQ(got.message.cookie, i);
			release(got);
		}
	}
}

TEST_F(Camera, FramesOfScatteredPages)
{
	// Of three pages: never one block.
	ASSERT_EQ(begin(12288, 16), 0);
	for (int i = 0; i < 100; i++) {
		ASSERT_EQ(trigger(driver, 4), 0);
		for (int j = 0; j < 4; j++)
			release(next(me.window));
	}
	EXPECT_EQ(status(driver).dropped, 0u);
}

// A message of several fbufs, also where it goes over the end of the driver's ring, and of more than are kept for
// re-use.
TEST_F(Camera, FramesOfSeveralPlanes)
{
	for (const std::uint32_t planes : {2u, 3u, 5u, 32u}) {
		SCOPED_TRACE(planes);
		FromDriver channel(me.domain);
		std::swap(channel, frames);
		driver = open_driver("camera");
		ASSERT_EQ(begin(4096, 4 * planes + 1, 0, planes), 0);
		for (std::uint64_t i = 0; i < 40; i += 2) {
			ASSERT_EQ(trigger(driver, 2), 0);
			for (std::uint64_t j = i; j < i + 2; j++) {
				const Received got = next(me.window);
				EXPECT_EQ(got.message.cookie, j);
				EXPECT_EQ(got.slices.size(), planes);
				std::set<std::uint64_t> fbufs;
				for (const auto& slice : got.slices)
					fbufs.insert(slice.fbuf);
				EXPECT_EQ(fbufs.size(), planes);
				release(got);
			}
		}
		EXPECT_EQ(status(driver).dropped, 0u);
		EXPECT_EQ(status(driver).messages, 40u);
	}
}

// Short messages are kept for re-use, and have no room for long ones.
TEST_F(Camera, FramesOfVaryingPlanes)
{
	fbufs_sample_start args = wanted(me.domain, frames.sender);
	args.flags = FBUFS_SAMPLE_VARYING;
	args.planes = 8;
	args.count = 40;
	ASSERT_EQ(start(driver, args), 0);
	for (std::uint64_t i = 0; i < 64; i++) {
		ASSERT_EQ(trigger(driver, 1), 0);
		const Received got = next(me.window);
		EXPECT_EQ(got.message.cookie, i);
		EXPECT_EQ(got.slices.size(), 1 + i % 8);
		release(got);
	}
	EXPECT_EQ(status(driver).dropped, 0u);
}

TEST_F(Camera, FrameWithoutAnFbufForEachPlaneIsDropped)
{
	ASSERT_EQ(begin(4096, 4, 0, 3), 0);
	ASSERT_EQ(trigger(driver, 2), 0);
	EXPECT_EQ(status(driver).messages, 1u);
	EXPECT_EQ(status(driver).dropped, 1u);
	release(next(me.window));
	// The fourth was given back, and those of the frame came home.
	EXPECT_TRUE(eventually([&] { return trigger(driver, 1) == 0 && status(driver).messages == 2; }));
	release(next(me.window));
}

TEST_F(Camera, MorePlanesThanAMessageMayHave)
{
	EXPECT_EQ(begin(4096, 40, 0, 33), -EINVAL);
}

TEST_F(Camera, QueueOfOneHoldsFramesOfSeveralPlanesBack)
{
	FromDriver narrow(me.domain, 0, 1);
	std::swap(narrow, frames);
	ASSERT_EQ(begin(4096, 12, 0, 3), 0);
	ASSERT_EQ(trigger(driver, 4), 0);
	for (std::uint64_t i = 0; i < 4; i++) {
		const Received got = next(me.window);
		EXPECT_EQ(got.message.cookie, i);
		release(got);
	}
	// What waits when the driver stops is nobody's, and goes.
	ASSERT_EQ(trigger(driver, 4), 0);
	driver.reset();
}

TEST_F(Camera, MakesFramesAtARate)
{
	ASSERT_EQ(begin(4096, 8, 5'000'000), 0);
	std::uint64_t last = 0;
	for (int i = 0; i < 20; i++) {
		const Received got = next(me.window);
		EXPECT_TRUE(i == 0 || got.message.cookie > last);
		last = got.message.cookie;
		release(got);
	}
	EXPECT_EQ(::ioctl(driver, FBUFS_SAMPLE_STOP), 0);
	const std::uint64_t made = status(driver).done;
	::usleep(50000);
	EXPECT_EQ(status(driver).done, made);
}

TEST_F(Camera, DropsAndCountsWithoutAnFbuf)
{
	ASSERT_EQ(begin(4096, 4), 0);
	ASSERT_EQ(trigger(driver, 10), 0);
	const fbufs_sample_status after = status(driver);
	EXPECT_EQ(after.done, 10u);
	EXPECT_EQ(after.messages, 4u);
	EXPECT_EQ(after.dropped, 6u);
	for (int i = 0; i < 4; i++)
		release(next(me.window));
	// They came home, and serve again.
	EXPECT_TRUE(eventually([&] { return trigger(driver, 1) == 0 && status(driver).messages > after.messages; }));
}

TEST_F(Camera, FbufsComeHomeAndServeAgain)
{
	ASSERT_EQ(begin(), 0);
	const std::uint64_t pages = gauges(me.domain)[FBUFS_GAUGE_PAGES];
	for (int i = 0; i < 200; i++) {
		ASSERT_EQ(trigger(driver, 4), 0);
		for (int j = 0; j < 4; j++)
			release(next(me.window));
	}
	EXPECT_EQ(gauges(me.domain)[FBUFS_GAUGE_PAGES], pages);
	EXPECT_EQ(status(driver).dropped, 0u);
}

TEST_F(Camera, Rule15NoVmOperationInTheSteadyState)
{
	ASSERT_EQ(begin(), 0);
	auto round = [&] {
		ASSERT_EQ(trigger(driver, 4), 0);
		for (int j = 0; j < 4; j++)
			release(next(me.window));
	};
	for (int i = 0; i < 20; i++)
		round();
	const auto before = counters(me.domain);
	for (int i = 0; i < 50; i++)
		round();
	const auto after = counters(me.domain);
	for (const int which : {FBUFS_COUNT_FAULTS, FBUFS_COUNT_PTES_SET, FBUFS_COUNT_PTES_CLEARED,
				FBUFS_COUNT_TLB_FLUSHES, FBUFS_COUNT_PAGES_ALLOCATED, FBUFS_COUNT_BYTES_COPIED})
		EXPECT_EQ(after[which], before[which]) << which;
}

TEST_F(Camera, ReachesEveryReceiver)
{
	Fd other_end;
	EXPECT_EQ(add_receiver(frames.sender, other_end), -ENXIO);
	ASSERT_EQ(begin(), 0);
	ASSERT_EQ(add_receiver(frames.sender, other_end), 0);
	Process reader([&](int) {
		Fd domain = open_domain();
		CHILD_EXPECT(attach(other_end, domain) == 0);
		Window window(domain, me.pool.out_pool, me.pool.out_span, PROT_READ);
		CHILD_EXPECT(window.error() == 0);
		for (std::uint64_t i = 0; i < 8; i++) {
			const Received got(other_end, 0);
			CHILD_EXPECT(got.result == 1 && got.message.cookie == i);
			const auto* words = reinterpret_cast<const std::uint64_t*>(window.at(got.slices[0].position));
			CHILD_EXPECT(words[100] == fbufs_frame_word(i, 100));
			CHILD_EXPECT(handles(domain, FBUFS_RELEASE, {got.handle()}) == 1);
		}
		return 0;
	});
	ASSERT_EQ(trigger(driver, 8), 0);
	for (int i = 0; i < 8; i++)
		release(next(me.window));
	EXPECT_EQ(reader.wait(), 0);
}

// The originator's own process is no exception: what the kernel originates, only the kernel writes.
TEST_F(Camera, Rule7OwnerCannotWriteWhatTheKernelSends)
{
	ASSERT_EQ(begin(), 0);
	ASSERT_EQ(trigger(driver, 1), 0);
	const Received got = next(me.window);
	EXPECT_TRUE(store_faults(me.window.at(got.slices[0].position)));
	EXPECT_EQ(locate(me.domain, got.slices[0].position).out_locked, 1u);
	release(got);
	EXPECT_TRUE(store_faults(me.window.at(got.slices[0].position)));
}

TEST_F(Camera, Rule2OwnerCannotUseFbufsOfTheKernel)
{
	ASSERT_EQ(begin(4096, 4), 0);
	Channel mine(me.domain, me.domain);
	unsigned kernels = 0;
	for (std::uint64_t at = 0; at < me.pool.out_span; at += page) {
		const fbufs_locate place = locate(me.domain, FBUFS_POOL_OFFSET(me.pool.out_pool) + at);
		if (!place.out_fbuf)
			continue;
		kernels++;
		EXPECT_EQ(place.out_state, static_cast<std::uint32_t>(FBUFS_STATE_SENDING));
		EXPECT_EQ(place.out_locked, 1u);
		EXPECT_TRUE(store_faults(me.window.base() + at));
		EXPECT_EQ(handles(me.domain, FBUFS_FREE, {place.out_fbuf}), -EBUSY);
		EXPECT_EQ(send_one(mine.sender, place.out_fbuf, 0, 1), -EACCES);
	}
	EXPECT_EQ(kernels, 4u);
	ASSERT_EQ(trigger(driver, 4), 0);
	for (int i = 0; i < 4; i++)
		release(next(me.window));
}

TEST_F(Camera, EndIsTheKernels)
{
	ASSERT_EQ(begin(), 0);
	std::vector<fbufs_buffer> buffers(1);
	EXPECT_EQ(alloc(frames.sender, page, buffers, FBUFS_DONTWAIT), -EPERM);
	EXPECT_EQ(attach(frames.sender, me.domain), -EBUSY);
	EXPECT_EQ(send_one(frames.sender, 1, 0, 1), -EPERM);
	// Another driver cannot have it, too.
	Fd second = open_driver("camera");
	EXPECT_EQ(start(second, wanted(me.domain, frames.sender)), -EBUSY);
}

TEST_F(Camera, HangUpWhenTheDriverStops)
{
	ASSERT_EQ(begin(), 0);
	ASSERT_EQ(trigger(driver, 3), 0);
	driver.reset();
	frames.sender.reset();
	EXPECT_TRUE(eventually([&] { return poll_events(frames.receiver) & POLLHUP; }));
	for (int i = 0; i < 3; i++)
		release(next(me.window));
	EXPECT_EQ(Received(frames.receiver, 0).result, 0);
}

TEST_F(Camera, WithoutReceiversFramesAreDropped)
{
	ASSERT_EQ(begin(), 0);
	frames.receiver.reset();
	ASSERT_EQ(trigger(driver, 5), 0);
	EXPECT_EQ(status(driver).dropped, 5u);
}

TEST_F(Camera, FullQueueHoldsFramesBack)
{
	FromDriver narrow(me.domain, 0, 2);
	std::swap(narrow, frames);
	ASSERT_EQ(begin(4096, 8), 0);
	ASSERT_EQ(trigger(driver, 8), 0);
	for (std::uint64_t i = 0; i < 8; i++) {
		const Received got = next(me.window);
		EXPECT_EQ(got.message.cookie, i);
		release(got);
	}
}

TEST_F(Camera, MadeMutable)
{
	ASSERT_EQ(begin(), 0);
	ASSERT_EQ(trigger(driver, 1), 0);
	const Received got = next(me.window);
	fbufs_make_mutable args = {};
	args.size = sizeof(args);
	args.message = got.handle();
	ASSERT_EQ(call(me.domain, FBUFS_MAKE_MUTABLE, args), 0);
	EXPECT_FALSE(store_faults(me.window.at(args.out_position)));
	EXPECT_EQ(handles(me.domain, FBUFS_FREE, {args.out_fbuf}), 1);
}

TEST_F(Camera, BadArguments)
{
	const fbufs_sample_start good = wanted(me.domain, frames.sender);
	auto with = [&](auto change) {
		fbufs_sample_start args = good;
		change(args);
		return start(driver, args);
	};
	EXPECT_EQ(with([](auto& a) { a.domain = -1; }), -EBADF);
	EXPECT_EQ(with([](auto& a) { a.domain = 0; }), -EBADF);
	EXPECT_EQ(with([](auto& a) { a.sender = -1; }), -EBADF);
	EXPECT_EQ(with([&](auto& a) { a.sender = frames.receiver; }), -EBADF);
	EXPECT_EQ(with([&](auto& a) { a.sender = me.domain; }), -EBADF);
	EXPECT_EQ(with([](auto& a) { a.count = 0; }), -EINVAL);
	EXPECT_EQ(with([](auto& a) { a.count = 1 << 20; }), -EINVAL);
	EXPECT_EQ(with([](auto& a) { a.bytes = 1u << 31; }), -EINVAL);
	EXPECT_EQ(trigger(driver, 1), -ENXIO);
	EXPECT_EQ(start(driver, good), 0);
	EXPECT_EQ(start(driver, good), -EBUSY);
	EXPECT_EQ(::ioctl(driver, _IO(0xFC, 0x77)), -1);
	EXPECT_EQ(errno, ENOTTY);
}

TEST_F(Camera, PoolTooSmall)
{
	EXPECT_EQ(begin(1 << 20, 64), -ENOBUFS);
	// Nothing of it is left, but the end is used up.
	EXPECT_EQ(gauges(me.domain)[FBUFS_GAUGE_FBUFS], 0u);
	FromDriver again(me.domain);
	std::swap(again, frames);
	EXPECT_EQ(begin(), 0);
}

TEST_F(Camera, NeedsAPool)
{
	driver.reset();
	EXPECT_EQ(in_child([] {
			  Fd domain = open_domain();
			  FromDriver channel(domain);
			  Fd camera = open_driver("camera");
			  CHILD_EXPECT(start(camera, wanted(domain, channel.sender)) == -ENXIO);
			  return 0;
		  }),
		  0);
}

TEST_F(Camera, DomainOfAnotherProcess)
{
	EXPECT_EQ(in_child([&] {
			  CHILD_EXPECT(start(driver, wanted(me.domain, frames.sender)) == -EPERM);
			  return 0;
		  }),
		  0);
}

// Rule 6, with a driver that outlives the program: the file is open in another process, frames go on.
TEST(CameraDeath, FbufsAreFreedWhenTheirProcessDies)
{
	Fd camera = open_driver("camera");
	Fd watch = open_domain();
	const auto before = gauges(watch);
	{
		Process program([&](int socket) {
			Originator me;
			FromDriver frames(me.domain);
			fbufs_sample_start args = wanted(me.domain, frames.sender);
			args.period = 2'000'000;
			args.count = 64;
			CHILD_EXPECT(start(camera, args) == 0);
			CHILD_EXPECT(Received(frames.receiver, 0).result == 1);
			tell(socket, 'r');
			::pause();
			return 0;
		});
		ASSERT_EQ(hear(program.socket()), 'r');
		EXPECT_GE(gauges(watch)[FBUFS_GAUGE_FBUFS], 64u);
	}
	// The camera is still on: nobody stopped it, and what it had is gone.
	EXPECT_TRUE(eventually([&] { return gauges(watch)[FBUFS_GAUGE_FBUFS] == before[FBUFS_GAUGE_FBUFS]; }));
	EXPECT_EQ(gauges(watch)[FBUFS_GAUGE_PAGES], before[FBUFS_GAUGE_PAGES]);
	const auto drops = status(camera).dropped;
	EXPECT_TRUE(eventually([&] { return status(camera).dropped > drops; }));
	camera.reset();
	EXPECT_TRUE(eventually([&] {
		const auto after = gauges(watch);
		return after[FBUFS_GAUGE_POOLS] == before[FBUFS_GAUGE_POOLS] &&
		       after[FBUFS_GAUGE_DOMAINS] == before[FBUFS_GAUGE_DOMAINS] &&
		       after[FBUFS_GAUGE_ENDS] == before[FBUFS_GAUGE_ENDS] &&
		       after[FBUFS_GAUGE_CHANNELS] == before[FBUFS_GAUGE_CHANNELS];
	}));
}

TEST(CameraDeath, ManyTimesAtAnyMoment)
{
	Fd watch = open_domain();
	const auto before = gauges(watch);
	for (int i = 0; i < 100; i++) {
		Process program([&](int socket) {
			Originator me;
			FromDriver frames(me.domain);
			Fd camera = open_driver("camera");
			fbufs_sample_start args = wanted(me.domain, frames.sender);
			args.period = 100'000;
			if (start(camera, args) < 0)
				return 1;
			tell(socket, 'r');
			for (;;) {
				const Received got(frames.receiver, 0);
				if (got.result == 1 && got.message.cookie % 3)
					handles(me.domain, FBUFS_RELEASE, {got.handle()});
			}
		});
		ASSERT_EQ(hear(program.socket()), 'r');
		::usleep(static_cast<useconds_t>(i * 137 % 3000));
	}
	EXPECT_TRUE(eventually([&] { return gauges(watch) == before; }));
}
