// A store's folder, made or found again, under its lock: what every writer begins with.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "io/store/lock.h"
#include "io/store/manifest.h"
#include "io/store/values.h"

namespace sonde {

struct OpenStore {
  std::unique_ptr<StoreLock> lock;
  StoreManifest manifest;
  std::vector<ShardRecord> committed;  // the lines of shards.jsonl
  std::vector<ShardRecord> by_ranks;   // those of the ranks' logs that are not among them, by their rows
};

// Creates DIR, or opens it to resume; see StoreWriter::open. Leftovers of killed writers are gone then.
OpenStore open_store(const std::filesystem::path& dir, StoreSchema schema,
                     std::span<const StoreDocument> documents);

// Did several ranks write to this store, of which shards.jsonl does not know?
bool has_rank_logs(const std::filesystem::path& dir);

// The blocks that rows travel in: as large as the budget allows with two for each site.
struct BlockPlan {
  std::int64_t bytes, count;
};
BlockPlan plan_blocks(const StoreSchema& schema);
// Bytes that a writer holds whose disk keeps up, with `rows` rows a shard: one open block a site, as far as
// it is used. store_memory is the most it ever holds.
std::int64_t open_blocks_memory(const StoreSchema& schema, std::int64_t rows);

// Index and totals; then the store is complete.
void complete_store(const std::filesystem::path& dir, StoreManifest& manifest,
                    std::span<const ShardRecord> records, std::span<const ColumnSums> totals);

}  // namespace sonde
