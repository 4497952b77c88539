// From a RopeSpec to the cos/sin rows that Backend::rope reads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "models/spec.h"

namespace sonde {

// Inverse frequencies [width / 2] of a document of `length` tokens, in double, every scaling rule applied;
// width: R, the dimensions of a head that turn. The length matters only beyond rope.length_limit().
std::vector<double> rope_frequencies(const RopeSpec& rope, std::int64_t width, std::int64_t length);

// cos/sin rows, computed in double once per position and kept as float. Grows as longer documents come.
class RopeRows {
 public:
  RopeRows(const RopeSpec& rope, std::int64_t width) : rope_(rope), width_(width) {}

  // For each token of the batch, the row of table() that holds its angles.
  std::vector<std::int32_t> rows(const Documents& documents, std::span<const std::int32_t> positions);
  RopeTable table();
  std::int64_t version() const { return version_; }  // another one: table() has changed

 private:
  void append(std::span<const double> frequencies, std::int64_t first_position, std::int64_t end_position);

  RopeSpec rope_;
  std::int64_t width_;
  std::int64_t shared_rows_ = 0;  // rows [0, shared_rows_): positions with the length-independent frequencies
  std::vector<float> cos_, sin_;  // [rows, R/2]
  std::int64_t version_ = 0;
};

}  // namespace sonde
