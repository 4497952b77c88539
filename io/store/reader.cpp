// StoreReader: raw bytes by pread, cast by us. HDF5 only says where in a shard they are.
#include <fcntl.h>

#include <algorithm>
#include <mutex>

#include "io/store/files.h"
#include "io/store/index.h"
#include "runtime/error.h"
#include "runtime/packed_rows.h"

namespace sonde {
namespace {

using std::filesystem::path;

class Reader : public StoreReader {
 public:
  Reader(const path& dir, Incomplete unfinished) : dir_(dir), manifest_(read_manifest(dir)) {
    if (!manifest_.complete && unfinished == Incomplete::refuse)
      fail_hint("run the command that makes it again: it resumes", "{}: this store is not complete",
                dir.string());
    records_ = read_shard_log(dir);
    check_shards(dir, manifest_, records_);
    documents_ = read_documents(dir, manifest_);
    offsets_.resize(records_.size());
    rows_ = records_.empty() ? 0 : records_.back().first_row + records_.back().rows;
  }

  const Json& manifest() const override { return manifest_.json; }
  bool complete() const override { return manifest_.complete; }
  const std::vector<StoreSite>& sites() const override { return manifest_.schema.sites; }
  std::int64_t rows() const override { return rows_; }
  DType dtype() const override { return manifest_.schema.dtype; }
  const std::vector<StoreDocument>& documents() const override { return documents_; }

  const std::vector<std::int64_t>& row_document() const override { return metadata().document; }
  const std::vector<std::int32_t>& row_position() const override { return metadata().position; }
  const std::vector<std::int32_t>& row_token() const override { return metadata().token; }

  SiteStatistics statistics(std::size_t site) const override {
    if (!manifest_.complete)
      fail_hint("finish the store first", "{}: a store that is not complete has no statistics",
                dir_.string());
    const std::lock_guard guard(mutex_);
    return read_statistics(H5File(index_path(dir_)), sites().at(site));
  }

  void read_raw(std::size_t site, std::int64_t first, std::int64_t n, void* out) const override {
    const std::int64_t width = bytes_of(dtype(), sites().at(site).width());
    visit_shards(first, n, [&](std::size_t shard, std::int64_t from, std::int64_t rows) {
      read_dataset(shard, site, from * width, rows * width, out);
      out = static_cast<std::byte*>(out) + rows * width;
    });
  }

  void read(std::size_t site, std::int64_t first, std::int64_t n, float* out) const override {
    if (dtype() == DType::f32) return read_raw(site, first, n, out);
    // Narrow values come in pieces that stay in the cache; a row may be longer than a piece.
    constexpr std::int64_t kPiece = std::int64_t{256} << 10;
    const std::int64_t width = sites().at(site).width(), size = info(dtype()).block_bytes;
    std::vector<std::byte> piece;
    visit_shards(first, n, [&](std::size_t shard, std::int64_t from, std::int64_t rows) {
      std::int64_t at = from * width * size;
      for (const std::int64_t end = at + rows * width * size; at < end;) {
        const std::int64_t bytes = std::min(kPiece, end - at);
        piece.resize(static_cast<std::size_t>(bytes));
        read_dataset(shard, site, at, bytes, piece.data());
        widen(dtype(), piece.data(), bytes / size, out);
        out += bytes / size;
        at += bytes;
      }
    });
  }

 private:
  struct Metadata {
    std::vector<std::int64_t> document;
    std::vector<std::int32_t> position, token;
  };

  // Calls visit(shard, first row within it, rows) for the shards that hold rows [first, first + n).
  template <class Visit>
  void visit_shards(std::int64_t first, std::int64_t n, const Visit& visit) const {
    if (first < 0 || n < 0 || first > rows_ - n)
      fail("{}: rows [{}, {}) were asked for, the store has {}", dir_.string(), first, first + n, rows_);
    auto record = std::ranges::upper_bound(records_, first, {}, &ShardRecord::first_row);
    if (n > 0) --record;
    for (const std::int64_t end = first + n; first < end; ++record) {
      const std::int64_t from = first - record->first_row, rows = std::min(record->rows - from, end - first);
      visit(static_cast<std::size_t>(record - records_.begin()), from, rows);
      first += rows;
    }
  }

  void read_dataset(std::size_t shard, std::size_t dataset, std::int64_t offset, std::int64_t bytes,
                    void* out) const {
    const std::int64_t base = shard_offsets(shard)[dataset];
    if (bytes > 0) File(dir_ / records_[shard].file, O_RDONLY).read_at(out, bytes, base + offset);
  }

  // Where the datasets of a shard start; asked of HDF5 at the first use.
  const std::vector<std::int64_t>& shard_offsets(std::size_t shard) const {
    const std::lock_guard guard(mutex_);
    std::vector<std::int64_t>& offsets = offsets_[shard];
    if (!offsets.empty()) return offsets;
    const path name = dir_ / records_[shard].file;
    const H5File file(name);
    std::vector<std::int64_t> found;
    for (const H5Dataset& expected : shard_datasets(manifest_, records_[shard].rows)) {
      const H5Place place = file.place(expected.name);
      if (place.dataset.dtype != expected.dtype || place.dataset.shape != expected.shape ||
          place.offset < 0 || place.offset > records_[shard].bytes - expected.bytes())
        fail("{}: dataset {} has another type, shape or place than manifest.json and shards.jsonl say",
             name.string(), expected.name);
      found.push_back(place.offset);
    }
    return offsets = std::move(found);
  }

  const Metadata& metadata() const {
    std::call_once(metadata_once_, [this] {
      const auto n = static_cast<std::size_t>(rows_);
      metadata_.document.resize(n);
      metadata_.position.resize(n);
      metadata_.token.resize(n);
      visit_shards(0, rows_, [&](std::size_t shard, std::int64_t from, std::int64_t rows) {
        const std::int64_t first = records_[shard].first_row + from;
        const std::size_t sites_count = sites().size();
        read_dataset(shard, sites_count, from * 8, rows * 8, metadata_.document.data() + first);
        read_dataset(shard, sites_count + 1, from * 4, rows * 4, metadata_.position.data() + first);
        read_dataset(shard, sites_count + 2, from * 4, rows * 4, metadata_.token.data() + first);
      });
      for (const std::int64_t document : metadata_.document)
        if (document < 0 || document >= manifest_.documents)
          fail("{}: a row names document {}, of {}", dir_.string(), document, manifest_.documents);
    });
    return metadata_;
  }

  const path dir_;
  const StoreManifest manifest_;
  std::vector<ShardRecord> records_;
  std::vector<StoreDocument> documents_;
  std::int64_t rows_ = 0;
  mutable std::mutex mutex_;
  mutable std::vector<std::vector<std::int64_t>> offsets_;  // [shards][datasets]; filled once, then only read
  mutable std::once_flag metadata_once_;
  mutable Metadata metadata_;
};

}  // namespace

std::unique_ptr<StoreReader> StoreReader::open(const path& dir, Incomplete unfinished) {
  return std::make_unique<Reader>(dir, unfinished);
}

}  // namespace sonde
