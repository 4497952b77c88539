#include "apps/bench_rates.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "io/activation_store.h"
#include "kernels/cpu/peak.h"
#include "models/plan/memory.h"
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

}  // namespace

double time_of(double least, const std::function<void()>& call) {
  call();  // memory is there, caches are warm
  std::vector<double> ends = {now()}, seconds;
  while (ends.size() < 4 || ends.back() - ends.front() < least) {
    call();
    ends.push_back(now());
    seconds.push_back(ends.back() - ends[ends.size() - 2]);
  }
  std::ranges::nth_element(seconds, seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2));
  return seconds[seconds.size() / 2];
}

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

Json forward_rates(const Model& model, std::span<const Site> sites, const ForwardTimes& times) {
  Work work;
  work.sequences = {{times.tokens, times.documents * times.runs}};
  work.tokens = work.rows = times.documents * times.tokens * times.runs;
  work.longest = times.tokens;
  const Flops flops = flops_of(model.spec, work, sites);
  Json rates = Json::object();
  put_rate(rates, "products_flops", flops.linear + flops.head, at(times.seconds, Phase::gemm));
  put_rate(rates, "rows_bytes", row_bytes_of(model.spec, work, sites), at(times.seconds, Phase::rows));
  put_rate(rates, "load_bytes",
           static_cast<double>(model.weight_bytes() + embedding_load(model.spec, model.precision)),
           times.load_seconds);
  if (times.to_store)
    put_rate(rates, "capture_bytes", captured_bytes_of(model.spec, work, sites),
             at(times.seconds, Phase::capture));
  return rates;
}

Json attention_rates(Backend& backend, const ModelSpec& spec, Precision precision, const Together& together) {
  constexpr std::int64_t kTokens = 1024, kLong = 512;
  const std::int64_t heads = spec.n_heads, kv_heads = spec.n_kv_heads, e = spec.d_head;
  const std::int64_t q = heads * e, kv = kv_heads * e;
  OwnedTensor host = make_tensor(DType::f32, {kTokens, q + 2 * kv});
  for (std::int64_t i = 0; i < host.view.count(); ++i)
    host.view.f32()[i] = static_cast<float>(i % 1013) * 2e-3f - 1;
  const OwnedTensor qkv = backend.on_device(std::move(host));
  const Buffer z = backend.allocate(kTokens * q * 4);
  const int layer = static_cast<int>(spec.n_layers) - 1;
  const AttentionSpec attention{.scale = spec.attention_scale(layer),
                                .softcap = static_cast<float>(spec.attn_softcap),
                                .window = spec.window(layer),
                                .precision = precision};
  const AttentionTile tile = backend.device() == DeviceKind::cpu ? cpu_attention_tile() : AttentionTile{};
  std::array<double, 2> seconds{}, flops{};
  for (const std::size_t i : {0u, 1u}) {
    const bool are_short = i == 0;  // of 1 to 15 tokens
    std::mt19937 generator(1);
    Work work;
    std::vector<std::int32_t> starts = {0};
    for (std::int64_t t = 0, n = 0; t < kTokens; t += n) {
      n = std::min(are_short ? 1 + static_cast<std::int64_t>(generator() % 15) : kLong, kTokens - t);
      work.sequences.push_back({n, 1});
      starts.push_back(static_cast<std::int32_t>(t + n));
    }
    flops[i] = attention_flops(spec, work.keys_multiplied(attention.window, tile));
    together();
    seconds[i] = time_of(0.15, [&] {
      backend.attention(
          z.tensor(DType::f32, {kTokens, heads, e}), qkv.view.slice_columns(0, q).reshape_row({heads, e}),
          qkv.view.slice_columns(q, kv).reshape_row({kv_heads, e}),
          qkv.view.slice_columns(q + kv, kv).reshape_row({kv_heads, e}), Documents{starts}, {}, attention);
      backend.wait();
    });
  }
  // seconds = flops / rate + queries x heads x row: two lengths, two unknowns.
  const double queries = static_cast<double>(kTokens * heads);
  const double of_flop =
      std::max((seconds[1] - seconds[0]) / (flops[1] - flops[0]), 1e-3 * seconds[1] / flops[1]);
  const double of_query = std::max((seconds[0] - flops[0] * of_flop) / queries, 1e-12);
  return {{"attention_flops", 1 / of_flop},
          {"attention_query_seconds", of_query},
          {"attention_tile_rows", tile.rows},
          {"attention_tile_keys", tile.keys}};
}

Json link_rates(Communicator& ranks, std::int64_t tokens, std::int64_t d_model) {
  Json rates = Json::object();
  if (ranks.size() == 1) return rates;
  const auto n = static_cast<double>(ranks.size());
  const auto seconds_of = [&](std::int64_t values) {
    std::vector<float> x(static_cast<std::size_t>(values), 0.0f);
    std::vector<double> all;
    for (int i = 0; i < 9; ++i) {
      ranks.barrier();
      const double start = now();
      ranks.all_reduce(std::span(x));
      if (i > 1) all.push_back(now() - start);
    }
    std::ranges::sort(all);
    return all[all.size() / 2];
  };
  const double small = seconds_of(ranks.size()), large = seconds_of(tokens * d_model);
  const double bytes = static_cast<double>(tokens * d_model * 4) * 2 * (n - 1) / n;
  rates["link_latency_seconds"] = std::max(small / (2 * (n - 1)), 1e-9);
  put_rate(rates, "link_bytes", bytes, std::max(large - small, 0.1 * large));
  return rates;
}

Json mean_rates(const std::vector<Json>& ranks) {
  Json mean = Json::object();
  for (const auto& [key, first] : ranks.front().items()) {
    double sum = 0;
    bool all = true;
    for (const Json& rank : ranks) {
      all = all && rank.contains(key);
      if (all) sum += rank[key].get<double>();
    }
    if (all) mean[key] = sum / static_cast<double>(ranks.size());
  }
  return mean;
}

// Of all that measure, on whatever node, each has its own.
ScratchFolder::ScratchFolder(const std::filesystem::path& in) {
  std::string name = (in / "sonde-bench-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr)
    fail("{}: cannot make a folder in it: {}", in.string(), std::strerror(errno));
  path = name;
}
ScratchFolder::~ScratchFolder() {
  std::error_code error;
  std::filesystem::remove_all(path, error);
}

StoreSchema bench_schema(const ModelSpec& spec, std::span<const Site> sites, std::int64_t longest,
                         std::int64_t rows, std::int64_t batches) {
  StoreSchema schema;
  for (const Site site : sites)
    schema.sites.push_back({site, name(site), row_shape(site.hook, spec.hook_sizes(longest))});
  schema.total_rows = rows;
  schema.n_batches = batches;
  schema.identity = {{"bench", true}};
  return schema;
}

Json store_rates(const ModelSpec& spec, std::span<const Site> sites, const std::filesystem::path& folder) {
  constexpr std::int64_t kBatchRows = 2048, kDocument = 512;
  constexpr double kBytes = 384e6;  // beyond the buffers
  StoreSchema schema = bench_schema(spec, sites, kDocument, kBatchRows, 1);
  schema.n_batches =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(kBytes / static_cast<double>(store_bytes(schema))));
  schema.total_rows *= schema.n_batches;

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

  const ScratchFolder scratch(folder);
  const double start = now();
  const auto writer = StoreWriter::open(scratch.path, schema, documents);
  for (std::int64_t b = 0; b < schema.n_batches; ++b) {
    writer->begin_batch(b, b * kBatchRows, {document, position, token});
    for (std::size_t i = 0; i < rows.size(); ++i) writer->put(schema.sites[i].site, rows[i].view, 0);
    writer->end_batch();
  }
  writer->finish();
  Json rates = Json::object();
  put_rate(rates, "disk_bytes", static_cast<double>(store_bytes(schema)), now() - start);
  return rates;
}

}  // namespace sonde
