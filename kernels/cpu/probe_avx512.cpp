// Probe kernels for AVX-512 (flags: probe_flags.cmake): eight doubles a vector, 24 accumulators in a tile.
#define SONDE_PROBE_ISA avx512
#define SONDE_PROBE_LANES 8
#define SONDE_PROBE_MR 8
#define SONDE_PROBE_NV 3
#include "kernels/cpu/probe_kernels_body.h"
