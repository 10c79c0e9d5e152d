// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// FBUFS_IO without libfbuf, and the descriptors that tests use it on.
#pragma once

#include "support/uapi.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <ostream>
#include <string>
#include <type_traits>

namespace uapi {

// Whether this kernel is one of tests/vm/kernel's own, which check everything.
inline bool kernel_is_checked()
{
	utsname name = {};
	::uname(&name);
	return std::strstr(name.release, "-fbufs-") != nullptr;
}

using Bytes = std::vector<std::uint8_t>;

// Bytes that differ from page to page, from place to place, and from seed to seed.
inline Bytes pattern(std::size_t bytes, unsigned seed = 1)
{
	Bytes data(bytes);
	for (std::size_t i = 0; i < bytes; i++)
		data[i] = static_cast<std::uint8_t>(seed * 41 + i % 251 + i / page);
	return data;
}

inline void loopback_up()
{
	const Fd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	ifreq request = {};
	std::strcpy(request.ifr_name, "lo");
	if (::ioctl(any, SIOCGIFFLAGS, &request) == 0 && !(request.ifr_flags & IFF_UP)) {
		request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
		(void)::ioctl(any, SIOCSIFFLAGS, &request);
	}
}

// A test that hangs ends all of them, rather than the machine's patience.
class IoTest : public testing::Test {
protected:
	static void SetUpTestSuite() { loopback_up(); }
	void SetUp() override
	{
		::signal(SIGALRM, [](int) {
			const auto* const test = testing::UnitTest::GetInstance()->current_test_info();
			std::fprintf(stderr, "%s.%s hangs\n", test->test_suite_name(), test->name());
			::_exit(3);
		});
		// That takes many times as long.
		::alarm(kernel_is_checked() ? 300 : 30);
	}
	void TearDown() override { ::alarm(0); }
};

//
// Calls
//

inline fbufs_io_op write_op(int fd, std::uint64_t cookie = 1, std::uint32_t slices = 1, std::uint32_t flags = 0)
{
	fbufs_io_op op = {};
	op.cookie = cookie;
	op.offset = FBUFS_IO_HERE;
	op.fd = fd;
	op.opcode = FBUFS_IO_WRITE;
	op.flags = flags;
	op.slices = slices;
	op.end = -1;
	return op;
}

inline fbufs_io_op read_op(int fd, std::uint64_t length, std::uint64_t cookie = 1, std::uint32_t flags = 0)
{
	fbufs_io_op op = {};
	op.cookie = cookie;
	op.offset = FBUFS_IO_HERE;
	op.length = length;
	op.fd = fd;
	op.opcode = FBUFS_IO_READ;
	op.flags = flags;
	op.end = -1;
	return op;
}

inline fbufs_slice slice_of(std::uint64_t fbuf, std::uint32_t offset, std::uint32_t length, std::uint64_t hold = 0)
{
	fbufs_slice slice = {};
	slice.fbuf = fbuf;
	slice.hold = hold;
	slice.offset = offset;
	slice.length = length;
	return slice;
}

// A completion with the slices of its message.
struct Done : fbufs_completion {
	std::vector<fbufs_slice> where;
};

// What one call of FBUFS_IO gave.
struct Call {
	long result = 0;
	std::vector<Done> done;

	Call(int domain, const std::vector<fbufs_io_op>& ops, const std::vector<fbufs_slice>& slices,
	     std::uint32_t wait = 0, std::uint32_t flags = 0, std::uint32_t room = 64, std::uint32_t slices_room = 4096)
	{
		std::vector<fbufs_completion> completions(room);
		std::vector<fbufs_slice> where(slices_room);
		fbufs_io args = {};
		args.size = sizeof(args);
		args.flags = flags;
		args.ops = address(ops.data());
		args.slices = address(slices.data());
		args.nops = static_cast<std::uint32_t>(ops.size());
		args.nslices = static_cast<std::uint32_t>(slices.size());
		args.completions = address(completions.data());
		args.out_slices = address(where.data());
		args.room = room;
		args.slices_room = slices_room;
		args.wait = wait;
		result = call(domain, FBUFS_IO, args);
		auto next = where.begin();
		for (std::uint32_t i = 0; result >= 0 && i < args.out_completed; i++) {
			done.push_back({completions[i], {next, next + completions[i].slices}});
			next += completions[i].slices;
		}
	}
};

inline long submit(int domain, const fbufs_io_op& op, const std::vector<fbufs_slice>& slices = {})
{
	return Call(domain, {op}, slices, 0, 0, 0).result;
}

inline long cancel(int domain, std::uint64_t cookie)
{
	fbufs_cancel args = {};
	args.size = sizeof(args);
	args.cookie = cookie;
	return call(domain, FBUFS_CANCEL, args);
}

inline fbufs_send_file send_file_args(int to, int from, std::uint64_t offset, std::uint64_t bytes,
				      std::uint32_t flags = 0)
{
	fbufs_send_file args = {};
	args.size = sizeof(args);
	args.flags = flags;
	args.to = to;
	args.from = from;
	args.offset = offset;
	args.bytes = bytes;
	return args;
}

inline long make_mutable(int domain, std::uint64_t message, fbufs_make_mutable& out)
{
	out = {};
	out.size = sizeof(out);
	out.message = message;
	return call(domain, FBUFS_MAKE_MUTABLE, out);
}

// So many completions, or fewer after a while.
inline std::vector<Done> finish(int domain, std::size_t n = 1, int timeout_ms = 5000)
{
	std::vector<Done> all;
	eventually(
		[&] {
			Call more(domain, {}, {}, 0, 0, static_cast<std::uint32_t>(n - all.size()));
			for (Done& done : more.done)
				all.push_back(std::move(done));
			return all.size() == n;
		},
		timeout_ms);
	return all;
}

// The completion of one operation; its cookie is ~0 when it did not come.
inline Done finish_one(int domain, int timeout_ms = 5000)
{
	std::vector<Done> all = finish(domain, 1, timeout_ms);
	if (all.empty()) {
		ADD_FAILURE() << "no completion";
		all.emplace_back();
		all[0].cookie = ~0ULL;
	}
	return all[0];
}

// Submits one operation and waits for it.
inline Done complete(int domain, const fbufs_io_op& op, const std::vector<fbufs_slice>& slices = {})
{
	const long submitted = submit(domain, op, slices);
	if (submitted != 1) {
		ADD_FAILURE() << "not submitted: " << submitted;
		Done none = {};
		none.cookie = ~0ULL;
		return none;
	}
	return finish_one(domain);
}

inline std::uint64_t pool_used(int domain, std::uint32_t pool)
{
	fbufs_pool_info info = {};
	info.size = sizeof(info);
	info.pool = pool;
	const long result = call(domain, FBUFS_POOL_INFO, info);
	EXPECT_EQ(result, 0);
	return info.out_used;
}

// An originator whose fbufs have contents.
struct Actor : Originator {
	using Originator::Originator;

	[[nodiscard]] fbufs_buffer filled(std::size_t bytes, unsigned seed = 1) const
	{
		const fbufs_buffer buffer = alloc_one(domain, bytes);
		const Bytes data = pattern(bytes, seed);
		EXPECT_NE(buffer.fbuf, 0u);
		if (buffer.fbuf)
			std::memcpy(at(buffer), data.data(), bytes);
		return buffer;
	}
	[[nodiscard]] std::uint32_t state(const fbufs_buffer& buffer) const
	{
		return locate(domain, buffer.position).out_state;
	}
	[[nodiscard]] bool becomes(const fbufs_buffer& buffer, std::uint32_t state_wanted) const
	{
		return eventually([&] { return state(buffer) == state_wanted; });
	}
	[[nodiscard]] Bytes contents(std::uint64_t position, std::size_t bytes) const
	{
		return Bytes(window.at(position), window.at(position) + bytes);
	}
	[[nodiscard]] std::uint64_t used() const { return pool_used(domain, pool.out_pool); }
};

// The window that a domain has of somebody's pool.
inline Window window_of(int domain, std::uint64_t fbuf)
{
	fbufs_pool_info info = {};
	info.size = sizeof(info);
	info.pool = FBUFS_HANDLE_POOL(fbuf);
	const long result = call(domain, FBUFS_POOL_INFO, info);
	EXPECT_EQ(result, 0) << "no right to the pool";
	return Window(domain, info.pool, info.out_span, PROT_READ);
}

// What the slices of a held message contain, through a window of their pool.
inline Bytes look(const Window& window, const std::vector<fbufs_slice>& slices)
{
	Bytes data;
	for (const fbufs_slice& slice : slices)
		data.insert(data.end(), window.at(slice.position), window.at(slice.position) + slice.length);
	return data;
}

// The gauges that operations change, to compare.
class Gauges {
public:
	explicit Gauges(int watcher) : watcher_(watcher), before_(gauges(watcher)) {}
	[[nodiscard]] bool are_back(int timeout_ms = 5000) const
	{
		return eventually([&] { return gauges(watcher_) == before_; }, timeout_ms);
	}
	[[nodiscard]] bool are_back(fbufs_gauge which, int timeout_ms = 5000) const
	{
		return eventually([&] { return gauges(watcher_)[which] == before_[which]; }, timeout_ms);
	}

private:
	int watcher_;
	std::vector<std::uint64_t> before_;
};

// An actor in a process of its own, because a process has one pool. What it is told to do are closures of plain
// data, which a forked child has the code of.
class Remote {
public:
	explicit Remote(std::uint64_t bytes = 16 << 20)
		: process_([bytes](int socket) {
			  Actor actor(bytes);
			  Request request;
			  while (take(socket, &request, sizeof(request)))
				  request.run(socket, actor, request);
			  return 0;
		  })
	{
	}
	template <typename F>
	auto run(F body) const
	{
		using Result = std::invoke_result_t<F, Actor&>;
		static_assert(std::is_trivially_copyable_v<F> && std::is_trivially_copyable_v<Result>);
		static_assert(sizeof(F) <= sizeof(Request::closure));
		Request request = {};
		request.run = [](int socket, Actor& actor, const Request& from) {
			alignas(F) std::uint8_t room[sizeof(F)];
			std::memcpy(room, from.closure, sizeof(F));
			const Result result = (*reinterpret_cast<F*>(room))(actor);
			put(socket, &result, sizeof(result));
		};
		std::memcpy(request.closure, &body, sizeof(F));
		put(process_.socket(), &request, sizeof(request));
		Result result = {};
		EXPECT_TRUE(take(process_.socket(), &result, sizeof(result))) << "the other process is gone";
		return result;
	}
	void end() { process_.kill(); }

	[[nodiscard]] fbufs_buffer filled(std::size_t bytes, unsigned seed = 1) const
	{
		return run([=](Actor& actor) { return actor.filled(bytes, seed); });
	}
	// Its descriptors are those it had when it began.
	[[nodiscard]] long submit(const fbufs_io_op& op, const std::vector<fbufs_slice>& slices) const
	{
		std::array<fbufs_slice, 16> copy = {};
		const std::size_t n = std::min(slices.size(), copy.size());
		std::copy_n(slices.begin(), n, copy.begin());
		return run([=](Actor& actor) {
			return uapi::submit(actor.domain, op, {copy.begin(), copy.begin() + n});
		});
	}
	// How many operations complete in time, and the last one's completion.
	struct Finished {
		std::size_t n;
		fbufs_completion last;
	};
	[[nodiscard]] Finished finish(std::size_t n = 1, int timeout_ms = 3000) const
	{
		return run([=](Actor& actor) {
			const std::vector<Done> done = uapi::finish(actor.domain, n, timeout_ms);
			return done.empty() ? Finished{} : Finished{done.size(), done.back()};
		});
	}
	[[nodiscard]] std::uint32_t state(const fbufs_buffer& buffer) const
	{
		return run([=](Actor& actor) { return actor.state(buffer); });
	}
	[[nodiscard]] bool becomes(const fbufs_buffer& buffer, std::uint32_t wanted) const
	{
		return run([=](Actor& actor) { return actor.becomes(buffer, wanted); });
	}
	[[nodiscard]] bool store_faults(const fbufs_buffer& buffer) const
	{
		return run([=](Actor& actor) { return uapi::store_faults(actor.at(buffer)); });
	}
	[[nodiscard]] bool load_faults(const fbufs_buffer& buffer) const
	{
		return run([=](Actor& actor) { return uapi::load_faults(actor.at(buffer)); });
	}
	[[nodiscard]] bool has_pattern(const fbufs_buffer& buffer, std::size_t bytes, unsigned seed) const
	{
		return run(
			[=](Actor& actor) { return actor.contents(buffer.position, bytes) == pattern(bytes, seed); });
	}
	[[nodiscard]] std::uint64_t used() const
	{
		return run([](Actor& actor) { return actor.used(); });
	}

private:
	struct Request {
		void (*run)(int socket, Actor& actor, const Request& request);
		std::uint8_t closure[1024];
	};
	static bool take(int socket, void* to, std::size_t bytes)
	{
		return ::recv(socket, to, bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes);
	}
	static void put(int socket, const void* from, std::size_t bytes)
	{
		(void)!::send(socket, from, bytes, MSG_NOSIGNAL);
	}
	Process process_;
};

//
// Descriptors
//

// Two ends of something: what is written into one is read from the other.
struct Ends {
	Fd in, out;
};

inline Ends make_pipe(int bytes = 0)
{
	int fds[2] = {-1, -1};
	EXPECT_EQ(::pipe2(fds, O_CLOEXEC), 0);
	if (bytes) {
		EXPECT_GE(::fcntl(fds[1], F_SETPIPE_SZ, bytes), bytes);
	}
	return {Fd(fds[1]), Fd(fds[0])};
}

inline Ends make_unix(int type)
{
	int fds[2] = {-1, -1};
	EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
	return {Fd(fds[0]), Fd(fds[1])};
}

inline Ends make_unix_stream()
{
	return make_unix(SOCK_STREAM);
}
inline Ends make_unix_datagram()
{
	return make_unix(SOCK_DGRAM);
}
inline Ends make_unix_seqpacket()
{
	return make_unix(SOCK_SEQPACKET);
}

// A loopback address with a port that the kernel chooses.
struct Place {
	sockaddr_storage storage = {};
	socklen_t length = 0;

	explicit Place(int family)
	{
		storage.ss_family = static_cast<sa_family_t>(family);
		if (family == AF_INET) {
			reinterpret_cast<sockaddr_in*>(&storage)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
			length = sizeof(sockaddr_in);
		} else {
			reinterpret_cast<sockaddr_in6*>(&storage)->sin6_addr = in6addr_loopback;
			length = sizeof(sockaddr_in6);
		}
	}
	[[nodiscard]] sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
	[[nodiscard]] std::string bytes() const { return {reinterpret_cast<const char*>(&storage), length}; }
};

// Where a socket is.
inline Place place_of(int fd, int family)
{
	Place place(family);
	place.length = sizeof(place.storage);
	EXPECT_EQ(::getsockname(fd, place.get(), &place.length), 0);
	return place;
}

inline Ends make_tcp(int family)
{
	const Fd listener(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
	Place place(family);
	EXPECT_EQ(::bind(listener, place.get(), place.length), 0) << std::strerror(errno);
	EXPECT_EQ(::listen(listener, 1), 0);
	place = place_of(listener, family);
	Ends ends;
	ends.in = Fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
	EXPECT_EQ(::connect(ends.in, place.get(), place.length), 0) << std::strerror(errno);
	ends.out = Fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
	EXPECT_GE(ends.out.get(), 0);
	return ends;
}

inline Ends make_tcp4()
{
	return make_tcp(AF_INET);
}
inline Ends make_tcp6()
{
	return make_tcp(AF_INET6);
}

inline Ends make_udp(int family)
{
	Ends ends;
	Place place(family);
	ends.out = Fd(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	EXPECT_EQ(::bind(ends.out, place.get(), place.length), 0) << std::strerror(errno);
	place = place_of(ends.out, family);
	ends.in = Fd(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	EXPECT_EQ(::connect(ends.in, place.get(), place.length), 0) << std::strerror(errno);
	return ends;
}

inline Ends make_udp4()
{
	return make_udp(AF_INET);
}
inline Ends make_udp6()
{
	return make_udp(AF_INET6);
}

struct Kind {
	const char* name;
	Ends (*make)();
	bool stream;
	bool references; // takes references to pages
	bool gives;	 // and gives them

	friend void PrintTo(const Kind& kind, std::ostream* to) { *to << kind.name; }
};

inline constexpr Kind kinds[] = {
	{"Pipe", [] { return make_pipe(); }, true, true, true},
	{"UnixStream", make_unix_stream, true, true, true},
	{"UnixDatagram", make_unix_datagram, false, false, false},
	{"UnixSeqpacket", make_unix_seqpacket, false, false, false},
	{"Tcp4", make_tcp4, true, true, false},
	{"Tcp6", make_tcp6, true, true, false},
	{"Udp4", make_udp4, false, true, false},
	{"Udp6", make_udp6, false, true, false},
};

//
// Loads
//

enum class Shape { one_small, many_small, one_large, many_large };
enum class After { comes_back, goes_home };

inline void PrintTo(After after, std::ostream* to)
{
	*to << (after == After::goes_home ? "give" : "return");
}

inline const char* name_of(Shape shape)
{
	static constexpr const char* names[] = {"OneSmall", "ManySmall", "OneLarge", "ManyLarge"};
	return names[static_cast<int>(shape)];
}

inline void PrintTo(Shape shape, std::ostream* to)
{
	*to << name_of(shape);
}

// Fbufs with contents, slices of them, and what a reader must see.
struct Load {
	std::vector<fbufs_buffer> buffers;
	std::vector<Bytes> before;
	std::vector<fbufs_slice> slices;
	Bytes expected;

	void fbuf(const Actor& actor, std::size_t bytes)
	{
		const auto seed = static_cast<unsigned>(buffers.size() + 3);
		buffers.push_back(actor.filled(bytes, seed));
		before.push_back(pattern(bytes, seed));
	}
	void slice(std::size_t which, std::size_t offset, std::size_t length)
	{
		slices.push_back(slice_of(buffers[which].fbuf, static_cast<std::uint32_t>(offset),
					  static_cast<std::uint32_t>(length)));
		const auto from = before[which].begin() + static_cast<std::ptrdiff_t>(offset);
		expected.insert(expected.end(), from, from + static_cast<std::ptrdiff_t>(length));
	}
};

inline Load make_load(const Actor& actor, Shape shape, bool stream)
{
	Load load;
	const std::size_t large = stream ? 1 << 20 : 60000;
	switch (shape) {
	case Shape::one_small:
		load.fbuf(actor, page);
		load.slice(0, 24, 1000);
		break;
	case Shape::many_small:
		for (int i = 0; i < 3; i++)
			load.fbuf(actor, 2 * page);
		for (std::size_t i = 0; i < 12; i++)
			load.slice((i * 2 + 1) % 3, page - 600 + i * 97, 100 + i);
		load.slice(1, 0, 2 * page);
		break;
	case Shape::one_large:
		load.fbuf(actor, large);
		load.slice(0, 0, large);
		break;
	case Shape::many_large:
		for (int i = 0; i < 4; i++)
			load.fbuf(actor, large / 4 + page);
		for (std::size_t i = 0; i < 8; i++)
			load.slice(i % 4, i * 31, large / 8);
		break;
	}
	return load;
}

// What arrives, while the domain gets on with its operations; completions that come meanwhile are added.
inline Bytes pump(int domain, int out, std::size_t bytes, std::vector<Done>& done, int timeout_ms = 5000)
{
	Bytes data(bytes);
	std::size_t got = 0;
	eventually(
		[&] {
			for (bool moved = true; moved && got < bytes;) {
				moved = polls(out, POLLIN);
				const ssize_t n = moved ? ::read(out, data.data() + got, bytes - got) : 0;
				got += n > 0 ? static_cast<std::size_t>(n) : 0;
				const Call more(domain, {}, {});
				done.insert(done.end(), more.done.begin(), more.done.end());
			}
			return got == bytes;
		},
		timeout_ms);
	data.resize(got);
	return data;
}

inline Bytes read_some(int fd, std::size_t bytes)
{
	Bytes data(bytes);
	const ssize_t n = polls(fd, POLLIN, 3000) ? ::read(fd, data.data(), bytes) : -1;
	data.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
	return data;
}

// A file in memory that is gone with its descriptor.
inline Fd temporary_file(int flags = O_RDWR, const char* directory = "/dev/shm")
{
	std::string name = std::string(directory) + "/io_test.XXXXXX";
	const Fd made(::mkostemp(name.data(), O_CLOEXEC));
	EXPECT_GE(made.get(), 0);
	Fd file(::open(name.c_str(), flags | O_CLOEXEC));
	::unlink(name.c_str());
	return file;
}

} // namespace uapi
