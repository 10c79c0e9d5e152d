// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
#pragma once

#include <fbuf/channel.hpp>
#include <fbuf/domain.hpp>

#include <string_view>

namespace fbuf {

/// For offsets: at the file position; for streams the only place there is.
inline constexpr std::uint64_t here = ~std::uint64_t{0};

/// How an operation on a descriptor went.
struct transferred {
	std::uint64_t bytes = 0;   ///< done
	std::uint64_t copied = 0;  ///< of these, copied by the processor inside the kernel
	bool zero_copy = false;	   ///< the others went by reference
	bool fallback = false;	   ///< copied for a reason that lies in this descriptor
	std::string_view why = {}; ///< that reason, for people
	bool end = false;	   ///< reading: there is no more
	bool truncated = false;	   ///< reading: the datagram was longer
};

/// What a read brought: an own buffer, or fbufs of others as a message that is held.
struct obtained : transferred {
	buffer own;			  ///< with `bytes` bytes, when they were copied or read into it
	message held;			  ///< when they came as whole pages of another process's fbufs
	std::uint32_t address_length = 0; ///< bytes at read_options::address
	/// The bytes, wherever they are; of the first slice when there are several.
	[[nodiscard]] std::span<const std::byte> data() const noexcept
	{
		return held ? held.data() : std::span<const std::byte>(own.data()).first(own ? bytes : 0);
	}
};

/// What became of a submitted operation.
struct completion : obtained {
	std::uint64_t cookie = 0; ///< of the submission
	std::error_code error;	  ///< why there are no bytes, as from read(2), write(2), send(2), recv(2)
				  /// Writing a buffer that was not given away: `own` has it back.
};

/// How to write.
struct write_options {
	std::uint64_t offset = here;   ///< in a file
	bool append = false;	       ///< to a file, at its end
	bool give = false;	       ///< own buffers go home afterwards, and the completion comes sooner
	const void* address = nullptr; ///< of the peer of a datagram socket: a sockaddr
	std::uint32_t address_length = 0;
};

/// How to read.
struct read_options {
	std::uint64_t offset = here; ///< in a file
	bool all = false;	     ///< not before all bytes are there, or the end
	bool copy = false;	     ///< into an own buffer even if fbufs of another process arrive
	sender* channel = nullptr;   ///< the buffer is to be sent there
	void* address = nullptr;     ///< room for the sockaddr of a datagram's sender: 128 bytes
};

/// Sends and receives buffers and messages through descriptors: sockets, pipes, files, devices.
///
/// The kernel owns the fbufs while it works on them: nobody can write them until its last reference
/// to their pages is gone. Sockets (TCP, UDP, UNIX stream) and pipes get references; what only
/// copies says so in transferred. Waiting operations go on inside wait() and other calls, in the
/// context of this process; fd() says when that is worth while.
///
/// Lifetime: must be destroyed before its domain, and cancels then what waits; the buffers of what is
/// still under way are the domain's to end. Thread-safety: one thread at a time.
class io {
public:
	explicit io(domain& of);
	io(io&&) noexcept;
	io& operator=(io&&) noexcept;
	~io();

	/// Write the first @p length bytes of a buffer, all of them if it can be, and have the buffer
	/// back, writable, when the kernel is done with it: for a socket, when the peer has read.
	/// Errors, with the buffer as before: std::errc::bad_file_descriptor, invalid_argument,
	/// invalid_seek, broken_pipe (without a signal), connection_reset, no_space_on_device,
	/// file_too_large, interrupted and what else write(2) and send(2) give.
	[[nodiscard]] result<transferred> write(int fd, buffer& own, std::size_t length, const write_options& how = {});
	/// Write and give away: comes back as soon as the descriptor has accepted the bytes. The buffer
	/// goes home later. On failure it is still the caller's, when nothing of it was accepted.
	[[nodiscard]] result<transferred> write(int fd, buffer&& own, std::size_t length, write_options how = {});
	/// Write a message of several slices, of own buffers, which are given away, and of held messages.
	/// When nothing is accepted it is as before, unless held messages are part of it: then the own
	/// buffers are gone all the same.
	[[nodiscard]] result<transferred> write(int fd, aggregate&& message, write_options how = {});
	/// Write what was received, without a copy; it stays held.
	[[nodiscard]] result<transferred> write(int fd, const message& held, const write_options& how = {});

	/// Have buffers and held messages of fewer than @p bytes copied into the socket by write() and submit_write(),
	/// as by send(2); transferred::copied says so. For small ones that is less work than to lock, track and unlock
	/// pages: over TCP up to some 32 KiB (`fbuf bench fdio`). There is nothing to lock then: the bytes are the
	/// socket's when the call returns. What is no socket, or has no room, and what is written while operations are
	/// under way, goes by reference all the same. 0, as it is at first: nothing is copied that need not be.
	void copy_below(std::size_t bytes) noexcept;

	/// Read up to @p bytes. `end` with no bytes at the end of the file or stream.
	/// Errors: as read(2) and recv(2); std::errc::no_buffer_space: the pool is too small.
	[[nodiscard]] result<obtained> read(int fd, std::size_t bytes, const read_options& how = {});

	/// Send up to @p bytes of a file, fewer only at its end (`end`), from @p offset or `here`, to what
	/// has no need of fbufs: the file's own pages go by reference (as by sendfile(2)), the pool is not
	/// used.
	///
	/// These bytes are NOT locked. They are the file's pages, also after this call, until the peer has
	/// read them: whoever writes the file meanwhile changes what is sent. Who needs the lock reads into
	/// an fbuf and writes that.
	///
	/// Sockets of TCP and UNIX streams, pipes and files with O_DIRECT get references; to files and devices, at
	/// their position, and to sockets that change the bytes or cannot gather pages the kernel copies. What is read
	/// and is no file, a file opened to append, and datagram sockets, which get one datagram, are done
	/// through fbufs of the pool, which is a copy, and `why` says so; what was read from a stream by
	/// then and could not be written is lost. What a file system copies to have the file in pages
	/// counts as zero-copy.
	///
	/// Waits for a descriptor that is full, O_NONBLOCK or not. Does not wait for submitted operations
	/// on the same descriptor: it may overtake them. After a signal or an error, what was sent until then,
	/// when it is something.
	/// Errors: std::errc::broken_pipe (without a signal), interrupted, and what else sendfile(2) gives;
	/// no_such_device_or_address: it had to be through fbufs, and there is no pool.
	[[nodiscard]] result<transferred> send_file(int to, int file, std::uint64_t offset, std::size_t bytes);

	/// As write() and read(), but do not wait for the outcome: wait() reports it with this cookie. Pointers in
	/// options must be good until then. What copy_below() copied is complete at once, without fd() being
	/// readable for it.
	/// Errors: std::errc::device_or_resource_busy: 1,024 operations are not complete.
	[[nodiscard]] result<void> submit_write(int fd, buffer&& own, std::size_t length, std::uint64_t cookie,
						const write_options& how = {});
	[[nodiscard]] result<void> submit_write(int fd, aggregate&& message, std::uint64_t cookie,
						const write_options& how = {});
	[[nodiscard]] result<void> submit_read(int fd, std::size_t bytes, std::uint64_t cookie,
					       const read_options& how = {});

	/// Get on with what waits, and report what is complete: at least @p least operations, if so many
	/// are submitted. Errors: std::errc::interrupted.
	[[nodiscard]] result<std::size_t> wait(std::span<completion> out, std::size_t least = 1);
	/// Give up operations that wait for their descriptor; they complete. Returns how many.
	[[nodiscard]] result<std::size_t> cancel(std::uint64_t cookie);

	/// Operations that were submitted and not reported yet.
	[[nodiscard]] std::size_t pending() const noexcept;
	/// For poll: readable when wait() has something to do. The domain's.
	[[nodiscard]] int fd() const noexcept;

private:
	result<transferred> send_copied(int to, int file, std::uint64_t offset, std::size_t bytes, std::size_t block);

	struct engine;
	struct engine_delete {
		void operator()(engine* which) const noexcept;
	};
	std::unique_ptr<engine, engine_delete> engine_;
};

/// How make_mutable() did it.
struct taken_over {
	buffer own;		///< to write, send, or give back
	std::size_t offset = 0; ///< of the message's first byte in it
	std::size_t length = 0; ///< bytes of the message
	bool copied = false;	///< somebody else holds the fbuf too: a copy was made
};

/// Take a held message of one slice over for writing: its very pages, moved into the own pool, when
/// nobody else holds them. The message is released. On failure it is as before.
/// Errors: std::errc::invalid_argument: it has several slices; no_such_device_or_address: no pool;
/// no_buffer_space, resource_unavailable_try_again: no room in the own pool.
[[nodiscard]] result<taken_over> make_mutable(domain& which, message&& held);

} // namespace fbuf
