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
 * OWNED goes to FREE by free, and to LEAVING when its domain ends. LOCKED is set
 * in SENDING or SENT and cleared at home. RW says that page-table entries with
 * write access may exist in the originator's window: whoever locks and finds RW
 * has to take them away before a receiver sees the fbuf (map.c).
 */
#ifndef FBUFS_ACCESS_H
#define FBUFS_ACCESS_H

#include <linux/fbufs.h>
#include <linux/types.h>

#define ACCESS_LOCKED 0x01	/* nobody may write until it is home */
#define ACCESS_RW 0x02		/* the originator may have writable mappings */
#define ACCESS_NOTICE 0x04	/* tell the originator when it comes home */
#define ACCESS_REVOKE 0x08	/* locked; its writable mappings are still to go */

struct fbufs_access {
	u8 state;		/* enum fbufs_state */
	u8 flags;
};

bool access_originator_may_write(const struct fbufs_access *access);
bool access_originator_may_read(const struct fbufs_access *access);
bool access_receiver_may_read(const struct fbufs_access *access);

void access_alloc(struct fbufs_access *access);
int access_free(struct fbufs_access *access);
int access_send(struct fbufs_access *access);
bool access_sent(struct fbufs_access *access);
void access_undo_send(struct fbufs_access *access);
bool access_is_locked(const struct fbufs_access *access);
bool access_lock(struct fbufs_access *access);
bool access_home(struct fbufs_access *access);
void access_leave(struct fbufs_access *access);
void access_gone(struct fbufs_access *access);

#endif
