// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * UNIX stream sockets get packets of our own (unix_stream.c). Other sockets get
 * references to pages by MSG_SPLICE_PAGES, which, unlike MSG_ZEROCOPY, does not
 * copy on the way to a receiver on the same machine. It marks the packets
 * SKBFL_SHARED_FRAG, so that nobody changes the pages in place. Pipes get buffers
 * of our own, as long as the blocks of pages are. What our own buffers, or such
 * packets of a UNIX stream socket, bring to a reader is taken as it is, if it is
 * whole pages: a reader shall not see more of a page than was sent.
 *
 * Pages of fbufs are told from others by their mapping (fbuf_of_folio()), which
 * is reliable while somebody has a reference to the page, because an fbuf keeps
 * its pages at least as long as operations on them drain.
 */

#include <linux/bvec.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/net.h>
#include <linux/pipe_fs_i.h>
#include <linux/splice.h>
#include <linux/uio.h>
#include <net/sock.h>

#include "descriptor.h"
#include "fdio.h"
#include "pool.h"
#include "socket.h"
#include "unix_stream.h"

/* Blocks of pages that move in a step. */
#define FEW_BLOCKS 16
#define MANY_BLOCKS 256

/* The pipe behind a descriptor that can take and give page references, or NULL. */
static struct pipe_inode_info *descriptor_pipe(struct file *file)
{
	struct inode *inode = file_inode(file);
	struct pipe_inode_info *pipe = S_ISFIFO(inode->i_mode) ? inode->i_pipe : NULL;

	return pipe && !pipe_has_watch_queue(pipe) ? pipe : NULL;
}

static bool descriptor_has_positions(struct file *file)
{
	return file->f_mode & FMODE_LSEEK && !(file->f_mode & FMODE_STREAM);
}

/* Whether it is better to ask poll than to wait in a call. */
bool descriptor_can_wait(struct file *file)
{
	return file_can_poll(file) && !S_ISREG(file_inode(file)->i_mode);
}

/* Whether nothing read is a message, not the end. */
bool descriptor_has_datagrams(struct file *file)
{
	struct socket *sock = sock_from_file(file);

	return sock && sock->type == SOCK_DGRAM;
}

/* Whether a descriptor is good for an operation: 0, -EBADF, -EINVAL, -ESPIPE. */
int descriptor_check(struct file *file, const struct fbufs_io_op *args)
{
	bool reads = args->opcode == FBUFS_IO_READ;

	if (!(file->f_mode & (reads ? FMODE_READ : FMODE_WRITE)))
		return -EBADF;
	if (reads ? !file->f_op->read_iter : !file->f_op->write_iter)
		return -EINVAL;
	if (args->flags & FBUFS_IO_APPEND && !S_ISREG(file_inode(file)->i_mode))
		return -EINVAL;
	if (args->offset == FBUFS_IO_HERE)
		return 0;
	if (!descriptor_has_positions(file))
		return -ESPIPE;
	return args->offset > LLONG_MAX || args->flags & FBUFS_IO_APPEND ? -EINVAL : 0;
}

/*
 * Bytes of an operation as blocks of pages
 */

/* Where the byte at @offset of an fbuf is, and how many follow it in its block. */
static struct page *fbuf_place(struct fbuf *fbuf, u32 offset, u32 *in_page, u64 *bytes)
{
	struct fbuf_cursor cursor;

	fbuf_cursor_init(&cursor, fbuf, offset >> PAGE_SHIFT);
	*in_page = offset_in_page(offset);
	*bytes = ((u64)cursor.left << PAGE_SHIFT) - *in_page;
	return pfn_to_page(cursor.pfn);
}

struct blocks {
	struct bio_vec *vec;
	u32 n;
	u64 bytes;
	bool all;		/* up to the end of the operation */
	struct bio_vec few[FEW_BLOCKS];
};

/* From the byte that is next on, up to @max blocks. */
static void blocks_fill(struct blocks *blocks, const struct fdio_op *op, u32 max)
{
	u32 segment = op->segment, offset = op->offset;

	blocks->n = 0;
	blocks->bytes = 0;
	while (blocks->n < max && segment < op->aggregate->nsegments) {
		const struct fbufs_segment *from = &op->aggregate->segments[segment];
		u32 in_page;
		u64 bytes;
		struct page *page = fbuf_place(from->fbuf, from->offset + offset, &in_page, &bytes);

		bytes = min_t(u64, bytes, from->length - offset);
		bvec_set_page(&blocks->vec[blocks->n++], page, bytes, in_page);
		blocks->bytes += bytes;
		offset += bytes;
		if (offset == from->length) {
			segment++;
			offset = 0;
		}
	}
	blocks->all = segment == op->aggregate->nsegments;
}

static int blocks_begin(struct blocks *blocks, const struct fdio_op *op)
{
	blocks->vec = blocks->few;
	blocks_fill(blocks, op, FEW_BLOCKS);
	if (blocks->all)
		return 0;
	blocks->vec = kmalloc_array(MANY_BLOCKS, sizeof(*blocks->vec), GFP_KERNEL_ACCOUNT);
	if (!blocks->vec)
		return -ENOMEM;
	blocks_fill(blocks, op, MANY_BLOCKS);
	return 0;
}

static void blocks_end(struct blocks *blocks)
{
	if (blocks->vec != blocks->few)
		kfree(blocks->vec);
}

/* So many bytes more are done. */
static void op_advance(struct fdio_op *op, u64 bytes)
{
	op->done += bytes;
	while (bytes) {
		u32 left = op->aggregate->segments[op->segment].length - op->offset;

		if (bytes < left) {
			op->offset += bytes;
			return;
		}
		bytes -= left;
		op->segment++;
		op->offset = 0;
	}
}

static void op_copied(struct fdio_op *op, u64 bytes, u32 reason)
{
	op->copied += bytes;
	op->how |= FBUFS_IO_COPIED;
	if (reason != FBUFS_IO_NO_REASON) {
		op->how |= FBUFS_IO_FALLBACK;
		op->reason = reason;
	}
}

/*
 * Sockets
 */

static int socket_write(struct fdio_op *op, struct socket *sock, struct blocks *blocks)
{
	struct msghdr msg = { .msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL };
	u32 reason = socket_copies(sock, &op->address, op->address_length);
	int n;

	/* A datagram goes in one step or not at all. */
	if (sock->type != SOCK_STREAM && !blocks->all)
		return -EMSGSIZE;
	if (sock->sk->sk_family == AF_UNIX && sock->type == SOCK_STREAM) {
		n = unix_stream_put(sock, blocks->vec, blocks->n);
		if (n > 0)
			op->how |= FBUFS_IO_ZEROCOPY;
		if (n != -EOPNOTSUPP)
			return n;
	}
	if (reason == FBUFS_IO_NO_REASON)
		msg.msg_flags |= MSG_SPLICE_PAGES;
	if (!blocks->all)
		msg.msg_flags |= MSG_MORE;
	if (op->address_length) {
		msg.msg_name = &op->address;
		msg.msg_namelen = op->address_length;
	}
	iov_iter_bvec(&msg.msg_iter, ITER_SOURCE, blocks->vec, blocks->n, blocks->bytes);
	n = sock_sendmsg(sock, &msg);
	if (n == -EMSGSIZE && msg.msg_flags & MSG_SPLICE_PAGES) {
		/* More places than a packet can refer to, perhaps. */
		reason = FBUFS_IO_NO_REFERENCES;
		msg.msg_flags &= ~MSG_SPLICE_PAGES;
		iov_iter_bvec(&msg.msg_iter, ITER_SOURCE, blocks->vec, blocks->n, blocks->bytes);
		n = sock_sendmsg(sock, &msg);
	}
	if (n > 0 && reason == FBUFS_IO_NO_REASON)
		op->how |= FBUFS_IO_ZEROCOPY;
	else if (n > 0)
		op_copied(op, n, reason);
	return n;
}

static int socket_read(struct fdio_op *op, struct socket *sock, struct blocks *blocks)
{
	bool datagram = sock->type != SOCK_STREAM;
	struct msghdr msg = { };
	int n;

	if (op->args.address)
		msg.msg_name = &op->address;
	iov_iter_bvec(&msg.msg_iter, ITER_DEST, blocks->vec, blocks->n, blocks->bytes);
	n = sock_recvmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL | (datagram ? MSG_TRUNC : 0));
	if (n < 0)
		return n;
	op->address_length = msg.msg_namelen;
	if (datagram && n > blocks->bytes) {
		op->how |= FBUFS_IO_TRUNCATED;
		n = blocks->bytes;
	}
	return n;
}

/*
 * Pipes
 */

static void fbufs_pipe_release(struct pipe_inode_info *pipe, struct pipe_buffer *buf)
{
	fdio_put_buffer((struct fdio_op *)buf->private);
}

static bool fbufs_pipe_get(struct pipe_inode_info *pipe, struct pipe_buffer *buf)
{
	fdio_get((struct fdio_op *)buf->private);
	return true;
}

static const struct pipe_buf_operations fbufs_pipe_ops = {
	.release = fbufs_pipe_release,
	.get = fbufs_pipe_get,
};

static void fbufs_spd_release(struct splice_pipe_desc *spd, unsigned int i)
{
}

static void pipe_wake_readers(struct pipe_inode_info *pipe)
{
	if (wq_has_sleeper(&pipe->rd_wait))
		wake_up_interruptible_poll(&pipe->rd_wait, EPOLLIN | EPOLLRDNORM);
	kill_fasync(&pipe->fasync_readers, SIGIO, POLL_IN);
}

static void pipe_wake_writers(struct pipe_inode_info *pipe)
{
	if (wq_has_sleeper(&pipe->wr_wait))
		wake_up_interruptible_poll(&pipe->wr_wait, EPOLLOUT | EPOLLWRNORM);
	kill_fasync(&pipe->fasync_writers, SIGIO, POLL_OUT);
}

/* One block into the pipe; it refers to the operation. */
static ssize_t pipe_add(struct pipe_inode_info *pipe, struct fdio_op *op,
			const struct bio_vec *vec)
{
	struct page *page = vec->bv_page;
	struct partial_page partial = {
		.offset = vec->bv_offset, .len = vec->bv_len, .private = (unsigned long)op,
	};
	struct splice_pipe_desc spd = {
		.pages = &page, .partial = &partial, .nr_pages = 1, .nr_pages_max = 1,
		.ops = &fbufs_pipe_ops, .spd_release = fbufs_spd_release,
	};
	ssize_t n;

	/* Before a reader can release it. */
	fdio_get(op);
	n = splice_to_pipe(pipe, &spd);
	if (n <= 0)
		fdio_put(op);
	return n;
}

static int pipe_write(struct fdio_op *op, struct pipe_inode_info *pipe, struct blocks *blocks)
{
	ssize_t n = 0;
	int done = 0;
	u32 i;

	pipe_lock(pipe);
	for (i = 0; i < blocks->n; i++) {
		/* Without the signal that splice_to_pipe() would send. */
		n = pipe->readers ? pipe_add(pipe, op, &blocks->vec[i]) : -EPIPE;
		if (n <= 0)
			break;
		done += n;
	}
	pipe_unlock(pipe);
	if (!done)
		return n;
	op->how |= FBUFS_IO_ZEROCOPY;
	pipe_wake_readers(pipe);
	return done;
}

/*
 * Taking fbufs as they come
 */

/**
 * descriptor_take_place - add whole pages of an fbuf to the message that an operation takes
 * @op: the operation
 * @page: the first of them; the caller has a reference
 * @bytes: how many
 *
 * Return: false when it is no fbuf's, not whole pages, or there is no room: nothing
 * has changed.
 */
bool descriptor_take_place(struct fdio_op *op, struct page *page, u32 bytes)
{
	struct folio *folio = page_folio(page);
	struct fbufs_aggregate *taken = op->taken;
	struct fbuf *fbuf = fbuf_of_folio(folio);
	struct fbufs_segment *last;
	struct fbufs_pool *pool;
	u32 offset;

	if (!fbuf || offset_in_page(bytes) || bytes > op->args.length - op->done)
		return false;
	offset = (folio->index + folio_page_idx(folio, page)) * PAGE_SIZE;
	last = taken->nsegments ? &taken->segments[taken->nsegments - 1] : NULL;
	if (last && last->fbuf == fbuf && last->offset + last->length == offset) {
		last->length += bytes;
		taken->length += bytes;
	} else {
		if (taken->nsegments == TAKEN_SLICES)
			return false;
		pool = fbuf_pool(fbuf);
		spin_lock(&pool->lock);
		/* The operation that put it there drains: it is SENT. */
		fbuf->refs++;
		spin_unlock(&pool->lock);
		aggregate_append(taken, fbuf, offset, bytes, false);
	}
	op->done += bytes;
	op->how |= FBUFS_IO_ZEROCOPY;
	return true;
}

static bool pipe_take_one(struct fdio_op *op, struct pipe_inode_info *pipe)
{
	struct pipe_buffer *buf;
	u32 bytes;

	if (pipe_empty(pipe->head, pipe->tail))
		return false;
	buf = pipe_buf(pipe, pipe->tail);
	if (buf->ops != &fbufs_pipe_ops)
		return false;
	bytes = round_down(min_t(u64, buf->len, op->args.length - op->done), PAGE_SIZE);
	if (!bytes || offset_in_page(buf->offset) ||
	    !descriptor_take_place(op, buf->page + (buf->offset >> PAGE_SHIFT), bytes))
		return false;
	buf->offset += bytes;
	buf->len -= bytes;
	if (!buf->len) {
		pipe_buf_release(pipe, buf);
		pipe->tail++;
	}
	return true;
}

static void pipe_take(struct fdio_op *op, struct pipe_inode_info *pipe)
{
	u64 before = op->done;

	pipe_lock(pipe);
	while (pipe_take_one(op, pipe))
		;
	pipe_unlock(pipe);
	if (op->done != before)
		pipe_wake_writers(pipe);
}

/* Whether fbufs of others may arrive as they are. */
static bool descriptor_can_give(struct file *file, const struct socket *sock)
{
	if (sock)
		return sock->sk->sk_family == AF_UNIX && sock->type == SOCK_STREAM;
	return descriptor_pipe(file);
}

/**
 * descriptor_take - take fbufs of others that have arrived as whole pages
 * @op: an operation that reads
 *
 * Return: how many bytes; 0 when there are none to be taken; -ENOMEM.
 */
int descriptor_take(struct fdio_op *op)
{
	struct pipe_inode_info *pipe = descriptor_pipe(op->file);
	struct socket *sock = sock_from_file(op->file);
	u64 before = op->done;

	if (!descriptor_can_give(op->file, sock))
		return 0;
	if (!op->taken) {
		op->taken = aggregate_alloc(TAKEN_SLICES);
		if (!op->taken)
			return -ENOMEM;
		aggregate_begin(op->taken, NULL, MESSAGE_UNMAP, op->args.cookie);
	}
	if (pipe)
		pipe_take(op, pipe);
	else
		unix_stream_take(op, sock->sk);
	return op->done - before;
}

/*
 * Everything else
 */

/* At the operation's place in the file, or at the file position. */
static int file_move(struct fdio_op *op, struct blocks *blocks)
{
	struct file *file = op->file;
	bool here = op->args.offset == FBUFS_IO_HERE;
	bool locks = here && file->f_mode & FMODE_ATOMIC_POS;
	struct iov_iter iter;
	struct kiocb kiocb;
	int n;

	init_sync_kiocb(&kiocb, file);
	if (op->args.flags & FBUFS_IO_APPEND)
		kiocb.ki_flags |= IOCB_APPEND;
	if (descriptor_can_wait(file) && file->f_mode & FMODE_NOWAIT)
		kiocb.ki_flags |= IOCB_NOWAIT;
	if (locks)
		mutex_lock(&file->f_pos_lock);
	kiocb.ki_pos = here ? file->f_pos : op->args.offset + op->done;
	iov_iter_bvec(&iter, op->reads ? ITER_DEST : ITER_SOURCE, blocks->vec, blocks->n,
		      blocks->bytes);
	n = op->reads ? vfs_iocb_iter_read(file, &kiocb, &iter) :
			vfs_iocb_iter_write(file, &kiocb, &iter);
	if (here && n > 0 && descriptor_has_positions(file))
		file->f_pos = kiocb.ki_pos;
	if (locks)
		mutex_unlock(&file->f_pos_lock);
	if (n <= 0)
		return n;
	if (kiocb.ki_flags & IOCB_DIRECT && file_inode(file)->i_sb->s_magic != TMPFS_MAGIC)
		op->how |= FBUFS_IO_ZEROCOPY;
	else if (!op->reads)
		op_copied(op, n, S_ISREG(file_inode(file)->i_mode) ? FBUFS_IO_PAGE_CACHE :
								     FBUFS_IO_NO_REFERENCES);
	return n;
}

/**
 * descriptor_write - a step of an operation that writes
 * @op: the operation, with bytes left
 *
 * Return: bytes, for which @op has been moved on; or an error, -EAGAIN when it
 * has to wait for the descriptor.
 */
int descriptor_write(struct fdio_op *op)
{
	struct pipe_inode_info *pipe = descriptor_pipe(op->file);
	struct socket *sock = sock_from_file(op->file);
	struct blocks blocks __uninitialized;
	int n = blocks_begin(&blocks, op);

	if (n)
		return n;
	if (sock)
		n = socket_write(op, sock, &blocks);
	else if (pipe)
		n = pipe_write(op, pipe, &blocks);
	else
		n = file_move(op, &blocks);
	blocks_end(&blocks);
	if (n > 0)
		op_advance(op, n);
	return n;
}

/* Why reading copied. */
static u32 read_copies(const struct fdio_op *op, const struct socket *sock)
{
	if (S_ISREG(file_inode(op->file)->i_mode))
		return FBUFS_IO_PAGE_CACHE;
	return descriptor_can_give(op->file, sock) ? FBUFS_IO_NOT_FBUFS : FBUFS_IO_NO_REFERENCES;
}

/**
 * descriptor_read - a step of an operation that reads, into its own fbuf
 * @op: the operation, with room left
 *
 * Return: bytes, for which @op has been moved on; 0 at the end; or an error,
 * -EAGAIN when it has to wait for the descriptor.
 */
int descriptor_read(struct fdio_op *op)
{
	struct socket *sock = sock_from_file(op->file);
	struct blocks blocks __uninitialized;
	int n = blocks_begin(&blocks, op);

	if (n)
		return n;
	n = sock ? socket_read(op, sock, &blocks) : file_move(op, &blocks);
	blocks_end(&blocks);
	if (n <= 0)
		return n;
	op_advance(op, n);
	if (!(op->how & FBUFS_IO_ZEROCOPY))
		op_copied(op, n, read_copies(op, sock));
	return n;
}
