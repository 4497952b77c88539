#include "models/plan/storage.h"

#include <algorithm>
#include <cmath>

#include "io/store/open_store.h"

namespace sonde {
namespace {

// Sizes of what HDF5 and JSON put around the values, of a site in a shard, and of a file.
constexpr double kPage = 4096, kFileBytes = 6000, kSiteBytes = 2100, kBatchSumsBytes = 500, kShardLine = 220,
                 kDocumentLine = 22, kVirtualBytes = 110, kManifestBytes = 3000;
constexpr std::int64_t kChunks = 64;

double statistics_values(const StoreSite& site) {
  return info(site.site.hook).shape == RowShape::HS ? 1 : static_cast<double>(site.width());
}

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::int64_t most_shard_rows(const StoreSchema& schema) {
  return schema.shard_rows > 0 ? schema.shard_rows : default_shard_rows(schema);
}

}  // namespace

std::int64_t chunks_of(const StoreSchema& schema, const Work& work) {
  const double batch = static_cast<double>(work.rows) / static_cast<double>(work.batches);  // rows
  const double by_count = std::ceil(static_cast<double>(divide_up(work.rows, kChunks)) / batch) * batch;
  const double by_size =
      std::max(batch, std::floor(static_cast<double>(most_shard_rows(schema)) / batch) * batch);
  return std::clamp<std::int64_t>(
      static_cast<std::int64_t>(std::ceil(static_cast<double>(work.rows) / std::min(by_count, by_size))), 1,
      work.batches);
}

std::int64_t shard_rows_of(const StoreSchema& schema, const Work& work, std::int64_t writers) {
  if (writers > 1) return divide_up(work.rows, chunks_of(schema, work));
  return std::min(work.rows, most_shard_rows(schema));
}

std::int64_t open_rows(const StoreSchema& schema, const Work& work, std::int64_t writers) {
  std::int64_t widest = 1;
  for (const StoreSite& site : schema.sites) widest = std::max(widest, bytes_of(schema.dtype, site.width()));
  const std::int64_t block = std::max<std::int64_t>(1, plan_blocks(schema).bytes / widest),
                     batch = divide_up(work.rows, work.batches), shard = shard_rows_of(schema, work, writers);
  std::int64_t most = 0, open = 0;
  for (std::int64_t row = 0; row < shard && most < block; row += batch) {
    const std::int64_t filled = open + std::min(batch, shard - row);
    most = std::max(most, filled < block ? filled : open > 0 ? block : filled % block);
    open = filled % block;
  }
  return most;
}

StorePlan plan_store(const StoreSchema& schema, const Work& work, std::int64_t writers,
                     double document_id_bytes) {
  StorePlan plan;
  plan.rows = static_cast<double>(store_bytes(schema));
  plan.shards = writers > 1 ? chunks_of(schema, work) : divide_up(work.rows, most_shard_rows(schema));
  double statistics = 0;
  for (const StoreSite& site : schema.sites) statistics += 24 * statistics_values(site);
  const auto shards = static_cast<double>(plan.shards), sites = static_cast<double>(schema.sites.size());
  plan.overhead += shards * (kFileBytes + sites * (kSiteBytes + kPage / 2) + statistics);
  plan.overhead += plan.rows / static_cast<double>(kChecksumBlock) * 4;
  if (writers > 1)
    plan.overhead += static_cast<double>(work.batches) * statistics + shards * sites * kBatchSumsBytes;
  plan.overhead +=
      kFileBytes + sites * kSiteBytes + statistics + shards * sites * kVirtualBytes;  // the index
  plan.overhead += shards * kShardLine + kManifestBytes + sites * 400 +
                   static_cast<double>(work.documents) * (kDocumentLine + document_id_bytes);
  plan.files = plan.shards + 6;
  return plan;
}

}  // namespace sonde
