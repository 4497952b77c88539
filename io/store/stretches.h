// What several ranks share out among them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "io/store/open_store.h"

namespace sonde {

// Chunks of whole batches: 1/64 of all rows or a little more, at most `shard_rows`, at least one batch.
// Returns the first batch of each, and the number of batches.
std::vector<std::int64_t> cut_chunks(std::span<const std::int64_t> batch_row /*[n_batches + 1]*/,
                                     std::int64_t shard_rows);

// The chunks, or pieces of them, that no shard holds.
std::vector<StoreStretch> remaining_work(std::span<const std::int64_t> batch_row, std::int64_t shard_rows,
                                         const OpenStore& store);

}  // namespace sonde
