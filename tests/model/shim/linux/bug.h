/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The fbufs authors */
/* What access.{h,c} need of the kernel's header, outside of the kernel. */
#ifndef SHIM_LINUX_BUG_H
#define SHIM_LINUX_BUG_H

extern int shim_warnings;

#define WARN_ON_ONCE(condition) ((condition) ? (shim_warnings++, 1) : 0)

#endif
