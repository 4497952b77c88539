#!/usr/bin/env python3
"""A simulation of `sonde extract` on many ranks. Nothing here is a measurement: times of one rank go in (measured by
`sonde extract --profile`, or planned by `sonde plan --json`), times of many come out.

Simulated, event by event: replicas of the model (groups of tensor x pipeline ranks) draw chunks from a shared counter,
run their batches at a speed of their own (stragglers) with jitter, send what tensor groups and pipelines send (a message of
b bytes takes alpha + b / beta), and write each chunk beside the next one's forward through a file system that all share.
A node fails at random: the run ends, what is committed stays, all start again and load the model.

  simulate_cluster.py --profile one.json --ranks 1,2,4 --cores 2 --measured 2=two.json,4=four.json
  simulate_cluster.py --plan 1=plan-1.json,2=plan-2.json --ranks 1,2    # each with the rates of so many ranks at once
  simulate_cluster.py --plan plan.json --ranks 8,64,256,1024 --straggler-share 0.01 --straggler-slowdown 2 \\
      --filesystem 10e9 --node-mtbf-hours 20000 --restart-seconds 120
"""
import argparse
import heapq
import json
import math
import random
import sys


class SharedDisk:
    """Writers share `total` bytes/s evenly, each at most `each`. Time runs by `advance`; equal rates make the order of
    the ends that of the work still to do when they began, so one counter of bytes per writer is enough."""

    def __init__(self, total, each):
        self.total, self.each, self.now, self.done = total, each, 0.0, 0.0
        self.ends = []  # (bytes per writer at which it ends, writer)

    def rate(self):
        return min(self.each, self.total / max(1, len(self.ends)))

    def advance(self, now):
        if self.ends and now > self.now:
            self.done += (now - self.now) * self.rate()
        self.now = max(self.now, now)

    def begin(self, writer, size):
        heapq.heappush(self.ends, (self.done + size, writer))

    def next_end(self):
        return self.now + max(0.0, self.ends[0][0] - self.done) / self.rate() if self.ends else math.inf

    def end(self):
        at = self.next_end()
        done, writer = heapq.heappop(self.ends)
        self.now, self.done = at, max(self.done, done)
        return at, writer


def cut_chunks(batches, rows, shard_rows):
    """Batches of each chunk, as io/store/stretches.h cuts them: 1/64 of the rows and a little more, at most a shard."""
    row, enough = rows / batches, math.ceil(rows / 64)
    each = max(1, min(math.ceil(enough / row), int(shard_rows / row)))
    return [min(each, batches - first) for first in range(0, batches, each)]


def batch_communication(run, tensor, pipeline, network):
    """Seconds a batch: two all-reduces a layer and one more in a tensor group (rings), the stream over stage borders."""
    stream = 4.0 * run["batch_tokens"] * run["d_model"]
    seconds = 0.0
    if tensor > 1:
        alpha, beta = network["link"] if tensor <= network["ranks_per_node"] else network["network"]
        seconds += (2 * run["layers"] / pipeline + 1) * 2 * (tensor - 1) * (alpha + stream / tensor / beta)
    if pipeline > 1:
        alpha, beta = network["link"] if tensor * pipeline <= network["ranks_per_node"] else network["network"]
        seconds += alpha + stream / beta
    return seconds


def attempt(chunks, groups, batch_seconds, run, options, rng, until):
    """Runs `chunks` (lists of batches) until they are committed or the time is `until`; (time, committed chunks)."""
    disk = SharedDisk(options.filesystem, options.disk)
    events, waiting, writing, committed = [], {}, {}, set()
    queue = list(range(len(chunks)))[::-1]

    def draw(group, now):
        if queue:
            chunk = queue.pop()
            seconds = options.ticket_seconds
            for _ in range(chunks[chunk]):
                seconds += batch_seconds * speeds[group] * (rng.lognormvariate(0, options.jitter) if options.jitter else 1)
            heapq.heappush(events, (now + seconds, group, chunk))

    speeds = [options.straggler_slowdown if rng.random() < options.straggler_share else 1.0 for _ in range(groups)]
    if options.speed_spread:
        speeds = [s * rng.lognormvariate(0, options.speed_spread) for s in speeds]
    for group in range(groups):
        draw(group, 0.0)

    def write(group, chunk, now):
        disk.advance(now)
        disk.begin(group, chunks[chunk] * run["batch_bytes"])
        writing[group] = chunk
        draw(group, now)

    now = 0.0
    while events or writing:
        next_event, next_write = events[0][0] if events else math.inf, disk.next_end()
        now = min(next_event, next_write)
        if now > until:
            return until, committed
        if next_write <= next_event:
            now, group = disk.end()
            committed.add(writing.pop(group))
            if group in waiting:
                write(group, waiting.pop(group), now)
        else:
            _, group, chunk = heapq.heappop(events)
            if group in writing:
                waiting[group] = chunk  # the buffers are full: the forward waits for the disk
            else:
                write(group, chunk, now)
    return now, committed


def simulate(run, ranks, options):
    """Seconds of a run on so many ranks, and what it lost to failures."""
    network = {"link": (options.link_alpha, options.link_beta), "network": (options.network_alpha, options.network_beta),
               "ranks_per_node": options.ranks_per_node}
    size = options.tensor * options.pipeline
    if ranks % size:
        sys.exit(f"simulate_cluster.py: {ranks} ranks: expected a multiple of tensor {options.tensor} x pipeline {options.pipeline}")
    groups = ranks // size
    crowded = max(1.0, ranks * run["threads"] / options.cores) if options.cores else 1.0
    batch = run["batch_seconds"] * crowded / size + batch_communication(run, options.tensor, options.pipeline, network)
    chunks = cut_chunks(run["batches"], run["rows"], run["shard_rows"]) if ranks > 1 else [1] * run["batches"]
    batch *= 1 + (options.pipeline - 1) / max(1, run["batches"] / groups)  # the pipeline fills and empties once
    rng = random.Random(f"{options.seed} {ranks}")
    nodes = math.ceil(ranks / options.ranks_per_node)
    load = max(run["load_seconds"] * crowded, run["model_bytes"] * groups / options.filesystem)
    total, failures, lost = 0.0, 0, 0.0
    while chunks:
        until = rng.expovariate(nodes / (options.node_mtbf_hours * 3600)) if options.node_mtbf_hours else math.inf
        seconds, committed = attempt(chunks, groups, batch, run, options, rng, until - load) if until > load else (0.0, set())
        total += min(load, until) + seconds
        left = [batches for i, batches in enumerate(chunks) if i not in committed]
        if left:
            failures += 1
            if failures > options.most_failures:
                sys.exit(f"simulate_cluster.py: {ranks} ranks: over {options.most_failures} failures, {len(left)} chunks still to do")
            total += options.restart_seconds
            done = sum(chunks) - sum(left)
            lost += min(load, until) + options.restart_seconds + seconds - done * batch / groups
        chunks = left
    return {"ranks": ranks, "seconds": total, "work_seconds": total - load, "failures": failures,
            "lost_seconds": max(0.0, lost), "tokens_per_second": run["tokens"] / total}


def run_of_profile(path):
    with open(path) as f:
        profile = json.load(f)
    rank = profile["ranks"][0]
    if len(profile["ranks"]) != 1:
        sys.exit(f"{path}: ranks: found {len(profile['ranks'])}, expected the profile of one")
    seconds = rank["seconds"]
    return {"tokens": profile["tokens"], "rows": profile["rows"], "batches": profile["batches"], "threads": rank["threads"],
            "shard_rows": profile["shard_rows"], "batch_tokens": profile["tokens"] / profile["batches"],
            "batch_seconds": sum(seconds[p] for p in ("gemm", "attention", "rows", "capture")) / profile["batches"],
            "batch_bytes": profile["store_bytes"] / profile["batches"], "load_seconds": seconds["load"],
            "model_bytes": 0, "layers": profile["layers"], "d_model": profile["d_model"]}


def run_of_plan(path):
    """One rank's times out of a plan: its mesh is undone, so that other ones can be simulated."""
    with open(path) as f:
        plan = json.load(f)
    best, work = plan["best"], plan["work"]
    size = best["tensor"] * best["pipeline"]
    shard_rows = max(1, (1 << 30) * work["rows"] / plan["store"]["row_bytes"])
    chunks = len(cut_chunks(work["batches"], work["rows"], shard_rows)) if best["data"] > 1 else 1
    share = work["batches"] * math.ceil(chunks / best["data"]) / chunks  # of the replica that takes most chunks
    return {"tokens": work["tokens"], "rows": work["rows"], "batches": work["batches"], "threads": 0,
            "shard_rows": shard_rows,
            "batch_tokens": work["tokens"] / work["batches"],
            "batch_seconds": (best["seconds"]["forward"] + best["seconds"]["capture"]) * size / share,
            "batch_bytes": plan["store"]["bytes"] / work["batches"], "load_seconds": best["seconds"]["load"],
            "model_bytes": plan["model_bytes"], "layers": plan["layers"], "d_model": plan["d_model"]}


def parse(arguments):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = p.add_mutually_exclusive_group(required=True)
    source.add_argument("--profile", help="of one rank: sonde extract ... --profile FILE")
    source.add_argument("--plan", help="JSON of sonde plan; or of several, each for so many ranks: 2=FILE,4=FILE")
    p.add_argument("--ranks", default="1,2,4", help="numbers of ranks")
    p.add_argument("--tensor", type=int, default=1)
    p.add_argument("--pipeline", type=int, default=1)
    p.add_argument("--ranks-per-node", type=int, default=8)
    p.add_argument("--cores", type=int, help="of the only node: ranks with more threads than that take turns")
    p.add_argument("--link-alpha", type=float, default=10e-6, help="seconds of a message inside a node")
    p.add_argument("--link-beta", type=float, default=270e9, help="bytes/s inside a node")
    p.add_argument("--network-alpha", type=float, default=20e-6, help="seconds of a message between nodes")
    p.add_argument("--network-beta", type=float, default=25e9, help="bytes/s between nodes")
    p.add_argument("--ticket-seconds", type=float, default=20e-6, help="to draw a chunk's number")
    p.add_argument("--disk", type=float, default=1e9, help="bytes/s that one writer reaches")
    p.add_argument("--filesystem", type=float, default=10e9, help="bytes/s of all writers together")
    p.add_argument("--straggler-share", type=float, default=0.0, help="of the groups")
    p.add_argument("--straggler-slowdown", type=float, default=2.0, help="times as long for a batch")
    p.add_argument("--speed-spread", type=float, default=0.0, help="sigma of the groups' log speeds")
    p.add_argument("--jitter", type=float, default=0.0, help="sigma of a batch's log time")
    p.add_argument("--node-mtbf-hours", type=float, help="mean time between failures of a node; none by default")
    p.add_argument("--restart-seconds", type=float, default=120.0, help="from a failure to a new start")
    p.add_argument("--most-failures", type=int, default=10000, help="then it is given up")
    p.add_argument("--measured", help="profiles of real runs to compare with: 2=FILE,4=FILE")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--json", action="store_true")
    return p.parse_args(arguments)


def measured_seconds(path):
    with open(path) as f:
        ranks = json.load(f)["ranks"]
    return max(sum(s for phase, s in rank["seconds"].items() if phase not in ("other", "load")) for rank in ranks)


def by_ranks(text):
    return dict(pair.split("=", 1) for pair in text.split(","))


def runs_of(options, counts):
    """What goes in, for each number of ranks."""
    if options.profile:
        return dict.fromkeys(counts, run_of_profile(options.profile))
    if "=" not in options.plan:
        return dict.fromkeys(counts, run_of_plan(options.plan))
    plans = by_ranks(options.plan)
    for n in counts:
        if n not in plans:
            sys.exit(f"simulate_cluster.py: --plan: found plans for {', '.join(plans)} ranks, expected one for {n}")
    return {n: run_of_plan(plans[n]) for n in counts}


def main(arguments):
    options = parse(arguments)
    counts = options.ranks.split(",")
    runs = runs_of(options, counts)
    results = [simulate(runs[n], int(n), options) for n in counts]
    real = by_ranks(options.measured) if options.measured else {}
    for result in results:
        first = results[0]
        result["speedup"] = first["seconds"] / result["seconds"]
        result["efficiency"] = result["speedup"] * first["ranks"] / result["ranks"]
        if str(result["ranks"]) in real:
            result["measured_work_seconds"] = measured_seconds(real[str(result["ranks"])])
            result["off_by"] = result["work_seconds"] / result["measured_work_seconds"] - 1
    if options.json:
        print(json.dumps({"simulation": True, "results": results}, indent=2))
        return
    print("simulated, not measured" + (" (but for the last columns)" if real else ""))
    print(f"{'ranks':>6} {'hours':>10} {'tokens/s':>12} {'speed-up':>9} {'efficiency':>10} {'failures':>8} {'lost':>8}")
    for r in results:
        line = (f"{r['ranks']:>6} {r['seconds'] / 3600:>10.4g} {r['tokens_per_second']:>12.4g} {r['speedup']:>9.2f}"
                f" {100 * r['efficiency']:>9.1f}% {r['failures']:>8} {100 * r['lost_seconds'] / r['seconds']:>7.1f}%")
        if "off_by" in r:
            line += f"   after loading {r['work_seconds']:.2f} s, measured {r['measured_work_seconds']:.2f} s ({100 * r['off_by']:+.0f}%)"
        print(line)


if __name__ == "__main__":
    main(sys.argv[1:])
