// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/time64.h>

#include "turn.h"

/* A turn of the other's that takes longer is none to wait for in this way. */
#define TURN_NS (500 * NSEC_PER_USEC)
#define MAX_PASSES 1023

/**
 * turn_give - let another thread run before the caller sleeps
 * @turn: of the caller's side
 * @to: who is waited for; the caller has a reference
 *
 * Context: May sleep; the caller is not on a wait queue.
 */
void turn_give(struct fbufs_turn *turn, struct task_struct *to)
{
	u64 start = local_clock();
	u16 passes = 0;

	if (to == current || yield_to(to, false) <= 0 || local_clock() - start > TURN_NS)
		passes = min(2 * READ_ONCE(turn->passes) + 1, MAX_PASSES);
	WRITE_ONCE(turn->passes, passes);
	WRITE_ONCE(turn->pass, passes);
}
