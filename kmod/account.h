/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * The module's own limit on memory. Pages are charged to the memory cgroup of
 * who caused them by the page allocator; this limit keeps pools of a machine
 * without cgroups from taking all of its memory, as tmpfs' size limit does.
 */
#ifndef FBUFS_ACCOUNT_H
#define FBUFS_ACCOUNT_H

#include <linux/types.h>

int account_charge(u32 npages);
void account_uncharge(u32 npages);

#endif
