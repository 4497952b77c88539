#include "io/store/manifest.h"

#include <fcntl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "io/file_util.h"
#include "io/hash.h"
#include "io/store/files.h"
#include "runtime/error.h"

namespace sonde {
namespace {

using std::filesystem::path;

constexpr std::int64_t kWidestRow = std::int64_t{1} << 40;  // values of all sites of a row

// A key of a JSON object with the type it must have.
const Json& key(const Json& object, const char* name, Json::value_t type, const std::string& source) {
  const auto at = object.is_object() ? object.find(name) : object.end();
  if (!object.is_object() || at == object.end()) fail("{}: key {} is missing", source, name);
  const bool integer = type == Json::value_t::number_integer && at->is_number_integer();
  if (!integer && at->type() != type)
    fail("{}: key {}: found {}, expected {}", source, name, at->type_name(), Json(type).type_name());
  return *at;
}

std::int64_t integer(const Json& object, const char* name, const std::string& source) {
  const auto value = key(object, name, Json::value_t::number_integer, source).get<std::int64_t>();
  if (value < 0) fail("{}: key {}: found {}, expected 0 or more", source, name, value);
  return value;
}

std::string text(const Json& object, const char* name, const std::string& source) {
  return key(object, name, Json::value_t::string, source).get<std::string>();
}

std::uint32_t parse_crc(const Json& object, const char* name, const std::string& source) {
  const std::string digits = text(object, name, source);
  if (digits.size() != 8 || digits.find_first_not_of("0123456789abcdef") != std::string::npos)
    fail("{}: key {}: found '{}', expected 8 hexadecimal digits", source, name, printable(digits));
  return static_cast<std::uint32_t>(std::stoul(digits, nullptr, 16));
}

Json site_json(const StoreSite& site) {
  const HookInfo& hook = info(site.site.hook);
  Json json = {{"name", site.name}, {"hook", hook.name}};
  if (per_layer(site.site.hook)) json["layer"] = site.site.layer;
  json["row_shape"] = site.row_shape;
  json["meaning"] = hook.meaning;
  if (!hook.alias.empty()) json["hugging_face"] = hook.alias;
  return json;
}

StoreSite parse_site(const Json& json, const std::string& source) {
  StoreSite site;
  site.name = text(json, "name", source);
  const std::string hook = text(json, "hook", source);
  const auto row = std::ranges::find(hook_table(), hook, &HookInfo::name);
  if (row == hook_table().end())
    fail("{}: site {}: unknown hook '{}'", source, printable(site.name), printable(hook));
  site.site.hook = row->hook;
  if (per_layer(row->hook)) {
    const std::int64_t layer = integer(json, "layer", source);
    if (layer > 100000) fail("{}: site {}: found layer {}", source, printable(site.name), layer);
    site.site.layer = static_cast<int>(layer);
  }
  if (name(site.site) != site.name)
    fail("{}: site {}: its hook and layer name {}", source, printable(site.name), name(site.site));
  const Json& shape = key(json, "row_shape", Json::value_t::array, source);
  std::int64_t width = 1;
  for (const Json& dim : shape) {
    if (!dim.is_number_integer() || dim.get<std::int64_t>() <= 0 ||
        __builtin_mul_overflow(width, dim.get<std::int64_t>(), &width) || width > kWidestRow)
      fail("{}: site {}: row_shape: found {}, expected positive sizes", source, site.name, shape.dump());
    site.row_shape.push_back(dim.get<std::int64_t>());
  }
  if (shape.empty() || shape.size() > 3)
    fail("{}: site {}: row_shape: found {} dims", source, site.name, shape.size());
  return site;
}

// Each site once, and rows whose bytes can be counted.
void check_sites(const std::vector<StoreSite>& sites, const std::string& source) {
  std::set<std::string_view> names;
  std::int64_t width = 0;
  for (const StoreSite& site : sites) {
    if (!names.insert(site.name).second) fail("{}: site {}: found twice, expected once", source, site.name);
    width += site.width();
    if (width > kWidestRow)
      fail("{}: row_shape: found rows of more than {} values, expected fewer", source, kWidestRow);
  }
}

std::string shorten(const Json& value) {
  std::string dump = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (dump.size() > 120) dump = dump.substr(0, 117) + "...";
  return dump;
}

}  // namespace

path manifest_path(const path& dir) { return dir / "manifest.json"; }
path shard_log_path(const path& dir) { return dir / "shards.jsonl"; }
path documents_path(const path& dir) { return dir / "documents.jsonl"; }
path index_path(const path& dir) { return dir / "index.h5"; }
path rank_log_path(const path& dir, int rank) { return dir / fmt::format("shards.rank-{:05}.jsonl", rank); }
std::string shard_file(std::int64_t shard) { return fmt::format("shards/shard-{:06}.h5", shard); }
std::string shard_file_from(std::int64_t first_row) {
  return fmt::format("shards/rows-{:012}.h5", first_row);
}

bool StoreManifest::is_part() const {
  return schema.identity.is_object() && schema.identity.contains("part");
}

Json to_json(const StoreManifest& manifest) {
  const StoreSchema& schema = manifest.schema;
  Json json = {{"format", kStoreFormat},         {"version", kStoreVersion},  {"complete", manifest.complete},
               {"dtype", name(schema.dtype)},    {"rows", schema.total_rows}, {"batches", schema.n_batches},
               {"shard_rows", schema.shard_rows}};
  json["sites"] = Json::array();
  for (const StoreSite& site : schema.sites) json["sites"].push_back(site_json(site));
  json["documents"] = {{"count", manifest.documents}, {"sha256", manifest.documents_sha256}};
  json["identity"] = schema.identity;
  json["notes"] = schema.notes;
  if (manifest.complete)
    json["totals"] = {{"shards", manifest.shards},
                      {"bytes", manifest.bytes},
                      {"statistics_crc32c", fmt::format("{:08x}", manifest.statistics_crc)}};
  return json;
}

StoreManifest read_manifest(const path& dir) {
  const path file = manifest_path(dir);
  if (!std::filesystem::exists(file))
    fail_hint("a store is the folder that `sonde extract --out` wrote",
              "{}: found no manifest.json: not a store", dir.string());
  StoreManifest manifest;
  manifest.json = read_json(file);
  const Json& json = manifest.json;
  const std::string source = file.string();
  if (const std::string format = text(json, "format", source); format != kStoreFormat)
    fail("{}: key format: found '{}', expected '{}'", source, printable(format), kStoreFormat);
  if (const std::int64_t version = integer(json, "version", source); version != kStoreVersion)
    fail_hint("read it with the version of sonde that wrote it", "{}: key version: found {}, expected {}",
              source, version, kStoreVersion);
  manifest.complete = key(json, "complete", Json::value_t::boolean, source).get<bool>();
  StoreSchema& schema = manifest.schema;
  const std::string dtype = text(json, "dtype", source);
  if (dtype != "f32" && dtype != "bf16" && dtype != "f16")
    fail("{}: key dtype: found '{}', expected f32, bf16 or f16", source, printable(dtype));
  schema.dtype = parse_dtype(dtype);
  schema.total_rows = integer(json, "rows", source);
  schema.n_batches = integer(json, "batches", source);
  schema.shard_rows = integer(json, "shard_rows", source);
  for (const Json& site : key(json, "sites", Json::value_t::array, source))
    schema.sites.push_back(parse_site(site, source));
  check_sites(schema.sites, source);
  const Json& documents = key(json, "documents", Json::value_t::object, source);
  manifest.documents = integer(documents, "count", source);
  manifest.documents_sha256 = text(documents, "sha256", source);
  schema.identity = json.value("identity", Json());
  schema.notes = json.value("notes", Json());
  if (manifest.complete) {
    const Json& totals = key(json, "totals", Json::value_t::object, source);
    manifest.shards = integer(totals, "shards", source);
    manifest.bytes = integer(totals, "bytes", source);
    manifest.statistics_crc = parse_crc(totals, "statistics_crc32c", source);
  }
  return manifest;
}

void write_manifest(const path& dir, const StoreManifest& manifest) {
  const Json json = to_json(manifest);
  write_file_atomically(manifest_path(dir), json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Json to_json(const ShardRecord& record) {
  Json json = {{"shard", record.shard},           {"file", record.file},
               {"first_row", record.first_row},   {"rows", record.rows},
               {"bytes", record.bytes},           {"batches", record.batches},
               {"batch_rows", record.batch_rows}, {"crc32c", fmt::format("{:08x}", record.crc)}};
  if (!record.made_by.is_null()) json["made_by"] = record.made_by;
  return json;
}
std::string to_line(const ShardRecord& record) { return to_json(record).dump() + "\n"; }

ShardRecord parse_record(std::string_view line, const std::string& source) {
  const Json json = parse_json(line, source);
  ShardRecord record;
  record.shard = integer(json, "shard", source);
  record.file = text(json, "file", source);
  record.first_row = integer(json, "first_row", source);
  record.rows = integer(json, "rows", source);
  record.bytes = integer(json, "bytes", source);
  record.batches = integer(json, "batches", source);
  record.batch_rows = integer(json, "batch_rows", source);
  record.crc = parse_crc(json, "crc32c", source);
  record.made_by = json.value("made_by", Json());
  std::int64_t behind = 0;
  if (record.rows == 0 || __builtin_add_overflow(record.first_row, record.rows, &behind))
    fail("{}: found {} rows from {}, expected some that can be counted", source, record.rows,
         record.first_row);
  return record;
}

std::vector<ShardRecord> read_shard_log(const path& dir, std::int64_t* intact_bytes) {
  const path file = shard_log_path(dir);
  const std::string log = read_file(file);
  std::vector<ShardRecord> records;
  std::size_t begin = 0;
  for (std::size_t end; (end = log.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string source = fmt::format("{} line {}", file.string(), records.size() + 1);
    ShardRecord record = parse_record(std::string_view(log).substr(begin, end - begin), source);
    const std::int64_t first = records.empty() ? 0 : records.back().first_row + records.back().rows;
    const auto shard = static_cast<std::int64_t>(records.size());
    if (record.shard != shard || record.first_row != first ||
        (record.file != shard_file(shard) && record.file != shard_file_from(first)))
      fail("{}: found shard {} ({}) with rows from {}, expected shard {} ({}) with rows from {}", source,
           record.shard, printable(record.file), record.first_row, shard, shard_file(shard), first);
    records.push_back(std::move(record));
  }
  if (intact_bytes) *intact_bytes = static_cast<std::int64_t>(begin);
  return records;
}

std::vector<path> rank_logs(const path& dir) {
  std::vector<path> logs;
  for (const auto& entry : std::filesystem::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("shards.rank-") && name.ends_with(".jsonl")) logs.push_back(entry.path());
  }
  std::ranges::sort(logs);
  return logs;
}

std::vector<ShardRecord> read_rank_log(const path& file) {
  const std::string log = read_file(file);
  std::vector<ShardRecord> records;
  std::size_t begin = 0;
  for (std::size_t end; (end = log.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string source = fmt::format("{} line {}", file.string(), records.size() + 1);
    records.push_back(parse_record(std::string_view(log).substr(begin, end - begin), source));
    if (records.back().file != shard_file_from(records.back().first_row))
      fail("{}: found file {}, expected {}", source, printable(records.back().file),
           shard_file_from(records.back().first_row));
  }
  if (begin < log.size()) {
    const File torn(file, O_WRONLY);
    torn.truncate(static_cast<std::int64_t>(begin));
    torn.sync();
  }
  return records;
}

void check_shards(const path& dir, const StoreManifest& manifest, std::span<const ShardRecord> records) {
  const std::int64_t rows = records.empty() ? 0 : records.back().first_row + records.back().rows;
  const std::string log = shard_log_path(dir).string();
  if (rows > manifest.schema.total_rows || (manifest.complete && rows != manifest.schema.total_rows))
    fail("{}: found {} rows, manifest.json says {}", log, rows, manifest.schema.total_rows);
  if (manifest.complete && static_cast<std::int64_t>(records.size()) != manifest.shards)
    fail("{}: found {} shards, manifest.json says {}", log, records.size(), manifest.shards);
  check_files(dir, manifest, records);
}

void check_files(const path& dir, const StoreManifest& manifest, std::span<const ShardRecord> records) {
  std::int64_t row_bytes = 0;
  for (const H5Dataset& dataset : shard_datasets(manifest, 1)) row_bytes += dataset.bytes();
  for (const ShardRecord& record : records) {
    const path file = dir / record.file;
    std::error_code error;
    const auto bytes = std::filesystem::file_size(file, error);
    if (error)
      fail_hint("copy the whole folder; a lost shard can only be recorded again",
                "{}: shard {} of {} is missing: {}", file.string(), record.shard, records.size(),
                error.message());
    if (static_cast<std::int64_t>(bytes) != record.bytes)
      fail("{}: found {} bytes, shards.jsonl says {}", file.string(), bytes, record.bytes);
    // What is allocated for rows is bounded by the files that are there.
    if (record.rows > record.bytes / row_bytes)
      fail("{}: found {} bytes, expected more for {} rows of {} bytes", file.string(), bytes, record.rows,
           row_bytes);
  }
}

std::string documents_text(std::span<const StoreDocument> documents) {
  std::string lines;
  for (const StoreDocument& document : documents) {
    const Json line = {{"id", document.id}, {"tokens", document.tokens}};
    lines += line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  return lines;
}

std::vector<StoreDocument> read_documents(const path& dir, const StoreManifest& manifest) {
  const path file = documents_path(dir);
  const std::string lines = read_file(file);
  if (sha256_hex(lines) != manifest.documents_sha256)
    fail("{}: found SHA-256 {}, manifest.json says {}", file.string(), sha256_hex(lines),
         manifest.documents_sha256);
  std::vector<StoreDocument> documents;
  for (std::size_t begin = 0, end; (end = lines.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string source = fmt::format("{} line {}", file.string(), documents.size() + 1);
    const Json json = parse_json(std::string_view(lines).substr(begin, end - begin), source);
    documents.push_back({text(json, "id", source), integer(json, "tokens", source)});
  }
  if (static_cast<std::int64_t>(documents.size()) != manifest.documents)
    fail("{}: found {} documents, manifest.json says {}", file.string(), documents.size(),
         manifest.documents);
  return documents;
}

std::string first_difference(const Json& found, const Json& expected) {
  if (found == expected) return {};
  const auto within = [](const std::string& name, std::string rest) {
    const bool leaf = rest.starts_with(": ");
    return name + (leaf || rest.starts_with("[") ? "" : ".") + rest;
  };
  if (found.is_object() && expected.is_object()) {
    for (const auto& [name, value] : expected.items()) {
      if (!found.contains(name)) return fmt::format("{}: found nothing, expected {}", name, shorten(value));
      if (auto rest = first_difference(found[name], value); !rest.empty()) return within(name, rest);
    }
    for (const auto& [name, value] : found.items())
      if (!expected.contains(name))
        return fmt::format("{}: found {}, expected nothing", name, shorten(value));
    return {};  // the same keys in another order
  }
  if (found.is_array() && expected.is_array() && found.size() == expected.size())
    for (std::size_t i = 0; i < found.size(); ++i)
      if (auto rest = first_difference(found[i], expected[i]); !rest.empty())
        return within(fmt::format("[{}]", i), rest);
  return fmt::format(": found {}, expected {}", shorten(found), shorten(expected));
}

bool is_pooled(const StoreSite& site) { return info(site.site.hook).shape == RowShape::HS; }
std::int64_t statistics_width(const StoreSite& site) { return is_pooled(site) ? 1 : site.width(); }

std::vector<H5Dataset> shard_datasets(const StoreManifest& manifest, std::int64_t rows) {
  std::vector<H5Dataset> datasets;
  for (const StoreSite& site : manifest.schema.sites) {
    std::vector<std::int64_t> shape = {rows};
    shape.insert(shape.end(), site.row_shape.begin(), site.row_shape.end());
    datasets.push_back({"/" + site.name, manifest.schema.dtype, shape, site_attributes(manifest, site)});
  }
  const auto about = [](const char* meaning) { return std::vector<H5Attribute>{{"meaning", meaning}}; };
  datasets.push_back(
      {"/document", DType::i64, {rows}, about("index of the row's document in documents.jsonl")});
  datasets.push_back(
      {"/position", DType::i32, {rows}, about("position of the row's token in its document, from 0")});
  datasets.push_back({"/token", DType::i32, {rows}, about("id of the row's token")});
  return datasets;
}

std::vector<H5Attribute> file_attributes(const StoreManifest& manifest, std::string about) {
  const Json& identity = manifest.schema.identity;
  std::string model = "unknown";
  if (identity.is_object() && identity.contains("model")) {
    const Json& found = identity["model"];
    if (found.is_string())
      model = found.get<std::string>();
    else if (found.is_object() && found.contains("name") && found["name"].is_string())
      model = found["name"];
  }
  return {{"format", kStoreFormat},
          {"version", kStoreVersion},
          {"about", std::move(about)},
          {"model", model},
          {"dtype", std::string(name(manifest.schema.dtype))}};
}

std::vector<H5Attribute> site_attributes(const StoreManifest& manifest, const StoreSite& site) {
  const HookInfo& hook = info(site.site.hook);
  std::vector<H5Attribute> attributes = {{"site", site.name},
                                         {"hook", std::string(hook.name)},
                                         {"meaning", std::string(hook.meaning)},
                                         {"dtype", std::string(name(manifest.schema.dtype))}};
  if (per_layer(site.site.hook)) attributes.push_back({"layer", std::int64_t{site.site.layer}});
  return attributes;
}

std::int64_t checksum_blocks(std::int64_t bytes) { return (bytes + kChecksumBlock - 1) / kChecksumBlock; }

std::int64_t StoreSite::width() const {
  std::int64_t product = 1;
  for (const std::int64_t dim : row_shape) product *= dim;
  return product;
}

}  // namespace sonde
