// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The arguments of FBUFS_IO and FBUFS_CANCEL, one thing wrong at a time: the error of the manual, and nothing
// has changed.

#include "support/io.hpp"

#include <sys/epoll.h>
#include <sys/syscall.h>

namespace {

using namespace uapi;

class IoArguments : public IoTest {
protected:
	Actor actor{1 << 20};
	Fd other = open_domain();
	Channel channel{actor.domain, other};
	Ends pipe = make_pipe(), udp = make_udp4();
	Fd file = temporary_file();
	fbufs_buffer buffer = actor.filled(2 * page, 3);
	std::vector<std::uint64_t> before = gauges(actor.domain);

	// What a call says that submits one operation, with room for completions.
	long result_of(const fbufs_io_op& op, const std::vector<fbufs_slice>& slices = {})
	{
		return Call(actor.domain, {op}, slices, 0, FBUFS_DONTWAIT).result;
	}
	void expect_unchanged(const char* what)
	{
		const fbufs_locate found = locate(actor.domain, buffer.position);
		EXPECT_EQ(found.out_fbuf, buffer.fbuf) << what;
		EXPECT_EQ(found.out_state, FBUFS_STATE_OWNED) << what;
		EXPECT_EQ(found.out_locked, 0u) << what;
		EXPECT_FALSE(store_faults(actor.at(buffer) + 100)) << what;
		EXPECT_EQ(gauges(actor.domain), before) << what;
		EXPECT_TRUE(finish(actor.domain, 1, 0).empty()) << what;
	}
	void expect_refused(const char* what, long error, const fbufs_io_op& op,
			    const std::vector<fbufs_slice>& slices = {})
	{
		EXPECT_EQ(result_of(op, slices), -error) << what;
		expect_unchanged(what);
	}
	[[nodiscard]] std::vector<fbufs_slice> one() const { return {slice_of(buffer.fbuf, 0, page)}; }
	[[nodiscard]] fbufs_io arguments() const
	{
		fbufs_io args = {};
		args.size = sizeof(args);
		return args;
	}
};

TEST_F(IoArguments, Structure)
{
	fbufs_io args = arguments();
	EXPECT_EQ(call(actor.domain, FBUFS_IO, args), 0) << "nothing to do";
	for (const std::uint32_t size :
	     {0u, 4u, 8u, static_cast<unsigned>(sizeof(args)) - 8, static_cast<unsigned>(sizeof(args)) - 1}) {
		args = arguments();
		args.size = size;
		EXPECT_EQ(call(actor.domain, FBUFS_IO, args), -EINVAL) << size;
	}
	struct {
		fbufs_io io;
		std::uint64_t more;
	} larger = {arguments(), 0};
	larger.io.size = sizeof(larger);
	EXPECT_EQ(call(actor.domain, FBUFS_IO, larger), 0);
	larger.more = 1;
	EXPECT_EQ(call(actor.domain, FBUFS_IO, larger), -E2BIG);
	for (std::uint32_t flag = 2; flag; flag <<= 1) {
		args = arguments();
		args.flags = flag;
		EXPECT_EQ(call(actor.domain, FBUFS_IO, args), -EINVAL) << flag;
	}
	args = arguments();
	args.nops = FBUFS_MAX_VECTOR + 1;
	EXPECT_EQ(call(actor.domain, FBUFS_IO, args), -EINVAL);
	args = arguments();
	args.room = FBUFS_MAX_VECTOR + 1;
	EXPECT_EQ(call(actor.domain, FBUFS_IO, args), -EINVAL);
	args = arguments();
	args.room = 3;
	args.wait = 4;
	EXPECT_EQ(call(actor.domain, FBUFS_IO, args), -EINVAL) << "waits for more than there is room for";
	EXPECT_EQ(::ioctl(actor.domain, FBUFS_IO, nullptr), -1);
	EXPECT_EQ(errno, EFAULT);
	expect_unchanged("structure");
}

TEST_F(IoArguments, CancelStructure)
{
	fbufs_cancel args = {};
	args.size = sizeof(args);
	EXPECT_EQ(call(actor.domain, FBUFS_CANCEL, args), -ENOENT);
	args.size = 8;
	EXPECT_EQ(call(actor.domain, FBUFS_CANCEL, args), -EINVAL);
	args.size = sizeof(args);
	args.flags = 1;
	EXPECT_EQ(call(actor.domain, FBUFS_CANCEL, args), -EINVAL);
	EXPECT_EQ(in_child([&] { return cancel(actor.domain, 1) == -EPERM ? 0 : 1; }), 0);
	EXPECT_EQ(cancel(channel.sender, 1), -ENOTTY);
}

TEST_F(IoArguments, Pointers)
{
	const std::uint64_t bad = 8, kernel = 0xffff888000000000;
	for (const std::uint64_t pointer : {std::uint64_t{0}, bad, kernel}) {
		fbufs_io args = arguments();
		args.nops = 1;
		args.ops = pointer;
		EXPECT_EQ(call(actor.domain, FBUFS_IO, args), -EFAULT) << pointer;
		const fbufs_io_op op = write_op(pipe.in);
		args.ops = address(&op);
		args.slices = pointer;
		args.nslices = 1;
		EXPECT_EQ(call(actor.domain, FBUFS_IO, args), -EFAULT) << pointer;
		fbufs_io_op addressed = write_op(udp.in);
		addressed.address = pointer ? pointer : 16;
		addressed.address_length = 16;
		EXPECT_EQ(result_of(addressed, one()), -EFAULT);
		expect_unchanged("pointers");
	}
	// The second slice is behind the end of memory: the first one's fbuf is free again.
	auto* const pages = static_cast<std::uint8_t*>(
		::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	ASSERT_EQ(::munmap(pages + page, page), 0);
	auto* const last = reinterpret_cast<fbufs_slice*>(pages + page) - 1;
	*last = one()[0];
	fbufs_io args = arguments();
	const fbufs_io_op op = write_op(pipe.in, 1, 2);
	args.nops = 1;
	args.ops = address(&op);
	args.slices = address(last);
	args.nslices = 2;
	EXPECT_EQ(call(actor.domain, FBUFS_IO, args), -EFAULT);
	expect_unchanged("half of the slices");
	::munmap(pages, page);
}

// A completion that cannot be written stays, and comes when it can.
TEST_F(IoArguments, PointersForCompletions)
{
	const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
	ASSERT_EQ(submit(actor.domain, write_op(null, 7), one()), 1);
	for (const std::uint64_t pointer : {std::uint64_t{0}, std::uint64_t{8}, std::uint64_t{0xffff888000000000}}) {
		fbufs_io args = arguments();
		args.room = 1;
		args.completions = pointer;
		EXPECT_EQ(call(actor.domain, FBUFS_IO, args), -EFAULT) << pointer;
	}
	EXPECT_TRUE(polls(actor.domain, POLLIN));
	EXPECT_EQ(finish_one(actor.domain).cookie, 7u);
	expect_unchanged("completed");

	// The peer's address.
	auto* const room =
		static_cast<std::uint8_t*>(::mmap(nullptr, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	ASSERT_EQ(::write(udp.in, "abc", 3), 3);
	fbufs_io_op op = read_op(udp.out, page);
	op.address = address(room);
	ASSERT_EQ(submit(actor.domain, op), 1);
	EXPECT_EQ(Call(actor.domain, {}, {}, 1).result, -EFAULT);
	EXPECT_EQ(Call(actor.domain, {}, {}, 1).result, -EFAULT);
	ASSERT_EQ(::mprotect(room, page, PROT_READ | PROT_WRITE), 0);
	const Done done = finish_one(actor.domain);
	EXPECT_EQ(done.result, 3);
	EXPECT_EQ(done.address_length, sizeof(sockaddr_in));
	::munmap(room, page);
}

TEST_F(IoArguments, PointersForTakenSlices)
{
	ASSERT_EQ(submit(actor.domain, write_op(pipe.in, 1, 1, FBUFS_IO_GIVE), one()), 1);
	ASSERT_EQ(finish_one(actor.domain).cookie, 1u);
	ASSERT_EQ(submit(actor.domain, read_op(pipe.out, page, 2)), 1);
	fbufs_completion completion = {};
	fbufs_io args = arguments();
	args.room = 1;
	args.completions = address(&completion);
	EXPECT_EQ(call(actor.domain, FBUFS_IO, args), -EMSGSIZE) << "no room for its slice";
	args.slices_room = 1;
	args.out_slices = 8;
	EXPECT_EQ(call(actor.domain, FBUFS_IO, args), -EFAULT);
	EXPECT_TRUE(polls(actor.domain, POLLIN)) << "it stays";
	const std::uint64_t failed = completion.message;
	const Done done = finish_one(actor.domain);
	EXPECT_EQ(done.cookie, 2u);
	EXPECT_NE(done.message, 0u);
	EXPECT_TRUE(failed == done.message || handles(actor.domain, FBUFS_RELEASE, {failed}) == -ENOENT);
	EXPECT_EQ(handles(actor.domain, FBUFS_RELEASE, {done.message}), 1);
}

TEST_F(IoArguments, Numbers)
{
	const auto all = one();
	const auto wrong = [&](const char* what, auto change, long error = EINVAL) {
		fbufs_io_op op = write_op(pipe.in);
		change(op);
		expect_refused(what, error, op, all);
	};
	wrong("opcode", [](fbufs_io_op& op) { op.opcode = FBUFS_IO_READ + 1; });
	wrong("opcode", [](fbufs_io_op& op) { op.opcode = ~0u; });
	wrong("length", [](fbufs_io_op& op) { op.length = 1; });
	wrong("end", [](fbufs_io_op& op) { op.end = 0; });
	wrong("end of the process", [&](fbufs_io_op& op) { op.end = channel.sender; });
	wrong("no slices", [](fbufs_io_op& op) { op.slices = 0; });
	wrong(
		"too many", [](fbufs_io_op& op) { op.slices = 2; }, EMSGSIZE);
	wrong(
		"far too many", [](fbufs_io_op& op) { op.slices = FBUFS_MAX_SLICES + 1; }, EMSGSIZE);
	wrong("append to a pipe", [](fbufs_io_op& op) { op.flags = FBUFS_IO_APPEND; });
	wrong("read flags", [](fbufs_io_op& op) { op.flags = FBUFS_IO_ALL; });
	wrong("read flags", [](fbufs_io_op& op) { op.flags = FBUFS_IO_COPY; });
	for (std::uint32_t flag = FBUFS_IO_COPY << 1; flag; flag <<= 1)
		wrong("unknown flags", [=](fbufs_io_op& op) { op.flags = flag; });
	wrong("address without length", [](fbufs_io_op& op) { op.address = 16; });
	wrong("length without address", [](fbufs_io_op& op) { op.address_length = 16; });
	wrong("long address", [&](fbufs_io_op& op) { op.address = address(&op), op.address_length = 129; });
	wrong(
		"offset in a pipe", [](fbufs_io_op& op) { op.offset = 0; }, ESPIPE);
	wrong(
		"offset in a socket", [&](fbufs_io_op& op) { op.fd = udp.in, op.offset = 5; }, ESPIPE);
	wrong("offset at the end of all files", [&](fbufs_io_op& op) { op.fd = file, op.offset = 1ULL << 63; });
	wrong("offset to append", [&](fbufs_io_op& op) { op.fd = file, op.offset = 0, op.flags = FBUFS_IO_APPEND; });
	const auto wrong_read = [&](const char* what, auto change, long error = EINVAL) {
		fbufs_io_op op = read_op(pipe.out, 100);
		change(op);
		expect_refused(what, error, op);
	};
	wrong_read("no length", [](fbufs_io_op& op) { op.length = 0; });
	wrong_read("length", [](fbufs_io_op& op) { op.length = FBUFS_MAX_BYTES + 1; });
	wrong_read("length", [](fbufs_io_op& op) { op.length = ~0ULL; });
	wrong_read("slices", [](fbufs_io_op& op) { op.slices = 1; });
	wrong_read("address length", [](fbufs_io_op& op) { op.address_length = 16; });
	wrong_read("give", [](fbufs_io_op& op) { op.flags = FBUFS_IO_GIVE; });
	wrong_read("append", [&](fbufs_io_op& op) { op.fd = file, op.flags = FBUFS_IO_APPEND; });
	for (std::uint32_t flag = FBUFS_IO_COPY << 1; flag; flag <<= 1)
		wrong_read("unknown flags", [=](fbufs_io_op& op) { op.flags = flag; });
	wrong_read(
		"offset in a pipe", [](fbufs_io_op& op) { op.offset = 0; }, ESPIPE);
	wrong_read("offset", [&](fbufs_io_op& op) { op.fd = file, op.offset = ~1ULL; });
}

// "datagram sockets: ...; otherwise NULL"
TEST_F(IoArguments, AddressesAreForSockets)
{
	sockaddr_storage room = {};
	fbufs_io_op op = read_op(pipe.out, 100);
	op.address = address(&room);
	expect_refused("reading a pipe", EINVAL, op);
	op = write_op(file);
	op.address = address(&room);
	op.address_length = 16;
	expect_refused("writing a file", EINVAL, op, one());
}

TEST_F(IoArguments, Descriptors)
{
	const auto all = one();
	const Fd directory(::open("/", O_RDONLY | O_CLOEXEC)), epoll(::epoll_create1(EPOLL_CLOEXEC)),
		path(::open("/dev/null", O_PATH | O_CLOEXEC)),
		event(static_cast<int>(::syscall(SYS_eventfd2, 0, O_CLOEXEC)));
	struct {
		const char* name;
		int fd;
		long write, read;
	} const bad[] = {
		{"none", -1, EBADF, EBADF},
		{"closed", 1 << 20, EBADF, EBADF},
		{"path", path, EBADF, EBADF},
		{"to read from", pipe.out, EBADF, 0},
		{"to write to", pipe.in, 0, EBADF},
		{"directory", directory, EBADF, EINVAL},
		{"epoll", epoll, EINVAL, EINVAL},
		{"domain", actor.domain, EINVAL, EINVAL},
		{"other domain", other, EINVAL, EINVAL},
		{"sending end", channel.sender, EINVAL, EINVAL},
		{"receiving end", channel.receiver, EINVAL, EINVAL},
		{"event, which has no write_iter", event, EINVAL, 0},
	};
	for (const auto& one_of : bad) {
		if (one_of.write)
			expect_refused(one_of.name, one_of.write, write_op(one_of.fd), all);
		if (one_of.read)
			expect_refused(one_of.name, one_of.read, read_op(one_of.fd, 1));
	}
}

TEST_F(IoArguments, Slices)
{
	const auto refused = [&](const char* what, long error, const fbufs_slice& slice) {
		expect_refused(what, error, write_op(pipe.in), {slice});
		// Behind a good one, of the same fbuf.
		expect_refused(what, error, write_op(pipe.in, 1, 2), {one()[0], slice});
	};
	refused("length 0", EINVAL, slice_of(buffer.fbuf, 0, 0));
	refused("behind the end", ERANGE, slice_of(buffer.fbuf, 2 * page, 1));
	refused("across the end", ERANGE, slice_of(buffer.fbuf, page, page + 1));
	refused("overflow", ERANGE, slice_of(buffer.fbuf, ~0u, ~0u));
	refused("no fbuf", ENOENT, slice_of(0, 0, 1));
	refused("another generation", ENOENT, slice_of(buffer.fbuf + (1ULL << 32), 0, 1));
	refused("another pool", ENOENT, slice_of(buffer.fbuf ^ 1ULL << 63, 0, 1));
	refused("not held", ENOENT, slice_of(buffer.fbuf, 0, 1, 12345));
	refused("not held, length 0", EINVAL, slice_of(buffer.fbuf, 0, 0, 12345));
	const fbufs_buffer old = alloc_one(actor.domain);
	ASSERT_EQ(handles(actor.domain, FBUFS_FREE, {old.fbuf}), 1);
	before = gauges(actor.domain);
	refused("freed", ENOENT, slice_of(old.fbuf, 0, 1));
	const fbufs_buffer sent = alloc_one(actor.domain, 2 * page);
	ASSERT_EQ(send_one(channel.sender, sent.fbuf, 0, page), 1);
	before = gauges(actor.domain);
	refused("sent", EACCES, slice_of(sent.fbuf, 0, 1));
	const Received received(channel.receiver);
	ASSERT_EQ(received.result, 1);
	before = gauges(actor.domain);
	refused("held by somebody else", ENOENT, slice_of(sent.fbuf, 0, 1, received.handle()));
	const auto forwarded = [&](const fbufs_slice& slice) { return submit(other, write_op(pipe.in), {slice}); };
	EXPECT_EQ(forwarded(slice_of(sent.fbuf, page - 1, 2, received.handle())), -EACCES) << "not in the message";
	EXPECT_EQ(forwarded(slice_of(sent.fbuf, 0, 0, received.handle())), -EINVAL);
	EXPECT_EQ(forwarded(slice_of(buffer.fbuf, 0, 1, received.handle())), -EACCES);
	EXPECT_EQ(forwarded(slice_of(sent.fbuf, 0, 1)), -ENOENT) << "not its own";
	EXPECT_EQ(forwarded(slice_of(buffer.fbuf, 0, 1)), -ENOENT) << "not its own";
	EXPECT_EQ(handles(other, FBUFS_RELEASE, {received.handle()}), 1);
	EXPECT_EQ(forwarded(slice_of(sent.fbuf, 0, 1, received.handle())), -ENOENT) << "released";
}

// The slices of one operation are not those of the next.
TEST_F(IoArguments, SlicesOfManyOperations)
{
	const fbufs_buffer second = actor.filled(page, 4);
	const Call call(actor.domain, {write_op(pipe.in, 1, 1), write_op(pipe.in, 2, 2)},
			{slice_of(buffer.fbuf, 0, 10), slice_of(second.fbuf, 0, 10)});
	EXPECT_EQ(call.result, 1) << "the second has one slice too few";
	EXPECT_EQ(actor.state(second), FBUFS_STATE_OWNED);
	EXPECT_EQ(read_some(pipe.out, 100).size(), 10u);
	EXPECT_EQ(finish_one(actor.domain).cookie, 1u);
}

TEST_F(IoArguments, SendingEnds)
{
	const auto read_for = [&](int end) {
		fbufs_io_op op = read_op(pipe.out, 100);
		op.end = end;
		return op;
	};
	expect_refused("receiving end", EINVAL, read_for(channel.receiver));
	expect_refused("domain", EINVAL, read_for(actor.domain));
	expect_refused("pipe", EINVAL, read_for(pipe.in));
	expect_refused("none", EBADF, read_for(1 << 20));
	expect_refused("negative", EBADF, read_for(-2));
	Fd sender, receiver;
	ASSERT_EQ(channel_create(other, FBUFS_CHANNEL_ATTACH_SENDER, 0, sender, receiver), 0);
	before = gauges(actor.domain);
	EXPECT_LT(result_of(read_for(sender)), 0) << "of another domain";
	expect_unchanged("of another domain");
	Fd loose, loose_receiver;
	ASSERT_EQ(channel_create(actor.domain, 0, 0, loose, loose_receiver), 0);
	before = gauges(actor.domain);
	EXPECT_LT(result_of(read_for(loose)), 0) << "not attached";
	expect_unchanged("not attached");
	ASSERT_EQ(attach(loose, actor.domain), 0);
	loose_receiver.reset();
	before = gauges(actor.domain);
	expect_refused("no receivers", EPIPE, read_for(loose));
}

TEST_F(IoArguments, WithoutAPool)
{
	fbufs_io_op op = read_op(pipe.out, 100);
	EXPECT_EQ(submit(other, op), -ENXIO);
	EXPECT_EQ(submit(other, write_op(pipe.in), one()), -ENOENT);
	expect_unchanged("no pool");
}

TEST_F(IoArguments, AnotherProcess)
{
	EXPECT_EQ(in_child([&] {
			  CHILD_EXPECT(submit(actor.domain, write_op(pipe.in), one()) == -EPERM);
			  CHILD_EXPECT(submit(actor.domain, read_op(pipe.out, 1)) == -EPERM);
			  CHILD_EXPECT(Call(actor.domain, {}, {}).result == -EPERM);
			  const Actor own;
			  CHILD_EXPECT(submit(own.domain, write_op(pipe.in), one()) == -ENOENT);
			  fbufs_io_op op = read_op(pipe.out, 100);
			  op.end = channel.sender;
			  CHILD_EXPECT(submit(own.domain, op) == -EPERM);
			  return 0;
		  }),
		  0);
	expect_unchanged("another process");
}

TEST_F(IoArguments, NotOnEnds)
{
	EXPECT_EQ(submit(channel.sender, write_op(pipe.in), one()), -ENOTTY);
	EXPECT_EQ(submit(channel.receiver, write_op(pipe.in), one()), -ENOTTY);
	expect_unchanged("ends");
}

TEST_F(IoArguments, AtMostMaxIo)
{
	const std::vector<fbufs_io_op> ops(FBUFS_MAX_IO + 5, read_op(pipe.out, 8, 4));
	EXPECT_EQ(Call(actor.domain, ops, {}).result, FBUFS_MAX_IO);
	EXPECT_EQ(result_of(read_op(pipe.out, 8)), -EBUSY);
	EXPECT_EQ(result_of(write_op(pipe.in), one()), -EBUSY);
	EXPECT_EQ(actor.state(buffer), FBUFS_STATE_OWNED);
	EXPECT_EQ(cancel(actor.domain, 4), FBUFS_MAX_IO);
	EXPECT_EQ(gauges(actor.domain)[FBUFS_GAUGE_IO], std::uint64_t{FBUFS_MAX_IO});
	EXPECT_EQ(result_of(read_op(pipe.out, 8)), -EBUSY) << "complete, and not told";
	EXPECT_EQ(gauges(actor.domain)[FBUFS_GAUGE_IO], std::uint64_t{FBUFS_MAX_IO});
	ASSERT_EQ(finish(actor.domain, 2).size(), 2u);
	EXPECT_EQ(gauges(actor.domain)[FBUFS_GAUGE_IO], FBUFS_MAX_IO - 2u);
	EXPECT_EQ(submit(actor.domain, read_op(pipe.out, 8)), 1);
	EXPECT_EQ(cancel(actor.domain, 1), 1);
	EXPECT_EQ(gauges(actor.domain)[FBUFS_GAUGE_IO], FBUFS_MAX_IO - 1u);
	EXPECT_EQ(finish(actor.domain, FBUFS_MAX_IO - 1).size(), FBUFS_MAX_IO - 1u);
	EXPECT_EQ(gauges(actor.domain), before);
}

// A call whose first operation is refused is that and nothing else: it reports nothing, and waits for nothing.
TEST_F(IoArguments, RefusedCallsOnlyRefuse)
{
	const Fd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
	ASSERT_EQ(submit(actor.domain, write_op(null, 7), one()), 1);
	fbufs_completion completion = {};
	const fbufs_io_op op = write_op(-1);
	fbufs_io args = arguments();
	args.ops = address(&op);
	args.nops = 1;
	args.completions = address(&completion);
	args.room = 1;
	// The system call itself, without a library that takes only half of its result.
	long result = 0;
	asm volatile("syscall"
		     : "=a"(result)
		     : "0"(SYS_ioctl), "D"(static_cast<long>(actor.domain.get())), "S"(static_cast<long>(FBUFS_IO)),
		       "d"(&args)
		     : "rcx", "r11", "memory");
	EXPECT_EQ(result, -EBADF);
	EXPECT_EQ(args.out_completed, 0u);
	const std::vector<Done> done = finish(actor.domain, 1, 100);
	ASSERT_EQ(done.size(), 1u) << "the completion is lost";
	EXPECT_EQ(done[0].cookie, 7u);
	ASSERT_EQ(submit(actor.domain, read_op(pipe.out, 8)), 1);
	Blocked waiting([&] { return Call(actor.domain, {write_op(-1)}, one(), 1).result; });
	EXPECT_FALSE(waiting.waits(500));
	EXPECT_EQ(waiting.result(), -EBADF);
}

// What is complete is told in the order of submission, as much as there is room for.
TEST_F(IoArguments, RoomForOneCompletion)
{
	const Fd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
	for (std::uint64_t i = 0; i < 5; i++)
		ASSERT_EQ(submit(actor.domain, write_op(null, i), one()), 1);
	for (std::uint64_t i = 0; i < 5; i++) {
		const Call one_only(actor.domain, {}, {}, 1, 0, 1);
		ASSERT_EQ(one_only.done.size(), 1u);
		EXPECT_EQ(one_only.done[0].cookie, i);
	}
}

} // namespace
