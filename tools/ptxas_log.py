"""What `ptxas -v` said of each kernel while the build compiled it: kernels/cuda/keep_ptxas_log.sh keeps it by the object."""
import glob
import os
import re
import subprocess
from dataclasses import dataclass

ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(sm_\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(?:.*?, (\d+) bytes smem)?")
ELSE = re.compile(r"^(ptxas info|\s+\d+ bytes stack frame)|^\s*$")


@dataclass
class Kernel:
    name: str  # "norm_rows<true, false>"
    source: str  # "norm.cu"
    arch: str  # "sm_90"
    registers: int = 0
    stack: int = 0
    spills: int = 0  # bytes stored and loaded
    shared: int = 0  # static


def short_names(mangled):
    """Kernels' names without namespaces, types and parameters, by their mangled ones."""
    said = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True).stdout
    return {full: short_name(name) for full, name in zip(mangled, said.splitlines())}


def short_name(full):
    """'void sonde::(anonymous namespace)::f<g::A>(int)' -> 'f<A>'"""
    full = full.replace("(anonymous namespace)", "")
    name, depth = "", 0
    for i, c in enumerate(full):
        if c == "(" and depth == 0 and name:
            break
        if c == ":":
            name = re.sub(r"\w+$", "", name)
        elif c == " " and depth == 0:
            name = ""
        else:
            depth += {"<": 1, ">": -1}.get(c, 0)
            name += c
    return name.replace(" >", ">")


def logs(build):
    return sorted(glob.glob(os.path.join(build, "kernels/cuda/CMakeFiles/sonde_cuda.dir/**/*.cu.o.ptxas"), recursive=True))


def read(text, source):
    """(kernels, lines that are not ptxas -v's: warnings)"""
    kernels, others = [], []
    for line in text.splitlines():
        if found := ENTRY.search(line):
            kernels.append(Kernel(found.group(1), source, found.group(2)))
        elif kernels and (found := SPILLS.search(line)):
            kernels[-1].stack = int(found.group(1))
            kernels[-1].spills = int(found.group(2)) + int(found.group(3))
        elif kernels and (found := USED.search(line)):
            kernels[-1].registers = int(found.group(1))
            kernels[-1].shared = int(found.group(2) or 0)
        if not ELSE.search(line):
            others.append(f"{source}: {line.strip()}")
    names = short_names([k.name for k in kernels]) if kernels else {}
    for kernel in kernels:
        kernel.name = names[kernel.name]
    return kernels, others
