// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/bug.h>
#include <linux/compiler.h>
#include <linux/errno.h>

#include "access.h"

bool access_originator_may_write(const struct fbufs_access *access)
{
	switch (access->state) {
	case FBUFS_STATE_OWNED:
		return true;
	case FBUFS_STATE_SENDING:
	case FBUFS_STATE_SENT:
		return !(access->flags & ACCESS_LOCKED);
	default:
		return false;
	}
}

bool access_originator_may_read(const struct fbufs_access *access)
{
	return access->state == FBUFS_STATE_OWNED ||
	       access->state == FBUFS_STATE_SENDING ||
	       access->state == FBUFS_STATE_SENT;
}

/* Whether the domain holds it, or its channel is cached, is the caller's part. */
bool access_receiver_may_read(const struct fbufs_access *access)
{
	return access->state != FBUFS_STATE_EMPTY &&
	       access->state != FBUFS_STATE_LEAVING;
}

/* EMPTY or FREE: it becomes the originator's. */
void access_alloc(struct fbufs_access *access)
{
	WARN_ON_ONCE(access->state != FBUFS_STATE_EMPTY &&
		     access->state != FBUFS_STATE_FREE);
	access->state = FBUFS_STATE_OWNED;
}

/* The originator gives an fbuf back that it did not send. */
int access_free(struct fbufs_access *access)
{
	if (access->state != FBUFS_STATE_OWNED)
		return access->state == FBUFS_STATE_SENT ||
		       access->state == FBUFS_STATE_SENDING ? -EBUSY : -ENOENT;
	access->state = FBUFS_STATE_FREE;
	return 0;
}

/* The originator names it in a send call, once or more often. */
int access_send(struct fbufs_access *access)
{
	if (access->state == FBUFS_STATE_SENDING)
		return 0;
	if (access->state != FBUFS_STATE_OWNED)
		return access->state == FBUFS_STATE_SENT ? -EACCES : -ENOENT;
	access->state = FBUFS_STATE_SENDING;
	return 0;
}

/* The send call succeeds. True when this made it the receivers'. */
bool access_sent(struct fbufs_access *access)
{
	if (access->state != FBUFS_STATE_SENDING)
		return false;
	access->state = FBUFS_STATE_SENT;
	return true;
}

/* Unlocked. A revocation that did not come to pass leaves writable mappings. */
static void access_unlock(struct fbufs_access *access)
{
	access->flags = access->flags & (ACCESS_RW | ACCESS_REVOKE) ? ACCESS_RW : 0;
}

/* The send call fails before anything was locked: the originator's again. */
void access_undo_send(struct fbufs_access *access)
{
	WARN_ON_ONCE(access->state != FBUFS_STATE_SENDING);
	access->state = FBUFS_STATE_OWNED;
}

/* Whether nobody can write it: marked, and the mappings are gone. */
bool access_is_locked(const struct fbufs_access *access)
{
	return (READ_ONCE(access->flags) & (ACCESS_LOCKED | ACCESS_REVOKE)) == ACCESS_LOCKED;
}

/*
 * True when writable mappings are still to be taken away: by the caller, even
 * if somebody else marked the lock and is about to, because the caller may rely
 * on the lock only when they are gone.
 */
bool access_lock(struct fbufs_access *access)
{
	WARN_ON_ONCE(access->state != FBUFS_STATE_SENDING &&
		     access->state != FBUFS_STATE_SENT);
	access->flags |= ACCESS_LOCKED;
	if (access->flags & ACCESS_RW) {
		access->flags &= ~ACCESS_RW;
		access->flags |= ACCESS_REVOKE;
	}
	return access->flags & ACCESS_REVOKE;
}

/* The last release. True when the originator asked for a notice. */
bool access_home(struct fbufs_access *access)
{
	bool notice = access->flags & ACCESS_NOTICE;

	WARN_ON_ONCE(access->state != FBUFS_STATE_SENT);
	access->state = FBUFS_STATE_FREE;
	access_unlock(access);
	return notice;
}

/* Its pages are about to go: no new mapping from here on. */
void access_leave(struct fbufs_access *access)
{
	WARN_ON_ONCE(access->state != FBUFS_STATE_FREE &&
		     access->state != FBUFS_STATE_OWNED);
	access->state = FBUFS_STATE_LEAVING;
}

void access_gone(struct fbufs_access *access)
{
	WARN_ON_ONCE(access->state != FBUFS_STATE_LEAVING);
	access->state = FBUFS_STATE_EMPTY;
	access->flags = 0;
}
