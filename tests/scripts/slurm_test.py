#!/usr/bin/env python3
"""The scripts of slurm/ on a real Slurm: slurmctld, slurmd and munged in a scratch folder, on loopback. A preempted job
commits, is requeued, and ends with the store of a run that nothing disturbed.

usage: slurm_test.py SONDE SOURCE_DIR
"""
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import tiny_model
from mpi_launch import need_mpi

SONDE, ROOT = os.path.abspath(sys.argv[1]), sys.argv[2]
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={dir}/run/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2,requeue_delay=0
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
KillWait=5
MinJobAge=600
SlurmctldPort={port}
SlurmdPort={port2}
SlurmctldPidFile={dir}/run/slurmctld.pid
SlurmdPidFile={dir}/run/slurmd.pid
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool
SlurmctldLogFile={dir}/log/slurmctld.log
SlurmdLogFile={dir}/log/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=2000
PartitionName=low Nodes={host} Default=YES MaxTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=high Nodes={host} MaxTime=60 State=UP PriorityTier=10 PreemptMode=OFF
"""


def need_slurm():
    need_mpi(SONDE)
    for program in ("slurmctld", "slurmd", "srun", "sbatch", "munged"):
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            print(f"skipped: no {program} here")
            sys.exit(77)
    if os.geteuid() != 0 or (os.cpu_count() or 1) < 2:
        print("skipped: slurmd as configured here needs root and two cores")
        sys.exit(77)


class Slurm:
    def __init__(self, folder):
        self.folder = folder
        for name in ("state", "spool", "log", "run"):
            os.makedirs(os.path.join(folder, name))
        with open(self.path("run/munge.key"), "wb") as f:
            f.write(os.urandom(1024))
        os.chmod(self.path("run/munge.key"), 0o600)
        port = random.randrange(20000, 40000)
        with open(self.path("slurm.conf"), "w") as f:
            f.write(CONF.format(dir=folder, host=socket.gethostname(), port=port, port2=port + 1))
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "OMPI", "PMI"))}
        self.environment |= {"SLURM_CONF": self.path("slurm.conf"), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
                             "OMPI_MCA_mpi_yield_when_idle": "1"}

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, *command, **variables):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=self.environment | variables, cwd=self.folder, timeout=120)
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def start(self):
        self.run("munged", "--force", f"--key-file={self.path('run/munge.key')}", f"--socket={self.path('run/munge.socket')}",
                 f"--pid-file={self.path('run/munged.pid')}", f"--log-file={self.path('log/munged.log')}",
                 f"--seed-file={self.path('run/munged.seed')}")
        self.run("slurmctld", "-c")
        self.run("slurmd")
        for _ in range(120):
            if "idle" in self.run("sinfo", "-h", "-o", "%T"):
                return
            time.sleep(0.5)
        raise AssertionError("the node never became idle")

    def stop(self):
        for name in ("slurmd", "slurmctld", "munged"):
            try:
                with open(self.path(f"run/{name}.pid")) as f:
                    os.kill(int(f.read()), 15)
            except (OSError, ValueError):
                pass
        time.sleep(1)

    def submit(self, *arguments, **variables):
        return self.run("sbatch", "--parsable", *arguments, **variables).strip()

    def states(self, array):
        """Of the tasks of an array job."""
        return [word.split("=", 1)[1] for word in self.run("scontrol", "-o", "show", "job", array).split()
                if word.startswith("JobState=")]

    def wait_array(self, array, seconds=240):
        end, states = time.time() + seconds, []
        while not states or not all(state in ("COMPLETED", "FAILED") for state in states):
            assert time.time() < end, f"array {array} is {states}\n{self.logs()}"
            time.sleep(0.3)
            states = self.states(array)
        assert set(states) == {"COMPLETED"}, f"{states}\n{self.logs()}"

    def field(self, job, name):
        for word in self.run("scontrol", "-o", "show", "job", job).split():
            if word.startswith(name + "="):
                return word.split("=", 1)[1]
        return ""

    def wait(self, job, states, seconds=240):
        end = time.time() + seconds
        while (state := self.field(job, "JobState")) not in states:
            if state == "PENDING" and self.field(job, "Restarts") != "0":
                time.sleep(3)  # for the node to be done with the job's last end; a real cluster waits two minutes
                subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], env=self.environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            assert time.time() < end, f"job {job} is {state}, expected {states}\n{self.logs()}"
            time.sleep(0.3)
        return state

    def logs(self):
        text = ""
        for name in sorted(os.listdir(self.folder)):
            if name.endswith(".log"):
                with open(self.path(name)) as f:
                    text += f"---- {name}\n{f.read()}"
        return text


def main(tmp):
    need_slurm()
    rng = random.Random(7)
    slurm = Slurm(tmp)
    model = tiny_model.write(os.path.join(tmp, "model"))
    ids, labels = os.path.join(tmp, "ids.jsonl"), os.path.join(tmp, "labels.csv")
    with open(ids, "w") as f, open(labels, "w") as table:
        table.write("label\n")
        for i in range(6000):
            tokens = [rng.randrange(tiny_model.CONFIG["vocab_size"]) for _ in range(rng.randrange(20, 60))]
            f.write(json.dumps({"id": f"d{i}", "ids": tokens}) + "\n")
            table.write(f"{tokens[-1] % 2}\n")
    with open(os.path.join(tmp, "env.sh"), "w") as f:
        f.write(f"SONDE={SONDE}\n" + open(os.path.join(ROOT, "slurm", "env.sh")).read())
    slurm.environment["SONDE_ENV"] = os.path.join(tmp, "env.sh")

    def script(name):
        return os.path.join(ROOT, "slurm", name)

    def options(out, tokens="last"):
        return [model, "--ids", ids, "--sites", "blocks.*.hook_resid_post", "--tokens", tokens, "--dtype", "f32",
                "--batch-tokens", "64", "--out", out]

    shown = slurm.run("bash", script("extract.sbatch"), *options("x"), DRY_RUN="1")
    assert shown.startswith("srun ") and " extract " in shown and not os.path.exists(os.path.join(tmp, "x")), shown
    try:
        slurm.start()
        job = slurm.submit(script("extract.sbatch"), *options("whole"))
        assert slurm.wait(job, ("COMPLETED", "FAILED")) == "COMPLETED", slurm.logs()
        assert "2 ranks: data 2" in slurm.logs(), slurm.logs()
        job = slurm.submit(script("probe.sbatch"), "whole", "--labels", labels, "--bootstrap", "0", "--out", "probes")
        assert slurm.wait(job, ("COMPLETED", "FAILED")) == "COMPLETED", slurm.logs()
        assert os.path.exists(os.path.join(tmp, "probes", "probes.csv"))
        print("extract.sbatch and probe.sbatch: done on 2 tasks", flush=True)

        slurm.wait_array(slurm.submit("--array=1-3", script("array.sbatch"), "extract", *options("part-{task}"), "--part",
                                      "{task}/{tasks}"))
        job = slurm.submit(script("merge.sbatch"), "merged", "part-*")
        assert slurm.wait(job, ("COMPLETED", "FAILED")) == "COMPLETED", slurm.logs()
        slurm.run(SONDE, "store", "diff", "whole", "merged")
        job = slurm.submit(script("scale-study.sbatch"), model, "--ranks", "1,2", "--tokens", "2048", "--document-tokens",
                           "32", "--repeats", "1", "--out", "scaling")
        assert slurm.wait(job, ("COMPLETED", "FAILED")) == "COMPLETED", slurm.logs()
        assert os.path.exists(os.path.join(tmp, "scaling", "report.html")), slurm.logs()
        print("array.sbatch and merge.sbatch: the store of one run; scale-study.sbatch: done", flush=True)

        small_shards = ["--shard-rows", "150"]  # each waits for the disk: the job lasts long enough to be preempted
        job = slurm.submit("--partition=low", script("preemptible.sbatch"), *options("preempted", "all"), *small_shards)
        slurm.wait(job, ("RUNNING",))
        log = os.path.join(tmp, "preempted", "shards.rank-00000.jsonl")
        for _ in range(600):
            if os.path.exists(log):
                break
            time.sleep(0.1)
        other = slurm.submit("--partition=high", "--ntasks=2", "--wrap", "sleep 2")
        slurm.wait(other, ("COMPLETED",))
        assert slurm.wait(job, ("COMPLETED", "FAILED")) == "COMPLETED", slurm.logs()
        restarts = int(slurm.field(job, "Restarts"))
        if restarts == 0 and "resuming:" not in slurm.logs():
            print("skipped: the job was done before Slurm preempted it")
            sys.exit(77)
        assert restarts >= 1 and "resuming:" in slurm.logs(), slurm.logs()
        assert "stopped on request" in slurm.logs(), slurm.logs()
        slurm.environment["OMP_NUM_THREADS"] = "1"
        slurm.run(SONDE, "extract", *options("undisturbed", "all"))
        slurm.run(SONDE, "store", "diff", "undisturbed", "preempted")
        slurm.run(SONDE, "store", "verify", "preempted")
        print(f"preemptible.sbatch: preempted, restarted {restarts} time(s), identical to an undisturbed run")
    finally:
        slurm.stop()


with tempfile.TemporaryDirectory() as folder:
    main(folder)
