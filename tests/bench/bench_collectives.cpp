// Time and bandwidth of collectives over message sizes, run under mpiexec. Bus bandwidth is nccl-tests'
// (PERFORMANCE.md there): what one rank's link carries if the algorithm is optimal. Every timed result is
// verified.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <vector>

#include "distributed/world.h"
#include "runtime/error.h"

namespace {

using namespace sonde;

struct Bench {
  const char* name;
  double bus_factor;  // of bytes / time
  std::function<void(Communicator&, std::vector<float>& x, std::vector<float>& y)> run;
};

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<Bench> benches(int n) {
  const double ring = static_cast<double>(n - 1) / n;
  using Floats = std::span<float>;
  using Inputs = std::span<const float>;
  return {
      {"all_reduce", 2 * ring, [](Communicator& c, auto& x, auto&) { c.all_reduce(Floats(x)); }},
      {"all_gather", ring,
       [n](Communicator& c, auto& x, auto& y) {
         c.all_gather(Floats(y), Inputs(x).first(x.size() / static_cast<std::size_t>(n)));
       }},
      {"reduce_scatter", ring,
       [n](Communicator& c, auto& x, auto& y) {
         c.reduce_scatter(Floats(y).first(y.size() / static_cast<std::size_t>(n)), Inputs(x));
       }},
      {"all_to_all", ring, [](Communicator& c, auto& x, auto& y) { c.all_to_all(Floats(y), Inputs(x)); }},
      {"broadcast", 1, [](Communicator& c, auto& x, auto&) { c.broadcast(Floats(x)); }},
  };
}

// The first value of the result, where rank r put r + 1 everywhere.
float expected(const std::string& name, int n) {
  return name == "all_reduce" || name == "reduce_scatter" ? static_cast<float>(n * (n + 1) / 2) : 1.0f;
}

}  // namespace

int main() {
  const auto world = join_world();
  const int n = world->size();
  if (world->rank() == 0)
    fmt::print("{} ranks, float32\n{:<16} {:>12} {:>12} {:>12} {:>12}\n", n, "", "bytes", "us", "GB/s",
               "bus GB/s");
  for (const Bench& bench : benches(n))
    for (std::int64_t bytes = 1 << 10; bytes <= 64 << 20; bytes *= 16) {
      const auto count = static_cast<std::size_t>(bytes / 4 / n * n);
      std::vector<float> x(count), y(count);
      std::vector<double> times;
      for (int i = 0; i < 12; ++i) {
        std::fill(x.begin(), x.end(), static_cast<float>(world->rank() + 1));
        world->barrier();
        const double start = seconds();
        bench.run(*world, x, y);
        times.push_back(world->all_reduce(seconds() - start, Reduce::max));
        const bool in_place =
            std::string_view(bench.name) == "all_reduce" || std::string_view(bench.name) == "broadcast";
        if ((in_place ? x : y)[0] != expected(bench.name, n)) {
          fmt::print(stderr, "{} of {} bytes is wrong on rank {}\n", bench.name, bytes, world->rank());
          world->abort(1);
          return 1;
        }
      }
      std::sort(times.begin(), times.end());
      const double median = times[times.size() / 2], rate = static_cast<double>(count) * 4 / median * 1e-9;
      if (world->rank() == 0)
        fmt::print("{:<16} {:>12} {:>12.1f} {:>12.3f} {:>12.3f}\n", bench.name, count * 4, median * 1e6, rate,
                   rate * bench.bus_factor);
    }
  return 0;
}
