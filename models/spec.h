// What a decoder is: every axis a field whose default is Llama's. Family files set what differs; the forward
// reads only this and never a family's name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/json.h"
#include "kernels/backend.h"
#include "runtime/hook.h"

namespace sonde {

enum class RopeScaling { none, linear, dynamic, yarn, llama3, longrope };

// Rotary positions (RoPE, arXiv:2104.09864) and how long contexts stretch them; rope.h turns it into
// frequencies.
struct RopeSpec {
  double theta = 10000;
  RopeScaling scaling = RopeScaling::none;
  std::int64_t width = 0;  // R: dimensions of a head that turn, the first ones; 0: all E
  RopePairs pairs = RopePairs::halves;
  double factor = 1;             // all scalings but longrope
  double original_context = 0;   // llama3, yarn, dynamic, longrope: positions seen before stretching
  double low_freq_factor = 1;    // llama3
  double high_freq_factor = 4;   // llama3
  double beta_fast = 32;         // yarn
  double beta_slow = 1;          // yarn
  bool truncate = true;          // yarn: whole dimensions at the ends of the ramp
  double attention_factor = 1;   // multiplies cos and sin (yarn, longrope)
  std::vector<double> divisors;  // [R/2] frequency i is divided by element i (GGUF's rope_freqs.weight)
  std::vector<double> short_factors,
      long_factors;  // [R/2] longrope: divisors up to and beyond original_context

  // Documents longer than this turn at other frequencies than shorter ones; 0: the length does not matter.
  double length_limit() const {
    return scaling == RopeScaling::dynamic || scaling == RopeScaling::longrope ? original_context : 0;
  }
};

// Norms of q and k before RoPE: one weight [E] for all heads, one per head, or one norm over all heads'
// values.
enum class QkNorm : std::uint8_t { none, shared, per_head, whole };

// sequential: the MLP reads the stream that attention wrote to; parallel: both read the block's input.
enum class BlockOrder : std::uint8_t { sequential, parallel };

struct ModelSpec {
  std::string family;
  std::int64_t n_layers = 0;    // L
  std::int64_t d_model = 0;     // D
  std::int64_t n_heads = 0;     // H
  std::int64_t n_kv_heads = 0;  // K
  std::int64_t d_head = 0;      // E
  std::int64_t d_mlp = 0;       // F
  std::int64_t vocab = 0;       // V
  std::int64_t context = 0;     // positions the model is used for, if nobody asks for more

  NormKind norm = NormKind::rms;
  bool norm_bias = false;
  double norm_eps = 1e-6;
  BlockOrder order = BlockOrder::sequential;
  bool pre_norms = true;     // ln1, ln2: before attention and MLP
  bool post_norms = false;   // ln1_post, ln2_post: on what they add
  bool shared_norm = false;  // parallel: the MLP reads ln1, there is no ln2
  QkNorm qk_norm = QkNorm::none;

  bool learned_positions = false;  // a table [context, D] is added to the embedding, nothing rotates
  RopeSpec rope;
  std::optional<RopeSpec> local_rope;  // of the layers with a window
  std::vector<std::int64_t> windows;   // [L] keys a query sees, itself included, 0: all; empty: all 0
  double attn_scale = 0;               // of q.k; 0: 1 / sqrt(E)
  bool attn_scale_over_depth = false;  // the scale of layer l is divided by l + 1
  double attn_softcap = 0;             // 0: none
  bool qkv_bias = false;
  bool attn_out_bias = false;

  Activation activation = Activation::silu;
  bool gated_mlp = true;
  bool mlp_bias = false;
  std::int64_t n_experts = 0;          // X; 0: every MLP is dense
  std::int64_t experts_per_token = 0;  // k
  std::int64_t d_expert = 0;           // F of an expert
  bool renormalise_experts = true;     // the chosen experts' weights sum to 1
  std::vector<bool> dense_layers;      // [L] layers without experts; empty: none

  double embed_scale = 1;
  double logit_scale = 1;
  double logit_softcap = 0;  // 0: none
  bool tied_head = false;    // logits read the embedding table

  std::int64_t window(int layer) const {
    return windows.empty() ? 0 : windows[static_cast<std::size_t>(layer)];
  }
  bool has_experts(int layer) const {
    return n_experts > 0 && (dense_layers.empty() || !dense_layers[static_cast<std::size_t>(layer)]);
  }
  const RopeSpec& rope_of(int layer) const { return local_rope && window(layer) > 0 ? *local_rope : rope; }
  std::int64_t rope_width() const { return rope.width > 0 ? rope.width : d_head; }
  float attention_scale(int layer) const;
  // What a sequence may have at most: a position table ends, RoPE does not (but results get worse).
  std::int64_t most_positions() const;

  HookSizes hook_sizes(std::int64_t longest_document = 0) const;
  bool has(Site site) const;
  std::vector<Hook> hooks() const;  // points that some layer has, in table order
  std::vector<Site> sites() const;  // every point of every layer, in execution order
  void check(
      const std::string& source) const;  // sizes that cannot be are an Error that names source and field
  Json to_json() const;

 private:
  void check_rope(const RopeSpec& r, const std::string& source) const;
};

}  // namespace sonde
