/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * Windows: where pools appear in address spaces. The only file that touches
 * VMAs and page tables; its invariants are at the head of map.c.
 */
#ifndef FBUFS_MAP_H
#define FBUFS_MAP_H

#include <linux/types.h>

#include "aggregate.h"
#include "channel.h"
#include "pool.h"

struct fbufs_buffer;
struct fbufs_domain;
struct vm_area_struct;

/*
 * The channel, if a receiver of a message that went over it may see all of its fbufs, held
 * or not; or NULL.
 */
static __always_inline const struct fbufs_channel *map_cached(const struct fbufs_channel *channel)
{
	return channel && !(channel->flags & FBUFS_CHANNEL_UNCACHED) ? channel : NULL;
}

/* Whether an fbuf is of a channel, which map_cached() returned. */
static __always_inline bool map_is_cached_here(const struct fbufs_channel *cached,
					       const struct fbuf *fbuf)
{
	return cached && fbuf->home->channel == cached;
}

/* Whether all of it was inserted before, and stayed. */
static __always_inline bool map_is_shown(const struct fbufs_channel *cached,
					 const struct fbuf *fbuf, u64 bit)
{
	return map_is_cached_here(cached, fbuf) && READ_ONCE(fbuf->mapped) & bit;
}

int map_window(struct fbufs_domain *domain, struct vm_area_struct *vma);
bool map_may_window(struct fbufs_domain *domain, struct fbufs_pool *pool);
void map_give(struct fbufs_domain *domain, const struct fbufs_buffer *buffers, u32 n);
void map_show(struct fbufs_domain *domain, struct fbufs_aggregate **aggregates,
	      u32 n, u32 index, bool beginning);
void map_hide(struct fbufs_domain *domain, struct fbufs_aggregate **aggregates, u32 n);
void map_hide_pool(struct fbufs_domain *domain, struct fbufs_pool *pool);
void map_hide_all(struct fbufs_domain *domain);
void map_revoke(struct fbufs_aggregate **aggregates, u32 n);
void map_merge(struct fbufs_pool *pool, u64 handle);
void map_unmap(struct fbufs_pool *pool, struct fbuf *fbuf);

#endif
