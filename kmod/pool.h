/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * A pool: the fbufs of one process, their address space and their free lists.
 *
 * Locks. @lock guards every fbuf of the pool, extents, free lists, counts and
 * notices; it is a leaf. @map_sem orders mappings against rights: who inserts
 * page-table entries of this pool holds it for reading from the check of the
 * right to the insertion; who takes a right away first marks that under @lock
 * (or the lock of what gives the right), then passes through @map_sem for
 * writing, then removes the entries. So no entry can appear after its right is
 * gone. The order of locks is in Documentation/driver-api/locking.rst.
 */
#ifndef FBUFS_POOL_H
#define FBUFS_POOL_H

#include <linux/kref.h>
#include <linux/maple_tree.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "fbuf.h"

struct fbufs_channel;
struct fbufs_domain;
struct mm_struct;

/**
 * struct fbufs_class - a free list: fbufs of one length of one channel
 * @pool: whose fbufs
 * @channel: whose; NULL for fbufs that were never sent
 * @npages: pages of each
 * @count: fbufs on the list
 * @head: last in, first out
 * @link: in the pool's @stocked since there were any; see pool_victim()
 * @out: fbufs that the kernel originates, or is about to
 * @tell: @on_home is to be called when one of them comes home, under the pool's lock
 * @on_home: what is called; set once
 * @source: for it
 */
struct fbufs_class {
	struct fbufs_pool *pool;
	struct fbufs_channel *channel;
	u32 npages;
	u32 count;
	struct fbuf *head;
	struct list_head link;
	u32 out;
	bool tell;
	void (*on_home)(struct fbufs_class *class, u64 handle);
	void *source;
};

/* Whose an fbuf is that is not EMPTY. */
static inline struct fbufs_pool *fbuf_pool(const struct fbuf *fbuf)
{
	return fbuf->home->pool;
}

#define RECENT_EXTENTS 256

/**
 * struct fbufs_size - extents of one fbuf length
 * @room: those that have room
 * @nslots: fbufs of the next extent; it doubles, so that a length of which there
 *	are few fbufs takes little address space
 */
struct fbufs_size {
	struct list_head room;
	u32 nslots;
};

/**
 * struct fbufs_pool - see the head of this file
 * @ref: the owner, windows, channels, and one while any fbuf is sent
 * @id: number, also of its place among the device's offsets
 * @span: pages of address space
 * @limit: pages of memory it may use
 * @file: carries the address_space in which all windows of the pool are
 * @mm: of the process; grabbed, not in use
 * @lock: see above
 * @map_sem: see above
 * @owner: the domain, or NULL when it has ended
 * @orphan: the domain has ended: fbufs leave instead of going home
 * @starved: somebody found the pool full since an fbuf last came home; the
 *	owner's wait queue is woken when one does
 * @pages: pages of memory in use
 * @sent: fbufs that are SENT
 * @recent: extents that were looked up last, by their ids modulo RECENT_EXTENTS
 * @leaving: fbufs that are LEAVING and wait to be evicted
 * @nleaving: fbufs that are LEAVING
 * @revoke_mutex: one at a time takes write access away, so that nobody relies on
 *	a flush of another that is still to come. Taken before mmap locks.
 * @stocked: free lists with something on them, and some that were emptied
 * @notice_mutex: serialises who reads notices; user memory is written under it
 * @notices: ring of handles
 * @notice_mask: its size less one
 * @notice_head: the oldest that is unread
 * @notice_tail: where the next one goes
 * @notice_promised: room that is kept for those that will come
 * @extents: by id
 * @next_extent: where to look for the next id
 * @gen: first handle of the next extent, but for its id
 * @space: extents by page
 * @sizes: struct fbufs_size by pages
 * @unbound: classes of fbufs without a channel, by pages
 * @store: FBUFS_POOL_STORE_*: what a store to a lent fbuf that is locked does; 0: fault
 * @unlocked: where such stores wait
 * @shadows: private copies of pages, by page of the pool (shadow.h)
 */
struct fbufs_pool {
	struct kref ref;
	u32 id;
	u32 span;
	u32 limit;
	struct file *file;
	struct mm_struct *mm;

	spinlock_t lock;	/* see above */
	struct rw_semaphore map_sem;
	struct fbufs_domain *owner;
	bool orphan;
	bool starved;
	u32 pages;
	u32 sent;
	struct fbufs_extent *recent[RECENT_EXTENTS];
	struct fbuf *leaving;
	u32 nleaving;
	struct list_head stocked;
	struct mutex revoke_mutex;	/* see above */

	struct mutex notice_mutex;	/* see above */
	u64 *notices;
	u32 notice_mask;
	u32 notice_head;
	u32 notice_tail;
	u32 notice_promised;

	struct xarray extents;
	u32 next_extent;
	u64 gen;
	struct maple_tree space;
	struct xarray sizes;
	struct xarray unbound;

	u32 store;
	wait_queue_head_t unlocked;
	struct xarray shadows;
};

struct fbufs_pool *pool_create(struct fbufs_domain *owner, u64 bytes, u32 store);
struct fbufs_pool *pool_get_by_id(u32 id);
void pool_put(struct fbufs_pool *pool);
void pool_exit(void);

static inline struct fbufs_pool *pool_get(struct fbufs_pool *pool)
{
	kref_get(&pool->ref);
	return pool;
}

static inline loff_t pool_offset(const struct fbufs_pool *pool)
{
	return (loff_t)pool->id << FBUFS_POOL_SHIFT;
}

/* As pool_position(), of the pool whose first byte is there. */
static inline u64 fbuf_position(const struct fbuf *fbuf, u64 pool_begin, u32 offset)
{
	return pool_begin + ((u64)fbuf_first(fbuf) << PAGE_SHIFT) + offset;
}

/* Offset of a byte of an fbuf among the device's offsets. */
static inline u64 pool_position(const struct fbufs_pool *pool,
				const struct fbuf *fbuf, u32 offset)
{
	return fbuf_position(fbuf, pool_offset(pool), offset);
}

/* Handles: pool, allocation, extent, slot. */
#define HANDLE_SLOT_BITS 6
#define HANDLE_EXTENT_BITS 18
#define HANDLE_GEN_BITS 24
#define HANDLE_GEN_SHIFT (HANDLE_SLOT_BITS + HANDLE_EXTENT_BITS)
#define HANDLE_POOL_SHIFT (HANDLE_GEN_SHIFT + HANDLE_GEN_BITS)
#define HANDLE_GEN_MASK GENMASK_ULL(HANDLE_POOL_SHIFT - 1, HANDLE_GEN_SHIFT)
#define MAX_POOL_ID (BIT(64 - HANDLE_POOL_SHIFT) - 1)
#define MAX_EXTENT_ID (BIT(HANDLE_EXTENT_BITS) - 1)

static inline u32 handle_extent(u64 handle)
{
	return (handle >> HANDLE_SLOT_BITS) & MAX_EXTENT_ID;
}

static inline u32 handle_slot(u64 handle)
{
	return handle & (BIT(HANDLE_SLOT_BITS) - 1);
}

struct fbuf *pool_place_other(struct fbufs_pool *pool, u64 handle);

/*
 * The place of the fbuf that a handle names, which may be EMPTY by now, or NULL; see
 * pool_lookup(). Context: under the pool's lock.
 */
static inline struct fbuf *pool_place(struct fbufs_pool *pool, u64 handle)
{
	u32 id = handle_extent(handle), slot = handle_slot(handle);
	struct fbufs_extent *extent = pool->recent[id % RECENT_EXTENTS];
	struct fbuf *fbuf;

	lockdep_assert_held(&pool->lock);
	if (extent && slot < extent->nslots) {
		fbuf = &extent->fbufs[slot];
		/* Or it is computed once for each use. */
		OPTIMIZER_HIDE_VAR(fbuf);
		/* Then the extent is the right one, too: it is in the handle. */
		if (likely(fbuf->handle == handle))
			return fbuf;
	}
	return pool_place_other(pool, handle);
}

/**
 * pool_lookup - the fbuf of a handle
 * @pool: where it should be
 * @handle: from anywhere
 *
 * Context: under the pool's lock.
 * Return: the fbuf, or NULL when the handle is of another pool, of no fbuf, or
 * of an earlier allocation.
 */
static inline struct fbuf *pool_lookup(struct fbufs_pool *pool, u64 handle)
{
	struct fbuf *fbuf = pool_place(pool, handle);

	return fbuf && fbuf->access.state != FBUFS_STATE_EMPTY ? fbuf : NULL;
}

/* As pool_hand_out(), of the pool whose first byte is at that position. */
static inline void fbuf_hand_out(struct fbuf *fbuf, u64 pool_begin, struct fbufs_buffer *buffer)
{
	u64 handle = fbuf->handle + BIT_ULL(HANDLE_GEN_SHIFT);

	access_alloc(&fbuf->access);
	/* From the last number to the first one: the pool's stays. */
	if (unlikely(!(handle & HANDLE_GEN_MASK)))
		handle -= BIT_ULL(HANDLE_POOL_SHIFT);
	fbuf->handle = handle;
	buffer->fbuf = handle;
	buffer->position = fbuf_position(fbuf, pool_begin, 0);
}

/*
 * An fbuf becomes the originator's, under a new handle. From here on its process
 * can send or free it, so that the caller knows it by its handle only.
 * Context: under the pool's lock.
 */
static inline void pool_hand_out(struct fbufs_pool *pool, struct fbuf *fbuf,
				 struct fbufs_buffer *buffer)
{
	lockdep_assert_held(&pool->lock);
	fbuf_hand_out(fbuf, pool_offset(pool), buffer);
}

/*
 * An fbuf is no longer locked, or no longer lent: stores that wait for that look again.
 * Context: under the pool's lock, as who is about to wait looks.
 */
static inline void pool_unlocked(struct fbufs_pool *pool)
{
	if (pool->store & FBUFS_POOL_STORE_WAIT && wq_has_sleeper(&pool->unlocked))
		wake_up_all(&pool->unlocked);
}

/*
 * An fbuf came home, and its process, for which room was promised, or the kernel
 * wants to know (ACCESS_NOTICE, ACCESS_KERNEL). Context: under the pool's lock.
 */
static inline void pool_notice(struct fbufs_pool *pool, struct fbuf *fbuf, u8 who)
{
	struct fbufs_class *class = fbuf->home;

	lockdep_assert_held(&pool->lock);
	if (who & ACCESS_KERNEL) {
		class->out--;
		if (READ_ONCE(class->tell))
			class->on_home(class, fbuf->handle);
	}
	if (who & ACCESS_NOTICE) {
		pool->notice_promised--;
		pool->notices[pool->notice_tail++ & pool->notice_mask] = fbuf->handle;
	}
}

/* So many more of its fbufs are SENT. Context: under the pool's lock. */
static inline void pool_sent(struct fbufs_pool *pool, u32 n)
{
	if (n && !pool->sent)
		pool_get(pool);
	pool->sent += n;
}

/* Context: under the pool's lock. */
static inline void pool_push(struct fbuf *fbuf)
{
	struct fbufs_class *class = fbuf->home;

	fbuf->next = class->head;
	class->head = fbuf;
	class->count++;
	if (unlikely(list_empty(&class->link)))
		list_add(&class->link, &class->pool->stocked);
}

/* Context: under the pool's lock. */
static inline struct fbuf *pool_pop(struct fbufs_class *class)
{
	struct fbuf *fbuf = class->head;

	if (!fbuf)
		return NULL;
	class->head = fbuf->next;
	fbuf->next = NULL;
	class->count--;
	return fbuf;
}

/*
 * Allocate up to @n fbufs from a free list. Returns how many there were; sets
 * *@unmapped when the originator has yet to be given write access to some.
 */
static inline u32 pool_take(struct fbufs_class *class, struct fbufs_buffer *buffers, u32 n,
			    bool *unmapped)
{
	struct fbufs_pool *pool = class->pool;
	u64 begin = pool_offset(pool);
	u8 mapped = ACCESS_RW;
	struct fbuf *fbuf;
	u32 i;

	spin_lock(&pool->lock);
	if (unlikely(pool->orphan))
		n = 0;
	for (i = 0; i < n; i++) {
		fbuf = pool_pop(class);
		if (!fbuf)
			break;
		mapped &= fbuf->access.flags;
		fbuf_hand_out(fbuf, begin, &buffers[i]);
	}
	spin_unlock(&pool->lock);
	if (!mapped)
		*unmapped = true;
	return i;
}

struct fbuf *pool_find(struct fbufs_pool *pool, u32 page);

struct fbufs_class *pool_class(struct fbufs_pool *pool, struct xarray *classes,
			       struct fbufs_channel *channel, u32 npages);
struct fbufs_class *pool_copy_class(struct fbufs_pool *pool, struct xarray *classes,
				    struct fbufs_channel *channel, u32 npages);
void pool_classes_destroy(struct xarray *classes);

struct fbuf *pool_take_to_zero(struct fbufs_class *class);
struct fbuf *pool_victim(struct fbufs_pool *pool);
void pool_leave(struct fbufs_pool *pool, struct fbuf *fbuf);
void pool_gone(struct fbufs_pool *pool, struct fbuf *fbuf);
void pool_wake(struct fbufs_pool *pool);
void pool_notify(struct fbufs_pool *pool);

int pool_charge(struct fbufs_pool *pool, u32 npages);
void pool_uncharge(struct fbufs_pool *pool, u32 npages);
struct fbuf *pool_slot_get(struct fbufs_pool *pool, u32 npages);
void pool_slot_put(struct fbufs_pool *pool, struct fbuf *fbuf);

int pool_promise_notices(struct fbufs_pool *pool, u32 n);
void pool_unpromise_notices(struct fbufs_pool *pool, u32 n);
u32 pool_peek_notices(struct fbufs_pool *pool, u64 *handles, u32 n);
void pool_drop_notices(struct fbufs_pool *pool, u32 n);

#endif
