// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * A sink: /dev/fbufs-sink receives messages of a program, hashes their bytes where they
 * lie, and answers each with a message in an fbuf of the program's pool.
 */

#include <linux/fbufs.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "fbufs_samples.h"

/**
 * struct sink - one use of the sink
 * @mutex: guards all of it; who answers holds it
 * @in: from the program, or NULL
 * @out: to the program, or NULL
 * @work: answers
 * @status: what was done, but for @home
 * @home: answers that came home
 * @kept: an fbuf that is kept for a while
 * @give_up: frees it
 */
struct sink {
	struct mutex mutex;	/* see above */
	struct fbufs_sink *in;
	struct fbufs_source *out;
	struct work_struct work;
	struct fbufs_sample_status status;
	atomic_t home;
	struct fbufs_output kept;
	struct delayed_work give_up;
};

static u64 hash(u64 sum, const u8 *data, u32 length)
{
	while (length--)
		sum = (sum ^ *data++) * 0x100000001b3ULL;
	return sum;
}

static int message_hash(struct sink *sink, const struct fbufs_input *input,
			struct fbufs_answer *answer)
{
	struct fbufs_view view;
	int err;
	u32 i;

	*answer = (struct fbufs_answer){
		.length = input->length, .hash = 0xcbf29ce484222325ULL,
		.slices = input->slices, .locked = 1,
	};
	/* What is read twice must not change in between. */
	err = fbufs_sink_secure(sink->in, &input->message, 1);
	for (i = 0; i < input->slices && err >= 0; i++) {
		err = fbufs_sink_view(sink->in, input->message, i, &view);
		if (err)
			break;
		answer->hash = hash(answer->hash, view.data, view.length);
		answer->locked &= view.locked;
	}
	return min(err, 0);
}

static void sink_answer(struct sink *sink, const struct fbufs_input *input)
{
	struct fbufs_output output;

	sink->status.done++;
	if (fbufs_source_alloc(sink->out, &output, 1) != 1) {
		sink->status.dropped++;
		return;
	}
	if (message_hash(sink, input, output.data)) {
		sink->status.errors++;
		fbufs_source_free(sink->out, &output, 1);
		return;
	}
	output.cookie = input->cookie;
	output.length = sizeof(struct fbufs_answer);
	if (fbufs_source_deliver(sink->out, &output, 1) == 1)
		sink->status.messages++;
}

static void sink_work(struct work_struct *work)
{
	struct sink *sink = container_of(work, struct sink, work);
	struct fbufs_input input;

	mutex_lock(&sink->mutex);
	while (sink->in && fbufs_sink_receive(sink->in, &input, 1) == 1) {
		sink_answer(sink, &input);
		fbufs_sink_release(sink->in, &input.message, 1);
		fbufs_source_flush(sink->out);
	}
	mutex_unlock(&sink->mutex);
}

static void sink_ready(void *data)
{
	struct sink *sink = data;

	schedule_work(&sink->work);
}

/* Context: the pool's lock is held, in a process. */
static void sink_answer_is_home(void *data, u64 fbuf)
{
	struct sink *sink = data;

	if (!WARN_ON_ONCE(!in_task()))
		atomic_inc(&sink->home);
}

static int sink_start(struct sink *sink, const struct fbufs_sample_start *config)
{
	const struct fbufs_source_config want = {
		.domain = config->domain, .sender = config->sender,
		.bytes = sizeof(struct fbufs_answer), .count = config->count,
		.notice = sink_answer_is_home, .data = sink,
	};
	struct fbufs_source *out;
	struct fbufs_sink *in;

	if (sink->in)
		return -EBUSY;
	out = fbufs_source_open(&want);
	if (IS_ERR(out))
		return PTR_ERR(out);
	in = fbufs_sink_open(config->receiver, sink_ready, sink);
	if (IS_ERR(in)) {
		fbufs_source_close(out);
		return PTR_ERR(in);
	}
	sink->out = out;
	sink->in = in;
	return 0;
}

static void sink_stop(struct sink *sink)
{
	if (!sink->in)
		return;
	fbufs_sink_close(sink->in);
	fbufs_source_close(sink->out);
	sink->in = NULL;
	sink->out = NULL;
}

static void sink_give_up(struct work_struct *work)
{
	struct sink *sink = container_of(to_delayed_work(work), struct sink, give_up);

	/* Who stops the sink has its mutex, and waits for this. */
	fbufs_source_free(sink->out, &sink->kept, 1);
}

static int sink_keep(struct sink *sink, unsigned long milliseconds)
{
	if (!sink->out)
		return -ENXIO;
	if (delayed_work_pending(&sink->give_up))
		return -EBUSY;
	if (fbufs_source_alloc(sink->out, &sink->kept, 1) != 1)
		return -EAGAIN;
	schedule_delayed_work(&sink->give_up, msecs_to_jiffies(milliseconds));
	return 0;
}

static int sink_status(struct sink *sink, void __user *to)
{
	sink->status.home = atomic_read(&sink->home);
	return copy_to_user(to, &sink->status, sizeof(sink->status)) ? -EFAULT : 0;
}

/*
 * What a bad driver does
 */

static void misuse_source(struct sink *sink, s32 *result)
{
	struct fbufs_output output, other, twice[2];
	unsigned long flags;

	/* All may be with whoever asks, who would wait for himself. */
	if (fbufs_source_alloc(sink->out, &output, 1) != 1)
		return;
	result[FBUFS_MISUSE_EMPTY] = fbufs_source_deliver(sink->out, &output, 1);
	output.offset = 1;
	output.length = output.bytes;
	result[FBUFS_MISUSE_OUT_OF_RANGE] = fbufs_source_deliver(sink->out, &output, 1);
	other = output;
	other.ticket ^= 1ULL << 40;
	result[FBUFS_MISUSE_FORGED] = fbufs_source_free(sink->out, &other, 1);
	output.offset = 0;
	output.more = true;
	result[FBUFS_MISUSE_UNFINISHED] = fbufs_source_deliver(sink->out, &output, 1);
	twice[0] = output;
	twice[1] = output;
	twice[1].more = false;
	result[FBUFS_MISUSE_SAME_FBUF_TWICE] = fbufs_source_deliver(sink->out, twice, 2);
	/* It is the driver's all the same. */
	output.more = false;
	fbufs_source_deliver(sink->out, &output, 1);
	result[FBUFS_MISUSE_DELIVER_TWICE] = fbufs_source_deliver(sink->out, &output, 1);
	result[FBUFS_MISUSE_FREE_DELIVERED] = fbufs_source_free(sink->out, &output, 1);

	if (fbufs_source_alloc(sink->out, &output, 1) != 1)
		return;
	output.length = 1;
	fbufs_source_free(sink->out, &output, 1);
	result[FBUFS_MISUSE_FREE_TWICE] = fbufs_source_free(sink->out, &output, 1);
	result[FBUFS_MISUSE_DELIVER_FREED] = fbufs_source_deliver(sink->out, &output, 1);
	result[FBUFS_MISUSE_MAP_FREED] =
		PTR_ERR_OR_ZERO(fbufs_source_map(sink->out, &output, NULL, DMA_FROM_DEVICE,
						 GFP_KERNEL));

	local_irq_save(flags);
	result[FBUFS_MISUSE_SLEEP_SOURCE] = fbufs_source_flush(sink->out);
	local_irq_restore(flags);
	fbufs_source_flush(sink->out);
}

static void misuse_sink(struct sink *sink, s32 *result)
{
	struct fbufs_input input;
	struct fbufs_view view;
	unsigned long flags;

	if (fbufs_sink_receive(sink->in, &input, 1) != 1)
		return;
	fbufs_sink_release(sink->in, &input.message, 1);
	result[FBUFS_MISUSE_RELEASE_TWICE] = fbufs_sink_release(sink->in, &input.message, 1);
	result[FBUFS_MISUSE_VIEW_RELEASED] = fbufs_sink_view(sink->in, input.message, 0, &view);
	local_irq_save(flags);
	result[FBUFS_MISUSE_SLEEP_SINK] = fbufs_sink_receive(sink->in, &input, 1);
	local_irq_restore(flags);
}

static int sink_misuse(struct sink *sink, void __user *to)
{
	struct fbufs_misuse misuse = { };

	if (!sink->in)
		return -ENXIO;
	misuse_source(sink, misuse.result);
	misuse_sink(sink, misuse.result);
	return copy_to_user(to, &misuse, sizeof(misuse)) ? -EFAULT : 0;
}

/*
 * Messages of several fbufs
 */

/* One byte of each, and whether a message goes on behind it. */
static void delivery_fill(struct fbufs_output *outputs, const struct fbufs_delivery *delivery)
{
	u32 n = 0, i, j;

	for (i = 0; i < ARRAY_SIZE(delivery->fbufs); i++)
		for (j = delivery->fbufs[i]; j--; n++) {
			outputs[n].cookie = i;
			outputs[n].length = 1;
			outputs[n].more = j;
		}
	outputs[n - 1].more = delivery->unfinished;
}

static int delivery_try(struct fbufs_source *out, struct fbufs_output *outputs, u32 n,
			struct fbufs_delivery *delivery)
{
	int got = fbufs_source_alloc(out, outputs, n);
	u32 done;

	if (got != n) {
		if (got > 0)
			fbufs_source_free(out, outputs, got);
		return got < 0 ? got : -EAGAIN;
	}
	delivery_fill(outputs, delivery);
	delivery->delivered = fbufs_source_deliver(out, outputs, n);
	done = max(delivery->delivered, 0);
	if (done < n)
		delivery->freed = fbufs_source_free(out, outputs + done, n - done);
	fbufs_source_flush(out);
	return 0;
}

static int sink_deliver(struct sink *sink, void __user *arg)
{
	struct fbufs_delivery delivery;
	struct fbufs_output *outputs;
	u64 n = 0;
	int err;
	u32 i;

	if (!sink->out)
		return -ENXIO;
	if (copy_from_user(&delivery, arg, sizeof(delivery)))
		return -EFAULT;
	for (i = 0; i < ARRAY_SIZE(delivery.fbufs); i++)
		n += delivery.fbufs[i];
	if (!n)
		return -EINVAL;
	if (n > FBUFS_MAX_SOURCE)
		return -E2BIG;
	outputs = kvcalloc(n, sizeof(*outputs), GFP_KERNEL_ACCOUNT);
	if (!outputs)
		return -ENOMEM;
	delivery.freed = 0;
	err = delivery_try(sink->out, outputs, n, &delivery);
	kvfree(outputs);
	if (!err && copy_to_user(arg, &delivery, sizeof(delivery)))
		err = -EFAULT;
	return err;
}

/*
 * Files
 */

static long sink_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct sink *sink = file->private_data;
	struct fbufs_sample_start config;
	long err = -ENOTTY;

	if (cmd == FBUFS_SAMPLE_START &&
	    copy_from_user(&config, (void __user *)arg, sizeof(config)))
		return -EFAULT;
	mutex_lock(&sink->mutex);
	if (cmd == FBUFS_SAMPLE_START)
		err = sink_start(sink, &config);
	else if (cmd == FBUFS_SINK_MISUSE)
		err = sink_misuse(sink, (void __user *)arg);
	else if (cmd == FBUFS_SINK_KEEP)
		err = sink_keep(sink, arg);
	else if (cmd == FBUFS_SINK_DELIVER)
		err = sink_deliver(sink, (void __user *)arg);
	else if (cmd == FBUFS_SAMPLE_STATUS)
		err = sink_status(sink, (void __user *)arg);
	else if (cmd == FBUFS_SAMPLE_STOP)
		err = 0;
	if (cmd == FBUFS_SAMPLE_STOP)
		sink_stop(sink);
	mutex_unlock(&sink->mutex);
	return err;
}

static int sink_open(struct inode *inode, struct file *file)
{
	struct sink *sink = kzalloc(sizeof(*sink), GFP_KERNEL_ACCOUNT);

	if (!sink)
		return -ENOMEM;
	mutex_init(&sink->mutex);
	INIT_WORK(&sink->work, sink_work);
	INIT_DELAYED_WORK(&sink->give_up, sink_give_up);
	file->private_data = sink;
	return nonseekable_open(inode, file);
}

static int sink_release(struct inode *inode, struct file *file)
{
	struct sink *sink = file->private_data;

	mutex_lock(&sink->mutex);
	sink_stop(sink);
	mutex_unlock(&sink->mutex);
	cancel_work_sync(&sink->work);
	/* It has freed what it kept, or the source would not be closed. */
	flush_delayed_work(&sink->give_up);
	kfree(sink);
	return 0;
}

static const struct file_operations sink_fops = {
	.owner = THIS_MODULE,
	.open = sink_open,
	.release = sink_release,
	.unlocked_ioctl = sink_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice sink_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "fbufs-sink",
	.fops = &sink_fops,
	.mode = 0660,
};

module_misc_device(sink_device);

MODULE_DESCRIPTION("Sample: receives messages of programs, and answers");
MODULE_AUTHOR("The fbufs authors");
MODULE_LICENSE("GPL");
fbufs_import_namespace();
