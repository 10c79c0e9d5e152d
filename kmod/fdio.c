// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/file.h>
#include <linux/hrtimer.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/slab.h>
#include <linux/socket.h>
#include <linux/uaccess.h>

#include "channel.h"
#include "descriptor.h"
#include "fdio.h"
#include "map.h"
#include "nudge.h"
#include "pool.h"
#include "transfer.h"
#include "user.h"

/* Up to so many bytes are mapped before they are touched, of more, the beginning. */
#define FDIO_SHOWN SZ_256K
/* How long who waits for pages to come home sleeps between two looks. */
#define LOOK_NS (100 * NSEC_PER_USEC)
/* How often somebody looks while nobody calls. */
#define LOOK_JIFFIES 1
/* After so many looks that found nothing new, the network stack is nudged. */
#define LOOKS_TO_NUDGE 3

/* Operations of domains that have ended, while they drain. */
static LIST_HEAD(orphans);
static DEFINE_SPINLOCK(orphans_lock);
static void orphans_look(struct work_struct *work);
static DECLARE_DELAYED_WORK(orphans_work, orphans_look);

/*
 * Life
 */

static struct fdio_op *op_alloc(struct fbufs_domain *domain)
{
	struct fdio_op *op = kzalloc(sizeof(*op), GFP_KERNEL_ACCOUNT);

	if (!op)
		return NULL;
	kref_init(&op->ref);
	INIT_LIST_HEAD(&op->link);
	op->domain = domain;
	/* Pipe buffers may refer to it when nothing else of ours is left. */
	__module_get(THIS_MODULE);
	stats_gauge(FBUFS_GAUGE_IO, 1);
	return op;
}

static void op_free(struct kref *ref)
{
	struct fdio_op *op = container_of(ref, struct fdio_op, ref);

	kfree(op);
	stats_gauge(FBUFS_GAUGE_IO, -1);
	module_put(THIS_MODULE);
}

void fdio_get(struct fdio_op *op)
{
	kref_get(&op->ref);
}

void fdio_put(struct fdio_op *op)
{
	kref_put(&op->ref, op_free);
}

/* The last but one reference may be a pipe buffer's: then it has drained. */
void fdio_put_buffer(struct fdio_op *op)
{
	struct fbufs_domain *domain;

	spin_lock(&orphans_lock);
	/* Nobody waits for what was given away. */
	domain = op->args.flags & FBUFS_IO_GIVE ? NULL : op->domain;
	if (domain)
		domain_get(domain);
	spin_unlock(&orphans_lock);
	fdio_put(op);
	if (domain) {
		domain_look_at_io(domain);
		domain_put(domain);
	}
}

static void drop_message(struct fbufs_aggregate **aggregate)
{
	if (*aggregate)
		transfer_drop(aggregate, 1);
	*aggregate = NULL;
}

/*
 * Waiting for descriptors
 */

static int op_wake(struct wait_queue_entry *entry, unsigned int mode, int sync, void *key)
{
	struct fdio_wait *wait = container_of(entry, struct fdio_wait, entry);
	struct fdio_op *op = wait->op;
	__poll_t mask = key_to_poll(key);

	if (mask & POLLFREE) {
		/* The queue goes, after an RCU grace period. */
		list_del_init(&entry->entry);
		/* Pairs with the acquire in op_disarm(). */
		smp_store_release(&wait->head, NULL);
	}
	WRITE_ONCE(op->ready, true);
	wake_up_all(&op->domain->wait);
	return 1;
}

static void op_queue(struct file *file, wait_queue_head_t *head, poll_table *table)
{
	struct fdio_op *op = container_of(table, struct fdio_op, table);
	struct fdio_wait *wait;

	if (op->nwaits == ARRAY_SIZE(op->waits))
		return;
	wait = &op->waits[op->nwaits++];
	wait->op = op;
	wait->head = head;
	init_waitqueue_func_entry(&wait->entry, op_wake);
	add_wait_queue(head, &wait->entry);
}

static void op_disarm(struct fdio_op *op)
{
	wait_queue_head_t *head;

	/* What goes by POLLFREE stays until then. */
	rcu_read_lock();
	while (op->nwaits) {
		struct fdio_wait *wait = &op->waits[--op->nwaits];

		/* Pairs with the release in op_wake(). */
		head = smp_load_acquire(&wait->head);
		if (head)
			remove_wait_queue(head, &wait->entry);
	}
	rcu_read_unlock();
}

/*
 * Whether the descriptor is ready for the operation; if not, it will be told.
 * Context: busy.
 */
static bool op_is_ready(struct fdio_op *op)
{
	__poll_t wanted = (op->reads ? EPOLLIN | EPOLLRDNORM | EPOLLRDHUP :
				       EPOLLOUT | EPOLLWRNORM) | EPOLLERR | EPOLLHUP;
	poll_table *table = NULL;

	if (!op->nwaits) {
		init_poll_funcptr(&op->table, op_queue);
		op->table._key = wanted;
		table = &op->table;
	}
	/* Before looking: who wakes us after the look sets it again. */
	WRITE_ONCE(op->ready, false);
	return vfs_poll(op->file, table) & wanted;
}

/*
 * Steps. Context: busy, and in the process of the domain.
 */

/* No more bytes will move. */
static void op_accept(struct fdio_op *op, int error)
{
	op->error = op->done ? 0 : error;
	op_disarm(op);
	/* What was given for nothing is given back, if it was all the caller's own. */
	if (op->error && op->args.flags & FBUFS_IO_GIVE && !op->borrows) {
		op->args.flags &= ~FBUFS_IO_GIVE;
		transfer_return(op->aggregate);
	}
	fput(op->file);
	op->file = NULL;
	stats_count(&op->domain->counters, FBUFS_COUNT_BYTES_COPIED, op->copied);
}

/* Have the kernel own a fresh fbuf to fill: 0, or an error of allocation. */
static int op_make_target(struct fdio_op *op, struct fbufs_class *class)
{
	struct fbufs_domain *domain = op->domain;
	struct fbufs_pool *pool = domain->pool;
	struct fbufs_slice slice = { .length = op->args.length };
	int err;

	op->aggregate = aggregate_alloc(1);
	if (!op->aggregate)
		return -ENOMEM;
	aggregate_begin(op->aggregate, NULL, 0, 0);
	err = transfer_alloc_to_fill(domain, class, &op->buffer);
	if (!err) {
		slice.fbuf = op->buffer.fbuf;
		spin_lock(&pool->lock);
		/* -ENOENT: another thread knew the handle before we told, and freed it. */
		err = transfer_add(pool, NULL, op->aggregate, &slice);
		spin_unlock(&pool->lock);
	}
	if (err) {
		aggregate_free(op->aggregate);
		op->aggregate = NULL;
		op->buffer.fbuf = 0;
		return err;
	}
	transfer_secure(domain, &op->aggregate, 1);
	transfer_to_kernel(op->aggregate, true);
	return 0;
}

/* The free list from which the operation's fbuf comes. */
static struct fbufs_class *op_class(struct fdio_op *op)
{
	struct fbufs_pool *pool = op->domain->pool;
	u32 npages = DIV_ROUND_UP_ULL(op->args.length, PAGE_SIZE);
	struct fbufs_channel *channel = op->channel;

	return pool_class(pool, channel ? &channel->classes : &pool->unbound, channel, npages);
}

static int op_get_target(struct fdio_op *op)
{
	struct fbufs_class *class;
	int err;

	if (op->aggregate)
		return 0;
	class = op_class(op);
	if (!class)
		return -ENOMEM;
	err = op_make_target(op, class);
	if (err == -EAGAIN) {
		/* What drained meanwhile may have left room. */
		fdio_collect(op->domain);
		err = op_make_target(op, class);
	}
	return err;
}

/* What a read has got into its own fbuf is the process's. */
static void op_finish_target(struct fdio_op *op)
{
	if (!op->aggregate)
		return;
	if (op->done && !op->taken)
		fbuf_pages_zero(op->aggregate->segments[0].fbuf, op->done);
	drop_message(&op->aggregate);
	if (op->error || !op->done || op->taken) {
		transfer_free(op->domain, &op->buffer.fbuf, 1);
		op->buffer = (struct fbufs_buffer){ };
	} else {
		map_give(op->domain, &op->buffer, 1);
	}
}

/* An empty list of what was taken is no message. */
static void op_finish_taken(struct fdio_op *op)
{
	if (op->taken && !op->taken->nsegments) {
		aggregate_free(op->taken);
		op->taken = NULL;
	}
}

/* Return: 0: accepted; 1: waits. */
static int op_write(struct fdio_op *op)
{
	bool told = false;
	int n;

	while (op->segment < op->aggregate->nsegments) {
		n = descriptor_write(op);
		if (n > 0)
			continue;
		if (n != -EAGAIN) {
			op_accept(op, n);
			return 0;
		}
		if (told || !op_is_ready(op)) {
			op->stuck = told;
			return 1;
		}
		told = true;
	}
	op_accept(op, 0);
	return 0;
}

/* Return: bytes, 0 at the end, -EAGAIN, -ENODATA when it is over all the same, or an error. */
static int op_read_some(struct fdio_op *op)
{
	bool may_take = !(op->args.flags & FBUFS_IO_COPY) && !op->aggregate;
	int n = may_take ? descriptor_take(op) : 0;

	if (n)
		return n;
	if (descriptor_can_wait(op->file) && !op_is_ready(op))
		return -EAGAIN;
	/* What made it ready may have come after the first look. */
	n = may_take ? descriptor_take(op) : 0;
	if (n)
		return n;
	/* There is something that cannot be taken; what was taken is a message of its own. */
	if (op->done && !op->aggregate)
		return -ENODATA;
	n = op_get_target(op);
	if (!n)
		n = descriptor_read(op);
	op->stuck = n == -EAGAIN;
	return n;
}

/* Return: 0: accepted; 1: waits. */
static int op_read(struct fdio_op *op)
{
	int n, tries = 0;

	do {
		op->stuck = false;
		n = op_read_some(op);
		/* Somebody else may have read what was there. */
	} while ((n > 0 && op->args.flags & FBUFS_IO_ALL && op->done < op->args.length) ||
		 (n == -EAGAIN && op->stuck && !tries++));
	if (n == -EAGAIN)
		return 1;
	if (!n && !descriptor_has_datagrams(op->file))
		op->how |= FBUFS_IO_END;
	op_accept(op, n < 0 && n != -ENODATA ? n : 0);
	op_finish_taken(op);
	op_finish_target(op);
	return 0;
}

static struct fdio_op *op_blocker(struct fbufs_domain *domain, struct fdio_op *op)
{
	struct fdio_op *other;

	lockdep_assert_held(&domain->io_lock);
	list_for_each_entry(other, &domain->io_ops, link) {
		if (other == op)
			break;
		if (!other->accepted && other->file == op->file && other->reads == op->reads)
			return other;
	}
	return NULL;
}

/* The next one waits no longer for its predecessor. Context: io_lock. */
static void ops_unblock(struct fbufs_domain *domain)
{
	struct fdio_op *op;

	list_for_each_entry(op, &domain->io_ops, link)
		if (!op->accepted && !op->nwaits)
			WRITE_ONCE(op->ready, true);
}

/* Take a step with an operation that is busy, and let go of it. */
static void op_step(struct fbufs_domain *domain, struct fdio_op *op)
{
	bool waits = op->reads ? op_read(op) : op_write(op);

	spin_lock(&domain->io_lock);
	op->accepted = !waits;
	op->busy = false;
	/* Of what was read nothing is left in the kernel. */
	if (!waits && op->reads)
		op->drained = true;
	if (!waits)
		ops_unblock(domain);
	spin_unlock(&domain->io_lock);
}

/* An operation that can go on, now busy; or NULL. */
static struct fdio_op *next_step(struct fbufs_domain *domain)
{
	struct fdio_op *op;

	spin_lock(&domain->io_lock);
	list_for_each_entry(op, &domain->io_ops, link) {
		if (op->busy || op->accepted || !READ_ONCE(op->ready))
			continue;
		WRITE_ONCE(op->ready, false);
		if (op_blocker(domain, op))
			continue;
		op->busy = true;
		spin_unlock(&domain->io_lock);
		return op;
	}
	spin_unlock(&domain->io_lock);
	return NULL;
}

/*
 * Draining
 */

/* Whether nothing refers to the pages of an accepted operation any more. */
static bool op_is_home(struct fdio_op *op)
{
	u32 i;

	if (!op->aggregate)
		return true;
	if (kref_read(&op->ref) > 1)
		return false;
	for (i = 0; i < op->aggregate->nsegments; i++)
		if (!fbuf_pages_are_home(op->aggregate->segments[i].fbuf))
			return false;
	return op->args.flags & FBUFS_IO_GIVE || !op->domain || transfer_is_last(op->aggregate);
}

/* It is over with an operation that was reported, too. Context: io_lock. */
static bool op_is_over(struct fdio_op *op)
{
	return op->drained && op->reported && !op->busy;
}

/* Let go of a busy operation; it may be over. */
static void op_unbusy(struct fbufs_domain *domain, struct fdio_op *op)
{
	bool over;

	spin_lock(&domain->io_lock);
	op->busy = false;
	over = op_is_over(op);
	if (over)
		list_del_init(&op->link);
	spin_unlock(&domain->io_lock);
	if (over)
		fdio_put(op);
}

/* The next operation behind @after (or the first) that drains, now busy; or NULL. */
static struct fdio_op *next_draining(struct fbufs_domain *domain, struct fdio_op *after)
{
	struct fdio_op *op = after;

	spin_lock(&domain->io_lock);
	op = list_prepare_entry(op, &domain->io_ops, link);
	list_for_each_entry_continue(op, &domain->io_ops, link) {
		if (op->busy || !op->accepted || op->drained)
			continue;
		op->busy = true;
		spin_unlock(&domain->io_lock);
		return op;
	}
	spin_unlock(&domain->io_lock);
	return NULL;
}

/**
 * fdio_collect - take back what the kernel is done with
 * @domain: the domain
 *
 * Context: May sleep. In any context of the domain's, or its work.
 * Return: whether there was any.
 */
bool fdio_collect(struct fbufs_domain *domain)
{
	struct fdio_op *op = NULL, *last;
	bool some = false;

	/* The last one looked at stays busy until the next is found: it keeps the place. */
	do {
		last = op;
		op = next_draining(domain, last);
		if (last)
			op_unbusy(domain, last);
		if (op && op_is_home(op)) {
			drop_message(&op->aggregate);
			op->drained = true;
			some = true;
		}
	} while (op);
	if (some)
		wake_up_all(&domain->wait);
	return some;
}

/* Look again in a while, if there is something that nothing tells about. */
static void domain_look_later(struct fbufs_domain *domain)
{
	bool look = false;
	struct fdio_op *op;

	spin_lock(&domain->io_lock);
	list_for_each_entry(op, &domain->io_ops, link) {
		look = op->accepted ? !op->drained : op->stuck;
		if (look)
			break;
	}
	look &= !domain->io_ended;
	if (look)
		schedule_delayed_work(&domain->io_work, LOOK_JIFFIES);
	spin_unlock(&domain->io_lock);
}

static void domain_look(struct work_struct *work)
{
	struct fbufs_domain *domain = container_of(to_delayed_work(work), struct fbufs_domain,
						   io_work);
	bool stuck = false;
	struct fdio_op *op;

	if (fdio_collect(domain))
		domain->io_looks = 0;
	else if (!(++domain->io_looks % LOOKS_TO_NUDGE))
		nudge_network();
	spin_lock(&domain->io_lock);
	list_for_each_entry(op, &domain->io_ops, link) {
		if (op->accepted || !op->stuck)
			continue;
		op->stuck = false;
		WRITE_ONCE(op->ready, true);
		stuck = true;
	}
	spin_unlock(&domain->io_lock);
	if (stuck)
		wake_up_all(&domain->wait);
	domain_look_later(domain);
}

void fdio_begin(struct fbufs_domain *domain)
{
	INIT_DELAYED_WORK(&domain->io_work, domain_look);
}

static void orphans_look(struct work_struct *work)
{
	struct fdio_op *op, *next;
	static u32 looks;
	LIST_HEAD(home);
	bool more;

	spin_lock(&orphans_lock);
	list_for_each_entry_safe(op, next, &orphans, link)
		if (op_is_home(op))
			list_move(&op->link, &home);
	more = !list_empty(&orphans);
	spin_unlock(&orphans_lock);
	list_for_each_entry_safe(op, next, &home, link) {
		list_del_init(&op->link);
		drop_message(&op->aggregate);
		fdio_put(op);
	}
	if (!more)
		return;
	if (!(++looks % LOOKS_TO_NUDGE))
		nudge_network();
	schedule_delayed_work(&orphans_work, LOOK_JIFFIES);
}

/**
 * fdio_end - a domain ends: what has not been accepted is cancelled
 * @domain: the domain
 *
 * May be called more than once. Context: nobody works on operations any more.
 */
void fdio_end(struct fbufs_domain *domain)
{
	struct fdio_op *op;
	LIST_HEAD(ops);

	spin_lock(&domain->io_lock);
	domain->io_ended = true;
	spin_unlock(&domain->io_lock);
	cancel_delayed_work_sync(&domain->io_work);
	spin_lock(&domain->io_lock);
	list_splice_init(&domain->io_ops, &ops);
	spin_unlock(&domain->io_lock);
	list_for_each_entry(op, &ops, link) {
		op_disarm(op);
		if (op->file)
			fput(op->file);
		op->file = NULL;
		if (op->taken)
			drop_message(&op->taken);
		if (op->channel)
			channel_put(op->channel);
	}
	spin_lock(&orphans_lock);
	list_for_each_entry(op, &ops, link)
		op->domain = NULL;
	list_splice_tail(&ops, &orphans);
	spin_unlock(&orphans_lock);
	schedule_delayed_work(&orphans_work, 0);
}

/* Operations hold the module: there are none. */
void fdio_exit(void)
{
	cancel_delayed_work_sync(&orphans_work);
}

/*
 * Submission
 */

struct submit_cursor {
	const struct fbufs_slice __user *slices;
	u32 left;
	struct fbufs_end *(*find_end)(struct file *file);
};

/* Slices of own fbufs and of held messages, as for a channel. */
static int op_add_slices(struct fdio_op *op, struct submit_cursor *cursor)
{
	struct fbufs_domain *domain = op->domain;
	struct fbufs_pool *pool = domain->pool;
	struct fbufs_slice slice;
	int err = 0;
	u32 i;

	for (i = 0; i < op->args.slices && !err; i++) {
		if (user_fetch(&slice, &cursor->slices[i], sizeof(slice)))
			return -EFAULT;
		if (slice.hold) {
			op->borrows = true;
			err = transfer_add_held(domain, op->aggregate, &slice);
		} else if (pool) {
			spin_lock(&pool->lock);
			err = transfer_add(pool, NULL, op->aggregate, &slice);
			spin_unlock(&pool->lock);
		} else {
			err = slice.length ? -ENOENT : -EINVAL;
		}
	}
	if (!op->borrows && op->args.slices == 1)
		op->buffer.fbuf = slice.fbuf;
	return err;
}

static int op_prepare_write(struct fdio_op *op, struct submit_cursor *cursor)
{
	int err;

	if (op->args.length || op->args.end != -1 || !op->args.slices ||
	    op->args.flags & ~(FBUFS_IO_GIVE | FBUFS_IO_APPEND))
		return -EINVAL;
	if (op->args.slices > FBUFS_MAX_SLICES || op->args.slices > cursor->left)
		return -EMSGSIZE;
	if (op->args.address_length > sizeof(op->address) ||
	    !op->args.address != !op->args.address_length)
		return -EINVAL;
	op->address_length = op->args.address_length;
	if (copy_from_user(&op->address, u64_to_user_ptr(op->args.address), op->address_length))
		return -EFAULT;
	op->aggregate = aggregate_alloc(op->args.slices);
	if (!op->aggregate)
		return -ENOMEM;
	aggregate_begin(op->aggregate, NULL, op->args.flags & FBUFS_IO_GIVE ? 0 : MESSAGE_LENT, 0);
	err = op_add_slices(op, cursor);
	if (err) {
		transfer_undo(op->aggregate);
		return err;
	}
	transfer_secure(op->domain, &op->aggregate, 1);
	transfer_to_kernel(op->aggregate, !(op->args.flags & FBUFS_IO_GIVE));
	cursor->slices += op->args.slices;
	cursor->left -= op->args.slices;
	return 0;
}

/* The channel of a sending end of the own process. */
static int op_find_channel(struct fdio_op *op, struct fbufs_end *(*find_end)(struct file *file))
{
	struct file *file;
	struct fbufs_end *end;
	int err = -EINVAL;

	if (op->args.end == -1)
		return 0;
	file = fget(op->args.end);
	if (!file)
		return -EBADF;
	end = find_end(file);
	if (end && end->sending)
		err = end->domain != op->domain ? -EPERM :
		      !READ_ONCE(end->channel->present) ? -EPIPE : 0;
	/* op_class() will make a free list for it. */
	if (!err && !channel_pool(end))
		err = -ENXIO;
	if (!err)
		op->channel = channel_get(end->channel);
	fput(file);
	return err;
}

static int op_prepare_read(struct fdio_op *op, const struct submit_cursor *cursor)
{
	op->reads = true;
	if (!op->args.length || op->args.length > FBUFS_MAX_BYTES || op->args.slices ||
	    op->args.address_length || op->args.flags & ~(FBUFS_IO_ALL | FBUFS_IO_COPY))
		return -EINVAL;
	if (!op->domain->pool)
		return -ENXIO;
	return op_find_channel(op, cursor->find_end);
}

static int op_prepare(struct fdio_op *op, struct submit_cursor *cursor)
{
	int err;

	if (op->args.opcode > FBUFS_IO_READ)
		return -EINVAL;
	op->file = fget(op->args.fd);
	if (!op->file)
		return -EBADF;
	err = descriptor_check(op->file, &op->args);
	if (!err && op->args.address && !sock_from_file(op->file))
		err = -EINVAL;
	if (!err)
		err = op->args.opcode == FBUFS_IO_WRITE ? op_prepare_write(op, cursor) :
							  op_prepare_read(op, cursor);
	if (err)
		fput(op->file);
	return err;
}

/* Busy from the start: its first step is the submitter's. */
static int op_enlist(struct fbufs_domain *domain, struct fdio_op *op)
{
	bool blocked;

	spin_lock(&domain->io_lock);
	list_add_tail(&op->link, &domain->io_ops);
	blocked = op_blocker(domain, op);
	op->busy = !blocked;
	spin_unlock(&domain->io_lock);
	return !blocked;
}

/* Room for one more operation: 0, -EBUSY, -ENODEV. */
static int domain_reserve(struct fbufs_domain *domain)
{
	int err = 0;

	spin_lock(&domain->io_lock);
	if (domain->io_ended)
		err = -ENODEV;
	else if (domain->nio == FBUFS_MAX_IO)
		err = -EBUSY;
	else
		domain->nio++;
	spin_unlock(&domain->io_lock);
	return err;
}

static void domain_unreserve(struct fbufs_domain *domain)
{
	spin_lock(&domain->io_lock);
	domain->nio--;
	spin_unlock(&domain->io_lock);
}

static int submit_one(struct fbufs_domain *domain, const struct fbufs_io_op __user *from,
		      struct submit_cursor *cursor)
{
	struct fdio_op *op;
	int err = domain_reserve(domain);

	if (err)
		return err;
	op = op_alloc(domain);
	err = op ? user_fetch(&op->args, from, sizeof(op->args)) : -ENOMEM;
	if (!err)
		err = op_prepare(op, cursor);
	if (err) {
		if (op)
			fdio_put(op);
		domain_unreserve(domain);
		return err;
	}
	if (op_enlist(domain, op))
		op_step(domain, op);
	return 0;
}

static long submit_all(struct fbufs_domain *domain, const struct fbufs_io *io,
		       struct fbufs_end *(*find_end)(struct file *file))
{
	const struct fbufs_io_op __user *ops = u64_to_user_ptr(io->ops);
	struct submit_cursor cursor = {
		.slices = u64_to_user_ptr(io->slices), .left = io->nslices,
		.find_end = find_end,
	};
	int err = 0;
	u32 i;

	for (i = 0; i < io->nops && !err; i++)
		err = submit_one(domain, &ops[i], &cursor);
	i -= !!err;
	return i ? (long)i : err;
}

/*
 * Completions
 */

/* Whether the user can be told. Context: io_lock. */
static bool op_is_complete(const struct fdio_op *op)
{
	return op->accepted && !op->reported &&
	       (op->drained || op->args.flags & FBUFS_IO_GIVE);
}

/* Whether there is a completion, or something to go on with. */
bool fdio_has_news(struct fbufs_domain *domain)
{
	bool news = READ_ONCE(domain->io_look);
	struct fdio_op *op;

	spin_lock(&domain->io_lock);
	list_for_each_entry(op, &domain->io_ops, link)
		news |= !op->busy && (op_is_complete(op) ||
				      (!op->accepted && READ_ONCE(op->ready)));
	spin_unlock(&domain->io_lock);
	return news;
}

static struct fdio_op *next_complete(struct fbufs_domain *domain)
{
	struct fdio_op *op;

	spin_lock(&domain->io_lock);
	list_for_each_entry(op, &domain->io_ops, link) {
		if (op->busy || !op_is_complete(op))
			continue;
		op->busy = true;
		spin_unlock(&domain->io_lock);
		return op;
	}
	spin_unlock(&domain->io_lock);
	return NULL;
}

struct report_cursor {
	struct fbufs_completion __user *completions;
	struct fbufs_slice __user *slices;
	u32 room;
	u32 slices_left;
};

static int report_slices(const struct fbufs_aggregate *taken, struct fbufs_slice __user *to)
{
	u32 i;

	for (i = 0; i < taken->nsegments; i++) {
		const struct fbufs_segment *segment = &taken->segments[i];
		const struct fbuf *fbuf = segment->fbuf;
		struct fbufs_slice slice = {
			.fbuf = fbuf->handle,
			.position = pool_position(fbuf_pool(fbuf), fbuf, segment->offset),
			.offset = segment->offset,
			.length = segment->length,
		};

		if (user_store(&to[i], &slice, sizeof(slice)))
			return -EFAULT;
	}
	return 0;
}

static int report_address(const struct fdio_op *op)
{
	if (!op->reads || !op->args.address || !op->address_length)
		return 0;
	return copy_to_user(u64_to_user_ptr(op->args.address), &op->address,
			    op->address_length) ? -EFAULT : 0;
}

/* Tell the user about a busy, complete operation. */
static int report_one(struct fbufs_domain *domain, struct fdio_op *op,
		      struct report_cursor *cursor)
{
	struct fbufs_completion completion = {
		.cookie = op->args.cookie,
		.result = op->done ?: op->error,
		.copied = op->copied,
		.fbuf = op->reads ? op->buffer.fbuf : 0,
		.position = op->reads ? op->buffer.position : 0,
		.flags = op->how,
		.reason = op->reason,
		.slices = op->taken ? op->taken->nsegments : 0,
		.address_length = op->reads ? op->address_length : 0,
	};
	int err;

	if (completion.slices > cursor->slices_left)
		return -EMSGSIZE;
	if (op->taken) {
		err = domain_prepare_holds(domain, &completion.message, 1);
		if (err < 0)
			return err;
	}
	err = user_store(cursor->completions, &completion, sizeof(completion));
	if (!err)
		err = report_address(op);
	if (!err && op->taken) {
		err = report_slices(op->taken, cursor->slices);
		if (!err) {
			map_show(domain, &op->taken, 1, 0, op->taken->length > FDIO_SHOWN);
			err = domain_commit_holds(domain, &completion.message, &op->taken, 1);
		}
	}
	if (err && op->taken)
		domain_cancel_holds(domain, &completion.message, 1);
	if (err)
		return err;
	op->taken = NULL;
	/* Back from a write: its process is likely to fill it again. */
	if (!op->reads && op->buffer.fbuf && !(op->args.flags & FBUFS_IO_GIVE))
		map_give(domain, &op->buffer, 1);
	cursor->completions++;
	cursor->room--;
	cursor->slices += completion.slices;
	cursor->slices_left -= completion.slices;
	return 0;
}

static int report_all(struct fbufs_domain *domain, struct report_cursor *cursor)
{
	struct fbufs_channel *channel;
	struct fdio_op *op;
	int err = 0;

	while (cursor->room && !err) {
		op = next_complete(domain);
		if (!op)
			break;
		err = report_one(domain, op, cursor);
		if (!err) {
			channel = op->channel;
			op->channel = NULL;
			op->reported = true;
			domain_unreserve(domain);
			if (channel)
				channel_put(channel);
		}
		op_unbusy(domain, op);
	}
	return err;
}

/* Whether something drains that somebody waits for. */
static bool domain_drains(struct fbufs_domain *domain)
{
	struct fdio_op *op;
	bool drains = false;

	spin_lock(&domain->io_lock);
	list_for_each_entry(op, &domain->io_ops, link) {
		drains = op->accepted ? !op->drained && !op->reported : op->stuck;
		if (drains)
			break;
	}
	spin_unlock(&domain->io_lock);
	return drains;
}

/* Wait for news: 0, -EINTR. */
static int domain_wait(struct fbufs_domain *domain)
{
	bool drains = domain_drains(domain);
	int err;

	/* No operation goes on then; one that could would be news, time and again. */
	if (signal_pending(current))
		return -EINTR;
	if (!drains)
		err = wait_event_interruptible(domain->wait, fdio_has_news(domain) ||
					       READ_ONCE(domain->dead));
	else
		err = wait_event_interruptible_hrtimeout(domain->wait, fdio_has_news(domain),
							 ns_to_ktime(LOOK_NS));
	return err == -ERESTARTSYS ? -EINTR : 0;
}

static void domain_step_all(struct fbufs_domain *domain)
{
	struct fdio_op *op;

	while ((op = next_step(domain)) && !signal_pending(current))
		op_step(domain, op);
	if (op) {
		WRITE_ONCE(op->ready, true);
		op_unbusy(domain, op);
	}
}

/**
 * fdio_call - FBUFS_IO
 * @domain: the caller's
 * @io: the arguments; @out_completed is set
 * @wait: for completions
 * @find_end: the end that a file is, or NULL
 *
 * Return: operations submitted, or an error of FBUFS_IO.
 */
long fdio_call(struct fbufs_domain *domain, struct fbufs_io *io, bool wait,
	       struct fbufs_end *(*find_end)(struct file *file))
{
	struct report_cursor cursor = {
		.completions = u64_to_user_ptr(io->completions),
		.slices = u64_to_user_ptr(io->out_slices),
		.room = io->room, .slices_left = io->slices_room,
	};
	long submitted = submit_all(domain, io, find_end);
	int err;

	io->out_completed = 0;
	if (submitted < 0)
		return submitted;
	for (;;) {
		/* Before looking: who sets it again has something new. */
		WRITE_ONCE(domain->io_look, false);
		domain_step_all(domain);
		fdio_collect(domain);
		err = report_all(domain, &cursor);
		io->out_completed = io->room - cursor.room;
		if (err || io->out_completed >= io->wait || !READ_ONCE(domain->nio))
			break;
		domain_look_later(domain);
		err = wait ? domain_wait(domain) : -EAGAIN;
		if (err)
			break;
	}
	domain_look_later(domain);
	/* What was submitted or reported cannot be taken back by an error. */
	return submitted || io->out_completed ? submitted : err;
}

/**
 * fdio_cancel - FBUFS_CANCEL
 * @domain: the caller's
 * @cookie: of the operations
 *
 * Return: how many were given up, or -ENOENT.
 */
long fdio_cancel(struct fbufs_domain *domain, u64 cookie)
{
	struct fdio_op *op;
	long n = 0;

	for (;;) {
		bool found = false;

		spin_lock(&domain->io_lock);
		list_for_each_entry(op, &domain->io_ops, link) {
			found = !op->accepted && !op->busy && op->args.cookie == cookie;
			if (found)
				break;
		}
		if (found)
			op->busy = true;
		spin_unlock(&domain->io_lock);
		if (!found)
			break;
		op_accept(op, -ECANCELED);
		if (op->reads) {
			op_finish_taken(op);
			op_finish_target(op);
		}
		spin_lock(&domain->io_lock);
		op->accepted = true;
		op->busy = false;
		op->drained = op->reads;
		ops_unblock(domain);
		spin_unlock(&domain->io_lock);
		n++;
	}
	if (n)
		wake_up_all(&domain->wait);
	return n ? n : -ENOENT;
}
