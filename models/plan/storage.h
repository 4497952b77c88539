// What a store will take on disk: rows as store_bytes counts them, and what describes them
// (docs/store-format.md).
#pragma once

#include "models/plan/memory.h"

namespace sonde {

struct StorePlan {
  double rows = 0;      // bytes: values and row metadata
  double overhead = 0;  // sums, checksums, HDF5 structures, index, lists of documents and shards
  std::int64_t shards = 0, files = 0;
  double total() const { return rows + overhead; }
};
// writers: ranks that write; above 1 each shard keeps the sums of its batches.
StorePlan plan_store(const StoreSchema& schema, const Work& work, std::int64_t writers,
                     double document_id_bytes);

// Rows of a shard: a chunk's where several ranks write.
std::int64_t shard_rows_of(const StoreSchema& schema, const Work& work, std::int64_t writers);

// Of a site, the most rows in blocks that are not full while a shard is written: what a batch fills goes to
// the disk, and its memory to the next site.
std::int64_t open_rows(const StoreSchema& schema, const Work& work, std::int64_t writers);

// Chunks that ranks draw from (io/store/stretches.h): at most a shard and about 1/64 of the rows, whole
// batches.
std::int64_t chunks_of(const StoreSchema& schema, const Work& work);

}  // namespace sonde
