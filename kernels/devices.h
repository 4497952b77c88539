// Which backend a user's word means, and which GPUs there are.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "kernels/probe_ops.h"

namespace sonde {

// auto (the first GPU, else the CPU) | cpu | cuda | cuda:N | emulated; anything else is a UsageError, and a
// GPU that is not there an Error. algorithms: a file, of a run's output, that keeps which of the library's
// algorithms its products ran on a GPU: who resumes the run goes on with those. An empty path: none is kept.
// local: this rank's number among those of its machine, which take the GPUs in turn unless N names one.
std::unique_ptr<Backend> make_backend(std::string_view device, const std::filesystem::path& algorithms = {},
                                      int local = 0);
std::unique_ptr<ProbeOps> make_probe_ops(std::string_view device, int local = 0);
std::string device_name(std::string_view device, int local);  // "cpu", "cuda:1": what they would be on

std::unique_ptr<Backend> make_cuda_backend(int ordinal, const std::filesystem::path& algorithms = {});
// The CUDA backend's kernels on the CPU: for tests, slow.
std::unique_ptr<Backend> make_emulated_backend(const std::filesystem::path& algorithms = {}, int ordinal = 0);
std::unique_ptr<ProbeOps> make_cuda_probe_ops(int ordinal);
std::unique_ptr<ProbeOps> make_emulated_probe_ops(int ordinal = 0);
int emulated_gpus();

// What the driver says of each GPU, in the order of cuda:N; empty where there is none. Never an Error.
struct Gpu {
  std::string name;
  int major, minor;    // of its compute capability
  std::int64_t bytes;  // of its memory
};
std::vector<Gpu> cuda_gpus();
std::string why_no_gpu();  // where cuda_gpus is empty: "built without CUDA", "no driver"

}  // namespace sonde
