// Backend on an NVIDIA GPU, or on its emulation: one stream, in which everything runs in order.
#pragma once

#include <algorithm>

#include "kernels/backend.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/memory.h"

namespace sonde::SONDE_GPU {

#ifdef __CUDACC__
inline constexpr DeviceKind kDevice = DeviceKind::cuda;
#else
inline constexpr DeviceKind kDevice = DeviceKind::emulated;
#endif

// A tensor's memory, for kernels and copies; one of another device is refused.
template <class T>
T* device_data(const Tensor& t) {
  if (t.device != kDevice && t.data != nullptr)
    fail("an op of device {} was given a tensor of {}", name(kDevice), name(t.device));
  return reinterpret_cast<T*>(t.data);
}
inline float* device_f32(const Tensor& t) { return device_data<float>(t); }

class GpuWeight;
class WeightStream;

class GpuBackend : public Backend {
 public:
  // algorithms: a file in which a run keeps those that its products ran; an empty path: none.
  explicit GpuBackend(int ordinal, const std::filesystem::path& algorithms = {});
  ~GpuBackend() override;
  std::string describe() const override;
  std::string path(Precision precision) const override;
  DeviceKind device() const override { return kDevice; }
  Buffer allocate(std::int64_t bytes) override { return Buffer(bytes, memory_); }
  void wait() override;
  using Backend::on_device;
  Tensor on_device(Tensor host, Buffer& memory) override;
  Tensor on_host(Tensor device, Buffer& memory) override;
  std::unique_ptr<RowCopies> make_row_copies() override;
  std::int64_t memory_left() const override;
  void limit_weights(std::int64_t bytes) override;
  std::unique_ptr<DeviceRanks> join(RankLink& link, std::string& why_not) override;

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
  bool do_linear_by_expert(Tensor y, Tensor x, Tensor experts, std::span<const Weight* const> weights,
                           std::int64_t first) override;
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
  // y [T, n], y_stride floats apart, of a weight [n, K] of f32, bf16 or f16, to which x is rounded
  void product(float* y, std::int64_t y_stride, Tensor x, const void* w, const float* bias, std::int64_t n,
               DType dtype);
  // y = x w' + bias of a weight in e4m3 (fp8.h), to which the rows of x are rounded
  void linear_fp8(Tensor y, Tensor x, const std::byte* weight, Tensor bias);
  void upload_rows(Tensor device, Tensor host);
  // A weight made on the device: there, or on the host where its like are limited.
  std::unique_ptr<Weight> placed(GpuWeight weight);
  // f(first, n, values [n, K] as the products take them) for all rows of a segment's blocks at `data`
  void for_expanded(const GpuWeight& w, std::size_t segment, const std::byte* data,
                    const std::function<void(std::int64_t, std::int64_t, const void*)>& f);
  // addresses: two words each, of weights that lie here alike; or empty
  bool tiles_by_expert(Tensor y, Tensor x, Tensor experts, std::span<const GpuWeight* const> weights,
                       std::int64_t first, const std::vector<std::int32_t>& addresses);
  void attention_in_tiles(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents,
                          const KeyRanges& keys, const AttentionSpec& spec);
  template <class T>
  void attention_on_tensor_cores(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents,
                                 const KeyRanges& keys, const AttentionSpec& spec);

  std::string name_, gpu_;
  int ordinal_, compute_;  // capability: 90 is 9.0
  Stream stream_;
  std::shared_ptr<DeviceMemory> memory_, pinned_;
  Uploader uploader_;
  Lists lists_;
  std::unique_ptr<Blas> blas_;
  std::int64_t weights_limit_ = INT64_MAX, weights_here_ = 0;  // bytes on the device
  std::shared_ptr<WeightStream> weight_stream_;                // of the others
  Buffer results_;                                             // doubles of an op, for the host
  Buffer scratch_;                                             // of one op at a time
  Buffer operands_;                                            // rows as a product takes them
  Buffer expert_lists_;                                        // which rows are each expert's
};

}  // namespace sonde::SONDE_GPU
