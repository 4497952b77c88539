#include "io/store/open_store.h"

#include <fcntl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <set>

#include "io/file_util.h"
#include "io/hash.h"
#include "io/store/files.h"
#include "io/store/folder.h"
#include "io/store/index.h"
#include "io/store/shard_writer.h"
#include "runtime/error.h"
#include "runtime/profile.h"

namespace sonde {
namespace {

using std::filesystem::path;

constexpr std::int64_t kDefaultShardBytes = std::int64_t{1} << 30;
constexpr std::int64_t kLeastBlock = std::int64_t{64} << 10;

std::int64_t row_bytes(const StoreSchema& schema) {
  std::int64_t bytes = 16;  // document, position, token
  for (const StoreSite& site : schema.sites) bytes += bytes_of(schema.dtype, site.width());
  return bytes;
}

void check_schema(const StoreSchema& schema) {
  value_rule(schema.dtype, false);
  if (schema.sites.empty()) fail("a store needs at least one site");
  sonde_check(schema.total_rows >= 0 && schema.n_batches >= 0 && schema.shard_rows >= 0,
              "{} rows, {} batches, {} a shard", schema.total_rows, schema.n_batches, schema.shard_rows);
  std::set<std::string> names;
  for (const StoreSite& site : schema.sites) {
    if (!names.insert(site.name).second) fail("site {} appears twice", site.name);
    sonde_check(site.name == name(site.site) && !site.row_shape.empty() && site.width() > 0, "site {}",
                site.name);
  }
}

// What two runs must agree on, in the words of the manifest.
Json comparable(const StoreManifest& manifest) {
  Json json = to_json(manifest);
  for (const char* key : {"complete", "shard_rows", "notes", "totals"}) json.erase(key);
  Json ordered = {{"identity", json["identity"]}};  // the options first: they explain every other difference
  ordered.update(json);
  return ordered;
}

// A disk that cannot hold the store is better found out now.
void check_disk(const path& dir, const OpenStore& store) {
  const std::int64_t total = store_bytes(store.manifest.schema), free = free_disk_bytes(dir);
  std::int64_t done = 0;
  for (const auto* records : {&store.committed, &store.by_ranks})
    for (const ShardRecord& record : *records) done += record.bytes;
  if (free >= 0 && free < total - done)
    fail_hint("free some space, give --out another disk, or record fewer sites or tokens, or --store bf16",
              "{}: No space left on device: this store takes {} more bytes, {} are free", dir.string(),
              total - done, free);
}

void create(const path& dir, OpenStore& store, std::span<const StoreDocument> documents) {
  StoreManifest& manifest = store.manifest;
  check_fresh(dir);
  check_disk(dir, store);
  if (manifest.schema.shard_rows == 0) manifest.schema.shard_rows = default_shard_rows(manifest.schema);
  make_directories(dir / "shards");
  remove_leftovers(dir, {});
  for (const path& log : rank_logs(dir)) std::filesystem::remove(log);
  write_file_atomically(documents_path(dir), documents_text(documents));
  write_file_atomically(shard_log_path(dir), "");
  write_manifest(dir, manifest);  // from here on it is a store
  log_run(dir, "start", {{"rows", manifest.schema.total_rows}, {"shard_rows", manifest.schema.shard_rows}});
}

// What ranks committed beyond shards.jsonl. When they were ended while they put it there, both have it.
std::vector<ShardRecord> read_rank_logs(const path& dir, const StoreManifest& manifest,
                                        std::span<const ShardRecord> committed) {
  std::set<std::int64_t> known;
  for (const ShardRecord& record : committed) known.insert(record.first_row);
  std::vector<ShardRecord> records;
  for (const path& log : rank_logs(dir))
    for (ShardRecord& record : read_rank_log(log))
      if (known.insert(record.first_row).second) records.push_back(std::move(record));
  std::ranges::sort(records, {}, &ShardRecord::first_row);
  std::int64_t end = committed.empty() ? 0 : committed.back().first_row + committed.back().rows;
  for (const ShardRecord& record : records) {
    if (record.first_row < end || record.first_row + record.rows > manifest.schema.total_rows ||
        record.batches > manifest.schema.n_batches)
      fail("{}: shard {} holds rows {} to {}, expected rows from {} to {}", dir.string(), record.file,
           record.first_row, record.first_row + record.rows, end, manifest.schema.total_rows);
    end = record.first_row + record.rows;
  }
  check_files(dir, manifest, records);
  return records;
}

std::int64_t committed_rows(const OpenStore& store) {
  std::int64_t rows = 0;
  for (const auto* records : {&store.committed, &store.by_ranks})
    for (const ShardRecord& record : *records) rows += record.rows;
  return rows;
}

void resume(const path& dir, OpenStore& store) {
  StoreManifest& manifest = store.manifest;
  std::vector<ShardRecord>& resumed = store.committed;
  StoreManifest found = read_manifest(dir);
  if (const std::string difference = first_difference(comparable(found), comparable(manifest));
      !difference.empty())
    fail_hint("a store is never mixed: give another --out, or remove this folder to start over",
              "{}: this store was made with other options: {}", dir.string(), difference);
  manifest.schema.shard_rows = found.schema.shard_rows;
  manifest.complete = found.complete;
  std::int64_t intact = 0;
  resumed = read_shard_log(dir, &intact);
  check_shards(dir, found, resumed);
  store.by_ranks = read_rank_logs(dir, found, resumed);
  if (manifest
          .complete) {  // a run that was killed while it tidied up: shards.jsonl has all of the ranks' lines
    for (const path& log : rank_logs(dir)) std::filesystem::remove(log);
    return;
  }
  {
    const File log(shard_log_path(dir), O_WRONLY);
    if (log.size() != intact) log.truncate(intact), log.sync();  // a line that a crash tore
  }
  {
    std::vector<ShardRecord> all = resumed;
    all.insert(all.end(), store.by_ranks.begin(), store.by_ranks.end());
    remove_leftovers(dir, all);
  }
  check_disk(dir, store);
  log_run(dir, "resume", {{"committed_rows", committed_rows(store)}});
}

// Ranks of a run that lost its first one may live a moment longer than it: none may still write.
void clear_rank_locks(const path& dir) {
  std::set<std::string> locks;
  for (const auto& entry : std::filesystem::directory_iterator(dir)) {
    std::string name = entry.path().filename().string();
    if (!name.starts_with("writer.lock.rank-")) continue;
    if (const auto held = name.find(".held"); held != std::string::npos) name.resize(held);
    locks.insert(name);
  }
  for (const std::string& name : locks) {
    const auto lock = StoreLock::take(dir, name);
    std::filesystem::remove(dir / name);
  }
}

}  // namespace

OpenStore open_store(const path& dir, StoreSchema schema, std::span<const StoreDocument> documents) {
  const PhaseScope scope(Phase::io);
  OpenStore store;
  check_schema(schema);
  store.manifest.documents = static_cast<std::int64_t>(documents.size());
  store.manifest.documents_sha256 = sha256_hex(documents_text(documents));
  store.manifest.schema = std::move(schema);
  make_directories(dir);
  store.lock = StoreLock::take(dir);
  clear_rank_locks(dir);
  if (std::filesystem::exists(manifest_path(dir)))
    resume(dir, store);
  else
    create(dir, store, documents);
  return store;
}

bool has_rank_logs(const path& dir) {
  std::error_code error;
  return std::filesystem::is_directory(dir, error) && !rank_logs(dir).empty();
}

void complete_store(const path& dir, StoreManifest& manifest, std::span<const ShardRecord> records,
                    std::span<const ColumnSums> totals) {
  const PhaseScope scope(Phase::io);
  manifest.statistics_crc = write_index(dir, manifest, records, totals);
  manifest.shards = static_cast<std::int64_t>(records.size());
  manifest.bytes = 0;
  for (const ShardRecord& record : records) manifest.bytes += record.bytes;
  manifest.complete = true;
  write_manifest(dir, manifest);
}

// A power of two, so that blocks divide checksum blocks.
BlockPlan plan_blocks(const StoreSchema& schema) {
  const auto sites = static_cast<std::int64_t>(schema.sites.size());
  std::int64_t bytes = kChecksumBlock;
  while (bytes > kLeastBlock && 2 * sites * bytes > schema.buffer_bytes) bytes /= 2;
  return {bytes, std::max(sites + 2, schema.buffer_bytes / bytes)};
}

std::int64_t default_shard_rows(const StoreSchema& schema) {
  return std::max<std::int64_t>(1, kDefaultShardBytes / row_bytes(schema));
}

std::int64_t store_bytes(const StoreSchema& schema) { return schema.total_rows * row_bytes(schema); }

std::int64_t store_memory(const StoreSchema& schema) {
  const BlockPlan blocks = plan_blocks(schema);
  // Blocks are made as they are needed: a small store never fills them all.
  const auto sites = static_cast<std::int64_t>(schema.sites.size());
  const std::int64_t needed = store_bytes(schema) / blocks.bytes + sites + 2;
  std::int64_t bytes = std::min(blocks.count, needed) * blocks.bytes;
  for (const StoreSite& site : schema.sites) bytes += 3 * 3 * 8 * statistics_width(site);
  const std::int64_t shard = schema.shard_rows ? schema.shard_rows : default_shard_rows(schema);
  return bytes + 2 * 16 * std::min(shard, schema.total_rows);
}

std::int64_t open_blocks_memory(const StoreSchema& schema, std::int64_t rows) {
  const std::int64_t block = plan_blocks(schema).bytes;
  std::int64_t bytes = 2 * 16 * rows;
  for (const StoreSite& site : schema.sites)
    bytes +=
        std::min(block, bytes_of(schema.dtype, rows * site.width())) + 3 * 3 * 8 * statistics_width(site);
  return std::min(bytes, store_memory(schema));
}

std::int64_t free_disk_bytes(const path& dir) {
  std::error_code error;
  path there = std::filesystem::absolute(dir, error);
  while (!std::filesystem::exists(there, error) && there.has_relative_path()) there = there.parent_path();
  struct statvfs status {};
  // Some network file systems do not know: -1, no reason to stop.
  if (statvfs(there.c_str(), &status) != 0 || status.f_blocks == 0) return -1;
  return static_cast<std::int64_t>(status.f_bavail) * static_cast<std::int64_t>(status.f_frsize);
}

}  // namespace sonde
