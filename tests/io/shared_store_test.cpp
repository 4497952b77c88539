// Stores that several ranks share, here played by one: what is left to do, and that any order and any number
// of stops give the bytes of a plain writer.
#include <gmock/gmock.h>

#include "distributed/communicator.h"
#include "io/shared_store.h"
#include "io/store/stretches.h"
#include "tests/io/store_fixture.h"

namespace sonde::test {
namespace {

constexpr std::int64_t kWhole = std::int64_t{1} << 40;

class SharedStore : public ::testing::Test {
 protected:
  ScratchFolder folder_;
  Recording recording_{DType::f32, 60};
  std::unique_ptr<Communicator> ranks_ = make_single();

  std::unique_ptr<SharedStoreWriter> open(const std::string& name, std::int64_t shard_rows) {
    StoreSchema schema = recording_.schema;
    schema.shard_rows = shard_rows;
    return SharedStoreWriter::open(folder_ / name, schema, recording_.documents, recording_.batch_starts,
                                   *ranks_, {{"rank", 0}, {"data", 1}});
  }

  void write(SharedStoreWriter& writer, StoreStretch stretch, std::int64_t batches = kWhole) {
    writer.start(stretch);
    stretch.end_batch = std::min(stretch.end_batch, stretch.first_batch + batches);
    for (std::int64_t b = stretch.first_batch; b < stretch.end_batch; ++b) put_batch(writer, b);
    writer.close();
  }

  template <class Writer>
  void put_batch(Writer& writer, std::int64_t b) {
    const std::int64_t first = recording_.batch_starts[static_cast<std::size_t>(b)];
    const std::int64_t n = recording_.batch_starts[static_cast<std::size_t>(b) + 1] - first;
    const auto piece = [&](const auto& all) {
      return std::span(all).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n));
    };
    writer.begin_batch(b, first,
                       {piece(recording_.document), piece(recording_.position), piece(recording_.token)});
    for (std::size_t i = 0; i < recording_.schema.sites.size(); ++i) recording_.put_site(writer, i, first, n);
    writer.end_batch();
  }

  // The whole store by a plain writer; `batches` of it, then closed.
  void write_plain(const std::string& name, std::int64_t shard_rows, std::int64_t batches = kWhole) {
    StoreSchema schema = recording_.schema;
    schema.shard_rows = shard_rows;
    const auto writer = StoreWriter::open(folder_ / name, schema, recording_.documents);
    const std::int64_t end = std::min(schema.n_batches, batches);
    for (std::int64_t b = writer->first_batch(); b < end; ++b) put_batch(*writer, b);
    if (end < schema.n_batches)
      writer->close();
    else
      writer->finish();
  }

  void expect_same(const std::string& a, const std::string& b) {
    EXPECT_THAT(diff_stores(folder_ / a, folder_ / b), ::testing::IsEmpty());
    EXPECT_EQ(verify_store(folder_ / b).rows, recording_.rows());
    EXPECT_FALSE(written_by_ranks(folder_ / b));
  }
};

TEST_F(SharedStore, ChunksAreWholeBatchesWithinAShard) {
  const auto& rows = recording_.batch_starts;
  for (const std::int64_t shard_rows : {1, 20, 50, 100000}) {
    const std::vector<std::int64_t> chunks = cut_chunks(rows, shard_rows);
    EXPECT_EQ(chunks.front(), 0);
    EXPECT_EQ(chunks.back(), recording_.schema.n_batches);
    for (std::size_t i = 1; i < chunks.size(); ++i) {
      ASSERT_GT(chunks[i], chunks[i - 1]);
      const std::int64_t n =
          rows[static_cast<std::size_t>(chunks[i])] - rows[static_cast<std::size_t>(chunks[i - 1])];
      EXPECT_TRUE(n <= shard_rows || chunks[i] == chunks[i - 1] + 1);
    }
  }
  // 64 chunks, whatever the number of batches.
  std::vector<std::int64_t> many;
  for (std::int64_t b = 0; b <= 10000; ++b) many.push_back(b * 100);
  EXPECT_EQ(cut_chunks(many, 1 << 30).size(), 65u);
}

TEST_F(SharedStore, AnyOrderGivesTheBytesOfOneWriter) {
  write_plain("plain", 50);
  for (const std::int64_t shard_rows : {1, 17, 1000}) {
    const std::string name = "shared" + std::to_string(shard_rows);
    const auto writer = open(name, shard_rows);
    const std::vector<StoreStretch> work = writer->work();
    for (std::size_t i = work.size(); i-- > 0;) write(*writer, work[i]);
    EXPECT_EQ(writer->finish(), recording_.rows());
    expect_same("plain", name);
  }
}

TEST_F(SharedStore, StopsLoseNothing) {
  write_plain("plain", 50);
  std::mt19937 random(3);
  std::int64_t committed = 0;
  for (int runs = 0; committed < recording_.rows(); ++runs) {
    ASSERT_LT(runs, 200);
    auto writer = open("stopped", 60);
    EXPECT_EQ(writer->committed_rows(), committed);
    std::vector<StoreStretch> work = writer->work();
    std::shuffle(work.begin(), work.end(), random);
    write(*writer, work[0], 1 + static_cast<std::int64_t>(random() % 3));
    if (work.size() > 1) write(*writer, work[1]);
    committed = writer->finish();
    writer.reset();
    if (committed < recording_.rows()) {
      EXPECT_THAT(
          error_of([&] { StoreWriter::open(folder_ / "stopped", recording_.schema, recording_.documents); }),
          ::testing::HasSubstr("several ranks wrote this store"));
    }
  }
  expect_same("plain", "stopped");
}

TEST_F(SharedStore, GoesOnFromAPlainWriter) {
  write_plain("plain", 50);
  for (const std::int64_t shard_rows : {7, 50, 1000}) {
    for (const std::int64_t batches : {1, 9}) {
      // Closed by request after some batches, closed again, then finished by ranks: the last shard ends with
      // a batch.
      const std::string name = fmt::format("begun{}-{}", shard_rows, batches);
      write_plain(name, shard_rows, batches);
      write_plain(name, shard_rows, batches + 2);
      const auto writer = open(name, 20);
      for (const StoreStretch& stretch : std::vector<StoreStretch>(writer->work())) write(*writer, stretch);
      EXPECT_EQ(writer->finish(), recording_.rows());
      expect_same("plain", name);
    }
    // Not closed: whole shards only, which may end within a batch.
    const std::string name = "torn" + std::to_string(shard_rows);
    {
      StoreSchema schema = recording_.schema;
      schema.shard_rows = shard_rows;
      const auto writer = StoreWriter::open(folder_ / name, schema, recording_.documents);
      for (std::int64_t b = 0; b < 6; ++b) put_batch(*writer, b);
    }
    const auto writer = open(name, 20);
    for (const StoreStretch& stretch : std::vector<StoreStretch>(writer->work())) write(*writer, stretch);
    EXPECT_EQ(writer->finish(), recording_.rows());
    expect_same("plain", name);
  }
}

TEST_F(SharedStore, APlainWriterClosesAndGoesOn) {
  write_plain("plain", 50);
  for (const std::int64_t batches : std::initializer_list<std::int64_t>{1, 2, 7, kWhole})
    write_plain("closed", 33, batches);
  expect_same("plain", "closed");
}

TEST_F(SharedStore, EndedWhileItCompletes) {
  write_plain("plain", 50);
  const auto dir = folder_ / "ended";
  {
    const auto writer = open("ended", 60);
    for (const StoreStretch& stretch : std::vector<StoreStretch>(writer->work())) write(*writer, stretch);
  }
  // As if the run had ended after shards.jsonl and before the manifest: keep the rank's log and both files.
  const auto log = dir / "shards.rank-00000.jsonl", manifest = dir / "manifest.json";
  const auto keep = folder_ / "keep";
  std::filesystem::create_directories(keep);
  for (const auto& file : {log, manifest}) std::filesystem::copy_file(file, keep / file.filename());
  {
    const auto writer = open("ended", 60);
    EXPECT_TRUE(writer->work().empty());
    writer->finish();
  }
  for (const auto& file : {log, manifest})
    std::filesystem::copy_file(keep / file.filename(), file,
                               std::filesystem::copy_options::overwrite_existing);
  EXPECT_TRUE(written_by_ranks(dir));
  const auto writer = open("ended", 60);
  EXPECT_EQ(writer->committed_rows(), recording_.rows());
  EXPECT_TRUE(writer->work().empty());
  writer->finish();
  expect_same("plain", "ended");
}

}  // namespace
}  // namespace sonde::test
