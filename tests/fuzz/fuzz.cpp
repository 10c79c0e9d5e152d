// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The whole surface of the device, fuzzed by libFuzzer. Each input is a program for a few processes that are forked
// for it and killed at its end, in whatever state they are; then the module must be empty again. The module's own
// coverage, which each of them records where the kernel has KCOV, guides the fuzzer through libFuzzer's extra
// counters. What else goes wrong the kernel says; the input that it was given then is in $FBUFS_LAST_INPUT.

#include "fuzz/actor.hpp"

#include "support/io.hpp"

#include <dirent.h>
#include <sys/resource.h>

#include <cinttypes>

namespace {

using namespace fuzz;
using uapi::Fd;

__attribute__((section("__libfuzzer_extra_counters"))) std::uint8_t coverage[1 << 15];

/*
 * Coverage
 */

// What one process executes in the module.
class Kcov {
public:
	static constexpr std::size_t words = 1 << 16;

	Kcov() : fd_(::open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC))
	{
		constexpr unsigned long init_trace = _IOR('c', 1, unsigned long);
		if (fd_ < 0 || ::ioctl(fd_, init_trace, words) != 0)
			return;
		void* const area =
			::mmap(nullptr, words * sizeof(std::uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
		area_ = area == MAP_FAILED ? nullptr : static_cast<std::uint64_t*>(area);
	}
	[[nodiscard]] bool works() const { return area_; }
	// In the process that is to be traced, until it ends.
	void start()
	{
		constexpr unsigned long enable = _IO('c', 100);
		if (area_ && ::ioctl(fd_, enable, 0) != 0)
			std::abort();
	}
	void clear()
	{
		if (area_)
			__atomic_store_n(&area_[0], 0, __ATOMIC_RELAXED);
	}
	// Each step from one block to the next is a counter.
	void collect() const
	{
		if (!area_)
			return;
		const std::uint64_t n =
			std::min<std::uint64_t>(__atomic_load_n(&area_[0], __ATOMIC_RELAXED), words - 1);
		std::uint64_t last = 0;
		for (std::uint64_t i = 1; i <= n; i++) {
			const std::uint64_t step = (area_[i] ^ last << 1) * 0x9e3779b97f4a7c15;
			std::uint8_t& counter = coverage[step >> 49];
			counter = static_cast<std::uint8_t>(counter + (counter < 255));
			last = area_[i];
		}
	}

private:
	Fd fd_;
	std::uint64_t* area_ = nullptr;
};

/*
 * Shared descriptors
 */

struct Descriptors {
	std::array<uapi::Ends, shared_kinds> ends;

	explicit Descriptors(const Program& program)
	{
		const auto used = [&](unsigned kind) {
			return std::any_of(program.begin(), program.end(), [=](const Op& op) {
				return (op.which() == io_write || op.which() == io_read || op.which() == drain) &&
				       op.a % shared_kinds == kind;
			});
		};
		ends[fuzz::pipe] = uapi::make_pipe();
		ends[small_pipe] = uapi::make_pipe(4096);
		ends[unix_stream] = uapi::make_unix_stream();
		ends[unix_datagram] = uapi::make_unix_datagram();
		if (used(tcp))
			ends[tcp] = uapi::make_tcp4();
		if (used(udp))
			ends[udp] = uapi::make_udp4();
		ends[file].in = Fd(::memfd_create("fuzz", MFD_CLOEXEC));
		ends[file].out = Fd(::dup(ends[file].in));
		for (const uapi::Ends& each : ends)
			for (const int fd : {each.in.get(), each.out.get()})
				if (fd >= 0)
					::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
	}
	[[nodiscard]] std::array<std::array<int, 2>, shared_kinds> numbers() const
	{
		std::array<std::array<int, 2>, shared_kinds> result;
		for (std::size_t i = 0; i < shared_kinds; i++)
			result[i] = {ends[i].out.get(), ends[i].in.get()};
		return result;
	}
};

/*
 * A run
 */

Board* board;
std::array<Kcov, actors>* kcov;
int last_input = -1;

void reset_board()
{
	for (unsigned i = 0; i < actors; i++) {
		board->pool[i] = 0;
		board->span[i] = uapi::page;
		board->pid[i] = 0;
		for (auto& end : board->ends[i])
			end = -1;
		for (auto& message : board->messages[i])
			message = 0;
	}
	for (auto& fbuf : board->fbufs)
		fbuf = 0;
	board->next_fbuf = 0;
	board->violation = nullptr;
}

int act(unsigned self, int socket, const Program& program, const Descriptors& descriptors)
{
	Actor actor(self, *board, descriptors.numbers());
	(*kcov)[self].start();
	std::uint8_t index = 0;
	while (::recv(socket, &index, 1, 0) == 1) {
		actor.run(program[index]);
		(void)!::send(socket, &index, 1, MSG_NOSIGNAL);
	}
	actor.expect_unchanged();
	return 0;
}

// An operation that has not come back by then waits for something, and the others go on.
constexpr int patience_ms = 20;

void play(const Program& program)
{
	const Descriptors descriptors(program);
	std::array<std::unique_ptr<uapi::Process>, actors> processes;

	for (unsigned i = 0; i < actors; i++) {
		(*kcov)[i].clear();
		processes[i] = std::make_unique<uapi::Process>(
			[&, i](int socket) { return act(i, socket, program, descriptors); });
		board->pid[i] = processes[i]->pid();
	}
	std::array<unsigned, actors> pending = {};
	for (std::size_t i = 0; i < program.size(); i++) {
		const unsigned actor = program[i].actor();
		const int socket = processes[actor]->socket();
		const auto index = static_cast<std::uint8_t>(i);
		std::uint8_t done[max_ops];

		if (::send(socket, &index, 1, MSG_NOSIGNAL) != 1)
			continue;
		pending[actor]++;
		while (pending[actor] && uapi::polls(socket, POLLIN, patience_ms)) {
			const ssize_t n = ::recv(socket, done, sizeof(done), MSG_DONTWAIT);
			pending[actor] = n <= 0 ? 0 : pending[actor] - static_cast<unsigned>(n);
		}
	}
	// Those who are done look once more at what they hold; then all of them die.
	for (unsigned i = 0; i < actors; i++)
		if (!pending[i])
			::shutdown(processes[i]->socket(), SHUT_WR);
	for (unsigned i = 0; i < actors; i++)
		if (!pending[i])
			(void)uapi::polls(processes[i]->socket(), POLLIN | POLLHUP, patience_ms);
}

// Everything that the processes had is gone. What is not is worth a report, and a look at the kernel's log.
void expect_nothing_left(const std::vector<std::uint64_t>& before)
{
	const Fd watcher = uapi::open_domain();
	if (uapi::eventually([&] { return uapi::gauges(watcher) == before; }, 20000))
		return;
	const std::vector<std::uint64_t> after = uapi::gauges(watcher);
	for (std::size_t i = 0; i < after.size(); i++)
		std::fprintf(stderr, "gauge %zu: %" PRIu64 " before, %" PRIu64 " after\n", i, before[i], after[i]);
	std::abort();
}

void write_seeds(const char* directory)
{
	::mkdir(directory, 0777);
	for (const Seed& seed : seeds()) {
		const std::string name = std::string(directory) + "/" + seed.name;
		const Fd out(::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
		const std::size_t size = seed.program.size() * sizeof(Op);
		if (::write(out, seed.program.data(), size) != static_cast<ssize_t>(size))
			std::abort();
	}
}

} // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***)
{
	if (const char* const directory = std::getenv("FBUFS_SEEDS"))
		write_seeds(directory);
	if (const char* const name = std::getenv("FBUFS_LAST_INPUT"))
		last_input = ::open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	void* const shared = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		std::abort();
	board = new (shared) Board;
	kcov = new std::array<Kcov, actors>;
	if (!(*kcov)[0].works())
		std::fprintf(stderr, "fuzz: this kernel has no KCOV: nothing guides\n");
	uapi::loopback_up();
	return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
	const Program program = decode(data, size);
	if (program.empty())
		return -1;
	if (last_input >= 0) {
		(void)!::pwrite(last_input, data, size, 0);
		(void)!::ftruncate(last_input, static_cast<off_t>(size));
	}
	reset_board();
	const std::vector<std::uint64_t> before = uapi::gauges(uapi::open_domain());
	play(program);
	for (const Kcov& each : *kcov)
		each.collect();
	expect_nothing_left(before);
	if (board->violation) {
		std::fprintf(stderr, "fuzz: %s\n", board->violation.load());
		std::abort();
	}
	return 0;
}
