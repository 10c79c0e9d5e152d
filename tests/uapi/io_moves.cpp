// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// FBUFS_IO moves bytes between fbufs and every kind of descriptor: the right ones, in order, and as the
// completion says.

#include "support/disk.hpp"

#include <sys/random.h>
#include <sys/vfs.h>

#include <map>

namespace {

using namespace uapi;

class IoMoves : public IoTest {};

constexpr std::uint32_t how_bits = FBUFS_IO_ZEROCOPY | FBUFS_IO_COPIED | FBUFS_IO_FALLBACK;

//
// Writing
//

class IoWrite : public IoTest, public testing::WithParamInterface<std::tuple<Kind, Shape, After>> {};

TEST_P(IoWrite, ArrivesAsItWas)
{
	const auto& [kind, shape, after] = GetParam();
	const Actor actor(8 << 20);
	const Ends ends = kind.make();
	const Load load = make_load(actor, shape, kind.stream);
	const Gauges before(actor.domain);
	const std::uint64_t copied_before = counters(actor.domain)[FBUFS_COUNT_BYTES_COPIED];
	const bool gives = after == After::goes_home;
	ASSERT_EQ(
		submit(actor.domain,
		       write_op(ends.in, 77, static_cast<std::uint32_t>(load.slices.size()), gives ? FBUFS_IO_GIVE : 0),
		       load.slices),
		1);
	std::vector<Done> done;
	const Bytes arrived = pump(actor.domain, ends.out, load.expected.size(), done);
	ASSERT_EQ(arrived.size(), load.expected.size());
	EXPECT_TRUE(arrived == load.expected);
	if (done.empty())
		done.push_back(finish_one(actor.domain));
	ASSERT_EQ(done.size(), 1u);
	EXPECT_EQ(done[0].cookie, 77u);
	EXPECT_EQ(done[0].result, static_cast<std::int64_t>(load.expected.size()));
	EXPECT_EQ(done[0].fbuf, 0u);
	EXPECT_EQ(done[0].position, 0u);
	EXPECT_EQ(done[0].message, 0u);
	EXPECT_EQ(done[0].slices, 0u);
	EXPECT_EQ(done[0].address_length, 0u);
	if (kind.references) {
		EXPECT_EQ(done[0].flags, FBUFS_IO_ZEROCOPY);
		EXPECT_EQ(done[0].copied, 0u);
		EXPECT_EQ(done[0].reason, FBUFS_IO_NO_REASON);
	} else {
		EXPECT_EQ(done[0].flags, FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
		EXPECT_EQ(done[0].copied, load.expected.size());
		EXPECT_EQ(done[0].reason, FBUFS_IO_NO_REFERENCES);
	}
	EXPECT_EQ(counters(actor.domain)[FBUFS_COUNT_BYTES_COPIED] - copied_before, done[0].copied);
	for (std::size_t i = 0; i < load.buffers.size(); i++) {
		const fbufs_buffer& buffer = load.buffers[i];
		if (gives) {
			EXPECT_TRUE(actor.becomes(buffer, FBUFS_STATE_FREE)) << actor.state(buffer);
			continue;
		}
		EXPECT_EQ(actor.state(buffer), FBUFS_STATE_OWNED);
		EXPECT_TRUE(actor.contents(buffer.position, load.before[i].size()) == load.before[i]);
		EXPECT_FALSE(store_faults(actor.at(buffer)));
		EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {buffer.fbuf}), 1) << "the same handle";
	}
	EXPECT_TRUE(before.are_back(FBUFS_GAUGE_IO));
}

INSTANTIATE_TEST_SUITE_P(To, IoWrite,
			 testing::Combine(testing::ValuesIn(kinds),
					  testing::Values(Shape::one_small, Shape::many_small, Shape::one_large,
							  Shape::many_large),
					  testing::Values(After::comes_back, After::goes_home)),
			 [](const auto& test) {
				 return std::string(std::get<0>(test.param).name) + "_" +
					name_of(std::get<1>(test.param)) +
					(std::get<2>(test.param) == After::goes_home ? "_Give" : "_Return");
			 });

// A hundred slices are one datagram, as writev(2) would make it.
class IoWriteSlices : public IoTest, public testing::WithParamInterface<Kind> {};

TEST_P(IoWriteSlices, OfAHundredPlaces)
{
	const Actor actor(1 << 20);
	const Ends ends = GetParam().make();
	Load load;
	load.fbuf(actor, 16 * page);
	for (std::size_t i = 0; i < 100; i++)
		load.slice(0, (99 - i) * 600, 100);
	ASSERT_EQ(submit(actor.domain, write_op(ends.in, 5, 100), load.slices), 1);
	std::vector<Done> done;
	const Bytes arrived = pump(actor.domain, ends.out, load.expected.size(), done, 2000);
	EXPECT_EQ(arrived.size(), load.expected.size());
	EXPECT_TRUE(arrived == load.expected);
	if (done.empty())
		done.push_back(finish_one(actor.domain));
	EXPECT_EQ(done[0].result, 10000);
}

INSTANTIATE_TEST_SUITE_P(To, IoWriteSlices, testing::ValuesIn(kinds),
			 [](const auto& test) { return std::string(test.param.name); });

// The most slices that there may be.
TEST_F(IoMoves, StreamTakesMaxSlices)
{
	for (const auto& make : {+[] { return make_pipe(1 << 20); }, make_unix_stream, make_tcp4}) {
		const Actor actor(1 << 20);
		const Ends ends = make();
		Load load;
		load.fbuf(actor, 16 * page);
		for (std::size_t i = 0; i < FBUFS_MAX_SLICES; i++)
			load.slice(0, (i * 61) % 60000, 1 + i % 50);
		ASSERT_EQ(submit(actor.domain, write_op(ends.in, 5, FBUFS_MAX_SLICES), load.slices), 1);
		std::vector<Done> done;
		const Bytes arrived = pump(actor.domain, ends.out, load.expected.size(), done);
		EXPECT_TRUE(arrived == load.expected);
	}
}

// Operations on one descriptor happen in the order of their submission, also when they have to wait.
TEST_F(IoMoves, WritesAreInOrder)
{
	for (const Kind& kind : kinds) {
		const Actor actor(4 << 20);
		const Ends ends = kind.make();
		const std::size_t each = kind.stream ? 40000 : 4000, n = 24;
		std::vector<fbufs_io_op> ops;
		std::vector<fbufs_slice> slices;
		Bytes expected;
		for (unsigned i = 0; i < n; i++) {
			ops.push_back(write_op(ends.in, i));
			slices.push_back(slice_of(actor.filled(each, i).fbuf, 0, static_cast<std::uint32_t>(each)));
			const Bytes data = pattern(each, i);
			expected.insert(expected.end(), data.begin(), data.end());
		}
		// In two calls, so that some are new while others wait.
		Call first(actor.domain, {ops.begin(), ops.begin() + 16}, {slices.begin(), slices.begin() + 16});
		ASSERT_EQ(first.result, 16);
		Call second(actor.domain, {ops.begin() + 16, ops.end()}, {slices.begin() + 16, slices.end()});
		ASSERT_EQ(second.result, 8);
		std::vector<Done> done = std::move(first.done);
		done.insert(done.end(), second.done.begin(), second.done.end());
		Bytes arrived;
		while (arrived.size() < expected.size()) {
			const Bytes more = pump(actor.domain, ends.out, each, done);
			ASSERT_EQ(more.size(), each) << kind.name;
			arrived.insert(arrived.end(), more.begin(), more.end());
		}
		EXPECT_TRUE(arrived == expected) << kind.name;
		for (Done& one : finish(actor.domain, n - done.size()))
			done.push_back(one);
		ASSERT_EQ(done.size(), n) << kind.name;
		std::map<std::uint64_t, std::int64_t> results;
		for (const Done& one : done)
			results[one.cookie] = one.result;
		for (unsigned i = 0; i < n; i++)
			EXPECT_EQ(results[i], static_cast<std::int64_t>(each)) << kind.name;
	}
}

TEST_F(IoMoves, OneCallWritesToManyDescriptors)
{
	const Actor actor;
	std::vector<Ends> ends;
	std::vector<fbufs_io_op> ops;
	std::vector<fbufs_slice> slices;
	for (const Kind& kind : kinds) {
		const auto i = static_cast<unsigned>(ends.size());
		ends.push_back(kind.make());
		ops.push_back(write_op(ends.back().in, i, 2));
		const fbufs_buffer buffer = actor.filled(page, i);
		slices.push_back(slice_of(buffer.fbuf, 0, 1000));
		slices.push_back(slice_of(buffer.fbuf, 1000, 500));
	}
	const Call call(actor.domain, ops, slices);
	ASSERT_EQ(call.result, static_cast<long>(ops.size()));
	for (unsigned i = 0; i < ends.size(); i++)
		EXPECT_TRUE(read_some(ends[i].out, 1 << 16) == pattern(1500, i)) << kinds[i].name;
	EXPECT_EQ(finish(actor.domain, ops.size() - call.done.size()).size() + call.done.size(), ops.size());
}

// An error in the middle of the vector: those before are done, those behind untouched.
TEST_F(IoMoves, VectorStopsAtTheFirstError)
{
	const Actor actor;
	const Ends ends = make_pipe();
	const fbufs_buffer a = actor.filled(page, 1), b = actor.filled(page, 2);
	const Call call(actor.domain, {write_op(ends.in, 1), write_op(-1, 2), write_op(ends.in, 3)},
			{slice_of(a.fbuf, 0, 10), slice_of(b.fbuf, 0, 10), slice_of(b.fbuf, 10, 10)});
	EXPECT_EQ(call.result, 1);
	EXPECT_EQ(actor.state(b), FBUFS_STATE_OWNED);
	EXPECT_TRUE(read_some(ends.out, 100) == pattern(10, 1));
	EXPECT_EQ(finish_one(actor.domain).cookie, 1u);
	EXPECT_TRUE(finish(actor.domain, 1, 50).empty());
}

TEST_F(IoMoves, DatagramGoesToItsAddress)
{
	for (const int family : {AF_INET, AF_INET6}) {
		const Actor actor;
		const Fd from(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
		std::vector<Fd> to;
		std::vector<Place> places;
		std::vector<fbufs_io_op> ops;
		std::vector<fbufs_slice> slices;
		for (unsigned i = 0; i < 3; i++) {
			to.emplace_back(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
			Place any(family);
			ASSERT_EQ(::bind(to[i], any.get(), any.length), 0);
			places.push_back(place_of(to[i], family));
		}
		for (unsigned i = 0; i < 3; i++) {
			fbufs_io_op op = write_op(from, i);
			op.address = address(&places[i].storage);
			op.address_length = places[i].length;
			ops.push_back(op);
			slices.push_back(slice_of(actor.filled(page, i).fbuf, 0, page));
		}
		ASSERT_EQ(Call(actor.domain, ops, slices, 0, 0, 0).result, 3);
		for (unsigned i = 0; i < 3; i++)
			EXPECT_TRUE(read_some(to[i], 2 * page) == pattern(page, i));
		for (const Done& done : finish(actor.domain, 3))
			EXPECT_EQ(done.result, static_cast<std::int64_t>(page));
	}
}

//
// Reading
//

class IoRead : public IoTest, public testing::WithParamInterface<Kind> {};

// The copy of something that write(2) wrote.
void expect_copied(const Kind& kind, const Done& done, std::size_t bytes)
{
	EXPECT_EQ(done.result, static_cast<std::int64_t>(bytes)) << kind.name;
	EXPECT_EQ(done.copied, bytes) << kind.name;
	EXPECT_EQ(done.flags & how_bits, FBUFS_IO_COPIED | FBUFS_IO_FALLBACK) << kind.name;
	EXPECT_EQ(done.reason, kind.gives ? FBUFS_IO_NOT_FBUFS : FBUFS_IO_NO_REFERENCES) << kind.name;
	EXPECT_NE(done.fbuf, 0u);
	EXPECT_EQ(done.message, 0u);
	EXPECT_EQ(done.slices, 0u);
}

TEST_P(IoRead, WhatIsThere)
{
	const Kind& kind = GetParam();
	const Actor actor;
	const Ends ends = kind.make();
	const Gauges before(actor.domain);
	const Bytes data = pattern(1000, 9);
	ASSERT_EQ(::write(ends.in, data.data(), data.size()), 1000);
	const Done done = complete(actor.domain, read_op(ends.out, 3 * page, 5));
	EXPECT_EQ(done.cookie, 5u);
	expect_copied(kind, done, 1000);
	EXPECT_EQ(done.flags & (FBUFS_IO_END | FBUFS_IO_TRUNCATED), 0u);
	ASSERT_NE(done.fbuf, 0u);
	EXPECT_TRUE(actor.contents(done.position, 1000) == data);
	const Bytes rest = actor.contents(done.position + 1000, 3 * page - 1000);
	EXPECT_EQ(std::count(rest.begin(), rest.end(), 0), static_cast<std::ptrdiff_t>(rest.size())) << "old bytes";
	// It is an fbuf like any other.
	const fbufs_locate found = locate(actor.domain, done.position);
	EXPECT_EQ(found.out_fbuf, done.fbuf);
	EXPECT_EQ(found.out_state, FBUFS_STATE_OWNED);
	EXPECT_EQ(found.out_bytes, 3 * page);
	EXPECT_FALSE(store_faults(actor.window.at(done.position)));
	EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {done.fbuf}), 1);
	EXPECT_TRUE(before.are_back(FBUFS_GAUGE_IO));
}

TEST_P(IoRead, WaitsForWhatComes)
{
	const Kind& kind = GetParam();
	const Actor actor;
	const Ends ends = kind.make();
	ASSERT_EQ(submit(actor.domain, read_op(ends.out, page, 5)), 1);
	EXPECT_TRUE(finish(actor.domain, 1, 30).empty());
	EXPECT_EQ(actor.used(), 0u) << "no fbuf before there are bytes";
	const Bytes data = pattern(100, 9);
	ASSERT_EQ(::write(ends.in, data.data(), data.size()), 100);
	EXPECT_TRUE(polls(actor.domain, POLLIN, 2000));
	const Done done = finish_one(actor.domain);
	expect_copied(kind, done, 100);
	EXPECT_TRUE(actor.contents(done.position, 100) == data);
}

TEST_P(IoRead, AllOfAMegabyte)
{
	const Kind& kind = GetParam();
	if (!kind.stream)
		return;
	const Actor actor;
	const Ends ends = kind.make();
	const Bytes data = pattern(1 << 20, 4);
	std::thread writer([&] {
		std::size_t done = 0;
		while (done < data.size()) {
			const ssize_t n =
				::write(ends.in, data.data() + done, std::min<std::size_t>(data.size() - done, 100000));
			if (n <= 0)
				break;
			done += static_cast<std::size_t>(n);
		}
	});
	ASSERT_EQ(submit(actor.domain, read_op(ends.out, data.size(), 5, FBUFS_IO_ALL)), 1);
	const Done done = finish_one(actor.domain, 20000);
	if (done.result != static_cast<std::int64_t>(data.size()))
		::shutdown(ends.out, SHUT_RDWR);
	writer.join();
	expect_copied(kind, done, data.size());
	ASSERT_NE(done.fbuf, 0u);
	EXPECT_TRUE(actor.contents(done.position, data.size()) == data);
}

TEST_P(IoRead, TwoMessagesInOneCall)
{
	const Kind& kind = GetParam();
	const Actor actor;
	const Ends ends = kind.make();
	const Bytes first = pattern(300, 1), second = pattern(300, 2);
	ASSERT_EQ(::write(ends.in, first.data(), 300), 300);
	ASSERT_EQ(::write(ends.in, second.data(), 300), 300);
	const Call call(actor.domain, {read_op(ends.out, 300, 1), read_op(ends.out, 300, 2)}, {}, 2);
	ASSERT_EQ(call.result, 2);
	ASSERT_EQ(call.done.size(), 2u);
	EXPECT_EQ(call.done[0].cookie, 1u);
	EXPECT_TRUE(actor.contents(call.done[0].position, 300) == first);
	EXPECT_TRUE(actor.contents(call.done[1].position, 300) == second);
	EXPECT_NE(call.done[0].fbuf, call.done[1].fbuf);
}

TEST_P(IoRead, InTheOrderOfSubmission)
{
	const Kind& kind = GetParam();
	const Actor actor;
	const Ends ends = kind.make();
	std::vector<fbufs_io_op> ops;
	for (unsigned i = 0; i < 8; i++)
		ops.push_back(read_op(ends.out, 100, i));
	ASSERT_EQ(Call(actor.domain, ops, {}).result, 8);
	for (unsigned i = 0; i < 8; i++) {
		const Bytes data = pattern(100, i);
		ASSERT_EQ(::write(ends.in, data.data(), 100), 100);
	}
	const std::vector<Done> done = finish(actor.domain, 8);
	ASSERT_EQ(done.size(), 8u);
	for (const Done& one : done) {
		EXPECT_EQ(one.result, 100);
		EXPECT_TRUE(actor.contents(one.position, 100) == pattern(100, static_cast<unsigned>(one.cookie)));
	}
}

TEST_P(IoRead, EndOfFile)
{
	const Kind& kind = GetParam();
	if (!kind.stream)
		return;
	const Actor actor;
	Ends ends = kind.make();
	ASSERT_EQ(::write(ends.in, "abc", 3), 3);
	ends.in.reset();
	EXPECT_EQ(complete(actor.domain, read_op(ends.out, page)).result, 3);
	for (const std::uint32_t flags : {0u, FBUFS_IO_ALL, FBUFS_IO_COPY}) {
		const std::uint64_t used = actor.used();
		const Done done = complete(actor.domain, read_op(ends.out, page, 1, flags));
		EXPECT_EQ(done.result, 0);
		EXPECT_EQ(done.flags, FBUFS_IO_END);
		EXPECT_EQ(done.fbuf, 0u);
		EXPECT_EQ(done.position, 0u);
		EXPECT_EQ(done.message, 0u);
		EXPECT_LE(actor.used(), used + page);
	}
}

TEST_P(IoRead, AllEndsWithTheFile)
{
	const Kind& kind = GetParam();
	if (!kind.stream)
		return;
	const Actor actor;
	Ends ends = kind.make();
	ASSERT_EQ(submit(actor.domain, read_op(ends.out, page, 1, FBUFS_IO_ALL)), 1);
	ASSERT_EQ(::write(ends.in, "abc", 3), 3);
	EXPECT_TRUE(finish(actor.domain, 1, 30).empty());
	ASSERT_EQ(::write(ends.in, "defg", 4), 4);
	EXPECT_TRUE(finish(actor.domain, 1, 30).empty());
	ends.in.reset();
	const Done done = finish_one(actor.domain);
	EXPECT_EQ(done.result, 7);
	ASSERT_NE(done.fbuf, 0u);
	EXPECT_EQ(std::memcmp(actor.window.at(done.position), "abcdefg", 7), 0);
	EXPECT_TRUE(done.flags & FBUFS_IO_END) << "there is no more, and the operation knows";
}

TEST_P(IoRead, LongDatagramIsTruncated)
{
	const Kind& kind = GetParam();
	if (kind.stream)
		return;
	const Actor actor;
	const Ends ends = kind.make();
	const Bytes data = pattern(5000, 3);
	ASSERT_EQ(::write(ends.in, data.data(), data.size()), 5000);
	ASSERT_EQ(::write(ends.in, "next", 4), 4);
	Done done = complete(actor.domain, read_op(ends.out, 100));
	EXPECT_EQ(done.result, 100);
	EXPECT_EQ(done.copied, 100u);
	EXPECT_TRUE(done.flags & FBUFS_IO_TRUNCATED);
	EXPECT_TRUE(actor.contents(done.position, 100) == pattern(100, 3));
	EXPECT_EQ(actor.contents(done.position + 100, 1)[0], 0);
	done = complete(actor.domain, read_op(ends.out, 4));
	EXPECT_EQ(done.result, 4);
	EXPECT_FALSE(done.flags & FBUFS_IO_TRUNCATED);
}

TEST_P(IoRead, EmptyDatagramIsNoEnd)
{
	const Kind& kind = GetParam();
	// A seqpacket's empty message and its end are the same to recv(2).
	if (kind.stream || std::strcmp(kind.name, "UnixSeqpacket") == 0)
		return;
	const Actor actor;
	const Ends ends = kind.make();
	ASSERT_EQ(::send(ends.in, "", 0, 0), 0);
	ASSERT_EQ(::send(ends.in, "more", 4, 0), 4);
	Done done = complete(actor.domain, read_op(ends.out, page));
	EXPECT_EQ(done.result, 0);
	EXPECT_FALSE(done.flags & FBUFS_IO_END) << "there is more";
	done = complete(actor.domain, read_op(ends.out, page));
	EXPECT_EQ(done.result, 4);
}

INSTANTIATE_TEST_SUITE_P(From, IoRead, testing::ValuesIn(kinds),
			 [](const auto& test) { return std::string(test.param.name); });

TEST_F(IoMoves, DatagramTellsItsSender)
{
	for (const int family : {AF_INET, AF_INET6}) {
		const Actor actor;
		const Ends ends = make_udp(family);
		const Place sender = place_of(ends.in, family);
		ASSERT_EQ(::write(ends.in, "hello", 5), 5);
		sockaddr_storage from;
		static_assert(sizeof(from) == 128);
		std::memset(&from, 0xaa, sizeof(from));
		fbufs_io_op op = read_op(ends.out, page);
		op.address = address(&from);
		const Done done = complete(actor.domain, op);
		EXPECT_EQ(done.result, 5);
		ASSERT_EQ(done.address_length, sender.length);
		EXPECT_EQ(std::string(reinterpret_cast<char*>(&from), sender.length), sender.bytes());
		EXPECT_EQ(reinterpret_cast<std::uint8_t*>(&from)[sender.length], 0xaa);
	}
	const Actor actor;
	const Fd to(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
		from(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	sockaddr_un name = {};
	name.sun_family = AF_UNIX;
	std::strcpy(name.sun_path + 1, "fbufs-io-to");
	ASSERT_EQ(::bind(to, reinterpret_cast<sockaddr*>(&name), sizeof(sa_family_t) + 12), 0);
	ASSERT_EQ(::connect(from, reinterpret_cast<sockaddr*>(&name), sizeof(sa_family_t) + 12), 0);
	std::strcpy(name.sun_path + 1, "fbufs-io-from");
	ASSERT_EQ(::bind(from, reinterpret_cast<sockaddr*>(&name), sizeof(sa_family_t) + 14), 0);
	ASSERT_EQ(::write(from, "hello", 5), 5);
	sockaddr_un got = {};
	fbufs_io_op op = read_op(to, page);
	std::uint8_t room[128] = {};
	op.address = address(room);
	const Done done = complete(actor.domain, op);
	EXPECT_EQ(done.result, 5);
	EXPECT_EQ(done.address_length, sizeof(sa_family_t) + 14);
	std::memcpy(&got, room, sizeof(got));
	EXPECT_STREQ(got.sun_path + 1, "fbufs-io-from");
}

TEST_F(IoMoves, ReadsOneFbufForManyMegabytes)
{
	const Actor actor(16 << 20);
	const Fd zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
	const Done done = complete(actor.domain, read_op(zero, 3 << 20, 1, FBUFS_IO_ALL));
	EXPECT_EQ(done.result, 3 << 20);
	const Bytes bytes = actor.contents(done.position, 3 << 20);
	EXPECT_EQ(std::count(bytes.begin(), bytes.end(), 0), 3 << 20);
}

TEST_F(IoMoves, ReadsDevices)
{
	const Actor actor;
	const Fd zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC)), random(::open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	Done done = complete(actor.domain, read_op(zero, 10000));
	EXPECT_EQ(done.result, 10000);
	EXPECT_EQ(done.copied, 10000u);
	EXPECT_EQ(done.flags, FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
	EXPECT_EQ(done.reason, FBUFS_IO_NO_REFERENCES);
	done = complete(actor.domain, read_op(random, 10000, 1, FBUFS_IO_ALL));
	EXPECT_EQ(done.result, 10000);
	const Bytes bytes = actor.contents(done.position, 10000);
	EXPECT_LT(std::count(bytes.begin(), bytes.end(), bytes[0]), 200);
}

TEST_F(IoMoves, WritesToNull)
{
	const Actor actor;
	const Fd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
	const fbufs_buffer buffer = actor.filled(1 << 20);
	const Done done = complete(actor.domain, write_op(null), {slice_of(buffer.fbuf, 0, 1 << 20)});
	EXPECT_EQ(done.result, 1 << 20);
	EXPECT_EQ(actor.state(buffer), FBUFS_STATE_OWNED);
	EXPECT_EQ(done.flags, FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
	EXPECT_EQ(done.reason, FBUFS_IO_NO_REFERENCES);
}

//
// Files
//

class IoFile : public IoTest {
protected:
	Actor actor;
	Fd file = temporary_file();

	Bytes file_contents(int fd)
	{
		struct stat status = {};
		EXPECT_EQ(::fstat(fd, &status), 0);
		Bytes bytes(static_cast<std::size_t>(status.st_size));
		EXPECT_EQ(::pread(fd, bytes.data(), bytes.size(), 0), status.st_size);
		return bytes;
	}
};

TEST_F(IoFile, WrittenAtOffsetsAndHere)
{
	Load load;
	load.fbuf(actor, 4 * page);
	load.slice(0, 100, 5000);
	load.slice(0, 0, 50);
	fbufs_io_op op = write_op(file, 1, 2);
	op.offset = 3000;
	Done done = complete(actor.domain, op, load.slices);
	EXPECT_EQ(done.result, 5050);
	EXPECT_EQ(done.copied, 5050u);
	EXPECT_EQ(done.flags, FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
	EXPECT_EQ(done.reason, FBUFS_IO_PAGE_CACHE);
	Bytes expected(3000);
	expected.insert(expected.end(), load.expected.begin(), load.expected.end());
	EXPECT_TRUE(file_contents(file) == expected);
	EXPECT_EQ(::lseek(file, 0, SEEK_CUR), 0) << "the position is not for an offset";

	// Here, twice: one behind the other.
	for (std::ptrdiff_t i = 0; i < 2; i++) {
		done = complete(actor.domain, write_op(file), {slice_of(load.buffers[0].fbuf, 0, 10)});
		EXPECT_EQ(done.result, 10);
		std::copy_n(load.before[0].begin(), 10, expected.begin() + 10 * i);
	}
	EXPECT_EQ(::lseek(file, 0, SEEK_CUR), 20);
	EXPECT_TRUE(file_contents(file) == expected);

	// At the end.
	done = complete(actor.domain, write_op(file, 1, 1, FBUFS_IO_APPEND), {slice_of(load.buffers[0].fbuf, 7, 13)});
	EXPECT_EQ(done.result, 13);
	expected.insert(expected.end(), load.before[0].begin() + 7, load.before[0].begin() + 20);
	EXPECT_TRUE(file_contents(file) == expected);
	EXPECT_EQ(actor.state(load.buffers[0]), FBUFS_STATE_OWNED);
}

TEST_F(IoFile, WrittenByMegabytes)
{
	Load load;
	load.fbuf(actor, 3 << 20);
	load.slice(0, 1, (3 << 20) - 1);
	const Done done = complete(actor.domain, write_op(file, 1, 1, FBUFS_IO_GIVE), load.slices);
	EXPECT_EQ(done.result, (3 << 20) - 1);
	EXPECT_TRUE(file_contents(file) == load.expected);
	EXPECT_TRUE(actor.becomes(load.buffers[0], FBUFS_STATE_FREE));
}

TEST_F(IoFile, AppendedByADescriptorThatAppends)
{
	const Fd appending = temporary_file(O_RDWR | O_APPEND);
	ASSERT_EQ(::write(appending, "abc", 3), 3);
	const fbufs_buffer buffer = actor.filled(page);
	std::memcpy(actor.at(buffer), "defg", 4);
	ASSERT_EQ(::lseek(appending, 0, SEEK_SET), 0);
	EXPECT_EQ(complete(actor.domain, write_op(appending), {slice_of(buffer.fbuf, 0, 4)}).result, 4);
	const Bytes bytes = file_contents(appending);
	EXPECT_EQ(std::string(bytes.begin(), bytes.end()), "abcdefg");
}

TEST_F(IoFile, ReadAtOffsetsAndHere)
{
	const Bytes data = pattern(3 * page + 77, 5);
	ASSERT_EQ(::pwrite(file, data.data(), data.size(), 0), static_cast<ssize_t>(data.size()));
	fbufs_io_op op = read_op(file, page, 1);
	op.offset = 1000;
	Done done = complete(actor.domain, op);
	EXPECT_EQ(done.result, static_cast<std::int64_t>(page));
	EXPECT_EQ(done.copied, page);
	EXPECT_EQ(done.flags, FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
	EXPECT_EQ(done.reason, FBUFS_IO_PAGE_CACHE);
	EXPECT_TRUE(actor.contents(done.position, page) == Bytes(data.begin() + 1000, data.begin() + 1000 + page));
	EXPECT_EQ(::lseek(file, 0, SEEK_CUR), 0);
	for (std::ptrdiff_t at = 0; at < 400; at += 200) {
		done = complete(actor.domain, read_op(file, 200));
		EXPECT_EQ(done.result, 200);
		EXPECT_TRUE(actor.contents(done.position, 200) == Bytes(data.begin() + at, data.begin() + at + 200));
	}
	EXPECT_EQ(::lseek(file, 0, SEEK_CUR), 400);
	// Across the end, and behind it.
	op.offset = data.size() - 10;
	done = complete(actor.domain, op);
	EXPECT_EQ(done.result, 10);
	EXPECT_TRUE(actor.contents(done.position, 10) == Bytes(data.end() - 10, data.end()));
	op.offset = data.size();
	done = complete(actor.domain, op);
	EXPECT_EQ(done.result, 0);
	EXPECT_EQ(done.flags, FBUFS_IO_END);
	EXPECT_EQ(done.fbuf, 0u);
}

// As by read(2): all there is, in one.
TEST_F(IoFile, ReadByMegabytes)
{
	const Bytes data = pattern((3 << 20) + 5, 5);
	ASSERT_EQ(::pwrite(file, data.data(), data.size(), 0), static_cast<ssize_t>(data.size()));
	for (const std::uint32_t flags : {FBUFS_IO_ALL, 0u}) {
		fbufs_io_op op = read_op(file, 4 << 20, 1, flags);
		op.offset = 0;
		const Done done = complete(actor.domain, op);
		EXPECT_EQ(done.result, static_cast<std::int64_t>(data.size())) << flags;
		const auto got = static_cast<std::size_t>(std::max<std::int64_t>(done.result, 0));
		EXPECT_TRUE(actor.contents(done.position, got) == pattern(got, 5));
		EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {done.fbuf}), 1);
	}
}

TEST_F(IoFile, CopiedWithoutBeingTouched)
{
	const Bytes data = pattern(2 * page, 6);
	ASSERT_EQ(::pwrite(file, data.data(), data.size(), 0), static_cast<ssize_t>(data.size()));
	const Done done = complete(actor.domain, read_op(file, 2 * page));
	ASSERT_NE(done.fbuf, 0u);
	const Fd copy = temporary_file();
	EXPECT_EQ(
		complete(actor.domain, write_op(copy, 1, 1, FBUFS_IO_GIVE), {slice_of(done.fbuf, 0, 2 * page)}).result,
		static_cast<std::int64_t>(2 * page));
	EXPECT_TRUE(file_contents(copy) == data);
}

// tmpfs lets files be opened with O_DIRECT, and copies.
TEST_F(IoFile, DirectInNameOnlyIsACopy)
{
	const Fd direct = temporary_file(O_RDWR | O_DIRECT);
	if (direct.get() < 0)
		GTEST_SKIP() << "no O_DIRECT on tmpfs";
	const fbufs_buffer buffer = actor.filled(page);
	Done done = complete(actor.domain, write_op(direct), {slice_of(buffer.fbuf, 0, page)});
	EXPECT_EQ(done.result, static_cast<std::int64_t>(page));
	EXPECT_EQ(done.flags, FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
	EXPECT_EQ(done.copied, page);
	fbufs_io_op op = read_op(direct, page);
	op.offset = 0;
	done = complete(actor.domain, op);
	EXPECT_EQ(done.result, static_cast<std::int64_t>(page));
	EXPECT_EQ(done.flags, FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
	EXPECT_EQ(done.copied, page);
}

class IoDirect : public IoFile {
protected:
	Disk disk;
	void SetUp() override
	{
		IoFile::SetUp();
		ASSERT_TRUE(disk.mounted()) << command_said();
	}
};

TEST_F(IoDirect, DoesNotCopy)
{
	const Fd direct = temporary_file(O_RDWR | O_DIRECT, Disk::place());
	ASSERT_GE(direct.get(), 0);
	const fbufs_buffer buffer = actor.filled(8 * page, 3);
	fbufs_io_op op = write_op(direct);
	op.offset = 2 * page;
	Done done = complete(actor.domain, op, {slice_of(buffer.fbuf, page, 6 * page)});
	EXPECT_EQ(done.result, static_cast<std::int64_t>(6 * page));
	EXPECT_EQ(done.flags, FBUFS_IO_ZEROCOPY);
	EXPECT_EQ(done.copied, 0u);
	EXPECT_EQ(done.reason, FBUFS_IO_NO_REASON);
	EXPECT_EQ(actor.state(buffer), FBUFS_STATE_OWNED);
	op = read_op(direct, 6 * page);
	op.offset = 2 * page;
	done = complete(actor.domain, op);
	EXPECT_EQ(done.result, static_cast<std::int64_t>(6 * page));
	EXPECT_EQ(done.flags, FBUFS_IO_ZEROCOPY);
	EXPECT_EQ(done.copied, 0u);
	EXPECT_TRUE(actor.contents(done.position, 6 * page) == actor.contents(buffer.position + page, 6 * page));
	// What does not lie as the disk wants it is refused, and is the caller's again.
	op = write_op(direct);
	op.offset = 0;
	done = complete(actor.domain, op, {slice_of(buffer.fbuf, 1, 1000)});
	EXPECT_EQ(done.result, -EINVAL);
	EXPECT_EQ(actor.state(buffer), FBUFS_STATE_OWNED);
}

//
// With channels
//

TEST_F(IoMoves, ReadsForAChannel)
{
	const Actor actor;
	const Fd to = open_domain();
	const Channel channel(actor.domain, to);
	const Ends ends = make_unix_stream();
	const Bytes data = pattern(5000, 8);
	for (int round = 0; round < 3; round++) {
		ASSERT_EQ(::write(ends.in, data.data(), data.size()), 5000);
		fbufs_io_op op = read_op(ends.out, 2 * page);
		op.end = channel.sender;
		const Done done = complete(actor.domain, op);
		ASSERT_EQ(done.result, 5000);
		EXPECT_EQ(locate(actor.domain, done.position).out_channel, channel.id);
		ASSERT_EQ(send_one(channel.sender, done.fbuf, 0, 5000), 1);
		const Received received(channel.receiver);
		ASSERT_EQ(received.result, 1);
		{
			const Window window = window_of(to, done.fbuf);
			EXPECT_TRUE(look(window, received.slices) == data);
		}
		EXPECT_EQ(handles(to, FBUFS_RELEASE, {received.handle()}), 1);
		EXPECT_EQ(actor.used(), 2 * page) << "the channel's free fbuf is used again";
	}
}

TEST_F(IoMoves, ForwardsAHeldMessage)
{
	for (const Kind& kind : kinds) {
		const Actor actor;
		const Fd to = open_domain();
		const Channel channel(actor.domain, to);
		const Ends ends = kind.make();
		const Gauges before(actor.domain);
		const fbufs_buffer buffer = actor.filled(4 * page, 2);
		ASSERT_EQ(send_one(channel.sender, buffer.fbuf, 100, 10000), 1);
		const Received received(channel.receiver);
		ASSERT_EQ(received.result, 1);
		// A domain without a pool.
		ASSERT_EQ(submit(to, write_op(ends.in, 3, 2),
				 {slice_of(buffer.fbuf, 200, 5000, received.handle()),
				  slice_of(buffer.fbuf, 100, 300, received.handle())}),
			  1);
		// The kernel holds it on its own account.
		EXPECT_EQ(handles(to, FBUFS_RELEASE, {received.handle()}), 1);
		if (kind.references) {
			EXPECT_EQ(actor.state(buffer), FBUFS_STATE_SENT) << kind.name;
			EXPECT_TRUE(store_faults(actor.at(buffer)));
		}
		Bytes expected = pattern(4 * page, 2);
		const Bytes tail(expected.begin() + 100, expected.begin() + 400);
		expected = Bytes(expected.begin() + 200, expected.begin() + 5200);
		expected.insert(expected.end(), tail.begin(), tail.end());
		std::vector<Done> done;
		EXPECT_TRUE(pump(to, ends.out, expected.size(), done) == expected) << kind.name;
		if (done.empty())
			done.push_back(finish_one(to));
		EXPECT_EQ(done[0].result, 5300);
		EXPECT_EQ(done[0].flags & FBUFS_IO_ZEROCOPY, kind.references ? FBUFS_IO_ZEROCOPY : 0u);
		EXPECT_TRUE(actor.becomes(buffer, FBUFS_STATE_FREE)) << kind.name;
	}
}

//
// Taking
//

struct Taker {
	const char* name;
	Ends (*make)();

	friend void PrintTo(const Taker& taker, std::ostream* to) { *to << taker.name; }
};

class IoTake : public IoTest, public testing::WithParamInterface<std::tuple<Taker, After>> {
protected:
	Ends ends = std::get<0>(GetParam()).make(), next = make_pipe();
	Remote from{4 << 20};
	Actor to{4 << 20};
	bool gives = std::get<1>(GetParam()) == After::goes_home;
	std::uint32_t give = gives ? FBUFS_IO_GIVE : 0;

	void expect_home(const fbufs_buffer& buffer)
	{
		if (gives) {
			EXPECT_TRUE(from.becomes(buffer, FBUFS_STATE_FREE)) << from.state(buffer);
		} else {
			EXPECT_TRUE(from.becomes(buffer, FBUFS_STATE_OWNED)) << from.state(buffer);
		}
	}
};

TEST_P(IoTake, IsTheVeryFbuf)
{
	const Gauges before(to.domain);
	const fbufs_buffer buffer = from.filled(4 * page, 5);
	const std::uint64_t from_used = from.used(), to_used = to.used();
	const std::uint64_t pages = gauges(to.domain)[FBUFS_GAUGE_PAGES];
	ASSERT_EQ(from.submit(write_op(ends.in, 1, 1, give), {slice_of(buffer.fbuf, page, 3 * page)}), 1);
	const Done done = complete(to.domain, read_op(ends.out, 1 << 20, 8));
	EXPECT_EQ(done.cookie, 8u);
	EXPECT_EQ(done.result, static_cast<std::int64_t>(3 * page));
	EXPECT_EQ(done.flags, FBUFS_IO_ZEROCOPY);
	EXPECT_EQ(done.copied, 0u);
	EXPECT_EQ(done.reason, FBUFS_IO_NO_REASON);
	EXPECT_EQ(done.fbuf, 0u);
	ASSERT_NE(done.message, 0u);
	const Bytes data = pattern(4 * page, 5);
	{
		const Window window = window_of(to.domain, done.where.at(0).fbuf);
		ASSERT_EQ(window.error(), 0);
		std::uint32_t behind = page;
		for (const fbufs_slice& slice : done.where) {
			EXPECT_EQ(slice.fbuf, buffer.fbuf);
			EXPECT_EQ(slice.hold, 0u);
			EXPECT_EQ(slice.offset, behind);
			EXPECT_EQ(slice.position, buffer.position + slice.offset);
			behind += slice.length;
		}
		EXPECT_EQ(done.where.size(), 1u) << "neighbours are one slice";
		EXPECT_TRUE(look(window, done.where) == Bytes(data.begin() + page, data.end()));
		EXPECT_TRUE(from.store_faults(buffer));
		EXPECT_EQ(from.used(), from_used);
		EXPECT_EQ(to.used(), to_used);
		EXPECT_EQ(gauges(to.domain)[FBUFS_GAUGE_PAGES], pages);
		EXPECT_EQ(from.finish(1, gives ? 2000 : 50).n, gives ? 1u : 0u)
			<< "given: it is complete when accepted; else when the reader is done";
		EXPECT_EQ(from.state(buffer), FBUFS_STATE_SENT);
		EXPECT_EQ(handles(to.domain, FBUFS_RELEASE, {done.message}), 1);
		EXPECT_TRUE(load_faults(window.at(done.where[0].position))) << "released, and still to be read";
	}
	expect_home(buffer);
	if (!gives) {
		EXPECT_EQ(from.finish().last.result, static_cast<std::int64_t>(3 * page));
		EXPECT_TRUE(from.has_pattern(buffer, 4 * page, 5));
	}
	EXPECT_TRUE(before.are_back(FBUFS_GAUGE_IO));
	EXPECT_TRUE(before.are_back(FBUFS_GAUGE_MESSAGES));
}

TEST_P(IoTake, CopiesWhenTold)
{
	const fbufs_buffer buffer = from.filled(4 * page, 5);
	ASSERT_EQ(from.submit(write_op(ends.in, 1, 1, give), {slice_of(buffer.fbuf, 0, 4 * page)}), 1);
	const Done done = complete(to.domain, read_op(ends.out, 4 * page, 8, FBUFS_IO_COPY | FBUFS_IO_ALL));
	EXPECT_EQ(done.result, static_cast<std::int64_t>(4 * page));
	EXPECT_EQ(done.flags & how_bits & ~FBUFS_IO_FALLBACK, FBUFS_IO_COPIED);
	EXPECT_EQ(done.copied, 4 * page);
	EXPECT_EQ(done.message, 0u);
	ASSERT_NE(done.fbuf, 0u);
	EXPECT_TRUE(to.contents(done.position, 4 * page) == pattern(4 * page, 5));
	EXPECT_EQ(to.used(), 4 * page);
	expect_home(buffer);
}

TEST_P(IoTake, NotLessThanAPage)
{
	const fbufs_buffer buffer = from.filled(4 * page, 5);
	const Bytes data = pattern(4 * page, 5);
	// Neither the beginning nor the end is a page's.
	ASSERT_EQ(from.submit(write_op(ends.in, 1, 1, give), {slice_of(buffer.fbuf, 100, 1000)}), 1);
	Done done = complete(to.domain, read_op(ends.out, 1 << 20));
	EXPECT_EQ(done.result, 1000);
	EXPECT_EQ(done.message, 0u);
	EXPECT_EQ(done.copied, 1000u);
	EXPECT_EQ(done.flags, FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
	EXPECT_EQ(done.reason, FBUFS_IO_NOT_FBUFS);
	EXPECT_TRUE(to.contents(done.position, 1000) == Bytes(data.begin() + 100, data.begin() + 1100));
	expect_home(buffer);
}

TEST_P(IoTake, WholePagesAndTheRest)
{
	const fbufs_buffer buffer = from.filled(4 * page, 5);
	const Bytes data = pattern(4 * page, 5);
	ASSERT_EQ(from.submit(write_op(ends.in, 1, 1, give), {slice_of(buffer.fbuf, page, 2 * page + 100)}), 1);
	Bytes seen;
	bool taken = false;
	while (seen.size() < 2 * page + 100) {
		const Done done = complete(to.domain, read_op(ends.out, 1 << 20));
		ASSERT_GT(done.result, 0);
		Bytes part;
		if (done.message) {
			taken = true;
			for (const fbufs_slice& slice : done.where)
				EXPECT_EQ(slice.length % page, 0u) << "part of a page, which holds more than was sent";
			part = look(window_of(to.domain, buffer.fbuf), done.where);
			EXPECT_EQ(handles(to.domain, FBUFS_RELEASE, {done.message}), 1);
		} else {
			part = to.contents(done.position, static_cast<std::size_t>(done.result));
		}
		EXPECT_EQ(part.size(), static_cast<std::size_t>(done.result));
		seen.insert(seen.end(), part.begin(), part.end());
	}
	EXPECT_TRUE(seen == Bytes(data.begin() + page, data.begin() + 3 * page + 100));
	EXPECT_TRUE(taken);
	expect_home(buffer);
}

TEST_P(IoTake, NoMoreThanWanted)
{
	const fbufs_buffer buffer = from.filled(8 * page, 5);
	const Bytes data = pattern(8 * page, 5);
	ASSERT_EQ(from.submit(write_op(ends.in, 1, 1, give), {slice_of(buffer.fbuf, 0, 8 * page)}), 1);
	Bytes seen;
	for (const std::size_t wanted : {2 * page, page, 2 * page + 5, page - 1, 8 * page}) {
		const Done done = complete(to.domain, read_op(ends.out, wanted));
		ASSERT_GT(done.result, 0);
		EXPECT_LE(done.result, static_cast<std::int64_t>(wanted));
		const Bytes part = done.message ? look(window_of(to.domain, buffer.fbuf), done.where)
						: to.contents(done.position, static_cast<std::size_t>(done.result));
		seen.insert(seen.end(), part.begin(), part.end());
		if (done.message) {
			EXPECT_EQ(handles(to.domain, FBUFS_RELEASE, {done.message}), 1);
		}
	}
	EXPECT_TRUE(seen == Bytes(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(seen.size())));
	// The rest, by an ordinary read.
	std::vector<Done> ignored;
	const Bytes rest = pump(to.domain, ends.out, 8 * page - seen.size(), ignored);
	EXPECT_TRUE(rest == Bytes(data.begin() + static_cast<std::ptrdiff_t>(seen.size()), data.end()));
	expect_home(buffer);
}

TEST_P(IoTake, AfterOtherBytes)
{
	const fbufs_buffer buffer = from.filled(page, 5);
	ASSERT_EQ(::write(ends.in, "before", 6), 6);
	ASSERT_EQ(from.submit(write_op(ends.in, 1, 1, give), {slice_of(buffer.fbuf, 0, page)}), 1);
	ASSERT_EQ(::write(ends.in, "behind", 6), 6);
	Bytes seen;
	while (seen.size() < page + 12) {
		const Done done = complete(to.domain, read_op(ends.out, 1 << 20));
		ASSERT_GT(done.result, 0);
		const Bytes part = done.message ? look(window_of(to.domain, buffer.fbuf), done.where)
						: to.contents(done.position, static_cast<std::size_t>(done.result));
		seen.insert(seen.end(), part.begin(), part.end());
		if (done.message) {
			EXPECT_EQ(handles(to.domain, FBUFS_RELEASE, {done.message}), 1);
		}
	}
	EXPECT_EQ(std::string(seen.begin(), seen.begin() + 6), "before");
	EXPECT_TRUE(Bytes(seen.begin() + 6, seen.end() - 6) == pattern(page, 5));
	EXPECT_EQ(std::string(seen.end() - 6, seen.end()), "behind");
	expect_home(buffer);
}

TEST_P(IoTake, OfManyFbufs)
{
	std::vector<fbufs_buffer> buffers;
	std::vector<fbufs_slice> slices;
	Bytes expected;
	for (unsigned i = 0; i < 10; i++) {
		buffers.push_back(from.filled(2 * page, i));
		slices.push_back(slice_of(buffers[i].fbuf, i % 2 ? page : 0, page));
		const Bytes data = pattern(2 * page, i);
		const auto begin = data.begin() + (i % 2 ? page : 0);
		expected.insert(expected.end(), begin, begin + page);
	}
	ASSERT_EQ(from.submit(write_op(ends.in, 1, 10, give), slices), 1);
	const Done done = complete(to.domain, read_op(ends.out, 10 * page, 1, FBUFS_IO_ALL));
	EXPECT_EQ(done.result, static_cast<std::int64_t>(10 * page));
	EXPECT_EQ(done.copied, 0u);
	ASSERT_EQ(done.where.size(), 10u);
	EXPECT_TRUE(look(window_of(to.domain, buffers[0].fbuf), done.where) == expected);
	EXPECT_EQ(handles(to.domain, FBUFS_RELEASE, {done.message}), 1);
	for (const fbufs_buffer& buffer : buffers)
		expect_home(buffer);
}

// What was taken can be sent on: to a channel, and to a descriptor.
TEST_P(IoTake, IsSentOn)
{
	const Fd third = open_domain();
	const Channel channel(to.domain, third);
	const fbufs_buffer buffer = from.filled(2 * page, 5);
	ASSERT_EQ(from.submit(write_op(ends.in, 1, 1, give), {slice_of(buffer.fbuf, 0, 2 * page)}), 1);
	const Done done = complete(to.domain, read_op(ends.out, 2 * page));
	ASSERT_NE(done.message, 0u);
	fbufs_message message = {};
	message.slices = 1;
	ASSERT_EQ(send(channel.sender, {message}, {slice_of(buffer.fbuf, page, page, done.message)}), 1);
	const Received received(channel.receiver);
	ASSERT_EQ(received.result, 1);
	EXPECT_EQ(handles(to.domain, FBUFS_RELEASE, {done.message}), 1);
	EXPECT_EQ(from.state(buffer), FBUFS_STATE_SENT);
	{
		const Bytes data = pattern(2 * page, 5);
		const Window window = window_of(third, buffer.fbuf);
		EXPECT_TRUE(look(window, received.slices) == Bytes(data.begin() + page, data.end()));
	}
	EXPECT_EQ(handles(third, FBUFS_RELEASE, {received.handle()}), 1);
	expect_home(buffer);
}

// Two kernels hold it: that of the originator's operation and that of the taker's. Both complete.
TEST_P(IoTake, IsWrittenOn)
{
	const fbufs_buffer buffer = from.filled(2 * page, 5);
	ASSERT_EQ(from.submit(write_op(ends.in, 1, 1, give), {slice_of(buffer.fbuf, 0, 2 * page)}), 1);
	const Done done = complete(to.domain, read_op(ends.out, 2 * page));
	ASSERT_NE(done.message, 0u);
	ASSERT_EQ(submit(to.domain, write_op(next.in, 2), {slice_of(buffer.fbuf, 0, 2 * page, done.message)}), 1);
	EXPECT_EQ(handles(to.domain, FBUFS_RELEASE, {done.message}), 1);
	EXPECT_EQ(from.state(buffer), FBUFS_STATE_SENT);
	EXPECT_TRUE(from.store_faults(buffer));
	EXPECT_TRUE(read_some(next.out, 1 << 16) == pattern(2 * page, 5));
	EXPECT_EQ(finish_one(to.domain, 2000).cookie, 2u) << "the taker's";
	EXPECT_EQ(from.finish(1, 2000).last.cookie, 1u) << "the originator's";
	expect_home(buffer);
}

// Slices of own fbufs and of held messages in one operation: it is complete when the own ones are the caller's.
TEST_P(IoTake, OwnAndHeldTogether)
{
	const fbufs_buffer theirs = from.filled(page, 5), own = to.filled(page, 6);
	ASSERT_EQ(from.submit(write_op(ends.in, 1, 1, give), {slice_of(theirs.fbuf, 0, page)}), 1);
	const Done done = complete(to.domain, read_op(ends.out, page));
	ASSERT_NE(done.message, 0u);
	ASSERT_EQ(submit(to.domain, write_op(next.in, 2, 2),
			 {slice_of(own.fbuf, 0, page), slice_of(theirs.fbuf, 0, page, done.message)}),
		  1);
	EXPECT_EQ(handles(to.domain, FBUFS_RELEASE, {done.message}), 1);
	// The other process takes both, its own among them.
	ASSERT_EQ(from.submit(read_op(next.out, 2 * page, 3), {}), 1);
	std::uint64_t held = 0;
	for (std::size_t i = 0; i < 2 && !held; i++)
		held = from.finish().last.message;
	ASSERT_NE(held, 0u);
	EXPECT_TRUE(finish(to.domain, 1, 50).empty()) << "complete, while somebody holds the own fbuf";
	EXPECT_EQ(to.state(own), FBUFS_STATE_SENT);
	EXPECT_EQ(from.run([=](Actor& actor) { return handles(actor.domain, FBUFS_RELEASE, {held}); }), 1);
	EXPECT_TRUE(to.becomes(own, FBUFS_STATE_OWNED)) << to.state(own);
	EXPECT_EQ(finish(to.domain, 1, 2000).size(), 1u);
	expect_home(theirs);
}

// One's own fbufs come back as a message of one's own.
TEST_P(IoTake, OfOneself)
{
	const fbufs_buffer buffer = to.filled(2 * page, 5);
	ASSERT_EQ(submit(to.domain, write_op(ends.in, 1, 1, give), {slice_of(buffer.fbuf, 0, 2 * page)}), 1);
	ASSERT_EQ(submit(to.domain, read_op(ends.out, 2 * page, 2)), 1);
	std::vector<Done> done = finish(to.domain, gives ? 2 : 1);
	ASSERT_EQ(done.size(), gives ? 2u : 1u);
	if (done[0].cookie == 1)
		std::swap(done[0], done[1]);
	ASSERT_EQ(done[0].cookie, 2u);
	ASSERT_NE(done[0].message, 0u);
	EXPECT_TRUE(store_faults(to.at(buffer)));
	const Bytes data = pattern(2 * page, 5);
	// To oneself once more, as a held message.
	ASSERT_EQ(submit(to.domain, write_op(next.in, 3), {slice_of(buffer.fbuf, 0, page, done[0].message)}), 1);
	EXPECT_EQ(handles(to.domain, FBUFS_RELEASE, {done[0].message}), 1);
	EXPECT_EQ(to.state(buffer), FBUFS_STATE_SENT);
	EXPECT_TRUE(read_some(next.out, 1 << 16) == Bytes(data.begin(), data.begin() + page));
	EXPECT_EQ(finish(to.domain, gives ? 1 : 2).size(), gives ? 1u : 2u);
	EXPECT_TRUE(to.becomes(buffer, gives ? FBUFS_STATE_FREE : FBUFS_STATE_OWNED)) << to.state(buffer);
}

INSTANTIATE_TEST_SUITE_P(From, IoTake,
			 testing::Combine(testing::Values(Taker{"Pipe", [] { return make_pipe(); }},
							  Taker{"UnixStream", make_unix_stream}),
					  testing::Values(After::comes_back, After::goes_home)),
			 [](const auto& test) {
				 return std::string(std::get<0>(test.param).name) +
					(std::get<1>(test.param) == After::goes_home ? "_Give" : "_Return");
			 });

// A domain that takes needs no window before; between processes.
TEST_F(IoMoves, TakesBetweenProcesses)
{
	const Ends ends = make_unix_stream();
	Actor from;
	const Process reader([&](int socket) {
		const Actor to;
		const Call call(to.domain, {read_op(ends.out, 4 * page, 1, FBUFS_IO_ALL)}, {}, 1);
		CHILD_EXPECT(call.done.size() == 1);
		CHILD_EXPECT(call.done[0].message != 0);
		CHILD_EXPECT(look(window_of(to.domain, call.done[0].where[0].fbuf), call.done[0].where) ==
			     pattern(4 * page, 9));
		tell(socket, 'h');
		CHILD_EXPECT(hear(socket) == 'r');
		CHILD_EXPECT(handles(to.domain, FBUFS_RELEASE, {call.done[0].message}) == 1);
		tell(socket, 'd');
		CHILD_EXPECT(hear(socket) == 'e');
		return 0;
	});
	const fbufs_buffer buffer = from.filled(4 * page, 9);
	ASSERT_EQ(submit(from.domain, write_op(ends.in), {slice_of(buffer.fbuf, 0, 4 * page)}), 1);
	ASSERT_EQ(hear(reader.socket()), 'h');
	EXPECT_TRUE(finish(from.domain, 1, 50).empty());
	EXPECT_TRUE(store_faults(from.at(buffer)));
	tell(reader.socket(), 'r');
	ASSERT_EQ(hear(reader.socket()), 'd');
	EXPECT_EQ(finish_one(from.domain).result, static_cast<std::int64_t>(4 * page));
	EXPECT_FALSE(store_faults(from.at(buffer)));
	tell(reader.socket(), 'e');
}

} // namespace
