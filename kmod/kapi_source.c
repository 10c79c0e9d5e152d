// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * Sources: the kernel as originator.
 *
 * The locks below this file are for process context. So that drivers can allocate
 * and deliver in interrupts all the same, a source keeps fbufs at hand: each of its
 * *slots* is EMPTY, or has an fbuf that is the kernel's (SENDING and locked) and is
 * READY to be allocated or TAKEN by the driver. To deliver one is to empty its slot
 * into a ring of what is *pending*. The *pump*, a work item or a caller that may
 * sleep, fills empty slots with what came home, and sends what is pending.
 *
 * No more fbufs are in slots and pending together than there are slots, so that the
 * ring has room for whatever is TAKEN. A message of several fbufs is delivered and sent
 * as a whole.
 *
 * A driver knows a slot by its ticket: index and use. A ticket of a former use is
 * refused, so that a double free or a delivery after it changes nothing.
 *
 * Locks. @lock guards the slots and lists, in any context; under it the pump is
 * started and who waits is woken, and nothing else is locked. @mutex is that of the
 * pump: who sends what is pending or fills slots; it is taken before the mutex of
 * the end. The functions on wait queues, and @on_home, only start the pump.
 */

#include <linux/file.h>
#include <linux/log2.h>
#include <linux/memcontrol.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "channel.h"
#include "chrdev.h"
#include "domain.h"
#include "kapi.h"
#include "pool.h"
#include "transfer.h"

/* How many fbufs the pump moves at a time. */
#define BATCH 32

enum slot_state { SLOT_EMPTY, SLOT_READY, SLOT_TAKEN };

/**
 * struct source_slot - a place for an fbuf that is at hand
 * @next: in its list, while EMPTY or READY
 * @fbuf: the fbuf, unless EMPTY
 * @data: where the kernel sees it
 * @ticket: index of the slot, and number of this use of it
 * @mappings: for devices; while TAKEN
 * @state: enum slot_state
 */
struct source_slot {
	struct source_slot *next;
	struct fbuf *fbuf;
	void *data;
	u64 ticket;
	u16 mappings;
	u8 state;
};

#define TICKET_USE BIT_ULL(32)		/* a ticket's next use */

/**
 * struct fbufs_source - see the head of this file
 * @owner: the driver's module, with a reference
 * @file: of the end, with a reference
 * @end: the sending end
 * @domain: the kernel's, for this source
 * @user: the domain whose pool it is, with a reference
 * @pool: the pool, with a reference
 * @class: where its fbufs are at home
 * @bytes: of each, whole pages
 * @notice: see struct fbufs_source_config
 * @data: for it
 * @room: on the wait queue of the end
 * @ended: on the wait queue of @user
 * @work: the pump
 * @wait: for an fbuf, or, to close, for the last that is TAKEN
 * @mutex: see above
 * @lock: see above
 * @slots: the slots
 * @count: how many
 * @ready: those that are READY
 * @nready: how many
 * @taken: how many are TAKEN
 * @empty: those that are EMPTY
 * @closed: no more allocations
 * @orphan: nor when the pool has no owner any more
 * @pending: ring of messages
 * @mask: its size less one
 * @head: the oldest; only the pump moves it
 * @tail: where the next one goes
 */
struct fbufs_source {
	struct module *owner;
	struct file *file;
	struct fbufs_end *end;
	struct fbufs_domain *domain;
	struct fbufs_domain *user;
	struct fbufs_pool *pool;
	struct fbufs_class *class;
	size_t bytes;
	void (*notice)(void *data, u64 fbuf);
	void *data;
	struct wait_queue_entry room;
	struct wait_queue_entry ended;
	struct work_struct work;
	wait_queue_head_t wait;
	struct mutex mutex;	/* see above */

	spinlock_t lock;	/* see above */
	struct source_slot *slots;
	u32 count;
	struct source_slot *ready;
	u32 nready;
	u32 taken;
	struct source_slot *empty;
	bool closed;
	bool orphan;
	struct channel_output *pending;
	u32 mask;
	u32 head;
	u32 tail;
};

static struct workqueue_struct *pumps;

/*
 * The pump
 */

static void source_start_pump(struct fbufs_source *source)
{
	queue_work(pumps, &source->work);
}

/* Too few are ready: pump when one comes home. */
static bool is_low(const struct fbufs_source *source)
{
	return READ_ONCE(source->nready) < DIV_ROUND_UP(source->count, 2);
}

/* Context: under the pool's lock. */
static void source_on_home(struct fbufs_class *class, u64 handle)
{
	struct fbufs_source *source = class->source;

	if (is_low(source))
		source_start_pump(source);
	if (source->notice)
		source->notice(source->data, handle);
}

static int source_has_room(struct wait_queue_entry *entry, unsigned int mode, int flags, void *key)
{
	struct fbufs_source *source = container_of(entry, struct fbufs_source, room);

	/* Something waits for room, or somebody for an fbuf or a receiver that is gone. */
	if (READ_ONCE(source->head) != READ_ONCE(source->tail) || wq_has_sleeper(&source->wait))
		source_start_pump(source);
	return 0;
}

static int source_user_woken(struct wait_queue_entry *entry, unsigned int mode, int flags,
			     void *key)
{
	struct fbufs_source *source = container_of(entry, struct fbufs_source, ended);

	if (READ_ONCE(source->pool->orphan) && !READ_ONCE(source->orphan))
		source_start_pump(source);
	return 0;
}

/* Without the slices at the end of a message that goes on. */
static u32 whole_messages(const struct channel_output *outputs, u32 n)
{
	while (n && outputs[n - 1].more)
		n--;
	return n;
}

/*
 * The oldest pending messages, by slices, as far as they lie side by side, or in
 * @apart when the first does not: it has room for BATCH. Context: under @mutex.
 */
static u32 pending_peek(const struct fbufs_source *source, struct channel_output *apart,
			const struct channel_output **outputs)
{
	/* Pairs with the release in fbufs_source_deliver(). */
	u32 have = min_t(u32, smp_load_acquire(&source->tail) - source->head, BATCH);
	u32 at = source->head & source->mask, n, i;

	*outputs = &source->pending[at];
	n = whole_messages(*outputs, min(have, source->mask + 1 - at));
	if (n || !have)
		return n;
	for (i = 0; i < have; i++)
		apart[i] = source->pending[(at + i) & source->mask];
	*outputs = apart;
	return whole_messages(apart, have);
}

/* Pending messages that nobody is to have. */
static void pending_drop(struct fbufs_source *source, const struct channel_output *outputs, u32 n)
{
	struct fbuf *fbufs[BATCH];
	u32 i;

	for (i = 0; i < n; i++)
		fbufs[i] = outputs[i].fbuf;
	transfer_free_from_kernel(source->pool, fbufs, n);
}

/* All of them. Context: under @mutex. */
static void pending_drop_all(struct fbufs_source *source)
{
	for (; source->head != source->tail; source->head++)
		pending_drop(source, &source->pending[source->head & source->mask], 1);
}

/* Send what is pending, while there is room. Context: under @mutex. */
static void source_send(struct fbufs_source *source)
{
	struct channel_output apart[BATCH] __uninitialized;
	const struct channel_output *outputs;
	int done;
	u32 n;

	while ((n = pending_peek(source, apart, &outputs))) {
		done = channel_send_from_kernel(source->end, outputs, n);
		if (done == -EAGAIN)
			break;
		/* Without a receiver, as if it had gone just after they were sent. */
		if (done < 0)
			pending_drop(source, outputs, n);
		WRITE_ONCE(source->head, source->head + (done < 0 ? n : done));
	}
}

/* Context: under @lock. */
static void slot_push(struct source_slot **list, struct source_slot *slot, enum slot_state state)
{
	slot->state = state;
	slot->next = *list;
	*list = slot;
}

/* Context: under @lock. */
static struct source_slot *slot_pop(struct source_slot **list)
{
	struct source_slot *slot = *list;

	*list = slot->next;
	return slot;
}

/* Put fbufs in empty slots, of which there are enough. Context: under @mutex. */
static void slots_fill(struct fbufs_source *source, struct fbuf **fbufs, void **data, u32 n)
{
	struct source_slot *slot;
	u32 i;

	spin_lock_irq(&source->lock);
	for (i = 0; i < n; i++) {
		slot = slot_pop(&source->empty);
		slot->fbuf = fbufs[i];
		slot->data = data[i];
		slot_push(&source->ready, slot, SLOT_READY);
	}
	WRITE_ONCE(source->nready, source->nready + n);
	spin_unlock_irq(&source->lock);
}

/* As slots_fill(), or -ENOMEM: the kernel has no room to see some, which are free again. */
static int slots_fill_seen(struct fbufs_source *source, struct fbuf **fbufs, u32 n)
{
	void *data[BATCH] __uninitialized;
	u32 i;

	for (i = 0; i < n; i++) {
		data[i] = fbuf_address(fbufs[i]);
		if (!data[i])
			break;
	}
	slots_fill(source, fbufs, data, i);
	if (i == n)
		return 0;
	transfer_free_from_kernel(source->pool, fbufs + i, n - i);
	return -ENOMEM;
}

/*
 * How many fbufs are to be put in slots, of those at home and, up to *@make, new ones
 * for those that the pool lost. Context: under @mutex.
 */
static u32 source_wants(struct fbufs_source *source, u32 *make)
{
	struct fbufs_class *class = source->class;
	u32 room, home, have;

	spin_lock_irq(&source->lock);
	room = source->count - source->nready - source->taken - (source->tail - source->head);
	spin_unlock_irq(&source->lock);
	spin_lock(&source->pool->lock);
	home = class->count;
	have = class->out + home;
	spin_unlock(&source->pool->lock);
	*make = have < source->count ? source->count - have : 0;
	return min3(room, home + *make, (u32)BATCH);
}

/* Fill empty slots. Returns why no more are. Context: under @mutex. */
static int source_fill(struct fbufs_source *source)
{
	struct mem_cgroup *memcg = get_mem_cgroup_from_mm(source->pool->mm);
	struct mem_cgroup *before = set_active_memcg(memcg);
	struct fbuf *fbufs[BATCH] __uninitialized;
	int n = 1, err = 0;
	u32 want, make;

	while (n > 0 && !err && (want = source_wants(source, &make))) {
		n = transfer_alloc_for_kernel(source->domain, source->class, fbufs, want, make);
		if (n > 0)
			err = slots_fill_seen(source, fbufs, n);
	}
	set_active_memcg(before);
	mem_cgroup_put(memcg);
	return n < 0 ? n : err;
}

/* What is ready goes back to the pool. Context: under @mutex. */
static void source_empty(struct fbufs_source *source)
{
	struct source_slot *slot;
	struct fbuf *fbuf;

	for (;;) {
		fbuf = NULL;
		spin_lock_irq(&source->lock);
		if (source->ready) {
			slot = slot_pop(&source->ready);
			WRITE_ONCE(source->nready, source->nready - 1);
			fbuf = slot->fbuf;
			slot_push(&source->empty, slot, SLOT_EMPTY);
		}
		spin_unlock_irq(&source->lock);
		if (!fbuf)
			return;
		transfer_free_from_kernel(source->pool, &fbuf, 1);
	}
}

/* May sleep. */
static void source_pump(struct fbufs_source *source)
{
	mutex_lock(&source->mutex);
	/* Before the free list is looked at: what comes home later starts the pump. */
	WRITE_ONCE(source->class->tell, true);
	if (READ_ONCE(source->pool->orphan)) {
		WRITE_ONCE(source->orphan, true);
		source_empty(source);
	} else {
		source_fill(source);
	}
	/* After that, for who receives may at once have the driver want the next. */
	source_send(source);
	WRITE_ONCE(source->class->tell, source->notice || is_low(source));
	mutex_unlock(&source->mutex);
	if (wq_has_sleeper(&source->wait))
		wake_up_all(&source->wait);
}

static void source_work(struct work_struct *work)
{
	source_pump(container_of(work, struct fbufs_source, work));
}

/*
 * Opening and closing
 */

static void source_release_slots(struct fbufs_source *source)
{
	kvfree(source->slots);
	kvfree(source->pending);
}

static int source_make_slots(struct fbufs_source *source, u32 count)
{
	u32 ring = roundup_pow_of_two(count), i;

	source->slots = kvcalloc(count, sizeof(*source->slots), GFP_KERNEL_ACCOUNT);
	source->pending = kvcalloc(ring, sizeof(*source->pending), GFP_KERNEL_ACCOUNT);
	if (!source->slots || !source->pending)
		return -ENOMEM;
	source->count = count;
	source->mask = ring - 1;
	for (i = count; i--;) {
		source->slots[i].ticket = i;
		slot_push(&source->empty, &source->slots[i], SLOT_EMPTY);
	}
	return 0;
}

/* Find the caller's domain and its pool. */
static int source_find_pool(struct fbufs_source *source, int fd)
{
	struct file *file = fget(fd);
	struct fbufs_domain *user = file ? chrdev_domain(file) : NULL;
	int err = user ? domain_check(user) : -EBADF;

	if (!err && !READ_ONCE(user->pool))
		err = -ENXIO;
	if (!err) {
		source->user = domain_get(user);
		source->pool = pool_get(user->pool);
	}
	if (file)
		fput(file);
	return err;
}

static int source_find_end(struct fbufs_source *source, int fd)
{
	struct file *file = fget(fd);

	source->end = file ? chrdev_end(file) : NULL;
	if (!source->end || !source->end->sending) {
		if (file)
			fput(file);
		return -EBADF;
	}
	source->file = file;
	return 0;
}

static int source_attach(struct fbufs_source *source, u32 npages)
{
	struct fbufs_channel *channel = source->end->channel;
	int err;

	source->domain = domain_create_kernel();
	if (!source->domain)
		return -ENOMEM;
	err = channel_attach_kernel(source->end, source->domain, source->pool);
	if (err)
		return err;
	source->class = pool_class(source->pool, &channel->classes, channel, npages);
	if (!source->class)
		return -ENOMEM;
	spin_lock(&source->pool->lock);
	source->class->source = source;
	source->class->on_home = source_on_home;
	source->class->tell = source->notice;
	spin_unlock(&source->pool->lock);
	return 0;
}

/* All fbufs at once: a driver in an interrupt can make none. */
static int source_stock(struct fbufs_source *source)
{
	int err;

	mutex_lock(&source->mutex);
	err = source_fill(source);
	if (!err && source->nready < source->count)
		err = -ENOBUFS;
	mutex_unlock(&source->mutex);
	return err;
}

/* Undo what was done of opening. */
static void source_destroy(struct fbufs_source *source)
{
	if (source->class) {
		source_empty(source);
		spin_lock(&source->pool->lock);
		source->class->tell = false;
		spin_unlock(&source->pool->lock);
	}
	if (source->domain) {
		transfer_end_domain(source->domain);
		domain_put(source->domain);
	}
	if (source->file)
		fput(source->file);
	if (source->user)
		domain_put(source->user);
	if (source->pool)
		pool_put(source->pool);
	source_release_slots(source);
	module_put(source->owner);
	kfree(source);
	module_put(THIS_MODULE);
}

struct fbufs_source *__fbufs_source_open(const struct fbufs_source_config *config,
					 struct module *owner)
{
	struct fbufs_source *source;
	int err;

	if (!config->bytes || config->bytes > FBUFS_MAX_BYTES || !config->count ||
	    config->count > FBUFS_MAX_SOURCE)
		return ERR_PTR(-EINVAL);
	source = kzalloc(sizeof(*source), GFP_KERNEL_ACCOUNT);
	if (!source)
		return ERR_PTR(-ENOMEM);
	/* The caller runs in both. */
	__module_get(THIS_MODULE);
	__module_get(owner);
	source->owner = owner;
	source->bytes = PAGE_ALIGN(config->bytes);
	source->notice = config->notice;
	source->data = config->data;
	mutex_init(&source->mutex);
	spin_lock_init(&source->lock);
	init_waitqueue_head(&source->wait);
	INIT_WORK(&source->work, source_work);
	err = source_make_slots(source, config->count);
	if (!err)
		err = source_find_pool(source, config->domain);
	if (!err)
		err = source_find_end(source, config->sender);
	if (!err)
		err = source_attach(source, source->bytes >> PAGE_SHIFT);
	if (!err)
		err = source_stock(source);
	if (err) {
		source_destroy(source);
		return ERR_PTR(err);
	}
	init_waitqueue_func_entry(&source->room, source_has_room);
	init_waitqueue_func_entry(&source->ended, source_user_woken);
	add_wait_queue(&source->end->wait, &source->room);
	add_wait_queue(&source->user->wait, &source->ended);
	/* Its domain may have ended before anybody listened. */
	source_start_pump(source);
	return source;
}
EXPORT_SYMBOL_NS_GPL(__fbufs_source_open, FBUFS_NAMESPACE);

static bool source_is_given_back(struct fbufs_source *source)
{
	bool back;

	spin_lock_irq(&source->lock);
	back = !source->taken;
	spin_unlock_irq(&source->lock);
	return back;
}

/**
 * fbufs_source_close - give the sending end of a channel back
 * @source: the source
 *
 * What was delivered before is sent, as far as the channel's queue has room. The
 * receivers see the end of the stream. Waits until the driver has delivered or freed
 * every fbuf that it allocated: stop the device first. Nothing may use the source
 * afterwards.
 *
 * Context: May sleep; not from @notice.
 */
void fbufs_source_close(struct fbufs_source *source)
{
	might_sleep();
	spin_lock_irq(&source->lock);
	source->closed = true;
	spin_unlock_irq(&source->lock);
	wake_up_all(&source->wait);
	while (!wait_event_timeout(source->wait, source_is_given_back(source), 10 * HZ))
		pr_warn("fbufs: %ps waits to close a source: fbufs are with the driver\n",
			(void *)_RET_IP_);
	remove_wait_queue(&source->end->wait, &source->room);
	remove_wait_queue(&source->user->wait, &source->ended);
	disable_work_sync(&source->work);
	/* Nor does the pump set it again. */
	spin_lock(&source->pool->lock);
	source->class->tell = false;
	spin_unlock(&source->pool->lock);
	mutex_lock(&source->mutex);
	source_send(source);
	pending_drop_all(source);
	mutex_unlock(&source->mutex);
	source_destroy(source);
}
EXPORT_SYMBOL_NS_GPL(fbufs_source_close, FBUFS_NAMESPACE);

/*
 * What drivers do
 */

/* Context: under @lock. */
static void slot_take(struct fbufs_source *source, struct fbufs_output *output)
{
	struct source_slot *slot = slot_pop(&source->ready);

	slot->state = SLOT_TAKEN;
	*output = (struct fbufs_output){
		.data = slot->data,
		.bytes = source->bytes,
		.fbuf = slot->fbuf->handle,
		.ticket = slot->ticket,
	};
}

/* The slot of a ticket that is the driver's, or NULL. Context: under @lock. */
static struct source_slot *slot_find(struct fbufs_source *source, u64 ticket)
{
	struct source_slot *slot;
	u32 index = ticket;

	if (index >= source->count)
		return NULL;
	slot = &source->slots[index];
	return slot->state == SLOT_TAKEN && slot->ticket == ticket ? slot : NULL;
}

/* Slots that are READY become TAKEN; as many as there are. Context: under @lock. */
static u32 slots_take(struct fbufs_source *source, struct fbufs_output *outputs, u32 n)
{
	u32 i;

	n = min(n, source->nready);
	for (i = 0; i < n; i++)
		slot_take(source, &outputs[i]);
	WRITE_ONCE(source->nready, source->nready - n);
	source->taken += n;
	return n;
}

/**
 * fbufs_source_alloc - allocate fbufs that are ready
 * @source: the source
 * @outputs: where to put them
 * @n: how many
 *
 * They may hold what an earlier message of the same channel left in them, and only the
 * kernel can write them: from here on until the last receiver releases them.
 *
 * Context: any, interrupts included.
 * Return: how many, at least 1; or -EAGAIN: none is ready; -EPIPE: there is no
 * receiver; -ENODEV: the domain has ended.
 */
int fbufs_source_alloc(struct fbufs_source *source, struct fbufs_output *outputs, u32 n)
{
	int err = -EAGAIN;
	unsigned long flags;
	u32 done = 0;
	bool low;

	if (!READ_ONCE(source->end->channel->present))
		return -EPIPE;
	spin_lock_irqsave(&source->lock, flags);
	if (source->closed || source->orphan || READ_ONCE(source->pool->orphan))
		err = -ENODEV;
	else
		done = slots_take(source, outputs, n);
	low = is_low(source) && READ_ONCE(source->class->count);
	spin_unlock_irqrestore(&source->lock, flags);
	if (low)
		source_start_pump(source);
	return done ? done : err;
}
EXPORT_SYMBOL_NS_GPL(fbufs_source_alloc, FBUFS_NAMESPACE);

static bool source_can_go_on(struct fbufs_source *source)
{
	bool can;

	spin_lock_irq(&source->lock);
	can = source->nready || source->closed || source->orphan;
	spin_unlock_irq(&source->lock);
	return can || !READ_ONCE(source->end->channel->present);
}

/**
 * fbufs_source_alloc_wait - allocate fbufs, and wait until there is one
 * @source: the source
 * @outputs: where to put them
 * @n: how many
 *
 * Context: May sleep.
 * Return: as fbufs_source_alloc(), but never -EAGAIN; -ERESTARTSYS: a signal came.
 */
int fbufs_source_alloc_wait(struct fbufs_source *source, struct fbufs_output *outputs, u32 n)
{
	int done = fbufs_source_alloc(source, outputs, n);

	if (!kapi_may_sleep(_RET_IP_))
		return done;
	while (done == -EAGAIN) {
		source_pump(source);
		if (wait_event_interruptible(source->wait, source_can_go_on(source)))
			return -ERESTARTSYS;
		done = fbufs_source_alloc(source, outputs, n);
	}
	return done;
}
EXPORT_SYMBOL_NS_GPL(fbufs_source_alloc_wait, FBUFS_NAMESPACE);

/* Empty a slot into a place of the ring. Context: under @lock. */
static int slot_deliver(struct fbufs_source *source, const struct fbufs_output *output,
			struct channel_output *pending)
{
	struct source_slot *slot = slot_find(source, output->ticket);

	if (!slot)
		return -ENOENT;
	if (slot->mappings)
		return -EBUSY;
	if (!output->length || (u64)output->offset + output->length > source->bytes)
		return -ERANGE;
	*pending = (struct channel_output){
		.fbuf = slot->fbuf, .cookie = output->cookie,
		.offset = output->offset, .more = output->more, .length = output->length,
	};
	slot->ticket += TICKET_USE;
	slot_push(&source->empty, slot, SLOT_EMPTY);
	return 0;
}

/* Take the last slot_deliver() back. Context: under @lock, since that. */
static void slot_undeliver(struct fbufs_source *source)
{
	struct source_slot *slot = slot_pop(&source->empty);

	slot->state = SLOT_TAKEN;
	slot->ticket -= TICKET_USE;
}

/*
 * Empty the slots of messages into the ring. Returns how many, and in *@why the error of
 * a message that was refused: that one is as it was. Context: under @lock.
 */
static u32 slots_deliver(struct fbufs_source *source, const struct fbufs_output *outputs, u32 n,
			 int *why)
{
	u32 i, whole = 0;
	int err = 0;

	static_assert(FBUFS_MAX_SOURCE_SLICES <= BATCH);
	for (i = 0; i < n && i - whole < FBUFS_MAX_SOURCE_SLICES; i++) {
		err = slot_deliver(source, &outputs[i],
				   &source->pending[(source->tail + i) & source->mask]);
		if (err)
			break;
		if (!outputs[i].more)
			whole = i + 1;
	}
	if (!err && whole < i)
		err = i < n ? -EMSGSIZE : -EINVAL;
	while (i-- > whole)
		slot_undeliver(source);
	*why = err;
	return whole;
}

static const char *why_refused(int err)
{
	switch (err) {
	case -ENOENT:
		return "an fbuf is not the driver's, or no longer";
	case -EBUSY:
		return "a device still reaches an fbuf";
	case -EINVAL:
		return "a message goes on behind the last fbuf";
	case -EMSGSIZE:
		return "a message has too many fbufs";
	default:
		return "a message does not lie in its fbuf";
	}
}

/**
 * fbufs_source_deliver - send fbufs as messages
 * @source: the source
 * @outputs: fbufs with @offset, @length and @cookie set; each is a message, or, after one
 *	with @more, the next slice of it
 * @n: how many
 *
 * They are not the driver's any more, and go to every receiver of the channel, in this
 * order: soon, from a work item, or with the next fbufs_source_flush(). When the queue
 * of a receiver is full they wait for room; without any receiver they are dropped.
 *
 * Context: any, interrupts included.
 * Return: how many fbufs, of whole messages, or what is wrong with the first message:
 * -ENOENT: an fbuf is not the driver's; -EBUSY: one is mapped for a device; -ERANGE:
 * @offset and @length; -EINVAL: the last of @outputs has @more; -EMSGSIZE: more than
 * FBUFS_MAX_SOURCE_SLICES.
 */
int fbufs_source_deliver(struct fbufs_source *source, const struct fbufs_output *outputs, u32 n)
{
	unsigned long flags;
	int err;
	u32 done;

	spin_lock_irqsave(&source->lock, flags);
	done = slots_deliver(source, outputs, n, &err);
	source->taken -= done;
	/* Pairs with the acquire in pending_peek(). */
	smp_store_release(&source->tail, source->tail + done);
	if (source->closed && !source->taken)
		wake_up_all(&source->wait);
	else if (done)
		source_start_pump(source);
	/* With the last one the source may go at once. */
	spin_unlock_irqrestore(&source->lock, flags);
	if (err)
		kapi_misuse(_RET_IP_, err, why_refused(err));
	return done ? done : err;
}
EXPORT_SYMBOL_NS_GPL(fbufs_source_deliver, FBUFS_NAMESPACE);

/* Context: under @lock. */
static int slot_free(struct fbufs_source *source, const struct fbufs_output *output)
{
	struct source_slot *slot = slot_find(source, output->ticket);

	if (!slot)
		return -ENOENT;
	if (slot->mappings)
		return -EBUSY;
	slot->ticket += TICKET_USE;
	slot_push(&source->ready, slot, SLOT_READY);
	return 0;
}

/**
 * fbufs_source_free - give fbufs back that are not to be delivered
 * @source: the source
 * @outputs: the fbufs
 * @n: how many
 *
 * Context: any, interrupts included.
 * Return: how many, or what is wrong with the first: -ENOENT, -EBUSY, as
 * fbufs_source_deliver().
 */
int fbufs_source_free(struct fbufs_source *source, const struct fbufs_output *outputs, u32 n)
{
	unsigned long flags;
	int err = 0;
	u32 i;

	spin_lock_irqsave(&source->lock, flags);
	for (i = 0; i < n && !err; i++)
		err = slot_free(source, &outputs[i]);
	i -= !!err;
	WRITE_ONCE(source->nready, source->nready + i);
	source->taken -= i;
	if (i && wq_has_sleeper(&source->wait))
		wake_up_all(&source->wait);
	/* When its process has gone, it is not to stay. */
	if (i && READ_ONCE(source->pool->orphan))
		source_start_pump(source);
	/* With the last one the source may go at once. */
	spin_unlock_irqrestore(&source->lock, flags);
	if (err)
		kapi_misuse(_RET_IP_, err, why_refused(err));
	return i ? i : err;
}
EXPORT_SYMBOL_NS_GPL(fbufs_source_free, FBUFS_NAMESPACE);

/**
 * fbufs_source_flush - send now what was delivered
 * @source: the source
 *
 * Context: May sleep.
 * Return: 0; or -EAGAIN: a receiver's queue is full, and the rest goes when there is
 * room; -EDEADLK: called where it may not sleep.
 */
int fbufs_source_flush(struct fbufs_source *source)
{
	if (!kapi_may_sleep(_RET_IP_))
		return -EDEADLK;
	source_pump(source);
	return READ_ONCE(source->head) == READ_ONCE(source->tail) ? 0 : -EAGAIN;
}
EXPORT_SYMBOL_NS_GPL(fbufs_source_flush, FBUFS_NAMESPACE);

/* For a mapping: the fbuf of a ticket, which can neither be delivered nor freed; or NULL. */
struct fbuf *source_hold(struct fbufs_source *source, u64 ticket)
{
	struct fbuf *fbuf = NULL;
	struct source_slot *slot;
	unsigned long flags;

	spin_lock_irqsave(&source->lock, flags);
	slot = slot_find(source, ticket);
	if (slot && slot->mappings < U16_MAX) {
		slot->mappings++;
		fbuf = slot->fbuf;
	}
	spin_unlock_irqrestore(&source->lock, flags);
	return fbuf;
}

void source_unhold(struct fbufs_source *source, u64 ticket)
{
	struct source_slot *slot;
	unsigned long flags;

	spin_lock_irqsave(&source->lock, flags);
	slot = slot_find(source, ticket);
	if (!WARN_ON_ONCE(!slot))
		slot->mappings--;
	spin_unlock_irqrestore(&source->lock, flags);
}

int kapi_init(void)
{
	pumps = alloc_workqueue("fbufs", WQ_HIGHPRI, 0);
	return pumps ? 0 : -ENOMEM;
}

void kapi_exit(void)
{
	destroy_workqueue(pumps);
}
