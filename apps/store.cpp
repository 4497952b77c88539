// sonde store info|verify|diff|merge: a store shown, checked, compared, joined.
#include <cstdio>
#include <filesystem>

#include "apps/command.h"
#include "io/activation_store.h"
#include "runtime/error.h"

namespace sonde {
namespace {

const Help kHelp = {"store info|verify DIR | store diff A B | store merge OUT PART...",
                    "info shows what a store holds (--json: as JSON); verify reads every block against its "
                    "checksum; diff compares rows,\n"
                    "row metadata, statistics, documents and identity of two stores, whatever their shards "
                    "(exit code 1: they differ);\n"
                    "merge joins the parts of `sonde extract --part I/N` into what one run gives.",
                    "  sonde store info acts\n"
                    "  sonde store verify acts\n"
                    "  sonde store diff acts acts-again\n"
                    "  sonde store diff acts acts-of-two-ranks --tolerance 5e-6\n"
                    "  sonde store merge acts part-1 part-2 part-3\n"};

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t dim : shape) text += (text.empty() ? "" : " x ") + std::to_string(dim);
  return text;
}

std::int64_t bytes_on_disk(const std::filesystem::path& dir) {
  std::int64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir))
    if (entry.is_regular_file()) bytes += static_cast<std::int64_t>(entry.file_size());
  return bytes;
}

int store_info(const std::string& dir, bool as_json) {
  const auto store = StoreReader::open(dir, Incomplete::accept);
  const Json& manifest = store->manifest();
  if (as_json) {
    Json json = manifest;
    json["committed_rows"] = store->rows();
    json["bytes_on_disk"] = bytes_on_disk(dir);
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  const auto total = manifest["rows"].get<std::int64_t>();
  fmt::print("{}: activation store, version {}\n", dir, manifest["version"].get<std::int64_t>());
  if (store->complete())
    fmt::print("state      complete\n");
  else
    fmt::print("state      not complete: {} of {} rows ({:.1f} %); the command that makes it resumes\n",
               store->rows(), total,
               total ? 100.0 * static_cast<double>(store->rows()) / static_cast<double>(total) : 0.0);
  fmt::print("rows       {} of {} documents\n", store->rows(), store->documents().size());
  fmt::print("dtype      {}\n", name(store->dtype()));
  fmt::print("on disk    {:.3f} GB, {} rows a shard\n", static_cast<double>(bytes_on_disk(dir)) / 1e9,
             manifest["shard_rows"].get<std::int64_t>());
  fmt::print("sites      {}\n", store->sites().size());
  for (const StoreSite& site : store->sites())
    fmt::print("  {:<36} {:<12} {}\n", site.name, shape_text(site.row_shape), info(site.site.hook).meaning);
  const auto print_object = [](const char* title, const Json& object) {
    if (!object.is_object() || object.empty()) return;
    fmt::print("{}\n", title);
    for (const auto& [key, value] : object.items())
      fmt::print("  {:<12} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  };
  print_object("identity", manifest.value("identity", Json()));
  print_object("notes", manifest.value("notes", Json()));
  return 0;
}

int store_verify(const std::string& dir) {
  const StoreCheck check = verify_store(dir);
  const bool complete = StoreReader::open(dir, Incomplete::accept)->complete();
  fmt::print("{}: {} shards, {} rows, {} blocks ({:.3f} GB) agree with their checksums; {}\n", dir,
             check.shards, check.rows, check.blocks, static_cast<double>(check.bytes) / 1e9,
             complete ? "manifest, documents, index and statistics agree, too" : "the store is not complete");
  return 0;
}

int store_diff(const std::string& a, const std::string& b, double tolerance) {
  const std::vector<std::string> differences = diff_stores(a, b, tolerance);
  const std::string verdict = tolerance > 0 ? fmt::format("within {}", tolerance) : "identical";
  if (differences.empty()) return fmt::print("{}: {} and {}\n", verdict, a, b), 0;
  for (const std::string& difference : differences) fmt::print("{}\n", difference);
  return 1;
}

int store_merge(const std::vector<std::string>& folders) {
  const std::vector<std::filesystem::path> parts(folders.begin() + 1, folders.end());
  merge_stores(parts, folders[0]);
  fmt::print("{}: {} rows from {} parts\n", folders[0], StoreReader::open(folders[0])->rows(), parts.size());
  return 0;
}

}  // namespace

int run_store(const Arguments& arguments) {
  po::options_description options("Options");
  options.add_options()("json", "info: print the manifest as JSON")(
      "tolerance", po::value<double>()->default_value(0),
      "diff: how far apart a site's values may be, relative to all of them (0: not a bit)");
  po::variables_map values;
  if (!parse_options(arguments, kHelp, options, {"action", "folders"}, values, true)) return 0;
  const auto action = values["action"].as<std::string>();
  const auto folders =
      values.count("folders") ? values["folders"].as<std::vector<std::string>>() : std::vector<std::string>{};
  const auto expect = [&](bool right, const char* what) {
    if (!right)
      throw UsageError(fmt::format("store {}: found {} folders, expected {}", action, folders.size(), what),
                       "usage: sonde " + kHelp.usage);
  };
  if (values.count("json") && action != "info") throw UsageError("--json goes with `sonde store info`");
  const auto tolerance = values["tolerance"].as<double>();
  if (!(tolerance >= 0) || (tolerance > 0 && action != "diff"))
    throw UsageError("--tolerance goes with `sonde store diff` and is at least 0");
  if (action == "info")
    return expect(folders.size() == 1, "1"), store_info(folders[0], values.count("json") > 0);
  if (action == "verify") return expect(folders.size() == 1, "1"), store_verify(folders[0]);
  if (action == "diff")
    return expect(folders.size() == 2, "2"), store_diff(folders[0], folders[1], tolerance);
  if (action == "merge")
    return expect(folders.size() >= 2, "OUT and at least one PART"), store_merge(folders);
  throw UsageError(fmt::format("store: found action '{}', expected info, verify, diff or merge", action),
                   "usage: sonde " + kHelp.usage);
}

}  // namespace sonde
