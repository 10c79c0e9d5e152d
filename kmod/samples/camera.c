// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * A frame source like a camera: /dev/fbufs-camera makes patterned frames at a rate, in
 * the timer's interrupt, into fbufs of whoever started it: one, or as many as a frame has
 * planes. Without enough of them a frame is dropped and counted.
 */

#include <linux/fbufs.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "fbufs_samples.h"

#define BURST 32

/**
 * struct camera - one use of the camera
 * @mutex: one starts or stops at a time
 * @source: of the program, or NULL
 * @timer: the next frame
 * @lock: guards what follows; taken in the timer's interrupt
 * @config: what the program wants
 * @status: what was done
 */
struct camera {
	struct mutex mutex;	/* see above */
	struct fbufs_source *source;
	struct hrtimer timer;
	spinlock_t lock;	/* see above */
	struct fbufs_sample_start config;
	struct fbufs_sample_status status;
};

/* Words of a plane, from @i on; @before of the frame are in those before it. */
static void plane_draw(u64 *words, u32 i, u32 n, u64 sequence, u32 before)
{
	for (; i < n; i++)
		words[i] = fbufs_frame_word(sequence, before + i);
}

/* Of the next frame. */
static u32 camera_planes(const struct camera *camera)
{
	u32 planes = camera->config.planes;

	if (camera->config.flags & FBUFS_SAMPLE_VARYING)
		planes = 1 + (u32)camera->status.done % planes;
	return planes;
}

/* How many frames are shot at a time. */
static u32 camera_burst(const struct camera *camera)
{
	return camera->config.flags & FBUFS_SAMPLE_VARYING ? 1 : BURST / camera->config.planes;
}

/* A frame into as many outputs as it has planes. */
static void frame_fill(struct fbufs_output *outputs, u32 planes,
		       const struct fbufs_sample_start *config, u64 sequence, u64 time)
{
	u32 bytes = config->bytes, i;
	bool pattern = !(config->flags & FBUFS_SAMPLE_HEADER);

	*(struct fbufs_frame *)outputs->data = (struct fbufs_frame){
		.sequence = sequence, .time = time, .bytes = planes * bytes, .pattern = pattern,
	};
	outputs->cookie = sequence;
	for (i = 0; i < planes; i++) {
		outputs[i].length = bytes;
		outputs[i].more = i + 1 < planes;
		if (pattern)
			plane_draw(outputs[i].data, i ? 0 : sizeof(struct fbufs_frame) / 8,
				   bytes / 8, sequence, i * (bytes / 8));
	}
}

/*
 * Up to camera_burst() frames. Returns how many had all of their fbufs. Context: any, under
 * the lock.
 */
static u32 camera_shoot(struct camera *camera, u32 n)
{
	struct fbufs_output outputs[BURST] __uninitialized;
	u32 planes = camera_planes(camera), left, i;
	int got = fbufs_source_alloc(camera->source, outputs, n * planes);
	u64 now = ktime_get_ns();

	if (got < 0)
		got = 0;
	left = got % planes;
	got -= left;
	for (i = 0; i < got; i += planes)
		frame_fill(&outputs[i], planes, &camera->config, camera->status.done++, now);
	if (left)
		fbufs_source_free(camera->source, &outputs[got], left);
	if (got)
		got = fbufs_source_deliver(camera->source, outputs, got) / planes;
	camera->status.messages += got;
	camera->status.done += n - got;
	camera->status.dropped += n - got;
	return got;
}

static enum hrtimer_restart camera_tick(struct hrtimer *timer)
{
	struct camera *camera = container_of(timer, struct camera, timer);
	unsigned long flags;

	spin_lock_irqsave(&camera->lock, flags);
	camera_shoot(camera, 1);
	spin_unlock_irqrestore(&camera->lock, flags);
	hrtimer_forward_now(timer, ns_to_ktime(camera->config.period));
	return HRTIMER_RESTART;
}

static int camera_start(struct camera *camera, const struct fbufs_sample_start *config)
{
	const struct fbufs_source_config want = {
		.domain = config->domain, .sender = config->sender,
		.bytes = config->bytes, .count = config->count,
	};
	struct fbufs_source *source;
	u32 frame;

	if (camera->source)
		return -EBUSY;
	if (config->bytes < sizeof(struct fbufs_frame) || config->bytes % 8 ||
	    config->planes > FBUFS_MAX_SOURCE_SLICES ||
	    check_mul_overflow(config->planes, config->bytes, &frame))
		return -EINVAL;
	source = fbufs_source_open(&want);
	if (IS_ERR(source))
		return PTR_ERR(source);
	camera->config = *config;
	camera->config.planes = config->planes ?: 1;
	camera->source = source;
	if (config->period)
		hrtimer_start(&camera->timer, ns_to_ktime(config->period), HRTIMER_MODE_REL_HARD);
	return 0;
}

static void camera_stop(struct camera *camera)
{
	if (!camera->source)
		return;
	hrtimer_cancel(&camera->timer);
	fbufs_source_close(camera->source);
	camera->source = NULL;
}

/* As often as with an interrupt for each burst. Returns how many frames were delivered. */
static long camera_trigger(struct camera *camera, unsigned long n)
{
	unsigned long flags, burst;
	u32 got = 0, most;

	if (!camera->source)
		return -ENXIO;
	most = camera_burst(camera);
	for (; n; n -= burst) {
		burst = min_t(unsigned long, n, most);
		spin_lock_irqsave(&camera->lock, flags);
		got += camera_shoot(camera, burst);
		spin_unlock_irqrestore(&camera->lock, flags);
	}
	return got;
}

static int camera_status(struct camera *camera, void __user *to)
{
	struct fbufs_sample_status status;

	spin_lock_irq(&camera->lock);
	status = camera->status;
	spin_unlock_irq(&camera->lock);
	return copy_to_user(to, &status, sizeof(status)) ? -EFAULT : 0;
}

static long camera_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct camera *camera = file->private_data;
	struct fbufs_sample_start config;
	long err = -ENOTTY;

	if (cmd == FBUFS_SAMPLE_START &&
	    copy_from_user(&config, (void __user *)arg, sizeof(config)))
		return -EFAULT;
	mutex_lock(&camera->mutex);
	if (cmd == FBUFS_SAMPLE_START)
		err = camera_start(camera, &config);
	else if (cmd == FBUFS_CAMERA_TRIGGER)
		err = camera_trigger(camera, arg);
	else if (cmd == FBUFS_SAMPLE_STATUS)
		err = camera_status(camera, (void __user *)arg);
	else if (cmd == FBUFS_SAMPLE_STOP)
		err = 0;
	if (cmd == FBUFS_SAMPLE_STOP)
		camera_stop(camera);
	mutex_unlock(&camera->mutex);
	return err;
}

static int camera_open(struct inode *inode, struct file *file)
{
	struct camera *camera = kzalloc(sizeof(*camera), GFP_KERNEL_ACCOUNT);

	if (!camera)
		return -ENOMEM;
	mutex_init(&camera->mutex);
	spin_lock_init(&camera->lock);
	compat_hrtimer_setup(&camera->timer, camera_tick, HRTIMER_MODE_REL_HARD);
	file->private_data = camera;
	return nonseekable_open(inode, file);
}

static int camera_release(struct inode *inode, struct file *file)
{
	struct camera *camera = file->private_data;

	camera_stop(camera);
	kfree(camera);
	return 0;
}

static const struct file_operations camera_fops = {
	.owner = THIS_MODULE,
	.open = camera_open,
	.release = camera_release,
	.unlocked_ioctl = camera_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice camera_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "fbufs-camera",
	.fops = &camera_fops,
	.mode = 0660,
};

module_misc_device(camera_device);

MODULE_DESCRIPTION("Sample: a frame source that fills fbufs in an interrupt");
MODULE_AUTHOR("The fbufs authors");
MODULE_LICENSE("GPL");
fbufs_import_namespace();
