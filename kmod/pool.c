// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "domain.h"
#include "pool.h"
#include "stats.h"

/* Notices that are unread or may come. */
#define MAX_NOTICES (1U << 20)

/* The first extent of a length spans about this. */
#define FIRST_EXTENT_PAGES 8
/* An extent of small fbufs spans at most this, so that it soon is all used or all free. */
#define EXTENT_PAGES (SZ_2M >> PAGE_SHIFT)

/* Pools by id. Creation is serialised, so that a process gets only one. */
static DEFINE_XARRAY_ALLOC1(pools);
static DEFINE_MUTEX(pools_mutex);
static u32 next_pool;

static const struct file_operations pool_fops = {
	.owner = THIS_MODULE,
};

/*
 * Creation and end
 */

static int pool_publish(struct fbufs_pool *pool)
{
	struct fbufs_pool *other;
	unsigned long index;
	int err = 0;

	mutex_lock(&pools_mutex);
	/* Under its lock, pools stay in the index only while they exist. */
	xa_lock(&pools);
	xa_for_each(&pools, index, other) {
		/* An owner only goes; seeing one that goes is as good as being earlier. */
		if (other->mm == pool->mm && READ_ONCE(other->owner))
			err = -EEXIST;
	}
	xa_unlock(&pools);
	if (!err)
		err = xa_alloc_cyclic(&pools, &pool->id, pool, XA_LIMIT(1, MAX_POOL_ID),
				      &next_pool, GFP_KERNEL_ACCOUNT);
	mutex_unlock(&pools_mutex);
	if (err == -EBUSY)
		return -ENOSPC;
	return min(err, 0);
}

/**
 * pool_create - make the pool of a process
 * @owner: its domain
 * @bytes: memory that it may use
 * @store: FBUFS_POOL_STORE_WAIT, FBUFS_POOL_STORE_COPY or neither
 *
 * The address space is four times as large, so that fbufs of different lengths
 * do not block each other's way; it costs nothing.
 *
 * Context: May sleep.
 * Return: the pool with one reference, or -EINVAL, -ENOMEM, -EEXIST, -ENOSPC.
 */
struct fbufs_pool *pool_create(struct fbufs_domain *owner, u64 bytes, u32 store)
{
	struct fbufs_pool *pool;
	int err;

	if (!bytes || bytes > FBUFS_MAX_POOL)
		return ERR_PTR(-EINVAL);
	pool = kzalloc(sizeof(*pool), GFP_KERNEL_ACCOUNT);
	if (!pool)
		return ERR_PTR(-ENOMEM);

	kref_init(&pool->ref);
	spin_lock_init(&pool->lock);
	init_rwsem(&pool->map_sem);
	mutex_init(&pool->notice_mutex);
	mutex_init(&pool->revoke_mutex);
	INIT_LIST_HEAD(&pool->stocked);
	xa_init_flags(&pool->extents, XA_FLAGS_ALLOC);
	xa_init(&pool->sizes);
	xa_init(&pool->unbound);
	xa_init(&pool->shadows);
	init_waitqueue_head(&pool->unlocked);
	pool->store = store;
	/* pool_find() reads it under the pool's lock, not under the tree's. */
	mt_init_flags(&pool->space, MT_FLAGS_ALLOC_RANGE | MT_FLAGS_USE_RCU);
	pool->limit = DIV_ROUND_UP_ULL(bytes, PAGE_SIZE);
	pool->span = max_t(u64, 4 * roundup_pow_of_two(pool->limit), EXTENT_PAGES);
	pool->owner = owner;
	pool->mm = owner->mm;
	mmgrab(pool->mm);

	pool->file = anon_inode_create_getfile("[fbufs-pool]", &pool_fops, pool, O_RDWR, NULL);
	if (IS_ERR(pool->file)) {
		err = PTR_ERR(pool->file);
		goto err_drop_mm;
	}
	err = pool_publish(pool);
	if (err)
		goto err_put_file;
	stats_gauge(FBUFS_GAUGE_POOLS, 1);
	return pool;

err_put_file:
	fput(pool->file);
err_drop_mm:
	mmdrop(pool->mm);
	kfree(pool);
	return ERR_PTR(err);
}

static void pool_destroy(struct kref *ref)
{
	struct fbufs_pool *pool = container_of(ref, struct fbufs_pool, ref);
	struct fbufs_size *size;
	unsigned long index;

	WARN_ON_ONCE(pool->pages || pool->sent || pool->nleaving);
	WARN_ON_ONCE(!xa_empty(&pool->extents) || !xa_empty(&pool->shadows));
	xa_for_each(&pool->sizes, index, size)
		kfree(size);
	xa_destroy(&pool->sizes);
	xa_destroy(&pool->extents);
	mtree_destroy(&pool->space);
	pool_classes_destroy(&pool->unbound);
	kvfree(pool->notices);
	fput(pool->file);
	mmdrop(pool->mm);
	kfree(pool);
	stats_gauge(FBUFS_GAUGE_POOLS, -1);
}

void pool_put(struct fbufs_pool *pool)
{
	struct fbufs_pool *gone = NULL;

	/* The index holds no reference: leave it in the same breath as the last one goes. */
	xa_lock(&pools);
	if (refcount_dec_and_test(&pool->ref.refcount)) {
		__xa_erase(&pools, pool->id);
		gone = pool;
	}
	xa_unlock(&pools);
	if (gone)
		pool_destroy(&gone->ref);
}

struct fbufs_pool *pool_get_by_id(u32 id)
{
	struct fbufs_pool *pool;

	xa_lock(&pools);
	pool = xa_load(&pools, id);
	if (pool && !kref_get_unless_zero(&pool->ref))
		pool = NULL;
	xa_unlock(&pools);
	return pool;
}

void pool_exit(void)
{
	WARN_ON_ONCE(!xa_empty(&pools));
	xa_destroy(&pools);
}

/*
 * Handles and addresses
 */

/* As pool_place(), also of an extent that was not looked up lately. */
struct fbuf *pool_place_other(struct fbufs_pool *pool, u64 handle)
{
	u32 id = handle_extent(handle), slot = handle_slot(handle);
	struct fbufs_extent *extent = xa_load(&pool->extents, id);

	lockdep_assert_held(&pool->lock);
	if (!extent || slot >= extent->nslots || extent->fbufs[slot].handle != handle)
		return NULL;
	pool->recent[id % RECENT_EXTENTS] = extent;
	return &extent->fbufs[slot];
}

/* The fbuf at a page of the pool, or NULL. Context: under the pool's lock. */
struct fbuf *pool_find(struct fbufs_pool *pool, u32 page)
{
	struct fbufs_extent *extent;
	u32 first;

	lockdep_assert_held(&pool->lock);
	extent = mtree_load(&pool->space, page);
	if (!extent)
		return NULL;
	/* Not set yet when extent_try() has just found its place; pairs with the release there. */
	first = smp_load_acquire(&extent->first);
	return page >= first ? &extent->fbufs[(page - first) / extent->npages] : NULL;
}

/*
 * Free lists
 */

/* Free lists that were emptied, and are looked at under the lock at a time. */
#define MAX_EMPTIED 256

/* Among free lists, which are known by their pages, where those of pool_copy_class() are. */
#define COPY_CLASSES ((FBUFS_MAX_BYTES >> PAGE_SHIFT) + 1)

static struct fbufs_class *class_get(struct fbufs_pool *pool, struct xarray *classes,
				     struct fbufs_channel *channel, u32 npages, unsigned long index)
{
	struct fbufs_class *class = xa_load(classes, index), *other;

	if (class)
		return class;
	class = kzalloc(sizeof(*class), GFP_KERNEL_ACCOUNT);
	if (!class)
		return NULL;
	class->pool = pool;
	class->channel = channel;
	class->npages = npages;
	INIT_LIST_HEAD(&class->link);
	other = xa_cmpxchg(classes, index, NULL, class, GFP_KERNEL_ACCOUNT);
	if (other) {
		kfree(class);
		class = xa_is_err(other) ? NULL : other;
	}
	return class;
}

/**
 * pool_class - find or make a free list
 * @pool: whose fbufs
 * @classes: the channel's, or the pool's @unbound
 * @channel: whose, or NULL
 * @npages: pages of each fbuf
 *
 * Context: May sleep.
 * Return: the free list, which lives as long as @classes, or NULL without memory.
 */
struct fbufs_class *pool_class(struct fbufs_pool *pool, struct xarray *classes,
			       struct fbufs_channel *channel, u32 npages)
{
	return class_get(pool, classes, channel, npages, npages);
}

/*
 * As pool_class(), for fbufs that the kernel fills. They have a list of their own,
 * because those that the originator has had would have to lose their writable
 * entries first.
 */
struct fbufs_class *pool_copy_class(struct fbufs_pool *pool, struct xarray *classes,
				    struct fbufs_channel *channel, u32 npages)
{
	return class_get(pool, classes, channel, npages, COPY_CLASSES + npages);
}

void pool_classes_destroy(struct xarray *classes)
{
	struct fbufs_class *class;
	unsigned long index;

	xa_for_each(classes, index, class) {
		WARN_ON_ONCE(class->head);
		spin_lock(&class->pool->lock);
		list_del(&class->link);
		spin_unlock(&class->pool->lock);
		kfree(class);
	}
	xa_destroy(classes);
}

/* Take an fbuf off a free list, but leave it FREE: nobody can name it. Or NULL. */
struct fbuf *pool_take_to_zero(struct fbufs_class *class)
{
	struct fbufs_pool *pool = class->pool;
	struct fbuf *fbuf = NULL;

	spin_lock(&pool->lock);
	if (!pool->orphan)
		fbuf = pool_pop(class);
	spin_unlock(&pool->lock);
	return fbuf;
}

/*
 * Any free fbuf of the pool, now LEAVING; or NULL. A list that was emptied stays among
 * those in @stocked, for most are filled again at once; it is taken out here.
 *
 * Context: under the pool's lock. It is given up for a moment when there are many such
 * lists, but not between the look at the last one and the return.
 */
struct fbuf *pool_victim(struct fbufs_pool *pool)
{
	struct fbufs_class *class;
	struct fbuf *fbuf;
	u32 n = 0;

	lockdep_assert_held(&pool->lock);
	while ((class = list_first_entry_or_null(&pool->stocked, struct fbufs_class, link))) {
		fbuf = pool_pop(class);
		if (fbuf) {
			access_leave(&fbuf->access);
			pool->nleaving++;
			return fbuf;
		}
		list_del_init(&class->link);
		/* Not cond_resched_lock(): others may spin for it who need no rescheduling. */
		if (!(++n % MAX_EMPTIED)) {
			spin_unlock(&pool->lock);
			cond_resched();
			spin_lock(&pool->lock);
		}
	}
	return NULL;
}

/* It is to lose its pages at the next pool_reap(). Context: under the pool's lock. */
void pool_leave(struct fbufs_pool *pool, struct fbuf *fbuf)
{
	lockdep_assert_held(&pool->lock);
	access_leave(&fbuf->access);
	pool->nleaving++;
	fbuf->next = pool->leaving;
	pool->leaving = fbuf;
}

/* A LEAVING fbuf has lost its pages. Context: under the pool's lock. */
void pool_gone(struct fbufs_pool *pool, struct fbuf *fbuf)
{
	lockdep_assert_held(&pool->lock);
	fbuf->home = NULL;
	fbuf->mapped = 0;
	fbuf->given = 0;
	fbuf->next = NULL;
	access_gone(&fbuf->access);
	pool->nleaving--;
	pool->pages -= fbuf_npages(fbuf);
	pool_wake(pool);
}

/* Wake those who found the pool full, or wait for notices. Context: under the pool's lock. */
void pool_wake(struct fbufs_pool *pool)
{
	lockdep_assert_held(&pool->lock);
	WRITE_ONCE(pool->starved, false);
	if (pool->owner && wq_has_sleeper(&pool->owner->wait))
		wake_up_all(&pool->owner->wait);
}

/* As pool_wake(), for callers without the pool's lock. */
void pool_notify(struct fbufs_pool *pool)
{
	spin_lock(&pool->lock);
	pool_wake(pool);
	spin_unlock(&pool->lock);
}

/*
 * Memory and address space
 */

/* Reserve memory within the pool's limit. */
int pool_charge(struct fbufs_pool *pool, u32 npages)
{
	int err = 0;

	spin_lock(&pool->lock);
	if (npages > pool->limit - pool->pages)
		err = -ENOBUFS;
	else
		pool->pages += npages;
	spin_unlock(&pool->lock);
	return err;
}

void pool_uncharge(struct fbufs_pool *pool, u32 npages)
{
	spin_lock(&pool->lock);
	pool->pages -= npages;
	if (pool->starved)
		pool_wake(pool);
	spin_unlock(&pool->lock);
}

static struct fbufs_size *pool_size(struct fbufs_pool *pool, u32 npages)
{
	struct fbufs_size *size = xa_load(&pool->sizes, npages), *other;

	if (size)
		return size;
	size = kzalloc(sizeof(*size), GFP_KERNEL_ACCOUNT);
	if (!size)
		return NULL;
	INIT_LIST_HEAD(&size->room);
	/* For fbufs of a page, an extent of one would be mostly its own head. */
	size->nslots = clamp_t(u32, FIRST_EXTENT_PAGES / npages, 1, EXTENT_SLOTS);
	other = xa_cmpxchg(&pool->sizes, npages, NULL, size, GFP_KERNEL_ACCOUNT);
	if (other) {
		kfree(size);
		size = xa_is_err(other) ? NULL : other;
	}
	return size;
}

static size_t extent_bytes(u32 nslots)
{
	return struct_size_t(struct fbufs_extent, fbufs, nslots);
}

/* An extent of @nslots fbufs, or -ENOMEM, or -ENOBUFS without that much address space. */
static struct fbufs_extent *extent_try(struct fbufs_pool *pool, u32 npages, u32 nslots)
{
	struct fbufs_extent *extent;
	unsigned long first;
	int err;
	u32 i;

	/* A cgroup that is full is told so; what it has is not worth killing for this. */
	extent = kvzalloc(extent_bytes(nslots),
			  GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN);
	if (!extent)
		return ERR_PTR(-ENOMEM);
	extent->pool = pool;
	extent->npages = npages;
	extent->nslots = nslots;
	extent->first = U32_MAX;
	INIT_LIST_HEAD(&extent->room);
	err = xa_alloc_cyclic(&pool->extents, &extent->id, NULL, XA_LIMIT(0, MAX_EXTENT_ID),
			      &pool->next_extent, GFP_KERNEL_ACCOUNT);
	if (err < 0)
		goto err_free;
	for (i = 0; i < nslots; i++) {
		extent->fbufs[i].slot = i;
		extent->fbufs[i].npages = npages;
		extent->fbufs[i].handle = (u64)pool->id << HANDLE_POOL_SHIFT |
					  READ_ONCE(pool->gen) | extent->id << HANDLE_SLOT_BITS | i;
	}
	/* Where an address leads to an extent, its id must be known. */
	err = mtree_alloc_range(&pool->space, &first, extent, nslots * npages,
				0, pool->span - 1, GFP_KERNEL);
	if (err)
		goto err_erase_id;
	for (i = 0; i < nslots; i++)
		extent->fbufs[i].first = first + i * npages;
	/* Pairs with the acquire in pool_find(). */
	smp_store_release(&extent->first, first);
	xa_store(&pool->extents, extent->id, extent, GFP_KERNEL);
	stats_gauge(FBUFS_GAUGE_METADATA, extent_bytes(nslots));
	return extent;

err_erase_id:
	xa_erase(&pool->extents, extent->id);
err_free:
	kvfree(extent);
	return ERR_PTR(err == -EBUSY ? -ENOBUFS : err);
}

/* An extent that is as large as is due, or as address space allows. */
static struct fbufs_extent *extent_create(struct fbufs_pool *pool, struct fbufs_size *size,
					  u32 npages)
{
	u32 most = clamp_t(u32, EXTENT_PAGES / npages, 1, EXTENT_SLOTS);
	u32 nslots = min(READ_ONCE(size->nslots), most);
	struct fbufs_extent *extent;

	WRITE_ONCE(size->nslots, min(2 * nslots, most));

	do {
		extent = extent_try(pool, npages, nslots);
		nslots /= 2;
	} while (extent == ERR_PTR(-ENOBUFS) && nslots);
	return extent;
}

static void extent_destroy(struct fbufs_extent *extent)
{
	struct fbufs_pool *pool = extent->pool;

	mtree_erase(&pool->space, extent->first);
	xa_erase(&pool->extents, extent->id);
	/* Who found it before that looks at it under the lock. */
	spin_lock(&pool->lock);
	if (pool->recent[extent->id % RECENT_EXTENTS] == extent)
		pool->recent[extent->id % RECENT_EXTENTS] = NULL;
	/* Its handles must not fit the next extent with its id. */
	WRITE_ONCE(pool->gen, (pool->gen + HANDLE_GEN_MASK / 64) & HANDLE_GEN_MASK);
	spin_unlock(&pool->lock);
	stats_gauge(FBUFS_GAUGE_METADATA, -(s64)extent_bytes(extent->nslots));
	kvfree(extent);
}

/**
 * pool_slot_get - a place for an fbuf in the pool's address space
 * @pool: the pool
 * @npages: pages of the fbuf
 *
 * Context: May sleep.
 * Return: an EMPTY fbuf, or -ENOMEM, or -ENOBUFS without address space.
 */
struct fbuf *pool_slot_get(struct fbufs_pool *pool, u32 npages)
{
	struct fbufs_size *size = pool_size(pool, npages);
	struct fbufs_extent *extent, *fresh;
	u32 slot;

	if (!size)
		return ERR_PTR(-ENOMEM);
	spin_lock(&pool->lock);
	while (list_empty(&size->room)) {
		spin_unlock(&pool->lock);
		fresh = extent_create(pool, size, npages);
		if (IS_ERR(fresh))
			return ERR_CAST(fresh);
		fresh->size = size;
		spin_lock(&pool->lock);
		list_add(&fresh->room, &size->room);
	}
	extent = list_first_entry(&size->room, struct fbufs_extent, room);
	slot = ffz(extent->used);
	extent->used |= BIT_ULL(slot);
	if (hweight64(extent->used) == extent->nslots)
		list_del_init(&extent->room);
	spin_unlock(&pool->lock);
	return &extent->fbufs[slot];
}

/* Gives the place of an EMPTY fbuf back. Context: May sleep. */
void pool_slot_put(struct fbufs_pool *pool, struct fbuf *fbuf)
{
	struct fbufs_extent *extent = fbuf_extent(fbuf);
	bool unused;

	spin_lock(&pool->lock);
	if (list_empty(&extent->room))
		list_add(&extent->room, &extent->size->room);
	extent->used &= ~BIT_ULL(fbuf->slot);
	unused = !extent->used;
	if (unused)
		list_del_init(&extent->room);
	spin_unlock(&pool->lock);
	if (unused)
		extent_destroy(extent);
}

/*
 * Notices
 */

/*
 * Keep room for @n notices, so that none is ever lost. -ENOBUFS when too many
 * are unread. Context: May sleep.
 */
int pool_promise_notices(struct fbufs_pool *pool, u32 n)
{
	u32 room, used, i, size = 0;
	u64 *notices = NULL, *old;

	for (;;) {
		spin_lock(&pool->lock);
		used = pool->notice_tail - pool->notice_head;
		room = pool->notices ? pool->notice_mask + 1 : 0;
		if (used + pool->notice_promised + n > MAX_NOTICES) {
			spin_unlock(&pool->lock);
			kvfree(notices);
			return -ENOBUFS;
		}
		if (used + pool->notice_promised + n <= room) {
			pool->notice_promised += n;
			spin_unlock(&pool->lock);
			kvfree(notices);
			return 0;
		}
		if (notices && size >= used + pool->notice_promised + n)
			break;
		size = roundup_pow_of_two(used + pool->notice_promised + n + 64);
		spin_unlock(&pool->lock);
		kvfree(notices);
		notices = kvmalloc_array(size, sizeof(*notices), GFP_KERNEL_ACCOUNT);
		if (!notices)
			return -ENOMEM;
	}
	for (i = 0; i < used; i++)
		notices[i] = pool->notices[(pool->notice_head + i) & pool->notice_mask];
	old = pool->notices;
	pool->notices = notices;
	pool->notice_mask = size - 1;
	pool->notice_head = 0;
	pool->notice_tail = used;
	pool->notice_promised += n;
	spin_unlock(&pool->lock);
	kvfree(old);
	return 0;
}

void pool_unpromise_notices(struct fbufs_pool *pool, u32 n)
{
	spin_lock(&pool->lock);
	pool->notice_promised -= n;
	spin_unlock(&pool->lock);
}

/* Copy up to @n notices, oldest first; pool_drop_notices() then removes them. */
u32 pool_peek_notices(struct fbufs_pool *pool, u64 *handles, u32 n)
{
	u32 i;

	spin_lock(&pool->lock);
	n = min(n, pool->notice_tail - pool->notice_head);
	for (i = 0; i < n; i++)
		handles[i] = pool->notices[(pool->notice_head + i) & pool->notice_mask];
	spin_unlock(&pool->lock);
	return n;
}

void pool_drop_notices(struct fbufs_pool *pool, u32 n)
{
	spin_lock(&pool->lock);
	pool->notice_head += n;
	spin_unlock(&pool->lock);
}
