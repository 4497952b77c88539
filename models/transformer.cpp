#include "models/transformer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/error.h"
#include "runtime/profile.h"
#include "runtime/trace_range.h"

namespace sonde {
namespace {

constexpr std::int64_t kLogitRows = 256;  // logits are computed for so many tokens at a time

struct WorkspaceBytes {
  std::int64_t resid, scale, qkv, z, gate_up, mlp, router, expert;
};

WorkspaceBytes workspace(const ModelSpec& s, std::int64_t tokens, DeviceKind device) {
  // Rows of an MLP of experts: one for each token and choice where the device finds them
  // (Transformer::experts_by_row), else at most all tokens at once, as input and as output.
  const std::int64_t choices = device == DeviceKind::cpu ? 1 : s.experts_per_token;
  const bool dense = s.n_experts == 0 || !s.dense_layers.empty();
  const std::int64_t row = tokens * 4,
                     mlp = row * std::max(dense ? s.d_mlp : 0, s.n_experts > 0 ? choices * s.d_expert : 0);
  return {row * s.d_model,
          row,
          row * (s.n_heads + 2 * s.n_kv_heads) * s.d_head,
          row * s.n_heads * s.d_head,
          (s.gated_mlp ? 2 : 1) * mlp,
          mlp,
          s.n_experts > 0 ? row * (s.n_experts + 2 * s.experts_per_token) : 0,
          s.n_experts > 0 ? row * std::max<std::int64_t>(2, choices) * s.d_model : 0};
}

// Heads [first, first + n) of x [T, heads, width].
Tensor heads_of(Tensor x, std::int64_t first, std::int64_t n) {
  const std::int64_t width = x.dim(2);
  return x.reshape_row({x.width()}).slice_columns(first * width, n * width).reshape_row({n, width});
}

}  // namespace

std::int64_t Transformer::workspace_bytes(const ModelSpec& spec, std::int64_t max_tokens, DeviceKind device) {
  const WorkspaceBytes w = workspace(spec, max_tokens, device);
  return (spec.order == BlockOrder::parallel ? 4 : 3) * w.resid + w.scale + w.qkv + w.z + w.gate_up + w.mlp +
         w.router + w.expert;
}

std::int64_t Transformer::logits_bytes(const ModelSpec& spec) { return kLogitRows * spec.vocab * 4; }

Transformer::Transformer(const Model& model, Backend& backend, std::int64_t max_tokens)
    : model_(model),
      backend_(backend),
      group_(model, backend),
      link_(model, backend),
      head_groups_(model.shard.head_groups()),
      rope_{.rows = RopeRows(model.spec.rope, model.spec.rope_width())},
      max_tokens_(max_tokens) {
  if (model.spec.local_rope)
    local_rope_.emplace(Positions{.rows = RopeRows(*model.spec.local_rope, model.spec.rope_width())});
  const WorkspaceBytes w = workspace(model.shard.part_of(model.spec), max_tokens, backend.device());
  resid_memory_ = backend.allocate(w.resid);
  normed_memory_ = backend.allocate(w.resid);
  delta_memory_ = backend.allocate(w.resid);
  if (model.spec.order == BlockOrder::parallel) kept_memory_ = backend.allocate(w.resid);
  scale_memory_ = backend.allocate(w.scale);
  qkv_memory_ = backend.allocate(w.qkv);
  z_memory_ = backend.allocate(w.z);
  gate_up_memory_ = backend.allocate(w.gate_up);
  mlp_memory_ = backend.allocate(w.mlp);
  router_memory_ = backend.allocate(w.router);
  expert_memory_ = backend.allocate(w.expert);
}

void Transformer::set_rows(std::int64_t rows) {
  const ModelSpec& s = model_.spec;
  const std::int64_t heads = model_.shard.heads.size(), kv_heads = model_.shard.kv_heads.size();
  const std::int64_t q = heads * s.d_head, kv = kv_heads * s.d_head;
  resid_ = resid_memory_.tensor(DType::f32, {rows, s.d_model});
  normed_ = normed_memory_.tensor(DType::f32, {rows, s.d_model});
  delta_ = delta_memory_.tensor(DType::f32, {rows, s.d_model});
  scale_ = scale_memory_.tensor(DType::f32, {rows, 1});
  qkv_ = qkv_memory_.tensor(DType::f32, {rows, q + 2 * kv});
  q_ = qkv_.slice_columns(0, q).reshape_row({heads, s.d_head});
  k_ = qkv_.slice_columns(q, kv).reshape_row({kv_heads, s.d_head});
  v_ = qkv_.slice_columns(q + kv, kv).reshape_row({kv_heads, s.d_head});
  z_ = z_memory_.tensor(DType::f32, {rows, heads, s.d_head});
}

void Transformer::forward(const Batch& batch, Hooks& hooks) {
  const PhaseScope scope(Phase::rows);
  const ModelSpec& s = model_.spec;
  const auto tokens = static_cast<std::int64_t>(batch.ids.size());
  sonde_check(tokens <= max_tokens_, "{} tokens in a workspace for {}", tokens, max_tokens_);
  set_rows(tokens);
  hooks.begin_batch(batch);
  plan_keys(batch);

  // Of layers that nobody asked for, a stage has nothing to do; it is sent nothing.
  const Stage& stage = model_.stage;
  const auto layers = static_cast<int>(hooks.layers_needed());
  if (stage.first())
    embed(batch, hooks);
  else if (layers > stage.layers.begin)
    link_.receive(resid_);
  if (!s.learned_positions) {
    place_positions(rope_, batch);
    if (local_rope_) place_positions(*local_rope_, batch);
  }

  for (auto l = static_cast<int>(stage.layers.begin); l < std::min<std::int64_t>(layers, stage.layers.end);
       ++l) {
    const Rows rows = l + 1 == layers ? Rows::selected_at_the_end : Rows::all;
    if (s.order == BlockOrder::sequential)
      block_sequential(l, batch, hooks, rows);
    else
      block_parallel(l, batch, hooks, rows);
  }
  if (layers > stage.layers.end) link_.send(resid_);
  if (stage.last() && hooks.needs_final_norm())
    norm(normed_, resid_, model_.ln_final, Hook::ln_final_scale, 0, hooks);
  if (stage.last() && hooks.needs_logits()) logits(hooks);
  hooks.end_batch();
}

// resid_ = what the first layer reads.
void Transformer::embed(const Batch& batch, Hooks& hooks) {
  const ModelSpec& s = model_.spec;
  embed_tokens(batch);
  if (s.embed_scale != 1) backend_.scale(resid_, resid_, static_cast<float>(s.embed_scale));
  hooks.at({Hook::embed}, resid_);
  if (s.learned_positions) {
    backend_.embed(delta_, model_.positions.view, batch.positions);
    hooks.at({Hook::pos_embed}, delta_);
    backend_.add(resid_, resid_, delta_);
  }
}

// resid_ = the tokens' rows of the embedding; each rank has those of its part of the vocabulary.
void Transformer::embed_tokens(const Batch& batch) {
  if (group_.alone()) return backend_.embed(resid_, model_.embed, batch.ids);
  const Share& vocab = model_.shard.vocab;
  std::vector<std::int32_t> rows, ids;
  for (std::size_t t = 0; t < batch.ids.size(); ++t) {
    if (batch.ids[t] < vocab.begin || batch.ids[t] >= vocab.end) continue;
    rows.push_back(static_cast<std::int32_t>(t));
    ids.push_back(batch.ids[t] - static_cast<std::int32_t>(vocab.begin));
  }
  backend_.zero(resid_);
  if (!ids.empty()) {
    const Tensor found = delta_.slice_rows(0, static_cast<std::int64_t>(ids.size()));
    backend_.embed(found, model_.embed, ids);
    backend_.replace_rows(resid_, rows, found);
  }
  group_.sum(resid_);
}

void Transformer::place_positions(Positions& positions, const Batch& batch) {
  positions.row_of_token = positions.rows.rows(batch.documents, batch.positions);
  if (positions.placed == positions.rows.version()) return;
  positions.placed = positions.rows.version();
  const RopeTable table = positions.rows.table();
  positions.table = {backend_.on_device(table.cos, positions.cos_memory),
                     backend_.on_device(table.sin, positions.sin_memory)};
}

void Transformer::block_sequential(int l, const Batch& batch, Hooks& hooks, Rows rows) {
  const BlockWeights& w = model_.block(l);
  const bool pre_norms = model_.spec.pre_norms;
  const TraceRange range({Hook::resid_post, l});

  hooks.at({Hook::resid_pre, l}, resid_);
  if (pre_norms) norm(normed_, resid_, w.ln1, Hook::ln1_scale, l, hooks);
  attention(pre_norms ? normed_ : resid_, l, batch, hooks, rows);
  add_and_norm(l, hooks);
  mlp(pre_norms ? normed_ : resid_, l, hooks);
  backend_.add(resid_, resid_, delta_);
  hooks.at({Hook::resid_post, l}, resid_);
}

// Attention and MLP both read the block's input.
void Transformer::block_parallel(int l, const Batch& batch, Hooks& hooks, Rows rows) {
  const BlockWeights& w = model_.block(l);
  const TraceRange range({Hook::resid_post, l});

  // Where ranks share the block its two parts travel as one, unless an edit or a norm wants their sums apart.
  const bool together = !group_.alone() && !model_.spec.post_norms && !hooks.edited({Hook::attn_out, l}) &&
                        !hooks.edited({Hook::mlp_out, l});

  hooks.at({Hook::resid_pre, l}, resid_);
  norm(normed_, resid_, w.ln1, Hook::ln1_scale, l, hooks);
  if (together) {
    attention_heads(normed_, l, batch, hooks, rows);
    attention_out(kept_memory_, l, 0, resid_.rows());
    show_sum(kept_memory_, {Hook::attn_out, l}, hooks);
  } else {
    attention(normed_, l, batch, hooks, rows);
  }
  if (!model_.spec.shared_norm) norm(normed_, resid_, w.ln2, Hook::ln2_scale, l, hooks);
  if (together) {
    mlp_sum(normed_, l, hooks, &kept_memory_);
  } else {
    backend_.add(resid_, resid_, delta_);
    mlp(normed_, l, hooks);
  }
  backend_.add(resid_, resid_, delta_);
  hooks.at({Hook::resid_post, l}, resid_);
}

// What a capture sees of a part that travels with another: its own sum, of a copy.
void Transformer::show_sum(const Buffer& part, Site site, Hooks& hooks) {
  if (!hooks.active(site)) return;
  const std::int64_t bytes = resid_.count() * 4;
  if (shown_memory_.bytes() < bytes) shown_memory_ = backend_.allocate(bytes);
  const Tensor copy = rows_of(shown_memory_);
  backend_.scale(copy, rows_of(part), 1);
  group_.sum(copy);
  hooks.at(site, copy);
}

Tensor Transformer::rows_of(const Buffer& memory) const {
  return memory.tensor(DType::f32, {resid_.rows(), model_.spec.d_model});
}

// delta_ = what attention adds, for all rows or the selected ones.
void Transformer::attention(Tensor x, int l, const Batch& batch, Hooks& hooks, Rows rows) {
  const BlockWeights& w = model_.block(l);
  const TraceRange range({Hook::attn_out, l});
  attention_heads(x, l, batch, hooks, rows);
  group_.sum(delta_, [&](std::int64_t first, std::int64_t n) { attention_out(delta_memory_, l, first, n); });
  post_norm(w.ln1_post, Hook::ln1_post_scale, l, hooks);
  hooks.at({Hook::attn_out, l}, delta_);
}

// z_ = what this rank's heads say.
void Transformer::attention_heads(Tensor x, int l, const Batch& batch, Hooks& hooks, Rows rows) {
  const BlockWeights& w = model_.block(l);
  backend_.linear(qkv_, x, *w.qkv, w.qkv_bias.view);
  attend(batch, l, hooks);
  if (rows == Rows::selected_at_the_end) keep_selected_rows(batch, hooks);
}

// Rows [first, first + n) of this rank's part of what attention adds.
void Transformer::attention_out(const Buffer& out, int l, std::int64_t first, std::int64_t n) {
  const BlockWeights& w = model_.block(l);
  backend_.linear(rows_of(out).slice_rows(first, n), z_.reshape_row({z_.width()}).slice_rows(first, n),
                  *w.attn_out, w.attn_out_bias.view);
}

// y = norm(x), in one pass unless a hook looks between its steps. `scale` is the first of the norm's hooks:
// divisor, normalized, and, but for post-norms, out.
void Transformer::norm(Tensor y, Tensor x, const NormWeights& w, Hook scale, int l, Hooks& hooks) {
  const auto hook = [&](int step) { return Site{static_cast<Hook>(static_cast<int>(scale) + step), l}; };
  const NormKind kind = model_.spec.norm;
  const auto eps = static_cast<float>(model_.spec.norm_eps);
  if (!hooks.active(hook(0)) && !hooks.active(hook(1))) {
    backend_.norm(kind, y, x, w.weight.view, w.bias.view, eps);
  } else {
    backend_.norm_scale(kind, scale_, x, eps);
    hooks.at(hook(0), scale_);
    backend_.normalize(kind, y, x, scale_);
    hooks.at(hook(1), y);
    backend_.scale_columns(y, y, w.weight.view, w.bias.view);
  }
  const bool post = scale == Hook::ln1_post_scale || scale == Hook::ln2_post_scale;
  if (!post) hooks.at(hook(2), y);
}

// delta_ = norm(delta_), in models that have such norms.
void Transformer::post_norm(const NormWeights& w, Hook scale, int l, Hooks& hooks) {
  if (model_.spec.post_norms) norm(delta_, delta_, w, scale, l, hooks);
}

// resid += delta, then the norm before the MLP; fused unless an edit or a look between the steps forbids it.
void Transformer::add_and_norm(int l, Hooks& hooks) {
  const BlockWeights& w = model_.block(l);
  const TraceRange range({Hook::ln2_out, l});
  const bool separate = !model_.spec.pre_norms || hooks.edited({Hook::resid_mid, l}) ||
                        hooks.active({Hook::ln2_scale, l}) || hooks.active({Hook::ln2_normalized, l});
  if (separate) {
    backend_.add(resid_, resid_, delta_);
    hooks.at({Hook::resid_mid, l}, resid_);
    if (model_.spec.pre_norms) norm(normed_, resid_, w.ln2, Hook::ln2_scale, l, hooks);
    return;
  }
  backend_.add_norm(model_.spec.norm, resid_, normed_, delta_, w.ln2.weight.view, w.ln2.bias.view,
                    static_cast<float>(model_.spec.norm_eps));
  hooks.at({Hook::resid_mid, l}, resid_);
  hooks.at({Hook::ln2_out, l}, normed_);
}

// Norms of queries and keys and their rotation: of each head in one pass, no hook looks between.
void Transformer::norm_and_turn(int l) {
  const ModelSpec& s = model_.spec;
  const BlockWeights& w = model_.block(l);
  const auto eps = static_cast<float>(s.norm_eps);
  const auto by_head = [&](const OwnedTensor& weight) {
    return weight.view.empty() ? Tensor() : weight.view.part(0, {weight.view.count() / s.d_head, s.d_head});
  };
  Tensor q_norm, k_norm;
  if (s.qk_norm == QkNorm::whole && !group_.alone()) {
    whole_qk_norm(w);
  } else if (s.qk_norm == QkNorm::whole) {
    const Tensor q = q_.reshape_row({q_.width()}), k = k_.reshape_row({k_.width()});
    backend_.norm(s.norm, q, q, w.q_norm.view, {}, eps);
    backend_.norm(s.norm, k, k, w.k_norm.view, {}, eps);
  } else if (s.qk_norm != QkNorm::none) {
    q_norm = by_head(w.q_norm), k_norm = by_head(w.k_norm);
  }
  if (!s.learned_positions) {
    const Positions& positions = local_rope_ && s.window(l) > 0 ? *local_rope_ : rope_;
    backend_.qk_norm_rope(s.norm, q_, k_, q_norm, k_norm, eps, positions.row_of_token, positions.table,
                          s.rope_of(l).pairs);
  } else if (!q_norm.empty()) {
    backend_.norm_heads(s.norm, q_, q_, q_norm, eps);
    backend_.norm_heads(s.norm, k_, k_, k_norm, eps);
  }
}

// A norm over the heads of all ranks: their sums of squares are added. Of kv heads that several ranks hold
// the first one's counts.
void Transformer::whole_qk_norm(const BlockWeights& w) {
  const ModelSpec& s = model_.spec;
  sonde_check(s.norm == NormKind::rms, "a norm over all heads of several ranks takes no mean");
  const TensorShard& shard = model_.shard;
  const std::int64_t rows = q_.rows();
  const std::int64_t counted = (shard.heads.begin + shard.group - 1) / shard.group;  // by the ranks before
  const std::int64_t repeated = std::min(shard.kv_heads.size(), counted - shard.kv_heads.begin);
  std::vector<double> squares(static_cast<std::size_t>(2 * rows), 0);  // of q, of k
  const Tensor scale = scale_memory_.tensor(DType::f32, {rows, 1});
  const auto add_squares = [&](Tensor x, double* to) {
    if (x.count() == 0) return;
    backend_.norm_scale(NormKind::rms, scale, x.reshape_row({x.width()}), 0);
    const Tensor host = backend_.on_host(scale, squares_memory_);
    for (std::int64_t t = 0; t < rows; ++t)
      to[t] = double{host.row(t)[0]} * host.row(t)[0] * static_cast<double>(x.width());
  };
  add_squares(q_, squares.data());
  add_squares(heads_of(k_, repeated, shard.kv_heads.size() - repeated), squares.data() + rows);
  group_.sum(squares);
  const auto divide = [&](Tensor x, const OwnedTensor& weight, const double* sums, std::int64_t heads) {
    if (x.count() == 0) return;
    const OwnedTensor host = make_tensor(DType::f32, {rows, 1});
    for (std::int64_t t = 0; t < rows; ++t)
      host.view.row(t)[0] =
          static_cast<float>(std::sqrt(sums[t] / static_cast<double>(heads * s.d_head) + s.norm_eps));
    const Tensor flat = x.reshape_row({x.width()});
    backend_.normalize(s.norm, flat, flat, backend_.on_device(host.view, divisors_memory_));
    backend_.scale_columns(flat, flat, weight.view, {});
  };
  divide(q_, w.q_norm, squares.data(), s.n_heads);
  divide(k_, w.k_norm, squares.data() + rows, s.n_kv_heads);
}

void Transformer::attend(const Batch& batch, int l, Hooks& hooks) {
  const ModelSpec& s = model_.spec;
  const TraceRange range({Hook::z, l});
  hooks.at({Hook::q, l}, q_, group_);
  hooks.at({Hook::k, l}, k_, group_);
  hooks.at({Hook::v, l}, v_, group_);
  norm_and_turn(l);
  if (!s.learned_positions) {
    hooks.at({Hook::rot_q, l}, q_, group_);
    hooks.at({Hook::rot_k, l}, k_, group_);
  }
  const Keys keys = keys_of(batch, l);
  const AttentionSpec spec{s.attention_scale(l), static_cast<float>(s.attn_softcap), s.window(l),
                           model_.precision};
  if (hooks.active({Hook::attn_scores, l}) || hooks.active({Hook::pattern, l}))
    attend_through_hooks(batch, keys, l, spec, hooks);
  else
    for (const HeadGroups& g : head_groups_)
      backend_.attention(heads_of(z_, g.q, g.heads), heads_of(q_, g.q, g.heads),
                         heads_of(keys.k, g.kv, g.kv_heads), heads_of(keys.v, g.kv, g.kv_heads),
                         batch.documents, keys.ranges, spec);
  hooks.at({Hook::z, l}, z_, group_);
}

// What attention reads of layer l: this batch's keys and values, or the cache's with these among them.
Transformer::Keys Transformer::keys_of(const Batch& batch, int l) {
  if (batch.cache == nullptr) return {k_, v_, {}};
  const std::int64_t kv_heads = model_.shard.kv_heads.size(), e = model_.spec.d_head;
  const auto layer = [&](Tensor all) {
    const std::int64_t rows = all.dim(1);
    return all.part((l - model_.stage.layers.begin) * rows * all.dim(2), {rows, all.dim(2)});
  };
  const Tensor k = layer(batch.cache->k), v = layer(batch.cache->v);
  backend_.replace_rows(k, cache_rows_, k_.reshape_row({kv_heads * e}));
  backend_.replace_rows(v, cache_rows_, v_.reshape_row({kv_heads * e}));
  return {k.reshape_row({kv_heads, e}), v.reshape_row({kv_heads, e}), {batch.cache->first, key_counts_}};
}

void Transformer::plan_keys(const Batch& batch) {
  cache_rows_.clear();
  key_counts_.clear();
  for (std::size_t i = 0; batch.cache != nullptr && i + 1 < batch.documents.starts.size(); ++i) {
    const std::int32_t first = batch.documents.starts[i], end = batch.documents.starts[i + 1];
    for (std::int32_t t = first; t < end; ++t)
      cache_rows_.push_back(batch.cache->first[i] + batch.positions[static_cast<std::size_t>(t)]);
    key_counts_.push_back(first == end ? 0 : batch.positions[static_cast<std::size_t>(end - 1)] + 1);
  }
}

// Attention whose scores and pattern exist as tensors, one document at a time.
void Transformer::attend_through_hooks(const Batch& batch, const Keys& keys, int l, const AttentionSpec& spec,
                                       Hooks& hooks) {
  const std::int64_t heads = model_.shard.heads.size();
  for (std::size_t i = 0; i + 1 < batch.documents.starts.size(); ++i) {
    const std::int64_t first = batch.documents.starts[i], n = batch.documents.starts[i + 1] - first;
    if (n == 0) continue;
    const bool cached = !keys.ranges.first.empty();
    const std::int64_t first_key = cached ? keys.ranges.first[i] : first;
    const std::int64_t n_keys = cached ? keys.ranges.count[i] : n;
    const std::int64_t bytes = n * n_keys * heads * 4;
    if (scores_memory_.bytes() < bytes) scores_memory_ = backend_.allocate(bytes);
    const std::int32_t starts[] = {0, static_cast<std::int32_t>(n)}, zero[] = {0},
                       counts[] = {static_cast<std::int32_t>(n_keys)};
    const Documents document{starts};
    const KeyRanges range{zero, counts};
    const Tensor scores = scores_memory_.tensor(DType::f32, {n, heads, n_keys});
    const Tensor q = q_.slice_rows(first, n), z = z_.slice_rows(first, n);
    const Tensor k = keys.k.slice_rows(first_key, n_keys), v = keys.v.slice_rows(first_key, n_keys);
    for (const HeadGroups& g : head_groups_)
      backend_.attention_scores(heads_of(scores, g.q, g.heads), heads_of(q, g.q, g.heads),
                                heads_of(k, g.kv, g.kv_heads), document, range, spec);
    hooks.at({Hook::attn_scores, l}, scores, group_, first);
    if (heads > 0) backend_.softmax(scores, scores);
    hooks.at({Hook::pattern, l}, scores, group_, first);
    for (const HeadGroups& g : head_groups_)
      backend_.attention_apply(heads_of(z, g.q, g.heads), heads_of(scores, g.q, g.heads),
                               heads_of(v, g.kv, g.kv_heads), document, range);
  }
}

// Behind the last attention that matters only the captured tokens are computed further.
void Transformer::keep_selected_rows(const Batch& batch, Hooks& hooks) {
  const auto kept = static_cast<std::int64_t>(batch.selected.size());
  if (kept == resid_.rows()) return;
  const Tensor z = qkv_memory_.tensor(DType::f32, {kept, z_.dim(1), z_.dim(2)});  // q, k, v are done with
  if (model_.spec.shared_norm) {  // the MLP is yet to read these
    backend_.gather_rows(kept_memory_.tensor(DType::f32, {kept, model_.spec.d_model}), normed_,
                         batch.selected);
    std::swap(normed_memory_, kept_memory_);
  }
  backend_.gather_rows(delta_.slice_rows(0, kept), resid_, batch.selected);
  backend_.gather_rows(z, z_, batch.selected);
  std::swap(resid_memory_, delta_memory_);
  set_rows(kept);
  z_ = z;
  hooks.keep_selected_rows();
}

void Transformer::logits(Hooks& hooks) {
  const TraceRange range({Hook::logits});
  sonde_check(model_.head != nullptr, "logits were asked for and the head is not loaded");
  const std::int64_t vocab = model_.shard.vocab.size(), rows = normed_.rows();
  if (logits_memory_.bytes() == 0)
    logits_memory_ = backend_.allocate(logits_bytes(model_.shard.part_of(model_.spec)));
  for (std::int64_t first = 0; first < rows; first += kLogitRows) {
    const std::int64_t n = std::min(kLogitRows, rows - first);
    const Tensor y = logits_memory_.tensor(DType::f32, {n, vocab});
    backend_.linear(y, normed_.slice_rows(first, n), *model_.head);
    if (model_.spec.logit_scale != 1) backend_.scale(y, y, static_cast<float>(model_.spec.logit_scale));
    if (model_.spec.logit_softcap > 0) backend_.softcap(y, y, static_cast<float>(model_.spec.logit_softcap));
    hooks.at({Hook::logits}, y, group_, first);
  }
}

}  // namespace sonde
