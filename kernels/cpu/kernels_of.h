// Which kernel table a CPU path uses. Apart from kernel_table.h, which isa_*.cpp include: they see no other
// code.
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/kernel_table.h"
#include "runtime/cpu.h"

namespace sonde::cpu {

const KernelTable& kernels_of(CpuPath path);
const GemmKernel& gemm_kernel_of(CpuPath path, Precision precision);
const ValueKernel& value_kernel_of(CpuPath path, Precision precision);

}  // namespace sonde::cpu
