// A build without the CUDA toolkit.
#include "kernels/devices.h"

namespace sonde {

namespace {
[[noreturn]] void refuse() {
  fail_hint("--device cpu runs everywhere; a build where nvcc is found has the CUDA backend",
            "--device cuda: this sonde was built without CUDA");
}
}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int, const std::filesystem::path&) { refuse(); }
std::unique_ptr<ProbeOps> make_cuda_probe_ops(int) { refuse(); }

std::vector<Gpu> cuda_gpus() { return {}; }
std::string why_no_gpu() { return "built without CUDA"; }

}  // namespace sonde
