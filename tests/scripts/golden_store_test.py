#!/usr/bin/env python3
"""Every hook point of the golden models through `sonde extract` into a store, read back by h5py alone and by
sonde_store.py, against the float64 activations. usage: golden_store_test.py SONDE

Packed into one batch and one by one, f32 and bf16, Hugging Face folders and GGUF. Without SONDE_LONG=1 the families
beside Llama run packed in f32 only.
"""
import json
import os
import re
import struct
import subprocess
import sys
import tempfile

import h5py
import numpy as np

SONDE = sys.argv[1]
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "io", "python"))
from sonde_store import Store  # noqa: E402

SHARED = os.environ.get("SONDE_SHARED", os.path.join(HERE, "..", "..", "..", "shared"))
GOLDEN = os.path.join(SHARED, "golden", "models")
RUNS = [("packed-f32", "f32", ["--batch-tokens", "2048", "--shard-rows", "1000"]),
        ("alone-f32", "f32", ["--batch-tokens", "1", "--shard-rows", "23"]),
        ("packed-bf16", "bf16", ["--batch-tokens", "2048"])]


def read_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    types = {"F32": np.float32, "I64": np.int64}
    return {name: np.frombuffer(data[slice(*t["data_offsets"])], types[t["dtype"]]).reshape(t["shape"])
            for name, t in header.items() if name != "__metadata__"}


def models():
    """(name, what sonde opens, golden folder): the folders, and their .gguf files."""
    for name in sorted(os.listdir(GOLDEN)):
        folder = os.path.join(GOLDEN, name)
        if os.path.isdir(folder):
            yield name, folder, folder
            if os.path.exists(os.path.join(folder, "model.gguf")):
                yield name + " (gguf)", os.path.join(folder, "model.gguf"), folder


def expected_rows(golden, hook, longest):
    """The golden sequences below each other, as a store has them: scores [token, head, key], keys padded."""
    out = []
    for i in range(len([key for key in golden if key.endswith("/input_ids")])):
        values = golden[f"seq{i}/{hook}"]
        if hook.endswith(("hook_attn_scores", "hook_pattern")):
            fill = -np.inf if hook.endswith("scores") else 0
            values = np.pad(values.transpose(1, 0, 2), ((0, 0), (0, 0), (0, longest - values.shape[2])), constant_values=fill)
        out.append(values)
    return np.concatenate(out)


def error(found, expected):
    """Relative Frobenius over finite entries; the infinite ones must be the same."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    finite = np.isfinite(expected)
    assert np.array_equal(found[~finite], expected[~finite])
    truth = expected[finite].astype(np.float64)
    return np.linalg.norm(found[finite] - truth) / np.linalg.norm(truth)


def check(model, folder, tmp):
    golden = read_safetensors(os.path.join(folder, "golden.safetensors"))
    with open(os.path.join(folder, "golden.json")) as f:
        tolerance = json.load(f)["tolerance"]
    sequences = [golden[f"seq{i}/input_ids"] for i in range(3) if f"seq{i}/input_ids" in golden]
    hooks = [key[5:] for key in golden if key.startswith("seq0/") and key[5:] not in ("input_ids", "greedy")]
    ids = os.path.join(tmp, "ids.jsonl")
    with open(ids, "w") as f:
        f.writelines(json.dumps({"ids": s.tolist()}) + "\n" for s in sequences)
    worst = {}
    every = "llama" in os.path.basename(folder) or os.environ.get("SONDE_LONG")
    for name, dtype, options in RUNS if every else RUNS[:1]:
        out = os.path.join(tmp, name)
        subprocess.run([SONDE, "extract", model, "--ids", ids, "--sites", ",".join(hooks), "--tokens", "all", "--dtype", dtype,
                        "--store", "f32", "--out", out, *options], check=True, capture_output=True)
        store = Store(out)
        assert sorted(store.sites) == sorted(hooks)
        assert np.array_equal(store.rows()["token"], np.concatenate(sequences))
        with h5py.File(os.path.join(out, "index.h5"), "r") as index:
            for hook in hooks:
                plain = index["/" + hook][...]
                found = store.read(hook)
                assert plain.tobytes() == found.tobytes(), f"{hook}: h5py alone and sonde_store.py differ"
                off = error(found, expected_rows(golden, hook, max(map(len, sequences))))
                limit = tolerance["f32"] if dtype == "f32" else tolerance["bf16"][re.sub(r"^blocks\.\d+\.", "", hook)]
                assert off <= limit, f"{model} {name} {hook}: error {off:.3g}, limit {limit}"
                worst[dtype] = max(worst.get(dtype, 0), off)
    print(f"{len(hooks)} hook points, worst error", ", ".join(f"{dtype} {off:.2g}" for dtype, off in worst.items()), flush=True)


if not os.path.isdir(GOLDEN):
    print(f"skipped: needs {GOLDEN}")
    sys.exit(77)
for name, model, folder in models():
    print(f"{name}: ", end="")
    with tempfile.TemporaryDirectory() as folder_of_stores:
        check(model, folder, folder_of_stores)
