// The matmul behind cublas_shim.h.
#pragma once

#include "kernels/emulation/block.h"
#include "kernels/emulation/cublas_shim.h"

namespace sonde::emulation {

struct Matmul {
  emulated::MatmulDesc desc;
  emulated::MatrixLayout a_layout, b_layout, c_layout, d_layout;
  const void *a, *b, *c;
  void* d;
  float alpha, beta;
  int parts;  // of the sum over k, each added up by itself
};

Fault run_matmul(const Matmul& matmul);

}  // namespace sonde::emulation
