// SmolLM2-135M-Instruct and Gemma 3 270M from their GGUF files against the float64 forward and Hugging Face's
// float32.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <numeric>

#include "io/hash.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "models/fake_quantise.h"
#include "models/generator.h"
#include "tests/models/activations.h"
#include "tests/models/smollm2.h"
#include "tests/shared_files.h"

namespace sonde::test {
namespace {

namespace fs = std::filesystem;

struct RealModel {
  const char* golden;  // name of its files in golden/real
  const char* file;
  const char* environment;  // a path of its own
  const char* fetch;        // the argument of scripts/get_model.sh
  std::size_t prompts;
  std::vector<int> outlier_dimensions;  // which hide the others in a relative error
};
const RealModel kSmolLm2 = {
    "SmolLM2-135M-Instruct",     "SmolLM2-135M-Instruct.Q4_1.gguf", "SONDE_SMOLLM2_GGUF", "smollm2", 6,
    {507, 247, 17, 199, 14, 100}};
const RealModel kGemma3 = {"gemma-3-270m",
                           "gemma-3-270m-q4_k_m.gguf",
                           "SONDE_GEMMA3_GGUF",
                           "gemma3-270m",
                           7,
                           {163, 400, 87, 97, 129, 639, 558}};
void PrintTo(const RealModel& model, std::ostream* out) { *out << model.golden; }

// The path from the environment, or the cache folder that scripts/get_model.sh fills.
fs::path gguf_path(const RealModel& model) {
  if (const char* path = std::getenv(model.environment)) return path;
  return smollm2_file().parent_path() / model.file;
}

#define SONDE_REQUIRE_MODEL(model)                                                                          \
  SONDE_REQUIRE_SHARED("golden/real");                                                                      \
  if (kSanitized) GTEST_SKIP() << "a real model is too slow under a sanitizer";                             \
  if (!fs::exists(gguf_path(model)))                                                                        \
  GTEST_SKIP() << "no model at " << gguf_path(model).string() << " (scripts/get_model.sh " << (model).fetch \
               << " fetches it, or set " << (model).environment << ")"

// Any real tensor of a golden, as double.
std::vector<double> values(const Safetensors& file, const std::string& name) {
  const SafetensorsTensor* tensor = file.find(name);
  if (tensor == nullptr) throw std::runtime_error("no golden " + name);
  std::vector<double> result;
  for (std::int64_t i = 0; i < tensor->view.count(); ++i) {
    if (tensor->view.dtype == DType::f64) {
      double x = 0;
      std::memcpy(&x, tensor->view.data + 8 * i, 8);
      result.push_back(x);
    } else if (tensor->view.dtype == DType::f32) {
      float x = 0;
      std::memcpy(&x, tensor->view.data + 4 * i, 4);
      result.push_back(x);
    } else {
      std::int32_t x = 0;
      std::memcpy(&x, tensor->view.data + 4 * i, 4);
      result.push_back(x);
    }
  }
  return result;
}

std::vector<float> last_rows(const Captured& c, std::int64_t n) {
  const auto width = static_cast<std::ptrdiff_t>(c.values.size()) / c.rows;
  return {c.values.end() - n * width, c.values.end()};
}

std::vector<float> row_norms(const Captured& c) {
  const std::size_t width = c.values.size() / static_cast<std::size_t>(c.rows);
  std::vector<float> norms;
  for (std::size_t t = 0; t < static_cast<std::size_t>(c.rows); ++t) {
    double squares = 0;
    for (std::size_t i = 0; i < width; ++i)
      squares += static_cast<double>(c.values[t * width + i]) * c.values[t * width + i];
    norms.push_back(static_cast<float>(std::sqrt(squares)));
  }
  return norms;
}

// log p(ids[t + 1]), the softmax summed in double.
std::vector<double> log_probs(const Captured& logits, const Ids& ids) {
  const std::size_t vocab = logits.values.size() / static_cast<std::size_t>(logits.rows);
  std::vector<double> result;
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
    const float* row = logits.values.data() + t * vocab;
    const double most = *std::max_element(row, row + vocab);
    double sum = 0;
    for (std::size_t v = 0; v < vocab; ++v) sum += std::exp(row[v] - most);
    result.push_back(row[ids[t + 1]] - most - std::log(sum));
  }
  return result;
}

// The golden README's suggested limits.
struct Limits {
  double first, middle, last, without_outliers, final_norm, norms, embed_norms, top20, log_prob,
      mean_log_prob;
};
constexpr Limits kF32 = {1e-5, 1e-5, 1e-5, 2e-5, 1e-5, 1e-5, 1e-6, 1e-5, 3e-4, 1e-5};
constexpr Limits kBf16 = {3e-2, 4e-2, 5e-2, 1, 5e-2, 4e-2, 5e-3, 3e-2, 1, 3e-2};

// Rows [n, D] without some of their columns.
template <class T>
std::vector<T> without(const std::vector<T>& rows, std::size_t n, const std::vector<int>& columns) {
  std::vector<T> kept;
  const std::size_t width = rows.size() / n;
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (std::ranges::find(columns, static_cast<int>(i % width)) == columns.end()) kept.push_back(rows[i]);
  return kept;
}

void check_prompt(const RealModel& model, const std::vector<int>& layers_compared, const std::string& prompt,
                  const Safetensors& golden, const Activations& found, const Ids& ids, const Limits& limits,
                  bool f32) {
  SCOPED_TRACE(prompt);
  const auto layers = [&](const std::string& item, const std::vector<float>& ours, double limit) {
    for (const std::string suffix : {".f64", ""})
      EXPECT_LE(relative_error(ours, values(golden, prompt + "." + item + suffix)), limit) << item << suffix;
  };
  const double of_layer[] = {limits.first, limits.middle, limits.last};
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string site = "blocks." + std::to_string(layers_compared.at(i)) + ".hook_resid_post";
    const std::vector<float> ours = last_rows(found.at(site), 4);
    layers(site + ".last4", ours, of_layer[i]);
    EXPECT_LE(relative_error(
                  without(ours, 4, model.outlier_dimensions),
                  without(values(golden, prompt + "." + site + ".last4.f64"), 4, model.outlier_dimensions)),
              limits.without_outliers)
        << site << " without its outlier dimensions";
  }
  layers("ln_final.hook_out.last4", last_rows(found.at("ln_final.hook_out"), 4), limits.final_norm);
  std::vector<float> norms;
  for (int l = 0; l <= layers_compared.back(); ++l) {
    const auto of_block = row_norms(found.at("blocks." + std::to_string(l) + ".hook_resid_post"));
    norms.insert(norms.end(), of_block.begin(), of_block.end());
  }
  layers("resid_post_norms", norms, limits.norms);
  layers("embed_norms", row_norms(found.at("hook_embed")), limits.embed_norms);

  const Captured& logits = found.at("logits");
  const std::vector<float> last = last_rows(logits, 1);
  std::vector<std::int32_t> order(last.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + 20, order.end(), [&](auto a, auto b) {
    return last[static_cast<std::size_t>(a)] > last[static_cast<std::size_t>(b)];
  });
  const std::vector<double> top_ids = values(golden, prompt + ".top20_ids");
  std::vector<float> top_logits;
  for (std::size_t i = 0; i < 20; ++i) {
    if (f32) {
      EXPECT_EQ(order[i], static_cast<std::int32_t>(top_ids[i])) << "top-20 place " << i;
    }
    top_logits.push_back(last[static_cast<std::size_t>(top_ids[i])]);
  }
  layers("top20_logits", top_logits, limits.top20);

  const std::vector<double> ours = log_probs(logits, ids);
  for (const std::string suffix : {".f64", ""}) {
    const std::vector<double> theirs = values(golden, prompt + ".token_log_probs" + suffix);
    ASSERT_EQ(ours.size(), theirs.size());
    double worst = 0, mean = 0;
    for (std::size_t t = 0; t < ours.size(); ++t) {
      worst = std::max(worst, std::abs(ours[t] - theirs[t]));
      mean += (ours[t] - theirs[t]) / static_cast<double>(ours.size());
    }
    EXPECT_LE(worst, limits.log_prob) << "token_log_probs" << suffix;
    EXPECT_LE(std::abs(mean), limits.mean_log_prob) << "mean log-prob" << suffix;
  }
}

void check_all_prompts(const RealModel& real, const fs::path& shared, Precision precision) {
  const auto golden = Safetensors::open(shared / (std::string(real.golden) + ".safetensors"));
  const Json about = read_json(shared / (std::string(real.golden) + ".json"));
  const auto backend = make_cpu_backend();
  const Model model =
      Model::load(gguf_path(real), {.precision = precision, .weights = {}, .ignored = {}}, *backend);
  RunOptions options;
  options.sites = match_sites("hook_embed,blocks.*.hook_resid_post,ln_final.hook_out,logits",
                              model.spec.sites(), static_cast<int>(model.spec.n_layers));
  std::size_t prompts = 0;
  for (const auto& [prompt, ignored] : about["prompts"].items()) {
    Ids ids;
    for (double id : values(*golden, prompt + ".ids")) ids.push_back(static_cast<std::int32_t>(id));
    ++prompts;
    // The kernels of bf16 are not another model: the short prompts show them, all of them with SONDE_LONG.
    if (precision == Precision::bf16 && ids.size() > 100 && !std::getenv("SONDE_LONG")) continue;
    const auto found = run_packed(model, *backend, {ids}, options);
    check_prompt(real, about["resid_layers"].get<std::vector<int>>(), prompt, *golden, found[0], ids,
                 precision == Precision::f32 ? kF32 : kBf16, precision == Precision::f32);
  }
  EXPECT_EQ(prompts, real.prompts);
}

class RealModelTest : public ::testing::TestWithParam<RealModel> {};
INSTANTIATE_TEST_SUITE_P(Real, RealModelTest, ::testing::Values(kSmolLm2, kGemma3), [](const auto& p) {
  return std::string(p.param.fetch) == "smollm2" ? "SmolLM2" : "Gemma3";
});

TEST_P(RealModelTest, EveryPromptInF32) {
  SONDE_REQUIRE_MODEL(GetParam());
  check_all_prompts(GetParam(), shared_path, Precision::f32);
}

TEST_P(RealModelTest, EveryPromptInBf16) {
  SONDE_REQUIRE_MODEL(GetParam());
  check_all_prompts(GetParam(), shared_path, Precision::bf16);
}

// All prompts at once, from the cache, id for id; with weights expanded beforehand and panel by panel.
TEST_P(RealModelTest, GreedyContinuationsOfEveryPrompt) {
  SONDE_REQUIRE_MODEL(GetParam());
  const auto golden = Safetensors::open(shared_path / (std::string(GetParam().golden) + ".safetensors"));
  const Json about = read_json(shared_path / (std::string(GetParam().golden) + ".json"));
  std::vector<std::string> names;
  std::vector<Ids> prompts;
  for (const auto& [prompt, ignored] : about["prompts"].items()) {
    names.push_back(prompt);
    prompts.emplace_back();
    for (double id : values(*golden, prompt + ".ids"))
      prompts.back().push_back(static_cast<std::int32_t>(id));
  }
  const auto backend = make_cpu_backend();
  const Model model = Model::load(gguf_path(GetParam()), {}, *backend);
  GenerateOptions options;
  options.sampling.greedy = true;
  options.max_new = 24;
  Generator generator(model, *backend, options, {});
  generator.run(
      prompts, [](std::size_t, std::span<const std::int32_t>) { return false; },
      [&](std::size_t i, const Generated& generated) {
        Ids expected;
        for (double id : values(*golden, names[i] + ".greedy_ids"))
          expected.push_back(static_cast<std::int32_t>(id));
        EXPECT_EQ(generated.ids, expected) << names[i];
      });
}

TEST_P(RealModelTest, QuantisedInMemoryGivesTheSameBits) {
  SONDE_REQUIRE_MODEL(GetParam());
  const auto golden = Safetensors::open(shared_path / (std::string(GetParam().golden) + ".safetensors"));
  Ids ids;
  for (double id : values(*golden, "short.ids")) ids.push_back(static_cast<std::int32_t>(id));
  const auto backend = make_cpu_backend();
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    std::vector<std::vector<Activations>> found;
    std::vector<std::int64_t> bytes;
    for (const WeightsInMemory in_memory : {WeightsInMemory::prepared, WeightsInMemory::quantised}) {
      const Model model = Model::load(
          gguf_path(GetParam()),
          {.precision = precision, .weights = {}, .in_memory = in_memory, .ignored = {}}, *backend);
      bytes.push_back(model.weight_bytes());
      RunOptions options;
      options.sites = match_sites("blocks.*.hook_resid_post,logits", model.spec.sites(),
                                  static_cast<int>(model.spec.n_layers));
      found.push_back(run_packed(model, *backend, {ids}, options));
    }
    expect_same_bits(found[0], found[1], "prepared and quantised");
    EXPECT_LT(bytes[1], static_cast<std::int64_t>(fs::file_size(gguf_path(GetParam())) * 11 / 10));
    EXPECT_LT(bytes[1], bytes[0]);
  }
}

std::string dequantised_sha256(Backend& backend, const Tensor& view,
                               WeightFormat format = WeightFormat::as_stored) {
  const OwnedTensor out = make_tensor(DType::f32, {view.rows(), view.count() / view.rows()});
  backend.dequantise(out.view, view);
  fake_quantise(out.view, format);
  return sha256_hex(std::as_bytes(std::span(out.view.f32(), static_cast<std::size_t>(view.count()))));
}

TEST_P(RealModelTest, DequantisedTensorsAreBitEqual) {
  SONDE_REQUIRE_MODEL(GetParam());
  const Json expected =
      read_json(shared_path / (std::string(GetParam().golden) + "_tensors.json"))["tensors"];
  const ModelFiles files = ModelFiles::open(gguf_path(GetParam()));
  const auto backend = make_cpu_backend();
  EXPECT_EQ(files.tensors().size(), expected.size());
  for (const FileTensor& tensor : files.tensors()) {
    ASSERT_TRUE(expected.contains(tensor.name)) << tensor.name;
    std::vector<std::int64_t> shape(tensor.view.shape.begin(), tensor.view.shape.begin() + tensor.view.rank);
    EXPECT_EQ(shape, expected[tensor.name]["shape"].get<std::vector<std::int64_t>>()) << tensor.name;
    EXPECT_EQ(dequantised_sha256(*backend, tensor.view),
              expected[tensor.name]["sha256_f32"].get<std::string>())
        << tensor.name;
  }
}

// The ablations' weights: exact ties, division by the scale, all in float32.
TEST(SmolLM2, FakeQuantisedWeightsAreBitEqual) {
  SONDE_REQUIRE_MODEL(kSmolLm2);
  const fs::path path = shared_dir() / "data/concept_depth/curves_ablations.json";
  if (!fs::exists(path)) GTEST_SKIP() << "reference data not here: " << path;
  const Json expected = read_json(path)["quantised_weights"];
  const ModelFiles files = ModelFiles::open(gguf_path(kSmolLm2));
  const auto backend = make_cpu_backend();
  int compared = 0;
  for (const auto& [tensor, formats] : expected.items())
    for (const auto& [format, values_of_format] : formats.items()) {
      const FileTensor* found = files.find(tensor);
      if (found == nullptr || !values_of_format.contains("sha256_f32")) continue;
      EXPECT_EQ(dequantised_sha256(*backend, found->view, parse_weight_format(format)),
                values_of_format["sha256_f32"].get<std::string>())
          << tensor << " " << format;
      ++compared;
    }
  EXPECT_EQ(compared, 4);
}

}  // namespace
}  // namespace sonde::test
