#include "models/spec.h"

#include <array>
#include <cmath>
#include <utility>

#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::array<std::pair<RopeScaling, const char*>, 6> kScalings{{{RopeScaling::none, "default"},
                                                                        {RopeScaling::linear, "linear"},
                                                                        {RopeScaling::dynamic, "dynamic"},
                                                                        {RopeScaling::yarn, "yarn"},
                                                                        {RopeScaling::llama3, "llama3"},
                                                                        {RopeScaling::longrope, "longrope"}}};

// Of q.k, but for the division by a layer's depth.
double scale_of_scores(const ModelSpec& spec) {
  return spec.attn_scale > 0 ? spec.attn_scale : 1 / std::sqrt(static_cast<double>(spec.d_head));
}

}  // namespace

float ModelSpec::attention_scale(int layer) const {
  const double scale = scale_of_scores(*this);
  return static_cast<float>(attn_scale_over_depth ? scale / (layer + 1) : scale);
}

std::int64_t ModelSpec::most_positions() const {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;  // positions are 32-bit numbers
  return learned_positions ? context : kMost;
}

HookSizes ModelSpec::hook_sizes(std::int64_t longest_document) const {
  return {n_layers, d_model, n_heads,          n_kv_heads, d_head,
          d_mlp,    vocab,   longest_document, n_experts,  experts_per_token};
}

bool ModelSpec::has(Site site) const {
  const bool parallel = order == BlockOrder::parallel, experts = n_experts > 0 && has_experts(site.layer);
  switch (site.hook) {
    case Hook::pos_embed:
      return learned_positions;
    case Hook::rot_q:
    case Hook::rot_k:
      return !learned_positions;
    case Hook::ln1_scale:
    case Hook::ln1_normalized:
    case Hook::ln1_out:
      return pre_norms;
    case Hook::ln2_scale:
    case Hook::ln2_normalized:
    case Hook::ln2_out:
      return pre_norms && !shared_norm;
    case Hook::ln1_post_scale:
    case Hook::ln1_post_normalized:
    case Hook::ln2_post_scale:
    case Hook::ln2_post_normalized:
      return post_norms;
    case Hook::resid_mid:
      return !parallel;
    case Hook::router_logits:
    case Hook::expert_indices:
    case Hook::expert_weights:
      return experts;
    case Hook::mlp_pre:
    case Hook::mlp_post:
      return !experts;
    case Hook::mlp_pre_linear:
      return !experts && gated_mlp;
    default:
      return true;
  }
}

std::vector<Hook> ModelSpec::hooks() const {
  std::vector<Hook> hooks;
  for (const HookInfo& row : hook_table())
    for (int l = 0; l < n_layers; ++l)
      if (has({row.hook, l})) {
        hooks.push_back(row.hook);
        break;
      }
  return hooks;
}

std::vector<Site> ModelSpec::sites() const {
  std::vector<Site> sites = sites_of(hooks(), static_cast<int>(n_layers));
  std::erase_if(sites, [&](Site site) { return !has(site); });
  return sites;
}

void ModelSpec::check(const std::string& source) const {
  // Far above any decoder, and small enough that no product or sum of sizes overflows 63 bits.
  constexpr std::int64_t kWidest = std::int64_t{1} << 22, kMost = (std::int64_t{1} << 31) - 1;
  const auto positive = [&](const char* field, std::int64_t value, std::int64_t most) {
    if (value < 1 || value > most) fail("{}: {}: found {}, expected 1 to {}", source, field, value, most);
  };
  positive("n_layers", n_layers, 10000);
  positive("d_model", d_model, kWidest);
  positive("n_heads", n_heads, kWidest);
  positive("n_kv_heads", n_kv_heads, kWidest);
  positive("d_head", d_head, kWidest);
  positive("n_heads * d_head", n_heads * d_head, kWidest);
  positive("d_mlp", d_mlp, kWidest);
  positive("vocab", vocab, kMost);
  positive("context", context, kMost);
  if (n_heads % n_kv_heads != 0)
    fail("{}: n_heads {} is not a multiple of n_kv_heads {}", source, n_heads, n_kv_heads);
  if (!learned_positions && (rope_width() % 2 != 0 || rope_width() < 2 || rope_width() > d_head))
    fail("{}: rotary width: found {} of d_head {}, expected an even number up to it (RoPE rotates pairs)",
         source, rope_width(), d_head);
  if (!(norm_eps >= 0 && norm_eps < 1)) fail("{}: norm_eps: found {}, expected 0 to 1", source, norm_eps);
  if (n_experts > 0) {
    positive("n_experts", n_experts, 1 << 16);
    positive("experts_per_token", experts_per_token, n_experts);
    positive("d_expert", d_expert, kWidest);
  }
  for (const double value : {attn_scale, attn_softcap, logit_softcap})
    if (!(value >= 0)) fail("{}: attention scale or soft-cap: found {}, expected 0 or more", source, value);
  const auto layers = static_cast<std::size_t>(n_layers);
  if ((!windows.empty() && windows.size() != layers) ||
      (!dense_layers.empty() && dense_layers.size() != layers))
    fail("{}: found {} windows and {} dense layers, expected one for each of {} layers", source,
         windows.size(), dense_layers.size(), n_layers);
  check_rope(rope, source);
  if (local_rope) check_rope(*local_rope, source);
}

void ModelSpec::check_rope(const RopeSpec& r, const std::string& source) const {
  if (r.width < 0) fail("{}: rotary width: found a part of a head below 1, expected 2 or more", source);
  if (!(r.theta > 0)) fail("{}: rope_theta: found {}, expected above 0", source, r.theta);
  if (!(r.factor > 0)) fail("{}: rope scaling factor: found {}, expected above 0", source, r.factor);
  const bool needs_original = r.scaling == RopeScaling::llama3 || r.scaling == RopeScaling::yarn ||
                              r.scaling == RopeScaling::longrope;
  if (needs_original && !(r.original_context > 0))
    fail("{}: original_max_position_embeddings: found {}, expected above 0", source, r.original_context);
  if (r.scaling == RopeScaling::yarn &&
      !(r.theta > 1 && r.beta_fast > 0 && r.beta_slow > 0 && r.attention_factor > 0))
    fail(
        "{}: yarn: found rope_theta {}, beta_fast {}, beta_slow {}, attention_factor {}, expected all above "
        "0 "
        "and rope_theta above 1",
        source, r.theta, r.beta_fast, r.beta_slow, r.attention_factor);
  const auto expect_pairs = [&](const char* field, const std::vector<double>& values, bool needed) {
    if ((needed || !values.empty()) && static_cast<std::int64_t>(values.size()) != rope_width() / 2)
      fail("{}: {}: found {} values, expected {} (half the rotary width)", source, field, values.size(),
           rope_width() / 2);
    for (const double value : values)
      if (!(value > 0)) fail("{}: {}: found {}, expected above 0", source, field, value);
  };
  const bool longrope = r.scaling == RopeScaling::longrope;
  expect_pairs("rope_freqs.weight", r.divisors, false);
  expect_pairs("short_factor", r.short_factors, longrope);
  expect_pairs("long_factor", r.long_factors, longrope);
}

namespace {

Json to_json(const RopeSpec& rope) {
  Json json;
  for (const auto& [value, text] : kScalings)
    if (value == rope.scaling) json["scaling"] = text;
  json["theta"] = rope.theta;
  if (rope.width > 0) json["width"] = rope.width;
  if (rope.pairs == RopePairs::neighbours) json["pairs"] = "neighbours";
  if (rope.scaling != RopeScaling::none) {
    json["factor"] = rope.factor;
    json["original_context"] = rope.original_context;
    json["attention_factor"] = rope.attention_factor;
  }
  if (rope.scaling == RopeScaling::llama3) {
    json["low_freq_factor"] = rope.low_freq_factor;
    json["high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.scaling == RopeScaling::yarn) {
    json["beta_fast"] = rope.beta_fast;
    json["beta_slow"] = rope.beta_slow;
    json["truncate"] = rope.truncate;
  }
  if (!rope.divisors.empty()) json["divisors"] = rope.divisors;
  if (!rope.short_factors.empty()) json["short_factors"] = rope.short_factors;
  if (!rope.long_factors.empty()) json["long_factors"] = rope.long_factors;
  return json;
}

constexpr const char* kActivations[] = {"silu", "gelu", "gelu_tanh", "relu", "relu_squared"};
constexpr const char* kQkNorms[] = {"none", "shared", "per_head", "whole"};

}  // namespace

Json ModelSpec::to_json() const {
  Json json;
  json["family"] = family;
  json["n_layers"] = n_layers;
  json["d_model"] = d_model;
  json["n_heads"] = n_heads;
  json["n_kv_heads"] = n_kv_heads;
  json["d_head"] = d_head;
  json["d_mlp"] = d_mlp;
  json["vocab"] = vocab;
  json["context"] = context;
  json["norm"] = norm == NormKind::rms ? "rms" : "layer";
  json["norm_eps"] = norm_eps;
  json["norm_bias"] = norm_bias;
  json["pre_norms"] = pre_norms;
  json["post_norms"] = post_norms;
  json["order"] = order == BlockOrder::sequential ? "sequential" : "parallel";
  json["shared_norm"] = shared_norm;
  json["qk_norm"] = kQkNorms[static_cast<int>(qk_norm)];
  json["positions"] = learned_positions ? "learned" : "rope";
  if (!learned_positions) json["rope"] = sonde::to_json(rope);
  if (local_rope) json["local_rope"] = sonde::to_json(*local_rope);
  if (!windows.empty()) json["windows"] = windows;
  json["attn_scale"] = scale_of_scores(*this);
  json["attn_scale_over_depth"] = attn_scale_over_depth;
  json["attn_softcap"] = attn_softcap;
  json["qkv_bias"] = qkv_bias;
  json["attn_out_bias"] = attn_out_bias;
  json["activation"] = kActivations[static_cast<int>(activation)];
  json["gated_mlp"] = gated_mlp;
  json["mlp_bias"] = mlp_bias;
  if (n_experts > 0) {
    json["n_experts"] = n_experts;
    json["experts_per_token"] = experts_per_token;
    json["d_expert"] = d_expert;
    json["renormalise_experts"] = renormalise_experts;
    if (!dense_layers.empty()) json["dense_layers"] = dense_layers;
  }
  json["embed_scale"] = embed_scale;
  json["logit_scale"] = logit_scale;
  json["logit_softcap"] = logit_softcap;
  json["tied_head"] = tied_head;
  return json;
}

}  // namespace sonde
