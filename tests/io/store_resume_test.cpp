// Writers that are killed, two at a time, or given what no store holds.
#include <gmock/gmock.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "io/json.h"
#include "io/store/lock.h"
#include "tests/io/store_fixture.h"

// On a full disk HDF5 cannot close its file, and keeps the memory: not our leak.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5\n"; }

namespace sonde::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

Recording killed_recording() { return Recording(DType::bf16, 60, 5, 7); }
constexpr std::int64_t kKilledShardRows = 9;

// Not a test of its own: the process that KillTest starts and kills. SONDE_TEST_CHILD is "FOLDER|KIND|POINT".
TEST(StoreChild, Runs) {
  const char* order = std::getenv("SONDE_TEST_CHILD");
  if (!order) GTEST_SKIP() << "runs inside other tests";
  const std::string text = order;
  const auto first = text.find('|'), second = text.find('|', first + 1);
  const fs::path dir = text.substr(0, first);
  const std::string kind = text.substr(first + 1, second - first - 1);
  if (kind == "hold") {
    const auto lock = StoreLock::take(dir);
    std::ofstream(dir / "held") << "yes";
    std::this_thread::sleep_for(std::chrono::seconds(60));
  }
  // Kills itself after `point` steps, so that every phase is hit, however fast the machine is.
  const Recording recording = killed_recording();
  int steps = std::stoi(text.substr(second + 1));
  StoreSchema schema = recording.schema;
  schema.shard_rows = kKilledShardRows;
  const auto writer = StoreWriter::open(dir, schema, recording.documents);
  recording.feed(*writer, schema.n_batches, 0, [&] {
    if (--steps == 0) std::raise(SIGKILL);
  });
  writer->finish();
}

pid_t start_child(const fs::path& dir, const std::string& kind, int point) {
  setenv("SONDE_TEST_CHILD", fmt::format("{}|{}|{}", dir.string(), kind, point).c_str(), 1);
  const std::string self = fs::read_symlink("/proc/self/exe").string();
  const char* arguments[] = {self.c_str(), "--gtest_filter=StoreChild.Runs", "--gtest_brief=1", nullptr};
  pid_t child = 0;
  const int error =
      posix_spawn(&child, self.c_str(), nullptr, nullptr, const_cast<char**>(arguments), environ);
  unsetenv("SONDE_TEST_CHILD");
  if (error != 0) fail("cannot start a child: {}", error);
  return child;
}

TEST(StoreKill, ResumedStoresEqualOneThatWasNeverKilled) {
  const Recording recording = killed_recording();
  const ScratchFolder scratch;
  recording.write(scratch / "whole", 1000);
  std::mt19937 random(1);
  const int steps = static_cast<int>(recording.schema.n_batches * 8);
  for (int trial = 0; trial < 20; ++trial) {
    const auto dir = scratch / fmt::format("killed-{}", trial);
    for (int kill = 0; kill < 2; ++kill) {
      // Half of the trials die at a chosen step, the others whenever the clock says.
      const bool by_clock = trial % 2;
      const pid_t child = start_child(
          dir, "write", by_clock ? 0 : 1 + static_cast<int>(random() % static_cast<unsigned>(steps)));
      if (by_clock) {
        std::this_thread::sleep_for(std::chrono::microseconds(2000 + random() % 60000));
        ::kill(child, SIGKILL);
      }
      int status = 0;
      waitpid(child, &status, 0);
    }
    if (trial % 3 == 0 && fs::exists(dir / "shards.jsonl") && !fs::exists(dir / "index.h5"))
      std::ofstream(dir / "shards.jsonl", std::ios::app) << R"({"shard":99,"fi)";  // a torn line
    recording.write(dir, trial % 2 ? 0 : 4);  // another shard size: the recorded one goes on
    ASSERT_THAT(diff_stores(scratch / "whole", dir), IsEmpty()) << "trial " << trial;
    ASSERT_NO_THROW(verify_store(dir));
    for (const auto& entry : fs::recursive_directory_iterator(dir))
      EXPECT_EQ(entry.path().string().find(".tmp"), std::string::npos) << entry.path();
  }
}

TEST(StoreKill, ResumeStartsAtTheFirstUncommittedRow) {
  const Recording recording(DType::f32, 40);
  const ScratchFolder scratch;
  StoreSchema schema = recording.schema;
  schema.shard_rows = 10;
  {
    const auto writer = StoreWriter::open(scratch / "s", schema, recording.documents);
    recording.feed(*writer, 4);
  }  // left without finish()
  EXPECT_THAT(error_of([&] { StoreReader::open(scratch / "s"); }), HasSubstr("not complete"));
  const auto partial = StoreReader::open(scratch / "s", Incomplete::accept);
  const auto writer = StoreWriter::open(scratch / "s", schema, recording.documents);
  EXPECT_GT(writer->committed_rows(), 0);
  EXPECT_EQ(writer->committed_rows() % 10, 0);
  EXPECT_EQ(partial->rows(), writer->committed_rows());
  const auto batch = static_cast<std::size_t>(writer->first_batch());
  EXPECT_LE(recording.batch_starts[batch], writer->committed_rows());
  EXPECT_GT(recording.batch_starts[batch + 1], writer->committed_rows());
  recording.feed(*writer, schema.n_batches);
  writer->finish();
  recording.write(scratch / "whole", 0);
  EXPECT_THAT(diff_stores(scratch / "whole", scratch / "s"), IsEmpty());
}

TEST(Store, ReopeningACompleteStoreLeavesNothingToDo) {
  const Recording recording(DType::f32);
  const ScratchFolder scratch;
  recording.write(scratch / "s", 10);
  const auto writer = StoreWriter::open(scratch / "s", recording.schema, recording.documents);
  EXPECT_EQ(writer->first_batch(), recording.schema.n_batches);
  EXPECT_EQ(writer->committed_rows(), recording.rows());
  writer->finish();
}

TEST(StoreErrors, OtherOptionsNameTheFirstKeyThatDiffers) {
  const Recording recording(DType::f32);
  const ScratchFolder scratch;
  recording.write(scratch / "s", 10);
  Recording other(DType::f32);
  other.schema.identity["options"]["context"] = 99;
  EXPECT_THAT(error_of([&] { other.write(scratch / "s", 10); }),
              HasSubstr("identity.options.context: found 12, expected 99"));
  EXPECT_THAT(error_of([&] { Recording(DType::bf16).write(scratch / "s", 10); }),
              HasSubstr("dtype: found \"f32\", expected \"bf16\""));
  Recording documents(DType::f32);
  documents.documents[3].id = "another";
  EXPECT_THAT(error_of([&] { documents.write(scratch / "s", 10); }), HasSubstr("documents.sha256"));
}

struct BadCase {
  std::size_t site;
  float value;
  DType dtype;
  const char* message;  // "" where the value is fine
};

TEST(StoreErrors, ValuesThatNoStoreHolds) {
  const BadCase cases[] = {
      {0, NAN, DType::f32, "found NaN"},
      {2, INFINITY, DType::bf16, "found +inf"},
      {6, -INFINITY, DType::f16, "found -inf"},
      {3, -INFINITY, DType::f16, ""},
      {3, INFINITY, DType::f32, "found +inf"},
      {3, NAN, DType::f32, "found NaN"},
      {4, -INFINITY, DType::f32, "found -inf"},
      {5, 65519.0f, DType::f16, ""},
      {5, -65520.0f, DType::f16, "f16 cannot hold"},
      {5, 3.4e38f, DType::f32, ""},
      {5, 3.4e38f, DType::bf16, "bf16 cannot hold"},
      {1, 70000.0f, DType::f16, "use --store bf16 or f32"},
  };
  for (const BadCase& bad : cases) {
    Recording recording(bad.dtype);
    const ScratchFolder scratch;
    const std::int64_t row = 29, column = recording.schema.sites[bad.site].site.hook == Hook::embed ? 4 : 0;
    recording.at(bad.site, row, column) = bad.value;
    const std::string error = error_of([&] { recording.write(scratch / "s", 10); });
    if (!*bad.message) {
      EXPECT_EQ(error, "") << bad.value;
      continue;
    }
    const auto document = recording.document[static_cast<std::size_t>(row)];
    EXPECT_THAT(error, HasSubstr(bad.message));
    EXPECT_THAT(error, HasSubstr("site " + recording.schema.sites[bad.site].name));
    EXPECT_THAT(error, HasSubstr(fmt::format("document {} (id 'doc \"{}\"", document, document)));
    EXPECT_THAT(error,
                HasSubstr(fmt::format("position {}:", recording.position[static_cast<std::size_t>(row)])));
    EXPECT_THROW(StoreReader::open(scratch / "s"), Error);
  }
}

TEST(StoreErrors, DamageIsFoundAndNamed) {
  const Recording recording(DType::f32);
  const ScratchFolder scratch;
  const auto fresh = [&] {
    fs::remove_all(scratch / "s");
    recording.write(scratch / "s", 40);
    return scratch / "s";
  };
  {
    // One flipped bit of a value: find it by its bytes.
    const auto shard = fresh() / "shards/shard-000001.h5";
    std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)), {});
    const float needle = recording.values[6][static_cast<std::size_t>(60 * 257 + 5)];
    const auto at = bytes.find(std::string(reinterpret_cast<const char*>(&needle), sizeof needle));
    ASSERT_NE(at, std::string::npos);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(bytes[at] ^ 1));
    file.close();
    EXPECT_THAT(error_of([&] { verify_store(scratch / "s"); }),
                HasSubstr("shard-000001.h5: site logits, block 0"));
  }
  fs::remove(fresh() / "shards/shard-000001.h5");
  EXPECT_THAT(error_of([&] { StoreReader::open(scratch / "s"); }), HasSubstr("shard-000001.h5: shard 1"));
  fs::resize_file(fresh() / "shards/shard-000002.h5", 5000);
  EXPECT_THAT(error_of([&] { StoreReader::open(scratch / "s"); }),
              HasSubstr("found 5000 bytes, shards.jsonl says"));
  {
    // Two shards of the same size in each other's place.
    const auto dir = fresh() / "shards";
    fs::rename(dir / "shard-000000.h5", dir / "x");
    fs::rename(dir / "shard-000001.h5", dir / "shard-000000.h5");
    fs::rename(dir / "x", dir / "shard-000001.h5");
    EXPECT_THAT(error_of([&] { verify_store(scratch / "s"); }), HasSubstr("shards.jsonl says"));
  }
  std::ofstream(fresh() / "index.h5", std::ios::binary) << "not HDF5";
  EXPECT_THAT(error_of([&] { verify_store(scratch / "s"); }),
              HasSubstr("index.h5: HDF5 structure at byte 0"));
  std::ofstream(fresh() / "shards.jsonl") << "";
  EXPECT_THAT(error_of([&] { StoreReader::open(scratch / "s"); }),
              HasSubstr("found 0 rows, manifest.json says"));
  std::ofstream(fresh() / "documents.jsonl", std::ios::app) << "{}\n";
  EXPECT_THAT(error_of([&] { StoreReader::open(scratch / "s"); }), HasSubstr("SHA-256"));
  EXPECT_THAT(error_of([&] { StoreReader::open(scratch / "none"); }), HasSubstr("no manifest.json"));
}

TEST(StoreErrors, FoldersThatAreNoStore) {
  const Recording recording(DType::f32);
  const ScratchFolder scratch;
  std::ofstream(scratch / "mine.txt") << "precious";
  EXPECT_THAT(error_of([&] { recording.write(scratch.path, 0); }),
              HasSubstr("not empty and not a store: found mine.txt"));
  EXPECT_THAT(error_of([&] { recording.write(scratch / "mine.txt", 0); }), HasSubstr("mine.txt"));
  EXPECT_THAT(error_of([&] { recording.write("/proc/nowhere", 0); }), HasSubstr("/proc/nowhere"));
  EXPECT_TRUE(fs::exists(scratch / "mine.txt"));
}

TEST(StoreErrors, FullDisk) {
  // A limit on file sizes stands for the full disk: writes and HDF5 fail in the same places.
  const Recording recording(DType::f32, 200, 400);
  const ScratchFolder scratch;
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t limit : {rlim_t{100}, rlim_t{5000}, rlim_t{20000}, rlim_t{100000}, rlim_t{400000}}) {
    const rlimit small{limit, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    const auto dir = scratch / std::to_string(limit);
    const std::string error = error_of([&] { recording.write(dir, 0); });
    setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_THAT(error, HasSubstr("File too large")) << limit;
    EXPECT_THROW(StoreReader::open(dir), Error);
    EXPECT_EQ(error_of([&] { recording.write(dir, 0); }), "");  // the disk has space again: it resumes
    EXPECT_NO_THROW(verify_store(dir));
  }
  std::signal(SIGXFSZ, handler);
  Recording huge(DType::f32);
  huge.schema.total_rows = std::int64_t{1} << 50;
  EXPECT_THAT(error_of([&] { StoreWriter::open(scratch / "huge", huge.schema, huge.documents); }),
              HasSubstr("No space left"));
}

TEST(StoreErrors, PartsThatDoNotBelongTogether) {
  const Recording recording(DType::f32, 30);
  Recording other(DType::f32, 30);
  other.schema.identity["model"]["sha256"] = "11";
  const ScratchFolder scratch;
  recording.write_part(scratch / "1", 1, 2, 0);
  recording.write_part(scratch / "2", 2, 2, 0);
  other.write_part(scratch / "other", 2, 2, 0);
  recording.write(scratch / "whole", 0);
  const auto merge = [&](std::vector<fs::path> parts) {
    return error_of([&] { merge_stores(parts, scratch / "out"); });
  };
  EXPECT_THAT(merge({scratch / "1"}), HasSubstr("part 2 of 2 is missing"));
  EXPECT_THAT(merge({scratch / "1", scratch / "1"}), HasSubstr("both part 1"));
  EXPECT_THAT(merge({scratch / "1", scratch / "other"}), HasSubstr("identity.model.sha256"));
  EXPECT_THAT(merge({scratch / "1", scratch / "whole"}), HasSubstr("not a part"));
  EXPECT_FALSE(fs::exists(scratch / "out/manifest.json"));
  EXPECT_EQ(merge({scratch / "2", scratch / "1"}), "");
  EXPECT_THAT(merge({scratch / "2", scratch / "1"}), HasSubstr("a store already"));
}

class StoreLockKind : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { setenv("SONDE_STORE_LOCK", GetParam(), 1); }
  void TearDown() override { unsetenv("SONDE_STORE_LOCK"); }
};

TEST_P(StoreLockKind, OneWriterAndItDiesWithItsProcess) {
  const ScratchFolder scratch;
  const pid_t child = start_child(scratch.path, "hold", 0);
  for (int i = 0; i < 1000 && !fs::exists(scratch / "held"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_THAT(error_of([&] { StoreLock::take(scratch.path); }),
              HasSubstr(fmt::format("process {} on ", child)));
  ::kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  auto lock = StoreLock::take(scratch.path);
  EXPECT_THAT(error_of([&] { StoreLock::take(scratch.path); }), HasSubstr("another writer"));
  lock.reset();
  EXPECT_NO_THROW(StoreLock::take(scratch.path));
}

INSTANTIATE_TEST_SUITE_P(Kinds, StoreLockKind, ::testing::Values("auto", "file"));

TEST(StoreLockFile, OfAnotherHostIsStaleWhenItsTimeIsOld) {
  setenv("SONDE_STORE_LOCK", "file", 1);
  const ScratchFolder scratch;
  const auto file = scratch / "writer.lock.held";
  std::ofstream(file) << R"({"host":"elsewhere","pid":7,"boot":"b","start":"1"})";
  EXPECT_THAT(error_of([&] { StoreLock::take(scratch.path); }), HasSubstr("process 7 on elsewhere"));
  fs::last_write_time(file,
                      fs::file_time_type::clock::now() - std::chrono::seconds(StoreLock::kStaleSeconds + 5));
  EXPECT_NO_THROW(StoreLock::take(scratch.path));
  EXPECT_FALSE(fs::exists(file));
  unsetenv("SONDE_STORE_LOCK");
}

}  // namespace
}  // namespace sonde::test
