// What every subcommand that runs a model asks for: --dtype, --weights,
// --weights-in-memory, --ignore-config-key, --device.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "apps/command.h"
#include "distributed/mesh.h"
#include "kernels/backend.h"
#include "models/extraction.h"
#include "models/memory_plan.h"
#include "models/model.h"

namespace sonde {

void add_model_options(po::options_description& options);
void add_device_option(po::options_description& options);  // which add_model_options does, too

// The resolved choice: auto is bf16 where this CPU multiplies bf16, f32 elsewhere.
struct ModelOptions {
  std::filesystem::path path;
  Precision precision;
  std::string dtype;     // "f32" | "bf16", resolved
  WeightFormat weights;  // the first of --weights
  WeightsInMemory in_memory;
  IgnoredKeys ignored;
};
ModelOptions read_model_options(const po::variables_map& values, const std::string& model);

// --weights as a comma list; `one`: more than one is a UsageError.
std::vector<WeightFormat> read_weight_formats(const po::variables_map& values, bool one);

DType parse_store_dtype(const po::variables_map& values);  // --store f32|bf16|f16
// --context: a position table ends the context, RoPE goes on as far as it is asked to; 0: the model's.
std::int64_t read_context(const po::variables_map& values, const ModelSpec& spec);

std::string device_of_environment();  // SONDE_DEVICE, or auto
// Of --device; algorithms, local: as kernels/devices.h has it.
std::unique_ptr<Backend> make_backend(const po::variables_map& values,
                                      const std::filesystem::path& algorithms = {}, int local = 0);

LoadOptions load_options(const ModelOptions& options, const RunPart& run);
LoadOptions load_options(const ModelOptions& options, const RunPart& run,
                         const Mesh& mesh);  // spread over its ranks
// The same after a look at the device's memory: stderr hears what stays on the host.
Model load_model(const ModelOptions& options, const LoadOptions& load, Backend& backend, const RunNeeds& run);
// Where ranks share the model: how they add up what each has computed, and hand over what the next one reads.
void say_links(const Model& model, bool speaks);
RunIdentity run_identity(const ModelOptions& options, const Backend& backend, const Model& model);

}  // namespace sonde
