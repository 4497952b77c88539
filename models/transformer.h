// THE forward: one layer loop for every use and every family.
#pragma once

#include <optional>

#include "kernels/backend.h"
#include "models/hooks.h"
#include "models/model.h"
#include "models/rope.h"
#include "models/stage_link.h"

namespace sonde {

class Transformer {
 public:
  // Allocates the workspace for batches of up to max_tokens tokens.
  Transformer(const Model& model, Backend& backend, std::int64_t max_tokens);

  // Runs the batch as far as the active hooks need; results leave through the hooks alone.
  void forward(const Batch& batch, Hooks& hooks);

  // Bytes of the workspace such a Transformer allocates, for planning; of a rank's part of a model, too.
  static std::int64_t workspace_bytes(const ModelSpec& spec, std::int64_t max_tokens, DeviceKind device);
  static std::int64_t logits_bytes(const ModelSpec& spec);  // where logits are asked for

 private:
  enum class Rows { all, selected_at_the_end };

  void block_sequential(int l, const Batch& batch, Hooks& hooks, Rows rows);
  void block_parallel(int l, const Batch& batch, Hooks& hooks, Rows rows);
  void attention(Tensor x, int l, const Batch& batch, Hooks& hooks, Rows rows);
  void attention_heads(Tensor x, int l, const Batch& batch, Hooks& hooks, Rows rows);
  void attention_out(const Buffer& out, int l, std::int64_t first, std::int64_t n);
  void mlp(Tensor x, int l, Hooks& hooks);
  void mlp_sum(Tensor x, int l, Hooks& hooks, const Buffer* with);
  Tensor mlp_neurons(Tensor x, const MlpWeights& w, int l, Hooks* hooks);
  Tensor activated(Tensor pre, std::int64_t f);
  bool experts_by_row(Tensor x, Tensor indices, Tensor weights, const BlockWeights& w);
  void experts(Tensor x, int l, Hooks& hooks);
  void norm(Tensor y, Tensor x, const NormWeights& w, Hook scale, int l, Hooks& hooks);
  void post_norm(const NormWeights& w, Hook scale, int l, Hooks& hooks);
  void add_and_norm(int l, Hooks& hooks);
  void norm_and_turn(int l);
  void whole_qk_norm(const BlockWeights& w);
  void attend(const Batch& batch, int l, Hooks& hooks);
  struct Keys {
    Tensor k, v;  // [rows, K, E]
    KeyRanges ranges;
  };
  void plan_keys(const Batch& batch);
  Keys keys_of(const Batch& batch, int l);
  void attend_through_hooks(const Batch& batch, const Keys& keys, int l, const AttentionSpec& spec,
                            Hooks& hooks);
  void keep_selected_rows(const Batch& batch, Hooks& hooks);
  void set_rows(std::int64_t rows);
  Tensor rows_of(const Buffer& memory) const;  // f32 [T, D]
  void show_sum(const Buffer& part, Site site, Hooks& hooks);
  void logits(Hooks& hooks);

  const Model& model_;
  Backend& backend_;
  TensorGroup group_;
  StageLink link_;
  const std::vector<HeadGroups> head_groups_;
  // Positions of one kind of layer, and the row of each token in its table.
  struct Positions {
    RopeRows rows;
    std::vector<std::int32_t> row_of_token = {};  // [T]
    RopeTable table = {};                         // rows' table where the backend reads it
    Buffer cos_memory = {}, sin_memory = {};
    std::int64_t placed = -1;  // version of rows that table shows
  };
  void place_positions(Positions& positions, const Batch& batch);
  void embed(const Batch& batch, Hooks& hooks);
  void embed_tokens(const Batch& batch);
  Positions rope_;
  std::optional<Positions> local_rope_;  // of layers with a window, where they differ

  std::vector<std::int32_t> cache_rows_;  // of each token, where the batch has a cache
  std::vector<std::int32_t> key_counts_;  // of each sequence

  // Workspace. Views are cut to the batch's T by set_rows.
  std::int64_t max_tokens_;
  Buffer resid_memory_, normed_memory_, scale_memory_, qkv_memory_, z_memory_, delta_memory_, gate_up_memory_,
      mlp_memory_;
  Buffer scores_memory_, logits_memory_;  // sized when a hook first wants them
  // [T, D] of a parallel block: normed rows kept for its MLP, then what attention adds until the MLP's is
  // there
  Buffer kept_memory_;
  Buffer shown_memory_;                      // [T, D] a sum for captures alone
  Buffer router_memory_, expert_memory_;     // [T, X + 2k]; rows of one expert, or of all
  Buffer choice_memory_;                     // the router's choice and its weights, for the host
  Buffer squares_memory_, divisors_memory_;  // of a norm over the heads of all ranks
  Tensor resid_;                             // [T, D] the residual stream
  Tensor normed_;                            // [T, D]
  Tensor scale_;                             // [T, 1] divisor of a norm, where hooks see it
  Tensor qkv_;                               // [T, (H + 2K) * E]
  Tensor q_;                                 // [T, H, E], columns of qkv_
  Tensor k_, v_;                             // [T, K, E], columns of qkv_
  Tensor z_;                                 // [T, H, E]
  Tensor delta_;                             // [T, D] what a sublayer adds
  Tensor gate_up_;                           // [T, 2F]
  Tensor mlp_;                               // [T, F]
};

}  // namespace sonde
