/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * Who may do what with an fbuf: a state machine without memory management or
 * files. The lock of the fbuf's pool guards every struct fbufs_access.
 *
 *	EMPTY --alloc--> OWNED --send--> SENDING --sent--> SENT --home--> FREE
 *	                 ^  ^ |             |                             |  |
 *	                 |  |               |                             |  |
 *	                 |  +-----undo------+                             |  |
 *	                 +---------------------alloc----------------------+  |
 *	EMPTY <--gone-- LEAVING <----------------leave-----------------------+
 *
 * OWNED goes to FREE by free, to SENT without SENDING when nothing can fail any more
 * (access_send_at_once), and to LEAVING when its domain ends. LOCKED is set
 * in SENDING or SENT and cleared at home, or, with RETURN, when SENT turns OWNED
 * again. What the kernel originates from a pool (ACCESS_KERNEL) goes from EMPTY or
 * FREE to SENDING, locked, before its process can have it: that is how the kernel
 * owns an fbuf; and from there back to FREE when it is given up. LENT is set with
 * SENDING and makes SENT turn OWNED again, too; until then the pool may say that a
 * store to a locked one waits, or goes to a private copy of the page (shadow.h): SHADOW
 * says that there may be such copies. They become the fbuf's bytes before it is sent
 * again; an fbuf that goes to FREE with some leaves instead. RW says that
 * page-table entries with write access may exist in the originator's window: whoever
 * locks and finds RW has to take them away before a receiver sees the fbuf (map.c).
 */
#ifndef FBUFS_ACCESS_H
#define FBUFS_ACCESS_H

#include <linux/bug.h>
#include <linux/compiler.h>
#include <linux/errno.h>
#include <uapi/linux/fbufs.h>
#include <linux/types.h>

#define ACCESS_LOCKED 0x01	/* nobody may write until it is home */
#define ACCESS_RW 0x02		/* the originator may have writable mappings */
#define ACCESS_NOTICE 0x04	/* tell the originator when it comes home */
#define ACCESS_REVOKE 0x08	/* locked; its writable mappings are still to go */
#define ACCESS_RETURN 0x10	/* the originator's again, not free, when it comes home */
#define ACCESS_KERNEL 0x20	/* the kernel originated it, and is told when it comes home */
#define ACCESS_LENT 0x40	/* as RETURN; and stores meanwhile are as its pool says */
#define ACCESS_SHADOW 0x80	/* the originator may have private copies of some pages */

struct fbufs_access {
	u8 state;		/* enum fbufs_state */
	u8 flags;
};

bool access_originator_may_write(const struct fbufs_access *access);
bool access_originator_may_read(const struct fbufs_access *access);
bool access_receiver_may_read(const struct fbufs_access *access);

void access_undo_send(struct fbufs_access *access);
bool access_lock(struct fbufs_access *access);
void access_leave(struct fbufs_access *access);
void access_gone(struct fbufs_access *access);

/* What every message goes through. */

/* EMPTY or FREE: it becomes the originator's. */
static inline void access_alloc(struct fbufs_access *access)
{
	WARN_ON_ONCE(access->state != FBUFS_STATE_EMPTY &&
		     access->state != FBUFS_STATE_FREE);
	access->state = FBUFS_STATE_OWNED;
}

/*
 * The originator gives an fbuf back that it did not send: it is FREE. One that it
 * lent over a channel it gives away: it will be, when it comes home.
 */
static inline int access_free(struct fbufs_access *access)
{
	if (access->state == FBUFS_STATE_OWNED) {
		access->state = FBUFS_STATE_FREE;
		return 0;
	}
	if (access->state != FBUFS_STATE_SENT)
		return access->state == FBUFS_STATE_SENDING ? -EBUSY : -ENOENT;
	if ((access->flags & (ACCESS_LENT | ACCESS_RETURN)) != ACCESS_LENT)
		return -EBUSY;
	access->flags &= ~ACCESS_LENT;
	return 0;
}

/* The originator names it in a send call, once or more often. */
static inline int access_send(struct fbufs_access *access)
{
	if (access->state == FBUFS_STATE_SENDING)
		return 0;
	if (access->state != FBUFS_STATE_OWNED)
		return access->state == FBUFS_STATE_SENT ? -EACCES : -ENOENT;
	access->state = FBUFS_STATE_SENDING;
	return 0;
}

/* The send call succeeds. True when this made it the receivers'. */
static inline bool access_sent(struct fbufs_access *access)
{
	if (access->state != FBUFS_STATE_SENDING)
		return false;
	access->state = FBUFS_STATE_SENT;
	return true;
}

/*
 * As access_send() and access_sent(), by a send call that cannot fail any more for it.
 * False, with nothing changed: it is not to be had, or there is more to do first.
 */
static inline bool access_send_at_once(struct fbufs_access *access)
{
	if (access->state != FBUFS_STATE_OWNED || access->flags & ACCESS_SHADOW)
		return false;
	access->state = FBUFS_STATE_SENT;
	return true;
}

/* Whether nobody can write it: marked, and the mappings are gone. */
static inline bool access_is_locked(const struct fbufs_access *access)
{
	return (READ_ONCE(access->flags) & (ACCESS_LOCKED | ACCESS_REVOKE)) == ACCESS_LOCKED;
}

/* Unlocked. A revocation that did not come to pass leaves writable mappings. */
static inline void access_unlock(struct fbufs_access *access)
{
	access->flags = (access->flags & ACCESS_SHADOW) |
			(access->flags & (ACCESS_RW | ACCESS_REVOKE) ? ACCESS_RW : 0);
}

/* SENDING: the originator gets it back when it comes home. */
static inline void access_lend(struct fbufs_access *access)
{
	access->flags |= ACCESS_LENT;
}

/* Whether a store to it, which is refused now, may wait or go to a private copy. */
static inline bool access_is_lent(const struct fbufs_access *access)
{
	return (access->state == FBUFS_STATE_SENDING || access->state == FBUFS_STATE_SENT) &&
	       (access->flags & (ACCESS_LOCKED | ACCESS_LENT)) == (ACCESS_LOCKED | ACCESS_LENT);
}

/* Whether private copies are to become its bytes before it is sent again. */
static inline bool access_is_stale(const struct fbufs_access *access)
{
	return access->state == FBUFS_STATE_OWNED && access->flags & ACCESS_SHADOW;
}

/* Its private copies have become its bytes, and all mappings are gone. */
static inline void access_merged(struct fbufs_access *access)
{
	access->flags &= ~(ACCESS_SHADOW | ACCESS_RW);
}

/* The originator wants a notice. True when that is new. */
static inline bool access_want_notice(struct fbufs_access *access)
{
	bool wanted = access->flags & ACCESS_NOTICE;

	access->flags |= ACCESS_NOTICE;
	return !wanted;
}

/* The kernel takes it, OWNED since a moment, to fill and send it. */
static inline void access_own_by_kernel(struct fbufs_access *access)
{
	WARN_ON_ONCE(access->state != FBUFS_STATE_OWNED || access->flags & ACCESS_RW);
	access->state = FBUFS_STATE_SENDING;
	access->flags = ACCESS_LOCKED | ACCESS_KERNEL;
}

/* The kernel does not send it after all. */
static inline void access_free_from_kernel(struct fbufs_access *access)
{
	WARN_ON_ONCE(access->state != FBUFS_STATE_SENDING || !(access->flags & ACCESS_KERNEL));
	access->state = FBUFS_STATE_FREE;
	access_unlock(access);
}

/*
 * As access_home(), of what just becomes FREE: nobody wants a notice, it does not go back
 * to its originator, and its mappings are as its flags say. Or false, with nothing changed.
 */
static inline bool access_home_quietly(struct fbufs_access *access)
{
	if (access->state != FBUFS_STATE_SENT ||
	    access->flags & ~(ACCESS_LOCKED | ACCESS_RW))
		return false;
	access->state = FBUFS_STATE_FREE;
	access->flags &= ~ACCESS_LOCKED;
	return true;
}

/* The last release. Returns who wants a notice: ACCESS_NOTICE, ACCESS_KERNEL. */
static inline u8 access_home(struct fbufs_access *access)
{
	u8 notice = access->flags & (ACCESS_NOTICE | ACCESS_KERNEL);
	bool back = access->flags & (ACCESS_RETURN | ACCESS_LENT);

	WARN_ON_ONCE(access->state != FBUFS_STATE_SENT);
	access->state = back ? FBUFS_STATE_OWNED : FBUFS_STATE_FREE;
	access_unlock(access);
	return notice;
}

#endif
