#!/usr/bin/env python3
"""tools/simulate_cluster.py against cases whose end can be worked out by hand.

usage: simulation_test.py SONDE SIMULATOR
"""
import json
import math
import os
import subprocess
import sys
import tempfile

SIMULATOR = sys.argv[2]
# One rank: 640 batches of 0.5 s, 1 MB each; 64 chunks of 10 batches. It loads for 4 s.
PROFILE = {"tokens": 640 * 2048, "rows": 640 * 2048, "batches": 640, "shard_rows": 10**9, "store_bytes": 640 * 10**6,
           "layers": 32, "d_model": 4096,
           "ranks": [{"rank": 0, "threads": 1, "wall_seconds": 325,
                      "seconds": {"other": 1, "load": 4, "gemm": 250, "attention": 30, "rows": 30, "capture": 10,
                                  "communication": 0, "io": 0, "idle": 0}}]}


def simulate(profile, *options):
    done = subprocess.run([sys.executable, SIMULATOR, "--profile", profile, "--json", "--ticket-seconds", "0", *options],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    return {r["ranks"]: r for r in json.loads(done.stdout)["results"]}


def near(found, expected, what, within=1e-6):
    assert abs(found - expected) <= within * max(1, abs(expected)), f"{what}: found {found}, expected {expected}"


with tempfile.TemporaryDirectory() as tmp:
    path = os.path.join(tmp, "one.json")
    with open(path, "w") as f:
        json.dump(PROFILE, f)
    fast = ["--disk", "1e12", "--filesystem", "1e13"]
    found = simulate(path, "--ranks", "1,2,3,64,128", *fast)
    for ranks, r in found.items():
        # 64 chunks of 5 s, dealt as ranks ask for them; the last one's write.
        rounds = 320 if ranks == 1 else math.ceil(64 / ranks) * 5
        near(r["work_seconds"], rounds, f"{ranks} ranks", 1e-4)
        near(r["seconds"], rounds + 4, f"{ranks} ranks with loading", 1e-4)
    # 640 MB through a file system of 1 MB/s: the disk is the limit, however many ranks.
    for ranks, r in simulate(path, "--ranks", "32,64", "--disk", "1e12", "--filesystem", "1e6").items():
        near(r["work_seconds"], 640 + 5, f"{ranks} ranks, a slow file system", 0.01)
    # One writer's own limit: each of 2 ranks writes 320 MB at 1 MB/s.
    near(simulate(path, "--ranks", "2", "--disk", "1e6", "--filesystem", "1e9")[2]["work_seconds"], 320 + 5, "a slow writer", 0.02)
    # Twice as many threads as cores: half the speed.
    near(simulate(path, "--ranks", "4", "--cores", "2", *fast)[4]["work_seconds"], 160, "ranks that take turns", 1e-4)
    # Tensor groups of 4: a quarter of the batch, and 65 all-reduces of 2048 x 4096 floats in 6 messages each.
    message = 2048 * 4096 * 4 / 4 / 1e9 + 1e-3
    expected = 64 / 2 * 10 * (0.5 / 4 + 65 * 6 * message)
    found = simulate(path, "--ranks", "8", "--tensor", "4", "--link-alpha", "1e-3", "--link-beta", "1e9", *fast)
    near(found[8]["work_seconds"], expected, "tensor groups", 1e-3)
    # All groups slow: twice the time. Some of them: in between, and the shared queue evens it out.
    near(simulate(path, "--ranks", "4", "--straggler-share", "1", *fast)[4]["work_seconds"], 160, "stragglers", 1e-4)
    some = simulate(path, "--ranks", "8", "--straggler-share", "0.25", "--seed", "3", *fast)[8]["work_seconds"]
    assert 40 < some < 60, some
    # Failures: never for free, the same for the same seed, and every token is there in the end.
    unlucky = ["--ranks", "16", "--ranks-per-node", "1", "--node-mtbf-hours", "0.05", "--restart-seconds", "30", *fast]
    a, b = simulate(path, *unlucky)[16], simulate(path, *unlucky)[16]
    assert a == b and a["failures"] > 0, a
    assert a["seconds"] > 24 + a["failures"] * 30 and a["lost_seconds"] > 0, a
    # Plans for each number of ranks: those of two ranks take a fifth longer for a batch. 64 chunks of 10 batches.
    plans = []
    for ranks, batch in ((1, 0.5), (2, 0.6)):
        plans.append(f"{ranks}={os.path.join(tmp, f'plan-{ranks}.json')}")
        with open(plans[-1].split("=")[1], "w") as f:
            json.dump({"model_bytes": 0, "layers": 32, "d_model": 4096, "work": {"tokens": 640, "rows": 640, "batches": 640},
                       "store": {"bytes": 640, "row_bytes": 640},
                       "best": {"data": ranks, "tensor": 1, "pipeline": 1,
                                "seconds": {"load": 4, "forward": 640 / ranks * batch, "capture": 0}}}, f)
    command = [sys.executable, SIMULATOR, "--plan", ",".join(plans), "--json", "--ticket-seconds", "0", *fast, "--ranks"]
    done = subprocess.run([*command, "1,2"], stdout=subprocess.PIPE, text=True, check=True)
    for r, expected in zip(json.loads(done.stdout)["results"], (320, 192)):
        near(r["work_seconds"], expected, f"the plan of {r['ranks']} ranks", 1e-4)
    done = subprocess.run([*command, "1,2,3"], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "expected one for 3" in done.stderr, done.stderr
    # A plan's JSON goes in, too, and a profile of several ranks does not.
    with open(path, "w") as f:
        json.dump(PROFILE | {"ranks": PROFILE["ranks"] * 2}, f)
    done = subprocess.run([sys.executable, SIMULATOR, "--profile", path], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "expected the profile of one" in done.stderr, done.stderr
print("by hand: chunks, disk, threads, collectives, stragglers, failures")
