#!/usr/bin/env python3
"""Collectives between emulated GPUs on 1 to 4 ranks, and how the others end when one hangs, dies or leaves, or when the
network is lost.

usage: device_collectives_test.py DEVICE_COLLECTIVES
"""
import sys
from functools import partial

import mpi_launch
from mpi_launch import need_mpi

PROGRAM = sys.argv[1]
run, expect_failure = partial(mpi_launch.run, PROGRAM), partial(mpi_launch.expect_failure, PROGRAM)

need_mpi(PROGRAM)
for n in (1, 2, 3, 4):
    for settings in ("streams=lazy,protect=yes", "streams=random,seed=3", "streams=eager"):
        code, output, took = run(n, SONDE_EMULATION=settings)
        assert code == 0 and f"ok on {n} ranks" in output, f"{n} ranks, {settings}:\n{output}"
    print(f"calls    on {n} ranks: {took:.1f} s", flush=True)

# From stage to stage: the first one's sends wait for the rank in the middle, the last one's receive does.
expect_failure(3, "stage-die", ["rank 1", "signal 9"])
expect_failure(3, "stage-fail", ["[rank 1]", "a disk is full"])
expect_failure(3, "stage-hang", ["rank 1 (", " hangs: ", "(message "], SONDE_WATCHDOG_SECONDS="2")
expect_failure(3, "stage-leave", ["NCCL ", "(message ", "rank 1 (", "has left"], SONDE_WATCHDOG_SECONDS="2")
expect_failure(2, "stage-lost", ["NCCL", " of world) failed", "network error"], SONDE_EMULATION="network=3")
code, output, took = run(3, "stage-busy", SONDE_WATCHDOG_SECONDS="2")
assert code == 0 and took > 7, f"a stage at work for long, not hanging: {code} after {took:.1f} s\n{output}"
expect_failure(3, "die", ["rank 2", "signal 9"])
expect_failure(3, "hang", ["rank 2", "no sign of life", "NCCL all_reduce (call 4 of world)"], SONDE_WATCHDOG_SECONDS="2")
expect_failure(2, "leave", ["NCCL all_reduce (call 4 of world)", "rank 1", "has left"], SONDE_WATCHDOG_SECONDS="2")
expect_failure(2, "lost", ["NCCL all_reduce (call", "4 of world) failed", "network error"], SONDE_EMULATION="network=3")
