// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include "channel.h"
#include "copy.h"
#include "pool.h"
#include "transfer.h"
#include "user.h"

/* Bytes of the slices, or -EINVAL, -EMSGSIZE. */
static int slices_length(const struct fbufs_slice *slices, u32 n)
{
	u64 length = 0;

	for (; n; n--, slices++) {
		if (slices->hold || slices->offset || !slices->length)
			return -EINVAL;
		length += slices->length;
	}
	return length <= FBUFS_MAX_COPY ? length : -EMSGSIZE;
}

static struct fbufs_class *copy_class(struct fbufs_channel *channel, u32 npages)
{
	struct fbufs_class *class = READ_ONCE(channel->recent_copy);

	if (class && class->npages == npages)
		return class;
	class = pool_copy_class(channel->pool, &channel->classes, channel, npages);
	if (class)
		WRITE_ONCE(channel->recent_copy, class);
	return class;
}

static int copy_slices(struct fbuf *fbuf, const struct fbufs_slice *slices, u32 n)
{
	void *to = fbuf_address(fbuf);

	if (!to)
		return -ENOMEM;
	for (; n; n--, slices++) {
		if (user_fetch_bytes(to, u64_to_user_ptr(slices->address), slices->length))
			return -EFAULT;
		to += slices->length;
	}
	return 0;
}

/**
 * copy_in - bytes of the caller's memory into an fbuf of the kernel's
 * @domain: the caller's, whose pool is the channel's
 * @channel: for which the fbuf is allocated
 * @slices: where the bytes are
 * @n: how many slices
 * @output: its fbuf and length are set: SENDING and locked, for channel_deliver()
 *	after transfer_commit(), or for copy_undo()
 *
 * Context: May sleep. The caller has no lock that the fault handler takes.
 * Return: 0, or -EINVAL, -EMSGSIZE, -EFAULT, or an error of transfer_alloc().
 */
int copy_in(struct fbufs_domain *domain, struct fbufs_channel *channel,
	    const struct fbufs_slice *slices, u32 n, struct channel_output *output)
{
	int length = slices_length(slices, n), err;
	struct fbufs_class *class;

	if (length < 0)
		return length;
	class = copy_class(channel, DIV_ROUND_UP(length, PAGE_SIZE));
	if (!class)
		return -ENOMEM;
	err = transfer_alloc_for_kernel(domain, class, &output->fbuf, 1, 1);
	if (err < 0)
		return err;
	output->length = length;
	err = copy_slices(output->fbuf, slices, n);
	if (err)
		copy_undo(channel, output);
	else
		stats_count(&domain->counters, FBUFS_COUNT_BYTES_COPIED, length);
	return err;
}

/* What was copied is not sent after all. May sleep. */
void copy_undo(struct fbufs_channel *channel, const struct channel_output *output)
{
	struct fbuf *fbuf = output->fbuf;

	transfer_free_from_kernel(channel->pool, &fbuf, 1);
}
