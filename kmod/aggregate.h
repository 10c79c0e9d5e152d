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
	u32 offset : 31;
	u32 borrowed : 1;	/* of a held message, not the sender's to give */
	u32 length;
};

/* Messages of up to this many slices are kept for re-use by their channel. */
#define MESSAGE_INLINE 4

/* A message that is taken from a pipe or socket has so many slices at most. */
#define TAKEN_SLICES 64

#define MESSAGE_NOTICE 0x01	/* its fbufs want a notice */
#define MESSAGE_UNMAP 0x02	/* some of its pages must be unmapped at release */
#define MESSAGE_LENT 0x04	/* its own fbufs are to be the sender's again */

/**
 * struct fbufs_aggregate - a message
 * @refs: queues and domains that hold it; also 1 while it is made
 * @nsegments: slices
 * @flags: MESSAGE_*
 * @cookie: the sender's number
 * @length: bytes of all slices
 * @channel: it goes over, with a reference once it is sent
 * @segments: the slices
 */
struct fbufs_aggregate {
	refcount_t refs;
	u32 nsegments;
	u32 flags;
	u64 cookie;
	u64 length;
	struct fbufs_channel *channel;
	struct fbufs_segment segments[];
};

/* A new message, or one for re-use: it has no slices yet. */
static inline void aggregate_begin(struct fbufs_aggregate *aggregate,
				   struct fbufs_channel *channel, u32 flags, u64 cookie)
{
	refcount_set(&aggregate->refs, 1);
	aggregate->nsegments = 0;
	aggregate->flags = flags;
	aggregate->cookie = cookie;
	aggregate->length = 0;
	aggregate->channel = channel;
}

/* One more slice, for which there is room. */
static inline void aggregate_append(struct fbufs_aggregate *aggregate, struct fbuf *fbuf,
				    u32 offset, u32 length, bool borrowed)
{
	struct fbufs_segment *segment = &aggregate->segments[aggregate->nsegments++];

	segment->fbuf = fbuf;
	segment->offset = offset;
	segment->borrowed = borrowed;
	segment->length = length;
	aggregate->length += length;
}

/* Whether nobody else has the message. Only who has a reference makes more of them. */
static inline bool aggregate_is_sole(const struct fbufs_aggregate *aggregate)
{
	if (refcount_read(&aggregate->refs) != 1)
		return false;
	/* Pairs with the release of who gave up the one before. */
	smp_acquire__after_ctrl_dep();
	return true;
}

/* Gives a reference up. True: it was the last, and the message is the caller's alone. */
static inline bool aggregate_put(struct fbufs_aggregate *aggregate)
{
	return aggregate_is_sole(aggregate) || refcount_dec_and_test(&aggregate->refs);
}

/*
 * It is nobody's from here on, until aggregate_begin(). Where the kernel has checkers, who
 * gives it up again is found: it would be for re-use twice.
 */
static inline void aggregate_retire(struct fbufs_aggregate *aggregate)
{
	if (IS_ENABLED(CONFIG_PROVE_LOCKING))
		refcount_set(&aggregate->refs, 0);
}

/**
 * struct segment_walk - goes through all slices of some messages
 * @next: the message after the current one
 * @end: behind the last
 * @segment: the current slice
 * @left: slices of its message from there on
 *
 * So that who locks pools does so once for all slices in a row that are of the
 * same one.
 */
struct segment_walk {
	struct fbufs_aggregate **next;
	struct fbufs_aggregate **end;
	struct fbufs_segment *segment;
	u32 left;
};

/* On to the next slice. False: there is none. A message may be without slices. */
static inline bool walk_next(struct segment_walk *walk)
{
	if (walk->left > 1) {
		walk->left--;
		walk->segment++;
		return true;
	}
	while (walk->next != walk->end) {
		struct fbufs_aggregate *aggregate = *walk->next++;

		walk->segment = aggregate->segments;
		walk->left = aggregate->nsegments;
		if (walk->left)
			return true;
	}
	walk->left = 0;
	return false;
}

/* The first slice of @n messages. False: there is none. */
static inline bool walk_begin(struct segment_walk *walk, struct fbufs_aggregate **aggregates, u32 n)
{
	walk->next = aggregates;
	walk->end = aggregates + n;
	walk->left = 0;
	return walk_next(walk);
}

/* The message of the current slice. */
static inline struct fbufs_aggregate *walk_aggregate(const struct segment_walk *walk)
{
	return walk->next[-1];
}

struct fbufs_aggregate *aggregate_alloc(u32 nsegments);
void aggregate_free(struct fbufs_aggregate *aggregate);
bool aggregate_has(const struct fbufs_aggregate *aggregate, const struct fbuf *fbuf);
bool aggregate_contains(const struct fbufs_aggregate *aggregate,
			const struct fbuf *fbuf, u32 offset, u32 length);

#endif
