#!/usr/bin/env python3
"""sonde score from the outside: against its own logits, batches, contexts, choices, resume, goldens, bad input. usage: score_test.py SONDE"""
import json
import os
import subprocess
import tempfile
import time

import numpy as np

import tiny_model
from sonde_cli import GOLDEN, LONG, SONDE, Store, read_lines, run, write_lines

LENGTHS = [5, 1, 40, 17, 200, 8]


class Bench:
    def __init__(self, tmp):
        self.tmp = tmp
        self.model = tiny_model.write_with_tokenizer(os.path.join(tmp, "model"))
        rng = np.random.default_rng(3)
        self.ids = [rng.integers(0, 256, n).tolist() for n in LENGTHS]
        self.file = write_lines(os.path.join(tmp, "ids.jsonl"), [{"id": f"doc-{i}", "ids": ids} for i, ids in enumerate(self.ids)])
        self.n, self.printed = 0, ""

    def score(self, *options, code=0, env=None):
        """Options with an input; the lines."""
        self.n += 1
        out = os.path.join(self.tmp, f"out{self.n}.jsonl")
        result = run("score", self.model, "--out", out, "--dtype", "f32", *options, code=code, env=env)
        self.printed = result.stdout
        return result if code else read_lines(out)


def log_probs(b, documents, name):
    """From the logits of extract, in float64."""
    file = write_lines(f"{b.tmp}/{name}.jsonl", [{"ids": ids} for ids in documents])
    run("extract", b.model, "--ids", file, "--sites", "logits", "--out", f"{b.tmp}/{name}", "--dtype", "f32")
    logits = Store(f"{b.tmp}/{name}").read("logits").astype(np.float64)
    out, row = [], 0
    for ids in documents:
        x = logits[row : row + len(ids)]
        row += len(ids)
        x = x - x.max(1, keepdims=True)
        x -= np.log(np.exp(x).sum(1, keepdims=True))
        out.append(x[np.arange(len(ids) - 1), ids[1:]])
    return out


def test_log_probs(b):
    lines = b.score("--ids", b.file)
    for i, (line, want) in enumerate(zip(lines, log_probs(b, b.ids, "logits"))):
        assert line["id"] == f"doc-{i}" and len(line["log_probs"]) == LENGTHS[i] - 1
        assert np.allclose(line["log_probs"], want, rtol=0, atol=1e-7)  # exp in float32, sums in float64
        if len(want) == 0:
            assert line["loss"] is None and line["perplexity"] is None
            continue
        got = np.mean(line["log_probs"])
        assert abs(line["loss"] + got) < 1e-12 and abs(line["perplexity"] - np.exp(-got)) < 1e-9
    every = np.concatenate([line["log_probs"] for line in lines])
    loss, tokens = float(b.printed.split()[1]), int(b.printed.split()[-2])
    assert tokens == len(every) and abs(loss + every.mean()) < 1e-6


def test_inputs(b):
    lines = b.score("--ids", b.file)
    text = bytes(range(32, 120)).decode()
    texts = write_lines(b.tmp + "/t.jsonl", [{"id": 9, "text": text}])
    as_ids = write_lines(b.tmp + "/t_ids.txt", [{"id": 9, "ids": list(text.encode())}])  # --ids: whatever its name
    assert b.score("--texts", texts) == b.score("--ids", as_ids)
    assert b.score("--texts", texts)[0]["id"] == 9
    csv = b.tmp + "/t.csv"
    with open(csv, "w") as f:
        f.write("id,a,b\nx,Water,boils\n")
    made = b.score("--texts", csv, "--template", "{a} {b}")
    assert made[0]["log_probs"] == b.score("--texts", write_lines(b.tmp + "/w.jsonl", [{"text": "Water boils"}]))[0]["log_probs"]
    # Neither threads, batches nor order matter.
    assert b.score("--ids", b.file, env={"OMP_NUM_THREADS": "3"}) == lines
    assert b.score("--ids", b.file, "--batch-tokens", 30) == lines
    backwards = write_lines(b.tmp + "/back.jsonl", [{"id": f"doc-{i}", "ids": b.ids[i]} for i in reversed(range(len(b.ids)))])
    assert b.score("--ids", backwards) == lines[::-1]
    glob = b.score("--ids", b.tmp + "/ids.json*")
    assert glob == lines


def test_contexts(b):
    whole = b.score("--ids", b.file)
    result = b.score("--ids", b.file, "--context", 64, code=1)
    assert "doc-4" in result.stderr and "200" in result.stderr and "HINT" in result.stderr
    cut = b.score("--ids", b.file, "--context", 64, "--overflow", "truncate")
    assert [len(line["log_probs"]) for line in cut] == [min(n, 64) - 1 for n in LENGTHS]
    assert cut[4]["log_probs"] == whole[4]["log_probs"][:63]
    split = b.score("--ids", b.file, "--context", 64, "--overflow", "split")
    pieces = [b.ids[4][i : i + 64] for i in range(0, 200, 64)]  # 64, 64, 64, 8
    want = b.score("--ids", write_lines(b.tmp + "/pieces.jsonl", [{"ids": piece} for piece in pieces]))
    assert split[4]["log_probs"] == sum((line["log_probs"] for line in want), [])
    empty = write_lines(b.tmp + "/empty.jsonl", [{"id": "a", "ids": []}, {"id": "b", "ids": [1, 2]}])
    assert "a" in b.score("--ids", empty, code=1).stderr
    assert [line["id"] for line in b.score("--ids", empty, "--skip-empty")] == ["b"]


def test_choices(b):
    questions = [("Water boils at", [" 100 C", " 5 C", " noon"], 0), ("A cow says", [" moo", " miaow miaow miaow"], 1), ("2 + 2 =", ["4", "five", " 4"], 2)]
    rows = [{"id": i, "text": q, "choices": c, "answer": a} for i, (q, c, a) in enumerate(questions)]
    lines = b.score("--texts", write_lines(b.tmp + "/quiz.jsonl", rows), "--choices", "choices", "--answer", "answer")
    right = {"choice": 0, "choice_per_token": 0, "choice_per_byte": 0}
    for line, (q, choices, answer) in zip(lines, questions):
        sums, tokens = [], []
        for want in log_probs(b, [list((q + c).encode()) for c in choices], f"choices{line['id']}"):
            sums.append(want[len(q) - 1 :].sum())  # a byte is a token
            tokens.append(len(want) + 1 - len(q))
        assert line["id"] == rows[line["id"]]["id"] and line["answer"] == answer
        assert np.allclose(line["log_probs"], sums, rtol=0, atol=1e-6)
        assert line["choice"] == int(np.argmax(sums)) and line["correct"] == (line["choice"] == answer)
        assert line["choice_per_token"] == line["choice_per_byte"] == int(np.argmax(np.array(sums) / tokens))
        for rule in right:
            right[rule] += line[rule] == answer
    for rule, n in right.items():
        assert any(row.split()[2] == rule and f"({n} of 3)" in row for row in b.printed.splitlines()), b.printed
    unanswered = b.score("--texts", write_lines(b.tmp + "/q.jsonl", [{k: v for k, v in row.items() if k != "answer"} for row in rows]), "--choices", "choices")
    assert [line["choice"] for line in unanswered] == [line["choice"] for line in lines] and "answer" not in unanswered[0]


def test_resume(b):
    """Lines that are there stay; the totals count them."""
    want = b.score("--ids", b.file, "--batch-tokens", 1)
    printed, out = b.printed, f"{b.tmp}/resumed.jsonl"
    command = ["score", b.model, "--ids", b.file, "--batch-tokens", 1, "--dtype", "f32", "--out", out]
    for lines in range(len(want)):
        # What a kill leaves: some whole lines, and perhaps half of the next one.
        process = subprocess.Popen([SONDE, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            if os.path.exists(out + ".partial.identity") or process.poll() is not None:
                break
            time.sleep(0.005)
        process.kill()
        process.wait()
        if not os.path.exists(out + ".partial.identity"):
            os.path.exists(out) and os.remove(out)
            continue
        with open(out + ".partial", "w") as f:
            f.write("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in want[:lines]) + '{"half":')
        assert run(*command).stdout == printed
        assert read_lines(out) == want


def test_edits(b):
    edits = b.tmp + "/edits.json"
    with open(edits, "w") as f:
        json.dump([{"site": "blocks.*.hook_attn_out", "op": "zero"}, {"site": "blocks.*.hook_mlp_out", "op": "zero"}], f)
    plain, cut = b.score("--ids", b.file), b.score("--ids", b.file, "--edits", edits)
    assert plain[0]["log_probs"] != cut[0]["log_probs"]
    # Without attention and MLP a token sees itself alone: equal pairs score equally.
    pairs = b.score("--ids", write_lines(b.tmp + "/pairs.jsonl", [{"ids": [4, 5, 9, 4, 5]}]), "--edits", edits)[0]["log_probs"]
    assert pairs[0] == pairs[3]


def test_goldens(b):
    """log-probabilities from golden logits, every family."""
    folder = os.path.join(GOLDEN, "models")
    if not os.path.isdir(folder):
        return print("skipped: no golden models")
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if not os.path.isdir(path):
            continue
        with open(path + "/golden.json") as f:
            prompts = [p["ids"] for p in json.load(f)["prompts"]]
        tensors = read_safetensors(path + "/golden.safetensors")
        out = b.tmp + "/golden_scores.jsonl"
        run("score", path, "--ids", write_lines(b.tmp + "/golden_ids.jsonl", [{"ids": ids} for ids in prompts]), "--dtype", "f32", "--out", out)
        for i, (line, ids) in enumerate(zip(read_lines(out), prompts)):
            x = tensors[f"seq{i}/logits"].astype(np.float64)
            x = x - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)) - x.max(1, keepdims=True)
            assert np.allclose(line["log_probs"], x[np.arange(len(ids) - 1), ids[1:]], rtol=0, atol=5e-5), (name, i)


def test_real_models(b):
    cache = os.environ.get("SONDE_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "sonde")
    for name, file in (("SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct.Q4_1.gguf"), ("gemma-3-270m", "gemma-3-270m-q4_k_m.gguf")):
        model, golden = os.path.join(cache, file), os.path.join(GOLDEN, "real", name)
        if not os.path.exists(model) or not os.path.exists(golden + ".json"):
            print("skipped:", file, "or its golden is not there")
            continue
        tensors = read_safetensors(golden + ".safetensors")
        with open(golden + ".json") as f:
            names = [n for n in json.load(f)["prompts"] if LONG or n in ("short", "digits")]
        out = f"{b.tmp}/{name}.jsonl"
        ids = write_lines(b.tmp + "/real.jsonl", [{"id": n, "ids": tensors[n + ".ids"].tolist()} for n in names])
        run("score", model, "--ids", ids, "--dtype", "f32", "--out", out)
        for line in read_lines(out):
            want = tensors.get(line["id"] + ".token_log_probs.f64", tensors[line["id"] + ".token_log_probs"])
            assert np.abs(np.array(line["log_probs"]) - want).max() < 3e-4, (name, line["id"])


def read_safetensors(path):
    with open(path, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        header, data = json.loads(f.read(size)), f.read()
    types = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "I32": np.int32}
    return {n: np.frombuffer(data[t["data_offsets"][0] : t["data_offsets"][1]], types[t["dtype"]]).reshape(t["shape"])
            for n, t in header.items() if n != "__metadata__"}


def test_bad_input(b):
    assert "--texts or --ids" in run("score", b.model, "--out", b.tmp + "/x", code=2).stderr
    assert "--out" in run("score", b.model, "--ids", b.file, code=2).stderr
    assert "--answer" in b.score("--ids", b.file, "--answer", "a", code=2).stderr
    assert "--choices" in b.score("--ids", b.file, "--choices", "c", code=2).stderr
    texts = write_lines(b.tmp + "/bad.jsonl", [{"text": "a", "choices": ["b"]}])
    assert "column choices" in b.score("--texts", texts, "--choices", "choices", code=1).stderr
    texts = write_lines(b.tmp + "/bad.jsonl", [{"text": "a", "choices": ["b", "c"], "answer": 2}])
    assert "found 2" in b.score("--texts", texts, "--choices", "choices", "--answer", "answer", code=1).stderr
    assert "300" in b.score("--ids", write_lines(b.tmp + "/bad.jsonl", [{"ids": [1, 300]}]), code=1).stderr
    assert "ids" in b.score("--ids", texts, code=1).stderr
    assert "2147483648" in b.score("--ids", b.file, "--context", 2**31, code=2).stderr


with tempfile.TemporaryDirectory() as folder:
    bench = Bench(folder)
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            start = time.time()
            test(bench)
            print("ok", name, f"{time.time() - start:.1f} s", flush=True)
