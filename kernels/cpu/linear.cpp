// y = x w' + bias through the packed GEMM.
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gemm.h"

namespace sonde::cpu {

std::unique_ptr<Weight> CpuBackend::do_prepare_weight(Tensor w, Precision precision) {
  return std::make_unique<PackedWeight>(gemm_kernel_of(path_, precision), w);
}

std::unique_ptr<Weight> CpuBackend::do_keep_weight(std::vector<RawRow> rows, std::int64_t k,
                                                   Precision precision) {
  return std::make_unique<RawWeight>(gemm_kernel_of(path_, precision), std::move(rows), k);
}

void CpuBackend::do_linear(Tensor y, Tensor x, const Weight& w, Tensor bias) {
  if (const auto* raw = dynamic_cast<const RawWeight*>(&w))
    return gemm(y, x, *raw, bias.empty() ? nullptr : bias.f32());
  const auto* packed = dynamic_cast<const PackedWeight*>(&w);
  sonde_check(packed != nullptr, "a weight of another backend");
  gemm(y, x, *packed, bias.empty() ? nullptr : bias.f32());
}

}  // namespace sonde::cpu
