// Sums, factors and soft-caps over whole tensors.
#include <algorithm>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

namespace sonde::cpu {

void CpuBackend::do_zero(Tensor y) {
  parallel_rows(y.rows(), y.width(), [&](std::int64_t t) { std::fill_n(y.row(t), y.width(), 0.0f); });
}

void CpuBackend::do_add(Tensor y, Tensor a, Tensor b) {
  parallel_rows(y.rows(), y.width(),
                [&](std::int64_t t) { kernels_.rows.add(y.row(t), a.row(t), b.row(t), y.width()); });
}

void CpuBackend::do_scale(Tensor y, Tensor x, float factor) {
  parallel_rows(y.rows(), y.width(),
                [&](std::int64_t t) { kernels_.rows.scale(y.row(t), x.row(t), factor, y.width()); });
}

void CpuBackend::do_softcap(Tensor y, Tensor x, float cap) {
  parallel_rows(y.rows(), y.width(),
                [&](std::int64_t t) { kernels_.rows.softcap(y.row(t), x.row(t), cap, y.width()); });
}

}  // namespace sonde::cpu
