// sonde bench: the forward with capture, in tokens per second and as a fraction of what the machine can do.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>

#include "apps/bench_decode.h"
#include "apps/bench_rates.h"
#include "apps/command.h"
#include "apps/model_options.h"
#include "io/json.h"
#include "kernels/cpu/peak.h"
#include "models/family.h"
#include "models/transformer.h"
#include "runtime/cpu.h"
#include "runtime/error.h"

namespace sonde {
namespace {

const Help kHelp = {
    "bench (MODEL | --like llama-8b|llama-70b [--layers N]) [options]",
    "Runs documents of random tokens through the model and captures the chosen sites into memory. Speed is "
    "printed\n"
    "beside the GEMM peak (a register-only loop of the same path and threads) and the read bandwidth, both "
    "measured\n"
    "in turn with the runs; medians of --repeats.",
    "  sonde bench model.gguf --tokens 512 --documents 16 --sites 'blocks.*.hook_resid_post' --json\n"
    "  sonde bench --like llama-70b --layers 1 --documents 4\n"
    "  # rates of this device for `sonde plan --bench`\n"
    "  sonde bench model.gguf --store-folder /scratch --json > bench.json\n"
    "  # tokens a second while decoding, as a fraction of the time in which memory gives the weights\n"
    "  sonde bench model.gguf --tokens 128 --decode 64 --json\n"};

// Copies what it is given, as a store's staging buffer would.
class MemorySink : public CaptureSink {
 public:
  void put(Site, Tensor rows, std::int64_t) override {
    const auto bytes = static_cast<std::size_t>(rows.count() * 4);
    if (memory_.size() < bytes) memory_.resize(bytes);
    std::memcpy(memory_.data(), rows.data, bytes);
    bytes_ += static_cast<std::int64_t>(bytes);
  }
  std::int64_t bytes() const { return bytes_; }

 private:
  std::vector<std::byte> memory_;
  std::int64_t bytes_ = 0;
};

ModelSpec spec_like(const std::string& name) {
  ModelSpec spec;
  spec.family = name;
  spec.vocab = 128256;
  spec.d_head = 128;
  spec.n_kv_heads = 8;
  spec.context = 8192;
  spec.norm_eps = 1e-5;
  spec.rope.theta = 500000;
  if (name == "llama-8b")
    spec.n_layers = 32, spec.d_model = 4096, spec.n_heads = 32, spec.d_mlp = 14336;
  else if (name == "llama-70b")
    spec.n_layers = 80, spec.d_model = 8192, spec.n_heads = 64, spec.d_mlp = 28672;
  else
    throw UsageError(fmt::format("--like: found '{}', expected llama-8b or llama-70b", name));
  return spec;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// Documents of random tokens, all the same length, in batches within the token budget.
struct BenchBatches {
  std::vector<std::int32_t> ids, positions, selected;
  std::vector<std::vector<std::int32_t>> starts;  // per batch, from 0
  std::int64_t tokens;                            // per document

  BenchBatches(std::int64_t tokens_per_document, std::int64_t documents, std::int64_t budget,
               std::int64_t vocab)
      : tokens(tokens_per_document) {
    std::mt19937 generator(1);
    for (std::int64_t i = 0; i < documents * tokens; ++i) {
      ids.push_back(static_cast<std::int32_t>(generator() % static_cast<std::uint64_t>(vocab)));
      positions.push_back(static_cast<std::int32_t>(i % tokens));
      selected.push_back(static_cast<std::int32_t>(i));
    }
    const std::int64_t per_batch = std::max<std::int64_t>(1, budget / tokens);
    for (std::int64_t d = 0; d < documents; d += per_batch) {
      std::vector<std::int32_t> s;
      for (std::int64_t i = 0; i <= std::min(per_batch, documents - d); ++i)
        s.push_back(static_cast<std::int32_t>(i * tokens));
      starts.push_back(std::move(s));
    }
  }

  std::int64_t largest() const { return starts[0].back(); }

  void run(Transformer& transformer, Hooks& hooks) const {
    std::size_t at = 0;
    for (const auto& s : starts) {
      const auto n = static_cast<std::size_t>(s.back());
      const auto part = [&](const std::vector<std::int32_t>& v) { return std::span(v).subspan(at, n); };
      transformer.forward({part(ids), part(positions), Documents{s}, std::span(selected).first(n)}, hooks);
      at += n;
    }
  }
};

}  // namespace

int run_bench(const Arguments& arguments) {
  po::options_description options("Options");
  options.add_options()("tokens", po::value<std::int64_t>()->default_value(512), "tokens per document")(
      "documents", po::value<std::int64_t>()->default_value(16), "documents")(
      "sites,site", po::value<std::string>()->default_value("blocks.*.hook_resid_post"),
      "points to capture; 'none' for none")("batch-tokens", po::value<std::int64_t>()->default_value(2048),
                                            "token budget of a batch")(
      "repeats", po::value<int>()->default_value(5), "runs; medians are printed")(
      "like", po::value<std::string>(), "random weights of a named shape: llama-8b | llama-70b")(
      "layers", po::value<std::int64_t>(), "with --like: so many layers")(
      "decode", po::value<std::int64_t>(),
      "generate so many tokens behind prompts of --tokens, --documents at once (1 unless given)")(
      "store-folder", po::value<std::string>(),
      "also write a store of 0.4 GB in this folder (and remove it): rates of capture and disk, for sonde "
      "plan")("json", "print the JSON alone");
  add_model_options(options);
  po::variables_map values;
  if (!parse_options(arguments, kHelp, options, {"MODEL"}, values, true)) return 0;
  const bool like = values.count("like") > 0;
  if (like == (values.count("MODEL") > 0) ||
      (!like && values["MODEL"].as<std::vector<std::string>>().size() != 1))
    throw UsageError("expected one MODEL or --like", "usage: sonde " + kHelp.usage);
  for (const char* option : {"tokens", "documents", "batch-tokens"})
    if (values[option].as<std::int64_t>() < 1)
      throw UsageError(fmt::format("--{}: expected at least 1", option));
  const int repeats = values["repeats"].as<int>();
  if (repeats < 1) throw UsageError("--repeats: expected at least 1");

  const ModelOptions model_options =
      read_model_options(values, like ? "" : values["MODEL"].as<std::vector<std::string>>()[0]);
  read_weight_formats(values, true);
  const auto backend = make_backend(values);
  ModelSpec shape;
  if (like) {
    shape = spec_like(values["like"].as<std::string>());
    if (values.count("layers")) shape.n_layers = values["layers"].as<std::int64_t>();
    shape.check("--like");
  }
  const bool decode = values.count("decode") > 0;
  const PhaseSeconds started = phase_seconds();
  const Model model = like ? Model::random(shape, load_options(model_options, decode), 1, *backend)
                           : Model::load(model_options.path, load_options(model_options, true), *backend);

  const PhaseSeconds loading = phase_seconds() - started;

  if (decode) {
    const auto least = [&](const char* option, std::int64_t n) {
      const auto value = values[option].as<std::int64_t>();
      if (value < n) throw UsageError(fmt::format("--{}: found {}, expected at least {}", option, value, n));
      return value;
    };
    const std::int64_t documents = values["documents"].defaulted() ? 1 : least("documents", 1);
    Json json = bench_decode(model, *backend, least("tokens", 1), documents, least("decode", 2), repeats);
    json["dtype"] = model_options.dtype;
    json["path"] = backend->path(model_options.precision);
    if (values.count("json"))
      fmt::print("{}\n", json.dump(2));
    else
      print_decode(json);
    return 0;
  }

  MemorySink sink;
  Hooks hooks(*backend, model.spec.n_layers);
  const std::string patterns = values["sites"].as<std::string>();
  std::vector<Site> sites;
  if (patterns != "none")
    sites = match_sites(patterns, model.spec.sites(), static_cast<int>(model.spec.n_layers));
  else
    sites = {{Hook::resid_post,
              static_cast<int>(model.spec.n_layers) - 1}};  // something must be wanted for anything to run
  hooks.capture(sites, sink);

  const BenchBatches batches(values["tokens"].as<std::int64_t>(), values["documents"].as<std::int64_t>(),
                             values["batch-tokens"].as<std::int64_t>(), model.spec.vocab);
  Transformer transformer(model, *backend, batches.largest());
  const int threads = thread_count();
  std::vector<double> rates, peaks, bandwidths;
  PhaseSeconds phases{};
  batches.run(transformer, hooks);  // warm-up: pages touched, rope rows made
  for (int i = 0; i < repeats; ++i) {
    peaks.push_back(measure_gemm_peak_gflops(best_cpu_path(), model_options.precision, threads, 0.3));
    bandwidths.push_back(measure_read_bandwidth_gbs(threads, 0.3));
    const PhaseSeconds before = phase_seconds();
    const auto start = std::chrono::steady_clock::now();
    batches.run(transformer, hooks);
    phases += phase_seconds() - before;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    rates.push_back(static_cast<double>(batches.ids.size()) / seconds);
  }

  const double rate = median(rates), peak = median(peaks), bandwidth = median(bandwidths);
  const double flops_per_token = 2.0 * static_cast<double>(block_linear_macs(model.spec));
  Json json;
  json["model"] = model.name;
  json["tokens_per_s"] = rate;
  json["gemm_peak_gflops"] = peak;
  json["gemm_fraction"] = rate * flops_per_token / (peak * 1e9);
  json["read_bandwidth_gbs"] = bandwidth;
  // Traffic that cannot be avoided: the weights once a batch.
  json["weight_read_fraction"] = rate / static_cast<double>(batches.largest()) *
                                 static_cast<double>(model.weight_bytes()) / (bandwidth * 1e9);
  json["dtype"] = model_options.dtype;
  json["path"] = backend->path(model_options.precision);
  json["threads"] = threads;
  json["tokens"] = values["tokens"].as<std::int64_t>();
  json["documents"] = values["documents"].as<std::int64_t>();
  json["sites"] = sites.size();
  json["rates"] = forward_rates(model, values["documents"].as<std::int64_t>(), batches.tokens, sites, repeats,
                                phases, like ? 0 : loading[static_cast<std::size_t>(Phase::load)]);
  json["rates"]["weights_bytes"] = bandwidth * 1e9;
  json["rates"]["crowded"] = measure_crowded(model_options.precision, threads);
  if (values.count("store-folder"))
    json["rates"].update(store_rates(model.spec, sites, values["store-folder"].as<std::string>()));
  json["captured_bytes_per_token"] =
      static_cast<double>(sink.bytes()) / static_cast<double>(batches.ids.size()) / (repeats + 1);
  if (values.count("json")) {
    fmt::print("{}\n", json.dump(2));
    return 0;
  }
  fmt::print("{} on {}\n", model.name, backend->describe());
  fmt::print("{:.0f} tokens/s: {:.1f} % of the GEMM peak of {:.0f} GFLOP/s ({}, {} threads)\n", rate,
             100 * json["gemm_fraction"].get<double>(), peak, json["path"].get<std::string>(), threads);
  fmt::print(
      "weights read once a batch: {:.1f} % of the {:.1f} GB/s read bandwidth; {:.0f} bytes captured a "
      "token\n",
      100 * json["weight_read_fraction"].get<double>(), bandwidth,
      json["captured_bytes_per_token"].get<double>());
  return 0;
}

}  // namespace sonde
