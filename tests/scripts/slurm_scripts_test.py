#!/usr/bin/env python3
"""Every script of slurm/ with DRY_RUN=1: the command it would run. Needs no Slurm.

usage: slurm_scripts_test.py SONDE SOURCE_DIR
"""
import glob
import os
import shlex
import subprocess
import sys
import tempfile

ROOT = sys.argv[2]
LAUNCH = ["srun", "--mpi=pmix", "--kill-on-bad-exit=1", "sonde"]


def dry(script, *arguments, expected=0, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SONDE", "ITEMS"))}
    done = subprocess.run(["bash", os.path.join(ROOT, "slurm", script), *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment | {"DRY_RUN": "1"} | variables)
    assert done.returncode == expected, f"{script} {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return shlex.split(done.stdout) if expected == 0 else done.stderr


def main(tmp):
    options = ["model dir", "--sites", "blocks.*.hook_resid_post", "--out", "run"]
    for subcommand in ("extract", "probe", "generate", "score"):
        assert dry(f"{subcommand}.sbatch", *options) == LAUNCH + [subcommand] + options, subcommand
    assert dry("preemptible.sbatch", *options) == LAUNCH + ["extract"] + options
    assert dry("extract.sbatch", "m", SONDE="apptainer exec s.sif sonde", SONDE_SRUN="--mpi=pmi2") == \
        ["srun", "--mpi=pmi2", "apptainer", "exec", "s.sif", "sonde", "extract", "m"]
    assert dry("scale-study.sbatch", "m", "--ranks", "1,2", "--out", "s") == \
        ["sonde", "scale-study", "m", "--ranks", "1,2", "--out", "s", "--launcher",
         "srun --mpi=pmix --kill-on-bad-exit=1 -n {ranks}"]

    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}
    assert dry("array.sbatch", "extract", "m", "--part", "{task}/{tasks}", "--out", "run.part-{task}", **task) == \
        LAUNCH + ["extract", "m", "--part", "3/8", "--out", "run.part-3"]
    items = os.path.join(tmp, "datasets.txt")
    with open(items, "w") as f:
        f.write("a.csv\nb.csv\nwith space.csv\n")
    assert dry("array.sbatch", "extract", "m", "--texts", "{item}", **task, ITEMS=items) == \
        LAUNCH + ["extract", "m", "--texts", "with space.csv"]
    text = dry("array.sbatch", "extract", "m", "--texts", "{item}", expected=2, ITEMS=items, SLURM_ARRAY_TASK_ID="9")
    assert "found no line 9" in text, text
    for n in (1, 2):
        os.makedirs(os.path.join(tmp, f"run.part-{n}"))
    assert dry("merge.sbatch", "run", os.path.join(tmp, "run.part-*")) == \
        ["sonde", "store", "merge", "run", os.path.join(tmp, "run.part-1"), os.path.join(tmp, "run.part-2")]

    for path in glob.glob(os.path.join(ROOT, "slurm", "*.sbatch")):
        with open(path) as f:
            script = f.read()
        subprocess.run(["bash", "-n", path], check=True)
        for words in ("#SBATCH --job-name=", "#SBATCH --output=", "DRY_RUN=1", "SONDE_ENV"):
            assert words in script, f"{path}: {words}"
    print("all scripts: their commands")


with tempfile.TemporaryDirectory() as folder:
    main(folder)
