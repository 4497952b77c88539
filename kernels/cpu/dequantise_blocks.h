// Values of weight files in float32: plain types and ggml's block formats.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/dtype.h"

namespace sonde {

// out [n] from n values of raw (any alignment); n a multiple of the dtype's block. Every product of scale and
// quant is exact in float32, so the bits are those of any right implementation. Serial: callers split over
// rows.
void dequantise_blocks(float* out, const std::byte* raw, DType dtype, std::int64_t n);

}  // namespace sonde
