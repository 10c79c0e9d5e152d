/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * What the suites share: two domains in an address space of the test's own, as
 * if its thread were a process. Calls that read user memory read @memory.
 */
#ifndef FBUFS_TESTS_FIXTURE_H
#define FBUFS_TESTS_FIXTURE_H

#include <kunit/test.h>

#include "../channel.h"
#include "../domain.h"
#include "../pool.h"

/* Pages that the pool may use. */
#define FIXTURE_PAGES 256

/**
 * struct fixture - see the head of this file
 * @domain: the originator's
 * @peer: another one, without a pool
 * @pool: of @domain
 * @memory: a page of user memory
 */
struct fixture {
	struct fbufs_domain *domain;
	struct fbufs_domain *peer;
	struct fbufs_pool *pool;
	unsigned long memory;
};

int fixture_init(struct kunit *test);
unsigned long fixture_map(struct kunit *test, struct fbufs_domain *domain, u64 offset,
			  unsigned long bytes, unsigned long prot, unsigned long flags);
unsigned long fixture_window(struct kunit *test, struct fbufs_domain *domain);
struct fbufs_end *fixture_channel(struct kunit *test, u32 flags, u32 depth);
struct fbufs_end *fixture_receiver(struct kunit *test, struct fbufs_end *sender,
				   struct fbufs_domain *domain);
void fixture_close(struct kunit *test, struct fbufs_end *end);
struct fbufs_buffer fixture_alloc(struct kunit *test, struct fbufs_end *sender, u64 bytes);
long fixture_send(struct kunit *test, struct fbufs_end *sender, const struct fbufs_slice *slices,
		  u32 messages, u64 cookie);
long fixture_send_one(struct kunit *test, struct fbufs_end *sender, u64 fbuf, u64 cookie);
long fixture_receive(struct kunit *test, struct fbufs_end *receiver,
		     struct fbufs_message *message, struct fbufs_slice *slice);
enum fbufs_state fixture_state(struct kunit *test, u64 fbuf);

#endif
