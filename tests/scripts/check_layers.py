#!/usr/bin/env python3
"""Checks that every #include goes in a direction the house allows (CONTRIBUTING.md, "The house").

usage: check_layers.py ROOT     check the sources under ROOT
       check_layers.py --self-test
"""
import os
import re
import sys
import tempfile

# room: rooms of ours it may include, besides itself
ROOMS = {
    "runtime": set(),
    "kernels": {"runtime"},
    "distributed": {"runtime"},
    "io": {"runtime", "distributed"},
    "models": {"runtime", "kernels", "distributed", "io"},
    "apps": {"runtime", "kernels", "distributed", "io", "models"},
    "tests": {"runtime", "kernels", "distributed", "io", "models", "apps"},
}

# (foreign header, paths where it is at home); the first match decides
FOREIGN = [
    (r"(hdf5|H5\w+)\.h", r"io/h5|tests/io/"),
    (r"mpi\.h", r"distributed/mpi"),
    (r"nlohmann/.*", r"io/json\."),
    (r"z(std|lib|std_errors)\.h", r"io/text_reader\.|tests/(io|fuzz)/"),
    (r"boost/program_options.*", r"apps/"),
    (r"(dnnl|oneapi/dnnl/).*", r"kernels/cpu/|tests/bench/"),
    (r"(unicode/.*|pcre2\.h)", r"io/tokenizer/|tests/"),
    (r"(gtest|gmock|benchmark)/.*", r"tests/"),
    (r"Eigen/.*", r"tests/"),
    (r"fmt/.*", r""),
    (r"(cuda|cublas)\w*\.h", r"kernels/cuda/"),
    (r"nccl\.h", r"kernels/cuda/nccl"),
    (r"nvtx3/.*", r"runtime/nvtx|tests/nvtx/"),
    (r"sanitizer/\w+\.h", r"kernels/emulation/"),
    (r"(omp|immintrin|x86intrin|cpuid|nmmintrin)\.h", r"runtime/|kernels/|io/|tests/|models/probe/"),
    (r"(unistd|ucontext|spawn|fcntl|glob|dirent|signal|pthread|sched|strings|time|malloc|poll|dlfcn|link)\.h", r""),
    (r"sys/\w+\.h", r""),
    (r"[a-z_0-9]+", r""),  # the standard library
]

# (folder, prefix of includes, where they are allowed): rooms within a room; every rule must hold
WITHIN = [
    # The emulation knows CUDA, not Sonde's kernels; they reach it through gpu.h alone.
    ("kernels/emulation/", "kernels/", r"kernels/emulation/"),
    ("kernels/cuda/", "kernels/emulation/", r"kernels/emulation/(emulation|cublas_shim|nccl_shim)\.h"),
    ("kernels/cpu/", "kernels/cuda/", None),
    ("kernels/cpu/", "kernels/emulation/", None),
]

SOURCE = re.compile(r".*\.(h|hpp|inc|c|cc|cpp|cu|cuh)$")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def sources(root):
    for room in ROOMS:
        for folder, _, files in os.walk(os.path.join(root, room)):
            for name in sorted(files):
                if SOURCE.match(name):
                    yield os.path.relpath(os.path.join(folder, name), root)


def fault(root, path, kind, header):
    """Why `path` may not include `header`, or None."""
    room = path.split("/")[0]
    if kind == '"':
        if not os.path.isfile(os.path.join(root, header)):
            return "is no file of ours, counted from the root of the repository"
        if (target := header.split("/")[0]) != room and target not in ROOMS[room]:
            return f"{room} may include only {', '.join(sorted(ROOMS[room] | {room}))}"
        for folder, prefix, allowed in WITHIN:
            if path.startswith(folder) and header.startswith(prefix) and not (allowed and re.match(allowed, header)):
                return f"{folder} may not include it"
        return None
    for pattern, homes in FOREIGN:
        if re.fullmatch(pattern, header):
            return None if re.match(homes, path) else f"its home is {homes}"
    return "is a foreign header without a home: give it one in FOREIGN of check_layers.py, or do without"


def check(root):
    """Returns (number of includes, list of faults)."""
    count, faults = 0, []
    for path in sources(root):
        with open(os.path.join(root, path), encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if found := INCLUDE.match(line):
                    count += 1
                    if why := fault(root, path, *found.groups()):
                        faults.append(f"{path}:{number}: {found.group(2)}: {why}")
    return count, faults


def self_test():
    good = ['io/json.h: #include <nlohmann/json.hpp>', 'io/h5.cpp: #include <hdf5.h>', 'distributed/mpi.cpp: #include <mpi.h>', 'models/a.cpp: #include "io/json.h"',
            'apps/a.cpp: #include <boost/program_options.hpp>', 'kernels/a.h: #include "runtime/tensor.h"',
            'tests/io/a.cpp: #include "io/json.h"', 'kernels/cuda/a.cpp: #include <cuda_runtime.h>',
            'kernels/cuda/gpu.h: #include "kernels/emulation/emulation.h"', 'kernels/emulation/a.cpp: #include "runtime/tensor.h"', 'runtime/tensor.h: #include <vector>']
    bad = ['runtime/a.h: #include "io/json.h"', 'distributed/a.h: #include "io/json.h"', 'io/mpi.cpp: #include <mpi.h>',
           'kernels/a.h: #include "io/json.h"', 'io/a.h: #include "kernels/a.h"',
           'io/b.h: # include "models/a.h"', 'models/b.cpp: #include <hdf5.h>', 'io/table.cpp: #include <nlohmann/json.hpp>',
           'models/c.cpp: #include <boost/program_options.hpp>', 'io/c.cpp: #include <cuda_runtime.h>',
           'kernels/emulation/b.cpp: #include "kernels/cuda/gpu.h"', 'kernels/emulation/c.cpp: #include <cuda_runtime.h>',
           'kernels/cuda/b.cu: #include "kernels/emulation/engine.h"', 'kernels/cpu/a.cpp: #include "kernels/cuda/gpu.h"',
           'models/d.cpp: #include "apps/a.h"', 'kernels/cuda/d.cpp: #include <nvtx3/nvToolsExt.h>', 'models/e.cpp: #include "spec.h"', 'runtime/f.cpp: #include <gtest/gtest.h>']
    with tempfile.TemporaryDirectory() as root:
        for entry in good + bad + ["models/a.h: //", "kernels/emulation/emulation.h: //", "kernels/emulation/engine.h: //", "apps/a.h: //", "models/spec.h: //"]:
            path, line = entry.split(": ", 1)
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), "a", encoding="utf-8") as file:
                file.write(line + "\n")
        count, faults = check(root)
    expected = sorted(entry.split(": ")[0] for entry in bad)
    found = sorted(entry.split(":")[0] for entry in faults)
    assert count == len(good) + len(bad), count
    assert found == expected, (found, expected)


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        print("the checker finds what it should")
        return
    count, faults = check(sys.argv[1])
    for line in faults:
        print(line)
    if count == 0:
        sys.exit(f"{sys.argv[1]}: found no includes at all")
    if faults:
        sys.exit(f"{len(faults)} of {count} includes go the wrong way")
    print(f"{count} includes, all in an allowed direction")


if __name__ == "__main__":
    main()
