#include "models/fake_quantise.h"

#include <algorithm>
#include <cmath>

#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::string_view kNames[] = {"f32", "bf16", "int8", "int4"};
constexpr std::int64_t kInt4Group = 64;

void round_group(float* w, std::int64_t n, float levels) {
  float largest = 0;
  for (std::int64_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(w[i]));
  const float scale = largest / levels;
  if (scale == 0) return;  // all zero, or too small to divide
  for (std::int64_t i = 0; i < n; ++i) w[i] = std::nearbyint(w[i] / scale) * scale;
}

}  // namespace

std::string_view name(WeightFormat format) { return kNames[static_cast<int>(format)]; }

WeightFormat parse_weight_format(std::string_view wanted) {
  for (int i = 0; i < 4; ++i)
    if (kNames[i] == wanted) return static_cast<WeightFormat>(i);
  throw UsageError(fmt::format("--weights: found '{}', expected f32, bf16, int8 or int4", wanted));
}

void fake_quantise(Tensor w, WeightFormat format) {
  const std::int64_t n = w.rows(), k = w.width();
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < n; ++i) {
    float* row = w.row(i);
    if (format == WeightFormat::bf16)
      for (std::int64_t j = 0; j < k; ++j) row[j] = round_to_bf16(row[j]);
    if (format == WeightFormat::int8) round_group(row, k, 127);
    if (format == WeightFormat::int4)
      for (std::int64_t j = 0; j < k; j += kInt4Group) round_group(row + j, std::min(kInt4Group, k - j), 7);
  }
}

}  // namespace sonde
