// The CPU backend, counting its GEMMs: shows how far a forward ran.
#pragma once

#include <vector>

#include "kernels/cpu/cpu_backend.h"

namespace sonde::test {

class CountingBackend : public cpu::CpuBackend {
 public:
  CountingBackend() : CpuBackend(best_cpu_path()) {}
  std::vector<std::int64_t> linear_rows;  // T of every linear, in order

 protected:
  void do_linear(Tensor y, Tensor x, const Weight& w, Tensor bias) override {
    linear_rows.push_back(x.rows());
    CpuBackend::do_linear(y, x, w, bias);
  }
};

}  // namespace sonde::test
