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
 * Whether a receiver of a message that went over the channel, or over none, may see all
 * of an fbuf in it, held or not.
 */
static __always_inline bool map_is_cached_here(const struct fbufs_channel *channel,
					       const struct fbuf *fbuf)
{
	return channel && fbuf->home->channel == channel &&
	       !(channel->flags & FBUFS_CHANNEL_UNCACHED);
}

/* Whether all of it was inserted before, and stayed. */
static __always_inline bool map_is_shown(const struct fbufs_channel *channel,
					 const struct fbuf *fbuf, u64 bit)
{
	return map_is_cached_here(channel, fbuf) && READ_ONCE(fbuf->mapped) & bit;
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
