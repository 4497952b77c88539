#!/usr/bin/env python3
"""sonde extract from the outside: selectors, contexts, parts, threads, resume rules, bad input. usage: extract_test.py SONDE"""
import json
import os
import tempfile

import h5py
import numpy as np

import tiny_model
from sonde_cli import Store, run

LENGTHS = [5, 1, 40, 17, 33, 8]


class Bench:
    """A tiny model, documents of known lengths, and one store of everything."""

    def __init__(self, tmp):
        self.tmp = tmp
        self.model = tiny_model.write(os.path.join(tmp, "model"))
        rng = np.random.default_rng(3)
        self.ids = [rng.integers(0, tiny_model.CONFIG["vocab_size"], n).tolist() for n in LENGTHS]
        self.file = self.write("ids.jsonl", [{"id": f"doc-{i}", "ids": ids} for i, ids in enumerate(self.ids)])

    def write(self, name, rows):
        path = os.path.join(self.tmp, name)
        with open(path, "w") as f:
            f.writelines(json.dumps(row) + "\n" for row in rows)
        return path

    def extract(self, name, *options, ids=None, sites="blocks.*.hook_resid_post", code=0, env=None):
        out = os.path.join(self.tmp, name)
        result = run("extract", self.model, "--ids", ids or self.file, "--sites", sites, "--out", out, *options, code=code, env=env)
        return result if code else Store(out)


def rows_of(store):
    r = store.rows()
    return list(zip(r["document"].tolist(), r["position"].tolist(), r["token"].tolist()))


def every_token(b):
    return [(d, p, t) for d, ids in enumerate(b.ids) for p, t in enumerate(ids)]


def test_rows(b):
    store = b.extract("all")
    assert rows_of(store) == every_token(b)
    assert list(store.documents()) == [f"doc-{i}" for i in range(len(b.ids))]
    assert store.sites == [f"blocks.{l}.hook_resid_post" for l in range(3)]
    with h5py.File(os.path.join(b.tmp, "all", "index.h5")) as f:
        for site in store.sites:
            assert np.array_equal(f["/" + site][:], store.read(site))


def test_selectors(b):
    everything = Store(os.path.join(b.tmp, "all"))
    rows = rows_of(everything)
    expected = {
        "last": [r for r in rows if r[1] == LENGTHS[r[0]] - 1],
        "first": [r for r in rows if r[1] == 0],
        "-1": [r for r in rows if r[1] == LENGTHS[r[0]] - 1],
        "0,-1": [r for r in rows if r[1] in (0, LENGTHS[r[0]] - 1)],
        "every:8": [r for r in rows if r[1] % 8 == 0],
    }
    for selector, want in expected.items():
        store = b.extract("tokens_" + selector.replace(":", "_"), "--tokens", selector)
        assert rows_of(store) == want, selector
        picks = [rows.index(r) for r in want]
        for site in store.sites:  # fewer rows in the last layer's tail change no bit
            assert np.array_equal(store.read(site), everything.read(site)[picks]), (selector, site)
    result = b.extract("bad_list", "--tokens", "3", code=1)
    assert "doc-1" in result.stderr and "HINT" in result.stderr
    masks = b.write("masks.jsonl", [{"id": f"doc-{i}", "ids": ids, "m": [int(p % 3 == 1) for p in range(len(ids))]} for i, ids in enumerate(b.ids)])
    assert rows_of(b.extract("mask", "--tokens", "mask:m", ids=masks)) == [r for r in rows if r[1] % 3 == 1]
    assert rows_of(b.extract("skip", "--skip-first", 4)) == [r for r in rows if r[1] >= 4]


def test_contexts(b):
    rows = every_token(b)
    assert rows_of(b.extract("split", "--context", 16, "--overflow", "split")) == rows
    assert rows_of(b.extract("truncate", "--context", 16, "--overflow", "truncate")) == [r for r in rows if r[1] < 16]
    assert rows_of(b.extract("max", "--max-tokens", 20)) == rows[:20]
    assert rows_of(b.extract("split_last", "--context", 16, "--overflow", "split", "--tokens", "last")) == [r for r in rows if r[1] == LENGTHS[r[0]] - 1]
    result = b.extract("overflow", "--context", 16, code=1)
    assert "doc-2" in result.stderr and "40" in result.stderr and "HINT" in result.stderr
    # A piece of a split document is a sequence of its own.
    piece = b.write("piece.jsonl", [{"ids": b.ids[2][16:32]}])
    alone = b.extract("piece", ids=piece).read("blocks.2.hook_resid_post")
    split = Store(os.path.join(b.tmp, "split"))
    start = rows_of(split).index((2, 16, b.ids[2][16]))
    assert np.array_equal(split.read("blocks.2.hook_resid_post", start, start + 16), alone)


def test_same_bytes(b):
    sites = "blocks.*.hook_resid_post,blocks.1.attn.hook_pattern,logits"
    b.extract("one", "--shard-rows", 7, sites=sites, env={"OMP_NUM_THREADS": "1"})
    b.extract("three", "--shard-rows", 1000, sites=sites, env={"OMP_NUM_THREADS": "3"})
    assert "identical" in run("store", "diff", b.tmp + "/one", b.tmp + "/three").stdout
    for base in (0, 1):  # parts count from 0 or from 1
        parts = [f"part{base}{i}" for i in range(base, 3 + base)]
        for i, part in enumerate(parts):
            b.extract(part, "--part", f"{i + base}/3", "--batch-tokens", 30, sites=sites)
        b.extract("unparted", "--batch-tokens", 30, sites=sites)
        run("store", "merge", f"{b.tmp}/merged{base}", *[f"{b.tmp}/{part}" for part in parts])
        assert "identical" in run("store", "diff", f"{b.tmp}/merged{base}", b.tmp + "/unparted").stdout
    run("extract", b.model, "--ids", b.file, "--sites", sites, "--out", b.tmp + "/one")  # complete: nothing to do
    result = b.extract("one", "--tokens", "last", sites=sites, code=1)
    assert "tokens" in result.stderr and "HINT" in result.stderr


def test_many_parts(b):
    """More parts than batches: some parts are empty and still merge."""
    parts = [f"{b.tmp}/thin{i}" for i in range(9)]
    for i, part in enumerate(parts):
        run("extract", b.model, "--ids", b.file, "--sites", "blocks.*.hook_resid_post", "--part", f"{i}/9", "--out", part)
    run("store", "merge", b.tmp + "/thin", *parts)
    assert "identical" in run("store", "diff", b.tmp + "/thin", b.tmp + "/all").stdout


def test_edits(b):
    def edited(name, edits, sites="blocks.*.hook_resid_post"):
        path = os.path.join(b.tmp, name + ".json")
        with open(path, "w") as f:
            json.dump(edits, f)
        return b.extract(name, "--edits", path, sites=sites)

    plain = Store(os.path.join(b.tmp, "all"))
    rows = plain.rows()
    last = rows["position"] == np.array(LENGTHS)[rows["document"]] - 1
    direction = np.random.default_rng(5).standard_normal((1, tiny_model.CONFIG["hidden_size"])).astype(np.float32)
    tiny_model.write_safetensors(os.path.join(b.tmp, "direction.safetensors"), {"d": direction})
    value = {"file": "direction.safetensors", "tensor": "d"}
    site = "blocks.1.hook_resid_post"
    added = edited("add", [{"site": site, "op": "add", "tokens": "last", "coefficient": 4, "value": value}])
    want = plain.read(site)
    want[last] += 4 * direction[0]
    assert np.allclose(added.read(site), want, rtol=0, atol=1e-5)
    assert np.array_equal(added.read(site)[~last], plain.read(site)[~last])
    assert np.array_equal(added.read("blocks.0.hook_resid_post"), plain.read("blocks.0.hook_resid_post"))
    assert not np.array_equal(added.read("blocks.2.hook_resid_post")[last], plain.read("blocks.2.hook_resid_post")[last])
    assert (edited("zero", [{"site": site, "op": "zero"}]).read(site) == 0).all()
    assert np.array_equal(edited("scale", [{"site": site, "op": "scale", "value": -2}]).read(site), -2 * plain.read(site))
    assert (edited("replace", [{"site": site, "op": "replace", "tokens": "first", "value": 1.5}]).read(site)[rows["position"] == 0] == 1.5).all()
    projected = edited("project", [{"site": site, "op": "project_out", "value": value}]).read(site)
    unit = direction[0] / np.linalg.norm(direction)
    assert np.abs(projected @ unit).max() < 1e-5 * np.abs(plain.read(site) @ unit).max()
    with open(b.tmp + "/bad.json", "w") as f:
        json.dump([{"site": site, "op": "multiply"}], f)
    assert "'multiply'" in b.extract("bad_edit", "--edits", b.tmp + "/bad.json", code=1).stderr


def test_dry_run(b):
    result = run("extract", b.model, "--ids", b.file, "--sites", "logits", "--out", b.tmp + "/dry", "--dry-run")
    assert f"rows           {sum(LENGTHS)}" in result.stdout and not os.path.exists(b.tmp + "/dry")


def test_bad_input(b):
    empty = b.write("empty.jsonl", [{"ids": [1, 2]}, {"ids": []}])
    assert "--skip-empty" in b.extract("empty", ids=empty, code=1).stderr
    assert rows_of(b.extract("skip_empty", "--skip-empty", ids=empty)) == [(0, 0, 1), (0, 1, 2)]
    large = b.write("large.jsonl", [{"id": "x", "ids": [1, 300]}])
    assert "x" in b.extract("large", ids=large, code=1).stderr
    assert "matches no hook point" in b.extract("nosite", sites="blocks.*.hook_resid_poss", code=2).stderr
    assert "--frobnicate" in b.extract("option", "--frobnicate", code=2).stderr
    assert "3/2" in b.extract("part", "--part", "3/2", code=2).stderr
    run("extract", b.model, "--sites", "logits", "--out", b.tmp + "/x", code=2)
    run("extract", b.tmp + "/nowhere", "--ids", b.file, "--sites", "logits", "--out", b.tmp + "/x", code=1)
    unknown = tiny_model.write(os.path.join(b.tmp, "unknown"), attention_multiplier=0.5)
    result = run("extract", unknown, "--ids", b.file, "--sites", "logits", "--out", b.tmp + "/unknown_out", code=1)
    assert "attention_multiplier" in result.stderr and "--ignore-config-key" in result.stderr
    run("extract", unknown, "--ids", b.file, "--sites", "blocks.0.hook_resid_pre", "--ignore-config-key", "attention_multiplier", "--out", b.tmp + "/ignored")
    assert "attention_multiplier" in open(b.tmp + "/ignored/manifest.json").read()


with tempfile.TemporaryDirectory() as folder:
    bench = Bench(folder)
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test(bench)
            print("ok", name, flush=True)
