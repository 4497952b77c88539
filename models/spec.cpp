#include "models/spec.h"

#include <array>
#include <utility>

#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::array<std::pair<RopeScaling, const char*>, 5> kScalings{{{RopeScaling::none, "default"},
                                                                        {RopeScaling::linear, "linear"},
                                                                        {RopeScaling::dynamic, "dynamic"},
                                                                        {RopeScaling::yarn, "yarn"},
                                                                        {RopeScaling::llama3, "llama3"}}};

}  // namespace

HookSizes ModelSpec::hook_sizes(std::int64_t longest_document) const {
  return {n_layers, d_model, n_heads, n_kv_heads, d_head, d_mlp, vocab, longest_document};
}

std::vector<Hook> ModelSpec::hooks() const {
  std::vector<Hook> hooks;
  for (const HookInfo& row : hook_table()) hooks.push_back(row.hook);
  return hooks;
}

std::vector<Site> ModelSpec::sites() const { return sites_of(hooks(), static_cast<int>(n_layers)); }

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
  if (d_head % 2 != 0)
    fail("{}: d_head: found {}, expected an even number (RoPE rotates pairs)", source, d_head);
  if (!(norm_eps >= 0 && norm_eps < 1)) fail("{}: norm_eps: found {}, expected 0 to 1", source, norm_eps);
  if (!(rope.theta > 0)) fail("{}: rope_theta: found {}, expected above 0", source, rope.theta);
  if (!(rope.factor > 0)) fail("{}: rope scaling factor: found {}, expected above 0", source, rope.factor);
  const bool needs_original = rope.scaling == RopeScaling::llama3 || rope.scaling == RopeScaling::yarn;
  if (needs_original && !(rope.original_context > 0))
    fail("{}: original_max_position_embeddings: found {}, expected above 0", source, rope.original_context);
  if (rope.scaling == RopeScaling::yarn &&
      !(rope.theta > 1 && rope.beta_fast > 0 && rope.beta_slow > 0 && rope.attention_factor > 0))
    fail(
        "{}: yarn: found rope_theta {}, beta_fast {}, beta_slow {}, attention_factor {}, expected all above "
        "0 "
        "and rope_theta above 1",
        source, rope.theta, rope.beta_fast, rope.beta_slow, rope.attention_factor);
  if (!rope.divisors.empty() && static_cast<std::int64_t>(rope.divisors.size()) != d_head / 2)
    fail("{}: rope_freqs.weight: found {} values, expected {} (d_head / 2)", source, rope.divisors.size(),
         d_head / 2);
}

Json ModelSpec::to_json() const {
  const char* scaling = "";
  for (const auto& [value, text] : kScalings)
    if (value == rope.scaling) scaling = text;
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
  json["norm_eps"] = norm_eps;
  json["rope_theta"] = rope.theta;
  json["rope_scaling"] = scaling;
  if (rope.scaling != RopeScaling::none) {
    json["rope_factor"] = rope.factor;
    json["rope_original_context"] = rope.original_context;
  }
  if (rope.scaling == RopeScaling::llama3) {
    json["rope_low_freq_factor"] = rope.low_freq_factor;
    json["rope_high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.scaling == RopeScaling::yarn) {
    json["rope_beta_fast"] = rope.beta_fast;
    json["rope_beta_slow"] = rope.beta_slow;
    json["rope_truncate"] = rope.truncate;
    json["rope_attention_factor"] = rope.attention_factor;
  }
  if (!rope.divisors.empty()) json["rope_divisors"] = rope.divisors;
  json["qkv_bias"] = qkv_bias;
  json["attn_out_bias"] = attn_out_bias;
  json["mlp_bias"] = mlp_bias;
  json["tied_head"] = tied_head;
  return json;
}

}  // namespace sonde
