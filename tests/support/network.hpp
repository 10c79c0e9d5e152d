// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Two network namespaces joined by a veth pair, and sockets in them.
#pragma once

#include "support/io.hpp"

#include <sched.h>

#include <fstream>
#include <iterator>

namespace uapi {

// A command; what it said is in /tmp/said.
inline bool run_command(const std::string& command)
{
	return std::system(("{ " + command + "; } >/tmp/said 2>&1").c_str()) == 0;
}

inline std::string command_said()
{
	std::ifstream file("/tmp/said");
	return {std::istreambuf_iterator<char>(file), {}};
}

// "near" has 10.9.0.1 and fd09::1 on n0, "far" 10.9.0.2 and fd09::2 on f0.
class Network {
public:
	explicit Network(int mtu = 1500)
	{
		const std::string size = std::to_string(mtu);
		const auto end = [](const std::string& n) {
			const std::string device = n == "1" ? "n0" : "f0";
			return "printf 'link set lo up\\naddr add 10.9.0." + n + "/24 dev " + device +
			       "\\naddr add fd09::" + n + "/64 nodad dev " + device + "\\nlink set " + device +
			       " up\\n' | ip -n " + (n == "1" ? "near" : "far") + " -batch -";
		};
		made_ = run_command("set -e; printf 'netns add near\\nnetns add far\\nlink add n0 mtu " + size +
				    " netns near type veth peer name f0 mtu " + size +
				    " netns far\\n' | ip -batch -; " + end("1") + "; " + end("2"));
		EXPECT_TRUE(made_) << command_said();
	}
	Network(const Network&) = delete;
	Network& operator=(const Network&) = delete;
	~Network() { run_command("printf 'netns del near\\nnetns del far\\n' | ip -batch -"); }
	[[nodiscard]] bool made() const { return made_; }
	// A command inside one of them, such as "tc qdisc add dev n0 ...".
	void in(const char* side, const std::string& command) const
	{
		EXPECT_TRUE(run_command(std::string("ip netns exec ") + side + " " + command))
			<< command << ": " << command_said();
	}
	[[nodiscard]] static Fd socket(const char* side, int family, int type)
	{
		const Fd here(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
		const Fd there(::open((std::string("/run/netns/") + side).c_str(), O_RDONLY | O_CLOEXEC));
		EXPECT_EQ(::setns(there, CLONE_NEWNET), 0) << std::strerror(errno);
		Fd made(::socket(family, type | SOCK_CLOEXEC, 0));
		EXPECT_EQ(::setns(here, CLONE_NEWNET), 0) << std::strerror(errno);
		return made;
	}
	// An address of far, with a port that the kernel chooses.
	[[nodiscard]] static Place far_place(int family)
	{
		Place place(family);
		if (family == AF_INET)
			::inet_pton(family, "10.9.0.2", &reinterpret_cast<sockaddr_in*>(&place.storage)->sin_addr);
		else
			::inet_pton(family, "fd09::2", &reinterpret_cast<sockaddr_in6*>(&place.storage)->sin6_addr);
		return place;
	}
	// From near to far.
	[[nodiscard]] static Ends tcp(int family)
	{
		const Fd listener = socket("far", family, SOCK_STREAM);
		Place place = far_place(family);
		EXPECT_EQ(::bind(listener, place.get(), place.length), 0) << std::strerror(errno);
		EXPECT_EQ(::listen(listener, 1), 0);
		place = place_of(listener, family);
		Ends ends;
		ends.in = socket("near", family, SOCK_STREAM);
		EXPECT_EQ(::connect(ends.in, place.get(), place.length), 0) << std::strerror(errno);
		ends.out = Fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
		EXPECT_GE(ends.out.get(), 0);
		return ends;
	}
	[[nodiscard]] static Ends udp(int family)
	{
		Ends ends;
		Place place = far_place(family);
		ends.out = socket("far", family, SOCK_DGRAM);
		EXPECT_EQ(::bind(ends.out, place.get(), place.length), 0) << std::strerror(errno);
		place = place_of(ends.out, family);
		ends.in = socket("near", family, SOCK_DGRAM);
		EXPECT_EQ(::connect(ends.in, place.get(), place.length), 0) << std::strerror(errno);
		return ends;
	}

private:
	bool made_ = false;
};

} // namespace uapi
