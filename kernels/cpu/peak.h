// What this machine can do at most: the limits that benchmarks quote their speed against.
#pragma once

#include "kernels/backend.h"
#include "runtime/cpu.h"

namespace sonde {

// GFLOP/s of a register-only loop of the multiply-add that a GEMM of this path and precision uses; `threads`
// run it for about `seconds`.
double measure_gemm_peak_gflops(CpuPath path, Precision precision, int threads, double seconds);

// GB/s of reading memory far larger than the caches, `threads` at once, for about `seconds` (one pass at
// least).
double measure_read_bandwidth_gbs(int threads, double seconds);

// What attention multiplies whole: so many queries by so many keys, where one of them sees one.
struct AttentionTile {
  std::int64_t rows = 1, keys = 1;
};
AttentionTile cpu_attention_tile();  // of the best path

}  // namespace sonde
