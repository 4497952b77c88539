// A device's backend behind host tensors: every operand is copied over with its stride, the op runs there,
// the results' rows come back. So one op test serves every backend, and what an op writes beside its rows
// would be lost or show.
#pragma once

#include <map>

#include "kernels/backend.h"

namespace sonde::test {

class StagedBackend : public Backend {
 public:
  explicit StagedBackend(std::unique_ptr<Backend> device) : device_(std::move(device)) {}
  std::string describe() const override { return device_->describe(); }
  std::string path(Precision precision) const override { return device_->path(precision); }
  DeviceKind device() const override { return DeviceKind::cpu; }
  Buffer allocate(std::int64_t bytes) override { return Buffer(bytes); }
  void wait() override { device_->wait(); }
  Tensor on_device(Tensor host, Buffer&) override { return host; }
  Tensor on_host(Tensor device, Buffer&) override { return device; }

 protected:
  using Lists = std::span<const std::int32_t>;

  // Operands of one op on the device. Tensors of the same memory are one there, too.
  class Staged {
   public:
    explicit Staged(Backend& device) : device_(device) {}
    Tensor in(Tensor host) { return copy(host); }
    Tensor out(Tensor host) {
      const Tensor there = copy(host);
      if (host.count() > 0) results_.emplace_back(host, there);
      return there;
    }
    void finish() {
      for (auto& [host, there] : results_) {
        Buffer memory;
        const Tensor rows = device_.on_host(there, memory);
        const auto bytes = static_cast<std::size_t>(bytes_of(host.dtype, host.width()));
        for (std::int64_t r = 0; r < host.rows(); ++r)
          std::memcpy(host.data + bytes_of(host.dtype, r * host.row_stride),
                      rows.data + bytes_of(host.dtype, r * rows.row_stride), bytes);
      }
    }

   private:
    Tensor copy(Tensor host) {
      if (host.data == nullptr) return host;
      Buffer& memory = memory_[host.data];
      Tensor whole = host;  // with what lies between the rows
      whole.rank = 1;
      whole.shape = {host.rows() == 0 ? 0 : (host.rows() - 1) * host.row_stride + host.width()};
      whole.row_stride = 1;
      if (memory.bytes() == 0) {
        // Whole blocks of quantised types have no stride; a list of values does.
        device_.on_device(whole, memory);
      }
      Tensor there = host;
      there.data = memory.data();
      there.device = device_.device();
      return there;
    }

    Backend& device_;
    std::map<const void*, Buffer> memory_;
    std::vector<std::pair<Tensor, Tensor>> results_;
  };

  void do_dequantise(Tensor out, Tensor raw) override {
    Staged s(*device_);
    device_->dequantise(s.out(out), s.in(raw));
    s.finish();
  }
  std::unique_ptr<Weight> do_prepare_weight(Tensor w, Precision precision) override {
    return device_->prepare_weight(w, precision);
  }
  std::unique_ptr<Weight> do_keep_weight(std::vector<RawRow> rows, std::int64_t k,
                                         Precision precision) override {
    return device_->keep_weight(std::move(rows), k, precision);
  }
  void do_linear(Tensor y, Tensor x, const Weight& w, Tensor bias) override {
    Staged s(*device_);
    device_->linear(s.out(y), s.in(x), w, s.in(bias));
    s.finish();
  }
  void do_embed(Tensor out, Tensor table, Lists ids) override {
    Staged s(*device_);
    device_->embed(s.out(out), s.in(table), ids);
    s.finish();
  }
  void do_norm(NormKind kind, Tensor y, Tensor x, Tensor weight, Tensor bias, float eps) override {
    Staged s(*device_);
    device_->norm(kind, s.out(y), s.in(x), s.in(weight), s.in(bias), eps);
    s.finish();
  }
  void do_norm_scale(NormKind kind, Tensor scale, Tensor x, float eps) override {
    Staged s(*device_);
    device_->norm_scale(kind, s.out(scale), s.in(x), eps);
    s.finish();
  }
  void do_normalize(NormKind kind, Tensor y, Tensor x, Tensor scale) override {
    Staged s(*device_);
    device_->normalize(kind, s.out(y), s.in(x), s.in(scale));
    s.finish();
  }
  void do_scale_columns(Tensor y, Tensor x, Tensor weight, Tensor bias) override {
    Staged s(*device_);
    device_->scale_columns(s.out(y), s.in(x), s.in(weight), s.in(bias));
    s.finish();
  }
  void do_add_norm(NormKind kind, Tensor resid, Tensor y, Tensor delta, Tensor weight, Tensor bias,
                   float eps) override {
    Staged s(*device_);
    device_->add_norm(kind, s.out(resid), s.out(y), s.in(delta), s.in(weight), s.in(bias), eps);
    s.finish();
  }
  void do_norm_heads(NormKind kind, Tensor y, Tensor x, Tensor weight, float eps) override {
    Staged s(*device_);
    device_->norm_heads(kind, s.out(y), s.in(x), s.in(weight), eps);
    s.finish();
  }
  void do_zero(Tensor y) override {
    Staged s(*device_);
    device_->zero(s.out(y));
    s.finish();
  }
  void do_add(Tensor y, Tensor a, Tensor b) override {
    Staged s(*device_);
    device_->add(s.out(y), s.in(a), s.in(b));
    s.finish();
  }
  void do_scale(Tensor y, Tensor x, float factor) override {
    Staged s(*device_);
    device_->scale(s.out(y), s.in(x), factor);
    s.finish();
  }
  void do_softcap(Tensor y, Tensor x, float cap) override {
    Staged s(*device_);
    device_->softcap(s.out(y), s.in(x), cap);
    s.finish();
  }
  void do_rope(Tensor y, Tensor x, Lists positions, const RopeTable& table, RopePairs pairs) override {
    Staged s(*device_);
    device_->rope(s.out(y), s.in(x), positions, {s.in(table.cos), s.in(table.sin)}, pairs);
    s.finish();
  }
  void do_qk_norm_rope(NormKind kind, Tensor q, Tensor k, Tensor q_weight, Tensor k_weight, float eps,
                       Lists positions, const RopeTable& table, RopePairs pairs) override {
    Staged s(*device_);
    device_->qk_norm_rope(kind, s.out(q), s.out(k), s.in(q_weight), s.in(k_weight), eps, positions,
                          {s.in(table.cos), s.in(table.sin)}, pairs);
    s.finish();
  }
  void do_activate(Activation f, Tensor y, Tensor x) override {
    Staged s(*device_);
    device_->activate(f, s.out(y), s.in(x));
    s.finish();
  }
  void do_activate_mul(Activation f, Tensor y, Tensor gate, Tensor up) override {
    Staged s(*device_);
    device_->activate_mul(f, s.out(y), s.in(gate), s.in(up));
    s.finish();
  }
  void do_attention(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents, const KeyRanges& keys,
                    const AttentionSpec& spec) override {
    Staged s(*device_);
    AttentionSpec there = spec;
    if (!spec.lse.empty()) there.lse = s.out(spec.lse);
    device_->attention(s.out(z), s.in(q), s.in(k), s.in(v), documents, keys, there);
    s.finish();
  }
  void do_attention_scores(Tensor scores, Tensor q, Tensor k, const Documents& documents,
                           const KeyRanges& keys, const AttentionSpec& spec) override {
    Staged s(*device_);
    device_->attention_scores(s.out(scores), s.in(q), s.in(k), documents, keys, spec);
    s.finish();
  }
  void do_softmax(Tensor y, Tensor x) override {
    Staged s(*device_);
    device_->softmax(s.out(y), s.in(x));
    s.finish();
  }
  void do_attention_apply(Tensor z, Tensor pattern, Tensor v, const Documents& documents,
                          const KeyRanges& keys) override {
    Staged s(*device_);
    device_->attention_apply(s.out(z), s.in(pattern), s.in(v), documents, keys);
    s.finish();
  }
  void do_route(Tensor weights, Tensor indices, Tensor logits, Renormalise renormalise) override {
    Staged s(*device_);
    device_->route(s.out(weights), s.out(indices), s.in(logits), renormalise);
    s.finish();
  }
  bool do_linear_by_expert(Tensor y, Tensor x, Tensor experts, std::span<const Weight* const> weights,
                           std::int64_t first) override {
    Staged s(*device_);
    const bool done = device_->linear_by_expert(s.out(y), s.in(x), s.in(experts), weights, first);
    if (done) s.finish();
    return done;
  }
  void do_add_up_experts(Tensor y, Tensor x, Tensor experts, Tensor weights, std::int64_t first,
                         std::int64_t n) override {
    Staged s(*device_);
    device_->add_up_experts(s.out(y), s.in(x), s.in(experts), s.in(weights), first, n);
    s.finish();
  }
  void do_scatter_add_rows(Tensor y, Lists rows, Tensor x, std::span<const float> weights) override {
    Staged s(*device_);
    device_->scatter_add_rows(s.out(y), rows, s.in(x), weights);
    s.finish();
  }
  void do_log_softmax_at(std::span<double> out, Tensor logits, Lists targets, float temperature) override {
    Staged s(*device_);
    device_->log_softmax_at(out, s.in(logits), targets, temperature);
  }
  void do_top_k(std::span<Candidate> out, Tensor x, std::int64_t k) override {
    Staged s(*device_);
    device_->top_k(out, s.in(x), k);
  }
  void do_penalise(Tensor x, Lists rows, Lists columns, double penalty) override {
    Staged s(*device_);
    device_->penalise(s.out(x), rows, columns, penalty);
    s.finish();
  }
  void do_gather_rows(Tensor y, Tensor x, Lists rows) override {
    Staged s(*device_);
    device_->gather_rows(s.out(y), s.in(x), rows);
    s.finish();
  }
  void do_replace_rows(Tensor x, Lists rows, Tensor values) override {
    Staged s(*device_);
    device_->replace_rows(s.out(x), rows, s.in(values));
    s.finish();
  }
  void do_add_rows(Tensor x, Lists rows, Tensor values, float coefficient) override {
    Staged s(*device_);
    device_->add_rows(s.out(x), rows, s.in(values), coefficient);
    s.finish();
  }
  void do_scale_rows(Tensor x, Lists rows, float factor) override {
    Staged s(*device_);
    device_->scale_rows(s.out(x), rows, factor);
    s.finish();
  }
  void do_fill_columns(Tensor x, Lists rows, Lists columns, float value) override {
    Staged s(*device_);
    device_->fill_columns(s.out(x), rows, columns, value);
    s.finish();
  }
  void do_clamp_rows(Tensor x, Lists rows, float least, float most) override {
    Staged s(*device_);
    device_->clamp_rows(s.out(x), rows, least, most);
    s.finish();
  }
  void do_project_out_rows(Tensor x, Lists rows, Tensor basis) override {
    Staged s(*device_);
    device_->project_out_rows(s.out(x), rows, s.in(basis));
    s.finish();
  }
  void do_pack_rows(Tensor y, Tensor sums, Tensor x, Lists rows, const PackFormat& format,
                    Tensor before) override {
    Staged s(*device_);
    device_->pack_rows(s.out(y), s.out(sums), s.in(x), rows, format, s.in(before));
    s.finish();
  }
  void do_cast(Tensor y, Tensor x) override {
    Staged s(*device_);
    device_->cast(s.out(y), s.in(x));
    s.finish();
  }

 private:
  std::unique_ptr<Backend> device_;
};

}  // namespace sonde::test
