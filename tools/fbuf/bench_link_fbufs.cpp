// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "bench_link.hpp"
#include "tool.hpp"

#include <optional>
#include <unistd.h>

namespace bench {

namespace {

using tool::expect;

constexpr std::size_t page = touched_page;

// One channel, however many receivers there are; who sends on adds no copy. Copying, the payload is made in
// ordinary memory, from which the module copies it into the queue.
class fbufs_link : public link {
public:
	fbufs_link(const shape& of, const fbuf::channel_options& options, bool copying)
		: link(of), options_(options), copying_(copying)
	{
		options_.depth = queue_depth(of);
		static unsigned made;
		path_ = "/tmp/fbuf-bench-" + std::to_string(::getpid()) + "-" + std::to_string(made++);
		listener_ = expect(fbuf::listener::listen(path_), "cannot listen at " + path_);
	}
	~fbufs_link() override
	{
		// Before the domain, and the descriptors last.
		held_.clear();
		batch_.clear();
		fresh_.clear();
		sender_.reset();
		receiver_.reset();
	}
	void open_producer() override
	{
		open_domain();
		// What waits, what the consumers hold, and what the producer has at hand.
		const std::uint64_t fbufs = shape_.hops * (options_.depth + 2ULL * shape_.batch) + 4;
		const std::uint64_t room = fbufs * ((shape_.bytes + page - 1) / page * page);
		expect(domain_->create_pool(room), "cannot make a pool");
		open_sender();
		batch_.resize(shape_.batch);
		if (copying_) {
			memory_.resize(shape_.batch * shape_.bytes);
			return;
		}
		// The first messages go through every fbuf that the pool has room for, so that all of them
		// are known to both sides before anything is measured.
		for (std::uint64_t i = 0; i < fbufs; i++)
			fresh_.push_back(expect(sender_->allocate(shape_.bytes), "cannot allocate"));
	}
	void open_forwarder(link& in) override
	{
		domain_ = static_cast<fbufs_link&>(in).domain_;
		open_sender();
	}
	void open_consumer(unsigned) override
	{
		open_domain();
		auto peer = expect(fbuf::connection::connect(path_), "cannot connect to " + path_);
		receiver_ = expect(domain_->attach_receiver(expect(peer.take(), "the producer")), "cannot attach");
		held_.resize(shape_.batch);
	}
	void produce(std::uint64_t first, unsigned count) override
	{
		if (copying_)
			return produce_copies(first, count);
		if (count == 1) {
			auto buffer = next_buffer();
			write_words(buffer.data().first(shape_.bytes), first, shape_.how);
			(void)expect(sender_->send(std::move(buffer), shape_.bytes, first), "cannot send");
			return;
		}
		const auto batch = std::span(batch_).first(count);
		std::size_t have = 0;
		for (; have < count && !fresh_.empty(); have++)
			batch[have] = {next_buffer(), shape_.bytes};
		while (have < count)
			have += expect(sender_->allocate(shape_.bytes, batch.subspan(have)), "cannot allocate");
		for (fbuf::packet& each : batch) {
			write_words(each.own.data().first(shape_.bytes), first, shape_.how);
			each.cookie = first++;
		}
		for (auto left = batch; !left.empty();)
			left = left.subspan(expect(sender_->send(left), "cannot send").messages);
	}
	unsigned consume(std::uint64_t first, unsigned most) override
	{
		const auto count = static_cast<unsigned>(
			expect(receiver_->receive(std::span(held_).first(at_a_time(most))), "cannot receive"));
		for (unsigned i = 0; i < count; i++)
			check_words(held_[i].data(), first + i, shape_.how);
		return count;
	}
	void give_back() override
	{
		for (fbuf::message& each : held_)
			each = {};
		expect(domain_->flush(), "cannot release");
	}
	void exchange(std::uint64_t sent, link& back, std::uint64_t received) override
	{
		if (copying_)
			return link::exchange(sent, back, received);
		auto& from = static_cast<fbufs_link&>(back);
		auto buffer = next_buffer();
		write_words(buffer.data().first(shape_.bytes), sent, shape_.how);
		(void)expect(sender_->call(std::move(buffer), shape_.bytes, sent, *from.receiver_,
					   std::span(from.held_).first(1)),
			     "cannot call");
		check_words(from.held_[0].data(), received, shape_.how);
	}
	void forward(link& in, std::uint64_t first, unsigned count) override
	{
		onward_.clear();
		for (unsigned i = 0; i < count; i++)
			expect(onward_.emplace_back(first + i).append(static_cast<fbufs_link&>(in).held_[i]),
			       "cannot send on");
		for (auto left = std::span(onward_); !left.empty();)
			left = left.subspan(expect(sender_->send(left), "cannot send on").messages);
	}
	[[nodiscard]] std::span<const std::byte> received(unsigned index) const override { return held_[index].data(); }
	[[nodiscard]] std::uint64_t warm_up() const override { return std::uint64_t{queue_depth(shape_)} * 4; }
	effort caused() override
	{
		const auto now = expect(domain_->count(), "cannot count");
		return {now.faults, now.ptes_set + now.ptes_cleared, now.tlb_flushes, now.pages_allocated,
			now.bytes_copied};
	}

private:
	void produce_copies(std::uint64_t first, unsigned count)
	{
		plains_.clear();
		for (unsigned i = 0; i < count; i++) {
			const auto place = std::span(memory_).subspan(i * shape_.bytes, shape_.bytes);
			write_words(place, first + i, shape_.how);
			plains_.push_back({place, first + i});
		}
		if (count == 1) {
			(void)expect(sender_->send(plains_[0].data, first), "cannot send");
			return;
		}
		(void)expect(sender_->send(std::span<const fbuf::plain>(plains_)), "cannot send");
	}
	fbuf::buffer next_buffer()
	{
		if (fresh_.empty())
			return expect(sender_->allocate(shape_.bytes), "cannot allocate");
		fbuf::buffer buffer = std::move(fresh_.back());
		fresh_.pop_back();
		return buffer;
	}
	void open_domain()
	{
		domain_ = std::make_shared<fbuf::domain>(expect(fbuf::domain::open(), "cannot open /dev/fbufs"));
	}
	void open_sender()
	{
		auto [sender, end] = expect(domain_->create_channel(options_), "cannot make a channel");
		sender_ = std::move(sender);
		if (copying_)
			sender_->copy_below(fbuf::sender::most_copied + 1);
		for (unsigned i = 0; i < shape_.receivers; i++) {
			auto peer = expect(listener_->accept(), "waiting for the consumer");
			expect(peer.pass(i ? expect(sender_->add_receiver(), "cannot add a receiver") : std::move(end)),
			       "cannot pass the channel");
		}
	}

	fbuf::channel_options options_;
	bool copying_;
	std::string path_;
	std::optional<fbuf::listener> listener_;
	std::shared_ptr<fbuf::domain> domain_;
	std::optional<fbuf::sender> sender_;
	std::optional<fbuf::receiver> receiver_;
	std::vector<fbuf::buffer> fresh_;
	std::vector<fbuf::packet> batch_;
	std::vector<std::byte> memory_;
	std::vector<fbuf::plain> plains_;
	std::vector<fbuf::aggregate> onward_;
	std::vector<fbuf::message> held_;
};

} // namespace

std::unique_ptr<link> make_fbufs_link(const std::string& mechanism, const shape& of)
{
	const fbuf::channel_options options = {
		.secure = mechanism.find("volatile") == std::string::npos,
		.cached = mechanism.find("uncached") == std::string::npos,
	};
	return std::make_unique<fbufs_link>(of, options, mechanism.ends_with("-copy"));
}

} // namespace bench
