// verify_store: everything a store says about itself, against the bytes on disk.
#include <fcntl.h>

#include <algorithm>
#include <deque>

#include "io/hash.h"
#include "io/store/files.h"
#include "io/store/index.h"
#include "io/store/shard_writer.h"
#include "runtime/error.h"

namespace sonde {
namespace {

using std::filesystem::path;

class Verifier {
 public:
  explicit Verifier(const path& dir)
      : dir_(dir), manifest_(read_manifest(dir)), records_(read_shard_log(dir)) {}

  StoreCheck run() {
    check_shards(dir_, manifest_, records_);
    read_documents(dir_, manifest_);
    for (const ShardRecord& record : records_) verify_shard(record);
    if (manifest_.complete) {
      std::int64_t bytes = 0;
      for (const ShardRecord& record : records_) bytes += record.bytes;
      if (bytes != manifest_.bytes)
        fail("{}: shards hold {} bytes, manifest.json says {}", dir_.string(), bytes, manifest_.bytes);
      verify_index();
    }
    return check_;
  }

 private:
  void verify_shard(const ShardRecord& record) {
    const path name = dir_ / record.file;
    const H5File h5(name);
    const File file(name, O_RDONLY);
    std::vector<std::vector<std::uint32_t>> checksums;
    for (const H5Dataset& dataset : shard_datasets(manifest_, record.rows)) {
      const H5Place place = h5.place(dataset.name);
      if (place.dataset.dtype != dataset.dtype || place.dataset.shape != dataset.shape || place.offset < 0)
        fail("{}: dataset {} has another type or shape than manifest.json and shards.jsonl say",
             name.string(), dataset.name);
      checksums.push_back(verify_dataset(name, file, h5, dataset, place.offset));
    }
    // The sums have no checksum of their own: the shard's covers them.
    std::deque<std::vector<std::int64_t>> counts;
    std::deque<std::vector<double>> arrays;
    std::vector<std::vector<ColumnSums>> batch_sums;
    const bool part = h5.has("/batch_sums");
    if (part) batch_sums = read_batch_sums(h5, manifest_);
    const auto values =
        sums_datasets(manifest_, read_totals(h5, manifest_), part ? &batch_sums : nullptr, counts, arrays);
    if (const std::uint32_t crc = shard_crc(checksums, values); crc != record.crc)
      fail("{}: checksums and statistics of the shard: found crc32c {:08x}, shards.jsonl says {:08x}",
           name.string(), crc, record.crc);
    ++check_.shards;
    check_.rows += record.rows;
  }

  std::vector<std::uint32_t> verify_dataset(const path& name, const File& file, const H5File& h5,
                                            const H5Dataset& dataset, std::int64_t offset) {
    const std::int64_t bytes = dataset.bytes();
    const auto checksums =
        h5.read<std::uint32_t>({"/crc32c" + dataset.name, DType::u32, {checksum_blocks(bytes)}});
    std::vector<std::byte> block;
    for (std::int64_t at = 0; at < bytes; at += kChecksumBlock) {
      block.resize(static_cast<std::size_t>(std::min(kChecksumBlock, bytes - at)));
      file.read_at(block.data(), static_cast<std::int64_t>(block.size()), offset + at);
      const std::int64_t i = at / kChecksumBlock;
      const std::uint32_t found = crc32c(block.data(), block.size()),
                          expected = checksums[static_cast<std::size_t>(i)];
      if (found != expected)
        fail_hint("the file was changed or the disk is failing; record this store again",
                  "{}: site {}, block {} (bytes {} to {}): found crc32c {:08x}, expected {:08x}",
                  name.string(), dataset.name.substr(1), i, at, at + static_cast<std::int64_t>(block.size()),
                  found, expected);
      ++check_.blocks;
      check_.bytes += static_cast<std::int64_t>(block.size());
    }
    return checksums;
  }

  void verify_index() {
    const path name = index_path(dir_);
    const H5File index(name);
    for (const H5Virtual& expected : index_datasets(manifest_, records_)) {
      const H5Dataset found = index.place(expected.dataset.name).dataset;
      if (found.dtype != expected.dataset.dtype || found.shape != expected.dataset.shape)
        fail("{}: dataset {} has another type or shape than manifest.json says", name.string(),
             expected.dataset.name);
      if (index.mappings(expected.dataset.name) != expected.mappings)
        fail("{}: dataset {} does not show the shards of shards.jsonl", name.string(), expected.dataset.name);
    }
    std::uint32_t crc = 0;
    for (const StoreSite& site : manifest_.schema.sites)
      crc = statistics_crc(crc, read_statistics(index, site));
    if (crc != manifest_.statistics_crc)
      fail("{}: statistics: found crc32c {:08x}, manifest.json says {:08x}", name.string(), crc,
           manifest_.statistics_crc);
  }

  const path dir_;
  const StoreManifest manifest_;
  const std::vector<ShardRecord> records_;
  StoreCheck check_;
};

}  // namespace

StoreCheck verify_store(const path& dir) { return Verifier(dir).run(); }

}  // namespace sonde
