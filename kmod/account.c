// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/atomic.h>
#include <linux/errno.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>

#include "account.h"
#include "stats.h"

static ulong limit_mb;
module_param(limit_mb, ulong, 0644);
MODULE_PARM_DESC(limit_mb, "Memory of all pools together, in MiB (0: half of the machine's)");

static s64 account_limit(void)
{
	ulong mb = READ_ONCE(limit_mb);

	return mb ? mb << (20 - PAGE_SHIFT) : totalram_pages() / 2;
}

int account_charge(u32 npages)
{
	s64 now = atomic64_add_return(npages, &fbufs_gauges[FBUFS_GAUGE_PAGES]);

	if (now <= account_limit())
		return 0;
	account_uncharge(npages);
	return -ENOMEM;
}

void account_uncharge(u32 npages)
{
	stats_gauge(FBUFS_GAUGE_PAGES, -(s64)npages);
}
