// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * Rights as the processor sees them: the thread of a test maps windows and loads
 * and stores there as a process does; what a process gets SIGBUS for is EFAULT.
 */

#include <linux/mman.h>
#include <linux/uaccess.h>

#include "../map.h"
#include "../transfer.h"
#include "fixture.h"

#define RW_PROT (PROT_READ | PROT_WRITE)

static u64 counter(struct fbufs_domain *domain, enum fbufs_counter which)
{
	return atomic64_read(&domain->counters.n[which]);
}

/* Where a place of the pool is in a window. */
static u64 __user *at(struct kunit *test, unsigned long window, u64 position)
{
	struct fixture *fixture = test->priv;

	return (u64 __user *)(window + (position - pool_offset(fixture->pool)));
}

static int load(struct kunit *test, unsigned long window, u64 position)
{
	u64 value;

	return copy_from_user(&value, at(test, window, position), sizeof(value)) ? -EFAULT : 0;
}

static int store(struct kunit *test, unsigned long window, u64 position, u64 value)
{
	return put_user(value, at(test, window, position));
}

static void expect_value(struct kunit *test, unsigned long window, u64 position, u64 expected)
{
	u64 value = 0;

	KUNIT_EXPECT_EQ(test, get_user(value, at(test, window, position)), 0);
	KUNIT_EXPECT_EQ(test, value, expected);
}

/* What both sides of a transfer are made of. */
struct map_path {
	unsigned long window;
	unsigned long peer_window;
	struct fbufs_end *sender;
	struct fbufs_end *receiver;
};

static struct map_path path_make(struct kunit *test, u32 flags)
{
	struct fixture *fixture = test->priv;
	struct map_path path = {
		.window = fixture_window(test, fixture->domain),
		.sender = fixture_channel(test, flags, 0),
	};

	path.receiver = fixture_receiver(test, path.sender, fixture->peer);
	path.peer_window = fixture_window(test, fixture->peer);
	return path;
}

static u64 receive(struct kunit *test, struct map_path *path, u64 *position)
{
	struct fbufs_message message;
	struct fbufs_slice slice;

	KUNIT_ASSERT_EQ(test, fixture_receive(test, path->receiver, &message, &slice), 1);
	*position = slice.position;
	return message.message;
}

static void release(struct kunit *test, u64 message)
{
	struct fixture *fixture = test->priv;

	KUNIT_EXPECT_EQ(test, transfer_release(fixture->peer, &message, 1), 1);
}

static void map_window_is_whole(struct kunit *test)
{
	struct fixture *fixture = test->priv;
	unsigned long bytes = (unsigned long)fixture->pool->span << PAGE_SHIFT;
	u64 offset = pool_offset(fixture->pool);
	struct fbufs_domain *domain = fixture->domain;
	unsigned long at;

#define EXPECT_MAP(_error, _domain, _offset, _bytes, _prot, _flags) do {	\
	at = fixture_map(test, _domain, _offset, _bytes, _prot, _flags);	\
	KUNIT_EXPECT_EQ(test, (long)at, (long)(_error));			\
} while (0)
	EXPECT_MAP(-EINVAL, domain, offset, bytes - PAGE_SIZE, RW_PROT, MAP_SHARED);
	EXPECT_MAP(-EINVAL, domain, offset, bytes + PAGE_SIZE, RW_PROT, MAP_SHARED);
	EXPECT_MAP(-EINVAL, domain, offset + PAGE_SIZE, bytes, RW_PROT, MAP_SHARED);
	EXPECT_MAP(-EINVAL, domain, offset, bytes, RW_PROT, MAP_PRIVATE);
	EXPECT_MAP(-EACCES, domain, offset, bytes, RW_PROT | PROT_EXEC, MAP_SHARED);
	EXPECT_MAP(-EACCES, domain, offset, bytes, PROT_WRITE, MAP_SHARED);
	EXPECT_MAP(-ENOENT, domain, 0, bytes, RW_PROT, MAP_SHARED);
	EXPECT_MAP(-ENOENT, fixture->peer, offset, bytes, PROT_READ, MAP_SHARED);
	fixture_window(test, domain);
	EXPECT_MAP(-EEXIST, domain, offset, bytes, RW_PROT, MAP_SHARED);
#undef EXPECT_MAP
}

/* Another's pool: with a receiving end, for reading. */
static void map_peer_may_read(struct kunit *test)
{
	struct fixture *fixture = test->priv;
	struct map_path path = path_make(test, 0);
	unsigned long bytes = (unsigned long)fixture->pool->span << PAGE_SHIFT, at;

	fixture_receiver(test, path.sender, fixture->peer);
	at = fixture_map(test, fixture->peer, pool_offset(fixture->pool), bytes, RW_PROT,
			 MAP_SHARED);
	KUNIT_EXPECT_EQ(test, (long)at, -EACCES);
}

static void map_only_where_fbufs_are(struct kunit *test)
{
	struct map_path path = path_make(test, 0);
	struct fixture *fixture = test->priv;
	struct fbufs_buffer buffer;
	u64 beyond;

	KUNIT_EXPECT_EQ(test, load(test, path.window, pool_offset(fixture->pool)), -EFAULT);
	KUNIT_EXPECT_EQ(test, store(test, path.window, pool_offset(fixture->pool), 1), -EFAULT);
	buffer = fixture_alloc(test, path.sender, 3 * PAGE_SIZE);
	expect_value(test, path.window, buffer.position, 0);
	KUNIT_EXPECT_EQ(test, store(test, path.window, buffer.position + 2 * PAGE_SIZE, 1), 0);
	beyond = buffer.position + 3 * PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, load(test, path.window, beyond), -EFAULT);
}

/* Rule 7, with and without entries that were there before. */
static void map_lock(struct kunit *test)
{
	struct map_path path = path_make(test, 0);
	struct fbufs_buffer buffer;
	u64 message, position;
	u32 round;

	for (round = 0; round < 3; round++) {
		buffer = fixture_alloc(test, path.sender, PAGE_SIZE);
		KUNIT_EXPECT_EQ(test, store(test, path.window, buffer.position, 10 + round), 0);
		KUNIT_ASSERT_EQ(test, fixture_send_one(test, path.sender, buffer.fbuf, 0), 1);
		KUNIT_EXPECT_EQ(test, store(test, path.window, buffer.position, 99), -EFAULT);
		expect_value(test, path.window, buffer.position, 10 + round);
		/* Reading brought an entry back: it must not be writable. */
		KUNIT_EXPECT_EQ(test, store(test, path.window, buffer.position, 99), -EFAULT);
		message = receive(test, &path, &position);
		expect_value(test, path.peer_window, position, 10 + round);
		KUNIT_EXPECT_EQ(test, store(test, path.window, buffer.position, 99), -EFAULT);
		release(test, message);
	}
}

/* Rule 11. */
static void map_volatile_until_secured(struct kunit *test)
{
	struct fixture *fixture = test->priv;
	struct map_path path = path_make(test, FBUFS_CHANNEL_VOLATILE);
	struct fbufs_buffer buffer = fixture_alloc(test, path.sender, PAGE_SIZE);
	u64 message, position;

	KUNIT_EXPECT_EQ(test, store(test, path.window, buffer.position, 1), 0);
	KUNIT_ASSERT_EQ(test, fixture_send_one(test, path.sender, buffer.fbuf, 0), 1);
	message = receive(test, &path, &position);
	KUNIT_EXPECT_EQ(test, store(test, path.window, buffer.position, 2), 0);
	expect_value(test, path.peer_window, position, 2);
	KUNIT_EXPECT_EQ(test, transfer_secure_held(fixture->peer, &message, 1), 1);
	KUNIT_EXPECT_EQ(test, store(test, path.window, buffer.position, 3), -EFAULT);
	expect_value(test, path.peer_window, position, 2);
	release(test, message);
}

/* Rule 9: on an uncached channel what is held, no more and no longer. */
static void map_receiver_sees_what_it_holds(struct kunit *test)
{
	struct map_path path = path_make(test, FBUFS_CHANNEL_UNCACHED);
	struct fbufs_buffer buffer = fixture_alloc(test, path.sender, 3 * PAGE_SIZE);
	struct fbufs_slice slice = {
		.fbuf = buffer.fbuf, .offset = PAGE_SIZE, .length = PAGE_SIZE,
	};
	u64 message, position;

	KUNIT_EXPECT_EQ(test, load(test, path.peer_window, buffer.position), -EFAULT);
	KUNIT_ASSERT_EQ(test, fixture_send(test, path.sender, &slice, 1, 0), 1);
	KUNIT_EXPECT_EQ(test, load(test, path.peer_window, buffer.position + PAGE_SIZE), -EFAULT);
	message = receive(test, &path, &position);
	KUNIT_EXPECT_EQ(test, position, buffer.position + PAGE_SIZE);
	expect_value(test, path.peer_window, position, 0);
	KUNIT_EXPECT_EQ(test, load(test, path.peer_window, position - PAGE_SIZE), -EFAULT);
	KUNIT_EXPECT_EQ(test, load(test, path.peer_window, position + PAGE_SIZE), -EFAULT);
	release(test, message);
	KUNIT_EXPECT_EQ(test, load(test, path.peer_window, position), -EFAULT);
}

/* On a cached one the channel's fbufs, until the end is closed. */
static void map_cached_stays(struct kunit *test)
{
	struct map_path path = path_make(test, 0);
	struct fbufs_buffer buffer = fixture_alloc(test, path.sender, PAGE_SIZE);
	u64 message, position;

	KUNIT_ASSERT_EQ(test, fixture_send_one(test, path.sender, buffer.fbuf, 0), 1);
	message = receive(test, &path, &position);
	expect_value(test, path.peer_window, position, 0);
	release(test, message);
	expect_value(test, path.peer_window, position, 0);
	fixture_close(test, path.receiver);
	KUNIT_EXPECT_EQ(test, load(test, path.peer_window, position), -EFAULT);
}

#define MANY 8

/* Rule 12: one flush for all of them. */
static void map_one_flush_for_many(struct kunit *test)
{
	struct fixture *fixture = test->priv;
	struct map_path path = path_make(test, 0);
	struct fbufs_slice slices[MANY] = { };
	u64 flushes, cleared;
	u32 i;

	for (i = 0; i < MANY; i++) {
		struct fbufs_buffer buffer = fixture_alloc(test, path.sender, PAGE_SIZE);

		KUNIT_EXPECT_EQ(test, store(test, path.window, buffer.position, i), 0);
		/* Every other one first, so that they do not lie side by side. */
		slices[i % 2 ? MANY / 2 + i / 2 : i / 2] = (struct fbufs_slice){
			.fbuf = buffer.fbuf, .length = PAGE_SIZE,
		};
	}
	flushes = counter(fixture->domain, FBUFS_COUNT_TLB_FLUSHES);
	cleared = counter(fixture->domain, FBUFS_COUNT_PTES_CLEARED);
	KUNIT_ASSERT_EQ(test, fixture_send(test, path.sender, slices, MANY, 0), MANY);
	KUNIT_EXPECT_EQ(test, counter(fixture->domain, FBUFS_COUNT_TLB_FLUSHES), flushes + 1);
	KUNIT_EXPECT_GE(test, counter(fixture->domain, FBUFS_COUNT_PTES_CLEARED), cleared + MANY);
}

/* Rule 15. */
static void map_steady_state_maps_nothing(struct kunit *test)
{
	static const enum fbufs_counter counters[] = {
		FBUFS_COUNT_FAULTS, FBUFS_COUNT_PTES_SET, FBUFS_COUNT_PTES_CLEARED,
		FBUFS_COUNT_TLB_FLUSHES, FBUFS_COUNT_PAGES_ALLOCATED,
	};
	struct fixture *fixture = test->priv;
	struct map_path path = path_make(test, FBUFS_CHANNEL_VOLATILE);
	u64 before[ARRAY_SIZE(counters)] = { };
	u64 message, position;
	u32 round, i;

	for (round = 0; round < 5; round++) {
		struct fbufs_buffer buffer = fixture_alloc(test, path.sender, PAGE_SIZE);

		KUNIT_EXPECT_EQ(test, store(test, path.window, buffer.position, round), 0);
		KUNIT_ASSERT_EQ(test, fixture_send_one(test, path.sender, buffer.fbuf, 0), 1);
		message = receive(test, &path, &position);
		expect_value(test, path.peer_window, position, round);
		release(test, message);
		for (i = 0; !round && i < ARRAY_SIZE(counters); i++)
			before[i] = counter(fixture->domain, counters[i]) +
				    counter(fixture->peer, counters[i]);
	}
	for (i = 0; i < ARRAY_SIZE(counters); i++)
		KUNIT_EXPECT_EQ_MSG(test, counter(fixture->domain, counters[i]) +
				    counter(fixture->peer, counters[i]), before[i],
				    "counter %d", counters[i]);
}

/* The process dies with messages queued, held and half made; see fixture.c. */
static void map_dies_with_everything(struct kunit *test)
{
	struct map_path path = path_make(test, 0);
	u64 position;
	u32 i;

	for (i = 0; i < 4; i++) {
		struct fbufs_buffer buffer = fixture_alloc(test, path.sender, 2 * PAGE_SIZE);

		KUNIT_EXPECT_EQ(test, store(test, path.window, buffer.position, i), 0);
		if (i < 3)
			KUNIT_ASSERT_EQ(test, fixture_send_one(test, path.sender, buffer.fbuf, i),
					1);
	}
	receive(test, &path, &position);
	release(test, receive(test, &path, &position));
}

static struct kunit_case map_cases[] = {
	KUNIT_CASE(map_window_is_whole),
	KUNIT_CASE(map_peer_may_read),
	KUNIT_CASE(map_only_where_fbufs_are),
	KUNIT_CASE(map_lock),
	KUNIT_CASE(map_volatile_until_secured),
	KUNIT_CASE(map_receiver_sees_what_it_holds),
	KUNIT_CASE(map_cached_stays),
	KUNIT_CASE(map_one_flush_for_many),
	KUNIT_CASE(map_steady_state_maps_nothing),
	KUNIT_CASE(map_dies_with_everything),
	{ }
};

static struct kunit_suite map_suite = {
	.name = "fbufs-map",
	.init = fixture_init,
	.test_cases = map_cases,
};

kunit_test_suite(map_suite);
