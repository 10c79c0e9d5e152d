// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include "../transfer.h"
#include "fixture.h"

static struct fbufs_end_info info(struct fbufs_end *end)
{
	struct fbufs_end_info all = { };

	channel_end_info(end, &all);
	return all;
}

static void channel_depth(struct kunit *test)
{
	static const u32 depths[][2] = { { 0, 64 }, { 1, 1 }, { 5, 8 }, { 64, 64 },
					 { FBUFS_MAX_DEPTH, FBUFS_MAX_DEPTH } };
	struct fbufs_end *end;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(depths); i++) {
		end = fixture_channel(test, 0, depths[i][0]);
		KUNIT_EXPECT_EQ(test, info(end).out_depth, depths[i][1]);
	}
	KUNIT_EXPECT_PTR_EQ(test, channel_create(0, FBUFS_MAX_DEPTH + 1), ERR_PTR(-EINVAL));
}

static void channel_attaches_once(struct kunit *test)
{
	struct fixture *fixture = test->priv;
	struct fbufs_end *sender = fixture_channel(test, 0, 0);
	struct fbufs_end *receiver = channel_add_receiver(sender->channel);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, receiver);
	KUNIT_EXPECT_EQ(test, channel_check_end(receiver), -ENXIO);
	KUNIT_EXPECT_FALSE(test, info(receiver).out_attached);
	KUNIT_EXPECT_EQ(test, channel_attach(receiver, fixture->peer), 0);
	KUNIT_EXPECT_EQ(test, channel_attach(receiver, fixture->peer), -EBUSY);
	KUNIT_EXPECT_EQ(test, channel_attach(receiver, fixture->domain), -EBUSY);
	KUNIT_EXPECT_EQ(test, channel_check_end(receiver), 0);
	KUNIT_EXPECT_TRUE(test, info(receiver).out_attached);
	channel_end_close(receiver);
}

static void channel_receivers_are_bounded(struct kunit *test)
{
	struct fixture *fixture = test->priv;
	struct fbufs_end *sender = fixture_channel(test, 0, 1);
	struct fbufs_end *ends[FBUFS_MAX_RECEIVERS];
	u32 i;

	for (i = 0; i < FBUFS_MAX_RECEIVERS; i++) {
		ends[i] = fixture_receiver(test, sender, fixture->peer);
		KUNIT_EXPECT_EQ(test, ends[i]->index, i);
	}
	KUNIT_EXPECT_PTR_EQ(test, channel_add_receiver(sender->channel), ERR_PTR(-EUSERS));
	fixture_close(test, ends[17]);
	KUNIT_EXPECT_EQ(test, info(sender).out_receivers, FBUFS_MAX_RECEIVERS - 1);
	KUNIT_EXPECT_EQ(test, fixture_receiver(test, sender, fixture->peer)->index, 17);
}

/* First in, first out, over the end of the ring and many times around it. */
static void channel_keeps_order(struct kunit *test)
{
	struct fixture *fixture = test->priv;
	struct fbufs_end *sender = fixture_channel(test, 0, 4);
	struct fbufs_end *receiver = fixture_receiver(test, sender, fixture->peer);
	u64 sent = 0, received = 0;
	u32 round, i;

	for (round = 0; round < 20; round++) {
		for (i = 0; i < 3; i++)
			KUNIT_ASSERT_EQ(test, fixture_send_one(test, sender,
							       fixture_alloc(test, sender,
									     PAGE_SIZE).fbuf,
							       sent++), 1);
		for (i = 0; i < 3; i++) {
			struct fbufs_message message;
			struct fbufs_slice slice;

			KUNIT_ASSERT_EQ(test, fixture_receive(test, receiver, &message, &slice), 1);
			KUNIT_EXPECT_EQ(test, message.cookie, received++);
			KUNIT_EXPECT_EQ(test, message.length, PAGE_SIZE);
			KUNIT_EXPECT_EQ(test, transfer_release(fixture->peer, &message.message, 1),
					1);
		}
	}
	/* All that from the few fbufs that were in flight at a time. */
	KUNIT_EXPECT_EQ(test, fixture->pool->pages, 3);
}

/* The slowest receiver says how much room there is. */
static void channel_queue_is_bounded(struct kunit *test)
{
	struct fixture *fixture = test->priv;
	struct fbufs_end *sender = fixture_channel(test, 0, 2);
	struct fbufs_end *fast = fixture_receiver(test, sender, fixture->peer);
	struct fbufs_end *slow = fixture_receiver(test, sender, fixture->peer);
	struct fbufs_buffer third;
	struct fbufs_message message;
	struct fbufs_slice slice;
	u32 i;

	for (i = 0; i < 2; i++)
		KUNIT_EXPECT_EQ(test, fixture_send_one(test, sender,
						       fixture_alloc(test, sender,
								     PAGE_SIZE).fbuf, i), 1);
	third = fixture_alloc(test, sender, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, fixture_send_one(test, sender, third.fbuf, 2), -EAGAIN);
	KUNIT_EXPECT_EQ(test, fixture_receive(test, fast, &message, &slice), 1);
	KUNIT_EXPECT_EQ(test, info(sender).out_queued, 2);
	KUNIT_EXPECT_EQ(test, fixture_send_one(test, sender, third.fbuf, 2), -EAGAIN);
	KUNIT_EXPECT_EQ(test, fixture_receive(test, slow, &message, &slice), 1);
	KUNIT_EXPECT_EQ(test, info(sender).out_queued, 1);
	KUNIT_EXPECT_EQ(test, fixture_send_one(test, sender, third.fbuf, 2), 1);
}

/* Every receiver gets it; it goes home after the last of them. */
static void channel_fan_out(struct kunit *test)
{
	struct fixture *fixture = test->priv;
	struct fbufs_end *sender = fixture_channel(test, 0, 0);
	struct fbufs_end *receivers[3];
	struct fbufs_message messages[3];
	struct fbufs_buffer buffer;
	struct fbufs_slice slice;
	u32 i;

	for (i = 0; i < 3; i++)
		receivers[i] = fixture_receiver(test, sender, fixture->peer);
	buffer = fixture_alloc(test, sender, PAGE_SIZE);
	KUNIT_ASSERT_EQ(test, fixture_send_one(test, sender, buffer.fbuf, 1), 1);
	for (i = 0; i < 2; i++) {
		KUNIT_ASSERT_EQ(test, fixture_receive(test, receivers[i], &messages[i], &slice), 1);
		KUNIT_EXPECT_EQ(test, slice.fbuf, buffer.fbuf);
		KUNIT_EXPECT_EQ(test, transfer_release(fixture->peer, &messages[i].message, 1), 1);
		KUNIT_EXPECT_EQ(test, fixture_state(test, buffer.fbuf), FBUFS_STATE_SENT);
	}
	/* The third never looks at it. */
	fixture_close(test, receivers[2]);
	KUNIT_EXPECT_EQ(test, fixture_state(test, buffer.fbuf), FBUFS_STATE_FREE);
	KUNIT_EXPECT_EQ(test, fixture->pool->sent, 0);
}

static void channel_hangs_up(struct kunit *test)
{
	struct fixture *fixture = test->priv;
	struct fbufs_end *sender = fixture_channel(test, 0, 0);
	struct fbufs_end *receiver = fixture_receiver(test, sender, fixture->peer);
	struct fbufs_buffer buffer = fixture_alloc(test, sender, PAGE_SIZE);
	struct fbufs_message message;
	struct fbufs_slice slice;

	KUNIT_EXPECT_EQ(test, fixture_receive(test, receiver, &message, &slice), -EAGAIN);
	KUNIT_EXPECT_FALSE(test, info(receiver).out_hangup);
	KUNIT_ASSERT_EQ(test, fixture_send_one(test, sender, buffer.fbuf, 1), 1);
	fixture_close(test, sender);
	KUNIT_EXPECT_TRUE(test, info(receiver).out_hangup);
	/* What was sent is received, then the stream ends. */
	KUNIT_EXPECT_EQ(test, fixture_receive(test, receiver, &message, &slice), 1);
	KUNIT_EXPECT_EQ(test, fixture_receive(test, receiver, &message, &slice), 0);
	/* It has no home any more. */
	KUNIT_EXPECT_EQ(test, fixture->pool->pages, 1);
	KUNIT_EXPECT_EQ(test, transfer_release(fixture->peer, &message.message, 1), 1);
	KUNIT_EXPECT_EQ(test, fixture->pool->pages, 0);
}

static void channel_without_receivers(struct kunit *test)
{
	struct fixture *fixture = test->priv;
	struct fbufs_end *sender = fixture_channel(test, 0, 0);
	struct fbufs_end *receiver = fixture_receiver(test, sender, fixture->peer);
	struct fbufs_buffer buffer = fixture_alloc(test, sender, PAGE_SIZE), more;

	fixture_close(test, receiver);
	KUNIT_EXPECT_TRUE(test, info(sender).out_hangup);
	KUNIT_EXPECT_EQ(test, fixture_send_one(test, sender, buffer.fbuf, 1), -EPIPE);
	KUNIT_EXPECT_EQ(test, channel_alloc(sender, PAGE_SIZE, &more, 1), -EPIPE);
	KUNIT_EXPECT_EQ(test, fixture_state(test, buffer.fbuf), FBUFS_STATE_OWNED);
	KUNIT_EXPECT_EQ(test, transfer_free(fixture->domain, &buffer.fbuf, 1), 1);
}

/* Messages before the one with the mistake are sent, the others changed nothing. */
static void channel_stops_at_mistake(struct kunit *test)
{
	struct fixture *fixture = test->priv;
	struct fbufs_end *sender = fixture_channel(test, 0, 0);
	struct fbufs_end *receiver = fixture_receiver(test, sender, fixture->peer);
	struct fbufs_slice slices[3];
	u32 i;

	for (i = 0; i < 3; i++)
		slices[i] = (struct fbufs_slice){
			.fbuf = fixture_alloc(test, sender, PAGE_SIZE).fbuf,
			.length = PAGE_SIZE,
		};
	slices[1].offset = 1;
	KUNIT_EXPECT_EQ(test, fixture_send(test, sender, slices, 3, 0), 1);
	KUNIT_EXPECT_EQ(test, info(receiver).out_queued, 1);
	KUNIT_EXPECT_EQ(test, fixture_state(test, slices[0].fbuf), FBUFS_STATE_SENT);
	KUNIT_EXPECT_EQ(test, fixture_state(test, slices[1].fbuf), FBUFS_STATE_OWNED);
	KUNIT_EXPECT_EQ(test, fixture_state(test, slices[2].fbuf), FBUFS_STATE_OWNED);
	KUNIT_EXPECT_EQ(test, fixture_send(test, sender, slices + 1, 2, 0), -ERANGE);
	KUNIT_EXPECT_EQ(test, fixture_send(test, sender, slices + 2, 1, 0), 1);
}

/* A message is made out of the one before. */
static void channel_reuses_messages(struct kunit *test)
{
	struct fixture *fixture = test->priv;
	struct fbufs_end *sender = fixture_channel(test, FBUFS_CHANNEL_VOLATILE, 0);
	struct fbufs_end *receiver = fixture_receiver(test, sender, fixture->peer);
	s64 before = atomic64_read(&fbufs_gauges[FBUFS_GAUGE_MESSAGES]);
	struct fbufs_message message;
	struct fbufs_slice slice;
	u32 i;

	for (i = 0; i < 10; i++) {
		struct fbufs_buffer buffer = fixture_alloc(test, sender, PAGE_SIZE);

		KUNIT_ASSERT_EQ(test, fixture_send_one(test, sender, buffer.fbuf, i), 1);
		KUNIT_ASSERT_EQ(test, fixture_receive(test, receiver, &message, &slice), 1);
		KUNIT_ASSERT_EQ(test, transfer_release(fixture->peer, &message.message, 1), 1);
	}
	KUNIT_EXPECT_EQ(test, atomic64_read(&fbufs_gauges[FBUFS_GAUGE_MESSAGES]), before + 1);
	KUNIT_EXPECT_EQ(test, sender->channel->nspares, 1);
}

/* What the class of a source was told. */
struct told {
	struct kunit *test;
	u32 times;
	u64 handle;
};

static void count_home(struct fbufs_class *class, u64 handle)
{
	struct told *told = class->source;
	struct fixture *fixture = told->test->priv;

	lockdep_assert_held(&fixture->pool->lock);
	KUNIT_EXPECT_EQ(told->test, pool_lookup(fixture->pool, handle)->access.state,
			FBUFS_STATE_FREE);
	told->times++;
	told->handle = handle;
}

static void receive_and_release(struct kunit *test, struct fbufs_end *receiver, u64 fbuf)
{
	struct fixture *fixture = test->priv;
	struct fbufs_message message;
	struct fbufs_slice slice;

	KUNIT_ASSERT_EQ(test, fixture_receive(test, receiver, &message, &slice), 1);
	KUNIT_EXPECT_EQ(test, slice.fbuf, fbuf);
	KUNIT_EXPECT_TRUE(test, message.flags & FBUFS_MESSAGE_LOCKED);
	KUNIT_EXPECT_EQ(test, transfer_release(fixture->peer, &message.message, 1), 1);
}

/* What the kernel originates is counted while it is out, and who asked hears of each once. */
static void channel_counts_what_kernel_sends(struct kunit *test)
{
	struct fixture *fixture = test->priv;
	struct fbufs_end *sender = fixture_channel(test, 0, 0);
	struct fbufs_end *receiver = fixture_receiver(test, sender, fixture->peer);
	struct fbufs_channel *channel = sender->channel;
	struct channel_output outputs[2];
	struct told told = { .test = test };
	struct fbufs_class *class;
	struct fbuf *fbufs[3];
	u64 handles[2];
	u32 i;

	class = pool_class(fixture->pool, &channel->classes, channel, 1);
	KUNIT_ASSERT_NOT_NULL(test, class);
	class->on_home = count_home;
	class->source = &told;
	class->tell = true;
	KUNIT_ASSERT_EQ(test, transfer_alloc_for_kernel(fixture->domain, class, fbufs, 3, 3), 3);
	KUNIT_EXPECT_EQ(test, class->out, 3);
	transfer_free_from_kernel(fixture->pool, &fbufs[2], 1);
	KUNIT_EXPECT_EQ(test, class->out, 2);
	KUNIT_EXPECT_EQ(test, class->count, 1);
	KUNIT_EXPECT_EQ(test, told.times, 0);
	for (i = 0; i < 2; i++) {
		handles[i] = fbufs[i]->handle;
		outputs[i] = (struct channel_output){ .fbuf = fbufs[i], .length = 1 };
	}
	KUNIT_ASSERT_EQ(test, channel_send_from_kernel(sender, outputs, 2), 2);
	KUNIT_EXPECT_EQ(test, class->out, 2);

	receive_and_release(test, receiver, handles[0]);
	KUNIT_EXPECT_EQ(test, told.times, 1);
	KUNIT_EXPECT_EQ(test, told.handle, handles[0]);
	KUNIT_EXPECT_EQ(test, class->out, 1);
	class->tell = false;
	receive_and_release(test, receiver, handles[1]);
	KUNIT_EXPECT_EQ(test, told.times, 1);
	KUNIT_EXPECT_EQ(test, class->out, 0);
	KUNIT_EXPECT_EQ(test, class->count, 3);
}

static struct kunit_case channel_cases[] = {
	KUNIT_CASE(channel_depth),
	KUNIT_CASE(channel_attaches_once),
	KUNIT_CASE(channel_receivers_are_bounded),
	KUNIT_CASE(channel_keeps_order),
	KUNIT_CASE(channel_queue_is_bounded),
	KUNIT_CASE(channel_fan_out),
	KUNIT_CASE(channel_hangs_up),
	KUNIT_CASE(channel_without_receivers),
	KUNIT_CASE(channel_stops_at_mistake),
	KUNIT_CASE(channel_reuses_messages),
	KUNIT_CASE(channel_counts_what_kernel_sends),
	{ }
};

static struct kunit_suite channel_suite = {
	.name = "fbufs-channel",
	.init = fixture_init,
	.test_cases = channel_cases,
};

kunit_test_suite(channel_suite);
