// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// FBUFS_SEND_FILE: a file's own pages go to a stream socket, without a signal, and with the truth about copies.

#include "support/network.hpp"

#include <netinet/tcp.h>

namespace {

using namespace uapi;

constexpr std::size_t file_bytes = 70 * page + 100;

Fd filled_file()
{
	Fd file = temporary_file();
	const Bytes data = pattern(file_bytes, 5);
	EXPECT_EQ(::pwrite(file, data.data(), file_bytes, 0), static_cast<ssize_t>(file_bytes));
	return file;
}

Bytes part(std::size_t from, std::size_t bytes)
{
	const Bytes all = pattern(file_bytes, 5);
	return Bytes(all.begin() + static_cast<std::ptrdiff_t>(from),
		     all.begin() + static_cast<std::ptrdiff_t>(from + bytes));
}

// So many bytes, or what there is when no more comes.
Bytes read_all(int fd, std::size_t bytes)
{
	Bytes all;
	while (all.size() < bytes) {
		const Bytes more = read_some(fd, bytes - all.size());
		if (more.empty())
			break;
		all.insert(all.end(), more.begin(), more.end());
	}
	return all;
}

class SendFile : public IoTest {
protected:
	// No pool: none is needed.
	Fd domain = open_domain();
	Fd file = filled_file();
	fbufs_send_file args = {};

	long send(int to, std::uint64_t offset, std::uint64_t bytes, std::uint32_t flags = 0)
	{
		args = send_file_args(to, file, offset, bytes, flags);
		return call(domain, FBUFS_SEND_FILE, args);
	}
	void expect_refused(long error, int to, std::uint64_t offset = 0, std::uint64_t bytes = page)
	{
		const off_t before = ::lseek(file, 0, SEEK_CUR);
		EXPECT_EQ(send(to, offset, bytes), error);
		EXPECT_EQ(::lseek(file, 0, SEEK_CUR), before);
	}
};

struct Stream {
	const char* name;
	Ends (*make)();
};

class SendFileTo : public SendFile, public testing::WithParamInterface<Stream> {
protected:
	Ends ends = GetParam().make();
};

TEST_P(SendFileTo, GoesByReferenceToTheEnd)
{
	const std::size_t start = 5000;
	Bytes got;
	std::thread reader([&] { got = read_all(ends.out, file_bytes - start); });
	// Its O_NONBLOCK does not matter.
	::fcntl(ends.in, F_SETFL, O_NONBLOCK);
	EXPECT_EQ(send(ends.in, start, file_bytes), static_cast<long>(file_bytes - start));
	EXPECT_EQ(args.out_how, FBUFS_IO_ZEROCOPY | FBUFS_IO_END);
	EXPECT_EQ(args.out_reason, FBUFS_IO_NO_REASON);
	reader.join();
	EXPECT_TRUE(got == part(start, file_bytes - start));
	EXPECT_EQ(::lseek(file, 0, SEEK_CUR), 0) << "the position is not used";
	EXPECT_EQ(counters(domain)[FBUFS_COUNT_BYTES_COPIED], 0u);
}

TEST_P(SendFileTo, GoesOnFromThePosition)
{
	::lseek(file, file_bytes - 6000, SEEK_SET);
	EXPECT_EQ(send(ends.in, FBUFS_IO_HERE, page), static_cast<long>(page));
	EXPECT_EQ(args.out_how, FBUFS_IO_ZEROCOPY);
	EXPECT_EQ(send(ends.in, FBUFS_IO_HERE, page), 1904);
	EXPECT_EQ(args.out_how, FBUFS_IO_ZEROCOPY | FBUFS_IO_END);
	EXPECT_EQ(::lseek(file, 0, SEEK_CUR), static_cast<off_t>(file_bytes));
	EXPECT_EQ(send(ends.in, FBUFS_IO_HERE, page), 0);
	EXPECT_EQ(args.out_how, FBUFS_IO_END);
	EXPECT_TRUE(read_all(ends.out, 6000) == part(file_bytes - 6000, 6000));
}

// Nobody reads: what fits is sent, and the next call says that there is no room.
TEST_P(SendFileTo, DontWaitSendsWhatFits)
{
	ASSERT_EQ(::ftruncate(file, 64 << 20), 0);
	const long n = send(ends.in, 0, 64 << 20, FBUFS_DONTWAIT);
	ASSERT_GT(n, 0);
	EXPECT_LT(n, 64 << 20);
	EXPECT_EQ(args.out_how, FBUFS_IO_ZEROCOPY);
	EXPECT_EQ(send(ends.in, FBUFS_IO_HERE, 1 << 20, FBUFS_DONTWAIT), -EAGAIN);
	EXPECT_EQ(::lseek(file, 0, SEEK_CUR), 0);
	const Bytes got = read_all(ends.out, file_bytes);
	EXPECT_TRUE(got == part(0, got.size()));
}

TEST_P(SendFileTo, WaitsUntilASignal)
{
	ASSERT_EQ(::ftruncate(file, 64 << 20), 0);
	long n = 0;
	std::atomic<bool> over = false;
	std::thread sender([&] {
		n = send(ends.in, 0, 64 << 20);
		over = true;
	});
	struct sigaction action = {}, before;
	action.sa_handler = [](int) {};
	::sigaction(SIGUSR1, &action, &before);
	std::this_thread::sleep_for(std::chrono::milliseconds(100));
	EXPECT_FALSE(over) << "it did not wait";
	EXPECT_TRUE(eventually([&] {
		::pthread_kill(sender.native_handle(), SIGUSR1);
		return over.load();
	}));
	sender.join();
	::sigaction(SIGUSR1, &before, nullptr);
	EXPECT_GT(n, 0) << "what was sent counts";
	EXPECT_LT(n, 64 << 20);
	EXPECT_EQ(args.out_how, FBUFS_IO_ZEROCOPY);
}

// Its default action would end the test.
TEST_P(SendFileTo, NoReaderIsNoSignal)
{
	ends.out.reset();
	EXPECT_TRUE(eventually([&] { return send(ends.in, 0, page) < 0; }));
	EXPECT_EQ(send(ends.in, 0, page), -EPIPE);
}

// What was sent from the file is not an fbuf's: nobody takes it into a pool.
TEST_P(SendFileTo, IsNotTakenForFbufs)
{
	const Actor reader;
	ASSERT_EQ(send(ends.in, 0, 2 * page), static_cast<long>(2 * page));
	const Done done = complete(reader.domain, read_op(ends.out, 2 * page, 1, FBUFS_IO_ALL));
	EXPECT_EQ(done.result, static_cast<long>(2 * page));
	EXPECT_EQ(done.message, 0u);
	EXPECT_EQ(done.copied, 2 * page);
	EXPECT_TRUE(reader.contents(done.position, 2 * page) == part(0, 2 * page));
}

INSTANTIATE_TEST_SUITE_P(, SendFileTo,
			 testing::Values(Stream{"Tcp4", make_tcp4}, Stream{"Tcp6", make_tcp6},
					 Stream{"Unix", make_unix_stream}),
			 [](const auto& each) { return std::string(each.param.name); });

TEST_F(SendFile, RefusesWhatIsNoStreamSocket)
{
	const Ends pipe = make_pipe(), packets = make_unix_seqpacket(), datagrams = make_udp4();
	expect_refused(-ENOTSOCK, pipe.in);
	expect_refused(-ENOTSOCK, domain);
	expect_refused(-EPROTOTYPE, packets.in);
	expect_refused(-EPROTOTYPE, datagrams.in);
	expect_refused(-EBADF, -1);
}

TEST_F(SendFile, RefusesWhatIsNoFile)
{
	const Ends ends = make_unix_stream(), pipe = make_pipe();
	const Fd blind = temporary_file(O_WRONLY);
	const Fd channel_domain = open_domain();
	for (const auto& [from, error] : {std::pair{pipe.out.get(), -EINVAL},
					  {ends.out.get(), -EINVAL},
					  {blind.get(), -EBADF},
					  {channel_domain.get(), -EINVAL},
					  {-1, -EBADF}}) {
		args = send_file_args(ends.in, from, FBUFS_IO_HERE, page);
		EXPECT_EQ(call(domain, FBUFS_SEND_FILE, args), error) << from;
	}
	expect_refused(-EINVAL, ends.in, 0, 0);
	expect_refused(-EINVAL, ends.in, std::uint64_t{1} << 63);
	EXPECT_EQ(::recv(ends.out, &args, 1, MSG_DONTWAIT), -1) << "something was sent";
}

TEST_F(SendFile, NotConnectedIsAnError)
{
	const Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	expect_refused(-EPIPE, socket);
}

TEST_F(SendFile, OfAnotherProcessIsRefused)
{
	const Ends ends = make_unix_stream();
	EXPECT_EQ(in_child([&] { return send(ends.in, 0, page) == -EPERM ? 0 : 1; }), 0);
}

TEST_F(SendFile, TlsCopiesAndSaysSo)
{
	const Ends ends = make_tcp4();
	ASSERT_EQ(::setsockopt(ends.in, IPPROTO_TCP, TCP_ULP, "tls", 4), 0) << std::strerror(errno);
	EXPECT_EQ(send(ends.in, 0, 3 * page), static_cast<long>(3 * page));
	EXPECT_EQ(args.out_how, FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
	EXPECT_EQ(args.out_reason, FBUFS_IO_TRANSFORMED);
	EXPECT_EQ(counters(domain)[FBUFS_COUNT_BYTES_COPIED], 3 * page);
	EXPECT_TRUE(read_all(ends.out, 3 * page) == part(0, 3 * page));
}

// sendfile(2) cannot tell.
TEST_F(SendFile, ADeviceThatCannotGatherCopiesAndSaysSo)
{
	const Network network;
	ASSERT_TRUE(network.made());
	network.in("near", "ethtool -K n0 sg off");
	const Ends ends = Network::tcp(AF_INET);
	EXPECT_EQ(send(ends.in, 0, 3 * page), static_cast<long>(3 * page));
	EXPECT_EQ(args.out_how, FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
	EXPECT_EQ(args.out_reason, FBUFS_IO_NO_SCATTER_GATHER);
	EXPECT_TRUE(read_all(ends.out, 3 * page) == part(0, 3 * page));
}

} // namespace
