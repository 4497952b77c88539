// The golden models of every family: every hook point of every sequence, both generations of config keys and
// tensor names, GGUF, f32 and bf16, packed and alone, any number of threads.
#include <gtest/gtest.h>
#include <omp.h>

#include <filesystem>
#include <set>

#include "io/json.h"
#include "io/safetensors.h"
#include "kernels/devices.h"
#include "tests/models/activations.h"
#include "tests/models/model_folder.h"
#include "tests/shared_files.h"

namespace sonde::test {
namespace {

namespace fs = std::filesystem;

std::vector<float> floats(const SafetensorsTensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.view.count()));
  std::memcpy(values.data(), tensor.view.data, values.size() * 4);
  return values;
}

// "blocks.2.ln1.hook_scale" -> "ln1.hook_scale", as golden.json lists its tolerances.
std::string without_layer(const std::string& site) {
  if (!site.starts_with("blocks.")) return site;
  return site.substr(site.find('.', 7) + 1);
}

struct Golden {
  explicit Golden(const fs::path& folder)
      : json(read_json(folder / "golden.json")), file(Safetensors::open(folder / "golden.safetensors")) {
    for (const Json& prompt : json["prompts"]) documents.push_back(prompt["ids"].get<Ids>());
  }

  // Every capture is in the golden and agrees; `complete`: nothing of the golden is left out.
  void compare(const std::vector<Activations>& found, Precision precision, const std::string& what,
               bool complete = true) const {
    ASSERT_EQ(found.size(), documents.size());
    std::size_t compared = 0;
    double worst = 0;
    for (std::size_t i = 0; i < documents.size(); ++i) {
      for (const auto& [site, captured] : found[i]) {
        const SafetensorsTensor* tensor = file->find("seq" + std::to_string(i) + "/" + site);
        ASSERT_NE(tensor, nullptr) << site << " is not in the golden";
        const Tensor& view = tensor->view;
        std::vector<float> expected = floats(*tensor);
        const bool scores = site.ends_with("hook_attn_scores") || site.ends_with("hook_pattern");
        if (scores) {
          expected = rows_first(expected, view.dim(0), view.dim(1));
          ASSERT_EQ(captured.row_shape, (std::vector<std::int64_t>{view.dim(0), view.dim(2)})) << site;
        } else {
          ASSERT_EQ(captured.rows, view.dim(0)) << site;
          ASSERT_EQ(captured.row_shape.back(), view.dim(view.rank - 1)) << site;
        }
        const double limit = precision == Precision::f32
                                 ? json["tolerance"]["f32"].get<double>()
                                 : json["tolerance"]["bf16"][without_layer(site)].get<double>();
        ASSERT_GT(limit, 0);
        const double error = relative_error(captured.values, expected);
        EXPECT_LE(error, limit) << what << ", seq" << i << "/" << site;
        worst = std::max(worst, error / limit);
        ++compared;
      }
    }
    std::size_t hooks = 0;
    for (const SafetensorsTensor& tensor : file->tensors())
      hooks += !tensor.name.ends_with("/input_ids") && !tensor.name.ends_with("/greedy");
    if (complete) {
      EXPECT_EQ(compared, hooks);
    }
    EXPECT_GT(compared, hooks / 2);
    ::testing::Test::RecordProperty(what + " worst error over limit", std::to_string(worst));
  }

  Json json;
  std::shared_ptr<Safetensors> file;
  std::vector<Ids> documents;
};

// A folder of links: the given config, and the weights under today's or the old tensor names.
void link_generation(const fs::path& from, const std::string& config, bool classic_names,
                     const fs::path& to) {
  if (classic_names) {
    fs::create_symlink(fs::absolute(from / "model.classic.safetensors"), to / "model.safetensors");
  } else {
    for (const auto& entry : fs::directory_iterator(from)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("model") && name.find("safetensors") != std::string::npos &&
          name != "model.classic.safetensors")
        fs::create_symlink(fs::absolute(entry.path()), to / name);
    }
  }
  fs::create_symlink(fs::absolute(from / config), to / "config.json");
}

struct Source {
  std::string config;  // or the GGUF file
  bool classic_names = false;
};

class GoldenModel : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenModel, EveryHookInF32AndBf16) {
  SONDE_REQUIRE_SHARED(fs::path("golden/models") / GetParam());
  const Golden golden(shared_path);
  const auto backend = make_cpu_backend();
  std::vector<std::vector<Activations>> of_source;
  const bool renamed = fs::exists(shared_path / "model.classic.safetensors");
  for (const auto& [source, classic_names] : {Source{"config.json"}, Source{"config.classic.json"},
                                              Source{"config.classic.json", true}, Source{"model.gguf"}}) {
    if (!fs::exists(shared_path / source) || (classic_names && !renamed)) continue;
    SCOPED_TRACE(source + (classic_names ? ", old tensor names" : ""));
    TempFolder folder;
    fs::path path = shared_path / source;
    if (source != "model.gguf") {
      link_generation(shared_path, source, classic_names, folder.path());
      path = folder.path();
    }
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
      const std::string what =
          std::string(GetParam()) + " " + source + (precision == Precision::f32 ? " f32" : " bf16");
      const Model model = Model::load(path, {.precision = precision, .weights = {}, .ignored = {}}, *backend);
      const auto packed = run_packed(model, *backend, golden.documents);
      golden.compare(packed, precision, what);
      RunOptions outside;  // no hook looks inside norms and attention, so that their fused twins run
      for (const Site site : model.spec.sites())
        if (info(site.hook).cost == Cost::free) outside.sites.push_back(site);
      golden.compare(run_packed(model, *backend, golden.documents, outside), precision, what + " fused",
                     false);
      expect_same_bits(packed, run_alone(model, *backend, golden.documents), what + ", packed and alone");
      const std::vector<Ids> reversed(golden.documents.rbegin(), golden.documents.rend());
      auto backwards = run_packed(model, *backend, reversed);
      std::reverse(backwards.begin(), backwards.end());
      expect_same_bits(packed, backwards, what + ", order of documents");
      if (precision == Precision::f32) of_source.push_back(packed);
    }
  }
  // Both generations of keys describe one model. The GGUF twin holds the same weights; its rope_freqs.weight
  // is rounded to float, so its angles may differ in the last bit.
  for (std::size_t i = 1; i < of_source.size(); ++i) {
    if (!fs::exists(shared_path / "model.gguf")) expect_same_bits(of_source[0], of_source[i], "generations");
    for (std::size_t d = 0; d < golden.documents.size(); ++d)
      for (const char* site :
           {"hook_embed", "blocks.0.attn.hook_q", "blocks.0.attn.hook_k", "blocks.0.attn.hook_v"})
        expect_same_bits(of_source[0][d].at(site), of_source[i][d].at(site), site);
  }
  EXPECT_GE(of_source.size(), 2u);
}

// The same on the CUDA backend's code: f32 by FMA, bf16 with bf16 operands.
TEST_P(GoldenModel, EveryHookOnTheEmulatedGpu) {
  SONDE_REQUIRE_SHARED(fs::path("golden/models") / GetParam());
  const Golden golden(shared_path);
  const auto backend = make_emulated_backend();
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    const std::string what = std::string(GetParam()) + (precision == Precision::f32 ? " f32" : " bf16");
    const Model model =
        Model::load(shared_path, {.precision = precision, .weights = {}, .ignored = {}}, *backend);
    golden.compare(run_packed(model, *backend, golden.documents), precision, what);
    RunOptions outside;
    for (const Site site : model.spec.sites())
      if (info(site.hook).cost == Cost::free) outside.sites.push_back(site);
    golden.compare(run_packed(model, *backend, golden.documents, outside), precision, what + " fused", false);
  }
}

TEST_P(GoldenModel, SameBitsForAnyNumberOfThreads) {
  SONDE_REQUIRE_SHARED(fs::path("golden/models") / GetParam());
  const Golden golden(shared_path);
  const int before = omp_get_max_threads();
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    std::vector<std::vector<Activations>> runs;
    for (const int threads : {1, 2, 3}) {
      omp_set_num_threads(threads);
      const auto backend = make_cpu_backend();
      const Model model =
          Model::load(shared_path, {.precision = precision, .weights = {}, .ignored = {}}, *backend);
      runs.push_back(run_packed(model, *backend, golden.documents));
    }
    omp_set_num_threads(before);
    expect_same_bits(runs[0], runs[1], "1 and 2 threads");
    expect_same_bits(runs[0], runs[2], "1 and 3 threads");
  }
}

const char* const kFolders[] = {"llama",       "llama_f16",        "llama_sharded_bf16",
                                "llama_rope3", "llama_mha_bias",   "llama_linear_rope",
                                "llama_yarn",  "mistral",          "qwen2",
                                "qwen3",       "gemma2",           "gemma3_text",
                                "gpt2",        "gpt_neox",         "gpt_neox_seq",
                                "gguf_llama",  "gguf_llama_rope3", "gguf_gemma3"};

INSTANTIATE_TEST_SUITE_P(Families, GoldenModel, ::testing::ValuesIn(kFolders),
                         [](const auto& p) { return std::string(p.param); });

// A folder added to the shared goldens is tested without anyone having to remember it.
TEST(GoldenModels, EveryFolderIsOnTheList) {
  SONDE_REQUIRE_SHARED("golden/models");
  std::set<std::string> folders;
  for (const auto& entry : fs::directory_iterator(shared_path))
    if (entry.is_directory()) folders.insert(entry.path().filename().string());
  EXPECT_EQ(folders, std::set<std::string>(std::begin(kFolders), std::end(kFolders)));
}

}  // namespace
}  // namespace sonde::test
