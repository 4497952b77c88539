// Fake quantisation of a real weight against the ablations' own hashes.
#include "models/fake_quantise.h"

#include <gtest/gtest.h>

#include <cstring>

#include "io/hash.h"
#include "io/json.h"
#include "tests/models/activations.h"
#include "tests/models/smollm2.h"
#include "tests/shared_files.h"

namespace sonde {
namespace {

TEST(FakeQuantise, TheExperimentsWeightsBitForBit) {
  SONDE_REQUIRE_SMOLLM2();
  SONDE_REQUIRE_SHARED("data/concept_depth/curves_ablations.json");
  const Json expected = read_json(shared_path)["quantised_weights"];
  const ModelFiles files = ModelFiles::open(test::smollm2_file());
  const auto backend = make_cpu_backend();
  int compared = 0;
  for (const auto& [tensor, formats] : expected.items())
    for (const auto& [format, truth] : formats.items()) {
      const FileTensor* found = files.find(tensor);
      ASSERT_NE(found, nullptr) << tensor;
      const OwnedTensor w = make_tensor(DType::f32, {found->view.dim(0), found->view.dim(1)});
      backend->dequantise(Tensor(w.view.data, DType::f32, {w.view.count()}), found->view);
      fake_quantise(w.view, parse_weight_format(format));
      EXPECT_EQ(sha256_hex(std::span(w.view.data, static_cast<std::size_t>(w.view.count()) * 4)),
                truth["sha256_f32"].get<std::string>())
          << tensor << " " << format;
      ++compared;
    }
  EXPECT_EQ(compared, 4);
}

TEST(FakeQuantise, GroupsOfInt4AndTies) {
  const OwnedTensor w = make_tensor(DType::f32, {1, 70});
  for (int i = 0; i < 70; ++i) w.view.f32()[i] = i < 64 ? 7.0f : 0.0f;
  w.view.f32()[1] = 2.5f;    // q = 2.5: to even
  w.view.f32()[2] = -3.5f;   // to -4
  w.view.f32()[64] = 14.0f;  // a last group of 6 with a scale of its own
  w.view.f32()[65] = 3.0f;   // q = 1.5: to 2, times 2
  fake_quantise(w.view, WeightFormat::int4);
  EXPECT_EQ(w.view.f32()[1], 2);
  EXPECT_EQ(w.view.f32()[2], -4);
  EXPECT_EQ(w.view.f32()[64], 14);
  EXPECT_EQ(w.view.f32()[65], 4);
  EXPECT_EQ(w.view.f32()[66], 0);
}

}  // namespace
}  // namespace sonde
