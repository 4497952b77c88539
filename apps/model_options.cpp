#include "apps/model_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "kernels/devices.h"
#include "models/family.h"
#include "runtime/cpu.h"
#include "runtime/error.h"

namespace sonde {

std::string device_of_environment() {
  const char* device = std::getenv("SONDE_DEVICE");
  return device == nullptr || *device == '\0' ? "auto" : device;
}

void add_model_options(po::options_description& options) {
  options.add_options()(
      "dtype", po::value<std::string>()->default_value("auto"),
      "precision of the GEMMs: auto | f32 | bf16 | f16 (GPUs alone) | fp8 (the blocks' own, GPUs from "
      "compute "
      "capability 8.9 on); auto is bf16 on a GPU and where this CPU multiplies bf16, f32 elsewhere")(
      "weights", po::value<std::string>()->default_value("f32"),
      "ablation: hold the blocks' weights as f32 | bf16 | int8 | int4 would (f32: as the file has them)")(
      "weights-in-memory", po::value<std::string>()->default_value("prepared"),
      "prepared | quantised: quantised weights stay as the file has them and are expanded panel by panel: "
      "about the "
      "file's size, slower, the same bits")(
      "ignore-config-key", po::value<std::vector<std::string>>()->composing(),
      "a config key that this model may have although Sonde does not know it (repeatable; recorded in the "
      "manifest)");
  add_device_option(options);
}

void add_device_option(po::options_description& options) {
  options.add_options()(
      "device", po::value<std::string>()->default_value(device_of_environment()),
      "auto | cpu | cuda | cuda:N | emulated (the GPU's code on the CPU, for tests); auto is the "
      "first GPU, else the CPU; SONDE_DEVICE changes the default");
}

namespace {

// bf16 on a GPU, and where this CPU multiplies it; the emulation is asked for what the CPU is.
std::string automatic_dtype(const std::string& device) {
  const bool gpu = device.starts_with("cuda") || (device == "auto" && !cuda_gpus().empty());
  return gpu || best_cpu_path() >= CpuPath::avx512_bf16 ? "bf16" : "f32";
}

Precision parse_precision(const std::string& word) {
  for (const auto& [name, precision] : {std::pair{"f32", Precision::f32}, std::pair{"bf16", Precision::bf16},
                                        std::pair{"f16", Precision::f16}, std::pair{"fp8", Precision::fp8}})
    if (word == name) return precision;
  throw UsageError(fmt::format("--dtype: found '{}', expected auto, f32, bf16, f16 or fp8", word));
}

}  // namespace

ModelOptions read_model_options(const po::variables_map& values, const std::string& model) {
  ModelOptions options;
  options.path = model;
  options.dtype = values["dtype"].as<std::string>();
  if (options.dtype == "auto") options.dtype = automatic_dtype(values["device"].as<std::string>());
  options.precision = parse_precision(options.dtype);
  options.weights = read_weight_formats(values, false)[0];
  const std::string in_memory = values["weights-in-memory"].as<std::string>();
  if (in_memory != "prepared" && in_memory != "quantised")
    throw UsageError(
        fmt::format("--weights-in-memory: found '{}', expected prepared or quantised", in_memory));
  options.in_memory = in_memory == "quantised" ? WeightsInMemory::quantised : WeightsInMemory::prepared;
  if (options.in_memory == WeightsInMemory::quantised && options.precision == Precision::fp8)
    throw UsageError("--weights-in-memory quantised keeps the file's weights, --dtype fp8 rounds them anew",
                     "--dtype bf16 multiplies what is kept");
  if (values.count("ignore-config-key"))
    for (const std::string& key : values["ignore-config-key"].as<std::vector<std::string>>())
      options.ignored.allowed.insert(key);
  return options;
}

std::vector<WeightFormat> read_weight_formats(const po::variables_map& values, bool one) {
  const std::string text = values["weights"].as<std::string>();
  std::vector<WeightFormat> formats;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    formats.push_back(parse_weight_format(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  if (one && formats.size() > 1)
    throw UsageError(fmt::format("--weights: found '{}', expected one format", text));
  return formats;
}

DType parse_store_dtype(const po::variables_map& values) {
  const DType dtype = parse_dtype(values["store"].as<std::string>());
  if (dtype != DType::f32 && dtype != DType::bf16 && dtype != DType::f16)
    throw UsageError(fmt::format("--store: found '{}', expected f32, bf16 or f16", name(dtype)));
  return dtype;
}

std::int64_t read_context(const po::variables_map& values, const ModelSpec& spec) {
  const auto context = values["context"].as<std::int64_t>();
  const std::int64_t most = spec.most_positions();
  if (context < 0 || context > most)
    throw UsageError(fmt::format("--context: found {}, expected 0 to {}", context, most));
  return context;
}

std::unique_ptr<Backend> make_backend(const po::variables_map& values,
                                      const std::filesystem::path& algorithms, int local) {
  return make_backend(values["device"].as<std::string>(), algorithms, local);
}

LoadOptions load_options(const ModelOptions& options, const RunPart& run) {
  return {.precision = options.precision,
          .weights = options.weights,
          .in_memory = options.in_memory,
          .ignored = options.ignored,
          .run = run};
}

LoadOptions load_options(const ModelOptions& options, const RunPart& run, const Mesh& mesh) {
  LoadOptions load = load_options(options, run);
  if (mesh.tensor->size() > 1) load.tensor_group = mesh.tensor.get();
  if (mesh.pipeline->size() > 1) load.stages = mesh.pipeline.get();
  return load;
}

Model load_model(const ModelOptions& options, const LoadOptions& load, Backend& backend,
                 const RunNeeds& run) {
  if (backend.memory_left() >= 0) {
    const ModelFiles files = ModelFiles::open(options.path);
    const std::string said =
        plan_device_memory(backend, files, read_spec(files, options.ignored), load, run).describe();
    if (!said.empty()) fmt::print(stderr, "{}\n", said);
  }
  return Model::load(options.path, load, backend);
}

void say_links(const Model& model, bool speaks) {
  if (speaks && model.tensor_group != nullptr) fmt::print(stderr, "sums over ranks: {}\n", model.sums);
  if (speaks && model.stages != nullptr)
    fmt::print(stderr, "streams between stages: {}\n", model.stage_devices.how);
}

RunIdentity run_identity(const ModelOptions& options, const Backend& backend, const Model& model) {
  RunIdentity run;
  run.model_fingerprint = model.fingerprint;
  run.model_name = model.name;
  run.compute_path = backend.path(options.precision);
  run.dtype = options.dtype;
  run.weights = options.weights;
  run.ignored = options.ignored;
  return run;
}

}  // namespace sonde
