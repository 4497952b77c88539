// ldmatrix and mma.sync: fragments written by the layout tables of the PTX ISA, results against products in
// double.
#include <cmath>
#include <random>

#include "tests/emulation/device.h"

namespace sonde::emulated {
namespace {

// ---- ldmatrix: lane l holds values (l / 4, 2 (l % 4)) and the next of each matrix, or of its transpose

template <bool transposed>
__global__ void load_four(std::uint32_t* out, const std::uint16_t* in) {
  GPU_SHARED(std::uint16_t[4 * 64], tile);
  const int lane = threadIdx.x;
  for (int i = 0; i < 8; i += 4) cp_async8(tile + 8 * lane + i, in + 8 * lane + i);
  cp_async_commit();
  cp_async_wait<0>();
  __syncwarp();
  std::uint32_t r[4];
  if constexpr (transposed) {
    ldmatrix_x4_trans(r, tile + 8 * lane);
  } else {
    ldmatrix_x4(r, tile + 8 * lane);
  }
  for (int i = 0; i < 4; ++i) out[4 * lane + i] = r[i];
}

template <bool transposed>
void check_ldmatrix() {
  std::vector<std::uint16_t> in(256);
  for (int i = 0; i < 256; ++i) in[i] = static_cast<std::uint16_t>(7 * i + 1);
  DeviceArray<std::uint16_t> from(in);
  DeviceArray<std::uint32_t> out(128);
  ASSERT_EQ(run_kernel(load_four<transposed>, 1, 32, 0, out.data(), from.data()), cudaSuccess)
      << gpu_error_detail();
  const auto found = out.host();
  for (int l = 0; l < 32; ++l)
    for (int i = 0; i < 4; ++i)
      for (int half = 0; half < 2; ++half) {
        const int row = transposed ? l % 4 * 2 + half : l / 4, column = transposed ? l / 4 : l % 4 * 2 + half;
        ASSERT_EQ(found[4 * l + i] >> (16 * half) & 0xffff, in[64 * i + 8 * row + column]) << l << " " << i;
      }
}
class Matrices : public EmulatedDevice {};
TEST_F(Matrices, Ldmatrix) { check_ldmatrix<false>(); }
TEST_F(Matrices, LdmatrixTransposed) { check_ldmatrix<true>(); }

// ---- mma: a kernel that takes fragments as they are in memory, lane by lane

struct Fragments {
  std::uint32_t a[32][4], b[32][2];
  float c[32][4];
  int ci[32][4];
};
enum class Kind { bf16, f16, tf32, s8 };

template <Kind kind>
__global__ void multiply(Fragments* f) {
  const int lane = threadIdx.x;
  std::uint32_t a[4];
  for (int i = 0; i < 4; ++i) a[i] = f->a[lane][i];
  const std::uint32_t b0 = f->b[lane][0], b1 = f->b[lane][1];
  if constexpr (kind == Kind::s8) {
    int d[4];
    for (int i = 0; i < 4; ++i) d[i] = f->ci[lane][i];
    mma_s8_16832(d, a, b0, b1);
    for (int i = 0; i < 4; ++i) f->ci[lane][i] = d[i];
  } else {
    float d[4];
    for (int i = 0; i < 4; ++i) d[i] = f->c[lane][i];
    if constexpr (kind == Kind::bf16) mma_bf16_16816(d, a, b0, b1);
    if constexpr (kind == Kind::f16) mma_f16_16816(d, a, b0, b1);
    if constexpr (kind == Kind::tf32) mma_tf32_1688(d, a, b0, b1);
    for (int i = 0; i < 4; ++i) f->c[lane][i] = d[i];
  }
}

// The layout as the PTX ISA's tables give it, value i of a lane's fragment: row and column of A, B and C.
struct Place {
  int row, column;
};
Place place_a(Kind kind, int lane, int i) {
  const int group = lane >> 2, thread = lane % 4;
  switch (kind) {
    case Kind::bf16:
    case Kind::f16:  // "row = groupID for ai where 0 <= i < 2 || 4 <= i < 6, else groupID + 8; column = ..."
      return {(i < 2) || (i >= 4 && i < 6) ? group : group + 8, thread * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
    case Kind::tf32:  // a0 (g, t), a1 (g + 8, t), a2 (g, t + 4), a3 (g + 8, t + 4)
      return {i == 0 || i == 2 ? group : group + 8, i < 2 ? thread : thread + 4};
    case Kind::s8:  // row g for 0 <= i < 4 || 8 <= i < 12; column 4 t + (i & 3), + 16 from i = 8
      return {(i < 4) || (i >= 8 && i < 12) ? group : group + 8, thread * 4 + (i & 3) + (i < 8 ? 0 : 16)};
  }
  return {};
}
Place place_b(Kind kind, int lane, int i) {
  const int group = lane >> 2, thread = lane % 4;
  switch (kind) {
    case Kind::bf16:
    case Kind::f16:
      return {thread * 2 + (i & 1) + (i >= 2 ? 8 : 0), group};
    case Kind::tf32:
      return {i == 0 ? thread : thread + 4, group};
    case Kind::s8:
      return {thread * 4 + (i & 3) + (i < 4 ? 0 : 16), group};
  }
  return {};
}
Place place_c(int lane, int i) { return {i < 2 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 2 + (i & 1)}; }

struct Coding {  // how many values a register holds, and one value's bits
  int per_register, bits;
};
Coding coding(Kind kind) {
  return kind == Kind::tf32 ? Coding{1, 32} : kind == Kind::s8 ? Coding{4, 8} : Coding{2, 16};
}
std::uint32_t encode(Kind kind, double x) {  // x is exact in every type
  const auto f = static_cast<float>(x);
  switch (kind) {
    case Kind::bf16:
      return __float_as_uint(f) >> 16;
    case Kind::f16:
      return __half(f).bits;
    case Kind::tf32:
      return __float_as_uint(f) | 0x1abc;  // the lower 13 bits don't count
    case Kind::s8:
      return static_cast<std::uint8_t>(static_cast<std::int8_t>(x));
  }
  return 0;
}

template <Kind kind>
void check_mma() {
  const auto [per_register, bits] = coding(kind);
  const int k = 8 * per_register;
  std::mt19937 random(5);
  std::vector<double> a(16 * k), b(k * 8), c(16 * 8);
  for (auto* values : {&a, &b, &c})
    for (double& x : *values) x = static_cast<int>(random() % 255) - 127;
  Fragments f{};
  for (int l = 0; l < 32; ++l) {
    for (int i = 0; i < 4 * per_register; ++i) {
      const Place p = place_a(kind, l, i);
      f.a[l][i / per_register] |= encode(kind, a[p.row * k + p.column]) << (i % per_register * bits);
    }
    for (int i = 0; i < 2 * per_register; ++i) {
      const Place p = place_b(kind, l, i);
      f.b[l][i / per_register] |= encode(kind, b[p.row * 8 + p.column]) << (i % per_register * bits);
    }
    for (int i = 0; i < 4; ++i) {
      const Place p = place_c(l, i);
      f.c[l][i] = static_cast<float>(c[p.row * 8 + p.column]);
      f.ci[l][i] = static_cast<int>(c[p.row * 8 + p.column]);
    }
  }
  DeviceArray<Fragments> device(std::vector{f});
  ASSERT_EQ(run_kernel(multiply<kind>, 1, 32, 0, device.data()), cudaSuccess) << gpu_error_detail();
  const Fragments found = device.host()[0];
  for (int l = 0; l < 32; ++l)
    for (int i = 0; i < 4; ++i) {
      const auto [row, column] = place_c(l, i);
      double sum = c[row * 8 + column];
      for (int x = 0; x < k; ++x) sum += a[row * k + x] * b[x * 8 + column];
      ASSERT_EQ(kind == Kind::s8 ? found.ci[l][i] : found.c[l][i], sum) << "lane " << l << " value " << i;
    }
}
TEST_F(Matrices, MmaBf16) { check_mma<Kind::bf16>(); }
TEST_F(Matrices, MmaF16) { check_mma<Kind::f16>(); }
TEST_F(Matrices, MmaTf32) { check_mma<Kind::tf32>(); }
TEST_F(Matrices, MmaS8) { check_mma<Kind::s8>(); }

}  // namespace
}  // namespace sonde::emulated
