#!/usr/bin/env python3
"""Collectives between emulated GPUs on 1 to 4 ranks, and how the others end when one hangs, dies or leaves, or when the
network is lost.

usage: device_collectives_test.py DEVICE_COLLECTIVES
"""
import subprocess
import sys
import time

from mpi_launch import environment, launch, need_mpi

PROGRAM = sys.argv[1]


def run(ranks, *arguments, **variables):
    start = time.time()
    done = subprocess.run(launch(ranks, [PROGRAM, *arguments]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=environment(**variables), timeout=120)
    return done.returncode, done.stdout, time.time() - start


def expect_failure(ranks, case, words, seconds=30, **variables):
    code, output, took = run(ranks, case, **variables)
    for word in words:
        assert word in output, f"{case} on {ranks} ranks: expected {word!r} in:\n{output}"
    assert code != 0, f"{case} on {ranks} ranks: expected a failure:\n{output}"
    assert took < seconds, f"{case} on {ranks} ranks: all ended after {took:.0f} s"
    print(f"{case:<8} on {ranks} ranks: exit code {code} after {took:.1f} s", flush=True)


need_mpi(PROGRAM)
for n in (1, 2, 3, 4):
    for settings in ("streams=lazy,protect=yes", "streams=random,seed=3", "streams=eager"):
        code, output, took = run(n, SONDE_EMULATION=settings)
        assert code == 0 and f"ok on {n} ranks" in output, f"{n} ranks, {settings}:\n{output}"
    print(f"calls    on {n} ranks: {took:.1f} s", flush=True)

expect_failure(3, "die", ["rank 2", "signal 9"])
expect_failure(3, "hang", ["rank 2", "no sign of life", "NCCL all_reduce (call 4 of world)"], SONDE_WATCHDOG_SECONDS="2")
expect_failure(2, "leave", ["NCCL all_reduce (call 4 of world)", "rank 1", "has left"], SONDE_WATCHDOG_SECONDS="2")
expect_failure(2, "lost", ["NCCL all_reduce (call", "4 of world) failed", "network error"], SONDE_EMULATION="network=3")
