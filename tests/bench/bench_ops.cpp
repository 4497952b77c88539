// Speed of each op as a fraction of what the machine allows: multiply-adds against the register-only peak of
// the same path, memory-bound ops against the read bandwidth. Limit and op are measured in turns and the
// median of the ratios is reported (Google Benchmark counters): other work on the machine slows both alike.
// With one thread, time is the thread's CPU time, which leaves neighbours out.
#include <benchmark/benchmark.h>
#include <omp.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/peak.h"
#include "tests/bench/matmul_onednn.h"

namespace sonde::bench {
namespace {

double seconds(int threads) {
  timespec t{};
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Seconds of one call: as many calls as take about `least` seconds.
double time_of(int threads, double least, const std::function<void()>& call) {
  int calls = 0;
  const double start = seconds(threads);
  double spent = 0;
  do {
    call();
    ++calls;
    spent = seconds(threads) - start;
  } while (spent < least);
  return spent / calls;
}

double peak_gflops(Precision precision, int threads) {
  if (threads > 1) return measure_gemm_peak_gflops(best_cpu_path(), precision, threads, 0.05);
  const cpu::GemmKernel& kernel = cpu::gemm_kernel_of(best_cpu_path(), precision);
  constexpr std::int64_t kIterations = 100'000;
  const double s = time_of(1, 0.02, [&] { benchmark::DoNotOptimize(kernel.peak(kIterations)); });
  return kernel.peak_flops * static_cast<double>(kIterations) / s / 1e9;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

OwnedTensor filled(std::initializer_list<std::int64_t> shape) {
  OwnedTensor t = make_tensor(DType::f32, shape);
  for (std::int64_t i = 0; i < t.view.count(); ++i)
    t.view.f32()[i] = std::sin(static_cast<float>(i % 8191) * 0.37f);
  return t;
}

// Runs `call` of `work` GFLOP (or GB) in turns with `limit` (GFLOP/s or GB/s).
void report(benchmark::State& state, int threads, double work, const char* unit,
            const std::function<void()>& call, const std::function<double()>& limit) {
  omp_set_num_threads(threads);
  call();
  std::vector<double> fractions, speeds;
  for (auto _ : state)
    for (int turn = 0; turn < 5; ++turn) {
      const double before = limit(), speed = work / time_of(threads, 0.05, call), after = limit();
      fractions.push_back(speed / ((before + after) / 2));
      speeds.push_back(speed);
    }
  state.counters[unit] = median(speeds);
  state.counters["of_limit"] = median(fractions);
}

void linear(benchmark::State& state, Precision precision, bool onednn) {
  const auto threads = static_cast<int>(state.range(0));
  const std::int64_t m = state.range(1), n = state.range(2), k = state.range(3);
  omp_set_num_threads(threads);
  const OwnedTensor x = filled({m, k}), w = filled({n, k}), y = filled({m, n});
  const auto backend = make_cpu_backend();
  const auto packed = backend->prepare_weight(w.view, precision);
  std::function<void()> call = [&] { backend->linear(y.view, x.view, *packed); };
  if (onednn)
    call = onednn_matmul(y.view.f32(), x.view.f32(), w.view.f32(), static_cast<int>(m), static_cast<int>(n),
                         static_cast<int>(k));
  if (!call) return state.SkipWithError("oneDNN is not installed");
  report(state, threads, 2e-9 * static_cast<double>(m * n * k), "GFLOPs", call,
         [&] { return peak_gflops(precision, threads); });
}

// Causal: half of the T x T products.
void attention(benchmark::State& state) {
  const auto threads = static_cast<int>(state.range(0));
  const std::int64_t t = state.range(1), heads = state.range(2), kv_heads = state.range(3),
                     e = state.range(4);
  const OwnedTensor q = filled({t, heads, e}), k = filled({t, kv_heads, e}), v = filled({t, kv_heads, e}),
                    z = filled({t, heads, e});
  const auto backend = make_cpu_backend();
  const std::vector<std::int32_t> starts{0, static_cast<std::int32_t>(t)};
  const double work = 2e-9 * static_cast<double>(t * (t + 1) * heads * e);
  report(
      state, threads, work, "GFLOPs",
      [&] { backend->attention(z.view, q.view, k.view, v.view, {starts}, {}, {0.125f}); },
      [&] { return peak_gflops(Precision::f32, threads); });
}

// `floats` read or written per value of x [16384, 2304], which is far larger than the caches.
void streaming(benchmark::State& state, int floats,
               const std::function<void(Backend&, Tensor, Tensor, Tensor)>& op) {
  const auto threads = static_cast<int>(state.range(0));
  const OwnedTensor a = filled({16384, 2304}), b = filled({16384, 2304}), weight = filled({2304});
  const auto backend = make_cpu_backend();
  report(
      state, threads, 4e-9 * floats * static_cast<double>(a.view.count()), "GBs",
      [&] { op(*backend, a.view, b.view, weight.view); },
      [&] { return measure_read_bandwidth_gbs(threads, 0.1); });
}

void smollm2_shapes(benchmark::internal::Benchmark* b) {
  for (int threads : {1, 2}) {
    for (int m : {512, 4096})
      for (auto [n, k] : {std::pair{960, 576}, {576, 576}, {3072, 576}, {576, 1536}})
        b->Args({threads, m, n, k});
    for (int m : {1, 8, 60, 512}) b->Args({threads, m, 4096, 4096});
    b->Args({threads, 512, 192, 576});
  }
}

BENCHMARK_CAPTURE(linear, f32, Precision::f32, false)->Apply(smollm2_shapes)->Iterations(1);
BENCHMARK_CAPTURE(linear, onednn_f32, Precision::f32, true)->Apply(smollm2_shapes)->Iterations(1);
BENCHMARK_CAPTURE(linear, bf16, Precision::bf16, false)->Apply(smollm2_shapes)->Iterations(1);
BENCHMARK(attention)
    ->Args({1, 512, 9, 3, 64})
    ->Args({2, 512, 9, 3, 64})
    ->Args({1, 64, 9, 3, 64})
    ->Args({1, 4096, 8, 2, 128})
    ->Iterations(1);
BENCHMARK_CAPTURE(streaming, norm, 2,
                  [](Backend& backend, Tensor a, Tensor b, Tensor w) {
                    backend.norm(NormKind::rms, b, a, w, {}, 1e-5f);
                  })
    ->Arg(1)
    ->Arg(2)
    ->Iterations(1);
BENCHMARK_CAPTURE(streaming, add_norm, 4,
                  [](Backend& backend, Tensor a, Tensor b, Tensor w) {
                    backend.add_norm(NormKind::rms, a, b, b, w, {}, 1e-5f);
                  })
    ->Arg(1)
    ->Arg(2)
    ->Iterations(1);
BENCHMARK_CAPTURE(streaming, activate_mul, 3,
                  [](Backend& backend, Tensor a, Tensor b, Tensor) {
                    backend.activate_mul(Activation::silu, b, a, b);
                  })
    ->Arg(1)
    ->Arg(2)
    ->Iterations(1);

}  // namespace
}  // namespace sonde::bench

BENCHMARK_MAIN();
