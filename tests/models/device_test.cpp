// The forward, edits, generation and scoring on the emulated GPU (and on a GPU, where there is one) beside
// the CPU's, which other tests hold against float64: every hook of every family's axis.
#include <gtest/gtest.h>

#include "kernels/devices.h"
#include "models/generator.h"
#include "models/scoring.h"
#include "tests/models/activations.h"
#include "tests/models/random_specs.h"

namespace sonde::test {
namespace {

const std::vector<Ids> kDocuments = {{1, 2, 3, 4, 5}, {7}, {10, 11, 12, 13, 14, 15, 16, 17, 18}};

// Head widths of real models.
ModelSpec wide_heads(std::int64_t width) {
  ModelSpec spec = llama_like();
  spec.n_layers = 1;
  spec.d_model = 64;
  spec.d_head = width;
  return spec;
}

std::vector<NamedSpec> device_specs() {
  std::vector<NamedSpec> specs = random_specs();
  for (const std::int64_t width : {64, 80, 96, 128, 256})
    specs.push_back({"heads_of_" + std::to_string(width), wide_heads(width)});
  return specs;
}

std::vector<std::string> devices() {
  std::vector<std::string> names = {"emulated"};
  if (!cuda_gpus().empty()) names.push_back("cuda");
  return names;
}

void expect_close(const std::vector<Activations>& found, const std::vector<Activations>& expected,
                  double limit, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t d = 0; d < expected.size(); ++d) {
    ASSERT_EQ(found[d].size(), expected[d].size());
    for (const auto& [site, captured] : expected[d]) {
      ASSERT_TRUE(found[d].count(site)) << site;
      EXPECT_EQ(found[d].at(site).row_shape, captured.row_shape) << site;
      EXPECT_LE(relative_error(found[d].at(site).values, captured.values), limit)
          << what << ", document " << d << ", " << site;
    }
  }
}

class OnDevice : public ::testing::TestWithParam<std::tuple<NamedSpec, std::string>> {
 protected:
  const ModelSpec& spec() const { return std::get<0>(GetParam()).spec; }

  std::unique_ptr<Backend> cpu = make_cpu_backend();
  std::unique_ptr<Backend> device = make_backend(std::get<1>(GetParam()));
};

TEST_P(OnDevice, EveryHook) {
  for (const Precision precision : {Precision::f32, Precision::bf16, Precision::f16}) {
    const LoadOptions options{.precision = precision, .weights = {}, .ignored = {}, .run = {}};
    const bool half = precision == Precision::f16;  // which the CPU has not: beside f32 there
    const Model here = Model::random(spec(), half ? LoadOptions{} : options, 7, *cpu);
    const Model there = Model::random(spec(), options, 7, *device);
    RunOptions outside;  // fused norms and attention
    for (const Site site : spec().sites())
      if (info(site.hook).cost == Cost::free) outside.sites.push_back(site);
    for (const RunOptions& run : {RunOptions{}, outside, RunOptions{{}, "last"}}) {
      if (precision != Precision::f32 && run.tokens == "last") continue;
      // A value that rounds to the other neighbour in bf16 is off by 2^-8 of itself; attention rounds, too.
      const double limit = precision == Precision::f32 ? 5e-6 : half ? 1e-2 : 3e-2;
      expect_close(run_packed(there, *device, kDocuments, run), run_packed(here, *cpu, kDocuments, run),
                   limit, std::string(name(dtype_of(precision))));
    }
  }
}

TEST_P(OnDevice, EveryEdit) {
  const Model here = Model::random(spec(), {}, 7, *cpu), there = Model::random(spec(), {}, 7, *device);
  const auto rows = [&](std::int64_t n, std::int64_t width) {
    OwnedTensor t = make_tensor(DType::f32, {n, width});
    for (std::int64_t i = 0; i < n * width; ++i) t.view.f32()[i] = static_cast<float>(i % 7) - 2.5f;
    return t;
  };
  const auto edits = [&](Hooks& hooks, const HookSizes& sizes) {
    const auto add = [&](Hook hook, EditOp op, const std::string& tokens) {
      Edit edit{.site = {hook, 0}, .op = op, .tokens = TokenSelector::parse(tokens)};
      const bool whole = hook == Hook::resid_pre;
      if (whole && (op == EditOp::add || op == EditOp::replace)) edit.value = rows(1, spec().d_model);
      if (op == EditOp::project_out) edit.value = rows(2, spec().d_model);
      if (op == EditOp::replace && !whole) edit.number = 0.25f, edit.heads = {1};
      if (op == EditOp::clamp) edit.least = -0.5f, edit.most = 0.75f;
      if (op == EditOp::mask_scores) edit.keys = TokenSelector::parse("first");
      edit.coefficient = 1.5f;
      hooks.edit(std::move(edit), sizes);
    };
    add(Hook::resid_pre, EditOp::replace, "first");
    add(Hook::resid_pre, EditOp::add, "last");
    add(Hook::resid_pre, EditOp::scale, "every:3");
    add(Hook::resid_pre, EditOp::clamp, "all");
    add(Hook::resid_pre, EditOp::project_out, "every:2");
    add(Hook::z, EditOp::replace, "last");
    add(Hook::attn_scores, EditOp::mask_scores, "last");
    add(Hook::pattern, EditOp::scale, "first");
    add(Hook::mlp_out, EditOp::zero, "0");
  };
  const RunOptions run{{}, "all", edits};
  const auto expected = run_packed(here, *cpu, kDocuments, run);
  expect_close(run_packed(there, *device, kDocuments, run), expected, 5e-6, "edited");
  EXPECT_GT(relative_error(run_packed(here, *cpu, kDocuments)[2].at("logits").values,
                           expected[2].at("logits").values),
            1e-2);  // the edits change something
}

TEST_P(OnDevice, Generation) {
  GenerateOptions options;
  options.sampling.greedy = true;
  options.max_new = 6;
  options.sequences = 2;
  std::map<std::size_t, Ids> generated[2];
  std::vector<std::vector<float>> rows[2];
  for (const bool on_device : {false, true}) {
    Backend& backend = on_device ? *device : *cpu;
    const Model model = Model::random(spec(), {}, 7, backend);
    Generator generator(model, backend, options, {});
    const std::vector<Site> sites = {{Hook::z, 0}};
    generator.capture(sites, [&](std::size_t, Site, std::int64_t, Tensor row) {
      rows[on_device].emplace_back(row.row(0), row.row(0) + row.width());
    });
    generator.run(
        kDocuments, [](std::size_t, std::span<const std::int32_t>) { return false; },
        [&](std::size_t prompt, const Generated& g) { generated[on_device][prompt] = g.ids; });
  }
  EXPECT_EQ(generated[0], generated[1]);
  ASSERT_EQ(rows[0].size(), rows[1].size());
  for (std::size_t i = 0; i < rows[0].size(); ++i)
    EXPECT_LE(relative_error(rows[1][i], rows[0][i]), 1e-5) << i;
}

INSTANTIATE_TEST_SUITE_P(Families, OnDevice,
                         ::testing::Combine(::testing::ValuesIn(device_specs()),
                                            ::testing::ValuesIn(devices())),
                         [](const auto& p) {
                           return std::get<0>(p.param).name + "_" + std::get<1>(p.param);
                         });

TEST(OnDevice, TheHostCannotReadItsTensors) {
  const auto device = make_emulated_backend();
  const Buffer memory = device->allocate(64);
  const Tensor x = memory.tensor(DType::f32, {4, 4});
  EXPECT_THROW(x.f32(), Error);
  OwnedTensor host = make_tensor(DType::f32, {4, 4});
  EXPECT_THROW(device->add(x, host.view, host.view), Error);
}

TEST(OnDevice, WordsThatNameADevice) {
  EXPECT_EQ(make_backend("cpu")->device(), DeviceKind::cpu);
  EXPECT_EQ(make_backend("emulated")->device(), DeviceKind::emulated);
  for (const char* word : {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", ""})
    EXPECT_THROW(make_backend(word), UsageError) << word;
  EXPECT_THROW(make_backend("cuda:99"), Error);
}

}  // namespace
}  // namespace sonde::test
