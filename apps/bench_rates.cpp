#include "apps/bench_rates.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "io/activation_store.h"
#include "kernels/cpu/peak.h"
#include "models/plan/work.h"
#include "runtime/error.h"

namespace sonde {
namespace {

double at(const PhaseSeconds& seconds, Phase phase) { return seconds[static_cast<std::size_t>(phase)]; }

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void put_rate(Json& rates, const char* key, double amount, double seconds) {
  if (amount > 0 && seconds > 0) rates[key] = amount / seconds;
}

// A folder that ends with its holder, also where a write fails.
struct ScratchFolder {
  std::filesystem::path path;
  ~ScratchFolder() {
    std::error_code error;
    std::filesystem::remove_all(path, error);
  }
};

}  // namespace

double measure_crowded(Precision precision, int threads) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (cores <= threads) return 1;
  std::vector<double> ratios;
  for (int i = 0; i < 3; ++i) {
    const double alone = measure_gemm_peak_gflops(best_cpu_path(), precision, threads, 0.1),
                 all = measure_gemm_peak_gflops(best_cpu_path(), precision, cores, 0.1);
    ratios.push_back(all * threads / cores / alone);
  }
  std::ranges::sort(ratios);
  return std::clamp(ratios[1], 0.1, 1.0);
}

PhaseSeconds operator-(const PhaseSeconds& a, const PhaseSeconds& b) {
  PhaseSeconds difference;
  for (std::size_t i = 0; i < a.size(); ++i) difference[i] = a[i] - b[i];
  return difference;
}

void operator+=(PhaseSeconds& a, const PhaseSeconds& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
}

Json forward_rates(const Model& model, std::int64_t documents, std::int64_t tokens,
                   std::span<const Site> sites, int runs, const PhaseSeconds& seconds, double load_seconds) {
  Work work;
  work.sequences = {{tokens, documents * runs}};
  work.tokens = work.rows = documents * tokens * runs;
  const Flops flops = flops_of(model.spec, work, sites);
  Json rates = Json::object();
  put_rate(rates, "products_flops", flops.linear + flops.head, at(seconds, Phase::gemm));
  put_rate(rates, "attention_flops", flops.attention, at(seconds, Phase::attention));
  put_rate(rates, "rows_bytes", row_bytes_of(model.spec, work, sites), at(seconds, Phase::rows));
  put_rate(rates, "load_bytes", static_cast<double>(model.weight_bytes()), load_seconds);
  return rates;
}

Json store_rates(const ModelSpec& spec, std::span<const Site> sites, const std::filesystem::path& folder) {
  constexpr std::int64_t kBatchRows = 2048, kDocument = 512;
  constexpr double kBytes = 384e6;  // beyond the buffers
  StoreSchema schema;
  for (const Site site : sites)
    schema.sites.push_back({site, name(site), row_shape(site.hook, spec.hook_sizes(kDocument))});
  schema.total_rows = kBatchRows;
  schema.n_batches =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(kBytes / static_cast<double>(store_bytes(schema))));
  schema.total_rows *= schema.n_batches;
  schema.identity = {{"bench", true}};

  std::vector<OwnedTensor> rows;  // [kBatchRows, ...] of each site
  for (const StoreSite& site : schema.sites) {
    const std::int64_t width = site.width();
    OwnedTensor values = site.row_shape.size() > 1
                             ? make_tensor(DType::f32, {kBatchRows, site.row_shape[0], site.row_shape[1]})
                             : make_tensor(DType::f32, {kBatchRows, width});
    for (std::int64_t i = 0; i < values.view.count(); ++i)
      values.view.f32()[i] = static_cast<float>(i % 1013) * 1e-3f - 0.5f;
    rows.push_back(std::move(values));
  }
  std::vector<std::int64_t> document(kBatchRows);
  std::vector<std::int32_t> position(kBatchRows), token(kBatchRows, 0);
  for (std::int64_t i = 0; i < kBatchRows; ++i) {
    document[static_cast<std::size_t>(i)] = i / kDocument;
    position[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(i % kDocument);
  }
  const std::vector<StoreDocument> documents(static_cast<std::size_t>(kBatchRows / kDocument),
                                             {"d", kDocument});

  const ScratchFolder scratch{folder / fmt::format("sonde-bench-{}", getpid())};
  double taking = 0, captured = 0;
  const double start = now();
  const auto writer = StoreWriter::open(scratch.path, schema, documents);
  const double waited = phase_seconds()[static_cast<std::size_t>(Phase::io)];
  for (std::int64_t b = 0; b < schema.n_batches; ++b) {
    writer->begin_batch(b, b * kBatchRows, {document, position, token});
    const double before = now();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      writer->put(schema.sites[i].site, rows[i].view, 0);
      captured += static_cast<double>(rows[i].view.count()) * 4;
    }
    taking += now() - before;
    writer->end_batch();
  }
  taking -= phase_seconds()[static_cast<std::size_t>(Phase::io)] - waited;  // for the disk, not for the rows
  writer->finish();
  Json rates = Json::object();
  put_rate(rates, "capture_bytes", captured, taking);
  put_rate(rates, "disk_bytes", static_cast<double>(store_bytes(schema)), now() - start);
  return rates;
}

}  // namespace sonde
