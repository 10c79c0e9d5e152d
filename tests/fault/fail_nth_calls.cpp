// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
// Copyright (c) 2026 The fbufs authors
//
// The calls of domains and ends, and what the processor does in a window.

#include "fault/fail_nth.hpp"

namespace {

using namespace uapi;

/*
 * The domain
 */

TEST_F(FailNth, Open)
{
	struct Scene : NoPool {
		Scene() { domain.reset(); }
	};
	EXPECT_GT(sweep([] { return Scene(); },
			[](Scene& scene) {
				scene.domain = open_domain();
				return scene.domain.get() < 0 ? -errno : 0;
			},
			judge<Scene>),
		  0u);
}

TEST_F(FailNth, Query)
{
	sweep([] { return NoPool(); },
	      [](NoPool& scene) {
		      fbufs_query query = {};
		      query.size = sizeof(query);
		      return call(scene.domain, FBUFS_QUERY, query);
	      },
	      judge<NoPool>);
}

TEST_F(FailNth, PoolCreate)
{
	EXPECT_GT(sweep([] { return NoPool(); },
			[](NoPool& scene) {
				fbufs_pool_create pool;
				return pool_create(scene.domain, 1 << 20, pool);
			},
			judge<NoPool>),
		  2u);
}

TEST_F(FailNth, PoolInfo)
{
	sweep([] { return Pool(); },
	      [](Pool& scene) {
		      fbufs_pool_info info = {};
		      info.size = sizeof(info);
		      info.pool = scene.actor.pool.out_pool;
		      return call(scene.actor.domain, FBUFS_POOL_INFO, info);
	      },
	      judge<Pool>);
}

TEST_F(FailNth, Map)
{
	struct Scene {
		Fd domain = open_domain();
		fbufs_pool_create pool = {};
		Window window;
		Scene() { EXPECT_EQ(pool_create(domain, 1 << 20, pool), 0); }
		void expect_usable()
		{
			if (window.error())
				window = Window(domain, pool.out_pool, pool.out_span, PROT_READ | PROT_WRITE);
			const fbufs_buffer buffer = alloc_one(domain);
			*window.at(buffer.position) = 1;
			expect_works(domain);
		}
	};
	EXPECT_GT(sweep([] { return Scene(); },
			[](Scene& scene) {
				scene.window = Window(scene.domain, scene.pool.out_pool, scene.pool.out_span,
						      PROT_READ | PROT_WRITE);
				return -static_cast<long>(scene.window.error());
			},
			judge<Scene>),
		  1u);
}

// A fault without memory is taken again.
TEST_F(FailNth, Touch)
{
	struct Scene : Pool {
		fbufs_buffer buffer;
		Scene()
		{
			actor.window = Window();
			buffer = alloc_one(actor.domain, 3 * page);
			actor.window =
				Window(actor.domain, actor.pool.out_pool, actor.pool.out_span, PROT_READ | PROT_WRITE);
		}
	};
	EXPECT_GT(sweep([] { return Scene(); },
			[](Scene& scene) {
				*scene.actor.at(scene.buffer) = 9;
				return *scene.actor.at(scene.buffer) == 9 ? 0L : -EIO;
			},
			[](Scene&, long result) { EXPECT_EQ(result, 0); }),
		  0u);
}

TEST_F(FailNth, Stats)
{
	sweep([] { return Pool(); },
	      [](Pool& scene) {
		      std::array<std::uint64_t, FBUFS_COUNTERS> numbers;
		      fbufs_stats args = {};
		      args.size = sizeof(args);
		      args.counters = address(numbers.data());
		      args.ncounters = FBUFS_COUNTERS;
		      return call(scene.actor.domain, FBUFS_STATS, args);
	      },
	      judge<Pool>);
}

TEST_F(FailNth, Locate)
{
	sweep([] { return Pool(); },
	      [](Pool& scene) {
		      fbufs_locate args = {};
		      args.size = sizeof(args);
		      args.position = FBUFS_POOL_OFFSET(scene.actor.pool.out_pool);
		      return call(scene.actor.domain, FBUFS_LOCATE, args);
	      },
	      judge<Pool>);
}

/*
 * Allocation
 */

// @n fbufs, by a call that does not take the answer's memory from the heap.
struct Allocating : Path {
	std::vector<fbufs_buffer> buffers;
	explicit Allocating(std::size_t n) : buffers(n) {}
	void expect_allocated(long result) const
	{
		expect_memory_error(result);
		for (long i = 0; i < result; i++)
			ASSERT_EQ(actor.state(buffers[static_cast<std::size_t>(i)]), FBUFS_STATE_OWNED);
	}
};

class FailNthAlloc : public FailNth, public testing::WithParamInterface<std::pair<std::size_t, std::size_t>> {};

TEST_P(FailNthAlloc, Domain)
{
	const auto [n, bytes] = GetParam();
	EXPECT_GT(sweep([n = n] { return Allocating(n); },
			[bytes = bytes](Allocating& scene) { return alloc(scene.actor.domain, bytes, scene.buffers); },
			[](Allocating& scene, long result) { scene.expect_allocated(result); }),
		  2u);
}

TEST_P(FailNthAlloc, End)
{
	const auto [n, bytes] = GetParam();
	EXPECT_GT(
		sweep([n = n] { return Allocating(n); },
		      [bytes = bytes](Allocating& scene) { return alloc(scene.channel.sender, bytes, scene.buffers); },
		      [](Allocating& scene, long result) { scene.expect_allocated(result); }),
		2u);
}

// One page; several of them; a length that takes more than one block of pages.
INSTANTIATE_TEST_SUITE_P(, FailNthAlloc,
			 testing::Values(std::pair{1, page}, std::pair{10, page}, std::pair{1, 300 * page + 1}),
			 [](const auto& each) {
				 return std::to_string(each.param.first) + "x" + std::to_string(each.param.second);
			 });

TEST_F(FailNth, Free)
{
	struct Scene : Pool {
		fbufs_buffer buffer = alloc_one(actor.domain);
	};
	sweep([] { return Scene(); },
	      [](Scene& scene) { return handles(scene.actor.domain, FBUFS_FREE, {scene.buffer.fbuf}); },
	      [](Scene& scene, long result) {
		      expect_memory_error(result);
		      EXPECT_EQ(scene.actor.state(scene.buffer), result == 1 ? FBUFS_STATE_FREE : FBUFS_STATE_OWNED);
	      });
}

/*
 * Channels
 */

TEST_F(FailNth, ChannelCreate)
{
	struct Scene : Pool {
		Fd sender, receiver;
	};
	EXPECT_GT(sweep([] { return Scene(); },
			[](Scene& scene) {
				return channel_create(scene.actor.domain, FBUFS_CHANNEL_ATTACH_SENDER, 4096,
						      scene.sender, scene.receiver);
			},
			judge<Scene>),
		  5u);
}

TEST_F(FailNth, AddReceiver)
{
	struct Scene : Path {
		Fd more;
	};
	EXPECT_GT(sweep([] { return Scene(); },
			[](Scene& scene) { return add_receiver(scene.channel.sender, scene.more); },
			[](Scene& scene, long result) {
				expect_memory_error(result);
				EXPECT_EQ(end_info(scene.channel.sender).out_receivers, result == 0 ? 2u : 1u);
				// It would keep what is sent.
				scene.more.reset();
			}),
		  2u);
}

TEST_F(FailNth, Attach)
{
	struct Scene : Pool {
		Fd sender, receiver;
		Scene() { EXPECT_EQ(channel_create(actor.domain, 0, 0, sender, receiver), 0); }
	};
	for (const bool sending : {true, false})
		sweep([] { return Scene(); },
		      [=](Scene& scene) { return attach(sending ? scene.sender : scene.receiver, scene.actor.domain); },
		      judge<Scene>);
}

TEST_F(FailNth, EndInfo)
{
	sweep([] { return Path(); },
	      [](Path& scene) {
		      fbufs_end_info info = {};
		      info.size = sizeof(info);
		      return call(scene.channel.receiver, FBUFS_END_INFO, info);
	      },
	      judge<Path>);
}

/*
 * Sending and receiving
 */

struct Shape {
	std::size_t messages;
	std::uint32_t slices;
	std::uint32_t channel;
	std::uint32_t message;
};

class FailNthTransfer : public FailNth, public testing::WithParamInterface<Shape> {};

TEST_P(FailNthTransfer, Send)
{
	const Shape shape = GetParam();
	sweep([=] { return Sending(shape.messages, shape.slices, shape.message, shape.channel); },
	      [](Sending& scene) { return scene.send(); },
	      [](Sending& scene, long result) {
		      expect_memory_error(result);
		      scene.expect_rest_unsent(result);
	      });
}

TEST_P(FailNthTransfer, Receive)
{
	const Shape shape = GetParam();
	EXPECT_GT(sweep([=] { return Receiving(shape.messages, shape.slices, shape.channel); },
			[](Receiving& scene) { return scene.receive(); },
			[](Receiving& scene, long result) {
				expect_memory_error(result);
				scene.expect_rest_queued(result);
			}),
		  0u);
}

TEST_P(FailNthTransfer, Release)
{
	const Shape shape = GetParam();
	sweep([=] { return Holding(shape.messages, shape.slices, shape.channel); },
	      [](Holding& scene) { return handles(scene.peer, FBUFS_RELEASE, scene.held); },
	      [](Holding& scene, long result) {
		      expect_memory_error(result);
		      const std::size_t done = result < 0 ? 0 : static_cast<std::size_t>(result);
		      for (std::size_t i = done; i < scene.held.size(); i++)
			      ASSERT_EQ(handles(scene.peer, FBUFS_RELEASE, {scene.held[i]}), 1);
	      });
}

TEST_P(FailNthTransfer, Secure)
{
	const Shape shape = GetParam();
	sweep([=] { return Holding(shape.messages, shape.slices, shape.channel); },
	      [](Holding& scene) { return handles(scene.peer, FBUFS_SECURE, scene.held); },
	      [](Holding& scene, long result) {
		      expect_memory_error(result);
		      for (long i = 0; i < result * static_cast<long>(scene.messages.messages[0].slices); i++)
			      ASSERT_TRUE(store_faults(
				      scene.actor.at(scene.messages.buffers[static_cast<std::size_t>(i)])));
	      });
}

// Messages of few slices are made out of earlier ones, others are not; vectors are longer than what is copied at once.
INSTANTIATE_TEST_SUITE_P(, FailNthTransfer,
			 testing::Values(Shape{1, 1, 0, 0}, Shape{40, 1, FBUFS_CHANNEL_VOLATILE, 0},
					 Shape{1, 40, 0, FBUFS_MESSAGE_NOTICE},
					 Shape{3, 5, FBUFS_CHANNEL_UNCACHED, FBUFS_MESSAGE_NOTICE}),
			 [](const auto& each) {
				 return std::to_string(each.param.messages) + "of" + std::to_string(each.param.slices);
			 });

// Fbufs of the domain become a channel's with the send call.
TEST_F(FailNth, SendUnbound)
{
	struct Scene : Path {
		fbufs_buffer buffer = alloc_one(actor.domain, 2 * page);
	};
	EXPECT_GT(sweep([] { return Scene(); },
			[](Scene& scene) {
				return send_one(scene.channel.sender, scene.buffer.fbuf, 0, page, 0, FBUFS_DONTWAIT);
			},
			[](Scene& scene, long result) {
				expect_memory_error(result);
				EXPECT_EQ(scene.actor.state(scene.buffer),
					  result == 1 ? FBUFS_STATE_SENT : FBUFS_STATE_OWNED);
			}),
		  0u);
}

// The first message on a way back: the send, the refill, the release and the receive in one.
TEST_F(FailNth, Call)
{
	struct Scene : Path {
		Channel back{actor.domain, actor.domain};
		fbufs_buffer own = alloc_one(channel.sender);
		std::vector<fbufs_message> messages{1}, answers{1};
		std::vector<fbufs_slice> slices{1}, answer_slices{1};
		std::vector<fbufs_buffer> refill = std::vector<fbufs_buffer>(4);
		std::vector<std::uint64_t> held;
		fbufs_call args = {};

		Scene()
		{
			for (int i = 0; i < 2; i++)
				EXPECT_EQ(send_one(back.sender, alloc_one(back.sender).fbuf, 0, page), 1);
			held = {Received(back.receiver).handle()};
		}
	};
	EXPECT_GT(sweep([] { return Scene(); },
			[](Scene& scene) {
				scene.messages[0].slices = 1;
				scene.slices[0].fbuf = scene.own.fbuf;
				scene.slices[0].length = page;
				scene.args = call_args(scene.back.receiver, scene.messages, scene.slices, scene.answers,
						       scene.answer_slices, scene.held);
				scene.args.flags = FBUFS_DONTWAIT;
				scene.args.send.refill = address(scene.refill.data());
				scene.args.send.refill_bytes = 3 * page;
				scene.args.send.refill_count = 4;
				return call(scene.channel.sender, FBUFS_CALL, scene.args);
			},
			[](Scene& scene, long result) {
				expect_memory_error(result);
				EXPECT_EQ(scene.actor.state(scene.own),
					  scene.args.out_sent ? FBUFS_STATE_SENT : FBUFS_STATE_OWNED);
				EXPECT_EQ(end_info(scene.back.receiver).out_queued, result == 1 ? 0u : 1u);
				for (std::uint32_t i = 0; i < scene.args.send.out_refilled; i++)
					ASSERT_EQ(scene.actor.state(scene.refill[i]), FBUFS_STATE_OWNED);
			}),
		  1u);
}

TEST_F(FailNth, SendRefill)
{
	struct Scene : Sending {
		std::vector<fbufs_buffer> refill = std::vector<fbufs_buffer>(4);
		fbufs_send args = {};
	};
	EXPECT_GT(sweep([] { return Scene(); },
			[](Scene& scene) {
				scene.args.size = sizeof(scene.args);
				scene.args.messages = address(scene.messages.messages.data());
				scene.args.slices = address(scene.messages.slices.data());
				scene.args.count = 1;
				scene.args.nslices = 1;
				scene.args.refill = address(scene.refill.data());
				scene.args.refill_bytes = 3 * page;
				scene.args.refill_count = 4;
				return call(scene.channel.sender, FBUFS_SEND, scene.args);
			},
			[](Scene& scene, long result) {
				expect_memory_error(result);
				for (std::uint32_t i = 0; result == 1 && i < scene.args.out_refilled; i++)
					ASSERT_EQ(scene.actor.state(scene.refill[i]), FBUFS_STATE_OWNED);
			}),
		  2u);
}

// What is copied: into a new fbuf of a new list, and into one that is at home; behind one that is handed over.
TEST_F(FailNth, SendCopied)
{
	struct Scene : Sending {
		const std::vector<std::uint8_t> data = std::vector<std::uint8_t>(FBUFS_MAX_COPY, 7);
		explicit Scene(bool warm = false)
		{
			const fbufs_message copy = copied_message(2);
			for (int i = 0; i < 2; i++) {
				messages.messages.push_back(copy);
				for (const std::uint32_t length : {100u, FBUFS_MAX_COPY - 100u})
					messages.slices.push_back(memory_slice(data.data(), length));
			}
			if (!warm)
				return;
			EXPECT_EQ(uapi::send(channel.sender, {copy}, {messages.slices[1], messages.slices[2]}), 1);
			EXPECT_EQ(handles(peer, FBUFS_RELEASE, {Received(channel.receiver).handle()}), 1);
		}
	};
	const auto judge_sent = [](Scene& scene, long result) {
		expect_memory_error(result);
		EXPECT_EQ(scene.actor.state(scene.messages.buffers[0]),
			  result > 0 ? FBUFS_STATE_SENT : FBUFS_STATE_OWNED);
		EXPECT_EQ(end_info(scene.channel.receiver).out_queued,
			  result > 0 ? static_cast<std::uint32_t>(result) : 0u);
		for (long i = 0; i < result; i++) {
			const Received received(scene.channel.receiver);
			ASSERT_EQ(received.message.length, i == 0 ? page : FBUFS_MAX_COPY);
			for (std::size_t at = 0; at < received.message.length && i > 0; at += 100)
				ASSERT_EQ(scene.window.at(received.slices[0].position)[at], 7);
			EXPECT_EQ(handles(scene.peer, FBUFS_RELEASE, {received.handle()}), 1);
		}
	};
	EXPECT_GT(sweep([] { return Scene(); }, [](Scene& scene) { return scene.send(); }, judge_sent), 4u);
	EXPECT_GT(sweep([] { return Scene(true); }, [](Scene& scene) { return scene.send(); }, judge_sent), 0u);
}

// A held message is sent on.
TEST_F(FailNth, Forward)
{
	struct Scene : Holding {
		Fd third = open_domain();
		Channel onward{peer, third};
		Scene() : Holding(1, 5) {}
	};
	sweep([] { return Scene(); },
	      [](Scene& scene) {
		      const std::vector<fbufs_slice> slices = {
			      slice_of(scene.messages.buffers[2].fbuf, 8, 16, scene.held[0])};
		      fbufs_message message = {};
		      message.slices = 1;
		      return send(scene.onward.sender, {message}, slices, FBUFS_DONTWAIT);
	      },
	      [](Scene& scene, long result) {
		      expect_memory_error(result);
		      EXPECT_EQ(end_info(scene.onward.receiver).out_queued, result == 1 ? 1u : 0u);
	      });
}

TEST_F(FailNth, ReceiveAndRelease)
{
	struct Scene : Holding {
		Scene() : Holding(2, 1)
		{
			messages = Messages(channel.sender, 2, 1);
			EXPECT_EQ(send(), 2);
		}
	};
	sweep([] { return Scene(); }, [](Scene& scene) { return scene.receive(scene.held); },
	      [](Scene& scene, long result) {
		      expect_memory_error(result);
		      scene.expect_rest_queued(result);
	      });
}

TEST_F(FailNth, Notices)
{
	struct Scene : Sending {
		std::vector<std::uint64_t> fbufs = std::vector<std::uint64_t>(40);
		Scene() : Sending(1, 40, FBUFS_MESSAGE_NOTICE)
		{
			EXPECT_EQ(send(), 1);
			channel.receiver.reset();
		}
		void expect_usable() const { Pool::expect_usable(); }
	};
	sweep([] { return Scene(); },
	      [](Scene& scene) {
		      fbufs_notices args = {};
		      args.size = sizeof(args);
		      args.fbufs = address(scene.fbufs.data());
		      args.count = 40;
		      return call(scene.actor.domain, FBUFS_NOTICES, args);
	      },
	      judge<Scene>);
}

TEST_F(FailNth, CloseEverything)
{
	struct Scene : Holding {
		Scene() : Holding(3, 5)
		{
			messages = Messages(channel.sender, 3, 5);
			EXPECT_EQ(send(), 3);
		}
		void expect_usable() {}
	};
	sweep([] { return Scene(); },
	      [](Scene& scene) {
		      scene.channel.receiver.reset();
		      scene.channel.sender.reset();
		      scene.actor.window = Window();
		      scene.actor.domain.reset();
		      scene.peer.reset();
		      scene.window = Window();
		      return 0L;
	      },
	      judge<Scene>);
}

} // namespace
