#!/usr/bin/env python3
"""--edits from the outside: every op, patching through stores, heads and keys, folded weights, mistakes. usage: edits_test.py SONDE"""
import json
import os
import tempfile
import time

import numpy as np

import tiny_model
from sonde_cli import LONG, Store, run, write_lines

D, H, K, E, F, V, L = 48, 6, 2, 8, 112, 300, 3
LENGTHS = [7, 1, 20]


class Bench:
    def __init__(self, tmp):
        self.tmp, self.n = tmp, 0
        self.model = tiny_model.write_with_tokenizer(os.path.join(tmp, "model"))
        rng = np.random.default_rng(3)
        self.ids = [rng.integers(0, V, n).tolist() for n in LENGTHS]
        self.file = write_lines(os.path.join(tmp, "ids.jsonl"), [{"id": f"doc-{i}", "ids": ids} for i, ids in enumerate(self.ids)])
        self.plain = self.extract()
        rows = self.plain.rows()
        self.document, self.position = rows["document"], rows["position"]
        self.last = self.position == np.array(LENGTHS)[self.document] - 1

    def edits(self, entries):
        path = os.path.join(self.tmp, "edits.json")
        with open(path, "w") as f:
            json.dump(entries, f)
        return path

    def extract(self, *entries, sites=None, model=None, ids=None, code=0, tokens="all"):
        self.n += 1
        out = os.path.join(self.tmp, f"store{self.n}")
        if sites is None:
            hooks = run("hooks", model or self.model, "--json").stdout
            sites = ",".join(every_site(json.loads(hooks)))
        options = ["--edits", self.edits(list(entries))] if entries else []
        result = run("extract", model or self.model, "--ids", ids or self.file, "--sites", sites, "--tokens", tokens, "--dtype", "f32", "--out", out, *options, code=code)
        return result if code else Store(out)

    def tensors(self, **arrays):
        tiny_model.write_safetensors(os.path.join(self.tmp, "values.safetensors"), {k: np.asarray(v, np.float32) for k, v in arrays.items()})
        return {k: {"file": "values.safetensors", "tensor": k} for k in arrays}


def every_site(hooks):
    for name in [hook["name"] for hook in hooks]:
        if not name.endswith(("hook_attn_scores", "hook_pattern")):  # a run that looks at them attends in steps
            yield name.replace("{l}", "*")


def close(a, b, limit=5e-6):
    finite = np.isfinite(b)
    return np.array_equal(a[~finite], b[~finite]) and np.linalg.norm((a - b)[finite]) <= limit * np.linalg.norm(b[finite])


def test_ops(b):
    """Each op at a point of every shape, in numpy beside it."""
    rng = np.random.default_rng(1)
    for site, width in (("blocks.1.hook_resid_post", D), ("blocks.0.mlp.hook_post", F), ("blocks.2.attn.hook_k", K * E), ("blocks.1.ln2.hook_out", D), ("logits", V)):
        v = b.tensors(row=rng.standard_normal(width), rows=rng.standard_normal((5, width)), basis=rng.standard_normal((3, width)))

        with open(b.tmp + "/values.safetensors", "rb") as f:
            size = int.from_bytes(f.read(8), "little")
            header, data = json.loads(f.read(size)), f.read()
        value = {k: np.frombuffer(data[slice(*t["data_offsets"])], np.float32).reshape(t["shape"]) for k, t in header.items()}
        plain = b.plain.read(site).reshape(-1, width)
        q = np.linalg.qr(value["basis"].T.astype(np.float64))[0]
        for turn, (entry, want) in enumerate((
            ({"op": "zero"}, 0 * plain),
            ({"op": "scale", "value": -2}, -2 * plain),
            ({"op": "replace", "value": 1.5}, 0 * plain + 1.5),
            ({"op": "replace", "value": v["row"]}, 0 * plain + value["row"]),
            ({"op": "add", "value": 2, "coefficient": 0.5}, plain + 1),
            ({"op": "add", "value": v["row"], "coefficient": -3}, plain - 3 * value["row"]),
            ({"op": "mean_ablate", "value": v["rows"]}, 0 * plain + value["rows"].mean(0)),
            ({"op": "project_out", "value": v["basis"]}, plain - plain @ q @ q.T),
            ({"op": "clamp", "value": 0.1}, np.clip(plain, -0.1, 0.1)),
            ({"op": "clamp", "min": -0.2, "max": 0.3}, np.clip(plain, -0.2, 0.3)),
        )):
            selectors = (("all", b.position >= 0), ("last", b.last), ([0, -1], b.last | (b.position == 0)), ("every:3", b.position % 3 == 0))
            for tokens, chosen in selectors if LONG else [selectors[(turn + width) % 4]]:
                found = b.extract({"site": site, "tokens": tokens, **entry}, sites=site).read(site).reshape(-1, width)
                assert close(found, np.where(chosen[:, None], want, plain)), (site, entry, tokens)
                assert np.array_equal(found[~chosen], plain[~chosen]), (site, entry, tokens, np.abs(found - plain)[~chosen].max())


def test_patching(b):
    """Rows of another run's store: its own change nothing; those of another prompt carry its answer over."""
    site = "blocks.1.hook_resid_post"
    own = b.extract({"site": site, "op": "replace", "value": {"store": b.plain.path}})
    for name in own.sites:
        assert np.array_equal(own.read(name), b.plain.read(name)), name
    other = write_lines(b.tmp + "/other.jsonl", [{"ids": ids[::-1]} for ids in b.ids])
    source = b.extract(sites=site + ",logits", ids=other)
    whole = b.extract({"site": site, "op": "replace", "value": {"store": source.path}}, sites="logits")
    assert np.array_equal(whole.read("logits"), source.read("logits"))  # all later layers saw the other prompt
    last = b.extract(sites=site, ids=other, tokens="last")
    one = b.extract({"site": site, "op": "replace", "tokens": "last", "value": {"store": last.path}}, sites=site)
    want = b.plain.read(site)
    want[b.last] = last.read(site)
    assert np.array_equal(one.read(site), want)
    # Along one direction only: the difference of two runs, added.
    moved = b.extract({"site": site, "op": "add", "value": {"store": source.path}, "coefficient": 0.5}, sites=site)
    assert close(moved.read(site), b.plain.read(site) + 0.5 * source.read(site))
    mean = b.extract({"site": site, "op": "mean_ablate", "value": {"store": b.plain.path}}, sites=site).read(site)
    assert close(mean, np.broadcast_to(b.plain.read(site).astype(np.float64).mean(0), mean.shape))
    other_site = b.extract({"site": site, "op": "replace", "value": {"store": b.plain.path, "site": "blocks.0.hook_resid_pre"}}, sites=site)
    assert np.array_equal(other_site.read(site), b.plain.read("blocks.0.hook_resid_pre"))


def test_heads_are_folded_weights(b):
    """Knocking out a head is a model whose W_O lacks its columns."""
    found = b.extract({"site": "blocks.1.attn.hook_z", "op": "zero", "heads": [3]}, sites="blocks.*.hook_resid_post,logits")
    arrays = tiny_model.tensors(tiny_model.CONFIG, np.random.default_rng(1))
    arrays["model.layers.1.self_attn.o_proj.weight"][:, 3 * E : 4 * E] = 0
    folded = tiny_model.write(b.tmp + "/folded")
    tiny_model.write_safetensors(folded + "/model.safetensors", arrays)
    want = b.extract(sites="blocks.*.hook_resid_post,logits", model=folded)
    for site in want.sites:
        assert close(found.read(site), want.read(site)), site
    pattern = b.extract({"site": "blocks.1.attn.hook_pattern", "op": "zero", "heads": [3]}, sites="blocks.*.hook_resid_post,logits")
    for site in want.sites:
        assert close(pattern.read(site), want.read(site)), site
    # A direction projected out of the stream is one that W_out never writes.
    v = b.tensors(d=np.eye(D)[5])
    out = b.extract({"site": "blocks.*.hook_mlp_out", "op": "project_out", "value": v["d"]}, sites="logits")
    arrays = tiny_model.tensors(tiny_model.CONFIG, np.random.default_rng(1))
    for l in range(L):
        arrays[f"model.layers.{l}.mlp.down_proj.weight"][5] = 0
    tiny_model.write_safetensors(folded + "/model.safetensors", arrays)
    assert close(out.read("logits"), b.extract(sites="logits", model=folded).read("logits"))


def test_blocked_attention(b):
    """From the last token to the first two keys, in two heads: those weights are 0, the rest share what is left."""
    site = "blocks.1.attn.hook_pattern"
    found = b.extract({"site": "blocks.1.attn.hook_attn_scores", "op": "mask_scores", "tokens": "last", "keys": "first", "heads": [0, 4]}, sites=site).read(site)
    plain = b.extract(sites=site).read(site)
    for r in range(len(plain)):
        for h in range(H):
            want = plain[r, h].copy()
            if b.last[r] and h in (0, 4):
                want[0] = 0
                want = want / want.sum() if want.sum() > 0 else want
            assert np.allclose(found[r, h], want, atol=1e-6), (r, h)
    # Without renormalising, by key: the pattern.
    found = b.extract({"site": site, "op": "zero", "keys": "0", "tokens": "last"}, sites=site).read(site)
    want = plain.copy()
    want[b.last, :, 0] = 0
    assert np.array_equal(found, want)
    # All keys masked: nothing is read, as if z were 0.
    none = b.extract({"site": "blocks.1.attn.hook_attn_scores", "op": "mask_scores"}, sites="blocks.1.hook_attn_out")
    assert (none.read("blocks.1.hook_attn_out") == 0).all()


def test_order(b):
    site = "blocks.0.hook_resid_post"
    add, scale = {"site": site, "op": "add", "value": 1}, {"site": site, "op": "scale", "value": 3}
    plain = b.plain.read(site)
    assert close(b.extract(add, scale, sites=site).read(site), 3 * (plain + 1))
    assert close(b.extract(scale, add, sites=site).read(site), 3 * plain + 1)
    zero = b.extract({"site": "blocks.1.hook_attn_out", "op": "zero"}, sites="blocks.1.hook_resid_pre,blocks.1.hook_resid_mid")
    assert np.array_equal(zero.read("blocks.1.hook_resid_mid"), zero.read("blocks.1.hook_resid_pre"))
    # Edits are part of a store's identity.
    entries = b.edits([add])
    out = b.tmp + "/identity"
    command = ["extract", b.model, "--ids", b.file, "--sites", site, "--dtype", "f32", "--out", out, "--edits", entries]
    run(*command)
    run(*command)
    b.edits([scale])
    assert "edits" in run(*command, code=1).stderr


def test_mistakes(b):
    """One line: the file, the entry, the key, what was found, what was expected; before anything is computed."""
    v = b.tensors(ok=np.ones(D), wrong=np.ones(D + 1), halves=np.ones((2, D // 2)), two=np.ones((2, D)), nan=np.full(D, np.nan))
    site = "blocks.0.hook_resid_post"
    good = {"site": site, "op": "zero"}
    for entry, *words in (
        ({"op": "zero"}, "key site", "none"),
        ({"site": site}, "key op"),
        ({"site": site, "op": "multiply"}, "key op", "'multiply'", "mask_scores"),
        ({"site": "blocks.9.hook_resid_post", "op": "zero"}, "blocks.9.hook_resid_post", "3 layers"),
        ({"site": "blocks.0.ln1_post.hook_scale", "op": "zero"}, "ln1_post"),
        ({**good, "tokens": "middle"}, "key tokens", "'middle'"),
        ({**good, "tokens": 1.5}, "key tokens", "1.5"),
        ({**good, "tokens": "mask:x"}, "key tokens", "mask:x"),
        ({**good, "tokens": 19}, "document doc-0", "7 tokens", "19"),
        ({**good, "heads": [0]}, "key heads", "without heads"),
        ({**good, "keys": "first"}, "key keys"),
        ({**good, "coefficient": 2}, "key coefficient"),
        ({**good, "frobnicate": 2}, "frobnicate"),
        ({"site": "blocks.0.attn.hook_z", "op": "zero", "heads": [6]}, "key heads", "found 6", "0 to 5"),
        ({"site": "blocks.0.attn.hook_z", "op": "zero", "heads": 3}, "key heads", "found 3"),
        ({"site": "blocks.0.attn.hook_z", "op": "mask_scores"}, "mask_scores"),
        ({"site": site, "op": "scale"}, "key value"),
        ({"site": site, "op": "scale", "value": "2"}, "key value", '"2"'),
        ({"site": site, "op": "scale", "value": 1e300}, "key value"),
        ({"site": site, "op": "add"}, "key value"),
        ({"site": site, "op": "project_out", "value": 3}, "key value", "found 3"),
        ({"site": site, "op": "clamp"}, "clamp"),
        ({"site": site, "op": "clamp", "min": 2, "max": 1}, "lower one first"),
        ({"site": site, "op": "add", "value": {"file": "nowhere.safetensors", "tensor": "x"}}, "nowhere.safetensors"),
        ({"site": site, "op": "add", "value": {"file": "values.safetensors", "tensor": "x"}}, "'x'", "ok, "),
        ({"site": site, "op": "add", "value": {"file": "values.safetensors"}}, "key tensor"),
        ({"site": site, "op": "add", "value": {"file": "values.safetensors", "tensor": "ok", "row": 1}}, "unknown key row"),
        ({"site": site, "op": "add", "value": v["wrong"]}, "[49]", "[48]"),
        ({"site": site, "op": "add", "value": v["halves"]}, "[2, 24]", "[48]"),
        ({"site": site, "op": "add", "value": v["nan"]}, "nan", "finite"),
        ({"site": site, "op": "replace", "value": v["two"]}, "document 0", "7 tokens", "2 rows"),
        ({"site": site, "op": "replace", "value": {"store": "nostore"}}, "nostore"),
        ({"site": site, "op": "replace", "value": {"store": b.plain.path, "site": "blocks.0.hook_nothing"}}, "hook_nothing"),
        ({"site": site, "op": "replace", "value": {"store": b.plain.path, "site": "blocks.0.mlp.hook_pre"}}, "112", "48"),
        (3, "expected an object"),
    ):
        result = b.extract(good, entry, sites="logits", code=1)
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1 and "edits.json: edit 1" in lines[0], (entry, result.stderr)
        assert all(word in lines[0] for word in words), (words, lines[0])
        assert not os.path.exists(f"{b.tmp}/store{b.n}")
    for text in ("{}", "[", "3"):
        with open(b.tmp + "/broken.json", "w") as f:
            f.write(text)
        for command in (["extract", b.model, "--ids", b.file, "--sites", "logits"], ["score", b.model, "--ids", b.file], ["generate", b.model, "--prompts", b.file]):
            assert "broken.json" in run(*command, "--edits", b.tmp + "/broken.json", "--out", b.tmp + "/x", code=1).stderr
    late = b.edits([{"site": site, "op": "replace", "tokens": "all", "value": v["two"]}])
    for command in (["score", b.model, "--ids", b.file], ["generate", b.model, "--prompts", b.file]):
        assert "edit 0" in run(*command, "--edits", late, "--out", b.tmp + "/x", code=1).stderr


with tempfile.TemporaryDirectory() as folder:
    bench = Bench(folder)
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            start = time.time()
            test(bench)
            print("ok", name, f"{time.time() - start:.1f} s", flush=True)
