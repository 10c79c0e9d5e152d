/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * A domain: what one process owns and holds. It belongs to the address space
 * that opened it and ends with it, or with its descriptor, whichever comes
 * first; an MMU notifier tells of the former, so that descriptors that were
 * passed on or inherited keep nothing alive.
 *
 * Locks. @lock guards the table of held messages, and @members for readers; it
 * is a leaf. Who changes @members also holds @members_mutex, and the end of the
 * domain holds it while it calls them; it is taken before the mutex of an end
 * and before the mmap lock.
 */
#ifndef FBUFS_DOMAIN_H
#define FBUFS_DOMAIN_H

#include <linux/kref.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "stats.h"

struct fbufs_aggregate;
struct fbufs_pool;

/**
 * struct fbufs_hold - an entry of the table of held messages
 * @aggregate: the message; NULL while the entry is free or only prepared
 * @handle: what it is known by, or will be next: number of the use, and index
 * @next: next free entry
 */
struct fbufs_hold {
	struct fbufs_aggregate *aggregate;
	u64 handle;
	u32 next;
};

/* What must hear that a domain ends: an end that is attached to it. */
struct fbufs_member {
	struct list_head link;
	void (*end)(struct fbufs_member *member);
};

/**
 * struct fbufs_domain - see the head of this file
 * @ref: its file, its ends and its windows
 * @mm: the address space; grabbed, not in use; NULL for a domain of the kernel's
 * @notifier: tells when @mm ends
 * @ended: what is to be done then
 * @dead: it has ended
 * @detached: one of its receiving ends was closed: what it holds of that
 *	channel must be unmapped at release
 * @pool: its own pool, or NULL; set once
 * @windows: struct fbufs_window by pool id, guarded by the mmap lock of @mm
 * @own_vma: the window of @pool, or NULL; see window_own()
 * @counters: what it did
 * @lock: see above
 * @holds: table of held messages
 * @nholds: its size
 * @free_hold: first free entry
 * @members_mutex: see above
 * @members: attached ends
 * @wait: woken when its pool has room again, for notices, for operations on
 *	descriptors, and at its end
 * @io_lock: see fdio.h
 * @io_ops: operations on descriptors
 * @nio: those that are not reported
 * @io_ended: no more of them
 * @io_look: something may have come home
 * @io_looks: times that @io_work found nothing new
 * @io_work: looks after them while the process does not call
 */
struct fbufs_domain {
	struct kref ref;
	struct mm_struct *mm;
	struct mmu_notifier notifier;
	void (*ended)(struct fbufs_domain *domain);
	bool dead;
	bool detached;
	struct fbufs_pool *pool;
	struct xarray windows;
	struct vm_area_struct *own_vma;
	struct fbufs_counters counters;

	spinlock_t lock;	/* see above */
	struct fbufs_hold *holds;
	u32 nholds;
	u32 free_hold;

	struct mutex members_mutex;	/* see above */
	struct list_head members;
	wait_queue_head_t wait;

	spinlock_t io_lock;	/* see fdio.h */
	struct list_head io_ops;
	u32 nio;
	bool io_ended;
	bool io_look;
	u32 io_looks;
	struct delayed_work io_work;
};

struct fbufs_domain *domain_create(void (*ended)(struct fbufs_domain *domain));
struct fbufs_domain *domain_create_kernel(void);
void domain_close(struct fbufs_domain *domain);
void domain_put(struct fbufs_domain *domain);

static inline struct fbufs_domain *domain_get(struct fbufs_domain *domain)
{
	kref_get(&domain->ref);
	return domain;
}

/* Whether the caller may use the domain: 0, -EPERM or -ENODEV. */
static inline int domain_check(const struct fbufs_domain *domain)
{
	if (current->mm != domain->mm)
		return -EPERM;
	return READ_ONCE(domain->dead) ? -ENODEV : 0;
}

/* Pages of operations on descriptors may have come home: have somebody look. */
static inline void domain_look_at_io(struct fbufs_domain *domain)
{
	WRITE_ONCE(domain->io_look, true);
	if (wq_has_sleeper(&domain->wait))
		wake_up_all(&domain->wait);
}

int domain_add_member(struct fbufs_domain *domain, struct fbufs_member *member);
void domain_remove_member(struct fbufs_domain *domain, struct fbufs_member *member);
void domain_end_members(struct fbufs_domain *domain);

int domain_prepare_holds(struct fbufs_domain *domain, u64 *handles, u32 n);
void domain_cancel_holds(struct fbufs_domain *domain, const u64 *handles, u32 n);
int domain_commit_holds(struct fbufs_domain *domain, const u64 *handles,
			struct fbufs_aggregate **aggregates, u32 n);
u32 domain_take_holds(struct fbufs_domain *domain, const u64 *handles,
		      struct fbufs_aggregate **aggregates, u32 n, u32 *flags);
struct fbufs_aggregate *domain_take_any_hold(struct fbufs_domain *domain);
struct fbufs_aggregate *domain_borrow_hold(struct fbufs_domain *domain, u64 handle);
struct fbufs_aggregate *domain_get_hold(struct fbufs_domain *domain, u64 handle);

#endif
