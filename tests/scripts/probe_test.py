#!/usr/bin/env python3
"""sonde probe and probe apply from the outside, against numpy: kinds, scaling, splits, controls, several columns and
classes, other stores, bad input. usage: probe_test.py SONDE"""
import csv
import json
import os
import struct
import tempfile

import numpy as np

import tiny_model
from sonde_cli import Store, run

N = 90
SITES = "blocks.*.hook_resid_post,blocks.*.ln2.hook_out"


def read_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    assert header.pop("__metadata__")["format"] == "sonde-probes"
    return {name: np.frombuffer(data[slice(*t["data_offsets"])], {"F64": np.float64}[t["dtype"]]).reshape(t["shape"])
            for name, t in header.items()}


class Bench:
    """A store of last tokens and one of all tokens; labels that the last layer knows about, with some noise."""

    def __init__(self, tmp):
        self.tmp = tmp
        model = tiny_model.write(os.path.join(tmp, "model"))
        rng = np.random.default_rng(11)
        ids = os.path.join(tmp, "ids.jsonl")
        with open(ids, "w") as f:
            f.writelines(json.dumps({"ids": rng.integers(0, 300, rng.integers(1, 9)).tolist()}) + "\n" for _ in range(N))
        for tokens in ("last", "all"):
            run("extract", model, "--ids", ids, "--sites", SITES, "--tokens", tokens, "--dtype", "f32", "--out", os.path.join(tmp, tokens))
        self.store = Store(os.path.join(tmp, "last"))
        self.x = {site: self.store.read(site).astype(np.float64) for site in self.store.sites}
        direction = self.x["blocks.2.hook_resid_post"] @ rng.standard_normal(48) + 0.5 * rng.standard_normal(N)
        self.y = (direction > np.median(direction)).astype(int)
        self.three = np.digitize(direction, np.quantile(direction, [1 / 3, 2 / 3]))
        self.split = np.where(rng.random(N) < 0.6, "train", "test")
        self.group = rng.integers(0, 15, N)
        self.labels = os.path.join(tmp, "labels.csv")
        with open(self.labels, "w") as f:
            f.write("label,three,split,group,one,number\n")
            f.writelines(f"{a},{'abc'[b]},{c},{d},same,{e:.6f}\n" for a, b, c, d, e in zip(self.y, self.three, self.split, self.group, direction))

    def probe(self, name, *options, column="label", code=0, env=None):
        out = os.path.join(self.tmp, name)
        columns = [part for c in column.split("+") for part in ("--column", c)]
        result = run("probe", os.path.join(self.tmp, "last"), "--labels", self.labels, *columns, "--out", out, *options, code=code, env=env)
        if code:
            return result
        with open(os.path.join(out, "probes.csv")) as f:
            return list(csv.DictReader(f)), read_safetensors(os.path.join(out, "probes.safetensors"))


def sides(b, how):
    """Train and test rows: by the column, or as scikit-learn draws them."""
    if how == "column":
        return b.split == "train", b.split == "test"
    random = np.random.RandomState(42)
    if how == "seed":
        test = np.isin(np.arange(N), random.permutation(N)[:int(np.ceil(0.4 * N))])
    else:
        groups = np.unique(b.group)
        test = np.isin(b.group, groups[random.permutation(len(groups))[:int(np.ceil(0.4 * len(groups)))]])
    return ~test, test


def auc(score, y):
    pairs = score[y == 1][:, None] - score[y == 0][None, :]
    return ((pairs > 0) + 0.5 * (pairs == 0)).mean()


def f1(predicted, y, label):
    hit = ((predicted == label) & (y == label)).sum()
    return 2 * hit / ((predicted == label).sum() + (y == label).sum()) if hit else 0.0


def close(found, expected, tolerance, what):
    assert np.allclose(found, expected, rtol=tolerance, atol=tolerance), f"{what}: found {found}, expected {expected}"


def check_solution(b, kind, row, z, y, w, c, C=1.0):
    """The weights in the standardised features are those of the kind's definition."""
    site = row["site"]
    if kind == "logistic":
        margin = np.where(y == 1, 1, -1) * (z @ w + c)
        loss = 0.5 * w @ w + C * np.logaddexp(0, -margin).sum()
        slope = -C * np.where(y == 1, 1, -1) / (1 + np.exp(margin))
        close(float(row["objective"]), loss, 1e-10, site)
        assert np.abs(w + z.T @ slope).max() < 1e-6 and abs(slope.sum()) < 1e-6, (site, np.abs(w + z.T @ slope).max())
        assert row["converged"] == "1" and float(row["gradient_max"]) <= 1e-7
        return
    mean1, mean0 = z[y == 1].mean(0), z[y == 0].mean(0)
    if kind == "ridge":
        t = np.where(y == 1, 1.0, -1.0)
        centred = z - z.mean(0)
        expected = np.linalg.solve(centred.T @ centred + np.eye(len(w)), centred.T @ (t - t.mean()))
        bias = t.mean() - z.mean(0) @ expected
    elif kind == "mean-difference":
        expected = mean1 - mean0
        bias = -expected @ (mean1 + mean0) / 2
    else:
        within = z - np.where(y[:, None] == 1, mean1, mean0)
        sigma = within.T @ within / len(z)
        sigma = 0.9 * sigma + 0.1 * np.trace(sigma) / len(w) * np.eye(len(w))
        expected = np.linalg.solve(sigma, mean1 - mean0)
        bias = -expected @ (mean1 + mean0) / 2 + np.log((y == 1).mean() / (y == 0).mean())
    close(w, expected, 1e-7, site)
    close(c, bias, 1e-7, site)


def test_kinds_scaling_and_splits(b):
    options = {"column": ["--split-column", "split"], "seed": [], "group": ["--group-column", "group"]}
    for kind, how, scaled in (("logistic", "column", "yes"), ("logistic", "seed", "no"), ("logistic", "group", "yes"),
                              ("ridge", "group", "no"), ("ridge", "seed", "yes"), ("mean-difference", "column", "no"),
                              ("mean-difference", "seed", "yes"), ("lda", "column", "yes"), ("lda", "group", "no")):
        more = ["--shrinkage", "0.1"] if kind == "lda" else []
        rows, weights = b.probe(f"{kind}-{how}-{scaled}", "--kind", kind, "--standardise", scaled, *options[how], *more)
        train, test = sides(b, how)
        assert [row["site"] for row in rows] == b.store.sites
        for row in rows:
            site = row["site"]
            assert (int(row["n_train"]), int(row["n_test"])) == (train.sum(), test.sum()), (how, row)
            x = b.x[site]
            mean, scale = (x[train].mean(0), x[train].std(0)) if scaled == "yes" else (0 * x[0], 1 + 0 * x[0])
            close(weights[f"0/{site}/mean"], mean, 1e-12, site)
            close(weights[f"0/{site}/scale"], scale, 1e-12, site)
            z, w, c = (x - mean) / scale, weights[f"0/{site}/weight"][0], weights[f"0/{site}/bias"][0]
            check_solution(b, kind, row, z[train], b.y[train], w, c)
            score, y = z[test] @ w + c, b.y[test]
            predicted = (score > 0).astype(int)
            close(float(row["accuracy"]), (predicted == y).mean(), 1e-12, "accuracy")
            close(float(row["balanced_accuracy"]), np.mean([(predicted == y)[y == k].mean() for k in (0, 1)]), 1e-12, "balanced")
            close(float(row["f1"]), f1(predicted, y, 1), 1e-12, "f1")
            close(float(row["f1_label0"]), f1(predicted, y, 0), 1e-12, "f1_label0")
            close(float(row["auc"]), auc(score, y), 1e-12, "auc")
            assert float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"])
            if kind in ("logistic", "lda"):
                close(float(row["log_loss"]), np.logaddexp(0, np.where(y == 1, -score, score)).mean(), 1e-10, "log-loss")
            else:
                assert row["log_loss"] == "" and row["ece"] == ""


def test_folds_controls_and_columns(b):
    rows, weights = b.probe("folds", "--folds", "5", "--controls", "shuffled,random", column="label+three")
    assert len(rows) == 2 * len(b.store.sites) and [row["label"] for row in rows] == ["label"] * 6 + ["three"] * 6
    for row in rows:
        assert int(row["n_test"]) == N and int(row["n_train"]) == N - N // 5
        close(float(row["selectivity"]), float(row["accuracy"]) - float(row["shuffled_accuracy"]), 1e-12, "selectivity")
        assert float(row["random_accuracy"]) < 0.7 and float(row["shuffled_accuracy"]) < 0.7, row
    best = max(float(row["accuracy"]) for row in rows if row["label"] == "label")
    assert best > 0.75, best
    assert weights["1/blocks.2.hook_resid_post/weight"].shape == (3, 48)
    # The softmax of three classes: a probe on all rows (that is the one k-fold keeps) sits at its minimum.
    x, w, c = b.x["blocks.2.hook_resid_post"], weights["1/blocks.2.hook_resid_post/weight"], weights["1/blocks.2.hook_resid_post/bias"]
    z = (x - x.mean(0)) / x.std(0)
    p = np.exp(z @ w.T + c)
    slope = p / p.sum(1, keepdims=True) - np.eye(3)[b.three]
    assert np.abs(w + slope.T @ z).max() < 1e-6 and np.abs(slope.sum(0)).max() < 1e-6 and abs(c.sum()) < 1e-9
    rows, _ = b.probe("grouped_folds", "--folds", "3", "--group-column", "group")
    assert int(rows[0]["n_test"]) == N
    rows, _ = b.probe("regression", "--kind", "ridge-regression", "--split-column", "split", column="number")
    assert max(float(row["r2"]) for row in rows) > 0.5 and rows[0]["accuracy"] == ""


def test_same_bytes(b):
    def files(name, *options, env=None):
        b.probe(name, "--split-column", "split", "--controls", "shuffled,random", *options, env=env)
        return [open(os.path.join(b.tmp, name, file), "rb").read() for file in ("probes.csv", "probes.safetensors")]

    whole = files("whole", env={"OMP_NUM_THREADS": "3"})
    assert files("blocks", "--memory", "0.00001", env={"OMP_NUM_THREADS": "1"}) == whole  # a site at a time


def test_apply(b):
    _, weights = b.probe("for_apply", "--split-column", "split", column="label+three")
    out = os.path.join(b.tmp, "scores.csv")
    run("probe", "apply", os.path.join(b.tmp, "for_apply"), os.path.join(b.tmp, "all"), "--sites", "blocks.2.hook_resid_post", "--out", out)
    store = Store(os.path.join(b.tmp, "all"))
    rows, x = store.rows(), store.read("blocks.2.hook_resid_post").astype(np.float64)
    with open(out) as f:
        scored = list(csv.DictReader(f))
    assert len(scored) == 2 * len(store)
    for i, label in enumerate(("label", "three")):
        mine = [row for row in scored if row["label"] == label]
        w, c, mean, scale = (weights[f"{i}/blocks.2.hook_resid_post/{part}"] for part in ("weight", "bias", "mean", "scale"))
        scores = (x - mean) / scale @ w.T + c
        found = np.array([[float(s) for s in row["scores"].split()] for row in mine])
        close(found, scores, 1e-10, "scores")
        picks = (scores[:, 0] > 0).astype(int) if i == 0 else scores.argmax(1)
        assert [row["prediction"] for row in mine] == ["01abc"[2 * i + p] for p in picks]
        for key in ("document", "position", "token"):
            assert [int(row[key]) for row in mine] == rows[key].tolist(), key


def test_report(b):
    b.probe("report", "--split-column", "split", "--controls", "shuffled")
    html = open(os.path.join(b.tmp, "report", "report.html"), encoding="utf-8").read()
    assert "<svg" in html and "prefers-color-scheme" in html and "@media print" in html
    for outside in ("src=", "href=\"http", "@import", "url("):
        assert outside not in html, outside
    points = json.load(open(os.path.join(b.tmp, "report", "probes.json")))["runs"][0]["curves"]
    assert {"jump_point", "converging_point"} <= set(points[0])


def test_bad_input(b):
    assert "single class" in b.probe("single", column="one", code=1).stderr
    assert "'nothing'" in b.probe("column", column="nothing", code=1).stderr
    assert "'forest'" in b.probe("kind", "--kind", "forest", code=2).stderr
    assert "--C" in b.probe("c", "--C", "-1", code=2).stderr
    b.probe("both", "--split-column", "split", "--group-column", "group", code=2)
    short = os.path.join(b.tmp, "short.csv")
    with open(b.labels) as f, open(short, "w") as g:
        g.writelines(f.readlines()[:-1])
    result = run("probe", os.path.join(b.tmp, "last"), "--labels", short, "--out", os.path.join(b.tmp, "short"), code=1)
    assert f"{N - 1} rows" in result.stderr and str(N) in result.stderr and "HINT" in result.stderr
    assert not os.path.exists(os.path.join(b.tmp, "single", "probes.csv"))


with tempfile.TemporaryDirectory() as folder:
    bench = Bench(folder)
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test(bench)
            print("ok", name, flush=True)
