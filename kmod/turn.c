// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>
#include <linux/time64.h>

#include "turn.h"

/* A turn of the other's that takes longer is none to wait for in this way. */
#define TURN_NS (500 * NSEC_PER_USEC)
#define MAX_PASSES 1023

/*
 * The real-time classes have no yield_to(). yield() is for them alone: who calls it goes
 * behind all that are ready at his priority, and should only for one of those. The caller
 * sleeps afterwards if that was in vain; nothing is waited for by it.
 */
static bool turn_give_realtime(struct task_struct *to)
{
	if (signal_pending(current) || READ_ONCE(to->prio) != current->prio ||
	    !READ_ONCE(to->on_rq) || task_cpu(to) != raw_smp_processor_id())
		return false;
	yield();
	return true;
}

static bool turn_give_to(struct task_struct *to)
{
	if (to == current)
		return false;
	if (current->policy == SCHED_FIFO || current->policy == SCHED_RR)
		return turn_give_realtime(to);
	return yield_to(to, false) > 0;
}

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

	if (!turn_give_to(to) || local_clock() - start > TURN_NS)
		passes = min(2 * READ_ONCE(turn->passes) + 1, MAX_PASSES);
	WRITE_ONCE(turn->passes, passes);
	WRITE_ONCE(turn->pass, passes);
}
