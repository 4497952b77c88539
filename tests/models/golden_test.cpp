// The golden models of every family: every hook point of every sequence, both generations of config keys and
// tensor names, GGUF, f32 and bf16, packed and alone, any number of threads.
#include <gtest/gtest.h>
#include <omp.h>

#include <filesystem>
#include <set>

#include "kernels/devices.h"
#include "tests/models/golden.h"
#include "tests/models/model_folder.h"
#include "tests/shared_files.h"

namespace sonde::test {
namespace {

namespace fs = std::filesystem;

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

// The same on the CUDA backend's code: f32 by FMA, bf16 and f16 with such operands.
TEST_P(GoldenModel, EveryHookOnTheEmulatedGpu) {
  SONDE_REQUIRE_SHARED(fs::path("golden/models") / GetParam());
  const Golden golden(shared_path);
  const auto backend = make_emulated_backend();
  for (const Precision precision : {Precision::f32, Precision::bf16, Precision::f16}) {
    const std::string what = fmt::format("{} {}", GetParam(), name(dtype_of(precision)));
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
