#include "models/families/rope_config.h"

#include <cmath>
#include <cstring>
#include <optional>

#include "runtime/error.h"

namespace sonde {
namespace {

double yarn_magnitude(double factor, double scale) {
  return factor <= 1 ? 1 : 0.1 * scale * std::log(factor) + 1;
}

// The keys of one scaling rule, from rope_parameters or rope_scaling. `outer_original`: the config's
// top-level original_max_position_embeddings, which wins.
void read_scaling(ConfigReader& rope_config, RopeSpec& rope, std::int64_t context,
                  std::optional<double> outer_original) {
  std::string type = rope_config.text("type", "default");  // the oldest configs
  type = rope_config.text("rope_type", type);
  const auto original = [&] {
    const double inner = rope_config.real("original_max_position_embeddings", static_cast<double>(context));
    return outer_original.value_or(inner);
  };
  if (type == "default") return;
  if (type == "linear") {
    rope.scaling = RopeScaling::linear;
    rope.factor = rope_config.real("factor");
  } else if (type == "dynamic") {
    rope.scaling = RopeScaling::dynamic;
    rope.factor = rope_config.real("factor");
    rope_config.claim("original_max_position_embeddings");  // transformers reads max_position_embeddings
    rope.original_context = static_cast<double>(context);
  } else if (type == "llama3") {
    rope.scaling = RopeScaling::llama3;
    rope.factor = rope_config.real("factor");
    rope.low_freq_factor = rope_config.real("low_freq_factor");
    rope.high_freq_factor = rope_config.real("high_freq_factor");
    rope.original_context = original();
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::yarn;
    rope.original_context = original();
    rope.factor = rope_config.has("factor") ? rope_config.real("factor")
                                            : static_cast<double>(context) / rope.original_context;
    rope_config.claim("factor");
    rope.beta_fast = rope_config.real("beta_fast", 32);
    rope.beta_slow = rope_config.real("beta_slow", 1);
    rope.truncate = rope_config.boolean("truncate", true);
    const double mscale = rope_config.real("mscale", 0), mscale_all = rope_config.real("mscale_all_dim", 0);
    const double inferred = mscale != 0 && mscale_all != 0 ? yarn_magnitude(rope.factor, mscale) /
                                                                 yarn_magnitude(rope.factor, mscale_all)
                                                           : yarn_magnitude(rope.factor, 1);
    rope.attention_factor = rope_config.real("attention_factor", inferred);
  } else {
    fail("{}: key rope_type: found '{}', expected default, linear, dynamic, yarn or llama3",
         rope_config.source(), type);
  }
}

void refuse_partial(ConfigReader& config) {
  const double part = config.real("partial_rotary_factor", 1);
  if (part != 1) fail("{}: key partial_rotary_factor: found {}, expected 1", config.source(), part);
}

}  // namespace

RopeSpec rope_from_config(ConfigReader& config, std::int64_t context) {
  RopeSpec rope;
  rope.theta = config.real("rope_theta", 10000);
  refuse_partial(config);
  std::optional<double> outer_original;
  config.claim("original_max_position_embeddings");
  if (config.has("original_max_position_embeddings"))
    outer_original = config.real("original_max_position_embeddings");
  config.claim("rope_scaling");
  config.claim("rope_parameters");
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!config.has(key)) continue;
    ConfigReader inner = config.object(key);
    rope.theta = inner.real("rope_theta", rope.theta);
    refuse_partial(inner);
    read_scaling(inner, rope, context, outer_original);
    inner.claim("finetuned");  // how the stretched weights came to be
    inner.finish();
    break;  // as transformers does: rope_scaling wins where a config has both
  }
  return rope;
}

RopeSpec rope_from_gguf(GgufReader& metadata, const ModelFiles& files, std::int64_t context) {
  RopeSpec rope;
  rope.theta = metadata.real("rope.freq_base", 10000);
  const std::string type = metadata.text("rope.scaling.type", "none");
  if (metadata.has("rope.scale_linear")) {  // before rope.scaling.* existed
    rope.factor = metadata.real("rope.scale_linear");
    if (rope.factor != 1) rope.scaling = RopeScaling::linear;
  }
  metadata.claim("rope.scaling.finetuned");
  if (type == "linear") {
    rope.scaling = RopeScaling::linear;
    rope.factor = metadata.real("rope.scaling.factor");
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::yarn;
    rope.factor = metadata.real("rope.scaling.factor");
    rope.original_context =
        metadata.real("rope.scaling.original_context_length", static_cast<double>(context));
    rope.beta_fast = metadata.real("rope.scaling.yarn_beta_fast", 32);
    rope.beta_slow = metadata.real("rope.scaling.yarn_beta_slow", 1);
    rope.attention_factor = metadata.real("rope.scaling.attn_factor", 1) * yarn_magnitude(rope.factor, 1);
  } else if (type != "none") {
    fail("{}: key rope.scaling.type: found '{}', expected none, linear or yarn", metadata.source(), type);
  } else {
    metadata.claim("rope.scaling.factor");
    metadata.claim("rope.scaling.original_context_length");
  }

  // Llama 3.1 and later: the rule is already worked out, frequency i is divided by element i.
  if (const FileTensor* divisors = files.find("rope_freqs.weight")) {
    if (divisors->view.dtype != DType::f32 || divisors->view.rank != 1)
      fail("{}: tensor rope_freqs.weight: found {}, expected f32 [d_head / 2]", metadata.source(),
           divisors->view.describe());
    for (std::int64_t i = 0; i < divisors->view.count(); ++i) {
      float value = 0;
      std::memcpy(&value, divisors->view.data + i * 4, 4);
      if (!(value > 0) || !std::isfinite(value))
        fail("{}: tensor rope_freqs.weight: element {} is {}, expected above 0", metadata.source(), i, value);
      rope.divisors.push_back(value);
    }
  }
  return rope;
}

}  // namespace sonde
