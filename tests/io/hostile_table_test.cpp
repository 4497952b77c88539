// Tables that would fill the memory or take forever: bombs, long lines, ever new keys.
#include <zlib.h>
#include <zstd.h>

#include "io/json.h"
#include "io/table.h"
#include "tests/io/hostile_files.h"

namespace sonde::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string refuse(const std::string& name, const std::string& bytes) {
  return refusal(name, bytes, [](const std::filesystem::path& file) {
    read_table(std::vector<std::string>{file.string()});
  });
}

// `megabytes` of long lines, packed as hard as the format can.
std::string gzip_bomb(std::size_t megabytes) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY);
  std::string text = std::string((1 << 20) - 1, 'x') + '\n', packed(megabytes * 2000 + 1000, '\0');
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  for (std::size_t i = 0; i < megabytes; ++i) {
    stream.next_in = reinterpret_cast<Bytef*>(text.data());
    stream.avail_in = static_cast<uInt>(text.size());
    EXPECT_EQ(deflate(&stream, i + 1 == megabytes ? Z_FINISH : Z_NO_FLUSH),
              i + 1 == megabytes ? Z_STREAM_END : Z_OK);
  }
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}
std::string zstd_bomb(std::size_t megabytes) {
  std::string text(megabytes << 20, 'x');
  for (std::size_t i = 0; i < text.size(); i += 1 << 20) text[i] = '\n';
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return packed;
}

TEST(HostileTable, BombsAreRefusedAfter16MiB) {
  EXPECT_EQ(refuse("b.txt.gz", gzip_bomb(8)), "");  // small texts may pack as they like
  EXPECT_EQ(refuse("b.txt.zst", zstd_bomb(8)), "");
  for (const auto& [name, bomb] :
       {std::pair("b.txt.gz", gzip_bomb(40)), std::pair("b.txt.zst", zstd_bomb(40))})
    EXPECT_THAT(refuse(name, bomb),
                AllOf(HasSubstr("found more than"), HasSubstr("expected at most 256 for each"),
                      HasSubstr("HINT: decompress it yourself")));
}

// Rows with ever new keys: n keys times n rows of holes would be quadratic.
TEST(HostileTable, EverNewKeys) {
  const auto read = [](std::size_t n) {
    std::string lines;
    for (std::size_t i = 0; i < n; ++i) lines += fmt::format("{{\"text\": 1, \"key{}\": 1}}\n", i);
    const TemporaryFolder folder;
    const Table table = read_table(std::vector<std::string>{folder.write("k.jsonl", lines).string()});
    EXPECT_EQ(table.column("text").size(), n);
    std::size_t held = 0;
    for (const auto& column : table.columns) held += column.size();
    EXPECT_EQ(held, n);
    EXPECT_EQ(table.rows(), static_cast<std::int64_t>(n));
  };
  EXPECT_LT(growth(4000, read), 8);
}

TEST(HostileTable, LongLinesAndQuotesTakeLinearTime) {
  const auto csv = [](const char* filling) {
    return [filling](std::size_t n) {
      std::string text = "text\n\"";
      for (std::size_t i = 0; i < n; ++i) text += filling;
      EXPECT_EQ(refuse("q.csv", text + "\"\n"), "");
      EXPECT_THAT(refuse("q.csv", text), HasSubstr("never closes"));
    };
  };
  EXPECT_LT(growth(500000, csv("x")), 8);
  EXPECT_LT(growth(200000, csv("\"\"")), 8);
  EXPECT_LT(growth(200000, csv("\n")), 8);
}

TEST(HostileTable, NamesOfManyOrStrangeColumns) {
  std::string wide = "a";
  for (int i = 0; i < 50000; ++i) wide += fmt::format(",column{}", i);
  const std::string message = refuse("w.csv", wide + ",a\n");
  EXPECT_THAT(message, HasSubstr("column 'a' is there twice"));
  const TemporaryFolder folder;
  const auto file = folder.write("w.csv", wide + "\n" + std::string(50000, ',') + "\n").string();
  const Table table = read_table(std::vector<std::string>{file});
  try {
    table.column("text\n");
    FAIL();
  } catch (const Error& error) {  // one line that can be read
    EXPECT_THAT(error.what(), AllOf(HasSubstr(R"(found no column 'text\x0a', the columns are a, column0)"),
                                    HasSubstr("and 49961 more")));
    EXPECT_LT(std::string(error.what()).size(), 5000u);
  }
}

TEST(HostileJson, DeepOrRepeated) {
  const auto message = [](const std::string& text) {
    try {
      parse_json(text, "x.json");
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message(std::string(64, '[') + std::string(64, ']')), "");
  for (const char* open : {"[", "{\"a\":"}) {
    std::string deep;
    for (int i = 0; i < 200000; ++i) deep += open;
    EXPECT_THAT(message(deep), HasSubstr("x.json: JSON nested deeper than 64 levels"));
  }
  EXPECT_THAT(message("1e999"), HasSubstr("x.json: not valid JSON"));
  EXPECT_THAT(message("\"\xff\""), HasSubstr("x.json: not valid JSON"));
  const auto object = [&](std::size_t n) {
    std::string text = "{";
    for (std::size_t i = 0; i < n; ++i) text += fmt::format("\"key{}\":0,", i);
    EXPECT_EQ(message(text + "\"z\":0}"), "");
    EXPECT_THAT(message(text + "\"key0\":0}"), HasSubstr("key \"key0\": found twice"));
  };
  EXPECT_LT(growth(20000, object), 8);
}

}  // namespace
}  // namespace sonde::test
