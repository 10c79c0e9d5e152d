/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * Channels: the data path from a sending end to receiving ends.
 *
 * Locks. @lock of the channel guards its set of ends, their queues and its list
 * of messages for re-use; it is a leaf. The mutex of an end serialises calls on
 * that end; user memory is read and written under it, so no fault handler takes
 * it. Nobody sleeps for messages or room while holding it.
 */
#ifndef FBUFS_CHANNEL_H
#define FBUFS_CHANNEL_H

#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "aggregate.h"
#include "domain.h"
#include "turn.h"

struct fbuf;
struct fbufs_class;
struct fbufs_pool;
struct file;
struct poll_table_struct;

/* Messages that a channel keeps for re-use. */
#define CHANNEL_SPARES 128

/**
 * struct fbufs_channel - see the head of this file
 * @ref: ends, messages, and fbufs that are at home on it
 * @destroy: frees it
 * @id: for people
 * @flags: FBUFS_CHANNEL_VOLATILE, FBUFS_CHANNEL_UNCACHED
 * @depth: messages that may wait for one receiver; a power of two
 * @pool: the sender's, with a reference, once it is attached; or NULL
 * @classes: free lists by pages
 * @recent: the free list that was last used
 * @recent_copy: the same of those that the kernel fills (copy.h)
 * @lock: see above
 * @closed: the sending end is gone; fbufs leave instead of going home here
 * @sender: the sending end, or NULL
 * @receivers: the receiving ends, by index
 * @present: bit for each receiving end
 * @nspares: messages for re-use
 * @spares: they, the last one used first
 */
struct fbufs_channel {
	struct kref ref;
	void (*destroy)(struct kref *ref);
	u32 id;
	u32 flags;
	u32 depth;
	struct fbufs_pool *pool;
	struct xarray classes;
	struct fbufs_class *recent;
	struct fbufs_class *recent_copy;

	spinlock_t lock;	/* see above */
	bool closed;
	struct fbufs_end *sender;
	struct fbufs_end *receivers[FBUFS_MAX_RECEIVERS];
	u64 present;
	u32 nspares;
	struct fbufs_aggregate *spares[CHANNEL_SPARES];
};

/**
 * struct fbufs_end - one end of a channel
 * @channel: with a reference
 * @domain: attached to, with a reference; NULL before; set once
 * @member: link to the domain
 * @mutex: see above
 * @wait: for messages, for room, or for hang-up
 * @turn: of those who wait at this end
 * @caller: the thread that called last, with a reference, or NULL; guarded by
 *	the lock of the channel, and written under @mutex only
 * @sending: which end
 * @gone: detached from the channel
 * @index: receiving: among the receivers
 * @head: receiving: messages taken so far
 * @tail: receiving: messages queued so far
 * @ring: receiving: the queue
 */
struct fbufs_end {
	struct fbufs_channel *channel;
	struct fbufs_domain *domain;
	struct fbufs_member member;
	struct mutex mutex;	/* see above */
	wait_queue_head_t wait;
	struct fbufs_turn turn;
	struct task_struct *caller;
	bool sending;
	bool gone;
	u32 index;
	u32 head;
	u32 tail;
	struct fbufs_aggregate **ring;
};

static inline struct fbufs_channel *channel_get(struct fbufs_channel *channel)
{
	kref_get(&channel->ref);
	return channel;
}

static inline void channel_get_many(struct fbufs_channel *channel, u32 n)
{
	refcount_add(n, &channel->ref.refcount);
}

/* Whether the caller may use the end, in a call that counts: 0, -ENXIO, -EPERM, -ENODEV. */
static inline int channel_check_end(struct fbufs_end *end)
{
	struct fbufs_domain *domain = READ_ONCE(end->domain);

	if (!domain)
		return -ENXIO;
	stats_count(&domain->counters, FBUFS_COUNT_CALLS, 1);
	return domain_check(domain);
}

/* Without including what frees it, so that lower layers can let go of fbufs. */
static inline void channel_put_many(struct fbufs_channel *channel, u32 n)
{
	if (refcount_sub_and_test(n, &channel->ref.refcount))
		channel->destroy(&channel->ref);
}

static inline void channel_put(struct fbufs_channel *channel)
{
	channel_put_many(channel, 1);
}

/* Messages that are nobody's are kept for re-use, as long as there is room, or freed. */
static __always_inline void channel_keep(struct fbufs_channel *channel,
					 struct fbufs_aggregate **spares, u32 n)
{
	u32 kept, i;

	for (i = 0; i < n; i++)
		aggregate_retire(spares[i]);
	spin_lock(&channel->lock);
	kept = READ_ONCE(channel->closed) ? 0 : min(n, CHANNEL_SPARES - channel->nspares);
	memcpy(&channel->spares[channel->nspares], spares, kept * sizeof(*spares));
	channel->nspares += kept;
	spin_unlock(&channel->lock);
	while (n > kept)
		aggregate_free(spares[--n]);
}

/* A slice of a message, of an fbuf that is the kernel's; @cookie is that of the first. */
struct channel_output {
	struct fbuf *fbuf;
	u64 cookie;
	u32 offset;
	u32 length;
	bool more;		/* the next one goes on with the message */
};

/* A message that the kernel received. */
struct channel_input {
	u64 message;	/* the handle to hold and release it by */
	u64 cookie;
	u64 length;
	u32 slices;
};

struct fbufs_end *channel_create(u32 flags, u32 depth);
struct fbufs_end *channel_add_receiver(struct fbufs_channel *channel);
void channel_end_close(struct fbufs_end *end);
int channel_attach(struct fbufs_end *end, struct fbufs_domain *domain);
int channel_attach_kernel(struct fbufs_end *end, struct fbufs_domain *domain,
			  struct fbufs_pool *pool);
bool channel_is_kernels(const struct fbufs_end *end);
struct fbufs_pool *channel_pool(struct fbufs_end *end);
int channel_alloc(struct fbufs_end *end, u64 bytes, struct fbufs_buffer *buffers, u32 n);
long channel_send(struct fbufs_end *end, struct fbufs_send *send, bool wait);
long channel_receive(struct fbufs_end *end, struct fbufs_receive *receive, bool wait);
long channel_call(struct fbufs_end *end, struct fbufs_end *receiver, struct fbufs_call *call,
		  bool wait_room, bool wait_message);
int channel_send_from_kernel(struct fbufs_end *end, const struct channel_output *outputs, u32 n);
int channel_receive_to_kernel(struct fbufs_end *end, struct channel_input *inputs, u32 n);
bool channel_has_input(const struct fbufs_end *end);
void channel_end_info(struct fbufs_end *end, struct fbufs_end_info *info);
__poll_t channel_poll(struct fbufs_end *end, struct file *file,
		      struct poll_table_struct *table);

#endif
