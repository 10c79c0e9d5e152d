// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Every call, with each of its allocations, and each of its copies from and to user memory that the kernel can make
// fail, failing once: it gives a documented error or does all the same, nothing is left behind, and the device goes
// on working. Runs where the kernel has fault injection; what else goes wrong the kernel's checkers say.

#pragma once

#include "support/io.hpp"

#include <initializer_list>

namespace uapi {

/*
 * The injection
 */

// In the calling thread, the n-th chance to fail is taken.
class Injection {
public:
	explicit Injection(unsigned n) : file_(::open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC))
	{
		const std::string number = std::to_string(n);
		if (::pwrite(file_, number.data(), number.size(), 0) != static_cast<ssize_t>(number.size()))
			std::abort();
	}
	// Whether it was taken. The last one may be here, in the copy of the answer, and is none of the call's.
	bool end()
	{
		char left[16] = {};
		const ssize_t n = ::pread(file_, left, sizeof(left) - 1, 0);
		const bool taken = n > 0 && left[0] == '0';
		while (::pwrite(file_, "0", 1, 0) < 0 && errno == EFAULT)
			;
		return taken;
	}

private:
	Fd file_;
};

inline void set_attribute(const char* attribute, const char* value)
{
	const std::string name = std::string("/sys/kernel/debug/") + attribute;
	const Fd file(::open(name.c_str(), O_WRONLY | O_CLOEXEC));
	ASSERT_EQ(::write(file, value, std::strlen(value)), static_cast<ssize_t>(std::strlen(value))) << name;
}

/*
 * Scenes: what there is before a call
 */

// The device works for this domain, which has a pool: an fbuf goes to another domain and comes home.
inline void expect_works(int domain)
{
	const Fd peer = open_domain();
	const Channel channel(domain, peer);
	const fbufs_buffer buffer = alloc_one(channel.sender);
	ASSERT_NE(buffer.fbuf, 0u);
	ASSERT_EQ(send_one(channel.sender, buffer.fbuf, 0, page, 5, FBUFS_DONTWAIT), 1);
	const Received received(channel.receiver);
	ASSERT_EQ(received.result, 1);
	ASSERT_EQ(received.message.cookie, 5u);
	ASSERT_EQ(handles(peer, FBUFS_RELEASE, {received.handle()}), 1);
	ASSERT_EQ(locate(domain, buffer.position).out_state, FBUFS_STATE_FREE);
}

struct NoPool {
	Fd domain = open_domain();
	void expect_usable()
	{
		fbufs_pool_create pool;
		if (domain.get() < 0)
			domain = open_domain();
		const long created = pool_create(domain, 1 << 20, pool);
		ASSERT_TRUE(created == 0 || created == -EEXIST) << created;
		expect_works(domain);
	}
};

struct Pool {
	Actor actor{8 << 20};
	void expect_usable() const { expect_works(actor.domain); }
};

// A domain that sends to another, which has the pool mapped.
struct Path : Pool {
	Fd peer = open_domain();
	Channel channel;
	Window window;
	explicit Path(std::uint32_t flags = 0)
		: channel(actor.domain, peer, flags), window(peer, actor.pool.out_pool, actor.pool.out_span, PROT_READ)
	{
		EXPECT_EQ(window.error(), 0);
	}
	void expect_usable() const
	{
		// What is queued and held, too, is still in order.
		for (Received more(channel.receiver); more.result == 1; more = Received(channel.receiver))
			EXPECT_EQ(handles(peer, FBUFS_RELEASE, {more.handle()}), 1);
		const fbufs_buffer buffer = alloc_one(channel.sender);
		*actor.at(buffer) = 77;
		EXPECT_EQ(send_one(channel.sender, buffer.fbuf, 0, page, 0, FBUFS_DONTWAIT), 1);
		const Received received(channel.receiver);
		ASSERT_EQ(received.result, 1);
		EXPECT_EQ(*window.at(received.slices[0].position), 77);
		EXPECT_EQ(handles(peer, FBUFS_RELEASE, {received.handle()}), 1);
		Pool::expect_usable();
	}
};

// So many messages of so many slices of fbufs of a page.
struct Messages {
	std::vector<fbufs_buffer> buffers;
	std::vector<fbufs_message> messages;
	std::vector<fbufs_slice> slices;

	Messages(int sender, std::size_t n, std::uint32_t each, std::uint32_t flags = 0)
		: buffers(n * each), messages(n)
	{
		EXPECT_EQ(alloc(sender, page, buffers, FBUFS_DONTWAIT), static_cast<long>(buffers.size()));
		for (fbufs_message& message : messages) {
			message.slices = each;
			message.flags = flags;
		}
		for (const fbufs_buffer& buffer : buffers)
			slices.push_back(slice_of(buffer.fbuf, 0, page));
	}
};

struct Sending : Path {
	Messages messages;
	explicit Sending(std::size_t n = 1, std::uint32_t each = 1, std::uint32_t message_flags = 0,
			 std::uint32_t flags = 0)
		: Path(flags), messages(channel.sender, n, each, message_flags)
	{
		for (const fbufs_buffer& buffer : messages.buffers)
			*actor.at(buffer) = 1;
	}
	long send() { return uapi::send(channel.sender, messages.messages, messages.slices, FBUFS_DONTWAIT); }
	// What was not sent can be sent again.
	void expect_rest_unsent(long sent)
	{
		const std::size_t done = sent < 0 ? 0 : static_cast<std::size_t>(sent);
		const std::size_t each = messages.messages[0].slices;
		for (std::size_t i = done * each; i < messages.buffers.size(); i++)
			ASSERT_EQ(actor.state(messages.buffers[i]), FBUFS_STATE_OWNED) << i;
		for (std::size_t i = done; i < messages.messages.size(); i++)
			ASSERT_EQ(uapi::send(channel.sender, {messages.messages[i]},
					     {messages.slices.begin() + static_cast<std::ptrdiff_t>(i * each),
					      messages.slices.begin() + static_cast<std::ptrdiff_t>((i + 1) * each)},
					     FBUFS_DONTWAIT),
				  1);
	}
};

// Messages are queued.
struct Receiving : Sending {
	std::vector<fbufs_message> into;
	std::vector<fbufs_slice> where;
	explicit Receiving(std::size_t n = 1, std::uint32_t each = 1, std::uint32_t flags = 0)
		: Sending(n, each, 0, flags), into(n), where(n * each)
	{
		EXPECT_EQ(send(), static_cast<long>(n));
	}
	long receive(const std::vector<std::uint64_t>& release = {})
	{
		return uapi::receive(channel.receiver, into, where, FBUFS_DONTWAIT, release);
	}
	void expect_rest_queued(long received)
	{
		EXPECT_EQ(end_info(channel.receiver).out_queued,
			  messages.messages.size() - static_cast<std::size_t>(received < 0 ? 0 : received));
	}
};

struct Holding : Receiving {
	std::vector<std::uint64_t> held;
	explicit Holding(std::size_t n = 1, std::uint32_t each = 1, std::uint32_t flags = 0) : Receiving(n, each, flags)
	{
		EXPECT_EQ(receive(), static_cast<long>(n));
		for (const fbufs_message& message : into)
			held.push_back(message.message);
	}
};

/*
 * The sweep
 */

class FailNth : public IoTest {
protected:
	static void SetUpTestSuite()
	{
		IoTest::SetUpTestSuite();
		// Any allocation, of any size, may fail, and the log is for splats.
		set_attribute("failslab/ignore-gfp-wait", "N");
		set_attribute("fail_page_alloc/ignore-gfp-wait", "N");
		set_attribute("fail_page_alloc/ignore-gfp-highmem", "N");
		set_attribute("fail_page_alloc/min-order", "0");
		for (const char* attribute : {"failslab/verbose", "fail_page_alloc/verbose", "fail_usercopy/verbose"})
			set_attribute(attribute, "0");
	}
	void SetUp() override
	{
		IoTest::SetUp();
		::alarm(300);
	}

	// @call makes a system call in a new scene; @after judges what it gave. Returns how many chances it had to
	// fail.
	template <typename Make, typename Call, typename After>
	unsigned sweep(Make make, Call call, After after)
	{
		const Fd watcher = open_domain();
		for (unsigned n = 1;; n++) {
			SCOPED_TRACE("chance " + std::to_string(n));
			const Gauges before(watcher);
			const bool taken = once(n, make, call, after);
			EXPECT_TRUE(before.are_back()) << testing::PrintToString(gauges(watcher));
			if (!taken || HasFailure()) {
				std::printf("%s: %u chances\n",
					    testing::UnitTest::GetInstance()->current_test_info()->name(), n - 1);
				return n - 1;
			}
		}
	}

private:
	template <typename Make, typename Call, typename After>
	bool once(unsigned n, Make make, Call call, After after)
	{
		auto scene = make();
		Injection injection(n);
		const long result = call(scene);
		const bool taken = injection.end();
		if (!taken) {
			EXPECT_GE(result, 0);
		}
		after(scene, result);
		scene.expect_usable();
		return taken;
	}
};

// Nothing but these went wrong.
inline void expect_error_in(long result, std::initializer_list<int> errors)
{
	if (result < 0) {
		EXPECT_NE(std::find(errors.begin(), errors.end(), static_cast<int>(-result)), errors.end())
			<< std::strerror(static_cast<int>(-result));
	}
}

inline void expect_memory_error(long result)
{
	expect_error_in(result, {ENOMEM, EFAULT});
}

template <typename Scene>
void judge(Scene&, long result)
{
	expect_memory_error(result);
}

} // namespace uapi
