#include "io/store/index.h"

#include <fcntl.h>

#include "io/hash.h"
#include "io/store/files.h"

namespace sonde {
namespace {

SiteStatistics finish(const ColumnSums& sums) {
  SiteStatistics statistics;
  statistics.count = sums.count;
  const double count = static_cast<double>(sums.count);
  for (std::int64_t c = 0; c < sums.width; ++c) {
    const auto at = static_cast<std::size_t>(c), width = static_cast<std::size_t>(sums.width);
    statistics.mean.push_back(sums.count ? sums.values[at] / count : 0.0);
    statistics.mean_square.push_back(sums.count ? sums.values[width + at] / count : 0.0);
    statistics.max_abs.push_back(sums.values[2 * width + at]);
  }
  return statistics;
}

// The arrays of a site's statistics, in the order of their checksum.
template <class Statistics, class Visit>
void visit_arrays(Statistics& statistics, const Visit& visit) {
  visit("mean", statistics.mean);
  visit("mean_square", statistics.mean_square);
  visit("max_abs", statistics.max_abs);
}

}  // namespace

std::uint32_t statistics_crc(std::uint32_t before, const SiteStatistics& statistics) {
  std::uint32_t crc = crc32c(&statistics.count, sizeof statistics.count, before);
  visit_arrays(statistics, [&](const char*, const std::vector<double>& array) {
    crc = crc32c(array.data(), array.size() * sizeof(double), crc);
  });
  return crc;
}

std::vector<H5Virtual> index_datasets(const StoreManifest& manifest, std::span<const ShardRecord> records) {
  std::vector<H5Virtual> virtuals;
  for (H5Dataset& dataset : shard_datasets(manifest, manifest.schema.total_rows)) {
    H5Virtual& item = virtuals.emplace_back();
    for (const ShardRecord& record : records)
      item.mappings.push_back({record.file, dataset.name, record.first_row, record.rows});
    item.dataset = std::move(dataset);
  }
  return virtuals;
}

std::uint32_t write_index(const std::filesystem::path& dir, const StoreManifest& manifest,
                          std::span<const ShardRecord> records, std::span<const ColumnSums> totals) {
  std::vector<SiteStatistics> statistics;
  for (const ColumnSums& sums : totals) statistics.push_back(finish(sums));

  std::uint32_t crc = 0;
  std::vector<H5Values> values;
  for (std::size_t i = 0; i < statistics.size(); ++i) {
    const std::string group = "/statistics/" + manifest.schema.sites[i].name + "/";
    values.push_back({{group + "count", DType::i64, {1}}, &statistics[i].count});
    visit_arrays(statistics[i], [&](const char* array, const std::vector<double>& column) {
      values.push_back(
          {{group + array, DType::f64, {static_cast<std::int64_t>(column.size())}}, column.data()});
    });
    crc = statistics_crc(crc, statistics[i]);
  }

  const std::filesystem::path temporary = dir / "index.h5.tmp";
  h5_create_index(temporary, index_datasets(manifest, records), values,
                  file_attributes(manifest,
                                  "one virtual dataset per site over all shards, a row per selected token; "
                                  "a shard that is missing reads as 0 here: shards.jsonl lists them"));
  File(temporary, O_WRONLY).sync();
  rename_durably(temporary, index_path(dir));
  return crc;
}

SiteStatistics read_statistics(const H5File& index, const StoreSite& site) {
  const std::string group = "/statistics/" + site.name + "/";
  SiteStatistics statistics;
  statistics.count = index.read<std::int64_t>({group + "count", DType::i64, {1}})[0];
  visit_arrays(statistics, [&](const char* name, std::vector<double>& array) {
    array = index.read<double>({group + name, DType::f64, {statistics_width(site)}});
  });
  return statistics;
}

}  // namespace sonde
