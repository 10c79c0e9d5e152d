// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The other side of a transfer as people write it: tcp:HOST:PORT, unix:PATH, file:PATH, fd:N, ...
#pragma once

#include "tool.hpp"

#include <sys/socket.h>

namespace tool {

enum class direction { from, to };

// A descriptor for one end of a transfer; owns it.
class place {
public:
	// Connects, listens and accepts, or opens. `from` listens where `to` connects, unless the kind
	// says which: tcp-connect, tcp-listen, unix-connect, unix-listen.
	static place open(const std::string& text, direction way);
	place(place&& other) noexcept
		: fd_(std::exchange(other.fd_, -1)), datagrams_(other.datagrams_), name_(other.name_)
	{
	}
	place(const place&) = delete;
	~place();

	[[nodiscard]] int fd() const { return fd_; }
	[[nodiscard]] bool datagrams() const { return datagrams_; }
	[[nodiscard]] const std::string& name() const { return name_; }
	// Tell the peer that there is no more.
	void finish();

private:
	place(int fd, bool datagrams, std::string name) : fd_(fd), datagrams_(datagrams), name_(std::move(name)) {}
	int fd_;
	bool datagrams_;
	std::string name_;
};

inline constexpr const char* place_help = "tcp:HOST:PORT, udp:HOST:PORT, unix:PATH, file:PATH, fd:N, or - ";

} // namespace tool
