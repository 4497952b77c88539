// x sigmoid(x) * up, the gate of a SwiGLU MLP (arXiv:2002.05202).
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

namespace sonde::cpu {

void CpuBackend::do_silu_mul(Tensor y, Tensor gate, Tensor up) {
  parallel_rows(y.rows(), y.width(),
                [&](std::int64_t t) { kernels_.rows.silu_mul(y.row(t), gate.row(t), up.row(t), y.width()); });
}

}  // namespace sonde::cpu
