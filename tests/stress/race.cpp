// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The lock, raced: threads of the originator store without pause while messages are sent and come home;
// a receiver in another process reads every message twice. A store is tagged with the number of the
// message that is being made, published only after the send before it returned: a tag beyond the number of
// the message that it is found in got in after the send.

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <sched.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>

namespace {

using namespace uapi;

constexpr std::size_t words = page / sizeof(std::uint64_t);
constexpr std::uint64_t the_end = ~std::uint64_t{0};
constexpr std::size_t remembered = 32;
constexpr int hammerers = 2;

std::uint64_t total_sends()
{
	const char* const given = std::getenv("FBUFS_RACE_SENDS");
	return given ? std::strtoull(given, nullptr, 0) : 100000;
}

// What a receiver reports, in memory shared with the test.
struct Report {
	std::atomic<std::uint64_t> messages = 0;
	std::atomic<std::uint64_t> changed = 0; // read differently the second time
	std::atomic<std::uint64_t> early = 0;	// a tag from after the send
	std::atomic<std::uint64_t> tagged = 0;	// messages in which a hammerer's store was found
	std::atomic<std::uint64_t> flagged = 0; // messages that came locked
	std::atomic<std::uint64_t> failed = 0;	// a call that failed, as 1000 * which + errno
	std::atomic<std::uint64_t> cookie = 0, word = 0, first = 0, second = 0; // of the first bad one
};

struct Shared {
	explicit Shared(std::size_t n)
		: count(n), reports(static_cast<Report*>(::mmap(nullptr, n * sizeof(Report), PROT_READ | PROT_WRITE,
								MAP_SHARED | MAP_ANONYMOUS, -1, 0)))
	{
		for (std::size_t i = 0; i < n; i++)
			new (&reports[i]) Report;
	}
	Shared(const Shared&) = delete;
	Shared& operator=(const Shared&) = delete;
	~Shared() { ::munmap(reports, count * sizeof(Report)); }

	std::size_t count;
	Report* reports;
};

// A store tagged by number; by a signal instead of a crash when it is refused.
std::uint64_t tag(std::uint64_t sequence, unsigned noise)
{
	return sequence << 16 | (noise & 0xffff);
}

bool try_store(volatile std::uint64_t* where, std::uint64_t value)
{
	if (sigsetjmp(detail::jump, 0) != 0) {
		detail::armed = 0;
		return false;
	}
	detail::armed = 1;
	*where = value;
	detail::armed = 0;
	return true;
}

void catch_faults()
{
	struct sigaction action = {};
	action.sa_sigaction = detail::handler;
	action.sa_flags = SA_SIGINFO | SA_NODEFER;
	::sigaction(SIGBUS, &action, nullptr);
	::sigaction(SIGSEGV, &action, nullptr);
}

/*
 * The receiver
 */

struct Copy {
	std::array<std::uint64_t, words> data;
};

// Why a receiver believes that a message stays as it is.
enum class Trust {
	channel, // it is a secure channel
	secure,	 // it called FBUFS_SECURE
	flag,	 // the message is flagged FBUFS_MESSAGE_LOCKED, on a volatile channel; others are not looked at
	blind,	 // no reason at all
};

class Reader {
public:
	Reader(int end, const fbufs_pool_create& pool, Trust trust, Report& report)
		: end_(end), trust_(trust), report_(report), copies_(32), messages_(32), slices_(32)
	{
		if (attach(end, domain_) != 0)
			report.failed = 1000 + static_cast<unsigned>(errno);
		window_ = Window(domain_, pool.out_pool, pool.out_span, PROT_READ);
		if (window_.error())
			report.failed = 2000 + static_cast<unsigned>(window_.error());
	}

	int run()
	{
		for (bool last = false; !last && !report_.failed;) {
			const long n = receive(end_, messages_, slices_);
			if (n <= 0) {
				report_.failed = 3000 + static_cast<std::uint64_t>(-n);
				break;
			}
			last = batch(static_cast<std::size_t>(n));
		}
		return 0;
	}

private:
	// Read them all, let the others run, read them all again. True after the last message.
	bool batch(std::size_t n)
	{
		std::vector<std::uint64_t> held(n);
		for (std::size_t i = 0; i < n; i++)
			held[i] = messages_[i].message;
		if (trust_ == Trust::secure && handles(domain_, FBUFS_SECURE, held) != static_cast<long>(n))
			report_.failed = 4000 + static_cast<unsigned>(errno);
		for (std::size_t i = 0; i < n; i++)
			first(i);
		::sched_yield();
		for (std::size_t i = 0; i < n; i++) {
			const bool locked = messages_[i].flags & FBUFS_MESSAGE_LOCKED;
			if (trust_ == Trust::channel && !locked)
				report_.failed = 6000;
			report_.flagged += locked;
			if (trust_ != Trust::flag || locked)
				second(i);
		}
		report_.messages += n;
		const bool last = messages_[n - 1].cookie == the_end;
		if (handles(domain_, FBUFS_RELEASE, held) != static_cast<long>(n))
			report_.failed = 5000 + static_cast<unsigned>(errno);
		return last;
	}
	const volatile std::uint64_t* at(std::size_t i) const
	{
		return reinterpret_cast<const volatile std::uint64_t*>(window_.at(slices_[i].position));
	}
	void first(std::size_t i)
	{
		bool tagged = false;
		for (std::size_t w = 0; w < words; w++) {
			const std::uint64_t value = at(i)[w];
			copies_[i].data[w] = value;
			tagged |= value >> 16 == messages_[i].cookie;
			if ((trust_ == Trust::channel || trust_ == Trust::blind) && value >> 16 > messages_[i].cookie)
				bad(report_.early, i, w, value, value);
		}
		report_.tagged += tagged;
	}
	void second(std::size_t i)
	{
		for (std::size_t w = 0; w < words; w++) {
			const std::uint64_t value = at(i)[w];
			if (value != copies_[i].data[w])
				bad(report_.changed, i, w, copies_[i].data[w], value);
		}
	}
	void bad(std::atomic<std::uint64_t>& counter, std::size_t i, std::size_t w, std::uint64_t before,
		 std::uint64_t after)
	{
		if (!report_.early && !report_.changed) {
			report_.cookie = messages_[i].cookie;
			report_.word = w;
			report_.first = before;
			report_.second = after;
		}
		counter++;
	}

	Fd domain_ = open_domain();
	int end_;
	Trust trust_;
	Report& report_;
	Window window_;
	std::vector<Copy> copies_;
	std::vector<fbufs_message> messages_;
	std::vector<fbufs_slice> slices_;
};

/*
 * The originator
 */

struct Setup {
	std::uint32_t flags = 0;
	std::vector<Trust> receivers = {Trust::channel};
	std::size_t vector = 1;
	bool remap = false; // another thread unmaps and maps the window all the time
	std::uint64_t sends = 0;
};

class Race {
public:
	explicit Race(const Setup& setup) : setup_(setup), shared_(setup.receivers.size()) {}

	void run()
	{
		ASSERT_EQ(origin_.window.error(), 0);
		base_ = origin_.window.base();
		ASSERT_NO_FATAL_FAILURE(start_readers());
		catch_faults();
		std::vector<std::thread> threads;
		for (int i = 0; i < hammerers; i++)
			threads.emplace_back([this, i] { hammer(static_cast<unsigned>(i)); });
		if (setup_.remap)
			threads.emplace_back([this] { remap(); });
		const auto begin = std::chrono::steady_clock::now();
		send_all();
		const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
		stop_ = true;
		for (auto& thread : threads)
			thread.join();
		::signal(SIGSEGV, SIG_DFL);
		finish();
		std::printf("%llu sends of %zu, %llu stores, %llu refused, %llu remaps, %.1f s\n",
			    static_cast<unsigned long long>(setup_.sends), setup_.vector,
			    static_cast<unsigned long long>(stored_), static_cast<unsigned long long>(refused_),
			    static_cast<unsigned long long>(remaps_), took.count());
	}

private:
	void start_readers()
	{
		Fd end;
		ASSERT_EQ(channel_create(origin_.domain, setup_.flags, 0, sender_, end), 0);
		ASSERT_EQ(attach(sender_, origin_.domain), 0);
		ends_.push_back(std::move(end));
		while (ends_.size() < setup_.receivers.size()) {
			ASSERT_EQ(add_receiver(sender_, end), 0);
			ends_.push_back(std::move(end));
			end = Fd();
		}
		for (std::size_t i = 0; i < setup_.receivers.size(); i++) {
			const pid_t child = ::fork();
			if (child == 0) {
				::prctl(PR_SET_PDEATHSIG, SIGKILL);
				Reader reader(ends_[i], origin_.pool, setup_.receivers[i], shared_.reports[i]);
				::_exit(reader.run());
			}
			ASSERT_GT(child, 0);
			children_.push_back(child);
		}
	}

	// Stores in all of the last fbufs, whoever has them now.
	void hammer(unsigned seed)
	{
		std::uint64_t stored = 0, refused = 0;
		for (unsigned n = seed; !stop_; n = n * 1664525 + 1013904223) {
			// The one being made most often.
			std::uint64_t* const to =
				n >> 31 ? recent_[latest_ % remembered].load() : recent_[(n >> 8) % remembered].load();
			for (unsigned i = 0; to && i < 16; i++) {
				if (!try_store(to + i * 32 + (n >> 16) % 32, tag(sequence_, n >> 4))) {
					refused++;
					break;
				}
				stored++;
			}
		}
		stored_ += stored;
		refused_ += refused;
	}

	// Allocates nothing: between the two calls nothing else must be mapped there.
	void remap()
	{
		const int both = PROT_READ | PROT_WRITE;
		const auto offset = static_cast<off_t>(FBUFS_POOL_OFFSET(origin_.pool.out_pool));
		while (!stop_) {
			if (remaps_ % 3 != 0)
				::munmap(base_, origin_.pool.out_span);
			else if (::mmap(base_, origin_.pool.out_span, PROT_NONE,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
				std::abort();
			if (remaps_ % 2)
				::sched_yield();
			if (::mmap(base_, origin_.pool.out_span, both, MAP_SHARED | MAP_FIXED, origin_.domain,
				   offset) == MAP_FAILED) {
				std::perror("remap");
				std::abort();
			}
			remaps_++;
			::sched_yield();
		}
	}

	bool send_next(std::uint64_t cookie)
	{
		if (alloc(sender_, page, buffers_) != static_cast<long>(setup_.vector))
			return false;
		sequence_ = cookie == the_end ? sequence_ + 1 : cookie;
		for (std::size_t i = 0; i < setup_.vector; i++) {
			auto* const at = reinterpret_cast<std::uint64_t*>(
				base_ + (buffers_[i].position - FBUFS_POOL_OFFSET(origin_.pool.out_pool)));
			recent_[(latest_ + 1) % remembered] = at;
			latest_++;
			messages_[i].cookie = cookie;
			messages_[i].slices = 1;
			slices_[i].fbuf = buffers_[i].fbuf;
			slices_[i].length = page;
			try_store(at, tag(sequence_, 0));
		}
		if (cookie % 8 == 0)
			::sched_yield();
		return send(sender_, messages_, slices_) == static_cast<long>(setup_.vector);
	}

	void send_all()
	{
		buffers_.resize(setup_.vector);
		messages_.resize(setup_.vector);
		slices_.resize(setup_.vector);
		for (std::uint64_t cookie = 1; cookie <= setup_.sends; cookie++)
			ASSERT_TRUE(send_next(cookie)) << cookie << " " << std::strerror(errno);
		ASSERT_TRUE(send_next(the_end));
	}

	void finish()
	{
		for (const pid_t child : children_) {
			int status = -1;
			if (HasFailure())
				::kill(child, SIGKILL);
			::waitpid(child, &status, 0);
			EXPECT_EQ(status, 0) << "a reader died";
		}
		for (std::size_t i = 0; i < shared_.count; i++)
			check(shared_.reports[i], setup_.receivers[i]);
		EXPECT_TRUE(refused_ > setup_.sends / 200 || setup_.receivers[0] == Trust::blind)
			<< "the hammerers met no lock: nothing was raced";
		EXPECT_GT(stored_, setup_.sends / 2) << "the hammerers stored too little";
	}
	void check(const Report& report, Trust trust) const
	{
		EXPECT_EQ(report.failed, 0U);
		EXPECT_EQ(report.messages, (setup_.sends + 1) * setup_.vector);
		if (trust == Trust::blind) {
			EXPECT_GT(report.changed, 0U) << "without a lock nothing changed: the race shows nothing";
			EXPECT_GT(report.early, 0U);
			return;
		}
		if (trust == Trust::flag) {
			std::printf("%llu came locked\n", static_cast<unsigned long long>(report.flagged));
		}
		EXPECT_EQ(report.changed, 0U);
		EXPECT_EQ(report.early, 0U);
		if (report.changed || report.early)
			ADD_FAILURE() << std::hex << "message " << report.cookie << " word " << report.word << ": "
				      << report.first << " then " << report.second;
		if (!(setup_.flags & FBUFS_CHANNEL_VOLATILE) && !setup_.remap) {
			EXPECT_GT(report.tagged, setup_.sends * setup_.vector * 9 / 10)
				<< "stores did not arrive at all";
		}
	}
	static bool HasFailure() { return testing::Test::HasFailure(); }

	Setup setup_;
	Shared shared_;
	Originator origin_{2 << 20};
	std::uint8_t* base_ = nullptr;
	Fd sender_;
	std::vector<Fd> ends_;
	std::vector<pid_t> children_;
	std::vector<fbufs_buffer> buffers_;
	std::vector<fbufs_message> messages_;
	std::vector<fbufs_slice> slices_;

	std::atomic<bool> stop_ = false;
	std::atomic<std::uint64_t> sequence_ = 0;
	std::array<std::atomic<std::uint64_t*>, remembered> recent_ = {};
	std::atomic<std::size_t> latest_ = 0;
	std::atomic<std::uint64_t> stored_ = 0, refused_ = 0, remaps_ = 0;
};

TEST(Race, StoresAgainstSends)
{
	Race({.sends = total_sends() * 72 / 100}).run();
}

TEST(Race, StoresAgainstVectors)
{
	Race({.vector = 8, .sends = total_sends() * 10 / 100}).run();
}

TEST(Race, StoresAgainstUncachedSends)
{
	Race({.flags = FBUFS_CHANNEL_UNCACHED, .sends = total_sends() * 5 / 100}).run();
}

TEST(Race, StoresAgainstTwoWhoSecure)
{
	Race({.flags = FBUFS_CHANNEL_VOLATILE,
	      .receivers = {Trust::secure, Trust::secure},
	      .sends = total_sends() * 4 / 100})
		.run();
}

// One secures, the other believes what it is told.
TEST(Race, StoresAgainstWhoBelievesTheFlag)
{
	Race({.flags = FBUFS_CHANNEL_VOLATILE,
	      .receivers = {Trust::secure, Trust::flag},
	      .sends = total_sends() * 4 / 100})
		.run();
}

// The same without any lock must be seen to fail, or the others prove nothing. That takes its number of sends, even
// where the others have few.
TEST(Race, IsLostWithoutALock)
{
	const std::uint64_t sends = std::max<std::uint64_t>(total_sends() * 5 / 100, 5000);
	Race({.flags = FBUFS_CHANNEL_VOLATILE, .receivers = {Trust::blind}, .sends = sends}).run();
}

TEST(Race, StoresAgainstSendsWhileTheWindowComesAndGoes)
{
	Race({.remap = true, .sends = total_sends() * 3 / 100}).run();
}

TEST(Race, StoresAgainstVectorsWhileTheWindowComesAndGoes)
{
	Race({.vector = 8, .remap = true, .sends = total_sends() * 2 / 100}).run();
}

} // namespace
