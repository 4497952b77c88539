// Tensor-core instructions: ldmatrix and mma.sync (PTX ISA, "Warp Level Matrix Multiply-Accumulate").
#pragma once

#include <cstdint>

#include "kernels/emulation/block.h"

namespace sonde::emulated {

using emulation::Source;

// 8 x 8 matrices of 16-bit values; lane 8 i + r points to row r of matrix i. Lane l gets values
// (l / 4, 2 (l % 4)) and the next of each, or of each transposed.
void ldmatrix_x1(std::uint32_t (&r)[1], const void* row, Source where = Source::here());
void ldmatrix_x2(std::uint32_t (&r)[2], const void* row, Source where = Source::here());
void ldmatrix_x4(std::uint32_t (&r)[4], const void* row, Source where = Source::here());
void ldmatrix_x1_trans(std::uint32_t (&r)[1], const void* row, Source where = Source::here());
void ldmatrix_x2_trans(std::uint32_t (&r)[2], const void* row, Source where = Source::here());
void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row, Source where = Source::here());

// d += a b with a [16, k] and b [k, 8], spread over the lanes of a warp; k is in the name.
void mma_bf16_16816(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                    Source where = Source::here());
void mma_f16_16816(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                   Source where = Source::here());
void mma_tf32_1688(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                   Source where = Source::here());
void mma_s8_16832(int (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                  Source where = Source::here());

}  // namespace sonde::emulated
