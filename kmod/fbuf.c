// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "fbuf.h"
#include "stats.h"

/* No operations, no inode: it only tells our pages from others. */
struct address_space fbufs_pages;

/*
 * The largest block of at most 2^*order pages that is to be had without
 * fighting for it; *order becomes its order. Only single pages are worth
 * reclaim, and not worth killing for.
 */
static struct folio *block_alloc(unsigned int *order)
{
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN | __GFP_COMP;

	for (;; (*order)--) {
		gfp_t effort = *order ? __GFP_NORETRY : __GFP_RETRY_MAYFAIL;
		struct page *page = alloc_pages(gfp | effort, *order);

		if (page)
			return page_folio(page);
		if (!*order)
			return NULL;
	}
}

static void blocks_free(struct list_head *blocks)
{
	struct folio *folio, *next;

	list_for_each_entry_safe(folio, next, blocks, lru) {
		list_del(&folio->lru);
		folio_put(folio);
	}
}

static void folio_claim(struct folio *folio, struct fbuf *fbuf, u32 page)
{
	folio->private = fbuf;
	folio->index = page;
	WRITE_ONCE(folio->mapping, &fbufs_pages);
}

/* It is no fbuf's any more. Who frees a page wants these to be empty. */
static void folio_disclaim(struct folio *folio)
{
	WRITE_ONCE(folio->mapping, NULL);
	folio->private = NULL;
	folio->index = 0;
}

/**
 * fbuf_pages_alloc - give an fbuf its pages, zeroed, in the fewest blocks
 * @fbuf: an EMPTY fbuf that nobody else looks at
 *
 * Context: May sleep. Charges the caller's memory cgroup.
 * Return: 0, or -ENOMEM with nothing allocated.
 */
int fbuf_pages_alloc(struct fbuf *fbuf)
{
	u32 left = fbuf_npages(fbuf), nblocks = 0;
	unsigned int order = MAX_PAGE_ORDER;
	struct folio *folio, *next;
	LIST_HEAD(blocks);

	while (left) {
		order = min_t(unsigned int, order, ilog2(left));
		folio = block_alloc(&order);
		if (!folio)
			goto err_free_blocks;
		list_add_tail(&folio->lru, &blocks);
		left -= 1U << order;
		nblocks++;
		if (fatal_signal_pending(current))
			goto err_free_blocks;
	}

	if (nblocks == 1) {
		fbuf->folio = list_first_entry(&blocks, struct folio, lru);
		list_del(&fbuf->folio->lru);
		fbuf->scattered = false;
		folio_claim(fbuf->folio, fbuf, 0);
		return 0;
	}

	/* The entry before the first is where the kernel has it mapped. */
	fbuf->folios = kvmalloc_array(nblocks + 1, sizeof(*fbuf->folios), GFP_KERNEL_ACCOUNT);
	if (!fbuf->folios)
		goto err_free_blocks;
	*fbuf->folios++ = NULL;
	stats_gauge(FBUFS_GAUGE_METADATA, (nblocks + 1) * sizeof(*fbuf->folios));
	nblocks = 0;
	list_for_each_entry_safe(folio, next, &blocks, lru) {
		list_del(&folio->lru);
		fbuf->folios[nblocks++] = folio;
		folio_claim(folio, fbuf, left);
		left += folio_nr_pages(folio);
	}
	fbuf->scattered = true;
	return 0;

err_free_blocks:
	blocks_free(&blocks);
	return -ENOMEM;
}

/**
 * fbuf_pages_free - drop the pages of an fbuf
 * @fbuf: an fbuf that is LEAVING, or was never published
 *
 * The caller has taken every mapping away. A page that somebody in the kernel
 * still refers to lives on, but not in this pool: a fresh one takes its place.
 */
void fbuf_pages_free(struct fbuf *fbuf)
{
	u32 left = fbuf_npages(fbuf), nblocks = 0;

	if (!fbuf->scattered) {
		folio_disclaim(fbuf->folio);
		folio_put(fbuf->folio);
		fbuf->folio = NULL;
		return;
	}
	vunmap(fbuf->folios[-1]);
	while (left) {
		struct folio *folio = fbuf->folios[nblocks++];

		left -= folio_nr_pages(folio);
		folio_disclaim(folio);
		folio_put(folio);
	}
	stats_gauge(FBUFS_GAUGE_METADATA, -(s64)((nblocks + 1) * sizeof(*fbuf->folios)));
	kvfree(fbuf->folios - 1);
	fbuf->folios = NULL;
	fbuf->scattered = false;
}

/*
 * For fbuf_address(): pages of several blocks are mapped one behind the other the
 * first time, and stay so until they go.
 */
void *fbuf_address_scattered(struct fbuf *fbuf)
{
	u32 npages = fbuf_npages(fbuf), i;
	struct fbuf_cursor cursor;
	struct page **pages;
	void *address;

	address = READ_ONCE(fbuf->folios[-1]);
	if (address)
		return address;
	pages = kvmalloc_array(npages, sizeof(*pages), GFP_KERNEL_ACCOUNT);
	if (!pages)
		return NULL;
	fbuf_cursor_init(&cursor, fbuf, 0);
	for (i = 0; i < npages; i++)
		pages[i] = pfn_to_page(fbuf_cursor_next(&cursor));
	address = vmap(pages, npages, VM_MAP, PAGE_KERNEL);
	kvfree(pages);
	if (address && cmpxchg(&fbuf->folios[-1], NULL, address)) {
		vunmap(address);
		address = fbuf->folios[-1];
	}
	return address;
}

/* Whether the fbuf alone refers to its pages: no packet, no pipe, no disk. */
bool fbuf_pages_are_home(const struct fbuf *fbuf)
{
	u32 left = fbuf_npages(fbuf), i = 0;

	if (!fbuf->scattered)
		return folio_ref_count(fbuf->folio) == 1;
	while (left) {
		struct folio *folio = fbuf->folios[i++];

		if (folio_ref_count(folio) != 1)
			return false;
		left -= folio_nr_pages(folio);
	}
	return true;
}

/**
 * fbuf_pages_move - pages change their fbuf
 * @to: an EMPTY fbuf of the same length
 * @from: an fbuf that nobody else looks at, and that has no pages afterwards
 */
void fbuf_pages_move(struct fbuf *to, struct fbuf *from)
{
	u32 left = fbuf_npages(from), page = 0, i = 0;

	to->folios = from->folios;
	to->scattered = from->scattered;
	while (page < left) {
		struct folio *folio = to->scattered ? to->folios[i++] : to->folio;

		folio_claim(folio, to, page);
		page += folio_nr_pages(folio);
	}
	from->folios = NULL;
	from->scattered = false;
}

/* Zero all bytes from @offset on. */
void fbuf_pages_zero(struct fbuf *fbuf, u64 offset)
{
	u32 page = offset >> PAGE_SHIFT;
	u32 left = fbuf_npages(fbuf) - page;
	struct fbuf_cursor cursor;

	if (!left)
		return;
	fbuf_cursor_init(&cursor, fbuf, page);
	if (offset_in_page(offset)) {
		memzero_page(pfn_to_page(fbuf_cursor_next(&cursor)), offset_in_page(offset),
			     PAGE_SIZE - offset_in_page(offset));
		left--;
	}
	while (left--) {
		clear_highpage(pfn_to_page(fbuf_cursor_next(&cursor)));
		cond_resched();
	}
}

/* The next page frame will be that of @page, counted from the fbuf's first. */
void fbuf_cursor_init(struct fbuf_cursor *cursor, struct fbuf *fbuf, u32 page)
{
	struct folio **block = fbuf->scattered ? fbuf->folios : &fbuf->folio;

	while (page >= folio_nr_pages(*block))
		page -= folio_nr_pages(*block++);
	cursor->pfn = folio_pfn(*block) + page;
	cursor->left = folio_nr_pages(*block) - page;
	cursor->next = block + 1;
}
