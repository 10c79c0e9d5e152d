/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/*
 * Turns: who waits for somebody on the same processor gives way to him.
 *
 * To sleep and to be woken for every message costs as much as the message, and in
 * a stream whose two sides share a processor the faster one would do just that,
 * because the scheduler lets it run at once when it is woken. So whoever is about
 * to sleep first offers the processor to the thread that is to send, or to make
 * room, if that is ready to run here: it then goes on for a while, nobody has to
 * be woken, and what it did is dealt with together.
 *
 * That holds in the real-time classes, too, among threads of the same priority; to any
 * other one the scheduler alone decides what is given.
 *
 * The price is time: the processor is back only when the other one waits or its
 * slice is over. Where that took long, or there was nobody to give way to, this
 * is not tried again for twice as many times as before.
 */
#ifndef FBUFS_TURN_H
#define FBUFS_TURN_H

#include <linux/types.h>

struct task_struct;

/**
 * struct fbufs_turn - what giving way has brought lately
 * @pass: times not to try it from here on
 * @passes: how many that were, the last time
 *
 * A hint: threads that share it may garble it, and nothing depends on it.
 */
struct fbufs_turn {
	u16 pass;
	u16 passes;
};

void turn_give(struct fbufs_turn *turn, struct task_struct *to);

/* Whether to try it now. */
static inline bool turn_is_due(struct fbufs_turn *turn)
{
	u16 pass = READ_ONCE(turn->pass);

	if (pass)
		WRITE_ONCE(turn->pass, pass - 1);
	return !pass;
}

#endif
