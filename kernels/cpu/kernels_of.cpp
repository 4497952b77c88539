#include "kernels/cpu/kernels_of.h"

namespace sonde::cpu {

const KernelTable& kernels_of(CpuPath path) {
  switch (path) {
    case CpuPath::generic:
      return kGenericKernels;
    case CpuPath::avx2:
      return kAvx2Kernels;
    case CpuPath::avx512:
      return kAvx512Kernels;
    case CpuPath::avx512_bf16:
      return kAvx512Bf16Kernels;
  }
  sonde_check(false, "CPU path {}", static_cast<int>(path));
}

const GemmKernel& gemm_kernel_of(CpuPath path, Precision precision) {
  const KernelTable& kernels = kernels_of(path);
  if (precision == Precision::f32) return kernels.f32;
  if (precision != Precision::bf16)
    fail_hint("--dtype bf16 or f32 run here; f16 and fp8 are for --device cuda and emulated",
              "--dtype {}: the CPU multiplies f32 and bf16", precision == Precision::f16 ? "f16" : "fp8");
  return path == CpuPath::avx512_bf16 ? kernels.bf16_dot : kernels.bf16;
}

const ValueKernel& value_kernel_of(CpuPath path, Precision precision) {
  const KernelTable& kernels = kernels_of(path);
  return precision == Precision::bf16 && path == CpuPath::avx512_bf16 ? kernels.values_bf16_dot
                                                                      : kernels.values;
}

}  // namespace sonde::cpu
