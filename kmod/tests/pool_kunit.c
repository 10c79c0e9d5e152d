// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/bitmap.h>

#include "fixture.h"

static struct fbufs_pool *the_pool(struct kunit *test)
{
	return ((struct fixture *)test->priv)->pool;
}

/* A place of the pool, OWNED and without pages; what it is allocated as. */
struct place {
	struct fbuf *fbuf;
	struct fbufs_buffer buffer;
};

static struct place place_get(struct kunit *test, u32 npages)
{
	struct fbufs_pool *pool = the_pool(test);
	struct place place = { .fbuf = pool_slot_get(pool, npages) };

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, place.fbuf);
	spin_lock(&pool->lock);
	pool_hand_out(pool, place.fbuf, &place.buffer);
	spin_unlock(&pool->lock);
	return place;
}

static void place_put(struct kunit *test, struct fbuf *fbuf)
{
	struct fbufs_pool *pool = the_pool(test);

	fbuf->access = (struct fbufs_access){ FBUFS_STATE_EMPTY };
	pool_slot_put(pool, fbuf);
}

static struct fbuf *lookup(struct kunit *test, u64 handle)
{
	struct fbufs_pool *pool = the_pool(test);
	struct fbuf *fbuf;

	spin_lock(&pool->lock);
	fbuf = pool_lookup(pool, handle);
	spin_unlock(&pool->lock);
	return fbuf;
}

static struct fbuf *find(struct kunit *test, u32 page)
{
	struct fbufs_pool *pool = the_pool(test);
	struct fbuf *fbuf;

	spin_lock(&pool->lock);
	fbuf = pool_find(pool, page);
	spin_unlock(&pool->lock);
	return fbuf;
}

/*
 * Creation
 */

static void pool_one_a_process(struct kunit *test)
{
	struct fixture *fixture = test->priv;

	/* The peer's domain is of the same address space. */
	KUNIT_EXPECT_PTR_EQ(test, pool_create(fixture->peer, PAGE_SIZE, 0), ERR_PTR(-EEXIST));
}

static void pool_sizes_are_checked(struct kunit *test)
{
	struct fixture *fixture = test->priv;

	KUNIT_EXPECT_PTR_EQ(test, pool_create(fixture->peer, 0, 0), ERR_PTR(-EINVAL));
	KUNIT_EXPECT_PTR_EQ(test, pool_create(fixture->peer, FBUFS_MAX_POOL + 1, 0),
			    ERR_PTR(-EINVAL));
	KUNIT_EXPECT_PTR_EQ(test, pool_create(fixture->peer, U64_MAX, 0), ERR_PTR(-EINVAL));
}

static void pool_found_by_id(struct kunit *test)
{
	struct fbufs_pool *pool = the_pool(test), *found = pool_get_by_id(pool->id);

	KUNIT_EXPECT_PTR_EQ(test, found, pool);
	KUNIT_EXPECT_NULL(test, pool_get_by_id(0));
	KUNIT_EXPECT_NULL(test, pool_get_by_id(MAX_POOL_ID + 1));
	if (found)
		pool_put(found);
}

/*
 * Handles and addresses
 */

static void pool_handle_is_new_each_time(struct kunit *test)
{
	struct fbufs_pool *pool = the_pool(test);
	struct place place = place_get(test, 1);
	struct fbufs_buffer again;

	KUNIT_EXPECT_PTR_EQ(test, lookup(test, place.buffer.fbuf), place.fbuf);
	KUNIT_EXPECT_EQ(test, FBUFS_HANDLE_POOL(place.buffer.fbuf), pool->id);

	spin_lock(&pool->lock);
	KUNIT_EXPECT_EQ(test, access_free(&place.fbuf->access), 0);
	pool_hand_out(pool, place.fbuf, &again);
	spin_unlock(&pool->lock);
	KUNIT_EXPECT_NE(test, again.fbuf, place.buffer.fbuf);
	KUNIT_EXPECT_EQ(test, again.position, place.buffer.position);
	KUNIT_EXPECT_NULL(test, lookup(test, place.buffer.fbuf));
	KUNIT_EXPECT_PTR_EQ(test, lookup(test, again.fbuf), place.fbuf);

	place_put(test, place.fbuf);
	KUNIT_EXPECT_NULL(test, lookup(test, again.fbuf));
}

/* The number of allocations wraps without getting into the pool's bits. */
static void pool_handle_wraps(struct kunit *test)
{
	struct fbufs_pool *pool = the_pool(test);
	struct place place = place_get(test, 1);
	struct fbufs_buffer next;

	spin_lock(&pool->lock);
	place.fbuf->handle |= HANDLE_GEN_MASK;
	KUNIT_EXPECT_EQ(test, access_free(&place.fbuf->access), 0);
	pool_hand_out(pool, place.fbuf, &next);
	spin_unlock(&pool->lock);
	KUNIT_EXPECT_EQ(test, next.fbuf & HANDLE_GEN_MASK, 0);
	KUNIT_EXPECT_EQ(test, FBUFS_HANDLE_POOL(next.fbuf), pool->id);
	KUNIT_EXPECT_PTR_EQ(test, lookup(test, next.fbuf), place.fbuf);
	place_put(test, place.fbuf);
}

static void pool_knows_no_other_handles(struct kunit *test)
{
	struct place place = place_get(test, 1);
	u64 handle = place.buffer.fbuf;
	int bit;

	KUNIT_EXPECT_NULL(test, lookup(test, 0));
	KUNIT_EXPECT_NULL(test, lookup(test, U64_MAX));
	for (bit = 0; bit < 64; bit++)
		KUNIT_EXPECT_NULL_MSG(test, lookup(test, handle ^ BIT_ULL(bit)), "bit %d", bit);
	place_put(test, place.fbuf);
}

/* An extent that is gone: its handles do not fit the next one with its id. */
static void pool_handle_of_gone_extent(struct kunit *test)
{
	struct place old = place_get(test, 16), new;
	u32 i, id = fbuf_extent(old.fbuf)->id;
	u64 handle = old.buffer.fbuf;

	place_put(test, old.fbuf);
	the_pool(test)->next_extent = id;
	new = place_get(test, 16);
	KUNIT_ASSERT_EQ(test, fbuf_extent(new.fbuf)->id, id);
	for (i = 0; i < 1000; i++) {
		KUNIT_ASSERT_NULL_MSG(test, lookup(test, handle), "after %u allocations", i);
		spin_lock(&the_pool(test)->lock);
		access_free(&new.fbuf->access);
		pool_hand_out(the_pool(test), new.fbuf, &new.buffer);
		spin_unlock(&the_pool(test)->lock);
	}
	place_put(test, new.fbuf);
}

#define PLACES 48

/* Fbufs of different lengths do not overlap, and each page leads to its fbuf. */
static void pool_places_are_apart(struct kunit *test)
{
	static const u32 lengths[] = { 1, 3, 1, 16, 2, 7 };
	struct fbufs_pool *pool = the_pool(test);
	unsigned long *taken = bitmap_zalloc(pool->span, GFP_KERNEL);
	struct fbuf *fbufs[PLACES];
	u32 i, page;

	KUNIT_ASSERT_NOT_NULL(test, taken);
	for (i = 0; i < PLACES; i++) {
		u32 npages = lengths[i % ARRAY_SIZE(lengths)], first;

		fbufs[i] = place_get(test, npages).fbuf;
		first = fbuf_first(fbufs[i]);
		KUNIT_EXPECT_EQ(test, fbuf_npages(fbufs[i]), npages);
		KUNIT_ASSERT_LE(test, first + npages, pool->span);
		KUNIT_EXPECT_GE_MSG(test, find_next_bit(taken, first + npages, first),
				    first + npages, "fbuf %u overlaps", i);
		bitmap_set(taken, first, npages);
		for (page = first; page < first + npages; page++)
			KUNIT_EXPECT_PTR_EQ(test, find(test, page), fbufs[i]);
	}
	for (i = 0; i < PLACES; i++)
		place_put(test, fbufs[i]);
	for (page = 0; page < pool->span; page++)
		KUNIT_ASSERT_NULL_MSG(test, find(test, page), "page %u", page);
	bitmap_free(taken);
}

/* No room in the address space is an error like no memory, and passes. */
static void pool_space_ends(struct kunit *test)
{
	struct fbufs_pool *pool = the_pool(test);
	u32 half = pool->span / 2 + 1;
	struct place place = place_get(test, half);

	KUNIT_EXPECT_PTR_EQ(test, pool_slot_get(pool, half), ERR_PTR(-ENOBUFS));
	place_put(test, place.fbuf);
	place = place_get(test, half);
	place_put(test, place.fbuf);
}

/*
 * Free lists
 */

static void pool_list_is_lifo(struct kunit *test)
{
	struct fbufs_pool *pool = the_pool(test);
	struct fbufs_class *class = pool_class(pool, &pool->unbound, NULL, 1);
	struct fbufs_buffer buffers[3];
	struct fbuf *fbufs[3];
	bool unmapped = false;
	u32 i;

	KUNIT_ASSERT_NOT_NULL(test, class);
	KUNIT_EXPECT_PTR_EQ(test, pool_class(pool, &pool->unbound, NULL, 1), class);
	KUNIT_EXPECT_EQ(test, pool_take(class, buffers, 1, &unmapped), 0);
	for (i = 0; i < 3; i++) {
		fbufs[i] = place_get(test, 1).fbuf;
		fbufs[i]->home = class;
		spin_lock(&pool->lock);
		KUNIT_EXPECT_EQ(test, access_free(&fbufs[i]->access), 0);
		pool_push(fbufs[i]);
		spin_unlock(&pool->lock);
	}
	KUNIT_EXPECT_EQ(test, class->count, 3);
	/* Two, then what is left. */
	KUNIT_EXPECT_EQ(test, pool_take(class, buffers, 2, &unmapped), 2);
	KUNIT_EXPECT_EQ(test, pool_take(class, buffers + 2, 2, &unmapped), 1);
	KUNIT_EXPECT_TRUE(test, unmapped);
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_PTR_EQ(test, lookup(test, buffers[i].fbuf), fbufs[2 - i]);
	KUNIT_EXPECT_EQ(test, class->count, 0);
	spin_lock(&pool->lock);
	KUNIT_EXPECT_NULL(test, pool_victim(pool));
	spin_unlock(&pool->lock);
	KUNIT_EXPECT_TRUE(test, list_empty(&pool->stocked));
	for (i = 0; i < 3; i++)
		place_put(test, fbufs[i]);
}

static void pool_victim_leaves(struct kunit *test)
{
	struct fbufs_pool *pool = the_pool(test);
	struct fbufs_class *class = pool_class(pool, &pool->unbound, NULL, 2);
	struct fbuf *fbuf = place_get(test, 2).fbuf, *victim;

	KUNIT_ASSERT_NOT_NULL(test, class);
	fbuf->home = class;
	pool->pages += 2;
	spin_lock(&pool->lock);
	KUNIT_EXPECT_NULL(test, pool_victim(pool));
	access_free(&fbuf->access);
	pool_push(fbuf);
	victim = pool_victim(pool);
	KUNIT_EXPECT_PTR_EQ(test, victim, fbuf);
	KUNIT_EXPECT_EQ(test, fbuf->access.state, FBUFS_STATE_LEAVING);
	KUNIT_EXPECT_EQ(test, pool->nleaving, 1);
	if (victim)
		pool_gone(pool, victim);
	KUNIT_EXPECT_EQ(test, pool->nleaving, 0);
	KUNIT_EXPECT_EQ(test, pool->pages, 0);
	spin_unlock(&pool->lock);
	pool_slot_put(pool, fbuf);
}

static void pool_classes_go_when_emptied(struct kunit *test)
{
	struct fbufs_pool *pool = the_pool(test);
	struct fbuf *fbuf = place_get(test, 1).fbuf;
	struct fbufs_class *class;
	struct xarray classes;

	xa_init(&classes);
	class = pool_class(pool, &classes, NULL, 1);
	KUNIT_ASSERT_NOT_NULL(test, class);
	fbuf->home = class;
	spin_lock(&pool->lock);
	access_free(&fbuf->access);
	pool_push(fbuf);
	KUNIT_EXPECT_PTR_EQ(test, pool_pop(class), fbuf);
	KUNIT_EXPECT_FALSE(test, list_empty(&pool->stocked));
	spin_unlock(&pool->lock);
	pool_classes_destroy(&classes);
	KUNIT_EXPECT_TRUE(test, list_empty(&pool->stocked));
	place_put(test, fbuf);
}

/*
 * Memory
 */

static void pool_limit_holds(struct kunit *test)
{
	struct fbufs_pool *pool = the_pool(test);

	KUNIT_EXPECT_EQ(test, pool_charge(pool, FIXTURE_PAGES + 1), -ENOBUFS);
	KUNIT_EXPECT_EQ(test, pool_charge(pool, FIXTURE_PAGES - 1), 0);
	KUNIT_EXPECT_EQ(test, pool_charge(pool, 2), -ENOBUFS);
	KUNIT_EXPECT_EQ(test, pool_charge(pool, 1), 0);
	KUNIT_EXPECT_EQ(test, pool_charge(pool, 1), -ENOBUFS);
	KUNIT_EXPECT_EQ(test, pool_charge(pool, U32_MAX), -ENOBUFS);
	pool->starved = true;
	pool_uncharge(pool, FIXTURE_PAGES);
	KUNIT_EXPECT_FALSE(test, pool->starved);
	KUNIT_EXPECT_EQ(test, pool->pages, 0);
}

/*
 * Notices
 */

static void notice_post(struct kunit *test, struct fbuf *fbuf, u64 number)
{
	struct fbufs_pool *pool = the_pool(test);

	spin_lock(&pool->lock);
	fbuf->handle = number;
	pool_notice(pool, fbuf, ACCESS_NOTICE);
	spin_unlock(&pool->lock);
}

/* In order, also when the ring wraps and grows in the middle of that. */
static void pool_notices_keep_order(struct kunit *test)
{
	struct fbufs_pool *pool = the_pool(test);
	u64 posted = 0, read = 0, handles[16];
	struct fbuf *fbuf = place_get(test, 1).fbuf;
	u64 handle = fbuf->handle;
	u32 round, i, n;

	for (round = 1; round < 200; round++) {
		KUNIT_ASSERT_EQ(test, pool_promise_notices(pool, round), 0);
		for (i = 0; i < round; i++)
			notice_post(test, fbuf, posted++);
		/* More come in than go out. */
		n = pool_peek_notices(pool, handles, min_t(u32, round / 2, 16));
		for (i = 0; i < n; i++)
			KUNIT_ASSERT_EQ(test, handles[i], read + i);
		pool_drop_notices(pool, n);
		read += n;
	}
	while ((n = pool_peek_notices(pool, handles, 16))) {
		for (i = 0; i < n; i++)
			KUNIT_ASSERT_EQ(test, handles[i], read + i);
		pool_drop_notices(pool, n);
		read += n;
	}
	KUNIT_EXPECT_EQ(test, read, posted);
	KUNIT_EXPECT_EQ(test, pool->notice_promised, 0);
	fbuf->handle = handle;
	place_put(test, fbuf);
}

/* What is peeked at stays until it is dropped. */
static void pool_notice_is_not_lost(struct kunit *test)
{
	struct fbufs_pool *pool = the_pool(test);
	struct fbuf *fbuf = place_get(test, 1).fbuf;
	u64 handle = fbuf->handle, seen;

	KUNIT_ASSERT_EQ(test, pool_promise_notices(pool, 1), 0);
	KUNIT_EXPECT_EQ(test, pool_peek_notices(pool, &seen, 1), 0);
	notice_post(test, fbuf, 7);
	KUNIT_EXPECT_EQ(test, pool_peek_notices(pool, &seen, 1), 1);
	KUNIT_EXPECT_EQ(test, pool_peek_notices(pool, &seen, 1), 1);
	KUNIT_EXPECT_EQ(test, seen, 7);
	pool_drop_notices(pool, 1);
	KUNIT_EXPECT_EQ(test, pool_peek_notices(pool, &seen, 1), 0);
	fbuf->handle = handle;
	place_put(test, fbuf);
}

static void pool_promises_are_bounded(struct kunit *test)
{
	struct fbufs_pool *pool = the_pool(test);
	const u32 most = 1 << 20;

	KUNIT_EXPECT_EQ(test, pool_promise_notices(pool, most + 1), -ENOBUFS);
	KUNIT_EXPECT_EQ(test, pool_promise_notices(pool, most), 0);
	KUNIT_EXPECT_EQ(test, pool_promise_notices(pool, 1), -ENOBUFS);
	pool_unpromise_notices(pool, most);
	KUNIT_EXPECT_EQ(test, pool_promise_notices(pool, 1), 0);
	pool_unpromise_notices(pool, 1);
}

static struct kunit_case pool_cases[] = {
	KUNIT_CASE(pool_one_a_process),
	KUNIT_CASE(pool_sizes_are_checked),
	KUNIT_CASE(pool_found_by_id),
	KUNIT_CASE(pool_handle_is_new_each_time),
	KUNIT_CASE(pool_handle_wraps),
	KUNIT_CASE(pool_knows_no_other_handles),
	KUNIT_CASE(pool_handle_of_gone_extent),
	KUNIT_CASE(pool_places_are_apart),
	KUNIT_CASE(pool_space_ends),
	KUNIT_CASE(pool_list_is_lifo),
	KUNIT_CASE(pool_victim_leaves),
	KUNIT_CASE(pool_classes_go_when_emptied),
	KUNIT_CASE(pool_limit_holds),
	KUNIT_CASE(pool_notices_keep_order),
	KUNIT_CASE(pool_notice_is_not_lost),
	KUNIT_CASE(pool_promises_are_bounded),
	{ }
};

static struct kunit_suite pool_suite = {
	.name = "fbufs-pool",
	.init = fixture_init,
	.test_cases = pool_cases,
};

kunit_test_suite(pool_suite);
