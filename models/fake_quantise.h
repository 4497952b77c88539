// Weights as a coarser format would hold them, kept in float32: the ablations of `sonde depth --weights`.
#pragma once

#include <string_view>

#include "runtime/tensor.h"

namespace sonde {

// bf16: rounded to bfloat16. int8: per output row, s = max|w| / 127. int4: per group of 64 along the input (a
// shorter last group), s = max|w| / 7; q = round_half_even(w / s), w = q * s, all in float32.
enum class WeightFormat { as_stored, bf16, int8, int4 };
WeightFormat parse_weight_format(std::string_view name);  // f32, bf16, int8, int4
std::string_view name(WeightFormat format);

void fake_quantise(Tensor w /*f32 [N, K]*/, WeightFormat format);

}  // namespace sonde
