// What a decoder is: every axis a field whose default is Llama's. Family files set what differs; the forward
// reads only this and never a family's name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/json.h"
#include "runtime/hook.h"

namespace sonde {

enum class RopeScaling { none, linear, dynamic, yarn, llama3 };

// Rotary positions (RoPE, arXiv:2104.09864) and how long contexts stretch them; rope.h turns it into
// frequencies.
struct RopeSpec {
  double theta = 10000;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;             // all scalings
  double original_context = 0;   // llama3, yarn, dynamic: positions seen before stretching
  double low_freq_factor = 1;    // llama3
  double high_freq_factor = 4;   // llama3
  double beta_fast = 32;         // yarn
  double beta_slow = 1;          // yarn
  bool truncate = true;          // yarn: whole dimensions at the ends of the ramp
  double attention_factor = 1;   // multiplies cos and sin (yarn)
  std::vector<double> divisors;  // [E/2] frequency i is divided by element i (GGUF's rope_freqs.weight)
};

struct ModelSpec {
  std::string family;
  std::int64_t n_layers = 0;    // L
  std::int64_t d_model = 0;     // D
  std::int64_t n_heads = 0;     // H
  std::int64_t n_kv_heads = 0;  // K
  std::int64_t d_head = 0;      // E
  std::int64_t d_mlp = 0;       // F
  std::int64_t vocab = 0;       // V
  std::int64_t context = 0;     // positions the model was made for
  double norm_eps = 1e-6;
  RopeSpec rope;
  bool qkv_bias = false;
  bool attn_out_bias = false;
  bool mlp_bias = false;
  bool tied_head = false;  // logits read the embedding table

  HookSizes hook_sizes(std::int64_t longest_document = 0) const;
  std::vector<Hook> hooks() const;  // points this model has, in table order
  std::vector<Site> sites() const;  // the same for every layer, in execution order
  void check(
      const std::string& source) const;  // sizes that cannot be are an Error that names source and field
  Json to_json() const;
};

}  // namespace sonde
