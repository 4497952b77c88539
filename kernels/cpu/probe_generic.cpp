// Probe kernels for any CPU: two doubles a vector.
#define SONDE_PROBE_ISA generic
#define SONDE_PROBE_LANES 2
#define SONDE_PROBE_MR 4
#define SONDE_PROBE_NV 2
#include "kernels/cpu/probe_kernels_body.h"
