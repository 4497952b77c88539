#!/usr/bin/env python3
"""`sonde probe` on several ranks equals one rank to 1e-6, for every kind of probe and split.

usage: ranks_probe_test.py SONDE
"""
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

import tiny_model
from mpi_launch import environment, launch, need_mpi

SONDE = sys.argv[1]
TEXT = {"model", "dataset", "variant", "label", "site", "kind", "split", "converged", "classes", "standardise"}


def run(command, expected=0, ranks=None):
    done = subprocess.run(command if ranks is None else launch(ranks, command), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, env=environment(), timeout=300)
    assert done.returncode == expected, f"{' '.join(command)} on {ranks} ranks: {done.returncode}\n{done.stdout}"
    return done.stdout


def rows(folder):
    with open(os.path.join(folder, "probes.csv")) as f:
        return list(csv.DictReader(f))


def number(text):
    try:
        return float(text)
    except ValueError:
        return None


def compare(one, many, what):
    a, b = rows(one), rows(many)
    assert len(a) == len(b) > 0, what
    for x, y in zip(a, b):
        for key in x:
            if key in ("iterations", "gradient_max", "gradient"):  # how close to the minimum, not where it is
                continue
            u, v = number(x[key]), number(y[key])
            if u is None or v is None:
                assert x[key] == y[key], f"{what}: {x['site']}: {key}: {x[key]!r} and {y[key]!r}"
            else:
                assert abs(u - v) <= 1e-6 * max(1, abs(u)), f"{what}: {x['site']}: {key}: {u} and {v}"


def main(tmp):
    need_mpi(SONDE)
    rng = random.Random(5)
    model = tiny_model.write(os.path.join(tmp, "model"))
    ids, labels, store = (os.path.join(tmp, name) for name in ("ids.jsonl", "labels.csv", "store"))
    with open(ids, "w") as f, open(labels, "w") as table:
        table.write("label,third,size\n")
        for i in range(160):
            tokens = [rng.randrange(tiny_model.CONFIG["vocab_size"]) for _ in range(rng.randrange(2, 12))]
            f.write(json.dumps({"id": f"d{i}", "ids": tokens}) + "\n")
            table.write(f"{'yes' if tokens[-1] > 150 else 'no'},{'abc'[tokens[-1] % 3]},{tokens[-1] / 100}\n")
    run([SONDE, "extract", model, "--ids", ids, "--sites", "blocks.*.hook_resid_post", "--tokens", "last", "--dtype", "f32",
         "--out", store])
    cases = {
        "logistic": ["--column", "label", "--column", "third", "--controls", "shuffled,random"],
        "folds": ["--column", "label", "--folds", "3"],
        "raw": ["--column", "third", "--standardise", "no"],
        "ridge": ["--column", "label", "--kind", "ridge"],
        "lda": ["--column", "third", "--kind", "lda", "--shrinkage", "0.1"],
        "mean-difference": ["--column", "label", "--kind", "mean-difference"],
        "ridge-regression": ["--column", "size", "--kind", "ridge-regression"],
    }
    for name, options in cases.items():
        command = [SONDE, "probe", store, "--labels", labels, "--bootstrap", "100", *options, "--out"]
        one = os.path.join(tmp, "one")
        run(command + [one])
        for ranks in (2, 3):
            many = os.path.join(tmp, f"many{ranks}")
            run(command + [many], ranks=ranks)
            compare(one, many, f"{name} on {ranks} ranks")
            shutil.rmtree(many)
        shutil.rmtree(one)
        print(f"{name}: 2 and 3 ranks equal 1", flush=True)
    # More ranks than some have rows: a store of one short document list.
    with open(ids, "w") as f, open(labels, "w") as table:
        table.write("label,split\n")
        for i in range(4):
            f.write(json.dumps({"ids": [10 * i + 1, 5]}) + "\n")
            table.write(f"{i % 2},{'train' if i < 2 else 'test'}\n")
    small = os.path.join(tmp, "small")
    run([SONDE, "extract", model, "--ids", ids, "--sites", "hook_embed,blocks.2.hook_resid_post", "--tokens", "last", "--dtype",
         "f32", "--out", small])
    command = [SONDE, "probe", small, "--labels", labels, "--split-column", "split", "--kind", "ridge", "--bootstrap", "0",
               "--out"]
    run(command + [os.path.join(tmp, "a")])
    run(command + [os.path.join(tmp, "b")], ranks=4)
    compare(os.path.join(tmp, "a"), os.path.join(tmp, "b"), "4 rows on 4 ranks")
    text = run([SONDE, "probe", "apply", os.path.join(tmp, "a"), small, "--out", os.path.join(tmp, "s.csv")], 2, ranks=2)
    assert "expected one" in text, text
    # A mistake: one line, from one rank.
    text = run([SONDE, "probe", store, "--labels", labels, "--out", os.path.join(tmp, "c")], 1, ranks=2)
    assert "row i of the labels is document i" in text, text
    print("fewer train rows than ranks, mistakes: as they should")


with tempfile.TemporaryDirectory() as folder:
    main(folder)
