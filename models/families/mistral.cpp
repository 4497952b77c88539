// Mistral 7B and its relatives (arXiv:2310.06825): Llama with a sliding window on every layer.
#include "models/families/common.h"

namespace sonde {
namespace {

ModelSpec spec_from_config(ConfigReader& config, const ModelFiles&) {
  ModelSpec spec = spec_of_config(config, {.kv_heads = 8, .context = 131072});
  const std::int64_t window = config.integer("sliding_window", config.is_null("sliding_window") ? 0 : 4096);
  spec.windows = same_windows(config, spec, window);
  return spec;
}

TensorNames names(ModelFormat, const ModelSpec&) { return llama_names(); }

}  // namespace

const Family kMistral = {"mistral", "mistral", "", spec_from_config, nullptr, names};

}  // namespace sonde
