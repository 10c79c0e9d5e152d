// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// FBUFS_IO in every combination of descriptor, way of calling, slices, sizes and O_NONBLOCK: the bytes, the
// completion and the fbufs are the same whichever way.

#include "support/disk.hpp"

namespace {

using namespace uapi;

enum class Calls { waits, submits };
enum class Mode { blocking, nonblocking };

const char* name_of(Calls calls)
{
	return calls == Calls::waits ? "Sync" : "Async";
}

const char* name_of(Mode mode)
{
	return mode == Mode::blocking ? "Blocking" : "Nonblocking";
}

void PrintTo(Calls calls, std::ostream* to)
{
	*to << name_of(calls);
}
void PrintTo(Mode mode, std::ostream* to)
{
	*to << name_of(mode);
}

// Every kind with every shape of a message, in every way to call.
template <typename Kinds>
auto each_way(const Kinds& kinds)
{
	return testing::Combine(
		testing::ValuesIn(kinds),
		testing::Values(Shape::one_small, Shape::many_small, Shape::one_large, Shape::many_large),
		testing::Values(Calls::waits, Calls::submits), testing::Values(Mode::blocking, Mode::nonblocking));
}

constexpr auto case_name = [](const auto& test) {
	return std::string(std::get<0>(test.param).name) + "_" + uapi::name_of(std::get<1>(test.param)) + "_" +
	       name_of(std::get<2>(test.param)) + "_" + name_of(std::get<3>(test.param));
};

void set_mode(int fd, Mode mode)
{
	const int flags = ::fcntl(fd, F_GETFL);
	ASSERT_EQ(::fcntl(fd, F_SETFL, mode == Mode::nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK), 0);
}

//
// Streams and datagrams
//

// Reads so many bytes, in a thread, a piece at a time.
class Reader {
public:
	Reader(int fd, std::size_t bytes, std::size_t piece)
		: thread_([=, this] {
			  Bytes some(piece);
			  while (got_.size() < bytes && polls(fd, POLLIN, 5000)) {
				  const ssize_t n = ::read(fd, some.data(), std::min(piece, bytes - got_.size()));
				  if (n < 0 && errno == EAGAIN)
					  continue;
				  if (n <= 0)
					  return;
				  got_.insert(got_.end(), some.begin(), some.begin() + n);
			  }
		  })
	{
	}
	Reader(const Reader&) = delete;
	Reader& operator=(const Reader&) = delete;
	~Reader() { (void)all(); }
	const Bytes& all()
	{
		if (thread_.joinable())
			thread_.join();
		return got_;
	}

private:
	Bytes got_;
	std::thread thread_;
};

class IoMatrix : public IoTest, public testing::WithParamInterface<std::tuple<Kind, Shape, Calls, Mode>> {
protected:
	Kind kind = std::get<0>(GetParam());
	Shape shape = std::get<1>(GetParam());
	Calls calls = std::get<2>(GetParam());
	Mode mode = std::get<3>(GetParam());
	Actor actor{8 << 20};
	Ends ends = kind.make();

	// One operation, the way that the parameters say.
	Done move(const fbufs_io_op& op, const std::vector<fbufs_slice>& slices = {})
	{
		if (calls == Calls::submits)
			return complete(actor.domain, op, slices);
		const Call call(actor.domain, {op}, slices, 1);
		EXPECT_EQ(call.result, 1);
		EXPECT_EQ(call.done.size(), 1u);
		return call.done.empty() ? Done{} : call.done[0];
	}
};

TEST_P(IoMatrix, Writes)
{
	set_mode(ends.in, mode);
	const Load load = make_load(actor, shape, kind.stream);
	// Less than a page at a time, if it can be: many steps, each of them partial.
	Reader reader(ends.out, load.expected.size(), kind.stream ? 3001 : 1 << 16);
	const Done done = move(write_op(ends.in, 9, static_cast<std::uint32_t>(load.slices.size())), load.slices);
	EXPECT_EQ(done.cookie, 9u);
	EXPECT_EQ(done.result, static_cast<std::int64_t>(load.expected.size()));
	EXPECT_EQ(done.copied, kind.references ? 0 : load.expected.size());
	EXPECT_TRUE(reader.all() == load.expected);
	for (std::size_t i = 0; i < load.buffers.size(); i++) {
		EXPECT_EQ(actor.state(load.buffers[i]), FBUFS_STATE_OWNED);
		EXPECT_FALSE(store_faults(actor.at(load.buffers[i]))) << "complete, it is the caller's";
	}
}

// What comes in pieces, from write(2), into one fbuf.
TEST_P(IoMatrix, Reads)
{
	set_mode(ends.out, mode);
	const bool large = shape == Shape::one_large || shape == Shape::many_large;
	const bool many = shape == Shape::many_small || shape == Shape::many_large;
	const std::size_t total = !large ? 1200 : kind.stream ? 1 << 20 : 60000;
	const Bytes data = pattern(total, 4);
	std::thread writer([&] {
		const std::size_t piece = kind.stream && many ? total / 12 : total;
		for (std::size_t at = 0; at < total;) {
			const ssize_t n = ::write(ends.in, data.data() + at, std::min(piece, total - at));
			if (n <= 0)
				return;
			at += static_cast<std::size_t>(n);
			if (many)
				::usleep(2000);
		}
	});
	const Done done = move(read_op(ends.out, total, 9, kind.stream ? FBUFS_IO_ALL : 0));
	writer.join();
	EXPECT_EQ(done.cookie, 9u);
	EXPECT_EQ(done.result, static_cast<std::int64_t>(total));
	EXPECT_EQ(done.copied, total);
	ASSERT_NE(done.fbuf, 0u);
	EXPECT_TRUE(actor.contents(done.position, total) == data);
	EXPECT_FALSE(store_faults(actor.window.at(done.position)));
}

INSTANTIATE_TEST_SUITE_P(Of, IoMatrix, each_way(kinds), case_name);

//
// Files
//

struct FileKind {
	const char* name;
	int flags;
	std::uint32_t op_flags;
	bool on_disk;
	bool at_offset;

	friend void PrintTo(const FileKind& kind, std::ostream* to) { *to << kind.name; }
};

constexpr FileKind file_kinds[] = {
	{"TmpfsHere", O_RDWR, 0, false, false},
	{"TmpfsAtOffset", O_RDWR, 0, false, true},
	{"TmpfsAppended", O_RDWR, FBUFS_IO_APPEND, false, false},
	{"DiskHere", O_RDWR, 0, true, false},
	{"DiskAppended", O_RDWR, FBUFS_IO_APPEND, true, false},
	{"DiskDirectHere", O_RDWR | O_DIRECT, 0, true, false},
	{"DiskDirectAtOffset", O_RDWR | O_DIRECT, 0, true, true},
	{"DiskDirectAppended", O_RDWR | O_DIRECT, FBUFS_IO_APPEND, true, false},
};

// Shapes that O_DIRECT takes: whole blocks of the disk.
Load make_aligned(const Actor& actor, Shape shape)
{
	Load load;
	const bool large = shape == Shape::one_large || shape == Shape::many_large;
	const std::size_t slices = shape == Shape::one_small || shape == Shape::one_large ? 1 : 6;
	for (std::size_t i = 0; i < slices; i++) {
		load.fbuf(actor, large ? 64 * page : 4 * page);
		load.slice(i, i % 2 * page, (large ? 60 : 2) * page);
	}
	return load;
}

class IoMatrixFile : public IoTest, public testing::WithParamInterface<std::tuple<FileKind, Shape, Calls, Mode>> {
protected:
	static inline std::unique_ptr<Disk> disk;
	static void SetUpTestSuite()
	{
		IoTest::SetUpTestSuite();
		disk = std::make_unique<Disk>(16);
	}
	static void TearDownTestSuite() { disk.reset(); }
};

TEST_P(IoMatrixFile, WrittenAndRead)
{
	const auto& [kind, shape, calls, mode] = GetParam();
	ASSERT_TRUE(!kind.on_disk || disk->mounted()) << command_said();
	const Actor actor(8 << 20);
	const Fd file = temporary_file(kind.flags, kind.on_disk ? Disk::place() : "/dev/shm");
	set_mode(file, mode);
	const bool direct = kind.flags & O_DIRECT;
	const Load load = direct ? make_aligned(actor, shape) : make_load(actor, shape, true);
	const auto length = static_cast<std::int64_t>(load.expected.size());
	fbufs_io_op op = write_op(file, 3, static_cast<std::uint32_t>(load.slices.size()), kind.op_flags);
	const std::uint64_t offset = kind.at_offset ? 2 * page : 0;
	if (kind.at_offset)
		op.offset = offset;
	const auto move = [&](const fbufs_io_op& one, const std::vector<fbufs_slice>& slices) {
		const Call call(actor.domain, {one}, slices, calls == Calls::waits ? 1 : 0);
		EXPECT_EQ(call.result, 1);
		return call.done.empty() ? finish_one(actor.domain) : call.done[0];
	};
	const Done written = move(op, load.slices);
	EXPECT_EQ(written.result, length);
	EXPECT_EQ(written.copied, direct ? 0u : load.expected.size());
	EXPECT_EQ(written.flags, direct ? FBUFS_IO_ZEROCOPY : FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
	EXPECT_EQ(written.reason, direct ? FBUFS_IO_NO_REASON : FBUFS_IO_PAGE_CACHE);
	for (const fbufs_buffer& buffer : load.buffers)
		EXPECT_FALSE(store_faults(actor.at(buffer)));
	op = read_op(file, load.expected.size(), 4, FBUFS_IO_ALL);
	op.offset = offset;
	const Done read = move(op, {});
	EXPECT_EQ(read.result, length);
	EXPECT_EQ(read.copied, direct ? 0u : load.expected.size());
	EXPECT_TRUE(actor.contents(read.position, load.expected.size()) == load.expected);
}

INSTANTIATE_TEST_SUITE_P(Of, IoMatrixFile, each_way(file_kinds), case_name);

} // namespace
