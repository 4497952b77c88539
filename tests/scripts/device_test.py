#!/usr/bin/env python3
"""Every subcommand that runs a model, on the emulated GPU or a real one beside the CPU; words that name no device.

usage: device_test.py SONDE [DEVICE]   (emulated; cuda is skipped where there is no GPU)
"""
import csv
import json
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np

import tiny_model
from tiny_tokenizer import tokenizer_json

SONDE = sys.argv[1]
DEVICE = sys.argv[2] if len(sys.argv) > 2 else "emulated"
SITES = "hook_embed,blocks.*.hook_resid_post,blocks.*.attn.*,logits"


def run(*arguments, device=None, code=0, emulation=""):
    env = {k: v for k, v in os.environ.items() if k != "SONDE_DEVICE"}
    if device:
        env["SONDE_DEVICE"] = device
    if emulation:
        env["SONDE_EMULATION"] = emulation
    result = subprocess.run([SONDE, *map(str, arguments)], capture_output=True, text=True, env=env)
    if result.returncode != code:
        sys.exit(f"SONDE_DEVICE={device} sonde {' '.join(map(str, arguments))}\nexit code {result.returncode}, "
                 f"expected {code}\n{result.stdout}{result.stderr}")
    return result


def datasets(store):
    with h5py.File(os.path.join(store, "index.h5")) as f:
        found = {}
        f.visititems(lambda name, item: found.__setitem__(name, item[()]) if isinstance(item, h5py.Dataset) else None)
        return found


def close(a, b, limit, what):
    finite = np.isfinite(a)
    assert (finite == np.isfinite(b)).all(), what
    a, b = a[finite].astype(float), b[finite].astype(float)
    error = np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-30)
    assert error <= limit, f"{what}: off by {error:.3g}, limit {limit}"


def lines(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def numbers(path):
    """Rows of a CSV; what can be a number is one."""
    with open(path) as f:
        return [{k: float(v) if v.replace(".", "").replace("-", "").replace("e", "").isdigit() else v
                 for k, v in row.items()} for row in csv.DictReader(f)]


def main(tmp):
    model = tiny_model.write(os.path.join(tmp, "model"))
    rng = np.random.default_rng(2)
    documents = [rng.integers(0, 300, n).tolist() for n in (7, 1, 40, 19) + (5,) * 36]
    ids = os.path.join(tmp, "ids.jsonl")
    with open(ids, "w") as f:
        f.writelines(json.dumps({"id": str(i), "ids": d}) + "\n" for i, d in enumerate(documents))
    labels = os.path.join(tmp, "labels.csv")
    with open(labels, "w") as f:
        f.write("id,label,split\n")
        f.writelines(f"{i},{i % 2},{'test' if i % 4 > 1 else 'train'}\n" for i in range(len(documents)))
    edits = os.path.join(tmp, "edits.json")
    with open(edits, "w") as f:
        json.dump([{"site": "blocks.1.hook_resid_post", "op": "add", "tokens": "last", "value": 0.5},
                   {"site": "blocks.0.attn.hook_z", "op": "zero", "heads": [1], "tokens": "all"}], f)

    with open(os.path.join(model, "tokenizer.json"), "w") as f:
        json.dump(tokenizer_json(), f)
    texts = os.path.join(tmp, "texts.csv")
    with open(texts, "w") as f:
        f.write("text,label,split\n")
        words = ["the", "cat", "sees", "a", "dog", "there"]
        f.writelines(f"{' '.join(rng.permutation(words)[:4])} {'yes' if i % 2 else 'no'},{i % 2},{'test' if i % 4 > 1 else 'train'}\n" for i in range(40))

    out = {}
    for device in ("cpu", DEVICE):
        out[device] = folder = os.path.join(tmp, device)
        os.mkdir(folder)
        at = lambda name: os.path.join(folder, name)  # noqa: E731
        run("extract", model, "--ids", ids, "--sites", SITES, "--dtype", "f32", "--edits", edits, "--out", at("store"), device=device)
        run("generate", model, "--prompts", ids, "--max-new", 5, "--greedy", "--dtype", "f32", "--out", at("generated.jsonl"), device=device)
        run("generate", model, "--prompts", ids, "--max-new", 8, "--temperature", 1.3, "--top-p", 0.9, "--repetition-penalty", 1.2, "--seed", 7,
            "--dtype", "f32", "--out", at("sampled.jsonl"), device=device)
        run("score", model, "--ids", ids, "--dtype", "f32", "--out", at("scores.jsonl"), device=device)
        run("probe", at("store"), "--sites", "blocks.*.hook_resid_post", "--labels", labels, "--column", "label", "--split-column", "split", "--out", at("probe"), device=device)
        run("depth", model, "--data", texts, "--site", "blocks.*.hook_resid_post", "--split-column", "split", "--standardise", "no", "--bootstrap", 0, "--dtype", "f32", "--out", at("depth"), device=device)
        run("bench", model, "--tokens", 16, "--documents", 1, "--repeats", 1, device=device)

    cpu, emulated = datasets(os.path.join(out["cpu"], "store")), datasets(os.path.join(out[DEVICE], "store"))
    assert cpu.keys() == emulated.keys() and len(cpu) > 30
    for name, expected in cpu.items():
        if expected.dtype.kind == "f" and not name.startswith("statistics"):
            close(expected, emulated[name], 5e-6, name)
    manifest = json.load(open(os.path.join(out[DEVICE], "store", "manifest.json")))
    assert f"{DEVICE}-f32" in json.dumps(manifest)

    for name in ("generated.jsonl", "sampled.jsonl"):
        generated = [lines(os.path.join(out[d], name)) for d in out]
        assert [g["ids"] for g in generated[0]] == [g["ids"] for g in generated[1]], name

    # Half is for devices; 11 bits of it are beside f32 what rounding leaves.
    half = os.path.join(tmp, "half")
    run("extract", model, "--ids", ids, "--sites", SITES, "--dtype", "f16", "--edits", edits, "--out", half, device=DEVICE)
    found = datasets(half)
    for name in cpu:
        if cpu[name].dtype.kind == "f" and not name.startswith("statistics"):
            close(cpu[name], found[name], 5e-3, f"f16 {name}")
    refused = run("extract", model, "--ids", ids, "--sites", SITES, "--dtype", "f16", "--out", half + "2", device="cpu", code=1)
    assert "--dtype f16" in refused.stderr and "HINT" in refused.stderr, refused.stderr
    # fp8: so do 4 bits of it; a store of another type is not resumed.
    rounded = os.path.join(tmp, "fp8")
    fp8 = ("extract", model, "--ids", ids, "--sites", SITES, "--edits", edits, "--out", rounded, "--dtype")
    run(*fp8, "fp8", device=DEVICE)
    found = datasets(rounded)
    for name in cpu:
        if cpu[name].dtype.kind == "f" and not name.startswith("statistics"):
            close(cpu[name], found[name], 0.2, f"fp8 {name}")
    manifest = json.load(open(os.path.join(rounded, "manifest.json")))
    assert f"{DEVICE}-e4m3" in json.dumps(manifest) and '"fp8"' in json.dumps(manifest)
    assert "dtype" in run(*fp8, "bf16", device=DEVICE, code=1).stderr
    for device, emulation, word in (("cpu", "", "f32 and bf16"), ("emulated", "compute=80", "8.0, expected at least 8.9")):
        refused = run("extract", model, "--ids", ids, "--sites", SITES, "--dtype", "fp8", "--out", rounded + "2", device=device,
                      emulation=emulation, code=1).stderr
        assert "--dtype fp8" in refused and word in refused and "HINT" in refused and refused.count("\n") == 1, refused
    run("extract", model, "--ids", ids, "--sites", SITES, "--dtype", "fp8", "--weights-in-memory", "quantised", "--out", rounded + "2",
        device="emulated", code=2)
    for a, b in zip(*(lines(os.path.join(out[d], "scores.jsonl")) for d in out)):
        for key, value in a.items():
            if isinstance(value, float):
                assert abs(value - b[key]) <= 1e-5 * max(1, abs(value)), (key, value, b[key])
    for a, b in zip(*(numbers(os.path.join(out[d], "probe", "probes.csv")) for d in out)):
        assert abs(a["objective"] - b["objective"]) <= 1e-4 * a["objective"], (a, b)
    # Of the same features a probe is the same on both.
    for kind in ("logistic", "lda", "ridge", "mean-difference"):
        rows = []
        for device in out:
            folder = os.path.join(tmp, f"{kind}-{device}")
            run("probe", os.path.join(out["cpu"], "store"), "--sites", "blocks.*.hook_resid_post", "--labels", labels, "--split-column", "split",
                "--kind", kind, "--shrinkage", 0.2, "--controls", "random", "--out", folder, "--device", device)
            rows.append(numbers(os.path.join(folder, "probes.csv")))
        for a, b in zip(*rows, strict=True):
            for key, value in a.items():
                if isinstance(value, float) and key not in ("gradient_max", "iterations"):
                    assert abs(value - b[key]) <= 1e-6 * max(1, abs(value)), (kind, key, value, b[key])

    curves = [numbers(os.path.join(out[d], "depth", "depth.csv")) for d in out]
    assert len(curves[0]) == 3 and len(curves[0]) == len(curves[1]), curves
    for a, b in zip(*curves):
        assert abs(a["objective"] - b["objective"]) <= 1e-4 * a["objective"] and abs(a["auc"] - b["auc"]) <= 2e-3, (a, b)

    # Less memory than the weights take: some stay on the host, and no bit changes. Less still is refused at the start.
    large = tiny_model.write(os.path.join(tmp, "large"), hidden_size=256, intermediate_size=1024, num_hidden_layers=6, head_dim=32)
    for dtype, memory in (("f32", 70), ("bf16", 60), ("fp8", 54)):
        stores = [os.path.join(tmp, f"large-{dtype}-{m}") for m in (1000, memory)]
        for store, m in zip(stores, (1000, memory)):
            said = run("extract", large, "--ids", ids, "--sites", "blocks.*.hook_resid_post", "--dtype", dtype, "--out", store, device="emulated",
                       emulation=f"memory={m}000000").stderr
            assert ("stay on the host" in said) == (m == memory), said
        run("store", "diff", *stores)
    said = run("extract", large, "--ids", ids, "--sites", "logits", "--dtype", "f32", "--out", os.path.join(tmp, "none"), device="emulated",
               emulation="memory=58000000", code=1).stderr
    assert all(word in said for word in ("needs", "has", "--batch-tokens")) and said.count("\n") == 1, said

    # The option goes before the environment; what names no device is refused in a line.
    run("generate", model, "--prompts", ids, "--max-new", 1, "--greedy", "--device", "cpu", "--out", os.path.join(tmp, "o.jsonl"), device="nonsense")
    for word, code in (("gpu", 2), ("cuda:x", 2), ("cuda:99", 1)):
        result = run("extract", model, "--ids", ids, "--sites", "logits", "--out", os.path.join(tmp, "none"), device=word, code=code)
        assert "--device" in result.stderr and result.stderr.count("\n") == 1, result.stderr
    devices = json.loads(run("devices", "--json").stdout)
    assert devices["gpus"] or devices["no_gpu"], devices
    print("ok")


if DEVICE == "cuda" and not json.loads(run("devices", "--json").stdout)["gpus"]:
    print("skipped: no GPU here")
    sys.exit(77)
with tempfile.TemporaryDirectory() as folder:
    main(folder)
