// Attention on tensor cores: what the launcher of attention.cu asks for.
#pragma once

#include <cstdint>

#include "kernels/cuda/heads.h"
#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {

inline constexpr int kFlashQueries = 64;  // of a block

// A block's work: queries [row, row + rows) of q and z, of which the first is key `own` of its document,
// whose key 0 is row `key` of the packed keys.
struct FlashTask {
  std::int32_t row, rows, own, key;
};

// The width that heads of e values are padded to; 0: none fits.
int flash_width(std::int64_t e);

// q [T, H, E'], k, v [rows, K, E'] as T (bf16 or f16), packed and padded to E' = flash_width(e); z f32 [T, H,
// e].
template <class T>
struct FlashOperands {
  const T *q, *k, *v;
  Rows z, lse;  // lse: [T, H] or null
  int heads, kv_heads, e;
};
template <class T>
void flash_attention(Stream& stream, const FlashOperands<T>& x, const std::int32_t* tasks /*[n] FlashTask*/,
                     std::int64_t n, const ScoreRule& rule);

// to [rows, heads, E'] = from [.., heads, e] rounded to T, rows index[r] where there is an index, zeros
// behind e.
template <class T>
void pack_heads(Stream& stream, T* to, Rows from, std::int64_t rows, int heads, int e);

}  // namespace sonde::SONDE_GPU
