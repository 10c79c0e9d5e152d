/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * What is counted: counters of a domain, which only grow, and gauges of the
 * module, which are all zero again when it is unloaded.
 */
#ifndef FBUFS_STATS_H
#define FBUFS_STATS_H

#include <linux/atomic.h>
#include <uapi/linux/fbufs.h>

struct fbufs_counters {
	atomic64_t n[FBUFS_COUNTERS];
};

extern atomic64_t fbufs_gauges[FBUFS_GAUGES];

static inline void stats_count(struct fbufs_counters *counters,
			       enum fbufs_counter which, u64 n)
{
	atomic64_add(n, &counters->n[which]);
}

static inline void stats_gauge(enum fbufs_gauge which, s64 n)
{
	atomic64_add(n, &fbufs_gauges[which]);
}

void stats_check_empty(void);

#endif
