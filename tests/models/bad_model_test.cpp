// Model folders that lie: one Error each, whose text names the file, what was found and what was expected.
#include <gmock/gmock.h>

#include <limits>

#include "models/family.h"
#include "runtime/error.h"
#include "tests/models/activations.h"
#include "tests/models/model_folder.h"

namespace sonde {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Folder {
  Json config = test::config_of(test::TinyLlama{});
  test::StoredTensors tensors = test::stored_weights(test::TinyLlama{}, 3);
};

std::string message(const Folder& folder, const IgnoredKeys& ignored = {}) {
  const test::TempFolder dir;
  test::write_model(dir.path(), folder.config, folder.tensors);
  LoadOptions options;
  options.ignored = ignored;
  try {
    Model::load(dir.path(), options, *make_cpu_backend());
  } catch (const Error& error) {
    return std::string(error.what()) + ". HINT: " + error.hint();
  }
  return "loaded";
}

TEST(BadModel, AGoodOneLoads) { EXPECT_EQ(message({}), "loaded"); }

TEST(BadModel, UnknownKeysStopTheLoadUnlessIgnored) {
  Folder f;
  f.config["attention_multiplier"] = 0.5;
  EXPECT_THAT(message(f), AllOf(HasSubstr("config.json"), HasSubstr("attention_multiplier"), HasSubstr("0.5"),
                                HasSubstr("--ignore-config-key")));
  EXPECT_EQ(message(f, {{"attention_multiplier"}}), "loaded");
  f.config["rope_parameters"]["alpha"] = 2;
  EXPECT_THAT(message(f, {{"attention_multiplier"}}), HasSubstr("rope_parameters.alpha"));
}

TEST(BadModel, ConfigsThatCannotBe) {
  const auto with = [](const char* key, Json value) {
    Folder f;
    f.config[key] = std::move(value);
    return message(f);
  };
  EXPECT_THAT(with("model_type", "mamba"),
              AllOf(HasSubstr("model_type"), HasSubstr("'mamba'"), HasSubstr("llama")));
  EXPECT_THAT(with("num_key_value_heads", 3), AllOf(HasSubstr("n_heads 4"), HasSubstr("n_kv_heads 3")));
  EXPECT_THAT(with("head_dim", 5), HasSubstr("d_head: found 5"));
  EXPECT_THAT(with("hidden_act", "gelu"),
              AllOf(HasSubstr("hidden_act"), HasSubstr("'gelu'"), HasSubstr("silu")));
  EXPECT_THAT(with("hidden_size", std::int64_t{1} << 40), HasSubstr("d_model"));
  EXPECT_THAT(with("num_hidden_layers", -1), HasSubstr("n_layers: found -1"));
  EXPECT_THAT(with("num_hidden_layers", "two"),
              AllOf(HasSubstr("num_hidden_layers"), HasSubstr("an integer")));
  EXPECT_THAT(with("rope_parameters", Json{{"rope_type", "spiral"}}),
              AllOf(HasSubstr("rope_type"), HasSubstr("'spiral'")));
  EXPECT_THAT(with("rope_parameters", Json{{"rope_type", "linear"}}),
              AllOf(HasSubstr("factor"), HasSubstr("a number")));
  EXPECT_THAT(with("quantization_config", Json{{"bits", 4}}), HasSubstr("quantization_config"));
}

TEST(BadModel, NullMeansTheDefault) {
  Folder f;
  f.config["head_dim"] = nullptr;  // width / heads = 6, as these weights have it
  f.config["rope_scaling"] = nullptr;
  EXPECT_EQ(message(f), "loaded");
}

TEST(BadModel, TensorsThatAreMissingTooManyOrWrong) {
  const std::string down = "model.layers.1.mlp.down_proj.weight";
  Folder missing;
  missing.tensors.erase(down);
  EXPECT_THAT(message(missing), AllOf(HasSubstr(down), HasSubstr("missing")));
  Folder extra;
  extra.tensors["model.layers.1.mlp.down_proj.bias"] = test::stored_f32({2}, {1, 2});
  EXPECT_THAT(message(extra), AllOf(HasSubstr("down_proj.bias"), HasSubstr("not part of this model")));
  Folder wrong;
  wrong.tensors[down].shape = {40, 24};
  EXPECT_THAT(message(wrong), AllOf(HasSubstr(down), HasSubstr("[40, 24]"), HasSubstr("[24, 40]")));
  Folder integers;
  integers.tensors[down].dtype = "I32";
  EXPECT_THAT(message(integers), AllOf(HasSubstr(down), HasSubstr("i32")));
}

TEST(BadModel, NanAndInfinityInWeightsAreFound) {
  for (const std::string name :
       {"model.layers.0.self_attn.k_proj.weight", "model.embed_tokens.weight", "model.norm.weight"})
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
      Folder f;
      std::memcpy(f.tensors[name].bytes.data() + 4 * 7, &bad, 4);
      EXPECT_THAT(message(f), AllOf(HasSubstr(name), HasSubstr("element 7")));
    }
}

}  // namespace
}  // namespace sonde
