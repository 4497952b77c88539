// SmolLM2-135M against Hugging Face's float32 and an independent float64 forward, all prompts.
#include <algorithm>
#include <numeric>

#include "io/hash.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "tests/models/activations.h"
#include "tests/models/smollm2.h"
#include "tests/shared_files.h"

namespace sonde {
namespace {

template <class T>
std::vector<T> values_of(const Safetensors& file, const std::string& name) {
  const SafetensorsTensor* tensor = file.find(name);
  if (tensor == nullptr) return {};
  std::vector<T> values(static_cast<std::size_t>(tensor->view.count()));
  EXPECT_EQ(bytes_of(tensor->view.dtype, tensor->view.count()),
            static_cast<std::int64_t>(values.size() * sizeof(T)))
      << name;
  std::memcpy(values.data(), tensor->view.data, values.size() * sizeof(T));
  return values;
}

TEST(SmolLM2, TensorsDequantiseToTheReferencesBits) {
  SONDE_REQUIRE_SMOLLM2();
  SONDE_REQUIRE_SHARED("golden/real/SmolLM2-135M-Instruct_tensors.json");
  const Json expected = read_json(shared_path);
  const auto backend = make_cpu_backend();
  const ModelFiles files = ModelFiles::open(test::smollm2_file());
  int compared = 0;
  const Json& table = expected.contains("tensors") ? expected["tensors"] : expected;
  for (const FileTensor& tensor : files.tensors()) {
    if (!table.contains(tensor.name)) continue;
    const Json& entry = table[tensor.name];
    const auto sha =
        entry.is_string() ? entry.get<std::string>() : entry.value("sha256_f32", entry.value("sha256", ""));
    const OwnedTensor values = make_tensor(DType::f32, {tensor.view.count()});
    backend->dequantise(values.view, tensor.view);
    EXPECT_EQ(sha256_hex(std::span(values.view.data, static_cast<std::size_t>(values.view.count()) * 4)), sha)
        << tensor.name;
    ++compared;
  }
  EXPECT_EQ(compared, static_cast<int>(files.tensors().size()));
}

TEST(SmolLM2, HiddenStatesLogitsAndLogProbsOfEveryPrompt) {
  SONDE_REQUIRE_SMOLLM2();
  SONDE_REQUIRE_SHARED("golden/real/SmolLM2-135M-Instruct.safetensors");
  const auto golden = Safetensors::open(shared_path);
  const auto backend = make_cpu_backend();
  const Model model = Model::load(test::smollm2_file(), {}, *backend);
  std::vector<Site> sites;
  for (const Site site : model.spec.sites())
    if (site.hook == Hook::resid_post || site.hook == Hook::ln_final_out || site.hook == Hook::logits)
      sites.push_back(site);

  int prompts = 0;
  for (const SafetensorsTensor& tensor : golden->tensors()) {
    if (!tensor.name.ends_with(".ids")) continue;
    const std::string prompt = tensor.name.substr(0, tensor.name.size() - 4);
    test::Ids ids;
    if (tensor.view.dtype == DType::i64)
      for (const auto id : values_of<std::int64_t>(*golden, tensor.name))
        ids.push_back(static_cast<std::int32_t>(id));
    else
      ids = values_of<std::int32_t>(*golden, tensor.name);
    const auto found = test::run_packed(model, *backend, {ids}, {sites, "all", {}})[0];

    const auto compare_last4 = [&](const std::string& site) {
      const std::vector<float>& all = found.at(site).values;
      const std::size_t n = std::min(all.size(), static_cast<std::size_t>(4 * model.spec.d_model));
      const std::vector<float> last(all.end() - static_cast<std::ptrdiff_t>(n), all.end());
      {
        const auto expected = values_of<float>(*golden, prompt + "." + site + ".last4");
        ASSERT_FALSE(expected.empty()) << prompt << " " << site;
        EXPECT_LE(test::relative_error(last, expected), 1e-5) << prompt << " " << site;
      }
    };
    for (const int layer : {0, 15, 29}) compare_last4(name({Hook::resid_post, layer}));
    compare_last4("ln_final.hook_out");

    std::vector<float> norms;  // [L, T]
    for (int l = 0; l < 30; ++l) {
      const std::vector<float>& x = found.at(name({Hook::resid_post, l})).values;
      for (std::size_t t = 0; t < ids.size(); ++t) {
        double sum = 0;
        for (std::size_t i = 0; i < 576; ++i) sum += double{x[t * 576 + i]} * x[t * 576 + i];
        norms.push_back(static_cast<float>(std::sqrt(sum)));
      }
    }
    EXPECT_LE(test::relative_error(norms, values_of<float>(*golden, prompt + ".resid_post_norms")), 1e-5)
        << prompt;

    const std::vector<float>& logits = found.at("logits").values;
    const auto vocab = static_cast<std::size_t>(model.spec.vocab);
    const float* last = logits.data() + logits.size() - vocab;
    std::vector<std::int64_t> order(vocab);
    std::iota(order.begin(), order.end(), 0);
    std::ranges::partial_sort(order, order.begin() + 20, [&](auto a, auto b) { return last[a] > last[b]; });
    order.resize(20);
    const SafetensorsTensor* top = golden->find(prompt + ".top20_ids");
    ASSERT_NE(top, nullptr);
    std::vector<std::int64_t> top_ids;
    if (top->view.dtype == DType::i64)
      top_ids = values_of<std::int64_t>(*golden, top->name);
    else
      for (const auto id : values_of<std::int32_t>(*golden, top->name)) top_ids.push_back(id);
    EXPECT_EQ(order, top_ids) << prompt;
    std::vector<float> top_logits;
    for (const auto id : order) top_logits.push_back(last[id]);
    EXPECT_LE(test::relative_error(top_logits, values_of<float>(*golden, prompt + ".top20_logits")), 1e-5)
        << prompt;

    const auto expected = values_of<float>(*golden, prompt + ".token_log_probs");
    ASSERT_EQ(expected.size() + 1, ids.size());
    double worst = 0, mean = 0;
    for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
      const float* row = logits.data() + t * vocab;
      const double most = *std::max_element(row, row + vocab);
      double sum = 0;
      for (std::size_t v = 0; v < vocab; ++v) sum += std::exp(row[v] - most);
      const double log_prob = row[ids[t + 1]] - most - std::log(sum);
      worst = std::max(worst, std::abs(log_prob - expected[t]));
      mean += (log_prob - expected[t]) / static_cast<double>(expected.size());
    }
    EXPECT_LE(worst, 3e-4) << prompt;
    EXPECT_LE(std::abs(mean), 2e-5) << prompt;
    ++prompts;
  }
  EXPECT_GE(prompts, 6);
}

}  // namespace
}  // namespace sonde
