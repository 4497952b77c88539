// How fast the probe passes are, as fractions of what this machine does in the same run: a pass over the
// features against reading them from memory, Gram and Cholesky against the FMA peak in float64. Usage:
// bench_probe [ROWS WIDTH]   (default 100000 4096: 1.6 GB)
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <vector>

#include "kernels/probe_ops.h"

namespace {

using namespace sonde;

template <class F>
double seconds(F&& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

volatile double sink;

// Reads the array once with all threads; the sums only keep the loads alive.
void read_all(const float* x, std::int64_t count) {
  double total = 0;
#pragma omp parallel for schedule(static) reduction(+ : total)
  for (std::int64_t block = 0; block < count / 4096; ++block) {
    float sum[32] = {};
    const float* p = x + block * 4096;
    for (int i = 0; i < 4096; i += 32)
      for (int j = 0; j < 32; ++j) sum[j] += p[i + j];
    for (const float s : sum) total += s;
  }
  sink = total;
}

void bench_pass(std::int64_t n, std::int64_t D) {
  const std::unique_ptr<float[]> x(new float[static_cast<std::size_t>(n * D)]);
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < n * D; ++i)
    x[static_cast<std::size_t>(i)] = static_cast<float>((i * 2654435761u) % 1009) / 1009;
  std::vector<std::int64_t> rows;
  std::vector<std::int8_t> signs;
  for (std::int64_t i = 0; i < n; ++i) {
    rows.push_back(i);
    signs.push_back(i % 3 == 0 ? 1 : -1);
  }
  const std::vector<double> shift(static_cast<std::size_t>(D), 0.5), w(static_cast<std::size_t>(D), 1e-3),
      b{0.0};
  std::vector<double> loss(1), gw(static_cast<std::size_t>(D)), gb(1);
  const auto ops = make_cpu_probe_ops();
  std::vector<double> reads, passes;
  for (int i = 0; i < 5; ++i) {
    reads.push_back(seconds([&] { read_all(x.get(), n * D); }));
    passes.push_back(seconds([&] {
      ops->logistic(loss, gw, gb, {x.get(), D, D, rows, shift}, w, b, signs);
    }));
  }
  const double bytes = 4.0 * static_cast<double>(n * D);
  fmt::print(
      "logistic pass {} x {} {} {} threads: {:.1f} ms, {:.1f} GB/s, {:.0f} % of the {:.1f} GB/s that reading "
      "alone gets\n",
      n, D, ops->path(), omp_get_max_threads(), 1e3 * median(passes), bytes / median(passes) / 1e9,
      100 * median(reads) / median(passes), bytes / median(reads) / 1e9);
}

void bench_matrix(std::int64_t n, std::int64_t D) {
  std::vector<float> x(static_cast<std::size_t>(n * D));
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<float>(std::sin(static_cast<double>(i * i % 10007)));
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < n; ++i) rows.push_back(i);
  const std::vector<double> shift(static_cast<std::size_t>(D)), weights(static_cast<std::size_t>(n), 0.25);
  std::vector<double> gram(static_cast<std::size_t>(D * D)), factor;
  const auto ops = make_cpu_probe_ops();
  std::vector<double> grams, factors;
  for (int i = 0; i < 9; ++i) {
    grams.push_back(seconds([&] { ops->gram(gram, {x.data(), D, D, rows, shift}, weights); }));
    factor = gram;
    for (std::int64_t j = 0; j < D; ++j) factor[static_cast<std::size_t>(j * D + j)] += 1;
    factors.push_back(seconds([&] { ops->cholesky(factor, D); }));
  }
  const double d = static_cast<double>(D);
  fmt::print("gram {} x {}: {:.2f} ms, {:.1f} GFLOP/s; cholesky {}: {:.2f} ms, {:.1f} GFLOP/s\n", n, D,
             1e3 * median(grams), static_cast<double>(n) * d * d / median(grams) / 1e9, D,
             1e3 * median(factors), d * d * d / 3 / median(factors) / 1e9);
}

}  // namespace

int main(int argc, char** argv) {
  const std::int64_t n = argc > 2 ? std::atoll(argv[1]) : 100000, D = argc > 2 ? std::atoll(argv[2]) : 4096;
  bench_matrix(900, 576);
  bench_matrix(4096, 2048);
  bench_pass(n, D);
}
