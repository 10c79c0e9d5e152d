// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Calls that wait, when signals come: see fbuf::result.

#include <fbuf/fbuf.hpp>

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <optional>
#include <sys/wait.h>
#include <thread>

namespace {

using namespace std::chrono_literals;

std::atomic<int> handled = 0;

// A handler of SIGUSR1 for one test.
class Handler {
public:
	explicit Handler(int flags)
	{
		struct sigaction action = {};
		action.sa_handler = [](int) { handled++; };
		action.sa_flags = flags;
		::sigaction(SIGUSR1, &action, &before_);
	}
	Handler(const Handler&) = delete;
	~Handler() { ::sigaction(SIGUSR1, &before_, nullptr); }

private:
	struct sigaction before_ = {};
};

struct Ends {
	fbuf::domain domain = *fbuf::domain::open();
	fbuf::pool pool = *domain.create_pool(1 << 20);
	fbuf::sender sender;
	fbuf::receiver receiver;

	Ends()
	{
		auto [made, end] = *domain.create_channel({.depth = 2});
		sender = std::move(made);
		receiver = *domain.attach_receiver(std::move(end));
	}
	void send() { sender.send(*sender.allocate(4096), 1).value(); }
};

// Runs a call that waits in a thread, disturbs it with signals, and then ends its waiting.
void disturb(const std::function<void()>& call, const std::function<void()>& end)
{
	std::atomic<bool> done = false;
	std::thread thread([&] {
		call();
		done = true;
	});
	for (int i = 0; i < 20; i++) {
		const int before = handled;
		::pthread_kill(thread.native_handle(), SIGUSR1);
		EXPECT_TRUE(uapi::eventually([&] { return handled > before; }));
		std::this_thread::sleep_for(5ms);
		EXPECT_FALSE(done);
	}
	end();
	thread.join();
}

TEST(Signals, ReceiveGoesOnAfterHandlersThatRestart)
{
	const Handler handler(SA_RESTART);
	Ends ends;
	ends.send();
	std::vector<fbuf::message> held(1);
	ASSERT_EQ(*ends.receiver.receive(held), 1u);
	// The release travels with the receive that waits, and must not be asked for twice.
	disturb([&] { EXPECT_EQ(ends.receiver.receive(held).value_or(0), 1u); }, [&] { ends.send(); });
	EXPECT_TRUE(held[0]);
	EXPECT_EQ(ends.domain.count()->releases, 1u);
}

TEST(Signals, SendGoesOnAfterHandlersThatRestart)
{
	const Handler handler(SA_RESTART);
	Ends ends;
	ends.send();
	ends.send();
	disturb([&] { EXPECT_TRUE(ends.sender.send(*ends.sender.allocate(4096), 1, 3)); },
		[&] { EXPECT_TRUE(ends.receiver.receive()); });
	EXPECT_TRUE(ends.receiver.receive());
	EXPECT_EQ(ends.receiver.receive()->cookie(), 3u);
}

TEST(Signals, WaitGoesOnForTheRestOfItsTime)
{
	const Handler handler(SA_RESTART);
	Ends ends;
	disturb([&] { EXPECT_TRUE(ends.receiver.wait(-1ms).value_or(false)); }, [&] { ends.send(); });
	EXPECT_TRUE(ends.receiver.receive());
	const auto start = std::chrono::steady_clock::now();
	std::atomic<bool> done = false;
	std::thread thread([&] {
		EXPECT_EQ(ends.receiver.wait(300ms), fbuf::result<bool>(false));
		done = true;
	});
	while (!done) {
		::pthread_kill(thread.native_handle(), SIGUSR1);
		std::this_thread::sleep_for(10ms);
	}
	thread.join();
	EXPECT_GE(std::chrono::steady_clock::now() - start, 300ms);
}

TEST(Signals, AcceptGoesOnAfterHandlersThatRestart)
{
	const Handler handler(SA_RESTART);
	const std::string path = "/tmp/fbuf-signals-" + std::to_string(::getpid());
	auto listener = fbuf::listener::listen(path);
	ASSERT_TRUE(listener);
	std::optional<fbuf::connection> connected;
	disturb([&] { EXPECT_TRUE(listener->accept()); }, [&] { connected = *fbuf::connection::connect(path); });
}

TEST(Signals, HandlersThatDoNotRestartInterrupt)
{
	const Handler handler(0);
	Ends ends;
	ends.send();
	ends.send();
	auto extra = ends.sender.allocate(4096);
	ASSERT_TRUE(extra);
	uapi::Blocked sending([&] {
		const auto sent = ends.sender.send(std::move(*extra), 1);
		return sent ? 0L : static_cast<long>(sent.error().value());
	});
	EXPECT_TRUE(sending.waits());
	sending.interrupt();
	EXPECT_EQ(sending.result(), EINTR);
	EXPECT_TRUE(*extra) << "the buffer is still the caller's";

	ASSERT_TRUE(ends.receiver.receive());
	ASSERT_TRUE(ends.receiver.receive());
	uapi::Blocked receiving([&] {
		const auto got = ends.receiver.receive();
		return got ? 0L : static_cast<long>(got.error().value());
	});
	EXPECT_TRUE(receiving.waits());
	receiving.interrupt();
	EXPECT_EQ(receiving.result(), EINTR);
	EXPECT_EQ(ends.domain.count()->releases, 2u) << "what travelled with the call is released";
}

// Without any handler: the shell's ^Z and fg.
TEST(Signals, AStopAndItsEndAreNotSeen)
{
	const pid_t child = ::fork();
	ASSERT_GE(child, 0);
	if (child == 0) {
		for (int number = 1; number < NSIG; number++)
			::signal(number, SIG_DFL);
		Ends ends;
		std::thread late([&] {
			// By then the other thread waits; if not, the test passes all the same.
			std::this_thread::sleep_for(200ms);
			::raise(SIGSTOP);
			std::this_thread::sleep_for(50ms);
			ends.send();
		});
		const bool received = ends.receiver.receive().has_value();
		late.join();
		::_exit(received ? 0 : 1);
	}
	int status = 0;
	ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
	ASSERT_TRUE(WIFSTOPPED(status));
	::kill(child, SIGCONT);
	ASSERT_EQ(::waitpid(child, &status, 0), child);
	EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

} // namespace
