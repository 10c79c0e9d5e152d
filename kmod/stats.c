// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/printk.h>

#include "stats.h"

atomic64_t fbufs_gauges[FBUFS_GAUGES];

/* At unload nothing may be left; the words "fbufs: leak" fail a test run. */
void stats_check_empty(void)
{
	int i;

	for (i = 0; i < FBUFS_GAUGES; i++) {
		s64 left = atomic64_read(&fbufs_gauges[i]);

		if (left)
			pr_err("fbufs: leak: gauge %d is %lld at unload\n", i, left);
	}
}
