// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// What a buffer costs from its allocation to its end, when it is not sent.

#include "bench_run.hpp"
#include "cmd_bench.hpp"
#include "tool.hpp"

#include <linux/fbufs.h>

#include <array>
#include <fcntl.h>
#include <optional>
#include <span>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <vector>

namespace tool {

namespace {

struct options {
	timing time;
	std::string output;
	std::string mechanism;
	std::uint64_t rounds = 4096;
	std::size_t bytes = 4096;
	std::vector<unsigned> batches = {1, 32};
};

constexpr unsigned most = 32;
constexpr unsigned room = 64; // buffers in a pool

void touch(std::byte* data)
{
	*reinterpret_cast<volatile std::uint64_t*>(data) = 1;
}

// So many buffers at a time, again and again.
class allocator {
public:
	virtual ~allocator() = default;
	virtual void allocate_and_free(unsigned batch) = 0;
};

// Buffers of the library.
class library : public allocator {
public:
	explicit library(std::size_t bytes)
		: bytes_(bytes), domain_(expect(fbuf::domain::open(), "cannot open /dev/fbufs")),
		  pool_(expect(domain_.create_pool(room * bytes), "cannot make a pool"))
	{
	}
	void allocate_and_free(unsigned batch) override
	{
		use([this] { return pool_.allocate(bytes_); }, batch);
	}

protected:
	// As a program would: one is where it is needed, many are in a row.
	template <typename Allocate>
	void use(const Allocate& allocate, unsigned batch)
	{
		if (batch == 1)
			use_one(allocate);
		else
			use_many(allocate, batch);
	}
	template <typename Allocate>
	static void use_one(const Allocate& allocate)
	{
		const auto own = allocate();
		if (!own)
			throw failure("cannot allocate", own.error());
		touch(own->data().data());
	}
	template <typename Allocate>
	[[gnu::noinline]] void use_many(const Allocate& allocate, unsigned batch)
	{
		for (fbuf::buffer& each : std::span(own_).first(batch)) {
			each = expect(allocate(), "cannot allocate");
			touch(each.data().data());
		}
		for (fbuf::buffer& each : std::span(own_).first(batch))
			each = {};
	}

	std::size_t bytes_;
	fbuf::domain domain_;
	fbuf::pool pool_;

private:
	std::array<fbuf::buffer, most> own_;
};

// For a channel the library keeps what was not sent, for the next allocation.
class for_channel : public library {
public:
	explicit for_channel(std::size_t bytes)
		: library(bytes), channel_(expect(domain_.create_channel(), "cannot make a channel"))
	{
	}
	void allocate_and_free(unsigned batch) override
	{
		use([this] { return channel_.first.allocate(bytes_); }, batch);
	}

private:
	std::pair<fbuf::sender, fbuf::endpoint> channel_;
};

// For a channel. Each batch is allocated by one system call and freed by another.
class calls : public allocator {
public:
	explicit calls(std::size_t bytes)
		: domain_(bench::checked(::open("/dev/fbufs", O_RDWR | O_CLOEXEC), "/dev/fbufs"))
	{
		fbufs_pool_create pool = {};
		pool.size = sizeof(pool);
		pool.bytes = room * bytes;
		call(FBUFS_POOL_CREATE, &pool);
		first_ = FBUFS_POOL_OFFSET(pool.out_pool);
		window_.emplace(pool.out_span, PROT_READ | PROT_WRITE, MAP_SHARED, domain_.fd(),
				static_cast<off_t>(first_));
		fbufs_channel_create channel = {};
		channel.size = sizeof(channel);
		channel.flags = FBUFS_CHANNEL_ATTACH_SENDER;
		call(FBUFS_CHANNEL_CREATE, &channel);
		sender_ = bench::descriptor(channel.out_sender);
		receiver_ = bench::descriptor(channel.out_receiver);
		alloc_.size = sizeof(alloc_);
		alloc_.bytes = bytes;
		free_.size = sizeof(free_);
	}
	void allocate_and_free(unsigned batch) override
	{
		allocate(0, batch);
		use(batch);
		free(0, batch);
	}

	// Of the buffers and handles below, from one on.
	void allocate(unsigned first, unsigned batch)
	{
		alloc_.count = batch;
		alloc_.buffers = reinterpret_cast<std::uintptr_t>(buffers_ + first);
		if (::ioctl(sender_.fd(), FBUFS_ALLOC, &alloc_) != static_cast<int>(batch))
			bench::die("FBUFS_ALLOC");
	}
	// The first ones are written, and will be freed.
	void use(unsigned count)
	{
		for (unsigned i = 0; i < count; i++) {
			touch(window_->bytes().data() + (buffers_[i].position - first_));
			handles_[i] = buffers_[i].fbuf;
		}
	}
	void free(unsigned first, unsigned batch)
	{
		free_.count = batch;
		free_.handles = reinterpret_cast<std::uintptr_t>(handles_ + first);
		call(FBUFS_FREE, &free_);
	}

private:
	void call(unsigned long request, void* args) const
	{
		if (::ioctl(domain_.fd(), request, args) < 0)
			bench::die("ioctl");
	}

	bench::descriptor domain_, sender_, receiver_;
	std::uint64_t first_ = 0;
	std::optional<bench::mapping> window_;
	fbufs_alloc alloc_ = {};
	fbufs_handles free_ = {};
	fbufs_buffer buffers_[room] = {};
	std::uint64_t handles_[room] = {};
};

// Memory that is not shared.
template <void* (*take)(std::size_t), void (*give_back)(void*, std::size_t)>
class memory : public allocator {
public:
	explicit memory(std::size_t bytes) : bytes_(bytes) {}
	void allocate_and_free(unsigned batch) override
	{
		void* own[most];
		for (void*& each : std::span(own).first(batch)) {
			each = take(bytes_);
			touch(static_cast<std::byte*>(each));
		}
		for (void* each : std::span(own).first(batch))
			give_back(each, bytes_);
	}

private:
	std::size_t bytes_;
};

void* take_from_heap(std::size_t bytes)
{
	return ::operator new(bytes);
}
void give_to_heap(void* own, std::size_t)
{
	::operator delete(own);
}

// Pages of its own each time.
void* take_pages(std::size_t bytes)
{
	void* const own = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (own == MAP_FAILED)
		bench::die("mmap");
	return own;
}

void give_pages(void* own, std::size_t bytes)
{
	::munmap(own, bytes);
}

void add(bench::records& to, const char* mechanism, const options& want, unsigned batch, double ns)
{
	to.add({{"bench", "alloc"},
		{"mechanism", mechanism},
		{"bytes", want.bytes},
		{"batch", batch},
		{"ns", ns},
		{"clock", want.time.clock},
		{"turns", want.time.turns}});
}

// How long that takes.
template <typename Work>
std::uint64_t took(const Work& work)
{
	const std::uint64_t start = bench::now_ns();
	bench::mark_begin();
	work();
	bench::mark_end();
	return bench::now_ns() - start;
}

template <typename Allocator>
void measure(const char* mechanism, const options& want, bench::records& to)
{
	Allocator by(want.bytes);
	for (const unsigned batch : want.batches) {
		for (int i = 0; i < 64; i++)
			by.allocate_and_free(batch);
		bench::settle();
		const std::uint64_t all = took([&] {
			for (std::uint64_t i = 0; i < want.rounds; i++)
				by.allocate_and_free(batch);
		});
		add(to, mechanism, want, batch, static_cast<double>(all) / static_cast<double>(want.rounds * batch));
	}
}

// One of both calls by itself: the whole pool is allocated, then all of it freed.
template <bool Allocation>
void measure_call(const char* mechanism, const options& want, bench::records& to)
{
	calls by(want.bytes);
	for (const unsigned batch : want.batches) {
		const unsigned count = room / batch * batch;
		const auto allocation = [&] {
			for (unsigned first = 0; first < count; first += batch)
				by.allocate(first, batch);
		};
		const auto freeing = [&] {
			for (unsigned first = 0; first < count; first += batch)
				by.free(first, batch);
		};
		std::uint64_t ns = 0, done = 0;
		bench::settle();
		for (unsigned round = 0; done < want.rounds; round++) {
			std::uint64_t now = 0;
			if constexpr (Allocation) {
				now = took(allocation);
				by.use(count);
				freeing();
			} else {
				allocation();
				by.use(count);
				now = took(freeing);
			}
			// The first one makes the buffers.
			if (round == 0)
				continue;
			ns += now;
			done += count;
		}
		add(to, mechanism, want, batch, static_cast<double>(ns) / static_cast<double>(done));
	}
}

using measurement = void (*)(const char* mechanism, const options& want, bench::records& to);

constexpr std::pair<const char*, measurement> mechanisms[] = {
	{"malloc", measure<memory<take_from_heap, give_to_heap>>},
	{"mmap", measure<memory<take_pages, give_pages>>},
	{"fbufs-library", measure<for_channel>},
	{"fbufs-calls", measure<calls>},
	{"fbufs-call-alloc", measure_call<true>},
	{"fbufs-call-free", measure_call<false>},
	{"fbufs-no-channel", measure<library>},
};

void run(options& want)
{
	take_turns(want.time);
	bench::records to(want.output);
	for (const auto& [name, measure] : mechanisms)
		if (want.mechanism.empty() || want.mechanism == name)
			measure(name, want, to);
}

} // namespace

void add_bench_alloc(CLI::App& bench)
{
	auto want = std::make_shared<options>();
	CLI::App* alloc =
		bench.add_subcommand("alloc", "What a buffer costs that is allocated, touched and given back");
	std::vector<std::string> names;
	for (const auto& [name, measure] : mechanisms)
		names.emplace_back(name);
	alloc->add_option("-m,--mechanism", want->mechanism, "only one of those below")->check(CLI::IsMember(names));
	alloc->add_option("-n,--rounds", want->rounds, "how often")
		->check(CLI::Range(1U, 1U << 24))
		->capture_default_str();
	alloc->add_option("-s,--bytes", want->bytes, "of a buffer; a suffix K, M is understood")
		->transform(CLI::AsSizeValue(false))
		->check(CLI::Range(std::size_t{4096}, std::size_t{16} << 20))
		->capture_default_str();
	alloc->add_option("-b,--batch", want->batches, "allocated, and then freed, at a time")
		->check(CLI::Range(1U, most))
		->capture_default_str();
	add_timing(*alloc, want->time);
	alloc->add_option("-o,--output", want->output, "append the records to a file instead of printing them");
	alloc->footer(
		"fbufs-library: by fbuf::sender::allocate(), which keeps what was not sent;\n"
		"fbufs-calls: by FBUFS_ALLOC and FBUFS_FREE, one call each for all of them; fbufs-call-alloc and\n"
		"fbufs-call-free: one of both alone; fbufs-no-channel: by fbuf::pool::allocate(), which gets it\n"
		"zeroed; malloc: new and delete; mmap: with munmap.\n"
		"Example:\n  fbuf bench alloc --clock icount");
	alloc->callback([want] { run(*want); });
}

} // namespace tool
