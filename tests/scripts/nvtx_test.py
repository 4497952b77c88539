#!/usr/bin/env python3
"""Ranges on a profiler's timeline: opened and closed, named like the hooks. usage: nvtx_test.py SONDE [LISTENER]"""
import json
import os
import re
import subprocess
import sys
import tempfile

import tiny_model

SONDE = sys.argv[1]
if len(sys.argv) < 3:
    print("skipped: this build has no NVTX headers")
    sys.exit(77)


def main(tmp):
    model = tiny_model.write(os.path.join(tmp, "model"))
    ids, ranges = os.path.join(tmp, "ids.jsonl"), os.path.join(tmp, "ranges.txt")
    with open(ids, "w") as f:
        f.write(json.dumps({"id": "a", "ids": [1, 2, 3, 4]}) + "\n")
    command = [SONDE, "extract", model, "--ids", ids, "--sites", "logits", "--dtype", "f32", "--device", "cpu", "--out"]
    subprocess.run(command + [os.path.join(tmp, "store")], check=True, capture_output=True,
                   env=dict(os.environ, NVTX_INJECTION64_PATH=sys.argv[2], SONDE_NVTX_RANGES=ranges))
    depth, names = 0, []
    for line in open(ranges).read().splitlines():
        depth += -1 if line == "end" else 1
        assert depth >= 0
        if line != "end":
            names.append(line)
    assert depth == 0
    hooks = subprocess.run([SONDE, "hooks", model], check=True, capture_output=True, text=True).stdout
    for name in set(names):
        assert re.sub(r"\.\d+\.", ".{l}.", name) in hooks, name
    for name in ("hook_resid_post", "hook_attn_out", "attn.hook_z", "ln2.hook_out", "hook_mlp_out"):
        assert names.count(f"blocks.0.{name}") == 1 and names.count(f"blocks.1.{name}") == 1, (name, names)
    assert names[0] == "blocks.0.hook_resid_post" and names[-1] == "logits", names
    os.remove(ranges)
    subprocess.run(command + [os.path.join(tmp, "quiet")], check=True, capture_output=True, env=dict(os.environ, SONDE_NVTX_RANGES=ranges))
    assert not os.path.exists(ranges)  # nobody listens
    print("ok", len(names), "ranges")


with tempfile.TemporaryDirectory() as folder:
    main(folder)
