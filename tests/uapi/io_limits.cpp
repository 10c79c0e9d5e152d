// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// FBUFS_IO at the ends of what there is: full tables, full disks, longest files, readers that never read, and
// connections that break in the middle. Nothing is lost, and what is held is bounded by the pool.

#include "support/disk.hpp"

namespace {

using namespace uapi;

class IoLimits : public IoTest {
protected:
	Actor actor{8 << 20};
	Fd watcher = open_domain();

	// With and without FBUFS_IO_GIVE: nothing is written, and the fbuf is the caller's, as it was.
	void expect_refused(const char* what, fbufs_io_op op, int error)
	{
		for (const std::uint32_t flags : {0u, FBUFS_IO_GIVE}) {
			const fbufs_buffer buffer = actor.filled(2 * page, 4);
			op.flags = flags;
			const Done done = complete(actor.domain, op, {slice_of(buffer.fbuf, 0, 2 * page)});
			EXPECT_EQ(done.result, -error) << what;
			EXPECT_EQ(done.flags, 0u) << what;
			EXPECT_EQ(done.copied, 0u) << what;
			EXPECT_EQ(actor.state(buffer), FBUFS_STATE_OWNED) << what;
			EXPECT_TRUE(actor.contents(buffer.position, 2 * page) == pattern(2 * page, 4)) << what;
			EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {buffer.fbuf}), 1) << what;
		}
	}
};

//
// The table of held messages
//

// Receives messages of a channel of its own until its table is full.
std::vector<std::uint64_t> hold_all(const Channel& self)
{
	const std::uint32_t depth = FBUFS_MAX_DEPTH;
	const fbufs_buffer buffer = alloc_one(self.sender);
	EXPECT_EQ(send_one(self.sender, buffer.fbuf, 0, 1), 1);
	const Received root(self.receiver);
	fbufs_slice again = root.slices.at(0);
	again.hold = root.handle();
	std::vector<std::uint64_t> held = {root.handle()};
	std::vector<fbufs_message> received(depth);
	std::vector<fbufs_slice> slices(depth);
	fbufs_message message = {};
	message.slices = 1;
	while (held.size() < FBUFS_MAX_HELD) {
		const std::size_t n = std::min<std::size_t>(depth, FBUFS_MAX_HELD - held.size());
		EXPECT_EQ(send(self.sender, std::vector<fbufs_message>(n, message), std::vector<fbufs_slice>(n, again)),
			  static_cast<long>(n));
		const long got = receive(self.receiver, received, slices, FBUFS_DONTWAIT);
		EXPECT_EQ(got, static_cast<long>(n));
		if (got <= 0)
			break;
		for (long i = 0; i < got; i++)
			held.push_back(received[static_cast<std::size_t>(i)].message);
	}
	return held;
}

TEST_F(IoLimits, FullTableOfHeldMessages)
{
	const Ends pipe = make_pipe(), other = make_unix_stream();
	Remote from;
	const Channel self(actor.domain, actor.domain, 0, FBUFS_MAX_DEPTH);
	std::vector<std::uint64_t> held = hold_all(self);
	ASSERT_EQ(held.size(), std::size_t{FBUFS_MAX_HELD});
	const fbufs_buffer buffer = from.filled(3 * page, 9);
	ASSERT_EQ(from.submit(write_op(pipe.in, 1), {slice_of(buffer.fbuf, 0, 3 * page)}), 1);
	// It takes the pages, and cannot give them a handle: the completion stays, call after call.
	Call full(actor.domain, {read_op(pipe.out, 3 * page, 5)}, {}, 1);
	EXPECT_EQ(full.result, 1) << "submitted";
	EXPECT_TRUE(full.done.empty());
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(Call(actor.domain, {}, {}, 1).result, -ENOBUFS);
	EXPECT_TRUE(polls(actor.domain, POLLIN)) << "there is a completion";
	EXPECT_EQ(from.state(buffer), FBUFS_STATE_SENT) << "the very fbuf is on its way";
	EXPECT_TRUE(from.store_faults(buffer));
	// What needs no handle goes on.
	ASSERT_EQ(::write(other.in, "abc", 3), 3);
	const fbufs_buffer mine = actor.filled(page, 2);
	ASSERT_EQ(submit(actor.domain, write_op(other.in, 6), {slice_of(mine.fbuf, 0, page)}), 1);
	EXPECT_EQ(read_some(other.out, 3).size(), 3u);
	EXPECT_TRUE(read_some(other.out, page) == pattern(page, 2));
	// One handle is enough.
	EXPECT_EQ(handles(actor.domain, FBUFS_RELEASE, {held.back()}), 1);
	held.pop_back();
	std::vector<Done> done = finish(actor.domain, 2);
	ASSERT_EQ(done.size(), 2u);
	if (done[0].cookie == 6)
		std::swap(done[0], done[1]);
	EXPECT_EQ(done[0].cookie, 5u);
	EXPECT_EQ(done[0].result, static_cast<std::int64_t>(3 * page));
	ASSERT_NE(done[0].message, 0u);
	EXPECT_TRUE(look(window_of(actor.domain, buffer.fbuf), done[0].where) == pattern(3 * page, 9));
	EXPECT_EQ(done[1].result, static_cast<std::int64_t>(page));
	held.push_back(done[0].message);
	EXPECT_EQ(handles(actor.domain, FBUFS_RELEASE, held), FBUFS_MAX_VECTOR);
	EXPECT_TRUE(from.becomes(buffer, FBUFS_STATE_OWNED));
}

// A domain that ends with such a completion gives the fbuf back.
TEST_F(IoLimits, EndsWithAFullTable)
{
	const Gauges before(watcher);
	const Ends pipe = make_pipe();
	Remote from;
	const fbufs_buffer buffer = from.filled(page, 9);
	ASSERT_EQ(from.submit(write_op(pipe.in, 1), {slice_of(buffer.fbuf, 0, page)}), 1);
	EXPECT_EQ(in_child([&] {
			  const Actor own(1 << 20);
			  const Channel self(own.domain, own.domain, 0, FBUFS_MAX_DEPTH);
			  CHILD_EXPECT(hold_all(self).size() == FBUFS_MAX_HELD);
			  CHILD_EXPECT(submit(own.domain, read_op(pipe.out, page)) == 1);
			  CHILD_EXPECT(Call(own.domain, {}, {}, 1).result == -ENOBUFS);
			  return 0;
		  }),
		  0);
	EXPECT_TRUE(from.becomes(buffer, FBUFS_STATE_OWNED));
	EXPECT_EQ(from.finish().last.result, static_cast<std::int64_t>(page));
	from.end();
	EXPECT_TRUE(before.are_back(FBUFS_GAUGE_MESSAGES));
	EXPECT_TRUE(before.are_back(FBUFS_GAUGE_IO));
}

//
// Readers that never read
//

class IoUnread : public IoTest, public testing::WithParamInterface<Kind> {
protected:
	static constexpr std::size_t pages = 32;
	Fd watcher = open_domain();
	Actor actor{pages * page};
	Gauges before{watcher};
};

// Given away until nothing is left: the kernel holds what the pool may hold, and no more.
TEST_P(IoUnread, BoundedByThePool)
{
	const Kind& kind = GetParam();
	if (!kind.references)
		return;
	Ends ends = kind.make();
	const std::uint64_t others = gauges(watcher)[FBUFS_GAUGE_PAGES];
	std::vector<fbufs_buffer> given;
	for (std::size_t i = 0; i < pages; i++) {
		given.push_back(actor.filled(page, 3));
		ASSERT_NE(given[i].fbuf, 0u) << i;
		ASSERT_EQ(submit(actor.domain, write_op(ends.in, i, 1, FBUFS_IO_GIVE),
				 {slice_of(given[i].fbuf, 0, page)}),
			  1);
	}
	std::vector<fbufs_buffer> one(1);
	EXPECT_EQ(alloc(actor.domain, page, one, FBUFS_DONTWAIT), -EAGAIN) << "full, and some are on their way";
	EXPECT_FALSE(polls(actor.domain, POLLOUT));
	EXPECT_EQ(actor.used(), pages * page);
	EXPECT_EQ(gauges(watcher)[FBUFS_GAUGE_PAGES] - others, pages);
	EXPECT_GE(gauges(watcher)[FBUFS_GAUGE_IO], pages - 1) << "visible to everybody";
	// Closing revokes; a pipe keeps what is in it until both sides are closed.
	if (std::strcmp(kind.name, "Pipe") == 0)
		ends.in.reset();
	ends.out.reset();
	EXPECT_TRUE(eventually([&] {
		// What had not been accepted is the caller's again.
		for (const Done& done : Call(actor.domain, {}, {}).done)
			if (done.result < 0) {
				EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {given[done.cookie].fbuf}), 1);
			}
		return gauges(watcher)[FBUFS_GAUGE_IO] == 0;
	})) << gauges(watcher)[FBUFS_GAUGE_IO];
	EXPECT_TRUE(polls(actor.domain, POLLOUT, 2000));
	std::vector<fbufs_buffer> all(pages);
	EXPECT_EQ(alloc(actor.domain, page, all, FBUFS_DONTWAIT), static_cast<long>(pages));
}

// Its originator's death leaves it to the reader, and to nobody else.
TEST_P(IoUnread, OutlivesItsOriginatorAndNoLonger)
{
	const Kind& kind = GetParam();
	if (!kind.references)
		return;
	Ends ends = kind.make();
	EXPECT_EQ(in_child([&] {
			  const Actor own(pages * page);
			  for (std::size_t i = 0; i < pages / 2; i++) {
				  const fbufs_buffer buffer = own.filled(page, static_cast<unsigned>(i));
				  CHILD_EXPECT(submit(own.domain, write_op(ends.in, i, 1, FBUFS_IO_GIVE),
						      {slice_of(buffer.fbuf, 0, page)}) == 1);
			  }
			  return 0;
		  }),
		  0);
	EXPECT_TRUE(before.are_back(FBUFS_GAUGE_DOMAINS));
	EXPECT_GT(gauges(watcher)[FBUFS_GAUGE_IO], 0u);
	EXPECT_TRUE(read_some(ends.out, page) == pattern(page, 0));
	EXPECT_TRUE(read_some(ends.out, page) == pattern(page, 1));
	ends = {};
	EXPECT_TRUE(before.are_back(FBUFS_GAUGE_IO));
}

INSTANTIATE_TEST_SUITE_P(On, IoUnread, testing::ValuesIn(kinds),
			 [](const auto& test) { return std::string(test.param.name); });

//
// Connections that break in the middle
//

void reset_connection(Fd& fd)
{
	const linger now = {1, 0};
	ASSERT_EQ(::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	fd.reset();
}

TEST_F(IoLimits, ResetInTheMiddleOfAWrite)
{
	for (const auto& make : {make_tcp4, make_tcp6}) {
		Ends ends = make();
		const fbufs_buffer large = actor.filled(4 << 20, 2);
		const Bytes expected = pattern(4 << 20, 2);
		ASSERT_EQ(submit(actor.domain, write_op(ends.in, 1), {slice_of(large.fbuf, 0, 4 << 20)}), 1);
		ASSERT_EQ(submit(actor.domain, write_op(ends.in, 2, 1, FBUFS_IO_GIVE),
				 {slice_of(actor.filled(page, 3).fbuf, 0, page)}),
			  1);
		const Bytes seen = read_some(ends.out, 100000);
		EXPECT_TRUE(seen ==
			    Bytes(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(seen.size())));
		reset_connection(ends.out);
		EXPECT_TRUE(polls(actor.domain, POLLIN, 2000));
		std::vector<Done> done = finish(actor.domain, 2);
		ASSERT_EQ(done.size(), 2u);
		if (done[0].cookie == 2)
			std::swap(done[0], done[1]);
		EXPECT_GE(done[0].result, static_cast<std::int64_t>(seen.size())) << "the bytes done so far";
		EXPECT_LT(done[0].result, 4 << 20);
		EXPECT_TRUE(done[1].result == -ECONNRESET || done[1].result == -EPIPE) << done[1].result;
		EXPECT_EQ(actor.state(large), FBUFS_STATE_OWNED);
		EXPECT_TRUE(actor.contents(large.position, 4 << 20) == expected);
		EXPECT_FALSE(store_faults(actor.at(large)));
		EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {large.fbuf}), 1);
		expect_refused("after the reset", write_op(ends.in, 4), EPIPE);
	}
}

TEST_F(IoLimits, ResetInTheMiddleOfARead)
{
	for (const auto& make : {make_tcp4, make_tcp6}) {
		Ends ends = make();
		ASSERT_EQ(submit(actor.domain, read_op(ends.out, page, 1, FBUFS_IO_ALL)), 1);
		ASSERT_EQ(::write(ends.in, "abc", 3), 3);
		EXPECT_TRUE(finish(actor.domain, 1, 100).empty());
		reset_connection(ends.in);
		const Done done = finish_one(actor.domain);
		EXPECT_EQ(done.result, 3) << "what came before is kept";
		ASSERT_NE(done.fbuf, 0u);
		EXPECT_EQ(std::memcmp(actor.window.at(done.position), "abc", 3), 0);
		EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {done.fbuf}), 1);
	}
}

//
// Longest files
//

TEST_F(IoLimits, BehindTheEndOfAllFiles)
{
	const Fd file = temporary_file();
	fbufs_io_op op = write_op(file);
	op.offset = (1ULL << 63) - 1;
	EXPECT_EQ(::pwrite(file, "ab", 2, static_cast<off_t>(op.offset)), -1);
	const int as_pwrite = errno;
	expect_refused("the last byte there is", op, as_pwrite);
	struct stat status = {};
	ASSERT_EQ(::fstat(file, &status), 0);
	EXPECT_EQ(status.st_size, 0);
}

//
// Full disks
//

class IoDisk : public IoLimits {
protected:
	Disk disk{8};
	void SetUp() override
	{
		IoLimits::SetUp();
		ASSERT_TRUE(disk.mounted()) << command_said();
	}
	// Until there is no more room for so many bytes at a time: how many went.
	std::int64_t fill(int file, std::uint32_t step)
	{
		std::int64_t total = 0;
		for (int i = 0; i < 512; i++) {
			const fbufs_buffer buffer = actor.filled(step, 5);
			const Done done = complete(actor.domain, write_op(file), {slice_of(buffer.fbuf, 0, step)});
			EXPECT_EQ(actor.state(buffer), FBUFS_STATE_OWNED);
			EXPECT_TRUE(actor.contents(buffer.position, step) == pattern(step, 5));
			EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {buffer.fbuf}), 1);
			if (done.result < 0) {
				EXPECT_EQ(done.result, -ENOSPC);
				EXPECT_EQ(done.flags, 0u);
				return total;
			}
			EXPECT_TRUE(done.result > 0 && done.result % 512 == 0) << done.result;
			total += done.result;
		}
		ADD_FAILURE() << "it is never full";
		return total;
	}
};

TEST_F(IoDisk, FullThroughThePageCache)
{
	const Fd file = temporary_file(O_RDWR, disk.place());
	EXPECT_GT(fill(file, 1 << 20), 1 << 20);
	(void)fill(file, page);
	expect_refused("full", write_op(file), ENOSPC);
	// What went is there.
	fbufs_io_op op = read_op(file, 1 << 20);
	op.offset = 0;
	const Done first = complete(actor.domain, op);
	EXPECT_TRUE(actor.contents(first.position, 1 << 20) == pattern(1 << 20, 5));
	EXPECT_EQ(::fsync(file), 0);
}

TEST_F(IoDisk, FullDirect)
{
	const Fd file = temporary_file(O_RDWR | O_DIRECT, disk.place());
	EXPECT_GT(fill(file, 1 << 20), 1 << 20);
	(void)fill(file, page);
	expect_refused("full", write_op(file), ENOSPC);
}

TEST_F(IoDisk, LongerThanAFileCanBe)
{
	for (const int flags : {O_RDWR, O_RDWR | O_DIRECT}) {
		const Fd file = temporary_file(flags, disk.place());
		fbufs_io_op op = write_op(file);
		op.offset = 1ULL << 50;
		expect_refused("a petabyte", op, EFBIG);
	}
}

TEST_F(IoDisk, ReadOnly)
{
	{
		const Fd file = temporary_file(O_RDWR, disk.place());
		ASSERT_EQ(::write(file, "abc", 3), 3);
	}
	const Fd file = temporary_file(O_RDONLY, disk.place());
	const fbufs_buffer buffer = actor.filled(page, 4);
	EXPECT_EQ(submit(actor.domain, write_op(file), {slice_of(buffer.fbuf, 0, page)}), -EBADF);
	EXPECT_EQ(actor.state(buffer), FBUFS_STATE_OWNED);
	EXPECT_FALSE(store_faults(actor.at(buffer)));
}

} // namespace
