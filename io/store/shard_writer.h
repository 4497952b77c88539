// The disk side of a store's writer: a thread that takes filled blocks, writes them where HDF5 gave their
// dataset its place, and commits finished shards. The computing thread waits only when every block is on its
// way.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "io/store/manifest.h"
#include "io/store/values.h"
#include "runtime/tensor.h"

namespace sonde {

// Bytes of one site on their way to one shard. `data` is page-aligned.
struct Block {
  Buffer memory;
  std::byte* data = nullptr;
  std::int64_t used = 0;
};

// A shard to come: its rows [first_row, first_row + rows), which also names it among those that are open.
struct ShardBegin {
  std::int64_t shard = 0;  // its number, where shards follow one another
  std::string file;        // relative to the store
  std::int64_t first_row = 0, rows = 0;
};

// What a shard needs besides its rows. Fewer rows than it began with: it ends here.
struct ShardCommit {
  std::int64_t first_row = 0, rows = 0;
  std::int64_t batches = 0, batch_rows = 0;         // as in ShardRecord
  std::vector<std::int64_t> document;               // [rows]
  std::vector<std::int32_t> position, token;        // [rows]
  std::vector<ColumnSums> totals;                   // [sites], over the first `batches` batches
  std::vector<std::vector<ColumnSums>> batch_sums;  // [batches that end here][sites], where these are kept
};

// Writes through the page cache or around it. Which is faster differs between machines and hours, so the
// first large shards try both and the better one goes on. SONDE_STORE_IO=buffered|direct decides instead.
class WritePath {
 public:
  enum Kind { buffered, direct };

  WritePath();
  Kind choose(std::int64_t shard_bytes) const;
  void count(Kind kind, std::int64_t bytes, double seconds);
  void refuse_direct() { direct_works_ = false; }  // the file system has no O_DIRECT
  std::string describe() const;                    // "buffered 1.31 GB/s, direct 1.02 GB/s"

 private:
  bool direct_works_ = true;
  int forced_ = -1;
  std::array<double, 2> bytes_{}, seconds_{};
};

enum class BatchSums { dropped, kept };

// Where a writer's finished shards are noted.
struct ShardLog {
  std::filesystem::path file;  // lines like those of shards.jsonl
  BatchSums batch_sums = BatchSums::dropped;
  Json made_by;  // goes into each line; null: nothing
};

class ShardWriter {
 public:
  ShardWriter(std::filesystem::path dir, const StoreManifest& manifest, ShardLog log,
              std::vector<ShardRecord> committed, std::int64_t block_bytes, std::int64_t blocks);
  ~ShardWriter();

  Block take();  // waits for a free block
  void begin(ShardBegin shard);
  // Byte offset within the site's dataset of the shard from that row on. Blocks of one site and shard come in
  // order.
  void write(std::int64_t first_row, std::size_t site, std::int64_t offset, Block block);
  void commit(ShardCommit commit);
  void drain();  // waits until everything is on disk

  std::int64_t block_bytes() const { return block_bytes_; }
  std::int64_t bytes_written() const { return bytes_written_; }
  const std::vector<ShardRecord>& records() const { return records_; }  // after drain()
  std::string describe_path() const { return path_.describe(); }        // after drain()

 private:
  struct WriteJob {
    std::int64_t first_row;
    std::size_t site;
    std::int64_t offset;
    Block block;
  };
  using Job = std::variant<ShardBegin, WriteJob, ShardCommit>;
  struct OpenShard {
    ShardBegin begin;
    std::filesystem::path temporary;
    WritePath::Kind kind = WritePath::buffered;
    std::vector<H5Dataset> datasets;
    std::vector<std::int64_t> offsets;                  // of the datasets in the file
    std::vector<std::vector<std::uint32_t>> checksums;  // [datasets][blocks]
    std::int64_t bytes = 0;
    double seconds = 0;
  };

  void run();
  void push(Job job);
  void rethrow() const;
  OpenShard create(ShardBegin begin, const char* suffix) const;
  void shorten(OpenShard& shard, std::int64_t rows) const;
  void do_write(WriteJob& job);
  void do_commit(const ShardCommit& commit);
  void write_bytes(OpenShard& shard, std::size_t dataset, std::int64_t offset, const void* data,
                   std::int64_t bytes);
  void remove_temporaries();

  const std::filesystem::path dir_;
  const StoreManifest manifest_;
  const ShardLog log_;
  const std::int64_t block_bytes_, max_blocks_;
  std::vector<ShardRecord> records_;
  std::map<std::int64_t, OpenShard> shards_;  // begun and not committed, by first row
  WritePath path_;
  std::atomic<std::int64_t> bytes_written_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  std::vector<Block> free_blocks_;
  std::int64_t blocks_made_ = 0;
  bool busy_ = false, stop_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

// The sums of a shard as datasets: /sums/count [sites], /sums/SITE [3, width]. The same with a leading dim of
// batches for /batch_sums, where the shard has them. `counts` and `arrays` hold the values that the result
// points to.
std::vector<H5Values> sums_datasets(const StoreManifest& manifest, const std::vector<ColumnSums>& totals,
                                    const std::vector<std::vector<ColumnSums>>* batch_sums,
                                    std::deque<std::vector<std::int64_t>>& counts,
                                    std::deque<std::vector<double>>& arrays);
std::vector<ColumnSums> read_totals(const H5File& file, const StoreManifest& manifest);
std::vector<std::vector<ColumnSums>> read_batch_sums(const H5File& file, const StoreManifest& manifest);

// Adds the sums of the batches that end in a shard to `totals`, batch after batch. A shard without them has
// the sums of all batches up to it, which replace `totals`.
void add_batch_sums(const H5File& shard, const StoreManifest& manifest, std::vector<ColumnSums>& totals);

// crc32c over a shard's block checksums, then over its sums: the crc of its ShardRecord.
std::uint32_t shard_crc(const std::vector<std::vector<std::uint32_t>>& checksums,
                        std::span<const H5Values> sums);

}  // namespace sonde
