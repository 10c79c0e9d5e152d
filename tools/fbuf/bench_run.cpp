// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "bench_run.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <iostream>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace bench {

using tool::failure;

void die(const char* doing)
{
	throw failure(tool::failed, std::string(doing) + ": " + std::strerror(errno));
}

std::uint64_t now_ns(clockid_t clock)
{
	timespec now = {};
	::clock_gettime(clock, &now);
	return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

void settle()
{
	::usleep(100'000);
	const std::uint64_t tick = now_ns(CLOCK_MONOTONIC_COARSE);
	while (now_ns(CLOCK_MONOTONIC_COARSE) == tick)
		;
}

namespace {

pid_t start(const std::function<void()>& role)
{
	const pid_t starter = ::getpid();
	const pid_t pid = ::fork();
	if (pid < 0)
		die("fork");
	if (pid > 0)
		return pid;
	// Who is killed tells nobody; it may be gone already.
	::prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (::getppid() != starter)
		::_exit(tool::failed);
	int code = tool::ok;
	try {
		role();
	} catch (const failure& why) {
		std::fprintf(stderr, "fbuf bench: %s\n", why.what().c_str());
		code = why.code();
	}
	::_exit(code);
}

// What ended `pid`, as an exit code.
int code_of(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : static_cast<int>(tool::failed);
}

} // namespace

void in_processes(const std::vector<std::function<void()>>& roles)
{
	std::vector<pid_t> running;
	for (const auto& role : roles)
		running.push_back(start(role));
	int code = tool::ok;
	while (!running.empty()) {
		int status = 0;
		const pid_t ended = ::wait(&status);
		std::erase(running, ended);
		if (code != tool::ok || code_of(status) == tool::ok)
			continue;
		code = code_of(status);
		for (const pid_t each : running)
			::kill(each, SIGKILL);
	}
	if (code != tool::ok)
		throw failure(static_cast<tool::exit_code>(code), "a process of the benchmark failed");
}

void in_two(const std::function<void()>& child, const std::function<void()>& parent)
{
	const pid_t pid = start(child);
	int status = 0;
	try {
		parent();
	} catch (const failure&) {
		::waitpid(pid, &status, 0);
		throw;
	}
	::waitpid(pid, &status, 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != tool::ok)
		throw failure(tool::failed, "the other process failed");
}

records::records(const std::string& file)
{
	if (file.empty())
		return;
	file_.open(file, std::ios::app);
	if (!file_)
		throw failure(tool::failed, "cannot write " + file);
}

void records::add(const nlohmann::ordered_json& record)
{
	(file_.is_open() ? static_cast<std::ostream&>(file_) : std::cout) << record.dump() << std::endl;
}

event::event()
{
	::sem_init(&told_, 1, 0);
}

void event::tell()
{
	::sem_post(&told_);
}

void event::wait()
{
	while (::sem_wait(&told_) < 0 && errno == EINTR)
		;
}

void descriptor::close()
{
	if (fd_ >= 0)
		::close(fd_);
	fd_ = -1;
}

descriptor checked(int fd, const char* doing)
{
	if (fd < 0)
		die(doing);
	return descriptor(fd);
}

mapping::mapping(std::size_t bytes, int protection, int flags, int fd, off_t offset)
{
	void* at = ::mmap(nullptr, bytes, protection, flags, fd, offset);
	if (at == MAP_FAILED)
		die("mmap");
	bytes_ = {static_cast<std::byte*>(at), bytes};
}

mapping::~mapping()
{
	::munmap(bytes_.data(), bytes_.size());
}

} // namespace bench
