// Weight bytes of any file type -> f32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/dtype.h"

namespace sonde {

// out f32 [n]; raw: bytes_of(dtype, n) bytes, of any alignment. Bit-equal to ggml's own conversions; the same
// bits for any number of threads.
void dequantise_blocks(float* out, const std::byte* raw, DType dtype, std::int64_t n);

}  // namespace sonde
