#!/usr/bin/env python3
"""sonde generate from the outside: goldens, formats, batches, sampling, stops, captures, resume, bad input. usage: generate_test.py SONDE"""
import json
import os
import signal
import subprocess
import tempfile
import time

import numpy as np

import tiny_model
from sonde_cli import GOLDEN, LONG, SONDE, Store, read_lines, run, write_lines

PROMPTS = [{"id": "b", "text": "The lighthouse"}, {"id": 7, "ids": [1, 2, 3]}, {"id": "long", "ids": [5, 9] * 40}, {"id": "one", "ids": [65]}]


def size_of(path):
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


class Bench:
    def __init__(self, tmp):
        self.tmp = tmp
        self.model = tiny_model.write_with_tokenizer(os.path.join(tmp, "model"))
        self.prompts = write_lines(os.path.join(tmp, "prompts.jsonl"), PROMPTS)
        self.n = 0

    def generate(self, *options, code=0, model=None, prompts=None, env=None):
        self.n += 1
        out = os.path.join(self.tmp, f"out{self.n}.jsonl")
        result = run("generate", model or self.model, "--prompts", prompts or self.prompts, "--out", out, "--dtype", "f32", *options, code=code, env=env)
        return result if code else read_lines(out)

    def stream(self, prompt, *options):
        command = [SONDE, "generate", self.model, "--prompt", prompt, "--greedy", "--ignore-eos", "--stream", "--dtype", "f32"]
        out = subprocess.run([*command, *map(str, options)], capture_output=True, check=True).stdout.decode()
        assert out.endswith("\n")
        return out[:-1]


def test_formats(b):
    """ids in, ids out: the new ones alone; text in is the tokenizer's; the text is what they add."""
    lines = b.generate("--max-new", 9, "--greedy", "--ignore-eos")
    assert [line["id"] for line in lines] == [p["id"] for p in PROMPTS]
    assert all(len(line["ids"]) == 9 and line["stop"] == "max_new" for line in lines)
    text = PROMPTS[0]["text"]
    ids = write_lines(b.tmp + "/same.jsonl", [{"ids": list(text.encode())}])  # a byte is a token
    assert b.generate("--max-new", 9, "--greedy", "--ignore-eos", prompts=ids)[0]["ids"] == lines[0]["ids"]
    for line in lines:
        assert line["text"] == tiny_model.decode(line["ids"]), line
    csv = os.path.join(b.tmp, "p.csv")
    with open(csv, "w") as f:
        f.write(f"id,text\nb,{text}\n")
    assert b.generate("--max-new", 9, "--greedy", "--ignore-eos", prompts=csv)[0]["ids"] == lines[0]["ids"]
    assert b.stream(text, "--max-new", 9) == lines[0]["text"]
    assert "new tokens alone" in run("generate", b.model, "--help").stdout


def test_batches(b):
    """What a prompt gives depends on nobody else, however many run at once, in any order, on any number of threads."""
    for options in (["--greedy"], ["--temperature", "1.3", "--top-k", "40", "--top-p", "0.95", "--min-p", "0.01", "--repetition-penalty", "1.2", "--seed", "5"]):
        together = b.generate("--max-new", 20, *options)
        for sequences in (1, 3):
            assert b.generate("--max-new", 20, "--sequences", sequences, *options) == together
        assert b.generate("--max-new", 20, *options, env={"OMP_NUM_THREADS": "3"}) == together
    alone = [b.generate("--max-new", 20, "--greedy", prompts=write_lines(b.tmp + "/alone.jsonl", [p]))[0] for p in PROMPTS]
    assert alone == b.generate("--max-new", 20, "--greedy")


def test_sampling(b):
    sample = ["--max-new", 16, "--ignore-eos", "--temperature", "1.5"]
    seeds = [b.generate(*sample, "--seed", s) for s in (1, 1, 2)]
    assert seeds[0] == seeds[1] and seeds[0] != seeds[2]
    twice = write_lines(b.tmp + "/twice.jsonl", [{"ids": [1, 2, 3]}] * 2)  # the same prompt draws anew in another row
    a, c = b.generate(*sample, prompts=twice)
    assert a["ids"] != c["ids"] and a["id"] == 0 and c["id"] == 1
    greedy = b.generate("--max-new", 16, "--ignore-eos", "--greedy")
    for one in (["--top-k", 1], ["--top-p", "1e-9"], ["--min-p", 1], ["--temperature", "1e-4"]):
        assert b.generate("--max-new", 16, "--ignore-eos", *one) == greedy, one
    # A huge penalty: no token comes twice.
    for line in b.generate("--max-new", 16, "--ignore-eos", "--greedy", "--repetition-penalty", "1e6"):
        assert len(set(line["ids"])) == 16


def test_ends(b):
    free = b.generate("--max-new", 16, "--greedy", "--ignore-eos")
    text = free[0]["text"]
    # A stop string over a token's edge: it and what follows are not there.
    stop = next(text[i : i + 2] for i in range(2, 12) if not set(text[i : i + 2]) & {"\0", "\ufffd"})
    cut = b.generate("--max-new", 16, "--greedy", "--ignore-eos", "--stop", stop)[0]
    assert cut["text"] == text[: text.index(stop)] and cut["stop"] == "stop_string", (cut, text)
    assert cut["ids"] == free[0]["ids"][: len(cut["ids"])] and len(cut["ids"]) < 16
    assert b.stream(PROMPTS[0]["text"], "--max-new", 16, "--stop", stop) == cut["text"]
    # An end token of the config is in ids, and not in the text.
    end = free[1]["ids"][4]
    model = tiny_model.write_with_tokenizer(os.path.join(b.tmp, "ends"), eos_token_id=[299, end])
    line = b.generate("--max-new", 16, "--greedy", model=model)[1]
    n = free[1]["ids"].index(end) + 1
    assert line["ids"] == free[1]["ids"][:n] and line["stop"] == "end_token"
    assert line["text"] == tiny_model.decode(free[1]["ids"][: n - 1])
    short = b.generate("--max-new", 100, "--greedy", "--ignore-eos", "--context", 90)
    assert [len(line["ids"]) for line in short] == [90 - len(PROMPTS[0]["text"]), 87, 10, 89]
    assert all(line["stop"] == "context" for line in short)


def test_captures(b):
    """The store holds every token that was read, as the whole text through extract gives it."""
    sites = "blocks.*.hook_resid_post,blocks.1.attn.hook_pattern,logits"
    store = os.path.join(b.tmp, "acts")
    lines = b.generate("--max-new", 6, "--greedy", "--ignore-eos", "--sites", sites, "--captures", store)
    texts = [(list(p["text"].encode()) if "text" in p else p["ids"]) + line["ids"] for p, line in zip(PROMPTS, lines)]
    whole = write_lines(b.tmp + "/whole.jsonl", [{"id": p["id"], "ids": t[:-1]} for p, t in zip(PROMPTS, texts)])
    run("extract", b.model, "--ids", whole, "--sites", sites, "--out", b.tmp + "/whole", "--dtype", "f32")
    ours, theirs = Store(store), Store(b.tmp + "/whole")
    assert list(ours.documents()) == [str(p["id"]) for p in PROMPTS] and ours.sites == theirs.sites
    for key, values in ours.rows().items():
        assert np.array_equal(values, theirs.rows()[key]), key
    for site in ours.sites:
        assert np.array_equal(ours.read(site), theirs.read(site)), site
    rows, logits = ours.rows(), ours.read("logits")
    for d, (text, line) in enumerate(zip(texts, lines)):  # and what was recorded is what decided
        at = np.flatnonzero(rows["document"] == d)[-6:]
        assert logits[at].argmax(-1).tolist() == line["ids"]
    # While `last` is steered, each step's newest token has it: only the steps themselves show that.
    edits = b.tmp + "/steer.json"
    with open(edits, "w") as f:
        json.dump([{"site": "blocks.0.hook_resid_post", "op": "add", "value": 0.5, "tokens": "last"}], f)
    site = "blocks.0.hook_resid_post"
    b.generate("--max-new", 6, "--greedy", "--ignore-eos", "--edits", edits, "--sites", site, "--captures", b.tmp + "/steered")
    steered, rows = Store(b.tmp + "/steered"), None
    rows = steered.rows()
    for d, p in enumerate(PROMPTS):
        n = len(p.get("ids", p.get("text")))
        at = np.flatnonzero((rows["document"] == d) & (rows["position"] < n))
        plain = ours.read(site)[np.flatnonzero((ours.rows()["document"] == d) & (ours.rows()["position"] < n))]
        assert np.array_equal(steered.read(site)[at][:-1], plain[:-1])
        assert np.allclose(steered.read(site)[at][-1], plain[-1] + 0.5, atol=1e-5)
        assert len(np.flatnonzero(rows["document"] == d)) == n + 5


def test_steps_are_the_whole_text(b):
    """Bit for bit, on each instruction path: many heads over one of keys, windows, more keys than a block holds."""
    shape = dict(num_attention_heads=32, num_key_value_heads=1, head_dim=10, num_hidden_layers=2, max_position_embeddings=1024, hidden_size=40)
    models = [tiny_model.write(b.tmp + "/wide", **shape),
              tiny_model.write(b.tmp + "/window", architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=290, **shape)]
    rng = np.random.default_rng(0)
    prompts = [{"id": i, "ids": rng.integers(0, 300, n).tolist()} for i, n in enumerate([300, 3])]
    file = write_lines(b.tmp + "/steps.jsonl", prompts)
    edits = b.tmp + "/nothing.json"  # changes nothing, and is about the newest token: every step is gone through
    with open(edits, "w") as f:
        json.dump([{"site": "blocks.0.hook_resid_post", "op": "scale", "value": 1, "tokens": "last"}], f)
    sites, ignore = "blocks.*.attn.hook_z,logits", ["--ignore-config-key", "attention_bias", "--ignore-config-key", "mlp_bias"]
    for i, model in enumerate(models):
        for path in ("generic", "avx2", "avx512"):  # one that this CPU lacks is refused
            env = {"SONDE_CPU_PATH": path}
            if subprocess.run([SONDE, "devices"], capture_output=True, env={**os.environ, **env}).returncode != 0:
                continue
            store = f"{b.tmp}/steps-{i}-{path}"
            lines = b.generate("--max-new", 6, "--greedy", "--ignore-eos", "--edits", edits, "--sites", sites, "--captures", store, *ignore, model=model, prompts=file, env=env)
            whole = write_lines(store + ".jsonl", [{"ids": (p["ids"] + line["ids"])[:-1]} for p, line in zip(prompts, lines)])
            run("extract", model, "--ids", whole, "--sites", sites, "--out", store + "-whole", "--dtype", "f32", *ignore, env=env)
            steps, once = Store(store), Store(store + "-whole")
            for site in steps.sites:
                assert np.array_equal(steps.read(site), once.read(site)), (model, path, site)


def test_resume(b):
    """A killed run goes on where it was; another job's lines are refused."""
    many = write_lines(b.tmp + "/many.jsonl", [{"id": i, "ids": [i % 300, 3]} for i in range(100)])
    want = b.generate("--max-new", 100, "--temperature", 1, "--ignore-eos", prompts=many)
    out = b.tmp + "/killed.jsonl"
    command = [SONDE, "generate", b.model, "--prompts", many, "--max-new", "100", "--temperature", "1", "--ignore-eos", "--dtype", "f32", "--out", out]
    for _ in range(3):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for _ in range(1500):
            time.sleep(0.02)
            if process.poll() is not None or size_of(out + ".partial") > 0:
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
    if size_of(out + ".partial") > 0:
        assert "another job" in run(*command[1:5], "--max-new", 101, "--temperature", 1, "--ignore-eos", "--dtype", "f32", "--out", out, code=1).stderr
    run(*command[1:])
    assert read_lines(out) == want and not os.path.exists(out + ".partial")


def test_bad_input(b):
    def refused(rows, *options, code=1):
        result = b.generate("--greedy", *options, prompts=write_lines(b.tmp + "/bad.jsonl", rows), code=code)
        error = result.stderr.strip().split("\n")[-1]
        assert error.startswith(("sonde: error: ", "sonde: usage error: ")), result.stderr
        return error

    assert "300" in refused([{"id": "x", "ids": [1, 300]}]) and "prompt x" in refused([{"id": "x", "ids": [1, 300]}])
    assert "bad.jsonl line 1" in refused([{"ids": 5}]) and "array" in refused([{"ids": 5}])
    assert "line 2" in refused([{"ids": [5]}, {"ids": [-1]}]) and "-1" in refused([{"ids": [5]}, {"ids": [-1]}])
    assert "prompt e" in refused([{"id": "e", "ids": []}])
    assert "prompt 0" in refused([{"ids": [1] * 256}]) and "256" in refused([{"ids": [1] * 256}])
    assert "'text'" in refused([{"txt": "a"}])
    assert "no prompts" in refused([])
    assert "--temperature" in refused([{"ids": [1]}], "--temperature", 2, code=2)
    assert "--captures" in refused([{"ids": [1]}], "--sites", "logits", code=2)
    for option, value in (("--top-p", 0), ("--top-k", -1), ("--temperature", 0), ("--min-p", 2), ("--repetition-penalty", 0), ("--max-new", 0), ("--context", 2**31), ("--sequences", 0)):
        result = b.generate(option, value, code=2)
        assert option in result.stderr, result.stderr
    assert "--out" in run("generate", b.model, "--prompts", b.prompts, "--greedy", code=2).stderr
    bare = tiny_model.write(os.path.join(b.tmp, "bare"))  # no tokenizer: ids only
    assert "tokenizer" in b.generate("--greedy", model=bare, code=1).stderr
    ids = write_lines(b.tmp + "/ids.jsonl", [{"ids": [1, 2]}])
    line = b.generate("--greedy", "--max-new", 3, "--ignore-eos", model=bare, prompts=ids)[0]
    assert line["text"] is None and len(line["ids"]) == 3


def test_goldens(b):
    """Greedy continuations of every golden folder, id for id, in float32."""
    folder = os.path.join(GOLDEN, "models")
    if not os.path.isdir(folder):
        return print("skipped: no golden models")
    names = sorted(n for n in os.listdir(folder) if os.path.isdir(os.path.join(folder, n)))
    for name in names:
        path = os.path.join(folder, name)
        with open(path + "/golden.json") as f:
            golden = json.load(f)["prompts"]
        prompts = write_lines(b.tmp + "/golden.jsonl", [{"id": i, "ids": p["ids"]} for i, p in enumerate(golden)])
        for model in [path] + ([path + "/model.gguf"] if os.path.exists(path + "/model.gguf") else []):
            lines = b.generate("--max-new", len(golden[0]["greedy"]), "--greedy", "--ignore-eos", model=model, prompts=prompts)
            assert [line["ids"] for line in lines] == [p["greedy"] for p in golden], model


def test_real_models(b):
    """Greedy continuations of the real models where they and their goldens are present."""
    cache = os.environ.get("SONDE_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "sonde")
    for name, file in (("SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct.Q4_1.gguf"), ("gemma-3-270m", "gemma-3-270m-q4_k_m.gguf")):
        model, golden = os.path.join(cache, file), os.path.join(GOLDEN, "real", name)
        if not os.path.exists(model) or not os.path.exists(golden + ".json"):
            print("skipped:", file, "or its golden is not there")
            continue
        tensors = read_safetensors(golden + ".safetensors")
        with open(golden + ".json") as f:
            texts = json.load(f)["prompts"]
        names = [n for n in texts if LONG or n in ("short", "digits", "chat")]
        prompts = write_lines(b.tmp + "/real.jsonl", [{"id": n, "ids": tensors[n + ".ids"].tolist()} for n in names])
        lines = b.generate("--max-new", 24, "--greedy", "--ignore-eos", model=model, prompts=prompts)
        for line in lines:
            assert line["ids"] == tensors[line["id"] + ".greedy_ids"].tolist(), (name, line)
            if line["text"] is not None:
                assert line["text"] == texts[line["id"]]["greedy_text"], (line, texts[line["id"]]["greedy_text"])


def read_safetensors(path):
    with open(path, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        header, data = json.loads(f.read(size)), f.read()
    types = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "I32": np.int32}
    return {n: np.frombuffer(data[t["data_offsets"][0] : t["data_offsets"][1]], types[t["dtype"]]).reshape(t["shape"])
            for n, t in header.items() if n != "__metadata__"}


with tempfile.TemporaryDirectory() as folder:
    bench = Bench(folder)
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            start = time.time()
            test(bench)
            print("ok", name, f"{time.time() - start:.1f} s", flush=True)
