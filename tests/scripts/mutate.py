#!/usr/bin/env python3
"""Plants known bugs in kernels/cuda, one at a time, and shows that the tests of the emulated GPU catch each.

usage: mutate.py BUILD [--long] [--only NAME] [--table FILE]

BUILD is a build folder (Ninja) that holds test_kernels and test_kernels_race. Of each mutant one source is compiled
and linked in front of the library; a test that passed before must fail. By default those marked in_ci, with --long or
SONDE_LONG=1 all of them.
"""
import argparse
import json
import os
import re
import shlex
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import mpi_launch  # noqa: E402
from mutations import MUTATIONS  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY = {"plain": "sonde_emulated", "backend": "sonde_emulated", "race": "sonde_emulated_race", "ranks": "sonde_emulated"}
PROGRAM = {"plain": "test_kernels", "backend": "test_emulation_backend", "race": "test_kernels_race",
           "ranks": "device_collectives"}


def compile_command(build, library, source):
    """The command that compiles `source` for `library`, as a list without its output."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        entries = json.load(file)
    for entry in entries:
        if entry["file"].endswith(source) and f"/{library}.dir/" in entry["command"]:
            words = shlex.split(entry["command"])
            at = words.index("-o")
            return words[:at] + words[at + 2:words.index("-c")]
    sys.exit(f"mutate.py: {build}: no command compiles {source} for {library}")


def link_command(build, program):
    lines = subprocess.run(["ninja", "-C", build, "-t", "commands", program], check=True, capture_output=True, text=True)
    link = [line for line in lines.stdout.splitlines() if f"-o tests/{program} " in line][-1]
    return next(part for part in link.split(" && ") if f"-o tests/{program} " in part)


def build_mutant(build, mutation, folder):
    """Compiles and links; returns the program."""
    library, program = LIBRARY[mutation.mode], PROGRAM[mutation.mode]
    path = os.path.join(ROOT, "kernels/cuda", mutation.file)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    squeezed = re.escape(mutation.old).replace("\\ ", r"\s+")  # the formatter may break lines anew
    text, count = re.subn(squeezed, lambda _: mutation.new, text, count=1)
    if count == 0:
        sys.exit(f"mutate.py: {mutation.name}: {mutation.file} does not contain: {mutation.old}")
    mutant = os.path.join(folder, "kernels/cuda", mutation.file)
    os.makedirs(os.path.dirname(mutant), exist_ok=True)
    with open(mutant, "w", encoding="utf-8") as file:
        file.write(text)
    source = mutation.compiled or mutation.file
    if source != mutation.file:  # a header: the source that includes it is compiled from the same folder
        with open(os.path.join(ROOT, "kernels/cuda", source), encoding="utf-8") as file:
            original = file.read()
        with open(os.path.join(folder, "kernels/cuda", source), "w", encoding="utf-8") as file:
            file.write(original)
    compile_words = compile_command(build, library, f"kernels/cuda/{source}")
    compiler_at = next(i for i, word in enumerate(compile_words) if not word.endswith("ccache"))
    words = compile_words[compiler_at:compiler_at + 1] + [f"-I{folder}"] + compile_words[compiler_at + 1:]
    object_file = os.path.join(folder, "mutant.o")
    subprocess.run(words + ["-O1", "-w", "-o", object_file, "-c", os.path.join(folder, "kernels/cuda", source)],
                   check=True, cwd=build)
    target = os.path.join(folder, program)
    link = link_command(build, program).replace(f"-o tests/{program} ", f"-o {target} {object_file} ", 1)
    subprocess.run(link, shell=True, check=True, cwd=build)
    return target


def run(program, mutation):
    """Whether the tests pass, and the last line of what they say."""
    environment = dict(os.environ, SONDE_EMULATION=mutation.settings, OMP_WAIT_POLICY="passive")
    command = [program, f"--gtest_filter={mutation.tests}", "--gtest_brief=1", "--gtest_fail_fast"]
    if mutation.mode == "ranks":  # two, one of which says that all is well
        command, environment = mpi_launch.launch(2, [program]), mpi_launch.environment(**environment)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        return False, "no end"
    if re.search(r"\[==========\] 0 tests", done.stdout):
        sys.exit(f"mutate.py: {mutation.name}: no test is called {mutation.tests}")
    said = [line for line in (done.stdout + done.stderr).splitlines() if "FAILED" in line or "emulated GPU" in line or line.startswith("[rank ")]
    return done.returncode == 0, said[0] if said else f"exit code {done.returncode}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only")
    parser.add_argument("--table")
    options = parser.parse_args()
    options.long |= bool(os.environ.get("SONDE_LONG"))
    build = os.path.abspath(options.build)
    chosen = [m for m in MUTATIONS if options.only in (None, m.name) and (options.long or options.only or m.in_ci)]
    if not os.path.exists(os.path.join(build, "tests", PROGRAM["ranks"])) or mpi_launch.MPIEXEC is None:
        chosen = [m for m in chosen if m.mode != "ranks"]
    if not chosen:
        sys.exit(f"mutate.py: no mutation is called {options.only}")
    rows, missed, passed_before = [], [], set()
    for mutation in chosen:
        before = (mutation.mode, mutation.tests, mutation.settings)
        if before not in passed_before:  # a test that fails anyway catches nothing
            fine, said = run(os.path.join(build, "tests", PROGRAM[mutation.mode]), mutation)
            if not fine:
                sys.exit(f"mutate.py: {mutation.tests} fails without a mutation: {said}")
            passed_before.add(before)
        program = build_mutant(build, mutation, os.path.join(build, "mutants", mutation.name))
        passed, said = run(program, mutation)
        os.remove(program)
        print(f"{'MISSED' if passed else 'caught'} {mutation.name}: {said}", flush=True)
        rows.append((mutation, passed, said))
        if passed:
            missed.append(mutation.name)
    if options.table:
        with open(options.table, "w", encoding="utf-8") as file:
            file.write("| bug | file | tests | build | outcome |\n|---|---|---|---|---|\n")
            for mutation, passed, _ in rows:
                file.write(f"| {mutation.what} | `{mutation.file}` | `{mutation.tests}` | {mutation.mode} "
                           f"{mutation.settings} | {'missed' if passed else 'caught'} |\n")
    if missed:
        sys.exit(f"mutate.py: {len(missed)} of {len(chosen)} bugs were not caught: {', '.join(missed)}")
    print(f"all {len(chosen)} planted bugs are caught")


if __name__ == "__main__":
    main()
