// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
#pragma once

#include <fbuf/channel.hpp>

#include <chrono>
#include <string>

#include <sys/types.h>

namespace fbuf {

/// Who is at the other side of a connection, as the kernel says (SO_PEERCRED, unix(7)).
struct credentials {
	pid_t pid = -1;
	uid_t uid = static_cast<uid_t>(-1);
	gid_t gid = static_cast<gid_t>(-1);
};

/// A connection over which ends of channels are passed. Owns a socket.
///
/// Thread-safety: one thread at a time.
class connection {
public:
	/// Connect to a listener. Waits up to @p patience for the path to appear and be listened on.
	/// Errors: std::errc::no_such_file_or_directory, connection_refused: nobody listens there;
	/// permission_denied.
	[[nodiscard]] static result<connection> connect(const std::string& path,
							std::chrono::milliseconds patience = {});
	connection(connection&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
	connection& operator=(connection&& other) noexcept
	{
		std::swap(fd_, other.fd_);
		return *this;
	}
	~connection();

	[[nodiscard]] int fd() const noexcept { return fd_; }
	[[nodiscard]] result<credentials> peer() const;
	/// Give the other process an end. This process's descriptor of it is closed.
	[[nodiscard]] result<void> pass(endpoint&& end);
	/// Wait for the end that the other process passes.
	/// Errors: errc::no_end_passed, errc::bad_peer.
	[[nodiscard]] result<endpoint> take();

private:
	friend class listener;
	explicit connection(int fd) noexcept : fd_(fd) {}
	int fd_ = -1;
};

/// A UNIX socket path at which a process waits for others. There is no other name space: the
/// permissions, mounts and containers of the file system apply.
///
/// Removes the path when it is destroyed. Thread-safety: one thread at a time.
class listener {
public:
	/// @param mode permissions of the path; who may write it may connect
	/// Errors: std::errc::address_in_use: somebody listens there (a left-over path is replaced);
	/// filename_too_long (107 bytes); permission_denied.
	[[nodiscard]] static result<listener> listen(const std::string& path, mode_t mode = 0600);
	listener(listener&& other) noexcept : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}
	listener& operator=(listener&& other) noexcept
	{
		std::swap(fd_, other.fd_);
		std::swap(path_, other.path_);
		return *this;
	}
	~listener();

	/// For poll: readable when somebody wants to connect.
	[[nodiscard]] int fd() const noexcept { return fd_; }
	/// Wait for the next connection.
	[[nodiscard]] result<connection> accept();

private:
	listener(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
	int fd_ = -1;
	std::string path_;
};

} // namespace fbuf
