// Phi-3 and Phi-4 (arXiv:2404.14219): Llama with fused projections and LongRoPE.
#include "models/families/common.h"

namespace sonde {
namespace {

constexpr PartName kPerLayer[] = {
    {Part::ln1, "input_layernorm.weight"},       {Part::qkv, "self_attn.qkv_proj.weight"},
    {Part::attn_out, "self_attn.o_proj.weight"}, {Part::ln2, "post_attention_layernorm.weight"},
    {Part::gate_up, "mlp.gate_up_proj.weight"},  {Part::down, "mlp.down_proj.weight"},
};
constexpr PartName kGgufPerLayer[] = {
    {Part::ln1, "attn_norm.weight"}, {Part::qkv, "attn_qkv.weight"},   {Part::attn_out, "attn_output.weight"},
    {Part::ln2, "ffn_norm.weight"},  {Part::gate_up, "ffn_up.weight"}, {Part::down, "ffn_down.weight"},
};

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec =
      spec_of_config(config, {.context = 4096, .eps = 1e-5, .rope = {.fraction = 1, .original = 4096}});
  const std::int64_t window = config.integer("sliding_window", 0);
  spec.windows = same_windows(config, spec, window);
  for (const char* key : {"attention_bias", "mlp_bias", "lm_head_bias"}) config.expect(key, false);
  for (const char* key : {"full_attn_mod", "interpolate_factor"})
    config.expect(key, 1);  // Phi-4-mini's files
  return spec;
}

ModelSpec spec_from_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec = spec_of_gguf(metadata, files);
  const std::int64_t window = metadata.integer("attention.sliding_window", 0);
  if (window > 0 && spec.n_layers > 0 && spec.n_layers <= 10000)
    spec.windows.assign(static_cast<std::size_t>(spec.n_layers), window);
  return spec;
}

TensorNames names(ModelFormat format, const ModelSpec&) {
  TensorNames names = names_of(format, llama_names());
  names.per_layer = format == ModelFormat::gguf ? std::span<const PartName>(kGgufPerLayer) : kPerLayer;
  return names;
}

}  // namespace

const Family kPhi3 = {"phi3", "phi3", "phi3", spec_from_config, spec_from_gguf, names};

}  // namespace sonde
