// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "bench_sender.hpp"
#include "bench_link.hpp"
#include "bench_uring.hpp"

#include <algorithm>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

namespace bench {

std::size_t moved(ssize_t n, const char* doing)
{
	if (n < 0)
		die(doing);
	if (n == 0)
		throw tool::failure(tool::failed, std::string(doing) + ": nothing moved");
	return static_cast<std::size_t>(n);
}

buffers::buffers(std::size_t bytes, std::size_t count)
	: bytes_(bytes), count_(count),
	  memory_(bytes * count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE)
{
}

std::uint64_t job::word_of(std::uint64_t number) const
{
	return source < 0 ? number : offset_of(number) / touched_page;
}

void sender::write_all(std::span<const std::byte> bytes) const
{
	while (!bytes.empty()) {
		const ssize_t n = ::write(job_.to, bytes.data(), bytes.size());
		if (n < 0)
			die("write");
		bytes = bytes.subspan(static_cast<std::size_t>(n));
	}
}

namespace {

// --- copying -------------------------------------------------------------------------------

class write_sender : public sender {
public:
	explicit write_sender(const job& of) : sender(of), buffer_(of.bytes, 1) {}
	void send(std::uint64_t number) override
	{
		write_words(buffer_[0], number, touch::header);
		write_all(buffer_[0]);
	}

private:
	buffers buffer_;
};

class direct_write_sender : public sender {
public:
	explicit direct_write_sender(const job& of) : sender(of), buffer_(of.bytes, 1) {}
	void send(std::uint64_t number) override
	{
		write_words(buffer_[0], number, touch::header);
		const auto offset = static_cast<off_t>(job_.offset_of(number));
		for (std::size_t done = 0; done < job_.bytes;)
			done += moved(::pwrite(job_.to, buffer_[0].data() + done, job_.bytes - done,
					       offset + static_cast<off_t>(done)),
				      "pwrite");
	}

private:
	buffers buffer_;
};

class read_write_sender : public sender {
public:
	explicit read_write_sender(const job& of) : sender(of), buffer_(of.bytes, 1) {}
	void send(std::uint64_t number) override
	{
		const auto offset = static_cast<off_t>(job_.offset_of(number));
		for (std::size_t done = 0; done < job_.bytes;)
			done += moved(::pread(job_.source, buffer_[0].data() + done, job_.bytes - done,
					      offset + static_cast<off_t>(done)),
				      "pread");
		write_all(buffer_[0]);
	}

private:
	buffers buffer_;
};

// The file is mapped once, as a server would.
class mmap_write_sender : public sender {
public:
	explicit mmap_write_sender(const job& of)
		: sender(of), file_(file_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, of.source)
	{
	}
	void send(std::uint64_t number) override
	{
		write_all(file_.bytes().subspan(job_.offset_of(number), job_.bytes));
	}

private:
	mapping file_;
};

// --- moving pages through pipes ---------------------------------------------------------------

class sendfile_sender : public sender {
public:
	using sender::sender;
	void send(std::uint64_t number) override
	{
		auto offset = static_cast<off_t>(job_.offset_of(number));
		for (std::size_t done = 0; done < job_.bytes;)
			done += moved(::sendfile(job_.to, job_.source, &offset, job_.bytes - done), "sendfile");
	}
};

// A pipe between what gives pages and the descriptor that takes them.
class piping_sender : public sender {
public:
	explicit piping_sender(const job& of) : sender(of)
	{
		int pair[2];
		if (::pipe2(pair, O_CLOEXEC) < 0)
			die("pipe");
		from_ = descriptor(pair[0]);
		into_ = descriptor(pair[1]);
		// As large as it may be without privilege: fewer calls.
		(void)::fcntl(into_.fd(), F_SETPIPE_SZ, 1 << 20);
	}

protected:
	[[nodiscard]] int into() const { return into_.fd(); }
	// From the pipe to the descriptor; `more` of the message is to come.
	void forward(std::size_t bytes, bool more) const
	{
		while (bytes > 0)
			bytes -= moved(::splice(from_.fd(), nullptr, job_.to, nullptr, bytes,
						SPLICE_F_MOVE | (more ? SPLICE_F_MORE : 0U)),
				       "splice");
	}

private:
	descriptor from_;
	descriptor into_;
};

class splice_sender : public piping_sender {
public:
	using piping_sender::piping_sender;
	void send(std::uint64_t number) override
	{
		auto offset = static_cast<off64_t>(job_.offset_of(number));
		for (std::size_t done = 0; done < job_.bytes;) {
			const std::size_t n =
				moved(::splice(job_.source, &offset, into(), nullptr, job_.bytes - done, SPLICE_F_MOVE),
				      "splice");
			done += n;
			forward(n, done < job_.bytes);
		}
	}
};

// Pages that are lent to a pipe may be written again when the receiver has read them; no call tells
// when. There are so many that a sender who is ahead by all that pipes and sockets hold has others.
class lent_buffers {
public:
	explicit lent_buffers(const job& of)
		: received_(*of.received), buffers_(of.bytes, std::max<std::size_t>((16 << 20) / of.bytes, 4))
	{
	}
	[[nodiscard]] std::span<std::byte> make(std::uint64_t number) const
	{
		while (received_.load(std::memory_order_acquire) + buffers_.count() <= number)
			::sched_yield();
		write_words(buffers_[number], number, touch::header);
		return buffers_[number];
	}

private:
	const std::atomic<std::uint64_t>& received_;
	buffers buffers_;
};

std::size_t lend(int pipe, std::span<std::byte> bytes)
{
	const iovec vector = {bytes.data(), bytes.size()};
	return moved(::vmsplice(pipe, &vector, 1, 0), "vmsplice");
}

class vmsplice_sender : public piping_sender {
public:
	explicit vmsplice_sender(const job& of) : piping_sender(of), buffers_(of) {}
	void send(std::uint64_t number) override
	{
		for (auto rest = buffers_.make(number); !rest.empty();) {
			const std::size_t n = lend(into(), rest);
			rest = rest.subspan(n);
			forward(n, !rest.empty());
		}
	}

private:
	lent_buffers buffers_;
};

// The receiver reads from the pipe itself.
class vmsplice_pipe_sender : public sender {
public:
	explicit vmsplice_pipe_sender(const job& of) : sender(of), buffers_(of) {}
	void send(std::uint64_t number) override
	{
		for (auto rest = buffers_.make(number); !rest.empty();)
			rest = rest.subspan(lend(job_.to, rest));
	}

private:
	lent_buffers buffers_;
};

// --- which mechanism on which path ---------------------------------------------------------------

template <typename T>
std::unique_ptr<sender> make(const job& of)
{
	return std::make_unique<T>(of);
}

struct offer {
	const char* mechanism;
	const char* path; // and those whose names go on from there
	std::unique_ptr<sender> (*make)(const job& of);
};

constexpr offer offers[] = {
	{"write", "file-tcp", make<read_write_sender>},
	{"write", "mem-tcp", make<write_sender>},
	{"write", "mem-unix", make<write_sender>},
	{"write", "mem-pipe", make<write_sender>},
	{"write", "mem-file-direct", make<direct_write_sender>},
	{"mmap-write", "file-tcp", make<mmap_write_sender>},
	{"sendfile", "file-tcp", make<sendfile_sender>},
	{"splice", "file-tcp", make<splice_sender>},
	{"vmsplice", "mem-tcp", make<vmsplice_sender>},
	{"vmsplice", "mem-unix", make<vmsplice_sender>},
	{"vmsplice", "mem-pipe", make<vmsplice_pipe_sender>},
	{"msg-zerocopy", "mem-tcp", make_msg_zerocopy_sender},
	{"uring-send", "mem-tcp", make_uring_sender},
	{"uring-send", "mem-unix", make_uring_sender},
	{"uring-send-zc", "mem-tcp", make_uring_zc_sender},
	{"fbufs", "file-tcp", make_fbufs_sender},
	{"fbufs", "mem-tcp", make_fbufs_sender},
	{"fbufs", "mem-unix", make_fbufs_sender},
	{"fbufs", "mem-pipe", make_fbufs_sender},
	{"fbufs", "mem-file-direct", make_fbufs_file_sender},
};

const offer* find_offer(const std::string& mechanism, const std::string& path)
{
	const auto* found = std::ranges::find_if(
		offers, [&](const offer& each) { return mechanism == each.mechanism && path.starts_with(each.path); });
	return found == std::end(offers) ? nullptr : found;
}

} // namespace

std::vector<std::string> sender_names()
{
	std::vector<std::string> names;
	for (const offer& each : offers)
		if (names.empty() || names.back() != each.mechanism)
			names.emplace_back(each.mechanism);
	return names;
}

bool sends_on(const std::string& mechanism, const std::string& path)
{
	return find_offer(mechanism, path) != nullptr;
}

std::string sender_missing(const std::string& mechanism)
{
	return mechanism.starts_with("uring-") ? uring_missing() : "";
}

std::unique_ptr<sender> make_sender(const std::string& mechanism, const std::string& path, const job& of)
{
	const offer* found = find_offer(mechanism, path);
	if (!found)
		throw tool::failure(tool::usage, "no " + mechanism + " on " + path);
	return found->make(of);
}

} // namespace bench
