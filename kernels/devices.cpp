#include "kernels/devices.h"

#include <charconv>

namespace sonde {

std::unique_ptr<Backend> make_backend(std::string_view device) {
  if (device == "cpu") return make_cpu_backend();
  if (device == "emulated") return make_emulated_backend();
  if (device == "auto") return cuda_gpus().empty() ? make_cpu_backend() : make_cuda_backend(0);
  if (device == "cuda") return make_cuda_backend(0);
  if (device.starts_with("cuda:")) {
    const std::string_view digits = device.substr(5);
    int ordinal = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), ordinal);
    if (error == std::errc{} && end == digits.data() + digits.size() && ordinal >= 0)
      return make_cuda_backend(ordinal);
  }
  throw UsageError(fmt::format("--device: found '{}', expected auto, cpu, cuda, cuda:N or emulated", device),
                   "`sonde devices` shows what this machine has");
}

}  // namespace sonde
