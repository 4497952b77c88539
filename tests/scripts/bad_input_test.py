#!/usr/bin/env python3
"""What goes wrong from the outside: each case is one error line that names what was found, the exit code says whose
fault it is, and nothing half-written looks whole. usage: bad_input_test.py SONDE"""
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

import tiny_model

SONDE = sys.argv[1]
SITES = "blocks.*.hook_resid_post"
TENSOR = "model.layers.1.self_attn.k_proj.weight"
test_name, cases, failures = "", 0, []


def run(*arguments, **how):
    return subprocess.run([SONDE, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          errors="replace", timeout=120, **how)


def refused(arguments, code, *names, out=None, **how):
    """Runs a command that must fail with `code` and one line of error that holds every one of `names`."""
    global cases
    cases += 1
    result = run(*arguments, **how)
    error = result.stderr.splitlines()
    lines = [line for line in error if line.startswith("sonde: ")]
    kind = {1: "sonde: error: ", 2: "sonde: usage error: "}[code]
    problems = []
    if result.returncode != code:
        problems.append(f"exit code {result.returncode}, expected {code}")
    if len(lines) != 1 or error[-1:] != lines or not lines[0].startswith(kind):
        problems.append(f"expected one line that starts with '{kind}' at the end of stderr")
    problems += [f"'{name}' is not in the error line" for name in names if not any(name in line for line in lines)]
    for word in ("Traceback", "terminate called", "HDF5-DIAG", "Sanitizer", "json.exception", "basic_string", "std::", "this is a bug"):
        if word in result.stdout + result.stderr:
            problems.append(f"'{word}' in the output")
    if out is not None and looks_whole(out):
        problems.append(f"{out} looks whole")
    if problems:
        command = " ".join(map(str, arguments))
        failures.append(f"{test_name}: sonde {command}\n" + "\n".join(problems) + f"\n{result.stderr[-2000:]}")


def looks_whole(path):
    if os.path.isfile(path):
        return True
    manifest = os.path.join(path, "manifest.json")
    if os.path.exists(manifest) and json.load(open(manifest))["complete"]:
        return True
    return any(os.path.exists(os.path.join(path, name)) for name in ("probes.csv", "depth.csv", "report.html"))


class Bench:
    def __init__(self, tmp):
        self.tmp = tmp
        self.model = tiny_model.write(self.path("model"))
        self.tokenizer = self.write_json("model/tokenizer.json", byte_level_tokenizer())
        self.ids = self.write("ids.jsonl", "".join(json.dumps({"id": f"d{i}", "ids": [i + 1, 7, 2 * i]}) + "\n" for i in range(20)))
        self.labels = self.write("labels.csv", "label,split\n" + "".join(f"{i % 2},{'train' if i < 12 else 'test'}\n" for i in range(20)))
        self.texts = self.write("texts.csv", "text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(20)))
        self.store = self.path("store")
        made = run("extract", self.model, "--ids", self.ids, "--sites", SITES, "--tokens", "last", "--dtype", "f32", "--out", self.store)
        assert made.returncode == 0, made.stderr

    def path(self, *names):
        return os.path.join(self.tmp, *names)

    def write(self, name, content):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
        return self.path(name)

    def write_json(self, name, value):
        return self.write(name, json.dumps(value))

    def spoilt_model(self, name, change=None, **config):
        """A copy of the model whose config or tensors are changed."""
        folder = self.path(name)
        tiny_model.write(folder)
        self.write_json(name + "/config.json", tiny_model.CONFIG | config)
        if change:
            arrays = tiny_model.tensors(tiny_model.CONFIG, np.random.default_rng(1))
            change(arrays)
            tiny_model.write_safetensors(os.path.join(folder, "model.safetensors"), arrays)
        return folder

    def spoilt_store(self, name):
        shutil.copytree(self.store, self.path(name))
        return self.path(name)

    def extract(self, *options, model=None, ids=None, sites=SITES, out="out"):
        """Arguments of an extract into a folder of its own."""
        return ["extract", model or self.model, "--ids", ids or self.ids, "--sites", sites, "--dtype", "f32", "--out", self.path(out), *options]

    def probe(self, labels, *options, store=None):
        return ["probe", store or self.store, "--labels", labels, "--bootstrap", "0", "--out", self.path("probes-out"), *options]


def byte_level_tokenizer():
    letters = [chr(b) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174 else None for b in range(256)]
    spare = iter(range(256, 512))
    letters = [letter or chr(next(spare)) for letter in letters]
    return {"added_tokens": [], "normalizer": None, "post_processor": None, "decoder": {"type": "ByteLevel"},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
            "model": {"type": "BPE", "vocab": {letter: i for i, letter in enumerate(letters)}, "merges": []}}


def test_usage(b):
    refused(["frobnicate"], 2, "'frobnicate'", "HINT")
    refused(["describe"], 2, "MODEL", "HINT")
    refused(["extract", b.model], 2, "--sites", "HINT")
    refused(["extract", b.model, "--sites", SITES, "--out", b.path("out")], 2, "--texts", "--ids")
    refused(b.extract("--frobnicate"), 2, "--frobnicate")
    refused(b.extract("--texts", b.texts), 2, "--texts", "--ids")
    refused(b.extract("--context", "x"), 2, "x")
    refused(b.extract("--context", "-3"), 2, "--context", "-3")
    refused(b.extract("--context", "99999999999999999999"), 2, "99999999999999999999")
    refused(b.extract("--overflow", "wrap"), 2, "--overflow", "'wrap'", "truncate")
    refused(b.extract("--store", "f64"), 2, "f64", "bf16")
    refused(b.extract("--dtype", "f8"), 2, "--dtype")
    refused(b.extract("--device", "tpu"), 2, "--device", "'tpu'")
    refused(b.extract("--batch-tokens", "0"), 2, "--batch-tokens")
    for part in ("3/2", "1", "1/0", "-1/2", "1/2x", "99999999999999999999/2"):
        refused(b.extract("--part", part), 2, "--part", part)
    for tokens in ("some", "0,x", "every:0", "every:", "mask:", "99999999999999999999", ""):
        refused(b.extract("--tokens", tokens), 2, "--tokens")
    refused(b.extract(sites="blocks.*.hook_resid_poss"), 2, "hook_resid_poss", "HINT")
    refused(b.extract(sites="blocks.7.hook_resid_post"), 2, "blocks.7.hook_resid_post")
    refused(b.extract(sites=""), 2)
    refused(["probe", b.store, "--out", b.path("o")], 2, "--labels")
    refused(b.probe(b.labels, "--kind", "forest"), 2, "forest", "logistic")
    refused(b.probe(b.labels, "--C", "-1"), 2, "--C")
    refused(b.probe(b.labels, "--C", "nan"), 2, "--C")
    refused(b.probe(b.labels, "--standardise", "maybe"), 2, "--standardise", "'maybe'")
    refused(b.probe(b.labels, "--split-column", "split", "--folds", "3"), 2, "--split-column", "--folds")
    refused(b.probe(b.labels, "--test-fraction", "1.5"), 2, "1.5")
    refused(b.probe(b.labels, "--folds", "1"), 2, "--folds")
    refused(b.probe(b.labels, "--site", "blocks.9.hook_resid_post"), 2, "blocks.9.hook_resid_post")
    refused(["store"], 2)
    refused(["store", "frob", b.store], 2, "frob")
    refused(["store", "diff", b.store], 2)
    refused(["store", "verify"], 2)
    refused(["bench", "--like", "llama-9b"], 2, "llama-9b")
    refused(["bench"], 2)
    refused(["tokenize", b.model, "--texts", b.texts], 2, "--out")
    refused(["tokenize", b.model, "--texts", b.texts, "--special", "--plain", "--out", b.path("t")], 2, "--special", "--plain", out=b.path("t"))
    refused(["tokenize", b.model, "--ids", b.ids, "--out", b.path("t")], 2, "--decode", out=b.path("t"))
    refused(["generate", b.model, "--prompt", "x", "--greedy", "--temperature", "-1", "--out", b.path("t")], 2, "--temperature", out=b.path("t"))
    refused(["generate", b.model, "--prompt", "x", "--top-p", "2", "--out", b.path("t")], 2, "--top-p", out=b.path("t"))
    refused(["score", b.model, "--out", b.path("t")], 2, "--texts")
    refused(["depth", b.model, "--data", b.texts, "--out", b.path("o")], 2, "--site")


def test_missing_files(b):
    for command in (["describe"], ["hooks"], ["tokenize"]):
        more = ["--texts", b.texts, "--out", b.path("t")] if command == ["tokenize"] else []
        refused([*command, b.path("nowhere"), *more], 1, "nowhere", "no such file")
    refused(b.extract(ids=b.path("nowhere.jsonl")), 1, "nowhere.jsonl", "No such file")
    refused(b.extract(ids=b.path("none*.jsonl")), 1, "none*.jsonl", "no file matches", "HINT")
    refused(b.extract("--edits", b.path("nowhere.json")), 1, "nowhere.json", out=b.path("out"))
    refused(b.probe(b.path("nowhere.csv")), 1, "nowhere.csv")
    refused(b.probe(b.labels, store=b.path("nowhere")), 1, "nowhere", "not a store", "HINT")
    refused(["store", "verify", b.path("nowhere")], 1, "nowhere", "not a store")
    refused(["store", "merge", b.path("merged"), b.path("nowhere")], 1, "nowhere", out=b.path("merged"))
    refused(["probe", "apply", b.path("nowhere"), b.store, "--out", b.path("a.csv")], 1, "nowhere", out=b.path("a.csv"))
    refused(["depth", b.model, "--data", b.path("nowhere.csv"), "--site", SITES, "--out", b.path("depth")], 1, "nowhere.csv", out=b.path("depth"))


def test_folders_and_files_swapped(b):
    folder = b.path("folder.jsonl")
    os.mkdir(folder)
    os.mkdir(b.path("folder.csv"))
    refused(b.extract(ids=folder), 1, "folder.jsonl", "folder")
    refused(b.probe(b.path("folder.csv")), 1, "folder.csv", "folder")
    refused(["describe", b.path("folder.csv")], 1, "folder.csv", "config.json")
    refused(["describe", b.labels], 1, "labels.csv", "GGUF")
    refused(["describe", "/dev/null"], 1, "/dev/null")
    refused(b.probe(b.labels, store=b.labels), 1, "labels.csv")
    refused(["store", "verify", b.model], 1, "not a store")
    refused(b.extract(out="labels.csv"), 1, "labels.csv", "Not a directory")
    refused(b.extract(out="labels.csv/deeper"), 1, "labels.csv/deeper", "Not a directory")
    refused(b.extract(out="model"), 1, "model", "not a store", "HINT")
    refused(["probe", b.store, "--labels", b.labels, "--bootstrap", "0", "--out", b.texts], 1, "texts.csv")
    refused(["tokenize", b.model, "--texts", b.texts, "--out", folder], 1, "folder.jsonl")
    refused(["tokenize", b.model, "--texts", b.texts, "--out", b.path("no/such/t.jsonl")], 1, "no/such/t.jsonl", "No such file")


def test_bad_models(b):
    def ids(model, *names, sites=SITES):
        refused(b.extract(model=model, sites=sites, out="bad-out"), 1, os.path.basename(model), *names, out=b.path("bad-out"))

    ids(b.spoilt_model("arch", model_type="mamba"), "model_type", "'mamba'", "llama", "HINT")
    ids(b.spoilt_model("key", attention_multiplier=0.5), "attention_multiplier", "0.5", "--ignore-config-key")
    ids(b.spoilt_model("type", hidden_size="48"), "hidden_size", '"48"', "an integer")
    ids(b.spoilt_model("size", num_hidden_layers=10**15), "n_layers", str(10**15))
    ids(b.spoilt_model("layers", num_hidden_layers=9999), "model.layers.3.", "missing", "HINT")
    ids(b.spoilt_model("missing", lambda t: t.pop(TENSOR)), TENSOR, "missing", "HINT")
    ids(b.spoilt_model("extra", lambda t: t.update({"model.layers.0.extra.weight": np.zeros(3, np.float32)})), "model.layers.0.extra.weight", "HINT")
    ids(b.spoilt_model("shape", lambda t: t.update({TENSOR: t[TENSOR].T})), TENSOR, "[48, 16]", "[16, 48]", "HINT")

    def spoil(value):
        def change(tensors):
            tensors[TENSOR][3, 5] = value
        return change
    ids(b.spoilt_model("nan", spoil(np.nan)), TENSOR, "nan")
    ids(b.spoilt_model("inf", spoil(np.inf)), TENSOR, "inf")

    for name, change in {"dtype": lambda h: h[TENSOR].update(dtype="I32"),
                         "unknown_dtype": lambda h: h[TENSOR].update(dtype="F7"),
                         "overlap": lambda h: h[TENSOR].update(data_offsets=[0, 3072]),
                         "past_end": lambda h: h[TENSOR].update(data_offsets=[0, 2**60]),
                         "rank": lambda h: h[TENSOR].update(shape=[1, 1, 1, 16, 48]),
                         "huge": lambda h: h[TENSOR].update(shape=[2**40, 2**40])}.items():
        model = b.spoilt_model(name)
        rewrite_header(os.path.join(model, "model.safetensors"), change)
        ids(model, "model.safetensors: tensor ")
    model = b.spoilt_model("twice")
    rewrite_header(os.path.join(model, "model.safetensors"), None, lambda text: text.replace("layers.0.mlp.up", "layers.1.mlp.up"))
    ids(model, "model.safetensors", "model.layers.1.mlp.up_proj.weight", "twice")
    model = b.spoilt_model("cut")
    os.truncate(os.path.join(model, "model.safetensors"), 50000)
    ids(model, "model.safetensors", "truncated")
    b.write("cut/model.safetensors", b"\xff" * 7 + b"\x7f{}")
    ids(model, "header length", "HINT")
    b.write("cut/config.json", "[" * 100000)
    ids(model, "config.json", "nested deeper")
    b.write("cut/config.json", '{"model_type": "llama"')
    ids(model, "config.json", "not valid JSON", "HINT")
    os.remove(b.path("cut", "config.json"))
    ids(model, "config.json")
    refused(["describe", b.write("lie.gguf", b"GGUF\3\0\0\0" + b"\xff" * 16)], 1, "lie.gguf", "count")
    refused(["describe", b.write("short.gguf", b"GGUF")], 1, "short.gguf", "version")
    refused(["describe", b.write("big.gguf", b"GGUF\0\0\0\3" + b"\0" * 16)], 1, "big.gguf", "big-endian")


def rewrite_header(file, change, edit_text=lambda text: text):
    with open(file, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        header, data = json.loads(f.read(size)), f.read()
    if change:
        change(header)
    text = edit_text(json.dumps(header)).encode()
    with open(file, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + data)


def test_documents(b):
    def ids(content, *names, options=(), code=1):
        refused(b.extract(*options, ids=b.write("bad.jsonl", content), out="doc-out"), code, *names, out=b.path("doc-out"))

    ids('{"ids": [1, 2]}\n{"id": "void", "ids": []}\n', "void", "--skip-empty")
    ids('{"ids": [1, 300]}\n', "300", "299", "HINT")
    ids('{"ids": [1, -3]}\n', "bad.jsonl line 1", "-3")
    ids('{"ids": [1, 99999999999]}\n', "bad.jsonl line 1", "99999999999")
    ids('{"ids": "1 2"}\n', "bad.jsonl line 1", "ids", "string")
    ids('[1, 2]\n', "bad.jsonl line 1", "array")
    ids('{"ids": [1]}\n{"ids": [2}\n', "bad.jsonl line 2", "not valid JSON")
    ids("", "bad.jsonl", "no documents")
    ids(json.dumps({"id": "long", "ids": [1] * 257}), "long", "257", "256", "HINT")
    ids('{"ids": [1]}\n', "tokens 3", options=["--tokens", "3"])
    refused(b.extract(ids=b.write("bad.parquet", "x")), 1, "bad.parquet")

    def texts(name, content, *names, options=(), code=1):
        out = b.path("text-out")
        refused(["extract", b.model, "--texts", b.write(name, content), "--sites", SITES, "--out", out, *options], code, *names, out=out)

    texts("t.csv", "text,label\nhello\n", "t.csv line 2", "1 fields", "2", "HINT")
    texts("t.csv", 'text\n"open', "t.csv line 2", "never closes")
    texts("t.csv", "words\nhello\n", "t.csv", "'text'", "words")
    texts("t.csv", "", "t.csv", "empty")
    texts("t.csv", "text\n", "t.csv", "no rows")
    texts("t.csv", "a\n\"b\nc\",text\n", "t.csv line 2")
    texts("t.csv", 'text,"te\nxt\x1b[31m",text\n1,2,3\n', "t.csv line 1")
    texts("t.jsonl", '{"text": "a"}\n{"text": null}\n', "t.jsonl line 2", "'text'", "null")
    texts("t.jsonl", '{"text": "a"}\n{"other": 1}\n', "t.jsonl line 2", "'text'", "missing")
    texts("t.csv", "text\nhello\n", "'nope'", "text", options=["--template", "{nope}"])
    texts("t.csv", "text\nhello\n", "'}'", options=["--template", "}{"], code=2)
    texts("t.csv", "text\nhello\n", "mask", options=["--tokens", "mask:mask"])
    texts("t.csv", "text,part\nhello,xyz\n", "xyz", "t.csv row 1", options=["--tokens", "span:part"])
    texts("t.csv.gz", gzip.compress(b"text\nhello\n")[:-5], "t.csv.gz", "ends inside", "HINT")
    texts("t.csv.gz", b"text\nhello\n", "t.csv.gz", "damaged gzip")
    texts("t.csv.zst", b"text\nhello\n", "t.csv.zst", "damaged zstd")
    texts("bomb.txt.gz", gzip.compress(bytes(1 << 16) * 400 + b"\n"), "bomb.txt.gz", "compressed", "HINT")
    texts("t.csv", "text\n" + "x" * 300 + "\n", "300", "256", "HINT")
    nothing = b.spoilt_model("no-tokenizer")
    refused(["extract", nothing, "--texts", b.texts, "--sites", SITES, "--out", b.path("x")], 1, "no-tokenizer", "tokenizer.json", "--ids")
    b.write("no-tokenizer/tokenizer.json", '{"model": {"type": "Magic"}}')
    refused(["tokenize", nothing, "--texts", b.texts, "--out", b.path("t")], 1, "tokenizer.json", out=b.path("t"))


def test_labels(b):
    def labels(content, *names, options=(), code=1):
        refused(b.probe(b.write("bad.csv", content), *options), code, *names, out=b.path("probes-out"))

    rows = lambda values: "label\n" + "".join(f"{v}\n" for v in values)  # noqa: E731
    labels(rows([0, 1] * 9), "bad.csv", "18 rows", "20", "HINT")
    labels(rows([1] * 20), "single class", "'1'", "HINT")
    labels(rows([0, 1] * 9 + [0, '""']), "row 19", "expected a label", "HINT")
    labels(rows([0, 1] * 10), "'nope'", "label", options=["--column", "nope"])
    labels(rows(["a", 1] * 10), "'a'", options=["--kind", "ridge-regression"])
    labels(rows([0, 1] * 10), "'side'", options=["--split-column", "side"])
    labels("label,split\n" + "0,train\n1,dev\n" * 10, "'dev'", options=["--split-column", "split"])
    labels("label,split\n" + "0,train\n1,train\n" * 10, "test", options=["--split-column", "split"])
    labels("label,split\n" + "0,train\n1,test\n" * 10, "class", options=["--split-column", "split"])
    labels("label,g\n" + "0,x\n1,x\n" * 10, "group", options=["--group-column", "g"])


def test_nan_activations(b):
    model = b.spoilt_model("overflow", lambda t: t["model.layers.1.mlp.down_proj.weight"].__imul__(np.float32(3e38)))
    refused(b.extract(model=model, out="nan-out"), 1, "blocks.1.hook_resid_post", "d0", out=b.path("nan-out"))
    edits = b.write_json("big.json", [{"site": "blocks.0.hook_resid_post", "op": "replace", "value": 1e6}])
    refused(b.extract("--store", "f16", "--edits", edits, out="f16-out"), 1, "blocks.0.hook_resid_post", "f16", out=b.path("f16-out"))


def test_edits(b):
    def edits(content, *names, code=1):
        refused(b.extract("--edits", b.write("edits.json", content), out="edit-out"), code, *names, out=b.path("edit-out"))

    edits("{", "edits.json", "not valid JSON")
    edits("{}", "edits.json", "array")
    edits('[{"site": "hook_embed"}]', "edits.json: edit 0", "op")
    edits('[{"site": "hook_embed", "op": "zero", "strength": 2}]', "strength")
    edits('[{"site": "hook_embed", "op": "scale"}]', "value")
    edits('[{"site": "hook_embed", "op": "add", "value": {"file": "none.safetensors", "tensor": "x"}}]', "none.safetensors")
    edits('[{"site": "hook_embed", "op": "zero", "heads": [0]}]', "head")
    edits('[{"site": "blocks.0.attn.hook_z", "op": "zero", "heads": [99]}]', "99")


def test_stores(b):
    refused(b.extract("--tokens", "first", out="store"), 1, "store", "tokens", "HINT")
    refused(b.extract("--tokens", "last", "--store", "bf16", out="store"), 1, "store", "dtype")
    refused(b.extract("--tokens", "last", sites="logits", out="store"), 1, "store", "sites")

    def spoilt(name, file, change, *names):
        store = b.spoilt_store("spoilt-" + name)
        change(os.path.join(store, file))
        refused(["store", "verify", store], 1, *names)
        return store

    shard = "shards/shard-000000.h5"
    spoilt("shard", shard, os.remove, "shard-000000.h5", "missing", "HINT")
    spoilt("swapped", shard, lambda f: shutil.copy(b.labels, f), "shard-000000.h5", "bytes")
    spoilt("flipped", shard, flip_last_byte, "shard-000000.h5")
    store = spoilt("zeroed", shard, lambda f: overwrite(f, b"\0" * os.path.getsize(f)), "shard-000000.h5", "HDF5")
    refused(b.probe(b.labels, store=store), 1, "shard-000000.h5", out=b.path("probes-out"))
    spoilt("index", "index.h5", lambda f: shutil.copy(b.labels, f), "index.h5", "HDF5")
    spoilt("no_index", "index.h5", os.remove, "index.h5")
    spoilt("other_index", "index.h5", lambda f: shutil.copy(os.path.join(os.path.dirname(f), shard), f), "index.h5")
    spoilt("log", "shards.jsonl", lambda f: overwrite(f, b""), "shards.jsonl", "0 rows", "20")
    spoilt("no_log", "shards.jsonl", os.remove, "shards.jsonl")
    spoilt("documents", "documents.jsonl", lambda f: overwrite(f, b'{"id": "x", "tokens": 3}\n'), "documents.jsonl", "SHA-256")
    edit = lambda change: lambda f: change_json(f, change)  # noqa: E731
    spoilt("version", "manifest.json", edit(lambda m: m.update(version=99)), "manifest.json", "version", "99", "HINT")
    spoilt("rows", "manifest.json", edit(lambda m: m.update(rows=2**62)), "rows")
    spoilt("dtype", "manifest.json", edit(lambda m: m.update(dtype="f64")), "manifest.json", "dtype", "f64")
    spoilt("site_twice", "manifest.json", edit(lambda m: m["sites"].append(m["sites"][0])), "manifest.json", "twice")
    spoilt("wide", "manifest.json", edit(lambda m: m["sites"][0].update(row_shape=[2**39])), "bytes")
    spoilt("wider", "manifest.json", edit(lambda m: m["sites"][0].update(row_shape=[2**62, 4])), "manifest.json", "row_shape")
    spoilt("notes", "manifest.json", edit(lambda m: m.update(complete="yes")), "manifest.json", "complete")
    for content, name in (("[]", "format"), ('{"format": "sonde-probes"}', "runs"), ('{"format": 1}', "format")):
        b.write("probes/probes.json", content)
        tiny_model.write_safetensors(b.path("probes", "probes.safetensors"), {"x": np.zeros(1, np.float32)})
        refused(["probe", "apply", b.path("probes"), b.store, "--out", b.path("a.csv")], 1, "probes.json", name, "HINT", out=b.path("a.csv"))
    store = b.spoilt_store("incomplete")
    change_json(os.path.join(store, "manifest.json"), lambda m: m.update(complete=False))
    refused(b.probe(b.labels, store=store), 1, "not complete", "HINT", out=b.path("probes-out"))
    refused(["store", "merge", b.path("merged"), b.store, b.store], 1, "part", out=b.path("merged"))


def flip_last_byte(file):
    with open(file, "r+b") as f:
        f.seek(4096)
        byte = f.read(1)
        f.seek(4096)
        f.write(bytes([byte[0] ^ 1]))


def overwrite(file, content):
    with open(file, "wb") as f:
        f.write(content)


def change_json(file, change):
    value = json.load(open(file))
    change(value)
    with open(file, "w") as f:
        json.dump(value, f)


def test_two_writers(b):
    """A second writer is refused while the first one lives, and not behind its death."""
    many = b.write("many.jsonl", "".join(json.dumps({"ids": [(i * j) % 300 for j in range(200)]}) + "\n" for i in range(400)))
    command = b.extract(ids=many, out="shared")
    for how in ({}, {"SONDE_STORE_LOCK": "file"}):
        env = {**os.environ, **how}
        shutil.rmtree(b.path("shared"), ignore_errors=True)
        first = subprocess.Popen([SONDE, *command], stderr=subprocess.DEVNULL, env=env)
        end = time.time() + 60
        while not os.path.exists(b.path("shared", "manifest.json")) and time.time() < end and first.poll() is None:
            time.sleep(0.002)
        first.send_signal(signal.SIGSTOP)
        assert first.poll() is None, "the first writer was too quick for the test"
        refused(command, 1, "shared", str(first.pid), env=env)
        first.kill()
        first.wait()
        assert run(*command, env=env).returncode == 0
        assert run("store", "verify", b.path("shared")).returncode == 0


def test_no_space(b):
    """A file-size limit stands for a full disk: the error names the file, and more room finishes the job."""
    import resource

    def limit(size):
        def apply():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        return apply
    out = b.path("full")
    command = b.extract("--tokens", "all", sites="blocks.*.hook_resid_post,logits", out="full")
    for size in (100, 3000, 20000):
        refused(command, 1, "full", out=out, preexec_fn=limit(size))
    assert run(*command).returncode == 0 and run("store", "verify", out).returncode == 0
    file = b.path("full.jsonl")
    refused(["tokenize", b.model, "--texts", b.texts, "--out", file], 1, "full.jsonl", out=file, preexec_fn=limit(50))
    refused(["score", b.model, "--ids", b.ids, "--out", file], 1, "full.jsonl", out=file, preexec_fn=limit(50))
    refused(b.probe(b.labels), 1, "probes-out", preexec_fn=limit(50))
    assert not os.path.exists(b.path("probes-out", "probes.csv"))
    os.symlink("/dev/full", b.path("disk"))  # a device is written to, never replaced by a file
    for command in (["tokenize", b.model, "--texts", b.texts], ["score", b.model, "--ids", b.ids]):
        refused([*command, "--out", b.path("disk")], 1, "disk", "No space", "HINT")
        assert os.path.islink(b.path("disk"))


def test_no_permission(b):
    """Root may write anywhere but below /proc: there a folder cannot be made."""
    for out in ("/proc/sonde-test", "/sys/sonde-test/deeper"):
        refused(b.extract("--out", out)[:-4] + ["--out", out], 1, out)
        refused(["tokenize", b.model, "--texts", b.texts, "--out", out], 1, out)
    if os.geteuid() != 0:
        os.chmod(b.labels, 0)
        refused(b.probe(b.labels), 1, "labels.csv", "ermission")
        os.chmod(b.labels, 0o644)


def test_generate_and_score(b):
    out = b.path("text.jsonl")
    refused(["generate", b.model, "--prompts", b.path("nowhere.jsonl"), "--out", out], 1, "nowhere.jsonl", out=out)
    refused(["generate", b.model, "--prompt", "x" * 300, "--greedy", "--out", out], 1, "300", "256", out=out)
    refused(["generate", b.model, "--prompts", b.write("p.jsonl", '{"ids": [300]}\n'), "--out", out], 1, "300", out=out)
    refused(["score", b.model, "--ids", b.write("p.jsonl", '{"ids": [1, 300]}\n'), "--out", b.path("score.jsonl")], 1, "300", out=b.path("score.jsonl"))
    refused(["score", b.model, "--texts", b.texts, "--choices", "nope", "--out", out], 1, "nope", out=out)


def main():
    global test_name
    chosen = sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder)
        for name, test in list(globals().items()):
            if name.startswith("test_") and callable(test) and (not chosen or name in chosen):
                test_name, before = name, len(failures)
                test(bench)
                print("ok" if len(failures) == before else "FAILED", name, flush=True)
    print(*failures, sep="\n\n")
    print(f"{cases} bad inputs, {len(failures)} not refused as they should be")
    return 1 if failures else 0


sys.exit(main())
