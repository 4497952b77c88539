// Blocks that a multiprocessor holds, by the toolkit's own rules (cuda_occupancy.h), without a driver.
// Lines in:  sm_80|sm_90 REGISTERS STATIC_SHARED THREADS DYNAMIC_SHARED
// Lines out: BLOCKS WARPS_OF_64 LIMIT (registers, shared, warps or blocks)
#include <cuda_occupancy.h>

#include <iostream>
#include <string>

namespace {

cudaOccDeviceProp device(const std::string& arch) {
  const bool hopper = arch == "sm_90";
  cudaOccDeviceProp p{};
  p.computeMajor = hopper ? 9 : 8;
  p.maxThreadsPerBlock = 1024;
  p.maxThreadsPerMultiprocessor = 2048;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536;
  p.warpSize = 32;
  p.sharedMemPerBlock = 48 << 10;
  p.sharedMemPerMultiprocessor = (hopper ? 228 : 164) << 10;
  p.sharedMemPerBlockOptin = (hopper ? 227 : 163) << 10;
  p.reservedSharedMemPerBlock = 1 << 10;
  p.numSms = hopper ? 132 : 108;
  return p;
}

}  // namespace

int main() {
  std::string arch;
  int registers = 0, threads = 0;
  std::size_t fixed = 0, dynamic = 0;
  while (std::cin >> arch >> registers >> fixed >> threads >> dynamic) {
    const cudaOccDeviceProp properties = device(arch);
    cudaOccFuncAttributes kernel{};
    kernel.maxThreadsPerBlock = 1024;
    kernel.numRegs = registers;
    kernel.sharedSizeBytes = fixed;
    kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = properties.sharedMemPerBlockOptin;
    kernel.numBlockBarriers = 1;
    const cudaOccDeviceState state{};
    cudaOccResult result{};
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &properties, &kernel, &state, threads, dynamic) !=
        CUDA_OCC_SUCCESS) {
      std::cout << "0 0 invalid\n";
      continue;
    }
    const unsigned limit = result.limitingFactors;
    std::cout << result.activeBlocksPerMultiprocessor << ' '
              << result.activeBlocksPerMultiprocessor * ((threads + 31) / 32) << ' '
              << (limit & OCC_LIMIT_REGISTERS       ? "registers"
                  : limit & OCC_LIMIT_SHARED_MEMORY ? "shared"
                  : limit & OCC_LIMIT_WARPS         ? "warps"
                                                    : "blocks")
              << '\n';
  }
}
