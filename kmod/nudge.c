// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/cpu.h>
#include <linux/netdevice.h>
#include <linux/percpu.h>
#include <linux/workqueue.h>

#include "nudge.h"

/* Network work of ours, which there is none of: its poll finds nothing. */
struct nudge {
	struct work_struct work;
	struct napi_struct napi;
};

static struct net_device *nobody;
static struct nudge __percpu *nudges;

static int nudge_poll(struct napi_struct *napi, int budget)
{
	napi_complete_done(napi, 0);
	return 0;
}

static void nudge_here(struct work_struct *work)
{
	struct nudge *nudge = container_of(work, struct nudge, work);

	/* The softirq runs when bottom halves are enabled again, on this processor. */
	local_bh_disable();
	napi_schedule(&nudge->napi);
	local_bh_enable();
}

/* Have every processor free the packets that are left to it, soon. */
void nudge_network(void)
{
	int cpu;

	cpus_read_lock();
	for_each_online_cpu(cpu)
		queue_work_on(cpu, system_wq, &per_cpu_ptr(nudges, cpu)->work);
	cpus_read_unlock();
}

int nudge_init(void)
{
	int cpu;

	nobody = alloc_netdev_dummy(0);
	if (!nobody)
		return -ENOMEM;
	nudges = alloc_percpu(struct nudge);
	if (!nudges) {
		free_netdev(nobody);
		return -ENOMEM;
	}
	for_each_possible_cpu(cpu) {
		struct nudge *nudge = per_cpu_ptr(nudges, cpu);

		INIT_WORK(&nudge->work, nudge_here);
		netif_napi_add(nobody, &nudge->napi, nudge_poll);
		napi_enable(&nudge->napi);
	}
	return 0;
}

void nudge_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct nudge *nudge = per_cpu_ptr(nudges, cpu);

		cancel_work_sync(&nudge->work);
		napi_disable(&nudge->napi);
		netif_napi_del(&nudge->napi);
	}
	free_percpu(nudges);
	free_netdev(nobody);
}
