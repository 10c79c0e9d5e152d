// SPDX-License-Identifier: GPL-2.0
// Copyright (c) 2026 The fbufs authors

#include <linux/module.h>

#include "chrdev.h"
#include "fdio.h"
#include "kapi.h"
#include "nudge.h"
#include "pool.h"
#include "stats.h"

static int __init fbufs_init(void)
{
	int err = nudge_init();

	if (err)
		return err;
	err = kapi_init();
	if (err)
		goto err_nudge_exit;
	err = chrdev_init();
	if (err)
		goto err_kapi_exit;
	return 0;

err_kapi_exit:
	kapi_exit();
err_nudge_exit:
	nudge_exit();
	return err;
}

static void __exit fbufs_exit(void)
{
	chrdev_exit();
	/* Open files and windows hold the module, so nothing is left to wait for. */
	fdio_exit();
	kapi_exit();
	nudge_exit();
	pool_exit();
	stats_check_empty();
}

module_init(fbufs_init);
module_exit(fbufs_exit);

MODULE_DESCRIPTION("Fast buffers: handed over instead of copied, locked once sent");
MODULE_AUTHOR("The fbufs authors");
MODULE_LICENSE("GPL");
