#include "runtime/cpu.h"

#include <omp.h>

#include <cstdlib>
#include <iterator>

#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::string_view kNames[] = {"generic", "avx2", "avx512", "avx512_bf16"};

CpuPath detect() {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return CpuPath::generic;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl"))
    return CpuPath::avx2;
  return __builtin_cpu_supports("avx512bf16") ? CpuPath::avx512_bf16 : CpuPath::avx512;
#else
  return CpuPath::generic;
#endif
}

}  // namespace

std::string_view name(CpuPath path) { return kNames[static_cast<int>(path)]; }

CpuPath parse_cpu_path(std::string_view wanted) {
  for (int i = 0; i < static_cast<int>(std::size(kNames)); ++i)
    if (kNames[i] == wanted) return static_cast<CpuPath>(i);
  throw UsageError(fmt::format("unknown CPU path '{}'", wanted),
                   "known are generic, avx2, avx512, avx512_bf16");
}

CpuPath best_cpu_path() {
  static const CpuPath detected = detect();
  const char* wanted = std::getenv("SONDE_CPU_PATH");
  if (wanted == nullptr || *wanted == '\0') return detected;
  const CpuPath path = parse_cpu_path(wanted);
  if (path > detected)
    throw UsageError(fmt::format("SONDE_CPU_PATH={}: this CPU reaches only {}", wanted, name(detected)),
                     "unset SONDE_CPU_PATH");
  return path;
}

int thread_count() { return omp_get_max_threads(); }
void set_thread_count(int threads) { omp_set_num_threads(threads); }

}  // namespace sonde
