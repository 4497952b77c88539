// Every block format against the values of the reference dequantisers, bit for bit.
#include <gtest/gtest.h>

#include <cctype>
#include <cstring>
#include <vector>

#include "io/safetensors.h"
#include "kernels/cpu/dequantise_blocks.h"
#include "tests/shared_files.h"

namespace sonde {
namespace {

TEST(Dequantise, EveryTypeIsBitEqualToTheReference) {
  SONDE_REQUIRE_SHARED("golden/quant/quant.safetensors");
  const auto file = Safetensors::open(shared_path);
  int types = 0;
  for (const SafetensorsTensor& expected : file->tensors()) {
    if (!expected.name.ends_with("/f32")) continue;
    const std::string type = expected.name.substr(0, expected.name.size() - 4);
    std::string lower;
    for (const char c : type) lower += static_cast<char>(std::tolower(c));
    const SafetensorsTensor* raw = file->find(type + "/raw");
    ASSERT_NE(raw, nullptr) << type;
    std::vector<float> values(static_cast<std::size_t>(expected.view.count()));
    dequantise_blocks(values.data(), raw->view.data, parse_dtype(lower), expected.view.count());
    for (std::size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(std::memcmp(&values[i], expected.view.data + 4 * i, 4), 0)
          << type << " value " << i << ": " << values[i];
    ++types;
  }
  EXPECT_EQ(types, 15);
}

}  // namespace
}  // namespace sonde
