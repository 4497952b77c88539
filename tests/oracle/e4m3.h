// Rounding to e4m3 from the format's definition (arXiv:2209.05433, table 1), by a search of all its codes.
#pragma once

#include <array>
#include <cmath>
#include <vector>

namespace sonde::oracle {

// 1 bit of sign, 4 of exponent with a bias of 7, 3 of mantissa, no infinities; the last code of each sign is
// no number.
inline double value_of_e4m3(int code) {
  const int exponent = code / 8 % 16, mantissa = code % 8;
  if (code % 128 == 127) return std::nan("");
  const double magnitude =
      exponent > 0 ? std::ldexp(1 + mantissa / 8.0, exponent - 7) : std::ldexp(mantissa / 8.0, -6);
  return code < 128 ? magnitude : -magnitude;
}

// Of all values the nearest, of two the one whose last bit is 0; the largest where there is none beyond.
inline double nearest_e4m3(double x) {
  static const auto values = [] {
    std::array<double, 256> all{};
    for (int code = 0; code < 256; ++code) all[static_cast<std::size_t>(code)] = value_of_e4m3(code);
    return all;
  }();
  double best = 0;
  std::size_t at = 0;
  for (std::size_t code = 0; code < 256; ++code) {
    const double closer = std::abs(values[code] - x) - std::abs(best - x);
    if (closer < 0 || (closer == 0 && code % 2 == 0 && at % 2 == 1)) best = values[code], at = code;
  }
  return best;
}

// A row of n values as fp8 products see it: codes times the scale that brings the largest to 448.
inline std::vector<double> row_in_e4m3(const float* row, std::size_t n) {
  float largest = 0;
  for (std::size_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(row[i]));
  const float scale = std::max(largest / 448, 0x1p-126f), inverse = 1 / scale;
  std::vector<double> rounded(n);
  for (std::size_t i = 0; i < n; ++i)
    rounded[i] = nearest_e4m3(static_cast<double>(row[i] * inverse)) * static_cast<double>(scale);
  return rounded;
}

}  // namespace sonde::oracle
