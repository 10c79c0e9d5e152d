// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * Windows.
 *
 * Page-table entries are PFN entries without struct page (VM_PFNMAP, VM_IO):
 * get_user_pages() finds none, so that there are no pins to look for when an
 * fbuf is locked, and no user of a page left when it goes. The price: what needs
 * user pages, such as O_DIRECT from a window, fails with EFAULT. (KVM follows
 * PFN entries by itself and obeys the MMU notifiers; a hypervisor that gives
 * its own window to a guest as memory should know that nested guests' pages
 * that KVM maps for itself are outside of them.)
 *
 * Invariants:
 *  1. A writable entry of an fbuf exists only in the originator's window, for its
 *     first @given pages, and only while its access state has ACCESS_RW or
 *     ACCESS_REVOKE.
 *  2. Locking takes the entries away instead of making them read-only. What the
 *     originator reads of a locked fbuf comes back by faults, as entries that
 *     are read-only and clean: nothing in the core may upgrade those by itself
 *     (it does that to dirty ones, on mprotect for instance). Every write fault
 *     comes to this file.
 *  3. An entry is inserted under the pool's map_sem, held for reading from the
 *     check of the right on. A right is taken away in this order: mark it gone
 *     under the lock that guards it, pass through map_sem (map_barrier), remove
 *     the entries, flush. Only then does anybody rely on it.
 *  4. A page is freed only after unmap_mapping_range() over it, which finds all
 *     windows of the pool, because they share its address_space.
 *  5. A domain knows its windows by address only. Who holds the mmap lock for
 *     reading and finds the VMA there can use it and its window: munmap takes
 *     the VMA out of the tree under the lock for writing, but may remove its
 *     entries and call window_close() under the lock for reading. A window that
 *     is on record without its VMA is therefore one whose entries may still be
 *     there; window_lock() waits for that to end. A window does not split, move
 *     or merge (may_split, mremap, VM_PFNMAP).
 *
 *  6. A private copy of a page (shadow.h) is inserted like the page, in the originator's
 *     window only, and instead of it, for as long as there is one. It is writable
 *     whether the fbuf is locked or not: nobody else can see it. It comes and goes
 *     after the page's, or its own, entry was taken away.
 *
 * Order: revoke_mutex, mmap_lock, map_sem, then one of the leaves pool->lock, domain->lock,
 * channel->lock at a time.
 */

#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "aggregate.h"
#include "channel.h"
#include "compat.h"
#include "domain.h"
#include "map.h"
#include "pool.h"
#include "shadow.h"

/**
 * struct fbufs_window - a pool in the address space of a domain
 * @domain: with a reference
 * @pool: with a reference
 * @vma: the mapping
 * @own: the domain is the originator
 */
struct fbufs_window {
	struct fbufs_domain *domain;
	struct fbufs_pool *pool;
	struct vm_area_struct *vma;
	bool own;
};

/* A run of pages of an fbuf, or a private copy of one, and how a domain may see them. */
struct map_right {
	struct fbuf *fbuf;
	u32 page;		/* counted from the fbuf's first */
	u32 npages;
	bool write;
	struct page *shadow;
};

static void map_barrier(struct fbufs_pool *pool)
{
	down_write(&pool->map_sem);
	up_write(&pool->map_sem);
}

static unsigned long window_address(const struct fbufs_window *window, u32 page)
{
	return window->vma->vm_start + ((unsigned long)page << PAGE_SHIFT);
}

static const struct vm_operations_struct window_ops;

/*
 * The domain's window of its own pool, which every secure message needs, without
 * looking it up. A VMA that is attached stays so while the mmap lock is held for
 * reading; one that is not is freed after an RCU grace period only. Or NULL:
 * look it up.
 */
static struct fbufs_window *window_own(struct fbufs_domain *domain, u32 pool_id)
{
	struct fbufs_window *window = NULL;
	struct vm_area_struct *vma;

	rcu_read_lock();
	vma = READ_ONCE(domain->own_vma);
	if (vma && compat_vma_is_attached(vma))
		window = vma->vm_private_data;
	rcu_read_unlock();
	return window && window->pool->id == pool_id ? window : NULL;
}

/* The window on record for a pool, or NULL while it is being unmapped. */
static struct fbufs_window *window_at(struct fbufs_domain *domain, void *record)
{
	unsigned long address = xa_to_value(record) << PAGE_SHIFT;
	struct vm_area_struct *vma = vma_lookup(domain->mm, address);
	struct fbufs_window *window;

	if (!vma || vma->vm_ops != &window_ops)
		return NULL;
	window = vma->vm_private_data;
	return window->domain == domain && window->vma == vma ? window : NULL;
}

/*
 * Find a domain's window of a pool and keep it: the address space, which may be
 * another process's, stays, with its mmap lock held for reading, until
 * window_unlock(). NULL when there is none, and with it no entry.
 */
static struct fbufs_window *window_lock(struct fbufs_domain *domain, u32 pool_id)
{
	struct mm_struct *mm = domain->mm;
	struct fbufs_window *window;
	void *record;

	/* The kernel's domains have none. */
	if (!mm)
		return NULL;
	/* Without users an address space only goes away: nobody stores there. */
	if (current->mm != mm && !mmget_not_zero(mm))
		return NULL;
	for (;;) {
		mmap_read_lock(mm);
		window = window_own(domain, pool_id);
		if (window)
			return window;
		record = xa_load(&domain->windows, pool_id);
		window = record ? window_at(domain, record) : NULL;
		if (window && window->pool->id == pool_id)
			return window;
		mmap_read_unlock(mm);
		if (!record)
			break;
		mmap_write_lock(mm);
		mmap_write_unlock(mm);
	}
	if (current->mm != mm)
		mmput_async(mm);
	return NULL;
}

static void window_unlock(struct fbufs_window *window)
{
	/* Once unlocked, the window may go; the address space may be the caller's. */
	struct mm_struct *mm = window->vma->vm_mm;

	mmap_read_unlock(mm);
	if (current->mm != mm)
		mmput_async(mm);
}

/*
 * Inserting
 */

/**
 * struct map_insertion - entries for some rights in one window
 * @window: the window
 * @prot: of entries that are read-only
 * @right: the right whose entries are being made
 * @end: behind the last
 * @done: pages of @right that have theirs
 * @cursor: the page frames of @right
 * @next: the entry for the page at the cursor...
 * @left: ... and for so many pages of its block
 * @set: how many were made
 *
 * apply_to_page_range() calls back for every page, which costs more than what is done
 * there, as does to find the table again for every short fbuf: it is asked for one page
 * of a table, and all entries of that table that come in a row are made then.
 */
struct map_insertion {
	struct fbufs_window *window;
	pgprot_t prot;
	const struct map_right *right;
	const struct map_right *end;
	u32 done;
	struct fbuf_cursor cursor;
	u64 next;
	unsigned long left;
	u32 set;
};

static void insertion_begin_block(struct map_insertion *insertion, unsigned long pfn,
				  unsigned long n)
{
	pte_t pte = pte_mkyoung(pte_mkspecial(pfn_pte(pfn, insertion->prot)));

	if (insertion->right->write)
		pte = pte_mkdirty(pte_mkwrite_novma(pte));
	insertion->next = pte_val(pte);
	insertion->left = n;
}

static void insertion_next_block(struct map_insertion *insertion)
{
	unsigned long n, pfn = fbuf_cursor_block(&insertion->cursor, &n);

	insertion_begin_block(insertion, pfn, n);
}

/* Begin with the right at hand, if there is one. */
static void insertion_begin_right(struct map_insertion *insertion)
{
	const struct map_right *right = insertion->right;

	insertion->done = 0;
	insertion->left = 0;
	if (right == insertion->end)
		return;
	if (right->shadow)
		insertion_begin_block(insertion, page_to_pfn(right->shadow), 1);
	else
		fbuf_cursor_init(&insertion->cursor, right->fbuf, right->page);
}

/* Where the next entry's page is. */
static unsigned long insertion_address(const struct map_insertion *insertion)
{
	const struct map_right *right = insertion->right;

	return window_address(insertion->window,
			      fbuf_first(right->fbuf) + right->page + insertion->done);
}

/*
 * Entries for @n pages of one block. What is there and gives as much, stays. Those of
 * pages in a row are counted up as numbers: pte_advance_pfn() looks at what is said of
 * entries that are not present, and with pte_val() for each it is several times the work.
 */
static void insert_block(struct map_insertion *insertion, pte_t *ptep, unsigned long address,
			 unsigned long n)
{
	struct mm_struct *mm = insertion->window->vma->vm_mm;
	bool write = insertion->right->write;
	pte_t *end = ptep + n;
	u64 next = insertion->next;

	insertion->set += n;
	for (; ptep != end; ptep++, address += PAGE_SIZE, next += BIT_ULL(PFN_PTE_SHIFT)) {
		pte_t old = ptep_get(ptep);

		if (!pte_none(old) && (!write || pte_write(old)))
			insertion->set--;
		else
			set_pte_at(mm, address, ptep, __pte(next));
	}
	insertion->next = next;
}

/* All entries of one page table, whose lock is held, that come in a row from @start on. */
static int insert_table(pte_t *ptep, unsigned long start, void *data)
{
	struct map_insertion *insertion = data;
	pte_t *table = ptep - pte_index(start);
	unsigned long address = start, n;

	do {
		if (!insertion->left)
			insertion_next_block(insertion);
		n = min3(insertion->left, PTRS_PER_PTE - pte_index(address),
			 (unsigned long)insertion->right->npages - insertion->done);
		insert_block(insertion, table + pte_index(address), address, n);
		insertion->left -= n;
		insertion->done += n;
		if (insertion->done == insertion->right->npages) {
			insertion->right++;
			insertion_begin_right(insertion);
		}
		if (insertion->right == insertion->end)
			break;
		address = insertion_address(insertion);
	} while ((address & PMD_MASK) == (start & PMD_MASK));
	return 0;
}

/*
 * Make the entries of @n rights, at least one. Context: map_sem for reading, since the
 * rights were checked. Returns -ENOMEM when some have none.
 */
static int window_insert(struct fbufs_window *window, const struct map_right *rights, u32 n)
{
	struct map_insertion insertion = {
		.window = window,
		.prot = vm_get_page_prot(window->vma->vm_flags & ~VM_WRITE),
		.right = rights,
		.end = rights + n,
	};
	int err;

	lockdep_assert_held(&window->pool->map_sem);
	insertion_begin_right(&insertion);
	for (;;) {
		err = apply_to_page_range(window->vma->vm_mm, insertion_address(&insertion),
					  PAGE_SIZE, insert_table, &insertion);
		if (err || insertion.right == insertion.end)
			break;
		cond_resched();
	}
	stats_count(&window->domain->counters, FBUFS_COUNT_PTES_SET, insertion.set);
	return err;
}

/*
 * Removing
 */

static void window_zap(struct fbufs_window *window, u32 page, u32 npages)
{
	zap_vma_ptes(window->vma, window_address(window, page),
		     (unsigned long)npages << PAGE_SHIFT);
	stats_count(&window->domain->counters, FBUFS_COUNT_PTES_CLEARED, npages);
	stats_count(&window->domain->counters, FBUFS_COUNT_TLB_FLUSHES, 1);
}

struct map_clearing {
	struct mm_struct *mm;
	unsigned long end;
};

/* Entries of one page table, from an address on; see struct map_insertion. */
static int clear_table(pte_t *ptep, unsigned long address, void *data)
{
	struct map_clearing *clearing = data;
	pte_t *end = ptep + ((pmd_addr_end(address, clearing->end) - address) >> PAGE_SHIFT);

	/* Most are there: to look first would be more work, and the loop's own is a third. */
#pragma GCC unroll 4
	for (; ptep != end; ptep++, address += PAGE_SIZE)
		ptep_get_and_clear(clearing->mm, address, ptep);
	return 0;
}

/* A table whose first entry is empty may be passed over. */
static void clear_range(struct mm_struct *mm, unsigned long address, unsigned long end)
{
	struct map_clearing clearing = { .mm = mm, .end = end };

	for (; address != end; address = pmd_addr_end(address, end))
		apply_to_existing_page_range(mm, address, PAGE_SIZE, clear_table, &clearing);
}

/*
 * Takes away many runs of pages of one window with one TLB flush. A single short
 * run is zapped as it is. Of several, or of a long one, each is cleared first,
 * which is several times less work than zapping, and then zapped, which finds
 * nothing to flush but tells the MMU notifiers; the flush of the whole address
 * space with the last zap is what tlb_finish_mmu() does when it sees that
 * somebody else changes entries and defers the flush.
 */
#define SHORT_RUN 8

struct map_removal {
	struct fbufs_window *window;
	u32 first;
	u32 end;
	bool several;
};

static void removal_clear_run(struct map_removal *removal)
{
	struct fbufs_window *window = removal->window;
	unsigned long address = window_address(window, removal->first);
	unsigned long end = window_address(window, removal->end);

	clear_range(window->vma->vm_mm, address, end);
	/* Whatever that passed over goes here. */
	zap_vma_ptes(window->vma, address, end - address);
	stats_count(&window->domain->counters, FBUFS_COUNT_PTES_CLEARED,
		    removal->end - removal->first);
}

static void removal_add(struct map_removal *removal, u32 first, u32 npages)
{
	if (first >= removal->first && first + npages <= removal->end) {
		return;
	} else if (first == removal->end) {
		removal->end += npages;
	} else if (first + npages == removal->first) {
		removal->first = first;
	} else {
		if (removal->end) {
			removal_clear_run(removal);
			removal->several = true;
		}
		removal->first = first;
		removal->end = first + npages;
	}
}

static void removal_finish(struct map_removal *removal)
{
	struct fbufs_window *window = removal->window;
	struct mm_struct *mm;

	if (!removal->end)
		return;
	if (!removal->several && removal->end - removal->first <= SHORT_RUN) {
		window_zap(window, removal->first, removal->end - removal->first);
		return;
	}
	mm = window->vma->vm_mm;
	inc_tlb_flush_pending(mm);
	removal_clear_run(removal);
	dec_tlb_flush_pending(mm);
	stats_count(&window->domain->counters, FBUFS_COUNT_TLB_FLUSHES, 1);
}

/*
 * Rights
 */

/* Whether a domain is a receiver of a channel. */
static bool channel_reaches(struct fbufs_channel *channel, struct fbufs_domain *domain)
{
	bool reaches = false;
	u64 left;

	spin_lock(&channel->lock);
	for (left = channel->present; left && !reaches; left &= left - 1)
		reaches = READ_ONCE(channel->receivers[__ffs64(left)]->domain) == domain;
	spin_unlock(&channel->lock);
	return reaches;
}

/* Whether a held message shows a page of an fbuf; then how much around it. */
static bool hold_shows(struct fbufs_domain *domain, struct map_right *right)
{
	bool shows = false;
	u32 i, j;

	spin_lock(&domain->lock);
	for (i = 0; i < domain->nholds && !shows; i++) {
		struct fbufs_aggregate *aggregate;

		/* What is released meanwhile waits for map_sem before it relies on it. */
		if (i % 64 == 63)
			cond_resched_lock(&domain->lock);
		aggregate = i < domain->nholds ? domain->holds[i].aggregate : NULL;
		for (j = 0; aggregate && j < aggregate->nsegments && !shows; j++) {
			struct fbufs_segment *segment = &aggregate->segments[j];
			u32 first = segment->offset >> PAGE_SHIFT;
			u32 last = (segment->offset + segment->length - 1) >> PAGE_SHIFT;

			shows = segment->fbuf == right->fbuf &&
				right->page >= first && right->page <= last;
			if (shows) {
				right->page = first;
				right->npages = last - first + 1;
			}
		}
	}
	spin_unlock(&domain->lock);
	return shows;
}

/*
 * Of a long fbuf, a touch near its start, such as of a header, is given few
 * entries, any other all of them at once; of a short one, any is given all.
 */
#define FIRST_TOUCH 16
#define LONG_RUN 64

static u32 first_run(u32 npages)
{
	return npages > LONG_RUN ? FIRST_TOUCH : npages;
}

/*
 * Whether the originator may write, or read, the first @npages of an fbuf now. When
 * it may write, that is on record. Context: map_sem for reading, and the pool's lock.
 */
static bool own_right(struct fbuf *fbuf, bool write, u32 npages)
{
	if (!write)
		return access_originator_may_read(&fbuf->access);
	if (!access_originator_may_write(&fbuf->access))
		return false;
	fbuf->access.flags |= ACCESS_RW;
	fbuf->given = max(fbuf->given, npages);
	return true;
}

/*
 * The same for the originator's window. Beside private copies, entries are inserted
 * page by page: a run of them would show the page where there is a copy.
 */
static bool window_own_right(struct fbufs_window *window, u32 page, struct map_right *right)
{
	struct fbufs_pool *pool = window->pool;
	struct fbuf *fbuf = right->fbuf;

	if (fbuf->access.flags & ACCESS_SHADOW && access_originator_may_read(&fbuf->access))
		right->shadow = shadow_of(pool, page);
	if (!right->shadow && !own_right(fbuf, right->write, right->npages))
		return false;
	/* Like the pages of a window that is not mapped for writing, for a debugger. */
	if (right->shadow)
		right->write = window->vma->vm_flags & VM_WRITE;
	if (fbuf->access.flags & ACCESS_SHADOW) {
		right->page = page - fbuf_first(fbuf);
		right->npages = 1;
	}
	return true;
}

/*
 * What the window's domain may see of the fbuf around a page, now. Only @write is
 * set before. Context: map_sem for reading.
 */
static bool window_right(struct fbufs_window *window, u32 page, struct map_right *right)
{
	struct fbufs_pool *pool = window->pool;
	struct fbufs_channel *channel = NULL;
	bool may = false, look = false;
	struct fbuf *fbuf;

	if (READ_ONCE(window->domain->dead))
		return false;
	spin_lock(&pool->lock);
	fbuf = pool_find(pool, page);
	if (fbuf) {
		right->fbuf = fbuf;
		right->page = 0;
		right->npages = fbuf_npages(fbuf);
		if (page - fbuf_first(fbuf) < FIRST_TOUCH)
			right->npages = first_run(right->npages);
		if (window->own)
			may = window_own_right(window, page, right);
		else
			look = !right->write && access_receiver_may_read(&fbuf->access);
		if (look && map_cached(fbuf->home->channel))
			channel = channel_get(fbuf->home->channel);
	}
	spin_unlock(&pool->lock);
	if (channel) {
		may = channel_reaches(channel, window->domain);
		channel_put(channel);
	}
	if (look && !may) {
		right->page = page - fbuf_first(fbuf);
		may = hold_shows(window->domain, right);
	}
	return may;
}

/* What a held message shows, as first_run() of it. */
static void right_trim(struct map_right *right, u32 page)
{
	if (page - right->page < FIRST_TOUCH)
		right->npages = first_run(right->npages);
}

/*
 * Operations on windows
 */

/* The fbuf of a pool that still has its originator. Context: under the pool's lock. */
static struct fbuf *owned_at(struct fbufs_pool *pool, u32 page)
{
	return pool->orphan ? NULL : pool_find(pool, page);
}

/* Whether a store to the page is one to a lent fbuf that is locked. */
static bool is_lent_at(struct fbufs_pool *pool, u32 page)
{
	struct fbuf *fbuf;
	bool lent;

	spin_lock(&pool->lock);
	fbuf = owned_at(pool, page);
	lent = fbuf && access_is_lent(&fbuf->access);
	spin_unlock(&pool->lock);
	return lent;
}

/*
 * After pfn_mkwrite() the core makes the entry writable for anything but an error and
 * NOPAGE: a retry alone would be taken for a yes, and without the mmap lock.
 */
#define WINDOW_RETRY (VM_FAULT_RETRY | VM_FAULT_NOPAGE)

/*
 * FBUFS_POOL_STORE_WAIT: the store is done again when the fbuf is no longer locked.
 * Not for system calls: they would keep locks of others meanwhile, for as long as
 * a receiver likes. What cannot be waited for is denied. May give up the mmap lock.
 */
static vm_fault_t window_wait(struct vm_fault *vmf, struct fbufs_pool *pool, u32 page)
{
	if (!(vmf->flags & FAULT_FLAG_USER) || !(vmf->flags & FAULT_FLAG_ALLOW_RETRY))
		return VM_FAULT_SIGBUS;
	if (vmf->flags & FAULT_FLAG_RETRY_NOWAIT)
		return WINDOW_RETRY;
	pool_get(pool);
	/* The window may go from here on. */
	release_fault_lock(vmf);
	/* A signal is delivered before the store is tried again. */
	wait_event_interruptible(pool->unlocked, !is_lent_at(pool, page));
	pool_put(pool);
	return WINDOW_RETRY;
}

/*
 * FBUFS_POOL_STORE_COPY: the originator gets a copy of its own of a page, and stores
 * there, when the fault comes again.
 */
static vm_fault_t window_copy(struct fbufs_window *window, u32 page)
{
	struct fbufs_pool *pool = window->pool;
	struct page *shadow = shadow_alloc();
	vm_fault_t ret = VM_FAULT_NOPAGE;
	struct fbuf *fbuf;
	bool lent;

	if (!shadow)
		return VM_FAULT_SIGBUS;
	down_write(&pool->map_sem);
	spin_lock(&pool->lock);
	fbuf = owned_at(pool, page);
	lent = fbuf && access_is_lent(&fbuf->access);
	if (lent)
		fbuf->access.flags |= ACCESS_SHADOW;
	spin_unlock(&pool->lock);
	if (lent && !shadow_of(pool, page)) {
		/* Also one with write access that is yet to be taken away: no store is lost. */
		window_zap(window, page, 1);
		if (shadow_insert(pool, fbuf, page, shadow)) {
			ret = VM_FAULT_SIGBUS;
		} else {
			shadow = NULL;
			stats_count(&window->domain->counters, FBUFS_COUNT_BYTES_COPIED, PAGE_SIZE);
		}
	}
	up_write(&pool->map_sem);
	if (shadow)
		shadow_free(shadow);
	return ret;
}

/* A store that was denied: to what is lent, or by now is the originator's again? */
static vm_fault_t window_store(struct vm_fault *vmf, struct fbufs_window *window, u32 page)
{
	struct fbufs_pool *pool = window->pool;
	bool lent, back;
	struct fbuf *fbuf;

	if (READ_ONCE(window->domain->dead))
		return VM_FAULT_SIGBUS;
	spin_lock(&pool->lock);
	fbuf = owned_at(pool, page);
	lent = fbuf && access_is_lent(&fbuf->access);
	back = fbuf && access_originator_may_write(&fbuf->access);
	spin_unlock(&pool->lock);
	if (!lent)
		return back ? VM_FAULT_NOPAGE : VM_FAULT_SIGBUS;
	if (pool->store & FBUFS_POOL_STORE_COPY)
		return window_copy(window, page);
	return window_wait(vmf, pool, page);
}

/* A fault that is denied, unless the pool says otherwise of stores to what it has lent. */
static vm_fault_t window_deny(struct vm_fault *vmf, struct fbufs_window *window, u32 page)
{
	vm_fault_t ret = VM_FAULT_SIGBUS;

	if (window->own && vmf->flags & FAULT_FLAG_WRITE && window->pool->store)
		ret = window_store(vmf, window, page);
	if (ret == VM_FAULT_SIGBUS)
		stats_count(&window->domain->counters, FBUFS_COUNT_FAULTS_DENIED, 1);
	return ret;
}

static vm_fault_t window_fault(struct vm_fault *vmf)
{
	struct fbufs_window *window = vmf->vma->vm_private_data;
	u32 page = (vmf->address - vmf->vma->vm_start) >> PAGE_SHIFT;
	struct map_right right = { .write = vmf->flags & FAULT_FLAG_WRITE };
	vm_fault_t ret = VM_FAULT_NOPAGE;
	bool may;

	stats_count(&window->domain->counters, FBUFS_COUNT_FAULTS, 1);
	/* A copy that a failed mremap could not take away again. */
	if (window->vma != vmf->vma)
		return VM_FAULT_SIGBUS;
	down_read(&window->pool->map_sem);
	may = window_right(window, page, &right);
	if (may) {
		right_trim(&right, page - fbuf_first(right.fbuf));
		if (window_insert(window, &right, 1))
			ret = VM_FAULT_OOM;
	}
	up_read(&window->pool->map_sem);
	return may ? ret : window_deny(vmf, window, page);
}

static void window_close(struct vm_area_struct *vma)
{
	struct fbufs_window *window = vma->vm_private_data;

	/* A copy that mremap made and gives up again. */
	if (window->vma != vma)
		return;
	if (window->own)
		WRITE_ONCE(window->domain->own_vma, NULL);
	xa_erase(&window->domain->windows, window->pool->id);
	pool_put(window->pool);
	domain_put(window->domain);
	kfree(window);
	stats_gauge(FBUFS_GAUGE_WINDOWS, -1);
}

static int window_may_split(struct vm_area_struct *vma, unsigned long address)
{
	return -EINVAL;
}

static int window_mremap(struct vm_area_struct *vma)
{
	return -EINVAL;
}

static int window_mprotect(struct vm_area_struct *vma, unsigned long start,
			   unsigned long end, unsigned long newflags)
{
	return -EACCES;
}

/* A debugger reads what the owner of the window can read, and writes nothing. */
static int window_access(struct vm_area_struct *vma, unsigned long address,
			 void *buf, int len, int write)
{
	struct fbufs_window *window = vma->vm_private_data;
	struct map_right right = { .write = false };
	u32 page = (address - vma->vm_start) >> PAGE_SHIFT;
	struct page *shown;
	struct fbuf_cursor cursor;
	int done = -EIO;

	if (write)
		return -EIO;
	down_read(&window->pool->map_sem);
	if (window_right(window, page, &right)) {
		done = min_t(int, len, PAGE_SIZE - offset_in_page(address));
		shown = right.shadow;
		if (!shown) {
			fbuf_cursor_init(&cursor, right.fbuf, page - fbuf_first(right.fbuf));
			shown = pfn_to_page(fbuf_cursor_next(&cursor));
		}
		memcpy_from_page(buf, shown, offset_in_page(address), done);
	}
	up_read(&window->pool->map_sem);
	return done;
}

static const struct vm_operations_struct window_ops = {
	.close = window_close,
	.may_split = window_may_split,
	.mremap = window_mremap,
	.mprotect = window_mprotect,
	.fault = window_fault,
	.pfn_mkwrite = window_fault,
	.access = window_access,
};

/* Whether the domain holds an fbuf of the pool. */
static bool hold_reaches(struct fbufs_domain *domain, struct fbufs_pool *pool)
{
	bool found = false;
	u32 i, j;

	spin_lock(&domain->lock);
	for (i = 0; i < domain->nholds && !found; i++) {
		struct fbufs_aggregate *aggregate;

		if (i % 64 == 63)
			cond_resched_lock(&domain->lock);
		aggregate = i < domain->nholds ? domain->holds[i].aggregate : NULL;
		for (j = 0; aggregate && j < aggregate->nsegments && !found; j++)
			found = fbuf_pool(aggregate->segments[j].fbuf) == pool;
	}
	spin_unlock(&domain->lock);
	return found;
}

/* Whether a receiving end of the domain is on a channel from the pool. */
static bool member_reaches(struct fbufs_domain *domain, struct fbufs_pool *pool)
{
	struct fbufs_member *member;
	bool found = false;

	spin_lock(&domain->lock);
	list_for_each_entry(member, &domain->members, link) {
		struct fbufs_end *end = container_of(member, struct fbufs_end, member);

		if (!end->sending && READ_ONCE(end->channel->pool) == pool)
			found = true;
	}
	spin_unlock(&domain->lock);
	return found;
}

/**
 * map_may_window - whether a domain may map a pool at all
 * @domain: who
 * @pool: which
 *
 * What it then sees in the window is decided page by page.
 *
 * Return: true when it may.
 */
bool map_may_window(struct fbufs_domain *domain, struct fbufs_pool *pool)
{
	return domain->pool == pool || hold_reaches(domain, pool) ||
	       member_reaches(domain, pool);
}

static int window_check(struct fbufs_domain *domain, struct fbufs_pool *pool,
			struct vm_area_struct *vma)
{
	unsigned long page = vma->vm_pgoff & ((1UL << (FBUFS_POOL_SHIFT - PAGE_SHIFT)) - 1);

	if (!map_may_window(domain, pool))
		return -ENOENT;
	if (!(vma->vm_flags & VM_SHARED) || page || vma_pages(vma) != pool->span)
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC || !(vma->vm_flags & VM_READ))
		return -EACCES;
	if (domain->pool != pool && vma->vm_flags & VM_WRITE)
		return -EACCES;
	if (xa_load(&domain->windows, pool->id))
		return -EEXIST;
	return 0;
}

/**
 * map_window - mmap() on a domain
 * @domain: the caller's
 * @vma: the new mapping
 *
 * Return: 0; -ENOENT when there is no such pool or the domain has nothing to do
 * with it; -EINVAL when it is not the whole pool, shared; -EACCES for writing
 * to another's pool and for executing; -EEXIST when it has this window.
 */
int map_window(struct fbufs_domain *domain, struct vm_area_struct *vma)
{
	struct fbufs_pool *pool;
	struct fbufs_window *window;
	int err;

	pool = pool_get_by_id(vma->vm_pgoff >> (FBUFS_POOL_SHIFT - PAGE_SHIFT));
	if (!pool)
		return -ENOENT;
	err = window_check(domain, pool, vma);
	if (err)
		goto err_put_pool;

	window = kzalloc(sizeof(*window), GFP_KERNEL_ACCOUNT);
	if (!window) {
		err = -ENOMEM;
		goto err_put_pool;
	}
	err = xa_insert(&domain->windows, pool->id, xa_mk_value(vma->vm_start >> PAGE_SHIFT),
			GFP_KERNEL_ACCOUNT);
	if (err)
		goto err_free_window;
	window->domain = domain_get(domain);
	window->pool = pool;
	window->vma = vma;
	window->own = domain->pool == pool;
	if (window->own)
		WRITE_ONCE(domain->own_vma, vma);
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP);
	vm_flags_clear(vma, VM_MAYEXEC | (window->own ? 0 : VM_MAYWRITE));
	/* All windows of a pool, and only those, hang on the pool's own file. */
	vma_set_file(vma, pool->file);
	vma->vm_ops = &window_ops;
	vma->vm_private_data = window;
	stats_gauge(FBUFS_GAUGE_WINDOWS, 1);
	return 0;

err_free_window:
	kfree(window);
err_put_pool:
	pool_put(pool);
	return err;
}

/*
 * What transfers ask for
 */

/* Rights that are inserted together, at most; and pages, from which on no more are added. */
#define BATCH 32
#define BATCH_PAGES 512

/* As many pages as were written before, at least the first ones. */
static bool give_right(struct map_right *right)
{
	right->npages = right->fbuf->given ?: first_run(fbuf_npages(right->fbuf));
	return own_right(right->fbuf, true, right->npages);
}

/* Up to BATCH of them. Context: map_sem for reading. */
static void window_give(struct fbufs_window *window, const struct fbufs_buffer *buffers, u32 n)
{
	struct map_right rights[BATCH] __uninitialized;
	struct fbufs_pool *pool = window->pool;
	u32 i, given = 0;

	spin_lock(&pool->lock);
	for (i = 0; i < n && !READ_ONCE(window->domain->dead); i++) {
		/* By another thread it may be sent or free by now. */
		struct fbuf *fbuf = pool_lookup(pool, buffers[i].fbuf);

		if (!fbuf || fbuf->access.flags & (ACCESS_RW | ACCESS_SHADOW))
			continue;
		rights[given] = (struct map_right){ .fbuf = fbuf, .write = true };
		given += give_right(&rights[given]);
	}
	spin_unlock(&pool->lock);
	if (given)
		window_insert(window, rights, given);
}

/**
 * map_give - let the originator write fbufs that it allocated, without a fault each
 * @domain: the caller's
 * @buffers: just allocated
 * @n: how many
 *
 * Does nothing for those whose writable entries are still there, and without a
 * window. Failure is no harm: a fault does the same later. May sleep.
 */
void map_give(struct fbufs_domain *domain, const struct fbufs_buffer *buffers, u32 n)
{
	struct fbufs_pool *pool = domain->pool;
	struct fbufs_window *window = window_lock(domain, pool->id);
	u32 i;

	if (!window)
		return;
	down_read(&pool->map_sem);
	for (i = 0; i < n && window->vma->vm_flags & VM_WRITE; i += BATCH)
		window_give(window, &buffers[i], min_t(u32, n - i, BATCH));
	up_read(&pool->map_sem);
	window_unlock(window);
}

/* What a receiver is about to be shown in one window, which is locked, as is map_sem. */
struct map_showing {
	struct fbufs_window *window;
	u32 n;
	u32 npages;
	struct map_right rights[BATCH];
};

static void showing_begin(struct map_showing *showing, struct fbufs_domain *domain,
			  struct fbufs_pool *pool)
{
	showing->n = 0;
	showing->npages = 0;
	showing->window = window_lock(domain, pool->id);
	if (showing->window)
		down_read(&pool->map_sem);
}

/* For what follows map_sem is taken anew: the originator of the pool may wait for it. */
static void showing_pause(struct map_showing *showing)
{
	struct fbufs_pool *pool = showing->window->pool;

	window_insert(showing->window, showing->rights, showing->n);
	showing->n = 0;
	showing->npages = 0;
	up_read(&pool->map_sem);
	cond_resched();
	down_read(&pool->map_sem);
}

static void showing_end(struct map_showing *showing)
{
	if (!showing->window)
		return;
	if (showing->n)
		window_insert(showing->window, showing->rights, showing->n);
	up_read(&showing->window->pool->map_sem);
	window_unlock(showing->window);
}

/* Show one slice. Context: as all of these. */
static void showing_add(struct map_showing *showing, struct fbufs_aggregate *aggregate,
			struct fbufs_segment *segment, u64 bit, bool beginning)
{
	struct fbufs_pool *pool = showing->window->pool;
	struct fbuf *fbuf = segment->fbuf;
	u32 first = segment->offset >> PAGE_SHIFT;
	u32 last = (segment->offset + segment->length - 1) >> PAGE_SHIFT;
	struct map_right *right = &showing->rights[showing->n++];

	*right = (struct map_right){ .fbuf = fbuf, .page = first, .npages = last - first + 1 };
	if (map_is_cached_here(map_cached(aggregate->channel), fbuf)) {
		spin_lock(&pool->lock);
		fbuf->mapped |= bit;
		spin_unlock(&pool->lock);
		right->page = 0;
		right->npages = fbuf_npages(fbuf);
	} else if (beginning) {
		right->npages = first_run(right->npages);
	}
	showing->npages += right->npages;
	if (showing->n == BATCH || showing->npages >= BATCH_PAGES)
		showing_pause(showing);
}

/**
 * map_show - let a receiver read messages that it now holds, without a fault each
 * @domain: the caller's
 * @aggregates: the messages
 * @n: how many
 * @index: of the receiving end
 * @beginning: of a long slice that is not shown to stay, only the beginning
 *
 * Pools that the domain has not mapped yet are left to faults. May sleep.
 */
void map_show(struct fbufs_domain *domain, struct fbufs_aggregate **aggregates,
	      u32 n, u32 index, bool beginning)
{
	struct map_showing showing __uninitialized;
	struct fbufs_pool *shown = NULL;
	u64 bit = BIT_ULL(index);
	u32 i, j;

	showing.window = NULL;
	for (i = 0; i < n; i++) {
		for (j = 0; j < aggregates[i]->nsegments; j++) {
			struct fbufs_segment *segment = &aggregates[i]->segments[j];
			struct fbufs_pool *pool = fbuf_pool(segment->fbuf);

			if (domain->pool == pool ||
			    map_is_shown(map_cached(aggregates[i]->channel),
					 segment->fbuf, bit))
				continue;
			if (pool != shown) {
				showing_end(&showing);
				showing_begin(&showing, domain, pool);
				shown = pool;
			}
			if (showing.window && !READ_ONCE(domain->dead))
				showing_add(&showing, aggregates[i], segment, bit, beginning);
		}
	}
	showing_end(&showing);
}

static void hiding_end(struct map_removal *removal)
{
	removal_finish(removal);
	window_unlock(removal->window);
}

/* Whether a domain may see the fbuf of a message that it no longer holds. */
static bool still_shown(struct fbufs_domain *domain, const struct fbufs_aggregate *aggregate,
			const struct fbuf *fbuf)
{
	return domain->pool == fbuf_pool(fbuf) ||
	       (map_is_cached_here(map_cached(aggregate->channel), fbuf) &&
		channel_reaches(aggregate->channel, domain));
}

/**
 * map_hide - take pages of messages from a domain that no longer holds them
 * @domain: the caller's
 * @aggregates: messages that are no longer in the table of held messages
 * @n: how many
 *
 * Leaves what it may see all the same, as a receiver of a cached channel. What
 * another held message still shows comes back by a fault. One TLB flush for each
 * pool that comes in a row. May sleep.
 */
void map_hide(struct fbufs_domain *domain, struct fbufs_aggregate **aggregates, u32 n)
{
	struct map_removal removal = { };
	struct fbufs_pool *pool = NULL;
	u32 i, j;

	for (i = 0; i < n; i++) {
		for (j = 0; j < aggregates[i]->nsegments; j++) {
			struct fbufs_segment *segment = &aggregates[i]->segments[j];
			u32 first = segment->offset >> PAGE_SHIFT;
			u32 last = (segment->offset + segment->length - 1) >> PAGE_SHIFT;

			if (still_shown(domain, aggregates[i], segment->fbuf))
				continue;
			if (fbuf_pool(segment->fbuf) != pool) {
				if (removal.window)
					hiding_end(&removal);
				pool = fbuf_pool(segment->fbuf);
				map_barrier(pool);
				removal = (struct map_removal){
					.window = window_lock(domain, pool->id),
				};
			}
			if (removal.window)
				removal_add(&removal, fbuf_first(segment->fbuf) + first,
					    last - first + 1);
		}
	}
	if (removal.window)
		hiding_end(&removal);
}

/* Empty a domain's window of a pool: it has lost rights there. May sleep. */
void map_hide_pool(struct fbufs_domain *domain, struct fbufs_pool *pool)
{
	struct fbufs_window *window;

	if (domain->pool == pool)
		return;
	map_barrier(pool);
	window = window_lock(domain, pool->id);
	if (!window)
		return;
	window_zap(window, 0, pool->span);
	window_unlock(window);
}

/* Empty all windows of a domain that has ended; its process may live on. */
void map_hide_all(struct fbufs_domain *domain)
{
	struct fbufs_window *window;
	unsigned long id;
	void *record;

	xa_for_each(&domain->windows, id, record) {
		window = window_lock(domain, id);
		if (!window)
			continue;
		map_barrier(window->pool);
		window_zap(window, 0, window->pool->span);
		window_unlock(window);
	}
}

/* Begin to take rights from the originator of a pool. False: it has no window. */
static bool revocation_begin(struct map_removal *removal, struct fbufs_pool *pool)
{
	struct fbufs_domain *owner;

	mutex_lock(&pool->revoke_mutex);
	spin_lock(&pool->lock);
	owner = pool->owner;
	if (owner)
		domain_get(owner);
	spin_unlock(&pool->lock);

	/* Whatever was about to be inserted is inserted after this. */
	map_barrier(pool);
	*removal = (struct map_removal){ };
	if (owner)
		removal->window = window_lock(owner, pool->id);
	if (removal->window)
		return true;
	mutex_unlock(&pool->revoke_mutex);
	if (owner)
		domain_put(owner);
	return false;
}

static void revocation_end(struct map_removal *removal)
{
	struct fbufs_domain *owner = removal->window->domain;
	struct fbufs_pool *pool = removal->window->pool;

	removal_finish(removal);
	window_unlock(removal->window);
	mutex_unlock(&pool->revoke_mutex);
	domain_put(owner);
}

/* What was to be taken away is. */
static void revocation_done(struct fbufs_aggregate **aggregates, u32 n)
{
	struct segment_walk walk;
	bool more = walk_begin(&walk, aggregates, n);

	while (more) {
		struct fbufs_pool *pool = fbuf_pool(walk.segment->fbuf);

		spin_lock(&pool->lock);
		do {
			walk.segment->fbuf->access.flags &= ~ACCESS_REVOKE;
			more = walk_next(&walk);
		} while (more && fbuf_pool(walk.segment->fbuf) == pool);
		spin_unlock(&pool->lock);
	}
}

/**
 * map_revoke - make the lock of fbufs true
 * @aggregates: messages whose fbufs are locked, and of which the caller has a
 *	reference, so that none goes home meanwhile
 * @n: how many
 *
 * Takes the originators' writable entries of all fbufs marked ACCESS_REVOKE
 * away, with one TLB flush for each originator that comes in a row. May sleep.
 */
void map_revoke(struct fbufs_aggregate **aggregates, u32 n)
{
	struct map_removal removal = { };
	struct fbufs_pool *pool = NULL;
	struct segment_walk walk;
	bool open = false, more;

	for (more = walk_begin(&walk, aggregates, n); more; more = walk_next(&walk)) {
		struct fbuf *fbuf = walk.segment->fbuf;

		/* Set by the caller's access_lock(), unless somebody has seen to it meanwhile. */
		if (!(READ_ONCE(fbuf->access.flags) & ACCESS_REVOKE))
			continue;
		if (fbuf_pool(fbuf) != pool) {
			if (open)
				revocation_end(&removal);
			pool = fbuf_pool(fbuf);
			open = revocation_begin(&removal, pool);
		}
		if (open)
			removal_add(&removal, fbuf_first(fbuf), fbuf->given);
	}
	if (open)
		revocation_end(&removal);
	revocation_done(aggregates, n);
}

/**
 * map_merge - private copies become the bytes of an fbuf that its originator has back
 * @pool: the caller's
 * @handle: of the fbuf; what is not the originator's, or has no copies, is left alone
 *
 * Context: May sleep.
 */
void map_merge(struct fbufs_pool *pool, u64 handle)
{
	struct fbuf *fbuf;
	bool stale;
	u32 n;

	/*
	 * With this the fbuf keeps its pages: who evicts passes through it after LEAVING.
	 * Its flags stay until all is done, so that nobody can send it.
	 */
	down_write(&pool->map_sem);
	spin_lock(&pool->lock);
	fbuf = pool_lookup(pool, handle);
	stale = fbuf && access_is_stale(&fbuf->access);
	if (stale)
		fbuf->mapped = 0;
	spin_unlock(&pool->lock);
	if (stale) {
		unmap_mapping_range(pool->file->f_mapping, pool_position(pool, fbuf, 0),
				    (loff_t)fbuf_npages(fbuf) << PAGE_SHIFT, 1);
		n = shadow_merge(pool, fbuf);
		spin_lock(&pool->lock);
		if (access_is_stale(&fbuf->access))
			access_merged(&fbuf->access);
		if (pool->owner) {
			stats_count(&pool->owner->counters, FBUFS_COUNT_BYTES_COPIED,
				    (u64)n << PAGE_SHIFT);
			stats_count(&pool->owner->counters, FBUFS_COUNT_TLB_FLUSHES, 1);
		}
		spin_unlock(&pool->lock);
	}
	up_write(&pool->map_sem);
}

/* Take an fbuf that is LEAVING out of every window, and drop private copies. May sleep. */
void map_unmap(struct fbufs_pool *pool, struct fbuf *fbuf)
{
	loff_t bytes = (loff_t)fbuf_npages(fbuf) << PAGE_SHIFT;

	map_barrier(pool);
	unmap_mapping_range(pool->file->f_mapping, pool_position(pool, fbuf, 0), bytes, 1);
	if (fbuf->access.flags & ACCESS_SHADOW)
		shadow_drop(pool, fbuf);
	spin_lock(&pool->lock);
	if (pool->owner) {
		stats_count(&pool->owner->counters, FBUFS_COUNT_PTES_CLEARED, fbuf_npages(fbuf));
		stats_count(&pool->owner->counters, FBUFS_COUNT_TLB_FLUSHES, 1);
	}
	spin_unlock(&pool->lock);
}
