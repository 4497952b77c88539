// The MLP of a block, dense or of experts.
#include <cmath>

#include "models/transformer.h"
#include "runtime/error.h"
#include "runtime/trace_range.h"

namespace sonde {

// delta_ = what the MLP adds.
void Transformer::mlp(Tensor x, int l, Hooks& hooks) {
  const BlockWeights& w = model_.block(l);
  const TraceRange range({Hook::mlp_out, l});
  mlp_sum(x, l, hooks, nullptr);
  post_norm(w.ln2_post, Hook::ln2_post_scale, l, hooks);
  hooks.at({Hook::mlp_out, l}, delta_);
}

// delta_ = the ranks' sum of what the MLP adds, and of the part of attention's that `with` holds.
void Transformer::mlp_sum(Tensor x, int l, Hooks& hooks, const Buffer* with) {
  const MlpWeights* w = model_.spec.has_experts(l) ? nullptr : &model_.block(l).mlps[0];
  const Tensor post = w != nullptr ? mlp_neurons(x, *w, l, &hooks) : Tensor{};
  const auto out = [&](std::int64_t first, std::int64_t n) {
    backend_.linear(delta_.slice_rows(first, n), post.slice_rows(first, n), *w->down, w->down_bias.view);
  };
  const auto join = [&](std::int64_t first, std::int64_t n) {
    const Tensor delta = delta_.slice_rows(first, n);
    if (with != nullptr) backend_.add(delta, delta, rows_of(*with).slice_rows(first, n));
  };
  const bool shown = with != nullptr && hooks.active({Hook::mlp_out, l});
  if (w != nullptr && !shown)
    return group_.sum(delta_, [&](std::int64_t first, std::int64_t n) { out(first, n), join(first, n); });
  if (w != nullptr)
    out(0, delta_.rows());
  else
    experts(x, l, hooks);
  if (shown) show_sum(delta_memory_, {Hook::mlp_out, l}, hooks);
  join(0, delta_.rows());
  group_.sum(delta_);
}

// f(W_up x), gated or not [T, F]. hooks: null inside an expert, which has no points of its own.
Tensor Transformer::mlp_neurons(Tensor x, const MlpWeights& w, int l, Hooks* hooks) {
  const ModelSpec& s = model_.spec;
  const std::int64_t f = w.down->k();
  const Tensor pre = gate_up_memory_.tensor(DType::f32, {x.rows(), w.up->n()});
  backend_.linear(pre, x, *w.up, w.up_bias.view);
  if (hooks != nullptr) hooks->at({Hook::mlp_pre, l}, pre.slice_columns(0, f), group_);
  if (hooks != nullptr && s.gated_mlp) hooks->at({Hook::mlp_pre_linear, l}, pre.slice_columns(f, f), group_);
  const Tensor post = activated(pre, f);
  if (hooks != nullptr) hooks->at({Hook::mlp_post, l}, post, group_);
  return post;
}

// f(gate), times up where the MLP is gated: [n, F] of pre [n, F or 2F]
Tensor Transformer::activated(Tensor pre, std::int64_t f) {
  const Tensor post = mlp_memory_.tensor(DType::f32, {pre.rows(), f}), gate = pre.slice_columns(0, f);
  if (model_.spec.gated_mlp)
    backend_.activate_mul(model_.spec.activation, post, gate, pre.slice_columns(f, f));
  else
    backend_.activate(model_.spec.activation, post, gate);
  return post;
}

// delta_ = what the chosen experts add, without the host knowing which these are: on a device. False, and
// nothing done, where the backend can't.
bool Transformer::experts_by_row(Tensor x, Tensor indices, Tensor weights, const BlockWeights& w) {
  const std::int64_t n = indices.count(), first = model_.shard.experts.begin,
                     count = static_cast<std::int64_t>(w.mlps.size());
  if (count == 0 || backend_.device() == DeviceKind::cpu) return false;
  std::vector<const Weight*> up, down;
  for (const MlpWeights& expert : w.mlps) {
    if (!expert.up_bias.view.empty() || !expert.down_bias.view.empty()) return false;
    up.push_back(expert.up.get());
    down.push_back(expert.down.get());
  }
  const std::int64_t f = down[0]->k();
  const Tensor pre = gate_up_memory_.tensor(DType::f32, {n, up[0]->n()});
  const Tensor out = expert_memory_.tensor(DType::f32, {n, model_.spec.d_model});
  if (!backend_.linear_by_expert(pre, x, indices, up, first)) return false;
  if (!backend_.linear_by_expert(out, activated(pre, f), indices, down, first)) return false;
  backend_.add_up_experts(delta_, out, indices, weights, first, count);
  return true;
}

// Each expert runs once, over the rows of the tokens that chose it, on the rank that holds it.
void Transformer::experts(Tensor x, int l, Hooks& hooks) {
  const BlockWeights& w = model_.block(l);
  const ModelSpec& s = model_.spec;
  const std::int64_t rows = x.rows(), chosen = s.experts_per_token;
  const Tensor scores = router_memory_.tensor(DType::f32, {rows, s.n_experts});
  const Tensor indices = scores.part(scores.count(), {rows, chosen});
  const Tensor weights = indices.part(indices.count(), {rows, chosen});
  backend_.linear(scores, x, *w.router);
  hooks.at({Hook::router_logits, l}, scores);
  backend_.route(weights, indices, scores, s.renormalise_experts ? Renormalise::yes : Renormalise::no);
  hooks.at({Hook::expert_indices, l}, indices);
  hooks.at({Hook::expert_weights, l}, weights);

  // Indices that an edit wrote are for the host to check.
  if (!hooks.edited({Hook::expert_indices, l}) && experts_by_row(x, indices, weights, w)) return;
  const Tensor both = backend_.on_host(scores.part(scores.count(), {2 * rows, chosen}), choice_memory_);
  const Tensor choice = both.slice_rows(0, rows), share = both.slice_rows(rows, rows);
  std::vector<std::vector<std::int32_t>> tokens(static_cast<std::size_t>(s.n_experts));
  std::vector<std::vector<float>> shares(tokens.size());
  for (std::int64_t t = 0; t < rows; ++t)
    for (std::int64_t i = 0; i < chosen; ++i) {
      const float e = choice.row(t)[i];
      if (!(e >= 0 && e < static_cast<float>(s.n_experts) && e == std::floor(e)))
        fail("{}: an edit left {}, expected an expert from 0 to {}", name(Site{Hook::expert_indices, l}), e,
             s.n_experts - 1);
      auto& list = tokens[static_cast<std::size_t>(e)];
      if (!list.empty() && list.back() == t)
        fail("{}: an edit sends a token to expert {} twice", name(Site{Hook::expert_indices, l}), e);
      list.push_back(static_cast<std::int32_t>(t));
      shares[static_cast<std::size_t>(e)].push_back(share.row(t)[i]);
    }

  backend_.zero(delta_);
  const auto first_expert = static_cast<std::size_t>(model_.shard.experts.begin);
  for (std::size_t e = first_expert; e < first_expert + w.mlps.size(); ++e) {
    const auto n = static_cast<std::int64_t>(tokens[e].size());
    if (n == 0) continue;
    const Tensor in = expert_memory_.tensor(DType::f32, {n, s.d_model});
    const Tensor out = in.part(in.count(), {n, s.d_model});
    backend_.gather_rows(in, x, tokens[e]);
    const MlpWeights& expert = w.mlps[e - first_expert];
    backend_.linear(out, mlp_neurons(in, expert, l, nullptr), *expert.down, expert.down_bias.view);
    backend_.scatter_add_rows(delta_, tokens[e], out, shares[e]);
  }
}

}  // namespace sonde
