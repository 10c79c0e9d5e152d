// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "state.hpp"

#include <fbuf/channel.hpp>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>

namespace fbuf {

namespace {

// A message that the module copies, and where from.
fbufs_message copied_message(std::uint64_t cookie)
{
	return {.message = 0, .cookie = cookie, .length = 0, .slices = 1, .flags = FBUFS_MESSAGE_COPY};
}

fbufs_slice copied_slice(std::span<const std::byte> bytes)
{
	fbufs_slice slice = {};
	slice.address = sys::pointer(bytes.data());
	slice.length = static_cast<std::uint32_t>(bytes.size());
	return slice;
}

// A copied message is in what was sent.
void count_copied(sent& what, std::size_t bytes)
{
	what.bytes_copied += bytes;
	what.messages_copied++;
}

static_assert(sender::most_copied == FBUFS_MAX_COPY);

// What is to be copied finds the pool full when all of it is at hand here: then that is given up.
long send_call(int fd, fbufs_send& args, detail::buffer_cache& cache)
{
	const long done = sys::call(fd, FBUFS_SEND, &args);
	return done == -ENOBUFS && cache.drop_ready() ? sys::call(fd, FBUFS_SEND, &args) : done;
}

result<void> change_nonblocking(int fd, bool nonblocking)
{
	const int flags = ::fcntl(fd, F_GETFL);
	if (flags < 0 || ::fcntl(fd, F_SETFL, nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0)
		return sys::last_failure();
	return {};
}

} // namespace

// --- ends --------------------------------------------------------------------------

endpoint::~endpoint()
{
	if (fd_ >= 0)
		::close(fd_);
}

result<endpoint::information> endpoint::info() const
{
	auto args = sys::sized<fbufs_end_info>();
	if (const long done = sys::call(fd_, FBUFS_END_INFO, &args); done < 0)
		return sys::failure(static_cast<int>(-done));
	return information{
		.channel = args.out_channel,
		.end = args.out_sending ? role::sender : role::receiver,
		.secure = !(args.out_mode & FBUFS_CHANNEL_VOLATILE),
		.cached = !(args.out_mode & FBUFS_CHANNEL_UNCACHED),
		.depth = args.out_depth,
		.receivers = args.out_receivers,
		.queued = args.out_queued,
		.attached = args.out_attached != 0,
		.hung_up = args.out_hangup != 0,
	};
}

// --- sending -----------------------------------------------------------------------

struct sender::scratch {
	std::vector<fbufs_message> messages;
	std::vector<fbufs_slice> slices;
	// So many of the first of them are as most are: of one slice and without a wish, so that only the cookie, the
	// fbuf and the length are their own.
	std::size_t usual = 0;
	std::vector<fbufs_buffer> fresh;
	std::vector<buffer> filled;

	void clear()
	{
		messages.clear();
		slices.clear();
		usual = 0;
	}
	void make_usual(std::size_t count)
	{
		messages.resize(count);
		slices.resize(count);
		for (std::size_t i = usual; i < count; i++) {
			messages[i] = {.message = 0, .cookie = 0, .length = 0, .slices = 1, .flags = 0};
			slices[i] = {};
		}
		usual = count;
	}
};

void sender::scratch_delete::operator()(scratch* which) const noexcept
{
	delete which;
}

sender::sender(detail::domain_state* domain, endpoint&& end)
	: domain_(domain), cache_(domain->make_cache(end.fd())), end_(std::move(end)), scratch_(new scratch)
{
}

sender::~sender()
{
	if (cache_)
		cache_->close();
}

result<buffer> sender::allocate(std::size_t bytes)
{
	return cache_->take(bytes);
}

result<std::size_t> sender::allocate(std::size_t bytes, std::span<packet> out)
{
	std::size_t count = cache_->take_ready(bytes, out);
	for (; count < out.size(); count++) {
		auto one = cache_->take(bytes, out.size() - count, count == 0);
		if (!one && count == 0)
			return std::unexpected(one.error());
		if (!one)
			break;
		out[count].own = std::move(*one);
		out[count].length = bytes;
	}
	return count;
}

// What a call is told of one message of one slice, and where it puts fbufs for the cache.
struct sender::single {
	single(const buffer& own, std::size_t length, std::uint64_t cookie, std::uint32_t flags)
		: message{.message = 0, .cookie = cookie, .length = 0, .slices = 1, .flags = flags},
		  slice{.fbuf = own.handle_,
			.hold = 0,
			.position = 0,
			.offset = 0,
			.length = static_cast<std::uint32_t>(length)}
	{
	}
	// Up to @wanted fbufs of @bytes are to come back.
	void put_into(fbufs_send& args, std::size_t bytes, std::size_t wanted)
	{
		args.messages = sys::pointer(&message);
		args.slices = sys::pointer(&slice);
		args.count = 1;
		args.nslices = 1;
		args.refill = sys::pointer(&fresh[0]);
		args.refill_bytes = bytes;
		args.refill_count = static_cast<std::uint32_t>(std::min(wanted, std::size(fresh)));
	}

	fbufs_message message;
	fbufs_slice slice;
	fbufs_buffer fresh[4];
};

// One message of one slice; then up to @wanted fbufs of the same length for the cache.
result<sent> sender::send_one(const buffer& own, std::size_t length, std::uint64_t cookie, std::uint32_t flags,
			      std::uint64_t wanted)
{
	if (!own || length == 0 || length > own.size())
		return sys::failure(ERANGE);
	single one(own, length, cookie, flags);
	auto args = sys::sized<fbufs_send>();
	one.put_into(args, own.size_, wanted);
	const long done = sys::call(end_.fd(), FBUFS_SEND, &args);
	if (done < 0)
		return sys::failure(static_cast<int>(-done));
	if (args.out_refilled)
		cache_->refill({one.fresh, args.out_refilled}, own.size_);
	return sent{.messages = 1, .bytes = length};
}

// One message out of memory of any kind.
result<sent> sender::send_copy(std::span<const std::byte> bytes, std::uint64_t cookie)
{
	const fbufs_message message = copied_message(cookie);
	const fbufs_slice slice = copied_slice(bytes);
	auto args = sys::sized<fbufs_send>();
	args.messages = sys::pointer(&message);
	args.slices = sys::pointer(&slice);
	args.count = 1;
	args.nslices = 1;
	const long done = send_call(end_.fd(), args, *cache_);
	if (done < 0)
		return sys::failure(static_cast<int>(-done));
	sent what{.messages = 1, .bytes = bytes.size()};
	count_copied(what, bytes.size());
	return what;
}

result<sent> sender::send(buffer&& own, std::size_t length, std::uint64_t cookie)
{
	if (copies(own, length) && own && length > 0 && length <= own.size()) {
		auto copied = send_copy(own.data().first(length), cookie);
		if (copied)
			own.give_back();
		return copied;
	}
	auto done = send_one(own, length, cookie, 0, cache_->wanted(2));
	if (done)
		own.cache_ = nullptr;
	return done;
}

result<sent> sender::lend(buffer& own, std::size_t length, std::uint64_t cookie)
{
	auto done = send_one(own, length, cookie, FBUFS_MESSAGE_NOTICE | FBUFS_MESSAGE_LEND, 0);
	if (done)
		own.lent_ = true;
	return done;
}

// Send what is in the scratch area. Returns how many messages.
result<std::size_t> sender::transmit(std::size_t refill_bytes)
{
	scratch& use = *scratch_;
	// As many as go: the next vector is likely to be as long.
	use.fresh.resize(refill_bytes ? cache_->wanted(std::min(use.messages.size(), detail::buffer_cache::most_ahead))
				      : 0);
	auto args = sys::sized<fbufs_send>();
	args.messages = sys::pointer(use.messages.data());
	args.slices = sys::pointer(use.slices.data());
	args.count = static_cast<std::uint32_t>(use.messages.size());
	args.nslices = static_cast<std::uint32_t>(use.slices.size());
	args.refill = sys::pointer(use.fresh.data());
	args.refill_bytes = refill_bytes;
	args.refill_count = static_cast<std::uint32_t>(use.fresh.size());
	const long done = send_call(end_.fd(), args, *cache_);
	if (done < 0)
		return sys::failure(static_cast<int>(-done));
	if (args.out_refilled)
		cache_->refill(std::span(use.fresh).first(args.out_refilled), refill_bytes);
	return static_cast<std::size_t>(done);
}

result<sent> sender::send(std::span<aggregate> messages)
{
	scratch& use = *scratch_;
	use.clear();
	for (const aggregate& each : messages) {
		const auto parts = each.parts();
		fbufs_message message = {};
		message.cookie = each.cookie_;
		message.slices = static_cast<std::uint32_t>(parts.size());
		message.flags = each.notice_ ? FBUFS_MESSAGE_NOTICE : 0;
		use.messages.push_back(message);
		for (const auto& part : parts)
			use.slices.push_back({part.fbuf, part.hold, 0, part.offset, part.length});
	}
	const auto done = transmit(cache_->bytes());
	if (!done)
		return std::unexpected(done.error());
	sent what{.messages = *done};
	for (aggregate& each : messages.first(*done)) {
		what.bytes += each.length();
		each.sent();
	}
	return what;
}

result<sent> sender::send(std::span<packet> messages)
{
	scratch& use = *scratch_;
	use.make_usual(messages.size());
	fbufs_message* message = use.messages.data();
	fbufs_slice* slice = use.slices.data();
	for (const packet& from : messages) {
		if (!from.own || from.length == 0 || from.length > from.own.size())
			return sys::failure(ERANGE);
		if (copies(from.own, from.length)) {
			*message++ = copied_message(from.cookie);
			*slice++ = copied_slice(from.own.data().first(from.length));
			use.usual = 0;
			continue;
		}
		message->cookie = from.cookie;
		slice->fbuf = from.own.handle_;
		slice->length = static_cast<std::uint32_t>(from.length);
		message++;
		slice++;
	}
	const auto done = transmit(cache_->bytes());
	if (!done)
		return std::unexpected(done.error());
	sent what{.messages = *done};
	for (packet& each : messages.first(*done)) {
		what.bytes += each.length;
		if (copies(each.own, each.length)) {
			count_copied(what, each.length);
			each.own.give_back();
		}
		each.own.cache_ = nullptr;
	}
	return what;
}

result<sent> sender::send(std::span<const std::byte> bytes, std::uint64_t cookie)
{
	if (bytes.empty())
		return sys::failure(ERANGE);
	if (copies(bytes.size()))
		return send_copy(bytes, cookie);
	auto own = allocate(bytes.size());
	if (!own)
		return std::unexpected(own.error());
	std::ranges::copy(bytes, own->data().begin());
	auto done = send_one(*own, bytes.size(), cookie, 0, cache_->wanted(2));
	if (done) {
		own->cache_ = nullptr;
		done->bytes_copied = bytes.size();
	}
	return done;
}

// What is handed over gets an fbuf each, as long as there are some; what follows is left to the caller.
result<sent> sender::send_some(std::span<const plain> messages)
{
	scratch& use = *scratch_;
	use.clear();
	use.filled.clear();
	for (const plain& each : messages) {
		if (copies(each.data.size())) {
			use.messages.push_back(copied_message(each.cookie));
			use.slices.push_back(copied_slice(each.data));
			continue;
		}
		auto own = cache_->take(each.data.size(), 0, use.messages.empty());
		if (!own && use.messages.empty())
			return std::unexpected(own.error());
		if (!own)
			break;
		std::ranges::copy(each.data, own->data().begin());
		use.messages.push_back({.message = 0, .cookie = each.cookie, .length = 0, .slices = 1, .flags = 0});
		use.slices.push_back({.fbuf = own->handle_,
				      .hold = 0,
				      .position = 0,
				      .offset = 0,
				      .length = static_cast<std::uint32_t>(each.data.size())});
		use.filled.push_back(std::move(*own));
	}
	const auto done = transmit(use.filled.empty() ? 0 : cache_->bytes());
	if (!done) {
		use.filled.clear();
		return std::unexpected(done.error());
	}
	sent what{.messages = *done};
	std::size_t handed_over = 0;
	for (std::size_t i = 0; i < *done; i++) {
		what.bytes += messages[i].data.size();
		if (use.messages[i].flags & FBUFS_MESSAGE_COPY) {
			count_copied(what, messages[i].data.size());
		} else {
			what.bytes_copied += messages[i].data.size();
			use.filled[handed_over++].cache_ = nullptr;
		}
	}
	use.filled.clear();
	return what;
}

result<sent> sender::send(std::span<const plain> messages)
{
	if (std::ranges::any_of(messages, [](const plain& each) { return each.data.empty(); }))
		return sys::failure(ERANGE);
	sent all;
	while (all.messages < messages.size()) {
		const auto some = send_some(messages.subspan(all.messages));
		if (!some && all.messages == 0)
			return some;
		if (!some)
			break;
		all.messages += some->messages;
		all.bytes += some->bytes;
		all.bytes_copied += some->bytes_copied;
		all.messages_copied += some->messages_copied;
	}
	return all;
}

result<endpoint> sender::add_receiver()
{
	auto args = sys::sized<fbufs_add_receiver>();
	if (const long done = sys::call(end_.fd(), FBUFS_ADD_RECEIVER, &args); done < 0)
		return sys::failure(static_cast<int>(-done));
	return endpoint(args.out_receiver);
}

result<bool> sender::wait(std::chrono::milliseconds timeout) const
{
	return sys::wait(end_.fd(), POLLOUT, timeout);
}

result<void> sender::set_nonblocking(bool nonblocking)
{
	return change_nonblocking(end_.fd(), nonblocking);
}

// --- receiving ---------------------------------------------------------------------

struct receiver::scratch {
	std::vector<fbufs_message> messages;
	std::vector<fbufs_slice> slices = std::vector<fbufs_slice>(64);
	std::vector<std::uint64_t> releases;
	// Messages that are the receiver's, but of a pool that could not be mapped, and those behind them: they
	// are the next to be handed out.
	std::size_t waiting = 0;
	position next;
};

void receiver::scratch_delete::operator()(scratch* which) const noexcept
{
	delete which;
}

receiver::receiver(detail::domain_state* domain, endpoint&& end)
	: domain_(domain), end_(std::move(end)), scratch_(new scratch)
{
}

receiver::~receiver()
{
	if (!domain_)
		return;
	for (std::size_t i = 0; i < scratch_->waiting; i++)
		domain_->release_later(scratch_->messages[scratch_->next.message + i].message);
	(void)domain_->flush();
}

// A message whose handle is among those to be released, unless it is another domain's.
[[gnu::always_inline]] inline void receiver::drop(message& which)
{
	if (which.domain_ == domain_)
		which.forget();
	else
		which.release();
}

// Receive into the scratch area, and release what @p out holds. @p args are to become the arguments of the first
// call, which is @p first's to make. Returns how many messages.
template <typename Args, typename First>
[[gnu::always_inline]] inline result<std::size_t> receiver::fetch(std::span<message> out, Args& args,
								  const First& first)
{
	scratch& use = *scratch_;
	if (use.messages.size() < out.size())
		use.messages.resize(out.size());
	if (use.slices.size() < out.size())
		use.slices.resize(out.size());
	const std::size_t pending = domain_->take_releases(use.releases, out.size());
	std::size_t releases = pending;
	std::uint64_t* const released = use.releases.data();
	detail::domain_state* const domain = domain_;
	for (message& each : out) {
		if (each.domain_ == domain) [[likely]]
			released[releases++] = each.handle_;
		if constexpr (!First::may_refuse)
			drop(each);
	}

	args.messages = sys::pointer(use.messages.data());
	args.slices = sys::pointer(use.slices.data());
	args.count = static_cast<std::uint32_t>(out.size());
	args.nslices = static_cast<std::uint32_t>(use.slices.size());
	args.release = sys::pointer(use.releases.data());
	args.nrelease = static_cast<std::uint32_t>(releases);
	long done = first();
	if constexpr (First::may_refuse) {
		if (first.refused()) [[unlikely]] {
			for (std::size_t i = 0; i < pending; i++)
				domain_->release_later(released[i]);
			return sys::failure(static_cast<int>(-done));
		}
		for (message& each : out)
			drop(each);
	}
	for (;; done = sys::call_once(end_.fd(), FBUFS_RECEIVE, &args)) {
		const bool longer = done == -EMSGSIZE && args.nslices < FBUFS_MAX_SLICES;
		if (!longer && (done != -EINTR || sys::may_interrupt()))
			break;
		// The message is still queued, but some releases are done with.
		args.size = sizeof(args);
		args.release += args.out_released * sizeof(std::uint64_t);
		args.nrelease -= args.out_released;
		args.out_released = 0;
		if (longer) {
			use.slices.resize(FBUFS_MAX_SLICES);
			args.slices = sys::pointer(use.slices.data());
			args.nslices = FBUFS_MAX_SLICES;
		}
	}
	if (done < 0) {
		for (std::size_t i = releases - args.nrelease + args.out_released; i < releases; i++)
			domain_->release_later(use.releases[i]);
		return sys::failure(static_cast<int>(-done));
	}
	if (done == 0)
		return std::unexpected(make_error_code(errc::end_of_stream));
	return static_cast<std::size_t>(done);
}

// Hand out.size() messages of the scratch area out. They begin at @p at; behind them there are @p behind more.
[[gnu::always_inline]] inline result<std::size_t> receiver::hand_out(std::span<message> out, position at,
								     std::size_t behind)
{
	scratch& use = *scratch_;
	const fbufs_message* from = use.messages.data() + at.message;
	const fbufs_slice* next = use.slices.data() + at.slice;
	detail::place_of_pool where;
	detail::domain_state* const domain = domain_;
	for (message& to : out) {
		const fbufs_slice* const first = next;
		slice* place = &to.one_;
		if (from->slices != 1) [[unlikely]] {
			to.more_ = std::make_unique<slice[]>(from->slices);
			place = to.more_.get();
		}
		for (const slice* end = place + from->slices;;) {
			if (!where.has(next->position)) [[unlikely]] {
				const auto base = domain->locate(next->position);
				if (!base) [[unlikely]] {
					to.forget();
					const auto done = static_cast<std::size_t>(&to - out.data());
					keep({at.message + done, static_cast<std::size_t>(first - use.slices.data())},
					     out.size() - done + behind);
					if (done == 0)
						return std::unexpected(base.error());
					return done;
				}
				where = {next->position, *base};
			}
			*place++ = {{where.at(next->position), next->length}, next->fbuf, next->offset};
			next++;
			// A message has one slice at least.
			if (place == end) [[likely]]
				break;
		}
		to.domain_ = domain;
		to.handle_ = from->message;
		to.cookie_ = from->cookie;
		to.length_ = from->length;
		to.count_ = from->slices;
		to.locked_ = from->flags & FBUFS_MESSAGE_LOCKED;
		from++;
	}
	if (behind) [[unlikely]]
		keep({at.message + out.size(), static_cast<std::size_t>(next - use.slices.data())}, behind);
	return out.size();
}

// So many messages wait, which begin there.
[[gnu::cold]] void receiver::keep(position at, std::size_t count)
{
	scratch_->waiting = count;
	scratch_->next = at;
}

// Those that wait are handed out without a call.
[[gnu::cold]] result<std::size_t> receiver::receive_waiting(std::span<message> out)
{
	for (message& each : out)
		each.release();
	const std::size_t waiting = std::exchange(scratch_->waiting, 0);
	const std::size_t count = std::min(out.size(), waiting);
	return hand_out(out.first(count), scratch_->next, waiting - count);
}

// The first call of receive().
struct receiver::just_receive {
	static constexpr bool may_refuse = false;
	int fd;
	fbufs_receive& args;

	long operator()() const noexcept { return sys::call_once(fd, FBUFS_RECEIVE, &args); }
};

result<std::size_t> receiver::receive(std::span<message> out)
{
	if (scratch_->waiting) [[unlikely]]
		return receive_waiting(out);
	auto args = sys::sized<fbufs_receive>();
	const auto count = fetch(out, args, just_receive{end_.fd(), args});
	return count ? hand_out(out.first(*count), {}, 0) : count;
}

result<message> receiver::receive()
{
	message one;
	auto count = receive({&one, 1});
	if (!count)
		return std::unexpected(count.error());
	return one;
}

result<bool> receiver::wait(std::chrono::milliseconds timeout)
{
	if (auto flushed = domain_->flush(); !flushed)
		return std::unexpected(flushed.error());
	return scratch_->waiting > 0 ? true : sys::wait(end_.fd(), POLLIN, timeout);
}

result<void> receiver::set_nonblocking(bool nonblocking)
{
	return change_nonblocking(end_.fd(), nonblocking);
}

// --- both --------------------------------------------------------------------------

// The first call of call(). It is refused as long as nothing was sent.
struct sender::send_and_receive {
	static constexpr bool may_refuse = true;
	int fd;
	fbufs_call& args;

	long operator()() const noexcept
	{
		long done = 0;
		do
			done = sys::call_once(fd, FBUFS_CALL, &args);
		while (done == -EINTR && refused() && !sys::may_interrupt());
		return done;
	}
	[[nodiscard]] bool refused() const noexcept { return args.out_sent == 0; }
};

result<std::size_t> sender::call(buffer&& own, std::size_t length, std::uint64_t cookie, receiver& from,
				 std::span<message> out)
{
	if (!from.domain_)
		return sys::failure(EINVAL);
	if (copies(own, length) || from.scratch_->waiting) [[unlikely]] {
		const auto done = send(std::move(own), length, cookie);
		return done ? from.receive(out) : std::unexpected(done.error());
	}
	if (!own || length == 0 || length > own.size())
		return sys::failure(ERANGE);
	single one(own, length, cookie, 0);
	auto args = sys::sized<fbufs_call>();
	args.receiver = from.fd();
	one.put_into(args.send, own.size_, cache_->wanted(2));
	const auto count = from.fetch(out, args.receive, send_and_receive{end_.fd(), args});
	if (args.out_sent) [[likely]]
		own.cache_ = nullptr;
	if (args.send.out_refilled)
		cache_->refill({one.fresh, args.send.out_refilled}, own.size_);
	return count ? from.hand_out(out.first(*count), {}, 0) : count;
}

} // namespace fbuf
