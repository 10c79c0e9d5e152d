// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <kunit/test.h>
#include <linux/anon_inodes.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#include "../map.h"
#include "../transfer.h"
#include "fixture.h"

/* The end of a thread, and of files that it closed, is not over at once. */
#define PATIENCE_MS 5000

static s64 gauges_before[FBUFS_GAUGES];

static bool gauges_are_back(void)
{
	int i;

	for (i = 0; i < FBUFS_GAUGES; i++)
		if (atomic64_read(&fbufs_gauges[i]) != gauges_before[i])
			return false;
	return true;
}

/* The last that happens to a test. */
static void expect_nothing_left(void *context)
{
	struct kunit *test = context;
	int waited, i;

	for (waited = 0; !gauges_are_back() && waited < PATIENCE_MS; waited += 20)
		msleep(20);
	for (i = 0; i < FBUFS_GAUGES; i++)
		KUNIT_EXPECT_EQ_MSG(test, atomic64_read(&fbufs_gauges[i]), gauges_before[i],
				    "gauge %d", i);
}

KUNIT_DEFINE_ACTION_WRAPPER(close_domain, domain_close, struct fbufs_domain *);
KUNIT_DEFINE_ACTION_WRAPPER(close_end, channel_end_close, struct fbufs_end *);
KUNIT_DEFINE_ACTION_WRAPPER(put_file, fput, struct file *);

static struct fbufs_domain *domain_make(struct kunit *test)
{
	struct fbufs_domain *domain = domain_create(transfer_end_domain);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, domain);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, close_domain, domain), 0);
	return domain;
}

int fixture_init(struct kunit *test)
{
	struct fixture *fixture = kunit_kzalloc(test, sizeof(*fixture), GFP_KERNEL);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, fixture);
	test->priv = fixture;
	for (i = 0; i < FBUFS_GAUGES; i++)
		gauges_before[i] = atomic64_read(&fbufs_gauges[i]);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, expect_nothing_left, test), 0);

	/* Also gives the thread its address space. */
	fixture->memory = kunit_vm_mmap(test, NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_FALSE(test, !fixture->memory || IS_ERR_VALUE(fixture->memory));
	fixture->domain = domain_make(test);
	fixture->peer = domain_make(test);
	fixture->pool = pool_create(fixture->domain, FIXTURE_PAGES << PAGE_SHIFT, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, fixture->pool);
	WRITE_ONCE(fixture->domain->pool, fixture->pool);
	return 0;
}

static int fixture_mmap(struct file *file, struct vm_area_struct *vma)
{
	return map_window(file->private_data, vma);
}

static const struct file_operations fixture_fops = {
	.owner = THIS_MODULE,
	.mmap = fixture_mmap,
};

/* mmap() on a domain. Returns an address or an error. */
unsigned long fixture_map(struct kunit *test, struct fbufs_domain *domain, u64 offset,
			  unsigned long bytes, unsigned long prot, unsigned long flags)
{
	struct file *file = anon_inode_create_getfile("[fbufs-test]", &fixture_fops, domain,
						      O_RDWR, NULL);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, file);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, put_file, file), 0);
	return kunit_vm_mmap(test, file, 0, bytes, prot, flags, offset);
}

/* The window that the domain may have of the pool. */
unsigned long fixture_window(struct kunit *test, struct fbufs_domain *domain)
{
	struct fixture *fixture = test->priv;
	unsigned long prot = PROT_READ | (domain == fixture->domain ? PROT_WRITE : 0);
	unsigned long window;

	window = fixture_map(test, domain, pool_offset(fixture->pool),
			     (unsigned long)fixture->pool->span << PAGE_SHIFT, prot, MAP_SHARED);
	KUNIT_ASSERT_FALSE_MSG(test, IS_ERR_VALUE(window), "error %ld", (long)window);
	return window;
}

/* A channel whose sending end, which this returns, is the originator's. */
struct fbufs_end *fixture_channel(struct kunit *test, u32 flags, u32 depth)
{
	struct fixture *fixture = test->priv;
	struct fbufs_end *end = channel_create(flags, depth);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, end);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, close_end, end), 0);
	KUNIT_ASSERT_EQ(test, channel_attach(end, fixture->domain), 0);
	return end;
}

struct fbufs_end *fixture_receiver(struct kunit *test, struct fbufs_end *sender,
				   struct fbufs_domain *domain)
{
	struct fbufs_end *end = channel_add_receiver(sender->channel);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, end);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, close_end, end), 0);
	KUNIT_ASSERT_EQ(test, channel_attach(end, domain), 0);
	return end;
}

/* Earlier than with the test. */
void fixture_close(struct kunit *test, struct fbufs_end *end)
{
	kunit_release_action(test, close_end, end);
}

struct fbufs_buffer fixture_alloc(struct kunit *test, struct fbufs_end *sender, u64 bytes)
{
	struct fbufs_buffer buffer = { };

	KUNIT_ASSERT_EQ(test, channel_alloc(sender, bytes, &buffer, 1), 1);
	return buffer;
}

/* Where things lie in the user's page. */
static struct fbufs_message __user *user_messages(struct fixture *fixture)
{
	return (void __user *)fixture->memory;
}

static struct fbufs_slice __user *user_slices(struct fixture *fixture)
{
	return (void __user *)fixture->memory + PAGE_SIZE / 2;
}

/* Messages of one slice each, with cookies that count up. */
long fixture_send(struct kunit *test, struct fbufs_end *sender, const struct fbufs_slice *slices,
		  u32 messages, u64 cookie)
{
	struct fixture *fixture = test->priv;
	struct fbufs_send send = {
		.size = sizeof(send),
		.messages = (unsigned long)user_messages(fixture),
		.slices = (unsigned long)user_slices(fixture),
		.count = messages,
		.nslices = messages,
	};
	u32 i;

	for (i = 0; i < messages; i++) {
		struct fbufs_message message = { .cookie = cookie + i, .slices = 1 };

		KUNIT_ASSERT_EQ(test, copy_to_user(user_messages(fixture) + i, &message,
						   sizeof(message)), 0);
		KUNIT_ASSERT_EQ(test, copy_to_user(user_slices(fixture) + i, &slices[i],
						   sizeof(slices[i])), 0);
	}
	return channel_send(sender, &send, false);
}

/* The first page of an fbuf. */
long fixture_send_one(struct kunit *test, struct fbufs_end *sender, u64 fbuf, u64 cookie)
{
	struct fbufs_slice slice = { .fbuf = fbuf, .length = PAGE_SIZE };

	return fixture_send(test, sender, &slice, 1, cookie);
}

/* A message of one slice, without waiting. */
long fixture_receive(struct kunit *test, struct fbufs_end *receiver,
		     struct fbufs_message *message, struct fbufs_slice *slice)
{
	struct fixture *fixture = test->priv;
	struct fbufs_receive receive = {
		.size = sizeof(receive),
		.messages = (unsigned long)user_messages(fixture),
		.slices = (unsigned long)user_slices(fixture),
		.count = 1,
		.nslices = 1,
	};
	long n = channel_receive(receiver, &receive, false);

	if (n == 1) {
		KUNIT_ASSERT_EQ(test, copy_from_user(message, user_messages(fixture),
						     sizeof(*message)), 0);
		KUNIT_ASSERT_EQ(test, copy_from_user(slice, user_slices(fixture),
						     sizeof(*slice)), 0);
	}
	return n;
}

/* Of an fbuf with this handle; EMPTY when it is nobody's. */
enum fbufs_state fixture_state(struct kunit *test, u64 fbuf)
{
	struct fixture *fixture = test->priv;
	struct fbuf *found;
	enum fbufs_state state;

	spin_lock(&fixture->pool->lock);
	found = pool_lookup(fixture->pool, fbuf);
	state = found ? found->access.state : FBUFS_STATE_EMPTY;
	spin_unlock(&fixture->pool->lock);
	return state;
}
