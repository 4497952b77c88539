// One store written by several ranks at once: each takes stretches of batches from a common list and writes
// their shards.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "distributed/communicator.h"
#include "io/activation_store.h"

namespace sonde {

class SharedStoreWriter : public CaptureSink {
 public:
  // Collective. `batch_row` [n_batches + 1]: rows before each batch. made_by describes this rank, for the
  // lines of shards.jsonl. All ranks must see the same folder. A store that was begun by one process, or by
  // another number of ranks, goes on.
  static std::unique_ptr<SharedStoreWriter> open(const std::filesystem::path& dir, StoreSchema schema,
                                                 std::span<const StoreDocument> documents,
                                                 std::span<const std::int64_t> batch_row, Communicator& ranks,
                                                 Json made_by);

  // What is not committed yet, in the order of its rows; the same list on every rank. Where it is cut depends
  // on the batches alone: a chunk of whole batches, at most a shard and about 1/64 of the store.
  virtual const std::vector<StoreStretch>& work() const = 0;
  virtual std::int64_t committed_rows() const = 0;  // when it was opened
  virtual void start(const StoreStretch& stretch) = 0;
  virtual void begin_batch(std::int64_t batch, std::int64_t first_row, RowMetadata rows) = 0;
  virtual void put(Site site, Tensor rows, std::int64_t row0) override = 0;
  virtual std::optional<Packing> packing(Site site) override = 0;
  virtual void put_packed(Site site, const PackedRows& rows, std::int64_t row0) override = 0;
  virtual void end_batch() = 0;
  virtual void
  close() = 0;  // between batches: commits what has come of the stretch, in a shard that ends here
  virtual std::int64_t bytes_written() const = 0;
  // Collective: waits for the disk; if every row is there, completes the store. Rows that are committed now.
  virtual std::int64_t finish() = 0;
};

// An unfinished store that several ranks wrote to: one process resumes it as a SharedStoreWriter, too.
bool written_by_ranks(const std::filesystem::path& dir);

}  // namespace sonde
