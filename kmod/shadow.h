/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * Shadows: in a pool that copies on write (FBUFS_POOL_STORE_COPY), the private
 * copies of pages of lent fbufs that their originator stores to while they are
 * locked. Its window shows the copy, everybody else's the page that was sent.
 *
 * A shadow comes and goes under the pool's map_sem for writing, except with the
 * fbuf itself, when that is LEAVING and no window shows it. Who shows one looks it
 * up under map_sem for reading, and looks at the access state, too: a shadow
 * is looked at only while the originator may read its fbuf, and ACCESS_SHADOW is
 * set. Only fbufs with ACCESS_SHADOW have any. They are not part of the pool's
 * limit, but of the module's, and of the memory cgroup of who stored.
 */
#ifndef FBUFS_SHADOW_H
#define FBUFS_SHADOW_H

#include "pool.h"

static inline struct page *shadow_of(struct fbufs_pool *pool, u32 page)
{
	return xa_load(&pool->shadows, page);
}

struct page *shadow_alloc(void);
void shadow_free(struct page *shadow);
int shadow_insert(struct fbufs_pool *pool, struct fbuf *fbuf, u32 page, struct page *shadow);
u32 shadow_merge(struct fbufs_pool *pool, struct fbuf *fbuf);
u32 shadow_drop(struct fbufs_pool *pool, struct fbuf *fbuf);

#endif
