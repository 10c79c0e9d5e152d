// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

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

/* The send call fails before anything was locked: the originator's again. */
void access_undo_send(struct fbufs_access *access)
{
	WARN_ON_ONCE(access->state != FBUFS_STATE_SENDING);
	access->state = FBUFS_STATE_OWNED;
	access->flags &= ~ACCESS_LENT;
}

/*
 * True when writable mappings are still to be taken away: by the caller, even
 * if somebody else marked the lock and is about to, because the caller may rely
 * on the lock only when they are gone.
 */
bool access_lock(struct fbufs_access *access)
{
	u8 flags = access->flags;

	WARN_ON_ONCE(access->state != FBUFS_STATE_SENDING &&
		     access->state != FBUFS_STATE_SENT);
	flags |= ACCESS_LOCKED;
	if (flags & ACCESS_RW)
		flags = (flags & ~ACCESS_RW) | ACCESS_REVOKE;
	/* At once: access_is_locked() looks without the lock. */
	WRITE_ONCE(access->flags, flags);
	return flags & ACCESS_REVOKE;
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
