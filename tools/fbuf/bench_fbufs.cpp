// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "bench_sender.hpp"

#include <cstring>
#include <netinet/in.h>
#include <sys/socket.h>

namespace bench {

namespace {

using tool::expect;

// Buffers of the pool, each filled again when the kernel is done with it.
class fbufs_sender : public sender {
public:
	fbufs_sender(const job& of, bool to_file)
		: sender(of), to_file_(to_file), domain_(expect(fbuf::domain::open(), "cannot open /dev/fbufs")),
		  pool_(make_pool(of)), io_(domain_), done_(most)
	{
		if (is_tcp(of.to))
			io_.copy_below(tcp_copies_below);
		for (std::size_t i = 0; of.source < 0 && i < most; i++)
			free_.push_back(expect(pool_.allocate(of.bytes), "cannot allocate"));
	}
	void send(std::uint64_t number) override
	{
		if (job_.source >= 0)
			send_file(number);
		else
			send_memory(number);
	}
	void finish() override
	{
		while (io_.pending())
			take_back(1);
	}
	[[nodiscard]] std::optional<double> copied() const override
	{
		return bytes_ ? static_cast<double>(copied_) / static_cast<double>(bytes_) : 0;
	}

private:
	static constexpr std::size_t most = 16;
	// What fbuf::io::copy_below() recommends.
	static constexpr std::size_t tcp_copies_below = 32 << 10;

	static bool is_tcp(int fd)
	{
		int protocol = 0;
		socklen_t length = sizeof(protocol);
		return ::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 && protocol == IPPROTO_TCP;
	}

	fbuf::pool make_pool(const job& of)
	{
		return expect(domain_.create_pool((most + 2) * ((of.bytes + 4095) / 4096 * 4096)),
			      "cannot make a pool");
	}
	void count(const fbuf::transferred& went)
	{
		bytes_ += went.bytes;
		copied_ += went.copied;
	}
	void take_back(std::size_t least)
	{
		const std::size_t count = expect(io_.wait(done_, least), "waiting for the kernel");
		for (auto& each : std::span(done_).first(count)) {
			if (each.error || each.bytes != job_.bytes)
				throw tool::failure("cannot write", each.error);
			this->count(each);
			free_.push_back(std::move(each.own));
		}
	}
	void send_memory(std::uint64_t number)
	{
		if (free_.empty())
			take_back(1);
		fbuf::buffer own = std::move(free_.back());
		free_.pop_back();
		const std::uint64_t word = job_.word_of(number);
		std::memcpy(own.data().data(), &word, sizeof(word));
		fbuf::write_options how;
		if (to_file_)
			how.offset = job_.offset_of(number);
		expect(io_.submit_write(job_.to, std::move(own), job_.bytes, number, how), "cannot write");
	}
	void send_file(std::uint64_t number)
	{
		for (std::size_t done = 0; done < job_.bytes;) {
			const auto went = expect(
				io_.send_file(job_.to, job_.source, job_.offset_of(number) + done, job_.bytes - done),
				"cannot send the file");
			if (went.bytes == 0)
				throw tool::failure(tool::failed, "the file is too short");
			count(went);
			done += went.bytes;
		}
	}

	bool to_file_;
	fbuf::domain domain_;
	fbuf::pool pool_;
	fbuf::io io_;
	std::vector<fbuf::buffer> free_;
	std::vector<fbuf::completion> done_;
	std::uint64_t bytes_ = 0;
	std::uint64_t copied_ = 0;
};

// Both programs use fbufs: whole pages of the sender's are received as they are.
class fbufs_reader : public reader {
public:
	fbufs_reader(int fd, const job& of)
		: fd_(fd), bytes_(of.bytes), domain_(expect(fbuf::domain::open(), "cannot open /dev/fbufs")),
		  pool_(expect(domain_.create_pool(8 << 20), "cannot make a pool")), io_(domain_)
	{
	}
	std::span<const std::byte> next() override
	{
		last_ = {};
		if (++read_ % 4 == 0)
			expect(domain_.flush(), "cannot release");
		last_ = expect(io_.read(fd_, bytes_, {.all = true}), "cannot read");
		if (last_.bytes != bytes_)
			throw tool::failure(tool::failed, "a message came in parts");
		return last_.data();
	}
	void give_back() override
	{
		last_ = {};
		expect(domain_.flush(), "cannot release");
	}

private:
	int fd_;
	std::size_t bytes_;
	fbuf::domain domain_;
	fbuf::pool pool_;
	fbuf::io io_;
	fbuf::obtained last_;
	std::uint64_t read_ = 0;
};

} // namespace

std::unique_ptr<sender> make_fbufs_sender(const job& of)
{
	return std::make_unique<fbufs_sender>(of, false);
}

std::unique_ptr<sender> make_fbufs_file_sender(const job& of)
{
	return std::make_unique<fbufs_sender>(of, true);
}

std::unique_ptr<reader> make_fbufs_reader(int fd, const job& of)
{
	return std::make_unique<fbufs_reader>(fd, of);
}

} // namespace bench
