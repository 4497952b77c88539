// StoreWriter: checks, sums and casts rows on the computing thread, hands filled blocks to the ShardWriter.
#include <fcntl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "io/file_util.h"
#include "io/hash.h"
#include "io/store/files.h"
#include "io/store/folder.h"
#include "io/store/index.h"
#include "io/store/lock.h"
#include "io/store/shard_writer.h"
#include "runtime/error.h"

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

struct BlockPlan {
  std::int64_t bytes, count;
};
// Blocks as large as the budget allows with two for each site; a power of two, so that they divide checksum
// blocks.
BlockPlan plan_blocks(const StoreSchema& schema) {
  const auto sites = static_cast<std::int64_t>(schema.sites.size());
  std::int64_t bytes = kChecksumBlock;
  while (bytes > kLeastBlock && 2 * sites * bytes > schema.buffer_bytes) bytes /= 2;
  return {bytes, std::max(sites + 2, schema.buffer_bytes / bytes)};
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

std::int64_t default_shard_rows(const StoreSchema& schema) {
  return std::max<std::int64_t>(1, kDefaultShardBytes / row_bytes(schema));
}

// What two runs must agree on, in the words of the manifest.
Json comparable(const StoreManifest& manifest) {
  Json json = to_json(manifest);
  for (const char* key : {"complete", "shard_rows", "notes", "totals"}) json.erase(key);
  Json ordered = {{"identity", json["identity"]}};  // the options first: they explain every other difference
  ordered.update(json);
  return ordered;
}

class Writer : public StoreWriter {
 public:
  Writer(path dir, StoreSchema schema, std::span<const StoreDocument> documents);

  std::int64_t first_batch() const override { return first_batch_; }
  std::int64_t committed_rows() const override { return committed_; }
  std::int64_t shard_rows() const override { return manifest_.schema.shard_rows; }
  void begin_batch(std::int64_t batch, std::int64_t first_row, RowMetadata rows) override;
  void put(Site site, Tensor rows, std::int64_t row0) override;
  void end_batch() override;
  std::int64_t bytes_written() const override { return shards_->bytes_written(); }
  void finish() override;

 private:
  struct Stream {             // one site
    ColumnSums total;         // over the batches that have ended
    ColumnSums batch;         // over the current one
    std::int64_t rows = 0;    // of the current batch that were put
    Block block;              // being filled
    std::int64_t offset = 0;  // of the block in the shard's dataset
  };

  void create(std::span<const StoreDocument> documents);
  void resume();
  void check_disk() const;
  std::optional<BadValue> sum(std::size_t site, const Tensor& rows);
  [[noreturn]] void fail_value(const StoreSite& site, std::int64_t row, float value) const;
  void store_rows(std::size_t site, const Tensor& rows, std::int64_t first_row);
  void store_values(std::size_t site, std::int64_t shard, const float* values, std::int64_t n);
  void flush(std::size_t site, std::int64_t shard);
  void commit(std::int64_t shard);

  const path dir_;
  std::vector<StoreDocument> documents_;
  StoreManifest manifest_;
  std::unique_ptr<StoreLock> lock_;
  std::vector<ShardRecord> resumed_;
  std::unique_ptr<ShardWriter> shards_;

  std::int64_t first_batch_ = 0, committed_ = 0;  // rows on disk or handed over
  std::int64_t next_batch_ = 0, next_row_ = 0;    // what begin_batch expects
  std::int64_t batch_rows_ = -1;                  // of the open batch; -1 between batches
  std::vector<Stream> streams_;                   // [sites]
  std::vector<float> padded_;                     // one row [H, S]
  std::vector<std::vector<ColumnSums>> ended_;  // sums of batches that no commit has taken yet (part stores)
  // Metadata of rows from metadata_row_ on: what no commit has taken yet, and the open batch.
  std::int64_t metadata_row_ = 0;
  std::vector<std::int64_t> document_;
  std::vector<std::int32_t> position_, token_;
};

Writer::Writer(path dir, StoreSchema schema, std::span<const StoreDocument> documents)
    : dir_(std::move(dir)), documents_(documents.begin(), documents.end()) {
  check_schema(schema);
  manifest_.documents = static_cast<std::int64_t>(documents.size());
  manifest_.documents_sha256 = sha256_hex(documents_text(documents));
  manifest_.schema = std::move(schema);
  make_directories(dir_);
  lock_ = StoreLock::take(dir_);
  if (std::filesystem::exists(manifest_path(dir_)))
    resume();
  else
    create(documents);

  for (const StoreSite& site : manifest_.schema.sites) {
    Stream& stream = streams_.emplace_back();
    stream.total = ColumnSums(statistics_width(site));
  }
  if (!resumed_.empty()) {
    const ShardRecord& last = resumed_.back();
    first_batch_ = last.batches;
    next_row_ = last.batch_rows;
    committed_ = last.first_row + last.rows;
    if (!manifest_.complete) {
      const std::vector<ColumnSums> totals = read_totals(H5File(dir_ / last.file), manifest_);
      for (std::size_t i = 0; i < totals.size(); ++i) streams_[i].total = totals[i];
    }
  }
  if (manifest_.complete) first_batch_ = manifest_.schema.n_batches;
  next_batch_ = first_batch_;
  metadata_row_ = committed_;
  const BlockPlan blocks = plan_blocks(manifest_.schema);
  shards_ = std::make_unique<ShardWriter>(dir_, manifest_, resumed_, blocks.bytes, blocks.count);
}

void Writer::create(std::span<const StoreDocument> documents) {
  check_fresh(dir_);
  check_disk();
  if (manifest_.schema.shard_rows == 0) manifest_.schema.shard_rows = default_shard_rows(manifest_.schema);
  make_directories(dir_ / "shards");
  remove_leftovers(dir_, {});
  write_file_atomically(documents_path(dir_), documents_text(documents));
  write_file_atomically(shard_log_path(dir_), "");
  write_manifest(dir_, manifest_);  // from here on it is a store
  log_run(dir_, "start",
          {{"rows", manifest_.schema.total_rows}, {"shard_rows", manifest_.schema.shard_rows}});
}

void Writer::resume() {
  StoreManifest found = read_manifest(dir_);
  if (const std::string difference = first_difference(comparable(found), comparable(manifest_));
      !difference.empty())
    fail_hint("a store is never mixed: give another --out, or remove this folder to start over",
              "{}: this store was made with other options: {}", dir_.string(), difference);
  manifest_.schema.shard_rows = found.schema.shard_rows;
  manifest_.complete = found.complete;
  std::int64_t intact = 0;
  resumed_ = read_shard_log(dir_, &intact);
  check_shards(dir_, found, resumed_);
  if (manifest_.complete) return;
  {
    const File log(shard_log_path(dir_), O_WRONLY);
    if (log.size() != intact) log.truncate(intact), log.sync();  // a line that a crash tore
  }
  remove_leftovers(dir_, resumed_);
  check_disk();
  const std::int64_t rows = resumed_.empty() ? 0 : resumed_.back().first_row + resumed_.back().rows;
  log_run(dir_, "resume", {{"committed_rows", rows}});
}

// A disk that cannot hold the store is better found out now.
void Writer::check_disk() const {
  const std::int64_t total = store_bytes(manifest_.schema), free = free_disk_bytes(dir_);
  std::int64_t done = 0;
  for (const ShardRecord& record : resumed_) done += record.bytes;
  if (free >= 0 && free < total - done)
    fail_hint("free some space, give --out another disk, or record fewer sites or tokens, or --store bf16",
              "{}: No space left on device: this store takes {} more bytes, {} are free", dir_.string(),
              total - done, free);
}

void Writer::begin_batch(std::int64_t batch, std::int64_t first_row, RowMetadata rows) {
  const auto n = static_cast<std::int64_t>(rows.document.size());
  sonde_check(batch_rows_ < 0 && batch == next_batch_ && first_row == next_row_,
              "batch {} from row {}, expected {} from {}", batch, first_row, next_batch_, next_row_);
  sonde_check(rows.position.size() == rows.document.size() && rows.token.size() == rows.document.size() &&
                  first_row + n <= manifest_.schema.total_rows,
              "batch {}: {} documents, {} positions, {} tokens from row {} of {}", batch, n,
              rows.position.size(), rows.token.size(), first_row, manifest_.schema.total_rows);
  for (const std::int64_t document : rows.document)
    sonde_check(document >= 0 && document < manifest_.documents, "document {} of {}", document,
                manifest_.documents);
  batch_rows_ = n;
  const auto skip = static_cast<std::size_t>(std::clamp<std::int64_t>(committed_ - first_row, 0, n));
  document_.insert(document_.end(), rows.document.begin() + static_cast<std::ptrdiff_t>(skip),
                   rows.document.end());
  position_.insert(position_.end(), rows.position.begin() + static_cast<std::ptrdiff_t>(skip),
                   rows.position.end());
  token_.insert(token_.end(), rows.token.begin() + static_cast<std::ptrdiff_t>(skip), rows.token.end());
  for (Stream& stream : streams_) {
    stream.batch = ColumnSums(stream.total.width);
    stream.rows = 0;
  }
}

void Writer::put(Site site, Tensor rows, std::int64_t row0) {
  const std::vector<StoreSite>& sites = manifest_.schema.sites;
  const auto found = std::ranges::find(sites, site, &StoreSite::site);
  sonde_check(found != sites.end(), "site {} is not in this store", name(site));
  const auto index = static_cast<std::size_t>(found - sites.begin());
  Stream& stream = streams_[index];
  sonde_check(rows.dtype == DType::f32 && row0 == stream.rows && row0 + rows.rows() <= batch_rows_,
              "{} of {} at row {}, expected f32 from row {} of {}", rows.describe(), found->name, row0,
              stream.rows, batch_rows_);
  const bool fits = is_pooled(*found) ? rows.rank == 3 && rows.dim(1) == found->row_shape[0] &&
                                            rows.dim(2) <= found->row_shape[1]
                                      : rows.width() == found->width();
  sonde_check(fits, "{} of {}, whose rows have {} values", rows.describe(), found->name, found->width());
  if (rows.rows() == 0) return;

  if (const auto bad = sum(index, rows)) fail_value(*found, row0 + bad->row, bad->value);
  stream.rows += rows.rows();
  const std::int64_t first = next_row_ + row0,
                     skip = std::clamp<std::int64_t>(committed_ - first, 0, rows.rows());
  if (skip < rows.rows()) store_rows(index, rows.slice_rows(skip, rows.rows() - skip), first + skip);
}

std::optional<BadValue> Writer::sum(std::size_t site, const Tensor& rows) {
  const StoreSite& stored = manifest_.schema.sites[site];
  const bool scores = stored.site.hook == Hook::attn_scores;
  const ValueRule rule = value_rule(manifest_.schema.dtype, scores);
  ColumnSums& sums = streams_[site].batch;
  if (!is_pooled(stored)) return add_columns(rows.f32(), rows.rows(), rows.row_stride, rule, sums);
  const HeadRows shape{rows.dim(1), rows.dim(2), stored.row_shape[1], scores ? -INFINITY : 0.0f};
  return add_pooled(rows.f32(), rows.rows(), rows.row_stride, shape, rule, sums);
}

void Writer::fail_value(const StoreSite& site, std::int64_t row, float value) const {
  const auto at = static_cast<std::size_t>(next_row_ + row - metadata_row_);
  std::string where = "in rows that are already committed";
  if (next_row_ + row >= metadata_row_)
    where = fmt::format("document {} (id '{}'), token position {}", document_[at],
                        printable(documents_[static_cast<std::size_t>(document_[at])].id), position_[at]);
  const DType dtype = manifest_.schema.dtype;
  if (std::isfinite(value))
    fail_hint(dtype == DType::f16 ? "use --store bf16 or f32" : "use --store f32",
              "{}: site {}, {}: found {}, which {} cannot hold", dir_.string(), site.name, where, value,
              name(dtype));
  const char* found = std::isnan(value) ? "NaN" : value > 0 ? "+inf" : "-inf";
  fail_hint(
      "a weight that is damaged, or a compute dtype that overflows: try --dtype f32, and `sonde describe` "
      "the model",
      "{}: site {}, {}: found {}, expected finite values", dir_.string(), site.name, where, found);
}

void Writer::store_rows(std::size_t site, const Tensor& rows, std::int64_t first_row) {
  const StoreSite& stored = manifest_.schema.sites[site];
  const std::int64_t shard_rows = manifest_.schema.shard_rows, width = stored.width();
  const bool pad = rows.width() != width;
  for (std::int64_t r = 0; r < rows.rows();) {
    const std::int64_t row = first_row + r, shard = row / shard_rows;
    const std::int64_t end = std::min((shard + 1) * shard_rows, manifest_.schema.total_rows);
    std::int64_t n = std::min(rows.rows() - r, end - row);
    if (pad) {
      const std::int64_t heads = rows.dim(1), keys = rows.dim(2), stored_keys = stored.row_shape[1];
      padded_.assign(static_cast<std::size_t>(width),
                     stored.site.hook == Hook::attn_scores ? -INFINITY : 0.0f);
      for (std::int64_t h = 0; h < heads; ++h)
        std::copy_n(rows.row(r) + h * keys, keys, padded_.begin() + h * stored_keys);
      n = 1;
      store_values(site, shard, padded_.data(), width);
    } else if (rows.contiguous()) {
      store_values(site, shard, rows.row(r), n * width);
    } else {
      n = 1;
      store_values(site, shard, rows.row(r), width);
    }
    r += n;
    if (first_row + r == end) {
      flush(site, shard);
      streams_[site].offset = 0;
    }
  }
}

void Writer::store_values(std::size_t site, std::int64_t shard, const float* values, std::int64_t n) {
  Stream& stream = streams_[site];
  const DType dtype = manifest_.schema.dtype;
  const std::int64_t size = info(dtype).block_bytes;
  while (n > 0) {
    if (!stream.block.data) stream.block = shards_->take();
    const std::int64_t count = std::min(n, (shards_->block_bytes() - stream.block.used) / size);
    narrow(dtype, values, count, stream.block.data + stream.block.used);
    stream.block.used += count * size;
    values += count;
    n -= count;
    if (stream.block.used == shards_->block_bytes()) flush(site, shard);
  }
}

void Writer::flush(std::size_t site, std::int64_t shard) {
  Stream& stream = streams_[site];
  if (!stream.block.data) return;
  const std::int64_t offset = stream.offset;
  stream.offset += stream.block.used;
  shards_->write(shard, site, offset, std::move(stream.block));
  stream.block = Block{};
}

void Writer::end_batch() {
  sonde_check(batch_rows_ >= 0, "no batch is open");
  for (std::size_t i = 0; i < streams_.size(); ++i)
    sonde_check(streams_[i].rows == batch_rows_, "batch {}: {} rows of {}, expected {}", next_batch_,
                streams_[i].rows, manifest_.schema.sites[i].name, batch_rows_);
  const std::int64_t shard_rows = manifest_.schema.shard_rows, end = next_row_ + batch_rows_;
  const auto shard_end = [&] {
    return std::min((committed_ / shard_rows + 1) * shard_rows, manifest_.schema.total_rows);
  };
  // Shards that end within the batch know nothing of it yet; one that ends with it does.
  while (committed_ < end && shard_end() < end) commit(committed_ / shard_rows);
  for (Stream& stream : streams_) stream.total.add(stream.batch);
  if (manifest_.is_part() && batch_rows_ > 0) {
    std::vector<ColumnSums>& sums = ended_.emplace_back();
    for (const Stream& stream : streams_) sums.push_back(stream.batch);
  }
  ++next_batch_;
  next_row_ = end;
  batch_rows_ = -1;
  if (committed_ < end && shard_end() == end) commit(committed_ / shard_rows);
}

void Writer::commit(std::int64_t shard) {
  ShardCommit job;
  job.shard = shard;
  job.first_row = committed_;
  job.rows = std::min(manifest_.schema.shard_rows, manifest_.schema.total_rows - committed_);
  job.batches = next_batch_;
  job.batch_rows = next_row_;
  const auto take = [&](auto& from, auto& to) {
    to.assign(from.begin(), from.begin() + job.rows);
    from.erase(from.begin(), from.begin() + job.rows);
  };
  take(document_, job.document);
  take(position_, job.position);
  take(token_, job.token);
  metadata_row_ += job.rows;
  for (const Stream& stream : streams_) job.totals.push_back(stream.total);
  job.batch_sums = std::exchange(ended_, {});
  committed_ += job.rows;
  shards_->commit(std::move(job));
}

void Writer::finish() {
  if (manifest_.complete) return;
  const StoreSchema& schema = manifest_.schema;
  sonde_check(batch_rows_ < 0 && next_batch_ == schema.n_batches && committed_ == schema.total_rows,
              "{} of {} batches, {} of {} rows", next_batch_, schema.n_batches, committed_,
              schema.total_rows);
  shards_->drain();
  const std::vector<ShardRecord>& records = shards_->records();
  std::vector<ColumnSums> totals;
  for (const Stream& stream : streams_) totals.push_back(stream.total);
  manifest_.statistics_crc = write_index(dir_, manifest_, records, totals);
  manifest_.shards = static_cast<std::int64_t>(records.size());
  for (const ShardRecord& record : records) manifest_.bytes += record.bytes;
  manifest_.complete = true;
  write_manifest(dir_, manifest_);
  log_run(dir_, "finish", {{"bytes_written", bytes_written()}, {"disk", shards_->describe_path()}});
}

}  // namespace

std::unique_ptr<StoreWriter> StoreWriter::open(const path& dir, StoreSchema schema,
                                               std::span<const StoreDocument> documents) {
  return std::make_unique<Writer>(dir, std::move(schema), documents);
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
