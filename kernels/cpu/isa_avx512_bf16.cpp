// The kernels for AVX-512 with BF16 dot products. Compiled with its own flags: see kernels/CMakeLists.txt.
#include "kernels/cpu/isa/gemm.h"
#include "kernels/cpu/isa/rows.h"

namespace sonde::cpu {

constinit const KernelTable kAvx512Bf16Kernels = {gemm_kernel<F32>("avx512_bf16-f32"),
                                                  gemm_kernel<F32Scores>("avx512_bf16-f32"),
                                                  value_kernel<F32Values>("avx512_bf16-f32"),
                                                  value_kernel<Bf16DotValues>("avx512_bf16-bf16_dot"),
                                                  gemm_kernel<Bf16Expanded>("avx512_bf16-bf16"),
                                                  gemm_kernel<Bf16Dot>("avx512_bf16-bf16_dot"),
                                                  kRows};

}  // namespace sonde::cpu
