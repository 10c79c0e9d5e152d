/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
#ifndef FBUFS_CHRDEV_H
#define FBUFS_CHRDEV_H

#include <linux/fs.h>

struct fbufs_domain;
struct fbufs_end;

int chrdev_init(void);
void chrdev_exit(void);

struct file *chrdev_end_file(struct fbufs_end *end, bool nonblock);
struct fbufs_domain *chrdev_domain(struct file *file);
struct fbufs_end *chrdev_end(struct file *file);

/* ioctl.c */
long ioctl_domain(struct file *file, unsigned int cmd, unsigned long arg);
long ioctl_end(struct file *file, unsigned int cmd, unsigned long arg);

#endif
