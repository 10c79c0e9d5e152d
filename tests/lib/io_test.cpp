// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// fbuf::io as a program uses it.

#include <fbuf/fbuf.hpp>

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <csignal>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>

namespace {

struct Sockets {
	std::array<int, 2> fd{};
	explicit Sockets(int type = SOCK_STREAM)
	{
		EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fd.data()), 0);
	}
	~Sockets()
	{
		for (const int each : fd)
			::close(each);
	}
};

struct Tcp {
	std::array<int, 2> fd{-1, -1};
	Tcp()
	{
		const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		ifreq lo = {};
		std::strcpy(lo.ifr_name, "lo");
		::ioctl(listener, SIOCGIFFLAGS, &lo);
		lo.ifr_flags |= IFF_UP;
		(void)::ioctl(listener, SIOCSIFFLAGS, &lo);
		sockaddr_in at = {};
		at.sin_family = AF_INET;
		at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		socklen_t length = sizeof(at);
		auto* const name = reinterpret_cast<sockaddr*>(&at);
		EXPECT_EQ(::bind(listener, name, length), 0);
		EXPECT_EQ(::listen(listener, 1), 0);
		EXPECT_EQ(::getsockname(listener, name, &length), 0);
		fd[0] = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		EXPECT_EQ(::connect(fd[0], name, length), 0);
		fd[1] = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
		::close(listener);
	}
	~Tcp()
	{
		for (const int each : fd)
			::close(each);
	}
};

struct Pipe {
	std::array<int, 2> fd{};
	Pipe() { EXPECT_EQ(::pipe2(fd.data(), O_CLOEXEC), 0); }
	~Pipe()
	{
		for (const int each : fd)
			::close(each);
	}
};

struct Program {
	fbuf::domain domain = *fbuf::domain::open();
	fbuf::io io{domain};
};

struct Originator : Program {
	fbuf::pool pool = *domain.create_pool(16 << 20);
	fbuf::buffer filled(std::size_t bytes, int with)
	{
		auto own = *pool.allocate(bytes);
		std::memset(own.data().data(), with, bytes);
		return own;
	}
};

bool all(std::span<const std::byte> bytes, int value)
{
	return std::ranges::all_of(bytes, [=](std::byte each) { return each == static_cast<std::byte>(value); });
}

std::vector<std::byte> read_all(int fd, std::size_t bytes)
{
	std::vector<std::byte> got(bytes);
	for (std::size_t have = 0; have < bytes;) {
		const ssize_t n = ::read(fd, got.data() + have, bytes - have);
		if (n <= 0)
			return {};
		have += static_cast<std::size_t>(n);
	}
	return got;
}

TEST(LibIo, ABufferIsBackWhenThePeerHasRead)
{
	Originator from;
	Sockets pair;
	auto own = from.filled(100000, 7);
	const std::byte* place = own.data().data();
	std::thread reader([&] { EXPECT_TRUE(all(read_all(pair.fd[1], 100000), 7)); });
	const auto went = from.io.write(pair.fd[0], own, 100000);
	reader.join();
	ASSERT_TRUE(went) << went.error().message();
	EXPECT_EQ(went->bytes, 100000u);
	EXPECT_EQ(went->copied, 0u);
	EXPECT_TRUE(went->zero_copy);
	ASSERT_TRUE(own);
	EXPECT_EQ(own.data().data(), place);
	std::memset(own.data().data(), 8, 100000);
}

TEST(LibIo, AGivenBufferIsGoneAtOnceAndComesHome)
{
	Originator from;
	Sockets pair;
	auto own = from.filled(4096, 7);
	ASSERT_TRUE(from.io.write(pair.fd[0], std::move(own), 4096));
	EXPECT_FALSE(own);
	EXPECT_EQ(from.domain.gauge()->io, 1u) << "the reader has not read";
	EXPECT_TRUE(all(read_all(pair.fd[1], 4096), 7));
	for (int i = 0; i < 500 && from.domain.gauge()->io; i++)
		::usleep(10000);
	EXPECT_EQ(from.domain.gauge()->io, 0u);
}

TEST(LibIo, AFailedWriteLeavesTheBuffer)
{
	Originator from;
	Sockets pair;
	::close(std::exchange(pair.fd[1], ::open("/dev/null", O_RDONLY | O_CLOEXEC)));
	auto own = from.filled(4096, 7);
	EXPECT_EQ(from.io.write(pair.fd[0], own, 4096).error(), std::errc::broken_pipe);
	ASSERT_TRUE(own);
	EXPECT_EQ(from.io.write(pair.fd[0], std::move(own), 4096).error(), std::errc::broken_pipe);
	ASSERT_TRUE(own);
	EXPECT_EQ(from.io.write(-1, own, 4096).error(), std::errc::bad_file_descriptor);
	EXPECT_EQ(from.io.write(pair.fd[0], own, 4097).error(), std::errc::result_out_of_range);
	ASSERT_TRUE(own);
	EXPECT_TRUE(all(own.data(), 7));
	std::memset(own.data().data(), 8, 4096);
}

// In another process, which has a pool of its own.
int receives_whole(int fd)
{
	Originator to;
	auto got = to.io.read(fd, 65536, {.all = true});
	if (!got || !got->held || got->own || got->bytes != 65536 || got->copied || !got->held.locked())
		return 1;
	if (!all(got->data(), 9) || to.domain.count()->bytes_copied)
		return 2;
	auto mine = fbuf::make_mutable(to.domain, std::move(got->held));
	if (!mine || !mine->own || !all(mine->own.data().first(65536), 9))
		return 3;
	std::memset(mine->own.data().data(), 1, 65536);
	return 0;
}

TEST(LibIo, WholeBuffersArriveAsTheyAre)
{
	Pipe pipe;
	Sockets pair;
	for (const auto& [write_to, read_from] :
	     {std::pair(pipe.fd[1], pipe.fd[0]), std::pair(pair.fd[0], pair.fd[1])}) {
		const pid_t child = ::fork();
		if (child == 0)
			::_exit(receives_whole(read_from));
		Originator from;
		ASSERT_TRUE(from.io.write(write_to, from.filled(65536, 9), 65536));
		int status = 0;
		::waitpid(child, &status, 0);
		EXPECT_EQ(status, 0);
	}
}

TEST(LibIo, WhatArrivedGoesOnWithAHeaderInFront)
{
	Originator from;
	Sockets in, out;
	ASSERT_TRUE(from.io.write(in.fd[0], from.filled(8192, 5), 8192));
	auto got = *from.io.read(in.fd[1], 8192);
	ASSERT_TRUE(got.held);
	fbuf::aggregate message;
	ASSERT_TRUE(message.append(from.filled(4096, 1), 0, 10));
	ASSERT_TRUE(message.append(got.held));
	const auto went = from.io.write(out.fd[0], std::move(message));
	ASSERT_TRUE(went) << went.error().message();
	EXPECT_EQ(went->bytes, 8202u);
	EXPECT_EQ(went->copied, 0u);
	const auto bytes = read_all(out.fd[1], 8202);
	EXPECT_TRUE(all(std::span(bytes).first(10), 1));
	EXPECT_TRUE(all(std::span(bytes).subspan(10), 5));
}

// Small buffers are the socket's when the call returns: nothing is under way, nothing is locked.
TEST(LibIo, WhatIsSmallIsCopiedWhereWanted)
{
	Originator from;
	Tcp tcp;
	from.io.copy_below(5000);
	auto own = from.filled(4096, 7);
	const auto went = from.io.write(tcp.fd[0], own, 4096);
	ASSERT_TRUE(went) << went.error().message();
	EXPECT_EQ(went->bytes, 4096u);
	EXPECT_EQ(went->copied, 4096u);
	EXPECT_FALSE(went->zero_copy);
	EXPECT_FALSE(went->fallback);
	EXPECT_EQ(from.domain.gauge()->io, 0u);
	std::memset(own.data().data(), 8, 4096);
	EXPECT_TRUE(all(read_all(tcp.fd[1], 4096), 7));

	ASSERT_TRUE(from.io.write(tcp.fd[0], std::move(own), 4096));
	EXPECT_FALSE(own);
	EXPECT_TRUE(all(read_all(tcp.fd[1], 4096), 8));
	ASSERT_TRUE(from.pool.allocate(4096)) << "it is home";

	for (const bool give : {false, true}) {
		ASSERT_TRUE(from.io.submit_write(tcp.fd[0], from.filled(4096, 9), 4096, 43, {.give = give}));
		std::array<fbuf::completion, 2> done;
		ASSERT_EQ(*from.io.wait(done, 1), 1u);
		EXPECT_EQ(done[0].cookie, 43u);
		EXPECT_EQ(done[0].copied, 4096u);
		EXPECT_EQ(static_cast<bool>(done[0].own), !give);
		EXPECT_TRUE(all(read_all(tcp.fd[1], 4096), 9));
	}
}

TEST(LibIo, OnlyWhatIsSmallIsCopied)
{
	Originator from;
	Tcp tcp;
	Pipe pipe;
	from.io.copy_below(5000);
	auto own = from.filled(8192, 7);
	std::thread reader([&] { EXPECT_TRUE(all(read_all(tcp.fd[1], 5000), 7)); });
	EXPECT_EQ(from.io.write(tcp.fd[0], own, 5000)->copied, 0u) << "not below";
	reader.join();
	ASSERT_TRUE(from.io.write(pipe.fd[1], std::move(own), 4096)) << "no socket";
	EXPECT_EQ(from.domain.gauge()->io, 1u) << "its pages are in the pipe";
	EXPECT_TRUE(all(read_all(pipe.fd[0], 4096), 7));
}

// What is held goes through the same: received on a channel, in several slices, sent on.
TEST(LibIo, ASmallHeldMessageIsCopiedAndStaysHeld)
{
	Originator from;
	Program other;
	auto [sender, end] = *from.domain.create_channel();
	auto receiver = *other.domain.attach_receiver(std::move(end));
	fbuf::aggregate parts;
	for (const int value : {1, 2}) {
		auto own = *sender.allocate(4096);
		std::memset(own.data().data(), value, 4096);
		ASSERT_TRUE(parts.append(std::move(own), 0, 1000));
	}
	ASSERT_TRUE(sender.send({&parts, 1}));
	const auto held = *receiver.receive();
	Tcp tcp;
	other.io.copy_below(5000);
	const auto went = other.io.write(tcp.fd[0], held);
	ASSERT_TRUE(went);
	EXPECT_EQ(went->bytes, 2000u);
	EXPECT_EQ(went->copied, 2000u);
	const auto got = read_all(tcp.fd[1], 2000);
	EXPECT_TRUE(all(std::span(got).first(1000), 1));
	EXPECT_TRUE(all(std::span(got).subspan(1000), 2));
	EXPECT_TRUE(all(held.slices()[1].data, 2));
}

// Bytes arrive in the order in which they were written: nothing is copied past what waits, and of what
// fits only in part the rest follows.
TEST(LibIo, CopiesOvertakeNothing)
{
	Originator from;
	Sockets pair;
	from.io.copy_below(1 << 20);
	const std::size_t each = 200000;
	std::size_t copied = 0;
	for (int i = 1; i <= 8; i++)
		ASSERT_TRUE(
			from.io.submit_write(pair.fd[0], from.filled(each, i), each, static_cast<std::uint64_t>(i)));
	std::vector<std::byte> got;
	std::thread reader([&] { got = read_all(pair.fd[1], 8 * each); });
	std::array<fbuf::completion, 8> done;
	for (std::size_t count = 0; count < 8;) {
		const std::size_t n = *from.io.wait(done, 1);
		for (const auto& one : std::span(done).first(n)) {
			EXPECT_EQ(one.bytes, each) << one.error.message();
			copied += one.copied;
		}
		count += n;
	}
	reader.join();
	ASSERT_EQ(got.size(), 8 * each);
	for (std::size_t i = 0; i < 8; i++)
		EXPECT_TRUE(all(std::span(got).subspan(i * each, each), static_cast<int>(i) + 1)) << i;
	EXPECT_GT(copied, 0u);
	EXPECT_LT(copied, 8 * each);
}

// As without copies: only the module knows whether it is home.
TEST(LibIo, WhatIsLentIsNotCopied)
{
	Originator from;
	Program other;
	auto [sender, end] = *from.domain.create_channel();
	auto receiver = *other.domain.attach_receiver(std::move(end));
	auto own = *sender.allocate(4096);
	ASSERT_TRUE(sender.lend(own, 4096));
	Sockets pair;
	for (const std::size_t below : {0, 5000}) {
		from.io.copy_below(below);
		const auto went = from.io.write(pair.fd[0], own, 4096);
		ASSERT_FALSE(went) << below;
		EXPECT_EQ(went.error(), std::errc::permission_denied);
		const auto flies = from.io.submit_write(pair.fd[0], std::move(own), 4096, 1);
		ASSERT_FALSE(flies) << below;
		EXPECT_EQ(flies.error(), std::errc::permission_denied);
	}
	(void)receiver.receive();
	ASSERT_TRUE(other.domain.flush());
	std::thread reader([&] { EXPECT_EQ(read_all(pair.fd[1], 4096).size(), 4096u); });
	EXPECT_TRUE(from.io.write(pair.fd[0], own, 4096)) << "it is home";
	reader.join();
}

TEST(LibIo, CopiesMeetErrorsWithoutASignal)
{
	Originator from;
	Sockets pair;
	::close(std::exchange(pair.fd[1], ::open("/dev/null", O_RDONLY | O_CLOEXEC)));
	from.io.copy_below(5000);
	auto own = from.filled(4096, 7);
	EXPECT_EQ(from.io.write(pair.fd[0], own, 4096).error(), std::errc::broken_pipe);
	ASSERT_TRUE(own);
	EXPECT_EQ(from.io.write(pair.fd[0], std::move(own), 4096).error(), std::errc::broken_pipe);
	ASSERT_TRUE(own) << "nothing was accepted";
	ASSERT_TRUE(from.io.submit_write(pair.fd[0], std::move(own), 4096, 44));
	std::array<fbuf::completion, 1> done;
	ASSERT_EQ(*from.io.wait(done, 1), 1u);
	EXPECT_EQ(done[0].error, std::errc::broken_pipe);
	EXPECT_TRUE(done[0].own);
}

TEST(LibIo, FilesCopyAndSaySo)
{
	Originator from;
	const int file = ::memfd_create("io", MFD_CLOEXEC);
	auto own = from.filled(10000, 3);
	const auto went = from.io.write(file, own, 10000, {.offset = 100});
	ASSERT_TRUE(went);
	EXPECT_EQ(went->copied, 10000u);
	EXPECT_TRUE(went->fallback);
	EXPECT_NE(went->why.find("page cache"), std::string_view::npos);
	auto got = from.io.read(file, 20000, {.offset = 0});
	ASSERT_TRUE(got);
	EXPECT_EQ(got->bytes, 10100u);
	EXPECT_TRUE(all(got->data().first(100), 0));
	EXPECT_TRUE(all(got->data().subspan(100), 3));
	auto end = from.io.read(file, 100, {.offset = 10100});
	ASSERT_TRUE(end);
	EXPECT_TRUE(end->end);
	EXPECT_FALSE(end->own);
	::close(file);
}

TEST(LibIo, ReadBuffersCanBeSentOnTheirChannel)
{
	Originator from;
	auto other = *fbuf::domain::open();
	auto [sender, end] = *from.domain.create_channel();
	auto receiver = *other.attach_receiver(std::move(end));
	const int zero = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
	auto got = from.io.read(zero, 4096, {.channel = &sender});
	ASSERT_TRUE(got) << got.error().message();
	ASSERT_TRUE(sender.send(std::move(got->own), got->bytes));
	EXPECT_TRUE(all(receiver.receive()->data(), 0));
	::close(zero);
}

TEST(LibIo, SubmittedOperationsCompleteInTheirTime)
{
	Originator from;
	Sockets pair;
	ASSERT_TRUE(from.io.submit_read(pair.fd[0], 100, 41));
	ASSERT_TRUE(from.io.submit_write(pair.fd[0], from.filled(4096, 2), 4096, 42));
	std::vector<fbuf::completion> done(4);
	EXPECT_EQ(*from.io.wait(done, 0), 0u) << "nobody reads, nothing comes";
	EXPECT_EQ(from.io.pending(), 2u);
	EXPECT_TRUE(all(read_all(pair.fd[1], 4096), 2));
	ASSERT_EQ(*from.io.wait(done, 1), 1u);
	EXPECT_EQ(done[0].cookie, 42u);
	EXPECT_TRUE(done[0].own);
	ASSERT_EQ(::write(pair.fd[1], "hello", 5), 5);
	pollfd entry = {from.io.fd(), POLLIN, 0};
	EXPECT_EQ(::poll(&entry, 1, 2000), 1);
	ASSERT_EQ(*from.io.wait(done, 1), 1u);
	EXPECT_EQ(done[0].cookie, 41u);
	EXPECT_EQ(done[0].bytes, 5u);
	EXPECT_EQ(std::memcmp(done[0].data().data(), "hello", 5), 0);
	ASSERT_TRUE(from.io.submit_read(pair.fd[0], 100, 43));
	EXPECT_EQ(*from.io.cancel(43), 1u);
	ASSERT_EQ(*from.io.wait(done, 1), 1u);
	EXPECT_EQ(done[0].error, std::errc::operation_canceled);
	EXPECT_EQ(from.io.pending(), 0u);
}

TEST(LibIo, TheOnlyHolderTakesOverWithoutACopy)
{
	Originator from;
	auto [sender, end] = *from.domain.create_channel();
	auto receiver = *from.domain.attach_receiver(std::move(end));
	auto own = *sender.allocate(4096);
	std::memset(own.data().data(), 6, 4096);
	ASSERT_TRUE(sender.send(std::move(own), 4096));
	// In one's own pool there is nothing to take over: it is copied, and says so.
	auto mine = fbuf::make_mutable(from.domain, *receiver.receive());
	ASSERT_TRUE(mine) << mine.error().message();
	EXPECT_TRUE(mine->copied);
	EXPECT_EQ(mine->length, 4096u);
	EXPECT_TRUE(all(mine->own.data(), 6));
	std::memset(mine->own.data().data(), 7, 4096);
}

// --- files that do not pass through the pool ----------------------------------------

constexpr std::size_t file_bytes = 300000;

// Every word of it differs, and it ends within a page.
struct File {
	int fd = ::memfd_create("file", MFD_CLOEXEC);
	std::vector<std::byte> bytes = std::vector<std::byte>(file_bytes);
	File()
	{
		for (std::size_t i = 0; i < file_bytes; i++)
			bytes[i] = static_cast<std::byte>(i * 31 + i / 256);
		EXPECT_EQ(::write(fd, bytes.data(), file_bytes), static_cast<ssize_t>(file_bytes));
		::lseek(fd, 0, SEEK_SET);
	}
	~File() { ::close(fd); }
	[[nodiscard]] std::vector<std::byte> from(std::size_t offset) const
	{
		return {bytes.begin() + static_cast<std::ptrdiff_t>(offset), bytes.end()};
	}
};

// From an offset to the end, while somebody reads; to descriptors that block and that do not.
void goes_by_reference(int to, int from)
{
	Program program;
	const File file;
	for (const int flags : {0, O_NONBLOCK}) {
		::fcntl(to, F_SETFL, flags);
		std::vector<std::byte> got;
		std::thread reader([&] { got = read_all(from, file_bytes - 5000); });
		const auto went = program.io.send_file(to, file.fd, 5000, file_bytes);
		ASSERT_TRUE(went) << went.error().message();
		EXPECT_EQ(went->bytes, file_bytes - 5000);
		if (went->bytes != file_bytes - 5000)
			::shutdown(to, SHUT_WR);
		reader.join();
		EXPECT_TRUE(went->end);
		EXPECT_TRUE(went->zero_copy);
		EXPECT_FALSE(went->fallback);
		EXPECT_EQ(went->copied, 0u);
		EXPECT_TRUE(got == file.from(5000));
		EXPECT_EQ(::lseek(file.fd, 0, SEEK_CUR), 0) << "the position is not used";
	}
}

TEST(LibIo, AFileGoesToTcpByReference)
{
	Tcp tcp;
	goes_by_reference(tcp.fd[0], tcp.fd[1]);
}

TEST(LibIo, AFileGoesToAUnixStreamByReference)
{
	Sockets pair;
	goes_by_reference(pair.fd[0], pair.fd[1]);
}

TEST(LibIo, AFileGoesToAPipeByReference)
{
	Pipe pipe;
	goes_by_reference(pipe.fd[1], pipe.fd[0]);
}

TEST(LibIo, AFileGoesOnFromItsPositionToItsEnd)
{
	Program program;
	const File file;
	Sockets pair;
	::lseek(file.fd, file_bytes - 6000, SEEK_SET);
	auto went = program.io.send_file(pair.fd[0], file.fd, fbuf::here, 4096);
	ASSERT_TRUE(went);
	EXPECT_EQ(went->bytes, 4096u);
	EXPECT_FALSE(went->end);
	went = program.io.send_file(pair.fd[0], file.fd, fbuf::here, 4096);
	ASSERT_TRUE(went);
	EXPECT_EQ(went->bytes, 1904u);
	EXPECT_TRUE(went->end);
	went = program.io.send_file(pair.fd[0], file.fd, fbuf::here, 4096);
	ASSERT_TRUE(went);
	EXPECT_EQ(went->bytes, 0u);
	EXPECT_TRUE(went->end);
	EXPECT_FALSE(went->zero_copy);
	EXPECT_TRUE(read_all(pair.fd[1], 6000) == file.from(file_bytes - 6000));
	EXPECT_EQ(program.io.send_file(pair.fd[0], file.fd, 0, 0).error(), std::errc::result_out_of_range);
	EXPECT_EQ(program.io.send_file(-1, file.fd, 0, 1).error(), std::errc::bad_file_descriptor);
	EXPECT_EQ(program.io.send_file(pair.fd[0], -1, 0, 1).error(), std::errc::bad_file_descriptor);
}

// What the documentation warns of.
TEST(LibIo, AFileThatIsSentIsNotLocked)
{
	Program program;
	const File file;
	Sockets pair;
	ASSERT_TRUE(program.io.send_file(pair.fd[0], file.fd, 0, 4096));
	ASSERT_EQ(::pwrite(file.fd, "changed", 7, 0), 7);
	const auto got = read_all(pair.fd[1], 4096);
	EXPECT_EQ(std::memcmp(got.data(), "changed", 7), 0);
}

TEST(LibIo, AFileToAFileIsCopiedAndSaysSo)
{
	Program program;
	const File file;
	const int to = ::memfd_create("to", MFD_CLOEXEC);
	const auto went = program.io.send_file(to, file.fd, 0, file_bytes + 1);
	ASSERT_TRUE(went) << went.error().message();
	EXPECT_EQ(went->bytes, file_bytes);
	EXPECT_EQ(went->copied, file_bytes);
	EXPECT_TRUE(went->end);
	EXPECT_TRUE(went->fallback);
	EXPECT_FALSE(went->zero_copy);
	EXPECT_NE(went->why.find("page cache"), std::string_view::npos);
	::lseek(to, 0, SEEK_SET);
	EXPECT_TRUE(read_all(to, file_bytes) == file.bytes);
	::close(to);
}

bool sigpipe_pending()
{
	sigset_t pending;
	return ::sigpending(&pending) == 0 && ::sigismember(&pending, SIGPIPE);
}

// SIGPIPE has its default action: a single one ends the test program.
TEST(LibIo, NobodyReadsAFileWithoutASignal)
{
	Program program;
	const File file;
	for (const bool blocked : {false, true}) {
		sigset_t pipe, before;
		::sigemptyset(&pipe);
		::sigaddset(&pipe, SIGPIPE);
		::pthread_sigmask(blocked ? SIG_BLOCK : SIG_UNBLOCK, &pipe, &before);
		Sockets pair;
		Pipe ends;
		::close(std::exchange(pair.fd[1], ::open("/dev/null", O_RDONLY | O_CLOEXEC)));
		::close(std::exchange(ends.fd[0], ::open("/dev/null", O_RDONLY | O_CLOEXEC)));
		EXPECT_EQ(program.io.send_file(pair.fd[0], file.fd, 0, 4096).error(), std::errc::broken_pipe);
		EXPECT_EQ(program.io.send_file(ends.fd[1], file.fd, 0, 4096).error(), std::errc::broken_pipe);
		EXPECT_FALSE(sigpipe_pending());
		sigset_t now;
		::pthread_sigmask(SIG_SETMASK, nullptr, &now);
		EXPECT_EQ(::sigismember(&now, SIGPIPE), blocked);
		if (blocked) {
			::pthread_kill(::pthread_self(), SIGPIPE);
			EXPECT_EQ(program.io.send_file(pair.fd[0], file.fd, 0, 4096).error(), std::errc::broken_pipe);
			EXPECT_TRUE(sigpipe_pending()) << "somebody else's stays";
			const timespec none = {};
			::sigtimedwait(&pipe, nullptr, &none);
		}
		::pthread_sigmask(SIG_SETMASK, &before, nullptr);
	}
}

TEST(LibIo, WhatSendfileRefusesGoesThroughFbufs)
{
	Originator from;
	const File file;
	Pipe pipe;
	Sockets pair, packets(SOCK_SEQPACKET);
	ASSERT_EQ(::write(pipe.fd[1], file.bytes.data(), 5000), 5000);
	auto went = from.io.send_file(pair.fd[0], pipe.fd[0], fbuf::here, 5000);
	ASSERT_TRUE(went) << went.error().message();
	EXPECT_EQ(went->bytes, 5000u);
	EXPECT_EQ(went->copied, 5000u);
	EXPECT_TRUE(went->fallback);
	EXPECT_NE(went->why.find("sendfile"), std::string_view::npos);
	const auto got = read_all(pair.fd[1], 5000);
	EXPECT_EQ(std::memcmp(got.data(), file.bytes.data(), 5000), 0);
	EXPECT_EQ(from.io.send_file(pair.fd[0], pipe.fd[0], 0, 100).error(), std::errc::invalid_seek);

	const int to = ::memfd_create("to", MFD_CLOEXEC);
	::fcntl(to, F_SETFL, O_APPEND);
	went = from.io.send_file(to, file.fd, 0, file_bytes + 1);
	ASSERT_TRUE(went) << went.error().message();
	EXPECT_EQ(went->bytes, file_bytes);
	EXPECT_TRUE(went->end);
	::lseek(to, 0, SEEK_SET);
	EXPECT_TRUE(read_all(to, file_bytes) == file.bytes);
	::close(to);

	went = from.io.send_file(packets.fd[0], file.fd, 0, 9000);
	ASSERT_TRUE(went) << went.error().message();
	std::vector<std::byte> packet(10000);
	EXPECT_EQ(::recv(packets.fd[1], packet.data(), packet.size(), 0), 9000) << "one datagram";
	EXPECT_EQ(std::memcmp(packet.data(), file.bytes.data(), 9000), 0);

	// From what is no file, too: what is there is one, and what comes later is not waited for.
	Pipe more;
	ASSERT_EQ(::write(more.fd[1], file.bytes.data(), 5000), 5000);
	std::thread reader([&] {
		EXPECT_EQ(::recv(packets.fd[1], packet.data(), packet.size(), 0), 5000);
		EXPECT_EQ(::write(more.fd[1], file.bytes.data(), 3000), 3000);
		::close(std::exchange(more.fd[1], -1));
	});
	went = from.io.send_file(packets.fd[0], more.fd[0], fbuf::here, 9000);
	reader.join();
	ASSERT_TRUE(went) << went.error().message();
	EXPECT_EQ(went->bytes, 5000u);

	Program poor;
	EXPECT_EQ(poor.io.send_file(packets.fd[0], file.fd, 0, 9000).error(), std::errc::no_such_device_or_address);
}

} // namespace
