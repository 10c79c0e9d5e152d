// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * The calls of domains and ends. Arguments are checked here for what their form
 * says (size, flags, reserved fields, counts), below for what they mean.
 */

#include <linux/file.h>
#include <linux/nospec.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "channel.h"
#include "chrdev.h"
#include "domain.h"
#include "fdio.h"
#include "map.h"
#include "pool.h"
#include "send_file.h"
#include "transfer.h"
#include "user.h"

union ioctl_args {
	struct fbufs_query query;
	struct fbufs_pool_create pool_create;
	struct fbufs_pool_info pool_info;
	struct fbufs_alloc alloc;
	struct fbufs_handles handles;
	struct fbufs_notices notices;
	struct fbufs_channel_create channel_create;
	struct fbufs_stats stats;
	struct fbufs_locate locate;
	struct fbufs_attach attach;
	struct fbufs_end_info end_info;
	struct fbufs_add_receiver add_receiver;
	struct fbufs_io io;
	struct fbufs_cancel cancel;
	struct fbufs_make_mutable make_mutable;
	struct fbufs_send_file send_file;
	struct fbufs_send send;
	struct fbufs_receive receive;
	struct fbufs_call call;
	/* Every structure begins like this. */
	struct {
		u32 size;
		u32 flags;
	};
};

/**
 * struct ioctl_call - one call
 * @size: of its structure; 0: there is no such call
 * @flags: those that it knows
 * @out: where in the structure that begins which goes back to the user, a
 *	multiple of 8; 0: nothing does
 * @anybody: not only the process of the domain may call it
 * @domain: for calls on domains
 * @end: for calls on ends, which check the caller themselves
 */
struct ioctl_call {
	u32 size;
	u32 flags;
	u32 out;
	bool anybody;
	long (*domain)(struct file *file, struct fbufs_domain *domain, union ioctl_args *args);
	long (*end)(struct file *file, struct fbufs_end *end, union ioctl_args *args);
};

/* From this member on a structure goes back. */
#define OUT(_type, _member) round_down(offsetof(struct _type, _member), 8)

static bool may_wait(const struct file *file, u32 flags)
{
	return !(flags & FBUFS_DONTWAIT) && !(file->f_flags & O_NONBLOCK);
}

/*
 * Domains
 */

static long do_query(struct file *file, struct fbufs_domain *domain, union ioctl_args *args)
{
	args->query = (struct fbufs_query){
		.size = sizeof(args->query),
		.out_version = FBUFS_ABI_VERSION,
		.out_max_receivers = FBUFS_MAX_RECEIVERS,
		.out_max_depth = FBUFS_MAX_DEPTH,
		.out_max_slices = FBUFS_MAX_SLICES,
		.out_max_held = FBUFS_MAX_HELD,
		.out_page_size = PAGE_SIZE,
		.out_max_bytes = FBUFS_MAX_BYTES,
		.out_max_pool = FBUFS_MAX_POOL,
	};
	return 0;
}

static long do_pool_create(struct file *file, struct fbufs_domain *domain,
			   union ioctl_args *args)
{
	struct fbufs_pool_create *create = &args->pool_create;
	struct fbufs_pool *pool;
	long err = 0;

	if (create->__reserved ||
	    create->flags == (FBUFS_POOL_STORE_WAIT | FBUFS_POOL_STORE_COPY))
		return -EINVAL;
	pool = pool_create(domain, create->bytes, create->flags);
	if (IS_ERR(pool))
		return PTR_ERR(pool);
	/* With the mutex, the end of the domain sees the pool, or we see the end. */
	mutex_lock(&domain->members_mutex);
	if (domain->dead)
		err = -ENODEV;
	else
		WRITE_ONCE(domain->pool, pool);
	mutex_unlock(&domain->members_mutex);
	if (err) {
		pool_put(pool);
		return err;
	}
	create->out_pool = pool->id;
	create->out_span = (u64)pool->span << PAGE_SHIFT;
	/* Who polls may have begun without the pool. */
	wake_up_all(&domain->wait);
	return 0;
}

static long do_pool_info(struct file *file, struct fbufs_domain *domain,
			 union ioctl_args *args)
{
	struct fbufs_pool_info *info = &args->pool_info;
	struct fbufs_pool *pool;
	long err = -ENOENT;

	if (info->__reserved)
		return -EINVAL;
	pool = pool_get_by_id(info->pool);
	if (!pool)
		return -ENOENT;
	if (map_may_window(domain, pool)) {
		info->out_span = (u64)pool->span << PAGE_SHIFT;
		info->out_bytes = (u64)pool->limit << PAGE_SHIFT;
		info->out_used = (u64)READ_ONCE(pool->pages) << PAGE_SHIFT;
		err = 0;
	}
	pool_put(pool);
	return err;
}

static int alloc_unbound(struct fbufs_domain *domain, u64 bytes, struct fbufs_buffer *buffers,
			 u32 n)
{
	struct fbufs_pool *pool = READ_ONCE(domain->pool);
	struct fbufs_class *class;

	if (!pool)
		return -ENXIO;
	if (!bytes || bytes > FBUFS_MAX_BYTES)
		return -EINVAL;
	class = pool_class(pool, &pool->unbound, NULL, DIV_ROUND_UP_ULL(bytes, PAGE_SIZE));
	return class ? transfer_alloc(domain, class, buffers, n) : -ENOMEM;
}

/* Allocate up to a batch for an end, or without a channel, and report it. */
static __always_inline int alloc_batch(struct fbufs_domain *domain, struct fbufs_end *end,
				       u64 bytes, struct fbufs_buffer __user *out, u32 n)
{
	struct fbufs_buffer buffers[TRANSFER_BATCH] __uninitialized;
	int done = end ? channel_alloc(end, bytes, buffers, n) :
			 alloc_unbound(domain, bytes, buffers, n);

	return done < 0 ? done : transfer_report(domain, buffers, done, out);
}

/* As alloc_batch(), after it has returned -EAGAIN. */
static noinline int alloc_batch_again(struct fbufs_domain *domain, struct fbufs_end *end,
				      u64 bytes, struct fbufs_buffer __user *out, u32 n, bool wait)
{
	int done;

	for (;;) {
		/* What the kernel is done with may be on its way. */
		fdio_collect(domain);
		done = alloc_batch(domain, end, bytes, out, n);
		if (done != -EAGAIN || !wait)
			return done;
		done = transfer_wait(domain);
		if (done)
			return done;
	}
}

/* Allocate the rest of a vector of which @done are there; 0: all of it. */
static noinline long alloc_rest(struct file *file, struct fbufs_domain *domain,
				struct fbufs_end *end, const struct fbufs_alloc *alloc, u32 done)
{
	struct fbufs_buffer __user *out = u64_to_user_ptr(alloc->buffers);
	long n = 0;
	u32 want;

	while (done < alloc->count) {
		want = min_t(u32, alloc->count - done, TRANSFER_BATCH);
		n = alloc_batch(domain, end, alloc->bytes, out + done, want);
		if (n == -EAGAIN)
			n = alloc_batch_again(domain, end, alloc->bytes, out + done, want,
					      !done && may_wait(file, alloc->flags));
		if (n < 0)
			break;
		done += n;
		if (n < want)
			break;
	}
	return done ? done : n;
}

static bool is_well_formed_alloc(const struct fbufs_alloc *alloc)
{
	return !alloc->__reserved && alloc->count && alloc->count <= FBUFS_MAX_VECTOR;
}

static long do_alloc(struct file *file, struct fbufs_domain *domain, union ioctl_args *args)
{
	if (!is_well_formed_alloc(&args->alloc))
		return -EINVAL;
	return alloc_rest(file, domain, NULL, &args->alloc, 0);
}

static __always_inline int some_handles(struct fbufs_domain *domain, const u64 __user *handles,
					u32 n, int (*some)(struct fbufs_domain *domain,
							   const u64 *handles, u32 n))
{
	u64 batch[TRANSFER_BATCH] __uninitialized;

	if (user_fetch_vector(batch, handles, sizeof(*batch), n, TRANSFER_BATCH))
		return -EFAULT;
	return some(domain, batch, n);
}

/* Call @some for the handles of a vector, a batch at a time, until one fails. */
static __always_inline long for_handles(struct fbufs_domain *domain,
					const struct fbufs_handles *args,
					int (*some)(struct fbufs_domain *domain,
						    const u64 *handles, u32 n))
{
	const u64 __user *handles = u64_to_user_ptr(args->handles);
	u32 done = 0;
	long n = 0;

	if (args->__reserved || args->count > FBUFS_MAX_VECTOR)
		return -EINVAL;
	while (done < args->count) {
		n = some_handles(domain, handles + done,
				 min_t(u32, args->count - done, TRANSFER_BATCH), some);
		if (n < 0)
			break;
		done += n;
	}
	return done ? done : n;
}

static long do_free(struct file *file, struct fbufs_domain *domain, union ioctl_args *args)
{
	if (!READ_ONCE(domain->pool))
		return -ENXIO;
	return for_handles(domain, &args->handles, transfer_free);
}

static long do_release(struct file *file, struct fbufs_domain *domain, union ioctl_args *args)
{
	return for_handles(domain, &args->handles, transfer_release);
}

static long do_secure(struct file *file, struct fbufs_domain *domain, union ioctl_args *args)
{
	return for_handles(domain, &args->handles, transfer_secure_held);
}

/* Context: under the pool's notice_mutex. */
static long read_notices(struct fbufs_pool *pool, u64 __user *out, u32 count)
{
	u64 batch[TRANSFER_BATCH];
	u32 done = 0, n;

	while (done < count) {
		n = pool_peek_notices(pool, batch, min_t(u32, count - done, TRANSFER_BATCH));
		if (!n)
			break;
		if (user_store(out + done, batch, n * sizeof(*batch)))
			return done ? (long)done : -EFAULT;
		pool_drop_notices(pool, n);
		done += n;
	}
	return done;
}

static long do_notices(struct file *file, struct fbufs_domain *domain, union ioctl_args *args)
{
	struct fbufs_notices *notices = &args->notices;
	struct fbufs_pool *pool = READ_ONCE(domain->pool);
	long done;

	if (notices->__reserved || notices->count > FBUFS_MAX_VECTOR)
		return -EINVAL;
	if (!pool)
		return -ENXIO;
	if (mutex_lock_interruptible(&pool->notice_mutex))
		return -EINTR;
	done = read_notices(pool, u64_to_user_ptr(notices->fbufs), notices->count);
	mutex_unlock(&pool->notice_mutex);
	return done;
}

/* Install files for ends; either all descriptors are there, or none. */
static int install_ends(struct fbufs_end **ends, u32 n, bool nonblock, s32 *fds)
{
	struct file *files[2];
	u32 nfds, nfiles = 0, i;
	int err = 0;

	for (nfds = 0; nfds < n; nfds++) {
		err = get_unused_fd_flags(O_CLOEXEC);
		if (err < 0)
			goto err_put;
		fds[nfds] = err;
	}
	for (; nfiles < n; nfiles++) {
		files[nfiles] = chrdev_end_file(ends[nfiles], nonblock);
		if (IS_ERR(files[nfiles])) {
			err = PTR_ERR(files[nfiles]);
			goto err_put;
		}
	}
	for (i = 0; i < n; i++)
		fd_install(fds[i], files[i]);
	return 0;

err_put:
	/* A file that was made owns its end; the others' ends are closed here. */
	for (i = 0; i < nfiles; i++)
		fput(files[i]);
	for (; i < n; i++)
		channel_end_close(ends[i]);
	while (nfds--)
		put_unused_fd(fds[nfds]);
	return err;
}

static long do_channel_create(struct file *file, struct fbufs_domain *domain,
			      union ioctl_args *args)
{
	struct fbufs_channel_create *create = &args->channel_create;
	struct fbufs_end *ends[2];
	s32 fds[2];
	int err;

	ends[0] = channel_create(create->flags, create->depth);
	if (IS_ERR(ends[0]))
		return PTR_ERR(ends[0]);
	create->out_channel = ends[0]->channel->id;
	ends[1] = channel_add_receiver(ends[0]->channel);
	if (IS_ERR(ends[1])) {
		err = PTR_ERR(ends[1]);
		goto err_close_sender;
	}
	if (create->flags & FBUFS_CHANNEL_ATTACH_SENDER) {
		err = channel_attach(ends[0], domain);
		if (err)
			goto err_close_receiver;
	}
	err = install_ends(ends, 2, create->flags & FBUFS_CHANNEL_NONBLOCK, fds);
	if (err)
		return err;
	create->out_sender = fds[0];
	create->out_receiver = fds[1];
	return 0;

err_close_receiver:
	channel_end_close(ends[1]);
err_close_sender:
	channel_end_close(ends[0]);
	return err;
}

static int put_numbers(u64 out, u32 room, const atomic64_t *numbers, u32 n)
{
	u64 __user *to = u64_to_user_ptr(out);
	u32 i;

	for (i = 0; out && i < min(room, n); i++)
		if (put_user((u64)atomic64_read(&numbers[i]), &to[i]))
			return -EFAULT;
	return 0;
}

static long do_stats(struct file *file, struct fbufs_domain *domain, union ioctl_args *args)
{
	struct fbufs_stats *stats = &args->stats;
	int err;

	err = put_numbers(stats->counters, stats->ncounters, domain->counters.n, FBUFS_COUNTERS);
	return err ? err : put_numbers(stats->gauges, stats->ngauges, fbufs_gauges, FBUFS_GAUGES);
}

static long do_locate(struct file *file, struct fbufs_domain *domain, union ioctl_args *args)
{
	struct fbufs_locate *locate = &args->locate;
	struct fbufs_pool *pool = READ_ONCE(domain->pool);
	struct fbuf *fbuf;
	u64 page;

	if (!pool)
		return -ENXIO;
	page = (locate->position - pool_offset(pool)) >> PAGE_SHIFT;
	if (locate->position < pool_offset(pool) || page >= pool->span)
		return -ERANGE;
	spin_lock(&pool->lock);
	fbuf = pool_find(pool, page);
	if (fbuf && fbuf->access.state != FBUFS_STATE_EMPTY) {
		bool sent = fbuf->access.state == FBUFS_STATE_SENT;

		locate->out_fbuf = fbuf->handle;
		locate->out_first = pool_position(pool, fbuf, 0);
		locate->out_bytes = (u64)fbuf_npages(fbuf) << PAGE_SHIFT;
		locate->out_state = fbuf->access.state;
		locate->out_locked = access_is_locked(&fbuf->access);
		locate->out_channel = fbuf->home->channel ? fbuf->home->channel->id : 0;
		locate->out_holders = sent ? fbuf->refs : 0;
	} else {
		*locate = (struct fbufs_locate){
			.size = sizeof(*locate), .position = locate->position,
		};
	}
	spin_unlock(&pool->lock);
	return 0;
}

static long do_io(struct file *file, struct fbufs_domain *domain, union ioctl_args *args)
{
	struct fbufs_io *io = &args->io;

	if (io->nops > FBUFS_MAX_VECTOR || io->room > FBUFS_MAX_VECTOR || io->wait > io->room)
		return -EINVAL;
	return fdio_call(domain, io, may_wait(file, io->flags), chrdev_end);
}

static long do_cancel(struct file *file, struct fbufs_domain *domain, union ioctl_args *args)
{
	return fdio_cancel(domain, args->cancel.cookie);
}

static long do_make_mutable(struct file *file, struct fbufs_domain *domain,
			    union ioctl_args *args)
{
	if (args->make_mutable.__reserved)
		return -EINVAL;
	if (!READ_ONCE(domain->pool))
		return -ENXIO;
	return transfer_take_over(domain, &args->make_mutable);
}

static long do_send_file(struct file *file, struct fbufs_domain *domain, union ioctl_args *args)
{
	return send_file(domain, &args->send_file, may_wait(file, args->send_file.flags));
}

#define DOMAIN_CALL(_cmd, _member, _flags, _out, _fn) \
	[_IOC_NR(_cmd)] = { .size = sizeof(((union ioctl_args *)0)->_member), \
	  .flags = (_flags), .out = (_out), .domain = (_fn) }

/* By their numbers. */
static const struct ioctl_call domain_calls[] = {
	[_IOC_NR(FBUFS_QUERY)] = { .size = sizeof(struct fbufs_query),
				   .out = OUT(fbufs_query, out_version),
				   .anybody = true, .domain = do_query },
	DOMAIN_CALL(FBUFS_POOL_CREATE, pool_create,
		    FBUFS_POOL_STORE_WAIT | FBUFS_POOL_STORE_COPY,
		    OUT(fbufs_pool_create, out_pool), do_pool_create),
	DOMAIN_CALL(FBUFS_POOL_INFO, pool_info, 0, OUT(fbufs_pool_info, out_span), do_pool_info),
	DOMAIN_CALL(FBUFS_ALLOC, alloc, FBUFS_DONTWAIT, 0, do_alloc),
	DOMAIN_CALL(FBUFS_FREE, handles, 0, 0, do_free),
	DOMAIN_CALL(FBUFS_RELEASE, handles, 0, 0, do_release),
	DOMAIN_CALL(FBUFS_SECURE, handles, 0, 0, do_secure),
	DOMAIN_CALL(FBUFS_NOTICES, notices, 0, 0, do_notices),
	DOMAIN_CALL(FBUFS_CHANNEL_CREATE, channel_create,
		    FBUFS_CHANNEL_VOLATILE | FBUFS_CHANNEL_UNCACHED |
		    FBUFS_CHANNEL_ATTACH_SENDER | FBUFS_CHANNEL_NONBLOCK,
		    OUT(fbufs_channel_create, out_channel), do_channel_create),
	DOMAIN_CALL(FBUFS_STATS, stats, 0, 0, do_stats),
	DOMAIN_CALL(FBUFS_LOCATE, locate, 0, OUT(fbufs_locate, out_fbuf), do_locate),
	DOMAIN_CALL(FBUFS_IO, io, FBUFS_DONTWAIT, OUT(fbufs_io, out_completed), do_io),
	DOMAIN_CALL(FBUFS_CANCEL, cancel, 0, 0, do_cancel),
	DOMAIN_CALL(FBUFS_MAKE_MUTABLE, make_mutable, 0, OUT(fbufs_make_mutable, out_fbuf),
		    do_make_mutable),
	DOMAIN_CALL(FBUFS_SEND_FILE, send_file, FBUFS_DONTWAIT, OUT(fbufs_send_file, out_how),
		    do_send_file),
};

/*
 * Ends
 */

static long do_attach(struct file *file, struct fbufs_end *end, union ioctl_args *args)
{
	struct fbufs_domain *domain;
	struct file *domain_file;
	long err = -EINVAL;

	if (args->attach.__reserved)
		return -EINVAL;
	domain_file = fget(args->attach.domain);
	if (!domain_file)
		return -EBADF;
	domain = chrdev_domain(domain_file);
	if (domain)
		err = channel_attach(end, domain);
	fput(domain_file);
	return err;
}

static long do_end_info(struct file *file, struct fbufs_end *end, union ioctl_args *args)
{
	channel_end_info(end, &args->end_info);
	return 0;
}

static long do_add_receiver(struct file *file, struct fbufs_end *end, union ioctl_args *args)
{
	struct fbufs_add_receiver *add = &args->add_receiver;
	struct fbufs_end *receiver;
	long err;

	if (!end->sending)
		return -ENOTTY;
	if (add->__reserved)
		return -EINVAL;
	/* A sender that is the kernel's is nobody's process's: who has it may add receivers. */
	err = channel_is_kernels(end) ? 0 : channel_check_end(end);
	if (err)
		return err;
	receiver = channel_add_receiver(end->channel);
	if (IS_ERR(receiver))
		return PTR_ERR(receiver);
	return install_ends(&receiver, 1, add->flags & FBUFS_CHANNEL_NONBLOCK,
			    &add->out_receiver);
}

static long do_alloc_end(struct file *file, struct fbufs_end *end, union ioctl_args *args)
{
	const struct fbufs_alloc *alloc = &args->alloc;
	int n;

	if (!end->sending)
		return -ENOTTY;
	n = channel_check_end(end);
	if (n)
		return n;
	if (!is_well_formed_alloc(alloc))
		return -EINVAL;
	/* Mostly that is all of it, and was at home. */
	n = alloc_batch(end->domain, end, alloc->bytes, u64_to_user_ptr(alloc->buffers),
			min_t(u32, alloc->count, TRANSFER_BATCH));
	if (n == TRANSFER_BATCH || n == -EAGAIN)
		return alloc_rest(file, end->domain, end, alloc, max(n, 0));
	return n;
}

static bool is_well_formed_send(const struct fbufs_send *send)
{
	return send->count <= FBUFS_MAX_VECTOR && send->refill_count <= FBUFS_MAX_VECTOR;
}

static bool is_well_formed_receive(const struct fbufs_receive *receive)
{
	return receive->count <= FBUFS_MAX_VECTOR && receive->nrelease <= FBUFS_MAX_VECTOR;
}

static long do_send(struct file *file, struct fbufs_end *end, union ioctl_args *args)
{
	struct fbufs_send *send = &args->send;

	if (!end->sending)
		return -ENOTTY;
	if (!is_well_formed_send(send))
		return -EINVAL;
	return channel_send(end, send, may_wait(file, send->flags));
}

static long do_receive(struct file *file, struct fbufs_end *end, union ioctl_args *args)
{
	struct fbufs_receive *receive = &args->receive;

	if (end->sending)
		return -ENOTTY;
	if (!is_well_formed_receive(receive))
		return -EINVAL;
	return channel_receive(end, receive, may_wait(file, receive->flags));
}

static long call_at(struct file *file, struct fbufs_end *end, struct file *receiver_file,
		    struct fbufs_call *call)
{
	struct fbufs_end *receiver = chrdev_end(receiver_file);

	if (!receiver || receiver->sending)
		return -EINVAL;
	return channel_call(end, receiver, call, may_wait(file, call->flags),
			    may_wait(receiver_file, call->flags));
}

static long do_call(struct file *file, struct fbufs_end *end, union ioctl_args *args)
{
	struct fbufs_call *call = &args->call;
	struct fd receiver;
	long done;

	call->out_sent = 0;
	call->send.out_refilled = 0;
	call->receive.out_released = 0;
	if (!end->sending)
		return -ENOTTY;
	if (call->send.size || call->send.flags || call->receive.size || call->receive.flags ||
	    !call->receive.count || !is_well_formed_send(&call->send) ||
	    !is_well_formed_receive(&call->receive))
		return -EINVAL;
	receiver = fdget(call->receiver);
	if (!fd_file(receiver))
		return -EBADF;
	done = call_at(file, end, fd_file(receiver), call);
	fdput(receiver);
	return done;
}

#define END_CALL(_cmd, _member, _flags, _out, _fn) \
	[_IOC_NR(_cmd)] = { .size = sizeof(((union ioctl_args *)0)->_member), \
	  .flags = (_flags), .out = (_out), .end = (_fn) }

static const struct ioctl_call end_calls[] = {
	END_CALL(FBUFS_ALLOC, alloc, FBUFS_DONTWAIT, 0, do_alloc_end),
	END_CALL(FBUFS_ATTACH, attach, 0, 0, do_attach),
	END_CALL(FBUFS_END_INFO, end_info, 0, OUT(fbufs_end_info, out_channel), do_end_info),
	END_CALL(FBUFS_ADD_RECEIVER, add_receiver, FBUFS_CHANNEL_NONBLOCK,
		 OUT(fbufs_add_receiver, out_receiver), do_add_receiver),
	END_CALL(FBUFS_SEND, send, FBUFS_DONTWAIT, OUT(fbufs_send, out_refilled), do_send),
	END_CALL(FBUFS_RECEIVE, receive, FBUFS_DONTWAIT, OUT(fbufs_receive, out_released),
		 do_receive),
	END_CALL(FBUFS_CALL, call, FBUFS_DONTWAIT, OUT(fbufs_call, out_sent), do_call),
};

/*
 * Dispatch
 */

static __always_inline const struct ioctl_call *find_call(const struct ioctl_call *calls, u32 n,
							  unsigned int cmd)
{
	/* All of ours are _IO(): of another type, direction or size it is no number of theirs. */
	u32 nr = cmd - _IO(FBUFS_TYPE, 0);

	if (nr >= n)
		return NULL;
	calls += array_index_nospec(nr, n);
	return calls->size ? calls : NULL;
}

static __always_inline int put_args(const struct ioctl_call *call, const union ioctl_args *args,
				    void __user *to)
{
	if (!call->out)
		return 0;
	return user_store(to + call->out, (const void *)args + call->out, call->size - call->out);
}

/* As get_args(), of a program that has another idea of the structure, or a bad address. */
static noinline int get_foreign_args(const struct ioctl_call *call, union ioctl_args *args,
				     void __user *from)
{
	u32 user_size;

	if (get_user(user_size, (u32 __user *)from))
		return -EFAULT;
	if (user_size < call->size)
		return -EINVAL;
	if (user_size > PAGE_SIZE)
		return -E2BIG;
	return copy_struct_from_user(args, call->size, from, user_size);
}

static __always_inline int get_args(const struct ioctl_call *call, union ioctl_args *args,
				    void __user *from)
{
	int err = user_fetch(args, from, call->size);

	if (unlikely(err || args->size != call->size)) {
		err = get_foreign_args(call, args, from);
		if (err)
			return err;
	}
	if (args->flags & ~call->flags)
		return -EINVAL;
	if (!call->out)
		return 0;
	/* Rather now than when the call has had its effect. */
	return user_probe(from + call->out, (const void *)args + call->out, call->size - call->out);
}

long ioctl_domain(struct file *file, unsigned int cmd, unsigned long arg)
{
	const struct ioctl_call *call = find_call(domain_calls, ARRAY_SIZE(domain_calls), cmd);
	struct fbufs_domain *domain = file->private_data;
	union ioctl_args args __uninitialized;
	long ret;
	int err;

	if (!call)
		return -ENOTTY;
	stats_count(&domain->counters, FBUFS_COUNT_CALLS, 1);
	err = call->anybody ? 0 : domain_check(domain);
	if (!err)
		err = get_args(call, &args, (void __user *)arg);
	if (err)
		return err;
	ret = call->domain(file, domain, &args);
	err = put_args(call, &args, (void __user *)arg);
	return err && ret >= 0 ? err : ret;
}

long ioctl_end(struct file *file, unsigned int cmd, unsigned long arg)
{
	const struct ioctl_call *call = find_call(end_calls, ARRAY_SIZE(end_calls), cmd);
	union ioctl_args args __uninitialized;
	long ret;
	int err;

	if (!call)
		return -ENOTTY;
	err = get_args(call, &args, (void __user *)arg);
	if (err)
		return err;
	ret = call->end(file, file->private_data, &args);
	err = put_args(call, &args, (void __user *)arg);
	return err && ret >= 0 ? err : ret;
}
