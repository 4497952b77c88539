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
  DeviceKind device() const override { return DeviceKind::cpu; }
  Buffer allocate(std::int64_t bytes) override { return Buffer(bytes); }
  void wait() override {}
  using Backend::on_device;
  Tensor on_device(Tensor host, Buffer&) override { return host; }
  Tensor on_host(Tensor device, Buffer&) override { return device; }

 protected:
  void do_dequantise(Tensor out, Tensor raw) override;
  std::unique_ptr<Weight> do_prepare_weight(Tensor w, Precision precision) override;
  std::unique_ptr<Weight> do_keep_weight(std::vector<RawRow> rows, std::int64_t k,
                                         Precision precision) override;
  void do_linear(Tensor y, Tensor x, const Weight& w, Tensor bias) override;
  void do_embed(Tensor out, Tensor table, std::span<const std::int32_t> ids) override;
  void do_norm(NormKind kind, Tensor y, Tensor x, Tensor weight, Tensor bias, float eps) override;
  void do_norm_scale(NormKind kind, Tensor scale, Tensor x, float eps) override;
  void do_normalize(NormKind kind, Tensor y, Tensor x, Tensor scale) override;
  void do_scale_columns(Tensor y, Tensor x, Tensor weight, Tensor bias) override;
  void do_add_norm(NormKind kind, Tensor resid, Tensor y, Tensor delta, Tensor weight, Tensor bias,
                   float eps) override;
  void do_norm_heads(NormKind kind, Tensor y, Tensor x, Tensor weight, float eps) override;
  void do_zero(Tensor y) override;
  void do_add(Tensor y, Tensor a, Tensor b) override;
  void do_scale(Tensor y, Tensor x, float factor) override;
  void do_softcap(Tensor y, Tensor x, float cap) override;
  void do_rope(Tensor y, Tensor x, std::span<const std::int32_t> positions, const RopeTable& table,
               RopePairs pairs) override;
  void do_qk_norm_rope(NormKind kind, Tensor q, Tensor k, Tensor q_weight, Tensor k_weight, float eps,
                       std::span<const std::int32_t> positions, const RopeTable& table,
                       RopePairs pairs) override;
  void do_activate(Activation f, Tensor y, Tensor x) override;
  void do_activate_mul(Activation f, Tensor y, Tensor gate, Tensor up) override;
  void do_attention(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents, const KeyRanges& keys,
                    const AttentionSpec& spec) override;
  void do_attention_scores(Tensor scores, Tensor q, Tensor k, const Documents& documents,
                           const KeyRanges& keys, const AttentionSpec& spec) override;
  void do_softmax(Tensor y, Tensor x) override;
  void do_attention_apply(Tensor z, Tensor pattern, Tensor v, const Documents& documents,
                          const KeyRanges& keys) override;
  void do_route(Tensor weights, Tensor indices, Tensor logits, Renormalise renormalise) override;
  // The host has the choice already.
  bool do_linear_by_expert(Tensor, Tensor, Tensor, std::span<const Weight* const>, std::int64_t) override {
    return false;
  }
  void do_add_up_experts(Tensor y, Tensor x, Tensor experts, Tensor weights, std::int64_t first,
                         std::int64_t n) override;
  void do_scatter_add_rows(Tensor y, std::span<const std::int32_t> rows, Tensor x,
                           std::span<const float> weights) override;
  void do_log_softmax_at(std::span<double> out, Tensor logits, std::span<const std::int32_t> targets,
                         float temperature) override;
  void do_top_k(std::span<Candidate> out, Tensor x, std::int64_t k) override;
  void do_penalise(Tensor x, std::span<const std::int32_t> rows, std::span<const std::int32_t> columns,
                   double penalty) override;
  void do_gather_rows(Tensor y, Tensor x, std::span<const std::int32_t> rows) override;
  void do_replace_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values) override;
  void do_add_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values, float coefficient) override;
  void do_scale_rows(Tensor x, std::span<const std::int32_t> rows, float factor) override;
  void do_fill_columns(Tensor x, std::span<const std::int32_t> rows, std::span<const std::int32_t> columns,
                       float value) override;
  void do_clamp_rows(Tensor x, std::span<const std::int32_t> rows, float least, float most) override;
  void do_project_out_rows(Tensor x, std::span<const std::int32_t> rows, Tensor basis) override;
  void do_pack_rows(Tensor y, Tensor sums, Tensor x, std::span<const std::int32_t> rows,
                    const PackFormat& format, Tensor before) override;
  void do_cast(Tensor y, Tensor x) override;

 private:
  float mean_of(NormKind kind, const float* x, std::int64_t n) const;  // 0 for rms
  float scale_of(NormKind kind, const float* x, float mean, std::int64_t n, float eps) const;
  void norm_row(NormKind kind, float* y, const float* x, const float* weight, const float* bias,
                std::int64_t n, float eps) const;

  void turn_head(float* y, const float* x, const float* cos, const float* sin, std::int64_t width,
                 std::int64_t half, RopePairs pairs) const;

  CpuPath path_;
  const KernelTable& kernels_;
  Buffer packed_heads_;  // attention's k and v as panels, grown and kept
};

}  // namespace sonde::cpu
