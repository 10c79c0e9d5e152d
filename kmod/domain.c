// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/overflow.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "aggregate.h"
#include "domain.h"
#include "pool.h"

#define NO_HOLD U32_MAX

/* The address space ends, or mmu_notifier_unregister() stands in for that. */
static void domain_release(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	struct fbufs_domain *domain = container_of(notifier, struct fbufs_domain, notifier);

	domain->ended(domain);
}

static const struct mmu_notifier_ops domain_notifier_ops = {
	.release = domain_release,
};

static struct fbufs_domain *domain_alloc(void)
{
	struct fbufs_domain *domain = kzalloc(sizeof(*domain), GFP_KERNEL_ACCOUNT);

	if (!domain)
		return NULL;
	kref_init(&domain->ref);
	xa_init(&domain->windows);
	spin_lock_init(&domain->lock);
	mutex_init(&domain->members_mutex);
	INIT_LIST_HEAD(&domain->members);
	init_waitqueue_head(&domain->wait);
	spin_lock_init(&domain->io_lock);
	INIT_LIST_HEAD(&domain->io_ops);
	domain->free_hold = NO_HOLD;
	return domain;
}

/*
 * A domain of the kernel's: nobody's process can use it, and it has no windows. It
 * ends when who has it says so (transfer_end_domain(), domain_put()). Or NULL.
 */
struct fbufs_domain *domain_create_kernel(void)
{
	struct fbufs_domain *domain = domain_alloc();

	if (domain)
		stats_gauge(FBUFS_GAUGE_DOMAINS, 1);
	return domain;
}

/**
 * domain_create - the domain of the calling process
 * @ended: called once or twice, in process context, when the domain ends: with
 *	its address space or its file
 *
 * Return: the domain, or -ENOMEM, or -ERESTARTNOINTR.
 */
struct fbufs_domain *domain_create(void (*ended)(struct fbufs_domain *domain))
{
	struct fbufs_domain *domain;
	int err;

	domain = domain_alloc();
	if (!domain)
		return ERR_PTR(-ENOMEM);
	domain->mm = current->mm;
	domain->ended = ended;
	domain->notifier.ops = &domain_notifier_ops;
	err = mmu_notifier_register(&domain->notifier, domain->mm);
	if (err) {
		kfree(domain);
		/* Registration gives way to any signal; the caller need not notice. */
		return ERR_PTR(err == -EINTR ? -ERESTARTNOINTR : err);
	}
	mmgrab(domain->mm);
	stats_gauge(FBUFS_GAUGE_DOMAINS, 1);
	return domain;
}

/* The file of the domain goes. */
void domain_close(struct fbufs_domain *domain)
{
	/*
	 * Not left to the notifier: it runs under an SRCU lock that the whole
	 * system shares, and ending may wait for a call that waits for its user.
	 */
	domain->ended(domain);
	mmu_notifier_unregister(&domain->notifier, domain->mm);
	domain_put(domain);
}

static void domain_destroy(struct kref *ref)
{
	struct fbufs_domain *domain = container_of(ref, struct fbufs_domain, ref);

	WARN_ON_ONCE(!list_empty(&domain->members));
	WARN_ON_ONCE(!xa_empty(&domain->windows));
	WARN_ON_ONCE(!list_empty(&domain->io_ops));
	if (domain->pool)
		pool_put(domain->pool);
	xa_destroy(&domain->windows);
	kvfree(domain->holds);
	if (domain->mm)
		mmdrop(domain->mm);
	kfree(domain);
	stats_gauge(FBUFS_GAUGE_DOMAINS, -1);
}

void domain_put(struct fbufs_domain *domain)
{
	kref_put(&domain->ref, domain_destroy);
}

int domain_add_member(struct fbufs_domain *domain, struct fbufs_member *member)
{
	int err = -ENODEV;

	mutex_lock(&domain->members_mutex);
	if (!domain->dead) {
		spin_lock(&domain->lock);
		list_add(&member->link, &domain->members);
		spin_unlock(&domain->lock);
		err = 0;
	}
	mutex_unlock(&domain->members_mutex);
	return err;
}

static void member_unlink(struct fbufs_domain *domain, struct fbufs_member *member)
{
	spin_lock(&domain->lock);
	list_del_init(&member->link);
	spin_unlock(&domain->lock);
}

/* After it, the member hears nothing more. */
void domain_remove_member(struct fbufs_domain *domain, struct fbufs_member *member)
{
	mutex_lock(&domain->members_mutex);
	member_unlink(domain, member);
	mutex_unlock(&domain->members_mutex);
}

/* Mark the domain dead and tell its members. May be called twice. */
void domain_end_members(struct fbufs_domain *domain)
{
	struct fbufs_member *member;

	mutex_lock(&domain->members_mutex);
	WRITE_ONCE(domain->dead, true);
	while ((member = list_first_entry_or_null(&domain->members, struct fbufs_member, link))) {
		member_unlink(domain, member);
		member->end(member);
	}
	mutex_unlock(&domain->members_mutex);
}

/*
 * The table of held messages. A handle is the number of the use of an entry, and its
 * index; a receive call prepares entries, tells the user their handles, and fills them
 * only when that succeeded.
 */

#define HOLD_USE BIT_ULL(32)

/* Whether the handle is that of an entry as it is now. */
static inline bool hold_is_known(const struct fbufs_hold *holds, u32 nholds, u64 handle)
{
	return (u32)handle < nholds && holds[(u32)handle].handle == handle;
}

static inline struct fbufs_hold *hold_lookup(struct fbufs_domain *domain, u64 handle)
{
	lockdep_assert_held(&domain->lock);
	if (!hold_is_known(domain->holds, domain->nholds, handle))
		return NULL;
	return &domain->holds[(u32)handle];
}

/* The next use of the entry has another handle. */
static inline void hold_free(struct fbufs_hold *hold, u32 *free_hold)
{
	u64 handle = hold->handle;
	u32 index = handle;

	/* From the last number to the first one, which is not 0. */
	if (check_add_overflow(handle, HOLD_USE, &handle))
		handle += HOLD_USE;
	hold->aggregate = NULL;
	hold->handle = handle;
	hold->next = *free_hold;
	*free_hold = index;
}

static int holds_grow(struct fbufs_domain *domain)
{
	u32 old = READ_ONCE(domain->nholds), size = old ? 2 * old : 128, i;
	struct fbufs_hold *holds, *drop;

	if (size > FBUFS_MAX_HELD)
		return -ENOBUFS;
	holds = kvcalloc(size, sizeof(*holds), GFP_KERNEL_ACCOUNT);
	if (!holds)
		return -ENOMEM;
	spin_lock(&domain->lock);
	if (domain->nholds == old) {
		if (old)
			memcpy(holds, domain->holds, old * sizeof(*holds));
		drop = domain->holds;
		domain->holds = holds;
		WRITE_ONCE(domain->nholds, size);
		for (i = size; i-- > old;) {
			holds[i].handle = i;
			hold_free(&holds[i], &domain->free_hold);
		}
	} else {
		drop = holds;
	}
	spin_unlock(&domain->lock);
	kvfree(drop);
	return 0;
}

/* Entries for up to @n messages. Returns how many, or -ENOBUFS, -ENOMEM. May sleep. */
int domain_prepare_holds(struct fbufs_domain *domain, u64 *handles, u32 n)
{
	struct fbufs_hold *holds;
	u32 i, next;
	int err;

	do {
		spin_lock(&domain->lock);
		holds = domain->holds;
		next = domain->free_hold;
		for (i = 0; i < n && next != NO_HOLD; i++) {
			handles[i] = holds[next].handle;
			next = holds[next].next;
		}
		domain->free_hold = next;
		spin_unlock(&domain->lock);
		if (i)
			return i;
		err = holds_grow(domain);
	} while (!err);
	return err;
}

void domain_cancel_holds(struct fbufs_domain *domain, const u64 *handles, u32 n)
{
	u32 i;

	spin_lock(&domain->lock);
	for (i = n; i-- > 0;) {
		struct fbufs_hold *hold = hold_lookup(domain, handles[i]);

		/* Not there when the domain ended in between. */
		if (hold)
			hold_free(hold, &domain->free_hold);
	}
	spin_unlock(&domain->lock);
}

/* The domain takes over the references to messages, in prepared entries; -ENODEV: it has ended. */
int domain_commit_holds(struct fbufs_domain *domain, const u64 *handles,
			struct fbufs_aggregate **aggregates, u32 n)
{
	struct fbufs_hold *holds;
	int err = 0;
	u32 i;

	spin_lock(&domain->lock);
	holds = domain->holds;
	/* Marked without this lock; who does that takes all holds afterwards. */
	if (READ_ONCE(domain->dead))
		err = -ENODEV;
	for (i = 0; i < n && !err; i++)
		holds[(u32)handles[i]].aggregate = aggregates[i];
	spin_unlock(&domain->lock);
	return err;
}

/*
 * The domain no longer holds these messages, up to the first that it does not
 * hold anyway; the caller gets its references. Returns how many; *@flags are the
 * MESSAGE_* that any of them has.
 */
u32 domain_take_holds(struct fbufs_domain *domain, const u64 *handles,
		      struct fbufs_aggregate **aggregates, u32 n, u32 *flags)
{
	u32 i, nholds, free_hold, any = 0;
	struct fbufs_hold *holds;

	spin_lock(&domain->lock);
	holds = domain->holds;
	nholds = domain->nholds;
	free_hold = domain->free_hold;
	for (i = 0; i < n; i++) {
		struct fbufs_hold *hold = &holds[(u32)handles[i]];

		if (!hold_is_known(holds, nholds, handles[i]) || !hold->aggregate)
			break;
		aggregates[i] = hold->aggregate;
		any |= hold->aggregate->flags;
		hold_free(hold, &free_hold);
	}
	domain->free_hold = free_hold;
	spin_unlock(&domain->lock);
	*flags = any;
	return i;
}

/* Any held message, as domain_take_holds(), when the domain has ended. */
struct fbufs_aggregate *domain_take_any_hold(struct fbufs_domain *domain)
{
	struct fbufs_aggregate *aggregate = NULL;

	spin_lock(&domain->lock);
	/* The end of the table moves down: what lies behind it is done with. */
	while (domain->nholds && !aggregate)
		aggregate = domain->holds[--domain->nholds].aggregate;
	if (!domain->nholds)
		domain->free_hold = NO_HOLD;
	spin_unlock(&domain->lock);
	return aggregate;
}

/*
 * The reference of the table to a held message, or NULL; nobody finds it there
 * until domain_commit_holds() puts it back, or domain_cancel_holds() lets it go.
 */
struct fbufs_aggregate *domain_borrow_hold(struct fbufs_domain *domain, u64 handle)
{
	struct fbufs_aggregate *aggregate = NULL;
	struct fbufs_hold *hold;

	spin_lock(&domain->lock);
	hold = hold_lookup(domain, handle);
	if (hold)
		swap(aggregate, hold->aggregate);
	spin_unlock(&domain->lock);
	return aggregate;
}

/* A reference of its own to a held message, or NULL. */
struct fbufs_aggregate *domain_get_hold(struct fbufs_domain *domain, u64 handle)
{
	struct fbufs_aggregate *aggregate = NULL;
	struct fbufs_hold *hold;

	spin_lock(&domain->lock);
	hold = hold_lookup(domain, handle);
	if (hold && hold->aggregate) {
		aggregate = hold->aggregate;
		refcount_inc(&aggregate->refs);
	}
	spin_unlock(&domain->lock);
	return aggregate;
}
