// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors
/*
 * Files: the device, whose open files are domains, and the ends of channels.
 */

#include <linux/anon_inodes.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/sched.h>

#include "channel.h"
#include "chrdev.h"
#include "domain.h"
#include "fdio.h"
#include "map.h"
#include "pool.h"
#include "transfer.h"

/* Its process or its file goes. */
static void domain_ended(struct fbufs_domain *domain)
{
	fdio_end(domain);
	transfer_end_domain(domain);
}

static int domain_open(struct inode *inode, struct file *file)
{
	struct fbufs_domain *domain;

	if (!current->mm)
		return -EPERM;
	domain = domain_create(domain_ended);
	if (IS_ERR(domain))
		return PTR_ERR(domain);
	fdio_begin(domain);
	file->private_data = domain;
	return nonseekable_open(inode, file);
}

static int domain_release_file(struct inode *inode, struct file *file)
{
	domain_close(file->private_data);
	return 0;
}

static int domain_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct fbufs_domain *domain = file->private_data;
	int err = domain_check(domain);

	return err ? err : map_window(domain, vma);
}

static __poll_t domain_poll(struct file *file, struct poll_table_struct *table)
{
	struct fbufs_domain *domain = file->private_data;
	struct fbufs_pool *pool = READ_ONCE(domain->pool);
	__poll_t events = 0;

	poll_wait(file, &domain->wait, table);
	if (READ_ONCE(domain->dead))
		return EPOLLHUP | EPOLLERR;
	if (fdio_has_news(domain))
		events |= EPOLLIN | EPOLLRDNORM;
	if (!pool)
		return events;
	spin_lock(&pool->lock);
	if (pool->notice_head != pool->notice_tail)
		events |= EPOLLIN | EPOLLRDNORM;
	if (!pool->starved)
		events |= EPOLLOUT | EPOLLWRNORM;
	spin_unlock(&pool->lock);
	return events;
}

static const struct file_operations domain_fops = {
	.owner = THIS_MODULE,
	.open = domain_open,
	.release = domain_release_file,
	.mmap = domain_mmap,
	.poll = domain_poll,
	.unlocked_ioctl = ioctl_domain,
	.compat_ioctl = compat_ptr_ioctl,
};

/* The domain of an open file of the device, or NULL for any other file. */
struct fbufs_domain *chrdev_domain(struct file *file)
{
	return file->f_op == &domain_fops ? file->private_data : NULL;
}

static int end_release(struct inode *inode, struct file *file)
{
	channel_end_close(file->private_data);
	return 0;
}

static __poll_t end_poll(struct file *file, struct poll_table_struct *table)
{
	return channel_poll(file->private_data, file, table);
}

static const struct file_operations end_fops = {
	.owner = THIS_MODULE,
	.release = end_release,
	.poll = end_poll,
	.unlocked_ioctl = ioctl_end,
	.compat_ioctl = compat_ptr_ioctl,
};

/* The end that a file is, or NULL for any other file. */
struct fbufs_end *chrdev_end(struct file *file)
{
	return file->f_op == &end_fops ? file->private_data : NULL;
}

/* A file for an end, which it owns from here on; or an error, and it does not. */
struct file *chrdev_end_file(struct fbufs_end *end, bool nonblock)
{
	return anon_inode_getfile(end->sending ? "[fbufs-sender]" : "[fbufs-receiver]",
				  &end_fops, end, O_RDWR | (nonblock ? O_NONBLOCK : 0));
}

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "fbufs",
	.fops = &domain_fops,
	.mode = 0660,
};

int chrdev_init(void)
{
	return misc_register(&device);
}

void chrdev_exit(void)
{
	misc_deregister(&device);
}
