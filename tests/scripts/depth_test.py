#!/usr/bin/env python3
"""sonde depth against the published curves of the concept-depth experiment, layer by layer. usage: depth_test.py SONDE

Cities alone, or with SONDE_LONG=1 every dataset and ablation. At most 2 test rows, AUC within 2e-4, log-loss and the
objective within 1e-4 of the references; raw residuals where the reference's own solver converged. AUC moves in steps of
one pair of test rows of different labels, so it may always be off by two: coin flip has 9,975 pairs, two are 2.005e-4,
and a float64 forward from the formula is two pairs from the references' float32 curve at two of its first 26 sites.
"""
import csv
import json
import os
import subprocess
import sys
import tempfile

SONDE = sys.argv[1]
HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.environ.get("SONDE_SHARED", os.path.join(HERE, "..", "..", "..", "shared"))
DATA = os.path.join(SHARED, "data", "concept_depth")
CACHE = os.environ.get("SONDE_CACHE", os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "sonde"))
MODEL = os.environ.get("SONDE_SMOLLM2_GGUF", os.path.join(CACHE, "SmolLM2-135M-Instruct.Q4_1.gguf"))
SITES = {"ln2_out": "blocks.{}.ln2.hook_out", "resid_post": "blocks.{}.hook_resid_post"}
LIMITS = {"correct": 2, "auc": 2e-4, "log_loss": 1e-4, "objective": 1e-4}


def depth(tmp, data, standardise, *options):
    # One folder for both ways of scaling: the second run finds the store complete.
    out = os.path.join(tmp, "-".join(["out", *options]).replace("/", "_"))
    sites = ",".join(s.format("*") for s in SITES.values())
    subprocess.run([SONDE, "depth", MODEL, "--data", os.path.join(DATA, data), "--site", sites, "--split-column", "split",
                    "--standardise", standardise, "--dtype", "f32", "--bootstrap", "0", "--out", out, *options],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(os.path.join(out, "depth.csv")) as f:
        return {row["site"]: row for row in csv.DictReader(f)}


def trustworthy(curve, layer):
    """Raw residuals: the reference's own solver must have reached the minimum there."""
    excess = curve.get("sklearn", {}).get("relative_excess")
    return excess is None or excess[layer] is None or abs(excess[layer]) < 1e-6


def test_pairs(data):
    with open(os.path.join(DATA, data)) as f:
        labels = [row["label"] for row in csv.DictReader(f) if row["split"] == "test"]
    return labels.count("1") * labels.count("0")


def compare(name, rows, curves, scaling, pairs):
    worst = dict.fromkeys(LIMITS, 0.0)
    for site, pattern in SITES.items():
        curve = curves.get(f"{site}.{scaling}")
        if curve is None:
            continue
        for layer, correct in enumerate(curve["correct"]):
            if scaling == "raw" and site == "resid_post" and not trustworthy(curve, layer):
                continue
            row = rows[pattern.format(layer)]
            assert row["converged"] in ("1", "true", "True"), (name, row["site"], row["gradient_max"])
            found = {"correct": abs(float(row["accuracy"]) * int(row["n_test"]) - correct),
                     "auc": abs(float(row["auc"]) - curve["auc"][layer]),
                     "log_loss": abs(float(row["log_loss"]) - curve["log_loss"][layer]),
                     "objective": abs(float(row["objective"]) / curve["objective"][layer] - 1)}
            for key, limit in LIMITS.items():
                worst[key] = max(worst[key], found[key])
                if key == "auc":
                    limit = max(limit, 2 / pairs)
                assert found[key] <= limit + 1e-9, f"{name} {row['site']} {scaling}: {key} off by {found[key]:.3g}, limit {limit}"
            for key in ("accuracy", "f1", "f1_label0"):
                assert abs(float(row[key]) - curve[key][layer]) < 0.03
    print("ok", name, scaling, {k: f"{v:.2g}" for k, v in worst.items()}, flush=True)


def main(tmp):
    reference = json.load(open(os.path.join(DATA, "curves_smollm2.json")))["datasets"]
    ablations = json.load(open(os.path.join(DATA, "curves_ablations.json")))["datasets"]
    runs = [("cities", "cities.csv", reference["cities"], [])]
    if os.environ.get("SONDE_LONG"):
        runs += [(name, name + ".csv", reference[name], []) for name in ("coin_flip", "stsa", "cities_grouped")]
        runs += [("noise", "cities_noise.csv", ablations["noise"], []),
                 ("int8", "cities.csv", ablations["int8"], ["--weights", "int8"]),
                 ("int4", "cities.csv", ablations["int4"], ["--weights", "int4"])]
    for name, data, curves, options in runs:
        for standardise, scaling in (("yes", "standardised"), ("no", "raw")):
            compare(name, depth(tmp, data, standardise, *options), curves["curves"], scaling, test_pairs(data))


if not os.path.exists(DATA) or not os.path.exists(MODEL):
    print(f"skipped: needs {DATA} and {MODEL}")
    sys.exit(77)
with tempfile.TemporaryDirectory() as folder:
    main(folder)
