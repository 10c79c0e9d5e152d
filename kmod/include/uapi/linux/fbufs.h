/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* Copyright (c) 2026 The fbufs authors */
/*
 * fbufs: buffers that are handed over instead of copied, and that nobody can
 * change once they are sent.
 *
 * /dev/fbufs gives a *domain*: what one process owns and holds. A domain has
 * at most one *pool*, from which its process allocates fbufs and which it maps
 * read-write. A *channel* leads from one sending end to up to 64 receiving
 * ends; every end is a file descriptor. A *message* is a list of slices of
 * fbufs; sending it hands the fbufs over, and, unless the channel is volatile,
 * takes the originator's write access away until the last receiver releases
 * the message. Then the fbufs go home to the free list of their channel.
 *
 * Windows. mmap() on the domain with offset FBUFS_POOL_OFFSET(pool) and exactly
 * the pool's span maps a pool, MAP_SHARED, once a domain: the own pool
 * readable and writable, others read-only. Pages are there only while the
 * domain has the right to them; otherwise an access ends in SIGBUS at its
 * address (a store to another's pool in SIGSEGV), and in a system call in
 * EFAULT. Windows cannot be split, moved, re-protected, inherited or pinned:
 * mprotect(2), a partial munmap(2), mremap(2) and userfaultfd give EACCES,
 * EINVAL, EINVAL (EFAULT to grow) and EINVAL; a window without PROT_READ, or
 * with PROT_EXEC, EACCES; whatever takes references to user pages (O_DIRECT, vmsplice(2),
 * io_uring fixed buffers, process_vm_writev(2), RDMA) gives EFAULT.
 * /proc/PID/mem and ptrace(2) can read what the owner of the window can read,
 * and write nothing (EIO).
 *
 * Arguments. Every structure begins with its size and with flags; both may
 * grow. Bytes beyond what the module knows must be zero (E2BIG), structures
 * shorter than the first version are EINVAL, as are unknown flags and reserved
 * fields that are not zero. Fields named out_ are written by the module.
 *
 * Errors that every call can give:
 *	EPERM	the caller is not the process that opened the domain (or
 *		attached the end): a forked child, or somebody who was
 *		passed the descriptor
 *	ENODEV	the domain has ended (its process is going, or its descriptor
 *		was closed)
 *	EFAULT	a pointer leads to memory that cannot be read or written;
 *		fbufs, messages and queues are as before
 *	EINVAL	size, flags, reserved fields or a number out of its range
 *	E2BIG	the structure has non-zero bytes that this module does not know
 *	ENOTTY	no such call on this descriptor
 *	ENOMEM	no memory, by the machine, the caller's memory cgroup, or the
 *		module's limit (parameter limit_mb)
 *	EINTR	a signal came while waiting, and nothing was done yet
 *
 * Vector calls return how many elements they did, or, when the first one
 * failed, its error; elements after the first failure are untouched.
 */
#ifndef _UAPI_LINUX_FBUFS_H
#define _UAPI_LINUX_FBUFS_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define FBUFS_TYPE 0xFB
#define FBUFS_ABI_VERSION 1

/* Limits that do not depend on the machine. */
#define FBUFS_MAX_RECEIVERS 64		/* receiving ends of a channel */
#define FBUFS_MAX_DEPTH 4096		/* messages queued for one receiver */
#define FBUFS_MAX_SLICES 1024		/* slices in a message */
#define FBUFS_MAX_HELD 65536		/* messages held by a domain */
#define FBUFS_MAX_VECTOR 65536		/* elements in a vector call */
#define FBUFS_MAX_BYTES (1ULL << 30)	/* bytes in an fbuf */
#define FBUFS_MAX_POOL (1ULL << 38)	/* bytes in a pool */
#define FBUFS_MAX_COPY 16384		/* bytes in a message with FBUFS_MESSAGE_COPY... */
#define FBUFS_MAX_COPY_SLICES 16	/* ... and slices that they come from */

/* Where the window of a pool lies among the device's offsets. */
#define FBUFS_POOL_SHIFT 40
#define FBUFS_POOL_OFFSET(pool) ((__u64)(pool) << FBUFS_POOL_SHIFT)

/* The pool that an fbuf belongs to, from its handle. */
#define FBUFS_HANDLE_POOL(fbuf) ((__u32)((fbuf) >> 48))

/**
 * struct fbufs_query - what this module is and can do (FBUFS_QUERY, domain)
 * @size: sizeof(struct fbufs_query)
 * @flags: 0
 * @out_version: FBUFS_ABI_VERSION of the module
 * @out_max_receivers: receiving ends of a channel
 * @out_max_depth: messages queued for one receiver
 * @out_max_slices: slices in a message
 * @out_max_held: messages held by a domain
 * @out_page_size: bytes of a page
 * @out_max_bytes: bytes in an fbuf
 * @out_max_pool: bytes in a pool
 * @out_features: FBUFS_FEATURE_*
 *
 * The caller need not have opened the domain.
 */
struct fbufs_query {
	__u32 size;
	__u32 flags;
	__u32 out_version;
	__u32 out_max_receivers;
	__u32 out_max_depth;
	__u32 out_max_slices;
	__u32 out_max_held;
	__u32 out_page_size;
	__u64 out_max_bytes;
	__u64 out_max_pool;
	__u64 out_features;
};

#define FBUFS_QUERY _IO(FBUFS_TYPE, 0x00)

/*
 * What a store of the originator to a lent fbuf does while that is locked; lent are
 * own fbufs in messages with FBUFS_MESSAGE_LEND, and those that FBUFS_IO writes without
 * FBUFS_IO_GIVE. Without either: SIGBUS at its address, as for any other locked fbuf.
 *
 * FBUFS_POOL_STORE_WAIT: the store waits until the fbuf is the originator's again, and
 * is done then. A signal is handled meanwhile. A system call that would store there
 * does not wait, because it may have locks that others need: it gets EFAULT.
 *
 * FBUFS_POOL_STORE_COPY: the originator goes on with a private copy of the page, in the
 * same place; the receivers, and the kernel, keep what was sent. When the fbuf is sent
 * or written again, the private copies become its bytes. Each page is copied
 * twice, and FBUFS_COUNT_BYTES_COPIED says so. Without memory for a copy the store ends
 * as without the flag. The copies are charged to the memory cgroup of who stored.
 */
#define FBUFS_POOL_STORE_WAIT (1U << 0)
#define FBUFS_POOL_STORE_COPY (1U << 1)

/**
 * struct fbufs_pool_create - make the pool of this process (FBUFS_POOL_CREATE)
 * @size: sizeof(struct fbufs_pool_create)
 * @flags: 0, FBUFS_POOL_STORE_WAIT or FBUFS_POOL_STORE_COPY
 * @bytes: how much memory the pool may use at most, rounded up to pages; none
 *	is used before it is needed
 * @out_pool: the pool's number
 * @__reserved: 0
 * @out_span: bytes to map at FBUFS_POOL_OFFSET(@out_pool); more than @bytes,
 *	so that fbufs of many sizes find room
 *
 * EEXIST: the process has a pool. ENOSPC: no pool numbers left.
 */
struct fbufs_pool_create {
	__u32 size;
	__u32 flags;
	__u64 bytes;
	__u32 out_pool;
	__u32 __reserved;
	__u64 out_span;
};

#define FBUFS_POOL_CREATE _IO(FBUFS_TYPE, 0x01)

/**
 * struct fbufs_pool_info - how long the window of a pool is (FBUFS_POOL_INFO)
 * @size: sizeof(struct fbufs_pool_info)
 * @flags: 0
 * @pool: the pool's number
 * @__reserved: 0
 * @out_span: bytes to map
 * @out_bytes: how much memory the pool may use
 * @out_used: bytes of memory that it uses now
 *
 * ENOENT: no such pool, or none that the domain may map: its own, one that it
 * receives from, or one of which it holds an fbuf.
 */
struct fbufs_pool_info {
	__u32 size;
	__u32 flags;
	__u32 pool;
	__u32 __reserved;
	__u64 out_span;
	__u64 out_bytes;
	__u64 out_used;
};

#define FBUFS_POOL_INFO _IO(FBUFS_TYPE, 0x02)

/**
 * struct fbufs_buffer - an allocated fbuf
 * @fbuf: its handle; a new one at every allocation
 * @position: offset of its first byte among the device's offsets
 */
struct fbufs_buffer {
	__u64 fbuf;
	__u64 position;
};

#define FBUFS_DONTWAIT (1U << 0)

/**
 * struct fbufs_alloc - allocate fbufs (FBUFS_ALLOC, domain or sending end)
 * @size: sizeof(struct fbufs_alloc)
 * @flags: FBUFS_DONTWAIT: rather EAGAIN than wait while the pool is full
 * @bytes: bytes of each fbuf, rounded up to pages, at most FBUFS_MAX_BYTES
 * @buffers: where to write an array of struct fbufs_buffer
 * @count: how many
 * @__reserved: 0
 *
 * On a sending end, the fbufs are for its channel: those that came home to the
 * channel's free list are taken first (last in, first out), with their old
 * contents; the channel's receivers may have them mapped. On a domain, the
 * fbufs belong to no channel yet and become the channel's that they are first
 * sent on; they are zero. Returns how many; fewer than @count only when the
 * pool had no more.
 *
 * ENXIO: the process has no pool, or the end is not attached. EAGAIN: the pool
 * is full, and fbufs are on their way that will come home; poll the domain for
 * POLLOUT. ENOBUFS: the pool is full and nothing is on its way. EPIPE: the
 * channel has no receiving end left. O_NONBLOCK on the descriptor means
 * FBUFS_DONTWAIT.
 */
struct fbufs_alloc {
	__u32 size;
	__u32 flags;
	__u64 bytes;
	__u64 buffers;
	__u32 count;
	__u32 __reserved;
};

#define FBUFS_ALLOC _IO(FBUFS_TYPE, 0x03)

/**
 * struct fbufs_handles - a vector of handles
 * @size: sizeof(struct fbufs_handles)
 * @flags: 0
 * @handles: array of __u64
 * @count: how many
 * @__reserved: 0
 *
 * FBUFS_FREE (domain): gives fbufs that were allocated and not sent back to
 * their free list. ENOENT: no such fbuf, or an old handle. EBUSY: the fbuf was
 * sent and is not the caller's to free. ENXIO: no pool. An fbuf that was sent
 * with FBUFS_MESSAGE_LEND, and is not home yet, is given away: it goes on the free
 * list when it comes home.
 *
 * FBUFS_RELEASE (domain): ends the use of received messages. ENOENT: the domain
 * holds no such message.
 *
 * FBUFS_SECURE (domain): takes the originators' write access to the fbufs of
 * held messages away, for messages of volatile channels; no change to those
 * that are locked. ENOENT as above.
 */
struct fbufs_handles {
	__u32 size;
	__u32 flags;
	__u64 handles;
	__u32 count;
	__u32 __reserved;
};

#define FBUFS_FREE _IO(FBUFS_TYPE, 0x04)
#define FBUFS_RELEASE _IO(FBUFS_TYPE, 0x05)
#define FBUFS_SECURE _IO(FBUFS_TYPE, 0x06)

/**
 * struct fbufs_notices - which fbufs came home (FBUFS_NOTICES, domain)
 * @size: sizeof(struct fbufs_notices)
 * @flags: 0
 * @fbufs: where to write an array of __u64: the handles that fbufs had when
 *	they were sent in messages flagged FBUFS_MESSAGE_NOTICE
 * @count: room in it
 * @__reserved: 0
 *
 * Returns how many, 0 when there are none; never waits (poll the domain for
 * POLLIN). ENXIO: no pool.
 */
struct fbufs_notices {
	__u32 size;
	__u32 flags;
	__u64 fbufs;
	__u32 count;
	__u32 __reserved;
};

#define FBUFS_NOTICES _IO(FBUFS_TYPE, 0x07)

#define FBUFS_CHANNEL_VOLATILE (1U << 0)	/* the originator keeps write access */
#define FBUFS_CHANNEL_UNCACHED (1U << 1)	/* receivers' mappings go at release */
#define FBUFS_CHANNEL_ATTACH_SENDER (1U << 2)	/* attach out_sender to this domain */
#define FBUFS_CHANNEL_NONBLOCK (1U << 3)	/* O_NONBLOCK on both descriptors */

/**
 * struct fbufs_channel_create - make a channel (FBUFS_CHANNEL_CREATE, domain)
 * @size: sizeof(struct fbufs_channel_create)
 * @flags: FBUFS_CHANNEL_*
 * @depth: how many messages may wait for one receiver, rounded up to a power
 *	of two; 0: 64; at most FBUFS_MAX_DEPTH
 * @out_channel: the channel's number, for people and reports
 * @out_sender: descriptor of the sending end, close-on-exec
 * @out_receiver: descriptor of the first receiving end, close-on-exec
 *
 * Both ends can be passed to other processes. EMFILE, ENFILE: no descriptors.
 */
struct fbufs_channel_create {
	__u32 size;
	__u32 flags;
	__u32 depth;
	__u32 out_channel;
	__s32 out_sender;
	__s32 out_receiver;
};

#define FBUFS_CHANNEL_CREATE _IO(FBUFS_TYPE, 0x08)

/* What the module has counted; see struct fbufs_stats. */
enum fbufs_counter {
	FBUFS_COUNT_MESSAGES_SENT,	/* accepted into queues, once a message */
	FBUFS_COUNT_BYTES_SENT,
	FBUFS_COUNT_MESSAGES_RECEIVED,
	FBUFS_COUNT_BYTES_RECEIVED,
	FBUFS_COUNT_BYTES_COPIED,	/* payload that the module copied */
	FBUFS_COUNT_ALLOCS,		/* fbufs allocated */
	FBUFS_COUNT_RELEASES,		/* messages released */
	FBUFS_COUNT_CALLS,		/* system calls on domain and ends */
	FBUFS_COUNT_FAULTS,		/* page faults in windows */
	FBUFS_COUNT_FAULTS_DENIED,	/* of these, ended in SIGBUS */
	FBUFS_COUNT_PTES_SET,		/* page-table entries made */
	FBUFS_COUNT_PTES_CLEARED,	/* pages whose entries were taken away */
	FBUFS_COUNT_TLB_FLUSHES,
	FBUFS_COUNT_PAGES_ALLOCATED,
	FBUFS_COUNT_PAGES_FREED,
	FBUFS_COUNT_LOCKS,		/* fbufs locked */
	FBUFS_COUNTERS,
};

/* What there is in the whole module now. */
enum fbufs_gauge {
	FBUFS_GAUGE_DOMAINS,
	FBUFS_GAUGE_POOLS,
	FBUFS_GAUGE_CHANNELS,
	FBUFS_GAUGE_ENDS,
	FBUFS_GAUGE_WINDOWS,
	FBUFS_GAUGE_MESSAGES,	/* queued, held, or kept for re-use */
	FBUFS_GAUGE_FBUFS,	/* with pages */
	FBUFS_GAUGE_PAGES,
	FBUFS_GAUGE_METADATA,	/* bytes that the module keeps for fbufs */
	FBUFS_GAUGE_IO,		/* operations that are not over, fbufs on their way home included */
	FBUFS_GAUGES,
};

/**
 * struct fbufs_stats - counters and gauges (FBUFS_STATS, domain)
 * @size: sizeof(struct fbufs_stats)
 * @flags: 0
 * @counters: where to write an array of __u64 by enum fbufs_counter, what this
 *	domain did or what was done to its windows; or NULL
 * @ncounters: room in it
 * @ngauges: room in @gauges
 * @gauges: where to write an array of __u64 by enum fbufs_gauge; or NULL
 */
struct fbufs_stats {
	__u32 size;
	__u32 flags;
	__u64 counters;
	__u32 ncounters;
	__u32 ngauges;
	__u64 gauges;
};

#define FBUFS_STATS _IO(FBUFS_TYPE, 0x09)

enum fbufs_state {
	FBUFS_STATE_EMPTY,	/* address space without an fbuf */
	FBUFS_STATE_FREE,	/* at home */
	FBUFS_STATE_OWNED,	/* allocated, the originator's */
	FBUFS_STATE_SENDING,	/* inside a send call */
	FBUFS_STATE_SENT,	/* its receivers', or, inside a send call, about to be */
	FBUFS_STATE_LEAVING,	/* about to lose its pages */
};

/**
 * struct fbufs_locate - what lies at a place in the own pool (FBUFS_LOCATE)
 * @size: sizeof(struct fbufs_locate)
 * @flags: 0
 * @position: offset among the device's offsets
 * @out_fbuf: handle of the fbuf there, or 0
 * @out_first: offset of its first byte
 * @out_bytes: its length
 * @out_state: enum fbufs_state
 * @out_locked: 1 when it is locked
 * @out_channel: number of its channel, or 0
 * @out_holders: messages that contain it, once for each slice
 *
 * For reports and tools. ENXIO: no pool. ERANGE: not in the own pool.
 */
struct fbufs_locate {
	__u32 size;
	__u32 flags;
	__u64 position;
	__u64 out_fbuf;
	__u64 out_first;
	__u64 out_bytes;
	__u32 out_state;
	__u32 out_locked;
	__u32 out_channel;
	__u32 out_holders;
};

#define FBUFS_LOCATE _IO(FBUFS_TYPE, 0x0a)

/**
 * struct fbufs_attach - attach an end to a domain (FBUFS_ATTACH, end)
 * @size: sizeof(struct fbufs_attach)
 * @flags: 0
 * @domain: descriptor of the caller's domain
 * @__reserved: 0
 *
 * From then on only that domain's process can use the end. An end attaches
 * once. EBUSY: it is attached. EBADF, EINVAL: @domain is no domain.
 */
struct fbufs_attach {
	__u32 size;
	__u32 flags;
	__s32 domain;
	__u32 __reserved;
};

#define FBUFS_ATTACH _IO(FBUFS_TYPE, 0x20)

/**
 * struct fbufs_end_info - what an end is (FBUFS_END_INFO, end; for anybody)
 * @size: sizeof(struct fbufs_end_info)
 * @flags: 0
 * @out_channel: the channel's number
 * @out_mode: FBUFS_CHANNEL_VOLATILE, FBUFS_CHANNEL_UNCACHED
 * @out_depth: messages that may wait for one receiver
 * @out_receivers: receiving ends there are
 * @out_queued: messages waiting; at the sending end, for the slowest receiver
 * @out_sending: 1 for the sending end
 * @out_attached: 1 when attached
 * @out_hangup: 1 when the other side is gone
 */
struct fbufs_end_info {
	__u32 size;
	__u32 flags;
	__u32 out_channel;
	__u32 out_mode;
	__u32 out_depth;
	__u32 out_receivers;
	__u32 out_queued;
	__u32 out_sending;
	__u32 out_attached;
	__u32 out_hangup;
};

#define FBUFS_END_INFO _IO(FBUFS_TYPE, 0x21)

/**
 * struct fbufs_add_receiver - one more receiver (FBUFS_ADD_RECEIVER, sending end)
 * @size: sizeof(struct fbufs_add_receiver)
 * @flags: 0, or FBUFS_CHANNEL_NONBLOCK
 * @out_receiver: descriptor of the new receiving end, close-on-exec
 * @__reserved: 0
 *
 * It gets the messages that are sent from then on. On a sending end that a driver
 * has taken over, whoever has the descriptor can add receivers. EUSERS: the channel has
 * FBUFS_MAX_RECEIVERS. EMFILE, ENFILE: no descriptors.
 */
struct fbufs_add_receiver {
	__u32 size;
	__u32 flags;
	__s32 out_receiver;
	__u32 __reserved;
};

#define FBUFS_ADD_RECEIVER _IO(FBUFS_TYPE, 0x22)

/**
 * struct fbufs_slice - a part of an fbuf
 * @fbuf: handle of the fbuf
 * @address: in a message sent with FBUFS_MESSAGE_COPY: of the bytes in the
 *	caller's memory, instead of an fbuf; @hold and @offset are 0
 * @hold: sending: 0 for an fbuf that the caller allocated, or the handle of a
 *	message that it holds and that contains these bytes, to send them on.
 *	Receiving: 0
 * @position: receiving: offset of the first byte among the device's offsets.
 *	Sending: not looked at
 * @offset: of the first byte in the fbuf
 * @length: bytes, at least 1
 */
struct fbufs_slice {
	union {
		__u64 fbuf;
		__u64 address;
	};
	__u64 hold;
	__u64 position;
	__u32 offset;
	__u32 length;
};

#define FBUFS_MESSAGE_NOTICE (1U << 0)	/* sending: tell when its fbufs come home */
#define FBUFS_MESSAGE_LOCKED (1U << 1)	/* receiving: nobody can write it */
/* Sending: when its own fbufs come home they are the caller's again, under their handles. */
#define FBUFS_MESSAGE_LEND (1U << 2)
/*
 * Sending, without NOTICE and LEND: the bytes at the slices' addresses, at most
 * FBUFS_MAX_COPY of at most FBUFS_MAX_COPY_SLICES slices, are copied into an fbuf of
 * the caller's pool, and that is sent, as a message of one slice. The kernel is its
 * originator: it is locked on any channel, the caller cannot write it, does not get
 * its handle, and has no access to lose. That makes a small message cheaper than an
 * fbuf whose write access is taken away and given back.
 */
#define FBUFS_MESSAGE_COPY (1U << 3)

/**
 * struct fbufs_message - a list of slices
 * @message: receiving: the handle to hold and release it by. Sending: 0
 * @cookie: a number of the sender's for the receiver
 * @length: receiving: bytes of all slices. Sending: 0
 * @slices: how many, 1 to FBUFS_MAX_SLICES
 * @flags: FBUFS_MESSAGE_*
 */
struct fbufs_message {
	__u64 message;
	__u64 cookie;
	__u64 length;
	__u32 slices;
	__u32 flags;
};

/**
 * struct fbufs_send - send messages (FBUFS_SEND, sending end)
 * @size: sizeof(struct fbufs_send)
 * @flags: FBUFS_DONTWAIT
 * @messages: array of struct fbufs_message
 * @slices: array of struct fbufs_slice: those of the first message, then those
 *	of the second, ...
 * @count: messages
 * @nslices: slices
 * @refill: where to write an array of struct fbufs_buffer: fbufs allocated as by
 *	FBUFS_ALLOC on this end after the messages are sent, as many as
 *	are to be had without waiting
 * @refill_bytes: bytes of each
 * @refill_count: room in @refill; 0: none
 * @out_refilled: how many there are
 *
 * Every receiving end gets every message. An fbuf of the caller's may be in
 * several slices of one message, not in two messages: it is the receivers'
 * with the first. Nothing is copied but what FBUFS_MESSAGE_COPY asks for, and
 * FBUFS_COUNT_BYTES_COPIED says so. Waits until all messages are queued, and
 * for room in the pool for those that are copied. Returns how many are queued.
 *
 * EAGAIN: a queue is full; poll for POLLOUT. EPIPE: there is no receiving end
 * left. ENXIO: not attached, or a notice or a copy is wanted and there is no pool.
 * ENOBUFS: more than a million notices are unread. EMSGSIZE: a message has
 * more slices than @nslices leaves or than FBUFS_MAX_SLICES. ENOENT: no such
 * fbuf or an old handle, or no such message held. EACCES: the fbuf is not the
 * caller's to send, or the held message does not contain these bytes. EXDEV:
 * the fbuf was allocated for another channel. ERANGE: the slice does not lie
 * in the fbuf. EOVERFLOW: the fbuf is in four thousand million slices.
 * A message to copy also: EAGAIN: the pool is full, and fbufs will come home:
 * poll the domain for POLLOUT. ENOBUFS: the pool is full and nothing is on its
 * way. EMSGSIZE: more than FBUFS_MAX_COPY bytes or FBUFS_MAX_COPY_SLICES slices.
 * With any of these no fbuf of the failed message has changed hands.
 */
struct fbufs_send {
	__u32 size;
	__u32 flags;
	__u64 messages;
	__u64 slices;
	__u32 count;
	__u32 nslices;
	__u64 refill;
	__u64 refill_bytes;
	__u32 refill_count;
	__u32 out_refilled;
};

#define FBUFS_SEND _IO(FBUFS_TYPE, 0x23)

/**
 * struct fbufs_receive - receive messages (FBUFS_RECEIVE, receiving end)
 * @size: sizeof(struct fbufs_receive)
 * @flags: FBUFS_DONTWAIT
 * @messages: where to write an array of struct fbufs_message
 * @slices: where to write an array of struct fbufs_slice, in the same order
 * @count: room in @messages, at least 1
 * @nslices: room in @slices
 * @release: array of __u64: held messages to release first, as by FBUFS_RELEASE
 * @nrelease: how many; 0: none
 * @out_released: how many were
 *
 * Waits for the first message, not for more. Returns how many; 0 when the
 * sending end is gone and everything was received.
 *
 * EAGAIN: none is there; poll for POLLIN. ENXIO: not attached. ENOENT: a handle
 * in @release is not held; those before it were released and nothing was
 * received. EMSGSIZE: @nslices is too small for the next message, which stays
 * queued. ENOBUFS: the domain holds FBUFS_MAX_HELD messages.
 */
struct fbufs_receive {
	__u32 size;
	__u32 flags;
	__u64 messages;
	__u64 slices;
	__u32 count;
	__u32 nslices;
	__u64 release;
	__u32 nrelease;
	__u32 out_released;
};

#define FBUFS_RECEIVE _IO(FBUFS_TYPE, 0x24)

/**
 * struct fbufs_call - send messages, then receive some (FBUFS_CALL, sending end)
 * @size: sizeof(struct fbufs_call)
 * @flags: FBUFS_DONTWAIT, for both
 * @receiver: descriptor of the receiving end, of the same process
 * @out_sent: how many messages are queued
 * @send: what to send, as by FBUFS_SEND; its size and flags are 0
 * @receive: what to receive, as by FBUFS_RECEIVE; its size and flags are 0
 *
 * For a request and its answer, or an answer and the next request, in one system
 * call: when all of @send is queued, it goes on as FBUFS_RECEIVE on @receiver does,
 * whose result it has. Where fewer are queued it returns 0, and has released and
 * received nothing; FBUFS_SEND says why, when it is told to send the next one.
 *
 * Before anything is sent: EBADF: @receiver is no open descriptor. EINVAL: it is no
 * receiving end; also what both calls refuse by the form of their arguments. ENXIO:
 * either end is not attached. EPERM, ENODEV: of either end. Otherwise, with
 * @out_sent less than @send.count, the errors of FBUFS_SEND; with all of them sent
 * those of FBUFS_RECEIVE, by which to go on: EINTR, too, comes then.
 *
 * The two parts stay as they are here, whatever FBUFS_SEND and FBUFS_RECEIVE learn:
 * that comes behind them.
 */
struct fbufs_call {
	__u32 size;
	__u32 flags;
	__s32 receiver;
	__u32 out_sent;
	struct fbufs_send send;
	struct fbufs_receive receive;
};

#define FBUFS_CALL _IO(FBUFS_TYPE, 0x25)

/* Where an operation takes place in what its descriptor stands for. */
#define FBUFS_IO_HERE (~0ULL)		/* the file position; for streams the only one */

enum fbufs_io_opcode {
	FBUFS_IO_WRITE,			/* slices to a descriptor */
	FBUFS_IO_READ,			/* from a descriptor to an fbuf */
};

#define FBUFS_IO_GIVE (1U << 0)		/* writing: own fbufs go home afterwards */
#define FBUFS_IO_APPEND (1U << 1)	/* writing: at the end of the file */
#define FBUFS_IO_ALL (1U << 2)		/* reading: all of @length, or up to the end */
#define FBUFS_IO_COPY (1U << 3)		/* reading: into an own fbuf, in any case */

/**
 * struct fbufs_io_op - an operation on a descriptor
 * @cookie: comes back with the completion
 * @offset: in the file, or FBUFS_IO_HERE
 * @length: reading: bytes at most, 1 to FBUFS_MAX_BYTES. Writing: 0
 * @address: datagram sockets: where the peer's address is (writing; NULL: that
 *	of the connection) or is to go (reading; room for 128 bytes; or NULL);
 *	otherwise NULL
 * @fd: the descriptor
 * @opcode: enum fbufs_io_opcode
 * @flags: FBUFS_IO_GIVE to FBUFS_IO_COPY
 * @slices: writing: how many, 1 to FBUFS_MAX_SLICES. Reading: 0
 * @end: reading: the sending end of the own process for whose channel the fbuf
 *	is allocated; -1: for none. Writing: -1
 * @address_length: writing: bytes at @address
 */
struct fbufs_io_op {
	__u64 cookie;
	__u64 offset;
	__u64 length;
	__u64 address;
	__s32 fd;
	__u32 opcode;
	__u32 flags;
	__u32 slices;
	__s32 end;
	__u32 address_length;
};

/* How the bytes of an operation went. */
#define FBUFS_IO_ZEROCOPY (1U << 0)	/* by reference, at least some of them */
#define FBUFS_IO_COPIED (1U << 1)	/* by the processor, @copied of them */
#define FBUFS_IO_FALLBACK (1U << 2)	/* copied for @reason, where others need not */
#define FBUFS_IO_END (1U << 3)		/* reading: there is no more */
#define FBUFS_IO_TRUNCATED (1U << 4)	/* reading: the datagram was longer */

enum fbufs_io_reason {
	FBUFS_IO_NO_REASON,
	FBUFS_IO_PAGE_CACHE,		/* a file, not opened with O_DIRECT */
	FBUFS_IO_NO_REFERENCES,		/* this kind of descriptor only copies */
	FBUFS_IO_TRANSFORMED,		/* kTLS or a BPF program changes the bytes */
	FBUFS_IO_NO_SCATTER_GATHER,	/* the network device cannot gather pages */
	FBUFS_IO_NOT_FBUFS,		/* reading: what came was not fbufs' whole pages */
};

/**
 * struct fbufs_completion - what became of an operation
 * @cookie: the operation's
 * @result: bytes done, or, when there were none, -errno
 * @copied: bytes of these that the processor copied inside the kernel
 * @fbuf: reading: the own fbuf that they are in; 0 without one
 * @position: reading: offset of its first byte among the device's offsets
 * @message: reading: the message held from here on, whose slices say where they
 *	are; 0 without one
 * @flags: FBUFS_IO_ZEROCOPY to FBUFS_IO_TRUNCATED
 * @reason: enum fbufs_io_reason
 * @slices: reading: of @message
 * @address_length: reading: bytes at the operation's @address
 */
struct fbufs_completion {
	__u64 cookie;
	__s64 result;
	__u64 copied;
	__u64 fbuf;
	__u64 position;
	__u64 message;
	__u32 flags;
	__u32 reason;
	__u32 slices;
	__u32 address_length;
};

#define FBUFS_MAX_IO 1024		/* operations of a domain that are not complete */

/**
 * struct fbufs_io - send and receive through descriptors (FBUFS_IO, domain)
 * @size: sizeof(struct fbufs_io)
 * @flags: FBUFS_DONTWAIT
 * @ops: array of struct fbufs_io_op to submit
 * @slices: array of struct fbufs_slice: those of the first that writes, ...
 * @nops: operations to submit; may be 0
 * @nslices: slices
 * @completions: where to write an array of struct fbufs_completion
 * @out_slices: where to write an array of struct fbufs_slice: those of the first
 *	@message, ...
 * @room: room in @completions
 * @slices_room: room in @out_slices
 * @wait: how many completions to wait for, at most @room
 * @out_completed: how many there are
 *
 * Submits operations, then gets on with those that wait for their descriptor,
 * then reports what is complete. The kernel is a domain like any other: from
 * the submission on the fbufs of an operation are locked, and are nobody's to
 * write until the last reference to their pages in the kernel is gone. Then
 * they are the caller's again, under the same handle, and the completion comes.
 * With FBUFS_IO_GIVE the completion comes when the descriptor has accepted the
 * bytes, and the fbufs go home later; when it accepts none, they are the caller's
 * again, unless slices of held messages were among them: then they go home.
 *
 * Operations on one descriptor and in one direction happen in order. One that
 * has to wait for its descriptor goes on when the process calls again; the
 * domain polls POLLIN when there is a completion, or something to go on with.
 * Files other than sockets, pipes and devices are read and written at once, as
 * by read(2) and write(2), and the call takes that long; so does a device that
 * only knows O_NONBLOCK of its descriptor, such as a terminal, without it. A closed descriptor
 * stays open for its operations.
 *
 * Sockets and pipes get references to the pages: TCP, UDP and UNIX stream
 * sockets, and pipes, copy nothing on the sending side, not even towards the
 * same machine; other sockets copy, and so do kTLS and BPF sockmaps. Files
 * copy through the page cache, unless opened with O_DIRECT. What another
 * domain's FBUFS_IO put into a pipe or a UNIX stream socket in whole pages is
 * received as a message that holds the very fbufs, without a copy, unless
 * FBUFS_IO_COPY is set: the caller can map their pool, read, send on and
 * release them.
 *
 * Returns how many operations were submitted, or the error of the first:
 * EBADF: no such descriptor, or not open for that. EINVAL: also a descriptor
 * that cannot be read or written, @offset for what has no positions, and this
 * module's own descriptors. EBUSY: FBUFS_MAX_IO are not complete. ENXIO: no
 * pool. ESPIPE: @offset. EPIPE: @end has no receivers. ENOENT, EACCES, ERANGE,
 * EMSGSIZE, EOVERFLOW: as FBUFS_SEND. With any of these nothing has changed
 * hands. With @nops 0, returns 0; EAGAIN: none is complete, with
 * FBUFS_DONTWAIT and @wait. EMSGSIZE: @slices_room is too small for
 * the next completion, which stays. What no operation is left for is not waited
 * for.
 *
 * Errors in completions are those of read(2), write(2), send(2) and recv(2);
 * EPIPE comes without a signal; ENOBUFS: the pool is too small; ECANCELED: by
 * FBUFS_CANCEL.
 */
struct fbufs_io {
	__u32 size;
	__u32 flags;
	__u64 ops;
	__u64 slices;
	__u32 nops;
	__u32 nslices;
	__u64 completions;
	__u64 out_slices;
	__u32 room;
	__u32 slices_room;
	__u32 wait;
	__u32 out_completed;
};

#define FBUFS_IO _IO(FBUFS_TYPE, 0x0b)

/**
 * struct fbufs_cancel - give up operations (FBUFS_CANCEL, domain)
 * @size: sizeof(struct fbufs_cancel)
 * @flags: 0
 * @cookie: of the operations
 *
 * Those with this cookie that wait for their descriptor complete, with the bytes
 * done so far, or with ECANCELED without any. What a descriptor has accepted
 * cannot be taken back: its pages come home when it is done with them, or when
 * its other side is closed (of a pipe, both sides). Returns how many. ENOENT: none waits.
 */
struct fbufs_cancel {
	__u32 size;
	__u32 flags;
	__u64 cookie;
};

#define FBUFS_CANCEL _IO(FBUFS_TYPE, 0x0c)

#define FBUFS_MUTABLE_TAKEN (1U << 0)	/* the same pages, without a copy */
#define FBUFS_MUTABLE_COPIED (1U << 1)	/* a copy: somebody else holds them, too */

/**
 * struct fbufs_make_mutable - take a held message over for writing (FBUFS_MAKE_MUTABLE)
 * @size: sizeof(struct fbufs_make_mutable)
 * @flags: 0
 * @message: a message that the caller holds, of one slice
 * @out_fbuf: the own fbuf with its bytes, to write, send or free
 * @out_position: offset of its first byte among the device's offsets
 * @out_offset: of the message's first byte in it
 * @out_length: bytes of the message
 * @out_how: FBUFS_MUTABLE_TAKEN or FBUFS_MUTABLE_COPIED
 * @__reserved: 0
 *
 * The message is released. When nobody else holds its fbuf, the fbuf's pages
 * move into the caller's pool, which has to have room for them, and leave their
 * originator's. ENOENT: no such message held. EINVAL: it has several slices.
 * ENXIO: no pool. EAGAIN, ENOBUFS: no room in the pool, as FBUFS_ALLOC.
 */
struct fbufs_make_mutable {
	__u32 size;
	__u32 flags;
	__u64 message;
	__u64 out_fbuf;
	__u64 out_position;
	__u32 out_offset;
	__u32 out_length;
	__u32 out_how;
	__u32 __reserved;
};

#define FBUFS_MAKE_MUTABLE _IO(FBUFS_TYPE, 0x0d)

/**
 * struct fbufs_send_file - send a file to a stream socket (FBUFS_SEND_FILE, domain)
 * @size: sizeof(struct fbufs_send_file)
 * @flags: FBUFS_DONTWAIT
 * @to: the socket
 * @from: the file
 * @offset: in the file, or FBUFS_IO_HERE
 * @bytes: at most so many, at least 1
 * @out_how: FBUFS_IO_ZEROCOPY, or FBUFS_IO_COPIED and FBUFS_IO_FALLBACK, of what was sent;
 *	FBUFS_IO_END: there is no more
 * @out_reason: enum fbufs_io_reason
 *
 * As sendfile(2): the socket gets references to the file's own pages. No fbuf is
 * needed, and nothing is locked: who writes the file before the peer has read it
 * changes what is sent. Unlike sendfile(2) it raises no SIGPIPE, and waits for
 * room in the socket unless FBUFS_DONTWAIT is set, here or by O_NONBLOCK of the
 * domain; O_NONBLOCK of the socket does not matter. @out_how is about the socket: what
 * a file system copies to have the file in pages does not count.
 *
 * Returns how many bytes were sent, at most 2 GiB less a page, fewer than @bytes also after
 * a signal or an error, which the next call meets; 0 with FBUFS_IO_END. EBADF: no such
 * descriptor, or not open for that. ENOTSOCK: @to is no socket. EPROTOTYPE: it
 * has datagrams. EINVAL: @from is no file or block device, or cannot be spliced; or @offset.
 * EAGAIN: the socket is full. EINTR. And what else sendfile(2) gives.
 */
struct fbufs_send_file {
	__u32 size;
	__u32 flags;
	__s32 to;
	__s32 from;
	__u64 offset;
	__u64 bytes;
	__u32 out_how;
	__u32 out_reason;
};

#define FBUFS_SEND_FILE _IO(FBUFS_TYPE, 0x0e)

#endif /* _UAPI_LINUX_FBUFS_H */
