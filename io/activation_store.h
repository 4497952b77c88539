// The activation store, version 1: a directory that explains itself (docs/store-format.md).
//   manifest.json     what was recorded: sites, dtype, tap definitions, model, tokenizer, options with hashes
//   shards.jsonl      one line per committed shard: rows, bytes, checksums
//   shards/*.h5       rows; one dataset per site named like the site, row metadata, crc32c per block, batch
//   sums documents.jsonl   the inputs' ids and token counts index.h5          virtual datasets over all
//   shards, statistics run.log.jsonl     times, host, restarts: outside every comparison
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/json.h"
#include "runtime/capture_sink.h"

namespace sonde {

struct StoreSite {
  Site site;
  std::string name;                     // name(site)
  std::vector<std::int64_t> row_shape;  // {D}, {H, E}, {H, S}, {1}
  std::int64_t width() const;
};

// Everything that decides the bytes of a store; two runs with equal schemas make equal stores.
struct StoreSchema {
  std::vector<StoreSite> sites;
  DType dtype = DType::f32;  // f32, bf16 or f16
  std::int64_t shard_rows =
      0;  // 0: about 1 GiB a shard. No part of the identity; resuming keeps the recorded one
  std::int64_t total_rows = 0;  // of this store (of this part)
  std::int64_t n_batches = 0;   // of this store (of this part)
  Json identity;  // model, tokenizer, inputs, options with hashes: must match to resume. A part store
                  // has "part": {"index": I, "of": N} here; nothing else may differ between parts
  Json notes;     // shown to readers, outside comparison: ignored config keys, remarks
  std::int64_t buffer_bytes = std::int64_t{256} << 20;  // memory for rows on their way to the disk
};
std::int64_t store_bytes(const StoreSchema& schema);         // on disk: rows and their metadata
std::int64_t default_shard_rows(const StoreSchema& schema);  // where none are asked for: about 1 GiB
std::int64_t store_memory(const StoreSchema& schema);  // at most held by a writer: buffers and statistics
std::int64_t free_disk_bytes(
    const std::filesystem::path& dir);  // where dir is, or would be made; -1: unknown

struct StoreDocument {
  std::string id;
  std::int64_t tokens = 0;
};

// Metadata of the rows of a batch, one entry per row.
struct RowMetadata {
  std::span<const std::int64_t> document;  // index into the inputs, global over parts
  std::span<const std::int32_t> position;  // of the token in its document
  std::span<const std::int32_t> token;     // its id
};

// Per column of a site, over the float32 values before the cast to the store's dtype; sums run in row order
// within a batch, then over batches. RowShape::HS sites have one pooled column over their finite entries.
struct SiteStatistics {
  std::int64_t count = 0;                          // values per column
  std::vector<double> mean, mean_square, max_abs;  // [width] or [1]
};

// Batches [first_batch, end_batch) of a store; first_batch begins at row batch_row, of which those before
// first_row are committed already.
struct StoreStretch {
  std::int64_t first_batch = 0, end_batch = 0;
  std::int64_t batch_row = 0, first_row = 0, end_row = 0;
};

// Writes a store; a killed writer resumes at first_batch() and ends with identical bytes. Holds the store's
// lock. Rows of parts follow one another: part I's rows and batches come before those of part I + 1 in a
// single run, too.
class StoreWriter : public CaptureSink {
 public:
  // Creates DIR, or opens it to resume. `documents` are all inputs, those of other parts too. A store made
  // with another identity, or one held by another process, is an Error that names the first difference or the
  // holder.
  static std::unique_ptr<StoreWriter> open(const std::filesystem::path& dir, StoreSchema schema,
                                           std::span<const StoreDocument> documents);

  virtual std::int64_t first_batch() const = 0;  // compute from here; n_batches when nothing is left
  virtual std::int64_t committed_rows() const = 0;
  virtual std::int64_t shard_rows() const = 0;  // in use: the schema's, the default, or the one resumed
  // Batches come in order from first_batch(); first_row is the store row of the batch's first row. Rows of a
  // batch that are already committed (resume within a batch) are skipped by the writer.
  virtual void begin_batch(std::int64_t batch, std::int64_t first_row, RowMetadata rows) = 0;
  // Every site of the schema, its rows in ascending order, in one call or several. NaN, +inf, -inf outside
  // attn_scores and values that the dtype can't hold are Errors that name site, document and position.
  virtual void put(Site site, Tensor rows, std::int64_t row0) override = 0;
  // The same of rows that were packed so.
  virtual std::optional<Packing> packing(Site site) override = 0;
  virtual void put_packed(Site site, const PackedRows& rows, std::int64_t row0) override = 0;
  virtual void end_batch() = 0;
  virtual std::int64_t bytes_written() const = 0;
  virtual void close() = 0;   // between batches: commits what has come, in a shard that ends here
  virtual void finish() = 0;  // waits for the disk, writes index.h5 and the totals, marks the store complete
};

enum class Incomplete { refuse, accept };  // what to do with a store whose writer has not finished

// Reads a store. Opening checks the manifest against the shards present; reading checks nothing but sizes
// (verify_store checks every block).
class StoreReader {
 public:
  // Incomplete::accept shows the rows committed so far.
  static std::unique_ptr<StoreReader> open(const std::filesystem::path& dir,
                                           Incomplete unfinished = Incomplete::refuse);
  virtual ~StoreReader() = default;

  virtual const Json& manifest() const = 0;
  virtual bool complete() const = 0;
  virtual const std::vector<StoreSite>& sites() const = 0;
  virtual std::int64_t rows() const = 0;
  virtual DType dtype() const = 0;
  virtual const std::vector<StoreDocument>& documents() const = 0;
  // Whole-store row metadata, read at the first call.
  virtual const std::vector<std::int64_t>& row_document() const = 0;
  virtual const std::vector<std::int32_t>& row_position() const = 0;
  virtual const std::vector<std::int32_t>& row_token() const = 0;
  virtual SiteStatistics statistics(std::size_t site) const = 0;  // of a complete store
  // out f32 [n, width]: rows [first, first + n) of sites()[site]. Thread-safe.
  virtual void read(std::size_t site, std::int64_t first, std::int64_t n, float* out) const = 0;
  // The same in the store's dtype, as it lies in the files.
  virtual void read_raw(std::size_t site, std::int64_t first, std::int64_t n, void* out) const = 0;
};

// What verify_store looked at.
struct StoreCheck {
  std::int64_t shards = 0, blocks = 0, bytes = 0, rows = 0;
};

// Re-reads every block against its checksum; throws at the first that differs, naming shard, site and block.
StoreCheck verify_store(const std::filesystem::path& dir);
// The first differences of two stores in rows, metadata, statistics or identity; empty when identical. With a
// tolerance: a site's values may be so far apart (relative, Frobenius), and statistics are left out.
std::vector<std::string> diff_stores(const std::filesystem::path& a, const std::filesystem::path& b,
                                     double tolerance = 0);
// Joins part stores (--part I/N, all N of one run, in any order) into what one run gives. Shards are linked
// where the file system can, else copied; the parts stay as they are.
void merge_stores(std::span<const std::filesystem::path> parts, const std::filesystem::path& out);

}  // namespace sonde
