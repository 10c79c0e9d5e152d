/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * How bytes get from fbufs to what a descriptor stands for, and back: the only
 * file that knows kinds of descriptors, with unix_stream.c.
 */
#ifndef FBUFS_DESCRIPTOR_H
#define FBUFS_DESCRIPTOR_H

#include <linux/types.h>

struct fbufs_io_op;
struct fdio_op;
struct file;
struct page;

int descriptor_check(struct file *file, const struct fbufs_io_op *args);
bool descriptor_can_wait(struct file *file);
bool descriptor_has_datagrams(struct file *file);
int descriptor_write(struct fdio_op *op);
int descriptor_take(struct fdio_op *op);
int descriptor_read(struct fdio_op *op);
bool descriptor_take_place(struct fdio_op *op, struct page *page, u32 bytes);

#endif
