// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Death at any point: a sender, a forwarder and a last receiver work as fast as they can and are killed at
// random. Who survives sees hang-up and ends by itself; descriptors that survive somewhere else keep
// nothing alive; and in the end the module has exactly what it had before.

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <sys/prctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <random>

namespace {

using namespace uapi;
using Random = std::minstd_rand;

std::uint64_t total_kills()
{
	const char* const given = std::getenv("FBUFS_KILLS");
	return given ? std::strtoull(given, nullptr, 0) : 2000;
}

bool one_in(Random& random, unsigned n)
{
	return random() / 16 % n == 0;
}

// How a process that was not killed ends.
enum Exit { peers_gone = 0, no_hangup = 10, unexpected = 20 };

// A domain that may map every pool it meets, and that reads what it gets.
class Worker {
public:
	explicit Worker(Random::result_type seed) : random(seed) {}

	// The window of the pool of a position, made when needed.
	Window* window(std::uint64_t position)
	{
		const auto pool = static_cast<std::uint32_t>(position >> FBUFS_POOL_SHIFT);
		if (!window_.error() && window_.base() != MAP_FAILED && pool == pool_)
			return &window_;
		fbufs_pool_info info = {};
		info.size = sizeof(info);
		info.pool = pool;
		if (call(domain, FBUFS_POOL_INFO, info) != 0)
			return nullptr;
		pool_ = pool;
		window_ = Window();
		window_ = Window(domain, pool, info.out_span, PROT_READ);
		return window_.error() ? nullptr : &window_;
	}
	void forget_window() { window_ = Window(); }

	bool take_in(int end)
	{
		const long n = receive(end, messages, slices);
		if (n <= 0)
			return false;
		std::size_t slice = 0;
		for (long i = 0; i < n; i++) {
			const fbufs_message& message = messages[static_cast<std::size_t>(i)];
			held.push_back({message.message, slices[slice]});
			for (std::uint32_t s = 0; s < message.slices; s++, slice++)
				read(slices[slice]);
		}
		return true;
	}
	void read(const fbufs_slice& slice)
	{
		Window* const from = window(slice.position);
		if (!from || faults([&] { sum = *from->at(slice.position); }))
			::_exit(unexpected + 1);
	}
	void let_go(std::size_t keep)
	{
		while (held.size() > keep) {
			const std::size_t which = random() % held.size();
			if (handles(domain, FBUFS_RELEASE, {held[which].message}) != 1)
				::_exit(unexpected + 2);
			held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
		}
		if (!held.empty() && one_in(random, 4) &&
		    handles(domain, FBUFS_SECURE, {held[random() % held.size()].message}) != 1)
			::_exit(unexpected + 3);
		if (one_in(random, 8))
			forget_window();
	}

	struct Held {
		std::uint64_t message;
		fbufs_slice slice;
	};
	Random random;
	Fd domain = open_domain();
	std::deque<Held> held;
	std::vector<fbufs_message> messages{8};
	std::vector<fbufs_slice> slices{64};
	volatile unsigned sum = 0;

private:
	std::uint32_t pool_ = ~0U;
	Window window_;
};

int hung_up(int end)
{
	return polls(end, POLLHUP, 2000) ? peers_gone : no_hangup;
}

// Leave descriptors behind: in a child that lives on, or in a socket.
struct Legacy {
	bool grandchild = false;
	bool socket = false;
	int leash = -1;	    // the grandchild lives as long as somebody has the other end
	int leash_end = -1; // that other end
	int to_survivor = -1;

	void leave(const std::array<int, 2>& fds) const
	{
		if (grandchild && ::fork() == 0) {
			::close(leash_end);
			char byte;
			while (::read(leash, &byte, 1) > 0)
				;
			::_exit(0);
		}
		if (!socket)
			return;
		char byte = 'x';
		iovec part = {&byte, 1};
		alignas(cmsghdr) char control[CMSG_SPACE(sizeof(fds))] = {};
		msghdr message = {};
		message.msg_iov = &part;
		message.msg_iovlen = 1;
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
		cmsghdr* const header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(fds));
		std::memcpy(CMSG_DATA(header), fds.data(), sizeof(fds));
		::sendmsg(to_survivor, &message, 0);
	}
};

class Sender : Worker {
public:
	using Worker::Worker;

	int run(int end, const Legacy& legacy)
	{
		fbufs_pool_create pool = {};
		if (pool_create(domain, 1 << 20, pool) != 0)
			return unexpected;
		Window own(domain, pool.out_pool, pool.out_span, PROT_READ | PROT_WRITE);
		if (own.error() || attach(end, domain) != 0)
			return unexpected;
		legacy.leave({domain, end});
		for (;;) {
			const long result = round(end, own);
			if (result == -EPIPE)
				return hung_up(end);
			if (result < 0)
				return static_cast<int>(unexpected - result);
			if (one_in(random, 64)) {
				own = Window();
				own = Window(domain, pool.out_pool, pool.out_span, PROT_READ | PROT_WRITE);
			}
		}
	}

private:
	long round(int end, const Window& own)
	{
		const std::uint64_t bytes = page * (1 + random() % 4);
		std::vector<fbufs_buffer> buffers(1 + random() % 8);
		const long n = alloc(one_in(random, 8) ? static_cast<int>(domain) : end, bytes, buffers);
		if (n <= 0)
			return n == -EAGAIN || n == -ENOBUFS ? 0 : n;
		buffers.resize(static_cast<std::size_t>(n));
		for (const auto& buffer : buffers)
			if (!one_in(random, 4) && store_faults(own.at(buffer.position)))
				return -1;
		if (one_in(random, 16)) {
			std::vector<std::uint64_t> back;
			for (const auto& buffer : buffers)
				back.push_back(buffer.fbuf);
			return handles(domain, FBUFS_FREE, back);
		}
		return send_all(end, buffers, bytes);
	}
	long send_all(int end, const std::vector<fbufs_buffer>& buffers, std::uint64_t bytes)
	{
		std::vector<fbufs_slice> parts;
		for (const auto& buffer : buffers) {
			fbufs_slice slice = {};
			slice.fbuf = buffer.fbuf;
			slice.length = static_cast<std::uint32_t>(bytes);
			parts.push_back(slice);
		}
		fbufs_message message = {};
		message.flags = one_in(random, 4) ? FBUFS_MESSAGE_NOTICE : 0;
		std::vector<fbufs_message> out;
		if (one_in(random, 2)) {
			message.slices = static_cast<std::uint32_t>(parts.size());
			out = {message};
		} else {
			message.slices = 1;
			out.assign(parts.size(), message);
		}
		const long result = uapi::send(end, out, parts);
		drain_notices();
		return result;
	}
	void drain_notices()
	{
		std::array<std::uint64_t, 32> home;
		fbufs_notices args = {};
		args.size = sizeof(args);
		args.fbufs = address(home.data());
		args.count = home.size();
		if (one_in(random, 4))
			call(domain, FBUFS_NOTICES, args);
	}
};

class Forwarder : Worker {
public:
	using Worker::Worker;

	int run(int in, int out, const Legacy& legacy)
	{
		if (attach(in, domain) != 0 || attach(out, domain) != 0)
			return unexpected;
		legacy.leave({domain, in});
		while (take_in(in)) {
			const long result = forward(out);
			if (result == -EPIPE)
				return hung_up(out);
			if (result < 0)
				return static_cast<int>(unexpected - result);
			let_go(random() % 16);
		}
		return hung_up(in);
	}

private:
	long forward(int out)
	{
		std::vector<fbufs_slice> parts;
		for (const Held& one : held) {
			if (!one_in(random, 3))
				continue;
			fbufs_slice slice = one.slice;
			slice.hold = one.message;
			slice.length = 1 + static_cast<std::uint32_t>(random() % slice.length);
			parts.push_back(slice);
		}
		if (parts.empty())
			return 0;
		fbufs_message message = {};
		message.slices = 1;
		return uapi::send(out, std::vector<fbufs_message>(parts.size(), message), parts);
	}
};

class Last : Worker {
public:
	using Worker::Worker;

	int run(int in, const Legacy& legacy)
	{
		if (attach(in, domain) != 0)
			return unexpected;
		legacy.leave({domain, in});
		while (take_in(in))
			let_go(random() % 32);
		return hung_up(in);
	}
};

bool comes_true(const std::function<bool()>& condition, std::chrono::milliseconds limit = std::chrono::seconds(10))
{
	const auto end = std::chrono::steady_clock::now() + limit;
	while (!condition()) {
		if (std::chrono::steady_clock::now() > end)
			return false;
		::usleep(1000);
	}
	return true;
}

enum Role { sender, forwarder, last, roles };

class Round {
public:
	Round(Random::result_type seed, int domain) : random_(seed), domain_(domain) {}

	// Returns how many were killed.
	unsigned run()
	{
		prepare();
		for (int role = 0; role < roles; role++)
			start(static_cast<Role>(role));
		// Some victims die before they have begun.
		std::array<Role, roles> order = {sender, forwarder, last};
		std::shuffle(order.begin(), order.end(), random_);
		const std::size_t victims = 1 + random_() % roles;
		for (std::size_t i = 0; i < victims; i++) {
			::usleep(static_cast<useconds_t>(random_() % (i ? 1000 : 16000)));
			kill(order[i]);
		}
		for (std::size_t i = 0; i < roles; i++)
			collect(order[i], i < victims);
		check_hang_up();
		check_nothing_is_kept();
		return killed_;
	}

private:
	void prepare()
	{
		before_ = gauges(domain_);
		for (auto& channel : channels_) {
			std::uint32_t flags = 0;
			flags |= one_in(random_, 3) ? FBUFS_CHANNEL_UNCACHED : 0;
			flags |= one_in(random_, 3) ? FBUFS_CHANNEL_VOLATILE : 0;
			const std::uint32_t depth = one_in(random_, 2) ? 64 : 2;
			ASSERT_EQ(channel_create(domain_, flags, depth, channel.sender, channel.receiver), 0);
		}
		int fds[2];
		ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
		leash_ = Fd(fds[0]);
		leash_end_ = Fd(fds[1]);
		ASSERT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
		mine_ = Fd(fds[0]);
		theirs_ = Fd(fds[1]);
	}
	void start(Role role)
	{
		const Legacy legacy = {.grandchild = one_in(random_, 4),
				       .socket = one_in(random_, 4),
				       .leash = leash_,
				       .leash_end = leash_end_,
				       .to_survivor = theirs_};
		const Random::result_type seed = static_cast<Random::result_type>(random_());
		children_[role] = ::fork();
		if (children_[role] == 0) {
			::prctl(PR_SET_PDEATHSIG, SIGKILL);
			::_exit(live(role, seed, legacy));
		}
		ASSERT_GT(children_[role], 0);
	}
	int live(Role role, Random::result_type seed, const Legacy& legacy)
	{
		mine_.reset();
		for (const Role other : {sender, forwarder, last})
			for (Fd* const end : ends_of(other))
				if (other != role)
					end->reset();
		switch (role) {
		case sender: return Sender(seed).run(channels_[0].sender, legacy);
		case forwarder: return Forwarder(seed).run(channels_[0].receiver, channels_[1].sender, legacy);
		default: return Last(seed).run(channels_[1].receiver, legacy);
		}
	}
	std::vector<Fd*> ends_of(Role role)
	{
		switch (role) {
		case sender: return {&channels_[0].sender};
		case forwarder: return {&channels_[0].receiver, &channels_[1].sender};
		default: return {&channels_[1].receiver};
		}
	}
	void kill(Role role)
	{
		::kill(children_[role], SIGKILL);
		// An end that it did not come to attach lives by its descriptors only: ours is the last.
		siginfo_t gone = {};
		EXPECT_EQ(::waitid(P_PID, static_cast<id_t>(children_[role]), &gone, WEXITED | WNOWAIT), 0);
		for (Fd* const end : ends_of(role)) {
			fbufs_end_info info = {};
			info.size = sizeof(info);
			EXPECT_EQ(call(*end, FBUFS_END_INFO, info), 0);
			if (!info.out_attached)
				end->reset();
		}
	}
	void collect(Role role, bool victim)
	{
		int status = -1;
		if (!comes_true([&] { return ::waitpid(children_[role], &status, WNOHANG) == children_[role]; })) {
			ADD_FAILURE() << "role " << role << " does not end";
			::kill(children_[role], SIGKILL);
			::waitpid(children_[role], &status, 0);
		}
		if (victim && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
			killed_++;
		else
			EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == peers_gone)
				<< "role " << role << (victim ? " (victim)" : "") << " status " << std::hex << status;
	}
	// The test's own descriptors of the ends tell it too.
	void check_hang_up()
	{
		for (auto& channel : channels_) {
			for (const Fd* const end : {&channel.sender, &channel.receiver})
				EXPECT_TRUE(*end < 0 || polls(*end, POLLHUP, 5000)) << poll_events(*end);
			EXPECT_FALSE(polls(channel.sender, POLLOUT));
		}
	}
	void check_nothing_is_kept()
	{
		std::vector<std::uint64_t> now;
		// Whoever has descriptors left keeps no memory by them.
		EXPECT_TRUE(comes_true([&] {
			now = gauges(domain_);
			return now[FBUFS_GAUGE_FBUFS] == before_[FBUFS_GAUGE_FBUFS] &&
			       now[FBUFS_GAUGE_PAGES] == before_[FBUFS_GAUGE_PAGES] &&
			       now[FBUFS_GAUGE_WINDOWS] == before_[FBUFS_GAUGE_WINDOWS];
		})) << "fbufs "
		    << now[FBUFS_GAUGE_FBUFS] << " pages " << now[FBUFS_GAUGE_PAGES] << " windows "
		    << now[FBUFS_GAUGE_WINDOWS] << " while descriptors survive";
		leash_end_.reset();
		mine_.reset();
		theirs_.reset();
		for (auto& channel : channels_) {
			channel.sender.reset();
			channel.receiver.reset();
		}
		EXPECT_TRUE(comes_true([&] {
			now = gauges(domain_);
			return now == before_;
		}));
		for (std::size_t i = 0; i < now.size(); i++)
			EXPECT_EQ(now[i], before_[i]) << "gauge " << i;
	}

	struct Channel {
		Fd sender, receiver;
	};
	Random random_;
	int domain_;
	std::array<Channel, 2> channels_;
	std::array<pid_t, roles> children_ = {};
	Fd leash_, leash_end_, mine_, theirs_;
	std::vector<std::uint64_t> before_;
	unsigned killed_ = 0;
};

TEST(Death, LeavesNothingBehind)
{
	const char* const given = std::getenv("FBUFS_SEED");
	const auto seed = static_cast<Random::result_type>(given ? std::strtoull(given, nullptr, 0) : 1);
	const Fd domain = open_domain();
	::prctl(PR_SET_CHILD_SUBREAPER, 1);
	std::uint64_t killed = 0;
	unsigned rounds = 0;
	while (killed < total_kills() && !HasFailure()) {
		killed += Round(seed + rounds, domain).run();
		rounds++;
		// Grandchildren that went with the leash.
		while (::waitpid(-1, nullptr, WNOHANG) > 0)
			;
		if (HasFailure())
			std::printf("FBUFS_SEED=%u repeats this round first\n",
				    static_cast<unsigned>(seed + rounds - 1));
	}
	std::printf("%llu kills in %u rounds\n", static_cast<unsigned long long>(killed), rounds);
}

} // namespace
