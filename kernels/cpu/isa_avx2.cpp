// The kernels for AVX2, FMA and F16C. Compiled with its own flags: see kernels/CMakeLists.txt.
#include "kernels/cpu/isa/gemm.h"
#include "kernels/cpu/isa/rows.h"

namespace sonde::cpu {

constinit const KernelTable kAvx2Kernels = {gemm_kernel<F32>("avx2-f32"),
                                            gemm_kernel<F32Scores>("avx2-f32"),
                                            value_kernel<F32Values>("avx2-f32"),
                                            value_kernel<Bf16DotValues>("avx2-bf16_dot"),
                                            gemm_kernel<Bf16Expanded>("avx2-bf16"),
                                            gemm_kernel<Bf16Dot>("avx2-bf16_dot"),
                                            kRows};

}  // namespace sonde::cpu
