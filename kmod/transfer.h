/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * Transfers: the only place where rights change hands.
 *
 * A send call adds slices to aggregates (transfer_add: the fbufs are SENDING), or
 * takes that back (transfer_undo). Then nothing can fail any more: it locks them
 * when the channel is secure (transfer_secure) and hands over (transfer_commit).
 * For a message of one slice of which nothing is asked, that is known at once, and
 * its fbuf goes without SENDING (transfer_send_ready). The last transfer_drop() of
 * an aggregate sends its fbufs home.
 */
#ifndef FBUFS_TRANSFER_H
#define FBUFS_TRANSFER_H

#include "aggregate.h"
#include "domain.h"
#include "pool.h"
#include "user.h"

struct fbufs_channel;
struct fbufs_make_mutable;

/* How many handles a call takes at a time. */
#define TRANSFER_BATCH 32

int transfer_alloc_others(struct fbufs_domain *domain, struct fbufs_class *class,
			  struct fbufs_buffer *buffers, u32 done, u32 n, bool unmapped);
int transfer_alloc_to_fill(struct fbufs_domain *domain, struct fbufs_class *class,
			   struct fbufs_buffer *buffer);
void transfer_take_back(struct fbufs_domain *domain, const struct fbufs_buffer *buffers, u32 n);
int transfer_wait(struct fbufs_domain *domain);
int transfer_free(struct fbufs_domain *domain, const u64 *handles, u32 n);

int transfer_alloc_for_kernel(struct fbufs_domain *domain, struct fbufs_class *class,
			      struct fbuf **fbufs, u32 n, u32 most);
void transfer_free_from_kernel(struct fbufs_pool *pool, struct fbuf **fbufs, u32 n);

int transfer_add(struct fbufs_pool *pool, struct fbufs_channel *channel,
		 struct fbufs_aggregate *aggregate, const struct fbufs_slice *slice);
int transfer_add_held(struct fbufs_domain *domain, struct fbufs_aggregate *aggregate,
		      const struct fbufs_slice *slice);
void transfer_undo(struct fbufs_aggregate *aggregate);
void transfer_secure(struct fbufs_domain *domain, struct fbufs_aggregate **aggregates, u32 n);
void transfer_commit(struct fbufs_domain *domain, struct fbufs_channel *channel,
		     struct fbufs_aggregate **aggregates, u32 n);
void transfer_drop(struct fbufs_aggregate **aggregates, u32 n);

void transfer_to_kernel(struct fbufs_aggregate *aggregate, bool returns);
void transfer_return(struct fbufs_aggregate *aggregate);
bool transfer_is_last(struct fbufs_aggregate *aggregate);
int transfer_take_over(struct fbufs_domain *domain, struct fbufs_make_mutable *mutable);

int transfer_release(struct fbufs_domain *domain, const u64 *handles, u32 n);
int transfer_secure_held(struct fbufs_domain *domain, const u64 *handles, u32 n);

void transfer_close_channel(struct fbufs_channel *channel);
void transfer_end_domain(struct fbufs_domain *domain);

/* What every message goes through. */

/**
 * transfer_alloc - allocate fbufs for the calling process
 * @domain: its domain, with a pool
 * @class: of its pool: what is on this free list is taken first
 * @buffers: where to put them
 * @n: how many
 *
 * Return: how many, at least 1; or -EAGAIN when the pool is full and fbufs will
 * come home, -ENOBUFS when it is full and none will, -ENOMEM, -ENODEV. May sleep.
 */
static inline int transfer_alloc(struct fbufs_domain *domain, struct fbufs_class *class,
				 struct fbufs_buffer *buffers, u32 n)
{
	bool unmapped = false;
	u32 done = class->channel ? pool_take(class, buffers, n, &unmapped) : 0;

	if (unlikely(done < n || unmapped))
		return transfer_alloc_others(domain, class, buffers, done, n, unmapped);
	stats_count(&domain->counters, FBUFS_COUNT_ALLOCS, n);
	return n;
}

/**
 * transfer_report - tell the user about allocated fbufs
 * @domain: the caller's
 * @buffers: the fbufs
 * @n: how many, at most TRANSFER_BATCH
 * @out: the user's array
 *
 * Return: @n, or -EFAULT with all of them free again: the user never saw them.
 */
static __always_inline int transfer_report(struct fbufs_domain *domain,
					   const struct fbufs_buffer *buffers, u32 n,
					   struct fbufs_buffer __user *out)
{
	if (likely(!user_store_vector(out, buffers, sizeof(*buffers), n, TRANSFER_BATCH)))
		return n;
	transfer_take_back(domain, buffers, n);
	return -EFAULT;
}

/**
 * transfer_send_ready - hand an own fbuf over, if there is nothing to ask
 * @pool: the caller's and the channel's
 * @channel: it goes over, in a message of its own of one slice
 * @slice: from the user: without a hold, and with a length
 *
 * The caller counts it (pool_sent()). On a secure channel, transfer_secure() is to follow
 * before anybody receives it.
 *
 * Context: under the pool's lock.
 * Return: the fbuf, which is SENT now; or NULL with nothing changed: transfer_add()
 * knows why, and may take it.
 */
static inline struct fbuf *transfer_send_ready(struct fbufs_pool *pool,
					       const struct fbufs_channel *channel,
					       const struct fbufs_slice *slice)
	__must_hold(&pool->lock)
{
	struct fbuf *fbuf = pool_place(pool, slice->fbuf);

	/* An EMPTY one has no home. */
	if (!fbuf || fbuf->access.state != FBUFS_STATE_OWNED || fbuf->home->channel != channel ||
	    (u64)slice->offset + slice->length > (u64)fbuf_npages(fbuf) << PAGE_SHIFT ||
	    !access_send_at_once(&fbuf->access))
		return NULL;
	fbuf->refs = 1;
	return fbuf;
}

#endif
