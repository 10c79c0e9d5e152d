// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The form of every call: sizes, flags, reserved fields, pointers, descriptors, callers. One table, and
// after every refusal everything is as it was before.

#include "support/io.hpp"

#include <gtest/gtest.h>

#include <dirent.h>

#include <cstddef>
#include <set>
#include <string>

namespace {

using namespace uapi;

// Descriptors that a call may be made on.
enum On : unsigned { domain = 1, sender = 2, receiver = 4 };

// A domain that originates, one that receives, and something for every call to work on.
struct World {
	Originator from{64 * page};
	Fd to = open_domain();
	Channel channel{from.domain, to, 0, 8};
	Window window{to, from.pool.out_pool, from.pool.out_span, PROT_READ};
	fbufs_buffer held_buffer = {}, queued_buffer = {}, own = {};
	std::uint64_t held = 0;
	// Arrays for calls to read and write.
	std::uint64_t handle = 0;
	fbufs_buffer buffers[2] = {};
	std::uint64_t counts[FBUFS_COUNTERS] = {}, levels[FBUFS_GAUGES] = {};
	fbufs_message message = {}, answer = {};
	fbufs_slice slice = {}, answer_slice = {};
	Ends stream = make_unix_stream();
	Fd file = temporary_file();

	World()
	{
		EXPECT_EQ(::ftruncate(file, 1), 0);
		// Fbufs at home, so that allocation needs no memory, and a notice that nobody has read.
		std::vector<fbufs_buffer> warm(4);
		EXPECT_EQ(alloc(from.domain, page, warm), 4);
		for (const fbufs_buffer& buffer : warm)
			EXPECT_EQ(handles(from.domain, FBUFS_FREE, {buffer.fbuf}), 1);
		EXPECT_EQ(alloc(channel.sender, page, warm), 4);
		EXPECT_EQ(send_one(channel.sender, warm[0].fbuf, 0, 1, 0, 0, FBUFS_MESSAGE_NOTICE), 1);
		EXPECT_EQ(handles(to, FBUFS_RELEASE, {Received(channel.receiver).handle()}), 1);
		EXPECT_EQ(handles(from.domain, FBUFS_FREE, {warm[1].fbuf}), 1);
		own = warm[2];
		held_buffer = warm[3];
		EXPECT_EQ(send_one(channel.sender, held_buffer.fbuf, 0, 10, 1), 1);
		held = Received(channel.receiver).handle();
		queued_buffer = alloc_one(channel.sender);
		EXPECT_EQ(send_one(channel.sender, queued_buffer.fbuf, 0, 20, 2), 1);
		message.slices = 1;
		slice.fbuf = own.fbuf;
		slice.length = page;
	}
	[[nodiscard]] int on(unsigned where) const
	{
		return where == On::domain ? from.domain : where == On::sender ? channel.sender : channel.receiver;
	}
};

std::size_t open_descriptors()
{
	std::size_t n = 0;
	DIR* directory = ::opendir("/proc/self/fd");
	while (directory && ::readdir(directory))
		n++;
	::closedir(directory);
	return n;
}

// All that a refused call must leave alone.
struct Snapshot {
	std::vector<std::uint64_t> gauge, from, to, rest;

	explicit Snapshot(const World& world)
		: gauge(gauges(world.to)), from(counters(world.from.domain)), to(counters(world.to))
	{
		for (auto* counts : {&from, &to})
			(*counts)[FBUFS_COUNT_CALLS] = 0;
		// A vector that was allocated, and mapped, and could not be told of was so all the same.
		from[FBUFS_COUNT_ALLOCS] = from[FBUFS_COUNT_PTES_SET] = 0;
		for (const int end : {world.channel.sender.get(), world.channel.receiver.get()}) {
			const fbufs_end_info info = end_info(end);
			for (const std::uint32_t value :
			     {info.out_queued, info.out_receivers, info.out_attached, info.out_hangup})
				rest.push_back(value);
		}
		for (const fbufs_buffer& buffer : {world.own, world.held_buffer, world.queued_buffer}) {
			const fbufs_locate where = locate(world.from.domain, buffer.position);
			for (const std::uint32_t value : {where.out_state, where.out_locked, where.out_holders})
				rest.push_back(value);
			rest.push_back(where.out_fbuf);
		}
		rest.push_back(open_descriptors());
	}
	bool operator==(const Snapshot&) const = default;
};

void PrintTo(const Snapshot& snapshot, std::ostream* out)
{
	for (const auto* values : {&snapshot.gauge, &snapshot.from, &snapshot.to, &snapshot.rest})
		*out << ::testing::PrintToString(*values) << "\n";
}

// Everything in the world still works.
void expect_usable(const World& world)
{
	EXPECT_FALSE(store_faults(world.from.at(world.own)));
	EXPECT_EQ(send_one(world.channel.sender, world.own.fbuf, 0, page, 3, FBUFS_DONTWAIT), 1);
	for (const std::uint64_t cookie : {2, 3}) {
		const Received received(world.channel.receiver);
		EXPECT_EQ(received.message.cookie, cookie);
		EXPECT_EQ(handles(world.to, FBUFS_RELEASE, {received.handle()}), 1);
	}
	EXPECT_EQ(handles(world.to, FBUFS_RELEASE, {world.held}), 1);
	// The whole pool is to be had again.
	std::vector<fbufs_buffer> all(64);
	EXPECT_EQ(alloc(world.from.domain, page, all, FBUFS_DONTWAIT), 64);
}

struct Call {
	const char* name;
	unsigned long request;
	std::size_t size;
	std::uint32_t flags; // that it knows
	unsigned on;	     // On, one or more
	bool out;	     // writes its structure
	bool anybody;
	long result;		   // of a good call
	int reserved;		   // offset, or -1
	std::vector<int> pointers; // offsets
	void (*fill)(World& world, std::uint8_t* args);
};

void PrintTo(const Call& call, std::ostream* out)
{
	*out << call.name;
}

template <typename Args>
Args& as(std::uint8_t* bytes)
{
	return *reinterpret_cast<Args*>(bytes);
}

void fill_handles(std::uint8_t* args, World& world, std::uint64_t handle)
{
	world.handle = handle;
	as<fbufs_handles>(args).handles = address(&world.handle);
	as<fbufs_handles>(args).count = 1;
}

void fill_nothing(World&, std::uint8_t*) {}

void fill_alloc(World& world, std::uint8_t* args)
{
	as<fbufs_alloc>(args).bytes = page;
	as<fbufs_alloc>(args).buffers = address(world.buffers);
	as<fbufs_alloc>(args).count = 1;
}

#define SIZED(type) sizeof(struct type)
#define AT(type, field) static_cast<int>(offsetof(struct type, field))

// A line or two for each call.
// clang-format off
const Call calls[] = {
	{"Query", FBUFS_QUERY, SIZED(fbufs_query), 0, On::domain, true, true, 0, -1, {}, fill_nothing},
	{"PoolCreate", FBUFS_POOL_CREATE, SIZED(fbufs_pool_create), FBUFS_POOL_STORE_WAIT | FBUFS_POOL_STORE_COPY, On::domain, true, false, -EEXIST,
	 AT(fbufs_pool_create, __reserved), {},
	 [](World&, std::uint8_t* args) { as<fbufs_pool_create>(args).bytes = page; }},
	{"PoolInfo", FBUFS_POOL_INFO, SIZED(fbufs_pool_info), 0, On::domain, true, false, 0,
	 AT(fbufs_pool_info, __reserved), {},
	 [](World& world, std::uint8_t* args) { as<fbufs_pool_info>(args).pool = world.from.pool.out_pool; }},
	{"Alloc", FBUFS_ALLOC, SIZED(fbufs_alloc), FBUFS_DONTWAIT, On::domain, false, false, 1,
	 AT(fbufs_alloc, __reserved), {AT(fbufs_alloc, buffers)}, fill_alloc},
	{"AllocOnEnd", FBUFS_ALLOC, SIZED(fbufs_alloc), FBUFS_DONTWAIT, On::sender, false, false, 1,
	 AT(fbufs_alloc, __reserved), {AT(fbufs_alloc, buffers)}, fill_alloc},
	{"Free", FBUFS_FREE, SIZED(fbufs_handles), 0, On::domain, false, false, 1,
	 AT(fbufs_handles, __reserved), {AT(fbufs_handles, handles)},
	 [](World& world, std::uint8_t* args) { fill_handles(args, world, world.own.fbuf); }},
	{"Release", FBUFS_RELEASE, SIZED(fbufs_handles), 0, On::domain, false, false, -ENOENT,
	 AT(fbufs_handles, __reserved), {AT(fbufs_handles, handles)},
	 [](World& world, std::uint8_t* args) { fill_handles(args, world, world.held); }},
	{"Secure", FBUFS_SECURE, SIZED(fbufs_handles), 0, On::domain, false, false, -ENOENT,
	 AT(fbufs_handles, __reserved), {AT(fbufs_handles, handles)},
	 [](World& world, std::uint8_t* args) { fill_handles(args, world, world.held); }},
	{"Notices", FBUFS_NOTICES, SIZED(fbufs_notices), 0, On::domain, false, false, 1,
	 AT(fbufs_notices, __reserved), {AT(fbufs_notices, fbufs)},
	 [](World& world, std::uint8_t* args) {
		 as<fbufs_notices>(args).fbufs = address(&world.handle);
		 as<fbufs_notices>(args).count = 1;
	 }},
	{"ChannelCreate", FBUFS_CHANNEL_CREATE, SIZED(fbufs_channel_create), 0xf, On::domain, true, false, 0, -1, {},
	 fill_nothing},
	{"Stats", FBUFS_STATS, SIZED(fbufs_stats), 0, On::domain, false, false, 0, -1,
	 {AT(fbufs_stats, counters), AT(fbufs_stats, gauges)},
	 [](World& world, std::uint8_t* args) {
		 as<fbufs_stats>(args).counters = address(world.counts);
		 as<fbufs_stats>(args).ncounters = FBUFS_COUNTERS;
		 as<fbufs_stats>(args).gauges = address(world.levels);
		 as<fbufs_stats>(args).ngauges = FBUFS_GAUGES;
	 }},
	{"Locate", FBUFS_LOCATE, SIZED(fbufs_locate), 0, On::domain, true, false, 0, -1, {},
	 [](World& world, std::uint8_t* args) { as<fbufs_locate>(args).position = world.own.position; }},
	{"Io", FBUFS_IO, SIZED(fbufs_io), FBUFS_DONTWAIT, On::domain, true, false, 0, -1, {}, fill_nothing},
	{"Cancel", FBUFS_CANCEL, SIZED(fbufs_cancel), 0, On::domain, false, false, -ENOENT, -1, {}, fill_nothing},
	{"MakeMutable", FBUFS_MAKE_MUTABLE, SIZED(fbufs_make_mutable), 0, On::domain, true, false, -ENOENT,
	 AT(fbufs_make_mutable, __reserved), {}, fill_nothing},
	{"SendFile", FBUFS_SEND_FILE, SIZED(fbufs_send_file), FBUFS_DONTWAIT, On::domain, true, false, 1, -1, {},
	 [](World& world, std::uint8_t* args) {
		 as<fbufs_send_file>(args) = send_file_args(world.stream.in, world.file, 0, 1);
	 }},
	{"Attach", FBUFS_ATTACH, SIZED(fbufs_attach), 0, On::sender | On::receiver, false, false, -EBUSY,
	 AT(fbufs_attach, __reserved), {},
	 [](World& world, std::uint8_t* args) { as<fbufs_attach>(args).domain = world.from.domain; }},
	{"EndInfo", FBUFS_END_INFO, SIZED(fbufs_end_info), 0, On::sender | On::receiver, true, true, 0, -1, {},
	 fill_nothing},
	{"AddReceiver", FBUFS_ADD_RECEIVER, SIZED(fbufs_add_receiver), FBUFS_CHANNEL_NONBLOCK, On::sender, true, false, 0,
	 AT(fbufs_add_receiver, __reserved), {}, fill_nothing},
	{"Send", FBUFS_SEND, SIZED(fbufs_send), FBUFS_DONTWAIT, On::sender, true, false, 1, -1,
	 {AT(fbufs_send, messages), AT(fbufs_send, slices)},
	 [](World& world, std::uint8_t* args) {
		 as<fbufs_send>(args).messages = address(&world.message);
		 as<fbufs_send>(args).slices = address(&world.slice);
		 as<fbufs_send>(args).count = 1;
		 as<fbufs_send>(args).nslices = 1;
	 }},
	{"Call", FBUFS_CALL, SIZED(fbufs_call), FBUFS_DONTWAIT, On::sender, true, false, 1, AT(fbufs_call, send),
	 {AT(fbufs_call, send.messages), AT(fbufs_call, send.slices)},
	 [](World& world, std::uint8_t* args) {
		 as<fbufs_call>(args).receiver = world.channel.receiver;
		 as<fbufs_call>(args).send.messages = address(&world.message);
		 as<fbufs_call>(args).send.slices = address(&world.slice);
		 as<fbufs_call>(args).send.count = 1;
		 as<fbufs_call>(args).send.nslices = 1;
		 as<fbufs_call>(args).receive.messages = address(&world.answer);
		 as<fbufs_call>(args).receive.slices = address(&world.answer_slice);
		 as<fbufs_call>(args).receive.count = 1;
		 as<fbufs_call>(args).receive.nslices = 1;
	 }},
	{"Receive", FBUFS_RECEIVE, SIZED(fbufs_receive), FBUFS_DONTWAIT, On::receiver, true, false, 1, -1,
	 {AT(fbufs_receive, messages), AT(fbufs_receive, slices), AT(fbufs_receive, release)},
	 [](World& world, std::uint8_t* args) {
		 world.handle = world.held;
		 as<fbufs_receive>(args).messages = address(&world.message);
		 as<fbufs_receive>(args).slices = address(&world.slice);
		 as<fbufs_receive>(args).count = 1;
		 as<fbufs_receive>(args).nslices = 1;
		 as<fbufs_receive>(args).release = address(&world.handle);
		 as<fbufs_receive>(args).nrelease = 1;
	 }},
};
// clang-format on

class Ioctls : public ::testing::TestWithParam<Call> {
protected:
	Ioctls()
	{
		// Two pages, the second of which is not there.
		edge_ = static_cast<std::uint8_t*>(
			::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
		::munmap(edge_ + page, page);
		fill(args_);
	}
	~Ioctls() override { ::munmap(edge_, page); }
	void fill(std::uint8_t* args)
	{
		GetParam().fill(world_, args);
		as<std::uint32_t>(args) = static_cast<std::uint32_t>(GetParam().size);
	}
	int lowest() const { return world_.on(GetParam().on & -GetParam().on); }
	long call_with(void* args) const
	{
		const long result = ::ioctl(lowest(), GetParam().request, args);
		return result < 0 ? -errno : result;
	}
	void expect_refused(void* args, long refusal, const std::string& what)
	{
		const Snapshot before(world_);
		EXPECT_EQ(call_with(args), refusal) << what;
		EXPECT_EQ(Snapshot(world_), before) << what;
	}
	// What a good call returns, on the descriptor where it has something to do.
	void expect_good(std::uint8_t* args)
	{
		const unsigned long request = GetParam().request;
		const bool held = request == FBUFS_RELEASE || request == FBUFS_SECURE;
		const long result = ::ioctl(held ? world_.to.get() : lowest(), request, args);
		EXPECT_EQ(result < 0 ? -errno : result, held ? 1 : GetParam().result);
		if (result == 0 && request == FBUFS_CHANNEL_CREATE) {
			EXPECT_EQ(::close(as<fbufs_channel_create>(args).out_sender), 0);
			EXPECT_EQ(::close(as<fbufs_channel_create>(args).out_receiver), 0);
		}
		if (result == 0 && request == FBUFS_ADD_RECEIVER) {
			EXPECT_EQ(::close(as<fbufs_add_receiver>(args).out_receiver), 0);
		}
	}

	World world_;
	alignas(8) std::uint8_t args_[2 * page] = {};
	std::uint8_t* edge_;
};

TEST_P(Ioctls, GoodCall)
{
	expect_good(args_);
}

TEST_P(Ioctls, TooShortIsEinval)
{
	const std::size_t size = GetParam().size;
	for (const std::size_t shorter : {std::size_t{0}, std::size_t{4}, std::size_t{8}, size - 8, size - 1}) {
		as<std::uint32_t>(args_) = static_cast<std::uint32_t>(std::min(shorter, size - 1));
		expect_refused(args_, -EINVAL, std::to_string(shorter));
	}
	expect_usable(world_);
}

TEST_P(Ioctls, LongerWithZerosIsAccepted)
{
	as<std::uint32_t>(args_) = static_cast<std::uint32_t>(GetParam().size) + 8;
	expect_good(args_);
	EXPECT_EQ(as<std::uint32_t>(args_), GetParam().size + 8) << "the caller's size stays";
}

TEST_P(Ioctls, APageOfZerosIsAccepted)
{
	as<std::uint32_t>(args_) = page;
	expect_good(args_);
}

TEST_P(Ioctls, LongerWithMoreIsE2big)
{
	const std::size_t size = GetParam().size;
	for (const std::size_t longer : {size + 1, size + 8, page})
		for (const std::size_t at : {size, longer - 1}) {
			as<std::uint32_t>(args_) = static_cast<std::uint32_t>(longer);
			args_[at] = 1;
			expect_refused(args_, -E2BIG, std::to_string(longer));
			args_[at] = 0;
		}
	expect_usable(world_);
}

TEST_P(Ioctls, UnknownFlagsAreEinval)
{
	for (unsigned bit = 0; bit < 32; bit++)
		if (!(GetParam().flags & 1u << bit)) {
			reinterpret_cast<std::uint32_t*>(args_)[1] = 1u << bit;
			expect_refused(args_, -EINVAL, "bit " + std::to_string(bit));
		}
	expect_usable(world_);
}

TEST_P(Ioctls, ReservedFieldsAreEinval)
{
	if (GetParam().reserved >= 0)
		for (const std::uint32_t value : {1u, ~0u}) {
			std::memcpy(args_ + GetParam().reserved, &value, sizeof(value));
			expect_refused(args_, -EINVAL, std::to_string(value));
		}
	expect_usable(world_);
}

TEST_P(Ioctls, BadStructureIsEfault)
{
	expect_refused(nullptr, -EFAULT, "null");
	expect_refused(reinterpret_cast<void*>(0xffff888000000000), -EFAULT, "kernel");
	expect_refused(edge_ + page, -EFAULT, "unmapped");
	std::memcpy(edge_ + page - 8, args_, 8);
	expect_refused(edge_ + page - 8, -EFAULT, "half of it unmapped");
	::mprotect(edge_, page, PROT_NONE);
	expect_refused(edge_, -EFAULT, "not readable");
	expect_usable(world_);
}

// It can be read, but the answer not written: then nothing may have happened.
TEST_P(Ioctls, ReadOnlyStructureIsEfault)
{
	if (!GetParam().out)
		return;
	fill(edge_);
	::mprotect(edge_, page, PROT_READ);
	expect_refused(edge_, -EFAULT, "read-only");
	expect_usable(world_);
}

// On two pages, the second of which can be read only: what goes out reaches to the end of a structure.
TEST_P(Ioctls, AHalfReadOnlyStructureIsEfault)
{
	if (!GetParam().out)
		return;
	void* const two = ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	auto* const border = static_cast<std::uint8_t*>(two) + page;
	// The border is before each word of it in turn.
	for (std::size_t before = 8; before < GetParam().size; before += 8) {
		std::uint8_t* const args = border - before;
		::mprotect(two, 2 * page, PROT_READ | PROT_WRITE);
		std::memset(args, 0, GetParam().size);
		fill(args);
		::mprotect(border, page, PROT_READ);
		expect_refused(args, -EFAULT, "read-only behind " + std::to_string(before));
	}
	::munmap(two, 2 * page);
	expect_usable(world_);
}

// The module may not look behind a structure that says how short it is.
TEST_P(Ioctls, TooShortAtTheEndOfMemoryIsEinval)
{
	std::uint8_t* const args = edge_ + page - 8;
	std::memcpy(args, args_, 8);
	as<std::uint32_t>(args) = 8;
	expect_refused(args, -EINVAL, "8 bytes");
	// And one that says it is longer than what is there.
	std::uint8_t* const whole = edge_ + page - GetParam().size;
	std::memcpy(whole, args_, GetParam().size);
	as<std::uint32_t>(whole) = static_cast<std::uint32_t>(GetParam().size) + 8;
	expect_refused(whole, -EFAULT, "a longer one");
	expect_usable(world_);
}

TEST_P(Ioctls, BadArraysAreEfault)
{
	const unsigned long request = GetParam().request;
	auto pointers = GetParam().pointers;
	// That of what FBUFS_RECEIVE releases is the last: while it is bad, nothing is.
	std::ranges::reverse(pointers);
	for (const int at : pointers)
		for (const std::uint64_t bad :
		     {std::uint64_t{8}, address(edge_ + page), std::uint64_t{0xffff888000000000}}) {
			const std::uint64_t good = as<std::uint64_t>(args_ + at);
			as<std::uint64_t>(args_ + at) = bad;
			const Snapshot before(world_);
			const bool held = request == FBUFS_RELEASE || request == FBUFS_SECURE;
			const long result = ::ioctl(held ? world_.to.get() : lowest(), request, args_);
			EXPECT_EQ(result < 0 ? -errno : result, -EFAULT) << at << " " << bad;
			// FBUFS_RECEIVE has released by the time it finds no room for its messages.
			if (request == FBUFS_RECEIVE && at != AT(fbufs_receive, release)) {
				EXPECT_EQ(as<fbufs_receive>(args_).out_released, as<fbufs_receive>(args_).nrelease);
				EXPECT_EQ(end_info(world_.channel.receiver).out_queued, 1u);
				as<fbufs_receive>(args_).nrelease = 0;
				expect_refused(args_, -EFAULT, "again, with nothing to release");
				as<std::uint64_t>(args_ + at) = good;
				continue;
			}
			EXPECT_EQ(Snapshot(world_), before) << at << " " << bad;
			as<std::uint64_t>(args_ + at) = good;
		}
	// What the world holds FBUFS_RECEIVE has released.
	if (request != FBUFS_RECEIVE)
		expect_usable(world_);
}

TEST_P(Ioctls, WrongDescriptorIsEnotty)
{
	const Fd null(::open("/dev/null", O_RDWR));
	EXPECT_EQ(::ioctl(null, GetParam().request, args_), -1);
	EXPECT_EQ(errno, ENOTTY);
	// Allocation is for domains and for sending ends.
	const unsigned good = GetParam().request == FBUFS_ALLOC ? On::domain | On::sender : GetParam().on;
	for (const unsigned where : {On::domain, On::sender, On::receiver})
		if (!(good & where)) {
			const Snapshot before(world_);
			EXPECT_EQ(::ioctl(world_.on(where), GetParam().request, args_), -1) << where;
			EXPECT_EQ(errno, ENOTTY) << where;
			EXPECT_EQ(Snapshot(world_), before) << where;
		}
	expect_usable(world_);
}

TEST_P(Ioctls, AForkedChildIsEperm)
{
	const Snapshot before(world_);
	EXPECT_EQ(in_child([&] {
			  const unsigned on = GetParam().on;
			  for (const unsigned where : {On::domain, On::sender, On::receiver})
				  if (on & where) {
					  const long result = ::ioctl(world_.on(where), GetParam().request, args_);
					  CHILD_EXPECT(GetParam().anybody ? result == 0
									  : result == -1 && errno == EPERM);
				  }
			  return 0;
		  }),
		  0);
	EXPECT_EQ(Snapshot(world_), before);
	expect_usable(world_);
}

INSTANTIATE_TEST_SUITE_P(All, Ioctls, ::testing::ValuesIn(calls),
			 [](const auto& test) { return std::string(test.param.name); });

TEST(IoctlNumbers, OthersAreEnotty)
{
	World world;
	std::set<unsigned long> known;
	for (const Call& call : calls)
		known.insert(call.request);
	alignas(8) std::uint8_t zeros[page] = {};
	const Snapshot before(world);
	for (const unsigned where : {On::domain, On::sender, On::receiver})
		for (unsigned long number = 0; number < 256; number++)
			for (const unsigned long request : {_IOC(_IOC_NONE, FBUFS_TYPE, number, 0),
							    _IOC(_IOC_READ | _IOC_WRITE, FBUFS_TYPE, number, 32)})
				if (!known.contains(request)) {
					EXPECT_EQ(::ioctl(world.on(where), request, zeros), -1);
					EXPECT_EQ(errno, ENOTTY) << std::hex << request;
				}
	EXPECT_EQ(Snapshot(world), before);
}

} // namespace
