/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * Operations on descriptors: the kernel as a receiver (writing) and as an
 * originator (reading).
 *
 * An operation is made, then its bytes move in one or more steps (descriptor.c),
 * until it is ACCEPTED: no more of it will. While pages of its fbufs are still
 * referred to, by pipes, packets or others, it drains. Nothing tells when a
 * packet lets go of a page: the reference counts of the pages do, which are
 * looked at whenever the process calls, and now and then in between.
 *
 * Steps happen in the context of the process only: its credentials, its memory
 * cgroup and its signals apply, and nothing happens for a process that has died.
 *
 * Locks. @io_lock of the domain guards its list of operations, their states and
 * who works on which (@busy); it is a leaf. Who has made an operation busy has
 * it for himself. Wake-up functions take no lock, and only set @ready.
 */
#ifndef FBUFS_FDIO_H
#define FBUFS_FDIO_H

#include <linux/kref.h>
#include <linux/list.h>
#include <linux/poll.h>
#include <linux/socket.h>

#include "aggregate.h"
#include "domain.h"

struct fbufs_channel;
struct fbufs_end;

/* One of the wait queues on which an operation waits for its descriptor. */
struct fdio_wait {
	struct wait_queue_entry entry;
	wait_queue_head_t *head;
	struct fdio_op *op;
};

/**
 * struct fdio_op - see the head of this file
 * @ref: one for the list, one for each pipe buffer
 * @link: in the domain's list, in the order of submission; or among the orphans
 * @domain: whose; NULL once it has ended. The lock of the orphans guards that for
 *	those who are not working on it
 * @file: with a reference, until it is accepted
 * @args: what the user wants
 * @address: of the peer
 * @busy: a call is working on it
 * @ready: worth another step
 * @accepted: no more bytes will move
 * @drained: nothing refers to its pages any more
 * @reported: the user knows the outcome
 * @cancelled: no more steps
 * @reads: it is FBUFS_IO_READ
 * @borrows: some slices are of held messages
 * @aggregate: what is written; reading: what is read into; or NULL
 * @segment: the slice with the next byte
 * @offset: of that byte in the slice
 * @buffer: reading: the own fbuf
 * @taken: reading: fbufs of others that came whole; or NULL
 * @channel: reading: for which @buffer is allocated, with a reference; or NULL
 * @done: bytes so far
 * @copied: of these, copied
 * @error: why not all of them; 0 or negative
 * @how: FBUFS_IO_ZEROCOPY to FBUFS_IO_TRUNCATED
 * @reason: enum fbufs_io_reason
 * @address_length: of @address
 * @stuck: it was told to go on, and could not
 * @table: to get on the descriptor's wait queues
 * @waits: there
 * @nwaits: how many
 */
struct fdio_op {
	struct kref ref;
	struct list_head link;
	struct fbufs_domain *domain;
	struct file *file;
	struct fbufs_io_op args;
	struct sockaddr_storage address;

	bool busy;
	bool ready;
	bool accepted;
	bool drained;
	bool reported;
	bool cancelled;
	bool reads;
	bool borrows;

	struct fbufs_aggregate *aggregate;
	u32 segment;
	u32 offset;
	struct fbufs_buffer buffer;
	struct fbufs_aggregate *taken;
	struct fbufs_channel *channel;

	u64 done;
	u64 copied;
	int error;
	u32 how;
	u32 reason;
	u32 address_length;

	bool stuck;
	poll_table table;
	struct fdio_wait waits[2];
	u32 nwaits;
};

void fdio_begin(struct fbufs_domain *domain);
long fdio_call(struct fbufs_domain *domain, struct fbufs_io *io, bool wait,
	       struct fbufs_end *(*find_end)(struct file *file));
bool fdio_collect(struct fbufs_domain *domain);
long fdio_cancel(struct fbufs_domain *domain, u64 cookie);
bool fdio_has_news(struct fbufs_domain *domain);
void fdio_end(struct fbufs_domain *domain);
void fdio_exit(void);

/* For pipe buffers, which refer to the operation that put them there. */
void fdio_get(struct fdio_op *op);
void fdio_put(struct fdio_op *op);
void fdio_put_buffer(struct fdio_op *op);

#endif
