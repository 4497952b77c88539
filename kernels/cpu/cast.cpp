// f32 rows to the store's type, to nearest even.
#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

namespace sonde::cpu {

void CpuBackend::do_cast(Tensor y, Tensor x) {
  const std::int64_t n = x.width();
  parallel_rows(x.rows(), n, [&](std::int64_t t) {
    std::byte* to = y.data + bytes_of(y.dtype, t * y.row_stride);
    if (y.dtype == DType::f32) std::memcpy(to, x.row(t), static_cast<std::size_t>(n) * sizeof(float));
    if (y.dtype == DType::bf16) kernels_.rows.to_bf16(reinterpret_cast<std::uint16_t*>(to), x.row(t), n);
    if (y.dtype == DType::f16) kernels_.rows.to_f16(reinterpret_cast<std::uint16_t*>(to), x.row(t), n);
  });
}

}  // namespace sonde::cpu
