// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * Fbufs for devices, and what drivers are told off for.
 *
 * A mapping of a driver's fbuf keeps the driver from delivering or freeing it; one
 * of a message keeps a reference to it: pages that a device reaches go nowhere.
 */

#include <linux/dma-mapping.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "aggregate.h"
#include "kapi.h"
#include "transfer.h"

static bool strict = IS_ENABLED(CONFIG_PROVE_LOCKING);
module_param(strict, bool, 0644);
MODULE_PARM_DESC(strict, "warn with a stack trace when a driver misuses the in-kernel API");

int kapi_misuse(unsigned long caller, int err, const char *what)
{
	pr_warn_ratelimited("fbufs: driver error in %ps: %s\n", (void *)caller, what);
	WARN_ON_ONCE(strict);
	return err;
}

bool kapi_may_sleep(unsigned long caller)
{
	if (in_task() && !irqs_disabled())
		return true;
	kapi_misuse(caller, 0, "it called what may sleep in an interrupt or with interrupts off");
	return false;
}

/* Walks runs of pages of slices, each at most as long as a device takes at a time. */
struct run_walk {
	struct fbuf_cursor cursor;
	size_t offset;		/* in the block at hand */
	size_t left;		/* bytes of the slice */
	size_t most;
};

static void runs_begin(struct run_walk *walk, struct fbuf *fbuf, u32 offset, u32 length)
{
	fbuf_cursor_init(&walk->cursor, fbuf, offset >> PAGE_SHIFT);
	walk->offset = offset_in_page(offset);
	walk->left = length;
}

/* The next run; 0 at the end of the slice. */
static size_t runs_next(struct run_walk *walk, struct page **page, size_t *offset)
{
	unsigned long pfn, n;
	size_t bytes;

	if (!walk->left)
		return 0;
	pfn = fbuf_cursor_block(&walk->cursor, &n);
	bytes = min3(walk->left, (n << PAGE_SHIFT) - walk->offset, walk->most);
	*page = pfn_to_page(pfn);
	*offset = walk->offset;
	walk->left -= bytes;
	/* What is left of the block is its own block from here on. */
	walk->cursor.pfn = pfn + ((walk->offset + bytes) >> PAGE_SHIFT);
	walk->cursor.left = n - ((walk->offset + bytes) >> PAGE_SHIFT);
	walk->offset = offset_in_page(walk->offset + bytes);
	return bytes;
}

static u32 segments_runs(const struct fbufs_segment *segments, u32 nsegments, size_t most,
			 struct scatterlist *sg)
{
	struct run_walk walk = { .most = most };
	struct page *page;
	size_t offset, bytes;
	u32 runs = 0, i;

	for (i = 0; i < nsegments; i++) {
		runs_begin(&walk, segments[i].fbuf, segments[i].offset, segments[i].length);
		while ((bytes = runs_next(&walk, &page, &offset))) {
			runs++;
			if (!sg)
				continue;
			sg_set_page(sg, page, bytes, offset);
			sg = sg_next(sg);
		}
	}
	return runs;
}

static struct fbufs_mapping *mapping_create(struct device *dev, enum dma_data_direction direction,
					    const struct fbufs_segment *segments, u32 nsegments,
					    gfp_t gfp)
{
	size_t most = dma_get_max_seg_size(dev);
	struct fbufs_mapping *mapping = kzalloc(sizeof(*mapping), gfp);
	int err;

	if (!mapping)
		return ERR_PTR(-ENOMEM);
	mapping->dev = dev;
	mapping->direction = direction;
	err = sg_alloc_table(&mapping->sgt, segments_runs(segments, nsegments, most, NULL), gfp);
	if (err)
		goto err_free;
	segments_runs(segments, nsegments, most, mapping->sgt.sgl);
	err = dma_map_sgtable(dev, &mapping->sgt, direction, 0);
	if (err)
		goto err_free_table;
	__module_get(THIS_MODULE);
	return mapping;

err_free_table:
	sg_free_table(&mapping->sgt);
err_free:
	kfree(mapping);
	return ERR_PTR(err);
}

/**
 * fbufs_source_map - let a device reach an fbuf that the driver is to fill
 * @source: the source
 * @output: the fbuf; all of it is mapped
 * @dev: the device
 * @direction: DMA_FROM_DEVICE, or DMA_BIDIRECTIONAL
 * @gfp: as the context is
 *
 * It can be neither delivered nor freed before fbufs_unmap().
 *
 * Context: any, with GFP_ATOMIC.
 * Return: the mapping, or -ENOENT: it is not the driver's; -ENOMEM; or an error of
 * dma_map_sgtable().
 */
struct fbufs_mapping *fbufs_source_map(struct fbufs_source *source,
				       const struct fbufs_output *output, struct device *dev,
				       enum dma_data_direction direction, gfp_t gfp)
{
	struct fbufs_segment segment = { .fbuf = source_hold(source, output->ticket) };
	struct fbufs_mapping *mapping;

	if (!segment.fbuf)
		return ERR_PTR(kapi_misuse(_RET_IP_, -ENOENT,
					   "an fbuf is not the driver's, or no longer"));
	segment.length = output->bytes;
	mapping = mapping_create(dev, direction, &segment, 1, gfp);
	if (IS_ERR(mapping)) {
		source_unhold(source, output->ticket);
		return mapping;
	}
	mapping->source = source;
	mapping->ticket = output->ticket;
	return mapping;
}
EXPORT_SYMBOL_NS_GPL(fbufs_source_map, FBUFS_NAMESPACE);

/**
 * fbufs_sink_map - let a device read a held message
 * @sink: the sink
 * @message: its handle
 * @dev: the device
 *
 * Secure it first when its channel may be volatile. It may be released before
 * fbufs_unmap(): its fbufs stay locked, and go home with the latter.
 *
 * Context: May sleep.
 * Return: the mapping, or -ENOENT: the sink holds no such message; -ENOMEM; -EDEADLK:
 * called where it may not sleep; or an error of dma_map_sgtable().
 */
struct fbufs_mapping *fbufs_sink_map(struct fbufs_sink *sink, u64 message, struct device *dev)
{
	struct fbufs_aggregate *held;
	struct fbufs_mapping *mapping;

	if (!kapi_may_sleep(_RET_IP_))
		return ERR_PTR(-EDEADLK);
	held = sink_hold(sink, message);
	if (!held)
		return ERR_PTR(kapi_misuse(_RET_IP_, -ENOENT,
					   "a message is not held, or no longer"));
	mapping = mapping_create(dev, DMA_TO_DEVICE, held->segments, held->nsegments, GFP_KERNEL);
	if (IS_ERR(mapping)) {
		transfer_drop(&held, 1);
		return mapping;
	}
	mapping->message = held;
	return mapping;
}
EXPORT_SYMBOL_NS_GPL(fbufs_sink_map, FBUFS_NAMESPACE);

/**
 * fbufs_sync_for_cpu - look at what a device wrote while it is still mapped
 * @mapping: the mapping
 *
 * Context: any.
 */
void fbufs_sync_for_cpu(struct fbufs_mapping *mapping)
{
	dma_sync_sgtable_for_cpu(mapping->dev, &mapping->sgt, mapping->direction);
}
EXPORT_SYMBOL_NS_GPL(fbufs_sync_for_cpu, FBUFS_NAMESPACE);

/**
 * fbufs_sync_for_device - give it back to the device after fbufs_sync_for_cpu()
 * @mapping: the mapping
 *
 * Context: any.
 */
void fbufs_sync_for_device(struct fbufs_mapping *mapping)
{
	dma_sync_sgtable_for_device(mapping->dev, &mapping->sgt, mapping->direction);
}
EXPORT_SYMBOL_NS_GPL(fbufs_sync_for_device, FBUFS_NAMESPACE);

/**
 * fbufs_unmap - the device is done
 * @mapping: the mapping, which is gone afterwards
 *
 * Context: any for a driver's fbuf; may sleep for a message.
 */
void fbufs_unmap(struct fbufs_mapping *mapping)
{
	struct fbufs_aggregate *message = mapping->message;

	dma_unmap_sgtable(mapping->dev, &mapping->sgt, mapping->direction, 0);
	sg_free_table(&mapping->sgt);
	if (mapping->source)
		source_unhold(mapping->source, mapping->ticket);
	if (message)
		transfer_drop(&message, 1);
	kfree(mapping);
	module_put(THIS_MODULE);
}
EXPORT_SYMBOL_NS_GPL(fbufs_unmap, FBUFS_NAMESPACE);
