#!/usr/bin/env python3
"""Texts through a model: files and columns of `sonde extract`, templates, spans, bos, and what `sonde depth` makes of
datasets, noise and weights. A byte-level tokenizer makes every position known. usage: text_test.py SONDE"""
import csv
import gzip
import json
import os
import random
import tempfile

import tiny_model
from sonde_cli import Store, run
from tiny_tokenizer import tokenizer_json

TEXTS = ["the cat, on \"the\" mat", "the été", "a\nline", "zz the zz"]
PARTS = ["cat", "été", "line", "the"]
PIECES = {b" the": 258, b"the": 257, b"th": 256}
BOS = 259


def tokens_of(text):
    """[(id, bytes before it, bytes up to its end)] without bos: the tokenizer's merges are the longest match here."""
    data, out, at = text.encode(), [], 0
    while at < len(data):
        piece = next((p for p in PIECES if data.startswith(p, at)), data[at:at + 1])
        out.append((PIECES.get(piece, piece[0]), at, at + len(piece)))
        at += len(piece)
    return out


class Bench:
    def __init__(self, tmp):
        self.tmp = tmp
        self.model = tiny_model.write(os.path.join(tmp, "model"))
        with open(os.path.join(self.model, "tokenizer.json"), "w") as f:
            json.dump(tokenizer_json(), f)

    def write(self, name, text):
        path = os.path.join(self.tmp, name)
        with (gzip.open if name.endswith(".gz") else open)(path, "wb") as f:
            f.write(text.encode())
        return path

    def extract(self, name, *options, sites="blocks.*.hook_resid_post", code=0):
        out = os.path.join(self.tmp, name)
        result = run("extract", self.model, "--sites", sites, "--out", out, *options, code=code)
        return result if code else Store(out)


def rows_of(store):
    r = store.rows()
    return list(zip(r["document"].tolist(), r["position"].tolist(), r["token"].tolist()))


def every_token(texts, bos=1):
    return [(d, p, t) for d, text in enumerate(texts) for p, t in enumerate([BOS] * bos + [t for t, _, _ in tokens_of(text)])]


def csv_text(columns, rows, delimiter=","):
    quote = lambda cell: '"' + cell.replace('"', '""') + '"'  # noqa: E731
    return "".join(delimiter.join(map(quote, row)) + "\r\n" for row in [columns, *rows])


def test_files(b):
    expected = b.extract("csv", "--texts", b.write("t.csv", csv_text(["id", "body", "part"], zip("abcd", TEXTS, PARTS))), "--column", "body")
    assert rows_of(expected) == every_token(TEXTS) and expected.documents() == list("abcd")
    flat = [t.replace("\n", " ") for t in TEXTS]
    lines = "".join(json.dumps({"text": t}) + "\n" for t in TEXTS)
    for name, text, texts in (("t.tsv", csv_text(["id", "text"], zip("abcd", TEXTS), "\t"), TEXTS), ("t.jsonl", lines, TEXTS),
                              ("t.jsonl.gz", lines, TEXTS), ("t.txt", "\n".join(flat) + "\n", flat), ("u.txt.gz", "\n".join(flat), flat)):
        assert rows_of(b.extract(name + ".out", "--texts", b.write(name, text))) == every_token(texts), name
    b.write("p1.part.txt", "the\nb\n"), b.write("p2.part.txt", "c\n")
    assert rows_of(b.extract("glob", "--texts", os.path.join(b.tmp, "p*.part.txt"))) == every_token(["the", "b", "c"])
    assert rows_of(b.extract("two", "--texts", b.tmp + "/p2.part.txt", b.tmp + "/p1.part.txt")) == every_token(["c", "the", "b"])
    assert rows_of(b.extract("nobos", "--texts", b.tmp + "/t.jsonl", "--bos", "no")) == every_token(TEXTS, bos=0)
    assert rows_of(b.extract("bos", "--texts", b.tmp + "/t.jsonl", "--bos", "yes")) == every_token(TEXTS)


def test_templates_and_spans(b):
    pattern = "Is {body} true of {part}?"
    texts = [pattern.replace("{body}", t).replace("{part}", p) for t, p in zip(TEXTS, PARTS)]
    for selector, pick in (("span:part", lambda covered: covered), ("span:part:last", lambda covered: covered[-1:])):
        store = b.extract(selector.replace(":", "_"), "--texts", b.tmp + "/t.csv", "--template", pattern, "--tokens", selector)
        wanted = []
        for d, (text, part) in enumerate(zip(texts, PARTS)):
            begin = text.encode().index(part.encode())
            end = begin + len(part.encode())
            covered = [(d, p + 1, t) for p, (t, first, last) in enumerate(tokens_of(text)) if first < end and last > begin]
            wanted += pick(covered)
        assert rows_of(store) == wanted, (selector, rows_of(store), wanted)
    assert "nothing" in b.extract("column", "--texts", b.tmp + "/t.csv", "--template", "{nothing}", code=1).stderr
    absent = b.write("absent.csv", csv_text(["text", "part"], [["one two", "three"]]))
    assert "three" in b.extract("absent", "--texts", absent, "--tokens", "span:part", code=1).stderr
    assert "--texts" in b.extract("ids", "--ids", b.write("ids.jsonl", '{"ids":[1]}\n'), "--tokens", "span:part", code=2).stderr


def test_depth(b):
    """Rows, order and reuse; each noise and weight format changes the features, and only they do."""
    rng = random.Random(2)
    rows = []
    for i in range(60):
        label = i % 2
        rows.append(["".join(rng.choice("mnop" if label else "abcd") for _ in range(rng.randrange(3, 9))) + " end",
                     str(label), "test" if i % 5 > 2 else "train"])
    one = b.write("one.csv", csv_text(["text", "label", "split"], rows))
    two = b.write("two.csv", csv_text(["text", "label", "split"], rows[::-1]))
    out = os.path.join(b.tmp, "depth")
    command = ["depth", b.model, "--data", one, "--data", two, "--site", "blocks.*.ln2.hook_out", "--split-column", "split", "--dtype", "f32",
               "--noise", "none", "--noise", "prefix", "--noise", "charswap:0.5", "--weights", "f32,bf16,int8,int4", "--out", out]
    first = run(*command)
    with open(out + "/depth.csv") as f:
        found = list(csv.DictReader(f))
    assert len(found) == 2 * 3 * 4 * 3
    assert [r["layer"] for r in found] == ["0", "1", "2"] * 24
    variants = {r["variant"] for r in found}
    assert len(variants) == 12 and "standardised" in variants and "standardised, noise prefix, int4 weights" in variants, variants
    plain = {r["variant"]: r["objective"] for r in found if r["dataset"] == "one" and r["layer"] == "2"}
    assert len(set(plain.values())) == 12, plain
    assert {r["n_train"] for r in found} == {"36"} and all(r["converged"] == "1" for r in found)
    html = open(out + "/report.html", encoding="utf-8").read()
    assert all(v in html for v in ("int4", "charswap", "one", "two"))
    again = run(*command)  # the stores are there: only the probes run
    assert "tok/s" in first.stderr and "tok/s" not in again.stderr, again.stderr
    # By hand: extract the last tokens, probe them.
    b.extract("by_hand", "--texts", one, "--tokens", "last", "--dtype", "f32", sites="blocks.*.ln2.hook_out")
    run("probe", b.tmp + "/by_hand", "--labels", one, "--split-column", "split", "--out", b.tmp + "/by_hand_probes")
    with open(b.tmp + "/by_hand_probes/probes.csv") as f:
        for mine, theirs in zip(csv.DictReader(f), found):
            for key in ("site", "n_train", "n_test", "accuracy", "auc", "log_loss", "objective"):
                assert mine[key] == theirs[key], (key, mine[key], theirs[key])


with tempfile.TemporaryDirectory() as folder:
    bench = Bench(folder)
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test(bench)
            print("ok", name, flush=True)
