// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// bench_kernel kernel-source|tap [CLOCK]: one record a line, in nanoseconds a message or packet. In the test
// VM with instruction time (run -i) these are instructions of the program and the kernel together; CLOCK is
// what the records call it.
#include "driver.hpp"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <array>
#include <ctime>
#include <functional>
#include <memory>

namespace {

double now()
{
	timespec time;
	::clock_gettime(CLOCK_MONOTONIC, &time);
	return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

// What lies between the two is what tests/vm/profile looks at: instructions that do nothing.
void mark_begin()
{
#ifdef __x86_64__
	asm volatile("nopl 0x46420001(%%rax)" ::: "memory");
#endif
}

void mark_end()
{
#ifdef __x86_64__
	asm volatile("nopl 0x46420002(%%rax)" ::: "memory");
#endif
}

[[noreturn]] void fail(const char* what)
{
	examples::die(what, {errno, std::system_category()});
}

// Allocated and delivered with interrupts off, received and released in vectors of 32.
void kernel_source(const char* clock)
{
	constexpr std::size_t batch = 32;
	constexpr int rounds = 2000;
	examples::program me(16 << 20);
	examples::driver camera("camera");
	fbufs_sample_start args = me.wanted(4096, 4 * batch);
	args.flags = FBUFS_SAMPLE_HEADER;
	camera.start(args);
	std::array<fbuf::message, batch> messages;
	std::uint64_t sum = 0, total = 0;
	auto round = [&] {
		const std::size_t made = camera.trigger(batch);
		total += made;
		for (std::size_t done = 0; done < made;) {
			const std::size_t got = examples::checked(me.receiver.receive(messages), "receive");
			for (std::size_t i = 0; i < got; i++)
				sum += reinterpret_cast<const fbufs_frame*>(messages[i].data().data())->sequence;
			done += got;
		}
	};
	for (int i = 0; i < 100; i++)
		round();
	const auto counted = examples::checked(me.domain.count(), "counters");
	total = 0;
	mark_begin();
	const double begin = now();
	for (int i = 0; i < rounds; i++)
		round();
	const double each = (now() - begin) / static_cast<double>(total);
	mark_end();
	const auto after = examples::checked(me.domain.count(), "counters");
	const fbufs_sample_status status = camera.status();
	std::printf(
		"{\"bench\":\"kernel-source\",\"mechanism\":\"fbufs\",\"bytes\":4096,\"batch\":%zu,\"ns\":%.1f,"
		"\"clock\":\"%s\",\"messages\":%llu,\"dropped\":%llu,\"faults\":%llu,\"tlb_flushes\":%llu,\"sum\":%llu}\n",
		batch, each, clock, static_cast<unsigned long long>(total), status.dropped,
		static_cast<unsigned long long>(after.faults - counted.faults),
		static_cast<unsigned long long>(after.tlb_flushes - counted.tlb_flushes),
		static_cast<unsigned long long>(sum));
}

// Somebody who looks at packets; says how many bytes of them it saw, headers of records aside.
struct watcher {
	virtual ~watcher() = default;
	// Look at what is there; how many packets.
	virtual std::uint64_t look() = 0;
};

struct record {
	std::uint32_t seconds, nanoseconds, kept, length;
};

struct tap_watcher : watcher {
	examples::program me{64 << 20, 256};
	examples::driver tap{"tap"};
	std::uint64_t sum = 0;

	explicit tap_watcher(const char* interface)
	{
		examples::checked(me.receiver.set_nonblocking(true), "receiver");
		fbufs_sample_start args = me.wanted(256 << 10, 64);
		args.snap = 2048;
		std::strncpy(args.name, interface, sizeof(args.name) - 1);
		tap.start(args);
	}
	std::uint64_t look() override
	{
		std::uint64_t packets = 0;
		fbuf::message blocks[16];
		auto got = me.receiver.receive(blocks);
		for (std::size_t i = 0; got && i < *got; i++) {
			const auto data = blocks[i].data();
			for (std::size_t at = 0; at < data.size(); packets++) {
				const auto* each = reinterpret_cast<const record*>(data.data() + at);
				sum += std::to_integer<unsigned>(data[at + sizeof(*each) + each->kept - 1]);
				at += sizeof(*each) + each->kept;
			}
		}
		return packets;
	}
};

// AF_PACKET with a TPACKET_V3 ring: blocks as large and as many as the tap's.
struct ring_watcher : watcher {
	static constexpr unsigned block = 256 << 10, blocks = 64;
	int socket = ::socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	std::byte* ring = nullptr;
	unsigned next = 0;
	std::uint64_t sum = 0;

	explicit ring_watcher(const char* interface)
	{
		const int version = TPACKET_V3, received_only = 1;
		tpacket_req3 request = {};
		request.tp_block_size = block;
		request.tp_block_nr = blocks;
		request.tp_frame_size = 2048;
		request.tp_frame_nr = block / 2048 * blocks;
		request.tp_retire_blk_tov = 50;
		sockaddr_ll address = {};
		address.sll_family = AF_PACKET;
		address.sll_protocol = htons(ETH_P_ALL);
		address.sll_ifindex = static_cast<int>(::if_nametoindex(interface));
		// As everybody wants who reads the loopback interface: each packet once.
		if (socket < 0 || ::setsockopt(socket, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) ||
		    ::setsockopt(socket, SOL_PACKET, PACKET_IGNORE_OUTGOING, &received_only, sizeof(received_only)) ||
		    ::setsockopt(socket, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)))
			fail("packet socket");
		void* base =
			::mmap(nullptr, std::size_t{block} * blocks, PROT_READ | PROT_WRITE, MAP_SHARED, socket, 0);
		if (base == MAP_FAILED || ::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof(address)))
			fail("packet ring");
		ring = static_cast<std::byte*>(base);
	}
	~ring_watcher() override
	{
		::munmap(ring, std::size_t{block} * blocks);
		::close(socket);
	}
	std::uint64_t look() override
	{
		std::uint64_t packets = 0;
		for (;;) {
			auto* head = reinterpret_cast<tpacket_block_desc*>(ring + std::size_t{next} * block);
			if (!(__atomic_load_n(&head->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
				return packets;
			const std::byte* at = ring + std::size_t{next} * block + head->hdr.bh1.offset_to_first_pkt;
			for (unsigned i = 0; i < head->hdr.bh1.num_pkts; i++) {
				const auto* each = reinterpret_cast<const tpacket3_hdr*>(at);
				at += each->tp_next_offset;
				sum += std::to_integer<unsigned>(*(reinterpret_cast<const std::byte*>(each) +
								   each->tp_mac + each->tp_snaplen - 1));
				packets++;
			}
			__atomic_store_n(&head->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
			next = (next + 1) % blocks;
		}
	}
};

// Packets that are sent before somebody looks.
constexpr int burst = 64;

// So many packets of UDP over an interface; what they cost, with or without somebody who watches.
double traffic(int from, int to, const sockaddr_in& address, watcher* who, std::size_t bytes)
{
	constexpr int bursts = 100;
	std::array<char, 2048> payload = {};
	std::uint64_t seen = 0;
	const double begin = now();
	for (int i = 0; i < bursts; i++) {
		for (int j = 0; j < burst; j++)
			if (::sendto(from, payload.data(), bytes, 0, reinterpret_cast<const sockaddr*>(&address),
				     sizeof(address)) < 0)
				fail("sendto");
		for (int j = 0; j < burst; j++)
			if (::recv(to, payload.data(), payload.size(), 0) < 0)
				fail("recv");
		if (who)
			seen += who->look();
	}
	const double took = now() - begin;
	// The last block comes when its time is over; what is idle until then is nobody's work.
	for (int i = 0; who && seen < bursts * burst && i < 100; i++) {
		::usleep(20000);
		seen += who->look();
	}
	if (who && seen != bursts * burst) {
		std::fprintf(stderr, "%llu packets of %d were seen\n", static_cast<unsigned long long>(seen),
			     bursts * burst);
		std::exit(1);
	}
	return took / (bursts * burst);
}

void tap(const char* interface, const char* clock)
{
	const int from = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
		  to = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	sockaddr_in address = {};
	socklen_t length = sizeof(address);
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (from < 0 || to < 0 || ::bind(to, reinterpret_cast<sockaddr*>(&address), sizeof(address)) ||
	    ::getsockname(to, reinterpret_cast<sockaddr*>(&address), &length))
		fail("socket");
	for (const std::size_t bytes : {std::size_t{64}, std::size_t{1400}}) {
		traffic(from, to, address, nullptr, bytes);
		const double alone = traffic(from, to, address, nullptr, bytes);
		for (const char* mechanism : {"fbufs-tap", "tpacket-v3"}) {
			std::unique_ptr<watcher> who;
			if (mechanism[0] == 'f')
				who = std::make_unique<tap_watcher>(interface);
			else
				who = std::make_unique<ring_watcher>(interface);
			traffic(from, to, address, who.get(), bytes);
			const double watched = traffic(from, to, address, who.get(), bytes);
			std::printf(
				"{\"bench\":\"tap\",\"mechanism\":\"%s\",\"bytes\":%zu,\"batch\":%d,\"ns\":%.1f,\"clock\":\"%s\","
				"\"alone\":%.1f}\n",
				mechanism, bytes, burst, watched - alone, clock, alone);
		}
	}
}

} // namespace

int main(int argc, char** argv)
{
	const std::string what = argc > 1 ? argv[1] : "";
	const char* clock = argc > 2 ? argv[2] : "wall";
	if (argc > 3 || (what != "kernel-source" && what != "tap")) {
		std::fprintf(stderr, "usage: bench_kernel kernel-source|tap [CLOCK]\n");
		return 2;
	}
	if (what == "tap")
		tap("lo", clock);
	else
		kernel_source(clock);
}
