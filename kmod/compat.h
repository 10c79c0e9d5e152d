/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * What differs between kernel versions and configurations. No other file asks.
 */
#ifndef FBUFS_COMPAT_H
#define FBUFS_COMPAT_H

#include <linux/hrtimer.h>
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

static inline void compat_hrtimer_setup(struct hrtimer *timer,
					enum hrtimer_restart (*function)(struct hrtimer *timer),
					enum hrtimer_mode mode)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
	hrtimer_init(timer, CLOCK_MONOTONIC, mode);
	timer->function = function;
#else
	hrtimer_setup(timer, function, CLOCK_MONOTONIC, mode);
#endif
}

#endif
