// merge_stores: the shards of all parts in order, under one manifest, with the statistics one run would have.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "io/file_util.h"
#include "io/store/files.h"
#include "io/store/folder.h"
#include "io/store/index.h"
#include "io/store/lock.h"
#include "io/store/shard_writer.h"
#include "runtime/error.h"

namespace sonde {
namespace {

using std::filesystem::path;

struct Part {
  path dir;
  StoreManifest manifest;
  std::vector<ShardRecord> records;
  std::int64_t index = 0, of = 0;
};

Part open_part(const path& dir) {
  Part part{dir, read_manifest(dir), {}};
  if (!part.manifest.complete)
    fail_hint("run the command that makes it again: it resumes", "{}: this part is not complete",
              dir.string());
  part.records = read_shard_log(dir);
  check_shards(dir, part.manifest, part.records);
  const Json& identity = part.manifest.schema.identity;
  if (!part.manifest.is_part() || !identity["part"].is_object() || !identity["part"].contains("index") ||
      !identity["part"].contains("of") || !identity["part"]["index"].is_number_integer() ||
      !identity["part"]["of"].is_number_integer())
    fail_hint("only stores of `sonde extract --part I/N` can be merged",
              "{}: this store is not a part of one", dir.string());
  part.index = identity["part"]["index"].get<std::int64_t>();
  part.of = identity["part"]["of"].get<std::int64_t>();
  return part;
}

// What all parts of one run share.
Json shared(const StoreManifest& manifest) {
  Json json = to_json(manifest);
  for (const char* key : {"complete", "rows", "batches", "shard_rows", "notes", "totals"}) json.erase(key);
  json["identity"].erase("part");
  return json;
}

// In the order of their rows; all of them, each once, of one run.
std::vector<Part> open_parts(std::span<const path> dirs) {
  if (dirs.empty()) throw UsageError("no part stores were given");
  std::vector<Part> parts;
  for (const path& dir : dirs) parts.push_back(open_part(dir));
  std::ranges::stable_sort(parts, {}, &Part::index);
  const Part& first = parts.front();
  for (const Part& part : parts) {
    if (const auto difference = first_difference(shared(part.manifest), shared(first.manifest));
        !difference.empty())
      fail_hint("parts can be merged when they come from the same command with another --part",
                "{} and {} are parts of different runs: {}", part.dir.string(), first.dir.string(),
                difference);
    if (part.of != first.of)
      fail("{}: a part of {}, but {} is a part of {}", part.dir.string(), part.of, first.dir.string(),
           first.of);
  }
  for (std::size_t i = 1; i < parts.size(); ++i)
    if (parts[i].index == parts[i - 1].index)
      fail("{} and {} are both part {} of {}", parts[i - 1].dir.string(), parts[i].dir.string(),
           parts[i].index, parts[i].of);
  const std::int64_t base = first.index == 0 ? 0 : 1;  // parts count from 0 or from 1
  for (std::int64_t i = 0; i < first.of; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (at >= parts.size() || parts[at].index != base + i)
      fail_hint("give the folders of all parts", "part {} of {} is missing", base + i, first.of);
  }
  if (static_cast<std::int64_t>(parts.size()) != first.of)
    fail("{}: part {}, expected at most {}", parts.back().dir.string(), parts.back().index, first.of);
  return parts;
}

// A hard link where the file system can, else a copy.
void place_shard(const path& from, const path& to) {
  if (::link(from.c_str(), to.c_str()) == 0) return;
  std::error_code error;
  std::filesystem::copy_file(from, to, error);
  if (error) fail_errno(to, "copy the shard to", error.value());
  File(to, O_WRONLY).sync();
}

// The sums over all batches, added in the order of a single run.
std::vector<ColumnSums> add_parts(const std::vector<Part>& parts) {
  std::vector<ColumnSums> totals;
  for (const StoreSite& site : parts.front().manifest.schema.sites)
    totals.emplace_back(statistics_width(site));
  for (const Part& part : parts)
    for (const ShardRecord& record : part.records)
      add_batch_sums(H5File(part.dir / record.file), part.manifest, totals);
  return totals;
}

}  // namespace

void merge_stores(std::span<const path> dirs, const path& out) {
  const std::vector<Part> parts = open_parts(dirs);
  if (std::filesystem::exists(manifest_path(out)))
    fail_hint("give a new folder", "{}: there is a store already", out.string());
  make_directories(out);
  const auto lock = StoreLock::take(out);
  check_fresh(out);
  make_directories(out / "shards");
  remove_leftovers(out, {});

  StoreManifest merged = parts.front().manifest;
  StoreSchema& schema = merged.schema;
  schema.identity.erase("part");
  schema.total_rows = schema.n_batches = merged.bytes = 0;
  std::vector<ShardRecord> records;
  std::string log;
  for (const Part& part : parts) {
    for (ShardRecord record : part.records) {
      const path from = part.dir / record.file;
      record.shard = static_cast<std::int64_t>(records.size());
      record.file = shard_file(record.shard);
      record.first_row += schema.total_rows;
      record.batches += schema.n_batches;
      record.batch_rows += schema.total_rows;
      place_shard(from, out / record.file);
      merged.bytes += record.bytes;
      log += to_line(record);
      records.push_back(std::move(record));
    }
    schema.total_rows += part.manifest.schema.total_rows;
    schema.n_batches += part.manifest.schema.n_batches;
  }
  sync_directory(out / "shards");
  write_file_atomically(documents_path(out), read_file(documents_path(parts.front().dir)));
  write_file_atomically(shard_log_path(out), log);
  merged.shards = static_cast<std::int64_t>(records.size());
  merged.statistics_crc = write_index(out, merged, records, add_parts(parts));
  merged.complete = true;
  write_manifest(out, merged);  // last: only now it is a store
  log_run(out, "merge", {{"parts", dirs.size()}});
}

}  // namespace sonde
