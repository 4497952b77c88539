// A query against 32 keys by a warp. A thread per key would touch 32 sectors for 4 bytes of each; here eight
// lanes take a key, side by side in its row, four keys at a time, and at the end each lane has its own key's
// product.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace sonde::SONDE_GPU {

// q k of rows row0 + lane, lanes below n; query [e] in shared memory, at a multiple of 16 bytes. All lanes of
// the warp come here.
GPU_DEV float products_of_keys(const float* query, const Rows& k, std::int64_t row0, std::int64_t n,
                               std::int64_t column, int e, bool by_four) {
  const int lane = static_cast<int>(threadIdx.x % 32), of_key = lane % 8;
  float own = 0;
#pragma unroll 2
  for (int pass = 0; pass < 8; ++pass) {
    const int key = pass * 4 + lane / 8;
    float product = 0;
    if (key < n) {
      const float* row = k.row(row0 + key) + column;
      if (by_four) {
        for (int i = of_key * 4; i < e; i += 32) {
          const float4 a = load4(row + i);
          const uint4 b = lds128(query + i);
          product = fmaf(a.x, __uint_as_float(b.x), product);
          product = fmaf(a.y, __uint_as_float(b.y), product);
          product = fmaf(a.z, __uint_as_float(b.z), product);
          product = fmaf(a.w, __uint_as_float(b.w), product);
        }
      } else {
        for (int i = of_key; i < e; i += 8) product = fmaf(query[i], row[i], product);
      }
    }
#pragma unroll
    for (int lanes = 4; lanes > 0; lanes /= 2) product += __shfl_xor_sync(0xffffffffu, product, lanes);
    product = __shfl_sync(0xffffffffu, product, lane % 4 * 8);
    if (lane / 4 == pass) own = product;
  }
  return own;
}

// Whether heads of e values can be read four values at a time.
inline bool heads_by_four(const Rows& rows, std::int64_t e) { return by_float4(rows) && e % 4 == 0; }

}  // namespace sonde::SONDE_GPU
