/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * Files that go out as they are, without passing through a pool, and unlocked.
 */
#ifndef FBUFS_SEND_FILE_H
#define FBUFS_SEND_FILE_H

#include <linux/types.h>

struct fbufs_domain;
struct fbufs_send_file;

long send_file(struct fbufs_domain *domain, struct fbufs_send_file *args, bool may_wait);

#endif
