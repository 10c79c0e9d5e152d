// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <kunit/test.h>

#include "../access.h"

/* Who may do what: the whole table. */
struct right {
	const char *name;
	struct fbufs_access access;
	bool originator_writes;
	bool originator_reads;
	bool receiver_reads;
};

static const struct right rights[] = {
	{ "empty", { FBUFS_STATE_EMPTY, 0 }, false, false, false },
	{ "free", { FBUFS_STATE_FREE, 0 }, false, false, true },
	{ "free, mapped", { FBUFS_STATE_FREE, ACCESS_RW }, false, false, true },
	{ "owned", { FBUFS_STATE_OWNED, 0 }, true, true, true },
	{ "owned, mapped", { FBUFS_STATE_OWNED, ACCESS_RW }, true, true, true },
	{ "sending", { FBUFS_STATE_SENDING, ACCESS_RW }, true, true, true },
	{ "sending, locked", { FBUFS_STATE_SENDING, ACCESS_LOCKED }, false, true, true },
	{ "sending, revoked soon", { FBUFS_STATE_SENDING, ACCESS_LOCKED | ACCESS_REVOKE },
	  false, true, true },
	{ "sent", { FBUFS_STATE_SENT, ACCESS_RW }, true, true, true },
	{ "sent, locked", { FBUFS_STATE_SENT, ACCESS_LOCKED }, false, true, true },
	{ "sent, revoked soon", { FBUFS_STATE_SENT, ACCESS_LOCKED | ACCESS_REVOKE },
	  false, true, true },
	{ "sent, to return", { FBUFS_STATE_SENT, ACCESS_LOCKED | ACCESS_RETURN },
	  false, true, true },
	{ "sent, lent", { FBUFS_STATE_SENT, ACCESS_LOCKED | ACCESS_LENT | ACCESS_SHADOW },
	  false, true, true },
	{ "leaving", { FBUFS_STATE_LEAVING, 0 }, false, false, false },
	{ "leaving, mapped", { FBUFS_STATE_LEAVING, ACCESS_RW }, false, false, false },
};

KUNIT_ARRAY_PARAM_DESC(rights, rights, name);

static void access_rights(struct kunit *test)
{
	const struct right *right = test->param_value;

	KUNIT_EXPECT_EQ(test, access_originator_may_write(&right->access),
			right->originator_writes);
	KUNIT_EXPECT_EQ(test, access_originator_may_read(&right->access),
			right->originator_reads);
	KUNIT_EXPECT_EQ(test, access_receiver_may_read(&right->access), right->receiver_reads);
}

/* Every step that a state allows, and every refusal that a user can cause. */
static int do_alloc(struct fbufs_access *access)
{
	access_alloc(access);
	return 0;
}

static int do_send_at_once(struct fbufs_access *access)
{
	return access_send_at_once(access);
}

static int do_undo(struct fbufs_access *access)
{
	access_undo_send(access);
	return 0;
}

static int do_sent(struct fbufs_access *access)
{
	return access_sent(access);
}

static int do_lock(struct fbufs_access *access)
{
	return access_lock(access);
}

static int do_want_notice(struct fbufs_access *access)
{
	return access_want_notice(access);
}

static int do_home(struct fbufs_access *access)
{
	return !!access_home(access);
}

static int do_home_quietly(struct fbufs_access *access)
{
	return access_home_quietly(access);
}

static int do_leave(struct fbufs_access *access)
{
	access_leave(access);
	return 0;
}

static int do_gone(struct fbufs_access *access)
{
	access_gone(access);
	return 0;
}

struct step {
	const char *name;
	struct fbufs_access from;
	int (*take)(struct fbufs_access *access);
	int result;
	struct fbufs_access to;
};

#define EMPTY FBUFS_STATE_EMPTY
#define FREE FBUFS_STATE_FREE
#define OWNED FBUFS_STATE_OWNED
#define SENDING FBUFS_STATE_SENDING
#define SENT FBUFS_STATE_SENT
#define LEAVING FBUFS_STATE_LEAVING
#define LOCKED ACCESS_LOCKED
#define RW ACCESS_RW
#define NOTICE ACCESS_NOTICE
#define REVOKE ACCESS_REVOKE
#define RETURN ACCESS_RETURN
#define LENT ACCESS_LENT
#define SHADOW ACCESS_SHADOW

static const struct step steps[] = {
	{ "alloc: empty", { EMPTY }, do_alloc, 0, { OWNED } },
	{ "alloc: free", { FREE }, do_alloc, 0, { OWNED } },
	{ "alloc: free, writable entries stay", { FREE, RW }, do_alloc, 0, { OWNED, RW } },

	{ "free: owned", { OWNED, RW }, access_free, 0, { FREE, RW } },
	{ "free: empty", { EMPTY }, access_free, -ENOENT, { EMPTY } },
	{ "free: free", { FREE }, access_free, -ENOENT, { FREE } },
	{ "free: sending", { SENDING, RW }, access_free, -EBUSY, { SENDING, RW } },
	{ "free: sent", { SENT, LOCKED }, access_free, -EBUSY, { SENT, LOCKED } },
	{ "free: leaving", { LEAVING }, access_free, -ENOENT, { LEAVING } },

	{ "send: owned", { OWNED, RW }, access_send, 0, { SENDING, RW } },
	{ "send: in the same message", { SENDING }, access_send, 0, { SENDING } },
	{ "send: empty", { EMPTY }, access_send, -ENOENT, { EMPTY } },
	{ "send: free", { FREE }, access_send, -ENOENT, { FREE } },
	{ "send: sent", { SENT, LOCKED }, access_send, -EACCES, { SENT, LOCKED } },
	{ "send: leaving", { LEAVING }, access_send, -ENOENT, { LEAVING } },

	{ "at once: owned", { OWNED }, do_send_at_once, true, { SENT } },
	{ "at once: writable", { OWNED, RW }, do_send_at_once, true, { SENT, RW } },
	{ "at once: with copies", { OWNED, SHADOW }, do_send_at_once, false, { OWNED, SHADOW } },
	{ "at once: sending", { SENDING, RW }, do_send_at_once, false, { SENDING, RW } },
	{ "at once: sent", { SENT, LOCKED }, do_send_at_once, false, { SENT, LOCKED } },
	{ "at once: free", { FREE }, do_send_at_once, false, { FREE } },

	{ "undo", { SENDING, RW }, do_undo, 0, { OWNED, RW } },

	{ "sent: the first slice", { SENDING, LOCKED }, do_sent, true, { SENT, LOCKED } },
	{ "sent: another slice", { SENT, LOCKED }, do_sent, false, { SENT, LOCKED } },
	{ "sent: a forwarded slice", { SENT }, do_sent, false, { SENT } },

	{ "lock: nothing to take away", { SENDING }, do_lock, false, { SENDING, LOCKED } },
	{ "lock: writable", { SENDING, RW }, do_lock, true, { SENDING, LOCKED | REVOKE } },
	{ "lock: by secure", { SENT, RW }, do_lock, true, { SENT, LOCKED | REVOKE } },
	{ "lock: locked", { SENT, LOCKED }, do_lock, false, { SENT, LOCKED } },
	{ "lock: another takes away", { SENT, LOCKED | REVOKE }, do_lock, true,
	  { SENT, LOCKED | REVOKE } },

	{ "notice: the first", { SENT }, do_want_notice, true, { SENT, NOTICE } },
	{ "notice: once more", { SENT, NOTICE }, do_want_notice, false, { SENT, NOTICE } },

	{ "home: locked", { SENT, LOCKED }, do_home, false, { FREE } },
	{ "home: volatile", { SENT, RW }, do_home, false, { FREE, RW } },
	{ "home: notice", { SENT, LOCKED | NOTICE }, do_home, true, { FREE } },
	{ "home: writable entries were left", { SENT, LOCKED | REVOKE }, do_home, false,
	  { FREE, RW } },
	{ "home: returned", { SENT, LOCKED | RETURN }, do_home, false, { OWNED } },
	{ "home: returned, notice, left", { SENT, LOCKED | REVOKE | RETURN | NOTICE }, do_home,
	  true, { OWNED, RW } },

	{ "quietly home: locked", { SENT, LOCKED }, do_home_quietly, true, { FREE } },
	{ "quietly home: volatile", { SENT, RW }, do_home_quietly, true, { FREE, RW } },
	{ "quietly home: notice", { SENT, RW | NOTICE }, do_home_quietly, false,
	  { SENT, RW | NOTICE } },
	{ "quietly home: the kernel's", { SENT, LOCKED | ACCESS_KERNEL }, do_home_quietly, false,
	  { SENT, LOCKED | ACCESS_KERNEL } },
	{ "quietly home: writable entries were left", { SENT, LOCKED | REVOKE }, do_home_quietly,
	  false, { SENT, LOCKED | REVOKE } },
	{ "quietly home: returned", { SENT, LOCKED | RETURN }, do_home_quietly, false,
	  { SENT, LOCKED | RETURN } },
	{ "quietly home: lent", { SENT, LOCKED | LENT }, do_home_quietly, false,
	  { SENT, LOCKED | LENT } },
	{ "quietly home: with copies", { SENT, LOCKED | SHADOW }, do_home_quietly, false,
	  { SENT, LOCKED | SHADOW } },
	{ "quietly home: sending", { SENDING, RW }, do_home_quietly, false, { SENDING, RW } },

	{ "undo: lent", { SENDING, RW | LENT }, do_undo, 0, { OWNED, RW } },
	{ "home: lent", { SENT, LOCKED | LENT | NOTICE }, do_home, true, { OWNED } },
	{ "home: lent, with copies", { SENT, LOCKED | LENT | SHADOW }, do_home, false,
	  { OWNED, SHADOW } },
	{ "free: lent is given away", { SENT, LOCKED | LENT }, access_free, 0, { SENT, LOCKED } },
	{ "free: the kernel's", { SENT, LOCKED | LENT | RETURN }, access_free, -EBUSY,
	  { SENT, LOCKED | LENT | RETURN } },
	{ "home: given away, with copies", { SENT, LOCKED | SHADOW }, do_home, false,
	  { FREE, SHADOW } },

	{ "leave: free", { FREE, RW }, do_leave, 0, { LEAVING, RW } },
	{ "leave: owned", { OWNED }, do_leave, 0, { LEAVING } },
	{ "gone", { LEAVING, RW }, do_gone, 0, { EMPTY } },
};

KUNIT_ARRAY_PARAM_DESC(steps, steps, name);

static void access_steps(struct kunit *test)
{
	const struct step *step = test->param_value;
	struct fbufs_access access = step->from;

	KUNIT_EXPECT_EQ(test, step->take(&access), step->result);
	KUNIT_EXPECT_EQ(test, access.state, step->to.state);
	KUNIT_EXPECT_EQ(test, access.flags, step->to.flags);
}

/* A message is reported as locked only when the entries are gone. */
static void access_locked_without_revoke(struct kunit *test)
{
	struct fbufs_access access = { SENDING, RW };

	KUNIT_EXPECT_FALSE(test, access_is_locked(&access));
	access_lock(&access);
	KUNIT_EXPECT_FALSE(test, access_is_locked(&access));
	access.flags &= ~ACCESS_REVOKE;
	KUNIT_EXPECT_TRUE(test, access_is_locked(&access));
	access_sent(&access);
	access_home(&access);
	KUNIT_EXPECT_FALSE(test, access_is_locked(&access));
}

/* Stores wait, or go to a copy, only while it is locked and lent. */
static void access_lent(struct kunit *test)
{
	struct fbufs_access access = { OWNED, RW };

	KUNIT_EXPECT_EQ(test, access_send(&access), 0);
	access_lend(&access);
	KUNIT_EXPECT_FALSE(test, access_is_lent(&access));
	access_lock(&access);
	KUNIT_EXPECT_TRUE(test, access_is_lent(&access));
	access_sent(&access);
	KUNIT_EXPECT_TRUE(test, access_is_lent(&access));
	access.flags |= SHADOW;
	KUNIT_EXPECT_FALSE(test, access_is_stale(&access));
	access_home(&access);
	KUNIT_EXPECT_FALSE(test, access_is_lent(&access));
	KUNIT_EXPECT_TRUE(test, access_is_stale(&access));
	access_merged(&access);
	KUNIT_EXPECT_EQ(test, access.flags, 0);
}

static struct kunit_case access_cases[] = {
	KUNIT_CASE_PARAM(access_rights, rights_gen_params),
	KUNIT_CASE_PARAM(access_steps, steps_gen_params),
	KUNIT_CASE(access_locked_without_revoke),
	KUNIT_CASE(access_lent),
	{ }
};

static struct kunit_suite access_suite = {
	.name = "fbufs-access",
	.test_cases = access_cases,
};

kunit_test_suite(access_suite);
