#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sonde {
namespace {

// Llama 3.1: long wavelengths are divided by the factor, short ones kept, those between interpolated.
double llama3_frequency(double frequency, const RopeSpec& rope) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < rope.original_context / rope.high_freq_factor) return frequency;
  if (wavelength > rope.original_context / rope.low_freq_factor) return frequency / rope.factor;
  const double smooth = (rope.original_context / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

// YaRN (arXiv:2309.00071): dimensions that turn more than beta_fast times within the original context are
// kept, those that turn less than beta_slow times are divided by the factor, a linear ramp in between.
void yarn_frequencies(std::vector<double>& frequencies, const RopeSpec& rope, std::int64_t width) {
  const double d = static_cast<double>(width);
  const auto dimension_of = [&](double turns) {
    return d * std::log(rope.original_context / (turns * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
  };
  double low = dimension_of(rope.beta_fast), high = dimension_of(rope.beta_slow);
  if (rope.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, d - 1);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] / rope.factor * ramp + frequencies[i] * (1 - ramp);
  }
}

}  // namespace

std::vector<double> rope_frequencies(const RopeSpec& rope, std::int64_t width, std::int64_t length) {
  const double d = static_cast<double>(width);
  double theta = rope.theta;
  if (rope.scaling == RopeScaling::dynamic && static_cast<double>(length) > rope.original_context)
    theta *= std::pow(rope.factor * static_cast<double>(length) / rope.original_context - (rope.factor - 1),
                      d / (d - 2));

  std::vector<double> frequencies(static_cast<std::size_t>(width / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i)
    frequencies[i] = 1 / std::pow(theta, 2 * static_cast<double>(i) / d);
  if (rope.scaling == RopeScaling::linear)
    for (double& f : frequencies) f /= rope.factor;
  if (rope.scaling == RopeScaling::llama3)
    for (double& f : frequencies) f = llama3_frequency(f, rope);
  if (rope.scaling == RopeScaling::yarn) yarn_frequencies(frequencies, rope, width);
  if (rope.scaling == RopeScaling::longrope) {  // arXiv:2402.13753
    const bool stretched = static_cast<double>(length) > rope.original_context;
    const std::vector<double>& factors = stretched ? rope.long_factors : rope.short_factors;
    for (std::size_t i = 0; i < frequencies.size(); ++i) frequencies[i] /= factors[i];
  }
  for (std::size_t i = 0; i < rope.divisors.size(); ++i) frequencies[i] /= rope.divisors[i];
  return frequencies;
}

void RopeRows::append(std::span<const double> frequencies, std::int64_t first_position,
                      std::int64_t end_position) {
  ++version_;
  const std::size_t half = frequencies.size(), old = cos_.size();
  const auto n = static_cast<std::size_t>(end_position - first_position);
  cos_.resize(old + n * half);
  sin_.resize(old + n * half);
#pragma omp parallel for schedule(static)
  for (std::size_t p = 0; p < n; ++p)
    for (std::size_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(first_position + static_cast<std::int64_t>(p)) * frequencies[i];
      cos_[old + p * half + i] = static_cast<float>(std::cos(angle) * rope_.attention_factor);
      sin_[old + p * half + i] = static_cast<float>(std::sin(angle) * rope_.attention_factor);
    }
}

std::vector<std::int32_t> RopeRows::rows(const Documents& documents,
                                         std::span<const std::int32_t> positions) {
  // Rows of documents beyond the length limit are per batch: drop those of the last one.
  const auto half = static_cast<std::size_t>(width_ / 2);
  cos_.resize(static_cast<std::size_t>(shared_rows_) * half);
  sin_.resize(cos_.size());

  const auto stretched = [&](std::int64_t length) {
    return rope_.length_limit() > 0 && static_cast<double>(length) > rope_.length_limit();
  };
  std::int64_t needed = 0;
  for (std::size_t i = 0; i + 1 < documents.starts.size(); ++i) {
    const std::int32_t first = documents.starts[i], end = documents.starts[i + 1];
    if (first == end || stretched(positions[end - 1] + 1)) continue;
    needed = std::max<std::int64_t>(needed, positions[end - 1] + 1);
  }
  if (needed > shared_rows_) {  // some more, for a device is given the table anew
    needed = (needed + 255) / 256 * 256;
    append(rope_frequencies(rope_, width_, 0), shared_rows_, needed);
    shared_rows_ = needed;
  }

  std::vector<std::int32_t> rows(positions.begin(), positions.end());
  std::int64_t next = shared_rows_;
  for (std::size_t i = 0; i + 1 < documents.starts.size(); ++i) {
    const std::int32_t first = documents.starts[i], end = documents.starts[i + 1];
    if (first == end || !stretched(positions[end - 1] + 1)) continue;
    append(rope_frequencies(rope_, width_, positions[end - 1] + 1), positions[first], positions[end - 1] + 1);
    for (std::int32_t t = first; t < end; ++t)
      rows[t] = static_cast<std::int32_t>(next + positions[t] - positions[first]);
    next += end - first;
  }
  return rows;
}

RopeTable RopeRows::table() {
  const std::int64_t half = width_ / 2, n = static_cast<std::int64_t>(cos_.size()) / half;
  return {Tensor(cos_.data(), DType::f32, {n, half}), Tensor(sin_.data(), DType::f32, {n, half})};
}

}  // namespace sonde
