#!/usr/bin/env python3
"""The disk of one rank is full (a library that is loaded before it says so): all ranks end within 30 s and name the rank,
and the same command goes on where there is room again.

usage: full_disk_test.py SONDE FULL_DISK_LIBRARY
"""
import json
import os
import random
import subprocess
import sys
import tempfile
import time

import tiny_model
from mpi_launch import environment, launch, need_mpi

SONDE, LIBRARY = sys.argv[1:3]


def run(command, **variables):
    start = time.time()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=environment(**variables), timeout=120)
    return done.returncode, done.stdout, time.time() - start


def main(tmp):
    need_mpi(SONDE)
    rng = random.Random(11)
    model, ids = tiny_model.write(os.path.join(tmp, "model")), os.path.join(tmp, "ids.jsonl")
    with open(ids, "w") as f:
        for i in range(600):
            f.write(json.dumps({"ids": [rng.randrange(300) for _ in range(rng.randrange(1, 40))]}) + "\n")

    def extract(out):
        return [SONDE, "extract", model, "--ids", ids, "--sites", "blocks.*.hook_resid_post,logits", "--dtype", "f32",
                "--batch-tokens", "64", "--shard-rows", "200", "--out", out]

    whole, out = os.path.join(tmp, "whole"), os.path.join(tmp, "out")
    code, text, _ = run(extract(whole))
    assert code == 0, text
    for ranks, victim in ((2, 1), (3, 0)):
        full = f'if [ "$OMPI_COMM_WORLD_RANK" = {victim} ]; then export LD_PRELOAD="{LIBRARY}"; fi; exec "$@"'
        code, text, seconds = run(launch(ranks, ["bash", "-c", full, "bash", *extract(out)]), SONDE_TEST_DISK_BYTES="400000")
        assert code not in (0, 75) and seconds < 30, f"exit code {code} after {seconds:.1f} s\n{text}"
        assert f"[rank {victim}] sonde: error:" in text and "No space left on device" in text, text
        code, text, _ = run(launch(ranks, extract(out)))
        assert code == 0 and "resuming:" in text, f"{code}\n{text}"
        code, text, _ = run([SONDE, "store", "diff", whole, out])
        assert code == 0, text
        code, text, _ = run([SONDE, "store", "verify", out])
        assert code == 0, text
        subprocess.run(["rm", "-r", out], check=True)
        print(f"rank {victim} of {ranks} without space: all ended after {seconds:.1f} s, resumed to the same store", flush=True)


with tempfile.TemporaryDirectory() as folder:
    main(folder)
