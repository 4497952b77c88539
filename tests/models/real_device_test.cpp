// 64 tokens of real models on the emulated GPU, and on a GPU where there is one, beside the CPU, which other
// tests hold against float64: residuals of each third of the layers, queries, attention, logits.
#include <gtest/gtest.h>

#include "kernels/devices.h"
#include "tests/models/activations.h"
#include "tests/models/smollm2.h"

namespace sonde::test {
namespace {

class RealOnDevice : public ::testing::TestWithParam<std::tuple<const char*, std::string>> {};

TEST_P(RealOnDevice, SixtyFourTokens) {
  const auto& [file, device] = GetParam();
  const auto path = smollm2_file().parent_path() / file;
  if (kSanitized) GTEST_SKIP() << "a real model is too slow under a sanitizer";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path.string() << ": scripts/get_model.sh";
  if (device == "cuda" && cuda_gpus().empty()) GTEST_SKIP() << "no GPU: " << why_no_gpu();

  std::vector<Activations> found[2];
  for (const bool on_device : {false, true}) {
    const auto backend = make_backend(on_device ? device : "cpu");
    const Model model =
        Model::load(path, {.precision = Precision::f32, .weights = {}, .ignored = {}}, *backend);
    const int layers = static_cast<int>(model.spec.n_layers);
    RunOptions run;
    for (const int l : {0, layers / 3, 2 * layers / 3, layers - 1})
      run.sites.insert(run.sites.end(), {{Hook::resid_post, l}, {Hook::rot_q, l}, {Hook::z, l}});
    run.sites.push_back({Hook::logits});
    Ids ids(64);
    for (std::size_t i = 0; i < ids.size(); ++i)
      ids[i] = static_cast<std::int32_t>(2 + (i * i * 131 + i * 17) % 40000);
    found[on_device] = run_packed(model, *backend, {ids}, run);
  }
  ASSERT_EQ(found[0][0].size(), 13u);
  for (const auto& [site, captured] : found[0][0])
    EXPECT_LE(relative_error(found[1][0].at(site).values, captured.values), 2e-5) << site;
}

INSTANTIATE_TEST_SUITE_P(Models, RealOnDevice,
                         ::testing::Combine(::testing::Values("SmolLM2-135M-Instruct.Q4_1.gguf",
                                                              "gemma-3-270m-q4_k_m.gguf"),
                                            ::testing::Values("emulated", "cuda")),
                         [](const auto& p) {
                           return std::string(std::get<0>(p.param)[0] == 'S' ? "SmolLM2" : "Gemma3") + "_" +
                                  std::get<1>(p.param);
                         });

}  // namespace
}  // namespace sonde::test
