// Checks, sums and casts rows on the computing thread, hands filled blocks to the ShardWriter.
#include "io/store/shard_filler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

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
    stream.batch.assign(static_cast<std::size_t>(PackedSums::length(stream.total.width)), 0.0);
    stream.rows = 0;
  }
}

std::size_t ShardFiller::index_of(Site site) const {
  const auto found = std::ranges::find(manifest_.schema.sites, site, &StoreSite::site);
  sonde_check(found != manifest_.schema.sites.end(), "site {} is not in this store", name(site));
  return static_cast<std::size_t>(found - manifest_.schema.sites.begin());
}

Packing ShardFiller::packing(Site site) {
  const std::size_t index = index_of(site);
  const StoreSite& stored = manifest_.schema.sites[index];
  const DType dtype = manifest_.schema.dtype;
  return {{dtype, value_rule(dtype, site.hook == Hook::attn_scores), is_pooled(stored) ? stored.width() : 0},
          streams_[index].sums()};
}

void ShardFiller::put(Site site, Tensor rows, std::int64_t row0) {
  sonde_check(rows.dtype == DType::f32, "{} of {}, expected f32", rows.describe(), name(site));
  const Packing packing = this->packing(site);
  Tensor packed = rows;
  packed.dtype = packing.format.dtype;
  packed.row_stride = packed.width();
  if (const std::int64_t bytes = bytes_of(packed.dtype, packed.count()); packed_.bytes() < bytes)
    packed_ = Buffer(bytes);
  packed.data = packed_.data();
  every_row_.resize(static_cast<std::size_t>(rows.rows()));
  std::iota(every_row_.begin(), every_row_.end(), 0);
  check_rows(index_of(site), packed, row0);
  pack_rows(packing.format, packed, packing.sums, rows, every_row_);
  put_packed(site,
             {packed, Tensor(packing.sums.data, DType::f64, {PackedSums::length(packing.sums.columns)})},
             row0);
}

void ShardFiller::check_rows(std::size_t site, const Tensor& rows, std::int64_t row0) const {
  const StoreSite& stored = manifest_.schema.sites[site];
  const Stream& stream = streams_[site];
  sonde_check(rows.dtype == manifest_.schema.dtype && rows.contiguous() && row0 == stream.rows &&
                  row0 + rows.rows() <= batch_rows_,
              "{} of {} at row {}, expected {} from row {} of {}", rows.describe(), stored.name, row0,
              name(manifest_.schema.dtype), stream.rows, batch_rows_);
  const bool fits = is_pooled(stored) ? rows.rank == 3 && rows.dim(1) == stored.row_shape[0] &&
                                            rows.dim(2) <= stored.row_shape[1]
                                      : rows.width() == stored.width();
  sonde_check(fits, "{} of {}, whose rows have {} values", rows.describe(), stored.name, stored.width());
}

void ShardFiller::put_packed(Site site, const PackedRows& packed, std::int64_t row0) {
  const std::size_t index = index_of(site);
  const Tensor& rows = packed.rows;
  check_rows(index, rows, row0);
  Stream& stream = streams_[index];
  const PackedSums sums = stream.sums();
  sonde_check(packed.sums.count() == PackedSums::length(sums.columns), "{} of {}", packed.sums.describe(),
              name(site));
  if (packed.sums.as<double>() != sums.data)
    std::copy_n(packed.sums.as<double>(), packed.sums.count(), sums.data);
  if (const auto bad = sums.refused()) fail_value(manifest_.schema.sites[index], row0 + bad->row, bad->value);
  stream.rows += rows.rows();
  const std::int64_t first = next_row_ + row0,
                     skip = std::clamp<std::int64_t>(committed_ - first, 0, rows.rows());
  if (skip < rows.rows()) store_rows(index, rows.slice_rows(skip, rows.rows() - skip), first + skip);
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
  const bool pad = rows.width() != stored.width();
  const std::int64_t size = info(rows.dtype).block_bytes, row = stored.width() * size;
  for (std::int64_t r = 0; r < rows.rows();) {
    const auto [shard, end] = begin_shard(first_row + r);
    const std::int64_t n = pad ? 1 : std::min(rows.rows() - r, end - (first_row + r));
    if (pad) pad_row(stored, rows.slice_rows(r, 1));
    store_bytes(site, shard, pad ? padded_.data() : rows.data + r * row, n * row);
    r += n;
    if (first_row + r == end) {
      flush(site, shard);
      streams_[site].offset = 0;
    }
  }
}

// padded_ = a row [H, s] with the keys that it lacks of [H, S].
void ShardFiller::pad_row(const StoreSite& stored, const Tensor& row) {
  const std::int64_t size = info(row.dtype).block_bytes, keys = row.dim(2) * size,
                     stored_keys = stored.row_shape[1] * size;
  const float missing = stored.site.hook == Hook::attn_scores ? -INFINITY : 0.0f;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(missing);
  const std::uint16_t half = row.dtype == DType::bf16 ? to_bf16(missing).bits : to_f16(missing).bits;
  padded_.resize(static_cast<std::size_t>(stored.width() * size));
  for (std::int64_t h = 0; h < row.dim(1); ++h) {
    std::byte* to = padded_.data() + h * stored_keys;
    std::copy_n(row.data + h * keys, keys, to);
    for (std::int64_t at = keys; at < stored_keys; at += size)
      std::memcpy(to + at, size == 4 ? static_cast<const void*>(&bits) : &half,
                  static_cast<std::size_t>(size));
  }
}

void ShardFiller::store_bytes(std::size_t site, std::int64_t shard, const std::byte* bytes, std::int64_t n) {
  Stream& stream = streams_[site];
  while (n > 0) {
    if (!stream.block.data) stream.block = shards_.take();
    const std::int64_t count = std::min(n, shards_.block_bytes() - stream.block.used);
    std::memcpy(stream.block.data + stream.block.used, bytes, static_cast<std::size_t>(count));
    stream.block.used += count;
    bytes += count;
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
  for (Stream& stream : streams_) stream.total.add(ColumnSums(stream.sums()));
  if (batch_sums_ == BatchSums::kept && batch_rows_ > 0) {
    std::vector<ColumnSums>& sums = ended_.emplace_back();
    for (Stream& stream : streams_) sums.emplace_back(stream.sums());
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
