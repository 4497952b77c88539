// The vector kernels of one instruction set as a table of functions over raw rows. isa_*.cpp compile the same
// headers (isa/*.h) once per instruction set; everything else of the CPU backend is baseline code that calls
// these.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sonde::cpu {

// One GEMM micro-kernel: y [rows, cols] (+)= x [rows, k] w' [cols, k]. Both operands are packed in words of 4
// bytes (x) and `w_bytes` (w), one word per k_step values of k. Each output is the sum of chains of fused
// multiply-adds over `chain` values of k in order, whatever `rows` is and at whichever multiple of `chain` k
// is cut: equal bits for any tiling. Short chains round less; scores want that most, since exp makes their
// error a relative one. Sums of values hold a whole block of keys, since tiles begin at different keys.
inline constexpr std::int64_t kGemmChain = 64, kScoreChain = 16, kValueChain = 256;

struct GemmKernel {
  const char* name;
  int mr;       // most rows of a tile
  int nr;       // columns of a panel
  int k_step;   // values of k per word: 1, or 2 for dot products of pairs
  int w_bytes;  // bytes per column and k step of a packed weight
  // out: words [ceil(k / k_step)][rows]; rows <= mr. Writes up to 8 words past the end.
  void (*pack_x)(void* out, const float* x, std::int64_t stride, int rows, std::int64_t k);
  // out: words [ceil(k / k_step)][nr]; columns past cols are zero. w is [cols, k].
  void (*pack_w)(void* out, const float* w, std::int64_t stride, int cols, std::int64_t k);
  // accumulate: c is read first; bias (nr or cols floats, or null) is added last.
  void (*tile)(float* c, std::int64_t c_stride, const void* x, const void* w, std::int64_t k, int rows,
               int cols, bool accumulate, const float* bias);
  // Register-only loop of the tile's multiply-add; `peak_flops` floating-point operations an iteration.
  float (*peak)(std::int64_t iterations);
  double peak_flops;
};

// One whose w is given as rows of k: [k, cols].
struct ValueKernel : GemmKernel {
  void (*pack_values)(void* out, const float* w, std::int64_t stride, int cols, std::int64_t k);
};

// Functions over one row of n floats. Sums run over 64 fixed lanes, so they do not depend on the vector
// width.
struct RowKernels {
  float (*sum_squares)(const float* x, std::int64_t n);
  float (*sum_squares_about)(const float* x, float mean, std::int64_t n);  // of x - mean
  float (*dot)(const float* a, const float* b, std::int64_t n);
  float (*max)(const float* x, std::int64_t n);
  float (*sum)(const float* x, std::int64_t n);
  void (*add)(float* y, const float* a, const float* b, std::int64_t n);
  void (*add_scaled)(float* y, const float* x, float factor, std::int64_t n);  // y += factor x
  void (*scale)(float* y, const float* x, float factor, std::int64_t n);
  void (*divide)(float* y, const float* x, float divisor, std::int64_t n);
  void (*normalize)(float* y, const float* x, float mean, float divisor,
                    std::int64_t n);  // (x - mean) / divisor
  void (*affine)(float* y, const float* x, const float* weight, const float* bias /*or null*/,
                 std::int64_t n);
  void (*normalize_affine)(float* y, const float* x, float mean, float divisor, const float* weight,
                           const float* bias, std::int64_t n);    // bitwise normalize, then affine
  void (*activate[5])(float* y, const float* x, std::int64_t n);  // indexed by Activation
  void (*activate_mul[5])(float* y, const float* gate, const float* up, std::int64_t n);
  void (*softcap)(float* y, const float* x, float cap, std::int64_t n);  // cap tanh(x / cap)
  void (*clamp)(float* y, const float* x, float least, float most, std::int64_t n);
  float (*exp_sum)(float* y, const float* x, float shift,
                   std::int64_t n);  // y = exp(x - shift), returns its sum
  double (*exp_sum_double)(const float* x, float shift, float factor, std::int64_t n);
  // Both halves of a rotation by the angle of (cos, sin): lo, hi of n values each.
  void (*rotate)(float* y_lo, float* y_hi, const float* lo, const float* hi, const float* cos,
                 const float* sin, std::int64_t n);
  void (*rotate_neighbours)(float* y, const float* x, const float* cos, const float* sin,
                            std::int64_t n);  // pairs (2i, 2i + 1), n of them
  void (*to_bf16)(std::uint16_t* y, const float* x, std::int64_t n);
  void (*to_f16)(std::uint16_t* y, const float* x, std::int64_t n);
};

struct KernelTable {
  GemmKernel f32;
  GemmKernel scores;   // f32, q k' in chains of kScoreChain; operands packed alike
  ValueKernel values;  // f32, pattern times v in chains of kValueChain
  ValueKernel values_bf16_dot;
  GemmKernel bf16;  // bf16 weights expanded to f32 in registers, activations rounded: same bits everywhere
  GemmKernel bf16_dot;  // pairs of k: vdpbf16ps, or the same steps in f32 where the CPU has none (for tests)
  RowKernels rows;
};

extern const KernelTable kGenericKernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
extern const KernelTable kAvx512Bf16Kernels;

}  // namespace sonde::cpu
