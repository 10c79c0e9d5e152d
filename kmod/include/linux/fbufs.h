/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * fbufs for drivers: the kernel as a domain that originates and receives messages.
 * Documentation/driver-api/fbufs.rst is the guide. The calls that the device has
 * for programs are in <uapi/linux/fbufs.h>.
 *
 * A *source* is the sending end of a channel in the kernel's hands. It sends fbufs
 * of the pool of the process that passed the end to the driver. A *sink* is a
 * receiving end in the kernel's hands.
 *
 * Drivers import the symbol namespace: fbufs_import_namespace().
 */
#ifndef _LINUX_FBUFS_H
#define _LINUX_FBUFS_H

#include <linux/dma-direction.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/types.h>
#include <linux/version.h>
#include <uapi/linux/fbufs.h>

struct device;
struct fbufs_sink;
struct fbufs_source;

/* The names of namespaces became strings in Linux 6.13. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define FBUFS_NAMESPACE FBUFS
#else
#define FBUFS_NAMESPACE "FBUFS"
#endif
#define fbufs_import_namespace() MODULE_IMPORT_NS(FBUFS_NAMESPACE)

#define FBUFS_MAX_SOURCE 4096		/* fbufs of a source */
#define FBUFS_MAX_SOURCE_SLICES 32	/* fbufs of a message of a source */

/**
 * struct fbufs_source_config - what a driver wants of a source
 * @domain: descriptor of the calling process's domain, which has a pool
 * @sender: descriptor of a sending end that is not attached
 * @bytes: of each fbuf
 * @count: of fbufs, at most FBUFS_MAX_SOURCE: ready, with the driver, queued and with
 *	receivers together
 * @notice: called when an fbuf came home, with the handle that it was sent under; or
 *	NULL. It may not sleep, and may call what may be called in any context
 * @data: for @notice
 */
struct fbufs_source_config {
	int domain;
	int sender;
	size_t bytes;
	u32 count;
	void (*notice)(void *data, u64 fbuf);
	void *data;
};

/**
 * struct fbufs_output - an fbuf that a driver fills
 * @data: all of it, one byte behind the other
 * @bytes: its length, whole pages
 * @fbuf: the handle that programs and notices know it by
 * @ticket: what the source knows it by; not the driver's to change
 * @cookie: the driver's number for the receivers, before it is delivered
 * @offset: of the message's first byte; 0 unless the driver changes it
 * @length: bytes of the message; set by the driver before it is delivered
 * @more: the next one that is delivered is the next slice of the same message, whose
 *	cookie is that of the first; false unless the driver changes it
 */
struct fbufs_output {
	void *data;
	size_t bytes;
	u64 fbuf;
	u64 ticket;
	u64 cookie;
	u32 offset;
	u32 length;
	bool more;
};

struct fbufs_source *__fbufs_source_open(const struct fbufs_source_config *config,
					 struct module *owner);

/**
 * fbufs_source_open - take the sending end of a channel over
 * @config: what is wanted
 *
 * The calling module stays loaded until fbufs_source_close(). The process can close its
 * descriptors afterwards; when its domain ends, fbufs_source_alloc() says so, and
 * what is ready is freed.
 *
 * Context: the system call of the process that passed the descriptors. May sleep.
 * Return: the source, or -EBADF (not such descriptors), -EPERM (the domain is
 * another process's), -ENODEV (it has ended), -ENXIO (it has no pool), -EBUSY (the
 * end is attached), -EINVAL (@bytes, @count), -ENOBUFS or -EAGAIN (the pool is too
 * small, or full of what is sent), -ENOMEM.
 */
#define fbufs_source_open(config) __fbufs_source_open(config, THIS_MODULE)

void fbufs_source_close(struct fbufs_source *source);
int fbufs_source_alloc(struct fbufs_source *source, struct fbufs_output *outputs, u32 n);
int fbufs_source_alloc_wait(struct fbufs_source *source, struct fbufs_output *outputs, u32 n);
int fbufs_source_deliver(struct fbufs_source *source, const struct fbufs_output *outputs, u32 n);
int fbufs_source_free(struct fbufs_source *source, const struct fbufs_output *outputs, u32 n);
int fbufs_source_flush(struct fbufs_source *source);

/**
 * struct fbufs_input - a message that the kernel holds
 * @message: the handle to look at and release it by
 * @cookie: the sender's number
 * @length: bytes in all slices
 * @slices: how many
 */
struct fbufs_input {
	u64 message;
	u64 cookie;
	u64 length;
	u32 slices;
};

/**
 * struct fbufs_view - a slice of a message that the kernel holds
 * @data: its bytes, one behind the other, until the message is released
 * @length: how many
 * @locked: nobody can write them; else fbufs_sink_secure() makes it so
 */
struct fbufs_view {
	const void *data;
	u32 length;
	bool locked;
};

struct fbufs_sink *__fbufs_sink_open(int receiver, void (*ready)(void *data), void *data,
				     struct module *owner);

/**
 * fbufs_sink_open - take a receiving end of a channel over
 * @receiver: descriptor of a receiving end that is not attached
 * @ready: called when messages came, or the sending end is gone; or NULL. It may not
 *	sleep, and must not call any function of a sink
 * @data: for @ready
 *
 * The calling module stays loaded until fbufs_sink_close().
 *
 * Context: the system call of the process that passed the descriptor. May sleep.
 * Return: the sink, or -EBADF (no receiving end), -EBUSY (it is attached), -ENOMEM.
 */
#define fbufs_sink_open(receiver, ready, data) \
	__fbufs_sink_open(receiver, ready, data, THIS_MODULE)

void fbufs_sink_close(struct fbufs_sink *sink);
int fbufs_sink_receive(struct fbufs_sink *sink, struct fbufs_input *inputs, u32 n);
int fbufs_sink_wait(struct fbufs_sink *sink);
int fbufs_sink_view(struct fbufs_sink *sink, u64 message, u32 slice, struct fbufs_view *view);
int fbufs_sink_secure(struct fbufs_sink *sink, const u64 *messages, u32 n);
int fbufs_sink_release(struct fbufs_sink *sink, const u64 *messages, u32 n);

/**
 * struct fbufs_mapping - fbufs that a device can reach
 * @sgt: the scatter list, mapped; sgt.sgl and sgt.nents are for the device
 *
 * The bytes of a message are one slice behind the other.
 */
struct fbufs_mapping {
	struct sg_table sgt;
	/* private: */
	struct device *dev;
	enum dma_data_direction direction;
	struct fbufs_source *source;
	u64 ticket;
	void *message;
};

struct fbufs_mapping *fbufs_source_map(struct fbufs_source *source,
				       const struct fbufs_output *output, struct device *dev,
				       enum dma_data_direction direction, gfp_t gfp);
struct fbufs_mapping *fbufs_sink_map(struct fbufs_sink *sink, u64 message, struct device *dev);
void fbufs_sync_for_cpu(struct fbufs_mapping *mapping);
void fbufs_sync_for_device(struct fbufs_mapping *mapping);
void fbufs_unmap(struct fbufs_mapping *mapping);

#endif /* _LINUX_FBUFS_H */
