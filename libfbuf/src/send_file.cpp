// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Files that go out without passing through the pool: FBUFS_SEND_FILE to sockets, sendfile(2) to pipes and files, and
// what stands in for them.

#include "state.hpp"

#include <fbuf/io.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <fcntl.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

namespace fbuf {

namespace {

constexpr std::size_t fallback_block = 64 << 10;
constexpr std::string_view refused = "sendfile(2) does not take these descriptors: copied into fbufs";

// Why what is no socket copies the pages of a file.
std::uint32_t copies_of(int fd)
{
	struct stat status = {};
	(void)::fstat(fd, &status);
	if (S_ISFIFO(status.st_mode) || (S_ISREG(status.st_mode) && ::fcntl(fd, F_GETFL) & O_DIRECT))
		return FBUFS_IO_NO_REASON;
	return S_ISREG(status.st_mode) ? FBUFS_IO_PAGE_CACHE : FBUFS_IO_NO_REFERENCES;
}

// sendfile(2) knows no MSG_NOSIGNAL: the thread does not take SIGPIPE meanwhile, and one that came of
// it is taken away.
class no_sigpipe {
public:
	no_sigpipe() noexcept
	{
		::sigemptyset(&pipe_);
		::sigaddset(&pipe_, SIGPIPE);
		::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
		blocked_ = ::sigismember(&before_, SIGPIPE);
		sigset_t pending;
		others_ = blocked_ && ::sigpending(&pending) == 0 && ::sigismember(&pending, SIGPIPE);
	}
	no_sigpipe(const no_sigpipe&) = delete;
	~no_sigpipe()
	{
		const int error = errno;
		const timespec now = {};
		if (raised && !others_)
			(void)::sigtimedwait(&pipe_, nullptr, &now);
		if (!blocked_)
			::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
		errno = error;
	}
	bool raised = false; // perhaps

private:
	sigset_t pipe_;
	sigset_t before_;
	bool blocked_;
	bool others_;
};

// What returns with less than was asked for, and not for a reason that must not be lost by going on.
bool returns_early(int to)
{
	struct stat status = {};
	return ::fcntl(to, F_GETFL) & O_NONBLOCK || (::fstat(to, &status) == 0 && S_ISFIFO(status.st_mode));
}

bool at_end(int file, std::uint64_t offset)
{
	char byte;
	const off_t at = offset == here ? ::lseek(file, 0, SEEK_CUR) : static_cast<off_t>(offset);
	return ::pread(file, &byte, 1, at) == 0;
}

// A pipe that is full is waited for, whatever its O_NONBLOCK says, as all synchronous calls do.
bool wait_for_room(int to)
{
	return sys::wait(to, POLLOUT, std::chrono::milliseconds(-1)).has_value();
}

struct outcome {
	std::uint64_t bytes = 0;
	bool end = false;
	int error = 0;
	std::uint32_t copies = FBUFS_IO_NO_REASON;
};

// A call takes so many bytes.
std::size_t share_of(std::uint64_t left)
{
	return std::min<std::uint64_t>(left, 1 << 30);
}

outcome send_to_socket(int domain, int to, int file, std::uint64_t offset, std::size_t bytes)
{
	outcome so_far;
	auto args = sys::sized<fbufs_send_file>();
	args.to = to;
	args.from = file;
	long n = 0;
	do {
		args.offset = offset == here ? here : offset + so_far.bytes;
		args.bytes = share_of(bytes - so_far.bytes);
		n = sys::call(domain, FBUFS_SEND_FILE, &args);
		if (n < 0) {
			so_far.error = static_cast<int>(-n);
			break;
		}
		so_far.bytes += static_cast<std::uint64_t>(n);
		so_far.copies = args.out_reason;
		so_far.end = args.out_how & FBUFS_IO_END;
		// Less than asked for: the end, or a signal or an error, which must not be lost by going on.
	} while (static_cast<std::uint64_t>(n) == args.bytes && so_far.bytes < bytes);
	return so_far;
}

// sendfile(2), to what is no socket.
outcome send_pages(int to, int file, std::uint64_t offset, std::size_t bytes)
{
	no_sigpipe quiet;
	auto at = static_cast<off_t>(offset);
	off_t* const where = offset == here ? nullptr : &at;
	outcome so_far = {.copies = copies_of(to)};
	while (so_far.bytes < bytes) {
		const std::size_t ask = share_of(bytes - so_far.bytes);
		const ssize_t n = ::sendfile(to, file, where, ask);
		quiet.raised |= n != static_cast<ssize_t>(ask);
		if (n < 0 && errno == EAGAIN && wait_for_room(to))
			continue;
		if (n < 0)
			so_far.error = errno;
		so_far.end = n == 0;
		if (n <= 0)
			break;
		so_far.bytes += static_cast<std::uint64_t>(n);
		if (static_cast<std::size_t>(n) < ask && !returns_early(to)) {
			so_far.end = at_end(file, where ? static_cast<std::uint64_t>(at) : here);
			break;
		}
	}
	return so_far;
}

} // namespace

// Through fbufs, in blocks; a datagram in one.
result<transferred> io::send_copied(int to, int file, std::uint64_t offset, std::size_t bytes, std::size_t block)
{
	transferred total = {.fallback = true, .why = refused};
	while (total.bytes < bytes && !total.end) {
		const std::uint64_t at = offset == here ? here : offset + total.bytes;
		auto from = read(file, std::min<std::uint64_t>(block, bytes - total.bytes), {.offset = at});
		if (!from && total.bytes == 0)
			return std::unexpected(from.error());
		if (!from || from->bytes == 0) {
			total.end = from && from->end;
			break;
		}
		const std::uint64_t length = from->bytes;
		const std::uint64_t read_copied = from->copied;
		auto went = from->held ? write(to, from->held) : write(to, std::move(from->own), length);
		const std::uint64_t done = went ? went->bytes : 0;
		if (done < length && offset == here)
			(void)::lseek(file, static_cast<off_t>(done) - static_cast<off_t>(length), SEEK_CUR);
		if (!went && total.bytes == 0)
			return std::unexpected(went.error());
		total.bytes += done;
		total.copied += std::min(done, std::max(read_copied, went ? went->copied : 0));
		total.zero_copy |= went && went->zero_copy && read_copied < length;
		if (done < length || block == bytes)
			break;
	}
	return total;
}

result<transferred> io::send_file(int to, int file, std::uint64_t offset, std::size_t bytes)
{
	if (bytes == 0)
		return sys::failure(ERANGE);
	outcome went = send_to_socket(fd(), to, file, offset, bytes);
	if (went.error == EPROTOTYPE)
		return send_copied(to, file, offset, bytes, bytes);
	if (went.error == ENOTSOCK)
		went = send_pages(to, file, offset, bytes);
	if (went.bytes == 0 && went.error == EINVAL)
		return send_copied(to, file, offset, bytes, fallback_block);
	if (went.bytes == 0 && went.error)
		return sys::failure(went.error);
	transferred how = {.bytes = went.bytes, .end = went.end};
	if (went.copies == FBUFS_IO_NO_REASON) {
		how.zero_copy = went.bytes > 0;
	} else if (went.bytes) {
		how.copied = went.bytes;
		how.fallback = true;
		how.why = detail::reason_text(went.copies);
	}
	return how;
}

} // namespace fbuf
