// Stores whose files were swapped or say what cannot be: every reader names the file, and nothing is
// allocated for rows that are not there.
#include "tests/io/hostile_files.h"

#include "io/activation_store.h"
#include "io/file_util.h"
#include "tests/io/store_fixture.h"

namespace sonde::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class HostileStore : public ::testing::Test {
 protected:
  HostileStore() : dir_(folder_ / "store") { Recording(DType::f32, 6).write(dir_, 16); }

  // What opening, reading everything and verifying say, each one line or "".
  struct Refusals {
    std::string read, verify;
  };
  Refusals refusals() const {
    return {refusal([&] {
              const auto store = StoreReader::open(dir_);
              store->row_document();
              for (std::size_t site = 0; site < store->sites().size(); ++site) {
                if (store->rows() > 0) {
                  std::vector<float> row(static_cast<std::size_t>(store->sites()[site].width()));
                  store->read(site, 0, 1, row.data());
                }
                store->statistics(site);
              }
            }),
            refusal([&] { verify_store(dir_); })};
  }
  std::string refusal(const std::function<void()>& action) const {
    const std::string message = error_of(action);
    EXPECT_THAT(message, testing::AnyOf("", HasSubstr(dir_.string()))) << "names no file";
    EXPECT_EQ(message.find('\n'), std::string::npos);
    return message;
  }
  // Both after `change` of a file; the file is put back.
  void expect_both(const std::string& file, const std::function<std::string(std::string)>& change,
                   const testing::Matcher<std::string>& expected) {
    const auto path = dir_ / file;
    const std::string good = read_file(path);
    write_file_atomically(path, change(good));
    const Refusals found = refusals();
    EXPECT_THAT(found.read, expected) << file;
    EXPECT_THAT(found.verify, expected) << file;
    write_file_atomically(path, good);
  }
  void expect_manifest(const std::function<void(Json&)>& change,
                       const testing::Matcher<std::string>& expected) {
    expect_both(
        "manifest.json",
        [&](const std::string& text) {
          Json json = parse_json(text, "manifest");
          change(json);
          return json.dump();
        },
        expected);
  }
  // The first shard's line.
  void expect_log(const std::function<void(Json&)>& change, const testing::Matcher<std::string>& expected) {
    expect_both(
        "shards.jsonl",
        [&](const std::string& text) {
          const std::size_t end = text.find('\n');
          Json json = parse_json(text.substr(0, end), "line");
          change(json);
          return json.dump() + text.substr(end);
        },
        expected);
  }

  ScratchFolder folder_;
  std::filesystem::path dir_;
};

TEST_F(HostileStore, TheStoreItselfIsGood) {
  EXPECT_EQ(refusals().read, "");
  EXPECT_EQ(refusals().verify, "");
}

TEST_F(HostileStore, Manifest) {
  expect_manifest([](Json& m) { m["rows"] = INT64_MAX; },
                  HasSubstr("manifest.json says 9223372036854775807"));
  expect_manifest([](Json& m) { m["rows"] = UINT64_MAX; },
                  HasSubstr("key rows: found -1, expected 0 or more"));
  expect_manifest([](Json& m) { m["rows"] = "many"; }, HasSubstr("key rows: found string, expected number"));
  expect_manifest([](Json& m) { m.erase("documents"); }, HasSubstr("key documents is missing"));
  expect_manifest([](Json& m) { m["documents"]["count"] = 7; },
                  HasSubstr("found 6 documents, manifest.json says 7"));
  expect_manifest([](Json& m) { m["documents"]["sha256"] = "0"; },
                  HasSubstr("documents.jsonl: found SHA-256"));
  expect_manifest([](Json& m) { m["totals"]["shards"] = 1; }, HasSubstr("manifest.json says 1"));
  expect_manifest([](Json& m) { m["dtype"] = "f64"; },
                  HasSubstr("key dtype: found 'f64', expected f32, bf16 or f16"));
  expect_manifest([](Json& m) { m["version"] = 2; },
                  AllOf(HasSubstr("key version: found 2"), HasSubstr("HINT: read")));
  expect_manifest([](Json& m) { m["format"] = "x\ny"; }, HasSubstr(R"(found 'x\x0ay')"));
  expect_manifest([](Json& m) { m["sites"].push_back(m["sites"][0]); },
                  HasSubstr("site hook_embed: found twice, expected once"));
  expect_manifest([](Json& m) { m["sites"][0]["hook"] = "hook_none"; },
                  HasSubstr("unknown hook 'hook_none'"));
  expect_manifest([](Json& m) { m["sites"][1]["layer"] = 7; },
                  HasSubstr("its hook and layer name blocks.7."));
  for (const char* shape :
       {"[]", "[0]", "[-5]", "[1.5]", "[4611686018427387904, 4]", "[1, 1, 1, 5]", "[1099511627777]"})
    expect_manifest([&](Json& m) { m["sites"][0]["row_shape"] = Json::parse(shape); },
                    HasSubstr("row_shape"));
  // Wide rows that no file could hold: refused by the files' sizes, with nothing allocated.
  for (const std::int64_t width : {std::int64_t{1} << 20, std::int64_t{1} << 39})
    expect_manifest([&](Json& m) { m["sites"][0]["row_shape"] = {width}; },
                    AllOf(HasSubstr("shard-000000.h5: found"), HasSubstr("bytes, expected more for")));
  expect_both(
      "manifest.json", [](const std::string&) { return "[]"; },
      HasSubstr("manifest.json: key format is missing"));
  expect_both(
      "manifest.json", [](const std::string& text) { return text.substr(0, text.size() / 2); },
      HasSubstr("manifest.json: not valid JSON"));
}

// A store without rows has no shard whose size bounds the rows.
TEST_F(HostileStore, NoRowsButWide) {
  expect_both(
      "shards.jsonl", [](const std::string&) { return ""; }, HasSubstr("found 0 rows"));
  const std::string log = read_file(dir_ / "shards.jsonl");
  write_file_atomically(dir_ / "shards.jsonl", "");
  expect_manifest(
      [](Json& m) {
        m["rows"] = m["totals"]["shards"] = m["totals"]["bytes"] = 0;
        m["sites"][0]["row_shape"] = {std::int64_t{1} << 38};
      },
      HasSubstr("index.h5: dataset /"));
}

TEST_F(HostileStore, ShardLog) {
  expect_log([](Json& s) { s["rows"] = INT64_MAX; }, HasSubstr("shards.jsonl"));
  expect_log([](Json& s) { s["first_row"] = 1; }, HasSubstr("shards.jsonl line 1: found shard 0"));
  expect_log([](Json& s) { s["file"] = "../../etc/passwd"; }, HasSubstr("(../../etc/passwd)"));
  expect_log([](Json& s) { s["shard"] = 1; }, HasSubstr("expected shard 0"));
  expect_log([](Json& s) { s["bytes"] = 5; }, HasSubstr("shards.jsonl says 5"));
  expect_log([](Json& s) { s["crc32c"] = "xyz"; },
             HasSubstr("key crc32c: found 'xyz', expected 8 hexadecimal digits"));
  expect_log([](Json& s) { s = Json::array(); }, HasSubstr("shards.jsonl line 1: key shard is missing"));
  expect_both(
      "shards.jsonl", [](const std::string& text) { return text.substr(text.find('\n') + 1); },
      HasSubstr("line 1: found shard 1"));
  expect_both(
      "shards.jsonl", [](const std::string& text) { return text + text; }, HasSubstr("found shard 0"));
  // Rows that the file cannot hold, made consistent everywhere else.
  const std::string log = read_file(dir_ / "shards.jsonl");
  Json first = parse_json(log.substr(0, log.find('\n')), "line");
  const std::int64_t rows = std::int64_t{1} << 50;
  first["rows"] = rows;
  write_file_atomically(dir_ / "shards.jsonl", first.dump() + "\n");
  expect_manifest([&](Json& m) { m["rows"] = rows, m["totals"]["shards"] = 1; },
                  AllOf(HasSubstr("shard-000000.h5: found"), HasSubstr(fmt::format("for {} rows", rows))));
}

TEST_F(HostileStore, FilesInPlaceOfOthers) {
  const auto other = [&](const std::string& file) {
    return [this, file](const std::string&) { return read_file(dir_ / file); };
  };
  const std::string shard = "shards/shard-000000.h5";
  expect_both(shard, other("manifest.json"), HasSubstr("shard-000000.h5: found"));
  expect_both("manifest.json", other("shards.jsonl"), HasSubstr("manifest.json"));
  expect_both("shards.jsonl", other("documents.jsonl"), HasSubstr("shards.jsonl line 1"));
  expect_both("documents.jsonl", other("shards.jsonl"), HasSubstr("documents.jsonl: found SHA-256"));
  expect_both("index.h5", other(shard), HasSubstr("index.h5"));
  expect_both("index.h5", other("manifest.json"), HasSubstr("index.h5: HDF5 structure at byte 0"));
  expect_both(
      "index.h5", [](const std::string& text) { return text.substr(0, text.size() / 2); },
      HasSubstr("index.h5"));
  expect_both(
      shard, [](const std::string& text) { return std::string(text.size(), '\0'); },
      HasSubstr("shard-000000.h5: HDF5 structure at byte 0"));
  std::filesystem::remove(dir_ / shard);
  EXPECT_THAT(refusals().read, AllOf(HasSubstr("is missing"), HasSubstr("HINT: copy the whole folder")));
  std::filesystem::create_directory(dir_ / shard);
  EXPECT_NE(refusals().read, "");
  EXPECT_NE(refusals().verify, "");
}

}  // namespace
}  // namespace sonde::test
