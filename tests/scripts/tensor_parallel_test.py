#!/usr/bin/env python3
"""Models spread over ranks: the goldens, random models of every family and edits (tensor_parallel.cpp), then `sonde`
itself: stores, resume on another mesh, stops, memory. SONDE_LONG=1: all counts of ranks.

usage: tensor_parallel_test.py TENSOR_PARALLEL SONDE
"""
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

import tiny_model
from mpi_launch import alive, environment, launch, need_mpi, ranks_of, wait

PROGRAM, SONDE = sys.argv[1:3]
LONG = bool(os.environ.get("SONDE_LONG"))


def check_models(tensor, stages=1):
    start, ranks = time.time(), tensor * stages
    done = subprocess.run(launch(ranks, [PROGRAM, "--gtest_color=no", "--gtest_brief=1", str(stages)]), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, env=environment(), timeout=3000)
    assert done.returncode == 0 and f"ok on {ranks} ranks" in done.stdout, done.stdout[-6000:]
    read = [line for line in done.stdout.splitlines() if " of the file" in line]
    print(f"models on tensor {tensor} x pipeline {stages}: {time.time() - start:.0f} s; {'; '.join(read)}", flush=True)


def run(command, ranks=None, expected=0, prefix=(), **variables):
    command = [*prefix, *command]
    done = subprocess.run(command if ranks is None else launch(ranks, command), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, env=environment(**variables), timeout=600)
    assert done.returncode == expected, f"{' '.join(command)} on {ranks} ranks: {done.returncode}\n{done.stdout}"
    return done.stdout


def extract(model, ids, out, *more, sites="blocks.*.hook_resid_post,blocks.1.attn.*,blocks.*.mlp.hook_post,logits",
            batch=512):
    return [SONDE, "extract", model, "--ids", ids, "--sites", sites, "--dtype", "f32", "--batch-tokens", str(batch), *more,
            "--out", out]


def on_mesh(tensor, stages=1):
    return ["--tensor-parallel", str(tensor), "--pipeline-parallel", str(stages)]


def same(whole, out, tensor):
    """The rows of one rank: within the tolerance, and bit for bit where no sum over ranks is in them."""
    if tensor == 1:
        return run([SONDE, "store", "diff", whole, out])
    text = run([SONDE, "store", "diff", whole, out, "--tolerance", "5e-6"])
    assert "within" in text, text
    return text


def near(whole, out, ranks, tensor, stages):
    """The rows are right; the lines of shards.jsonl say which mesh made them: all ranks of last stages write."""
    same(whole, out, tensor)
    run([SONDE, "store", "verify", out])
    with open(os.path.join(out, "shards.jsonl")) as f:
        made_by = [json.loads(line)["made_by"] for line in f]
    for m in made_by:
        assert (m["data"], m["tensor"], m["pipeline"]) == (ranks // (tensor * stages), tensor, stages), m
        assert m["rank"] // tensor % stages == stages - 1, m
    writers = {m["rank"] for m in made_by}
    assert {rank % tensor for rank in writers} == set(range(tensor)), f"of {tensor} ranks that share a layer these wrote: {writers}"
    return len(writers)


def check_stores(model, ids, whole, tmp):
    meshes = [(2, 2, 1), (2, 1, 2), (4, 2, 1), (4, 2, 2), (3, 1, 3)]
    if LONG:
        meshes += [(3, 3, 1), (4, 4, 1), (4, 1, 1), (4, 1, 2), (4, 1, 4)]  # of four stages one has no layer
    for device in ("cpu", "emulated"):
        for ranks, tensor, stages in meshes:
            out, again = os.path.join(tmp, "out"), os.path.join(tmp, "again")
            plain = ranks // stages, on_mesh(tensor)  # stages change no bit
            for folder, n, mesh in ((out, ranks, on_mesh(tensor, stages)), (again, *plain)):
                run(extract(model, ids, folder, "--shard-rows", "600", "--device", device, *mesh), n)
                if device == "emulated":
                    with open(os.path.join(folder, "manifest.json")) as f:
                        assert "emulated" in f.read()
                    sums = {line.get("made_by", {}).get("sums") for line in lines_of(os.path.join(folder, "shards.jsonl"))}
                    assert sums == {"emulated NCCL, in the order of the ranks" if tensor > 1 else None}, sums
            if device == "cpu":
                writers = near(whole, out, ranks, tensor, stages)
                print(f"{ranks} ranks, tensor {tensor} x pipeline {stages}: as one rank; {writers} of them wrote", flush=True)
            run([SONDE, "store", "diff", out, again])  # the same tensor size: the same bits
            shutil.rmtree(out), shutil.rmtree(again)
            if device == "emulated" and not LONG and stages > 1:
                break


def check_gpus(model, ids, tmp):
    """Ranks take the GPUs of their machine in turn, and the table says so."""
    out = os.path.join(tmp, "gpus")
    text = run(extract(model, ids, out, "--max-tokens", "200", "--device", "emulated", *on_mesh(3)), 3, SONDE_EMULATION="devices=2")
    devices = [word for line in text.splitlines() for word in line.split() if word.startswith("emulated:")]
    assert devices[:3] == ["emulated:0", "emulated:1", "emulated:0"], text
    assert "sums over ranks: emulated NCCL" in text, text
    shutil.rmtree(out)
    print("3 ranks on 2 GPUs: in turn", flush=True)


def check_streams(model, ids, tmp):
    """From stage to stage the stream goes between devices, or by the hosts where these cannot, and the run says which; a stage that
    is stopped ends the run in time."""
    outs = [os.path.join(tmp, name) for name in ("by-devices", "by-hosts")]
    command = lambda out: extract(model, ids, out, "--max-tokens", "400", "--device", "emulated", *on_mesh(1, 3), batch=64)
    for out, variables, words in zip(outs, ({"SONDE_EMULATION": "streams=eager"}, {"SONDE_SUMS": "host"}),
                                     ("between stages: emulated NCCL\n", "between stages: MPI, through the hosts' memory (stages ")):
        text = run(command(out), 3, **variables)
        assert words in text, text
    run([SONDE, "store", "diff", *outs])
    few = os.path.join(tmp, "few-streams.jsonl")
    with open(ids) as f, open(few, "w") as g:
        g.writelines(f.readlines()[:6])
    for command_line in (["score", model, "--ids", few, "--batch-tokens", "30"], ["generate", model, "--prompts", few, "--max-new", "5"]):
        found = []
        for ranks, mesh in ((2, on_mesh(2)), (4, on_mesh(2, 2))):
            out = os.path.join(tmp, f"lines-{ranks}.jsonl")
            run([SONDE, *command_line, "--device", "emulated", "--dtype", "f32", *mesh, "--out", out], ranks)
            with open(out) as f:
                found.append(f.read())
            os.remove(out)
        assert found[0] == found[1], f"{command_line[0]} differs on stages"
    shutil.rmtree(outs[0])
    process = subprocess.Popen(launch(3, extract(model, ids, outs[0], "--device", "emulated", *on_mesh(1, 3), batch=16)),
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(SONDE_WATCHDOG_SECONDS="3"))
    while process.poll() is None and not glob.glob(os.path.join(outs[0], "shards.rank-*")):
        time.sleep(0.02)
    os.kill(ranks_of(process)[1], signal.SIGSTOP)
    text = process.communicate(timeout=60)[0]
    assert process.returncode != 0 and "rank 1 (" in text and " hangs: " in text, text
    shutil.rmtree(outs[0]), shutil.rmtree(outs[1])
    print("streams between stages: by devices as by hosts; one that is stopped is named", flush=True)


def check_stop_and_resume(model, ids, tmp):
    """A rank that does not write is asked to stop: all leave with 75; another mesh finishes."""
    parts = os.path.join(tmp, "parts")
    run(extract(model, ids, parts, batch=64))
    for tensor, stages in ((2, 1), (2, 2), (1, 4)) if LONG else ((2, 1), (2, 2)):
        check_stops_on(model, ids, parts, tmp, tensor, stages)


def check_stops_on(model, ids, parts, tmp, tensor, stages):
    stops = 0
    for trial in range(20):
        out = os.path.join(tmp, "stopped")
        shutil.rmtree(out, ignore_errors=True)
        command = extract(model, ids, out, "--shard-rows", "40", *on_mesh(tensor, stages), batch=64)
        process = subprocess.Popen(launch(4, command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
        while process.poll() is None and not glob.glob(os.path.join(out, "shards.rank-*")):
            time.sleep(0.02)
        pids = ranks_of(process)
        if 3 in pids and alive(pids[3]):
            os.kill(pids[3], signal.SIGTERM)
        code = wait(process, pids.values(), 30)
        assert code in (0, 75), code
        if code == 75:
            stops += 1
            for ranks, *mesh in ((3, 3, 1), (2, 1, 1), (3, 1, 3)):
                copy = os.path.join(tmp, "copy")
                shutil.copytree(out, copy)
                run(extract(model, ids, copy, "--shard-rows", "40", *on_mesh(*mesh), batch=64), ranks)
                same(parts, copy, max(tensor, mesh[0]))
                shutil.rmtree(copy)
            if not LONG or stops == 5:
                break
    assert stops > 0, "no run was stopped in time: the test proved nothing"
    print(f"SIGTERM to a rank of tensor {tensor} x pipeline {stages}: exit code 75, finished by other meshes", flush=True)


def lines_of(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def check_score_and_generate(model, ids, tmp):
    """One model on all ranks, in step; the first writes."""
    few = os.path.join(tmp, "few.jsonl")
    with open(ids) as f, open(few, "w") as g:
        g.writelines(f.readlines()[:12])
    outs = [os.path.join(tmp, name) for name in ("one.jsonl", "many.jsonl")]
    for ranks in (2, 3):
        for out, n in zip(outs, (None, ranks)):
            run([SONDE, "score", model, "--ids", few, "--dtype", "f32", "--out", out], n)
        for a, b in zip(*map(lines_of, outs)):
            assert a["id"] == b["id"] and np.allclose(a["log_probs"], b["log_probs"], rtol=0, atol=2e-5), (a, b)
        for out in outs:
            os.remove(out)
        for how in (["--greedy"], ["--temperature", "0.8", "--seed", "3"]):
            for out, n in zip(outs, (None, ranks)):
                run([SONDE, "generate", model, "--prompts", few, "--dtype", "f32", "--max-new", "8", *how, "--out", out], n)
            a, b = map(lines_of, outs)
            equal = sum(x["ids"] == y["ids"] for x, y in zip(a, b))
            assert len(a) == len(b) == 12 and equal >= 11, f"{equal} of 12 continuations are the same"  # ties may fall
            for out in outs:
                os.remove(out)
    for ranks, stages in ((2, 2), (3, 3)):  # the same bits, the same lines
        for command in (["score", model, "--ids", few, "--batch-tokens", "30"],
                        ["generate", model, "--prompts", few, "--max-new", "8", "--temperature", "0.8", "--seed", "3"]):
            for out, n, mesh in zip(outs, (None, ranks), ([], on_mesh(1, stages))):
                run([SONDE, *command, "--dtype", "f32", *mesh, "--out", out], n)
            with open(outs[0]) as f, open(outs[1]) as g:
                assert f.read() == g.read(), f"{command[0]} on {stages} stages differs"
            for out in outs:
                os.remove(out)
    run([SONDE, "generate", model, "--prompts", few, "--max-new", "3", *on_mesh(2, 2), "--out", outs[0]], 4)
    assert len(lines_of(outs[0])) == 12
    os.remove(outs[0])
    captures = [os.path.join(tmp, name) for name in ("one-acts", "many-acts")]
    sites = "blocks.*.hook_resid_post,blocks.1.attn.hook_pattern,logits"
    for tensor, stages in ((2, 1), (1, 2), (2, 2)):
        for out, store, n, mesh in zip(outs, captures, (None, tensor * stages), ([], on_mesh(tensor, stages))):
            run([SONDE, "generate", model, "--prompts", few, "--dtype", "f32", "--max-new", "4", "--seed", "3", "--temperature",
                 "0.8", "--sites", sites, "--captures", store, *mesh, "--out", out], n)
            os.remove(out)
        same(*captures, tensor)
        for store in captures:
            shutil.rmtree(store)
    print("score and generate on 2 and 3 ranks: as on one; on stages, bit for bit; their captures, too", flush=True)


def check_memory(tmp):
    """A model larger than what one rank may allocate runs on four."""
    model = tiny_model.write(os.path.join(tmp, "large"), hidden_size=512, intermediate_size=4096, num_hidden_layers=6,
                             num_attention_heads=8, num_key_value_heads=2, head_dim=64, vocab_size=20000)
    ids = os.path.join(tmp, "few.jsonl")
    with open(ids, "w") as f:
        f.writelines(json.dumps({"ids": [1, 2, 3, 4 + i]}) + "\n" for i in range(8))
    sites = "blocks.*.hook_resid_post,logits"
    for megabytes, out, mesh in ((130, "yes", (4, 1)), (190, "stages", (1, 4))):  # the last stage has a layer and the head
        limit = ["prlimit", f"--data={megabytes << 20}"]
        text = run(extract(model, ids, os.path.join(tmp, "no"), sites=sites), expected=1, prefix=limit)
        assert "out of memory" in text, text
        run(extract(model, ids, os.path.join(tmp, out), *on_mesh(*mesh), sites=sites), 4, prefix=limit)
    run(extract(model, ids, os.path.join(tmp, "free"), sites=sites))
    run([SONDE, "store", "diff", os.path.join(tmp, "stages"), os.path.join(tmp, "free")])
    run([SONDE, "store", "diff", os.path.join(tmp, "yes"), os.path.join(tmp, "free"), "--tolerance", "5e-6"])
    print("a model larger than a rank's memory limit runs on 4 ranks, and on 4 stages", flush=True)


def check_program(tmp):
    rng = random.Random(5)
    model, ids, whole = tiny_model.write(os.path.join(tmp, "model")), os.path.join(tmp, "ids.jsonl"), os.path.join(tmp, "whole")
    with open(ids, "w") as f:
        for i in range(300):
            tokens = [rng.randrange(tiny_model.CONFIG["vocab_size"]) for _ in range(rng.randrange(1, 40))]
            f.write(json.dumps({"id": f"d{i}", "ids": tokens}) + "\n")
    run(extract(model, ids, whole))
    check_stores(model, ids, whole, tmp)
    check_gpus(model, ids, tmp)
    check_streams(model, ids, tmp)
    check_score_and_generate(model, ids, tmp)
    check_stop_and_resume(model, ids, tmp)
    check_memory(tmp)


need_mpi(PROGRAM)
with tempfile.TemporaryDirectory() as folder:
    check_program(folder)
for mesh in ((1,), (2,), (3,), (4,), (1, 2), (2, 2), (1, 3), (1, 4)) if LONG else ((2,), (3,), (1, 2), (2, 2), (1, 3)):
    check_models(*mesh)
