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
    GpuKind{"A100", 80 * kGB, 312e12, 19.5e12, 2.039e12, 300e9},
    GpuKind{"H100", 80 * kGB, 989e12, 67e12, 3.35e12, 450e9},
    GpuKind{"H200", 141 * kGB, 989e12, 67e12, 4.8e12, 450e9},
    GpuKind{"L40S", 48 * kGB, 362e12, 91.6e12, 0.864e12, 32e9},
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
  return {&products,   &attention, &rows,         &weights, &capture,         &load, &disk,
          &filesystem, &link,      &link_latency, &network, &network_latency, &start};
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
  const bool bf16 = precision != Precision::f32;
  const double peak = bf16 ? kind.bf16 : kind.f32, fraction = bf16 ? 0.5 : 0.7, attends = bf16 ? 0.25 : 0.3;
  const std::string sheet = fmt::format("{}'s {:g} TFLOP/s in {} (data sheet)", kind.name, peak * 1e-12,
                                        bf16 ? "bf16" : "f32"),
                    memory = fmt::format("{}'s {:g} TB/s (data sheet)", kind.name, kind.bandwidth * 1e-12);
  Machine m;
  m.name = std::string(kind.name);
  m.gpu = true;
  m.memory = kind.memory;
  m.products = {"products", peak * fraction, "FLOP/s", of(fraction, sheet)};
  m.attention = {"attention", peak * attends, "FLOP/s", of(attends, sheet)};
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
  m.rows = {"norms, sums", bandwidth, "B/s", of(1, memory)};
  m.weights = {"weights, read", bandwidth, "B/s", of(1, memory)};
  m.capture = {"capture", 1.5e9, "B/s", "assumed: sums, narrowing"};
  m.load = {"load", 0.3e9, "B/s", kAssumed};
  m.disk = {"writer", 0.5e9, "B/s a rank", kAssumed};
  m.link = {"link inside a node", 2e9, "B/s a rank", "assumed: shared memory"};
  m.link_latency = {"link latency", 20e-6, "s a message", kAssumed};
  m.start = {"start", 0.3, "s", "assumed: launcher, tokenizer"};
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
  const auto take = [&](const char* key, Assumption& into) {
    const auto at = rates->find(key);
    if (at == rates->end() || at->is_null()) return;  // not measured: the assumption stays
    if (!at->is_number() || !(at->get<double>() > 0) || !std::isfinite(at->get<double>()))
      fail("{}: key rates.{}: found {}, expected a number above 0", file, key, at->dump());
    into.value = at->get<double>();
    into.source = "measured: " + file;
  };
  take("products_flops", m.products);
  take("attention_flops", m.attention);
  take("rows_bytes", m.rows);
  take("weights_bytes", m.weights);
  take("capture_bytes", m.capture);
  take("load_bytes", m.load);
  take("disk_bytes", m.disk);
  take("start_seconds", m.start);
  Assumption crowded{"crowded", 1, "", ""};
  take("crowded", crowded);
  m.crowded = crowded.value;
}

}  // namespace sonde
