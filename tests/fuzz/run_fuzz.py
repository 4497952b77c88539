#!/usr/bin/env python3
"""Runs the fuzz targets on a corpus made on the spot, two at a time, and prints how many inputs each tried.

usage: run_fuzz.py BUILD [--seconds 20] [--seed 1] [--jobs 2] [--report FILE.md] [TARGET...]   (BUILD: built with the preset asan)
A crash, an exception that is no Error, a leak, an input that takes 20 s, or memory out of proportion to it fails the
run; the input is kept in BUILD/fuzz/found. What grew out of the seeds is kept in BUILD/fuzz/corpus for the next run.
--seed 0 draws one by the clock (to find what is new); any other tries the same inputs again (to see that nothing broke).
"""
import argparse
import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import tempfile

# An input is at most 64 KiB: one allocation of 192 MB (zstd's largest window is 128) can only be a size believed
# before it was checked.
LIMITS = ["-timeout=20", "-rss_limit_mb=1500", "-malloc_limit_mb=192", "-max_len=65536"]


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--report")
    return parser.parse_args()


def fuzz(target, options, seeds, scratch):
    """Returns (target, inputs tried, edges reached, the log if it failed)."""
    corpus, found = (os.path.join(options.build, "fuzz", name, target) for name in ("corpus", "found"))
    os.makedirs(corpus, exist_ok=True)
    os.makedirs(found, exist_ok=True)
    env = os.environ | {"TMPDIR": scratch, "OMP_NUM_THREADS": "1",
                        "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=0:quarantine_size_mb=32",
                        "UBSAN_OPTIONS": "print_stacktrace=1"}
    run = subprocess.run([os.path.join(options.build, "tests", target), f"-max_total_time={options.seconds}", f"-seed={options.seed}",
                          "-print_final_stats=1",
                          *LIMITS, f"-artifact_prefix={found}/", corpus, os.path.join(seeds, target)],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
    log = run.stdout.decode(errors="replace")
    tried = re.search(r"stat::number_of_executed_units: (\d+)", log)
    edges = re.findall(r"cov: (\d+)", log)
    if run.returncode == 0 and tried:
        return target, int(tried[1]), int(edges[-1]) if edges else 0, None
    return target, 0, 0, log[-20000:]


def main():
    options = arguments()
    targets = options.targets or sorted(os.path.basename(t) for t in glob.glob(os.path.join(options.build, "tests", "*_fuzz")))
    if not targets:
        sys.exit(f"run_fuzz.py: {options.build}: no targets; build them: cmake --preset asan && cmake --build build/asan --target fuzz_targets")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    failed, rows = [], []
    with tempfile.TemporaryDirectory(prefix="sonde-fuzz-", dir=memory) as scratch:
        seeds = os.path.join(scratch, "seeds")
        subprocess.run([os.path.join(options.build, "tests", "fuzz_seeds"), seeds], check=True)
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for target, tried, edges, log in pool.map(lambda t: fuzz(t, options, seeds, scratch), targets):
                if log is None:
                    rows.append(f"| {target.removesuffix('_fuzz')} | {tried:,} | {edges:,} |")
                    print(f"{target:<18} {tried:>10,} inputs tried, {edges:>6,} edges reached: nothing found", flush=True)
                else:
                    failed.append(target)
                    print(log, f"{target}: FAILED (above); the input is in {options.build}/fuzz/found/{target}", sep="\n", flush=True)
    if options.report:
        with open(options.report, "w") as out:
            out.write("| target | inputs tried | edges reached |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    if failed:
        sys.exit(f"run_fuzz.py: {', '.join(failed)} FAILED")


main()
