// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include "../aggregate.h"
#include "fixture.h"

/* More than the table begins with. */
#define MANY 200

static struct fbufs_domain *the_domain(struct kunit *test)
{
	return ((struct fixture *)test->priv)->domain;
}

/* Messages of no channel, without slices: only the table knows them. */
static struct fbufs_aggregate *hold(struct kunit *test, u64 *handle)
{
	struct fbufs_aggregate *aggregate = aggregate_alloc(0);

	KUNIT_ASSERT_NOT_NULL(test, aggregate);
	aggregate_begin(aggregate, NULL, 0, 0);
	KUNIT_ASSERT_EQ(test, domain_prepare_holds(the_domain(test), handle, 1), 1);
	KUNIT_ASSERT_EQ(test, domain_commit_holds(the_domain(test), handle, &aggregate, 1), 0);
	return aggregate;
}

static struct fbufs_aggregate *take(struct kunit *test, u64 handle)
{
	struct fbufs_aggregate *aggregate = NULL;
	u32 flags;

	domain_take_holds(the_domain(test), &handle, &aggregate, 1, &flags);
	return aggregate;
}

static void domain_holds_by_handle(struct kunit *test)
{
	struct fbufs_aggregate **held;
	u64 *handles;
	u32 i;

	held = kunit_kcalloc(test, MANY, sizeof(*held), GFP_KERNEL);
	handles = kunit_kcalloc(test, MANY, sizeof(*handles), GFP_KERNEL);
	KUNIT_ASSERT_TRUE(test, held && handles);
	for (i = 0; i < MANY; i++)
		held[i] = hold(test, &handles[i]);
	for (i = 0; i < MANY; i++) {
		KUNIT_EXPECT_NE(test, handles[i], 0);
		KUNIT_EXPECT_PTR_EQ(test, take(test, handles[i]), held[i]);
		KUNIT_EXPECT_NULL(test, take(test, handles[i]));
		aggregate_free(held[i]);
	}
}

/* What is only prepared, or no longer, nobody finds; and each use has a handle of its own. */
static void domain_holds_after_commit_only(struct kunit *test)
{
	struct fbufs_domain *domain = the_domain(test);
	u64 first, second;

	KUNIT_ASSERT_EQ(test, domain_prepare_holds(domain, &first, 1), 1);
	KUNIT_EXPECT_NULL(test, take(test, first));
	domain_cancel_holds(domain, &first, 1);
	KUNIT_EXPECT_NULL(test, take(test, first));
	KUNIT_ASSERT_EQ(test, domain_prepare_holds(domain, &second, 1), 1);
	KUNIT_EXPECT_EQ(test, (u32)second, (u32)first);
	KUNIT_EXPECT_NE(test, second, first);
	KUNIT_EXPECT_NULL(test, take(test, first));
	domain_cancel_holds(domain, &second, 1);
}

/* A vector of them ends at the first that is not held. */
static void domain_takes_up_to_a_bad_handle(struct kunit *test)
{
	struct fbufs_aggregate *held[4], *taken[4];
	u64 handles[4], bad[4];
	u32 flags, i;

	for (i = 0; i < 4; i++)
		held[i] = hold(test, &handles[i]);
	memcpy(bad, handles, sizeof(bad));
	bad[2] += BIT_ULL(32);
	held[1]->flags = MESSAGE_UNMAP;
	KUNIT_EXPECT_EQ(test, domain_take_holds(the_domain(test), bad, taken, 4, &flags), 2);
	KUNIT_EXPECT_EQ(test, flags, MESSAGE_UNMAP);
	KUNIT_EXPECT_PTR_EQ(test, taken[1], held[1]);
	KUNIT_EXPECT_EQ(test, domain_take_holds(the_domain(test), &handles[2], taken, 2, &flags),
			2);
	KUNIT_EXPECT_EQ(test, flags, 0);
	for (i = 0; i < 4; i++)
		aggregate_free(held[i]);
}

/* After the last number of a use comes the first one, and a handle is never 0. */
static void domain_handles_begin_anew(struct kunit *test)
{
	struct fbufs_domain *domain = the_domain(test);
	struct fbufs_aggregate *aggregate;
	u64 handle, next;

	aggregate = hold(test, &handle);
	handle |= GENMASK_ULL(63, 32);
	domain->holds[(u32)handle].handle = handle;
	KUNIT_EXPECT_PTR_EQ(test, take(test, handle), aggregate);
	aggregate_free(aggregate);
	aggregate = hold(test, &next);
	KUNIT_EXPECT_EQ(test, next, BIT_ULL(32) | (u32)handle);
	KUNIT_EXPECT_PTR_EQ(test, take(test, next), aggregate);
	aggregate_free(aggregate);
}

static struct kunit_case domain_cases[] = {
	KUNIT_CASE(domain_holds_by_handle),
	KUNIT_CASE(domain_holds_after_commit_only),
	KUNIT_CASE(domain_takes_up_to_a_bad_handle),
	KUNIT_CASE(domain_handles_begin_anew),
	{ }
};

static struct kunit_suite domain_suite = {
	.name = "fbufs-domain",
	.init = fixture_init,
	.test_cases = domain_cases,
};

kunit_test_suite(domain_suite);
