/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * Messages: ordered lists of slices. A message is made by a send call, never
 * changes afterwards, and is shared by the queues and domains that hold it.
 * Each slice counts as one reference on its fbuf.
 */
#ifndef FBUFS_AGGREGATE_H
#define FBUFS_AGGREGATE_H

#include <linux/refcount.h>

#include "fbuf.h"

struct fbufs_channel;

struct fbufs_segment {
	struct fbuf *fbuf;
	u32 offset;
	u32 length;
};

/* Messages of up to this many slices are kept for re-use by their channel. */
#define MESSAGE_INLINE 4

#define MESSAGE_NOTICE 0x01	/* its fbufs want a notice */
#define MESSAGE_UNMAP 0x02	/* some of its pages must be unmapped at release */

/**
 * struct fbufs_aggregate - a message
 * @refs: queues and domains that hold it
 * @nsegments: slices
 * @flags: MESSAGE_*
 * @cookie: the sender's number
 * @length: bytes of all slices
 * @channel: it was sent on, with a reference
 * @next: in the channel's list of messages for re-use
 * @segments: the slices
 */
struct fbufs_aggregate {
	refcount_t refs;
	u32 nsegments;
	u32 flags;
	u64 cookie;
	u64 length;
	struct fbufs_channel *channel;
	struct fbufs_aggregate *next;
	struct fbufs_segment segments[];
};

struct fbufs_aggregate *aggregate_alloc(u32 nsegments);
void aggregate_free(struct fbufs_aggregate *aggregate);
bool aggregate_has(const struct fbufs_aggregate *aggregate, const struct fbuf *fbuf);
bool aggregate_contains(const struct fbufs_aggregate *aggregate,
			const struct fbuf *fbuf, u32 offset, u32 length);

#endif
