// Model files that cannot be right: one line that names file, key or tensor, what was found and what was
// expected.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <limits>

#include "models/end_tokens.h"
#include "runtime/error.h"
#include "tests/models/activations.h"
#include "tests/models/gguf_file.h"
#include "tests/models/model_folder.h"
#include "tests/shared_files.h"

namespace sonde::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Matcher;
using ::testing::Not;

class BadModel : public ::testing::Test {
 protected:
  BadModel() : config(config_of({})), tensors(stored_weights({}, 3)), backend(make_cpu_backend()) {}

  // The error of loading the folder as it now stands, or "" where it loads.
  std::string load(const IgnoredKeys& ignored = {}) {
    write_model(folder.path(), config, tensors);
    return load_path(folder.path(), ignored);
  }
  std::string load_path(const fs::path& path, const IgnoredKeys& ignored = {}) {
    hint.clear();
    try {
      Model::load(path, {.precision = Precision::f32, .weights = {}, .ignored = ignored}, *backend);
    } catch (const Error& error) {
      hint = error.hint();
      EXPECT_THAT(std::string(error.what()), Not(HasSubstr("\n")));
      EXPECT_THAT(std::string(error.what()), HasSubstr(folder.path().filename().string())) << "names no file";
      return error.what();
    }
    return "";
  }
  std::string load_with(const std::string& key, const Json& value) {
    const Json before = config;
    config[key] = value;
    const std::string message = load();
    config = before;
    return message;
  }
  void expect_named(const std::string& key, const Json& value,
                    const Matcher<std::string>& also = HasSubstr("")) {
    const std::string message = load_with(key, value);
    EXPECT_THAT(message, AllOf(HasSubstr("config.json"), HasSubstr(key), HasSubstr("expected"), also))
        << key << ": " << value;
  }

  TempFolder folder;
  Json config;
  StoredTensors tensors;
  std::unique_ptr<Backend> backend;
  std::string hint;
};

TEST_F(BadModel, TheFolderItselfIsGood) { EXPECT_EQ(load(), ""); }

TEST_F(BadModel, UnknownArchitecture) {
  EXPECT_THAT(load_with("model_type", "grok"),
              AllOf(HasSubstr("model_type"), HasSubstr("'grok'"), HasSubstr("llama")));
  EXPECT_THAT(load_with("model_type", nullptr),
              AllOf(HasSubstr("model_type"), HasSubstr("expected a string")));
  config.erase("model_type");
  EXPECT_THAT(load(), AllOf(HasSubstr("model_type"), HasSubstr("nothing")));
}

TEST_F(BadModel, UnclaimedKeysStopTheLoadUnlessIgnored) {
  config["attention_sink_tokens"] = 4;
  EXPECT_THAT(load(), AllOf(HasSubstr("config.json"), HasSubstr("attention_sink_tokens"), HasSubstr("4")));
  EXPECT_THAT(hint, HasSubstr("--ignore-config-key attention_sink_tokens"));
  EXPECT_EQ(load({{"attention_sink_tokens"}}), "");
  EXPECT_THAT(load({{"something_else"}}), HasSubstr("attention_sink_tokens"));
  config.erase("attention_sink_tokens");

  // Inside the rope rule, under the name that the hint gives.
  config["rope_parameters"]["twist"] = 2;
  EXPECT_THAT(load(), HasSubstr("rope_parameters.twist"));
  EXPECT_THAT(hint, HasSubstr("--ignore-config-key rope_parameters.twist"));
  EXPECT_EQ(load({{"rope_parameters.twist"}}), "");
  // What a rule does not read is no part of it.
  config["rope_parameters"] = {{"rope_type", "default"}, {"factor", 8.0}};
  EXPECT_THAT(load(), HasSubstr("rope_parameters.factor"));
}

TEST_F(BadModel, KeysThatChangeTheMathsAreNotHarmless) {
  for (const char* key : {"quantization_config", "sliding_window", "partial_rotary_factor", "logit_scale",
                          "embedding_multiplier", "num_local_experts", "qk_norm"})
    EXPECT_THAT(load_with(key, 0.5), HasSubstr(key));
  EXPECT_EQ(load_with("transformers_version", "9.9"), "");
  EXPECT_EQ(load_with("_name_or_path", "somewhere"), "");
}

TEST_F(BadModel, ConfigValues) {
  expect_named("hidden_act", "swish_squared", HasSubstr("gelu"));
  expect_named("hidden_size", "24");
  expect_named("hidden_size", 24.5);
  expect_named("hidden_size", nullptr);
  expect_named("num_hidden_layers", Json::array({2}));
  expect_named("attention_bias", 1, HasSubstr("true or false"));
  expect_named("rms_norm_eps", "small");
  expect_named("vocab_size", std::numeric_limits<std::uint64_t>::max());
  expect_named("rope_parameters", "yarn");
  expect_named("hidden_size", true);
}

TEST_F(BadModel, SizesThatCannotBe) {
  const auto expect_refused = [&](const std::string& key, const Json& value, const std::string& field,
                                  const std::string& found) {
    EXPECT_THAT(load_with(key, value), AllOf(HasSubstr(field), HasSubstr(found), HasSubstr("expected")));
  };
  const std::int64_t absurd = std::int64_t{1} << 40;
  for (const auto& [key, field] :
       std::map<std::string, std::string>{{"num_hidden_layers", "n_layers"},
                                          {"hidden_size", "d_model"},
                                          {"num_attention_heads", "n_heads"},
                                          {"num_key_value_heads", "n_kv_heads"},
                                          {"head_dim", "d_head"},
                                          {"intermediate_size", "d_mlp"},
                                          {"vocab_size", "vocab"},
                                          {"max_position_embeddings", "context"}}) {
    for (const std::int64_t bad : {absurd, std::int64_t{0}, std::int64_t{-3}})
      expect_refused(key, bad, field, std::to_string(bad));
  }
  expect_refused("head_dim", 7, "d_head", "7");
  expect_refused("rms_norm_eps", -1.0, "norm_eps", "-1");
  // Each is possible, their product is not.
  config["num_attention_heads"] = 1 << 20;
  config["num_key_value_heads"] = 1 << 20;
  config["head_dim"] = 1 << 20;
  EXPECT_THAT(load(), AllOf(HasSubstr("n_heads * d_head"), HasSubstr("expected")));
}

TEST_F(BadModel, HeadsThatDoNotGroup) {
  config["num_key_value_heads"] = 3;
  EXPECT_THAT(load(), AllOf(HasSubstr("n_heads 4"), HasSubstr("n_kv_heads 3")));
}

TEST_F(BadModel, RopeRules) {
  const auto rope = [&](const Json& rule) { return load_with("rope_parameters", rule); };
  EXPECT_THAT(rope({{"rope_type", "spiral"}}),
              AllOf(HasSubstr("rope_type"), HasSubstr("'spiral'"), HasSubstr("llama3")));
  EXPECT_THAT(rope({{"rope_type", "linear"}}),
              AllOf(HasSubstr("rope_parameters.factor"), HasSubstr("a number")));
  EXPECT_THAT(rope({{"rope_type", "linear"}, {"factor", 0}}),
              AllOf(HasSubstr("factor"), HasSubstr("above 0")));
  EXPECT_THAT(rope({{"rope_type", "llama3"}, {"factor", 8}, {"high_freq_factor", 4}}),
              HasSubstr("low_freq_factor"));
  EXPECT_THAT(rope({{"rope_type", "yarn"}, {"factor", 8}, {"beta_fast", 0}}), HasSubstr("beta_fast"));
  EXPECT_THAT(rope({{"rope_type", "yarn"}, {"factor", 8}, {"original_max_position_embeddings", -1}}),
              HasSubstr("original_max_position_embeddings"));
  EXPECT_THAT(rope({{"rope_type", "default"}, {"rope_theta", -5}}), HasSubstr("rope_theta"));
  EXPECT_THAT(rope({{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}),
              HasSubstr("partial_rotary_factor"));
}

TEST_F(BadModel, NullKeysMeanTheirDefaults) {
  config["head_dim"] = nullptr;  // 24 / 4, which the file has
  EXPECT_EQ(load(), "");
  config["rope_scaling"] = nullptr;
  config["original_max_position_embeddings"] = nullptr;
  config["hidden_act"] = nullptr;
  EXPECT_EQ(load(), "");
  config["num_key_value_heads"] = nullptr;  // then K = H, which the file has not
  EXPECT_THAT(load(), AllOf(HasSubstr("k_proj.weight"), HasSubstr("[12, 24]"), HasSubstr("[24, 24]")));
}

TEST_F(BadModel, MissingAndExtraTensors) {
  const std::string gone = "model.layers.1.mlp.up_proj.weight";
  const StoredTensor kept = tensors[gone];
  tensors.erase(gone);
  EXPECT_THAT(load(), AllOf(HasSubstr(gone), HasSubstr("missing")));
  tensors[gone] = kept;
  for (const char* extra : {"model.layers.1.self_attn.q_proj.bias", "model.layers.2.mlp.up_proj.weight",
                            "model.layers.0.self_attn.q_norm.weight", "rope_freqs.weight", "score.weight"}) {
    tensors[extra] = kept;
    EXPECT_THAT(load(), AllOf(HasSubstr(extra), HasSubstr("model.safetensors"))) << extra;
    tensors.erase(extra);
  }
  // Buffers that nothing reads are no error.
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = stored_f32({3}, {1, 2, 3});
  EXPECT_EQ(load(), "");
}

// A line of config can ask for millions of rows: the first that the files lack ends it, before memory is
// spent.
TEST_F(BadModel, LayersAndExpertsThatNoFileHolds) {
  EXPECT_THAT(load_with("num_hidden_layers", 10000),
              HasSubstr("model.layers.2.input_layernorm.weight is missing"));
  config["model_type"] = "mixtral";
  for (const char* key : {"attention_bias", "mlp_bias"}) config.erase(key);
  config["num_local_experts"] = 60000;
  config["num_hidden_layers"] = 40;
  const std::clock_t start = std::clock();
  EXPECT_THAT(load(), HasSubstr("model.layers.0.block_sparse_moe"));
  EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, 1.0);
}

TEST_F(BadModel, EndTokens) {
  const auto refused = [&](const Json& ids) {
    config["eos_token_id"] = ids;
    write_model(folder.path(), config, tensors);
    try {
      end_tokens(ModelFiles::open(folder.path()));
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  for (const Json& good : {Json(2), Json(-1), Json({1, 2}), Json(nullptr)})
    EXPECT_EQ(refused(good), "") << good;
  for (const Json& bad : {Json(std::int64_t{1} << 32), Json("2"), Json(-2), Json(1.5)})
    EXPECT_THAT(refused(bad), AllOf(HasSubstr("config.json: key eos_token_id: found " + bad.dump()))) << bad;
}

TEST_F(BadModel, ATiedModelMayRepeatItsHead) {
  config["tie_word_embeddings"] = true;
  EXPECT_EQ(load(), "");
  tensors.erase("lm_head.weight");
  EXPECT_EQ(load(), "");
  config["tie_word_embeddings"] = false;
  EXPECT_THAT(load(), AllOf(HasSubstr("lm_head.weight"), HasSubstr("missing")));
}

TEST_F(BadModel, ShapesAndDtypes) {
  StoredTensor& q = tensors["model.layers.0.self_attn.q_proj.weight"];
  q.shape = {12, 48};
  EXPECT_THAT(load(), AllOf(HasSubstr("model.safetensors"), HasSubstr("q_proj.weight"), HasSubstr("[12, 48]"),
                            HasSubstr("[24, 24]")));
  q.shape = {24 * 24};
  EXPECT_THAT(load(), AllOf(HasSubstr("[576]"), HasSubstr("[24, 24]")));
  q.shape = {24, 24};
  q.dtype = "I32";
  EXPECT_THAT(load(), AllOf(HasSubstr("q_proj.weight"), HasSubstr("i32"), HasSubstr("float")));
}

TEST_F(BadModel, ValuesThatAreNoNumbers) {
  const auto poison = [&](const std::string& name, std::size_t element, float value) {
    const StoredTensor before = tensors[name];
    std::memcpy(tensors[name].bytes.data() + 4 * element, &value, 4);
    const std::string message = load();
    tensors[name] = before;
    return message;
  };
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const auto& [name, tensor] : StoredTensors(tensors)) {
    const std::size_t last = tensor.bytes.size() / 4 - 1;
    EXPECT_THAT(poison(name, last, nan),
                AllOf(HasSubstr(name), HasSubstr("nan"), HasSubstr(std::to_string(last))));
  }
  EXPECT_THAT(poison("model.embed_tokens.weight", 5, inf),
              AllOf(HasSubstr("embed_tokens"), HasSubstr("element 5"), HasSubstr("inf")));
  EXPECT_THAT(poison("model.norm.weight", 0, -inf), HasSubstr("model.norm.weight"));
  // Beyond float32's range in a wider file.
  std::string bytes(8 * 24, '\0');
  const double wide = 1e300;
  std::memcpy(bytes.data(), &wide, 8);
  tensors["model.norm.weight"] = {"F64", {24}, bytes};
  EXPECT_THAT(load(), AllOf(HasSubstr("model.norm.weight"), HasSubstr("inf")));
}

// A GGUF file with one run of bytes changed in place.
TEST_F(BadModel, Gguf) {
  SONDE_REQUIRE_SHARED("golden/models/gguf_llama/model.gguf");
  std::ifstream in(shared_path, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const fs::path path = folder.path() / "model.gguf";
  const auto changed = [&](const std::string& from, const std::string& to) {
    EXPECT_EQ(from.size(), to.size());
    std::string bytes = good;
    for (std::size_t at = bytes.find(from); at != std::string::npos; at = bytes.find(from, at + 1))
      bytes.replace(at, from.size(), to);
    EXPECT_NE(bytes, good) << from;
    write_text(path, bytes);
    return load_path(path);
  };
  write_text(path, good);
  EXPECT_EQ(load_path(path), "");
  EXPECT_THAT(changed("llama.block_count", "llama.black_count"), HasSubstr("llama.block_count"));
  EXPECT_THAT(changed("llama.feed_forward_length", "llama.feed_backward_lengt"),
              HasSubstr("llama.feed_backward_lengt"));
  EXPECT_THAT(changed("blk.1.attn_k.weight", "blk.1.attn_x.weight"), HasSubstr("blk.1.attn_k.weight"));
  EXPECT_THAT(changed("token_embd.weight", "token_embx.weight"), HasSubstr("token_embd.weight"));
  std::string bytes = good;
  const std::size_t at = bytes.find("general.architecture") + 20 + 4 + 8;  // key, type, length
  ASSERT_EQ(bytes.substr(at, 5), "llama");
  write_text(path, bytes.replace(at, 5, "grok9"));
  EXPECT_THAT(load_path(path),
              AllOf(HasSubstr("general.architecture"), HasSubstr("'grok9'"), HasSubstr("llama")));
}

// Some families have no GGUF name; "" is none.
TEST_F(BadModel, GgufOfNoArchitecture) {
  const fs::path path = folder.path() / "model.gguf";
  GgufFile{.metadata = {{"general.architecture", std::string()}}, .tensors = {}}.write(path);
  EXPECT_THAT(load_path(path), AllOf(HasSubstr("general.architecture"), HasSubstr("''"), HasSubstr("llama")));
}

}  // namespace
}  // namespace sonde::test
