/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * The network stack leaves packets that were read on another processor than the
 * one that made them to the latter, which frees them when it next has network
 * work (skb_attempt_defer_free()); on a quiet machine that can be never. Pages
 * that are to come home need it sooner.
 */
#ifndef FBUFS_NUDGE_H
#define FBUFS_NUDGE_H

int nudge_init(void);
void nudge_exit(void);
void nudge_network(void);

#endif
