// index.h5: one virtual dataset per site over all shards, row metadata likewise, and the statistics.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "io/store/manifest.h"
#include "io/store/values.h"

namespace sonde {

// Replaces index.h5; returns the crc32c of the statistics, which goes into the manifest.
std::uint32_t write_index(const std::filesystem::path& dir, const StoreManifest& manifest,
                          std::span<const ShardRecord> records, std::span<const ColumnSums> totals);
// The datasets of index.h5 as they must be.
std::vector<H5Virtual> index_datasets(const StoreManifest& manifest, std::span<const ShardRecord> records);
SiteStatistics read_statistics(const H5File& index, const StoreSite& site);
std::uint32_t statistics_crc(std::uint32_t before, const SiteStatistics& statistics);

}  // namespace sonde
