// sonde bench: the forward with capture, in tokens per second and as a fraction of what the machine can do.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>

#include "apps/bench_decode.h"
#include "apps/bench_forward.h"
#include "apps/bench_rates.h"
#include "apps/command.h"
#include "apps/model_options.h"
#include "apps/ranks.h"
#include "io/file_util.h"
#include "io/json.h"
#include "kernels/cpu/peak.h"
#include "models/extraction.h"
#include "models/family.h"
#include "models/generator.h"
#include "models/transformer.h"
#include "runtime/cpu.h"
#include "runtime/error.h"

namespace sonde {
namespace {

const Help kHelp = {
    "bench (MODEL | --like llama-8b|llama-70b [--layers N]) [options]",
    "Runs documents of random tokens through the model and captures the chosen sites into memory. Speed is\n"
    "printed beside the GEMM peak (a register-only loop of the same path and threads) and the read "
    "bandwidth,\n"
    "both measured in turn with the runs; medians of --repeats. Several ranks (mpiexec -n 2 sonde bench "
    "...)\n"
    "all measure at the same time, each on the whole model: what is printed is the mean of a rank.",
    "  sonde bench model.gguf --tokens 512 --documents 16 --sites 'blocks.*.hook_resid_post' --json\n"
    "  sonde bench --like llama-70b --layers 1 --documents 4\n"
    "  # rates of this device for `sonde plan --bench`\n"
    "  mpiexec -n 4 sonde bench model.gguf --store-folder /scratch --json > bench.json\n"
    "  # tokens a second while decoding, as a fraction of the time in which memory gives the weights\n"
    "  sonde bench model.gguf --tokens 128 --decode 64 --json\n"};

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

// Of a device's memory: `sequences` of so many tokens at once, and as many more behind them.
RunNeeds decode_needs(const ModelSpec& spec, std::int64_t sequences, std::int64_t tokens,
                      std::int64_t steps) {
  const std::int64_t read = std::min(GenerateOptions{}.batch_tokens, sequences * tokens);
  return {.tokens = std::max(tokens, read) + sequences,
          .fixed = Generator::cache_bytes(spec, sequences, tokens + steps),
          .logits = true};
}

}  // namespace

int run_bench(const Arguments& arguments, Communicator& world) {
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
      "write what is captured into stores in this folder, and one of 0.4 GB (and remove them): rates of "
      "capture and disk, for sonde plan")("json", "print the JSON alone")("out", po::value<std::string>(),
                                                                          "write the JSON to this file");
  add_model_options(options);
  add_mesh_options(options);
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

  const bool decode = values.count("decode") > 0;
  const std::int64_t steps = decode ? values["decode"].as<std::int64_t>() : 0;
  if (decode && steps < 2) throw UsageError(fmt::format("--decode: found {}, expected at least 2", steps));
  if (decode && world.size() > 1)
    throw UsageError(fmt::format("--decode: found {} ranks, expected one", world.size()));
  const Mesh mesh = lay_out_ranks(values, world, ModelRanks::one);
  const Together together = [&] {
    world.barrier();
    world.long_task();
  };
  together();
  const ModelOptions model_options =
      read_model_options(values, like ? "" : values["MODEL"].as<std::vector<std::string>>()[0]);
  read_weight_formats(values, true);
  const auto backend = make_backend(values, {}, mesh.local);
  ModelSpec spec;
  if (like) {
    spec = spec_like(values["like"].as<std::string>());
    if (values.count("layers")) spec.n_layers = values["layers"].as<std::int64_t>();
    spec.check("--like");
  } else {
    spec = read_spec(ModelFiles::open(model_options.path), model_options.ignored);
  }
  const std::string patterns = values["sites"].as<std::string>();
  const auto layers = static_cast<int>(spec.n_layers);
  const std::vector<Site> sites =
      patterns != "none" ? match_sites(patterns, spec.sites(), layers)
                         : std::vector<Site>{{Hook::resid_post, layers - 1}};  // or nothing would run
  const auto tokens = values["tokens"].as<std::int64_t>(), documents = values["documents"].as<std::int64_t>();
  const std::int64_t sequences = values["documents"].defaulted() ? 1 : documents;  // with --decode
  const BenchBatches batches(tokens, documents, values["batch-tokens"].as<std::int64_t>(), spec.vocab);
  ExtractionPlan plan;
  plan.largest_batch = batches.largest();
  plan.longest = tokens;
  const RunNeeds needs = decode ? decode_needs(spec, sequences, tokens, steps) : run_needs(spec, plan, sites);
  const PhaseSeconds started = phase_seconds();
  const Model model = like ? Model::random(spec, load_options(model_options, {.head = decode}), 1, *backend)
                           : load_model(model_options, load_options(model_options, {}), *backend, needs);

  const PhaseSeconds loading = phase_seconds() - started;

  if (decode) {
    Json json = bench_decode(model, *backend, tokens, sequences, steps, repeats);
    json["dtype"] = model_options.dtype;
    json["path"] = backend->path(model_options.precision);
    if (values.count("json"))
      fmt::print("{}\n", json.dump(2));
    else
      print_decode(json);
    return 0;
  }

  Transformer transformer(model, *backend, batches.largest());
  const bool stores = values.count("store-folder") > 0;
  const std::filesystem::path folder = stores ? values["store-folder"].as<std::string>() : "";
  // Seconds of all batches, captured into memory or a store.
  const auto forward = [&](bool to_store) {
    MemorySink memory;
    Hooks hooks(*backend, model.spec.n_layers);
    std::optional<ScratchFolder> scratch;
    std::unique_ptr<StoreWriter> writer;
    if (to_store) {
      scratch.emplace(folder);
      const std::vector<StoreDocument> list(static_cast<std::size_t>(documents), {"d", tokens});
      writer = StoreWriter::open(
          scratch->path, bench_schema(model.spec, sites, tokens, batches.tokens(), batches.count()), list);
    }
    hooks.capture(sites, writer ? static_cast<CaptureSink&>(*writer) : memory);
    together();
    const auto start = std::chrono::steady_clock::now();
    batches.run(transformer, hooks, writer.get());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const int threads = thread_count();
  ForwardTimes times{.documents = documents,
                     .tokens = tokens,
                     .runs = repeats,
                     .load_seconds = like ? 0 : loading[static_cast<std::size_t>(Phase::load)],
                     .to_store = stores};
  std::vector<double> rates, peaks, bandwidths;
  forward(false);  // warm-up: pages touched, rope rows made
  for (int i = 0; i < repeats; ++i) {
    together();
    peaks.push_back(measure_gemm_peak_gflops(best_cpu_path(), model_options.precision, threads, 0.3));
    together();
    bandwidths.push_back(measure_read_bandwidth_gbs(threads, 0.3));
    const PhaseSeconds before = phase_seconds();
    rates.push_back(static_cast<double>(batches.tokens()) / forward(stores));
    times.seconds += phase_seconds() - before;
  }

  Json mine = forward_rates(model, sites, times);
  mine.update(attention_rates(*backend, model.spec, model_options.precision, together));
  mine["weights_bytes"] = median(bandwidths) * 1e9;
  mine["tokens_per_s"] = median(rates);
  mine["gemm_peak_gflops"] = median(peaks);
  if (world.size() == 1) mine["crowded"] = measure_crowded(model_options.precision, threads);
  if (stores) {
    together();
    mine.update(store_rates(model.spec, sites, folder));
  }
  mine.update(link_rates(world, batches.largest(), model.spec.d_model));
  std::vector<Json> all;
  for (const std::string& text : world.gather_bytes(mine.dump())) all.push_back(parse_json(text, "a rank"));
  Json mean = mean_rates(all);

  const double rate = mean["tokens_per_s"], peak = mean["gemm_peak_gflops"],
               bandwidth = mean["weights_bytes"].get<double>() * 1e-9;
  mean.erase("tokens_per_s");
  mean.erase("gemm_peak_gflops");
  const double flops_per_token = 2.0 * static_cast<double>(block_linear_macs(model.spec));
  double captured = 0;  // bytes a token
  for (const StoreSite& site : bench_schema(model.spec, sites, tokens, 1, 1).sites)
    captured += 4 * static_cast<double>(site.width());
  Json json;
  json["model"] = model.name;
  json["ranks"] = world.size();
  json["ranks_per_node"] = ranks_here(world);
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
  json["tokens"] = tokens;
  json["documents"] = documents;
  json["sites"] = sites.size();
  json["rates"] = mean;
  json["captured_bytes_per_token"] = captured;
  if (values.count("out") && world.rank() == 0)
    write_file_atomically(values["out"].as<std::string>(), json.dump(2) + "\n");
  if (values.count("json")) {
    fmt::print("{}\n", json.dump(2));
    return 0;
  }
  fmt::print("{} on {}{}\n", model.name, backend->describe(),
             world.size() > 1 ? fmt::format(", {} ranks at once: of each", world.size()) : "");
  fmt::print("{:.0f} tokens/s: {:.1f} % of the GEMM peak of {:.0f} GFLOP/s ({}, {} threads)\n", rate,
             100 * json["gemm_fraction"].get<double>(), peak, json["path"].get<std::string>(), threads);
  fmt::print(
      "weights read once a batch: {:.1f} % of the {:.1f} GB/s read bandwidth; {:.0f} bytes captured a "
      "token\n",
      100 * json["weight_read_fraction"].get<double>(), bandwidth, captured);
  return 0;
}

}  // namespace sonde
