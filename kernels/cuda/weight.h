// A weight [N, K] on the device: as float, as bfloat16, or as the blocks that a file has.
#pragma once

#include <vector>

#include "kernels/cuda/gpu_backend.h"

namespace sonde::SONDE_GPU {

class GpuWeight : public Weight {
 public:
  // Rows of one type, below each other: [rows, K] at `offset` bytes.
  struct Segment {
    std::int64_t first, rows;  // of N
    DType dtype;
    std::int64_t offset;
  };
  GpuWeight(std::int64_t k, Precision precision, std::vector<Segment> segments, Buffer memory)
      : k_(k), precision_(precision), segments_(std::move(segments)), memory_(std::move(memory)) {}
  std::int64_t n() const override {
    return segments_.empty() ? 0 : segments_.back().first + segments_.back().rows;
  }
  std::int64_t k() const override { return k_; }
  std::int64_t bytes() const override { return memory_.bytes(); }
  Precision precision() const { return precision_; }
  const std::vector<Segment>& segments() const { return segments_; }
  const std::byte* data(const Segment& s) const { return memory_.data() + s.offset; }

 private:
  std::int64_t k_;
  Precision precision_;
  std::vector<Segment> segments_;
  Buffer memory_;
};

}  // namespace sonde::SONDE_GPU
