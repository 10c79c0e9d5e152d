// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * QEMU's educational PCI device: /dev/fbufs-edu sends each message of a program through
 * the memory of the device and back: the device reads the bytes from the fbufs of the
 * program, and writes them to an fbuf of its pool. The processor copies nothing.
 */

#include <linux/completion.h>
#include <linux/dma-mapping.h>
#include <linux/fbufs.h>
#include <linux/fs.h>
#include <linux/interrupt.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "fbufs_samples.h"

/* Registers; see docs/specs/edu in QEMU's sources. */
#define EDU_ALIVE 0x04
#define EDU_FACTORIAL 0x08
#define EDU_STATUS 0x20
#define EDU_STATUS_INTERRUPT 0x80
#define EDU_INTERRUPT 0x24
#define EDU_ACKNOWLEDGE 0x64
#define EDU_DMA_FROM 0x80
#define EDU_DMA_TO 0x88
#define EDU_DMA_BYTES 0x90
#define EDU_DMA_COMMAND 0x98
#define EDU_DMA_START 0x01
#define EDU_DMA_TO_HOST 0x02
#define EDU_DMA_INTERRUPT 0x04

/* The device's own memory: 4 KiB, of which old versions of QEMU refuse the last byte. */
#define EDU_MEMORY 0x40000
#define EDU_PIECE 2048
/* A message at most. */
#define EDU_MESSAGE 4096

#define EDU_VENDOR 0x1234
#define EDU_DEVICE 0x11e8
#define EDU_PATIENCE (5 * HZ)

/**
 * struct edu - the device
 * @pci: it
 * @registers: its registers
 * @done: an interrupt came
 * @mutex: one use at a time
 * @misc: its file
 */
struct edu {
	struct pci_dev *pci;
	void __iomem *registers;
	struct completion done;
	struct mutex mutex;	/* see above */
	struct miscdevice misc;
};

/**
 * struct session - one use of the device
 * @edu: the device
 * @mutex: guards what follows
 * @in: from the program, or NULL
 * @out: to the program, or NULL
 * @work: moves messages
 * @status: what was done
 */
struct session {
	struct edu *edu;
	struct mutex mutex;	/* see above */
	struct fbufs_sink *in;
	struct fbufs_source *out;
	struct work_struct work;
	struct fbufs_sample_status status;
};

/*
 * The device
 */

static irqreturn_t edu_interrupt(int irq, void *data)
{
	struct edu *edu = data;
	u32 why = readl(edu->registers + EDU_INTERRUPT);

	if (!why)
		return IRQ_NONE;
	writel(why, edu->registers + EDU_ACKNOWLEDGE);
	complete(&edu->done);
	return IRQ_HANDLED;
}

static int edu_wait(struct edu *edu)
{
	return wait_for_completion_timeout(&edu->done, EDU_PATIENCE) ? 0 : -ETIMEDOUT;
}

/* Bytes between the machine and the device's memory. */
static int edu_move(struct edu *edu, dma_addr_t host, u32 bytes, bool to_host)
{
	reinit_completion(&edu->done);
	writeq(to_host ? EDU_MEMORY : host, edu->registers + EDU_DMA_FROM);
	writeq(to_host ? host : EDU_MEMORY, edu->registers + EDU_DMA_TO);
	writeq(bytes, edu->registers + EDU_DMA_BYTES);
	writeq(EDU_DMA_START | EDU_DMA_INTERRUPT | (to_host ? EDU_DMA_TO_HOST : 0),
	       edu->registers + EDU_DMA_COMMAND);
	return edu_wait(edu);
}

/* A place in a mapping. */
struct place {
	struct scatterlist *sg;
	u32 offset;
};

static u32 place_left(const struct place *place)
{
	return sg_dma_len(place->sg) - place->offset;
}

static dma_addr_t place_address(const struct place *place)
{
	return sg_dma_address(place->sg) + place->offset;
}

static void place_advance(struct place *place, u32 bytes)
{
	place->offset += bytes;
	if (!place_left(place)) {
		place->sg = sg_next(place->sg);
		place->offset = 0;
	}
}

/* Bytes from one mapping through the device's memory to the other, piece by piece. */
static int edu_pass(struct edu *edu, const struct fbufs_mapping *from,
		    const struct fbufs_mapping *to, u32 length)
{
	struct place in = { .sg = from->sgt.sgl }, out = { .sg = to->sgt.sgl };
	int err = 0;
	u32 bytes;

	for (; length && !err; length -= bytes) {
		bytes = min3(length, place_left(&in), place_left(&out));
		err = edu_move(edu, place_address(&in), bytes, false);
		if (!err)
			err = edu_move(edu, place_address(&out), bytes, true);
		place_advance(&in, bytes);
		place_advance(&out, bytes);
	}
	return err;
}

/* The device computes in a thread of its own, and interrupts: is it there at all? */
static int edu_self_test(struct edu *edu)
{
	int err;

	writel(0x5a5aa5a5, edu->registers + EDU_ALIVE);
	if (readl(edu->registers + EDU_ALIVE) != ~0x5a5aa5a5)
		return -EIO;
	reinit_completion(&edu->done);
	writel(EDU_STATUS_INTERRUPT, edu->registers + EDU_STATUS);
	writel(5, edu->registers + EDU_FACTORIAL);
	err = edu_wait(edu);
	writel(0, edu->registers + EDU_STATUS);
	if (!err && readl(edu->registers + EDU_FACTORIAL) != 120)
		err = -EIO;
	return err;
}

/*
 * Messages
 */

static int session_pass(struct session *session, const struct fbufs_input *input,
			const struct fbufs_output *output)
{
	struct device *dev = &session->edu->pci->dev;
	struct fbufs_mapping *from, *to;
	int err;

	/* What a device reads must not change while it does. */
	err = fbufs_sink_secure(session->in, &input->message, 1);
	if (err < 0)
		return err;
	from = fbufs_sink_map(session->in, input->message, dev);
	if (IS_ERR(from))
		return PTR_ERR(from);
	to = fbufs_source_map(session->out, output, dev, DMA_FROM_DEVICE, GFP_KERNEL);
	err = PTR_ERR_OR_ZERO(to);
	if (!err) {
		mutex_lock(&session->edu->mutex);
		err = edu_pass(session->edu, from, to, output->length);
		mutex_unlock(&session->edu->mutex);
		fbufs_unmap(to);
	}
	fbufs_unmap(from);
	return err;
}

static void session_message(struct session *session, const struct fbufs_input *input)
{
	struct fbufs_output output;
	int err = -EMSGSIZE;

	session->status.done++;
	if (fbufs_source_alloc(session->out, &output, 1) != 1) {
		session->status.dropped++;
		return;
	}
	output.cookie = input->cookie;
	output.length = input->length;
	if (input->length <= EDU_MESSAGE)
		err = session_pass(session, input, &output);
	if (err) {
		session->status.errors++;
		fbufs_source_free(session->out, &output, 1);
	} else {
		session->status.messages += fbufs_source_deliver(session->out, &output, 1);
	}
}

static void session_work(struct work_struct *work)
{
	struct session *session = container_of(work, struct session, work);
	struct fbufs_input input;

	mutex_lock(&session->mutex);
	while (session->in && fbufs_sink_receive(session->in, &input, 1) == 1) {
		session_message(session, &input);
		fbufs_sink_release(session->in, &input.message, 1);
		fbufs_source_flush(session->out);
	}
	mutex_unlock(&session->mutex);
}

static void session_ready(void *data)
{
	struct session *session = data;

	schedule_work(&session->work);
}

static int session_start(struct session *session, const struct fbufs_sample_start *config)
{
	const struct fbufs_source_config want = {
		.domain = config->domain, .sender = config->sender,
		.bytes = EDU_MESSAGE, .count = config->count,
	};
	struct fbufs_source *out;
	struct fbufs_sink *in;

	if (session->in)
		return -EBUSY;
	out = fbufs_source_open(&want);
	if (IS_ERR(out))
		return PTR_ERR(out);
	in = fbufs_sink_open(config->receiver, session_ready, session);
	if (IS_ERR(in)) {
		fbufs_source_close(out);
		return PTR_ERR(in);
	}
	session->out = out;
	session->in = in;
	return 0;
}

static void session_stop(struct session *session)
{
	if (!session->in)
		return;
	fbufs_sink_close(session->in);
	fbufs_source_close(session->out);
	session->in = NULL;
	session->out = NULL;
}

/* What a bad driver does: to give an fbuf away that a device still writes to. */
static int session_misuse(struct session *session, void __user *to)
{
	struct fbufs_mapped_misuse misuse = { };
	struct fbufs_mapping *mapping;
	struct fbufs_output output;

	if (!session->out)
		return -ENXIO;
	if (fbufs_source_alloc(session->out, &output, 1) != 1)
		return -EAGAIN;
	output.length = 1;
	mapping = fbufs_source_map(session->out, &output, &session->edu->pci->dev,
				   DMA_FROM_DEVICE, GFP_KERNEL);
	if (IS_ERR(mapping)) {
		fbufs_source_free(session->out, &output, 1);
		return PTR_ERR(mapping);
	}
	misuse.deliver = fbufs_source_deliver(session->out, &output, 1);
	misuse.free = fbufs_source_free(session->out, &output, 1);
	fbufs_unmap(mapping);
	misuse.delivered = fbufs_source_deliver(session->out, &output, 1);
	return copy_to_user(to, &misuse, sizeof(misuse)) ? -EFAULT : 0;
}

/*
 * Files
 */

static long edu_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct session *session = file->private_data;
	struct fbufs_sample_start config;
	long err = -ENOTTY;

	if (cmd == FBUFS_SAMPLE_START &&
	    copy_from_user(&config, (void __user *)arg, sizeof(config)))
		return -EFAULT;
	mutex_lock(&session->mutex);
	if (cmd == FBUFS_SAMPLE_START)
		err = session_start(session, &config);
	else if (cmd == FBUFS_EDU_MISUSE)
		err = session_misuse(session, (void __user *)arg);
	else if (cmd == FBUFS_SAMPLE_STATUS)
		err = copy_to_user((void __user *)arg, &session->status,
				   sizeof(session->status)) ? -EFAULT : 0;
	else if (cmd == FBUFS_SAMPLE_STOP)
		err = 0;
	if (cmd == FBUFS_SAMPLE_STOP)
		session_stop(session);
	mutex_unlock(&session->mutex);
	return err;
}

static int edu_open(struct inode *inode, struct file *file)
{
	struct edu *edu = container_of(file->private_data, struct edu, misc);
	struct session *session = kzalloc(sizeof(*session), GFP_KERNEL_ACCOUNT);

	if (!session)
		return -ENOMEM;
	session->edu = edu;
	mutex_init(&session->mutex);
	INIT_WORK(&session->work, session_work);
	file->private_data = session;
	return nonseekable_open(inode, file);
}

static int edu_release(struct inode *inode, struct file *file)
{
	struct session *session = file->private_data;

	mutex_lock(&session->mutex);
	session_stop(session);
	mutex_unlock(&session->mutex);
	cancel_work_sync(&session->work);
	kfree(session);
	return 0;
}

static const struct file_operations edu_fops = {
	.owner = THIS_MODULE,
	.open = edu_open,
	.release = edu_release,
	.unlocked_ioctl = edu_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static int edu_setup(struct edu *edu)
{
	struct pci_dev *pci = edu->pci;
	int err = pcim_enable_device(pci);

	if (err)
		return err;
	edu->registers = pcim_iomap(pci, 0, 0);
	if (!edu->registers)
		return -ENOMEM;
	/* As far as the device was told to reach (dma_mask=); what is beyond bounces. */
	err = dma_set_mask_and_coherent(&pci->dev, DMA_BIT_MASK(40));
	if (err)
		return err;
	dma_set_max_seg_size(&pci->dev, EDU_PIECE);
	pci_set_master(pci);
	return pci_alloc_irq_vectors(pci, 1, 1, PCI_IRQ_MSI) == 1 ? 0 : -ENOSPC;
}

static int edu_probe(struct pci_dev *pci, const struct pci_device_id *id)
{
	struct edu *edu = kzalloc(sizeof(*edu), GFP_KERNEL);
	int err;

	if (!edu)
		return -ENOMEM;
	edu->pci = pci;
	init_completion(&edu->done);
	mutex_init(&edu->mutex);
	err = edu_setup(edu);
	if (err)
		goto err_free;
	err = request_irq(pci_irq_vector(pci, 0), edu_interrupt, 0, "fbufs-edu", edu);
	if (err)
		goto err_free_vectors;
	err = edu_self_test(edu);
	if (err)
		goto err_free_irq;
	edu->misc = (struct miscdevice){
		.minor = MISC_DYNAMIC_MINOR, .name = "fbufs-edu", .fops = &edu_fops, .mode = 0660,
	};
	err = misc_register(&edu->misc);
	if (err)
		goto err_free_irq;
	pci_set_drvdata(pci, edu);
	return 0;

err_free_irq:
	free_irq(pci_irq_vector(pci, 0), edu);
err_free_vectors:
	pci_free_irq_vectors(pci);
err_free:
	kfree(edu);
	return err;
}

/* Not while a file is open: that holds the module; to unbind it by hand then is an error. */
static void edu_remove(struct pci_dev *pci)
{
	struct edu *edu = pci_get_drvdata(pci);

	misc_deregister(&edu->misc);
	free_irq(pci_irq_vector(pci, 0), edu);
	pci_free_irq_vectors(pci);
	kfree(edu);
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(EDU_VENDOR, EDU_DEVICE) },
	{ },
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name = "fbufs-edu",
	.id_table = edu_ids,
	.probe = edu_probe,
	.remove = edu_remove,
	.driver = { .suppress_bind_attrs = true },
};

module_pci_driver(edu_driver);

MODULE_DESCRIPTION("Sample: DMA between QEMU's edu device and fbufs");
MODULE_AUTHOR("The fbufs authors");
MODULE_LICENSE("GPL");
fbufs_import_namespace();
