// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "bench_path.hpp"
#include "bench_link.hpp"

#include <arpa/inet.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

namespace bench {

namespace {

bool shell(const std::string& command)
{
	return std::system(command.c_str()) == 0;
}

// `fd`, or the path cannot be had here.
descriptor wanted(int fd, const std::string& doing)
{
	if (fd < 0)
		throw unavailable{doing + ": " + std::strerror(errno)};
	return descriptor(fd);
}

// --- sockets and pipes -------------------------------------------------------------------

// Without privilege it is as much as anybody may have.
void set_buffer(const descriptor& socket, int forced, int plain, int bytes)
{
	if (::setsockopt(socket.fd(), SOL_SOCKET, forced, &bytes, sizeof(bytes)) < 0)
		::setsockopt(socket.fd(), SOL_SOCKET, plain, &bytes, sizeof(bytes));
}

// Each message is to go out at once, in all measurements alike. Left alone, TCP adapts as it goes: in
// one measurement and not in the next, messages wait for a window and go out together, for less.
// Buffers hold more than a process sends in its share of the processor. The window is smaller than the
// receiver's buffer, so that it acknowledges what comes in, not what the program reads. And cubic stops
// opening the sender's window when the two processes take turns; reno does not.
descriptor tcp_socket()
{
	auto made = checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
	set_buffer(made, SO_SNDBUFFORCE, SO_SNDBUF, 4 << 20);
	set_buffer(made, SO_RCVBUFFORCE, SO_RCVBUF, 16 << 20);
	const int window = 4 << 20;
	::setsockopt(made.fd(), IPPROTO_TCP, TCP_WINDOW_CLAMP, &window, sizeof(window));
	::setsockopt(made.fd(), IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
	return made;
}

ends connect_tcp(descriptor listener, descriptor to, const char* address)
{
	sockaddr_in at = {};
	at.sin_family = AF_INET;
	::inet_pton(AF_INET, address, &at.sin_addr);
	auto* const name = reinterpret_cast<sockaddr*>(&at);
	socklen_t length = sizeof(at);
	if (::bind(listener.fd(), name, length) < 0 || ::listen(listener.fd(), 1) < 0 ||
	    ::getsockname(listener.fd(), name, &length) < 0)
		die("listen");
	if (::connect(to.fd(), name, length) < 0)
		die("connect");
	const int on = 1;
	::setsockopt(to.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	auto from = checked(::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC), "accept");
	return {std::move(to), std::move(from)};
}

class tcp_path : public path {
public:
	explicit tcp_path(bool from_file) : from_file_(from_file) {}
	ends open() override { return connect_tcp(tcp_socket(), tcp_socket(), "127.0.0.1"); }
	[[nodiscard]] bool from_file() const override { return from_file_; }

private:
	bool from_file_;
};

class unix_path : public path {
public:
	ends open() override
	{
		int pair[2];
		if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			die("socketpair");
		return {descriptor(pair[0]), descriptor(pair[1])};
	}
};

class pipe_path : public path {
public:
	ends open() override
	{
		int pair[2];
		if (::pipe2(pair, O_CLOEXEC) < 0)
			die("pipe");
		// As large as it may be without privilege: fewer switches.
		(void)::fcntl(pair[1], F_SETPIPE_SZ, 1 << 20);
		return {descriptor(pair[1]), descriptor(pair[0])};
	}
};

// --- two network namespaces ----------------------------------------------------------------

descriptor this_namespace()
{
	return checked(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), "/proc/self/ns/net");
}

// This process is in a network namespace as long as this lives. A socket stays where it was made.
class stay {
public:
	explicit stay(const descriptor& in) : home_(this_namespace())
	{
		if (::setns(in.fd(), CLONE_NEWNET) < 0)
			die("setns");
	}
	~stay() { ::setns(home_.fd(), CLONE_NEWNET); }

private:
	descriptor home_;
};

descriptor make_namespace()
{
	const auto home = this_namespace();
	if (::unshare(CLONE_NEWNET) < 0)
		throw unavailable{std::string("a network namespace: ") + std::strerror(errno)};
	auto made = this_namespace();
	if (::setns(home.fd(), CLONE_NEWNET) < 0)
		die("setns");
	return made;
}

// Addresses and names that nobody outside of the two namespaces sees.
class veth_path : public tcp_path {
public:
	explicit veth_path(bool from_file) : tcp_path(from_file), near_(make_namespace()), far_(make_namespace())
	{
		const std::string far = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(far_.fd());
		run_in(near_, "ip link add near type veth peer name far netns " + far);
		run_in(near_, up("near", near_address));
		run_in(far_, up("far", far_address));
	}
	ends open() override
	{
		auto listener = socket_in(far_);
		return connect_tcp(std::move(listener), socket_in(near_), far_address);
	}

private:
	static constexpr const char* near_address = "192.0.2.1";
	static constexpr const char* far_address = "192.0.2.2";

	static descriptor socket_in(const descriptor& place)
	{
		const stay there(place);
		return tcp_socket();
	}
	static std::string up(const std::string& device, const std::string& address)
	{
		// No address of IPv6: its discovery would send packets of its own.
		return "ip address add " + address + "/24 dev " + device + " && ip link set " + device +
		       " addrgenmode none && ip link set " + device + " up";
	}
	static void run_in(const descriptor& place, const std::string& command)
	{
		const stay there(place);
		if (!shell(command))
			throw unavailable{"'" + command + "' failed (iproute2 and the module veth are needed)"};
	}

	descriptor near_;
	descriptor far_;
};

// --- a file that is written without the page cache -----------------------------------------

// A disk of its own, in memory: what it does is done by whoever writes, at once.
class ram_disk {
public:
	ram_disk()
	{
		if (::access("/sys/module/brd", F_OK) == 0)
			throw unavailable{"the module brd is loaded, its disks may be somebody's"};
		const auto kilobytes = std::to_string((file_bytes >> 10) + (32 << 10));
		if (!shell("modprobe brd rd_nr=1 rd_size=" + kilobytes))
			throw unavailable{"'modprobe brd' failed (root and the module are needed)"};
	}
	ram_disk(const ram_disk&) = delete;
	~ram_disk() { (void)shell("modprobe -r brd"); }

	static constexpr const char* device = "/dev/ram0";
};

class mounted_disk {
public:
	mounted_disk()
	{
		if (!shell(std::string("mkfs.ext4 -q -F -O ^has_journal -E lazy_itable_init=0 ") + ram_disk::device))
			throw unavailable{std::string("'mkfs.ext4 ") + ram_disk::device + "' failed"};
		if (!::mkdtemp(where_))
			die("mkdtemp");
		if (::mount(ram_disk::device, where_, "ext4", 0, nullptr) == 0)
			return;
		const int error = errno;
		::rmdir(where_);
		throw unavailable{std::string("mounting ext4: ") + std::strerror(error)};
	}
	mounted_disk(const mounted_disk&) = delete;
	~mounted_disk()
	{
		::umount(where_);
		::rmdir(where_);
	}
	[[nodiscard]] std::string file() const { return std::string(where_) + "/file"; }

private:
	ram_disk disk_;
	char where_[32] = "/tmp/fbuf-bench-XXXXXX";
};

// A buffer that O_DIRECT takes, written to the whole of a file.
void fill(const descriptor& file)
{
	const mapping buffer(1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	for (std::uint64_t at = 0; at < file_bytes; at += buffer.bytes().size()) {
		for (std::size_t page = 0; page < buffer.bytes().size(); page += touched_page)
			write_words(buffer.bytes().subspan(page), (at + page) / touched_page, touch::header);
		const ssize_t n =
			::pwrite(file.fd(), buffer.bytes().data(), buffer.bytes().size(), static_cast<off_t>(at));
		if (n != static_cast<ssize_t>(buffer.bytes().size()))
			die("filling a file");
	}
}

class direct_path : public path {
public:
	direct_path() { fill(open_as(O_WRONLY | O_CREAT)); }
	ends open() override { return {open_as(O_WRONLY), open_as(O_RDONLY)}; }
	[[nodiscard]] bool to_file() const override { return true; }

private:
	[[nodiscard]] descriptor open_as(int flags) const
	{
		return wanted(::open(disk_.file().c_str(), flags | O_DIRECT | O_CLOEXEC, 0600), "a file with O_DIRECT");
	}
	mounted_disk disk_;
};

constexpr const char* names[] = {
	"file-tcp", "file-tcp-veth", "mem-tcp", "mem-tcp-veth", "mem-unix", "mem-pipe", "mem-file-direct",
};

} // namespace

std::span<const char* const> paths()
{
	return names;
}

std::unique_ptr<path> make_path(const std::string& name)
{
	const bool from_file = name.starts_with("file-");
	if (name.ends_with("-tcp"))
		return std::make_unique<tcp_path>(from_file);
	if (name.ends_with("-tcp-veth"))
		return std::make_unique<veth_path>(from_file);
	if (name == "mem-unix")
		return std::make_unique<unix_path>();
	if (name == "mem-pipe")
		return std::make_unique<pipe_path>();
	if (name == "mem-file-direct")
		return std::make_unique<direct_path>();
	throw tool::failure(tool::usage, "no such path: " + name);
}

descriptor make_source()
{
	char name[] = "/dev/shm/fbuf-bench-XXXXXX";
	auto file = checked(::mkostemp(name, O_CLOEXEC), name);
	::unlink(name);
	fill(file);
	return file;
}

} // namespace bench
