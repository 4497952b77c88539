// What is written is read back; statistics, shards, parts.
#include "io/activation_store.h"

#include <gmock/gmock.h>

#include "tests/io/store_fixture.h"

namespace sonde::test {
namespace {

using ::testing::IsEmpty;

class StoreDtype : public ::testing::TestWithParam<DType> {};

TEST_P(StoreDtype, EveryValueComesBackWhateverTheShards) {
  const Recording recording(GetParam());
  const ScratchFolder scratch;
  for (const std::int64_t shard_rows :
       {std::int64_t{1}, std::int64_t{7}, std::int64_t{33}, std::int64_t{1000}, std::int64_t{0}}) {
    const auto dir = scratch / std::to_string(shard_rows);
    recording.write(dir, shard_rows);
    const auto store = StoreReader::open(dir);
    ASSERT_EQ(store->rows(), recording.rows());
    EXPECT_EQ(store->row_document(), recording.document);
    EXPECT_EQ(store->row_position(), recording.position);
    EXPECT_EQ(store->row_token(), recording.token);
    ASSERT_EQ(store->documents().size(), recording.documents.size());
    EXPECT_EQ(store->documents()[3].id, recording.documents[3].id);
    for (std::size_t site = 0; site < store->sites().size(); ++site) {
      const std::int64_t width = store->sites()[site].width(), first = 3, n = recording.rows() - 5;
      std::vector<float> out(static_cast<std::size_t>(n * width));
      store->read(site, first, n, out.data());
      for (std::size_t i = 0; i < out.size(); ++i)
        ASSERT_EQ(out[i],
                  rounded(GetParam(), recording.values[site][static_cast<std::size_t>(first * width) + i]))
            << store->sites()[site].name << " value " << i << " shards of " << shard_rows;
    }
    const StoreCheck check = verify_store(dir);
    EXPECT_EQ(check.rows, recording.rows());
    EXPECT_GE(check.blocks, check.shards * 10);
    EXPECT_THAT(diff_stores(scratch / "1", dir), IsEmpty());
  }
}

TEST_P(StoreDtype, PartsMergeIntoWhatOneRunGives) {
  const Recording recording(GetParam(), 40);
  const ScratchFolder scratch;
  recording.write(scratch / "one", 10);
  for (const std::int64_t of : {std::int64_t{1}, std::int64_t{3}, recording.schema.n_batches + 2}) {
    std::vector<std::filesystem::path> parts;
    for (std::int64_t i = of; i >= 1; --i) {
      parts.push_back(scratch / fmt::format("part-{}-{}", i, of));
      recording.write_part(parts.back(), i, of, 5 + i);
    }
    const auto merged = scratch / fmt::format("merged-{}", of);
    merge_stores(parts, merged);
    EXPECT_THAT(diff_stores(scratch / "one", merged), IsEmpty());
    EXPECT_EQ(verify_store(merged).rows, recording.rows());
    EXPECT_NO_THROW(verify_store(parts[0]));
  }
}

INSTANTIATE_TEST_SUITE_P(All, StoreDtype, ::testing::Values(DType::f32, DType::bf16, DType::f16),
                         [](const auto& param) { return std::string(name(param.param)); });

TEST(Store, StatisticsAreThoseOfTheValuesBeforeTheCast) {
  const Recording recording(DType::bf16, 60);
  const ScratchFolder scratch;
  recording.write(scratch / "s", 50);
  const auto store = StoreReader::open(scratch / "s");
  for (std::size_t site = 0; site < store->sites().size(); ++site) {
    const bool pooled = info(store->sites()[site].site.hook).shape == RowShape::HS;
    const auto width = static_cast<std::size_t>(store->sites()[site].width());
    const std::size_t columns = pooled ? 1 : width;
    std::vector<long double> sum(columns), squares(columns), peak(columns);
    std::int64_t count = 0;
    for (std::size_t i = 0; i < recording.values[site].size(); ++i) {
      const long double x = recording.values[site][i];
      if (std::isinf(x)) continue;
      const std::size_t c = pooled ? 0 : i % width;
      sum[c] += x;
      squares[c] += x * x;
      peak[c] = std::max(peak[c], std::abs(x));
      if (c == 0) ++count;
    }
    const SiteStatistics found = store->statistics(site);
    ASSERT_EQ(found.count, count) << store->sites()[site].name;
    ASSERT_EQ(found.mean.size(), columns);
    for (std::size_t c = 0; c < columns; ++c) {
      const double scale = std::sqrt(found.mean_square[c]);
      EXPECT_NEAR(found.mean[c], static_cast<double>(sum[c] / static_cast<long double>(count)),
                  1e-14 * scale);
      EXPECT_NEAR(found.mean_square[c], static_cast<double>(squares[c] / static_cast<long double>(count)),
                  1e-14 * scale * scale);
      EXPECT_EQ(found.max_abs[c], static_cast<double>(peak[c]));
    }
  }
}

TEST(Store, WideRowsCrossBlocksAndChecksums) {
  // 3,000 rows of 4,000 floats: 48 MB of one site, 12 checksum blocks, buffers of 64 KiB.
  Recording recording(DType::f32, 0);
  recording.schema.sites = {{{Hook::resid_post, 2}, "blocks.2.hook_resid_post", {4000}}};
  recording.schema.buffer_bytes = 1 << 17;
  recording.schema.total_rows = 3000;
  recording.schema.n_batches = 3;
  recording.batch_starts = {0, 1000, 1001, 3000};
  recording.documents = {{"a", 3000}};
  recording.document.assign(3000, 0);
  recording.token.assign(3000, 7);
  for (std::int32_t i = 0; i < 3000; ++i) recording.position.push_back(i);
  recording.values = {{}};
  for (std::int64_t i = 0; i < 3000 * 4000; ++i) recording.values[0].push_back(static_cast<float>(i % 10007));
  const ScratchFolder scratch;
  for (const char* path : {"direct", "buffered"}) {
    setenv("SONDE_STORE_IO", path, 1);
    recording.write(scratch / path, path[0] == 'd' ? 2000 : 700);
  }
  unsetenv("SONDE_STORE_IO");
  EXPECT_THAT(diff_stores(scratch / "direct", scratch / "buffered"), IsEmpty());
  EXPECT_EQ(verify_store(scratch / "direct").bytes, 3000 * (16000 + 16));
  std::vector<float> out(3000 * 4000);
  StoreReader::open(scratch / "direct")->read(0, 0, 3000, out.data());
  EXPECT_EQ(out, recording.values[0]);
}

TEST(Store, DiffNamesWhatDiffers) {
  Recording a(DType::f32), b(DType::f32);
  const ScratchFolder scratch;
  b.at(5, 17, 2) += 1;
  b.token[9] ^= 1;
  a.write(scratch / "a", 8);
  b.write(scratch / "b", 8);
  const auto differences = diff_stores(scratch / "a", scratch / "b");
  EXPECT_THAT(differences,
              ::testing::Contains(::testing::StartsWith("site blocks.1.hook_resid_post, row 17, column 2")));
  EXPECT_THAT(differences, ::testing::Contains(::testing::StartsWith("row 9: token")));
  EXPECT_THAT(differences,
              ::testing::Contains(::testing::StartsWith("statistics of blocks.1.hook_resid_post")));
  Recording c(DType::f32);
  c.schema.identity["options"]["tokens"] = "last";
  c.write(scratch / "c", 8);
  EXPECT_THAT(diff_stores(scratch / "a", scratch / "c"),
              ::testing::ElementsAre(::testing::HasSubstr("options.tokens")));
}

TEST(Store, ZerosOfBothSignsDiffer) {
  Recording a(DType::bf16), b(DType::bf16);
  a.at(0, 0, 0) = 0.0f;
  b.at(0, 0, 0) = -0.0f;
  const ScratchFolder scratch;
  a.write(scratch / "a", 0);
  b.write(scratch / "b", 0);
  EXPECT_EQ(diff_stores(scratch / "a", scratch / "b").size(), 1u);
}

}  // namespace
}  // namespace sonde::test
