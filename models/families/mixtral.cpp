// Mixtral (arXiv:2401.04088): Mistral whose MLPs are mixtures of experts, two of eight for each token.
#include "models/families/common.h"

namespace sonde {
namespace {

constexpr PartName kPerLayer[] = {
    {Part::ln1, "input_layernorm.weight"},
    {Part::q, "self_attn.q_proj.weight"},
    {Part::k, "self_attn.k_proj.weight"},
    {Part::v, "self_attn.v_proj.weight"},
    {Part::attn_out, "self_attn.o_proj.weight"},
    {Part::ln2, "post_attention_layernorm.weight"},
    {Part::router, "block_sparse_moe.gate.weight"},
    {Part::gate, "block_sparse_moe.experts.{}.w1.weight"},
    {Part::up, "block_sparse_moe.experts.{}.w3.weight"},
    {Part::down, "block_sparse_moe.experts.{}.w2.weight"},
};

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec =
      spec_of_config(config, {.kv_heads = 8, .context = 131072, .eps = 1e-5, .rope = {.theta = 1e6}});
  const std::int64_t window = config.integer("sliding_window", 0);
  spec.windows = same_windows(config, spec, window);
  spec.n_experts = config.integer("num_local_experts", 8);
  spec.experts_per_token = config.integer("num_experts_per_tok", 2);
  spec.d_expert = spec.d_mlp;
  return spec;
}

TensorNames names(ModelFormat, const ModelSpec&) {
  TensorNames names = llama_names();
  names.per_layer = kPerLayer;
  return names;
}

}  // namespace

const Family kMixtral = {"mixtral", "mixtral", "", spec_from_config, nullptr, names};

}  // namespace sonde
