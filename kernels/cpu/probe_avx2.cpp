// Probe kernels for AVX2 and FMA (flags: probe_flags.cmake): four doubles a vector, 12 accumulators in a
// tile.
#define SONDE_PROBE_ISA avx2
#define SONDE_PROBE_LANES 4
#define SONDE_PROBE_MR 4
#define SONDE_PROBE_NV 3
#include "kernels/cpu/probe_kernels_body.h"
