// The dense float64 matrices of probes: packed Gram matrix and blocked Cholesky, over ProbeKernels' tile.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/probe_kernels.h"
#include "kernels/probe_ops.h"

namespace sonde {

// Packed operands: a in panels [k, MR], b in panels [k, NR]; c a padded square. Kept between calls.
struct PanelBuffer {
  std::vector<double> a, b, c;
};

void probe_gram(const ProbeKernels& kernels, std::span<double> gram, const FeatureRows& x,
                std::span<const double> weights, PanelBuffer& panels);
bool probe_cholesky(const ProbeKernels& kernels, std::span<double> a, std::int64_t N, double relative_pivot,
                    PanelBuffer& panels);
void probe_cholesky_solve(std::span<double> x, std::span<const double> l, std::int64_t N);

}  // namespace sonde
