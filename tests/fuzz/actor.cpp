// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors

#include "fuzz/actor.hpp"

#include "support/uapi.hpp"

#include <sys/syscall.h>

#include <algorithm>

namespace fuzz {

namespace {

// Lengths that matter: some pages, a few bytes, many pages, or anything.
std::uint64_t length_of(std::uint32_t x)
{
	switch (x & 3) {
	case 0: return (1 + (x >> 2) % 8) * uapi::page;
	case 1: return (x >> 2) % 70000;
	case 2: return (x >> 2) % 300 * uapi::page;
	default: return std::uint64_t{x} << ((x >> 2) % 33);
	}
}

std::uint64_t sum(const std::uint8_t* data, std::size_t length)
{
	std::uint64_t result = 0xcbf29ce484222325;
	for (std::size_t i = 0; i < length; i += 8) {
		std::uint64_t word = 0;
		std::memcpy(&word, data + i, std::min<std::size_t>(8, length - i));
		result = (result ^ word) * 0x100000001b3;
	}
	return result;
}

// Loads and stores may be refused by either signal.
template <typename Access>
bool refused(Access access)
{
	if (sigsetjmp(uapi::detail::jump, 1) != 0) {
		uapi::detail::armed = 0;
		return true;
	}
	uapi::detail::armed = 1;
	access();
	uapi::detail::armed = 0;
	return false;
}

// To see what an input does.
const bool told = std::getenv("FBUFS_FUZZ_TRACE");

template <typename Args>
long call(int fd, unsigned long request, Args& args)
{
	args.size = sizeof(args);
	const long result = uapi::call(fd, request, args);
	if (told)
		std::fprintf(stderr, "%d: call %#lx on %d: %ld\n", ::getpid(), request & 0xff, fd, result);
	return result;
}

} // namespace

Actor::Actor(unsigned self, Board& board, const std::array<std::array<int, 2>, shared_kinds>& shared)
	: self_(self), board_(board), shared_(shared)
{
	struct sigaction action = {};
	action.sa_sigaction = uapi::detail::handler;
	action.sa_flags = SA_SIGINFO | SA_NODEFER;
	::sigaction(SIGBUS, &action, nullptr);
	::sigaction(SIGSEGV, &action, nullptr);
	::signal(SIGPIPE, SIG_IGN);
}

void Actor::run(const Op& op)
{
	if (op.which() == die)
		::_exit(0);
	if (op.who & (in_thread | in_child))
		apart(op);
	else
		dispatch(op);
}

// By a thread or a child, which this one does not wait for.
void Actor::apart(const Op& op)
{
	if (op.who & in_thread) {
		alone_ = false;
		held_.clear();
		std::thread([this, op] { dispatch(op); }).detach();
		return;
	}
	if (::fork() == 0) {
		::prctl(PR_SET_PDEATHSIG, SIGKILL);
		alone_ = false;
		held_.clear();
		dispatch(op);
		::_exit(0);
	}
}

void Actor::dispatch(const Op& op)
{
	switch (op.which()) {
	case open_domain: return do_open();
	case pool_create: return do_pool_create(op);
	case map: return do_map(op);
	case unmap: return do_unmap(op);
	case alloc: return do_alloc(op);
	case give_back: return do_handles(op, FBUFS_FREE);
	case channel_create: return do_channel_create(op);
	case fetch: return do_fetch(op);
	case attach: return do_attach(op);
	case add_receiver: return do_add_receiver(op);
	case send: return do_send(op);
	case receive: return do_receive(op);
	case ask_and_receive: return do_call(op);
	case release: return do_handles(op, FBUFS_RELEASE);
	case secure: return do_handles(op, FBUFS_SECURE);
	case notices: return do_notices(op);
	case ask: return do_ask(op);
	case io_write:
	case io_read:
	case io_collect: return do_io(op);
	case cancel: return do_cancel(op);
	case make_mutable: return do_make_mutable(op);
	case send_file: return do_send_file(op);
	case touch: return do_touch(op);
	case change: return do_change(op);
	case close_end: return do_close(op);
	case raw: return do_raw(op);
	case poll: return do_poll(op);
	case drain: return do_drain(op);
	default: return;
	}
}

/*
 * What actors know
 */

int Actor::end(unsigned slot) const
{
	return board_.ends[self_][slot % end_slots];
}

void Actor::put_end(unsigned slot, int fd)
{
	const int old = board_.ends[self_][slot % end_slots].exchange(fd);
	if (old >= 0)
		::close(old);
}

// The domain, an end, or a descriptor that calls are not for.
int Actor::fd(unsigned which) const
{
	if (which % 16 == 15)
		return shared_[which / 16 % shared_kinds][0];
	return which % 16 < end_slots ? end(which) : domain_.load();
}

std::uint64_t Actor::fbuf(unsigned index) const
{
	return board_.fbufs[index % board_fbufs];
}

// Its own, most of the time.
std::uint64_t Actor::message(unsigned index) const
{
	const unsigned whose = index >= 240 ? (self_ + 1) % actors : self_;
	return board_.messages[whose][index % board_messages];
}

void Actor::post_fbuf(std::uint64_t fbuf)
{
	board_.fbufs[board_.next_fbuf++ % board_fbufs] = fbuf;
}

void Actor::post_message(std::uint64_t message)
{
	board_.messages[self_][next_message_++ % board_messages] = message;
}

/*
 * What must never be
 */

// Where the bytes are in this process, or null; not where it may have private copies.
const std::uint8_t* Actor::find(std::uint64_t position, std::size_t length) const
{
	for (const Window& window : windows_)
		if (window.base && !(copies_ && &window == &windows_[self_]) && position >= window.offset &&
		    position + length <= window.offset + window.span)
			return window.base + (position - window.offset);
	return nullptr;
}

void Actor::remember(std::uint64_t message, std::uint64_t position, std::size_t length)
{
	const std::uint8_t* const data = find(position, length);
	if (!data || !alone_)
		return;
	Held held = {message, data, length, 0};
	if (refused([&] { held.sum = sum(data, length); }))
		board_.violation = "a held message cannot be read";
	held_.push_back(held);
}

void Actor::expect_unchanged(const Held& held)
{
	std::uint64_t now = 0;
	if (refused([&] { now = sum(held.data, held.length); }))
		board_.violation = "a held message cannot be read any more";
	else if (now != held.sum)
		board_.violation = "a locked message has changed";
}

void Actor::expect_unchanged()
{
	for (const Held& held : held_)
		expect_unchanged(held);
}

void Actor::forget(std::uint64_t message)
{
	for (const Held& held : held_)
		if (held.message == message)
			expect_unchanged(held);
	std::erase_if(held_, [=](const Held& held) { return held.message == message; });
}

void Actor::forget_windows()
{
	expect_unchanged();
	held_.clear();
}

/*
 * Domains, pools, windows
 */

void Actor::do_open()
{
	forget_windows();
	const int old = domain_.exchange(::open("/dev/fbufs", O_RDWR | O_CLOEXEC));
	if (old >= 0)
		::close(old);
}

void Actor::do_pool_create(const Op& op)
{
	fbufs_pool_create args = {};
	args.flags = op.b & (FBUFS_POOL_STORE_WAIT | FBUFS_POOL_STORE_COPY);
	args.bytes = op.a ? std::min<std::uint64_t>(length_of(op.x), 64 << 20) : 1 << 20;
	if (call(domain_, FBUFS_POOL_CREATE, args) == 0) {
		board_.span[self_] = args.out_span;
		board_.pool[self_] = args.out_pool;
		copies_ = args.flags & FBUFS_POOL_STORE_COPY;
	}
}

void Actor::do_map(const Op& op)
{
	const unsigned whose = op.a % actors;
	const std::uint32_t pool = op.d == 255 ? op.x : board_.pool[whose].load();
	const std::uint64_t offset = FBUFS_POOL_OFFSET(pool);
	const std::size_t span = op.c == 255 ? length_of(op.y) : board_.span[whose].load();
	const int protection = op.b == 255 ? op.n & 7 : PROT_READ | (whose == self_ ? PROT_WRITE : 0);
	void* const base = ::mmap(nullptr, span, protection, op.c == 254 ? MAP_PRIVATE : MAP_SHARED, domain_,
				  static_cast<off_t>(offset));
	if (base == MAP_FAILED)
		return;
	Window& window = windows_[whose];
	if (window.base) {
		forget_windows();
		::munmap(window.base, window.span);
	}
	window = {static_cast<std::uint8_t*>(base), span, offset};
}

void Actor::do_unmap(const Op& op)
{
	Window& window = windows_[op.a % actors];
	if (!window.base)
		return;
	forget_windows();
	::munmap(window.base, window.span);
	window = {};
}

void Actor::do_touch(const Op& op)
{
	const Window& window = windows_[op.a % actors];
	if (!window.base)
		return;
	std::uint64_t position = length_of(op.x) % window.span;
	// Where an fbuf is, if its handle is the last that was posted there.
	if (op.b & 1) {
		fbufs_locate args = {};
		args.position = window.offset + position;
		if (call(domain_, FBUFS_LOCATE, args) == 0 && args.out_fbuf)
			position = args.out_first - window.offset;
	}
	volatile std::uint8_t* const where = window.base + position % window.span;
	if (op.b & 2)
		(void)refused([=] { *where = 1; });
	else
		(void)refused([=] { (void)*where; });
}

void Actor::do_change(const Op& op)
{
	const Window& window = windows_[op.a % actors];
	if (!window.base)
		return;
	const std::size_t offset = op.c * uapi::page % window.span;
	const std::size_t length = std::max<std::size_t>(1 + op.d, 1) * uapi::page;
	void* const where = window.base + offset;
	switch (op.b % 7) {
	case 0: (void)::mprotect(where, length, op.n & 7); break;
	case 1: (void)::mremap(where, length, length * 2, 0); break;
	case 2: (void)::mremap(window.base, window.span, window.span, MREMAP_MAYMOVE | MREMAP_DONTUNMAP); break;
	case 3: (void)::madvise(where, length, op.n % 26); break;
	case 4: {
		// Not all of a window can go; the whole of it is for do_unmap().
		if (length < window.span)
			(void)::munmap(where, std::min(length, window.span - 1));
		break;
	}
	case 5: (void)::mlock(where, length); break;
	default: (void)::msync(where, length, MS_SYNC); break;
	}
}

/*
 * Fbufs
 */

void Actor::do_alloc(const Op& op)
{
	std::array<fbufs_buffer, 64> buffers = {};
	fbufs_alloc args = {};
	args.flags = op.b & 1 ? 0 : FBUFS_DONTWAIT;
	args.bytes = std::min<std::uint64_t>(length_of(op.x), op.c == 255 ? ~0ULL : 16 << 20);
	args.buffers = op.d == 255 ? op.y : uapi::address(buffers.data());
	args.count = op.n % (buffers.size() + 1);
	const long n = call(op.a % 16 < end_slots ? end(op.a) : domain_.load(), FBUFS_ALLOC, args);
	for (long i = 0; i < n; i++)
		post_fbuf(buffers[static_cast<std::size_t>(i)].fbuf);
}

void Actor::do_handles(const Op& op, unsigned long request)
{
	std::array<std::uint64_t, 64> which = {};
	const std::size_t n = op.n % (which.size() + 1);
	for (std::size_t i = 0; i < n; i++) {
		const unsigned index = op.a + static_cast<unsigned>(i) * (op.b | 1);
		which[i] = request == FBUFS_FREE ? fbuf(index) : message(index & 0xff);
		if (op.c == 255 && i == op.d % 64U)
			which[i] ^= 1ULL << (op.x % 64);
		if (request == FBUFS_RELEASE)
			forget(which[i]);
	}
	fbufs_handles args = {};
	args.handles = uapi::address(which.data());
	args.count = static_cast<std::uint32_t>(n);
	(void)call(domain_, request, args);
}

void Actor::do_notices(const Op& op)
{
	std::array<std::uint64_t, 64> which = {};
	fbufs_notices args = {};
	args.fbufs = uapi::address(which.data());
	args.count = op.n % 65;
	(void)call(domain_, FBUFS_NOTICES, args);
}

void Actor::do_make_mutable(const Op& op)
{
	fbufs_make_mutable args = {};
	args.message = message(op.a);
	forget(args.message);
	if (call(domain_, FBUFS_MAKE_MUTABLE, args) == 0)
		post_fbuf(args.out_fbuf);
}

/*
 * Channels
 */

void Actor::do_channel_create(const Op& op)
{
	fbufs_channel_create args = {};
	args.flags = op.c & 15;
	args.depth = op.d == 255 ? op.x : op.d % 9;
	if (call(domain_, FBUFS_CHANNEL_CREATE, args) == 0) {
		put_end(op.a, args.out_sender);
		put_end(op.b, args.out_receiver);
	}
}

void Actor::do_fetch(const Op& op)
{
	const unsigned whose = op.a % actors;
	const int theirs = board_.ends[whose][op.b % end_slots];
	const int process = static_cast<int>(::syscall(SYS_pidfd_open, board_.pid[whose].load(), 0));
	if (process < 0)
		return;
	const int mine = static_cast<int>(::syscall(SYS_pidfd_getfd, process, theirs, 0));
	::close(process);
	if (mine >= 0)
		put_end(op.c, mine);
}

void Actor::do_attach(const Op& op)
{
	fbufs_attach args = {};
	args.domain = op.b == 255 ? fd(op.c) : domain_.load();
	(void)call(fd(op.a), FBUFS_ATTACH, args);
}

void Actor::do_add_receiver(const Op& op)
{
	fbufs_add_receiver args = {};
	args.flags = op.c & 1 ? FBUFS_CHANNEL_NONBLOCK : 0;
	if (call(fd(op.a), FBUFS_ADD_RECEIVER, args) == 0)
		put_end(op.b, args.out_receiver);
}

// Messages that are copied: from a window, where it may be no memory, or from memory of this process.
void Actor::make_copied(const Op& op, std::span<fbufs_message> messages, std::span<fbufs_slice> slices) const
{
	static const std::array<std::uint8_t, 20000> memory = {};
	const Window& window = windows_[op.b % actors];
	for (fbufs_message& each : messages)
		each.flags |= FBUFS_MESSAGE_COPY;
	for (fbufs_slice& each : slices) {
		each.address = uapi::address(op.c & 4 ? window.base + each.offset : memory.data());
		each.offset = op.x % 128 ? 0 : each.offset;
	}
}

void Actor::do_send(const Op& op)
{
	std::array<fbufs_message, 40> messages = {};
	std::array<fbufs_slice, 80> slices = {};
	std::array<fbufs_buffer, 8> refill = {};
	const std::size_t each = 1 + op.d % 6;
	const std::size_t n = op.n % (messages.size() + 1);
	for (std::size_t i = 0; i < n; i++) {
		messages[i].slices = op.d == 255 ? op.y : static_cast<std::uint32_t>(each);
		messages[i].flags = (op.c & 2 ? FBUFS_MESSAGE_NOTICE : 0) | (op.c & 128 ? FBUFS_MESSAGE_LEND : 0);
		messages[i].cookie = i;
	}
	for (std::size_t i = 0; i < slices.size(); i++) {
		const auto index = static_cast<unsigned>(op.b + (op.c & 4 ? i / each : i));
		slices[i].fbuf = fbuf(index);
		slices[i].hold = op.c & 8 ? message(index & 0xff) : 0;
		slices[i].offset = op.c & 16 ? op.x % 20000 : 0;
		slices[i].length = op.c & 32 ? op.y % 20000 : 4096;
	}
	if (op.d & 128 && op.d != 255)
		make_copied(op, messages, slices);
	fbufs_send args = {};
	args.flags = op.c & 1 ? 0 : FBUFS_DONTWAIT;
	args.messages = uapi::address(messages.data());
	args.slices = uapi::address(slices.data());
	args.count = static_cast<std::uint32_t>(n);
	args.nslices = static_cast<std::uint32_t>(slices.size());
	if (op.c & 64) {
		args.refill = uapi::address(refill.data());
		args.refill_bytes = length_of(op.x) % (1 << 20);
		args.refill_count = refill.size();
	}
	if (call(fd(op.a), FBUFS_SEND, args) < 0)
		return;
	for (std::uint32_t i = 0; i < args.out_refilled; i++)
		post_fbuf(refill[i].fbuf);
}

void Actor::do_receive(const Op& op)
{
	std::array<fbufs_message, 40> messages = {};
	std::array<fbufs_slice, 240> slices = {};
	std::array<std::uint64_t, 8> gone = {};
	fbufs_receive args = {};
	args.flags = op.c & 1 ? 0 : FBUFS_DONTWAIT;
	args.messages = uapi::address(messages.data());
	args.slices = uapi::address(slices.data());
	args.count = op.n % (messages.size() + 1);
	args.nslices = op.d == 255 ? op.x % 240 : 240;
	args.release = uapi::address(gone.data());
	args.nrelease = op.c & 2 ? 1 + op.d % 8U : 0;
	for (std::uint32_t i = 0; i < args.nrelease; i++) {
		gone[i] = message(op.b + i);
		forget(gone[i]);
	}
	const long n = call(fd(op.a), FBUFS_RECEIVE, args);
	note_messages(messages.data(), slices.data(), n);
}

// What was received.
void Actor::note_messages(const fbufs_message* messages, const fbufs_slice* slice, long n)
{
	for (long i = 0; i < n; i++) {
		const fbufs_message& message = messages[i];
		post_message(message.message);
		for (std::uint32_t j = 0; j < message.slices; j++, slice++) {
			post_fbuf(slice->fbuf);
			if (message.flags & FBUFS_MESSAGE_LOCKED)
				remember(message.message, slice->position, slice->length);
		}
	}
}

// What a send and a receive are made of, each a little simpler.
void Actor::do_call(const Op& op)
{
	std::array<fbufs_message, 8> messages = {}, answers = {};
	std::array<fbufs_slice, 8> slices = {};
	std::array<fbufs_slice, 64> answer_slices = {};
	std::array<fbufs_buffer, 4> refill = {};
	std::uint64_t gone = op.c & 2 ? message(op.b) : 0;
	for (std::size_t i = 0; i < messages.size(); i++) {
		messages[i].slices = 1;
		messages[i].cookie = i;
		slices[i].fbuf = fbuf(static_cast<unsigned>(op.b + i));
		slices[i].hold = op.c & 8 ? message(op.b + static_cast<unsigned>(i)) : 0;
		slices[i].length = op.c & 32 ? op.y % 20000 : 4096;
	}
	fbufs_call args = {};
	args.flags = op.c & 1 ? 0 : FBUFS_DONTWAIT;
	args.receiver = op.d == 255 ? static_cast<int>(op.x) : fd(op.d);
	args.send.messages = uapi::address(messages.data());
	args.send.slices = uapi::address(slices.data());
	args.send.count = op.n % 9;
	args.send.nslices = slices.size();
	args.send.refill = uapi::address(refill.data());
	args.send.refill_bytes = length_of(op.x) % (1 << 20);
	args.send.refill_count = op.c & 64 ? 4 : 0;
	args.receive.messages = uapi::address(answers.data());
	args.receive.slices = uapi::address(answer_slices.data());
	args.receive.count = 1 + op.n % 8;
	args.receive.nslices = op.c & 16 ? op.x % 64 : 64;
	args.receive.release = uapi::address(&gone);
	args.receive.nrelease = gone ? 1 : 0;
	forget(gone);
	const long n = call(fd(op.a), FBUFS_CALL, args);
	for (std::uint32_t i = 0; i < args.send.out_refilled; i++)
		post_fbuf(refill[i].fbuf);
	note_messages(answers.data(), answer_slices.data(), n);
}

void Actor::do_close(const Op& op)
{
	if (op.a % 16 >= end_slots) {
		forget_windows();
		const int old = domain_.exchange(-1);
		if (old >= 0)
			::close(old);
		return;
	}
	put_end(op.a, -1);
}

/*
 * Descriptors
 */

void Actor::do_io(const Op& op)
{
	std::array<fbufs_io_op, 3> ops = {};
	std::array<fbufs_slice, 12> slices = {};
	std::array<fbufs_completion, 16> completions = {};
	std::array<fbufs_slice, 128> where = {};
	fbufs_io args = {};
	args.flags = op.c & 64 ? 0 : FBUFS_DONTWAIT;
	args.nops = op.which() == io_collect ? 0 : 1 + op.n % ops.size();
	const std::uint32_t each = op.which() == io_write ? 1 + op.d % 4 : 0;
	for (std::uint32_t i = 0; i < args.nops; i++) {
		const bool writes = op.which() == io_write;
		ops[i].cookie = op.y % 4;
		ops[i].offset = op.c & 1 ? op.x % 100000 : FBUFS_IO_HERE;
		ops[i].fd = op.b == 255 ? fd(op.a) : shared_[op.a % shared_kinds][writes];
		ops[i].opcode = writes ? FBUFS_IO_WRITE : FBUFS_IO_READ;
		ops[i].flags = op.c >> 1 & (writes ? FBUFS_IO_GIVE | FBUFS_IO_APPEND : FBUFS_IO_ALL | FBUFS_IO_COPY);
		ops[i].slices = each;
		ops[i].length = writes ? 0 : length_of(op.x) % (1 << 20);
		ops[i].end = !writes && op.c & 32 ? end(op.d) : -1;
	}
	for (std::size_t i = 0; i < slices.size(); i++) {
		const auto index = static_cast<unsigned>(op.b + i);
		slices[i].fbuf = fbuf(index);
		slices[i].hold = op.c & 32 ? message(index & 0xff) : 0;
		slices[i].offset = op.c & 16 ? op.x % 5000 : 0;
		slices[i].length = op.c & 16 ? op.y % 10000 : 4096;
	}
	args.ops = uapi::address(ops.data());
	args.slices = uapi::address(slices.data());
	args.nslices = slices.size();
	args.completions = uapi::address(completions.data());
	args.out_slices = uapi::address(where.data());
	args.room = op.c & 128 ? 0 : completions.size();
	args.slices_room = where.size();
	args.wait = args.room ? op.n >> 8 & 1 : 0;
	if (call(domain_, FBUFS_IO, args) < 0)
		return;
	for (std::uint32_t i = 0; i < args.out_completed; i++) {
		if (completions[i].message)
			post_message(completions[i].message);
		if (completions[i].fbuf)
			post_fbuf(completions[i].fbuf);
	}
}

void Actor::do_cancel(const Op& op)
{
	fbufs_cancel args = {};
	args.cookie = op.y % 4;
	(void)call(domain_, FBUFS_CANCEL, args);
}

// Of any of the shared descriptors to any other, or of and to one that calls are not for.
void Actor::do_send_file(const Op& op)
{
	fbufs_send_file args = {};
	args.flags = op.c & 1 ? 0 : FBUFS_DONTWAIT;
	args.to = op.a == 255 ? fd(op.d) : shared_[op.a % shared_kinds][1];
	args.from = op.b == 255 ? fd(op.d) : shared_[op.b % shared_kinds][0];
	args.offset = op.c & 2 ? length_of(op.y) : FBUFS_IO_HERE;
	args.bytes = length_of(op.x);
	(void)call(domain_, FBUFS_SEND_FILE, args);
}

void Actor::do_drain(const Op& op)
{
	std::array<std::uint8_t, 16384> bytes;
	const int which = shared_[op.a % shared_kinds][0];
	if (op.b & 1)
		(void)!::write(shared_[op.a % shared_kinds][1], bytes.data(), op.x % bytes.size());
	else
		(void)!::read(which, bytes.data(), op.x % bytes.size());
}

/*
 * The rest
 */

void Actor::do_ask(const Op& op)
{
	fbufs_query query = {};
	fbufs_pool_info info = {};
	fbufs_locate locate = {};
	fbufs_end_info end_info = {};
	std::array<std::uint64_t, 40> numbers = {};
	fbufs_stats stats = {};
	info.pool = op.c == 255 ? op.x : board_.pool[op.b % actors].load();
	locate.position = FBUFS_POOL_OFFSET(info.pool) + length_of(op.y);
	stats.gauges = uapi::address(numbers.data());
	stats.ngauges = numbers.size();
	(void)call(domain_, FBUFS_QUERY, query);
	(void)call(domain_, FBUFS_POOL_INFO, info);
	(void)call(domain_, FBUFS_LOCATE, locate);
	(void)call(domain_, FBUFS_STATS, stats);
	(void)call(fd(op.a), FBUFS_END_INFO, end_info);
}

// A structure whose every word is one of few numbers.
void Actor::do_raw(const Op& op)
{
	alignas(8) std::array<std::uint8_t, 256> bytes = {};
	const std::uint64_t words[] = {0, op.x, op.y, ~0ULL, uapi::address(bytes.data()), fbuf(op.c), message(op.d), 1};
	for (std::size_t i = 0; i + 8 <= bytes.size(); i += 8)
		std::memcpy(&bytes[i], &words[(op.n >> (i / 8 % 13)) & 7], 8);
	const std::uint32_t size = op.d & 128 ? op.x : op.d;
	const std::uint32_t flags = op.c & 3;
	std::memcpy(&bytes[0], &size, 4);
	std::memcpy(&bytes[4], &flags, 4);
	forget_windows();
	alone_ = false;
	(void)::ioctl(fd(op.a), _IO(FBUFS_TYPE, op.b % 0x28), bytes.data());
}

void Actor::do_poll(const Op& op)
{
	pollfd entries[] = {{domain_, POLLIN | POLLOUT, 0}, {fd(op.a), POLLIN | POLLOUT | POLLRDHUP, 0}};
	(void)::poll(entries, 2, op.b & 1 ? 5 : 0);
}

} // namespace fuzz
