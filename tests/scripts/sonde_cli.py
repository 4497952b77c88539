"""What the tests that drive `sonde` from the outside share. The program is their first argument."""
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "io", "python"))
from sonde_store import Store, StoreError  # noqa: E402, F401

SONDE = sys.argv[1]
GOLDEN = os.path.join(HERE, "..", "..", "..", "shared", "golden")
LONG = bool(os.environ.get("SONDE_LONG"))


def run(*arguments, code=0, env=None):
    """`sonde` with these words; what it printed. Another exit code ends the test, HDF5's own messages too."""
    result = subprocess.run([SONDE, *map(str, arguments)], capture_output=True, text=True, env={**os.environ, **(env or {})})
    if result.returncode != code or "HDF5-DIAG" in result.stderr:
        sys.exit(f"sonde {' '.join(map(str, arguments))}\nexit code {result.returncode}, expected {code}\n"
                 f"{result.stdout}{result.stderr}")
    return result


def read_lines(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def write_lines(path, rows):
    with open(path, "w") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)
    return path
