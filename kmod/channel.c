// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/file.h>
#include <linux/log2.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "aggregate.h"
#include "channel.h"
#include "copy.h"
#include "map.h"
#include "pool.h"
#include "transfer.h"
#include "user.h"

/* How many messages a call moves between two looks at the queue. */
#define CHUNK 32
/* How many elements of the user's arrays are copied at a time. */
#define AHEAD 16
#define DEFAULT_DEPTH 64

static atomic_t next_channel = ATOMIC_INIT(0);

/*
 * Creation and end
 */

static void channel_destroy(struct kref *ref)
{
	struct fbufs_channel *channel = container_of(ref, struct fbufs_channel, ref);

	WARN_ON_ONCE(channel->sender || channel->present);
	while (channel->nspares)
		aggregate_free(channel->spares[--channel->nspares]);
	pool_classes_destroy(&channel->classes);
	if (channel->pool)
		pool_put(channel->pool);
	kfree(channel);
	stats_gauge(FBUFS_GAUGE_CHANNELS, -1);
}

/* The member's domain ends; see end_detach(). */
static void end_domain_ended(struct fbufs_member *member);

static struct fbufs_end *end_create(struct fbufs_channel *channel, bool sending)
{
	struct fbufs_end *end = kzalloc(sizeof(*end), GFP_KERNEL_ACCOUNT);

	if (!end)
		return NULL;
	if (!sending) {
		end->ring = kvcalloc(channel->depth, sizeof(*end->ring), GFP_KERNEL_ACCOUNT);
		if (!end->ring) {
			kfree(end);
			return NULL;
		}
	}
	end->channel = channel_get(channel);
	end->sending = sending;
	end->member.end = end_domain_ended;
	INIT_LIST_HEAD(&end->member.link);
	mutex_init(&end->mutex);
	init_waitqueue_head(&end->wait);
	stats_gauge(FBUFS_GAUGE_ENDS, 1);
	return end;
}

static void end_destroy(struct fbufs_end *end)
{
	if (end->domain)
		domain_put(end->domain);
	if (end->caller)
		put_task_struct(end->caller);
	channel_put(end->channel);
	kvfree(end->ring);
	mutex_destroy(&end->mutex);
	kfree(end);
	stats_gauge(FBUFS_GAUGE_ENDS, -1);
}

/**
 * channel_create - a channel with its sending end
 * @flags: FBUFS_CHANNEL_*
 * @depth: messages for one receiver; 0 for the default
 *
 * Return: the sending end, or -EINVAL, -ENOMEM. The channel ends with its ends.
 */
struct fbufs_end *channel_create(u32 flags, u32 depth)
{
	struct fbufs_channel *channel;
	struct fbufs_end *end;

	if (depth > FBUFS_MAX_DEPTH)
		return ERR_PTR(-EINVAL);
	channel = kzalloc(sizeof(*channel), GFP_KERNEL_ACCOUNT);
	if (!channel)
		return ERR_PTR(-ENOMEM);
	kref_init(&channel->ref);
	channel->destroy = channel_destroy;
	channel->id = atomic_inc_return(&next_channel);
	channel->flags = flags & (FBUFS_CHANNEL_VOLATILE | FBUFS_CHANNEL_UNCACHED);
	channel->depth = roundup_pow_of_two(depth ?: DEFAULT_DEPTH);
	xa_init(&channel->classes);
	spin_lock_init(&channel->lock);
	stats_gauge(FBUFS_GAUGE_CHANNELS, 1);

	end = end_create(channel, true);
	if (end)
		channel->sender = end;
	channel_put(channel);
	return end ?: ERR_PTR(-ENOMEM);
}

/* One more receiving end: it, or -EUSERS, -ENOMEM. */
struct fbufs_end *channel_add_receiver(struct fbufs_channel *channel)
{
	struct fbufs_end *end = end_create(channel, false);
	bool full;

	if (!end)
		return ERR_PTR(-ENOMEM);
	spin_lock(&channel->lock);
	full = channel->present == U64_MAX;
	if (!full) {
		end->index = ffz(channel->present);
		channel->receivers[end->index] = end;
		channel->present |= BIT_ULL(end->index);
	}
	spin_unlock(&channel->lock);
	if (full) {
		end_destroy(end);
		return ERR_PTR(-EUSERS);
	}
	return end;
}

static void sender_detach(struct fbufs_end *end)
{
	struct fbufs_channel *channel = end->channel;
	u64 left;

	mutex_lock(&end->mutex);
	spin_lock(&channel->lock);
	end->gone = true;
	channel->sender = NULL;
	for (left = channel->present; left; left &= left - 1)
		wake_up_all(&channel->receivers[__ffs64(left)]->wait);
	spin_unlock(&channel->lock);
	transfer_close_channel(channel);
	mutex_unlock(&end->mutex);
	wake_up_all(&end->wait);
}

static void receiver_detach(struct fbufs_end *end)
{
	struct fbufs_channel *channel = end->channel;
	struct fbufs_pool *pool;
	bool last;

	mutex_lock(&end->mutex);
	spin_lock(&channel->lock);
	end->gone = true;
	channel->receivers[end->index] = NULL;
	channel->present &= ~BIT_ULL(end->index);
	last = !channel->present;
	if (channel->sender)
		wake_up_all(&channel->sender->wait);
	pool = channel->pool;
	spin_unlock(&channel->lock);
	if (last && pool)
		pool_notify(pool);
	/* No sender sees the queue any more. */
	while (end->head != end->tail)
		transfer_drop(&end->ring[end->head++ & (channel->depth - 1)], 1);
	/* As a receiver it could see all fbufs of the channel; now only what it holds. */
	if (end->domain && pool) {
		WRITE_ONCE(end->domain->detached, true);
		map_hide_pool(end->domain, pool);
	}
	mutex_unlock(&end->mutex);
	wake_up_all(&end->wait);
}

/* The end leaves its channel: the other side sees hang-up. Once. */
static void end_detach(struct fbufs_end *end)
{
	if (READ_ONCE(end->gone))
		return;
	if (end->sending)
		sender_detach(end);
	else
		receiver_detach(end);
}

static void end_domain_ended(struct fbufs_member *member)
{
	end_detach(container_of(member, struct fbufs_end, member));
}

/* The descriptor of the end goes. */
void channel_end_close(struct fbufs_end *end)
{
	if (end->domain)
		domain_remove_member(end->domain, &end->member);
	end_detach(end);
	end_destroy(end);
}

/*
 * Attachment
 */

/*
 * The pool that a sending end sends from: that of its domain, once it has one. From then
 * on the channel has a reference, which whoever makes free lists for it relies on.
 */
struct fbufs_pool *channel_pool(struct fbufs_end *end)
{
	struct fbufs_channel *channel = end->channel;
	struct fbufs_pool *pool = READ_ONCE(end->domain->pool);

	/* Set once. */
	if (pool && !READ_ONCE(channel->pool)) {
		spin_lock(&channel->lock);
		if (!channel->pool)
			WRITE_ONCE(channel->pool, pool_get(pool));
		spin_unlock(&channel->lock);
	}
	return READ_ONCE(channel->pool);
}

static int end_attach(struct fbufs_end *end, struct fbufs_domain *domain)
{
	int err;

	domain_get(domain);
	if (cmpxchg(&end->domain, NULL, domain)) {
		domain_put(domain);
		return -EBUSY;
	}
	err = domain_add_member(domain, &end->member);
	if (err)
		end_detach(end);
	return err;
}

/**
 * channel_attach - attach an end to the caller's domain
 * @end: an end that is not attached
 * @domain: the domain
 *
 * Return: 0, -EBUSY when it is attached, -EPERM or -ENODEV by the domain.
 */
int channel_attach(struct fbufs_end *end, struct fbufs_domain *domain)
{
	int err = domain_check(domain);

	if (!err)
		err = end_attach(end, domain);
	if (!err && end->sending)
		channel_pool(end);
	return err;
}

/**
 * channel_attach_kernel - attach an end to a domain of the kernel's
 * @end: an end that is not attached
 * @domain: the domain
 * @pool: whose fbufs a sending end sends; NULL for a receiving end
 *
 * Return: 0, or -EBUSY when it is attached.
 */
int channel_attach_kernel(struct fbufs_end *end, struct fbufs_domain *domain,
			  struct fbufs_pool *pool)
{
	int err = end_attach(end, domain);

	/* Nobody else could attach the sender, so that it has no pool yet. */
	if (!err && pool) {
		spin_lock(&end->channel->lock);
		WRITE_ONCE(end->channel->pool, pool_get(pool));
		spin_unlock(&end->channel->lock);
	}
	return err;
}

/* Whether the end is attached to a domain of the kernel's. */
bool channel_is_kernels(const struct fbufs_end *end)
{
	const struct fbufs_domain *domain = READ_ONCE(end->domain);

	return domain && !domain->mm;
}

/**
 * channel_alloc - allocate fbufs for the channel of a sending end
 * @end: the end
 * @bytes: of each
 * @buffers: where to put them
 * @n: how many
 *
 * The caller has asked channel_check_end().
 *
 * Return: as transfer_alloc(), or -ENXIO, -EPIPE, -EINVAL.
 */
int channel_alloc(struct fbufs_end *end, u64 bytes, struct fbufs_buffer *buffers, u32 n)
{
	struct fbufs_channel *channel = end->channel;
	struct fbufs_class *class = READ_ONCE(channel->recent);
	u32 npages = DIV_ROUND_UP_ULL(bytes, PAGE_SIZE);

	if (!bytes || bytes > FBUFS_MAX_BYTES)
		return -EINVAL;
	if (unlikely(!READ_ONCE(channel->pool)) && !channel_pool(end))
		return -ENXIO;
	if (!READ_ONCE(channel->present))
		return -EPIPE;
	if (unlikely(!class || class->npages != npages)) {
		class = pool_class(channel->pool, &channel->classes, channel, npages);
		if (!class)
			return -ENOMEM;
		WRITE_ONCE(channel->recent, class);
	}
	return transfer_alloc(end->domain, class, buffers, n);
}

/*
 * Turns
 */

/* Who waits at the other side may give way to the caller. Context: under the end's mutex. */
static void end_called(struct fbufs_end *end)
{
	struct task_struct *before = end->caller;

	if (likely(before == current))
		return;
	get_task_struct(current);
	spin_lock(&end->channel->lock);
	end->caller = current;
	spin_unlock(&end->channel->lock);
	if (before)
		put_task_struct(before);
}

/* The thread that an end waits for, with a reference; or NULL. */
static struct task_struct *end_awaits(struct fbufs_end *end)
{
	struct fbufs_channel *channel = end->channel;
	struct fbufs_end *other = NULL;
	struct task_struct *task;

	spin_lock(&channel->lock);
	if (!end->sending)
		other = channel->sender;
	else if (channel->present)
		other = channel->receivers[__ffs64(channel->present)];
	task = other ? other->caller : NULL;
	if (task)
		get_task_struct(task);
	spin_unlock(&channel->lock);
	return task;
}

/* Before sleeping at an end. */
static void end_give_way(struct fbufs_end *end)
{
	struct task_struct *to;

	if (!turn_is_due(&end->turn))
		return;
	to = end_awaits(end);
	if (!to)
		return;
	turn_give(&end->turn, to);
	put_task_struct(to);
}

/*
 * Sending
 */

/* Messages that every receiver has room for. Context: under the channel's lock. */
static u32 channel_room(const struct fbufs_channel *channel)
{
	u32 room = channel->depth;
	u64 left;

	for (left = channel->present; left; left &= left - 1) {
		const struct fbufs_end *end = channel->receivers[__ffs64(left)];

		room = min(room, channel->depth - (end->tail - end->head));
	}
	return room;
}

/* 0 with nobody to send to, for then there is something else to report. */
static bool sender_can_go_on(struct fbufs_end *end)
{
	struct fbufs_channel *channel = end->channel;
	bool can;

	spin_lock(&channel->lock);
	can = end->gone || !channel->present || channel_room(channel);
	spin_unlock(&channel->lock);
	return can;
}

/*
 * How many messages may be sent now, up to @n: more than 0, or -EAGAIN, -EPIPE,
 * -ENODEV. Takes as many messages for re-use, if there are.
 */
static int sender_room(struct fbufs_end *end, u32 n, struct fbufs_aggregate **spares, u32 *nspares)
{
	struct fbufs_channel *channel = end->channel;
	int room;

	*nspares = 0;
	spin_lock(&channel->lock);
	if (end->gone)
		room = -ENODEV;
	else if (!channel->present)
		room = -EPIPE;
	else
		room = min(channel_room(channel), n) ?: -EAGAIN;
	if (room > 0) {
		*nspares = min_t(u32, room, channel->nspares);
		channel->nspares -= *nspares;
		memcpy(spares, &channel->spares[channel->nspares], *nspares * sizeof(*spares));
	}
	spin_unlock(&channel->lock);
	return room;
}

/*
 * Where a send call is in the user's arrays. Elements are copied ahead, several
 * at a time; each is read once only, so the user cannot change it in between.
 * The lock of the sender's pool is held while messages are made, and given up
 * for whatever may sleep (making_pause).
 */
struct send_cursor {
	struct fbufs_pool *pool;	/* NULL: without one, messages are forwarded only */
	const struct fbufs_message __user *messages;
	const struct fbufs_slice __user *slices;
	u32 count;
	u32 nslices;
	u32 message;		/* the next one */
	u32 slice;		/* the next message's first */
	u32 message_from, message_to;	/* copied ahead */
	u32 slice_from, slice_to;
	bool pool_full;		/* -EAGAIN was because of that */
	u64 bytes;		/* of the messages of this chunk */
	struct fbufs_message message_ahead[AHEAD];
	struct fbufs_slice slice_ahead[AHEAD];
};

/* The arrays stay as they are: what is in them is said by the indices. */
static void send_cursor_init(struct send_cursor *cursor, struct fbufs_end *end,
			     const struct fbufs_send *send)
{
	struct fbufs_pool *pool = READ_ONCE(end->domain->pool);

	cursor->pool = READ_ONCE(end->channel->pool) == pool ? pool : NULL;
	cursor->messages = u64_to_user_ptr(send->messages);
	cursor->slices = u64_to_user_ptr(send->slices);
	cursor->count = send->count;
	cursor->nslices = send->nslices;
	cursor->message = 0;
	cursor->slice = 0;
	cursor->message_from = 0;
	cursor->message_to = 0;
	cursor->slice_from = 0;
	cursor->slice_to = 0;
}

static void making_pause(struct fbufs_pool *pool) __releases(&pool->lock)
{
	if (pool)
		spin_unlock(&pool->lock);
	else
		__release(&pool->lock);
}

static void making_resume(struct fbufs_pool *pool) __acquires(&pool->lock)
{
	if (pool)
		spin_lock(&pool->lock);
	else
		__acquire(&pool->lock);
}

/* Copy elements @from on, up to @end; fewer when the rest is at a bad address. */
static __always_inline u32 copy_ahead(void *to, const void __user *array, size_t size, u32 from,
				      u32 end)
{
	u32 n = min_t(u32, end - from, AHEAD);

	if (user_fetch_vector(to, array + from * size, size, n, AHEAD))
		n = user_fetch(to, array + from * size, size) ? 0 : 1;
	return from + n;
}

static noinline void copy_messages(struct send_cursor *cursor)
{
	cursor->message_from = cursor->message;
	cursor->message_to = copy_ahead(cursor->message_ahead, cursor->messages,
					sizeof(*cursor->messages), cursor->message, cursor->count);
}

static noinline void copy_slices(struct send_cursor *cursor, u32 from)
{
	cursor->slice_from = from;
	cursor->slice_to = copy_ahead(cursor->slice_ahead, cursor->slices,
				      sizeof(*cursor->slices), from, cursor->nslices);
}

/* Before the lock is taken: so that few messages need not give it up. */
static void send_prefetch(struct send_cursor *cursor)
{
	if (cursor->message >= cursor->message_to)
		copy_messages(cursor);
	if (cursor->slice >= cursor->slice_to && cursor->slice < cursor->nslices)
		copy_slices(cursor, cursor->slice);
}

/* Whether send_prefetch() has something to do, if there is more. */
static bool send_used_up(const struct send_cursor *cursor)
{
	return cursor->message >= cursor->message_to || cursor->slice >= cursor->slice_to;
}

/* The next message, or NULL with a bad address. */
static const struct fbufs_message *send_message(struct send_cursor *cursor)
	__must_hold(&cursor->pool->lock)
{
	if (cursor->message >= cursor->message_to) {
		making_pause(cursor->pool);
		copy_messages(cursor);
		making_resume(cursor->pool);
		if (cursor->message_to == cursor->message_from)
			return NULL;
	}
	return &cursor->message_ahead[cursor->message - cursor->message_from];
}

/* A slice, at or after those looked at before, or NULL with a bad address. */
static const struct fbufs_slice *send_slice(struct send_cursor *cursor, u32 slice)
	__must_hold(&cursor->pool->lock)
{
	if (slice >= cursor->slice_to || slice < cursor->slice_from) {
		making_pause(cursor->pool);
		copy_slices(cursor, slice);
		making_resume(cursor->pool);
		if (cursor->slice_to == cursor->slice_from)
			return NULL;
	}
	return &cursor->slice_ahead[slice - cursor->slice_from];
}

#define SEND_FLAGS (FBUFS_MESSAGE_NOTICE | FBUFS_MESSAGE_LEND)

static inline int message_check(const struct fbufs_message *message,
				const struct send_cursor *cursor, u32 flags, u32 most)
{
	if (message->message || message->length || message->flags & ~flags || !message->slices)
		return -EINVAL;
	if (message->slices > most ||
	    message->slices > cursor->nslices - cursor->slice)
		return -EMSGSIZE;
	return 0;
}

static noinline int add_held(struct fbufs_end *end, struct fbufs_aggregate *aggregate,
			     const struct fbufs_slice *slice, struct fbufs_pool *pool)
	__must_hold(&pool->lock)
{
	int err;

	making_pause(pool);
	err = transfer_add_held(end->domain, aggregate, slice);
	making_resume(pool);
	return err;
}

/* MESSAGE_* that all messages of a channel have. */
static inline u32 channel_message_flags(const struct fbufs_channel *channel)
{
	return channel->flags & FBUFS_CHANNEL_UNCACHED ? MESSAGE_UNMAP : 0;
}

/* Add the slices of a message. With an error some may have been added. */
static int aggregate_fill(struct fbufs_end *end, struct fbufs_aggregate *aggregate,
			  const struct fbufs_message *message, struct send_cursor *cursor)
	__must_hold(&cursor->pool->lock)
{
	u32 flags = channel_message_flags(end->channel), i;
	int err;

	if (message->flags & FBUFS_MESSAGE_NOTICE)
		flags |= MESSAGE_NOTICE;
	if (message->flags & FBUFS_MESSAGE_LEND)
		flags |= MESSAGE_LENT;
	aggregate_begin(aggregate, end->channel, flags, message->cookie);
	for (i = 0; i < message->slices; i++) {
		const struct fbufs_slice *slice = send_slice(cursor, cursor->slice + i);

		if (!slice)
			return -EFAULT;
		if (slice->hold)
			err = add_held(end, aggregate, slice, cursor->pool);
		else if (cursor->pool)
			err = transfer_add(cursor->pool, end->channel, aggregate, slice);
		else
			err = slice->length ? -ENOENT : -EINVAL;
		if (err)
			return err;
	}
	return 0;
}

/* A message for so many slices: @spare if it is large enough, which is then NULL. */
static inline struct fbufs_aggregate *message_get(struct send_cursor *cursor, u32 slices,
						  struct fbufs_aggregate **spare)
	__must_hold(&cursor->pool->lock)
{
	struct fbufs_aggregate *aggregate = *spare;

	if (aggregate && slices <= MESSAGE_INLINE) {
		*spare = NULL;
		return aggregate;
	}
	making_pause(cursor->pool);
	aggregate = aggregate_alloc(slices);
	making_resume(cursor->pool);
	return aggregate;
}

/* Room for the notices that a message wants. */
static noinline int message_promise(struct fbufs_end *end, const struct fbufs_aggregate *aggregate,
				    struct fbufs_pool *pool) __must_hold(&pool->lock)
{
	struct fbufs_pool *own = READ_ONCE(end->domain->pool);
	int err;

	making_pause(pool);
	err = own ? pool_promise_notices(own, aggregate->nsegments) : -ENXIO;
	making_resume(pool);
	return err;
}

/* Slices of the message that begins here, which ends within what there is. */
static inline u32 output_slices(const struct channel_output *outputs)
{
	u32 n = 1;

	while (outputs[n - 1].more)
		n++;
	return n;
}

/* Set a message up, of @n slices, which are the kernel's and for which it has room. */
static inline void message_from_kernel(struct fbufs_aggregate *aggregate,
				       struct fbufs_channel *channel,
				       const struct channel_output *outputs, u32 n)
{
	const struct channel_output *end = outputs + n;

	aggregate_begin(aggregate, channel, channel_message_flags(channel), outputs->cookie);
	do {
		aggregate_append(aggregate, outputs->fbuf, outputs->offset, outputs->length, false);
	} while (++outputs < end);
}

/*
 * All slices of the next message, which are at most AHEAD. Once here they cannot
 * change any more. Or NULL with a bad address.
 */
static const struct fbufs_slice *send_slices(struct send_cursor *cursor, u32 n)
{
	static_assert(FBUFS_MAX_COPY_SLICES <= AHEAD);
	if (cursor->slice < cursor->slice_from || cursor->slice + n > cursor->slice_to) {
		copy_slices(cursor, cursor->slice);
		/* What is behind them may be at a bad address. */
		if (cursor->slice + n > cursor->slice_to) {
			if (user_fetch(cursor->slice_ahead, cursor->slices + cursor->slice,
				       n * sizeof(*cursor->slices)))
				return NULL;
			cursor->slice_to = cursor->slice + n;
		}
	}
	return &cursor->slice_ahead[cursor->slice - cursor->slice_from];
}

/* A message with FBUFS_MESSAGE_COPY, out of @spare or NULL. May sleep. */
static struct fbufs_aggregate *message_copy(struct fbufs_end *end, struct send_cursor *cursor,
					    const struct fbufs_message *message,
					    struct fbufs_aggregate *spare)
{
	struct channel_output output = { .cookie = message->cookie };
	struct fbufs_channel *channel = end->channel;
	struct fbufs_aggregate *aggregate;
	const struct fbufs_slice *slices;
	int err;

	err = message_check(message, cursor, FBUFS_MESSAGE_COPY, FBUFS_MAX_COPY_SLICES);
	if (err)
		return ERR_PTR(err);
	if (!cursor->pool)
		return ERR_PTR(-ENXIO);
	slices = send_slices(cursor, message->slices);
	if (!slices)
		return ERR_PTR(-EFAULT);
	err = copy_in(end->domain, channel, slices, message->slices, &output);
	cursor->pool_full = err == -EAGAIN;
	if (err)
		return ERR_PTR(err);
	aggregate = spare ?: aggregate_alloc(1);
	if (!aggregate) {
		copy_undo(channel, &output);
		return ERR_PTR(-ENOMEM);
	}
	message_from_kernel(aggregate, channel, &output, 1);
	return aggregate;
}

static noinline struct fbufs_aggregate *message_make_copy(struct fbufs_end *end,
							  struct send_cursor *cursor,
							  const struct fbufs_message *message,
							  struct fbufs_aggregate *spare)
	__must_hold(&cursor->pool->lock)
{
	struct fbufs_aggregate *aggregate;

	making_pause(cursor->pool);
	aggregate = message_copy(end, cursor, message, spare);
	making_resume(cursor->pool);
	if (!IS_ERR(aggregate)) {
		cursor->slice += message->slices;
		cursor->message++;
		cursor->bytes += aggregate->length;
	}
	return aggregate;
}

/* As most messages are: of one slice, of an own fbuf, and without any wish. */
static inline bool message_is_usual(const struct fbufs_message *message,
				    const struct fbufs_slice *slice)
{
	return !(message->message | message->length | message->flags | slice->hold) &&
	       message->slices == 1 && slice->length;
}

/*
 * Make the next messages, out of up to @n for re-use, as long as they are as most are. Their
 * fbufs are the receivers' from here on, as nothing can fail for them any more. Returns how
 * many: of the next one nothing has changed, and message_make() has to look.
 */
static noinline u32 messages_make_usual(struct fbufs_channel *channel, struct send_cursor *cursor,
					struct fbufs_aggregate **aggregates,
					struct fbufs_aggregate **spares, u32 n)
	__must_hold(&cursor->pool->lock)
{
	u32 flags = channel_message_flags(channel), i;
	struct fbufs_pool *pool = cursor->pool;
	const struct fbufs_message *message;
	struct fbufs_aggregate *made;
	const struct fbufs_slice *slice;
	struct fbuf *fbuf;
	u64 bytes = 0;

	if (!pool || cursor->slice < cursor->slice_from ||
	    cursor->slice >= cursor->slice_to)
		return 0;
	message = &cursor->message_ahead[cursor->message - cursor->message_from];
	slice = &cursor->slice_ahead[cursor->slice - cursor->slice_from];
	n = min3(n, cursor->message_to - cursor->message, cursor->slice_to - cursor->slice);
	for (i = 0; i < n && message_is_usual(message, slice); i++, message++, slice++) {
		/* What is written next is not one of these, which the compiler cannot know. */
		const u32 offset = slice->offset, length = slice->length;
		const u64 cookie = message->cookie;

		fbuf = transfer_send_ready(pool, channel, slice);
		if (!fbuf)
			break;
		made = spares[i];
		aggregates[i] = made;
		aggregate_begin(made, channel, flags, cookie);
		aggregate_append(made, fbuf, offset, length, false);
		bytes += length;
	}
	pool_sent(pool, i);
	cursor->bytes += bytes;
	cursor->message += i;
	cursor->slice += i;
	return i;
}

/* Make the next message, out of @spare if possible, which is NULL then. */
static noinline struct fbufs_aggregate *message_make(struct fbufs_end *end,
						     struct send_cursor *cursor,
						     struct fbufs_aggregate **spare)
	__must_hold(&cursor->pool->lock)
{
	const struct fbufs_message *message = send_message(cursor);
	struct fbufs_aggregate *aggregate;
	int err;

	if (!message)
		return ERR_PTR(-EFAULT);
	err = message_check(message, cursor, SEND_FLAGS, FBUFS_MAX_SLICES);
	if (unlikely(err)) {
		/* None of those flags: who hands fbufs over need not ask for it. */
		if (message->flags != FBUFS_MESSAGE_COPY)
			return ERR_PTR(err);
		aggregate = message_make_copy(end, cursor, message, *spare);
		if (!IS_ERR(aggregate))
			*spare = NULL;
		return aggregate;
	}
	aggregate = message_get(cursor, message->slices, spare);
	if (!aggregate)
		return ERR_PTR(-ENOMEM);
	err = aggregate_fill(end, aggregate, message, cursor);
	if (!err && aggregate->flags & MESSAGE_NOTICE)
		err = message_promise(end, aggregate, cursor->pool);
	if (err) {
		making_pause(cursor->pool);
		transfer_undo(aggregate);
		making_resume(cursor->pool);
		return ERR_PTR(err);
	}
	cursor->message++;
	cursor->slice += message->slices;
	cursor->bytes += aggregate->length;
	return aggregate;
}

/*
 * Make up to @n messages, out of those for re-use while there are. Returns how many, or
 * the error of the first; sets *@commit when transfer_commit() is to follow.
 */
static int messages_make(struct fbufs_end *end, struct send_cursor *cursor,
			 struct fbufs_aggregate **aggregates, u32 n,
			 struct fbufs_aggregate **spares, u32 nspares, bool *commit)
{
	struct fbufs_aggregate *spare;
	u32 i = 0, used = 0, usual;
	int err = 0;

	send_prefetch(cursor);
	making_resume(cursor->pool);
	while (i < n) {
		usual = messages_make_usual(end->channel, cursor, aggregates + i, spares + used,
					    min(n - i, nspares - used));
		i += usual;
		used += usual;
		if (i == n)
			break;
		if (usual && send_used_up(cursor)) {
			making_pause(cursor->pool);
			send_prefetch(cursor);
			making_resume(cursor->pool);
			continue;
		}
		spare = used < nspares ? spares[used] : NULL;
		aggregates[i] = message_make(end, cursor, &spare);
		used += used < nspares && !spare;
		if (IS_ERR(aggregates[i])) {
			err = PTR_ERR(aggregates[i]);
			break;
		}
		*commit = true;
		i++;
	}
	making_pause(cursor->pool);
	if (used < nspares)
		channel_keep(end->channel, spares + used, nspares - used);
	return i ? i : err;
}

/* Put messages in the queue of a receiver that has room. Context: under the channel's lock. */
static void receiver_queue(struct fbufs_end *end, struct fbufs_aggregate **aggregates, u32 n)
{
	u32 at = end->tail & (end->channel->depth - 1);
	u32 first = min(n, end->channel->depth - at);

	memcpy(&end->ring[at], aggregates, first * sizeof(*aggregates));
	memcpy(&end->ring[0], aggregates + first, (n - first) * sizeof(*aggregates));
	/* Pairs with the acquire in receiver_queued(). */
	smp_store_release(&end->tail, end->tail + n);
}

/*
 * Queue messages, which are the receivers' by now, with every receiver there is;
 * if *@wake is set, channel_wake_receivers() is to follow.
 */
static void channel_deliver(struct fbufs_channel *channel,
			    struct fbufs_aggregate **aggregates, u32 n, bool *wake)
{
	u32 nreceivers, i;
	u64 left;

	/* The messages point to it already. */
	channel_get_many(channel, n);
	spin_lock(&channel->lock);
	nreceivers = hweight64(channel->present);
	for (i = 0; nreceivers > 1 && i < n; i++)
		refcount_set(&aggregates[i]->refs, nreceivers);
	for (left = channel->present; left; left &= left - 1) {
		struct fbufs_end *end = channel->receivers[__ffs64(left)];

		receiver_queue(end, aggregates, n);
		*wake |= wq_has_sleeper(&end->wait);
	}
	spin_unlock(&channel->lock);
	/* The last receiver went away in this moment, as if just after the send. */
	if (!nreceivers)
		transfer_drop(aggregates, n);
}

/*
 * Wake who waits for messages: once a call, and as late as may be, for who is
 * woken often runs at once.
 */
static void channel_wake_receivers(struct fbufs_channel *channel)
{
	u64 left;

	spin_lock(&channel->lock);
	for (left = channel->present; left; left &= left - 1) {
		struct fbufs_end *end = channel->receivers[__ffs64(left)];

		if (wq_has_sleeper(&end->wait))
			wake_up_interruptible_poll(&end->wait, EPOLLIN | EPOLLRDNORM);
	}
	spin_unlock(&channel->lock);
}

/* Send up to CHUNK messages. Returns how many, or the error of the first. */
static int send_chunk(struct fbufs_end *end, struct send_cursor *cursor, u32 n, bool *wake)
{
	struct fbufs_aggregate *aggregates[CHUNK] __uninitialized;
	struct fbufs_aggregate *spares[CHUNK] __uninitialized;
	struct fbufs_channel *channel = end->channel;
	bool commit = false;
	int room, done;
	u32 nspares;

	room = sender_room(end, min_t(u32, n, CHUNK), spares, &nspares);
	if (room < 0)
		return room;
	cursor->bytes = 0;
	done = messages_make(end, cursor, aggregates, room, spares, nspares, &commit);
	if (done < 0)
		return done;
	if (!(channel->flags & FBUFS_CHANNEL_VOLATILE))
		transfer_secure(end->domain, aggregates, done);
	if (commit)
		transfer_commit(end->domain, channel, aggregates, done);
	channel_deliver(channel, aggregates, done, wake);
	stats_count(&end->domain->counters, FBUFS_COUNT_MESSAGES_SENT, done);
	stats_count(&end->domain->counters, FBUFS_COUNT_BYTES_SENT, cursor->bytes);
	return done;
}

/* Wait until a sender has something else to do than wait: 0, or -EAGAIN, -EINTR, -ENODEV. */
static int sender_wait(struct fbufs_end *end, bool pool_full, bool wait)
{
	if (!wait)
		return -EAGAIN;
	end_give_way(end);
	if (pool_full)
		return transfer_wait(end->domain);
	return wait_event_interruptible(end->wait, sender_can_go_on(end)) ? -EINTR : 0;
}

static long send_messages(struct fbufs_end *end, const struct fbufs_send *send, bool wait,
			  bool *wake)
{
	struct send_cursor cursor __uninitialized;
	u32 done = 0;
	int n = 0;

	send_cursor_init(&cursor, end, send);

	while (done < send->count && n >= 0) {
		if (mutex_lock_interruptible(&end->mutex)) {
			n = -EINTR;
			break;
		}
		end_called(end);
		cursor.pool_full = false;
		n = send_chunk(end, &cursor, send->count - done, wake);
		mutex_unlock(&end->mutex);
		if (n > 0)
			done += n;
		if (n != -EAGAIN)
			continue;
		if (wait && *wake) {
			channel_wake_receivers(end->channel);
			*wake = false;
		}
		n = sender_wait(end, cursor.pool_full, wait);
	}
	return done ? (long)done : n;
}

/* Allocate what is to be had without waiting, as an extra after a send. */
static u32 send_refill(struct fbufs_end *end, const struct fbufs_send *send)
{
	struct fbufs_buffer __user *out = u64_to_user_ptr(send->refill);
	struct fbufs_buffer buffers[TRANSFER_BATCH] __uninitialized;
	u32 done = 0;
	int n;

	while (done < send->refill_count) {
		n = channel_alloc(end, send->refill_bytes, buffers,
				  min_t(u32, send->refill_count - done, TRANSFER_BATCH));
		if (n > 0)
			n = transfer_report(end->domain, buffers, n, out + done);
		if (n <= 0)
			break;
		done += n;
	}
	return done;
}

/* As channel_send(), of an end that was checked, and with @out_refilled 0. */
static long send_all(struct fbufs_end *end, struct fbufs_send *send, bool wait)
{
	bool wake = false;
	long done;

	channel_pool(end);
	done = send_messages(end, send, wait, &wake);
	if (done >= 0 && send->refill_count)
		send->out_refilled = send_refill(end, send);
	if (wake)
		channel_wake_receivers(end->channel);
	return done;
}

/**
 * channel_send - FBUFS_SEND
 * @end: a sending end
 * @send: the arguments; @out_refilled is set
 * @wait: for room
 *
 * Return: messages sent, or an error of FBUFS_SEND.
 */
long channel_send(struct fbufs_end *end, struct fbufs_send *send, bool wait)
{
	long err = channel_check_end(end);

	send->out_refilled = 0;
	return err ? err : send_all(end, send, wait);
}

/*
 * Receiving
 */

static u32 receiver_queued(const struct fbufs_end *end)
{
	/* Pairs with the release in receiver_queue(). */
	return smp_load_acquire(&end->tail) - READ_ONCE(end->head);
}

static bool sender_is_gone(const struct fbufs_channel *channel)
{
	return !READ_ONCE(channel->sender);
}

/* Where a receive call is in the user's arrays. */
struct receive_cursor {
	struct fbufs_message __user *messages;
	struct fbufs_slice __user *slices;
	u32 room;
	u32 slices_left;
};

static void receive_cursor_init(struct receive_cursor *cursor, const struct fbufs_receive *receive)
{
	cursor->messages = u64_to_user_ptr(receive->messages);
	cursor->slices = u64_to_user_ptr(receive->slices);
	cursor->room = receive->count;
	cursor->slices_left = receive->nslices;
}

/* What a chunk of messages amounts to. */
struct chunk_sum {
	u32 messages;
	u32 slices;
	u64 bytes;
	bool hidden;		/* the receiving end has yet to be shown some of them */
};

/*
 * Queued messages, *@n of them or fewer: those that lie side by side. Context: under the
 * end's mutex.
 */
static inline struct fbufs_aggregate **receiver_peek(const struct fbufs_end *end, u32 *n)
{
	u32 at = end->head & (end->channel->depth - 1);

	*n = min(*n, end->channel->depth - at);
	return &end->ring[at];
}

/*
 * Telling the user. These run between begin and end of an access to user memory, where
 * nothing may be called, and return false at a bad address.
 */

static __always_inline bool report_slice(const struct fbufs_segment *segment, u64 pool_begin,
					 struct fbufs_slice __user *out)
{
	const struct fbuf *fbuf = segment->fbuf;
	u32 offset = segment->offset;

	unsafe_put_user(fbuf->handle, &out->fbuf, fault);
	unsafe_put_user(0, &out->hold, fault);
	unsafe_put_user(fbuf_position(fbuf, pool_begin, offset), &out->position, fault);
	unsafe_put_user(offset, &out->offset, fault);
	unsafe_put_user(segment->length, &out->length, fault);
	return true;
fault:
	return false;
}

static __always_inline bool report_message(const struct fbufs_aggregate *aggregate, u64 handle,
					   u32 slices, bool locked,
					   struct fbufs_message __user *out)
{
	unsafe_put_user(handle, &out->message, fault);
	unsafe_put_user(aggregate->cookie, &out->cookie, fault);
	unsafe_put_user(aggregate->length, &out->length, fault);
	unsafe_put_user(slices, &out->slices, fault);
	unsafe_put_user(locked ? FBUFS_MESSAGE_LOCKED : 0, &out->flags, fault);
	return true;
fault:
	return false;
}

/*
 * Tell the user about the first of @n messages, of which there is room for as many slices,
 * as long as they are as most are: of one slice, of an fbuf of the channel that the
 * receiving end was shown before. On its own, so that what is in the loop has registers.
 */
static noinline int report_usual(const struct fbufs_end *end, struct fbufs_aggregate **aggregates,
				 const u64 *handles, u32 n, const struct receive_cursor *cursor,
				 struct chunk_sum *sum)
{
	const struct fbufs_channel *channel = map_cached(end->channel);
	struct fbufs_message __user *message = cursor->messages;
	struct fbufs_slice __user *out = cursor->slices;
	u64 bit = BIT_ULL(end->index), begin, bytes = 0;
	u32 i;

	/* What was sent on need not be tried. */
	if (!map_is_shown(channel, aggregates[0]->segments[0].fbuf, bit))
		return 0;
	begin = pool_offset(channel->pool);
	if (!access_ok(out, n * sizeof(*out)) ||
	    !user_write_access_begin(message, n * sizeof(*message)))
		return -EFAULT;
	for (i = 0; i < n; i++, message++, out++) {
		const struct fbufs_aggregate *aggregate = aggregates[i];
		const struct fbufs_segment *segment = aggregate->segments;
		const struct fbuf *fbuf = segment->fbuf;

		if (aggregate->nsegments != 1 || !map_is_shown(channel, fbuf, bit))
			break;
		if (!report_slice(segment, begin, out) ||
		    !report_message(aggregate, handles[i], 1, access_is_locked(&fbuf->access),
				    message))
			goto fault;
		bytes += segment->length;
	}
	user_write_access_end();
	sum->messages = i;
	sum->slices = i;
	sum->bytes = bytes;
	return 0;
fault:
	user_write_access_end();
	return -EFAULT;
}

/* Tell the user about one message more. */
static noinline int report_any(const struct fbufs_end *end,
			       const struct fbufs_aggregate *aggregate, u64 handle,
			       const struct receive_cursor *cursor, struct chunk_sum *sum)
{
	struct fbufs_message __user *message = cursor->messages + sum->messages;
	struct fbufs_slice __user *out = cursor->slices + sum->slices;
	const struct fbufs_segment *segment = aggregate->segments;
	const struct fbufs_pool *own = end->domain->pool;
	u64 bit = BIT_ULL(end->index);
	u32 left = aggregate->nsegments;
	bool locked = true;

	if (!access_ok(out, left * sizeof(*out)) ||
	    !user_write_access_begin(message, sizeof(*message)))
		return -EFAULT;
	for (; left; left--, segment++, out++) {
		const struct fbuf *fbuf = segment->fbuf;

		if (!report_slice(segment, pool_offset(fbuf_pool(fbuf)), out))
			goto fault;
		locked &= access_is_locked(&fbuf->access);
		sum->hidden |= fbuf_pool(fbuf) != own &&
			       !map_is_shown(map_cached(end->channel), fbuf, bit);
	}
	if (!report_message(aggregate, handle, aggregate->nsegments, locked, message))
		goto fault;
	user_write_access_end();
	sum->messages++;
	sum->slices += aggregate->nsegments;
	sum->bytes += aggregate->length;
	return 0;
fault:
	user_write_access_end();
	return -EFAULT;
}

/*
 * Tell the user about messages and their slices: about the first of up to @n that have no
 * more slices than there is room for.
 */
static int report_chunk(const struct fbufs_end *end, struct fbufs_aggregate **aggregates,
			const u64 *handles, u32 n, const struct receive_cursor *cursor,
			struct chunk_sum *sum)
{
	int err = report_usual(end, aggregates, handles, n, cursor, sum);

	while (!err && sum->messages < n &&
	       aggregates[sum->messages]->nsegments <= cursor->slices_left - sum->slices)
		err = report_any(end, aggregates[sum->messages], handles[sum->messages], cursor,
				 sum);
	return err;
}

/*
 * The first @n queued messages are taken; if *@wake is set, channel_wake_sender()
 * is to follow. Context: under the end's mutex.
 */
static void receiver_advance(struct fbufs_end *end, u32 n, bool *wake)
{
	struct fbufs_channel *channel = end->channel;

	spin_lock(&channel->lock);
	WRITE_ONCE(end->head, end->head + n);
	*wake |= channel->sender && wq_has_sleeper(&channel->sender->wait);
	spin_unlock(&channel->lock);
}

/* Wake who waits for room: once a call. */
static void channel_wake_sender(struct fbufs_channel *channel)
{
	spin_lock(&channel->lock);
	if (channel->sender && wq_has_sleeper(&channel->sender->wait))
		wake_up_interruptible_poll(&channel->sender->wait, EPOLLOUT | EPOLLWRNORM);
	spin_unlock(&channel->lock);
}

/*
 * Receive up to CHUNK messages: report them, then take them off the queue and
 * into the table of held messages. Returns how many, or the error of the first;
 * 0 when none is queued. Context: under the end's mutex.
 */
static int receive_chunk(struct fbufs_end *end, struct receive_cursor *cursor, bool *wake)
{
	u32 n = min3(receiver_queued(end), cursor->room, (u32)CHUNK);
	struct fbufs_domain *domain = end->domain;
	struct fbufs_aggregate **aggregates;
	u64 handles[CHUNK] __uninitialized;
	struct chunk_sum sum = {};
	int prepared, err;

	if (end->gone)
		return -ENODEV;
	if (!n)
		return 0;
	/* Each has one slice at least; of places no more are taken than are likely to be used. */
	n = min(n, cursor->slices_left);
	if (!n)
		return -EMSGSIZE;
	aggregates = receiver_peek(end, &n);
	prepared = domain_prepare_holds(domain, handles, n);
	if (prepared < 0)
		return prepared;
	err = report_chunk(end, aggregates, handles, prepared, cursor, &sum);
	if (!err && !sum.messages)
		err = -EMSGSIZE;
	/* Before the table has them: from then on another thread may release them. */
	if (!err && sum.hidden)
		map_show(domain, aggregates, sum.messages, end->index, false);
	if (!err)
		err = domain_commit_holds(domain, handles, aggregates, sum.messages);
	if (err) {
		domain_cancel_holds(domain, handles, prepared);
		return err;
	}
	if (sum.messages < prepared)
		domain_cancel_holds(domain, handles + sum.messages, prepared - sum.messages);
	cursor->messages += sum.messages;
	cursor->slices += sum.slices;
	cursor->room -= sum.messages;
	cursor->slices_left -= sum.slices;
	receiver_advance(end, sum.messages, wake);
	stats_count(&domain->counters, FBUFS_COUNT_MESSAGES_RECEIVED, sum.messages);
	stats_count(&domain->counters, FBUFS_COUNT_BYTES_RECEIVED, sum.bytes);
	return sum.messages;
}

static int receive_release(struct fbufs_end *end, struct fbufs_receive *receive)
{
	const u64 __user *handles = u64_to_user_ptr(receive->release);
	u64 batch[TRANSFER_BATCH] __uninitialized;
	int done;
	u32 n;

	while (receive->out_released < receive->nrelease) {
		n = min_t(u32, receive->nrelease - receive->out_released, TRANSFER_BATCH);
		if (user_fetch_vector(batch, handles + receive->out_released, sizeof(*batch), n,
				      TRANSFER_BATCH))
			return -EFAULT;
		done = transfer_release(end->domain, batch, n);
		if (done < 0)
			return done;
		receive->out_released += done;
	}
	return 0;
}

static bool receiver_can_go_on(const struct fbufs_end *end)
{
	return receiver_queued(end) || sender_is_gone(end->channel) || READ_ONCE(end->gone);
}

/* Wait for messages: 0 when there is something to look at, -EAGAIN, -EINTR. */
static int receiver_wait(struct fbufs_end *end, bool wait)
{
	if (!wait)
		return -EAGAIN;
	end_give_way(end);
	return wait_event_interruptible(end->wait, receiver_can_go_on(end)) ? -EINTR : 0;
}

static long receive_messages(struct fbufs_end *end, const struct fbufs_receive *receive, bool wait)
{
	struct receive_cursor cursor;
	bool last, wake = false;
	int n, err;

	receive_cursor_init(&cursor, receive);
	for (;;) {
		/* Before looking at the queue: what is queued then is all there will be. */
		last = sender_is_gone(end->channel);
		/* Pairs with the unlock after the last delivery. */
		smp_rmb();
		if (mutex_lock_interruptible(&end->mutex))
			return -EINTR;
		end_called(end);
		do {
			n = receive_chunk(end, &cursor, &wake);
		} while (n > 0 && cursor.room);
		mutex_unlock(&end->mutex);
		if (cursor.room < receive->count) {
			if (wake)
				channel_wake_sender(end->channel);
			return receive->count - cursor.room;
		}
		if (n < 0 || last)
			return n;
		err = receiver_wait(end, wait);
		if (err)
			return err;
	}
}

/* As channel_receive(), of an end that was checked, with room for messages and @out_released 0. */
static long release_and_receive(struct fbufs_end *end, struct fbufs_receive *receive, bool wait)
{
	int err = receive_release(end, receive);

	return err ? err : receive_messages(end, receive, wait);
}

/**
 * channel_receive - FBUFS_RECEIVE
 * @end: a receiving end
 * @receive: the arguments; @out_released is set
 * @wait: for a message
 *
 * Return: messages received, 0 at the end of the stream, or an error of
 * FBUFS_RECEIVE.
 */
long channel_receive(struct fbufs_end *end, struct fbufs_receive *receive, bool wait)
{
	int err = channel_check_end(end);

	receive->out_released = 0;
	if (err)
		return err;
	if (!receive->count)
		return -EINVAL;
	return release_and_receive(end, receive, wait);
}

/**
 * channel_call - FBUFS_CALL
 * @end: a sending end
 * @receiver: a receiving end
 * @call: the arguments, with room for messages; what goes out is 0, and set
 * @wait_room: for room
 * @wait_message: for a message
 *
 * No lock of one end is held while the other one's are taken.
 *
 * Return: messages received, 0 also when not all were sent, or an error of FBUFS_CALL.
 */
long channel_call(struct fbufs_end *end, struct fbufs_end *receiver, struct fbufs_call *call,
		  bool wait_room, bool wait_message)
{
	struct fbufs_domain *domain = READ_ONCE(receiver->domain);
	long done = channel_check_end(end);

	if (!done)
		done = domain ? domain_check(domain) : -ENXIO;
	if (!done)
		done = send_all(end, &call->send, wait_room);
	if (done < 0)
		return done;
	call->out_sent = done;
	if (call->out_sent < call->send.count)
		return 0;
	return release_and_receive(receiver, &call->receive, wait_message);
}

/*
 * The kernel's ends
 */

/**
 * channel_send_from_kernel - send messages
 * @end: a sending end of the kernel's
 * @outputs: slices of whole messages, of fbufs of transfer_alloc_for_kernel(); those
 *	sent are the receivers'
 * @n: how many slices
 *
 * The fbufs are locked since they were allocated, so that nothing is to be secured.
 *
 * Return: how many slices were sent, of up to 32 messages; or -EAGAIN without room,
 * -EPIPE, -ENODEV, -ENOMEM. May sleep.
 */
int channel_send_from_kernel(struct fbufs_end *end, const struct channel_output *outputs, u32 n)
{
	struct fbufs_aggregate *aggregates[CHUNK] __uninitialized;
	struct fbufs_aggregate *spares[CHUNK] __uninitialized;
	struct fbufs_channel *channel = end->channel;
	u32 nspares, slices, sent = 0;
	bool wake = false;
	u64 bytes = 0;
	int room, i;

	mutex_lock(&end->mutex);
	room = sender_room(end, min_t(u32, n, CHUNK), spares, &nspares);
	for (i = 0; i < room && sent < n; i++) {
		slices = output_slices(&outputs[sent]);
		aggregates[i] = nspares && slices <= MESSAGE_INLINE ? spares[--nspares] :
								      aggregate_alloc(slices);
		if (!aggregates[i])
			break;
		message_from_kernel(aggregates[i], channel, &outputs[sent], slices);
		bytes += aggregates[i]->length;
		sent += slices;
	}
	if (nspares)
		channel_keep(channel, spares, nspares);
	if (i) {
		transfer_commit(end->domain, channel, aggregates, i);
		channel_deliver(channel, aggregates, i, &wake);
		stats_count(&end->domain->counters, FBUFS_COUNT_MESSAGES_SENT, i);
		stats_count(&end->domain->counters, FBUFS_COUNT_BYTES_SENT, bytes);
	}
	mutex_unlock(&end->mutex);
	if (wake)
		channel_wake_receivers(channel);
	if (room > 0 && !i)
		return -ENOMEM;
	return room > 0 ? (int)sent : room;
}

/**
 * channel_receive_to_kernel - receive messages
 * @end: a receiving end of the kernel's
 * @inputs: where to put them; the domain of the end holds them
 * @n: room there
 *
 * Return: how many; 0 when the sending end is gone and everything was received;
 * -EAGAIN without any, -ENOBUFS, -ENOMEM, -ENODEV. May sleep.
 */
int channel_receive_to_kernel(struct fbufs_end *end, struct channel_input *inputs, u32 n)
{
	struct fbufs_aggregate *aggregates[AHEAD] __uninitialized;
	struct fbufs_domain *domain = end->domain;
	u64 handles[AHEAD] __uninitialized;
	bool last, wake = false;
	int done = 0, i;
	u64 bytes = 0;

	/* Before looking at the queue: what is queued then is all there will be. */
	last = sender_is_gone(end->channel);
	/* Pairs with the unlock after the last delivery. */
	smp_rmb();
	mutex_lock(&end->mutex);
	n = min3(receiver_queued(end), n, (u32)AHEAD);
	if (n)
		done = domain_prepare_holds(domain, handles, n);
	for (i = 0; i < done; i++) {
		aggregates[i] = end->ring[(end->head + i) & (end->channel->depth - 1)];
		inputs[i] = (struct channel_input){
			.message = handles[i],
			.cookie = aggregates[i]->cookie,
			.length = aggregates[i]->length,
			.slices = aggregates[i]->nsegments,
		};
		bytes += aggregates[i]->length;
	}
	if (done > 0 && domain_commit_holds(domain, handles, aggregates, done)) {
		domain_cancel_holds(domain, handles, done);
		done = -ENODEV;
	}
	if (done > 0) {
		receiver_advance(end, done, &wake);
		stats_count(&domain->counters, FBUFS_COUNT_MESSAGES_RECEIVED, done);
		stats_count(&domain->counters, FBUFS_COUNT_BYTES_RECEIVED, bytes);
	}
	mutex_unlock(&end->mutex);
	if (wake)
		channel_wake_sender(end->channel);
	return done || last ? done : -EAGAIN;
}

/* Whether channel_receive_to_kernel() has something to say. */
bool channel_has_input(const struct fbufs_end *end)
{
	return receiver_queued(end) || sender_is_gone(end->channel);
}

/*
 * Information
 */

void channel_end_info(struct fbufs_end *end, struct fbufs_end_info *info)
{
	struct fbufs_channel *channel = end->channel;

	spin_lock(&channel->lock);
	info->out_channel = channel->id;
	info->out_mode = channel->flags;
	info->out_depth = channel->depth;
	info->out_receivers = hweight64(channel->present);
	info->out_queued = end->sending ? channel->depth - channel_room(channel) :
					  end->tail - end->head;
	info->out_sending = end->sending;
	info->out_attached = !!READ_ONCE(end->domain);
	info->out_hangup = end->gone || (end->sending ? !channel->present : !channel->sender);
	spin_unlock(&channel->lock);
}

__poll_t channel_poll(struct fbufs_end *end, struct file *file, struct poll_table_struct *table)
{
	struct fbufs_channel *channel = end->channel;
	__poll_t events = 0;

	poll_wait(file, &end->wait, table);
	spin_lock(&channel->lock);
	if (end->gone)
		events = EPOLLHUP | EPOLLERR;
	else if (end->sending && !channel->present)
		events = EPOLLHUP | EPOLLERR;
	else if (end->sending && channel_room(channel))
		events = EPOLLOUT | EPOLLWRNORM;
	if (!end->sending && end->head != end->tail)
		events |= EPOLLIN | EPOLLRDNORM;
	if (!end->sending && !channel->sender)
		events |= EPOLLHUP | EPOLLRDHUP;
	spin_unlock(&channel->lock);
	return events;
}
