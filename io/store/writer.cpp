// StoreWriter: one process writes all rows, shard after shard.
#include <algorithm>

#include "io/store/folder.h"
#include "io/store/open_store.h"
#include "io/store/shard_filler.h"
#include "runtime/error.h"

namespace sonde {
namespace {

using std::filesystem::path;

class Writer : public StoreWriter {
 public:
  Writer(path dir, StoreSchema schema, std::span<const StoreDocument> documents);

  std::int64_t first_batch() const override { return first_batch_; }
  std::int64_t committed_rows() const override { return filler_->committed(); }
  std::int64_t shard_rows() const override { return store_.manifest.schema.shard_rows; }
  void begin_batch(std::int64_t batch, std::int64_t first_row, RowMetadata rows) override {
    filler_->begin_batch(batch, first_row, rows);
  }
  void put(Site site, Tensor rows, std::int64_t row0) override { filler_->put(site, rows, row0); }
  std::optional<Packing> packing(Site site) override { return filler_->packing(site); }
  void put_packed(Site site, const PackedRows& rows, std::int64_t row0) override {
    filler_->put_packed(site, rows, row0);
  }
  void end_batch() override { filler_->end_batch(); }
  std::int64_t bytes_written() const override { return shards_->bytes_written(); }
  void close() override {
    filler_->close();
    shards_->drain();
  }
  void finish() override;

 private:
  const path dir_;
  OpenStore store_;
  std::int64_t first_batch_ = 0;
  std::unique_ptr<ShardWriter> shards_;
  std::unique_ptr<ShardFiller> filler_;
};

Writer::Writer(path dir, StoreSchema schema, std::span<const StoreDocument> documents)
    : dir_(std::move(dir)), store_(open_store(dir_, std::move(schema), documents)) {
  StoreManifest& manifest = store_.manifest;
  if (!manifest.complete && has_rank_logs(dir_))
    fail_hint("`sonde extract` resumes it, on any number of ranks", "{}: several ranks wrote this store",
              dir_.string());
  StoreStretch rest{0, manifest.schema.n_batches, 0, 0, manifest.schema.total_rows};
  std::vector<ColumnSums> totals;
  if (!store_.committed.empty()) {
    const ShardRecord& last = store_.committed.back();
    rest.first_batch = last.batches;
    rest.batch_row = last.batch_rows;
    rest.first_row = last.first_row + last.rows;
    if (!manifest.complete) totals = read_totals(H5File(dir_ / last.file), manifest);
  }
  if (manifest.complete) rest.first_batch = manifest.schema.n_batches;
  first_batch_ = rest.first_batch;
  const BatchSums batch_sums = manifest.is_part() ? BatchSums::kept : BatchSums::dropped;
  const BlockPlan blocks = plan_blocks(manifest.schema);
  shards_ = std::make_unique<ShardWriter>(dir_, manifest, ShardLog{shard_log_path(dir_), batch_sums, {}},
                                          store_.committed, blocks.bytes, blocks.count);
  filler_ = std::make_unique<ShardFiller>(dir_, manifest, documents, *shards_, batch_sums);
  filler_->start(rest, manifest.schema.shard_rows, static_cast<std::int64_t>(store_.committed.size()),
                 std::move(totals));
}

void Writer::finish() {
  StoreManifest& manifest = store_.manifest;
  if (manifest.complete) return;
  const StoreSchema& schema = manifest.schema;
  sonde_check(filler_->next_batch() == schema.n_batches && filler_->committed() == schema.total_rows,
              "{} of {} batches, {} of {} rows", filler_->next_batch(), schema.n_batches,
              filler_->committed(), schema.total_rows);
  shards_->drain();
  complete_store(dir_, manifest, shards_->records(), filler_->totals());
  log_run(dir_, "finish", {{"bytes_written", bytes_written()}, {"disk", shards_->describe_path()}});
}

}  // namespace

std::unique_ptr<StoreWriter> StoreWriter::open(const path& dir, StoreSchema schema,
                                               std::span<const StoreDocument> documents) {
  return std::make_unique<Writer>(dir, std::move(schema), documents);
}

}  // namespace sonde
