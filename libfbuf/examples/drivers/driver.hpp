// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// What the programs for the sample drivers (kmod/samples) share.
#pragma once

#include <fbuf/fbuf.hpp>

#include <fbufs_samples.h>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>

namespace examples {

[[noreturn]] inline void die(const char* what, const std::error_code& why)
{
	std::fprintf(stderr, "%s: %s\n", what, why.message().c_str());
	std::exit(1);
}

template <typename T>
T checked(fbuf::result<T> result, const char* what)
{
	if (!result)
		die(what, result.error());
	if constexpr (!std::is_void_v<T>)
		return std::move(*result);
}

// An open sample driver. It stops when it is closed.
class driver {
public:
	explicit driver(const std::string& name) : fd_(::open(("/dev/fbufs-" + name).c_str(), O_RDWR | O_CLOEXEC))
	{
		if (fd_ < 0)
			fail(("/dev/fbufs-" + name).c_str());
	}
	driver(const driver&) = delete;
	driver& operator=(const driver&) = delete;
	~driver() { ::close(fd_); }

	void start(const fbufs_sample_start& args) { call(FBUFS_SAMPLE_START, &args, "start"); }
	void stop() { call(FBUFS_SAMPLE_STOP, nullptr, "stop"); }
	// How many frames were delivered.
	std::size_t trigger(unsigned long frames)
	{
		const int done = ::ioctl(fd_, FBUFS_CAMERA_TRIGGER, frames);
		if (done < 0)
			fail("trigger");
		return static_cast<std::size_t>(done);
	}
	[[nodiscard]] fbufs_sample_status status()
	{
		fbufs_sample_status out = {};
		call(FBUFS_SAMPLE_STATUS, &out, "status");
		return out;
	}

private:
	[[noreturn]] static void fail(const char* what) { die(what, {errno, std::system_category()}); }
	template <typename Args>
	void call(unsigned long request, Args args, const char* what)
	{
		if (::ioctl(fd_, request, args) < 0)
			fail(what);
	}
	int fd_;
};

// A program that a driver sends to: the driver takes fbufs from the program's own pool, and the
// messages come over a channel whose sending end is the driver's.
struct program {
	fbuf::domain domain = checked(fbuf::domain::open(), "/dev/fbufs");
	fbuf::pool pool;
	fbuf::endpoint for_driver;
	fbuf::receiver receiver;

	explicit program(std::uint64_t pool_bytes, std::uint32_t depth = 64)
		: pool(checked(domain.create_pool(pool_bytes), "pool"))
	{
		auto ends = checked(domain.create_loose_channel({.secure = true, .cached = true, .depth = depth}),
				    "channel");
		for_driver = std::move(ends.first);
		receiver = checked(domain.attach_receiver(std::move(ends.second)), "receiver");
	}

	[[nodiscard]] fbufs_sample_start wanted(std::uint32_t bytes, std::uint32_t count) const
	{
		fbufs_sample_start args = {};
		args.domain = domain.fd();
		args.sender = for_driver.fd();
		args.receiver = -1;
		args.bytes = bytes;
		args.count = count;
		return args;
	}
};

} // namespace examples
