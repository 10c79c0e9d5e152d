// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// A small ext4 file system on a loop device, whose image lies in memory.
#pragma once

#include "support/network.hpp"

namespace uapi {

class Disk {
public:
	explicit Disk(int megabytes = 16)
	{
		(void)::mkdir(place(), 0755);
		mounted_ =
			run_command("set -e; modprobe loop; truncate -s " + std::to_string(megabytes) + "M " + image() +
				    "; "
				    "mkfs.ext4 -q -F -O ^has_journal " +
				    image() + "; mount -o loop " + image() + " " + place());
	}
	Disk(const Disk&) = delete;
	Disk& operator=(const Disk&) = delete;
	~Disk()
	{
		if (mounted_) {
			EXPECT_TRUE(run_command(std::string("umount ") + place())) << command_said();
		}
		::unlink(image());
	}
	[[nodiscard]] bool mounted() const { return mounted_; }
	[[nodiscard]] static const char* place() { return "/tmp/io_disk"; }

private:
	static const char* image() { return "/dev/shm/io_disk"; }
	bool mounted_ = false;
};

} // namespace uapi
