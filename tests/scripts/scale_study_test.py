#!/usr/bin/env python3
"""`sonde scale-study` on a tiny model: CSV and page are whole, phases add up, mistakes are named.

usage: scale_study_test.py SONDE
"""
import csv
import os
import subprocess
import sys
import tempfile

import tiny_model
from mpi_launch import environment, need_mpi

SONDE = sys.argv[1]


def study(*arguments, expected=0):
    done = subprocess.run([SONDE, "scale-study", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment(), timeout=300)
    assert done.returncode == expected, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout if expected == 0 else done.stderr


def main(tmp):
    need_mpi(SONDE)
    model, out = tiny_model.write(os.path.join(tmp, "model")), os.path.join(tmp, "out")
    printed = study(model, "--ranks", "1,2", "--tokens", "4096", "--document-tokens", "64", "--batch-tokens", "256",
                    "--repeats", "1", "--out", out)
    with open(os.path.join(out, "scaling.csv")) as f:
        text = f.read()
    assert printed == text
    rows = list(csv.DictReader(text.splitlines()))
    assert [(r["scaling"], r["ranks"], r["tokens"]) for r in rows] == \
        [("strong", "1", "4096"), ("strong", "2", "4096"), ("weak", "1", "4096"), ("weak", "2", "8192")], text
    phases = ("gemm_s", "attention_s", "rows_s", "communication_s", "capture_s", "io_s", "idle_s")
    for r in rows:
        values = {key: float(value) for key, value in r.items() if key != "scaling"}
        assert 0.3 * values["work_s"] < sum(values[p] for p in phases) < 1.01 * values["work_s"] + 1e-3, r
        assert values["wall_s"] > values["work_s"] > 0 and values["gemm_s"] > 0 and values["predicted_work_s"] > 0, r
        assert values["peak_memory_bytes"] > 1e7 and values["tokens_per_s"] > 0, r
    assert float(rows[0]["speedup"]) == float(rows[2]["efficiency"]) == 1, text
    with open(os.path.join(out, "report.html")) as f:
        page = f.read()
    for words in ("strong scaling", "weak scaling", "Speed-up", "Efficiency", "predicted by sonde plan", "communication",
                  "prefers-color-scheme:dark", "@media print", 'name="viewport"', "</html>"):
        assert words in page, words
    assert "http" not in page.replace("http-equiv", "") and "src=" not in page, "the page asks for something from outside"
    assert sorted(os.listdir(out)) == ["bench-1.json", "bench-2.json", "report.html", "scaling.csv"], os.listdir(out)
    print("scaling.csv and report.html: whole", flush=True)

    # Bytes along the axes, beside the plan's: all but what is said at the start, at each batch and at the end.
    for mesh, axis in (("--tensor-parallel", "tensor"), ("--pipeline-parallel", "pipeline")):
        text = study(model, "--ranks", "2", mesh, "2", "--tokens", "4096", "--document-tokens", "64", "--batch-tokens", "512",
                     "--sites", "blocks.*.hook_resid_post,blocks.0.mlp.hook_post,logits", "--repeats", "1", "--out", out)
        with open(os.path.join(out, "report.html")) as f:
            assert f"{axis}, MB" in f.read()
        for r in csv.DictReader(text.splitlines()):
            found, planned = float(r[f"{axis}_bytes"]), float(r[f"predicted_{axis}_bytes"])
            other = "pipeline" if axis == "tensor" else "tensor"
            assert planned > 1e6 and abs(found / planned - 1) < 0.02, f"{axis}: {found} bytes, planned {planned}"
            assert float(r[f"predicted_{other}_bytes"]) == 0 and float(r[f"{other}_bytes"]) == 0, r
            assert 0 < float(r["data_bytes"]) < 0.02 * planned, r
            print(f"{r['scaling']}, {axis}: {found:.0f} bytes of a rank, planned {planned:.0f}", flush=True)

    for arguments, expected, words in ((["--ranks", "2,1"], 2, "--ranks: found '2,1'"),
                                       (["--ranks", "0"], 2, "--ranks: found '0'"),
                                       (["--ranks", "1", "--document-tokens", "100000"], 2, "--document-tokens: found"),
                                       (["--ranks", "1", "--launcher", "mpiexec"], 2, "{ranks}"),
                                       (["--ranks", "2", "--launcher", "no-such-launcher {ranks}"], 1,
                                        "no-such-launcher: cannot be started"),
                                       (["--ranks", "2", "--launcher", "false {ranks}"], 1, "ended with exit code 1"),
                                       (["--ranks", "3", "--launcher", "mpiexec --allow-run-as-root --oversubscribe -n 2 env X={ranks}"],
                                        1, "found 2 ranks in a run of 3")):
        text = study(model, *arguments, "--tokens", "512", "--repeats", "1", "--out", os.path.join(tmp, "bad"), expected=expected)
        assert words in text, f"{arguments}: {text}"
    print("mistakes: refused, by name")


with tempfile.TemporaryDirectory() as folder:
    main(folder)
