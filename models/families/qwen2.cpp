// Qwen 2 and 2.5 (arXiv:2407.10671): Llama with biases on q, k and v.
#include "models/families/common.h"

namespace sonde {
namespace {

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec = spec_of_config(config, {.kv_heads = 32, .context = 32768});
  spec.qkv_bias = true;
  spec.windows = qwen_windows(config, spec);
  config.expect("use_mrope", false);
  return spec;
}

TensorNames names(ModelFormat format, const ModelSpec&) { return names_of(format, llama_names()); }

}  // namespace

const Family kQwen2 = {"qwen2", "qwen2", "qwen2", spec_from_config, spec_of_gguf, names};

}  // namespace sonde
