// In which order a model's ranks run what they draw.
#include "models/batch_queue.h"

#include <gtest/gtest.h>

#include <vector>

namespace sonde {
namespace {

StoreStretch batches(std::int64_t first, std::int64_t end) { return {first, end, 0, 0, 0}; }

TEST(InTurns, GoesThroughStretchesOfAnyLengthABatchOfEachAtATime) {
  const std::vector<StoreStretch> work = {batches(3, 5), batches(5, 8), batches(8, 9)};
  std::vector<std::vector<std::int64_t>> order;
  for (const BatchStep& step : in_turns(work, 6)) {
    EXPECT_EQ(step.begins_draw, order.empty());
    order.push_back({step.stretch, step.batch});
  }
  EXPECT_EQ(order, (std::vector<std::vector<std::int64_t>>{{6, 3}, {7, 5}, {8, 8}, {6, 4}, {7, 6}, {7, 7}}));
  EXPECT_TRUE(in_turns({}, 0).empty());
}

TEST(StretchesAtOnce, OneForEachRankThatSharesALayerUnlessModelsWouldNotEndTogether) {
  EXPECT_EQ(stretches_at_once(64, {1, 1, 1}), 1);
  EXPECT_EQ(stretches_at_once(64, {1, 4, 1}), 4);
  EXPECT_EQ(stretches_at_once(64, {4, 8, 2}), 4);  // four draws of each model
  EXPECT_EQ(stretches_at_once(64, {32, 8, 1}), 1);
  EXPECT_EQ(stretches_at_once(0, {1, 2, 1}), 1);
}

TEST(BatchQueue, RunsAllOfTheWorkOnceAlone) {
  const auto world = make_single();
  const Mesh mesh = Mesh::make(*world, 1, 1);
  const std::vector<StoreStretch> work = {batches(0, 2), batches(2, 3), batches(5, 7)};
  BatchQueue queue(work, mesh);
  std::vector<std::int64_t> found;
  for (BatchStep step; (step = queue.next()).stretch >= 0;) {
    EXPECT_EQ(queue.writer_of(step), 0);
    EXPECT_EQ(step.begins_draw, step.batch == work[static_cast<std::size_t>(step.stretch)].first_batch);
    found.push_back(step.batch);
  }
  EXPECT_EQ(found, (std::vector<std::int64_t>{0, 1, 2, 5, 6}));
  EXPECT_EQ(queue.next().stretch, -1);
}

}  // namespace
}  // namespace sonde
