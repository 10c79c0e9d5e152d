// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// Rule 16: what calls are told about, numbers, handles and vectors of them; each wrong one has its errno,
// and changes nothing.

#include "support/uapi.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace {

using namespace uapi;

constexpr long pool_pages = 512;

class Rule16Errors : public ::testing::Test {
protected:
	Originator from_{pool_pages * page};
	Fd to_ = open_domain();
	Channel channel_{from_.domain, to_, FBUFS_CHANNEL_VOLATILE, 64};

	std::vector<fbufs_buffer> own(std::size_t n, std::uint64_t bytes = page)
	{
		std::vector<fbufs_buffer> buffers(n);
		EXPECT_EQ(alloc(channel_.sender, bytes, buffers), static_cast<long>(n));
		return buffers;
	}
	std::uint32_t state(const fbufs_buffer& buffer) { return locate(from_.domain, buffer.position).out_state; }
	// Handles of @n messages that the receiver holds.
	std::vector<std::uint64_t> held(std::size_t n)
	{
		std::vector<std::uint64_t> result;
		for (const fbufs_buffer& buffer : own(n)) {
			EXPECT_EQ(send_one(channel_.sender, buffer.fbuf, 0, page), 1);
			result.push_back(Received(channel_.receiver).handle());
		}
		return result;
	}
};

// An array that ends where memory ends.
template <typename T>
class Edge {
public:
	explicit Edge(std::size_t n)
	{
		base_ = static_cast<std::uint8_t*>(
			::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
		::munmap(base_ + page, page);
		first_ = reinterpret_cast<T*>(base_ + page) - n;
	}
	Edge(const Edge&) = delete;
	Edge& operator=(const Edge&) = delete;
	~Edge() { ::munmap(base_, page); }
	T* first() { return first_; }

private:
	std::uint8_t* base_;
	T* first_;
};

TEST_F(Rule16Errors, NumbersOutOfRange)
{
	const auto before = gauges(to_);
	std::vector<fbufs_buffer> one(1), none(0);
	for (const int fd : {from_.domain.get(), channel_.sender.get()}) {
		for (const std::uint64_t bytes :
		     {std::uint64_t{0}, std::uint64_t{FBUFS_MAX_BYTES + 1}, std::uint64_t{1} << 63, ~std::uint64_t{0}})
			EXPECT_EQ(alloc(fd, bytes, one), -EINVAL) << bytes;
		EXPECT_EQ(alloc(fd, page, none), -EINVAL);
		fbufs_alloc args = {};
		args.size = sizeof(args);
		args.bytes = page;
		args.buffers = address(one.data());
		args.count = FBUFS_MAX_VECTOR + 1;
		EXPECT_EQ(call(fd, FBUFS_ALLOC, args), -EINVAL);
	}
	for (const std::uint64_t bytes : {std::uint64_t{0}, std::uint64_t{FBUFS_MAX_POOL + 1}, ~std::uint64_t{0}}) {
		fbufs_pool_create pool = {};
		EXPECT_EQ(pool_create(to_, bytes, pool), -EINVAL) << bytes;
	}
	Fd sender, receiver;
	for (const std::uint32_t depth : {FBUFS_MAX_DEPTH + 1u, ~0u})
		EXPECT_EQ(channel_create(to_, 0, depth, sender, receiver), -EINVAL);
	fbufs_handles vector = {};
	vector.size = sizeof(vector);
	for (const std::uint32_t count : {FBUFS_MAX_VECTOR + 1u, ~0u}) {
		vector.count = count;
		for (const unsigned long request : {FBUFS_FREE, FBUFS_RELEASE, FBUFS_SECURE, FBUFS_NOTICES})
			EXPECT_EQ(call(from_.domain, request, vector), -EINVAL);
		fbufs_send sending = {};
		sending.size = sizeof(sending);
		sending.count = count;
		EXPECT_EQ(call(channel_.sender, FBUFS_SEND, sending), -EINVAL);
		sending.count = 0;
		sending.refill_count = count;
		EXPECT_EQ(call(channel_.sender, FBUFS_SEND, sending), -EINVAL);
		fbufs_receive receiving = {};
		receiving.size = sizeof(receiving);
		receiving.count = count;
		EXPECT_EQ(call(channel_.receiver, FBUFS_RECEIVE, receiving), -EINVAL);
		receiving.count = 1;
		receiving.nrelease = count;
		EXPECT_EQ(call(channel_.receiver, FBUFS_RECEIVE, receiving), -EINVAL);
	}
	std::vector<fbufs_message> messages(0);
	std::vector<fbufs_slice> slices(1);
	EXPECT_EQ(receive(channel_.receiver, messages, slices), -EINVAL);
	for (const __u64 position : {__u64{0}, FBUFS_POOL_OFFSET(from_.pool.out_pool) - 1,
				     FBUFS_POOL_OFFSET(from_.pool.out_pool) + from_.pool.out_span,
				     FBUFS_POOL_OFFSET(from_.pool.out_pool + 1), ~__u64{0}}) {
		fbufs_locate where = {};
		where.size = sizeof(where);
		where.position = position;
		EXPECT_EQ(call(from_.domain, FBUFS_LOCATE, where), -ERANGE) << position;
	}
	// Nothing to do is no error.
	vector.count = 0;
	for (const unsigned long request : {FBUFS_FREE, FBUFS_RELEASE, FBUFS_SECURE, FBUFS_NOTICES})
		EXPECT_EQ(call(from_.domain, request, vector), 0);
	EXPECT_EQ(send(channel_.sender, {}, {}), 0);
	EXPECT_EQ(gauges(to_), before);
}

TEST_F(Rule16Errors, WithoutPoolOrAttachmentIsEnxio)
{
	std::vector<fbufs_buffer> one(1);
	EXPECT_EQ(alloc(to_, page, one), -ENXIO);
	EXPECT_EQ(handles(to_, FBUFS_FREE, {1}), -ENXIO);
	fbufs_notices notices = {};
	notices.size = sizeof(notices);
	EXPECT_EQ(call(to_, FBUFS_NOTICES, notices), -ENXIO);
	fbufs_locate where = {};
	where.size = sizeof(where);
	EXPECT_EQ(call(to_, FBUFS_LOCATE, where), -ENXIO);

	Fd sender, receiver, more;
	ASSERT_EQ(channel_create(to_, 0, 0, sender, receiver), 0);
	EXPECT_EQ(alloc(sender, page, one), -ENXIO);
	EXPECT_EQ(send_one(sender, 1, 0, 1), -ENXIO);
	EXPECT_EQ(add_receiver(sender, more), -ENXIO);
	EXPECT_EQ(Received(receiver).result, -ENXIO);
	EXPECT_EQ(end_info(sender).out_attached, 0u);
	ASSERT_EQ(attach(sender, to_), 0);
	EXPECT_EQ(end_info(sender).out_attached, 1u);
	EXPECT_EQ(alloc(sender, page, one), -ENXIO) << "no pool";
	EXPECT_EQ(send_one(sender, own(1)[0].fbuf, 0, 1), -ENOENT) << "nor fbufs";
}

TEST_F(Rule16Errors, Attachment)
{
	Fd sender, receiver;
	ASSERT_EQ(channel_create(to_, 0, 0, sender, receiver), 0);
	const Fd null(::open("/dev/null", O_RDWR));
	for (const int fd : {sender.get(), receiver.get()}) {
		EXPECT_EQ(attach(fd, -1), -EBADF);
		EXPECT_EQ(attach(fd, 1 << 20), -EBADF);
		EXPECT_EQ(attach(fd, null), -EINVAL);
		EXPECT_EQ(attach(fd, channel_.sender), -EINVAL);
		EXPECT_EQ(in_child([&] {
				  CHILD_EXPECT(attach(fd, to_) == -EPERM);
				  return 0;
			  }),
			  0);
		EXPECT_EQ(end_info(fd).out_attached, 0u);
		EXPECT_EQ(attach(fd, to_), 0);
		EXPECT_EQ(attach(fd, to_), -EBUSY);
		EXPECT_EQ(attach(fd, from_.domain), -EBUSY);
	}
}

TEST_F(Rule16Errors, EndsOfAClosedDomainAreEnodev)
{
	const Channel back(to_, from_.domain);
	const auto buffers = own(2);
	ASSERT_EQ(send_one(channel_.sender, buffers[0].fbuf, 0, 1), 1);
	from_.domain.reset();
	std::vector<fbufs_buffer> one(1);
	Fd more;
	EXPECT_EQ(alloc(channel_.sender, page, one), -ENODEV);
	EXPECT_EQ(send_one(channel_.sender, buffers[1].fbuf, 0, 1), -ENODEV);
	EXPECT_EQ(add_receiver(channel_.sender, more), -ENODEV);
	EXPECT_EQ(Received(back.receiver).result, -ENODEV);
	EXPECT_EQ(attach(channel_.sender, to_), -EBUSY);
	EXPECT_EQ(end_info(channel_.sender).out_hangup, 1u);
	EXPECT_TRUE(poll_events(channel_.sender) & POLLHUP);
	EXPECT_TRUE(poll_events(back.sender) & POLLHUP);
	EXPECT_EQ(Received(channel_.receiver).result, 1);
	EXPECT_EQ(Received(channel_.receiver).result, 0);
	// Its window shows nothing any more, though the process lives.
	EXPECT_TRUE(load_faults(from_.at(buffers[1])));
	EXPECT_TRUE(store_faults(from_.at(buffers[1])));
}

TEST_F(Rule16Errors, ForeignAndOldHandles)
{
	const auto buffers = own(2);
	const __u64 handle = buffers[0].fbuf;
	for (const __u64 wrong :
	     {__u64{0}, ~__u64{0}, handle ^ 1ull << 48, handle ^ 1ull << 24, handle ^ 1ull << 40, handle ^ 1ull << 47,
	      handle ^ 1ull << 23, handle ^ 1ull << 63, handle | 63, buffers[0].position}) {
		EXPECT_EQ(handles(from_.domain, FBUFS_FREE, {wrong}), -ENOENT) << std::hex << wrong;
		EXPECT_EQ(send_one(channel_.sender, wrong, 0, 1), -ENOENT) << std::hex << wrong;
	}
	EXPECT_EQ(in_child([&] {
			  const Originator other(64 * page);
			  const Channel channel(other.domain, other.domain);
			  const fbufs_buffer mine = alloc_one(channel.sender);
			  CHILD_EXPECT(mine.fbuf != 0);
			  CHILD_EXPECT(handles(other.domain, FBUFS_FREE, {handle}) == -ENOENT);
			  CHILD_EXPECT(send_one(channel.sender, handle, 0, 1) == -ENOENT);
			  return 0;
		  }),
		  0);
	EXPECT_EQ(state(buffers[0]), FBUFS_STATE_OWNED);
	EXPECT_EQ(end_info(channel_.receiver).out_queued, 0u);

	// Handles are new ones for ever, at home, and after the place was given up.
	std::set<std::uint64_t> seen = {buffers[0].fbuf, buffers[1].fbuf};
	EXPECT_EQ(handles(from_.domain, FBUFS_FREE, {buffers[0].fbuf, buffers[1].fbuf}), 2);
	for (int i = 0; i < 200; i++) {
		// Nearly the whole pool, of two lengths in turn: what was free must go.
		const fbufs_buffer buffer = alloc_one(channel_.sender, (300 + i % 2) * page);
		ASSERT_NE(buffer.fbuf, 0u);
		EXPECT_TRUE(seen.insert(buffer.fbuf).second);
		ASSERT_EQ(handles(from_.domain, FBUFS_FREE, {buffer.fbuf}), 1);
	}
	for (const std::uint64_t old : seen)
		EXPECT_EQ(handles(from_.domain, FBUFS_FREE, {old}), -ENOENT);
}

// The slices of a message are looked at up to the first that is bad, far behind those of the message before.
TEST_F(Rule16Errors, AfterWhatIsBadFarBehindTheMessagesBeforeItAreSent)
{
	for (const std::uint32_t slices : {17u, 20u, 33u, 40u}) {
		const Channel channel(from_.domain, to_);
		std::vector<fbufs_buffer> buffers(2);
		ASSERT_EQ(alloc(channel.sender, page, buffers), 2);
		std::vector<fbufs_message> messages(2);
		messages[0].slices = 1;
		messages[1].slices = slices;
		std::vector<fbufs_slice> list(slices + 1, {{buffers[1].fbuf}, 0, 0, 0, 1});
		list.front() = {{buffers[0].fbuf}, 0, 0, 0, 7};
		list.back().fbuf += 1ULL << 24;
		EXPECT_EQ(send(channel.sender, messages, list), 1);
		const Received got(channel.receiver);
		EXPECT_EQ(got.result, 1);
		EXPECT_EQ(got.message.length, 7u);
		EXPECT_EQ(handles(to_, FBUFS_RELEASE, {got.handle()}), 1);
		// The other is still the sender's.
		EXPECT_EQ(send_one(channel.sender, buffers[1].fbuf, 0, 1), 1);
	}
}

struct BadSend {
	const char* name;
	long refusal;
	void (*spoil)(fbufs_message& message, fbufs_slice& slice);
};

TEST_F(Rule16Errors, BadMessages)
{
	const BadSend bad[] = {
		{"handle", -EINVAL, [](fbufs_message& message, fbufs_slice&) { message.message = 1; }},
		{"length", -EINVAL, [](fbufs_message& message, fbufs_slice&) { message.length = page; }},
		{"locked", -EINVAL, [](fbufs_message& message, fbufs_slice&) { message.flags = FBUFS_MESSAGE_LOCKED; }},
		{"flags", -EINVAL, [](fbufs_message& message, fbufs_slice&) { message.flags = 1u << 31; }},
		{"no slices", -EINVAL, [](fbufs_message& message, fbufs_slice&) { message.slices = 0; }},
		{"too many", -EMSGSIZE, [](fbufs_message& message, fbufs_slice&) { message.slices = 2; }},
		{"empty", -EINVAL, [](fbufs_message&, fbufs_slice& slice) { slice.length = 0; }},
		{"too long", -ERANGE, [](fbufs_message&, fbufs_slice& slice) { slice.length = page + 1; }},
		{"too far", -ERANGE,
		 [](fbufs_message&, fbufs_slice& slice) {
			 slice.offset = page;
			 slice.length = 1;
		 }},
		{"wraps", -ERANGE,
		 [](fbufs_message&, fbufs_slice& slice) {
			 slice.offset = ~0u;
			 slice.length = 1;
		 }},
		{"wraps twice", -ERANGE, [](fbufs_message&, fbufs_slice& slice) { slice.offset = slice.length = ~0u; }},
		{"no hold", -ENOENT, [](fbufs_message&, fbufs_slice& slice) { slice.hold = 1; }},
		{"no fbuf", -ENOENT, [](fbufs_message&, fbufs_slice& slice) { slice.fbuf += 1ULL << 24; }},
	};
	struct Case {
		std::uint32_t flags;
		bool spare;
	};
	for (const auto [flags, spare] :
	     {Case{0, false}, Case{0, true}, Case{FBUFS_CHANNEL_VOLATILE, false}, Case{FBUFS_CHANNEL_VOLATILE, true}}) {
		const Channel channel(from_.domain, to_, flags);
		const fbufs_buffer buffer = alloc_one(channel.sender);
		*from_.at(buffer) = 9;
		warm(channel, to_, 1);
		const auto before = gauges(to_);
		auto counted = counters(from_.domain);
		for (const BadSend& each : bad) {
			if (spare) {
				warm(channel, to_, 1);
				counted = counters(from_.domain);
			}
			fbufs_message message = {};
			message.slices = 1;
			fbufs_slice slice = {};
			slice.fbuf = buffer.fbuf;
			slice.length = page;
			each.spoil(message, slice);
			EXPECT_EQ(send(channel.sender, {message}, {slice}), each.refusal) << each.name;
			EXPECT_EQ(state(buffer), FBUFS_STATE_OWNED) << each.name;
			EXPECT_EQ(locate(from_.domain, buffer.position).out_locked, 0u) << each.name;
			EXPECT_FALSE(store_faults(from_.at(buffer))) << each.name;
			for (const fbufs_counter which :
			     {FBUFS_COUNT_MESSAGES_SENT, FBUFS_COUNT_BYTES_SENT, FBUFS_COUNT_FAULTS_DENIED})
				EXPECT_EQ(counters(from_.domain)[which], counted[which]) << each.name;
		}
		// A good slice before the bad one: it does not go either.
		fbufs_message message = {};
		message.slices = 2;
		fbufs_slice good = {}, wrong = {};
		good.fbuf = wrong.fbuf = buffer.fbuf;
		good.length = 1;
		wrong.length = page + 1;
		EXPECT_EQ(send(channel.sender, {message}, {good, wrong}), -ERANGE);
		EXPECT_EQ(state(buffer), FBUFS_STATE_OWNED);
		EXPECT_EQ(locate(from_.domain, buffer.position).out_locked, 0u);
		EXPECT_FALSE(store_faults(from_.at(buffer)));
		EXPECT_EQ(gauges(to_)[FBUFS_GAUGE_PAGES], before[FBUFS_GAUGE_PAGES]);
		for (const fbufs_counter which :
		     {FBUFS_COUNT_MESSAGES_SENT, FBUFS_COUNT_BYTES_SENT, FBUFS_COUNT_FAULTS_DENIED})
			EXPECT_EQ(counters(from_.domain)[which], counted[which]);
		EXPECT_EQ(end_info(channel.receiver).out_queued, 0u);
	}
}

//
// Vectors that go wrong in the middle
//

TEST_F(Rule16Errors, AVectorStopsAtTheFirstFailure)
{
	for (const std::size_t at :
	     {std::size_t{0}, std::size_t{2}, std::size_t{31}, std::size_t{32}, std::size_t{39}}) {
		std::vector<std::uint64_t> names;
		const auto buffers = own(40);
		for (const fbufs_buffer& buffer : buffers)
			names.push_back(buffer.fbuf);
		const std::uint64_t spoiled = std::exchange(names[at], 0);
		EXPECT_EQ(handles(from_.domain, FBUFS_FREE, names), at ? static_cast<long>(at) : -ENOENT);
		for (std::size_t i = 0; i < 40; i++)
			EXPECT_EQ(state(buffers[i]), i < at ? FBUFS_STATE_FREE : FBUFS_STATE_OWNED);
		names[at] = spoiled;
		names.erase(names.begin(), names.begin() + static_cast<long>(at));
		EXPECT_EQ(handles(from_.domain, FBUFS_FREE, names), static_cast<long>(40 - at));

		auto messages = held(40);
		const std::uint64_t message = std::exchange(messages[at], 0);
		for (const unsigned long request : {FBUFS_SECURE, FBUFS_RELEASE}) {
			const auto releases = counters(to_)[FBUFS_COUNT_RELEASES];
			EXPECT_EQ(handles(to_, request, messages), at ? static_cast<long>(at) : -ENOENT);
			EXPECT_EQ(counters(to_)[FBUFS_COUNT_RELEASES], releases + (request == FBUFS_RELEASE ? at : 0));
		}
		messages[at] = message;
		messages.erase(messages.begin(), messages.begin() + static_cast<long>(at));
		EXPECT_EQ(handles(to_, FBUFS_RELEASE, messages), static_cast<long>(40 - at));
	}
}

TEST_F(Rule16Errors, ASendStopsAtTheFirstFailure)
{
	for (const std::size_t at :
	     {std::size_t{0}, std::size_t{2}, std::size_t{31}, std::size_t{32}, std::size_t{39}}) {
		const auto buffers = own(40);
		std::vector<fbufs_message> messages(40);
		std::vector<fbufs_slice> slices(40);
		for (std::size_t i = 0; i < 40; i++) {
			messages[i].slices = 1;
			messages[i].cookie = i;
			slices[i].fbuf = buffers[i].fbuf;
			slices[i].length = 1;
		}
		slices[at].offset = page;
		const auto sent = counters(from_.domain)[FBUFS_COUNT_MESSAGES_SENT];
		EXPECT_EQ(send(channel_.sender, messages, slices), at ? static_cast<long>(at) : -ERANGE);
		EXPECT_EQ(counters(from_.domain)[FBUFS_COUNT_MESSAGES_SENT], sent + at);
		EXPECT_EQ(end_info(channel_.receiver).out_queued, at);
		for (std::size_t i = 0; i < 40; i++) {
			EXPECT_EQ(state(buffers[i]), i < at ? FBUFS_STATE_SENT : FBUFS_STATE_OWNED);
			if (i >= at) {
				EXPECT_EQ(handles(from_.domain, FBUFS_FREE, {buffers[i].fbuf}), 1);
			}
		}
		for (std::size_t i = 0; i < at; i++) {
			const Received received(channel_.receiver);
			EXPECT_EQ(received.message.cookie, i);
			EXPECT_EQ(handles(to_, FBUFS_RELEASE, {received.handle()}), 1);
		}
	}
}

TEST_F(Rule16Errors, AReceiveReleasesUpToTheFirstFailure)
{
	const auto messages = held(3);
	const auto queued = own(1);
	ASSERT_EQ(send_one(channel_.sender, queued[0].fbuf, 0, 1), 1);
	const auto releases = counters(to_)[FBUFS_COUNT_RELEASES];
	const std::uint64_t release[4] = {messages[0], messages[1], 0, messages[2]};
	fbufs_message message = {};
	fbufs_slice slice = {};
	fbufs_receive args = {};
	args.size = sizeof(args);
	args.messages = address(&message);
	args.slices = address(&slice);
	args.count = args.nslices = 1;
	args.release = address(release);
	args.nrelease = 4;
	EXPECT_EQ(call(channel_.receiver, FBUFS_RECEIVE, args), -ENOENT);
	EXPECT_EQ(args.out_released, 2u);
	EXPECT_EQ(end_info(channel_.receiver).out_queued, 1u);
	EXPECT_EQ(counters(to_)[FBUFS_COUNT_RELEASES], releases + 2);
	EXPECT_EQ(handles(to_, FBUFS_RELEASE, {messages[1]}), -ENOENT);
	EXPECT_EQ(handles(to_, FBUFS_RELEASE, {messages[2]}), 1);
}

// Arrays that end too early: the call may stop at any element before, but what it says it did is what it
// did, and the rest is untouched.
TEST_F(Rule16Errors, AllocIntoAnArrayThatEndsTooEarly)
{
	Edge<fbufs_buffer> buffers(3);
	fbufs_alloc args = {};
	args.size = sizeof(args);
	args.bytes = page;
	args.buffers = address(buffers.first());
	args.count = 5;
	const long told = call(channel_.sender, FBUFS_ALLOC, args);
	EXPECT_TRUE(told == -EFAULT || (told > 0 && told <= 3)) << told;
	int owned = 0;
	for (std::uint64_t at = 0; at < from_.pool.out_span; at += page)
		owned += locate(from_.domain, FBUFS_POOL_OFFSET(from_.pool.out_pool) + at).out_state ==
			 FBUFS_STATE_OWNED;
	EXPECT_EQ(owned, std::max(told, 0l));
	std::vector<fbufs_buffer> rest(pool_pages);
	EXPECT_EQ(alloc(from_.domain, page, rest, FBUFS_DONTWAIT), pool_pages - owned);
}

TEST_F(Rule16Errors, SendFromArraysThatEndTooEarly)
{
	for (const bool short_messages : {true, false}) {
		const auto buffers = own(4);
		Edge<fbufs_message> messages(short_messages ? 2 : 4);
		Edge<fbufs_slice> slices(short_messages ? 4 : 2);
		for (int i = 0; i < (short_messages ? 2 : 4); i++) {
			messages.first()[i] = {};
			messages.first()[i].slices = 1;
		}
		for (int i = 0; i < (short_messages ? 4 : 2); i++) {
			slices.first()[i] = {};
			slices.first()[i].fbuf = buffers[i].fbuf;
			slices.first()[i].length = 1;
		}
		fbufs_send args = {};
		args.size = sizeof(args);
		args.messages = address(messages.first());
		args.slices = address(slices.first());
		args.count = args.nslices = 4;
		const long sent = call(channel_.sender, FBUFS_SEND, args);
		EXPECT_TRUE(sent == -EFAULT || (sent > 0 && sent <= 2)) << sent;
		EXPECT_EQ(end_info(channel_.receiver).out_queued, std::max(sent, 0l));
		for (int i = 0; i < 4; i++) {
			EXPECT_EQ(state(buffers[i]), i < sent ? FBUFS_STATE_SENT : FBUFS_STATE_OWNED);
			EXPECT_EQ(handles(from_.domain, FBUFS_FREE, {buffers[i].fbuf}), i < sent ? -EBUSY : 1);
		}
		while (end_info(channel_.receiver).out_queued)
			EXPECT_EQ(handles(to_, FBUFS_RELEASE, {Received(channel_.receiver).handle()}), 1);
	}
}

TEST_F(Rule16Errors, ReceiveIntoArraysThatEndTooEarly)
{
	for (const bool short_messages : {true, false}) {
		const auto buffers = own(40);
		for (std::size_t i = 0; i < 40; i++)
			ASSERT_EQ(send_one(channel_.sender, buffers[i].fbuf, 0, 1, i), 1);
		Edge<fbufs_message> messages(short_messages ? 33 : 40);
		Edge<fbufs_slice> slices(short_messages ? 40 : 33);
		fbufs_receive args = {};
		args.size = sizeof(args);
		args.messages = address(messages.first());
		args.slices = address(slices.first());
		args.count = args.nslices = 40;
		const long got = call(channel_.receiver, FBUFS_RECEIVE, args);
		ASSERT_TRUE(got == -EFAULT || (got > 0 && got <= 33)) << got;
		const std::size_t done = static_cast<std::size_t>(std::max(got, 0l));
		EXPECT_EQ(end_info(channel_.receiver).out_queued, 40 - done);
		for (std::size_t i = 0; i < done; i++) {
			EXPECT_EQ(messages.first()[i].cookie, i);
			EXPECT_EQ(handles(to_, FBUFS_RELEASE, {messages.first()[i].message}), 1);
		}
		for (std::size_t i = done; i < 40; i++) {
			const Received received(channel_.receiver);
			EXPECT_EQ(received.message.cookie, i);
			EXPECT_EQ(handles(to_, FBUFS_RELEASE, {received.handle()}), 1);
		}
	}
}

// What the receiver was shown before is reported by another loop than the rest: wherever the arrays end.
TEST_F(Rule16Errors, ReceiveOfWhatIsKnownIntoArraysThatEndTooEarly)
{
	constexpr std::size_t count = 20;
	const Window window(to_, from_.pool.out_pool, from_.pool.out_span, PROT_READ);
	warm(channel_, to_, count);
	for (std::size_t room = 1; room < count; room += 6)
		for (const bool short_messages : {true, false}) {
			const auto buffers = own(count);
			for (std::size_t i = 0; i < count; i++)
				ASSERT_EQ(send_one(channel_.sender, buffers[i].fbuf, 0, 1, i), 1);
			Edge<fbufs_message> messages(short_messages ? room : count);
			Edge<fbufs_slice> slices(short_messages ? count : room);
			fbufs_receive args = {};
			args.size = sizeof(args);
			args.messages = address(messages.first());
			args.slices = address(slices.first());
			args.count = args.nslices = count;
			// Up to where the ring of the queue ends they are reported on their own.
			const long received = call(channel_.receiver, FBUFS_RECEIVE, args);
			ASSERT_TRUE(received == -EFAULT || (received > 0 && received <= static_cast<long>(room)))
				<< received;
			const auto done = static_cast<std::size_t>(std::max(received, 0l));
			EXPECT_EQ(end_info(channel_.receiver).out_queued, count - done);
			for (std::size_t i = 0; i < done; i++)
				EXPECT_EQ(handles(to_, FBUFS_RELEASE, {messages.first()[i].message}), 1);
			// Those that it could be told about, but not all, it does not hold.
			for (std::size_t i = done; i < room; i++)
				EXPECT_EQ(handles(to_, FBUFS_RELEASE, {messages.first()[i].message}), -ENOENT);
			std::vector<fbufs_message> got(count);
			std::vector<fbufs_slice> seen(count);
			ASSERT_EQ(receive(channel_.receiver, got, seen), static_cast<long>(count - done));
			for (std::size_t i = 0; i < count - done; i++) {
				EXPECT_EQ(got[i].cookie, done + i);
				EXPECT_EQ(seen[i].position, buffers[done + i].position);
				EXPECT_EQ(handles(to_, FBUFS_RELEASE, {got[i].message}), 1);
			}
		}
}

// Messages are copied sixteen at a time, and handles, and fbufs for the sender, thirty-two: wherever the arrays end.
TEST_F(Rule16Errors, ALongVectorEndsWhereItCannotBeRead)
{
	constexpr std::uint32_t count = 40;
	for (const std::uint32_t there : {1u, 15u, 16u, 17u, 31u, 32u, 33u}) {
		for (const bool short_messages : {true, false}) {
			const auto buffers = own(count);
			Edge<fbufs_message> messages(short_messages ? there : count);
			Edge<fbufs_slice> slices(short_messages ? count : there);
			for (std::uint32_t i = 0; i < (short_messages ? there : count); i++) {
				messages.first()[i] = {};
				messages.first()[i].slices = 1;
			}
			for (std::uint32_t i = 0; i < (short_messages ? count : there); i++) {
				slices.first()[i] = {};
				slices.first()[i].fbuf = buffers[i].fbuf;
				slices.first()[i].length = 1;
			}
			fbufs_send args = {};
			args.size = sizeof(args);
			args.messages = address(messages.first());
			args.slices = address(slices.first());
			args.count = args.nslices = count;
			EXPECT_EQ(call(channel_.sender, FBUFS_SEND, args), there);
			std::vector<std::uint64_t> rest;
			for (std::uint32_t i = 0; i < count; i++) {
				EXPECT_EQ(state(buffers[i]), i < there ? FBUFS_STATE_SENT : FBUFS_STATE_OWNED);
				if (i >= there)
					rest.push_back(buffers[i].fbuf);
			}
			EXPECT_EQ(handles(from_.domain, FBUFS_FREE, rest), static_cast<long>(rest.size()));
			std::vector<fbufs_message> got(count);
			std::vector<fbufs_slice> seen(count);
			ASSERT_EQ(receive(channel_.receiver, got, seen), there);
			Edge<std::uint64_t> held(there);
			for (std::uint32_t i = 0; i < there; i++)
				held.first()[i] = got[i].message;
			fbufs_handles release = {};
			release.size = sizeof(release);
			release.handles = address(held.first());
			release.count = count;
			const long released = call(to_, FBUFS_RELEASE, release);
			EXPECT_EQ(released, there < 32 ? -EFAULT : 32);
			release.count = there - static_cast<std::uint32_t>(std::max(released, 0l));
			release.handles += 8 * static_cast<std::uint64_t>(std::max(released, 0l));
			EXPECT_EQ(call(to_, FBUFS_RELEASE, release), release.count);
		}
	}
}

// Its place is EMPTY, in an extent that others are in: over another channel, as the usual message.
TEST_F(Rule16Errors, AHandleOfAnFbufThatIsGone)
{
	const Channel other(from_.domain, to_, FBUFS_CHANNEL_VOLATILE);
	warm(channel_, to_, 2);
	warm(other, to_, 2);
	const auto stays = own(2);
	std::vector<fbufs_buffer> gone(2);
	{
		const Channel closing(from_.domain, to_);
		ASSERT_EQ(alloc(closing.sender, page, gone), 2);
		EXPECT_EQ(handles(from_.domain, FBUFS_FREE, {gone[0].fbuf, gone[1].fbuf}), 2);
	}
	for (const fbufs_buffer& each : gone) {
		EXPECT_EQ(state(each), FBUFS_STATE_EMPTY);
		EXPECT_EQ(send_one(channel_.sender, each.fbuf, 0, 1), -ENOENT);
		EXPECT_EQ(send_one(other.sender, each.fbuf, 0, 1), -ENOENT);
		EXPECT_EQ(handles(from_.domain, FBUFS_FREE, {each.fbuf}), -ENOENT);
	}
	EXPECT_EQ(send_one(channel_.sender, stays[0].fbuf, 0, 1), 1);
	EXPECT_EQ(handles(to_, FBUFS_RELEASE, {Received(channel_.receiver).handle()}), 1);
	EXPECT_EQ(handles(from_.domain, FBUFS_FREE, {stays[1].fbuf}), 1);
}

TEST_F(Rule16Errors, ARefillThatCannotBeToldAboutIsNotMade)
{
	const auto last = own(1);
	fbufs_message message = {};
	message.slices = 1;
	fbufs_slice slice = {};
	slice.fbuf = last[0].fbuf;
	slice.length = 1;
	Edge<fbufs_buffer> refill(1);
	fbufs_send args = {};
	args.size = sizeof(args);
	args.messages = address(&message);
	args.slices = address(&slice);
	args.count = args.nslices = 1;
	args.refill = address(refill.first());
	args.refill_bytes = page;
	args.refill_count = 3;
	EXPECT_EQ(call(channel_.sender, FBUFS_SEND, args), 1);
	EXPECT_LE(args.out_refilled, 1u);
	std::uint32_t owned = 0;
	for (std::uint64_t at = 0; at < from_.pool.out_span; at += page)
		owned += locate(from_.domain, FBUFS_POOL_OFFSET(from_.pool.out_pool) + at).out_state ==
			 FBUFS_STATE_OWNED;
	EXPECT_EQ(owned, args.out_refilled);
	EXPECT_EQ(Received(channel_.receiver).result, 1);
}

} // namespace
