#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Hold the perf events that 'fbuf bench --explain' uses, for as long as this runs: x86-64.

Their first user has the kernel patch its own code, and their last one patches it back. The emulator's second
processor may still run what was there between the two steps of that, a breakpoint that is nobody's by then, and the
kernel panics (seen in __schedule). While somebody holds the events nothing is patched.
"""
import ctypes
import os
import signal
import struct

PERF_EVENT_OPEN = 298
SOFTWARE, TRACEPOINT = 1, 2
CONTEXT_SWITCHES, PAGE_FAULTS, CPU_CLOCK = 3, 2, 0

libc = ctypes.CDLL(None, use_errno=True)


def hold(kind, config):
    disabled = 1
    attributes = struct.pack("=IIQQQQQQQ", kind, 64, config, 0, 0, 0, disabled, 0, 0)
    if libc.syscall(PERF_EVENT_OPEN, attributes, 0, -1, -1, 0) < 0:
        raise OSError(ctypes.get_errno(), f"perf event {kind} {config}")


for software in (CONTEXT_SWITCHES, PAGE_FAULTS, CPU_CLOCK):
    hold(SOFTWARE, software)
for point in ("raw_syscalls/sys_enter", "tlb/tlb_flush"):
    name = f"/sys/kernel/tracing/events/{point}/id"
    if os.path.exists(name):
        hold(TRACEPOINT, int(open(name).read()))
print("held", flush=True)
signal.pause()
