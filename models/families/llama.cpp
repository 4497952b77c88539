// Llama 1 to 3.3 and models of the same shape (SmolLM2, TinyLlama, Vicuna, ...): the defaults of ModelSpec.
#include "models/families/common.h"

namespace sonde {
namespace {

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec = spec_of_config(config);
  spec.qkv_bias = spec.attn_out_bias = config.boolean("attention_bias", false);
  spec.mlp_bias = config.boolean("mlp_bias", false);
  config.expect("rope_interleaved", false);
  config.claim({"is_llama_config"});  // SmolLM2's files; nothing reads it
  return spec;
}

// Mistral and Mixtral, too: llama.cpp writes them under this name.
ModelSpec spec_from_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec = spec_of_gguf(metadata, files);
  metadata.expect("rope.dimension_count", spec.d_head);
  return spec;
}

TensorNames names(ModelFormat format, const ModelSpec&) {
  TensorNames names = names_of(format, llama_names());
  if (format == ModelFormat::gguf) names.qk_order = RowOrder::interleaved_pairs;
  return names;
}

}  // namespace

const Family kLlama = {"llama", "llama", "llama", spec_from_config, spec_from_gguf, names};

}  // namespace sonde
