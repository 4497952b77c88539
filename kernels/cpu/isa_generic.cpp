// The kernels for any CPU: 4 lanes, fused multiply-adds from the C library (same bits, slow). Compiled with
// its own flags: see kernels/CMakeLists.txt.
#include "kernels/cpu/isa/gemm.h"
#include "kernels/cpu/isa/rows.h"

namespace sonde::cpu {

constinit const KernelTable kGenericKernels = {gemm_kernel<F32>("generic-f32"),
                                               gemm_kernel<F32Scores>("generic-f32"),
                                               value_kernel<F32Values>("generic-f32"),
                                               value_kernel<Bf16DotValues>("generic-bf16_dot"),
                                               gemm_kernel<Bf16Expanded>("generic-bf16"),
                                               gemm_kernel<Bf16Dot>("generic-bf16_dot"),
                                               kRows};

}  // namespace sonde::cpu
