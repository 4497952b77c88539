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

}  // namespace sonde
