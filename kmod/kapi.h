/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * What the files of the in-kernel API share.
 */
#ifndef FBUFS_KAPI_H
#define FBUFS_KAPI_H

#include <linux/fbufs.h>
#include <linux/types.h>

struct fbuf;
struct fbufs_aggregate;

int kapi_init(void);
void kapi_exit(void);

/* A driver did what it must not: say so once in a while, and refuse it. */
int kapi_misuse(unsigned long caller, int err, const char *what);

/* Whether the caller may sleep; if not, it is told off. */
bool kapi_may_sleep(unsigned long caller);

/* For mappings: the fbuf stays with the driver from _hold to _unhold. */
struct fbuf *source_hold(struct fbufs_source *source, u64 ticket);
void source_unhold(struct fbufs_source *source, u64 ticket);
struct fbufs_aggregate *sink_hold(struct fbufs_sink *sink, u64 message);

#endif
