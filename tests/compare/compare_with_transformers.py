#!/usr/bin/env python3
"""Every family against transformers, over random small models: a check to run by hand.

    python -m venv venv && venv/bin/pip install torch transformers h5py numpy
    venv/bin/python tests/compare/compare_with_transformers.py --sonde build/release/apps/sonde [--family phi3] [--models 20]

Each model is written as transformers writes it, with today's config keys, with those of older files, and with keys
left out that have a default; as one file or several; with a base model's tensor names. For each, every hook point of
every prompt (packed by `sonde extract`) is compared with transformers in float64, and greedy continuations with
`sonde generate`. A failure keeps its folder and prints the command.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../io/python"))
import families as known
from reference import Recorder, draw_weights, exact
from sonde_store import Store

LIMIT = 5e-6
NEW_TOKENS = 8
LONGEST = (4096, 64)  # tokens of a sequence, also beyond the config's; of learned positions


def relative_error(found, expected):
    finite = np.isfinite(expected)
    if found.shape != expected.shape or not np.array_equal(np.where(finite, 0, found), np.where(finite, 0, expected)):
        return float("inf")
    size = np.linalg.norm(expected[finite])
    return np.linalg.norm(found[finite].astype(np.float64) - expected[finite]) / (size or 1)


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command[:3]))}: {done.stderr.strip()}")
    return done.stdout


def prompts_of(draw, config):
    r = config.get("rope_parameters", {})
    r = r.get("full_attention", r)
    edge = config.get("original_max_position_embeddings") or r.get("original_max_position_embeddings")
    if r.get("rope_type") == "dynamic":
        edge = config["max_position_embeddings"]
    lengths = [1, draw.upto(2, 30), 40] + ([edge - 1, edge, edge + 1] if edge and edge < 40 else [])
    vocab = config["vocab_size"]
    return [[int(x) for x in draw.rng.integers(0, vocab, n)] for n in lengths]


def variants(family, folder, model, config, draw, work):
    """Folders that all describe one model: (what, path)."""
    model.save_pretrained(folder, max_shard_size=draw("5GB", "20KB"))
    saved = json.load(open(os.path.join(folder, "config.json")))
    yield "as saved", folder
    everything = json.loads(model.config.to_json_string(use_diff=False))
    if "_sliding_window_pattern" in everything:
        everything["_sliding_window_pattern"] = 6
    defaults = json.loads(type(model.config)().to_json_string(use_diff=False))
    defaults.pop("vocab_size", None)
    configs = {"all keys": everything, "older keys": known.classic(family, saved),
               "defaults left out": known.without_defaults(saved, defaults, draw),
               "older keys, defaults left out": known.without_defaults(known.classic(family, saved), defaults | {
                   "rope_theta": type(model.config).default_theta, "rotary_emb_base": 10000, "rotary_pct": 0.25,
                   "rope_scaling": None, "partial_rotary_factor": 0.25 if family == "stablelm" else 1.0}, draw)}
    for what, json_config in configs.items():
        json_config["model_type"] = family
        path = os.path.join(work, what.replace(" ", "-").replace(",", ""))
        os.makedirs(path)
        for name in os.listdir(folder):
            if name.endswith(".safetensors") or name.endswith(".index.json"):
                os.symlink(os.path.join(folder, name), os.path.join(path, name))
        with open(os.path.join(path, "config.json"), "w") as f:
            json.dump(json_config, f)
        yield what, path
    # the names without the base model's prefix, as a base model's file has them
    tensors = {n.removeprefix("model.").removeprefix("transformer.").removeprefix("gpt_neox."): t.contiguous()
               for n, t in torch_tensors(folder)}
    path = os.path.join(work, "base-names")
    os.makedirs(path)
    save_file(tensors, os.path.join(path, "model.safetensors"))
    shutil.copy(os.path.join(folder, "config.json"), path)
    yield "base model's names", path
    if "num_experts_per_tok" in saved:  # the tensors as transformers 5 holds them
        path = os.path.join(work, "stacked-experts")
        model.save_pretrained(path, save_original_format=False)
        yield "stacked experts", path


def torch_tensors(folder):
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            with safe_open(os.path.join(folder, name), "pt") as f:
                for key in f.keys():
                    yield key, f.get_tensor(key)


def compare(sonde, family, folder, prompts, expected, greedy, work):
    """What differs, and the worst error."""
    out = os.path.join(work, "store")
    shutil.rmtree(out, ignore_errors=True)
    ids = os.path.join(work, "ids.jsonl")
    with open(ids, "w") as f:
        f.writelines(json.dumps({"id": str(i), "ids": p}) + "\n" for i, p in enumerate(prompts))
    sites = ",".join(expected[0])
    run(sonde, "extract", folder, "--ids", ids, "--sites", sites, "--dtype", "f32", "--context", LONGEST[family == "gpt2"],
        "--out", out)
    listed = [line.split()[0] for line in run(sonde, "hooks", folder).splitlines() if line.split()]
    store = Store(out)
    document = store.rows()["document"]
    problems, worst = [], 0
    hooks = {name if not name.startswith("blocks.") else "blocks.{l}." + name.split(".", 2)[2] for name in expected[0]}
    missing = {h for h in listed if h.startswith("blocks.") or h.startswith(("hook_", "ln_final", "logits"))}
    missing = {"blocks.{l}." + h.split(".", 2)[2] if h.startswith("blocks.") else h for h in missing}
    if missing != hooks:
        problems.append(f"points: {sorted(missing ^ hooks)}")
    for site in store.sites:
        rows = store.read(site)
        for i, prompt in enumerate(prompts):
            found, truth = rows[document == i], expected[i][site]
            if site.endswith(("hook_attn_scores", "hook_pattern")):
                found = found.transpose(1, 0, 2)[:, :, : len(prompt)]
            error = relative_error(found, truth)
            if site.endswith("attn_scores") and len(prompt) == 1:  # a dot product or a few, any of them near zero
                attn = site.rpartition(".")[0]
                q, k = (expected[i].get(f"{attn}.hook_rot_{x}", expected[i][f"{attn}.hook_{x}"]) for x in "qk")
                error *= np.linalg.norm(truth) * q.shape[-1] ** 0.5 / (np.linalg.norm(q) * np.linalg.norm(k))
            worst = max(worst, error)
            if not error <= LIMIT:
                problems.append(f"{site}, {len(prompt)} tokens: {error:.2g}")
    if greedy is not None:
        path = os.path.join(work, "generated.jsonl")
        if os.path.exists(path):
            os.remove(path)
        run(sonde, "generate", folder, "--prompts", ids, "--max-new", NEW_TOKENS, "--greedy", "--ignore-eos", "--dtype",
            "f32", "--context", LONGEST[family == "gpt2"], "--out", path)
        for line, (tokens, margin) in zip(open(path), greedy):
            if json.loads(line)["ids"] != tokens and margin > 1e-4:
                problems.append(f"greedy: found {json.loads(line)['ids']}, expected {tokens}, margin {margin:.2g}")
    return problems, worst


def check(sonde, family, number, keep):
    draw = known.Draw(np.random.default_rng([number, sum(map(ord, family))]))
    config = known.FAMILIES[family](draw)
    work = tempfile.mkdtemp(prefix=f"sonde-{family}-{number}-")
    with exact():
        hf = AutoConfig.for_model(family, **json.loads(json.dumps(config)))
        eager = {"attn_implementation": "eager", "experts_implementation": "eager"}
        model = draw_weights(AutoModelForCausalLM.from_config(hf, **eager).double().eval(),
                             torch.Generator().manual_seed(number))
    prompts = prompts_of(draw, config)
    recorder = Recorder(model, family)
    expected = [recorder(p) for p in prompts]
    limit = config["n_positions"] if family == "gpt2" else 10**9
    greedy = [recorder.greedy(p, min(NEW_TOKENS, limit - len(p))) for p in prompts]
    stored = AutoModelForCausalLM.from_config(hf).float()
    stored.load_state_dict({n: t.float() for n, t in model.state_dict().items()}, strict=False)
    failed, worst = False, 0
    folder = os.path.join(work, "saved")
    for what, path in variants(family, folder, stored, config, draw, work):
        try:
            problems, error = compare(sonde, family, path, prompts, expected, greedy if what == "as saved" else None, work)
            worst = max(worst, error)
        except RuntimeError as refused:
            problems = [str(refused)]
        if problems:
            failed = True
            print(f"  FAILED {family} {number}, {what}: {path}\n    " + "\n    ".join(problems[:6]), flush=True)
    if failed:
        print(f"    config: {json.dumps(config)}", flush=True)
    if not (failed or keep):
        shutil.rmtree(work)
    return not failed, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sonde", default="build/release/apps/sonde")
    parser.add_argument("--family", action="append", choices=list(known.FAMILIES))
    parser.add_argument("--models", type=int, default=10, help="of each family")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--keep", action="store_true", help="keep every folder")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    bad = 0
    for family in options.family or known.FAMILIES:
        results = [check(options.sonde, family, n, options.keep) for n in range(options.first, options.first + options.models)]
        failed = sum(not good for good, _ in results)
        bad += failed
        print(f"{family:12} {len(results) - failed} of {len(results)} equal, worst error {max(w for _, w in results):.2g}",
              flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
