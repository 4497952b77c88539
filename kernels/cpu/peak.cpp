#include "kernels/cpu/peak.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "kernels/cpu/kernels_of.h"
#include "runtime/tensor.h"

namespace sonde {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Every thread repeats work(thread), worth `amount` each time, until the time is up; amount per second of
// all.
template <class F>
double measure(int threads, double seconds, double amount, const F& work) {
  double total = 0;
  float sink = 0;
  const double start = now();
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : total, sink)
  for (int thread = 0; thread < threads; ++thread) {
    do {
      sink += work(thread);
      total += amount;
    } while (now() - start < seconds);
  }
  volatile float keep = sink;
  static_cast<void>(keep);
  return total / (now() - start);
}

}  // namespace

double measure_gemm_peak_gflops(CpuPath path, Precision precision, int threads, double seconds) {
  const cpu::GemmKernel& kernel = cpu::gemm_kernel_of(path, precision);
  const std::int64_t iterations = path == CpuPath::generic ? 1'000 : 50'000;  // well under a millisecond
  return measure(threads, seconds, kernel.peak_flops * static_cast<double>(iterations) / 1e9,
                 [&](int) { return kernel.peak(iterations); });
}

AttentionTile cpu_attention_tile() {
  const cpu::GemmKernel& scores = cpu::kernels_of(best_cpu_path()).scores;
  return {scores.mr, scores.nr};
}

double measure_read_bandwidth_gbs(int threads, double seconds) {
  constexpr std::int64_t kBytes = std::int64_t{512} << 20, kFloats = kBytes / 4;
  const Buffer memory(kBytes);
  const std::int64_t share = kFloats / threads / 4096 * 4096;  // floats of a thread
  const auto* data = reinterpret_cast<const float*>(memory.data());
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int thread = 0; thread < threads; ++thread)
    std::memset(memory.data() + thread * share * 4, 0, static_cast<std::size_t>(share) * 4);
  const cpu::RowKernels& rows = cpu::kernels_of(best_cpu_path()).rows;
  return measure(threads, seconds, static_cast<double>(share) * 4 / 1e9,
                 [&](int thread) { return rows.sum_squares(data + thread * share, share); });
}

}  // namespace sonde
