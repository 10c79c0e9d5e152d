/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * What differs between kernel versions and configurations. No other file asks.
 */
#ifndef FBUFS_COMPAT_H
#define FBUFS_COMPAT_H

#include <linux/mm.h>
#include <linux/version.h>

/*
 * Whether a VMA is in its address space; false also when there is no telling.
 * Such a VMA is freed by RCU. Context: mmap lock, RCU read lock.
 */
static inline bool compat_vma_is_attached(const struct vm_area_struct *vma)
{
#if defined(CONFIG_PER_VMA_LOCK) && LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
	return !vma->detached;
#else
	return false;
#endif
}

#endif
