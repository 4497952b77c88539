// How the statistics' sums lie in a shard.
#include <algorithm>

#include "io/hash.h"
#include "io/store/shard_writer.h"
#include "runtime/error.h"

namespace sonde {

std::vector<H5Values> sums_datasets(const StoreManifest& manifest, const std::vector<ColumnSums>& totals,
                                    const std::vector<std::vector<ColumnSums>>* batch_sums,
                                    std::deque<std::vector<std::int64_t>>& counts,
                                    std::deque<std::vector<double>>& arrays) {
  const std::vector<StoreSite>& sites = manifest.schema.sites;
  const auto n_sites = static_cast<std::int64_t>(sites.size());
  std::vector<H5Values> values;
  const auto add_group = [&](const std::string& group,
                             const std::vector<const std::vector<ColumnSums>*>& entries,
                             const std::vector<std::int64_t>& leading) {
    const auto with = [&leading](std::initializer_list<std::int64_t> dims) {
      std::vector<std::int64_t> shape = leading;
      shape.insert(shape.end(), dims);
      return shape;
    };
    std::vector<std::int64_t>& count = counts.emplace_back();
    for (const auto* entry : entries)
      for (const ColumnSums& sums : *entry) count.push_back(sums.count);
    values.push_back({{group + "/count", DType::i64, with({n_sites})}, count.data()});
    for (std::size_t i = 0; i < sites.size(); ++i) {
      std::vector<double>& array = arrays.emplace_back();
      for (const auto* entry : entries)
        array.insert(array.end(), (*entry)[i].values.begin(), (*entry)[i].values.end());
      values.push_back(
          {{group + "/" + sites[i].name, DType::f64, with({3, statistics_width(sites[i])})}, array.data()});
    }
  };
  add_group("/sums", {&totals}, {});
  if (batch_sums) {
    std::vector<const std::vector<ColumnSums>*> entries;
    for (const auto& batch : *batch_sums) entries.push_back(&batch);
    add_group("/batch_sums", entries, {static_cast<std::int64_t>(entries.size())});
  }
  return values;
}

std::vector<ColumnSums> read_totals(const H5File& file, const StoreManifest& manifest) {
  std::vector<ColumnSums> totals;
  const std::vector<StoreSite>& sites = manifest.schema.sites;
  const auto count =
      file.read<std::int64_t>({"/sums/count", DType::i64, {static_cast<std::int64_t>(sites.size())}});
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const std::int64_t width = statistics_width(sites[i]);
    auto values = file.read<double>({"/sums/" + sites[i].name, DType::f64, {3, width}});
    ColumnSums& sums = totals.emplace_back(width);
    sums.count = count[i];
    sums.values = std::move(values);
  }
  return totals;
}

std::vector<std::vector<ColumnSums>> read_batch_sums(const H5File& file, const StoreManifest& manifest) {
  const std::vector<StoreSite>& sites = manifest.schema.sites;
  const std::string name = "/batch_sums/count";
  const std::vector<std::int64_t> shape = file.place(name).dataset.shape;
  if (shape.size() != 2 || shape[1] != static_cast<std::int64_t>(sites.size()))
    fail("dataset {} of a part store: found rank {}, expected [batches, {}]", name, shape.size(),
         sites.size());
  const auto batches = static_cast<std::size_t>(shape[0]);
  const auto count = file.read<std::int64_t>({name, DType::i64, shape});
  std::vector<std::vector<ColumnSums>> sums(batches);
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const std::int64_t width = statistics_width(sites[i]);
    const auto values = file.read<double>({"/batch_sums/" + sites[i].name, DType::f64, {shape[0], 3, width}});
    for (std::size_t b = 0; b < batches; ++b) {
      ColumnSums& site = sums[b].emplace_back(width);
      site.count = count[b * sites.size() + i];
      std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(b) * 3 * width, 3 * width,
                  site.values.begin());
    }
  }
  return sums;
}

void add_batch_sums(const H5File& shard, const StoreManifest& manifest, std::vector<ColumnSums>& totals) {
  if (!shard.has("/batch_sums")) {
    totals = read_totals(shard, manifest);
    return;
  }
  for (const auto& batch : read_batch_sums(shard, manifest))
    for (std::size_t i = 0; i < totals.size(); ++i) totals[i].add(batch[i]);
}

std::uint32_t shard_crc(const std::vector<std::vector<std::uint32_t>>& checksums,
                        std::span<const H5Values> sums) {
  std::uint32_t crc = 0;
  for (const auto& blocks : checksums)
    crc = crc32c(blocks.data(), blocks.size() * sizeof(std::uint32_t), crc);
  for (const H5Values& item : sums)
    crc = crc32c(item.values, static_cast<std::size_t>(item.dataset.bytes()), crc);
  return crc;
}

}  // namespace sonde
