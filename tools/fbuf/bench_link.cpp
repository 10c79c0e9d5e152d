// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "bench_link.hpp"
#include "bench_uring.hpp"
#include "tool.hpp"

#include <array>
#include <cerrno>
#include <mqueue.h>
#include <sys/uio.h>
#include <unistd.h>

namespace bench {

namespace {

using tool::failure;

constexpr const char* names[] = {
	"fbufs-volatile-cached",
	"fbufs-secure-cached",
	"fbufs-volatile-uncached",
	"fbufs-secure-uncached",
	"fbufs-copy",
	"pipe",
	"unix-stream",
	"unix-seqpacket",
	"tcp",
	"mq",
	"memfd-sealed",
	"vmsplice",
	"process-vm-readv",
	"uring-fixed",
	"shm-futex",
	"uring-msg",
	"mremap",
	"mprotect",
	"cow",
	"memcpy",
};

constexpr std::array touches = {"none", "header", "page", "all"};

// A link of one receiver for each: who has no better way sends a message as often as there are.
class fan_link : public link {
public:
	fan_link(const std::string& mechanism, shape of) : link(of)
	{
		const unsigned receivers = std::exchange(of.receivers, 1U);
		for (unsigned i = 0; i < receivers; i++)
			links_.push_back(make_link(mechanism, of));
	}
	void open_producer() override
	{
		for (const auto& each : links_)
			each->open_producer();
	}
	void open_consumer(unsigned index) override
	{
		own_ = index;
		links_[own_]->open_consumer(0);
	}
	void produce(std::uint64_t first, unsigned count) override
	{
		for (const auto& each : links_)
			each->produce(first, count);
	}
	unsigned consume(std::uint64_t first, unsigned most) override { return links_[own_]->consume(first, most); }
	[[nodiscard]] std::span<const std::byte> received(unsigned index) const override
	{
		return links_[own_]->received(index);
	}
	[[nodiscard]] std::uint64_t warm_up() const override { return links_[0]->warm_up(); }

private:
	std::vector<std::unique_ptr<link>> links_;
	std::size_t own_ = 0;
};

std::string why_errno()
{
	return std::strerror(errno);
}

std::string fbufs_missing()
{
	const auto domain = fbuf::domain::open();
	return domain ? "" : fbuf::explain(domain.error());
}

std::string mq_missing()
{
	const mqd_t queue = ::mq_open("/fbuf-bench-probe", O_CREAT | O_RDWR | O_CLOEXEC, 0600, nullptr);
	if (queue < 0)
		return "mq_open: " + why_errno();
	::mq_close(queue);
	::mq_unlink("/fbuf-bench-probe");
	return "";
}

std::string vm_readv_missing()
{
	char from = 1;
	char to = 0;
	iovec local = {&to, 1};
	iovec remote = {&from, 1};
	return ::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0) == 1 ? "" : "process_vm_readv: " + why_errno();
}

} // namespace

touch touch_of(const std::string& name)
{
	const auto at = std::ranges::find(touches, name);
	return static_cast<touch>(at - touches.begin());
}

const char* name_of(touch how)
{
	return touches[static_cast<std::size_t>(how)];
}

unsigned queue_depth(const shape& of)
{
	return std::max(of.batch, of.bytes > (16 << 20) ? 8U : 64U);
}

void mismatch()
{
	throw failure(tool::mismatch, "a message is not what was sent");
}

void write_every_word(std::span<std::byte> payload, std::uint64_t number)
{
	const std::size_t words = payload.size() / sizeof(number);
	for (std::size_t i = 0; i < words; i++)
		std::memcpy(payload.data() + i * sizeof(number), &number, sizeof(number));
}

void check_every_word(std::span<const std::byte> payload, std::uint64_t number)
{
	const std::size_t words = payload.size() / sizeof(number);
	std::uint64_t differences = 0;
	for (std::size_t i = 0; i < words; i++) {
		std::uint64_t word;
		std::memcpy(&word, payload.data() + i * sizeof(word), sizeof(word));
		differences |= word ^ number;
	}
	if (differences)
		mismatch();
}

void link::open_forwarder(link&)
{
	open_producer();
}

void link::exchange(std::uint64_t sent, link& back, std::uint64_t received)
{
	produce(sent, 1);
	back.consume(received, 1);
}

void link::forward(link& in, std::uint64_t first, unsigned count)
{
	source_ = &in;
	produce(first, count);
	source_ = nullptr;
}

std::span<const char* const> mechanisms()
{
	return names;
}

std::string missing(const std::string& mechanism)
{
	if (std::ranges::find(names, mechanism) == std::end(names))
		throw failure(tool::usage, "no such mechanism: " + mechanism);
	if (mechanism.starts_with("fbufs-"))
		return fbufs_missing();
	if (mechanism == "mq")
		return mq_missing();
	if (mechanism == "process-vm-readv")
		return vm_readv_missing();
	if (mechanism.starts_with("uring-"))
		return uring_missing();
	return "";
}

std::size_t largest(const std::string& mechanism)
{
	return mechanism.starts_with("fbufs-") && mechanism.ends_with("-copy") ? fbuf::sender::most_copied : SIZE_MAX;
}

std::unique_ptr<link> make_link(const std::string& mechanism, const shape& of)
{
	if (mechanism.starts_with("fbufs-"))
		return make_fbufs_link(mechanism, of);
	if (of.receivers > 1)
		return std::make_unique<fan_link>(mechanism, of);
	for (const auto make : {make_copying_link, make_ring_link, make_memfd_link})
		if (auto made = make(mechanism, of))
			return made;
	throw failure(tool::usage, "no such mechanism: " + mechanism);
}

} // namespace bench
