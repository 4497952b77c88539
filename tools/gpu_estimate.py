"""An estimate of tokens per second, from bytes and FLOPs of every op of a forward: a roofline with stated efficiencies.

Nothing here was measured on a GPU. Every number that is assumed is in GPUS, EFFICIENCY and the functions' comments.
"""
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    name: str
    arch: str
    bandwidth: float  # bytes/s, data sheet
    tensor: float  # bf16 FLOP/s, dense, data sheet
    fp32: float
    multiprocessors: int
    clock: float  # Hz, boost
    memory: float  # bytes


GPUS = (Gpu("A100 80 GB", "sm_80", 2.039e12, 312e12, 19.5e12, 108, 1.41e9, 80e9),
        Gpu("H100 80 GB", "sm_90", 3.35e12, 989e12, 67e12, 132, 1.755e9, 80e9),
        Gpu("H200", "sm_90", 4.8e12, 989e12, 67e12, 132, 1.755e9, 141e9))

# Assumed shares of a data sheet's peak, and the least time of a kernel in a stream.
EFFICIENCY = {"memory": 0.80, "gemm": {"sm_80": 0.75, "sm_90": 0.60}, "flash": 0.70}
LAUNCH = 3e-6


@dataclass(frozen=True)
class Model:
    name: str
    layers: int
    d: int
    heads: int
    kv: int
    e: int
    f: int
    vocab: int


LLAMA_8B = Model("8B", 32, 4096, 32, 8, 128, 14336, 128256)
LLAMA_70B = Model("70B", 80, 8192, 64, 8, 128, 28672, 128256)

BF16, Q4_K = 2.0, 144 / 256  # stored bytes a weight


def weights(m):
    """Values of all linear layers, without the head."""
    return m.layers * (m.d * (m.heads + 2 * m.kv) * m.e + m.heads * m.e * m.d + 3 * m.d * m.f)


def memory_op(gpu, nbytes):
    return max(LAUNCH, nbytes / (gpu.bandwidth * EFFICIENCY["memory"]))


def linear(gpu, rows, n, k, stored, gemv_rate):
    """Seconds of y [rows, n] = x [rows, k] w'. gemv_rate: weights a second that the GEMV's instructions allow."""
    if rows <= 4:
        nbytes = n * k * stored + 4 * rows * (n + k)
        return max(memory_op(gpu, nbytes), n * k / gemv_rate(stored, rows))
    seconds = memory_op(gpu, 6 * rows * k)  # x to bf16
    if stored < 2:  # blocks to f32, f32 to bf16
        seconds += memory_op(gpu, n * k * (stored + 4)) + memory_op(gpu, n * k * 6)
    product = max(2.0 * rows * n * k / (gpu.tensor * EFFICIENCY["gemm"][gpu.arch]),
                  (2 * n * k + 2 * rows * k + 4 * rows * n) / (gpu.bandwidth * EFFICIENCY["memory"]))
    return seconds + max(LAUNCH, product)


def attention(gpu, m, queries, documents, keys, flash_share):
    """Seconds: `documents` of `queries` tokens each that see up to `keys` keys."""
    tokens = queries * documents
    if queries >= 4:
        pairs = documents * m.heads * queries * (keys - (queries - 1) / 2)
        pack = memory_op(gpu, 6 * tokens * (m.heads + 2 * m.kv) * m.e)
        return pack + max(LAUNCH, 4 * m.e * pairs / (gpu.tensor * flash_share * EFFICIENCY["flash"]))
    # f32 keys and values, once per query head (a group's later heads from L2); half the FP32 peak for FMA and shuffles
    nbytes = 8.0 * keys * m.kv * m.e * tokens
    return max(memory_op(gpu, nbytes), 4 * m.e * m.heads * keys * tokens / (gpu.fp32 * 0.5)) + LAUNCH


def forward(gpu, m, queries, documents, keys, stored, gemv_rate, flash_share, logits):
    """Seconds by part, of one forward without captures."""
    tokens, qkv = queries * documents, (m.heads + 2 * m.kv) * m.e
    op = lambda values: memory_op(gpu, 4.0 * values * tokens)  # noqa: E731
    product = lambda n, k, rows=tokens: linear(gpu, rows, n, k, stored, gemv_rate)  # noqa: E731
    parts = {
        "products": m.layers * (product(qkv, m.d) + product(m.d, m.heads * m.e) + product(2 * m.f, m.d) + product(m.d, m.f)),
        "attention": m.layers * attention(gpu, m, queries, documents, keys, flash_share),
        # norm, q and k turned, add_norm, the gate, the sum
        "rows": m.layers * (op(2 * m.d) + op(2 * m.heads * m.e) + op(2 * m.kv * m.e) + op(4 * m.d) + op(3 * m.f) + op(3 * m.d)),
    }
    if queries == 1:
        parts["rows"] += m.layers * 2 * LAUNCH  # keys and values into the cache
    if logits:
        parts["head"] = linear(gpu, documents, m.vocab, m.d, stored, gemv_rate) + LAUNCH
    return parts
