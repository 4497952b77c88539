"""Starts ranks by mpiexec, for tests; skips (exit code 77) where there is none."""
import os
import shutil
import subprocess
import sys
import time

MPIEXEC = shutil.which("mpiexec")


def need_mpi(sonde):
    if MPIEXEC is None:
        print("skipped: no mpiexec here")
        sys.exit(77)
    linked = subprocess.run(["ldd", sonde], stdout=subprocess.PIPE, text=True).stdout
    if "libmpi" not in linked:
        print("skipped: this sonde was built without MPI")
        sys.exit(77)


def launch(ranks, command):
    """The command line that runs `command` on so many ranks, also as root and on fewer cores."""
    options = ["-n", str(ranks)]
    version = subprocess.run([MPIEXEC, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    if "OpenRTE" in version or "Open MPI" in version:
        options = ["--allow-run-as-root", "--oversubscribe"] + options
    return [MPIEXEC] + options + command


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def ranks_of(process):
    """Processes that mpiexec started, by their rank."""
    children = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                parent = int(f.read().rsplit(")", 1)[1].split()[1])
            if parent == process.pid:
                with open(f"/proc/{pid}/environ") as f:
                    variables = dict(v.split("=", 1) for v in f.read().split("\0") if "=" in v)
                children[int(variables["OMPI_COMM_WORLD_RANK"])] = int(pid)
        except (OSError, KeyError, ValueError):
            continue
    return children


def wait(process, pids, seconds):
    """Waits until all ranks are gone; an mpiexec that hangs then (Open MPI 4.1.4 can) is ended. None: ranks live on."""
    end = time.time() + seconds
    while time.time() < end and process.poll() is None and any(map(alive, pids)):
        time.sleep(0.02)
    if process.poll() is None and any(map(alive, pids)):
        process.kill()
        return None
    try:
        return process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return 137


def environment(**changes):
    """One thread a rank, and ranks that wait give their core away."""
    return os.environ | {"OMP_NUM_THREADS": "1", "OMPI_MCA_mpi_yield_when_idle": "1"} | changes


def run(program, ranks, *arguments, **variables):
    """Exit code, output and seconds of a program on so many ranks."""
    start = time.time()
    done = subprocess.run(launch(ranks, [program, *arguments]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=environment(**variables), timeout=120)
    return done.returncode, done.stdout, time.time() - start


def expect_failure(program, ranks, case, words, seconds=30, **variables):
    """Every rank ends, in time, and what is printed has all the words."""
    code, output, took = run(program, ranks, case, **variables)
    for word in words:
        assert word in output, f"{case} on {ranks} ranks: expected {word!r} in:\n{output}"
    assert code != 0, f"{case} on {ranks} ranks: expected a failure:\n{output}"
    assert took < seconds, f"{case} on {ranks} ranks: all ended after {took:.0f} s"
    print(f"{case:<14} on {ranks} ranks: exit code {code} after {took:.1f} s", flush=True)
