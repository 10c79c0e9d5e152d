// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// FBUFS_IO where something fails, is full, never comes, or dies: the errors are those of the manual, and
// every fbuf is somebody's again.

#include "support/io.hpp"

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>

namespace {

using namespace uapi;

constexpr std::size_t bytes = 4 * page;

class IoFailures : public IoTest {
protected:
	Actor actor{8 << 20};
	fbufs_buffer buffer = actor.filled(bytes, 7);
	Bytes data = pattern(bytes, 7);

	std::vector<fbufs_slice> all() const { return {slice_of(buffer.fbuf, 0, bytes)}; }
	void expect_mine(const char* what)
	{
		ASSERT_EQ(actor.state(buffer), FBUFS_STATE_OWNED) << what;
		EXPECT_TRUE(actor.contents(buffer.position, bytes) == data) << what;
		EXPECT_FALSE(store_faults(actor.at(buffer))) << what;
		*actor.at(buffer) = data[0];
	}
	// One operation, with and without FBUFS_IO_GIVE, that fails without a byte.
	void expect_error(const char* what, int fd, int error)
	{
		for (const std::uint32_t flags : {0u, FBUFS_IO_GIVE}) {
			const Done done = complete(actor.domain, write_op(fd, 3, 1, flags), all());
			EXPECT_EQ(done.cookie, 3u) << what;
			EXPECT_EQ(done.result, -error) << what;
			EXPECT_EQ(done.copied, 0u) << what;
			EXPECT_EQ(done.flags, 0u) << what;
			ASSERT_NO_FATAL_FAILURE(expect_mine(what));
		}
	}
};

TEST_F(IoFailures, BrokenPipesWithoutASignal)
{
	struct sigaction old = {};
	struct sigaction fatal = {};
	fatal.sa_handler = [](int) { ::_exit(33); };
	ASSERT_EQ(::sigaction(SIGPIPE, &fatal, &old), 0);
	Ends pipe = make_pipe();
	pipe.out.reset();
	expect_error("pipe", pipe.in, EPIPE);
	for (const auto& make : {make_unix_stream, make_unix_seqpacket}) {
		Ends ends = make();
		ends.out.reset();
		expect_error("unix", ends.in, EPIPE);
	}
	Ends tcp = make_tcp4();
	::shutdown(tcp.in, SHUT_WR);
	expect_error("tcp", tcp.in, EPIPE);
	::sigaction(SIGPIPE, &old, nullptr);
}

TEST_F(IoFailures, ResetConnections)
{
	Ends tcp = make_tcp4();
	const linger now = {1, 0};
	ASSERT_EQ(::setsockopt(tcp.out, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	tcp.out.reset();
	const Done done = complete(actor.domain, read_op(tcp.in, page));
	EXPECT_EQ(done.result, -ECONNRESET);
	EXPECT_EQ(done.fbuf, 0u);
	EXPECT_EQ(done.flags, 0u);
	tcp = make_tcp6();
	ASSERT_EQ(::setsockopt(tcp.out, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	tcp.out.reset();
	const Done written = complete(actor.domain, write_op(tcp.in), all());
	EXPECT_TRUE(written.result == -ECONNRESET || written.result == -EPIPE) << written.result;
	expect_mine("reset");
}

TEST_F(IoFailures, DatagramsNobodyWants)
{
	Ends udp = make_udp4();
	udp.out.reset();
	EXPECT_EQ(complete(actor.domain, write_op(udp.in), all()).result, static_cast<std::int64_t>(bytes));
	EXPECT_EQ(complete(actor.domain, write_op(udp.in), all()).result, -ECONNREFUSED) << "the first one's error";
	expect_mine("refused");
	EXPECT_EQ(complete(actor.domain, write_op(udp.in), all()).result, static_cast<std::int64_t>(bytes));
	EXPECT_EQ(complete(actor.domain, read_op(udp.in, page)).result, -ECONNREFUSED);
}

TEST_F(IoFailures, DatagramTooLong)
{
	const fbufs_buffer large = actor.filled(1 << 20);
	for (const auto& make : {make_udp4, make_udp6, make_unix_datagram, make_unix_seqpacket}) {
		const Ends ends = make();
		const Done done = complete(actor.domain, write_op(ends.in), {slice_of(large.fbuf, 0, 1 << 20)});
		EXPECT_EQ(done.result, -EMSGSIZE);
		EXPECT_EQ(actor.state(large), FBUFS_STATE_OWNED);
	}
}

TEST_F(IoFailures, NotConnected)
{
	const Fd tcp(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
		udp(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	expect_error("udp", udp, EDESTADDRREQ);
	const Done done = complete(actor.domain, write_op(tcp), all());
	EXPECT_TRUE(done.result == -EPIPE || done.result == -ENOTCONN) << done.result;
	EXPECT_EQ(complete(actor.domain, read_op(tcp, page)).result, -ENOTCONN);
}

TEST_F(IoFailures, FullFileSystem)
{
	const char* place = "/tmp/io_full";
	(void)::mkdir(place, 0755);
	if (::mount("none", place, "tmpfs", 0, "size=64k") < 0)
		GTEST_SKIP() << "mount: " << std::strerror(errno);
	{
		const Fd file = temporary_file(O_RDWR, place);
		const fbufs_buffer large = actor.filled(1 << 20, 4);
		const Done done = complete(actor.domain, write_op(file), {slice_of(large.fbuf, 0, 1 << 20)});
		EXPECT_EQ(done.result, 65536) << "as much as there was room for";
		EXPECT_EQ(done.copied, 65536u);
		EXPECT_EQ(actor.state(large), FBUFS_STATE_OWNED);
		expect_error("full", file, ENOSPC);
	}
	EXPECT_EQ(::umount(place), 0);
}

TEST_F(IoFailures, FileSizeLimit)
{
	EXPECT_EQ(in_child([] {
			  ::signal(SIGXFSZ, SIG_IGN);
			  const rlimit limit = {10000, 10000};
			  CHILD_EXPECT(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
			  const Actor own;
			  const Fd file = temporary_file();
			  const fbufs_buffer filled = own.filled(bytes);
			  Done done = complete(own.domain, write_op(file), {slice_of(filled.fbuf, 0, bytes)});
			  CHILD_EXPECT(done.result == 10000);
			  done = complete(own.domain, write_op(file), {slice_of(filled.fbuf, 0, bytes)});
			  CHILD_EXPECT(done.result == -EFBIG);
			  CHILD_EXPECT(own.state(filled) == FBUFS_STATE_OWNED);
			  return 0;
		  }),
		  0);
}

TEST_F(IoFailures, SealedFile)
{
	const Fd file(::memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC));
	ASSERT_EQ(::fcntl(file, F_ADD_SEALS, F_SEAL_WRITE), 0);
	expect_error("sealed", file, EPERM);
}

TEST_F(IoFailures, ShortEventfdRead)
{
	const Fd event(static_cast<int>(::syscall(SYS_eventfd2, 5, O_CLOEXEC)));
	Done done = complete(actor.domain, read_op(event, 4));
	EXPECT_EQ(done.result, -EINVAL);
	EXPECT_EQ(done.fbuf, 0u);
	done = complete(actor.domain, read_op(event, 8));
	EXPECT_EQ(done.result, 8);
	EXPECT_EQ(*actor.window.at(done.position), 5);
	// Now it has to wait.
	ASSERT_EQ(submit(actor.domain, read_op(event, 8)), 1);
	EXPECT_TRUE(finish(actor.domain, 1, 30).empty());
	EXPECT_EQ(cancel(actor.domain, 1), 1);
	EXPECT_EQ(finish_one(actor.domain).result, -ECANCELED);
}

//
// What waits
//

// A descriptor that takes no more, because its reader never reads.
class IoWaiting : public IoFailures, public testing::WithParamInterface<Kind> {
protected:
	Ends ends = GetParam().make();
	std::vector<fbufs_buffer> buffers;
	std::size_t submitted = 0;

	static bool never_waits() { return std::strncmp(GetParam().name, "Udp", 3) == 0; }
	// Operations with cookie 1, one of which at least waits.
	void fill()
	{
		if (GetParam().stream) {
			buffers.push_back(actor.filled(4 << 20, 2));
			// A pipe takes few slices, however long they are.
			std::vector<fbufs_slice> slices;
			for (std::uint32_t at = 0; at < 4 << 20; at += 1 << 16)
				slices.push_back(slice_of(buffers[0].fbuf, at, 1 << 16));
			ASSERT_EQ(submit(actor.domain, write_op(ends.in, 1, 64), slices), 1);
			submitted = 1;
			return;
		}
		for (; submitted < 300; submitted++) {
			buffers.push_back(actor.filled(bytes, 2));
			ASSERT_EQ(submit(actor.domain, write_op(ends.in), {slice_of(buffers.back().fbuf, 0, bytes)}),
				  1);
		}
	}
};

TEST_P(IoWaiting, OthersGoOn)
{
	if (never_waits())
		return;
	fill();
	const std::size_t early = finish(actor.domain, submitted, 100).size();
	ASSERT_LT(early, submitted) << "all of it fitted";
	// In both directions, to others, and the other direction of this one.
	const Ends other = make_unix_stream();
	const Done written = complete(actor.domain, write_op(other.in, 5, 1, FBUFS_IO_GIVE), all());
	EXPECT_EQ(written.cookie, 5u);
	EXPECT_EQ(written.result, static_cast<std::int64_t>(bytes));
	EXPECT_EQ(complete(actor.domain, read_op(other.out, page, 6)).cookie, 6u);
	if (std::strcmp(GetParam().name, "Pipe") != 0) {
		ASSERT_EQ(::write(ends.out, "back", 4), 4);
		const Done read = complete(actor.domain, read_op(ends.in, page, 7));
		EXPECT_EQ(read.cookie, 7u);
		EXPECT_EQ(read.result, 4);
	}
	EXPECT_FALSE(polls(actor.domain, POLLIN, 30)) << "there is nothing to go on with";
	EXPECT_EQ(Call(actor.domain, {}, {}, 1, FBUFS_DONTWAIT).result, -EAGAIN);
}

TEST_P(IoWaiting, GoesOnWhenThereIsRoom)
{
	if (never_waits())
		return;
	fill();
	std::vector<Done> done = finish(actor.domain, submitted, 100);
	ASSERT_LT(done.size(), submitted);
	EXPECT_FALSE(polls(actor.domain, POLLIN, 30));
	const std::size_t total = GetParam().stream ? 4 << 20 : submitted * bytes;
	std::size_t got = 0;
	while (got < total) {
		const std::size_t want = GetParam().stream ? std::min<std::size_t>(total - got, 1 << 18) : bytes;
		const Bytes some = read_some(ends.out, want);
		ASSERT_FALSE(some.empty()) << got;
		got += some.size();
		// Whoever sleeps in poll hears of the room: else this stops.
		(void)polls(actor.domain, POLLIN, 0);
		for (Done& one : finish(actor.domain, submitted - done.size(), 0))
			done.push_back(one);
	}
	for (Done& one : finish(actor.domain, submitted - done.size()))
		done.push_back(one);
	ASSERT_EQ(done.size(), submitted);
	for (const Done& one : done)
		EXPECT_EQ(one.result, static_cast<std::int64_t>(total / submitted));
	for (const fbufs_buffer& one : buffers)
		EXPECT_EQ(actor.state(one), FBUFS_STATE_OWNED);
}

TEST_P(IoWaiting, IsCancelled)
{
	if (never_waits())
		return;
	fill();
	const std::size_t early = finish(actor.domain, submitted, 100).size();
	// Behind the others: nothing of it goes anywhere.
	ASSERT_EQ(submit(actor.domain, write_op(ends.in, 2, 1, FBUFS_IO_GIVE), all()), 1);
	EXPECT_EQ(cancel(actor.domain, 9), -ENOENT);
	EXPECT_EQ(cancel(actor.domain, 2), 1);
	const Done never = finish_one(actor.domain);
	EXPECT_EQ(never.cookie, 2u);
	EXPECT_EQ(never.result, -ECANCELED);
	expect_mine("cancelled");
	EXPECT_EQ(cancel(actor.domain, 2), -ENOENT);
	const long cancelled = cancel(actor.domain, 1);
	EXPECT_GE(cancelled, 1);
	EXPECT_LE(cancelled, static_cast<long>(submitted - early));
	EXPECT_EQ(cancel(actor.domain, 1), -ENOENT);
	// What was accepted comes back when the other side closes; a pipe keeps it until both have.
	ends = {};
	const std::vector<Done> done = finish(actor.domain, submitted - early);
	ASSERT_EQ(done.size(), submitted - early);
	std::size_t none = 0;
	for (const Done& one : done) {
		none += one.result == -ECANCELED;
		if (GetParam().stream) {
			EXPECT_GT(one.result, 0) << "the bytes done so far";
			EXPECT_LT(one.result, 4 << 20);
		}
	}
	EXPECT_EQ(none, GetParam().stream ? 0u : static_cast<std::size_t>(cancelled));
	for (const fbufs_buffer& one : buffers)
		EXPECT_EQ(actor.state(one), FBUFS_STATE_OWNED);
}

TEST_P(IoWaiting, CompletesWhenTheReaderCloses)
{
	if (never_waits())
		return;
	fill();
	const std::size_t early = finish(actor.domain, submitted, 100).size();
	ends.out.reset();
	EXPECT_TRUE(polls(actor.domain, POLLIN, 2000)) << "it can go on, to its end";
	(void)Call(actor.domain, {}, {}, 0, 0, 0);
	// A pipe keeps what is in it until both sides are closed.
	if (std::strcmp(GetParam().name, "Pipe") == 0)
		ends.in.reset();
	const std::vector<Done> done = finish(actor.domain, submitted - early);
	ASSERT_EQ(done.size(), submitted - early);
	for (const Done& one : done) {
		if (GetParam().stream) {
			EXPECT_TRUE(one.result > 0 || one.result == -EPIPE || one.result == -ECONNRESET) << one.result;
		} else {
			EXPECT_TRUE(one.result == static_cast<std::int64_t>(bytes) || one.result == -EPIPE ||
				    one.result == -ECONNREFUSED || one.result == -ENOTCONN || one.result == -ECONNRESET)
				<< one.result;
		}
	}
	for (const fbufs_buffer& one : buffers)
		EXPECT_EQ(actor.state(one), FBUFS_STATE_OWNED);
}

// The operation has the descriptor, its process need not.
TEST_P(IoWaiting, HasItsDescriptor)
{
	if (never_waits())
		return;
	fill();
	(void)finish(actor.domain, submitted, 50);
	ASSERT_EQ(submit(actor.domain, write_op(ends.in, 2), all()), 1);
	ends.in.reset();
	const std::size_t total = (GetParam().stream ? 4 << 20 : submitted * bytes) + bytes;
	std::vector<Done> done;
	std::size_t got = 0;
	Bytes last;
	while (got < total) {
		last = pump(actor.domain, ends.out,
			    GetParam().stream ? std::min<std::size_t>(total - got, 1 << 18) : bytes, done);
		ASSERT_FALSE(last.empty()) << got;
		got += last.size();
	}
	EXPECT_TRUE(Bytes(last.end() - bytes, last.end()) == data);
	ASSERT_EQ(::fcntl(ends.out, F_SETFL, O_NONBLOCK), 0);
	EXPECT_TRUE(!GetParam().stream || eventually([&] { return ::read(ends.out, last.data(), 1) == 0; }))
		<< "complete, it is closed";
}

INSTANTIATE_TEST_SUITE_P(On, IoWaiting, testing::ValuesIn(kinds),
			 [](const auto& test) { return std::string(test.param.name); });

TEST_F(IoFailures, WaitingIsInterrupted)
{
	const Ends pipe = make_pipe();
	ASSERT_EQ(submit(actor.domain, write_op(pipe.in), all()), 1);
	ASSERT_EQ(submit(actor.domain, read_op(make_unix_stream().out, page, 2)), 1);
	// Both kinds of waiting: for references that nothing tells about, and for a descriptor.
	for (int i = 0; i < 2; i++) {
		Blocked waiting([&] { return Call(actor.domain, {}, {}, 1).result; });
		if (waiting.waits(100)) {
			waiting.interrupt();
			EXPECT_EQ(waiting.result(), -EINTR);
		}
		if (i == 0) {
			EXPECT_TRUE(read_some(pipe.out, bytes) == data);
			EXPECT_FALSE(finish(actor.domain, 2, 100).empty());
			ASSERT_EQ(submit(actor.domain, read_op(pipe.out, page, 3)), 1);
			(void)finish(actor.domain, 5, 50);
		}
	}
	// Something was done before the signal: that is what is told.
	Blocked waiting([&] { return Call(actor.domain, {read_op(pipe.out, page, 4)}, {}, 1).result; });
	EXPECT_TRUE(waiting.waits());
	waiting.interrupt();
	EXPECT_EQ(waiting.result(), 1);
	EXPECT_GE(cancel(actor.domain, 4), 1);
}

// Waits in a child for far more than comes, with a signal every 2 ms: each ends the waiting.
int wait_among_signals(int fd)
{
	const Actor own(32 << 20);
	struct sigaction action = {};
	action.sa_handler = [](int) {};
	::sigaction(SIGALRM, &action, nullptr);
	const itimerval often = {{0, 2000}, {0, 2000}};
	::setitimer(ITIMER_REAL, &often, nullptr);
	CHILD_EXPECT(submit(own.domain, read_op(fd, 16 << 20, 1, FBUFS_IO_ALL | FBUFS_IO_COPY)) == 1);
	for (int i = 0; i < 100; i++)
		CHILD_EXPECT(Call(own.domain, {}, {}, 1).result == -EINTR);
	return 0;
}

// Also when a descriptor has more whenever it is looked at.
TEST_F(IoFailures, WaitingIsInterruptedAmongNews)
{
	const Ends pipe = make_pipe();
	ASSERT_EQ(::fcntl(pipe.in, F_SETFL, O_NONBLOCK), 0);
	const pid_t child = ::fork();
	if (child == 0)
		::_exit(wait_among_signals(pipe.out));
	std::atomic<bool> stop = false;
	std::thread feeder([&] {
		while (!stop)
			(void)!::write(pipe.in, "abcd", 4);
	});
	int status = -1;
	EXPECT_TRUE(eventually([&] { return ::waitpid(child, &status, WNOHANG) == child; }, 20'000))
		<< "it does not end";
	EXPECT_EQ(status, 0);
	stop = true;
	feeder.join();
}

TEST_F(IoFailures, NothingToWaitFor)
{
	Blocked none([&] { return Call(actor.domain, {}, {}, 4).result; });
	EXPECT_EQ(none.result(), 0);
	EXPECT_EQ(Call(actor.domain, {}, {}, 0, FBUFS_DONTWAIT).result, 0);
	const Fd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
	Blocked fewer([&] {
		const Call call(actor.domain, {write_op(null)}, all(), 3);
		return call.result == 1 && call.done.size() == 1;
	});
	EXPECT_EQ(fewer.result(), 1) << "what no operation is left for is not waited for";
}

TEST_F(IoFailures, NonBlockingDomain)
{
	ASSERT_EQ(::fcntl(actor.domain, F_SETFL, O_NONBLOCK), 0);
	const Ends pipe = make_pipe();
	Blocked call([&] { return Call(actor.domain, {read_op(pipe.out, page)}, {}, 1).result; });
	EXPECT_EQ(call.result(), 1);
	EXPECT_EQ(Call(actor.domain, {}, {}, 1).result, -EAGAIN);
}

// Terminals know only O_NONBLOCK of their descriptors; a named pipe waits for nobody.
TEST_F(IoFailures, DontwaitDoesNotWait)
{
	const Fd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
	ASSERT_GE(master.get(), 0);
	ASSERT_EQ(::grantpt(master), 0);
	ASSERT_EQ(::unlockpt(master), 0);
	char name[64];
	ASSERT_EQ(::ptsname_r(master, name, sizeof(name)), 0);
	const Fd terminal(::open(name, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
	const fbufs_buffer large = actor.filled(1 << 20);
	Blocked writing([&] {
		return Call(actor.domain, {write_op(terminal)}, {slice_of(large.fbuf, 0, 1 << 20)}, 0, FBUFS_DONTWAIT)
			.result;
	});
	EXPECT_EQ(writing.result(2000), 1) << "a terminal that nobody reads";
	Blocked reading([&] { return Call(actor.domain, {read_op(terminal, 100, 2)}, {}, 0, FBUFS_DONTWAIT).result; });
	EXPECT_EQ(reading.result(2000), 1);
	const std::string fifo = "/tmp/io_fifo";
	(void)::mkfifo(fifo.c_str(), 0600);
	const Fd named(::open(fifo.c_str(), O_RDWR | O_CLOEXEC));
	::unlink(fifo.c_str());
	Blocked fifo_writing([&] {
		return Call(actor.domain, {write_op(named, 3)}, {slice_of(actor.filled(1 << 20).fbuf, 0, 1 << 20)}, 0,
			    FBUFS_DONTWAIT)
			.result;
	});
	EXPECT_EQ(fifo_writing.result(2000), 1);
}

//
// Pools without room
//

class IoPool : public IoTest {
protected:
	Actor tiny{4 * page};
};

TEST_F(IoPool, PoolTooSmallForARead)
{
	const Ends ends = make_pipe();
	ASSERT_EQ(::write(ends.in, "abc", 3), 3);
	Done done = complete(tiny.domain, read_op(ends.out, 5 * page));
	EXPECT_EQ(done.result, -ENOBUFS) << "never";
	EXPECT_EQ(done.fbuf, 0u);
	const fbufs_buffer rest = alloc_one(tiny.domain, 4 * page);
	done = complete(tiny.domain, read_op(ends.out, page));
	EXPECT_EQ(done.result, -ENOBUFS) << "nothing comes home by itself";
	EXPECT_EQ(handles(tiny.domain, FBUFS_FREE, {rest.fbuf}), 1);
	done = complete(tiny.domain, read_op(ends.out, page));
	EXPECT_EQ(done.result, 3) << "no byte was lost";
	EXPECT_EQ(std::memcmp(tiny.window.at(done.position), "abc", 3), 0);
}

TEST_F(IoPool, FullPoolWaitsForWhatComesHome)
{
	const Fd other = open_domain();
	const Channel channel(tiny.domain, other);
	const fbufs_buffer sent = alloc_one(channel.sender, 4 * page);
	ASSERT_EQ(send_one(channel.sender, sent.fbuf, 0, 1), 1);
	const Ends ends = make_pipe();
	ASSERT_EQ(::write(ends.in, "abc", 3), 3);
	ASSERT_EQ(submit(tiny.domain, read_op(ends.out, page)), 1);
	EXPECT_TRUE(finish(tiny.domain, 1, 100).empty());
	EXPECT_EQ(handles(other, FBUFS_RELEASE, {Received(channel.receiver).handle()}), 1);
	const Done done = finish_one(tiny.domain);
	EXPECT_EQ(done.result, 3);
	EXPECT_EQ(std::memcmp(tiny.window.at(done.position), "abc", 3), 0);
}

TEST_F(IoPool, FullPoolWithWhatTheKernelHolds)
{
	const Ends out = make_pipe(), in = make_pipe();
	const fbufs_buffer written = tiny.filled(4 * page);
	ASSERT_EQ(submit(tiny.domain, write_op(out.in, 1, 1, FBUFS_IO_GIVE), {slice_of(written.fbuf, 0, 4 * page)}), 1);
	ASSERT_EQ(finish_one(tiny.domain).cookie, 1u);
	ASSERT_EQ(::write(in.in, "abc", 3), 3);
	ASSERT_EQ(submit(tiny.domain, read_op(in.out, page, 2)), 1);
	EXPECT_TRUE(finish(tiny.domain, 1, 100).empty());
	EXPECT_EQ(read_some(out.out, 4 * page).size(), 4 * page);
	Blocked waiting([&] {
		const Call call(tiny.domain, {}, {}, 1);
		return call.done.size() == 1 ? call.done[0].result : -1;
	});
	EXPECT_EQ(waiting.result(), 3);
}

//
// Ends
//

// Some of everything in flight; what it needs is left in @keep.
void in_flight(const Actor& actor, std::vector<Ends>& keep)
{
	for (const Kind& kind : kinds) {
		keep.push_back(kind.make());
		keep.push_back(kind.make());
		for (const std::uint32_t flags : {0u, FBUFS_IO_GIVE}) {
			const fbufs_buffer buffer = actor.filled(2 * page, 3);
			EXPECT_EQ(submit(actor.domain, write_op(keep.back().in, 1, 1, flags),
					 {slice_of(buffer.fbuf, 0, 2 * page)}),
				  1);
		}
		EXPECT_EQ(submit(actor.domain, read_op(keep[keep.size() - 2].out, page)), 1);
		if (kind.stream) {
			// Begun, and not complete.
			keep.push_back(kind.make());
			EXPECT_EQ(::write(keep.back().in, "abc", 3), 3);
			EXPECT_EQ(submit(actor.domain, read_op(keep.back().out, page, 1, FBUFS_IO_ALL)), 1);
			const fbufs_buffer large = actor.filled(1 << 20, 3);
			keep.push_back(kind.make());
			EXPECT_EQ(submit(actor.domain, write_op(keep.back().in), {slice_of(large.fbuf, 0, 1 << 20)}),
				  1);
		}
		if (kind.gives) {
			// Taken, and not told.
			keep.push_back(kind.make());
			const fbufs_buffer buffer = actor.filled(2 * page, 3);
			EXPECT_EQ(submit(actor.domain, write_op(keep.back().in), {slice_of(buffer.fbuf, 0, 2 * page)}),
				  1);
			EXPECT_EQ(submit(actor.domain, read_op(keep.back().out, 2 * page)), 1);
		}
	}
}

class IoEnds : public IoTest {
protected:
	Fd watcher = open_domain();
};

TEST_F(IoEnds, DomainClosedWithOperationsInFlight)
{
	const Gauges before(watcher);
	std::vector<Ends> keep;
	{
		const Actor actor(16 << 20);
		in_flight(actor, keep);
	}
	// The pages that others still see are theirs until they have read them.
	EXPECT_TRUE(before.are_back(FBUFS_GAUGE_DOMAINS));
	EXPECT_GT(gauges(watcher)[FBUFS_GAUGE_IO], 0u);
	EXPECT_TRUE(read_some(keep[1].out, 2 * page) == pattern(2 * page, 3)) << "accepted, it arrives";
	keep.clear();
	EXPECT_TRUE(before.are_back());
}

TEST_F(IoEnds, DescriptorsClosedFirst)
{
	const Gauges before(watcher);
	{
		const Actor actor(16 << 20);
		std::vector<Ends> keep;
		in_flight(actor, keep);
		keep.clear();
		// All are over but those that read what was taken, which is held, and those that read from a
		// datagram socket, which has no end: two of UDP and one of UNIX.
		bool cancelled = false;
		EXPECT_TRUE(eventually([&] {
			Call more(actor.domain, {}, {});
			for (const Done& one : more.done)
				if (one.message) {
					EXPECT_EQ(handles(actor.domain, FBUFS_RELEASE, {one.message}), 1);
				}
			if (!cancelled && gauges(watcher)[FBUFS_GAUGE_IO] == 3) {
				EXPECT_EQ(cancel(actor.domain, 1), 3);
				cancelled = true;
			}
			return before.are_back(FBUFS_GAUGE_IO, 0);
		}));
		EXPECT_TRUE(cancelled);
	}
	EXPECT_TRUE(before.are_back());
}

TEST_F(IoEnds, ProcessKilledWithOperationsInFlight)
{
	const Gauges before(watcher);
	std::vector<Ends> keep;
	{
		// The ends are here as well: only the process goes.
		const Ends shared = make_unix_stream();
		Process process([&](int socket) {
			const Actor actor(16 << 20);
			std::vector<Ends> own;
			in_flight(actor, own);
			const fbufs_buffer buffer = actor.filled(4 * page, 6);
			CHILD_EXPECT(submit(actor.domain, write_op(shared.in), {slice_of(buffer.fbuf, 0, 4 * page)}) ==
				     1);
			tell(socket, 'r');
			(void)Call(actor.domain, {}, {}, 64);
			(void)hear(socket);
			return 0;
		});
		ASSERT_EQ(hear(process.socket()), 'r');
		EXPECT_GT(gauges(watcher)[FBUFS_GAUGE_IO], 10u);
		process.kill();
		EXPECT_TRUE(before.are_back(FBUFS_GAUGE_DOMAINS));
		EXPECT_TRUE(eventually([&] { return gauges(watcher)[FBUFS_GAUGE_IO] <= 1; }))
			<< gauges(watcher)[FBUFS_GAUGE_IO];
		EXPECT_TRUE(read_some(shared.out, 4 * page) == pattern(4 * page, 6));
	}
	EXPECT_TRUE(before.are_back());
}

TEST_F(IoEnds, TakenFbufsOutliveTheirOriginator)
{
	const Gauges before(watcher);
	{
		const Ends ends = make_pipe();
		Remote from;
		const Actor to;
		const fbufs_buffer buffer = from.filled(2 * page, 8);
		ASSERT_EQ(from.submit(write_op(ends.in), {slice_of(buffer.fbuf, 0, 2 * page)}), 1);
		const Done done = complete(to.domain, read_op(ends.out, 2 * page));
		ASSERT_NE(done.message, 0u);
		from.end();
		{
			const Window window = window_of(to.domain, buffer.fbuf);
			ASSERT_EQ(window.error(), 0);
			EXPECT_TRUE(look(window, done.where) == pattern(2 * page, 8));
		}
		EXPECT_EQ(handles(to.domain, FBUFS_RELEASE, {done.message}), 1);
	}
	EXPECT_TRUE(before.are_back());
}

TEST_F(IoEnds, TakenFromAnOriginatorThatIsGone)
{
	const Gauges before(watcher);
	for (const auto& make : {+[] { return make_pipe(); }, make_unix_stream}) {
		const Ends ends = make();
		Remote from;
		const Actor to;
		const fbufs_buffer buffer = from.filled(2 * page, 8);
		ASSERT_EQ(from.submit(write_op(ends.in), {slice_of(buffer.fbuf, 0, 2 * page)}), 1);
		from.end();
		const Done done = complete(to.domain, read_op(ends.out, 2 * page));
		EXPECT_EQ(done.result, static_cast<std::int64_t>(2 * page));
		ASSERT_NE(done.message, 0u);
		const Window window = window_of(to.domain, done.where[0].fbuf);
		EXPECT_TRUE(look(window, done.where) == pattern(2 * page, 8));
	}
	EXPECT_TRUE(before.are_back());
}

TEST_F(IoEnds, TakerDiesWithWhatItTook)
{
	const Gauges before(watcher);
	{
		const Ends ends = make_pipe();
		Remote to;
		const Actor from;
		const fbufs_buffer told = from.filled(page, 1), untold = from.filled(page, 2);
		ASSERT_EQ(submit(from.domain, write_op(ends.in, 1), {slice_of(told.fbuf, 0, page)}), 1);
		ASSERT_EQ(submit(from.domain, write_op(ends.in, 2), {slice_of(untold.fbuf, 0, page)}), 1);
		ASSERT_EQ(to.submit(read_op(ends.out, page), {}), 1);
		EXPECT_NE(to.finish().last.message, 0u);
		// Submitted, and taken, without room for its completion.
		ASSERT_EQ(to.submit(read_op(ends.out, page), {}), 1);
		EXPECT_TRUE(finish(from.domain, 1, 30).empty());
		to.end();
		EXPECT_EQ(finish(from.domain, 2).size(), 2u);
		EXPECT_EQ(from.state(told), FBUFS_STATE_OWNED);
		EXPECT_EQ(from.state(untold), FBUFS_STATE_OWNED);
	}
	EXPECT_TRUE(before.are_back());
}

// A socket that holds the domain whose operation holds the socket.
TEST_F(IoEnds, NoCycleOutlivesTheProcess)
{
	const Gauges before(watcher);
	EXPECT_EQ(in_child([] {
			  const Actor actor;
			  const Ends ends = make_unix_stream();
			  CHILD_EXPECT(submit(actor.domain, read_op(ends.in, page)) == 1);
			  pass_fd(ends.in, actor.domain);
			  return 0;
		  }),
		  0);
	EXPECT_TRUE(before.are_back());
}

} // namespace
