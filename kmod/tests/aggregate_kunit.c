// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <kunit/test.h>

#include "../aggregate.h"
#include "../stats.h"

KUNIT_DEFINE_ACTION_WRAPPER(free_aggregate, aggregate_free, struct fbufs_aggregate *);

static struct fbufs_aggregate *aggregate_make(struct kunit *test, u32 room)
{
	struct fbufs_aggregate *aggregate = aggregate_alloc(room);

	KUNIT_ASSERT_NOT_NULL(test, aggregate);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, free_aggregate, aggregate), 0);
	aggregate->nsegments = 0;
	return aggregate;
}

static void aggregate_add(struct fbufs_aggregate *aggregate, struct fbuf *fbuf, u32 offset,
			  u32 length)
{
	aggregate->segments[aggregate->nsegments++] = (struct fbufs_segment){
		.fbuf = fbuf, .offset = offset, .length = length,
	};
}

/* Small messages are all of one size, so that their channel can use them again. */
static void aggregate_has_room(struct kunit *test)
{
	const u32 rooms[] = { 0, 1, MESSAGE_INLINE, MESSAGE_INLINE + 1, FBUFS_MAX_SLICES };
	struct fbuf fbuf = { };
	u32 i, j;

	for (i = 0; i < ARRAY_SIZE(rooms); i++) {
		struct fbufs_aggregate *aggregate = aggregate_make(test, rooms[i]);

		/* KASAN looks on. */
		for (j = 0; j < max_t(u32, rooms[i], MESSAGE_INLINE); j++)
			aggregate_add(aggregate, &fbuf, 0, 1);
	}
}

static void aggregate_is_counted(struct kunit *test)
{
	s64 before = atomic64_read(&fbufs_gauges[FBUFS_GAUGE_MESSAGES]);
	struct fbufs_aggregate *aggregate = aggregate_alloc(1);

	KUNIT_ASSERT_NOT_NULL(test, aggregate);
	KUNIT_EXPECT_EQ(test, atomic64_read(&fbufs_gauges[FBUFS_GAUGE_MESSAGES]), before + 1);
	aggregate_free(aggregate);
	KUNIT_EXPECT_EQ(test, atomic64_read(&fbufs_gauges[FBUFS_GAUGE_MESSAGES]), before);
}

static void aggregate_has_fbufs(struct kunit *test)
{
	struct fbufs_aggregate *aggregate = aggregate_make(test, 3);
	struct fbuf fbufs[4] = { };
	int i;

	KUNIT_EXPECT_FALSE(test, aggregate_has(aggregate, &fbufs[0]));
	for (i = 0; i < 3; i++)
		aggregate_add(aggregate, &fbufs[i], 0, 1);
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_TRUE(test, aggregate_has(aggregate, &fbufs[i]));
	KUNIT_EXPECT_FALSE(test, aggregate_has(aggregate, &fbufs[3]));
}

/* Which bytes the holder of a message may send on. */
static void aggregate_contains_bytes(struct kunit *test)
{
	struct fbufs_aggregate *aggregate = aggregate_make(test, 4);
	struct fbuf one = { }, two = { };

	aggregate_add(aggregate, &one, 100, 50);
	aggregate_add(aggregate, &two, 0, 10);
	aggregate_add(aggregate, &one, 150, 50);

	KUNIT_EXPECT_TRUE(test, aggregate_contains(aggregate, &one, 100, 50));
	KUNIT_EXPECT_TRUE(test, aggregate_contains(aggregate, &one, 149, 1));
	KUNIT_EXPECT_TRUE(test, aggregate_contains(aggregate, &one, 150, 50));
	KUNIT_EXPECT_TRUE(test, aggregate_contains(aggregate, &two, 9, 1));
	KUNIT_EXPECT_FALSE(test, aggregate_contains(aggregate, &one, 99, 2));
	KUNIT_EXPECT_FALSE(test, aggregate_contains(aggregate, &one, 199, 2));
	KUNIT_EXPECT_FALSE(test, aggregate_contains(aggregate, &two, 100, 1));
	/* Two slices side by side are two slices. */
	KUNIT_EXPECT_FALSE(test, aggregate_contains(aggregate, &one, 149, 2));
}

/* The end of a slice is beyond 32 bits. */
static void aggregate_contains_without_overflow(struct kunit *test)
{
	struct fbufs_aggregate *aggregate = aggregate_make(test, 1);
	struct fbuf fbuf = { };

	aggregate_add(aggregate, &fbuf, 4096, 4096);
	KUNIT_EXPECT_FALSE(test, aggregate_contains(aggregate, &fbuf, 4096, U32_MAX));
	KUNIT_EXPECT_FALSE(test, aggregate_contains(aggregate, &fbuf, 8191, U32_MAX - 8190 + 1));
	KUNIT_EXPECT_FALSE(test, aggregate_contains(aggregate, &fbuf, U32_MAX, 4098));
}

/* All slices once, in order, also with messages without slices in between. */
static void aggregate_walk(struct kunit *test)
{
	static const u32 slices[] = { 0, 2, 0, 0, 1, 3, 0 };
	struct fbufs_aggregate *aggregates[ARRAY_SIZE(slices)];
	u32 i, j, seen = 0, in_message = 0, last = 0;
	struct segment_walk walk;
	struct fbuf fbuf = { };
	bool more;

	for (i = 0; i < ARRAY_SIZE(slices); i++) {
		aggregates[i] = aggregate_make(test, slices[i]);
		for (j = 0; j < slices[i]; j++)
			aggregate_add(aggregates[i], &fbuf, 10 * i + j, 1);
	}
	for (more = walk_begin(&walk, aggregates, ARRAY_SIZE(slices)); more;
	     more = walk_next(&walk)) {
		u32 at = walk.segment->offset / 10;

		in_message = seen && at == last ? in_message + 1 : 0;
		last = at;
		KUNIT_EXPECT_EQ(test, (u32)walk.segment->offset, 10 * at + in_message);
		KUNIT_EXPECT_PTR_EQ(test, walk_aggregate(&walk), aggregates[at]);
		seen++;
	}
	KUNIT_EXPECT_EQ(test, seen, 6);
	KUNIT_EXPECT_FALSE(test, walk_begin(&walk, aggregates, 0));
	KUNIT_EXPECT_FALSE(test, walk_begin(&walk, aggregates, 1));
}

/* Of all who hold it the last one is told so. */
static void aggregate_is_put(struct kunit *test)
{
	struct fbufs_aggregate *aggregate = aggregate_make(test, 1);
	u32 holders, i;

	for (holders = 1; holders < 4; holders++) {
		aggregate_begin(aggregate, NULL, 0, 0);
		KUNIT_EXPECT_TRUE(test, aggregate_is_sole(aggregate));
		refcount_set(&aggregate->refs, holders);
		for (i = 1; i < holders; i++) {
			KUNIT_EXPECT_FALSE(test, aggregate_is_sole(aggregate));
			KUNIT_EXPECT_FALSE(test, aggregate_put(aggregate));
		}
		KUNIT_EXPECT_TRUE(test, aggregate_is_sole(aggregate));
		KUNIT_EXPECT_TRUE(test, aggregate_put(aggregate));
	}
}

static struct kunit_case aggregate_cases[] = {
	KUNIT_CASE(aggregate_has_room),
	KUNIT_CASE(aggregate_is_counted),
	KUNIT_CASE(aggregate_is_put),
	KUNIT_CASE(aggregate_has_fbufs),
	KUNIT_CASE(aggregate_contains_bytes),
	KUNIT_CASE(aggregate_contains_without_overflow),
	KUNIT_CASE(aggregate_walk),
	{ }
};

static struct kunit_suite aggregate_suite = {
	.name = "fbufs-aggregate",
	.test_cases = aggregate_cases,
};

kunit_test_suite(aggregate_suite);
