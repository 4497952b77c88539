#include "io/store/stretches.h"

#include <algorithm>

#include "runtime/error.h"

namespace sonde {
namespace {

// Enough chunks that ranks of different speed end together; few enough that a store has few files.
constexpr std::int64_t kChunks = 64;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

}  // namespace

std::vector<std::int64_t> cut_chunks(std::span<const std::int64_t> batch_row, std::int64_t shard_rows) {
  const auto batches = static_cast<std::int64_t>(batch_row.size()) - 1;
  const std::int64_t enough = (batch_row.back() + kChunks - 1) / kChunks;
  std::vector<std::int64_t> starts = {0};
  for (std::int64_t b = 1; b < batches; ++b) {
    const std::int64_t begin = batch_row[at(starts.back())];
    if (batch_row[at(b)] - begin >= enough || batch_row[at(b + 1)] - begin > shard_rows) starts.push_back(b);
  }
  starts.push_back(batches);
  return starts;
}

std::vector<StoreStretch> remaining_work(std::span<const std::int64_t> batch_row, std::int64_t shard_rows,
                                         const OpenStore& store) {
  std::vector<StoreStretch> work;
  const std::vector<std::int64_t> chunks = cut_chunks(batch_row, shard_rows);
  std::int64_t row = 0, batch = 0;
  if (!store.committed.empty()) {
    row = store.committed.back().first_row + store.committed.back().rows;
    batch = store.committed.back().batches;
  }
  // Batches up to `end` at row `end_row`, cut where chunks begin.
  const auto add = [&](std::int64_t end, std::int64_t end_row) {
    while (row < end_row) {
      const std::int64_t next = std::min(end, *std::ranges::upper_bound(chunks, batch));
      const std::int64_t next_row = std::min(end_row, batch_row[at(next)]);
      if (next_row > row) work.push_back({batch, next, batch_row[at(batch)], row, next_row});
      row = std::max(row, next_row);
      batch = next;
    }
  };
  for (const ShardRecord& record : store.by_ranks) {
    // Shards of ranks begin and end with batches, but for the first after what one process wrote.
    const auto first = std::ranges::lower_bound(batch_row, record.first_row);
    if (record.batches < batch || record.first_row + record.rows != batch_row[at(record.batches)] ||
        (*first != record.first_row && record.first_row != row))
      fail("{}: rows {} to {} do not end with batch {}", record.file, record.first_row,
           record.first_row + record.rows, record.batches);
    add(first - batch_row.begin(), record.first_row);
    row = record.first_row + record.rows;
    batch = record.batches;
  }
  add(static_cast<std::int64_t>(batch_row.size()) - 1, batch_row.back());
  return work;
}

}  // namespace sonde
