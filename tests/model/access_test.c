// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * The module's access.{h,c} against the tables that the model takes its steps
 * from: every operation in every state.
 */
#include <stdio.h>

#include "access.h"
#include "tests/access_table.h"

int shim_warnings;
static int checks, failures;

static void expect(bool ok, const char *state, const char *what)
{
	checks++;
	if (ok)
		return;
	failures++;
	printf("%s: %s is not as in the table\n", state, what);
}

/* The states of the table, and the other entries. */
#define NAME(name, ...) AT_##name,
enum entry {
	ACCESS_STATES(NAME) AT_STAY, AT_NOENT, AT_ACCES, AT_BUSY, AT_FAULT, AT_WARN, AT_NEVER
};

enum { AT_RW = ACCESS_RW, AT_LOCKED = ACCESS_LOCKED, AT_REVOKE = ACCESS_REVOKE };

#define RW AT_RW
#define LOCKED AT_LOCKED
#define REVOKE AT_REVOKE
#define VALUE(name, code, flags, ...) [AT_##name] = { FBUFS_STATE_##code, flags },
static const struct fbufs_access states[] = { ACCESS_STATES(VALUE) };

#define WORD(name, ...) [AT_##name] = #name,
static const char *const names[] = { ACCESS_STATES(WORD) };

static void check_rights(enum entry state, bool write, bool read, bool receiver, bool locked)
{
	const struct fbufs_access *access = &states[state];

	expect(access_originator_may_write(access) == write, names[state], "may write");
	expect(access_originator_may_read(access) == read, names[state], "may read");
	expect(access_receiver_may_read(access) == receiver, names[state], "receiver may read");
	expect(access_is_locked(access) == locked, names[state], "locked");
}

/*
 * An operation, with what it is told in between: the module's own are made as
 * map.c makes them under the pool's lock. Returns 0 or an error.
 */

static int do_alloc(struct fbufs_access *access)
{
	access_alloc(access);
	return 0;
}

static int do_write(struct fbufs_access *access)
{
	if (!access_originator_may_write(access))
		return -EFAULT;
	access->flags |= ACCESS_RW;
	return 0;
}

static int do_send_at_once(struct fbufs_access *access)
{
	return access_send_at_once(access) ? 0 : -EBUSY;
}

static int do_undo(struct fbufs_access *access)
{
	access_undo_send(access);
	return 0;
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

static int do_lock(struct fbufs_access *access)
{
	bool revoke = access_lock(access);

	expect(revoke == !!(access->flags & ACCESS_REVOKE), "lock", "the call for revocation");
	return 0;
}

static int do_revoked(struct fbufs_access *access)
{
	access->flags &= ~ACCESS_REVOKE;
	return 0;
}

static int do_sent(struct fbufs_access *access)
{
	bool was = access->state == FBUFS_STATE_SENDING;

	expect(access_sent(access) == was, "sent", "whose doing it was");
	return 0;
}

static int do_home(struct fbufs_access *access)
{
	expect(!access_home(access), "home", "the notice");
	return 0;
}

static int do_back(struct fbufs_access *access)
{
	access->flags |= ACCESS_RETURN;
	return do_home(access);
}

static int error_of(enum entry entry)
{
	switch (entry) {
	case AT_NOENT:
		return -ENOENT;
	case AT_ACCES:
		return -EACCES;
	case AT_BUSY:
		return -EBUSY;
	case AT_FAULT:
		return -EFAULT;
	default:
		return 0;
	}
}

static bool is_state(enum entry entry)
{
	return entry < AT_STAY;
}

static void check_step(enum entry from, int (*step)(struct fbufs_access *), enum entry entry,
		       const char *what)
{
	const struct fbufs_access *want = &states[is_state(entry) ? entry : from];
	struct fbufs_access access = states[from];
	int err;

	if (entry == AT_NEVER)
		return;
	shim_warnings = 0;
	err = step(&access);
	expect(!!shim_warnings == (entry == AT_WARN), names[from], what);
	if (entry == AT_WARN)
		return;
	expect(err == error_of(entry), names[from], what);
	expect(access.state == want->state && access.flags == want->flags, names[from], what);
}

/* A notice that was asked for is due at the last release, and asked for once. */
static void check_notice(void)
{
	struct fbufs_access access = { FBUFS_STATE_SENT, 0 };

	expect(access_want_notice(&access) && !access_want_notice(&access), "SENT", "notice");
	expect(access_home(&access) && !access.flags, "SENT", "home with a notice");
}

/* The short way home ends where the long one does, or is not taken. */
static void check_quiet_home(enum entry state)
{
	struct fbufs_access access = states[state], by_home = states[state];

	if (access_home_quietly(&access))
		expect(!access_home(&by_home) && by_home.state == FBUFS_STATE_FREE, names[state],
		       "quietly home");
	expect(access.state == by_home.state && access.flags == by_home.flags, names[state],
	       "quietly home");
}

#define RIGHTS(name, code, flags, write, read, receiver, locked) \
	check_rights(AT_##name, write, read, receiver, locked);
#define OWN_STEPS(name, alloc, write, send, once, undo, free, leave, gone) \
	check_step(AT_##name, do_alloc, AT_##alloc, "alloc"); \
	check_step(AT_##name, do_write, AT_##write, "write"); \
	check_step(AT_##name, access_send, AT_##send, "send"); \
	check_step(AT_##name, do_send_at_once, AT_##once, "send at once"); \
	check_step(AT_##name, do_undo, AT_##undo, "undo"); \
	check_step(AT_##name, access_free, AT_##free, "free"); \
	check_step(AT_##name, do_leave, AT_##leave, "leave"); \
	check_step(AT_##name, do_gone, AT_##gone, "gone");
#define SHARED_STEPS(name, lock, revoked, sent, home, back) \
	check_step(AT_##name, do_lock, AT_##lock, "lock"); \
	check_step(AT_##name, do_revoked, AT_##revoked, "revoked"); \
	check_step(AT_##name, do_sent, AT_##sent, "sent"); \
	check_step(AT_##name, do_home, AT_##home, "home"); \
	check_quiet_home(AT_##name); \
	check_step(AT_##name, do_back, AT_##back, "back");

int main(void)
{
	ACCESS_STATES(RIGHTS)
	ACCESS_OWN(OWN_STEPS)
	ACCESS_SHARED(SHARED_STEPS)
	check_notice();
	printf("%d checks of the access table, %d failed\n", checks, failures);
	return failures ? 1 : 0;
}
