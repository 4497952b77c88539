// Backend on this machine's CPU: OpenMP over rows, tiles or heads around the vector kernels of one path.
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/kernels_of.h"

namespace sonde::cpu {

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(CpuPath path) : path_(path), kernels_(kernels_of(path)) {}
  std::string describe() const override;
  std::string path(Precision precision) const override;

 protected:
  void do_dequantise(Tensor out, Tensor raw) override;
  std::unique_ptr<Weight> do_prepare_weight(Tensor w, Precision precision) override;
  void do_linear(Tensor y, Tensor x, const Weight& w, Tensor bias) override;
  void do_embed(Tensor out, Tensor table, std::span<const std::int32_t> ids) override;
  void do_rms_norm(Tensor y, Tensor x, Tensor weight, float eps) override;
  void do_rms_scale(Tensor scale, Tensor x, float eps) override;
  void do_divide_rows(Tensor y, Tensor x, Tensor scale) override;
  void do_multiply_columns(Tensor y, Tensor x, Tensor weight) override;
  void do_add_rms_norm(Tensor resid, Tensor y, Tensor delta, Tensor weight, float eps) override;
  void do_add(Tensor y, Tensor a, Tensor b) override;
  void do_rope(Tensor y, Tensor x, std::span<const std::int32_t> positions, const RopeTable& table) override;
  void do_silu_mul(Tensor y, Tensor gate, Tensor up) override;
  void do_attention(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents,
                    const AttentionSpec& spec) override;
  void do_attention_scores(Tensor scores, Tensor q, Tensor k, const Documents& documents,
                           const AttentionSpec& spec) override;
  void do_softmax(Tensor y, Tensor x) override;
  void do_attention_apply(Tensor z, Tensor pattern, Tensor v, const Documents& documents) override;
  void do_gather_rows(Tensor y, Tensor x, std::span<const std::int32_t> rows) override;
  void do_replace_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values) override;
  void do_add_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values, float coefficient) override;
  void do_scale_rows(Tensor x, std::span<const std::int32_t> rows, float factor) override;
  void do_project_out_rows(Tensor x, std::span<const std::int32_t> rows, Tensor basis) override;
  void do_cast(Tensor y, Tensor x) override;

 private:
  float rms_of(const float* x, std::int64_t n, float eps) const;  // sqrt(mean(x^2) + eps)

  CpuPath path_;
  const KernelTable& kernels_;
  Buffer packed_heads_;  // attention's k and v as panels, grown and kept
};

}  // namespace sonde::cpu
