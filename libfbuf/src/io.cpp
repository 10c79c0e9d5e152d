// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "state.hpp"

#include <fbuf/io.hpp>

#include <algorithm>
#include <deque>
#include <sys/socket.h>
#include <unordered_map>

namespace fbuf {

std::string_view detail::reason_text(std::uint32_t reason)
{
	switch (reason) {
	case FBUFS_IO_PAGE_CACHE: return "files copy through the page cache unless opened with O_DIRECT";
	case FBUFS_IO_NO_REFERENCES: return "this kind of descriptor only copies";
	case FBUFS_IO_TRANSFORMED: return "kTLS or a BPF program changes the bytes";
	case FBUFS_IO_NO_SCATTER_GATHER: return "the network device cannot gather pages";
	case FBUFS_IO_NOT_FBUFS: return "what arrived was not whole pages of fbufs";
	default: return {};
	}
}

namespace {

constexpr std::size_t completion_room = 32;

std::size_t whole_pages(std::size_t bytes)
{
	return (bytes + 4095) & ~std::size_t{4095};
}

fbufs_io_op make_op(int fd, fbufs_io_opcode opcode, std::uint64_t offset)
{
	fbufs_io_op op = {};
	op.offset = offset;
	op.fd = fd;
	op.opcode = opcode;
	op.end = -1;
	return op;
}

fbufs_io_op write_op(int fd, const write_options& how, std::size_t slices)
{
	fbufs_io_op op = make_op(fd, FBUFS_IO_WRITE, how.offset);
	op.flags = (how.append ? FBUFS_IO_APPEND : 0) | (how.give ? FBUFS_IO_GIVE : 0);
	op.address = sys::pointer(how.address);
	op.address_length = how.address_length;
	op.slices = static_cast<std::uint32_t>(slices);
	return op;
}

fbufs_io_op read_op(int fd, std::size_t bytes, const read_options& how)
{
	fbufs_io_op op = make_op(fd, FBUFS_IO_READ, how.offset);
	op.flags = (how.all ? FBUFS_IO_ALL : 0) | (how.copy ? FBUFS_IO_COPY : 0);
	op.address = sys::pointer(how.address);
	op.length = bytes;
	op.end = how.channel ? how.channel->fd() : -1;
	return op;
}

fbufs_slice make_slice(std::uint64_t fbuf, std::uint64_t hold, std::size_t offset, std::size_t length)
{
	return {.fbuf = fbuf,
		.hold = hold,
		.position = 0,
		.offset = static_cast<std::uint32_t>(offset),
		.length = static_cast<std::uint32_t>(length)};
}

} // namespace

// An operation that the module has not reported yet, and afterwards its outcome.
struct in_flight {
	std::uint64_t cookie = 0;
	bool synchronous = false;
	bool done = false;
	bool gives = false;
	bool borrows = false;		       // held messages are part of it
	buffer own;			       // writing: gone with success if it gives, else it comes back
	aggregate parts{0};		       // writing: gone with success
	detail::buffer_cache* cache = nullptr; // reading: where the buffer belongs
	std::size_t bytes = 0;		       // reading: asked for
	std::size_t copied = 0;		       // writing: bytes that went before, by send_copy()
	completion outcome;
};

struct io::engine {
	explicit engine(detail::domain_state* of) : domain(of) {}

	detail::domain_state* domain;
	std::uint64_t next_id = 1;
	std::unordered_map<std::uint64_t, in_flight> flying;
	std::deque<completion> ready;
	std::vector<fbufs_completion> completions = std::vector<fbufs_completion>(completion_room);
	std::vector<fbufs_slice> slices = std::vector<fbufs_slice>(FBUFS_MAX_SLICES);
	std::size_t copied_below = 0;

	result<std::size_t> send_copy(int fd, std::span<iovec> parts, std::size_t bytes, const write_options& how);
	result<std::size_t> send_copy(int fd, const buffer& own, std::size_t length, const write_options& how);
	result<std::size_t> send_copy(int fd, const message& held, const write_options& how);
	void complete(buffer&& own, std::uint64_t cookie, const result<std::size_t>& copied, bool gives);
	result<in_flight*> submit(fbufs_io_op op, std::span<const fbufs_slice> from, in_flight&& entry);
	result<transferred> write_and_wait(const fbufs_io_op& op, std::span<const fbufs_slice> from, in_flight&& entry,
					   buffer* back, bool* submitted = nullptr);
	result<void> progress(std::uint32_t wait);
	result<completion> finish(in_flight* entry, std::uint64_t id);
	result<std::size_t> call(fbufs_io& args);
	void report(const fbufs_completion& from, const fbufs_slice* slices);
	result<void> fill(message& to, const fbufs_completion& from, const fbufs_slice* next);
};

// The one call of the module: submits what args says and takes completions in.
result<std::size_t> io::engine::call(fbufs_io& args)
{
	args.completions = sys::pointer(completions.data());
	args.room = static_cast<std::uint32_t>(completions.size());
	args.out_slices = sys::pointer(slices.data());
	args.slices_room = static_cast<std::uint32_t>(slices.size());
	const long done = sys::call(domain->fd(), FBUFS_IO, &args);
	if (done < 0)
		return sys::failure(static_cast<int>(-done));
	const fbufs_slice* next = slices.data();
	for (std::uint32_t i = 0; i < args.out_completed; i++) {
		report(completions[i], next);
		next += completions[i].slices;
	}
	return static_cast<std::size_t>(done);
}

result<void> io::engine::fill(message& to, const fbufs_completion& from, const fbufs_slice* next)
{
	to.domain_ = domain;
	to.handle_ = from.message;
	to.cookie_ = from.cookie;
	to.length_ = static_cast<std::uint64_t>(from.result);
	to.count_ = from.slices;
	to.locked_ = true;
	slice* place = &to.one_;
	if (from.slices > 1) {
		to.more_ = std::make_unique<slice[]>(from.slices);
		place = to.more_.get();
	}
	for (std::uint32_t i = 0; i < from.slices; i++, next++, place++) {
		const auto base = domain->locate(next->position);
		if (!base)
			return std::unexpected(base.error());
		*place = {{*base, next->length}, next->fbuf, next->offset};
	}
	return {};
}

void io::engine::report(const fbufs_completion& from, const fbufs_slice* next)
{
	const auto found = flying.find(from.cookie);
	if (found == flying.end())
		return; // of an io object that is gone
	in_flight& entry = found->second;
	completion& to = entry.outcome;
	to.cookie = entry.cookie;
	if (from.result < 0 && !entry.copied)
		to.error = std::error_code(static_cast<int>(-from.result), std::generic_category());
	to.bytes = entry.copied + static_cast<std::uint64_t>(std::max(from.result, __s64{0}));
	to.copied = entry.copied + from.copied;
	to.zero_copy = from.flags & FBUFS_IO_ZEROCOPY;
	to.fallback = from.flags & FBUFS_IO_FALLBACK;
	to.why = detail::reason_text(from.reason);
	to.end = from.flags & FBUFS_IO_END;
	to.truncated = from.flags & FBUFS_IO_TRUNCATED;
	to.address_length = from.address_length;
	if (entry.own && entry.gives && !to.error)
		entry.own.cache_ = nullptr;
	if (entry.own)
		to.own = std::move(entry.own);
	if (!to.error || entry.borrows)
		entry.parts.sent();
	if (from.fbuf)
		to.own = entry.cache->adopt(from.fbuf, from.position, whole_pages(entry.bytes));
	if (from.message)
		if (const auto filled = fill(to.held, from, next); !filled)
			to.error = filled.error();
	entry.done = true;
	if (!entry.synchronous) {
		ready.push_back(std::move(to));
		flying.erase(found);
	}
}

result<in_flight*> io::engine::submit(fbufs_io_op op, std::span<const fbufs_slice> from, in_flight&& entry)
{
	const std::uint64_t id = next_id++;
	op.cookie = id;
	in_flight& place = flying.emplace(id, std::move(entry)).first->second;
	const bool synchronous = place.synchronous;
	auto args = sys::sized<fbufs_io>();
	args.ops = sys::pointer(&op);
	args.slices = sys::pointer(from.data());
	args.nops = 1;
	args.nslices = static_cast<std::uint32_t>(from.size());
	// In the same call: who waits need not come back for it. A signal ends that wait early.
	args.wait = synchronous;
	if (auto done = call(args); !done) {
		entry = std::move(place);
		flying.erase(id);
		return std::unexpected(done.error());
	}
	// What is not synchronous may be reported, and gone, by now.
	return synchronous ? &place : nullptr;
}

result<void> io::engine::progress(std::uint32_t wait)
{
	auto args = sys::sized<fbufs_io>();
	args.wait = wait;
	if (auto done = call(args); !done)
		return std::unexpected(done.error());
	return {};
}

result<completion> io::engine::finish(in_flight* entry, std::uint64_t id)
{
	while (!entry->done) {
		if (auto more = progress(1); !more && more.error() != std::errc::interrupted)
			return std::unexpected(more.error());
		else if (!more && !entry->done) {
			// A signal: what waits is given up, so that the buffer is the caller's again.
			auto args = sys::sized<fbufs_cancel>();
			args.cookie = id;
			if (sys::call(domain->fd(), FBUFS_CANCEL, &args) < 0)
				continue;
		}
	}
	completion outcome = std::move(entry->outcome);
	flying.erase(id);
	return outcome;
}

result<transferred> io::engine::write_and_wait(const fbufs_io_op& op, std::span<const fbufs_slice> from,
					       in_flight&& entry, buffer* back, bool* submitted)
{
	entry.synchronous = true;
	auto flies = submit(op, from, std::move(entry));
	if (!flies) {
		if (back)
			*back = std::move(entry.own);
		return std::unexpected(flies.error());
	}
	if (submitted)
		*submitted = true;
	auto outcome = finish(*flies, next_id - 1);
	if (!outcome)
		return std::unexpected(outcome.error());
	if (back && outcome->own)
		*back = std::move(outcome->own);
	if (outcome->error)
		return std::unexpected(outcome->error);
	return static_cast<const transferred&>(*outcome);
}

void io::engine_delete::operator()(engine* which) const noexcept
{
	for (auto& [id, entry] : which->flying) {
		auto args = sys::sized<fbufs_cancel>();
		args.cookie = id;
		(void)sys::call(which->domain->fd(), FBUFS_CANCEL, &args);
	}
	(void)which->progress(0);
	// What the kernel still works on is not to be used again; it ends with the domain.
	for (auto& [id, entry] : which->flying) {
		entry.own.cache_ = nullptr;
		entry.parts.sent();
	}
	delete which;
}

io::io(domain& of) : engine_(new engine(of.state_.get())) {}
io::io(io&&) noexcept = default;
io& io::operator=(io&&) noexcept = default;
io::~io() = default;

// --- writing -----------------------------------------------------------------------

void io::copy_below(std::size_t bytes) noexcept
{
	engine_->copied_below = bytes;
}

// As send(2): how many bytes the socket took; 0 when it is to be tried with references. What is under way
// must not be overtaken.
result<std::size_t> io::engine::send_copy(int fd, std::span<iovec> parts, std::size_t bytes, const write_options& how)
{
	if (bytes >= copied_below || !flying.empty() || how.offset != here || how.append)
		return 0;
	msghdr message = {};
	message.msg_name = const_cast<void*>(how.address);
	message.msg_namelen = how.address_length;
	message.msg_iov = parts.data();
	message.msg_iovlen = parts.size();
	const ssize_t n = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n >= 0)
		return static_cast<std::size_t>(n);
	// No socket, or one that is full.
	if (errno == ENOTSOCK || errno == EAGAIN || errno == EINTR)
		return 0;
	return sys::last_failure();
}

result<std::size_t> io::engine::send_copy(int fd, const buffer& own, std::size_t length, const write_options& how)
{
	// Only the module knows whether one that was lent is home.
	if (own.lent_)
		return 0;
	iovec memory = {own.data().data(), length};
	return send_copy(fd, {&memory, 1}, length, how);
}

result<std::size_t> io::engine::send_copy(int fd, const message& held, const write_options& how)
{
	std::vector<iovec> parts;
	if (held.length() < copied_below)
		for (const slice& each : held.slices())
			parts.push_back({const_cast<std::byte*>(each.data.data()), each.data.size()});
	return send_copy(fd, parts, held.length(), how);
}

void io::engine::complete(buffer&& own, std::uint64_t cookie, const result<std::size_t>& copied, bool gives)
{
	completion& to = ready.emplace_back();
	buffer done = std::move(own);
	to.cookie = cookie;
	to.bytes = to.copied = copied.value_or(0);
	if (!copied)
		to.error = copied.error();
	if (!copied || !gives)
		to.own = std::move(done);
}

namespace {

transferred all_copied(std::size_t bytes)
{
	return {.bytes = bytes, .copied = bytes};
}

// What became of the rest, and the bytes that were copied before. Its error is met again.
result<transferred> after_copy(std::size_t copied, result<transferred>&& rest)
{
	if (copied == 0)
		return rest;
	transferred all = rest ? *rest : transferred{};
	all.bytes += copied;
	all.copied += copied;
	return all;
}

} // namespace

result<transferred> io::write(int fd, buffer& own, std::size_t length, const write_options& how)
{
	if (!own || length == 0 || length > own.size())
		return sys::failure(ERANGE);
	const auto copied = engine_->send_copy(fd, own, length, how);
	if (!copied)
		return std::unexpected(copied.error());
	if (*copied == length)
		return all_copied(length);
	const fbufs_slice slice = make_slice(own.handle_, 0, *copied, length - *copied);
	in_flight entry;
	entry.own = std::move(own);
	write_options keep = how;
	keep.give = false;
	return after_copy(*copied, engine_->write_and_wait(write_op(fd, keep, 1), {&slice, 1}, std::move(entry), &own));
}

result<transferred> io::write(int fd, buffer&& own, std::size_t length, write_options how)
{
	if (!own || length == 0 || length > own.size())
		return sys::failure(ERANGE);
	const auto copied = engine_->send_copy(fd, own, length, how);
	if (!copied)
		return std::unexpected(copied.error());
	if (*copied == length) {
		own = {};
		return all_copied(length);
	}
	const fbufs_slice slice = make_slice(own.handle_, 0, *copied, length - *copied);
	how.give = true;
	auto done = engine_->write_and_wait(write_op(fd, how, 1), {&slice, 1}, in_flight(), nullptr);
	if (done)
		own.cache_ = nullptr;
	else if (*copied)
		own = {};
	return after_copy(*copied, std::move(done));
}

result<transferred> io::write(int fd, aggregate&& message, write_options how)
{
	std::vector<fbufs_slice> slices;
	for (const auto& part : message.parts())
		slices.push_back(make_slice(part.fbuf, part.hold, part.offset, part.length));
	how.give = true;
	bool submitted = false, borrows = false;
	for (const auto& part : message.parts())
		borrows |= part.hold != 0;
	auto done = engine_->write_and_wait(write_op(fd, how, slices.size()), slices, in_flight(), nullptr, &submitted);
	// With held messages among them, own buffers go home even when nothing was accepted.
	if (done || (submitted && borrows))
		message.sent();
	return done;
}

result<transferred> io::write(int fd, const message& held, const write_options& how)
{
	const auto copied = engine_->send_copy(fd, held, how);
	if (!copied)
		return std::unexpected(copied.error());
	if (*copied == held.length())
		return all_copied(*copied);
	std::vector<fbufs_slice> slices;
	std::size_t skip = *copied;
	for (const slice& each : held.slices()) {
		const std::size_t before = std::min(skip, each.data.size());
		if (before < each.data.size())
			slices.push_back(
				make_slice(each.fbuf, held.handle_, each.offset + before, each.data.size() - before));
		skip -= before;
	}
	write_options given = how;
	given.give = true;
	return after_copy(*copied,
			  engine_->write_and_wait(write_op(fd, given, slices.size()), slices, in_flight(), nullptr));
}

result<void> io::submit_write(int fd, buffer&& own, std::size_t length, std::uint64_t cookie, const write_options& how)
{
	if (!own || length == 0 || length > own.size())
		return sys::failure(ERANGE);
	const auto copied = engine_->send_copy(fd, own, length, how);
	if (!copied || *copied == length) {
		engine_->complete(std::move(own), cookie, copied, how.give);
		return {};
	}
	in_flight entry;
	entry.cookie = cookie;
	const fbufs_slice slice = make_slice(own.handle_, 0, *copied, length - *copied);
	entry.copied = *copied;
	entry.gives = how.give;
	entry.own = std::move(own);
	auto flies = engine_->submit(write_op(fd, how, 1), {&slice, 1}, std::move(entry));
	if (!flies && *copied == 0) {
		own = std::move(entry.own);
		return std::unexpected(flies.error());
	}
	// What was copied is sent, and its error is met again.
	if (!flies)
		engine_->complete(std::move(entry.own), cookie, copied, how.give);
	return {};
}

result<void> io::submit_write(int fd, aggregate&& message, std::uint64_t cookie, const write_options& how)
{
	std::vector<fbufs_slice> slices;
	for (const auto& part : message.parts())
		slices.push_back(make_slice(part.fbuf, part.hold, part.offset, part.length));
	write_options given = how;
	given.give = true;
	in_flight entry;
	entry.cookie = cookie;
	for (const auto& part : message.parts())
		entry.borrows |= part.hold != 0;
	entry.parts = std::move(message);
	auto flies = engine_->submit(write_op(fd, given, slices.size()), slices, std::move(entry));
	if (!flies) {
		message = std::move(entry.parts);
		return std::unexpected(flies.error());
	}
	return {};
}

// --- reading -----------------------------------------------------------------------

namespace {

detail::buffer_cache* cache_for(detail::domain_state* domain, sender* channel)
{
	return channel ? domain->find_cache(channel->fd()) : domain->loose_cache();
}

} // namespace

result<void> io::submit_read(int fd, std::size_t bytes, std::uint64_t cookie, const read_options& how)
{
	in_flight entry;
	entry.cookie = cookie;
	entry.cache = cache_for(engine_->domain, how.channel);
	entry.bytes = bytes;
	auto flies = engine_->submit(read_op(fd, bytes, how), {}, std::move(entry));
	if (!flies)
		return std::unexpected(flies.error());
	return {};
}

result<obtained> io::read(int fd, std::size_t bytes, const read_options& how)
{
	in_flight entry;
	entry.synchronous = true;
	entry.cache = cache_for(engine_->domain, how.channel);
	entry.bytes = bytes;
	auto flies = engine_->submit(read_op(fd, bytes, how), {}, std::move(entry));
	if (!flies)
		return std::unexpected(flies.error());
	auto outcome = engine_->finish(*flies, engine_->next_id - 1);
	if (!outcome)
		return std::unexpected(outcome.error());
	if (outcome->error)
		return std::unexpected(outcome->error);
	return obtained(static_cast<obtained&&>(*outcome));
}

// --- waiting -----------------------------------------------------------------------

result<std::size_t> io::wait(std::span<completion> out, std::size_t least)
{
	engine& use = *engine_;
	least = std::min(least, out.size());
	while (use.ready.size() < least && !use.flying.empty())
		if (auto more = use.progress(1); !more)
			return std::unexpected(more.error());
	if (use.ready.empty() && !use.flying.empty())
		if (auto more = use.progress(0); !more)
			return std::unexpected(more.error());
	std::size_t count = 0;
	for (; count < out.size() && !use.ready.empty(); count++) {
		out[count] = std::move(use.ready.front());
		use.ready.pop_front();
	}
	return count;
}

result<std::size_t> io::cancel(std::uint64_t cookie)
{
	std::size_t count = 0;
	for (const auto& [id, entry] : engine_->flying) {
		if (entry.cookie != cookie || entry.done)
			continue;
		auto args = sys::sized<fbufs_cancel>();
		args.cookie = id;
		if (sys::call(engine_->domain->fd(), FBUFS_CANCEL, &args) > 0)
			count++;
	}
	return count;
}

std::size_t io::pending() const noexcept
{
	return engine_->flying.size() + engine_->ready.size();
}

int io::fd() const noexcept
{
	return engine_->domain->fd();
}

// --- taking over -------------------------------------------------------------------

result<taken_over> make_mutable(domain& which, message&& held)
{
	detail::domain_state* state = which.state_.get();
	if (!held || held.domain_ != state)
		return sys::failure(ENOENT);
	auto args = sys::sized<fbufs_make_mutable>();
	args.message = held.handle_;
	const std::size_t most = held.slices().empty() ? 0 : held.slices()[0].offset + held.slices()[0].data.size();
	if (const long done = sys::call(state->fd(), FBUFS_MAKE_MUTABLE, &args); done < 0)
		return sys::failure(static_cast<int>(-done));
	held.forget();
	taken_over what;
	what.offset = args.out_offset;
	what.length = args.out_length;
	what.copied = args.out_how == FBUFS_MUTABLE_COPIED;
	what.own = state->loose_cache()->adopt(args.out_fbuf, args.out_position, whole_pages(most));
	return what;
}

} // namespace fbuf
