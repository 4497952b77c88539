// sonde describe: what a model's files hold, from headers alone.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apps/command.h"
#include "apps/progress.h"
#include "io/json.h"
#include "io/tokenizer/tokenizer.h"
#include "models/family.h"
#include "models/model.h"
#include "runtime/error.h"

namespace sonde {
namespace {

const Help kHelp = {
    "describe MODEL [--json]",
    "Shows architecture, tensors, parameter count, memory per precision, tokenizer and hook points of MODEL\n"
    "(a Hugging Face folder or a .gguf file). Reads headers only and checks every one of them.",
    "  sonde describe model/\n  sonde describe model.gguf --json | jq .parameters\n"};

std::vector<std::int64_t> dims_of(const Tensor& t) { return {t.shape.begin(), t.shape.begin() + t.rank}; }

// A tokenizer that is not supported never stops describe: its reason is part of the description.
Json describe_tokenizer(const std::filesystem::path& path) {
  try {
    const auto tokenizer = load_tokenizer(path);
    return {{"description", tokenizer->describe()},
            {"vocab_size", tokenizer->vocab_size()},
            {"bos", tokenizer->bos()},
            {"eos", tokenizer->eos()}};
  } catch (const Error& error) {
    return {{"error", error.what()}};
  }
}

Json describe(const std::filesystem::path& path, const IgnoredKeys& ignored) {
  const ModelFiles files = ModelFiles::open(path);
  const ModelSpec spec = read_spec(files, ignored);
  check_tensors(files, tensors_of(files, spec), spec);

  Json json;
  json["name"] = files.name();
  json["format"] = files.format() == ModelFormat::gguf ? "gguf" : "hugging_face";
  json["architecture"] = spec.to_json();
  const std::int64_t parameters = parameter_count(spec);
  json["parameters"] = parameters;
  std::int64_t file_bytes = 0;
  for (const FileTensor& t : files.tensors()) file_bytes += bytes_of(t.view.dtype, t.view.count());
  json["memory_bytes"] = {{"file", file_bytes},
                          {"f32", parameters * 4},
                          {"bf16", parameters * 2},
                          {"int8", parameters},
                          {"int4", (parameters + 1) / 2}};
  json["tokenizer"] = describe_tokenizer(path);
  json["hooks"] = Json::array();
  for (Hook hook : spec.hooks()) json["hooks"].push_back(info(hook).name);
  json["tensors"] = Json::array();
  for (const FileTensor& t : files.tensors())
    json["tensors"].push_back({{"name", t.name},
                               {"dtype", name(t.view.dtype)},
                               {"shape", dims_of(t.view)},
                               {"file", t.file.filename().string()}});
  return json;
}

void print(const Json& json) {
  fmt::print("{} ({})\n\narchitecture\n", json["name"].get<std::string>(), json["format"].get<std::string>());
  for (const auto& [key, value] : json["architecture"].items())
    fmt::print("  {:<22} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  fmt::print("\nparameters               {}\nmemory\n", json["parameters"].get<std::int64_t>());
  for (const auto& [key, value] : json["memory_bytes"].items())
    fmt::print("  {:<22} {}\n", key, human_bytes(value.get<double>()));
  const Json& tokenizer = json["tokenizer"];
  fmt::print("\ntokenizer                {}\n", tokenizer.contains("error")
                                                    ? "not usable: " + tokenizer["error"].get<std::string>()
                                                    : tokenizer["description"].get<std::string>());
  fmt::print("hook points              {} (`sonde hooks` explains them)\n\ntensors\n", json["hooks"].size());
  for (const Json& t : json["tensors"])
    fmt::print("  {:<48} {:<6} [{}]\n", t["name"].get<std::string>(), t["dtype"].get<std::string>(),
               fmt::join(t["shape"].get<std::vector<std::int64_t>>(), ", "));
}

}  // namespace

int run_describe(const Arguments& arguments) {
  po::options_description options("Options");
  options.add_options()("json", "print JSON")(
      "ignore-config-key", po::value<std::vector<std::string>>()->composing(), "as for extract");
  po::variables_map values;
  if (!parse_options(arguments, kHelp, options, {"MODEL"}, values)) return 0;
  IgnoredKeys ignored;
  if (values.count("ignore-config-key"))
    for (const std::string& key : values["ignore-config-key"].as<std::vector<std::string>>())
      ignored.allowed.insert(key);
  const Json json = describe(values["MODEL"].as<std::string>(), ignored);
  if (values.count("json"))
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
  else
    print(json);
  return 0;
}

}  // namespace sonde
