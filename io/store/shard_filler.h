// Batches in, blocks and commits out: the computing thread's side of a store's writer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "io/activation_store.h"
#include "io/store/manifest.h"
#include "io/store/shard_writer.h"

namespace sonde {

class ShardFiller {
 public:
  static constexpr std::int64_t kNamedByRow = -1;

  ShardFiller(std::filesystem::path dir, const StoreManifest& manifest,
              std::span<const StoreDocument> documents, ShardWriter& shards, BatchSums batch_sums);

  // What follows are the batches of this stretch, in shards of `shard_rows` from its first row on, numbered
  // from `first_shard` or named by their rows. `totals` are the sums of the batches before it, where shards
  // carry those on.
  void start(const StoreStretch& stretch, std::int64_t shard_rows, std::int64_t first_shard,
             std::vector<ColumnSums> totals);
  void begin_batch(std::int64_t batch, std::int64_t first_row, RowMetadata rows);
  void put(Site site, Tensor rows, std::int64_t row0);
  Packing packing(Site site);
  void put_packed(Site site, const PackedRows& rows, std::int64_t row0);
  void end_batch();
  void close();  // commits what has come of the open shard; between batches

  std::int64_t next_batch() const { return next_batch_; }
  std::int64_t committed() const { return committed_; }  // rows on disk or handed over
  std::vector<ColumnSums> totals() const;

 private:
  struct Stream {               // one site
    ColumnSums total;           // over the batches that have ended
    std::vector<double> batch;  // PackedSums over the current one
    std::int64_t rows = 0;      // of the current batch that were put
    PackedSums sums() { return {batch.data(), total.width}; }
    Block block;              // being filled
    std::int64_t offset = 0;  // of the block in the shard's dataset
  };
  struct Extent {
    std::int64_t first_row, end_row;
  };

  Extent shard_of(std::int64_t row) const;
  Extent begin_shard(std::int64_t row);
  std::size_t index_of(Site site) const;
  [[noreturn]] void fail_value(const StoreSite& site, std::int64_t row, float value) const;
  void store_rows(std::size_t site, const Tensor& rows, std::int64_t first_row);
  void store_bytes(std::size_t site, std::int64_t shard, const std::byte* bytes, std::int64_t n);
  void check_rows(std::size_t site, const Tensor& rows, std::int64_t row0) const;
  void pad_row(const StoreSite& stored, const Tensor& row);
  void flush(std::size_t site, std::int64_t shard);
  void commit(std::int64_t end_row);

  const std::filesystem::path dir_;
  const StoreManifest& manifest_;
  std::vector<StoreDocument> documents_;
  ShardWriter& shards_;
  const BatchSums batch_sums_;

  StoreStretch stretch_{};
  std::int64_t shard_rows_ = 1, first_shard_ = 0, begun_ = 0;  // shards before row begun_ are announced
  std::int64_t committed_ = 0;
  std::int64_t next_batch_ = 0, next_row_ = 0;  // what begin_batch expects
  std::int64_t batch_rows_ = -1;                // of the open batch; -1 between batches
  std::vector<Stream> streams_;                 // [sites]
  std::vector<std::byte> padded_;               // one row [H, S] in the store's dtype
  Buffer packed_;                               // rows that came as float32
  std::vector<std::int32_t> every_row_;         // of these: 0, 1, ..
  std::vector<std::vector<ColumnSums>>
      ended_;  // sums of batches that no commit has taken yet, where these are kept
  // Metadata of rows from metadata_row_ on: what no commit has taken yet, and the open batch.
  std::int64_t metadata_row_ = 0;
  std::vector<std::int64_t> document_;
  std::vector<std::int32_t> position_, token_;
};

}  // namespace sonde
