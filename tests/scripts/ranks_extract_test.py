#!/usr/bin/env python3
"""`sonde extract` on several ranks: the rows of one rank, whoever wrote them, whatever was killed, however it goes on.

usage: ranks_extract_test.py SONDE [TRIALS]   (5 kill trials, 20 in CI, 200 with SONDE_LONG=1; SONDE_KILL_SEED repeats a seed)
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import tiny_model
from mpi_launch import alive, environment, launch, need_mpi, ranks_of, wait

SONDE = sys.argv[1]
TRIALS = int(sys.argv[2]) if len(sys.argv) > 2 else 200 if os.environ.get("SONDE_LONG") else 20 if os.environ.get("CI") else 5
STOPPED = 75
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "io", "python"))
import sonde_store  # noqa: E402


def extract(model, ids, out, shard_rows, *more):
    return [SONDE, "extract", model, "--ids", ids, "--sites", "blocks.*.hook_resid_post,blocks.1.attn.hook_pattern,logits",
            "--dtype", "f32", "--store", "f32", "--shard-rows", str(shard_rows), "--batch-tokens", "64", *more, "--out", out]


def run(command, expected=0, ranks=None, **variables):
    done = subprocess.run(command if ranks is None else launch(ranks, command), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, env=environment(**variables), timeout=300)
    assert done.returncode == expected, f"{' '.join(command)} on {ranks} ranks: {done.returncode}\n{done.stdout}"
    return done.stdout


def same(whole, out, what):
    diff = subprocess.run([SONDE, "store", "diff", whole, out], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert diff.returncode == 0, f"{what}: stores differ:\n{diff.stdout}"
    run([SONDE, "store", "verify", out])
    left = [name for name in os.listdir(out) if "rank" in name]
    assert not left, f"{what}: left behind: {left}"
    shutil.rmtree(out)


def write_ids(path, rng, documents=300):
    with open(path, "w") as f:
        for i in range(documents):
            ids = [rng.randrange(tiny_model.CONFIG["vocab_size"]) for _ in range(rng.randrange(1, 40))]
            f.write(json.dumps({"id": f"d{i}", "ids": ids}) + "\n")


def interrupt(command, ranks, seconds, number, victims=None):
    """Sends a signal to one rank (or all) of a run after `seconds`; its exit code, or None if it was done before."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(launch(ranks, command), stdout=log, stderr=log, env=environment())
        time.sleep(seconds)
        pids, hit = ranks_of(process), False
        for rank, pid in pids.items():
            if (victims is None or rank in victims) and alive(pid):
                os.kill(pid, number)
                hit = True
        code = wait(process, pids.values(), 30)
        log.seek(0)
        output = log.read()
    assert code is not None, f"ranks lived on for 30 s:\n{output}"
    return (code if hit else None), output


def check_layouts(model, ids, whole, tmp):
    out = os.path.join(tmp, "out")
    for ranks, stages in ((1, 1), (2, 1), (3, 1), (2, 2), (3, 3)):
        text = run(extract(model, ids, out, 100, "--pipeline-parallel", str(stages)), ranks=ranks)
        if ranks > 1:
            assert f"{ranks} ranks: data {ranks // stages} x tensor 1 x pipeline {stages}" in text, text
            with open(os.path.join(out, "shards.jsonl")) as f:
                makers = {json.loads(line)["made_by"]["rank"] for line in f}
            assert makers <= set(range(ranks)), makers
        a, b = sonde_store.Store(whole), sonde_store.Store(out)
        assert (a.read("logits") == b.read("logits")).all() and (a.rows()["token"] == b.rows()["token"]).all()
        if ranks > 1:  # as if killed between the mark "complete" and the end of tidying up: the next start does the rest
            shutil.copy(os.path.join(out, "shards.jsonl"), os.path.join(out, "shards.rank-00001.jsonl"))
            run(extract(model, ids, out, 100), ranks=ranks)
        same(whole, out, f"{ranks} ranks, {stages} stages")
    # A part store of two ranks is the part store of one, and merges.
    run(extract(model, ids, out + "1", 100, "--part", "1/2"), ranks=2)
    run(extract(model, ids, out + "2", 100, "--part", "2/2"))
    run([SONDE, "store", "merge", out, out + "1", out + "2"])
    same(whole, out, "parts")
    shutil.rmtree(out + "1"), shutil.rmtree(out + "2")
    print("1, 2, 3 ranks, stages and parts: identical", flush=True)


def check_resume(model, ids, whole, tmp, rng, seconds):
    """Begun by so many ranks, stopped politely or killed, finished by so many others."""
    out = os.path.join(tmp, "resumed")
    stops = 0
    for begin, end, number in ((2, 3, signal.SIGUSR1), (3, 1, signal.SIGKILL), (3, None, signal.SIGUSR1),
                               (None, 2, signal.SIGUSR1), (None, 3, signal.SIGKILL), (None, None, signal.SIGTERM)):
        command = extract(model, ids, out, 50)
        for _ in range(20):
            shutil.rmtree(out, ignore_errors=True)
            after = random.uniform(0.3, 1.0) * seconds[begin]
            if begin is None:
                process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment())
                time.sleep(after)
                process.send_signal(number)
                code = process.wait()
            else:
                stages = ["--pipeline-parallel", str(rng.choice([1, begin]))]
                code, _ = interrupt(command + stages, begin, after, number, None if number == signal.SIGUSR1 else {begin - 1})
            if code not in (0, None) and os.path.exists(os.path.join(out, "manifest.json")):
                break
        stops += code == STOPPED
        text = run(command, ranks=end)
        same(whole, out, f"{begin} ranks, {number.name}, {end} ranks")
        print(f"{begin} ranks, {number.name} (exit code {code}), finished by {end}: identical;"
              f" {next((l for l in text.splitlines() if 'resuming' in l), 'from the start')}", flush=True)
    assert stops > 0, "no run was stopped politely: the test proved nothing"


def check_kills(model, ids, whole, tmp, rng, seconds):
    """Meshes of one tensor size have the same bits, whoever of a model's ranks was killed."""
    out, kills, named = os.path.join(tmp, "killed"), 0, 0
    wholes = {1: whole, 2: os.path.join(tmp, "whole-of-two")}
    run(extract(model, ids, wholes[2], 1000, "--tensor-parallel", "2"), ranks=2)
    for trial in range(TRIALS):
        shutil.rmtree(out, ignore_errors=True)
        tensor = rng.choice([1, 2])
        command = [*extract(model, ids, out, rng.choice([40, 150, 1000])), "--tensor-parallel", str(tensor)]

        def stages(ranks):
            return ["--pipeline-parallel", str(rng.choice([1, ranks // tensor]))]  # the victim is any stage's

        for _ in range(rng.randrange(1, 3)):
            ranks = rng.choice([2, 3] if tensor == 1 else [2, 4])
            code, output = interrupt(command + stages(ranks), ranks, rng.uniform(0.1, 1.1) * seconds[min(ranks, 3)], signal.SIGKILL,
                                     {rng.randrange(ranks)})
            if code:
                kills += 1
                named += "signal 9" in output and "rank" in output
        ranks = rng.choice([1, 2, 3] if tensor == 1 else [2, 4])
        run(command + stages(ranks), ranks=ranks)
        same(wholes[tensor], out, f"trial {trial}")
    print(f"{TRIALS} trials, {kills} kills while running ({named} named by the launcher): zero rows lost or doubled")
    assert kills > 0, "no kill hit a running rank: the test proved nothing"


def check_mistakes(model, ids, tmp):
    out = os.path.join(tmp, "mistakes")
    text = run([SONDE, "describe", model], expected=2, ranks=2)
    assert "sonde describe: found 2 ranks, expected one" in text, text
    for size, words in (("3", "expected auto or 1 to 2, the ranks"), ("0", "--tensor-parallel: found '0'"), ("two", "'two'")):
        text = run(extract(model, ids, out, 10, "--tensor-parallel", size), expected=2, ranks=2)
        assert words in text, text
    for mesh in (["--tensor-parallel", "2"], ["--pipeline-parallel", "2"], ["--tensor-parallel", "3", "--pipeline-parallel", "2"]):
        text = run(extract(model, ids, out, 10, *mesh), expected=2, ranks=3)
        assert "sizes whose product divides the ranks" in text, text
    text = run(extract(model, ids, out, 10, "--pipeline-parallel", "3"), expected=2, ranks=2)
    assert "--pipeline-parallel: found '3', expected auto or 1 to 2, the ranks" in text, text
    text = run([SONDE, "score", model, "--ids", ids, "--out", out, "--tensor-parallel", "1"], expected=2, ranks=2)
    assert "found 1 of 2 ranks, expected all" in text, text
    text = run([SONDE, "probe", out, "--labels", ids, "--out", out, "--tensor-parallel", "2"], expected=2, ranks=2)
    assert "--tensor-parallel: found '2', expected auto or 1" in text, text
    # Another model on one rank: each rank sees its own folder of that name.
    other = tiny_model.write(os.path.join(tmp, "other"), seed=2)
    command = ["sh", "-c", 'test "$OMPI_COMM_WORLD_RANK" = 1 && m="$1" || m="$0"; shift; exec "$@" $m', model, other]
    at = extract("", ids, out, 10)
    at.remove("")
    text = run(command + at[:2] + at[2:], expected=1, ranks=2)
    assert "the model is not the same on all ranks: rank 1" in text, text
    # Another build on one rank.
    build = os.path.join(tmp, "sonde")
    shutil.copy(SONDE, build)
    with open(build, "ab") as f:
        f.write(b"x")
    text = run(on_rank_1(f'set -- "{build}" "${{@:2}}"', extract(model, ids, out, 10)), expected=1, ranks=2)
    assert "the sonde binary is not the same on all ranks: rank 1" in text, text
    assert not os.path.exists(out), "a refused run left a store"
    print("mistakes: refused, by name", flush=True)


def on_rank_1(words, command):
    """`command`, before which rank 1 runs the shell's `words`."""
    return ["bash", "-c", f'if [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then {words}; fi; exec "$@"', "bash", *command]


def check_layout(model, ids, tmp):
    """Ranks share cores and agree on a CPU path."""
    out, plain = os.path.join(tmp, "generic"), os.path.join(tmp, "plain")
    run(extract(model, ids, plain, 100), SONDE_CPU_PATH="generic")
    text = run(on_rank_1("export SONDE_CPU_PATH=generic; unset OMP_NUM_THREADS", extract(model, ids, out, 100)), ranks=2)
    table = [line.split() for line in text.splitlines() if line[:6].strip().isdigit()]
    assert [row[4] for row in table] == ["generic", "generic"], text
    assert int(table[1][5]) <= max(1, os.cpu_count() // 2) or os.cpu_count() > 2, text
    same(plain, out, "one rank on an older CPU")
    shutil.rmtree(plain)
    print("a rank on an older CPU: all take its path; cores are shared", flush=True)


def check_hang(model, tmp, rng):
    ids, out = os.path.join(tmp, "many.jsonl"), os.path.join(tmp, "hung")
    write_ids(ids, rng, 6000)
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(launch(2, extract(model, ids, out, 100)), stdout=log, stderr=log,
                                   env=environment(SONDE_WATCHDOG_SECONDS="3"))
        while process.poll() is None and not os.path.exists(os.path.join(out, "shards.rank-00001.jsonl")):
            time.sleep(0.05)
        pids = ranks_of(process)
        assert process.poll() is None and 1 in pids, "the run was too short to hang"
        os.kill(pids[1], signal.SIGSTOP)
        start, code = time.time(), wait(process, pids.values(), 30)
        log.seek(0)
        output = log.read()
    assert code and "rank 1 (" in output and "hangs: no sign of life" in output, f"exit code {code}\n{output}"
    print(f"a rank that hangs: all ended after {time.time() - start:.1f} s", flush=True)
    shutil.rmtree(out)


def main(tmp):
    need_mpi(SONDE)
    seed = int(os.environ.get("SONDE_KILL_SEED", time.time_ns() % 2**32))
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    random.seed(seed)
    model = tiny_model.write(os.path.join(tmp, "model"))
    ids, whole = os.path.join(tmp, "ids.jsonl"), os.path.join(tmp, "whole")
    write_ids(ids, rng)
    seconds = {}
    for ranks in (None, 2, 3):
        shutil.rmtree(whole, ignore_errors=True)
        start = time.time()
        run(extract(model, ids, whole, 50), ranks=ranks)
        seconds[ranks] = time.time() - start
    shutil.rmtree(whole)
    run(extract(model, ids, whole, 1000))
    check_layouts(model, ids, whole, tmp)
    check_mistakes(model, ids, tmp)
    check_layout(model, ids, tmp)
    check_hang(model, tmp, rng)
    check_resume(model, ids, whole, tmp, rng, seconds)
    check_kills(model, ids, whole, tmp, rng, seconds)


with tempfile.TemporaryDirectory() as folder:
    main(folder)
