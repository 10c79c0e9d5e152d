// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * Sinks: the kernel as receiver. A sink is a receiving end that is attached to a
 * domain of its own; the messages that a driver holds are in that domain's table,
 * as a program's are, and are named by handles: a second release finds nothing.
 */

#include <linux/file.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "aggregate.h"
#include "channel.h"
#include "chrdev.h"
#include "domain.h"
#include "kapi.h"
#include "transfer.h"

/* Messages that are received at a time. */
#define BATCH 16

/**
 * struct fbufs_sink - see the head of this file
 * @owner: the driver's module, with a reference
 * @file: of the end, with a reference
 * @end: the receiving end
 * @domain: the kernel's, for this sink
 * @ready: see fbufs_sink_open()
 * @data: for it
 * @queued: on the wait queue of the end
 */
struct fbufs_sink {
	struct module *owner;
	struct file *file;
	struct fbufs_end *end;
	struct fbufs_domain *domain;
	void (*ready)(void *data);
	void *data;
	struct wait_queue_entry queued;
};

static int sink_is_ready(struct wait_queue_entry *entry, unsigned int mode, int flags, void *key)
{
	struct fbufs_sink *sink = container_of(entry, struct fbufs_sink, queued);

	sink->ready(sink->data);
	return 0;
}

struct fbufs_sink *__fbufs_sink_open(int receiver, void (*ready)(void *data), void *data,
				     struct module *owner)
{
	struct fbufs_sink *sink;
	int err = -EBADF;

	sink = kzalloc(sizeof(*sink), GFP_KERNEL_ACCOUNT);
	if (!sink)
		return ERR_PTR(-ENOMEM);
	sink->owner = owner;
	sink->ready = ready;
	sink->data = data;
	sink->file = fget(receiver);
	sink->end = sink->file ? chrdev_end(sink->file) : NULL;
	if (!sink->end || sink->end->sending)
		goto err_put_file;
	sink->domain = domain_create_kernel();
	err = -ENOMEM;
	if (!sink->domain)
		goto err_put_file;
	err = channel_attach_kernel(sink->end, sink->domain, NULL);
	if (err)
		goto err_put_domain;
	/* The caller runs in both. */
	__module_get(THIS_MODULE);
	__module_get(owner);
	init_waitqueue_func_entry(&sink->queued, sink_is_ready);
	if (ready)
		add_wait_queue(&sink->end->wait, &sink->queued);
	if (ready && channel_has_input(sink->end))
		ready(data);
	return sink;

err_put_domain:
	domain_put(sink->domain);
err_put_file:
	if (sink->file)
		fput(sink->file);
	kfree(sink);
	return ERR_PTR(err);
}
EXPORT_SYMBOL_NS_GPL(__fbufs_sink_open, FBUFS_NAMESPACE);

/**
 * fbufs_sink_close - give a receiving end of a channel back
 * @sink: the sink
 *
 * Whatever it holds is released; what is mapped for a device is released by
 * fbufs_unmap(). @ready is not called afterwards.
 *
 * Context: May sleep; not from @ready.
 */
void fbufs_sink_close(struct fbufs_sink *sink)
{
	might_sleep();
	if (sink->ready)
		remove_wait_queue(&sink->end->wait, &sink->queued);
	transfer_end_domain(sink->domain);
	domain_put(sink->domain);
	fput(sink->file);
	module_put(sink->owner);
	kfree(sink);
	module_put(THIS_MODULE);
}
EXPORT_SYMBOL_NS_GPL(fbufs_sink_close, FBUFS_NAMESPACE);

/**
 * fbufs_sink_receive - receive messages
 * @sink: the sink
 * @inputs: where to put them; the sink holds them until they are released
 * @n: room there
 *
 * Never waits for messages.
 *
 * Context: May sleep.
 * Return: how many; 0: the sending end is gone and everything was received; -EAGAIN:
 * none is there; -ENOBUFS: the sink holds FBUFS_MAX_HELD messages; -ENOMEM; -EDEADLK:
 * called where it may not sleep.
 */
int fbufs_sink_receive(struct fbufs_sink *sink, struct fbufs_input *inputs, u32 n)
{
	struct channel_input batch[BATCH] __uninitialized;
	int done, i;

	if (!kapi_may_sleep(_RET_IP_))
		return -EDEADLK;
	done = channel_receive_to_kernel(sink->end, batch, min_t(u32, n, BATCH));
	for (i = 0; i < done; i++)
		inputs[i] = (struct fbufs_input){
			.message = batch[i].message, .cookie = batch[i].cookie,
			.length = batch[i].length, .slices = batch[i].slices,
		};
	return done;
}
EXPORT_SYMBOL_NS_GPL(fbufs_sink_receive, FBUFS_NAMESPACE);

/**
 * fbufs_sink_wait - wait for messages, or the end of the stream
 * @sink: the sink
 *
 * Context: May sleep.
 * Return: 0; -ERESTARTSYS: a signal came; -EDEADLK: called where it may not sleep.
 */
int fbufs_sink_wait(struct fbufs_sink *sink)
{
	if (!kapi_may_sleep(_RET_IP_))
		return -EDEADLK;
	return wait_event_interruptible(sink->end->wait, channel_has_input(sink->end));
}
EXPORT_SYMBOL_NS_GPL(fbufs_sink_wait, FBUFS_NAMESPACE);

/* A reference to a held message, or NULL. */
struct fbufs_aggregate *sink_hold(struct fbufs_sink *sink, u64 message)
{
	return domain_get_hold(sink->domain, message);
}

/**
 * fbufs_sink_view - look at a slice of a held message
 * @sink: the sink
 * @message: its handle
 * @slice: which slice
 * @view: where to put the answer
 *
 * Context: May sleep.
 * Return: 0; -ENOENT: the sink holds no such message; -ERANGE: it has no such slice;
 * -ENOMEM; -EDEADLK: called where it may not sleep.
 */
int fbufs_sink_view(struct fbufs_sink *sink, u64 message, u32 slice, struct fbufs_view *view)
{
	struct fbufs_aggregate *held;
	int err = -ERANGE;
	void *data;

	if (!kapi_may_sleep(_RET_IP_))
		return -EDEADLK;
	held = sink_hold(sink, message);
	if (!held)
		return kapi_misuse(_RET_IP_, -ENOENT, "a message is not held, or no longer");
	if (slice < held->nsegments) {
		const struct fbufs_segment *segment = &held->segments[slice];

		data = fbuf_address(segment->fbuf);
		err = data ? 0 : -ENOMEM;
		*view = (struct fbufs_view){
			.data = data + segment->offset,
			.length = segment->length,
			.locked = access_is_locked(&segment->fbuf->access),
		};
	}
	transfer_drop(&held, 1);
	return err;
}
EXPORT_SYMBOL_NS_GPL(fbufs_sink_view, FBUFS_NAMESPACE);

/* Do something with held messages, TRANSFER_BATCH at a time. */
static int sink_each(struct fbufs_sink *sink, const u64 *messages, u32 n, unsigned long caller,
		     int (*step)(struct fbufs_domain *domain, const u64 *handles, u32 n))
{
	int done = 0, err;

	if (!kapi_may_sleep(caller))
		return -EDEADLK;
	while (done < n) {
		err = step(sink->domain, messages + done, min_t(u32, n - done, TRANSFER_BATCH));
		if (err < 0)
			return done ?: kapi_misuse(caller, err,
						   "a message is not held, or no longer");
		done += err;
	}
	return done;
}

/**
 * fbufs_sink_secure - take the originators' write access to held messages away
 * @sink: the sink
 * @messages: their handles
 * @n: how many
 *
 * For messages of volatile channels; no change to those that are locked.
 *
 * Context: May sleep.
 * Return: of how many nobody can write them any more; -ENOENT: the sink does not hold
 * the first; -EDEADLK: called where it may not sleep.
 */
int fbufs_sink_secure(struct fbufs_sink *sink, const u64 *messages, u32 n)
{
	return sink_each(sink, messages, n, _RET_IP_, transfer_secure_held);
}
EXPORT_SYMBOL_NS_GPL(fbufs_sink_secure, FBUFS_NAMESPACE);

/**
 * fbufs_sink_release - end the use of messages
 * @sink: the sink
 * @messages: their handles
 * @n: how many
 *
 * Context: May sleep.
 * Return: how many; -ENOENT: the sink does not hold the first; -EDEADLK: called where
 * it may not sleep.
 */
int fbufs_sink_release(struct fbufs_sink *sink, const u64 *messages, u32 n)
{
	return sink_each(sink, messages, n, _RET_IP_, transfer_release);
}
EXPORT_SYMBOL_NS_GPL(fbufs_sink_release, FBUFS_NAMESPACE);
