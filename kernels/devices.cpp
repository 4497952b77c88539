#include "kernels/devices.h"

#include <charconv>

namespace sonde {
namespace {

// The device that a user's word means; of a GPU its number.
struct Choice {
  DeviceKind kind;
  int ordinal = 0;
};

// The local-th of so many, in turns; the first where there is none, for the error that follows.
int turn(int local, int gpus) { return gpus > 0 ? local % gpus : 0; }

Choice parse_device(std::string_view device, int local) {
  if (device == "cpu") return {DeviceKind::cpu};
  if (device == "emulated") return {DeviceKind::emulated, turn(local, emulated_gpus())};
  if (device == "auto" || device == "cuda") {
    const auto gpus = static_cast<int>(cuda_gpus().size());
    if (device == "auto" && gpus == 0) return {DeviceKind::cpu};
    return {DeviceKind::cuda, turn(local, gpus)};
  }
  if (device.starts_with("cuda:")) {
    const std::string_view digits = device.substr(5);
    int ordinal = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), ordinal);
    if (error == std::errc{} && end == digits.data() + digits.size() && ordinal >= 0)
      return {DeviceKind::cuda, ordinal};
  }
  throw UsageError(fmt::format("--device: found '{}', expected auto, cpu, cuda, cuda:N or emulated", device),
                   "`sonde devices` shows what this machine has");
}

}  // namespace

std::string device_name(std::string_view device, int local) {
  const Choice choice = parse_device(device, local);
  return choice.kind == DeviceKind::cpu ? "cpu" : fmt::format("{}:{}", name(choice.kind), choice.ordinal);
}

std::unique_ptr<Backend> make_backend(std::string_view device, const std::filesystem::path& algorithms,
                                      int local) {
  const Choice choice = parse_device(device, local);
  if (choice.kind == DeviceKind::cpu) return make_cpu_backend();
  return choice.kind == DeviceKind::emulated ? make_emulated_backend(algorithms, choice.ordinal)
                                             : make_cuda_backend(choice.ordinal, algorithms);
}

std::unique_ptr<ProbeOps> make_probe_ops(std::string_view device, int local) {
  const Choice choice = parse_device(device, local);
  if (choice.kind == DeviceKind::cpu) return make_cpu_probe_ops();
  return choice.kind == DeviceKind::emulated ? make_emulated_probe_ops(choice.ordinal)
                                             : make_cuda_probe_ops(choice.ordinal);
}

}  // namespace sonde
