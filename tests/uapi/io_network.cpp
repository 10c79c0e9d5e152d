// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// FBUFS_IO across network devices: packets that are lost, sent again, changed on their way, or that the device
// cannot gather.

#include "support/network.hpp"

#include <netinet/tcp.h>

#include <map>

namespace {

using namespace uapi;

class IoNetwork : public IoTest {
protected:
	void SetUp() override
	{
		IoTest::SetUp();
		::alarm(120);
	}
};

std::uint32_t retransmissions(int fd)
{
	tcp_info info = {};
	socklen_t length = sizeof(info);
	EXPECT_EQ(::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
	return info.tcpi_total_retrans;
}

//
// Loss
//

// What arrives at a stream is compared with the patterns of consecutive fbufs.
class Checker {
public:
	Checker(int fd, std::size_t each, unsigned n)
		: fd_(fd), thread_([=, this] {
			  Bytes got(each);
			  for (unsigned i = 0; i < n; i++) {
				  if (::recv(fd, got.data(), each, MSG_WAITALL) != static_cast<ssize_t>(each))
					  return;
				  good_ += got == pattern(each, i);
			  }
		  })
	{
	}
	Checker(const Checker&) = delete;
	Checker& operator=(const Checker&) = delete;
	~Checker()
	{
		::shutdown(fd_, SHUT_RDWR);
		if (thread_.joinable())
			thread_.join();
	}
	// How many were right.
	unsigned good()
	{
		thread_.join();
		return good_;
	}

private:
	int fd_;
	std::atomic<unsigned> good_ = 0;
	std::thread thread_;
};

struct Loss {
	const char* name;
	int mtu;
	int family;
	bool gives;
	const char* netem;

	friend void PrintTo(const Loss& loss, std::ostream* to) { *to << loss.name; }
};

class IoLoss : public IoNetwork, public testing::WithParamInterface<Loss> {};

// The fbufs are few, and are overwritten the moment they are back. A packet that is lost is sent again from the
// fbuf's own page: had it come back too early, the receiver would see the new contents.
TEST_P(IoLoss, SentAgainAsItWas)
{
	const Loss& loss = GetParam();
	const Network network(loss.mtu);
	ASSERT_TRUE(network.made());
	for (const auto& [side, device] : {std::pair("near", "n0"), std::pair("far", "f0")}) {
		network.in(side, std::string("ethtool -K ") + device + " tso off gso off gro off");
		// TCP makes long packets whatever the device can: one lost packet is to be one packet.
		network.in(side, std::string("ip link set dev ") + device + " gso_max_segs 1");
		network.in(side, std::string("tc qdisc add dev ") + device + " root netem " + loss.netem);
	}
	constexpr std::size_t each = 48 * 1024;
	constexpr unsigned buffers = 4, n = 60;
	const Actor actor(buffers * each);
	const Ends ends = Network::tcp(loss.family);
	Checker checker(ends.out, each, n);
	unsigned sent = 0, complete = 0;
	const auto send_next = [&](const fbufs_buffer& buffer) {
		const Bytes data = pattern(each, sent);
		std::memcpy(actor.at(buffer), data.data(), each);
		ASSERT_EQ(submit(actor.domain, write_op(ends.in, buffer.fbuf, 1, loss.gives ? FBUFS_IO_GIVE : 0),
				 {slice_of(buffer.fbuf, 0, each)}),
			  1);
		sent++;
	};
	std::map<std::uint64_t, fbufs_buffer> all;
	while (complete < n) {
		while (sent < n && (loss.gives || all.size() < buffers)) {
			const fbufs_buffer fresh = alloc_one(actor.domain, each);
			if (!fresh.fbuf)
				break;
			std::memset(actor.at(fresh), 0xee, each);
			all[fresh.fbuf] = fresh;
			ASSERT_NO_FATAL_FAILURE(send_next(fresh));
		}
		const Call call(actor.domain, {}, {}, complete < sent ? 1 : 0, FBUFS_DONTWAIT, 1);
		if (call.done.empty()) {
			(void)polls(actor.domain, POLLIN | (loss.gives ? POLLOUT : 0), 20);
			continue;
		}
		complete++;
		const Done& done = call.done[0];
		ASSERT_EQ(done.result, static_cast<std::int64_t>(each));
		ASSERT_EQ(done.flags, FBUFS_IO_ZEROCOPY);
		if (loss.gives)
			continue;
		const fbufs_buffer& back = all.at(done.cookie);
		ASSERT_EQ(actor.state(back), FBUFS_STATE_OWNED);
		std::memset(actor.at(back), 0xee, each);
		if (sent < n) {
			ASSERT_NO_FATAL_FAILURE(send_next(back));
		}
	}
	EXPECT_EQ(checker.good(), n);
	EXPECT_GT(retransmissions(ends.in), 0u) << "nothing was lost: this shows nothing";
	EXPECT_EQ(counters(actor.domain)[FBUFS_COUNT_BYTES_COPIED], 0u);
}

INSTANTIATE_TEST_SUITE_P(Of, IoLoss,
			 testing::Values(Loss{"Packets1500Return", 1500, AF_INET, false, "loss 2% delay 1ms"},
					 Loss{"Packets1500Give", 1500, AF_INET6, true, "loss 2% delay 1ms"},
					 Loss{"Packets9000Return", 9000, AF_INET6, false, "loss 4% delay 1ms"},
					 Loss{"Packets9000Give", 9000, AF_INET, true, "loss 4% delay 1ms"},
					 Loss{"OrderAndTwins", 1500, AF_INET, false,
					      "loss 1% delay 4ms 3ms reorder 30% duplicate 5%"}),
			 [](const auto& test) { return test.param.name; });

// Until the other side has said that it has it, it may have to be sent again.
TEST_F(IoNetwork, LockedUntilAcknowledged)
{
	const Network network;
	ASSERT_TRUE(network.made());
	const Actor actor;
	const fbufs_buffer buffer = actor.filled(2 * page, 5);
	const Ends ends = Network::tcp(AF_INET);
	network.in("far", "tc qdisc add dev f0 root netem loss 100%");
	ASSERT_EQ(submit(actor.domain, write_op(ends.in), {slice_of(buffer.fbuf, 0, 2 * page)}), 1);
	EXPECT_TRUE(read_some(ends.out, 2 * page) == pattern(2 * page, 5)) << "it has it, and cannot say so";
	EXPECT_TRUE(finish(actor.domain, 1, 500).empty());
	EXPECT_EQ(actor.state(buffer), FBUFS_STATE_SENT);
	for (std::size_t at = 0; at < 2 * page; at += page)
		EXPECT_TRUE(store_faults(actor.at(buffer) + at));
	network.in("far", "tc qdisc del dev f0 root");
	EXPECT_EQ(finish_one(actor.domain, 20000).result, static_cast<std::int64_t>(2 * page));
	EXPECT_GT(retransmissions(ends.in), 0u);
	EXPECT_FALSE(store_faults(actor.at(buffer)));
}

// A peer that nobody reaches any more: closing the socket gives up, and the fbufs are back.
TEST_F(IoNetwork, UnreachableAndReset)
{
	const Network network;
	ASSERT_TRUE(network.made());
	const Actor actor(8 << 20);
	const fbufs_buffer buffer = actor.filled(4 << 20, 5);
	Ends ends = Network::tcp(AF_INET6);
	network.in("near", "tc qdisc add dev n0 root netem loss 100%");
	ASSERT_EQ(submit(actor.domain, write_op(ends.in), {slice_of(buffer.fbuf, 0, 4 << 20)}), 1);
	EXPECT_TRUE(finish(actor.domain, 1, 300).empty());
	EXPECT_EQ(cancel(actor.domain, 1), 1);
	EXPECT_TRUE(finish(actor.domain, 1, 100).empty()) << "what was accepted may still have to be sent";
	const linger now = {1, 0};
	ASSERT_EQ(::setsockopt(ends.in, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	ends.in.reset();
	const Done done = finish_one(actor.domain);
	EXPECT_GT(done.result, 0);
	EXPECT_LT(done.result, 4 << 20);
	EXPECT_EQ(actor.state(buffer), FBUFS_STATE_OWNED);
	EXPECT_TRUE(actor.contents(buffer.position, 4 << 20) == pattern(4 << 20, 5));
}

// Whole pages, parts, and what is longer than a packet.
TEST_F(IoNetwork, DatagramsAcross)
{
	for (const int mtu : {1500, 9000}) {
		const Network network(mtu);
		ASSERT_TRUE(network.made());
		for (const int family : {AF_INET, AF_INET6}) {
			const Actor actor;
			const Ends ends = Network::udp(family);
			for (const std::uint32_t bytes : {1u, 1400u, 4096u, 8900u, 60000u}) {
				const fbufs_buffer buffer = actor.filled(60000, bytes);
				ASSERT_EQ(submit(actor.domain, write_op(ends.in), {slice_of(buffer.fbuf, 0, bytes)}),
					  1);
				EXPECT_TRUE(read_some(ends.out, 1 << 16) == pattern(bytes, bytes))
					<< mtu << " " << bytes;
				const Done done = finish_one(actor.domain);
				EXPECT_EQ(done.result, static_cast<std::int64_t>(bytes));
				EXPECT_EQ(done.flags, FBUFS_IO_ZEROCOPY) << mtu << " " << bytes;
				EXPECT_EQ(actor.state(buffer), FBUFS_STATE_OWNED);
				EXPECT_EQ(handles(actor.domain, FBUFS_FREE, {buffer.fbuf}), 1);
			}
		}
	}
}

//
// Devices that cannot gather
//

class IoNoGather : public IoNetwork, public testing::WithParamInterface<int> {};

TEST_P(IoNoGather, TcpCopiesAndSaysSo)
{
	const Network network;
	ASSERT_TRUE(network.made());
	network.in("near", "ethtool -K n0 sg off");
	const Actor actor;
	const Ends ends = Network::tcp(GetParam());
	const fbufs_buffer buffer = actor.filled(4 * page, 6);
	const Done done = complete(actor.domain, write_op(ends.in), {slice_of(buffer.fbuf, 0, 4 * page)});
	EXPECT_EQ(done.result, static_cast<std::int64_t>(4 * page));
	EXPECT_EQ(done.flags, FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
	EXPECT_EQ(done.reason, FBUFS_IO_NO_SCATTER_GATHER);
	EXPECT_EQ(done.copied, 4 * page);
	EXPECT_EQ(actor.state(buffer), FBUFS_STATE_OWNED) << "a copy is out at once";
	std::memset(actor.at(buffer), 0xee, 4 * page);
	std::vector<Done> none;
	EXPECT_TRUE(pump(actor.domain, ends.out, 4 * page, none) == pattern(4 * page, 6));
}

TEST_P(IoNoGather, UdpCopiesAndSaysSo)
{
	const Network network;
	ASSERT_TRUE(network.made());
	network.in("near", "ethtool -K n0 sg off");
	const Actor actor;
	const Ends ends = Network::udp(GetParam());
	const fbufs_buffer buffer = actor.filled(page, 6);
	const Done done = complete(actor.domain, write_op(ends.in), {slice_of(buffer.fbuf, 0, 1400)});
	EXPECT_EQ(done.result, 1400);
	EXPECT_EQ(done.flags, FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
	EXPECT_EQ(done.reason, FBUFS_IO_NO_SCATTER_GATHER);
	EXPECT_EQ(done.copied, 1400u);
	EXPECT_TRUE(read_some(ends.out, 1 << 16) == pattern(1400, 6));
}

// Which device it is is then only known from the address: the socket itself says nothing.
TEST_P(IoNoGather, UnconnectedUdpCopiesAndSaysSo)
{
	const Network network;
	ASSERT_TRUE(network.made());
	const Actor actor;
	const Fd out = Network::socket("far", GetParam(), SOCK_DGRAM);
	const Place any = Network::far_place(GetParam());
	ASSERT_EQ(::bind(out, const_cast<Place&>(any).get(), any.length), 0);
	Place to = place_of(out, GetParam());
	const Fd in = Network::socket("near", GetParam(), SOCK_DGRAM);
	const fbufs_buffer buffer = actor.filled(page, 6);
	fbufs_io_op op = write_op(in);
	op.address = address(&to.storage);
	op.address_length = to.length;
	for (const bool gathers : {true, false}) {
		network.in("near", gathers ? "ethtool -K n0 sg on" : "ethtool -K n0 sg off");
		ASSERT_EQ(submit(actor.domain, op, {slice_of(buffer.fbuf, 0, 1400)}), 1);
		EXPECT_TRUE(read_some(out, 1 << 16) == pattern(1400, 6));
		const Done done = finish_one(actor.domain);
		EXPECT_EQ(done.result, 1400);
		EXPECT_EQ(done.flags, gathers ? FBUFS_IO_ZEROCOPY : FBUFS_IO_COPIED | FBUFS_IO_FALLBACK);
		EXPECT_EQ(done.reason, gathers ? FBUFS_IO_NO_REASON : FBUFS_IO_NO_SCATTER_GATHER);
		EXPECT_EQ(done.copied, gathers ? 0u : 1400u);
	}
	// Without a way there, the error is that of send(2).
	network.in("near", "ip link set n0 down");
	EXPECT_LT(complete(actor.domain, op, {slice_of(buffer.fbuf, 0, 1400)}).result, 0);
}

INSTANTIATE_TEST_SUITE_P(By, IoNoGather, testing::Values(AF_INET, AF_INET6),
			 [](const auto& test) { return test.param == AF_INET ? "Ip4" : "Ip6"; });

//
// Who changes packets on their way
//

// A packet that is rewritten between two namespaces is rewritten in a copy: the fbuf is as it was, and locked.
TEST_F(IoNetwork, RewrittenOnTheWayIsNotRewrittenHere)
{
	const Network network;
	ASSERT_TRUE(network.made());
	// Of UDP over IPv4 the payload begins 28 bytes behind the IP header's start.
	network.in("near", "tc qdisc add dev n0 clsact");
	network.in(
		"near",
		"tc filter add dev n0 egress protocol ip matchall action pedit munge offset 28 u32 set 0x58585858 pipe csum ip udp");
	const Actor actor;
	const Ends ends = Network::udp(AF_INET);
	const fbufs_buffer buffer = actor.filled(page, 6);
	const Bytes data = pattern(page, 6);
	ASSERT_EQ(submit(actor.domain, write_op(ends.in), {slice_of(buffer.fbuf, 0, 1400)}), 1);
	const Bytes seen = read_some(ends.out, 1 << 16);
	ASSERT_EQ(seen.size(), 1400u);
	EXPECT_EQ(std::string(seen.begin(), seen.begin() + 4), "XXXX") << "it was not rewritten: this shows nothing";
	EXPECT_TRUE(Bytes(seen.begin() + 4, seen.end()) == Bytes(data.begin() + 4, data.begin() + 1400));
	EXPECT_TRUE(actor.contents(buffer.position, page) == data);
	EXPECT_EQ(finish_one(actor.domain).result, 1400);
	EXPECT_TRUE(actor.contents(buffer.position, page) == data);
}

} // namespace
