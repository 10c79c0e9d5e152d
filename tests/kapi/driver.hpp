// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// A program that uses a sample driver: a domain with a pool, a channel from the driver
// and one to it.
#pragma once

#include <support/uapi.hpp>

#include <fbufs_samples.h>

#include <gtest/gtest.h>

#include <fstream>

namespace kapi {

using namespace uapi;

inline Fd open_driver(const char* name)
{
	return Fd(::open((std::string("/dev/fbufs-") + name).c_str(), O_RDWR | O_CLOEXEC));
}

// What a start call returned, or -errno.
inline long start(int driver, const fbufs_sample_start& args)
{
	fbufs_sample_start copy = args;
	return call(driver, FBUFS_SAMPLE_START, copy);
}

inline fbufs_sample_status status(int driver)
{
	fbufs_sample_status out = {};
	if (call(driver, FBUFS_SAMPLE_STATUS, out) < 0)
		std::abort();
	return out;
}

inline long trigger(int driver, unsigned long n)
{
	return ::ioctl(driver, FBUFS_CAMERA_TRIGGER, n) < 0 ? -errno : 0;
}

// A channel whose sending end is for a driver, and whose receiving end is attached to a domain.
struct FromDriver {
	Fd sender;
	Fd receiver;

	explicit FromDriver(int domain, std::uint32_t flags = 0, std::uint32_t depth = 0)
	{
		if (channel_create(domain, flags, depth, sender, receiver) < 0 || attach(receiver, domain) < 0)
			std::abort();
	}
};

// A channel whose receiving end is for a driver.
struct ToDriver {
	Fd sender;
	Fd receiver;

	explicit ToDriver(int domain, std::uint32_t flags = 0)
	{
		if (channel_create(domain, flags | FBUFS_CHANNEL_ATTACH_SENDER, 0, sender, receiver) < 0)
			std::abort();
	}
};

inline fbufs_sample_start wanted(int domain, int sender, int receiver = -1)
{
	fbufs_sample_start args = {};
	args.domain = domain;
	args.sender = sender;
	args.receiver = receiver;
	args.bytes = 4096;
	args.count = 8;
	args.snap = 1024;
	std::strcpy(args.name, "lo");
	return args;
}

// While it lives, drivers' errors are refused and logged, and nothing warns of them.
class Lenient {
public:
	Lenient()
	{
		std::ifstream(parameter) >> before_;
		set("N");
	}
	Lenient(const Lenient&) = delete;
	Lenient& operator=(const Lenient&) = delete;
	~Lenient() { set(before_); }
	[[nodiscard]] const std::string& before() const { return before_; }

private:
	static constexpr const char* parameter = "/sys/module/fbufs/parameters/strict";
	static void set(const std::string& value) { std::ofstream(parameter) << value; }
	std::string before_;
};

inline std::uint64_t hash(const std::uint8_t* data, std::size_t length)
{
	std::uint64_t sum = 0xcbf29ce484222325ULL;
	while (length--)
		sum = (sum ^ *data++) * 0x100000001b3ULL;
	return sum;
}

} // namespace kapi
