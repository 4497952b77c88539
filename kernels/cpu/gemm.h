// y = x w' + bias over a packed weight: tiles of the micro-kernel, split over threads by rows and panels.
// Every output is the same sum of chains over k (kernel_table.h), so the split never shows in the bits.
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/kernel_table.h"

namespace sonde::cpu {

// [N, K] as panels of nr columns, each [ceil(K / k_step)][nr] words, the last one padded with zeros.
class PackedWeight : public Weight {
 public:
  PackedWeight(const GemmKernel& kernel, Tensor w /*f32 [N, K]*/);
  std::int64_t n() const override { return n_; }
  std::int64_t k() const override { return k_; }
  std::int64_t bytes() const override { return panels_.bytes(); }
  const GemmKernel& kernel() const { return kernel_; }
  std::int64_t panel_bytes() const { return panel_bytes_; }
  const std::byte* panel(std::int64_t i) const { return panels_.data() + i * panel_bytes_; }

 private:
  const GemmKernel& kernel_;
  std::int64_t n_, k_, panel_bytes_;
  Buffer panels_;
};

// [N, K] as rows of a file, in any type. A panel is expanded and packed where a task reaches it.
class RawWeight : public Weight {
 public:
  RawWeight(const GemmKernel& kernel, std::vector<RawRow> rows, std::int64_t k);
  std::int64_t n() const override { return static_cast<std::int64_t>(rows_.size()); }
  std::int64_t k() const override { return k_; }
  std::int64_t bytes() const override { return bytes_; }  // of the rows and of what points to them
  const GemmKernel& kernel() const { return kernel_; }
  // Columns of panel i over k values from k0 on, as PackedWeight has them. values: f32 [nr, k] to work in.
  void expand(void* panel, float* values, std::int64_t i, std::int64_t k0, std::int64_t k) const;

 private:
  const GemmKernel& kernel_;
  std::vector<RawRow> rows_;
  std::int64_t k_, bytes_;
};

void gemm(Tensor y /*[T, N]*/, Tensor x /*[T, K]*/, const PackedWeight& w, const float* bias /*[N] or null*/);
void gemm(Tensor y /*[T, N]*/, Tensor x /*[T, K]*/, const RawWeight& w, const float* bias /*[N] or null*/);

// Bytes of `rows` packed rows of k values, the overrun of pack_x included.
inline std::int64_t packed_x_bytes(const GemmKernel& kernel, std::int64_t rows, std::int64_t k) {
  return ((k + kernel.k_step - 1) / kernel.k_step * rows + 8) * 4;
}

}  // namespace sonde::cpu
