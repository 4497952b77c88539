// Checks, sums and casts rows on the computing thread, hands filled blocks to the ShardWriter.
#include "io/store/shard_filler.h"

#include <algorithm>
#include <cmath>

#include "io/file_util.h"
#include "runtime/error.h"

namespace sonde {

ShardFiller::ShardFiller(std::filesystem::path dir, const StoreManifest& manifest,
                         std::span<const StoreDocument> documents, ShardWriter& shards, BatchSums batch_sums)
    : dir_(std::move(dir)),
      manifest_(manifest),
      documents_(documents.begin(), documents.end()),
      shards_(shards),
      batch_sums_(batch_sums) {
  for (const StoreSite& site : manifest_.schema.sites) {
    Stream& stream = streams_.emplace_back();
    stream.total = ColumnSums(statistics_width(site));
  }
}

void ShardFiller::start(const StoreStretch& stretch, std::int64_t shard_rows, std::int64_t first_shard,
                        std::vector<ColumnSums> totals) {
  sonde_check(batch_rows_ < 0 && committed_ == next_row_, "rows up to {} of {} are committed", committed_,
              next_row_);
  stretch_ = stretch;
  shard_rows_ = shard_rows;
  first_shard_ = first_shard;
  next_batch_ = stretch.first_batch;
  next_row_ = stretch.batch_row;
  committed_ = metadata_row_ = begun_ = stretch.first_row;
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    streams_[i].total =
        totals.empty() ? ColumnSums(statistics_width(manifest_.schema.sites[i])) : std::move(totals[i]);
    streams_[i].offset = 0;
  }
}

std::vector<ColumnSums> ShardFiller::totals() const {
  std::vector<ColumnSums> totals;
  for (const Stream& stream : streams_) totals.push_back(stream.total);
  return totals;
}

void ShardFiller::begin_batch(std::int64_t batch, std::int64_t first_row, RowMetadata rows) {
  const auto n = static_cast<std::int64_t>(rows.document.size());
  sonde_check(batch_rows_ < 0 && batch == next_batch_ && first_row == next_row_,
              "batch {} from row {}, expected {} from {}", batch, first_row, next_batch_, next_row_);
  sonde_check(rows.position.size() == rows.document.size() && rows.token.size() == rows.document.size() &&
                  first_row + n <= stretch_.end_row,
              "batch {}: {} documents, {} positions, {} tokens from row {} of {}", batch, n,
              rows.position.size(), rows.token.size(), first_row, stretch_.end_row);
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

void ShardFiller::put(Site site, Tensor rows, std::int64_t row0) {
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

std::optional<BadValue> ShardFiller::sum(std::size_t site, const Tensor& rows) {
  const StoreSite& stored = manifest_.schema.sites[site];
  const bool scores = stored.site.hook == Hook::attn_scores;
  const ValueRule rule = value_rule(manifest_.schema.dtype, scores);
  ColumnSums& sums = streams_[site].batch;
  if (!is_pooled(stored)) return add_columns(rows.f32(), rows.rows(), rows.row_stride, rule, sums);
  const HeadRows shape{rows.dim(1), rows.dim(2), stored.row_shape[1], scores ? -INFINITY : 0.0f};
  return add_pooled(rows.f32(), rows.rows(), rows.row_stride, shape, rule, sums);
}

void ShardFiller::fail_value(const StoreSite& site, std::int64_t row, float value) const {
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

void ShardFiller::store_rows(std::size_t site, const Tensor& rows, std::int64_t first_row) {
  const StoreSite& stored = manifest_.schema.sites[site];
  const std::int64_t width = stored.width();
  const bool pad = rows.width() != width;
  for (std::int64_t r = 0; r < rows.rows();) {
    const auto [shard, end] = begin_shard(first_row + r);
    std::int64_t n = std::min(rows.rows() - r, end - (first_row + r));
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

void ShardFiller::store_values(std::size_t site, std::int64_t shard, const float* values, std::int64_t n) {
  Stream& stream = streams_[site];
  const DType dtype = manifest_.schema.dtype;
  const std::int64_t size = info(dtype).block_bytes;
  while (n > 0) {
    if (!stream.block.data) stream.block = shards_.take();
    const std::int64_t count = std::min(n, (shards_.block_bytes() - stream.block.used) / size);
    narrow(dtype, values, count, stream.block.data + stream.block.used);
    stream.block.used += count * size;
    values += count;
    n -= count;
    if (stream.block.used == shards_.block_bytes()) flush(site, shard);
  }
}

void ShardFiller::flush(std::size_t site, std::int64_t shard) {
  Stream& stream = streams_[site];
  if (!stream.block.data) return;
  const std::int64_t offset = stream.offset;
  stream.offset += stream.block.used;
  shards_.write(shard, site, offset, std::move(stream.block));
  stream.block = Block{};
}

void ShardFiller::end_batch() {
  sonde_check(batch_rows_ >= 0, "no batch is open");
  for (std::size_t i = 0; i < streams_.size(); ++i)
    sonde_check(streams_[i].rows == batch_rows_, "batch {}: {} rows of {}, expected {}", next_batch_,
                streams_[i].rows, manifest_.schema.sites[i].name, batch_rows_);
  const std::int64_t end = next_row_ + batch_rows_;
  // Shards that end within the batch know nothing of it yet; one that ends with it does.
  while (committed_ < end && shard_of(committed_).end_row < end) commit(shard_of(committed_).end_row);
  for (Stream& stream : streams_) stream.total.add(stream.batch);
  if (batch_sums_ == BatchSums::kept && batch_rows_ > 0) {
    std::vector<ColumnSums>& sums = ended_.emplace_back();
    for (const Stream& stream : streams_) sums.push_back(stream.batch);
  }
  ++next_batch_;
  next_row_ = end;
  batch_rows_ = -1;
  if (committed_ < end && shard_of(committed_).end_row == end) commit(end);
}

void ShardFiller::close() {
  sonde_check(batch_rows_ < 0, "a batch is open");
  if (committed_ >= next_row_) return;
  const std::int64_t shard = shard_of(committed_).first_row;
  for (std::size_t site = 0; site < streams_.size(); ++site) flush(site, shard);
  commit(next_row_);
}

// Shards are cut from the stretch's first row on.
ShardFiller::Extent ShardFiller::shard_of(std::int64_t row) const {
  const std::int64_t index = (row - stretch_.first_row) / shard_rows_,
                     first = stretch_.first_row + index * shard_rows_;
  return {first, std::min(first + shard_rows_, stretch_.end_row)};
}

// Sites reach a new shard one after another: the first of them announces it.
ShardFiller::Extent ShardFiller::begin_shard(std::int64_t row) {
  const Extent extent = shard_of(row);
  if (extent.first_row >= begun_) {
    const std::int64_t number = first_shard_ == kNamedByRow
                                    ? 0
                                    : first_shard_ + (extent.first_row - stretch_.first_row) / shard_rows_;
    shards_.begin({number,
                   first_shard_ == kNamedByRow ? shard_file_from(extent.first_row) : shard_file(number),
                   extent.first_row, extent.end_row - extent.first_row});
    begun_ = extent.end_row;
  }
  return extent;
}

void ShardFiller::commit(std::int64_t end_row) {
  ShardCommit job;
  job.first_row = committed_;
  job.rows = end_row - committed_;
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
  shards_.commit(std::move(job));
}

}  // namespace sonde
