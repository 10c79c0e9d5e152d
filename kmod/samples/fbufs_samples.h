/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* Copyright (c) 2026 The fbufs authors */
/*
 * What programs say to the sample drivers. An open file is one use of a driver; it
 * ends when it is closed.
 */
#ifndef FBUFS_SAMPLES_H
#define FBUFS_SAMPLES_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct fbufs_sample_start - begin (FBUFS_SAMPLE_START)
 * @domain: descriptor of the caller's domain, which has a pool
 * @sender: descriptor of a sending end, not attached: what the driver sends on
 * @receiver: descriptor of a receiving end, not attached: what the driver receives
 *	(sink, edu); else -1
 * @bytes: of each fbuf; of a plane of a frame (camera)
 * @count: fbufs
 * @flags: FBUFS_SAMPLE_HEADER, FBUFS_SAMPLE_VARYING
 * @period: nanoseconds between two frames, 0: only when triggered (camera)
 * @snap: bytes of a packet that are kept (tap)
 * @planes: fbufs of a frame, one slice of its message each; 0: one (camera)
 * @name: of the network interface (tap)
 *
 * EBUSY: it has begun. Other errors are those of fbufs_source_open().
 */
struct fbufs_sample_start {
	__s32 domain;
	__s32 sender;
	__s32 receiver;
	__u32 bytes;
	__u32 count;
	__u32 flags;
	__u64 period;
	__u32 snap;
	__u32 planes;
	char name[16];
};

#define FBUFS_SAMPLE_HEADER (1U << 0)	/* camera: frames have their header only */
#define FBUFS_SAMPLE_VARYING (1U << 1)	/* camera: frame n has 1 + n % @planes of them */

/**
 * struct fbufs_sample_status - what a driver did (FBUFS_SAMPLE_STATUS)
 * @done: frames, packets or messages
 * @dropped: of these, for want of an fbuf
 * @errors: bad messages, or failures of the device
 * @messages: delivered
 * @home: of these, notices that they came home (sink)
 */
struct fbufs_sample_status {
	__u64 done;
	__u64 dropped;
	__u64 errors;
	__u64 messages;
	__u64 home;
};

#define FBUFS_SAMPLE_START _IOW(0xFC, 0x00, struct fbufs_sample_start)
#define FBUFS_SAMPLE_STOP _IO(0xFC, 0x01)
#define FBUFS_SAMPLE_STATUS _IOR(0xFC, 0x02, struct fbufs_sample_status)
/* Camera: the argument says how many frames to make at once. Returns how many were delivered. */
#define FBUFS_CAMERA_TRIGGER _IO(0xFC, 0x03)

/**
 * struct fbufs_frame - what a frame begins with
 * @sequence: its number, also the cookie of its message
 * @time: nanoseconds since the machine came up
 * @bytes: of the frame, in all planes
 * @pattern: whether the 64-bit words behind this are fbufs_frame_word(), through all planes
 */
struct fbufs_frame {
	__u64 sequence;
	__u64 time;
	__u32 bytes;
	__u32 pattern;
};

static inline __u64 fbufs_frame_word(__u64 sequence, __u64 index)
{
	return sequence * 0x9e3779b97f4a7c15ULL + index;
}

/**
 * struct fbufs_answer - what the sink says of a message; the cookie is the message's
 * @length: its bytes
 * @hash: FNV-1a of them
 * @slices: how many
 * @locked: nobody could write it while it was read
 */
struct fbufs_answer {
	__u64 length;
	__u64 hash;
	__u32 slices;
	__u32 locked;
};

enum fbufs_misuse_kind {
	FBUFS_MISUSE_DELIVER_TWICE,
	FBUFS_MISUSE_FREE_DELIVERED,
	FBUFS_MISUSE_FREE_TWICE,
	FBUFS_MISUSE_DELIVER_FREED,
	FBUFS_MISUSE_OUT_OF_RANGE,
	FBUFS_MISUSE_EMPTY,
	FBUFS_MISUSE_FORGED,
	FBUFS_MISUSE_RELEASE_TWICE,
	FBUFS_MISUSE_VIEW_RELEASED,
	FBUFS_MISUSE_MAP_FREED,
	FBUFS_MISUSE_SLEEP_SOURCE,
	FBUFS_MISUSE_SLEEP_SINK,
	FBUFS_MISUSE_UNFINISHED,
	FBUFS_MISUSE_SAME_FBUF_TWICE,
	FBUFS_MISUSES,
};

/**
 * struct fbufs_misuse - what the module says to a bad driver (FBUFS_SINK_MISUSE)
 * @result: what each wrong call returned, by enum fbufs_misuse_kind
 *
 * For the test. What has to do with messages is only tried when one is queued.
 */
struct fbufs_misuse {
	__s32 result[FBUFS_MISUSES];
};

#define FBUFS_SINK_MISUSE _IOR(0xFC, 0x04, struct fbufs_misuse)

/* For the test: the sink keeps an fbuf for so many milliseconds, and frees it from a work item. */
#define FBUFS_SINK_KEEP _IO(0xFC, 0x05)

/**
 * struct fbufs_delivery - messages that are delivered in one call (FBUFS_SINK_DELIVER)
 * @fbufs: of each message, a slice of one byte each; 0: there is no such message
 * @unfinished: the last fbuf goes on with a message, too
 * @delivered: what delivering them returned
 * @freed: what freeing those that were not delivered returned
 *
 * For the test. EAGAIN: not as many fbufs are ready. E2BIG: more than any source has. EINVAL: none.
 */
struct fbufs_delivery {
	__u32 fbufs[4];
	__u32 unfinished;
	__s32 delivered;
	__s32 freed;
};

#define FBUFS_SINK_DELIVER _IOWR(0xFC, 0x07, struct fbufs_delivery)

/**
 * struct fbufs_mapped_misuse - what becomes of an fbuf that a device reaches (FBUFS_EDU_MISUSE)
 * @deliver: what delivering it returned
 * @free: what freeing it returned
 * @delivered: what delivering it returned when the device did not reach it any more
 *
 * For the test. EAGAIN: no fbuf is ready.
 */
struct fbufs_mapped_misuse {
	__s32 deliver;
	__s32 free;
	__s32 delivered;
};

#define FBUFS_EDU_MISUSE _IOR(0xFC, 0x06, struct fbufs_mapped_misuse)

#endif
