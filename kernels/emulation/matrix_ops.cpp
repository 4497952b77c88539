#include "kernels/emulation/matrix_ops.h"

#include <atomic>

#include "kernels/emulation/access.h"
#include "kernels/emulation/collective.h"
#include "kernels/emulation/error_codes.h"
#include "kernels/emulation/shared_memory.h"
#include "kernels/emulation/small_floats.h"
#include "kernels/emulation/statistics.h"
#include "runtime/error.h"

namespace sonde::emulated {
namespace {

using emulation::raise_fault;

void check_whole_warp(const char* op, Source where) {
  const emulation::Warp& warp = emulation::block->warps[emulation::block->fiber->warp];
  if (warp.exists != ~0u)
    raise_fault(emulation::kErrorLaunchFailure, where,
                fmt::format("{} in a warp of fewer than 32 threads", op));
}

template <int n>
struct Registers {
  std::uint32_t r[n];
};

template <int n, bool transposed>
void load_matrices(std::uint32_t (&r)[n], const void* row, Source where, const char* op, const void* pc) {
  check_whole_warp(op, where);
  if (emulation::block->fiber->lane < 8 * n) {
    if (reinterpret_cast<std::uintptr_t>(row) % 16)
      raise_fault(emulation::kErrorMisalignedAddress, where, fmt::format("{}: row at {}", op, row));
    if (!emulation::in_shared_memory(row, 16))
      raise_fault(emulation::kErrorIllegalAddress, where,
                  fmt::format("{}: row at {}, outside of shared memory", op, row));
    emulation::record_access(row, 16, emulation::Access::read, pc);
  }
  const auto out = emulation::collective<Registers<n>>(~0u, op, row, where, [](auto lanes) {
    for (int i = 0; i < n; ++i) {
      std::uint16_t values[8][8];
      for (int j = 0; j < 8; ++j) std::memcpy(values[j], lanes.in(8 * i + j), 16);
      for (int l = 0; l < 32; ++l) {
        const int x = l / 4, y = l % 4 * 2;
        const std::uint32_t low = transposed ? values[y][x] : values[x][y];
        const std::uint32_t high = transposed ? values[y + 1][x] : values[x][y + 1];
        lanes.out(l).r[i] = low | high << 16;
      }
    }
  });
  std::memcpy(r, out.r, sizeof r);
}

// What a register of a fragment holds: 4 / sizeof values of a row of a, or of a column of b.
struct Bf16 {
  using Sum = float;
  static constexpr int values = 2;
  static float get(std::uint32_t r, int i) { return std::bit_cast<float>(i ? r & 0xffff0000u : r << 16); }
};
struct F16 {
  using Sum = float;
  static constexpr int values = 2;
  static float get(std::uint32_t r, int i) {
    return static_cast<float>(__half(f16{static_cast<std::uint16_t>(i ? r >> 16 : r & 0xffff)}));
  }
};
struct Tf32 {
  using Sum = float;
  static constexpr int values = 1;
  static float get(std::uint32_t r, int) { return std::bit_cast<float>(r & 0xffffe000u); }
};
struct S8 {
  using Sum = int;
  static constexpr int values = 4;
  static int get(std::uint32_t r, int i) { return static_cast<std::int8_t>(r >> (8 * i)); }
};

template <class Sum>
struct MmaIn {
  std::uint32_t a[4], b[2];
  Sum c[4];
};
template <class Sum>
struct MmaOut {
  Sum d[4];
};

// Group g = lane / 4 is a row of a and c (and g + 8) and a column of b; t = lane % 4 counts along k.
template <class Type, class Lanes>
void multiply(const Lanes& lanes) {
  using Sum = typename Type::Sum;
  constexpr int e = Type::values, k = 8 * e;
  Sum a[16][k], b[k][8], c[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& in = lanes.in(lane);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < e; ++i) {
      for (int high = 0; high < 2; ++high) {
        const int at = t * e + i + high * 4 * e;
        a[g][at] = Type::get(in.a[2 * high], i);
        a[g + 8][at] = Type::get(in.a[2 * high + 1], i);
        b[at][g] = Type::get(in.b[high], i);
      }
    }
    for (int i = 0; i < 4; ++i) c[g + i / 2 * 8][t * 2 + i % 2] = in.c[i];
  }
  // Products of these types are exact in the sum's type; the hardware's order and rounding of sums is its
  // own.
  for (int row = 0; row < 16; ++row)
    for (int at = 0; at < k; ++at)
      for (int column = 0; column < 8; ++column) {
        if constexpr (std::is_same_v<Sum, int>) {
          c[row][column] = static_cast<int>(static_cast<unsigned>(c[row][column]) +
                                            static_cast<unsigned>(a[row][at] * b[at][column]));
        } else {
          c[row][column] += a[row][at] * b[at][column];
        }
      }
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) lanes.out(lane).d[i] = c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  emulation::statistics().mma_flops.fetch_add(2 * 16 * 8 * k, std::memory_order_relaxed);
}

template <class Type>
void mma(typename Type::Sum (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
         const char* op, Source where) {
  using Sum = typename Type::Sum;
  check_whole_warp(op, where);
  const MmaIn<Sum> in{{a[0], a[1], a[2], a[3]}, {b0, b1}, {d[0], d[1], d[2], d[3]}};
  const auto out =
      emulation::collective<MmaOut<Sum>>(~0u, op, in, where, [](auto lanes) { multiply<Type>(lanes); });
  std::memcpy(d, out.d, sizeof d);
}

}  // namespace

#define SONDE_LDMATRIX(n)                                                                         \
  void ldmatrix_x##n(std::uint32_t(&r)[n], const void* row, Source where) {                       \
    load_matrices<n, false>(r, row, where, "ldmatrix_x" #n, __builtin_return_address(0));         \
  }                                                                                               \
  void ldmatrix_x##n##_trans(std::uint32_t(&r)[n], const void* row, Source where) {               \
    load_matrices<n, true>(r, row, where, "ldmatrix_x" #n "_trans", __builtin_return_address(0)); \
  }
SONDE_LDMATRIX(1)
SONDE_LDMATRIX(2)
SONDE_LDMATRIX(4)
#undef SONDE_LDMATRIX

void mma_bf16_16816(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                    Source where) {
  mma<Bf16>(d, a, b0, b1, "mma_bf16_16816", where);
}
void mma_f16_16816(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                   Source where) {
  mma<F16>(d, a, b0, b1, "mma_f16_16816", where);
}
void mma_tf32_1688(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                   Source where) {
  mma<Tf32>(d, a, b0, b1, "mma_tf32_1688", where);
}
void mma_s8_16832(int (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                  Source where) {
  mma<S8>(d, a, b0, b1, "mma_s8_16832", where);
}

}  // namespace sonde::emulated
