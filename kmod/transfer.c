// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/highmem.h>
#include <linux/sched/signal.h>

#include "account.h"
#include "aggregate.h"
#include "channel.h"
#include "domain.h"
#include "map.h"
#include "pool.h"
#include "transfer.h"

static void pool_count(struct fbufs_pool *pool, enum fbufs_counter which, u64 n)
{
	lockdep_assert_held(&pool->lock);
	if (pool->owner)
		stats_count(&pool->owner->counters, which, n);
}

/*
 * Allocation
 */

/* An fbuf that is LEAVING loses its pages and its place. May sleep. */
static void fbuf_evict(struct fbufs_pool *pool, struct fbuf *fbuf)
{
	u32 npages = fbuf_npages(fbuf);
	struct fbufs_channel *channel;

	map_unmap(pool, fbuf);
	/* No window shows its pages any more, and none can: they may go. */
	fbuf_pages_free(fbuf);
	spin_lock(&pool->lock);
	channel = fbuf->home->channel;
	pool_gone(pool, fbuf);
	pool_count(pool, FBUFS_COUNT_PAGES_FREED, npages);
	spin_unlock(&pool->lock);
	pool_slot_put(pool, fbuf);
	account_uncharge(npages);
	stats_gauge(FBUFS_GAUGE_FBUFS, -1);
	if (channel)
		channel_put(channel);
}

/* Evict whatever is LEAVING. May sleep. */
static void pool_reap(struct fbufs_pool *pool)
{
	struct fbuf *fbuf;

	for (;;) {
		spin_lock(&pool->lock);
		fbuf = pool->leaving;
		if (fbuf)
			pool->leaving = fbuf->next;
		spin_unlock(&pool->lock);
		if (!fbuf)
			return;
		fbuf_evict(pool, fbuf);
	}
}

/* Room for one more fbuf in the pool, by evicting free ones of other lists if need be. */
static int pool_make_room(struct fbufs_pool *pool, u32 npages)
{
	struct fbuf *victim;

	if (npages > pool->limit)
		return -ENOBUFS;
	while (pool_charge(pool, npages)) {
		int err = 0;

		spin_lock(&pool->lock);
		victim = pool_victim(pool);
		if (!victim && pool->orphan) {
			err = -ENODEV;
		} else if (!victim) {
			/* Whoever sends one home from here on will see this and wake us. */
			pool->starved = true;
			err = pool->sent || pool->nleaving ? -EAGAIN : -ENOBUFS;
		}
		spin_unlock(&pool->lock);
		if (err)
			return err;
		fbuf_evict(pool, victim);
	}
	return 0;
}

/* Give the machine back what a free fbuf of the pool has. False: there is none. */
static bool pool_shrink(struct fbufs_pool *pool)
{
	struct fbuf *victim;

	spin_lock(&pool->lock);
	victim = pool_victim(pool);
	spin_unlock(&pool->lock);
	if (victim)
		fbuf_evict(pool, victim);
	return victim;
}

/* A new fbuf with fresh, zeroed pages, OWNED. Returns 0 or an error. May sleep. */
static int pool_try_grow(struct fbufs_class *class, struct fbufs_buffer *buffer)
{
	struct fbufs_pool *pool = class->pool;
	u32 npages = class->npages;
	struct fbuf *fbuf;
	int err;

	err = pool_make_room(pool, npages);
	if (err)
		return err;
	err = account_charge(npages);
	if (err)
		goto err_uncharge_pool;
	fbuf = pool_slot_get(pool, npages);
	if (IS_ERR(fbuf)) {
		err = PTR_ERR(fbuf);
		goto err_uncharge;
	}
	err = fbuf_pages_alloc(fbuf);
	if (err)
		goto err_put_slot;

	spin_lock(&pool->lock);
	if (pool->orphan) {
		spin_unlock(&pool->lock);
		err = -ENODEV;
		goto err_free_pages;
	}
	if (class->channel)
		channel_get(class->channel);
	fbuf->home = class;
	pool_hand_out(pool, fbuf, buffer);
	pool_count(pool, FBUFS_COUNT_PAGES_ALLOCATED, npages);
	spin_unlock(&pool->lock);
	stats_gauge(FBUFS_GAUGE_FBUFS, 1);
	return 0;

err_free_pages:
	fbuf_pages_free(fbuf);
err_put_slot:
	pool_slot_put(pool, fbuf);
err_uncharge:
	account_uncharge(npages);
err_uncharge_pool:
	pool_uncharge(pool, npages);
	return err;
}

static int pool_grow(struct fbufs_class *class, struct fbufs_buffer *buffer)
{
	int err;

	do {
		err = pool_try_grow(class, buffer);
	} while (err == -ENOMEM && !fatal_signal_pending(current) && pool_shrink(class->pool));
	return err;
}

/*
 * An fbuf that was never sent, from its free list: it carries what its own
 * process left in it, and is zeroed before anybody can name it. Returns whether
 * there was one. May sleep.
 */
static bool take_zeroed(struct fbufs_class *class, struct fbufs_buffer *buffer)
{
	struct fbuf *fbuf = pool_take_to_zero(class);
	struct fbufs_pool *pool = class->pool;
	bool orphan;

	if (!fbuf)
		return false;
	fbuf_pages_zero(fbuf, 0);
	spin_lock(&pool->lock);
	orphan = pool->orphan;
	if (orphan)
		pool_leave(pool, fbuf);
	else
		pool_hand_out(pool, fbuf, buffer);
	spin_unlock(&pool->lock);
	if (orphan)
		pool_reap(pool);
	return !orphan;
}

/* As transfer_alloc(), of which @done are there; @unmapped: some of them not yet writable. */
int transfer_alloc_others(struct fbufs_domain *domain, struct fbufs_class *class,
			  struct fbufs_buffer *buffers, u32 done, u32 n, bool unmapped)
{
	int err = 0;

	unmapped |= done < n;
	if (!class->channel)
		while (done < n && take_zeroed(class, &buffers[done]))
			done++;
	while (done < n) {
		err = pool_grow(class, &buffers[done]);
		if (err)
			break;
		done++;
		if (fatal_signal_pending(current))
			break;
	}
	if (!done)
		return err;
	if (unmapped)
		map_give(domain, buffers, done);
	stats_count(&domain->counters, FBUFS_COUNT_ALLOCS, done);
	return done;
}

/*
 * After -EAGAIN, wait until the pool may have room: 0, or -EINTR, or an error of
 * domain_check().
 */
int transfer_wait(struct fbufs_domain *domain)
{
	struct fbufs_pool *pool = domain->pool;
	int err = wait_event_interruptible(domain->wait, !READ_ONCE(pool->starved) ||
					   READ_ONCE(domain->dead));

	return err ? -EINTR : domain_check(domain);
}

/*
 * One fbuf that the kernel is to fill first: as transfer_alloc(), not mapped, and
 * with what its own process left in it: the caller zeroes what it does not fill.
 */
int transfer_alloc_to_fill(struct fbufs_domain *domain, struct fbufs_class *class,
			   struct fbufs_buffer *buffer)
{
	bool unmapped;
	int err = 0;

	if (!pool_take(class, buffer, 1, &unmapped))
		err = pool_grow(class, buffer);
	if (!err)
		stats_count(&domain->counters, FBUFS_COUNT_ALLOCS, 1);
	return err;
}

/*
 * The kernel as originator
 */

/*
 * An OWNED fbuf that its process has not touched becomes the kernel's. Context: under
 * the pool's lock.
 */
static void fbuf_own_by_kernel(struct fbuf *fbuf)
{
	access_own_by_kernel(&fbuf->access);
	fbuf->refs = 1;
	fbuf->home->out++;
}

/* Fbufs from a free list, for the kernel: locked from here on. Returns how many. */
static u32 take_for_kernel(struct fbufs_class *class, struct fbuf **fbufs, u32 n)
{
	struct fbufs_pool *pool = class->pool;
	struct fbufs_buffer buffer;
	struct fbuf *fbuf;
	bool reap;
	u32 i = 0;

	spin_lock(&pool->lock);
	while (i < n && !pool->orphan) {
		fbuf = pool_pop(class);
		if (!fbuf)
			break;
		/* Its process guessed its handle once, and may have it mapped for writing. */
		if (fbuf->access.flags & ACCESS_RW) {
			pool_leave(pool, fbuf);
			continue;
		}
		pool_hand_out(pool, fbuf, &buffer);
		fbuf_own_by_kernel(fbuf);
		fbufs[i++] = fbuf;
	}
	reap = pool->leaving;
	spin_unlock(&pool->lock);
	if (reap)
		pool_reap(pool);
	return i;
}

/* One more fbuf of the pool, for the kernel; or an error. */
static int grow_for_kernel(struct fbufs_class *class, struct fbuf **out)
{
	struct fbufs_pool *pool = class->pool;
	struct fbufs_buffer buffer;
	int err = pool_grow(class, &buffer);
	struct fbuf *fbuf;

	if (err)
		return err;
	spin_lock(&pool->lock);
	fbuf = pool_lookup(pool, buffer.fbuf);
	/* For a moment it was its process's, which may have used a handle that it guessed. */
	if (fbuf && fbuf->access.state == FBUFS_STATE_OWNED && !(fbuf->access.flags & ACCESS_RW))
		fbuf_own_by_kernel(fbuf);
	else
		err = -EAGAIN;
	spin_unlock(&pool->lock);
	*out = fbuf;
	return err;
}

/**
 * transfer_alloc_for_kernel - allocate fbufs that the kernel fills and sends
 * @domain: of the kernel, or of the process that it copies for
 * @class: of a channel of which the kernel has the sending end, or of pool_copy_class()
 * @fbufs: where to put them: SENDING and locked, with the old contents of messages
 *	of the same channel
 * @n: how many
 * @most: new ones, when the free list has too few
 *
 * Each is to be sent (transfer_commit()), or given back (transfer_free_from_kernel()).
 *
 * Return: how many, or, without any, an error of transfer_alloc(), or 0 when none is
 * at home and @most is 0. May sleep.
 */
int transfer_alloc_for_kernel(struct fbufs_domain *domain, struct fbufs_class *class,
			      struct fbuf **fbufs, u32 n, u32 most)
{
	u32 done = take_for_kernel(class, fbufs, n);
	int err = 0;

	while (done < n && most-- && !err) {
		err = grow_for_kernel(class, &fbufs[done]);
		done += !err;
	}
	stats_count(&domain->counters, FBUFS_COUNT_ALLOCS, done);
	return done ? done : err;
}

static bool class_is_closed(const struct fbufs_class *class)
{
	return class->channel && READ_ONCE(class->channel->closed);
}

/* A FREE fbuf goes on its list, or leaves. Context: under the pool's lock. */
static inline void fbuf_settle(struct fbufs_pool *pool, struct fbuf *fbuf)
{
	/* Private copies go with it: its next user is not to see them. */
	if (pool->orphan || class_is_closed(fbuf->home) || fbuf->access.flags & ACCESS_SHADOW)
		pool_leave(pool, fbuf);
	else
		pool_push(fbuf);
}

/* The kernel gives fbufs up that it did not send. They are of one pool. May sleep. */
void transfer_free_from_kernel(struct fbufs_pool *pool, struct fbuf **fbufs, u32 n)
{
	bool reap;
	u32 i;

	spin_lock(&pool->lock);
	for (i = 0; i < n; i++) {
		fbufs[i]->refs = 0;
		fbufs[i]->home->out--;
		access_free_from_kernel(&fbufs[i]->access);
		fbuf_settle(pool, fbufs[i]);
	}
	if (pool->starved)
		pool_wake(pool);
	reap = pool->leaving;
	spin_unlock(&pool->lock);
	if (reap)
		pool_reap(pool);
}

static inline int free_one(struct fbufs_pool *pool, u64 handle) __must_hold(&pool->lock)
{
	struct fbuf *fbuf = pool_lookup(pool, handle);
	int err = fbuf ? access_free(&fbuf->access) : -ENOENT;

	if (err)
		return err;
	if (fbuf->access.state == FBUFS_STATE_FREE)
		fbuf_settle(pool, fbuf);
	else
		pool_unlocked(pool);
	return 0;
}

/**
 * transfer_free - the calling process gives fbufs back
 * @domain: its domain, with a pool
 * @handles: of the fbufs
 * @n: how many, at most TRANSFER_BATCH
 *
 * Return: how many, up to the first with which something is wrong; when that is the
 * first, what: -ENOENT, -EBUSY. May sleep.
 */
int transfer_free(struct fbufs_domain *domain, const u64 *handles, u32 n)
{
	struct fbufs_pool *pool = domain->pool;
	int err = 0;
	u32 done;
	bool reap;

	spin_lock(&pool->lock);
	for (done = 0; done < n; done++) {
		err = free_one(pool, handles[done]);
		if (err)
			break;
	}
	if (done && pool->starved)
		pool_wake(pool);
	reap = pool->leaving;
	spin_unlock(&pool->lock);
	if (reap)
		pool_reap(pool);
	return done ? done : err;
}

/* Fbufs that were allocated for a process which does not learn of them. */
void transfer_take_back(struct fbufs_domain *domain, const struct fbufs_buffer *buffers, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++)
		transfer_free(domain, &buffers[i].fbuf, 1);
}

/*
 * Going home
 */

/* The last slice of an fbuf is gone. Context: under the pool's lock. */
static inline void fbuf_go_home(struct fbufs_pool *pool, struct fbuf *fbuf)
{
	u8 notice = access_home(&fbuf->access);

	pool_unlocked(pool);
	if (notice)
		pool_notice(pool, fbuf, notice);
	pool->sent--;
	if (fbuf->access.state == FBUFS_STATE_FREE)
		fbuf_settle(pool, fbuf);
	else if (pool->orphan)
		pool_leave(pool, fbuf);
	else
		fbuf->next = NULL;
}

/*
 * A slice is given up. Context: under the pool's lock. An fbuf that is still
 * SENDING goes back to its originator.
 */
static inline void segment_put(struct fbufs_pool *pool, struct fbuf *fbuf)
{
	if (--fbuf->refs) {
		/* Who waits for it to be returned may be the last. */
		if (fbuf->access.flags & ACCESS_RETURN && pool->owner)
			domain_look_at_io(pool->owner);
		return;
	}
	if (fbuf->access.state == FBUFS_STATE_SENT) {
		fbuf_go_home(pool, fbuf);
		return;
	}
	access_undo_send(&fbuf->access);
	fbuf->next = NULL;
	if (pool->orphan)
		pool_leave(pool, fbuf);
}

/* Under a pool's lock so many slices at most, for the sake of others. */
#define RUN 256

static noinline void segments_put(struct fbufs_aggregate **aggregates, u32 count)
{
	struct segment_walk walk;
	bool more = walk_begin(&walk, aggregates, count);

	while (more) {
		struct fbufs_pool *pool = fbuf_pool(walk.segment->fbuf);
		u32 notices, sent, n = 0;
		bool reap, last;

		spin_lock(&pool->lock);
		notices = pool->notice_tail;
		sent = pool->sent;
		do {
			segment_put(pool, walk.segment->fbuf);
			more = walk_next(&walk);
		} while (more && fbuf_pool(walk.segment->fbuf) == pool && ++n < RUN);
		reap = pool->leaving;
		last = sent && !pool->sent;
		/* Without the reference of what was sent, the pool could go at once. */
		if (reap && !last)
			pool_get(pool);
		if (notices != pool->notice_tail || (pool->starved && sent != pool->sent))
			pool_wake(pool);
		spin_unlock(&pool->lock);
		if (reap)
			pool_reap(pool);
		if (reap || last)
			pool_put(pool);
	}
}

/* The messages are nobody's: keep them for their channels, or free them. */
static void aggregates_retire(struct fbufs_aggregate **aggregates, u32 count)
{
	u32 i = 0, n, small;

	while (i < count) {
		struct fbufs_channel *channel = aggregates[i]->channel;
		struct fbufs_aggregate **run = aggregates + i;

		for (n = 0, small = 0; i < count && aggregates[i]->channel == channel; n++, i++) {
			if (channel && aggregates[i]->nsegments <= MESSAGE_INLINE)
				run[small++] = aggregates[i];
			else
				aggregate_free(aggregates[i]);
		}
		if (!channel)
			continue;
		channel_keep(channel, run, small);
		channel_put_many(channel, n);
	}
}

/* As transfer_drop(), of any messages. */
static noinline void messages_drop(struct fbufs_aggregate **aggregates, u32 n)
{
	u32 i, last = 0;

	for (i = 0; i < n; i++)
		if (aggregate_put(aggregates[i]))
			aggregates[last++] = aggregates[i];
	if (!last)
		return;
	segments_put(aggregates, last);
	aggregates_retire(aggregates, last);
}

/* Whether it is of one slice, of an fbuf of the channel, and nobody else has it. */
static inline bool message_is_plain(const struct fbufs_aggregate *aggregate,
				    const struct fbufs_channel *channel)
{
	return aggregate->channel == channel && aggregate->nsegments == 1 &&
	       aggregate->segments[0].fbuf->home->channel == channel &&
	       aggregate_is_sole(aggregate);
}

/*
 * The first of some messages go home to a channel, as long as they are plain, and their
 * fbuf just goes on its free list. Returns how many; the messages are left to the caller.
 */
static u32 messages_go_home(struct fbufs_channel *channel, struct fbufs_aggregate **aggregates,
			    u32 n)
{
	struct fbufs_pool *pool = channel->pool;
	struct fbuf *fbuf;
	bool last;
	u32 i;

	spin_lock(&pool->lock);
	if (pool->orphan || READ_ONCE(channel->closed) || pool->store & FBUFS_POOL_STORE_WAIT)
		n = 0;
	for (i = 0; i < n; i++) {
		if (!message_is_plain(aggregates[i], channel))
			break;
		fbuf = aggregates[i]->segments[0].fbuf;
		if (fbuf->refs != 1 || !access_home_quietly(&fbuf->access))
			break;
		pool_push(fbuf);
	}
	pool->sent -= i;
	last = i && !pool->sent;
	if (i && pool->starved)
		pool_wake(pool);
	spin_unlock(&pool->lock);
	/* The channel has a reference, too. */
	if (last)
		pool_put(pool);
	return i;
}

/**
 * transfer_drop - give up references to messages
 * @aggregates: the messages; with the last reference to one its fbufs go home.
 *	What is in the array afterwards is of no use
 * @n: how many
 *
 * Context: May sleep.
 */
void transfer_drop(struct fbufs_aggregate **aggregates, u32 n)
{
	u32 done = 0, usual;

	while (done < n) {
		struct fbufs_channel *channel = aggregates[done]->channel;

		/* Then the channel has a pool: there are some that only send on and have none. */
		if (!channel || !message_is_plain(aggregates[done], channel))
			break;
		usual = messages_go_home(channel, aggregates + done, n - done);
		if (!usual)
			break;
		channel_keep(channel, aggregates + done, usual);
		channel_put_many(channel, usual);
		done += usual;
	}
	if (done < n)
		messages_drop(aggregates + done, n - done);
}

/**
 * transfer_release - a domain ends its use of messages
 * @domain: the caller's
 * @handles: of the messages
 * @n: how many, at most TRANSFER_BATCH
 *
 * Return: how many it held, up to the first that it does not hold; -ENOENT when
 * that is the first. May sleep.
 */
int transfer_release(struct fbufs_domain *domain, const u64 *handles, u32 n)
{
	struct fbufs_aggregate *aggregates[TRANSFER_BATCH] __uninitialized;
	u32 done, flags;

	done = domain_take_holds(domain, handles, aggregates, n, &flags);
	/* Not held any more: a receiver that closes its end from here on empties the window. */
	if (done && (flags & MESSAGE_UNMAP || READ_ONCE(domain->detached)))
		map_hide(domain, aggregates, done);
	transfer_drop(aggregates, done);
	stats_count(&domain->counters, FBUFS_COUNT_RELEASES, done);
	return done ? done : -ENOENT;
}

/*
 * Sending
 */

/* Where an fbuf of this length is at home on a channel; made if need be. May sleep. */
static struct fbufs_class *channel_class(struct fbufs_channel *channel,
					 struct fbufs_pool *pool, u32 npages)
{
	return pool_class(pool, &channel->classes, channel, npages);
}

/*
 * An OWNED fbuf of the caller's is to become good for the channel, or for the kernel
 * without one: 0 when it is good as it is; -EAGAIN when the lock was given up, and it is
 * to be looked up again; -EXDEV, -ENOMEM. Context: under the pool's lock.
 */
static int fbuf_prepare(struct fbufs_pool *pool, struct fbufs_channel *channel,
			const struct fbuf *fbuf) __must_hold(&pool->lock)
{
	u32 npages = fbuf_npages(fbuf);
	struct fbufs_class *class;

	if (access_is_stale(&fbuf->access)) {
		u64 handle = fbuf->handle;

		spin_unlock(&pool->lock);
		map_merge(pool, handle);
		spin_lock(&pool->lock);
		return -EAGAIN;
	}
	if (!channel || fbuf->home->channel == channel)
		return 0;
	if (fbuf->home->channel)
		return -EXDEV;
	if (xa_load(&channel->classes, npages))
		return 0;
	/* transfer_commit() will need it and must not fail. */
	spin_unlock(&pool->lock);
	class = channel_class(channel, pool, npages);
	spin_lock(&pool->lock);
	return class ? -EAGAIN : -ENOMEM;
}

/*
 * Take an fbuf of the caller's for the message. One that is SENDING is good only
 * if it is this message that it is in, most likely with the slice before.
 * Context: under the pool's lock; -EAGAIN: it was given up.
 */
static int fbuf_take(struct fbufs_pool *pool, struct fbufs_channel *channel,
		     const struct fbufs_aggregate *aggregate, struct fbuf *fbuf,
		     const struct fbufs_slice *slice) __must_hold(&pool->lock)
{
	int err;

	if ((u64)slice->offset + slice->length > (u64)fbuf_npages(fbuf) << PAGE_SHIFT)
		return -ERANGE;
	if (fbuf->access.state == FBUFS_STATE_OWNED) {
		err = fbuf_prepare(pool, channel, fbuf);
		if (err)
			return err;
	} else if (fbuf->access.state == FBUFS_STATE_SENDING && !aggregate_has(aggregate, fbuf)) {
		return -EACCES;
	}
	err = access_send(&fbuf->access);
	if (err)
		return err;
	if (aggregate->flags & MESSAGE_LENT)
		access_lend(&fbuf->access);
	fbuf->refs++;
	return 0;
}

/**
 * transfer_add - add a slice of an own fbuf to a message that is being made
 * @pool: the caller's; also the channel's, if there is one
 * @channel: it is to go over; or NULL, to the kernel
 * @aggregate: the message, with room
 * @slice: from the user
 *
 * Context: under the pool's lock, which it may give up and take again.
 * Return: 0, or an error of FBUFS_SEND with nothing changed.
 */
int transfer_add(struct fbufs_pool *pool, struct fbufs_channel *channel,
		 struct fbufs_aggregate *aggregate, const struct fbufs_slice *slice)
	__must_hold(&pool->lock)
{
	struct fbuf *fbuf;
	int err;

	if (!slice->length)
		return -EINVAL;
	do {
		fbuf = pool_lookup(pool, slice->fbuf);
		err = fbuf ? fbuf_take(pool, channel, aggregate, fbuf, slice) : -ENOENT;
	} while (err == -EAGAIN);
	if (!err)
		aggregate_append(aggregate, fbuf, slice->offset, slice->length, false);
	return err;
}

/* The fbuf of a held message that the slice names and that contains its bytes. */
static struct fbuf *held_fbuf(const struct fbufs_aggregate *held, const struct fbufs_slice *slice)
{
	u32 i;

	for (i = 0; i < held->nsegments; i++) {
		struct fbuf *fbuf = held->segments[i].fbuf;

		/* Its handle cannot change while it is SENT. */
		if (fbuf->handle == slice->fbuf &&
		    aggregate_contains(held, fbuf, slice->offset, slice->length))
			return fbuf;
	}
	return NULL;
}

/**
 * transfer_add_held - add a slice of a held message to one that is being made
 * @domain: the caller's
 * @aggregate: the message, with room
 * @slice: from the user
 *
 * Return: 0, or an error of FBUFS_SEND with nothing changed. May sleep.
 */
int transfer_add_held(struct fbufs_domain *domain, struct fbufs_aggregate *aggregate,
		      const struct fbufs_slice *slice)
{
	struct fbufs_aggregate *held;
	struct fbufs_pool *pool;
	struct fbuf *fbuf;
	int err = -EACCES;

	if (!slice->length)
		return -EINVAL;
	held = domain_get_hold(domain, slice->hold);
	if (!held)
		return -ENOENT;
	fbuf = held_fbuf(held, slice);
	if (fbuf) {
		pool = fbuf_pool(fbuf);
		spin_lock(&pool->lock);
		err = fbuf->refs == U32_MAX ? -EOVERFLOW : 0;
		fbuf->refs += !err;
		spin_unlock(&pool->lock);
	}
	if (!err)
		aggregate_append(aggregate, fbuf, slice->offset, slice->length, true);
	transfer_drop(&held, 1);
	return err;
}

/* Take back a message that was not committed, and free it. */
void transfer_undo(struct fbufs_aggregate *aggregate)
{
	segments_put(&aggregate, 1);
	aggregate_free(aggregate);
}

/**
 * transfer_secure - lock the fbufs of messages
 * @domain: the caller's, for its counters
 * @aggregates: messages of which the caller has a reference
 * @n: how many
 *
 * When it returns nobody can write them. It cannot fail, and what follows in a
 * send call cannot either: no fbuf is locked by a send that did not happen.
 *
 * Context: May sleep.
 */
void transfer_secure(struct fbufs_domain *domain, struct fbufs_aggregate **aggregates, u32 n)
{
	struct segment_walk walk;
	bool more = walk_begin(&walk, aggregates, n), revoke = false;
	u32 locks = 0, held;

	while (more) {
		struct fbufs_pool *pool = fbuf_pool(walk.segment->fbuf);

		spin_lock(&pool->lock);
		held = 0;
		do {
			struct fbufs_access *access = &walk.segment->fbuf->access;

			locks += !(access->flags & ACCESS_LOCKED);
			revoke |= access_lock(access);
			more = walk_next(&walk);
		} while (more && fbuf_pool(walk.segment->fbuf) == pool && ++held < RUN);
		spin_unlock(&pool->lock);
	}
	stats_count(&domain->counters, FBUFS_COUNT_LOCKS, locks);
	if (revoke)
		map_revoke(aggregates, n);
}

/* An fbuf becomes the receivers', if it is not yet. Context: under the pool's lock. */
static void fbuf_hand_over(struct fbufs_pool *pool, struct fbufs_channel *channel,
			   struct fbuf *fbuf)
{
	if (!access_sent(&fbuf->access))
		return;
	pool_sent(pool, 1);
	if (!fbuf->home->channel) {
		fbuf->home = xa_load(&channel->classes, fbuf_npages(fbuf));
		channel_get(channel);
	}
}

/**
 * transfer_commit - hand messages over
 * @domain: the caller's
 * @channel: they go over
 * @aggregates: the messages; from here on their fbufs are the receivers'
 * @n: how many
 *
 * Room for the notices that messages want has been promised, one a slice; what
 * is not needed is given back.
 */
void transfer_commit(struct fbufs_domain *domain, struct fbufs_channel *channel,
		     struct fbufs_aggregate **aggregates, u32 n)
{
	struct fbufs_pool *own = domain->pool;
	struct segment_walk walk;
	bool more = walk_begin(&walk, aggregates, n);
	u32 held, promised = 0, noticed = 0;

	while (more) {
		struct fbufs_pool *pool = fbuf_pool(walk.segment->fbuf);

		spin_lock(&pool->lock);
		held = 0;
		do {
			struct fbufs_aggregate *aggregate = walk_aggregate(&walk);
			struct fbuf *fbuf = walk.segment->fbuf;

			fbuf_hand_over(pool, channel, fbuf);
			if (fbuf->home->channel != channel)
				aggregate->flags |= MESSAGE_UNMAP;
			if (aggregate->flags & MESSAGE_NOTICE) {
				promised++;
				noticed += pool == own && access_want_notice(&fbuf->access);
			}
			more = walk_next(&walk);
		} while (more && fbuf_pool(walk.segment->fbuf) == pool && ++held < RUN);
		spin_unlock(&pool->lock);
	}
	if (promised != noticed)
		pool_unpromise_notices(own, promised - noticed);
}

/**
 * transfer_to_kernel - hand a message over to the kernel
 * @aggregate: the message, locked, without a channel
 * @returns: its fbufs are to be the caller's again with the last transfer_drop(),
 *	rather than go home
 */
void transfer_to_kernel(struct fbufs_aggregate *aggregate, bool returns)
{
	u32 i;

	for (i = 0; i < aggregate->nsegments; i++) {
		struct fbuf *fbuf = aggregate->segments[i].fbuf;
		struct fbufs_pool *pool = fbuf_pool(fbuf);

		spin_lock(&pool->lock);
		if (access_sent(&fbuf->access)) {
			pool_sent(pool, 1);
			if (returns)
				fbuf->access.flags |= ACCESS_RETURN;
		}
		spin_unlock(&pool->lock);
	}
}

/* What was handed over is to be returned after all. */
void transfer_return(struct fbufs_aggregate *aggregate)
{
	u32 i;

	for (i = 0; i < aggregate->nsegments; i++) {
		struct fbuf *fbuf = aggregate->segments[i].fbuf;
		struct fbufs_pool *pool = fbuf_pool(fbuf);

		spin_lock(&pool->lock);
		fbuf->access.flags |= ACCESS_RETURN;
		spin_unlock(&pool->lock);
	}
}

/**
 * transfer_is_last - whether nobody else holds the own fbufs of a message
 * @aggregate: the message
 *
 * Only those that this message is to return to their originator are looked at.
 *
 * Return: true when nobody does.
 */
bool transfer_is_last(struct fbufs_aggregate *aggregate)
{
	bool last = true;
	u32 i, j;

	for (i = 0; i < aggregate->nsegments && last; i++) {
		struct fbuf *fbuf = aggregate->segments[i].fbuf;
		struct fbufs_pool *pool = fbuf_pool(fbuf);
		u32 refs = 0;

		/* Each could wait for the other who waits for what is his own. */
		if (aggregate->segments[i].borrowed)
			continue;
		spin_lock(&pool->lock);
		if (fbuf->access.flags & ACCESS_RETURN)
			refs = fbuf->refs;
		spin_unlock(&pool->lock);
		for (j = 0; j < aggregate->nsegments && refs; j++)
			refs -= aggregate->segments[j].fbuf == fbuf;
		last = !refs;
	}
	return last;
}

/*
 * Taking over
 */

/*
 * An fbuf that only this message holds leaves its pool, to give its pages to
 * somebody. False: somebody else holds it, too.
 */
static bool fbuf_detach(struct fbufs_aggregate *aggregate)
{
	struct fbuf *fbuf = aggregate->segments[0].fbuf;
	struct fbufs_pool *pool = fbuf_pool(fbuf);
	bool sole;
	u8 notice;

	spin_lock(&pool->lock);
	/* What is lent is its originator's to get back. */
	sole = aggregate_is_sole(aggregate) && fbuf->refs == 1 &&
	       !(fbuf->access.flags & (ACCESS_LENT | ACCESS_RETURN)) &&
	       fbuf_pages_are_home(fbuf);
	if (sole) {
		fbuf->refs = 0;
		notice = access_home(&fbuf->access);
		if (notice)
			pool_notice(pool, fbuf, notice);
		access_leave(&fbuf->access);
		fbuf->next = NULL;
		pool->nleaving++;
	}
	spin_unlock(&pool->lock);
	return sole;
}

/* The pages of a LEAVING fbuf become those of @to, which is EMPTY and of another pool. */
static void fbuf_move(struct fbuf *from, struct fbuf *to)
{
	struct fbufs_pool *pool = fbuf_pool(from);
	u32 npages = fbuf_npages(from);
	struct fbufs_channel *channel;
	bool last;

	map_unmap(pool, from);
	fbuf_pages_move(to, from);
	spin_lock(&pool->lock);
	channel = from->home->channel;
	pool_gone(pool, from);
	last = !--pool->sent;
	pool_count(pool, FBUFS_COUNT_PAGES_FREED, npages);
	spin_unlock(&pool->lock);
	pool_slot_put(pool, from);
	if (channel)
		channel_put(channel);
	if (last)
		pool_put(pool);
}

/* Pages for an EMPTY fbuf, with a copy of a slice of another of the same length. */
static int fbuf_fill_copy(struct fbufs_domain *domain, struct fbuf *to,
			  const struct fbufs_segment *from)
{
	u32 page = from->offset >> PAGE_SHIFT;
	u32 last = (from->offset + from->length - 1) >> PAGE_SHIFT;
	struct fbuf_cursor in, out;
	int err = account_charge(fbuf_npages(to));

	if (err)
		return err;
	err = fbuf_pages_alloc(to);
	if (err) {
		account_uncharge(fbuf_npages(to));
		return err;
	}
	fbuf_cursor_init(&in, from->fbuf, page);
	fbuf_cursor_init(&out, to, page);
	for (; page <= last; page++) {
		copy_highpage(pfn_to_page(fbuf_cursor_next(&out)),
			      pfn_to_page(fbuf_cursor_next(&in)));
		cond_resched();
	}
	stats_gauge(FBUFS_GAUGE_FBUFS, 1);
	stats_count(&domain->counters, FBUFS_COUNT_BYTES_COPIED, from->length);
	return 0;
}

/* A place for as many pages in the caller's pool, without pages: or an error. */
static struct fbuf *pool_make_place(struct fbufs_class *class)
{
	struct fbufs_pool *pool = class->pool;
	struct fbuf *fbuf;
	int err = pool_make_room(pool, class->npages);

	if (err)
		return ERR_PTR(err);
	fbuf = pool_slot_get(pool, class->npages);
	if (IS_ERR(fbuf))
		pool_uncharge(pool, class->npages);
	return fbuf;
}

/**
 * transfer_take_over - take a held message over for writing
 * @domain: the caller's, with a pool
 * @mutable: the arguments; set on success
 *
 * Return: 0, or an error of FBUFS_MAKE_MUTABLE with the message still held.
 * Context: May sleep.
 */
int transfer_take_over(struct fbufs_domain *domain, struct fbufs_make_mutable *mutable)
{
	struct fbufs_aggregate *held = domain_borrow_hold(domain, mutable->message);
	struct fbufs_pool *pool = domain->pool;
	struct fbufs_segment segment;
	struct fbufs_buffer buffer;
	struct fbufs_class *class;
	int err = -EINVAL;
	struct fbuf *to;

	if (!held)
		return -ENOENT;
	if (held->nsegments != 1)
		goto err_give_back;
	segment = held->segments[0];
	err = -ENOMEM;
	class = pool_class(pool, &pool->unbound, NULL, fbuf_npages(segment.fbuf));
	if (!class)
		goto err_give_back;
	to = pool_make_place(class);
	err = PTR_ERR_OR_ZERO(to);
	if (err)
		goto err_give_back;

	if (fbuf_pool(segment.fbuf) != pool && fbuf_detach(held)) {
		mutable->out_how = FBUFS_MUTABLE_TAKEN;
		fbuf_move(segment.fbuf, to);
		held->nsegments = 0;
	} else {
		mutable->out_how = FBUFS_MUTABLE_COPIED;
		err = fbuf_fill_copy(domain, to, &segment);
		if (err)
			goto err_put_place;
	}
	domain_cancel_holds(domain, &mutable->message, 1);
	map_hide(domain, &held, 1);
	transfer_drop(&held, 1);
	spin_lock(&pool->lock);
	to->home = class;
	pool_hand_out(pool, to, &buffer);
	spin_unlock(&pool->lock);
	map_give(domain, &buffer, 1);
	mutable->out_fbuf = buffer.fbuf;
	mutable->out_position = buffer.position;
	mutable->out_offset = segment.offset;
	mutable->out_length = segment.length;
	return 0;

err_put_place:
	pool_slot_put(pool, to);
	pool_uncharge(pool, class->npages);
err_give_back:
	if (domain_commit_holds(domain, &mutable->message, &held, 1))
		transfer_drop(&held, 1);
	return err;
}

/**
 * transfer_secure_held - lock the fbufs of held messages
 * @domain: the caller's
 * @handles: of the messages
 * @n: how many, at most TRANSFER_BATCH
 *
 * Return: of how many nobody can write them any more, up to the first message
 * that the domain does not hold; -ENOENT when that is the first. May sleep.
 */
int transfer_secure_held(struct fbufs_domain *domain, const u64 *handles, u32 n)
{
	struct fbufs_aggregate *held[TRANSFER_BATCH] __uninitialized;
	u32 done;

	for (done = 0; done < n; done++) {
		held[done] = domain_get_hold(domain, handles[done]);
		if (!held[done])
			break;
	}
	transfer_secure(domain, held, done);
	transfer_drop(held, done);
	return done ? done : -ENOENT;
}

/*
 * Ends
 */

/**
 * transfer_close_channel - the sending end of a channel is gone
 * @channel: the channel
 *
 * Its free fbufs lose their pages now, those that are out when they come home.
 * May sleep.
 */
void transfer_close_channel(struct fbufs_channel *channel)
{
	struct fbufs_pool *pool = channel->pool;
	struct fbufs_class *class;
	unsigned long index;
	struct fbuf *fbuf;

	if (!pool) {
		WRITE_ONCE(channel->closed, true);
		return;
	}
	spin_lock(&pool->lock);
	WRITE_ONCE(channel->closed, true);
	xa_for_each(&channel->classes, index, class) {
		while ((fbuf = pool_pop(class))) {
			pool_leave(pool, fbuf);
			cond_resched_lock(&pool->lock);
		}
	}
	spin_unlock(&pool->lock);
	pool_reap(pool);
}

/* Everything of the pool that nobody holds goes, the rest when it comes home. */
static void pool_abandon(struct fbufs_pool *pool)
{
	struct fbufs_extent *extent;
	unsigned long index;
	struct fbuf *fbuf;
	u32 i;

	spin_lock(&pool->lock);
	pool->owner = NULL;
	pool->orphan = true;
	pool_unlocked(pool);
	while ((fbuf = pool_victim(pool))) {
		fbuf->next = pool->leaving;
		pool->leaving = fbuf;
		cond_resched_lock(&pool->lock);
	}
	spin_unlock(&pool->lock);
	for (index = 0;; index++) {
		spin_lock(&pool->lock);
		extent = xa_find(&pool->extents, &index, ULONG_MAX, XA_PRESENT);
		for (i = 0; extent && i < extent->nslots; i++)
			if (extent->fbufs[i].access.state == FBUFS_STATE_OWNED)
				pool_leave(pool, &extent->fbufs[i]);
		spin_unlock(&pool->lock);
		if (!extent)
			break;
	}
	pool_reap(pool);
}

/**
 * transfer_end_domain - a domain ends: release what it holds, free what it owns
 * @domain: the domain; its process is going, or its descriptor is
 *
 * May be called more than once. Context: May sleep; not under any lock.
 */
void transfer_end_domain(struct fbufs_domain *domain)
{
	struct fbufs_aggregate *aggregate;

	domain_end_members(domain);
	/* Before the pool forgets its owner: a lock that finds none relies on this. */
	map_hide_all(domain);
	while ((aggregate = domain_take_any_hold(domain)))
		transfer_drop(&aggregate, 1);
	if (domain->pool)
		pool_abandon(domain->pool);
	wake_up_all(&domain->wait);
}
