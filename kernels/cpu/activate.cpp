// The MLP's activation, alone or as a gate: f(gate) * up (arXiv:2002.05202).
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

namespace sonde::cpu {

void CpuBackend::do_activate(Activation f, Tensor y, Tensor x) {
  const auto row = kernels_.rows.activate[static_cast<int>(f)];
  parallel_rows(y.rows(), y.width(), [&](std::int64_t t) { row(y.row(t), x.row(t), y.width()); });
}

void CpuBackend::do_activate_mul(Activation f, Tensor y, Tensor gate, Tensor up) {
  const auto row = kernels_.rows.activate_mul[static_cast<int>(f)];
  parallel_rows(y.rows(), y.width(),
                [&](std::int64_t t) { row(y.row(t), gate.row(t), up.row(t), y.width()); });
}

}  // namespace sonde::cpu
