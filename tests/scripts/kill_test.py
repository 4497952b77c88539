#!/usr/bin/env python3
"""SIGKILLs `sonde extract` at random moments, resumes it, and compares the store with an uninterrupted run.

usage: kill_test.py SONDE [TRIALS]   (20 trials, 50 with SONDE_LONG=1; SONDE_KILL_SEED repeats a seed)
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import tiny_model

SONDE = sys.argv[1]
TRIALS = int(sys.argv[2]) if len(sys.argv) > 2 else 50 if os.environ.get("SONDE_LONG") else 20


def command(model, ids, out, shard_rows):
    return [SONDE, "extract", model, "--ids", ids,
            "--sites", "blocks.*.hook_resid_post,blocks.1.attn.hook_pattern,logits", "--dtype", "f32", "--store", "f32",
            "--shard-rows", str(shard_rows), "--batch-tokens", "64", "--out", out]


def write_ids(path, rng):
    with open(path, "w") as f:
        for i in range(120):
            ids = [rng.randrange(tiny_model.CONFIG["vocab_size"]) for _ in range(rng.randrange(1, 40))]
            f.write(json.dumps({"id": f"d{i}", "ids": ids}) + "\n")


def kill_while_running(process, seconds):
    """True if the signal reached a running process."""
    time.sleep(seconds)
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return running


def main(tmp):
    seed = int(os.environ.get("SONDE_KILL_SEED", time.time_ns() % 2**32))
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    model = tiny_model.write(os.path.join(tmp, "model"))
    ids, whole, out = (os.path.join(tmp, name) for name in ("ids.jsonl", "whole", "killed"))
    write_ids(ids, rng)
    start = time.time()
    subprocess.run(command(model, ids, whole, 1000), check=True, stderr=subprocess.DEVNULL)
    seconds = time.time() - start

    kills = 0
    for trial in range(TRIALS):
        shutil.rmtree(out, ignore_errors=True)
        run = command(model, ids, out, rng.choice([7, 17, 37, 256]))
        for _ in range(rng.randrange(1, 4)):  # some runs are killed more than once
            process = subprocess.Popen(run, stderr=subprocess.DEVNULL)
            kills += kill_while_running(process, rng.uniform(0, 1.5 * seconds))
        resumed = subprocess.run(run, stderr=subprocess.PIPE, text=True)
        if resumed.returncode != 0:
            sys.exit(f"trial {trial}: resume failed: {resumed.stderr}")
        diff = subprocess.run([SONDE, "store", "diff", whole, out], stdout=subprocess.PIPE, text=True)
        if diff.returncode != 0:
            sys.exit(f"trial {trial}: stores differ:\n{diff.stdout}")
        subprocess.run([SONDE, "store", "verify", out], check=True, stdout=subprocess.DEVNULL)
    print(f"{TRIALS} trials, {kills} kills while running: every resumed store is identical")
    if kills == 0:
        sys.exit("no kill hit a running process: the test proved nothing")


with tempfile.TemporaryDirectory() as folder:
    main(folder)
