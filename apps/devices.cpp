// sonde devices: what this machine computes with, and what `auto` means on it.
#include <cstdint>
#include <fstream>
#include <string>

#include "apps/command.h"
#include "io/json.h"
#include "kernels/devices.h"
#include "runtime/cpu.h"

namespace sonde {
namespace {

// The value of `key` in a "key : value" file of /proc, or "".
std::string proc_value(const char* file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t colon = line.find(':');
    if (colon == line.npos) continue;
    const std::size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == line.npos ? "" : line.substr(start);
  }
  return "";
}

// "24675716 kB" -> bytes; 0 where /proc does not say.
std::int64_t memory_bytes(std::string_view key) {
  const std::string text = proc_value("/proc/meminfo", key);
  return text.empty() ? 0 : std::stoll(text) * 1024;
}

const Help kHelp{
    "devices [--json]",
    "Shows the CPU, the instruction path chosen for it, threads, precisions and memory, and the GPUs.",
    "  sonde devices\n"
    "  sonde devices --json\n"
    "  OMP_NUM_THREADS=1 sonde devices          # threads as OpenMP will use them\n"
    "  SONDE_CPU_PATH=avx2 sonde devices        # a lower path than the CPU allows"};

}  // namespace

int run_devices(const Arguments& arguments) {
  po::options_description options("Options");
  options.add_options()("json", po::bool_switch(), "print JSON");
  po::variables_map values;
  if (!parse_options(arguments, kHelp, options, {}, values)) return 0;

  const auto backend = make_cpu_backend();
  const std::string model = proc_value("/proc/cpuinfo", "model name");
  const bool multiplies_bf16 = best_cpu_path() >= CpuPath::avx512_bf16;
  Json report;
  const std::vector<Gpu> gpus = cuda_gpus();
  report["device"] = gpus.empty() ? "cpu" : "cuda:0";  // what auto means
  report["cpu"] = model.empty() ? "unknown" : model;
  report["path"] = name(best_cpu_path());
  report["threads"] = thread_count();
  report["dtype_auto"] = multiplies_bf16 || !gpus.empty() ? "bf16" : "f32";
  report["f32_path"] = backend->path(Precision::f32);
  report["bf16_path"] = backend->path(Precision::bf16);
  report["memory_bytes"] = memory_bytes("MemTotal");
  report["memory_available_bytes"] = memory_bytes("MemAvailable");

  report["gpus"] = Json::array();
  for (const Gpu& gpu : gpus)
    report["gpus"].push_back({{"name", gpu.name},
                              {"compute_capability", fmt::format("{}.{}", gpu.major, gpu.minor)},
                              {"memory_bytes", gpu.bytes}});
  if (gpus.empty()) report["no_gpu"] = why_no_gpu();

  if (values["json"].as<bool>()) {
    fmt::print("{}\n", report.dump(2));
    return 0;
  }
  const auto text = [&](const char* key) { return report[key].get<std::string>(); };
  const auto gib = [&](const char* key) {
    return static_cast<double>(report[key].get<std::int64_t>()) / (1 << 30);
  };
  fmt::print("cpu           {}\n", text("cpu"));
  fmt::print("path          {}\n", text("path"));
  fmt::print("threads       {}\n", thread_count());
  fmt::print("--dtype auto  {}\n", text("dtype_auto"));
  fmt::print("--dtype f32   {}\n", text("f32_path"));
  fmt::print("--dtype bf16  {}{}\n", text("bf16_path"),
             multiplies_bf16 ? "" : "  (rounds as bf16 does, multiplies in f32: no faster than f32 here)");
  fmt::print("memory        {:.1f} GiB, {:.1f} GiB available\n", gib("memory_bytes"),
             gib("memory_available_bytes"));
  for (std::size_t i = 0; i < gpus.size(); ++i)
    fmt::print("cuda:{:<9}{}, sm_{}{}, {:.1f} GiB\n", i, gpus[i].name, gpus[i].major, gpus[i].minor,
               static_cast<double>(gpus[i].bytes) / (1 << 30));
  if (gpus.empty()) fmt::print("gpu           none ({})\n", why_no_gpu());
  return 0;
}

}  // namespace sonde
