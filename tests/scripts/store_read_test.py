#!/usr/bin/env python3
"""Stores read back by h5py alone, by sonde_store.py, and by `sonde store`. usage: store_read_test.py SONDE"""
import json
import os
import shutil
import tempfile

import h5py
import numpy as np

import tiny_model
from sonde_cli import Store, StoreError, run

SITES = "hook_embed,blocks.*.hook_resid_post,blocks.1.attn.*,blocks.0.ln1.hook_scale,logits"
LENGTHS = [5, 1, 40, 17, 33, 8]


def extract(model, ids, out, store, *more):
    run("extract", model, "--ids", ids, "--sites", SITES, "--tokens", "all", "--dtype", "f32", "--store", store, "--out", out, *more)
    return out


def to_bf16(x):
    """float32 -> bfloat16 -> float32, to nearest even."""
    bits = x.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32)
    return np.where(np.isfinite(x), rounded.view(np.float32), x)


def same(a, b, what):
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    assert a.dtype == b.dtype and a.shape == b.shape, f"{what}: {a.dtype} {a.shape} and {b.dtype} {b.shape}"
    assert a.tobytes() == b.tobytes(), f"{what} differs"


def check_readers_agree(path, cast, exact):
    """index.h5 through h5py alone = sonde_store.py = the cast of the f32 store."""
    store = Store(path)
    with h5py.File(os.path.join(path, "index.h5"), "r") as index:
        assert index.attrs["dtype"].decode() == store.manifest["dtype"], index.attrs["dtype"]
        for name, values in store.rows().items():
            same(index[name][...], values, name)
        for site in store.sites:
            values = store.read(site)
            same(index["/" + site][...].astype(np.float32), values, f"{path} {site} by h5py")
            same(cast(exact.read(site)), values, f"{path} {site} against f32")
            same(store.read(site, 3, 60), values[3:60], f"{path} {site} [3, 60)")
            assert index[site].attrs["site"].decode() == site and len(index[site].attrs["meaning"]) > 5


def check_contents(store, ids):
    rows = store.rows()
    assert store.documents() == [f"doc-{i}" for i in range(len(ids))]
    same(rows["document"], np.repeat(np.arange(len(ids)), LENGTHS), "document")
    same(rows["position"], np.concatenate([np.arange(n, dtype=np.int32) for n in LENGTHS]), "position")
    same(rows["token"], np.concatenate(ids).astype(np.int32), "token")
    assert len(store) == sum(LENGTHS)
    for site in store.sites:
        values = store.read(site).astype(np.float64)
        if site.endswith(("hook_attn_scores", "hook_pattern")):
            values = values[np.isfinite(values)].reshape(-1, 1)
        values = values.reshape(len(values), -1)
        found = store.statistics(site)
        assert found["count"] == len(values), site
        np.testing.assert_allclose(found["mean"], values.mean(0), atol=1e-13 * np.abs(values).max())
        np.testing.assert_allclose(found["mean_square"], (values**2).mean(0), rtol=1e-12)
        same(found["max_abs"], np.abs(values).max(0), f"max_abs of {site}")


def expect_error(action, text):
    try:
        action()
    except StoreError as error:
        assert text in str(error), f"{error} does not say {text!r}"
        return
    raise AssertionError(f"expected an error about {text!r}")


def check_damage(path, tmp):
    def damaged(name):
        copy = os.path.join(tmp, name)
        shutil.copytree(path, copy)
        return copy

    missing = damaged("missing")
    os.remove(os.path.join(missing, "shards", "shard-000001.h5"))
    expect_error(lambda: Store(missing), "is missing")
    assert "shard-000001.h5" in run("store", "info", missing, code=1).stderr
    short = damaged("short")
    os.truncate(os.path.join(short, "shards", "shard-000000.h5"), 3000)
    expect_error(lambda: Store(short), "has 3000 bytes")
    run("store", "verify", short, code=1)
    unfinished = damaged("unfinished")
    with open(os.path.join(unfinished, "manifest.json"), "r+") as f:
        manifest = json.load(f) | {"complete": False}
        f.seek(0), f.truncate(), json.dump(manifest, f)
    expect_error(lambda: Store(unfinished), "not complete")
    assert "not complete" in run("store", "info", unfinished).stdout
    expect_error(lambda: Store(tmp), "manifest.json")


def check_commands(path, other, tmp):
    assert "complete" in run("store", "info", path).stdout
    assert json.loads(run("store", "info", path, "--json").stdout)["committed_rows"] == sum(LENGTHS)
    assert "agree with their checksums" in run("store", "verify", path).stdout
    assert "identical" in run("store", "diff", path, path).stdout
    assert "dtype" in run("store", "diff", path, other, code=1).stdout
    for wrong in (["info"], ["diff", path], ["merge", path], ["open", path], ["verify", path, "--json"], []):
        run("store", *wrong, code=2)


def main():
    with tempfile.TemporaryDirectory() as tmp:
        model = tiny_model.write(os.path.join(tmp, "model"))
        rng = np.random.default_rng(3)
        ids = [rng.integers(0, tiny_model.CONFIG["vocab_size"], n).tolist() for n in LENGTHS]
        ids_file = os.path.join(tmp, "ids.jsonl")
        with open(ids_file, "w") as f:
            f.writelines(json.dumps({"id": f"doc-{i}", "ids": row}) + "\n" for i, row in enumerate(ids))
        f32 = extract(model, ids_file, os.path.join(tmp, "f32"), "f32", "--shard-rows", 50)
        bf16 = extract(model, ids_file, os.path.join(tmp, "bf16"), "bf16", "--shard-rows", 7)
        f16 = extract(model, ids_file, os.path.join(tmp, "f16"), "f16")
        exact = Store(f32)
        check_contents(exact, ids)
        check_readers_agree(f32, lambda x: x, exact)
        check_readers_agree(bf16, to_bf16, exact)
        check_readers_agree(f16, lambda x: x.astype(np.float16).astype(np.float32), exact)
        check_commands(f32, bf16, tmp)
        check_damage(f32, tmp)
        parts = [extract(model, ids_file, os.path.join(tmp, f"part-{i}"), "f32", "--part", f"{i}/3") for i in (1, 2, 3)]
        merged = os.path.join(tmp, "merged")
        run("store", "merge", merged, *parts)
        run("store", "diff", f32, merged)
        run("store", "verify", merged)
    print("ok")


main()
