// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/slab.h>

#include "aggregate.h"
#include "stats.h"

/* An aggregate without slices yet, and with no channel; or NULL. May sleep. */
struct fbufs_aggregate *aggregate_alloc(u32 nsegments)
{
	struct fbufs_aggregate *aggregate;
	u32 room = max_t(u32, nsegments, MESSAGE_INLINE);

	aggregate = kvmalloc(struct_size(aggregate, segments, room), GFP_KERNEL_ACCOUNT);
	if (!aggregate)
		return NULL;
	stats_gauge(FBUFS_GAUGE_MESSAGES, 1);
	return aggregate;
}

void aggregate_free(struct fbufs_aggregate *aggregate)
{
	stats_gauge(FBUFS_GAUGE_MESSAGES, -1);
	kvfree(aggregate);
}

/* Whether an fbuf is in one of its slices; the last ones are looked at first. */
bool aggregate_has(const struct fbufs_aggregate *aggregate, const struct fbuf *fbuf)
{
	u32 i = aggregate->nsegments;

	while (i--)
		if (aggregate->segments[i].fbuf == fbuf)
			return true;
	return false;
}

/* Whether one of its slices covers these bytes of an fbuf. */
bool aggregate_contains(const struct fbufs_aggregate *aggregate,
			const struct fbuf *fbuf, u32 offset, u32 length)
{
	u32 i;

	for (i = 0; i < aggregate->nsegments; i++) {
		const struct fbufs_segment *segment = &aggregate->segments[i];

		if (segment->fbuf == fbuf && offset >= segment->offset &&
		    (u64)offset + length <= (u64)segment->offset + segment->length)
			return true;
	}
	return false;
}
