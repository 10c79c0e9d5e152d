/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * Small messages that are copied instead of handed over: from memory of the
 * sender's into fbufs of its pool that the kernel originates. Nobody has those
 * mapped for writing, so that they are locked without anything being taken away,
 * and nothing is given back when they come home, to a free list of their own.
 */
#ifndef FBUFS_COPY_H
#define FBUFS_COPY_H

#include <linux/types.h>

struct channel_output;
struct fbufs_channel;
struct fbufs_domain;
struct fbufs_slice;

int copy_in(struct fbufs_domain *domain, struct fbufs_channel *channel,
	    const struct fbufs_slice *slices, u32 n, struct channel_output *output);
void copy_undo(struct fbufs_channel *channel, const struct channel_output *output);

#endif
