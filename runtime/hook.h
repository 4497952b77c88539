// The hook table: every point of a decoder that can be captured or edited, in execution order.
// Names and meanings are TransformerLens's; CLI patterns, HDF5 datasets, `sonde hooks` and docs come from
// here.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sonde {

enum class Hook : std::uint8_t {
  embed,
  pos_embed,
  resid_pre,
  ln1_scale,
  ln1_normalized,
  ln1_out,
  q,
  k,
  v,
  rot_q,
  rot_k,
  attn_scores,
  pattern,
  z,
  ln1_post_scale,
  ln1_post_normalized,
  attn_out,
  resid_mid,
  ln2_scale,
  ln2_normalized,
  ln2_out,
  router_logits,
  expert_indices,
  expert_weights,
  mlp_pre,
  mlp_pre_linear,
  mlp_post,
  ln2_post_scale,
  ln2_post_normalized,
  mlp_out,
  resid_post,
  ln_final_scale,
  ln_final_normalized,
  ln_final_out,
  logits,
};
inline constexpr int kHooks = static_cast<int>(Hook::logits) + 1;

// Shape of one token's row at a hook, in the letters of kernels/backend.h. S: keys of the longest document;
// chosen: experts of a token.
enum class RowShape : std::uint8_t { one, D, HE, KE, HS, F, X, chosen, V };

// Where the row lives under tensor parallelism: whole on every rank, or a column slab of
// heads/neurons/vocabulary.
enum class Layout : std::uint8_t { replicated, sharded };

// free: the tensor exists anyway. unfused: an op runs in separate steps. materialises: T x S scores are
// written.
enum class Cost : std::uint8_t { free, unfused, materialises };

struct HookInfo {
  Hook hook;
  std::string_view name;  // "blocks.{l}.hook_resid_pre"; without "{l}" it exists once per model
  RowShape shape;
  Layout layout;
  Cost cost;
  std::string_view meaning;  // one line
  std::string_view alias;    // Hugging Face module path of the same tensor, or ""
};
std::span<const HookInfo> hook_table();
const HookInfo& info(Hook hook);
bool per_layer(Hook hook);

// One point of one layer; layer is 0 where the hook exists once per model.
struct Site {
  Hook hook;
  int layer = 0;
  friend bool operator==(Site, Site) = default;
};
std::string name(Site site);  // "blocks.3.hook_resid_post"

// Sizes that turn a RowShape into numbers. S is 0 until the longest document is known.
struct HookSizes {
  std::int64_t L, D, H, K, E, F, V, S, X = 0, chosen = 0;
};
std::vector<std::int64_t> row_shape(Hook hook, const HookSizes& sizes);  // {H, E}; {1}; {D}

// A site by its exact name or Hugging Face alias, or nothing.
std::optional<Site> find_site(std::string_view name, int n_layers);

// Expands "blocks.*.hook_resid_post,logits": commas unite, * matches within one dot-separated part.
// Returns the matches among `available`, in its order. A pattern that matches nothing is a UsageError.
std::vector<Site> match_sites(std::string_view patterns, std::span<const Site> available, int n_layers);

// All sites of `hooks` (in table order) for n_layers, in execution order: embed, block 0, block 1, ...,
// logits.
std::vector<Site> sites_of(std::span<const Hook> hooks, int n_layers);

}  // namespace sonde
