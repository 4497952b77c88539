// Qwen 3 (arXiv:2505.09388): Llama with an RMSNorm on each head of q and k.
#include "models/families/common.h"

namespace sonde {
namespace {

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec = spec_of_config(config, {.kv_heads = 32, .head_dim = 128, .context = 32768});
  spec.qk_norm = QkNorm::shared;
  spec.qkv_bias = spec.attn_out_bias = config.boolean("attention_bias", false);
  spec.windows = qwen_windows(config, spec);
  return spec;
}

ModelSpec spec_from_gguf(GgufReader& metadata, const ModelFiles& files) {
  ModelSpec spec = spec_of_gguf(metadata, files);
  spec.qk_norm = QkNorm::shared;
  return spec;
}

TensorNames names(ModelFormat format, const ModelSpec&) { return names_of(format, llama_names()); }

}  // namespace

const Family kQwen3 = {"qwen3", "qwen3", "qwen3", spec_from_config, spec_from_gguf, names};

}  // namespace sonde
