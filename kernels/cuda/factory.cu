// What the rest of Sonde sees of this folder.
#include "kernels/cuda/gpu_backend.h"
#include "kernels/cuda/probe_ops.h"
#include "kernels/devices.h"

namespace sonde {

#if GPU_EMULATED
std::unique_ptr<Backend> make_emulated_backend(const std::filesystem::path& algorithms, int ordinal) {
  return std::make_unique<emulated::GpuBackend>(ordinal, algorithms);
}
std::unique_ptr<ProbeOps> make_emulated_probe_ops(int ordinal) {
  return std::make_unique<emulated::GpuProbeOps>(ordinal);
}
int emulated_gpus() { return emulated::device_count().count; }
#else
std::unique_ptr<Backend> make_cuda_backend(int ordinal, const std::filesystem::path& algorithms) {
  return std::make_unique<cuda::GpuBackend>(ordinal, algorithms);
}
std::unique_ptr<ProbeOps> make_cuda_probe_ops(int ordinal) {
  return std::make_unique<cuda::GpuProbeOps>(ordinal);
}

std::vector<Gpu> cuda_gpus() {
  std::vector<Gpu> gpus;
  const int count = cuda::device_count().count;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) break;
    gpus.push_back({p.name, p.major, p.minor, static_cast<std::int64_t>(p.totalGlobalMem)});
  }
  return gpus;
}

std::string why_no_gpu() { return cuda::device_count().why_none; }
#endif

}  // namespace sonde
