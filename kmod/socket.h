/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * What sockets do with pages that they are given by reference (MSG_SPLICE_PAGES).
 */
#ifndef FBUFS_SOCKET_H
#define FBUFS_SOCKET_H

#include <linux/types.h>

struct sockaddr_storage;
struct socket;

u32 socket_copies(const struct socket *sock, const struct sockaddr_storage *address, u32 length);

#endif
