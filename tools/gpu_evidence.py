#!/usr/bin/env python3
"""What can be known of the CUDA kernels without a GPU, as docs/gpu-performance.md.

usage: gpu_evidence.py BUILD [--traffic FILE] [--out FILE]

BUILD     a build folder with nvcc: what ptxas said, the objects, tests/test_traffic, tests/gpu_occupancy
--traffic lines of JSON that test_traffic wrote with SONDE_TRAFFIC; by default BUILD/tests/traffic.jsonl, or a run of it
cuobjdump and nvdisasm on PATH (toolkit, or the PyPI packages nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm) give
the columns of the machine code; without them they stay empty.
"""
import argparse
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gpu_estimate as estimate  # noqa: E402
import ptxas_log  # noqa: E402
import sass  # noqa: E402

ARCHITECTURES = ("sm_80", "sm_90")


def plain(name):
    return name.replace(" ", "")


def read_kernels(build):
    """{(name, arch): Kernel} and {(name, arch): mangled}"""
    kernels = {}
    for path in ptxas_log.logs(build):
        with open(path, encoding="utf-8") as file:
            found, _ = ptxas_log.read(file.read(), os.path.basename(path).removesuffix(".o.ptxas"))
        for kernel in found:
            kernels[plain(kernel.name), kernel.arch] = kernel
    if not kernels:
        sys.exit(f"gpu_evidence.py: {build}: no *.ptxas under kernels/cuda, expected a build with nvcc")
    return kernels


def read_code(build):
    codes = sass.disassemble([path.removesuffix(".ptxas") for path in ptxas_log.logs(build)])
    names = ptxas_log.short_names(sorted({mangled for mangled, _ in codes})) if codes else {}
    return {(plain(names[mangled]), arch): code for (mangled, arch), code in codes.items()}


def read_traffic(build, path):
    if path is None:
        path = os.path.join(build, "tests/traffic.jsonl")
        if not os.path.exists(path):
            subprocess.run([os.path.join(build, "tests/test_traffic"), "--gtest_brief=1"], check=True,
                           env=dict(os.environ, SONDE_TRAFFIC=path), stdout=subprocess.DEVNULL)
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def occupancy(build, rows):
    """[(blocks, warps, limit)] for (arch, registers, static, threads, dynamic)."""
    program = os.path.join(build, "tests/gpu_occupancy")
    if not os.path.exists(program):
        sys.exit(f"gpu_evidence.py: {program} is not there. HINT: cmake --build {build} --target gpu_occupancy")
    text = "\n".join(" ".join(map(str, row)) for row in rows)
    said = subprocess.run([program], input=text, capture_output=True, text=True, check=True).stdout
    return [(int(b), int(w), limit) for b, w, limit in (line.split() for line in said.splitlines())]


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def machine_code(kernels, codes, traffic, build):
    launches = {}  # of the hot kernels: threads and dynamic shared memory
    for line in traffic:
        launches[plain(line["kernel"])] = max(launches.get(plain(line["kernel"]), (0, 0)), (line["threads"], line["dynamic"]))
    wanted = [(name, arch) for name in launches for arch in ARCHITECTURES]
    missing = [key for key in wanted if key not in kernels]
    if missing:
        sys.exit(f"gpu_evidence.py: the emulation ran kernels that nvcc's build has not: {missing[:3]}; build both anew")
    held = occupancy(build, [(arch, kernels[name, arch].registers, kernels[name, arch].shared, *launches[name]) for name, arch in wanted])
    cells = {}
    for (name, arch), (blocks, warps, limit) in zip(wanted, held):
        k = kernels[name, arch]
        cell = [k.registers, k.spills, f"{blocks} ({100 * warps // 64} %, {limit})"]
        if (name, arch) in codes:
            mix = codes[name, arch].mix()
            cell += [mix["all"], f"{100 * mix['wide']:.0f} %", mix["HMMA"], mix["LDSM"], mix["LDGSTS"], mix["local"], f"{mix['stall']:.1f}", f"{100 * mix['waits']:.0f} %"]
        else:
            cell += [""] * 8
        cells[name, arch] = cell
    rows = []
    for name in sorted(launches, key=lambda name: (kernels[name, "sm_90"].source, name)):
        pairs = zip(*(cells[name, arch] for arch in ARCHITECTURES))
        both = [str(a) if a == b else f"{a} / {b}" for a, b in pairs]
        k = kernels[name, "sm_90"]
        rows.append([f"`{k.name}`", k.shared + launches[name][1], launches[name][0], *both])
    return table(["kernel", "shared", "threads", "registers", "spilled", "blocks/SM (warps of 64, limit)", "instructions", "16-byte global",
                  "HMMA", "LDSM", "LDGSTS", "local", "mean stall", "that wait"], rows)


def memory_table(traffic):
    rows = []
    for line in traffic:
        bound = []
        for gpu in estimate.GPUS:
            flops = gpu.tensor if line["mma"] else gpu.fp32
            seconds = max(line["least"] / gpu.bandwidth, line["flops"] / flops)
            bound.append(f"{1e9 * seconds:.1f}" + ("" if line["least"] / gpu.bandwidth >= line["flops"] / flops else " c"))
        mma = f"{line['mma'] / line['flops']:.2f}" if line["mma"] else ""
        rows.append([line["op"], line["shape"], f"`{line['kernel']}`", f"{line['distinct'] / line['least']:.2f}", f"{line['asked'] / line['least']:.2f}",
                     f"{100 * line['sectors']:.0f} %", f"{100 * line['wavefronts']:.0f} %", f"{line['flops']:.3g}", mma, *bound])
    return table(["op", "shape", "kernel", "bytes / least", "asked / least", "worst line: sectors", "wavefronts", "FLOPs", "mma / FLOPs",
                  *(f"{gpu.name}, ns" for gpu in estimate.GPUS)], rows)


def hot_loop(code, needs):
    """The shortest loop with the most instructions of a kind."""
    loops = [loop for loop in code.loops() if code.count(needs, loop)]
    return max(loops, key=lambda loop: (code.count(needs, loop), -len(loop))) if loops else None


def flash_shares(codes):
    """Of the tensor cores' peak, what the loop's issue slots leave: mma.m16n8k16 is 2048 FMAs."""
    shares = {}
    for (name, arch), code in codes.items():
        loop = hot_loop(code, "HMMA") if name.startswith("flash<") else None
        if loop:
            per_clock = 256 if arch == "sm_80" else 512  # FMAs of a quarter of a multiprocessor
            tensor = code.count("HMMA", loop) * 2048 / per_clock
            slots = sum(i.op != "NOP" for i in loop)
            shares[name, arch] = (min(1.0, tensor / max(slots, tensor)), tensor, slots, code.count("MUFU", loop))
    return shares


def gemv_slots(codes):
    """{(format, arch): instructions of a warp for 128 weights}, of the GEMV of one row."""
    slots = {}
    for (name, arch), code in codes.items():
        if not (name.startswith("gemv_columns<") and name.endswith(",1>")):
            continue
        loop = hot_loop(code, r"FFMA")
        if loop:
            form = name[len("gemv_columns<"):-len(",1>")]
            wide = sum(i.op.startswith("LDG") and ".128" in i.op for i in loop)
            if form.startswith("FourOf<float"):
                wide //= 2  # weight and x
            slots[form, arch] = len(loop) / max(1, wide)
    return slots


def estimates(codes):
    shares, slots = flash_shares(codes), gemv_slots(codes)
    rows = []
    for gpu in estimate.GPUS:
        share = shares["flash<__nv_bfloat16,128>", gpu.arch][0]

        def rate(stored, rows_of_x, gpu=gpu):  # weights a second: 4 warp instructions a clock
            form = "Q4K" if stored < 2 else "FourOf<__nv_bfloat16>"
            of_128 = slots.get((form, gpu.arch), 100) + 10 * (rows_of_x - 1)
            return 128 * 4 / of_128 * gpu.multiprocessors * gpu.clock

        for model, stored, form in ((estimate.LLAMA_8B, estimate.BF16, "bf16"), (estimate.LLAMA_8B, estimate.Q4_K, "Q4_K"), (estimate.LLAMA_70B, estimate.Q4_K, "Q4_K")):
            if estimate.weights(model) * stored > 0.9 * gpu.memory:
                continue
            cases = (("extract, 4 documents of 2048", 2048, 4, 2048, False), ("decode, 1 sequence at 2048", 1, 1, 2048, True),
                     ("decode, 4 sequences", 1, 4, 2048, True), ("decode, 32 sequences", 1, 32, 2048, True))
            for what, queries, documents, keys, logits in cases:
                parts = estimate.forward(gpu, model, queries, documents, keys, stored, rate, share, logits)
                seconds = sum(parts.values())
                rows.append([gpu.name, model.name, form, what, f"{queries * documents / seconds:,.0f}",
                             ", ".join(f"{name} {100 * value / seconds:.0f} %" for name, value in parts.items())])
    return table(["GPU", "model", "weights", "phase", "tokens/s, estimated", "where the time goes"], rows)


def loops_table(codes):
    rows = [[f"`{name}`", arch[3:], slots, f"{tensor:.0f}", mufu, f"{100 * share:.0f} %"]
            for (name, arch), (share, tensor, slots, mufu) in sorted(flash_shares(codes).items())]
    text = table(["kernel", "sm", "issue slots of the key loop", "clocks of the tensor cores", "MUFU", "tensor cores' share, all counted"], rows)
    rows = [[f"`{form}`", arch[3:], f"{n:.0f}", *(f"{128 * 4 / n * gpu.multiprocessors * gpu.clock / 1e12:.2f}" if gpu.arch == arch else "" for gpu in estimate.GPUS)]
            for (form, arch), n in sorted(gemv_slots(codes).items())]
    return text + "\n\n" + table(["GEMV of", "sm", "instructions for 128 weights", *(f"{g.name}, 10^12 weights/s at most" for g in estimate.GPUS)], rows)


PAGE = """# What is known of the kernels' speed

**Nothing on this page was measured on a GPU.** It is what the compiler, the machine code and the emulation show, what
the data sheets allow, and an estimate made of those. `docs/first-gpu-day.md` says how each becomes a measurement.
`tools/gpu_evidence.py BUILD --out docs/gpu-performance.md` writes this page; the limits below are tests (ctest labels
`nvcc` and `trace`).

| limit | test |
|---|---|
| no spilled register, no warning, for sm_80 and sm_90 (sm_100 with SONDE_LONG=1) | `nvcc` |
| of each hot line at least 90 % of the sectors' bytes are wanted | `traffic` |
| no bank conflict that could be avoided | `traffic` |
| distinct bytes at most 1.1 times the formula's | `traffic` |

## Registers, occupancy, machine code
Of the kernels that the traffic test runs, as they are launched there: sm_80 / sm_90 where they differ. `shared` is static and dynamic bytes;
`mean stall` is the clocks that the compiler has a warp wait after an instruction, `that wait` the share of
instructions that wait for a counter (loads, special functions, shared memory); `local` counts accesses of local memory.

{machine}

## Bytes and FLOPs against the least
`bytes / least`: distinct sectors of all reads and writes, what DRAM moves when caches keep everything, against the
formula's bytes. `asked / least`: sectors of all requests; what is above 1 comes from L1 or L2. A line counts that is
2 % of its kernel's traffic. FLOPs are the formula's; the emulation counts those of `mma` itself, and
`mma / FLOPs` is above 1 where tiles reach over the diagonal or the head's width. The last columns are the roofline:
the least time that the data sheet's bandwidth or peak (`c`: compute) allows for these small shapes.

{memory}

What keeps a figure from 1: a norm reads its row again for each of its passes (from L1: 8 KB at D = 2048); an RMS norm
has two passes, LayerNorm three. Attention reads keys and values once per 64 queries and head, decode once per query
head. GEMV reads x again for each column (L1). Q8_0's 128 values are 136 bytes, which two lanes of a warp share a bank
for. `log_softmax_at` reads a row twice.

## Loops that are bound by issue slots
A quarter of a multiprocessor issues one instruction a clock. Flash attention's key loop: what its instructions leave
of the tensor cores' peak, all counted, also those that only tiles at the diagonal or at a window's edge run; the tiles
between them, most of a long document, do better than this, and the estimate below takes this for all. GEMV: weights that 4 warp instructions a clock allow; where that is less than
bandwidth / bytes a weight, decode is bound by instructions and not by memory.

{loops}

## Estimate: tokens a second
An estimate and no measurement. Assumed: {memory_share:.0%} of the data sheet's bandwidth for memory-bound kernels;
cuBLASLt at {gemm80:.0%} of the peak on sm_80 and {gemm90:.0%} on sm_90; flash attention at {flash:.0%} of what its issue slots allow;
{launch:.0f} µs at least for every kernel (no graphs); boost clocks; activations in f32 as Sonde keeps them; f32 keys and
values in decode; captures cost nothing; weights fit (70B does in Q4_K alone; in bf16 its layers would be streamed:
not modelled). Shapes are Llama 3's (8B: 32 x 4096, 70B: 80 x 8192). Rows: norms, rotations, gates, sums.

{estimates}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--traffic")
    parser.add_argument("--out")
    options = parser.parse_args()
    kernels, codes = read_kernels(options.build), read_code(options.build)
    traffic = read_traffic(options.build, options.traffic)
    page = PAGE.format(machine=machine_code(kernels, codes, traffic, options.build), memory=memory_table(traffic), loops=loops_table(codes),
                       estimates=estimates(codes) if codes else "None without the machine code.", memory_share=estimate.EFFICIENCY["memory"], gemm80=estimate.EFFICIENCY["gemm"]["sm_80"],
                       gemm90=estimate.EFFICIENCY["gemm"]["sm_90"], flash=estimate.EFFICIENCY["flash"], launch=1e6 * estimate.LAUNCH)
    if not codes:
        page = page.replace("\n\n", "\n\n*Made without cuobjdump: the machine code's columns are empty, and there is no estimate.*\n\n", 1)
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            file.write(page)
    else:
        print(page)


if __name__ == "__main__":
    main()
