// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Mechanisms around a ring of slots in memory: shared as it is (the lower bound, protected by nothing),
// protected by taking mappings away on both sides, read from the other process, or mapped copy-on-write.

#include "bench_link.hpp"
#include "bench_run.hpp"
#include "bench_uring.hpp"

#include <atomic>
#include <cerrno>
#include <climits>
#include <linux/futex.h>
#include <optional>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace bench {

namespace {

constexpr std::size_t big_page = 2 << 20;

void futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value)
{
	if (::syscall(SYS_futex, &word, operation, value, nullptr, nullptr, 0) < 0 && errno != EAGAIN && errno != EINTR)
		die("futex");
}

// One side moves it forward, the other waits for that. It sleeps on the flag itself: whoever clears that, with
// something earlier in mind, before it sleeps keeps it from sleeping.
struct counter {
	alignas(64) std::atomic<std::uint32_t> value = 0;
	std::atomic<std::uint32_t> waited_for = 0;

	void wait_beyond(std::uint32_t seen)
	{
		while (value.load(std::memory_order_acquire) == seen) {
			waited_for.store(1);
			if (value.load() == seen)
				futex(waited_for, FUTEX_WAIT, 1);
			waited_for.store(0, std::memory_order_relaxed);
		}
	}
	void publish(std::uint32_t next) { value.store(next); }
	void wake()
	{
		if (waited_for.load() && waited_for.exchange(0))
			futex(waited_for, FUTEX_WAKE, INT_MAX);
	}
};

struct ring_state {
	counter produced;
	counter released;
	counter ready; // to be told something by other ways
	std::atomic<pid_t> producer = 0;
};

// Slots that follow each other in memory.
struct run {
	std::uint32_t slot;
	unsigned count;
};

class ring_link : public link {
public:
	explicit ring_link(const shape& of)
		: link(of), stride_((of.bytes + touched_page - 1) / touched_page * touched_page),
		  slots_(std::max(2 * of.batch,
				  static_cast<unsigned>(std::clamp<std::size_t>((256 << 20) / stride_, 4, 64)))),
		  control_(sizeof(ring_state), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS)
	{
		new (control_.bytes().data()) ring_state;
	}
	void open_producer() override { state().producer = ::getpid(); }
	void open_consumer(unsigned) override {}
	void produce(std::uint64_t first, unsigned count) override
	{
		for (unsigned done = 0; done < count;) {
			const run next = free_run(count - done);
			before_writing(next);
			for (unsigned i = 0; i < next.count; i++)
				make(to_write(next.slot + i), first + done + i, done + i);
			after_writing(next);
			done += next.count;
			produced_ += next.count;
			announce(next);
		}
	}
	unsigned consume(std::uint64_t first, unsigned most) override
	{
		give_back();
		held_ = arrived_run(at_a_time(most));
		before_reading(held_);
		for (unsigned i = 0; i < held_.count; i++)
			check_words(received(i), first + i, shape_.how);
		return held_.count;
	}
	void give_back() override
	{
		if (!held_.count)
			return;
		after_reading(held_);
		const unsigned count = std::exchange(held_.count, 0U);
		consumed_ += count;
		announce_release(count);
	}
	[[nodiscard]] std::span<const std::byte> received(unsigned index) const override
	{
		return to_read(held_.slot + index);
	}
	[[nodiscard]] std::uint64_t warm_up() const override { return 2ULL * slots_; }

protected:
	// What makes one mechanism differ from another.
	virtual void before_writing(run) {}
	virtual void after_writing(run) {}
	virtual void before_reading(run) {}
	virtual void after_reading(run) {}
	[[nodiscard]] virtual std::span<std::byte> to_write(std::uint32_t slot) const = 0;
	[[nodiscard]] virtual std::span<const std::byte> to_read(std::uint32_t slot) const = 0;
	// How each side hears of the other; see uring_link for another way.
	virtual void announce(run)
	{
		state().produced.publish(produced_);
		state().produced.wake();
	}
	virtual void wait_for_message() { state().produced.wait_beyond(consumed_); }
	virtual std::uint32_t produced_by_now() { return state().produced.value.load(std::memory_order_acquire); }
	virtual void announce_release(unsigned)
	{
		state().released.publish(consumed_);
		// A producer that waits is woken when there is something to do: as few switches as can be.
		if (state().produced.value.load(std::memory_order_relaxed) - consumed_ <= slots_ / 2)
			state().released.wake();
	}
	virtual void wait_for_room() { state().released.wait_beyond(produced_ - slots_); }
	virtual std::uint32_t released_by_now() { return state().released.value.load(std::memory_order_acquire); }

	[[nodiscard]] ring_state& state() const
	{
		return *std::launder(reinterpret_cast<ring_state*>(control_.bytes().data()));
	}
	[[nodiscard]] std::size_t offset_of(std::uint32_t slot) const { return slot * stride_; }
	[[nodiscard]] std::size_t bytes_of(run which) const { return which.count * stride_; }
	[[nodiscard]] std::size_t all_bytes() const { return slots_ * stride_; }
	[[nodiscard]] bool touches_pages() const { return shape_.how >= touch::page; }
	[[nodiscard]] unsigned slots() const { return slots_; }

private:
	run free_run(unsigned most)
	{
		while (produced_ - released_by_now() == slots_)
			wait_for_room();
		const std::uint32_t slot = produced_ % slots_;
		return {slot, std::min({most, slots_ - (produced_ - released_by_now()), slots_ - slot})};
	}
	run arrived_run(unsigned most)
	{
		while (produced_by_now() == consumed_)
			wait_for_message();
		const std::uint32_t slot = consumed_ % slots_;
		return {slot, std::min({most, produced_by_now() - consumed_, slots_ - slot})};
	}

	std::size_t stride_;
	unsigned slots_;
	mapping control_;
	std::uint32_t produced_ = 0;
	std::uint32_t consumed_ = 0; // and released
	run held_ = {};
};

// Both sides see all slots all the time.
class shared_link : public ring_link {
public:
	explicit shared_link(const shape& of)
		: ring_link(of), memory_(all_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS)
	{
	}

protected:
	[[nodiscard]] std::span<std::byte> to_write(std::uint32_t slot) const override
	{
		return memory_.bytes().subspan(offset_of(slot), shape_.bytes);
	}
	[[nodiscard]] std::span<const std::byte> to_read(std::uint32_t slot) const override { return to_write(slot); }
	void protect(run which, int protection) const
	{
		if (::mprotect(memory_.bytes().data() + offset_of(which.slot), bytes_of(which), protection) < 0)
			die("mprotect");
	}

private:
	mapping memory_;
};

// Each side takes its own rights away: nobody makes it do so.
class mprotect_link : public shared_link {
public:
	using shared_link::shared_link;
	void open_producer() override
	{
		shared_link::open_producer();
		protect({0, slots()}, PROT_READ);
	}
	void open_consumer(unsigned) override { protect({0, slots()}, PROT_NONE); }

protected:
	void before_writing(run which) override { protect(which, PROT_READ | PROT_WRITE); }
	void after_writing(run which) override { protect(which, PROT_READ); }
	void before_reading(run which) override { protect(which, PROT_READ); }
	void after_reading(run which) override { protect(which, PROT_NONE); }
};

// A slot is moved to where its process looks at it, and away again when it is handed over.
class mremap_link : public ring_link {
public:
	explicit mremap_link(const shape& of)
		: ring_link(of),
		  room_(2 * rounded() + big_page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE),
		  file_(checked(::memfd_create("fbuf-bench", MFD_CLOEXEC), "memfd_create"))
	{
		if (::ftruncate(file_.fd(), static_cast<off_t>(all_bytes())) < 0)
			die("ftruncate");
		// Whole tables of entries are moved at once where source and destination are aligned to them.
		const auto start = reinterpret_cast<std::uintptr_t>(room_.bytes().data());
		away_ = room_.bytes().data() + ((big_page - start % big_page) % big_page);
		window_ = away_ + rounded();
	}
	void open_producer() override
	{
		ring_link::open_producer();
		map(PROT_READ | PROT_WRITE);
	}
	void open_consumer(unsigned) override { map(PROT_READ); }

protected:
	[[nodiscard]] std::span<std::byte> to_write(std::uint32_t slot) const override
	{
		return {window_ + offset_of(slot), shape_.bytes};
	}
	[[nodiscard]] std::span<const std::byte> to_read(std::uint32_t slot) const override { return to_write(slot); }
	void before_writing(run which) override { move(which, away_, window_); }
	void after_writing(run which) override { move(which, window_, away_); }
	void before_reading(run which) override { move(which, away_, window_); }
	void after_reading(run which) override { move(which, window_, away_); }

private:
	[[nodiscard]] std::size_t rounded() const { return (all_bytes() + big_page - 1) / big_page * big_page; }
	void map(int protection)
	{
		if (::mmap(away_, all_bytes(), protection, MAP_SHARED | MAP_FIXED, file_.fd(), 0) == MAP_FAILED)
			die("mmap");
	}
	void move(run which, std::byte* from, std::byte* to) const
	{
		const std::size_t at = offset_of(which.slot);
		if (::mremap(from + at, bytes_of(which), bytes_of(which), MREMAP_MAYMOVE | MREMAP_FIXED, to + at) ==
		    MAP_FAILED)
			die("mremap");
	}

	mapping room_;
	descriptor file_;
	std::byte* away_ = nullptr;
	std::byte* window_ = nullptr;
};

// The receiver has a private view, mapped for each message: it may write it, and pays when it does.
class cow_link : public ring_link {
public:
	explicit cow_link(const shape& of)
		: ring_link(of), file_(checked(::memfd_create("fbuf-bench", MFD_CLOEXEC), "memfd_create"))
	{
		if (::ftruncate(file_.fd(), static_cast<off_t>(all_bytes())) < 0)
			die("ftruncate");
	}
	void open_producer() override
	{
		ring_link::open_producer();
		memory_.emplace(all_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, file_.fd());
	}

protected:
	[[nodiscard]] std::span<std::byte> to_write(std::uint32_t slot) const override
	{
		return memory_->bytes().subspan(offset_of(slot), shape_.bytes);
	}
	[[nodiscard]] std::span<const std::byte> to_read(std::uint32_t slot) const override
	{
		return memory_->bytes().subspan(offset_of(slot - mapped_), shape_.bytes);
	}
	void before_reading(run which) override
	{
		mapped_ = which.slot;
		memory_.emplace(bytes_of(which), PROT_READ | PROT_WRITE, MAP_PRIVATE, file_.fd(),
				static_cast<off_t>(offset_of(which.slot)));
	}
	void after_reading(run) override { memory_.reset(); }

private:
	descriptor file_;
	std::optional<mapping> memory_;
	std::uint32_t mapped_ = 0;
};

// The receiver copies from the sender's memory, all that is there with one call.
class vm_readv_link : public ring_link {
public:
	explicit vm_readv_link(const shape& of)
		: ring_link(of), memory_(all_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS),
		  buffer_(of.bytes * of.batch)
	{
	}
	void open_producer() override
	{
		ring_link::open_producer();
		// Where Yama lets only parents read.
		(void)::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
	}
	[[nodiscard]] std::span<const std::byte> received(unsigned index) const override
	{
		return std::span(buffer_).subspan(index * shape_.bytes, shape_.bytes);
	}

protected:
	[[nodiscard]] std::span<std::byte> to_write(std::uint32_t slot) const override
	{
		return memory_.bytes().subspan(offset_of(slot), shape_.bytes);
	}
	[[nodiscard]] std::span<const std::byte> to_read(std::uint32_t) const override { return buffer_; }
	void before_reading(run which) override
	{
		remote_.clear();
		for (unsigned i = 0; i < which.count; i++) {
			const auto there = to_write(which.slot + i);
			remote_.push_back({there.data(), there.size()});
		}
		const iovec local = {buffer_.data(), which.count * shape_.bytes};
		const ssize_t n = ::process_vm_readv(state().producer, &local, 1, remote_.data(), remote_.size(), 0);
		if (n < 0)
			die("process_vm_readv");
		for (auto done = static_cast<std::size_t>(n); done < local.iov_len;)
			done += read_more(which, done);
	}

private:
	// A call moves at most 2 GiB, and may move less.
	std::size_t read_more(run which, std::size_t done)
	{
		const std::size_t within = done % shape_.bytes;
		const auto there = to_write(which.slot + static_cast<unsigned>(done / shape_.bytes)).subspan(within);
		const iovec remote = {there.data(), there.size()};
		const iovec local = {buffer_.data() + done, there.size()};
		const ssize_t n = ::process_vm_readv(state().producer, &local, 1, &remote, 1, 0);
		if (n <= 0)
			die("process_vm_readv");
		return static_cast<std::size_t>(n);
	}

	mapping memory_;
	std::vector<std::byte> buffer_;
	std::vector<iovec> remote_;
};

// The same shared slots, but each side hears of the other through its ring of io_uring.
class uring_link : public shared_link {
public:
	explicit uring_link(const shape& of) : shared_link(of), producer_(entries, true), consumer_(entries, true) {}
	void open_producer() override
	{
		shared_link::open_producer();
		own_ = &producer_;
		peer_ = &consumer_;
		own_->enable();
		// A ring that is not enabled yet takes no message.
		state().ready.wait_beyond(0);
	}
	void open_consumer(unsigned) override
	{
		own_ = &consumer_;
		peer_ = &producer_;
		own_->enable();
		state().ready.publish(1);
		state().ready.wake();
	}

protected:
	void announce(run which) override { tell(which.count); }
	void wait_for_message() override { listen(true); }
	std::uint32_t produced_by_now() override { return listen(false); }
	// Every half ring: the producer need not hear of each.
	void announce_release(unsigned count) override
	{
		unsaid_ += count;
		if (unsaid_ >= slots() / 2)
			tell(std::exchange(unsaid_, 0U));
	}
	void wait_for_room() override { listen(true); }
	std::uint32_t released_by_now() override { return listen(false); }

private:
	static constexpr unsigned entries = 256;

	void tell(unsigned count)
	{
		io_uring_sqe& entry = own_->prepare();
		entry.opcode = IORING_OP_MSG_RING;
		entry.flags = IOSQE_CQE_SKIP_SUCCESS;
		entry.fd = peer_->fd();
		entry.len = count;
		own_->submit();
	}
	std::uint32_t listen(bool wait)
	{
		if (wait)
			own_->submit_and_wait();
		while (const auto told = own_->next()) {
			if (told->result < 0) {
				errno = -told->result;
				die("IORING_OP_MSG_RING");
			}
			heard_ += static_cast<std::uint32_t>(told->result);
		}
		return heard_;
	}

	uring producer_;
	uring consumer_;
	uring* own_ = nullptr;
	uring* peer_ = nullptr;
	std::uint32_t heard_ = 0; // of what the other side has done
	unsigned unsaid_ = 0;
};

template <typename Link>
std::unique_ptr<link> make_one(const shape& of)
{
	return std::make_unique<Link>(of);
}

struct kind {
	const char* name;
	std::unique_ptr<link> (*make)(const shape& of);
};

constexpr kind kinds[] = {
	{"shm-futex", make_one<shared_link>}, {"uring-msg", make_one<uring_link>},
	{"mremap", make_one<mremap_link>},    {"mprotect", make_one<mprotect_link>},
	{"cow", make_one<cow_link>},	      {"process-vm-readv", make_one<vm_readv_link>},
};

} // namespace

std::unique_ptr<link> make_ring_link(const std::string& mechanism, const shape& of)
{
	const auto* const found = std::ranges::find(kinds, mechanism, &kind::name);
	return found == std::end(kinds) ? nullptr : found->make(of);
}

} // namespace bench
