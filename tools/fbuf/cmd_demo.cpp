// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "tool.hpp"

#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace tool {

namespace {

constexpr char words[] = "what was sent is what is read";
constexpr char scribble[] = "SCRIBBLE!";

sigjmp_buf after_fault;

void survive(int)
{
	siglongjmp(after_fault, 1);
}

void say(const char* text)
{
	std::printf("%s\n", text);
	std::fflush(stdout);
}

// A receiver in a process of its own: reads when told to, twice, and says whether it changed.
int receive(fbuf::endpoint&& end, int go, int done)
{
	auto domain = expect(fbuf::domain::open(), "receiver: cannot open /dev/fbufs");
	auto receiver = expect(domain.attach_receiver(std::move(end)), "receiver: cannot attach");
	auto message = expect(receiver.receive(), "receiver: cannot receive");
	std::printf("receiver %d  reads   \"%s\"\n", ::getpid(), reinterpret_cast<const char*>(message.data().data()));
	std::fflush(stdout);
	char signal = 'r';
	(void)!::write(done, &signal, 1);
	(void)!::read(go, &signal, 1);
	const bool same = std::memcmp(message.data().data(), words, sizeof(words)) == 0;
	std::printf("receiver %d  reads   \"%s\" again: %s\n", ::getpid(),
		    reinterpret_cast<const char*>(message.data().data()), same ? "unchanged" : "CHANGED");
	std::fflush(stdout);
	message.release();
	expect(domain.flush(), "receiver: cannot release");
	(void)!::write(done, &signal, 1);
	return same ? ok : mismatch;
}

// Tries to change a sent buffer in several ways. Returns how many were not refused.
int attack(std::span<std::byte> sent)
{
	volatile int broken = 0;
	std::printf("sender   %d  stores  \"%s\" there:\n", ::getpid(), scribble);
	std::fflush(stdout);
	if (sigsetjmp(after_fault, 1) == 0) {
		std::memcpy(sent.data(), scribble, sizeof(scribble));
		broken = broken + 1;
	}
	int pipe[2];
	if (::pipe(pipe) < 0)
		throw failure(failed, "cannot make a pipe");
	(void)!::write(pipe[1], scribble, sizeof(scribble));
	if (::read(pipe[0], sent.data(), sizeof(scribble)) < 0)
		std::printf("sender   %d  read(2) into it: %s\n", ::getpid(), std::strerror(errno));
	else
		broken = broken + 1;
	const int memory = ::open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (::pwrite(memory, scribble, sizeof(scribble),
		     static_cast<off_t>(reinterpret_cast<std::uintptr_t>(sent.data()))) < 0)
		std::printf("sender   %d  write to /proc/self/mem: %s\n", ::getpid(), std::strerror(errno));
	else
		broken = broken + 1;
	::close(memory);
	::close(pipe[0]);
	::close(pipe[1]);
	std::fflush(stdout);
	return broken;
}

void await(int fd)
{
	char signal;
	if (::read(fd, &signal, 1) != 1)
		throw failure(failed, "the receiver ended early");
}

void demo_lock()
{
	auto domain = expect(fbuf::domain::open(), "cannot open /dev/fbufs");
	expect(domain.create_pool(1 << 20), "cannot make a pool");
	auto [sender, end] = expect(domain.create_channel(), "cannot make a channel");
	int go[2];
	int done[2];
	if (::pipe(go) < 0 || ::pipe(done) < 0)
		throw failure(failed, "cannot make a pipe");
	const pid_t child = ::fork();
	if (child == 0) {
		::close(go[1]);
		int code = failed;
		try {
			code = receive(std::move(end), go[0], done[1]);
		} catch (const failure& why) {
			std::fprintf(stderr, "fbuf: %s\n", why.what().c_str());
			code = why.code();
		}
		::_exit(code);
	}
	end = fbuf::endpoint();
	::close(done[1]);

	// The report comes first, then this handler, which a real program would not have.
	::signal(SIGBUS, survive);
	expect(fbuf::report_violations(domain, STDOUT_FILENO), "cannot install the report");

	auto buffer = expect(sender.allocate(4096), "cannot allocate");
	const auto place = buffer.data();
	std::memcpy(place.data(), words, sizeof(words));
	std::printf("sender   %d  wrote   \"%s\" into fbuf %#llx\n", ::getpid(), words,
		    static_cast<unsigned long long>(buffer.handle()));
	std::fflush(stdout);
	expect(sender.send(std::move(buffer), sizeof(words)), "cannot send");
	say("             sent: from here on nobody may change it");
	await(done[0]);
	int broken = attack(place);
	std::printf("sender   %d  can still read it: \"%s\"\n", ::getpid(),
		    reinterpret_cast<const char*>(place.data()));
	std::fflush(stdout);
	(void)!::write(go[1], "g", 1);
	await(done[0]);
	say("             released: the fbuf is home, and may be allocated and written anew");
	auto again = expect(sender.allocate(4096), "cannot allocate");
	std::memcpy(again.data().data(), scribble, sizeof(scribble));
	int status = 0;
	::waitpid(child, &status, 0);
	if (broken || !WIFEXITED(status) || WEXITSTATUS(status) != ok)
		throw failure(mismatch, "THE LOCK DID NOT HOLD");
	say("The lock held.");
}

} // namespace

void add_demo(CLI::App& app)
{
	CLI::App* command = app.add_subcommand("demo", "Show what fbufs do");
	command->require_subcommand(1);
	CLI::App* lock = command->add_subcommand("lock", "A write after the send, and what becomes of it");
	lock->footer("Example:\n  fbuf demo lock");
	lock->callback([] { demo_lock(); });
}

} // namespace tool
