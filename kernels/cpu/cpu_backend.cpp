#include "kernels/cpu/cpu_backend.h"

namespace sonde {

std::unique_ptr<Backend> make_cpu_backend() { return std::make_unique<cpu::CpuBackend>(best_cpu_path()); }

namespace cpu {

std::string CpuBackend::describe() const {
  return fmt::format("cpu {}, {} threads", name(path_), thread_count());
}

std::string CpuBackend::path(Precision precision) const { return gemm_kernel_of(path_, precision).name; }

}  // namespace cpu
}  // namespace sonde
