// Time and bandwidth of collectives over message sizes, run under mpiexec. Bus bandwidth is nccl-tests'
// (PERFORMANCE.md there): what one rank's link carries if the algorithm is optimal. Every timed result is
// verified.
//   bench_collectives             between the hosts
//   bench_collectives DEVICE      emulated | cuda: between the ranks' GPUs, by NCCL
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <vector>

#include "distributed/world.h"
#include "kernels/devices.h"
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

// The median of a call's times, each the slowest rank's.
template <class Prepare, class Run>
double median_seconds(Communicator& world, const Prepare& prepare, const Run& run) {
  std::vector<double> times;
  for (int i = 0; i < 12; ++i) {
    prepare();
    world.barrier();
    const double start = seconds();
    run();
    times.push_back(world.all_reduce(seconds() - start, Reduce::max));
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void print_row(const Communicator& world, const char* name, std::size_t count, double median, double factor) {
  const double rate = static_cast<double>(count) * 4 / median * 1e-9;
  if (world.rank() == 0)
    fmt::print("{:<16} {:>12} {:>12.1f} {:>12.3f} {:>12.3f}\n", name, count * 4, median * 1e6, rate,
               rate * factor);
}

int bench_devices(Communicator& world, const char* device) {
  const int n = world.size();
  const auto backend = make_backend(device, {}, world.rank());  // one node
  std::string why_not = "one rank";
  const auto ranks = world.link() != nullptr ? backend->join(*world.link(), why_not) : nullptr;
  if (!ranks) fail("{}: no NCCL: {}", device, why_not);
  if (world.rank() == 0) fmt::print("{}, {}\n", backend->describe(), ranks->describe());
  Buffer memory, all_memory, host;
  for (const bool gather : {false, true})
    for (std::int64_t bytes = 1 << 10; bytes <= 64 << 20; bytes *= 16) {
      const std::int64_t count = bytes / 4 / n * n, mine = gather ? count / n : count;
      std::vector<float> ones(static_cast<std::size_t>(mine), static_cast<float>(world.rank() + 1));
      if (gather) all_memory = backend->allocate(count * 4);
      Tensor x;
      const double median = median_seconds(
          world,
          [&] {
            x = backend->on_device(Tensor(ones.data(), DType::f32, {mine}), memory);
            backend->wait();
          },
          [&] {
            gather ? ranks->all_gather(all_memory.tensor(DType::f32, {count}), x) : ranks->all_reduce(x);
            backend->wait();
          });
      const Tensor out = backend->on_host(gather ? all_memory.tensor(DType::f32, {count}) : x, host);
      const float last = gather ? static_cast<float>(n) : static_cast<float>(n * (n + 1) / 2);
      if (out.f32()[count - 1] != last) fail("{} bytes are wrong on rank {}", bytes, world.rank());
      print_row(world, gather ? "all_gather" : "all_reduce", static_cast<std::size_t>(count), median,
                (gather ? 1.0 : 2.0) * (n - 1) / n);
    }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto world = join_world();
  const int n = world->size();
  if (world->rank() == 0)
    fmt::print("{} ranks, float32\n{:<16} {:>12} {:>12} {:>12} {:>12}\n", n, "", "bytes", "us", "GB/s",
               "bus GB/s");
  if (argc > 1) try {
      return bench_devices(*world, argv[1]);
    } catch (const std::exception& error) {
      fmt::print(stderr, "[rank {}] {}\n", world->rank(), error.what());
      world->abort(1);
      return 1;
    }
  for (const Bench& bench : benches(n))
    for (std::int64_t bytes = 1 << 10; bytes <= 64 << 20; bytes *= 16) {
      const auto count = static_cast<std::size_t>(bytes / 4 / n * n);
      std::vector<float> x(count), y(count);
      const double median = median_seconds(
          *world, [&] { std::ranges::fill(x, static_cast<float>(world->rank() + 1)); },
          [&] { bench.run(*world, x, y); });
      const bool in_place =
          std::string_view(bench.name) == "all_reduce" || std::string_view(bench.name) == "broadcast";
      if ((in_place ? x : y)[0] != expected(bench.name, n)) {
        fmt::print(stderr, "{} of {} bytes is wrong on rank {}\n", bench.name, bytes, world->rank());
        world->abort(1);
        return 1;
      }
      print_row(*world, bench.name, count, median, bench.bus_factor);
    }
  return 0;
}
