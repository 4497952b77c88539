// Bit-equality with ggml's conversions, from the golden blocks; and the plain types at awkward sizes and
// alignments.
#include "kernels/cpu/dequantise_blocks.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "tests/shared_files.h"

namespace sonde {
namespace {

std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits(values.size());
  std::memcpy(bits.data(), values.data(), values.size() * 4);
  return bits;
}

// The bytes of one tensor of a trusted safetensors file (io's reader is not linked into this room's tests).
std::string golden_bytes(const std::string& file, const std::string& tensor) {
  std::uint64_t header = 0;
  std::memcpy(&header, file.data(), 8);
  const auto at = file.find("\"" + tensor + "\"");
  if (at == std::string::npos || at > header) return {};
  const auto offsets = file.find('[', file.find("data_offsets", at));
  char* end = nullptr;
  const auto first = std::strtoull(file.c_str() + offsets + 1, &end, 10);
  const auto last = std::strtoull(end + 1, nullptr, 10);
  return file.substr(8 + header + first, last - first);
}

TEST(Dequantise, GoldenBlocksBitEqual) {
  SONDE_REQUIRE_SHARED("golden/quant/quant.safetensors");
  std::ifstream in(shared_path, std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(in), {}};
  for (const char* type : {"F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K",
                           "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"}) {
    std::string lower = type;
    std::ranges::transform(lower, lower.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const DType dtype = parse_dtype(lower);
    const std::string raw = golden_bytes(file, std::string(type) + "/raw");
    const std::string expected = golden_bytes(file, std::string(type) + "/f32");
    const std::size_t n = expected.size() / 4;
    ASSERT_GT(n, 0u) << type;
    ASSERT_EQ(static_cast<std::int64_t>(raw.size()), bytes_of(dtype, static_cast<std::int64_t>(n))) << type;
    for (std::size_t shift : {0u, 1u, 3u}) {  // the file's bytes may lie anywhere
      std::vector<std::byte> moved(raw.size() + shift);
      std::memcpy(moved.data() + shift, raw.data(), raw.size());
      std::vector<float> out(n), want(n);
      std::memcpy(want.data(), expected.data(), expected.size());
      dequantise_blocks(out.data(), moved.data() + shift, dtype, static_cast<std::int64_t>(n));
      EXPECT_EQ(bits_of(out), bits_of(want)) << type;
    }
  }
}

// A block alone and the same block among many: the split over threads must not move anything.
TEST(Dequantise, ManyBlocksEqualBlocksOneByOne) {
  for (int type = 0; type <= static_cast<int>(DType::mxfp4); ++type) {
    const auto dtype = static_cast<DType>(type);
    const std::int64_t values = info(dtype).block_values, n = 40'000 / values * values + values;
    std::vector<std::byte> raw(static_cast<std::size_t>(bytes_of(dtype, n)));
    std::uint32_t state = 12345;
    for (std::byte& b : raw) b = static_cast<std::byte>((state = state * 1664525u + 1013904223u) >> 24);
    std::vector<float> whole(static_cast<std::size_t>(n)), parts(whole.size());
    const int threads = omp_get_max_threads();
    omp_set_num_threads(3);
    dequantise_blocks(whole.data(), raw.data(), dtype, n);
    omp_set_num_threads(threads);
    for (std::int64_t i = 0; i < n; i += values)
      dequantise_blocks(parts.data() + i, raw.data() + bytes_of(dtype, i), dtype, values);
    EXPECT_EQ(bits_of(whole), bits_of(parts)) << name(dtype);
  }
}

TEST(Dequantise, EveryHalfEqualsTheConversionOfOne) {
  std::vector<std::uint16_t> halves(65536);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  std::vector<float> out(halves.size()), want(halves.size());
  dequantise_blocks(out.data(), reinterpret_cast<const std::byte*>(halves.data()), DType::f16, 65536);
  for (std::size_t i = 0; i < halves.size(); ++i) want[i] = to_float(f16{halves[i]});
  EXPECT_EQ(bits_of(out), bits_of(want));
}

template <class T>
void expect_plain(DType dtype, const std::vector<T>& values, const std::vector<float>& want) {
  const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
  std::vector<std::byte> raw(1);  // blocks may begin anywhere
  raw.insert(raw.end(), bytes, bytes + values.size() * sizeof(T));
  std::vector<float> out(values.size());
  dequantise_blocks(out.data(), raw.data() + 1, dtype, static_cast<std::int64_t>(values.size()));
  EXPECT_EQ(bits_of(out), bits_of(want)) << name(dtype);
}

TEST(Dequantise, PlainTypes) {
  expect_plain<float>(DType::f32, {0.0f, -0.0f, 1e-45f, 3.5f}, {0.0f, -0.0f, 1e-45f, 3.5f});
  expect_plain<double>(DType::f64, {0.1, -1e300, 1e-50},
                       {0.1f, -std::numeric_limits<float>::infinity(), 0.0f});
  expect_plain<std::int8_t>(DType::i8, {-128, 127}, {-128, 127});
  expect_plain<std::uint8_t>(DType::u8, {0, 255}, {0, 255});
  expect_plain<std::int16_t>(DType::i16, {-32768, 32767}, {-32768, 32767});
  expect_plain<std::uint16_t>(DType::u16, {65535}, {65535});
  expect_plain<std::int32_t>(DType::i32, {INT32_MIN, 16777217}, {-2147483648.0f, 16777216.0f});
  expect_plain<std::uint32_t>(DType::u32, {UINT32_MAX}, {4294967296.0f});
  expect_plain<std::int64_t>(DType::i64, {INT64_MIN, -3}, {-9223372036854775808.0f, -3});
  expect_plain<std::uint64_t>(DType::u64, {UINT64_MAX}, {18446744073709551616.0f});
  expect_plain<std::uint8_t>(DType::boolean, {0, 1, 7}, {0, 1, 1});
}

TEST(Dequantise, RefusesPartOfABlock) {
  float out[32];
  std::byte raw[34]{};
  EXPECT_THROW(dequantise_blocks(out, raw, DType::q8_0, 31), Error);
  dequantise_blocks(out, raw, DType::q8_0, 0);
}

}  // namespace
}  // namespace sonde
