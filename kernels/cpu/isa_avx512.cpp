// The kernels for AVX-512 F, BW and VL. Compiled with its own flags: see kernels/CMakeLists.txt.
#include "kernels/cpu/isa/gemm.h"
#include "kernels/cpu/isa/rows.h"

namespace sonde::cpu {

constinit const KernelTable kAvx512Kernels = {gemm_kernel<F32>("avx512-f32"),
                                              gemm_kernel<F32Scores>("avx512-f32"),
                                              value_kernel<F32Values>("avx512-f32"),
                                              value_kernel<Bf16DotValues>("avx512-bf16_dot"),
                                              gemm_kernel<Bf16Expanded>("avx512-bf16"),
                                              gemm_kernel<Bf16Dot>("avx512-bf16_dot"),
                                              kRows};

}  // namespace sonde::cpu
