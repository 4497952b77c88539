#!/usr/bin/env python3
"""nvcc's verdict on kernels/cuda: no warning, no spilled register, every kernel for every architecture.

usage: nvcc_test.py BUILD

Reads what the build kept while it compiled for sm_80 and sm_90; with SONDE_LONG=1 compiles for sm_100, too. Prints
registers, stack, spills and static shared memory of each kernel.
"""
import json
import os
import shlex
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import ptxas_log  # noqa: E402

ARCHITECTURES = {"sm_80", "sm_90"}


def compile_for(build, arch, folder):
    """Compiles every source for `arch` alone; returns (source, what nvcc said) of each."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        entries = [e for e in json.load(file) if "sonde_cuda.dir" in e["command"] and e["file"].endswith(".cu")]
    number = arch.removeprefix("sm_")
    for entry in entries:
        words = [w for w in shlex.split(entry["command"]) if not w.startswith(("--generate-code", "-gencode"))]
        at = words.index("-o")
        words[at:at + 2] = ["-cubin", f"--generate-code=arch=compute_{number},code=[{arch}]", "-o", os.path.join(folder, "kernel.cubin")]
        said = subprocess.run(words, cwd=entry["directory"], capture_output=True, text=True)
        if said.returncode != 0:
            sys.exit(f"{entry['file']}: nvcc fails for {arch}:\n{said.stderr}")
        yield os.path.basename(entry["file"]), said.stderr


def main():
    build = sys.argv[1]
    logs = [(os.path.basename(path).removesuffix(".o.ptxas"), path) for path in ptxas_log.logs(build)]
    if not logs:
        print("skipped: this build has no nvcc")
        sys.exit(77)
    texts = [(source, open(path, encoding="utf-8").read(), ARCHITECTURES) for source, path in logs]
    if os.environ.get("SONDE_LONG"):
        with tempfile.TemporaryDirectory() as folder:
            texts += [(source, said, {"sm_100"}) for source, said in compile_for(build, "sm_100", folder)]

    wrong, count = [], {}
    for source, text, expected in texts:
        kernels, others = ptxas_log.read(text, source)
        wrong += [line for line in others]
        for arch in expected:
            count[arch] = count.get(arch, 0) + sum(k.arch == arch for k in kernels)
        names = [{k.name for k in kernels if k.arch == arch} for arch in expected]
        if any(n != names[0] for n in names) or {k.arch for k in kernels} - expected:
            wrong.append(f"{source}: not the same kernels for {', '.join(sorted(expected))}")
        for k in kernels:
            print(f"{source:<22} {k.arch:<7} {k.registers:>3} registers {k.stack:>4} stack {k.spills:>4} spilled {k.shared:>6} shared  {k.name}")
            if k.spills:
                wrong.append(f"{source}: {k.arch}: {k.name} spills {k.spills} bytes")
    if min(count.values()) < 50:
        wrong.append(f"only {count} kernels were found")
    if wrong:
        sys.exit("\n".join(wrong))
    print("no warnings, no spills:", ", ".join(f"{n} kernels for {arch}" for arch, n in sorted(count.items())))


main()
