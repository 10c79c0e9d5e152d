// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/gfp.h>
#include <linux/highmem.h>

#include "account.h"
#include "shadow.h"

/**
 * shadow_alloc - a page for a shadow
 *
 * Context: May sleep. Charges the caller's memory cgroup.
 * Return: the page, or NULL: no memory, or the module's limit is reached.
 */
struct page *shadow_alloc(void)
{
	struct page *shadow;

	if (account_charge(1))
		return NULL;
	shadow = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!shadow)
		account_uncharge(1);
	return shadow;
}

void shadow_free(struct page *shadow)
{
	__free_page(shadow);
	account_uncharge(1);
}

/**
 * shadow_insert - a page of an fbuf gets its private copy
 * @pool: of the fbuf
 * @fbuf: the fbuf
 * @page: counted from the beginning of the pool; nobody can write it
 * @shadow: what becomes the copy
 *
 * Context: map_sem for writing.
 * Return: 0, or -ENOMEM.
 */
int shadow_insert(struct fbufs_pool *pool, struct fbuf *fbuf, u32 page, struct page *shadow)
{
	struct fbuf_cursor cursor;

	lockdep_assert_held_write(&pool->map_sem);
	fbuf_cursor_init(&cursor, fbuf, page - fbuf_first(fbuf));
	copy_highpage(shadow, pfn_to_page(fbuf_cursor_next(&cursor)));
	return xa_err(xa_store(&pool->shadows, page, shadow, GFP_KERNEL_ACCOUNT));
}

/*
 * The private copies of an fbuf that no window shows go. Returns how many.
 * Context: map_sem for writing, or the fbuf is LEAVING.
 */
u32 shadow_drop(struct fbufs_pool *pool, struct fbuf *fbuf)
{
	unsigned long page, first = fbuf_first(fbuf), last = first + fbuf_npages(fbuf) - 1;
	struct page *shadow;
	u32 n = 0;

	xa_for_each_range(&pool->shadows, page, shadow, first, last) {
		xa_erase(&pool->shadows, page);
		shadow_free(shadow);
		n++;
	}
	return n;
}

/* The same, and first they become its bytes. Context: map_sem for writing. */
u32 shadow_merge(struct fbufs_pool *pool, struct fbuf *fbuf)
{
	unsigned long page, first = fbuf_first(fbuf), last = first + fbuf_npages(fbuf) - 1;
	struct fbuf_cursor cursor;
	struct page *shadow;

	lockdep_assert_held_write(&pool->map_sem);
	xa_for_each_range(&pool->shadows, page, shadow, first, last) {
		fbuf_cursor_init(&cursor, fbuf, page - first);
		copy_highpage(pfn_to_page(fbuf_cursor_next(&cursor)), shadow);
	}
	return shadow_drop(pool, fbuf);
}
