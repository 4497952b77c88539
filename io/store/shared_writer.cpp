// SharedStoreWriter: rank 0 opens the folder and completes the store; in between each rank writes for itself,
// shards of its own noted in a log of its own.
#include "io/shared_store.h"

#include <algorithm>
#include <filesystem>

#include "io/file_util.h"
#include "io/hash.h"
#include "io/store/folder.h"
#include "io/store/open_store.h"
#include "io/store/shard_filler.h"
#include "io/store/stretches.h"
#include "runtime/error.h"
#include "runtime/profile.h"

namespace sonde {
namespace {

using std::filesystem::path;

std::string to_lines(std::span<const ShardRecord> records) {
  std::string lines;
  for (const ShardRecord& record : records) lines += to_line(record);
  return lines;
}

std::vector<ShardRecord> parse_lines(const std::string& lines) {
  std::vector<ShardRecord> records;
  for (std::size_t begin = 0, end; (end = lines.find('\n', begin)) != std::string::npos; begin = end + 1)
    records.push_back(parse_record(std::string_view(lines).substr(begin, end - begin), "the ranks' shards"));
  return records;
}

class SharedWriter : public SharedStoreWriter {
 public:
  SharedWriter(path dir, StoreSchema schema, std::span<const StoreDocument> documents,
               std::span<const std::int64_t> batch_row, Communicator& ranks, Json made_by);

  const std::vector<StoreStretch>& work() const override { return work_; }
  std::int64_t committed_rows() const override { return committed_; }
  void start(const StoreStretch& stretch) override {
    // One shard a stretch. Its sums are those of its batches; finish() adds them in order.
    filler_->start(stretch, stretch.end_row - stretch.first_row, ShardFiller::kNamedByRow, {});
  }
  void begin_batch(std::int64_t batch, std::int64_t first_row, RowMetadata rows) override {
    filler_->begin_batch(batch, first_row, rows);
  }
  void put(Site site, Tensor rows, std::int64_t row0) override { filler_->put(site, rows, row0); }
  std::optional<Packing> packing(Site site) override { return filler_->packing(site); }
  void put_packed(Site site, const PackedRows& rows, std::int64_t row0) override {
    filler_->put_packed(site, rows, row0);
  }
  void end_batch() override { filler_->end_batch(); }
  void close() override { filler_->close(); }
  std::int64_t bytes_written() const override { return shards_->bytes_written(); }
  std::int64_t finish() override;

 private:
  void join_folder(StoreSchema schema, std::span<const StoreDocument> documents);
  void complete(std::vector<ShardRecord> records);

  const path dir_;
  Communicator& ranks_;
  OpenStore store_;
  std::int64_t committed_ = 0;
  std::vector<StoreStretch> work_;
  std::unique_ptr<ShardWriter> shards_;
  std::unique_ptr<ShardFiller> filler_;
};

SharedWriter::SharedWriter(path dir, StoreSchema schema, std::span<const StoreDocument> documents,
                           std::span<const std::int64_t> batch_row, Communicator& ranks, Json made_by)
    : dir_(std::move(dir)), ranks_(ranks) {
  sonde_check(static_cast<std::int64_t>(batch_row.size()) == schema.n_batches + 1 &&
                  batch_row.back() == schema.total_rows,
              "{} batches, {} rows", batch_row.size() - 1, batch_row.back());
  join_folder(std::move(schema), documents);
  StoreManifest& manifest = store_.manifest;
  for (const auto* records : {&store_.committed, &store_.by_ranks})
    for (const ShardRecord& record : *records) committed_ += record.rows;
  if (!manifest.complete) work_ = remaining_work(batch_row, manifest.schema.shard_rows, store_);
  const BlockPlan blocks = plan_blocks(manifest.schema);
  shards_ = std::make_unique<ShardWriter>(
      dir_, manifest, ShardLog{rank_log_path(dir_, ranks_.rank()), BatchSums::kept, std::move(made_by)},
      std::vector<ShardRecord>{}, blocks.bytes, blocks.count);
  filler_ = std::make_unique<ShardFiller>(dir_, manifest, documents, *shards_, BatchSums::kept);
}

// Rank 0 opens; the others learn from it what is there, and check that they see the same folder.
void SharedWriter::join_folder(StoreSchema schema, std::span<const StoreDocument> documents) {
  const int rank = ranks_.rank();
  Json found;
  if (rank == 0) {
    store_ = open_store(dir_, std::move(schema), documents);
    found = {{"complete", store_.manifest.complete},
             {"shard_rows", store_.manifest.schema.shard_rows},
             {"manifest", sha256_hex(read_file(manifest_path(dir_)))},
             {"committed", to_lines(store_.committed)},
             {"by_ranks", to_lines(store_.by_ranks)}};
  }
  found = parse_json(ranks_.broadcast_bytes(found.dump()), "rank 0's store");
  if (rank == 0) return;
  const path manifest = manifest_path(dir_);
  if (!std::filesystem::exists(manifest) || sha256_hex(read_file(manifest)) != found["manifest"])
    fail_hint("give --out a folder of a file system that all nodes share",
              "{}: rank {} does not see the store that rank 0 opened there", dir_.string(), rank);
  store_.manifest.documents = static_cast<std::int64_t>(documents.size());
  store_.manifest.schema = std::move(schema);
  store_.manifest.schema.shard_rows = found["shard_rows"].get<std::int64_t>();
  store_.manifest.complete = found["complete"].get<bool>();
  store_.committed = parse_lines(found["committed"].get<std::string>());
  store_.by_ranks = parse_lines(found["by_ranks"].get<std::string>());
  if (!store_.manifest.complete)
    store_.lock = StoreLock::take(dir_, fmt::format("writer.lock.rank-{:05}", rank));
}

std::int64_t SharedWriter::finish() {
  if (store_.manifest.complete) return store_.manifest.schema.total_rows;
  shards_->drain();
  const std::vector<std::string> lines = ranks_.gather_bytes(to_lines(shards_->records()));
  std::vector<ShardRecord> records = store_.committed;
  records.insert(records.end(), store_.by_ranks.begin(), store_.by_ranks.end());
  for (const std::string& one : lines)
    for (ShardRecord& record : parse_lines(one)) records.push_back(std::move(record));
  std::ranges::sort(records, {}, &ShardRecord::first_row);
  std::int64_t rows = 0;
  for (const ShardRecord& record : records) rows += record.rows;
  if (ranks_.rank() != 0) store_.lock.reset();
  if (rows == store_.manifest.schema.total_rows && ranks_.rank() == 0) complete(std::move(records));
  ranks_.barrier();  // complete for all, or for none
  return rows;
}

void SharedWriter::complete(std::vector<ShardRecord> records) {
  const PhaseScope scope(Phase::io);
  std::vector<ColumnSums> totals;
  for (const StoreSite& site : store_.manifest.schema.sites) totals.emplace_back(statistics_width(site));
  std::int64_t row = 0;
  for (std::size_t i = 0; i < records.size(); ++i) {
    records[i].shard = static_cast<std::int64_t>(i);
    sonde_check(records[i].first_row == row, "{} begins at row {}, expected {}", records[i].file,
                records[i].first_row, row);
    row += records[i].rows;
    add_batch_sums(H5File(dir_ / records[i].file), store_.manifest, totals);
  }
  write_file_atomically(shard_log_path(dir_), to_lines(records));
  complete_store(dir_, store_.manifest, records, totals);
  for (const path& log : rank_logs(dir_)) std::filesystem::remove(log);
  for (const auto& entry : std::filesystem::directory_iterator(dir_))
    if (entry.path().filename().string().starts_with("writer.lock.rank-"))
      std::filesystem::remove(entry.path());
  log_run(dir_, "finish", {{"ranks", ranks_.size()}, {"bytes_written", bytes_written()}});
}

}  // namespace

std::unique_ptr<SharedStoreWriter> SharedStoreWriter::open(const path& dir, StoreSchema schema,
                                                           std::span<const StoreDocument> documents,
                                                           std::span<const std::int64_t> batch_row,
                                                           Communicator& ranks, Json made_by) {
  return std::make_unique<SharedWriter>(dir, std::move(schema), documents, batch_row, ranks,
                                        std::move(made_by));
}

bool written_by_ranks(const path& dir) { return has_rank_logs(dir); }

}  // namespace sonde
