/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * One fbuf: its pages, its access state, and where it is at home. Fbufs of one
 * length lie side by side in an extent of the pool's address space. What every
 * transfer asks of an fbuf is in it all the same: an extent knows it, too.
 */
#ifndef FBUFS_FBUF_H
#define FBUFS_FBUF_H

#include <linux/list.h>
#include <linux/mm.h>

#include "access.h"

struct fbufs_class;
struct fbufs_pool;
struct fbufs_size;

/**
 * struct fbuf - one fbuf, or the place for one
 * @folio: its pages when they are one block
 * @folios: its blocks, largest first, when @scattered; before the first, where
 *	fbuf_address() has mapped them
 * @home: the free list that it returns to; NULL while EMPTY
 * @mapped: receivers of the channel (by index) whose window was filled with all
 *	of its pages; a hint: entries may be missing and then come by a fault
 * @next: the fbuf below in the free list, while FREE or LEAVING
 * @refs: slices in messages, while SENDING or SENT
 * @handle: what its users know it by; a new one at every allocation (pool.h)
 * @first: first page, counted from the beginning of the pool
 * @npages: pages
 * @given: pages from the first on whose entries may be writable, while ACCESS_RW or
 *	ACCESS_REVOKE; afterwards, how many to give at the next allocation
 * @access: who may do what
 * @slot: index in the extent
 * @scattered: more than one block
 *
 * The pool's lock guards all of it, but for @first, @npages and @slot, which never
 * change. @home does not while it is in a message that was sent.
 */
struct fbuf {
	union {
		struct folio *folio;
		struct folio **folios;
	};
	struct fbufs_class *home;
	u64 mapped;
	union {
		struct fbuf *next;
		u32 refs;
	};
	u64 handle;
	u32 first;
	u32 npages;
	u32 given;
	struct fbufs_access access;
	u8 slot;
	bool scattered;
};

/* A page that is in use is to cost 64 bytes at most, with a share of the extent. */
static_assert(sizeof(struct fbuf) <= 56);

#define EXTENT_SLOTS 64

/**
 * struct fbufs_extent - fbufs of one length, side by side
 * @pool: whose
 * @size: the extents of this length that have room
 * @room: link there, empty when full
 * @used: bit for each slot in use
 * @id: index in the pool
 * @first: first page, counted from the beginning of the pool
 * @npages: pages of each fbuf
 * @nslots: fbufs
 * @fbufs: the fbufs
 */
struct fbufs_extent {
	struct fbufs_pool *pool;
	struct fbufs_size *size;
	struct list_head room;
	u64 used;
	u32 id;
	u32 first;
	u32 npages;
	u32 nslots;
	struct fbuf fbufs[] __counted_by(nslots);
};

static inline struct fbufs_extent *fbuf_extent(const struct fbuf *fbuf)
{
	return container_of(fbuf - fbuf->slot, struct fbufs_extent, fbufs[0]);
}

/* First page, counted from the beginning of the pool. */
static inline u32 fbuf_first(const struct fbuf *fbuf)
{
	return fbuf->first;
}

static inline u32 fbuf_npages(const struct fbuf *fbuf)
{
	return fbuf->npages;
}

/**
 * struct fbuf_cursor - walks the page frames of an fbuf
 * @next: the block after the current one
 * @pfn: the next page frame
 * @left: page frames left in the current block
 */
struct fbuf_cursor {
	struct folio **next;
	unsigned long pfn;
	unsigned long left;
};

/* The mapping of folios that are pages of fbufs; nothing else uses it. */
extern struct address_space fbufs_pages;

/*
 * The fbuf of a folio to which somebody has a reference, or NULL. Its index is
 * that of its first page in the fbuf.
 */
static inline struct fbuf *fbuf_of_folio(const struct folio *folio)
{
	return READ_ONCE(folio->mapping) == &fbufs_pages ? folio->private : NULL;
}

int fbuf_pages_alloc(struct fbuf *fbuf);
void fbuf_pages_free(struct fbuf *fbuf);
void *fbuf_address_scattered(struct fbuf *fbuf);
bool fbuf_pages_are_home(const struct fbuf *fbuf);
void fbuf_pages_move(struct fbuf *to, struct fbuf *from);
void fbuf_pages_zero(struct fbuf *fbuf, u64 offset);
void fbuf_cursor_init(struct fbuf_cursor *cursor, struct fbuf *fbuf, u32 page);

/**
 * fbuf_address - where the kernel sees all of an fbuf
 * @fbuf: an fbuf that cannot go meanwhile
 *
 * Context: May sleep, but for fbufs of one block.
 * Return: the address of its first byte, or NULL without memory.
 */
static inline void *fbuf_address(struct fbuf *fbuf)
{
	return fbuf->scattered ? fbuf_address_scattered(fbuf) : folio_address(fbuf->folio);
}

/* The next page frame, of a run of @n that the cursor passes over. */
static inline unsigned long fbuf_cursor_block(struct fbuf_cursor *cursor, unsigned long *n)
{
	unsigned long pfn = cursor->pfn;

	*n = cursor->left;
	if (!*n) {
		pfn = folio_pfn(*cursor->next);
		*n = folio_nr_pages(*cursor->next);
		cursor->next++;
	}
	cursor->left = 0;
	return pfn;
}

static inline unsigned long fbuf_cursor_next(struct fbuf_cursor *cursor)
{
	unsigned long pfn, n;

	pfn = fbuf_cursor_block(cursor, &n);
	cursor->pfn = pfn + 1;
	cursor->left = n - 1;
	return pfn;
}

#endif
