// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The two versions of a stream.

#include "stream.hpp"

#include <fbuf/fbuf.hpp>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

namespace apps {

void fail(std::string_view what)
{
	std::fprintf(stderr, "%.*s\n", static_cast<int>(what.size()), what.data());
	std::exit(1);
}

bool take_option(int& argc, char**& argv)
{
	if (argc < 2 || std::strcmp(argv[1], "-f") != 0)
		return false;
	argc--;
	argv++;
	return true;
}

namespace {

class plain_stream : public stream {
public:
	plain_stream(int in, int out) : in_(in), out_(out), input_(block), output_(block) {}
	std::span<const std::byte> next() override
	{
		const ssize_t n = ::read(in_, input_.data(), input_.size());
		if (n < 0)
			fail("read: " + std::string(std::strerror(errno)));
		got_ = std::span(input_).first(static_cast<std::size_t>(n));
		return got_;
	}
	std::span<std::byte> room(std::size_t bytes) override
	{
		if (output_.size() - used_ < bytes)
			finish();
		return std::span(output_).subspan(used_);
	}
	void put(std::size_t bytes) override { used_ += bytes; }
	void pass() override
	{
		finish();
		write_all(got_);
	}
	void finish() override { write_all(std::span(output_).first(std::exchange(used_, 0U))); }

private:
	void write_all(std::span<const std::byte> bytes) const
	{
		while (!bytes.empty()) {
			const ssize_t n = ::write(out_, bytes.data(), bytes.size());
			if (n < 0)
				fail("write: " + std::string(std::strerror(errno)));
			bytes = bytes.subspan(static_cast<std::size_t>(n));
		}
	}

	int in_;
	int out_;
	std::vector<std::byte> input_;
	std::vector<std::byte> output_;
	std::span<const std::byte> got_;
	std::size_t used_ = 0;
};

template <typename T>
T expect(fbuf::result<T>&& value)
{
	if (!value)
		fail(fbuf::explain(value.error()));
	if constexpr (!std::is_void_v<T>)
		return std::move(*value);
}

// What another program of this kind writes into a pipe arrives as its own pages, and goes on as such.
class fbufs_stream : public stream {
public:
	fbufs_stream(int in, int out)
		: in_(in), out_(out), domain_(expect(fbuf::domain::open())),
		  pool_(expect(domain_.create_pool(pool_bytes))), io_(domain_)
	{
	}
	std::span<const std::byte> next() override
	{
		if (got_.held && slice_ + 1 < got_.held.slices().size())
			return got_.held.slices()[++slice_].data;
		slice_ = 0;
		// Releases are collected: the writer may be waiting for them.
		got_ = {};
		if (++reads_ % reads_to_release == 0)
			expect(domain_.flush());
		got_ = expect(io_.read(in_, block));
		return got_.data();
	}
	std::span<std::byte> room(std::size_t bytes) override
	{
		if (output_ && output_.size() - used_ < bytes)
			finish();
		if (!output_)
			output_ = expect(pool_.allocate(block));
		return output_.data().subspan(used_);
	}
	void put(std::size_t bytes) override { used_ += bytes; }
	void pass() override
	{
		finish();
		if (!got_.held) {
			write_all(std::move(got_.own), got_.bytes);
			return;
		}
		fbuf::aggregate whole;
		expect(whole.append(got_.held));
		if (expect(io_.write(out_, std::move(whole))).bytes != got_.held.length())
			fail("the output takes no more");
		slice_ = got_.held.slices().size();
	}
	void finish() override
	{
		if (used_)
			write_all(std::move(output_), std::exchange(used_, 0U));
	}

private:
	static constexpr std::size_t pool_bytes = 16 << 20;
	static constexpr unsigned reads_to_release = 4;

	void write_all(fbuf::buffer&& own, std::size_t bytes)
	{
		if (expect(io_.write(out_, std::move(own), bytes)).bytes != bytes)
			fail("the output takes no more");
	}

	int in_;
	int out_;
	fbuf::domain domain_;
	fbuf::pool pool_;
	fbuf::io io_;
	fbuf::obtained got_;
	std::size_t slice_ = 0;
	unsigned reads_ = 0;
	fbuf::buffer output_;
	std::size_t used_ = 0;
};

} // namespace

std::unique_ptr<stream> open_stream(bool fbufs, int in, int out)
{
	if (fbufs)
		return std::make_unique<fbufs_stream>(in, out);
	return std::make_unique<plain_stream>(in, out);
}

} // namespace apps
