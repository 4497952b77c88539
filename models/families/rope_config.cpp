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
void read_scaling(ConfigReader& rope_config, RopeSpec& rope, double context,
                  std::optional<double> outer_original) {
  std::string type = rope_config.text("type", "default");  // the oldest configs
  type = rope_config.text("rope_type", type);
  const auto original = [&] {
    const double inner = rope_config.real("original_max_position_embeddings", context);
    return outer_original.value_or(inner);
  };
  if (type == "default") return;
  if (type == "linear") {
    rope.scaling = RopeScaling::linear;
    rope.factor = rope_config.real("factor");
  } else if (type == "dynamic") {
    rope.scaling = RopeScaling::dynamic;
    rope.factor = rope_config.real("factor");
    rope_config.claim({"original_max_position_embeddings"});  // transformers reads max_position_embeddings
    rope.original_context = context;
  } else if (type == "llama3") {
    rope.scaling = RopeScaling::llama3;
    rope.factor = rope_config.real("factor");
    rope.low_freq_factor = rope_config.real("low_freq_factor");
    rope.high_freq_factor = rope_config.real("high_freq_factor");
    rope.original_context = original();
  } else if (type == "yarn") {
    rope.scaling = RopeScaling::yarn;
    rope.original_context = original();
    rope.factor = rope_config.real("factor", context / rope.original_context);
    rope.beta_fast = rope_config.real("beta_fast", 32);
    rope.beta_slow = rope_config.real("beta_slow", 1);
    rope.truncate = rope_config.boolean("truncate", true);
    const double mscale = rope_config.real("mscale", 0), mscale_all = rope_config.real("mscale_all_dim", 0);
    const double inferred = mscale != 0 && mscale_all != 0 ? yarn_magnitude(rope.factor, mscale) /
                                                                 yarn_magnitude(rope.factor, mscale_all)
                                                           : yarn_magnitude(rope.factor, 1);
    rope.attention_factor = rope_config.real("attention_factor", inferred);
  } else if (type == "longrope" || type == "su") {  // Phi-3's first files call it su
    rope.scaling = RopeScaling::longrope;
    rope.original_context = original();
    rope.short_factors = rope_config.reals("short_factor");
    rope.long_factors = rope_config.reals("long_factor");
    const double factor = rope_config.real("factor", context / rope.original_context);
    const double inferred =
        factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(rope.original_context));
    rope.attention_factor = rope_config.real("attention_factor", inferred);
  } else {
    fail("{}: key rope_type: found '{}', expected default, linear, dynamic, yarn, llama3 or longrope",
         rope_config.source(), type);
  }
}

void set_width(RopeSpec& rope, const ModelSpec& spec, double fraction) {
  const auto width = static_cast<std::int64_t>(static_cast<double>(spec.d_head) * fraction);
  rope.width = width == spec.d_head ? 0 : width;
  if (width < 1) rope.width = -1;  // refused by the spec's check
}

RopeSpec read_object(ConfigReader& object, const ModelSpec& spec, const RopeDefaults& defaults,
                     std::optional<double> outer_original) {
  RopeSpec rope;
  rope.theta = object.real("rope_theta", defaults.theta);
  if (defaults.fraction > 0)
    set_width(rope, spec, object.real("partial_rotary_factor", defaults.fraction));
  else
    object.expect("partial_rotary_factor", 1.0);
  read_scaling(object, rope, static_cast<double>(spec.context), outer_original);
  object.claim({"finetuned"});  // how the stretched weights came to be
  return rope;
}

}  // namespace

RopeSpec rope_from_object(ConfigReader& object, const ModelSpec& spec, const RopeDefaults& defaults) {
  return read_object(object, spec, defaults, std::nullopt);
}

RopeSpec rope_from_config(ConfigReader& config, const ModelSpec& spec, const RopeDefaults& defaults) {
  RopeDefaults outer;  // the older generation: beside the scaling rule, not in it
  outer.theta = config.real("rope_theta", defaults.theta);
  if (defaults.fraction > 0)
    outer.fraction = config.real("partial_rotary_factor", defaults.fraction);
  else
    config.expect("partial_rotary_factor", 1.0);
  std::optional<double> outer_original;
  if (defaults.original > 0 || config.has("original_max_position_embeddings"))
    outer_original = config.real("original_max_position_embeddings", defaults.original);
  config.claim({"original_max_position_embeddings", "rope_scaling", "rope_parameters"});
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!config.has(key)) continue;
    ConfigReader inner = config.object(key);
    RopeSpec rope = read_object(inner, spec, outer, outer_original);
    inner.finish();
    return rope;  // as transformers does: rope_scaling wins where a config has both
  }
  RopeSpec rope;
  rope.theta = outer.theta;
  if (outer.fraction > 0) set_width(rope, spec, outer.fraction);
  return rope;
}

namespace {

// A tensor of divisors of the frequencies.
std::vector<double> divisors_of(const ModelFiles& files, const char* name) {
  const FileTensor* tensor = files.find(name);
  std::vector<double> values;
  if (tensor == nullptr) return values;
  if (tensor->view.dtype != DType::f32 || tensor->view.rank != 1)
    fail("{}: tensor {}: found {}, expected f32 [half the rotary width]", tensor->file.string(), name,
         tensor->view.describe());
  for (std::int64_t i = 0; i < tensor->view.count(); ++i) {
    float value = 0;
    std::memcpy(&value, tensor->view.data + i * 4, 4);
    if (!(value > 0) || !std::isfinite(value))
      fail("{}: tensor {}: element {} is {}, expected above 0", tensor->file.string(), name, i, value);
    values.push_back(value);
  }
  return values;
}

}  // namespace

RopeSpec rope_from_gguf(GgufReader& metadata, const ModelFiles& files, const ModelSpec& spec) {
  RopeSpec rope;
  const auto context = static_cast<double>(spec.context);
  rope.theta = metadata.real("rope.freq_base", 10000);
  const std::int64_t width = metadata.integer("rope.dimension_count", spec.d_head);
  rope.width = width == spec.d_head ? 0 : width < 1 ? -1 : width;
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
    rope.original_context = metadata.real("rope.scaling.original_context_length", context);
    rope.beta_fast = metadata.real("rope.scaling.yarn_beta_fast", 32);
    rope.beta_slow = metadata.real("rope.scaling.yarn_beta_slow", 1);
    // A config's attention_factor, where it had one, is written as the yarn_ key.
    rope.attention_factor = metadata.real("rope.scaling.yarn_attn_factor", yarn_magnitude(rope.factor, 1)) *
                            metadata.real("rope.scaling.attn_factor", 1);
  } else if (type != "none" && type != "longrope") {
    fail("{}: key rope.scaling.type: found '{}', expected none, linear, yarn or longrope", metadata.source(),
         type);
  } else {
    metadata.claim("rope.scaling.factor");
    metadata.claim("rope.scaling.original_context_length");
  }

  // Llama 3.1 and later: the rule is already worked out, frequency i is divided by element i.
  rope.divisors = divisors_of(files, "rope_freqs.weight");
  rope.short_factors = divisors_of(files, "rope_factors_short.weight");
  rope.long_factors = divisors_of(files, "rope_factors_long.weight");
  if (!rope.long_factors.empty()) {
    rope.scaling = RopeScaling::longrope;
    rope.original_context = metadata.real("rope.scaling.original_context_length", context);
    rope.attention_factor = metadata.real("rope.scaling.attn_factor", 1);
  }
  return rope;
}

}  // namespace sonde
