#include "runtime/hook.h"

#include <algorithm>
#include <charconv>

#include "runtime/error.h"

namespace sonde {
namespace {

using enum RowShape;
using enum Layout;
constexpr auto kFree = Cost::free;
constexpr auto kUnfused = Cost::unfused;

constexpr HookInfo kTable[] = {
    {Hook::embed, "hook_embed", D, replicated, kFree, "token embedding, before any position is added",
     "model.embed_tokens"},
    {Hook::pos_embed, "hook_pos_embed", D, replicated, kFree, "learned position embedding",
     "model.embed_positions"},
    {Hook::resid_pre, "blocks.{l}.hook_resid_pre", D, replicated, kFree,
     "residual stream, input of the block", ""},
    {Hook::ln1_scale, "blocks.{l}.ln1.hook_scale", one, replicated, kUnfused,
     "divisor of the norm before attention: sqrt(mean(x^2) + eps)", ""},
    {Hook::ln1_normalized, "blocks.{l}.ln1.hook_normalized", D, replicated, kUnfused,
     "that norm after the division, before its weight", ""},
    {Hook::ln1_out, "blocks.{l}.ln1.hook_out", D, replicated, kFree,
     "that norm after its weight: what q, k and v read", "model.layers.{l}.input_layernorm"},
    {Hook::q, "blocks.{l}.attn.hook_q", HE, sharded, kFree, "queries with bias, before qk-norm and RoPE",
     "model.layers.{l}.self_attn.q_proj"},
    {Hook::k, "blocks.{l}.attn.hook_k", KE, sharded, kFree,
     "keys with bias, before qk-norm and RoPE; heads not repeated", "model.layers.{l}.self_attn.k_proj"},
    {Hook::v, "blocks.{l}.attn.hook_v", KE, sharded, kFree, "values with bias; heads not repeated",
     "model.layers.{l}.self_attn.v_proj"},
    {Hook::rot_q, "blocks.{l}.attn.hook_rot_q", HE, sharded, kFree, "queries after qk-norm and RoPE", ""},
    {Hook::rot_k, "blocks.{l}.attn.hook_rot_k", KE, sharded, kFree, "keys after qk-norm and RoPE", ""},
    {Hook::attn_scores, "blocks.{l}.attn.hook_attn_scores", HS, sharded, Cost::materialises,
     "scores per query after scale and soft-cap, -inf at keys that are masked", ""},
    {Hook::pattern, "blocks.{l}.attn.hook_pattern", HS, sharded, Cost::materialises,
     "softmax of the scores, 0 at keys that are masked", ""},
    {Hook::z, "blocks.{l}.attn.hook_z", HE, sharded, kFree, "pattern times values, per head, before W_O", ""},
    {Hook::ln1_post_scale, "blocks.{l}.ln1_post.hook_scale", one, replicated, kUnfused,
     "divisor of the norm on attention's output", ""},
    {Hook::ln1_post_normalized, "blocks.{l}.ln1_post.hook_normalized", D, replicated, kUnfused,
     "that norm after the division, before its weight; after it: hook_attn_out", ""},
    {Hook::attn_out, "blocks.{l}.hook_attn_out", D, replicated, kFree,
     "what attention adds to the residual stream", "model.layers.{l}.self_attn"},
    {Hook::resid_mid, "blocks.{l}.hook_resid_mid", D, replicated, kFree, "resid_pre + attn_out", ""},
    {Hook::ln2_scale, "blocks.{l}.ln2.hook_scale", one, replicated, kUnfused,
     "divisor of the norm before the MLP", ""},
    {Hook::ln2_normalized, "blocks.{l}.ln2.hook_normalized", D, replicated, kUnfused,
     "that norm after the division, before its weight", ""},
    {Hook::ln2_out, "blocks.{l}.ln2.hook_out", D, replicated, kFree,
     "that norm after its weight: what the MLP reads", "model.layers.{l}.post_attention_layernorm"},
    {Hook::router_logits, "blocks.{l}.mlp.hook_router_logits", X, replicated, kFree,
     "router's scores of the experts", "model.layers.{l}.mlp.gate"},
    {Hook::expert_indices, "blocks.{l}.mlp.hook_expert_indices", chosen, replicated, kFree,
     "the experts a token goes to, most probable first", ""},
    {Hook::expert_weights, "blocks.{l}.mlp.hook_expert_weights", chosen, replicated, kFree,
     "what each of them is multiplied by", ""},
    {Hook::mlp_pre, "blocks.{l}.mlp.hook_pre", F, sharded, kFree,
     "gate projection (without a gate: the input projection), before the activation",
     "model.layers.{l}.mlp.gate_proj"},
    {Hook::mlp_pre_linear, "blocks.{l}.mlp.hook_pre_linear", F, sharded, kFree, "up projection",
     "model.layers.{l}.mlp.up_proj"},
    {Hook::mlp_post, "blocks.{l}.mlp.hook_post", F, sharded, kFree, "neurons: input of the down projection",
     ""},
    {Hook::ln2_post_scale, "blocks.{l}.ln2_post.hook_scale", one, replicated, kUnfused,
     "divisor of the norm on the MLP's output", ""},
    {Hook::ln2_post_normalized, "blocks.{l}.ln2_post.hook_normalized", D, replicated, kUnfused,
     "that norm after the division, before its weight; after it: hook_mlp_out", ""},
    {Hook::mlp_out, "blocks.{l}.hook_mlp_out", D, replicated, kFree,
     "what the MLP adds to the residual stream", "model.layers.{l}.mlp"},
    {Hook::resid_post, "blocks.{l}.hook_resid_post", D, replicated, kFree,
     "resid_mid + mlp_out, output of the block", "model.layers.{l}"},
    {Hook::ln_final_scale, "ln_final.hook_scale", one, replicated, kUnfused, "divisor of the final norm", ""},
    {Hook::ln_final_normalized, "ln_final.hook_normalized", D, replicated, kUnfused,
     "final norm after the division, before its weight", ""},
    {Hook::ln_final_out, "ln_final.hook_out", D, replicated, kFree,
     "final norm after its weight: what the head reads", "model.norm"},
    {Hook::logits, "logits", V, sharded, kFree, "scores of the vocabulary, after scale and soft-cap",
     "lm_head"},
};
static_assert(std::size(kTable) == kHooks);
static_assert(std::ranges::is_sorted(kTable, {}, &HookInfo::hook));

std::string with_layer(std::string_view pattern, int layer) {
  std::string name(pattern);
  if (const auto at = name.find("{l}"); at != std::string::npos) name.replace(at, 3, std::to_string(layer));
  return name;
}

// * matches any run of characters without a dot.
bool matches(std::string_view pattern, std::string_view name) {
  if (pattern.empty()) return name.empty();
  if (pattern[0] != '*')
    return !name.empty() && pattern[0] == name[0] && matches(pattern.substr(1), name.substr(1));
  for (std::size_t i = 0;; ++i) {
    if (matches(pattern.substr(1), name.substr(i))) return true;
    if (i == name.size() || name[i] == '.') return false;
  }
}

}  // namespace

std::span<const HookInfo> hook_table() { return kTable; }
const HookInfo& info(Hook hook) { return kTable[static_cast<std::size_t>(hook)]; }
bool per_layer(Hook hook) { return info(hook).name.find("{l}") != std::string_view::npos; }
std::string name(Site site) { return with_layer(info(site.hook).name, site.layer); }

std::vector<std::int64_t> row_shape(Hook hook, const HookSizes& s) {
  switch (info(hook).shape) {
    case one:
      return {1};
    case D:
      return {s.D};
    case HE:
      return {s.H, s.E};
    case KE:
      return {s.K, s.E};
    case HS:
      return {s.H, s.S};
    case F:
      return {s.F};
    case X:
      return {s.X};
    case chosen:
      return {s.chosen};
    case V:
      return {s.V};
  }
  fail("hook {} has no row shape", info(hook).name);
}

std::optional<Site> find_site(std::string_view wanted, int n_layers) {
  for (const HookInfo& row : kTable) {
    const int layers = per_layer(row.hook) ? n_layers : 1;
    for (int l = 0; l < layers; ++l)
      if (with_layer(row.name, l) == wanted || (!row.alias.empty() && with_layer(row.alias, l) == wanted))
        return Site{row.hook, l};
  }
  return std::nullopt;
}

std::vector<Site> sites_of(std::span<const Hook> hooks, int n_layers) {
  std::vector<Site> sites;
  const auto has = [&](const HookInfo& row) { return std::ranges::find(hooks, row.hook) != hooks.end(); };
  const auto add_once_hooks = [&](bool before_blocks) {
    for (const HookInfo& row : kTable)
      if (has(row) && !per_layer(row.hook) && (row.hook < Hook::resid_pre) == before_blocks)
        sites.push_back({row.hook, 0});
  };
  add_once_hooks(true);
  for (int l = 0; l < n_layers; ++l)
    for (const HookInfo& row : kTable)
      if (has(row) && per_layer(row.hook)) sites.push_back({row.hook, l});
  add_once_hooks(false);
  return sites;
}

std::vector<Site> match_sites(std::string_view patterns, std::span<const Site> available, int n_layers) {
  std::vector<bool> chosen(available.size(), false);
  std::size_t begin = 0;
  while (begin <= patterns.size()) {
    std::size_t end = patterns.find(',', begin);
    if (end == std::string_view::npos) end = patterns.size();
    std::string_view pattern = patterns.substr(begin, end - begin);
    while (!pattern.empty() && pattern.front() == ' ') pattern.remove_prefix(1);
    while (!pattern.empty() && pattern.back() == ' ') pattern.remove_suffix(1);
    begin = end + 1;

    bool any = false;
    for (std::size_t i = 0; i < available.size(); ++i) {
      const Site site = available[i];
      const std::string_view alias = info(site.hook).alias;
      if (!matches(pattern, name(site)) &&
          (alias.empty() || !matches(pattern, with_layer(alias, site.layer))))
        continue;
      chosen[i] = any = true;
    }
    if (!any)
      throw UsageError(
          fmt::format("site pattern '{}' matches no hook point of this model ({} layers)", pattern, n_layers),
          "`sonde hooks MODEL` lists the points; * matches within one dot-separated part, as in "
          "'blocks.*.hook_resid_post'");
  }
  std::vector<Site> sites;
  for (std::size_t i = 0; i < available.size(); ++i)
    if (chosen[i]) sites.push_back(available[i]);
  return sites;
}

}  // namespace sonde
