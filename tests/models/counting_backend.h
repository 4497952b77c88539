// A backend that does the work through another one and counts its GEMMs: shows how far a forward ran.
#pragma once

#include <memory>
#include <vector>

#include "kernels/backend.h"

namespace sonde::test {

class CountingBackend : public Backend {
 public:
  std::vector<std::int64_t> linear_rows;  // T of every linear, in order

  std::string describe() const override { return inner_->describe(); }
  std::string path(Precision precision) const override { return inner_->path(precision); }

 protected:
  using Rows = std::span<const std::int32_t>;
  void do_dequantise(Tensor out, Tensor raw) override { inner_->dequantise(out, raw); }
  std::unique_ptr<Weight> do_prepare_weight(Tensor w, Precision precision) override {
    return inner_->prepare_weight(w, precision);
  }
  void do_linear(Tensor y, Tensor x, const Weight& w, Tensor bias) override {
    linear_rows.push_back(x.rows());
    inner_->linear(y, x, w, bias);
  }
  void do_embed(Tensor out, Tensor table, Rows ids) override { inner_->embed(out, table, ids); }
  void do_rms_norm(Tensor y, Tensor x, Tensor weight, float eps) override {
    inner_->rms_norm(y, x, weight, eps);
  }
  void do_rms_scale(Tensor scale, Tensor x, float eps) override { inner_->rms_scale(scale, x, eps); }
  void do_divide_rows(Tensor y, Tensor x, Tensor scale) override { inner_->divide_rows(y, x, scale); }
  void do_multiply_columns(Tensor y, Tensor x, Tensor weight) override {
    inner_->multiply_columns(y, x, weight);
  }
  void do_add_rms_norm(Tensor resid, Tensor y, Tensor delta, Tensor weight, float eps) override {
    inner_->add_rms_norm(resid, y, delta, weight, eps);
  }
  void do_add(Tensor y, Tensor a, Tensor b) override { inner_->add(y, a, b); }
  void do_rope(Tensor y, Tensor x, Rows positions, const RopeTable& table) override {
    inner_->rope(y, x, positions, table);
  }
  void do_silu_mul(Tensor y, Tensor gate, Tensor up) override { inner_->silu_mul(y, gate, up); }
  void do_attention(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents,
                    const AttentionSpec& spec) override {
    inner_->attention(z, q, k, v, documents, spec);
  }
  void do_attention_scores(Tensor scores, Tensor q, Tensor k, const Documents& documents,
                           const AttentionSpec& spec) override {
    inner_->attention_scores(scores, q, k, documents, spec);
  }
  void do_softmax(Tensor y, Tensor x) override { inner_->softmax(y, x); }
  void do_attention_apply(Tensor z, Tensor pattern, Tensor v, const Documents& documents) override {
    inner_->attention_apply(z, pattern, v, documents);
  }
  void do_gather_rows(Tensor y, Tensor x, Rows rows) override { inner_->gather_rows(y, x, rows); }
  void do_replace_rows(Tensor x, Rows rows, Tensor values) override { inner_->replace_rows(x, rows, values); }
  void do_add_rows(Tensor x, Rows rows, Tensor values, float coefficient) override {
    inner_->add_rows(x, rows, values, coefficient);
  }
  void do_scale_rows(Tensor x, Rows rows, float factor) override { inner_->scale_rows(x, rows, factor); }
  void do_project_out_rows(Tensor x, Rows rows, Tensor basis) override {
    inner_->project_out_rows(x, rows, basis);
  }
  void do_cast(Tensor y, Tensor x) override { inner_->cast(y, x); }

 private:
  std::unique_ptr<Backend> inner_ = make_cpu_backend();
};

}  // namespace sonde::test
