/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
#ifndef FBUFS_UNIX_STREAM_H
#define FBUFS_UNIX_STREAM_H

#include <linux/types.h>

struct bio_vec;
struct fdio_op;
struct sock;
struct socket;

int unix_stream_put(struct socket *sock, const struct bio_vec *blocks, u32 n);
void unix_stream_take(struct fdio_op *op, struct sock *sk);

#endif
