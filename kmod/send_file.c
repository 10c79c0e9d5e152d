// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * As sendfile(2): the pages of a file pass through the pipe that the kernel keeps
 * for each thread, a pipe full at a time. Unlike there, the end of the other side
 * raises no signal, O_NONBLOCK of the socket does not count, and the caller learns
 * whether the socket copies.
 */

#include <linux/bvec.h>
#include <linux/file.h>
#include <linux/fsnotify.h>
#include <linux/net.h>
#include <linux/pipe_fs_i.h>
#include <linux/sched/signal.h>
#include <linux/splice.h>
#include <linux/uio.h>
#include <net/sock.h>

#include "domain.h"
#include "send_file.h"
#include "socket.h"

struct sending {
	struct socket *sock;
	bool may_wait;
	bool end;
};

/* What is in the pipe, at most @bytes, as blocks: how many; or an error. */
static int blocks_in(struct pipe_inode_info *pipe, struct bio_vec *vec, u64 *bytes)
{
	unsigned int place = pipe->tail;
	u64 left = *bytes;
	int err, n = 0;

	while (left && n < PIPE_DEF_BUFFERS && !pipe_empty(pipe->head, place)) {
		struct pipe_buffer *buf = pipe_buf(pipe, place++);
		u32 length = min_t(u64, buf->len, left);

		err = pipe_buf_confirm(pipe, buf);
		if (err && !n)
			return err;
		if (err)
			break;
		bvec_set_page(&vec[n++], buf->page, length, buf->offset);
		left -= length;
	}
	*bytes -= left;
	return n;
}

/* The socket has its own references. */
static void drop_sent(struct pipe_inode_info *pipe, u64 bytes)
{
	while (bytes) {
		struct pipe_buffer *buf = pipe_buf(pipe, pipe->tail);
		u32 length = min_t(u64, buf->len, bytes);

		bytes -= length;
		buf->offset += length;
		buf->len -= length;
		if (buf->len)
			return;
		pipe_buf_release(pipe, buf);
		pipe->tail++;
	}
}

static int send_some(struct pipe_inode_info *pipe, struct sending *to, u64 left, bool more)
{
	struct msghdr msg = { .msg_flags = MSG_NOSIGNAL | MSG_SPLICE_PAGES };
	struct bio_vec vec[PIPE_DEF_BUFFERS];
	u64 bytes = left;
	int n = blocks_in(pipe, vec, &bytes);

	if (n <= 0)
		return n;
	if (more || bytes < left)
		msg.msg_flags |= MSG_MORE;
	if (!to->may_wait)
		msg.msg_flags |= MSG_DONTWAIT;
	iov_iter_bvec(&msg.msg_iter, ITER_SOURCE, vec, n, bytes);
	n = sock_sendmsg(to->sock, &msg);
	if (n > 0)
		drop_sent(pipe, n);
	return n;
}

/* Send what was read of the file, all of it if it can be. */
static int send_read(struct pipe_inode_info *pipe, struct splice_desc *desc)
{
	u64 left = desc->total_len;
	int n = 0;

	while (left) {
		n = signal_pending(current) ? -EINTR :
		    send_some(pipe, desc->u.data, left, desc->flags & SPLICE_F_MORE);
		if (n <= 0)
			break;
		left -= n;
	}
	return desc->total_len - left ?: n;
}

/* Something was sent, and said to be followed by more: there is none. */
static void send_no_more(struct splice_desc *desc)
{
	struct sending *to = desc->u.data;
	const struct proto_ops *ops = READ_ONCE(to->sock->ops);

	to->end = true;
	if (ops->splice_eof)
		ops->splice_eof(to->sock);
}

static int check_file(const struct file *from, u64 offset)
{
	if (!(from->f_mode & FMODE_READ))
		return -EBADF;
	if (!(from->f_mode & FMODE_LSEEK) || (offset != FBUFS_IO_HERE && offset > LLONG_MAX))
		return -EINVAL;
	return 0;
}

static long send_pages(struct file *from, struct sending *to, struct fbufs_send_file *args)
{
	bool here = args->offset == FBUFS_IO_HERE;
	struct splice_desc desc = {
		.total_len = min_t(u64, args->bytes, MAX_RW_COUNT),
		.pos = here ? from->f_pos : args->offset,
		.u.data = to,
		.splice_eof = send_no_more,
	};
	long n = rw_verify_area(READ, from, &desc.pos, desc.total_len);

	if (n)
		return n;
	n = splice_direct_to_actor(from, &desc, send_read);
	if (n > 0) {
		fsnotify_access(from);
		if (here)
			from->f_pos = desc.pos;
	}
	to->end |= !n;
	return n;
}

static long send_from(struct fbufs_domain *domain, struct file *from, struct sending *to,
		      struct fbufs_send_file *args)
{
	u32 reason = socket_copies(to->sock, NULL, 0);
	long n = check_file(from, args->offset);

	if (!n)
		n = send_pages(from, to, args);
	if (n < 0)
		return n == -ERESTARTSYS ? -EINTR : n;
	args->out_how = to->end ? FBUFS_IO_END : 0;
	if (n && reason == FBUFS_IO_NO_REASON) {
		args->out_how |= FBUFS_IO_ZEROCOPY;
	} else if (n) {
		args->out_how |= FBUFS_IO_COPIED | FBUFS_IO_FALLBACK;
		args->out_reason = reason;
		stats_count(&domain->counters, FBUFS_COUNT_BYTES_COPIED, n);
	}
	return n;
}

/* What the socket is comes first: the caller has other ways to what is none. */
static long send_to(struct fbufs_domain *domain, struct file *file, struct fbufs_send_file *args,
		    bool may_wait)
{
	struct sending to = { .sock = sock_from_file(file), .may_wait = may_wait };
	struct file *from;
	long ret;

	if (!to.sock)
		return -ENOTSOCK;
	if (to.sock->type != SOCK_STREAM)
		return -EPROTOTYPE;
	from = fget(args->from);
	if (!from)
		return -EBADF;
	ret = send_from(domain, from, &to, args);
	fput(from);
	return ret;
}

/**
 * send_file - FBUFS_SEND_FILE
 * @domain: the caller's
 * @args: the arguments; @out_how and @out_reason are set
 * @may_wait: for room in the socket
 *
 * Return: bytes, or an error of FBUFS_SEND_FILE.
 */
long send_file(struct fbufs_domain *domain, struct fbufs_send_file *args, bool may_wait)
{
	struct file *to;
	long ret;

	args->out_how = 0;
	args->out_reason = FBUFS_IO_NO_REASON;
	if (!args->bytes)
		return -EINVAL;
	to = fget(args->to);
	if (!to)
		return -EBADF;
	ret = send_to(domain, to, args, may_wait);
	fput(to);
	return ret;
}
