#!/usr/bin/env python3
"""Collectives on several ranks, and how the others end when one differs, fails, dies or hangs.

usage: collectives_test.py COLLECTIVES
"""
import sys
from functools import partial

import mpi_launch
from mpi_launch import need_mpi

PROGRAM = sys.argv[1]
run, expect_failure = partial(mpi_launch.run, PROGRAM), partial(mpi_launch.expect_failure, PROGRAM)

need_mpi(PROGRAM)
for n in (1, 2, 3, 4):
    code, output, took = run(n)
    assert code == 0 and f"ok on {n} ranks" in output, output
    print(f"collectives    on {n} ranks: {took:.1f} s", flush=True)
# Between nodes nobody shares memory: the same over TCP.
code, output, took = run(3, OMPI_MCA_pml="ob1", OMPI_MCA_btl="tcp,self", OMPI_MCA_btl_tcp_if_include="lo")
assert code == 0 and "ok on 3 ranks" in output, output

expect_failure(3, "mismatch-size", ["rank 2 calls: all_reduce of 8 f32", "ranks 0, 1 call: all_reduce of 9 f32"])
expect_failure(3, "mismatch-call", ["rank 2 calls: barrier", "ranks 0, 1 call: all_reduce of 9 f32"])
expect_failure(3, "differ", ["the answer is not the same on all ranks: rank 2", "found 41, expected 42"])
expect_failure(3, "throw", ["[rank 2] the odd one fails"])
expect_failure(3, "die", ["rank 2", "signal 9"])
expect_failure(3, "hang", ["rank 2", "no sign of life", "barrier (call"], SONDE_WATCHDOG_SECONDS="2")
expect_failure(3, "stop-in-call", ["rank 2 (", "hangs: its process does not run"], SONDE_WATCHDOG_SECONDS="2")
expect_failure(3, "mismatch-message", ["[rank 0] world: message 1: rank 2 sends 80 bytes of f64, rank 0 expects 36 bytes of f32"])
code, output, took = run(3, "chain", SONDE_WATCHDOG_SECONDS="2")
assert code == 0, output
print(f"chain          on 3 ranks: waited {took:.1f} s for a rank at work", flush=True)
expect_failure(3, "circle", ["receive (message 1 of world) waits since", "(waits in receive)"], SONDE_WATCHDOG_SECONDS="2")
expect_failure(2, "unsent", ["receive (message 1 of world)", "rank 1", "has left"], SONDE_WATCHDOG_SECONDS="2")
expect_failure(2, "leave", ["barrier (call", "rank 1", "has left"], SONDE_WATCHDOG_SECONDS="2")
