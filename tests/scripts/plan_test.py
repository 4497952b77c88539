#!/usr/bin/env python3
"""`sonde plan` from the outside: a config alone, numbers by hand, refusals, and the bytes, tokens and memory of a real
`sonde extract` (tiny model).

usage: plan_test.py SONDE
"""
import json
import os
import random
import subprocess
import sys
import tempfile

import tiny_model

SONDE = sys.argv[1]
LLAMA_8B = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
            "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu",
            "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
RESIDUALS = ["--sites", "blocks.*.hook_resid_post"]
CACHE = os.environ.get("SONDE_CACHE", os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "sonde"))
SMOLLM2 = os.environ.get("SONDE_SMOLLM2_GGUF", os.path.join(CACHE, "SmolLM2-135M-Instruct.Q4_1.gguf"))
CLUSTER = ["--nodes", "8", "--gpus", "4", "--gpu-memory", "80G"]


def sonde(*arguments, expected=0, **variables):
    done = subprocess.run([SONDE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300,
                          env=os.environ | {"OMP_NUM_THREADS": "1"} | variables)
    assert done.returncode == expected, f"{' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout if expected == 0 else done.stderr


def plan(*arguments):
    return json.loads(sonde("plan", *arguments, "--json"))


def check_cluster(tmp):
    folder = os.path.join(tmp, "llama-8b")
    os.makedirs(folder)
    config = os.path.join(folder, "config.json")
    with open(config, "w") as f:
        json.dump(LLAMA_8B, f)
    found = plan(config, "--tokens", "1e9", *RESIDUALS, "--store", "bf16", *CLUSTER)
    assert found == plan(folder, "--tokens", "1000000000", *RESIDUALS, "--store", "bf16", *CLUSTER)
    assert found["model"] == "llama-8b" and found["parameters"] == 8030261248
    best = found["best"]
    assert (best["data"], best["tensor"], best["pipeline"]) == (32, 1, 1) and best["fits"]
    assert best["memory_bytes"]["by_kind"]["weights"] == 2 * 6979321856 + 4 * 266240
    assert best["memory_bytes"]["total"] == sum(best["memory_bytes"]["by_kind"].values()) < 80e9
    assert found["flops"]["linear"] == 2 * 6979321856 * 10**9
    assert found["store"]["row_bytes"] == 1e9 * (32 * 4096 * 2 + 16)
    assert abs(found["store"]["by_hook"][0]["bytes"] - 1e9 * 32 * 4096 * 2) < 1
    assert found["runners_up"] and all(1.021 * m["seconds"]["total"] >= best["seconds"]["total"] for m in found["runners_up"] if m["fits"])
    assert {"products", "network", "file system"} <= {a["what"] for a in found["assumptions"]}
    assert all(a["source"] for a in found["assumptions"])
    assert abs(found["gpu_hours"] - 32 * best["seconds"]["total"] / 3600) < 1e-6

    split = plan(config, "--tokens", "1e9", *RESIDUALS, *CLUSTER, "--tensor-parallel", "4")["best"]
    assert split["tensor"] == 4 and split["link_bytes_of_a_rank"]["inside_a_node"] > 0
    text = sonde("plan", config, "--tokens", "1e9", *RESIDUALS, *CLUSTER)
    for words in ("best mesh: data 32 x tensor 1 x pipeline 1", "assumptions", "data sheet", "GPU hours", "tokens/s"):
        assert words in text, f"{words}\n{text}"

    text = sonde("plan", config, "--tokens", "1e9", *RESIDUALS, "--nodes", "1", "--gpus", "2", "--gpu-memory", "6G", expected=1)
    assert text.count("\n") == 1 and "does not fit" in text and "nodes (data" in text and "GB a GPU" in text, text
    text = sonde("plan", config, "--tokens", "1e9", *RESIDUALS, *CLUSTER, "--storage", "10T", expected=1)
    assert "the store takes" in text and "--store bf16" in text, text
    print("a config alone: numbers by hand, the best mesh, refusals with what would fit", flush=True)
    return config


def check_mistakes(config, tmp):
    for arguments, words in ((["--tokens", "1e9"], "--sites is missing"),
                             (RESIDUALS, "expected --tokens N"),
                             (["--tokens", "x", *RESIDUALS], "--tokens: found 'x'"),
                             (["--tokens", "1.5", *RESIDUALS], "--tokens: found '1.5'"),
                             (["--tokens", "1e9", *RESIDUALS, "--gpus", "4", "--gpu-memory", "80Q"], "--gpu-memory: found '80Q'"),
                             (["--tokens", "1e9", *RESIDUALS, "--gpu-memory", "80G"], "--gpus is missing"),
                             (["--tokens", "1e9", *RESIDUALS, "--gpus", "4", "--gpu", "TPU"], "--gpu: found 'TPU'"),
                             (["--tokens", "1e9", *RESIDUALS, *CLUSTER, "--tensor-parallel", "3"], "cannot be laid out"),
                             (["--tokens", "1e9", "--sites", "nonsense", *CLUSTER], "matches no hook point"),
                             (["--tokens", "1e9", *RESIDUALS, "--nodes", "0", "--gpus", "4"], "--nodes: found 0")):
        text = sonde("plan", config, *arguments, expected=2)
        assert words in text, f"{arguments}: {text}"
    text = sonde("plan", os.path.join(tmp, "absent"), "--tokens", "1", *RESIDUALS, expected=1)
    assert "no such file or folder" in text, text
    bad = os.path.join(tmp, "bad.json")
    with open(bad, "w") as f:
        json.dump(LLAMA_8B | {"strange_key": 1}, f)
    assert "bad.json: key strange_key" in sonde("plan", bad, "--tokens", "1", *RESIDUALS, *CLUSTER, expected=1)
    bench = os.path.join(tmp, "bench.json")
    with open(bench, "w") as f:
        f.write("{}")
    text = sonde("plan", config, "--tokens", "1e6", *RESIDUALS, "--bench", bench, expected=1)
    assert "key rates" in text, text
    print("mistakes: refused, by name", flush=True)


def size_of(folder):
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)


def check_extraction(tmp):
    """Tokens, rows and bytes of what extract then writes."""
    rng = random.Random(3)
    model = tiny_model.write(os.path.join(tmp, "model"))
    ids = os.path.join(tmp, "ids.jsonl")
    with open(ids, "w") as f:
        for i in range(2000):
            f.write(json.dumps({"id": f"d{i}", "ids": [rng.randrange(300) for _ in range(rng.randrange(1, 60))]}) + "\n")
    cases = (["--sites", "blocks.*.hook_resid_post,logits"], "all", []), \
            (["--sites", "blocks.*.*", "--store", "bf16", "--shard-rows", "4000"], "all", []), \
            (["--sites", "logits"], "last", ["--context", "40", "--overflow", "truncate"])
    for sites, select, more in cases:
        out = os.path.join(tmp, "store")
        profile = os.path.join(tmp, "profile.json")
        found = plan(model, "--ids", ids, *sites, "--select", select, *more, "--dtype", "f32")
        sonde("extract", model, "--ids", ids, *sites, "--tokens", select, *more, "--dtype", "f32", "--out", out,
              "--profile", profile)
        with open(profile) as f:
            run = json.load(f)
        with open(os.path.join(out, "manifest.json")) as f:
            manifest = json.load(f)
        assert found["work"]["tokens"] == run["tokens"] and found["work"]["rows"] == manifest["rows"], (found["work"], run)
        real = size_of(out)
        off = found["store"]["bytes"] / real - 1
        assert abs(off) < 0.01, f"{sites}, {select}: planned {found['store']['bytes']:.0f} bytes, found {real}"
        rank = run["ranks"][0]
        assert abs(sum(rank["seconds"].values()) - rank["wall_seconds"]) < 1e-6 and rank["peak_memory_bytes"] > 10**7
        assert rank["seconds"]["gemm"] > 0 and rank["seconds"]["load"] > 0 and rank["seconds"]["capture"] > 0
        subprocess.run(["rm", "-r", out], check=True)
        print(f"{' '.join(sites)}, {select}: {real} bytes, planned {100 * off:+.2f} %", flush=True)
    # A bench of this machine replaces what is assumed.
    bench = os.path.join(tmp, "rates.json")
    with open(bench, "w") as f:
        f.write(sonde("bench", model, "--tokens", "32", "--documents", "16", "--repeats", "1", "--store-folder", tmp, "--json"))
    found = plan(model, "--ids", ids, "--sites", "logits", "--bench", bench)
    measured = {a["what"] for a in found["assumptions"] if bench in a["source"]}
    assert {"products", "attention", "norms, sums", "capture", "writer", "load"} <= measured, measured
    assert not [name for name in os.listdir(tmp) if name.startswith("sonde-bench")], "the bench left its store"
    # Where another number of ranks is planned on a node than was measured, the plan says so.
    done = subprocess.run([SONDE, "plan", model, "--ids", ids, "--sites", "logits", "--bench", bench, "--ranks", "3"],
                          capture_output=True, text=True, check=True)
    assert "measured by 1 rank of a node at once, the plan has 3" in done.stderr, done.stderr
    assert "warning" not in sonde("plan", model, "--ids", ids, "--sites", "logits", "--bench", bench)
    # Without one a CPU is measured, a layer of the model on as many ranks.
    found = plan(model, "--ids", ids, "--sites", "logits", "--ranks", "2", "--threads", "1")
    measured = {a["what"] for a in found["assumptions"] if a["source"].startswith("measured: one layer")}
    assert {"products", "attention", "norms, sums", "weights, read", "load"} <= measured, found["assumptions"]
    print("rates of sonde bench, or measured now: used, and said so")


def check_memory(tmp):
    """What a run takes at most, within 20 %: weights as the GEMM wants them, and as the file has them."""
    if not os.path.exists(SMOLLM2):
        print(f"memory of a real model: skipped, no {SMOLLM2}")
        return
    rng = random.Random(4)
    ids, out, profile = (os.path.join(tmp, name) for name in ("memory.jsonl", "memory", "memory.json"))
    with open(ids, "w") as f:
        for _ in range(8):
            f.write(json.dumps({"ids": [rng.randrange(1000, 40000) for _ in range(256)]}) + "\n")
    for weights in ("prepared", "quantised"):
        for sites in ("blocks.29.hook_resid_post", "blocks.*.hook_resid_post"):
            options = ["--ids", ids, "--sites", sites, "--dtype", "f32", "--weights-in-memory", weights]
            planned = plan(SMOLLM2, *options)["best"]["memory_bytes"]["total"]
            sonde("extract", SMOLLM2, *options, "--out", out, "--profile", profile)
            with open(profile) as f:
                found = json.load(f)["ranks"][0]["peak_memory_bytes"]
            subprocess.run(["rm", "-r", out], check=True)
            off = planned / found - 1
            print(f"memory, {weights}, {sites}: {found / 1e6:.0f} MB, planned {100 * off:+.1f} %", flush=True)
            assert abs(off) < 0.2, f"{weights}, {sites}: planned {planned} bytes, found {found}"


with tempfile.TemporaryDirectory() as folder:
    check_memory(folder)
    check_mistakes(check_cluster(folder), folder)
    check_extraction(folder)
