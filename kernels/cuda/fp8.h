// Rows of e4m3, each with the scale that its values are to be multiplied by.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {

inline std::int64_t up_to_16(std::int64_t n) { return (n + 15) / 16 * 16; }

// [n, k] in memory: a byte a value, rows filled up with zeros to a multiple of 16 bytes, which is what
// cuBLASLt asks for and what a lane reads; behind them n floats, the scales. A weight's n is a multiple of
// 16, too, for the library's sake: what its last rows hold, and give, is nobody's business.
struct Fp8Rows {
  std::int64_t n, k;
  std::byte* memory = nullptr;
  std::int64_t pitch() const { return up_to_16(k); }
  std::int64_t bytes() const { return n * (pitch() + 4); }
  unsigned char* codes(std::int64_t row = 0) const {
    return reinterpret_cast<unsigned char*>(memory) + row * pitch();
  }
  float* scales(std::int64_t row = 0) const { return reinterpret_cast<float*>(memory + n * pitch()) + row; }
};

// Rows from `first` on become those of x f32 [rows, k].
void round_to_fp8(Stream& stream, const Fp8Rows& to, std::int64_t first, Tensor x);

}  // namespace sonde::SONDE_GPU
