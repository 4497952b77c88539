#include "models/transformer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::int64_t kLogitRows = 256;  // logits are computed for so many tokens at a time

struct WorkspaceBytes {
  std::int64_t resid, scale, qkv, z, gate_up, mlp;
};

WorkspaceBytes workspace(const ModelSpec& s, std::int64_t tokens) {
  const std::int64_t row = tokens * 4;
  return {row * s.d_model,
          row,
          row * (s.n_heads + 2 * s.n_kv_heads) * s.d_head,
          row * s.n_heads * s.d_head,
          row * 2 * s.d_mlp,
          row * s.d_mlp};
}

}  // namespace

std::int64_t Transformer::workspace_bytes(const ModelSpec& spec, std::int64_t max_tokens) {
  const WorkspaceBytes w = workspace(spec, max_tokens);
  return 3 * w.resid + w.scale + w.qkv + w.z + w.gate_up + w.mlp;
}

std::int64_t Transformer::logits_bytes(const ModelSpec& spec) { return kLogitRows * spec.vocab * 4; }

Transformer::Transformer(const Model& model, Backend& backend, std::int64_t max_tokens)
    : model_(model),
      backend_(backend),
      rope_rows_(model.spec.rope, model.spec.d_head),
      max_tokens_(max_tokens) {
  const WorkspaceBytes w = workspace(model.spec, max_tokens);
  resid_memory_ = Buffer(w.resid);
  normed_memory_ = Buffer(w.resid);
  delta_memory_ = Buffer(w.resid);
  scale_memory_ = Buffer(w.scale);
  qkv_memory_ = Buffer(w.qkv);
  z_memory_ = Buffer(w.z);
  gate_up_memory_ = Buffer(w.gate_up);
  mlp_memory_ = Buffer(w.mlp);
}

void Transformer::set_rows(std::int64_t rows) {
  const ModelSpec& s = model_.spec;
  const std::int64_t q = s.n_heads * s.d_head, kv = s.n_kv_heads * s.d_head;
  resid_ = Tensor(resid_memory_.data(), DType::f32, {rows, s.d_model});
  normed_ = Tensor(normed_memory_.data(), DType::f32, {rows, s.d_model});
  delta_ = Tensor(delta_memory_.data(), DType::f32, {rows, s.d_model});
  scale_ = Tensor(scale_memory_.data(), DType::f32, {rows, 1});
  qkv_ = Tensor(qkv_memory_.data(), DType::f32, {rows, q + 2 * kv});
  q_ = qkv_.slice_columns(0, q).reshape_row({s.n_heads, s.d_head});
  k_ = qkv_.slice_columns(q, kv).reshape_row({s.n_kv_heads, s.d_head});
  v_ = qkv_.slice_columns(q + kv, kv).reshape_row({s.n_kv_heads, s.d_head});
  z_ = Tensor(z_memory_.data(), DType::f32, {rows, s.n_heads, s.d_head});
  gate_up_ = Tensor(gate_up_memory_.data(), DType::f32, {rows, 2 * s.d_mlp});
  mlp_ = Tensor(mlp_memory_.data(), DType::f32, {rows, s.d_mlp});
}

void Transformer::forward(const Batch& batch, Hooks& hooks) {
  const auto tokens = static_cast<std::int64_t>(batch.ids.size());
  sonde_check(tokens <= max_tokens_, "{} tokens in a workspace for {}", tokens, max_tokens_);
  set_rows(tokens);
  hooks.begin_batch(batch);
  rope_row_of_token_ = rope_rows_.rows(batch.documents, batch.positions);

  backend_.embed(resid_, model_.embed, batch.ids);
  hooks.at({Hook::embed}, resid_);
  const auto layers = static_cast<int>(hooks.layers_needed());
  for (int l = 0; l < layers; ++l)
    block(l, batch, hooks, l + 1 == layers ? Rows::selected_at_the_end : Rows::all);
  if (hooks.needs_final_norm()) norm(normed_, resid_, model_.ln_final, Hook::ln_final_scale, 0, hooks);
  if (hooks.needs_logits()) logits(hooks);
}

void Transformer::block(int l, const Batch& batch, Hooks& hooks, Rows rows) {
  const BlockWeights& w = model_.blocks[static_cast<std::size_t>(l)];
  const std::int64_t d_mlp = model_.spec.d_mlp;

  hooks.at({Hook::resid_pre, l}, resid_);
  norm(normed_, resid_, w.ln1, Hook::ln1_scale, l, hooks);
  backend_.linear(qkv_, normed_, *w.qkv, w.qkv_bias.view);
  attend(batch, l, hooks);
  if (rows == Rows::selected_at_the_end) keep_selected_rows(batch, hooks);
  backend_.linear(delta_, z_.reshape_row({model_.spec.n_heads * model_.spec.d_head}), *w.attn_out,
                  w.attn_out_bias.view);
  hooks.at({Hook::attn_out, l}, delta_);
  add_and_norm(w, l, hooks);

  backend_.linear(gate_up_, normed_, *w.gate_up, w.gate_up_bias.view);
  const Tensor gate = gate_up_.slice_columns(0, d_mlp), up = gate_up_.slice_columns(d_mlp, d_mlp);
  hooks.at({Hook::mlp_pre, l}, gate);
  hooks.at({Hook::mlp_pre_linear, l}, up);
  backend_.silu_mul(mlp_, gate, up);
  hooks.at({Hook::mlp_post, l}, mlp_);
  backend_.linear(delta_, mlp_, *w.down, w.down_bias.view);
  hooks.at({Hook::mlp_out, l}, delta_);
  backend_.add(resid_, resid_, delta_);
  hooks.at({Hook::resid_post, l}, resid_);
}

// y = norm(x), in one pass unless a hook looks between its steps. `scale` is the first of the norm's three
// hooks.
void Transformer::norm(Tensor y, Tensor x, const OwnedTensor& weight, Hook scale, int l, Hooks& hooks) {
  const auto hook = [&](int step) { return Site{static_cast<Hook>(static_cast<int>(scale) + step), l}; };
  const auto eps = static_cast<float>(model_.spec.norm_eps);
  if (!hooks.active(hook(0)) && !hooks.active(hook(1))) {
    backend_.rms_norm(y, x, weight.view, eps);
  } else {
    backend_.rms_scale(scale_, x, eps);
    hooks.at(hook(0), scale_);
    backend_.divide_rows(y, x, scale_);
    hooks.at(hook(1), y);
    backend_.multiply_columns(y, y, weight.view);
  }
  hooks.at(hook(2), y);
}

// resid += delta, then the norm before the MLP; fused unless an edit or a look between the steps forbids it.
void Transformer::add_and_norm(const BlockWeights& w, int l, Hooks& hooks) {
  if (hooks.edited({Hook::resid_mid, l}) || hooks.active({Hook::ln2_scale, l}) ||
      hooks.active({Hook::ln2_normalized, l})) {
    backend_.add(resid_, resid_, delta_);
    hooks.at({Hook::resid_mid, l}, resid_);
    return norm(normed_, resid_, w.ln2, Hook::ln2_scale, l, hooks);
  }
  backend_.add_rms_norm(resid_, normed_, delta_, w.ln2.view, static_cast<float>(model_.spec.norm_eps));
  hooks.at({Hook::resid_mid, l}, resid_);
  hooks.at({Hook::ln2_out, l}, normed_);
}

void Transformer::attend(const Batch& batch, int l, Hooks& hooks) {
  hooks.at({Hook::q, l}, q_);
  hooks.at({Hook::k, l}, k_);
  hooks.at({Hook::v, l}, v_);
  backend_.rope(q_, q_, rope_row_of_token_, rope_rows_.table());
  backend_.rope(k_, k_, rope_row_of_token_, rope_rows_.table());
  hooks.at({Hook::rot_q, l}, q_);
  hooks.at({Hook::rot_k, l}, k_);
  if (hooks.active({Hook::attn_scores, l}) || hooks.active({Hook::pattern, l}))
    attend_through_hooks(batch, l, hooks);
  else
    backend_.attention(z_, q_, k_, v_, batch.documents,
                       {1 / std::sqrt(static_cast<float>(model_.spec.d_head))});
  hooks.at({Hook::z, l}, z_);
}

// Attention whose scores and pattern exist as tensors, one document at a time.
void Transformer::attend_through_hooks(const Batch& batch, int l, Hooks& hooks) {
  const std::int64_t heads = model_.spec.n_heads, longest = batch.documents.longest();
  const std::int64_t bytes = longest * longest * heads * 4;
  if (scores_memory_.bytes() < bytes) scores_memory_ = Buffer(bytes);

  for (std::size_t i = 0; i + 1 < batch.documents.starts.size(); ++i) {
    const std::int64_t first = batch.documents.starts[i], n = batch.documents.starts[i + 1] - first;
    if (n == 0) continue;
    const std::int32_t starts[] = {0, static_cast<std::int32_t>(n)};
    const Documents document{starts};
    const Tensor scores(scores_memory_.data(), DType::f32, {n, heads, n});
    backend_.attention_scores(scores, q_.slice_rows(first, n), k_.slice_rows(first, n), document,
                              {1 / std::sqrt(static_cast<float>(model_.spec.d_head))});
    hooks.at({Hook::attn_scores, l}, scores, first);
    backend_.softmax(scores, scores);
    hooks.at({Hook::pattern, l}, scores, first);
    backend_.attention_apply(z_.slice_rows(first, n), scores, v_.slice_rows(first, n), document);
  }
}

// Behind the last attention that matters only the captured tokens are computed further.
void Transformer::keep_selected_rows(const Batch& batch, Hooks& hooks) {
  const auto kept = static_cast<std::int64_t>(batch.selected.size());
  if (kept == resid_.rows()) return;
  const Tensor z(qkv_memory_.data(), DType::f32,
                 {kept, model_.spec.n_heads, model_.spec.d_head});  // q, k, v are done with
  backend_.gather_rows(normed_.slice_rows(0, kept), resid_, batch.selected);
  backend_.gather_rows(z, z_, batch.selected);
  std::swap(resid_memory_, normed_memory_);
  set_rows(kept);
  z_ = z;
  hooks.keep_selected_rows();
}

void Transformer::logits(Hooks& hooks) {
  sonde_check(model_.head != nullptr, "logits were asked for and the head is not loaded");
  const std::int64_t vocab = model_.spec.vocab, rows = normed_.rows();
  if (logits_memory_.bytes() == 0) logits_memory_ = Buffer(logits_bytes(model_.spec));
  for (std::int64_t first = 0; first < rows; first += kLogitRows) {
    const std::int64_t n = std::min(kLogitRows, rows - first);
    const Tensor y(logits_memory_.data(), DType::f32, {n, vocab});
    backend_.linear(y, normed_.slice_rows(first, n), *model_.head);
    hooks.at({Hook::logits}, y, first);
  }
}

}  // namespace sonde
