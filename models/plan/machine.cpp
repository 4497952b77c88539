#include "models/plan/machine.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/error.h"

namespace sonde {
namespace {

// The makers' data sheets: dense tensor cores, SXM boards (L40S: PCIe), NVLink one way.
constexpr std::int64_t kGB = 1000000000;
constexpr std::array kGpus = {
    GpuKind{"A100", 80 * kGB, 0, 312e12, 19.5e12, 2.039e12, 300e9},
    GpuKind{"H100", 80 * kGB, 1979e12, 989e12, 67e12, 3.35e12, 450e9},
    GpuKind{"H200", 141 * kGB, 1979e12, 989e12, 67e12, 4.8e12, 450e9},
    GpuKind{"L40S", 48 * kGB, 733e12, 362e12, 91.6e12, 0.864e12, 32e9},
};

constexpr const char* kAssumed = "assumed";

std::string of(double fraction, const std::string& what) {
  return fmt::format("assumed: {:.0f} % of {}", 100 * fraction, what);
}

void assume_site(Machine& m) {
  m.filesystem = {"file system", 10e9, "B/s of all ranks", kAssumed};
  m.network = {"network", 25e9, "B/s a rank", kAssumed};
  m.network_latency = {"network latency", 20e-6, "s a message", kAssumed};
}

}  // namespace

std::vector<Assumption*> Machine::assumptions() {
  return {&products,   &attention, &attention_query, &rows,    &weights,         &capture, &load, &disk,
          &filesystem, &link,      &link_latency,    &network, &network_latency, &start};
}

std::span<const GpuKind> gpu_kinds() { return kGpus; }

const GpuKind& find_gpu(const std::string& wanted) {
  std::string upper = wanted, known;
  std::ranges::transform(upper, upper.begin(), [](char c) { return c >= 'a' && c <= 'z' ? c - 32 : c; });
  for (const GpuKind& kind : kGpus) {
    if (kind.name == upper) return kind;
    known += (known.empty() ? "" : ", ") + std::string(kind.name);
  }
  throw UsageError(fmt::format("--gpu: found '{}', expected one of {}", wanted, known),
                   "other devices: the JSON of `sonde bench` there, by --bench FILE");
}

Machine gpu_machine(const GpuKind& kind, Precision precision) {
  if (precision == Precision::fp8 && kind.fp8 == 0)
    throw UsageError(fmt::format("--dtype fp8: {}s have none", kind.name), "--dtype bf16 runs there");
  const bool f32 = precision == Precision::f32, fp8 = precision == Precision::fp8;
  const double attention_peak = f32 ? kind.f32 : kind.bf16, peak = fp8 ? kind.fp8 : attention_peak,
               fraction = f32 ? 0.7 : 0.5, attends = f32 ? 0.3 : 0.25;
  const auto sheet = [&](double flops, const char* type) {
    return fmt::format("{}'s {:g} TFLOP/s in {} (data sheet)", kind.name, flops * 1e-12, type);
  };
  const std::string memory = fmt::format("{}'s {:g} TB/s (data sheet)", kind.name, kind.bandwidth * 1e-12);
  Machine m;
  m.name = std::string(kind.name);
  m.gpu = true;
  m.memory = kind.memory;
  m.products = {"products", peak * fraction, "FLOP/s",
                of(fraction, sheet(peak, fp8   ? "fp8"
                                         : f32 ? "f32"
                                               : "bf16"))};
  m.attention = {"attention", attention_peak * attends, "FLOP/s",
                 of(attends, sheet(attention_peak, f32 ? "f32" : "bf16"))};
  m.attention_query = {"attention, a query", 0, "s a head", "assumed: nothing beside the FLOPs"};
  m.rows = {"norms, sums", kind.bandwidth * 0.6, "B/s", of(0.6, memory)};
  m.weights = {"weights, read", kind.bandwidth * 0.8, "B/s", of(0.8, memory)};
  m.capture = {"capture", 5e9, "B/s", "assumed: copy to the host, sums, narrowing"};
  m.load = {"load", 2e9, "B/s", kAssumed};
  m.disk = {"writer", 1e9, "B/s a rank", kAssumed};
  m.link = {"link inside a node", kind.link * 0.6, "B/s a rank",
            of(0.6, fmt::format("{}'s {:g} GB/s one way (data sheet)", kind.name, kind.link * 1e-9))};
  m.link_latency = {"link latency", 10e-6, "s a message", kAssumed};
  m.start = {"start", 20, "s", "assumed: launcher, libraries, tokenizer"};
  assume_site(m);
  return m;
}

Machine cpu_machine(const std::string& name, double gemm_peak, double bandwidth, const std::string& source) {
  Machine m;
  m.name = name;
  const std::string peak = fmt::format("{:.0f} GFLOP/s ({})", gemm_peak * 1e-9, source),
                    memory = fmt::format("{:.1f} GB/s ({})", bandwidth * 1e-9, source);
  m.products = {"products", gemm_peak * 0.65, "FLOP/s", of(0.65, peak)};
  m.attention = {"attention", gemm_peak * 0.4, "FLOP/s", of(0.4, peak)};
  m.attention_query = {"attention, a query", 0.2e-6, "s a head", kAssumed};
  m.tile = cpu_attention_tile();
  m.rows = {"norms, sums", bandwidth, "B/s", of(1, memory)};
  m.weights = {"weights, read", bandwidth, "B/s", of(1, memory)};
  m.capture = {"capture", 1.5e9, "B/s", "assumed: sums, narrowing"};
  m.load = {"load", 0.3e9, "B/s", kAssumed};
  m.disk = {"writer", 0.5e9, "B/s a rank", kAssumed};
  m.link = {"link inside a node", 2e9, "B/s a rank", "assumed: shared memory"};
  m.link_latency = {"link latency", 20e-6, "s a message", kAssumed};
  m.start = {"start", 0.1, "s", "assumed: the tokenizer"};
  assume_site(m);
  m.filesystem.value = 1e9;
  m.network.value = 1e9;
  return m;
}

void use_bench(Machine& m, const Json& bench, const std::string& file) {
  const auto rates = bench.find("rates");
  if (!bench.is_object() || rates == bench.end() || !rates->is_object())
    fail_hint("make it by `sonde bench MODEL --json > FILE`",
              "{}: key rates: found nothing, expected an object", file);
  const auto number = [&](const Json& in, const std::string& key, double& into) {
    const auto at = in.find(key);
    if (at == in.end() || at->is_null()) return false;  // not measured: the assumption stays
    if (!at->is_number() || !(at->get<double>() > 0) || !std::isfinite(at->get<double>()))
      fail("{}: key {}{}: found {}, expected a number above 0", file, &in == &bench ? "" : "rates.", key,
           at->dump());
    into = at->get<double>();
    return true;
  };
  double ranks = 1, tile_rows = 1, tile_keys = 1;
  number(bench, "ranks_per_node", ranks);
  m.measured_ranks = static_cast<std::int64_t>(std::min(ranks, 1e9));
  const std::string source =
      ranks > 1 ? fmt::format("measured: {}, {} ranks of a node at once", file, m.measured_ranks)
                : fmt::format("measured: {}", file);
  const auto take = [&](const char* key, Assumption& into) {
    const bool found = number(*rates, key, into.value);
    if (found) into.source = source;
    return found;
  };
  take("products_flops", m.products);
  if (take("attention_flops", m.attention)) {
    number(*rates, "attention_tile_rows", tile_rows);
    number(*rates, "attention_tile_keys", tile_keys);
    m.tile = {static_cast<std::int64_t>(std::min(tile_rows, 1e6)),
              static_cast<std::int64_t>(std::min(tile_keys, 1e6))};
    if (!take("attention_query_seconds", m.attention_query)) m.attention_query.value = 0;
  }
  take("rows_bytes", m.rows);
  take("weights_bytes", m.weights);
  take("capture_bytes", m.capture);
  take("load_bytes", m.load);
  take("disk_bytes", m.disk);
  take("link_bytes", m.link);
  take("link_latency_seconds", m.link_latency);
  take("start_seconds", m.start);
  number(*rates, "crowded", m.crowded);
}

void share_cores(Machine& m, std::int64_t threads, std::int64_t cores) {
  // The part of its speed alone that each of n ranks has.
  const auto part_of = [&](std::int64_t n) {
    const std::int64_t wanted = threads * n, busy = std::min(wanted, cores);
    const double part = static_cast<double>(busy) / static_cast<double>(wanted);
    if (cores <= threads) return part;
    return part * (1 + (m.crowded - 1) * static_cast<double>(busy - std::min(busy, threads)) /
                           static_cast<double>(cores - threads));
  };
  const double part = part_of(m.ranks_per_node) / part_of(m.measured_ranks);
  if (part == 1) return;
  for (Assumption* rate : {&m.products, &m.attention, &m.rows, &m.weights, &m.capture, &m.load, &m.disk}) {
    rate->value *= part;
    rate->source +=
        fmt::format(", x {:.2g}: {} threads on {} cores", part, threads * m.ranks_per_node, cores);
  }
  m.attention_query.value /= part;
}

}  // namespace sonde
