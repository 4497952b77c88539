#include "io/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>

#include "runtime/error.h"

namespace sonde {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Strings = std::vector<std::string>;

std::string gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, text.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string zstd(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return packed;
}

class TableTest : public ::testing::Test {
 protected:
  TableTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "sonde_table_XXXXXX").string();
    dir_ = ::mkdtemp(pattern.data());
  }
  ~TableTest() override { std::filesystem::remove_all(dir_); }

  std::string write(const std::string& name, const std::string& content) {
    const auto path = dir_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path.string();
  }
  Table read(const std::string& name, const std::string& content) {
    return read_table(Strings{write(name, content)});
  }

  // The message of the error that reading `content` gives; "" if it is read.
  template <class F>
  static std::string error_of(F&& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  std::string error_of(const std::string& name, const std::string& content) {
    return error_of([&] { read(name, content); });
  }
  std::string ids_error(const std::string& content) {
    return error_of([&] { read_token_ids(Strings{write("ids.jsonl", content)}); });
  }

  std::filesystem::path dir_;
};

TEST_F(TableTest, CsvQuotesLineEndsAndByteOrderMark) {
  const Table table = read("a.csv",
                           "\xEF\xBB\xBFtext,\"la,bel\"\r\n"
                           "\"a \"\"b\"\", c\",1\r\n"
                           "\r\n"
                           "\"two\r\nlines\n\",\"\"\r\n"
                           "in\"side,x\r\n"
                           "last,\"3\"");
  EXPECT_THAT(table.names, ElementsAre("text", "la,bel"));
  EXPECT_THAT(table.column("text"), ElementsAre("a \"b\", c", "two\r\nlines\n", "in\"side", "last"));
  EXPECT_THAT(table.column("la,bel"), ElementsAre("1", "", "x", "3"));
}

TEST_F(TableTest, CsvKeepsEmptyFieldsAndForeignBytes) {
  const Table table = read("a.csv", "a,b,c\n,,\n\xff\xfe,\"\",z\n");
  EXPECT_THAT(table.column("a"), ElementsAre("", "\xff\xfe"));
  EXPECT_THAT(table.column("b"), ElementsAre("", ""));
  EXPECT_THAT(table.column("c"), ElementsAre("", "z"));
}

TEST_F(TableTest, TsvSplitsAtTabsOnly) {
  const Table table = read("a.tsv", "text\tlabel\na, b\t\"x\ty\"\n");
  EXPECT_THAT(table.column("text"), ElementsAre("a, b"));
  EXPECT_THAT(table.column("label"), ElementsAre("x\ty"));
}

TEST_F(TableTest, DelimitedErrorsNameFileAndLine) {
  EXPECT_THAT(error_of("r.csv", "a,b\n\"x\ny\",1\n1\n"),
              AllOf(HasSubstr("r.csv line 4"), HasSubstr("found 1 fields, expected 2")));
  EXPECT_THAT(error_of("r.csv", "a,b\n1,2,3\n"),
              AllOf(HasSubstr("r.csv line 2"), HasSubstr("found 3 fields")));
  EXPECT_THAT(error_of("r.csv", "a,b\n1,2\n3,\"open\nmore\n"),
              AllOf(HasSubstr("r.csv line 3"), HasSubstr("never closes")));
  EXPECT_THAT(error_of("r.csv", "a,b\n\"x\"y,2\n"),
              AllOf(HasSubstr("r.csv line 2"), HasSubstr("found 'y' after a closing quote")));
  EXPECT_THAT(error_of("r.csv", "a,b,a\n1,2,3\n"), HasSubstr("column 'a' is there twice"));
  EXPECT_THAT(error_of("r.csv", ""), HasSubstr("the file is empty"));
  EXPECT_THAT(error_of("r.csv", "a,b\n"), HasSubstr("found no rows"));
  EXPECT_THAT(error_of("r.csv", std::string("\xFF\xFE"
                                            "a\0\n\0",
                                            6)),
              HasSubstr("UTF-16"));
  EXPECT_THAT(error_of("r.xlsx", "a"), HasSubstr("found the extension '.xlsx'"));
  EXPECT_THAT(error_of([&] { read_table(Strings{(dir_ / "none.csv").string()}); }),
              HasSubstr("No such file"));
  EXPECT_THAT(error_of([&] { read_table(Strings{dir_.string() + "/*.none"}); }),
              HasSubstr("no file matches"));
}

TEST_F(TableTest, JsonLinesKeepTextAndShowOtherValuesAsJson) {
  const Table table = read("a.jsonl",
                           "{\"text\":\"a\\n\\u00e9\",\"n\":7,\"f\":0.5}\n\n"
                           "{\"f\":true,\"n\":[1,{\"k\":\"v\"}],\"text\":\"\"}\r\n");
  EXPECT_THAT(table.names, ElementsAre("text", "n", "f"));
  EXPECT_THAT(table.column("text"), ElementsAre("a\n\xC3\xA9", ""));
  EXPECT_THAT(table.column("n"), ElementsAre("7", "[1,{\"k\":\"v\"}]"));
  EXPECT_THAT(table.column("f"), ElementsAre("0.5", "true"));
}

TEST_F(TableTest, JsonColumnsWithHolesAreErrorsOnlyWhenUsed) {
  const Table table = read("a.jsonl",
                           "{\"text\":\"a\",\"gone\":1,\"null\":1}\n"
                           "{\"text\":\"b\",\"late\":2,\"null\":null}\n"
                           "{\"text\":\"c\",\"late\":2,\"null\":null,\"gone\":3}\n");
  EXPECT_THAT(table.column("text"), ElementsAre("a", "b", "c"));
  EXPECT_THAT(error_of([&] { table.column("gone"); }), HasSubstr("a.jsonl line 2: key 'gone' is missing"));
  EXPECT_THAT(error_of([&] { table.column("late"); }),
              HasSubstr("a.jsonl line 2: key 'late' is missing in the rows before"));
  EXPECT_THAT(error_of([&] { table.column("null"); }), HasSubstr("a.jsonl line 2: key 'null' is null"));
  for (const auto& column : table.columns)  // spoilt columns hold nothing
    EXPECT_EQ(column.size(), &column == &table.columns[0] ? 3u : 0u);
}

TEST_F(TableTest, JsonErrorsNameTheLine) {
  EXPECT_THAT(error_of("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\n"), HasSubstr("a.jsonl line 2"));
  EXPECT_THAT(error_of("a.jsonl", "{\"text\":\"a\"}\n[1]\n"),
              AllOf(HasSubstr("a.jsonl line 2"), HasSubstr("found array")));
  EXPECT_THAT(error_of("a.jsonl", std::string(100000, '[') + "\n"), HasSubstr("a.jsonl line 1"));
  EXPECT_THAT(error_of("a.jsonl", "{}\n"), HasSubstr("found {}"));
  EXPECT_THAT(error_of("a.jsonl", "\n\n"), HasSubstr("found no rows"));
}

TEST_F(TableTest, PlainLinesAreDocumentsAlsoWhenEmpty) {
  EXPECT_THAT(read("a.txt", "one\r\n\ntwo \"x\",").column("text"), ElementsAre("one", "", "two \"x\","));
  EXPECT_THAT(read("a.txt", "one\n").column("text"), ElementsAre("one"));
}

TEST_F(TableTest, CompressedStreamsOfSeveralMembers) {
  std::string big = "text\n";
  while (big.size() < 3'000'000) big += fmt::format("row {} {}\n", big.size(), big.size() * 2654435761u);
  const Table plain = read("a.csv", big);
  const std::size_t half = big.size() / 2;
  const std::string first = big.substr(0, half), second = big.substr(half);
  EXPECT_EQ(read("a.csv.gz", gzip(first) + gzip("") + gzip(second)).columns, plain.columns);
  EXPECT_EQ(read("a.csv.zst", zstd(first) + zstd("") + zstd(second)).columns, plain.columns);
}

TEST_F(TableTest, DamagedStreamsAreErrors) {
  const std::string text = "text\n" + std::string(5000, 'x') + "\nyes\n";
  const struct { std::string name, packed; } cases[] = {{"a.csv.gz", gzip(text)}, {"a.csv.zst", zstd(text)}};
  for (const auto& [name, packed] : cases) {
    for (std::size_t n = 0; n < packed.size(); ++n)
      EXPECT_THAT(error_of(name, packed.substr(0, n)), AllOf(HasSubstr(name), HasSubstr("ends inside it")))
          << n;
    EXPECT_THAT(error_of(name, packed + "garbage"), HasSubstr("damaged"));
    EXPECT_THAT(error_of(name, text), HasSubstr("damaged"));
  }
  std::string flipped = gzip(text);
  flipped[flipped.size() - 6] ^= 1;  // the checksum
  EXPECT_THAT(error_of("a.csv.gz", flipped), HasSubstr("incorrect data check"));
}

TEST_F(TableTest, GlobsExpandSortedAndExistingPathsAreNoGlobs) {
  write("d/b.csv", "text\nb\n");
  write("d/a10.csv", "text\na10\n");
  write("d/a9.csv", "text\na9\n");
  write("d/[x]*.csv", "text\nliteral\n");
  const std::string d = (dir_ / "d").string();
  const Table table = read_table(Strings{d + "/a*.csv", d + "/[b].csv"});
  EXPECT_THAT(table.column("text"), ElementsAre("a10", "a9", "b"));
  EXPECT_THAT(read_table(Strings{d + "/[x]*.csv"}).column("text"), ElementsAre("literal"));
}

TEST_F(TableTest, FilesAgreeOnColumnsInAnyOrder) {
  const Strings files{write("a.csv", "text,label\na,1\nb,2\n"), write("empty.csv", "label,text\n"),
                      write("b.tsv", "label\ttext\n3\tc\n")};
  const Table table = read_table(files);
  EXPECT_THAT(table.column("text"), ElementsAre("a", "b", "c"));
  EXPECT_THAT(table.column("label"), ElementsAre("1", "2", "3"));
  EXPECT_EQ(table.where(1), files[0] + " row 2");
  EXPECT_EQ(table.where(2), files[2] + " row 1");

  const std::string other = write("c.csv", "text,lable\na,1\n");
  EXPECT_THAT(error_of([&] {
                read_table(Strings{files[0], other});
              }),
              AllOf(HasSubstr("c.csv line 1"), HasSubstr("text, lable"), HasSubstr("text, label")));
  const std::string fewer = write("d.csv", "text\na\n");
  EXPECT_THAT(error_of([&] { read_table(Strings{files[0], fewer}); }), HasSubstr("d.csv line 1"));
}

TEST_F(TableTest, UnknownColumnListsTheColumns) {
  const Table table = read("a.csv", "text,label\na,1\n");
  EXPECT_TRUE(table.has("label"));
  EXPECT_FALSE(table.has("lable"));
  EXPECT_THAT(error_of([&] { table.column("lable"); }),
              AllOf(HasSubstr("'lable'"), HasSubstr("text, label"), HasSubstr("a.csv")));
}

TEST_F(TableTest, Templates) {
  const Table table = read("a.csv", "city,country\nRome,{Italy}\n");
  EXPECT_EQ(fill_template("{{{city}}} is in {country}. {{}}", table, 0), "{Rome} is in {Italy}. {}");
  EXPECT_EQ(fill_template("no column", table, 0), "no column");
  EXPECT_THAT(error_of([&] { fill_template("{town}", table, 0); }), HasSubstr("'town'"));
  EXPECT_THROW(fill_template("{city", table, 0), UsageError);
  EXPECT_THROW(fill_template("city}", table, 0), UsageError);
}

TEST_F(TableTest, TokenIds) {
  const Strings files{write("a.jsonl", "{\"id\":\"first\",\"ids\":[1,2,3],\"more\":{}}\n{\"ids\":[]}\n"),
                      write("b.jsonl.gz", gzip("{\"ids\":[2147483647],\"id\":9}\n{\"ids\":[0]}"))};
  const TokenIds documents = read_token_ids(files);
  EXPECT_THAT(documents.ids, ElementsAre("first", "1", "9", "3"));
  EXPECT_THAT(documents.tokens, ElementsAre(1, 2, 3, 2147483647, 0));
  EXPECT_THAT(documents.starts, ElementsAre(0, 3, 3, 4, 5));
}

TEST_F(TableTest, TokenIdErrorsNameLineAndPlace) {
  for (const char* id : {"-1", "2147483648", "18446744073709551615", "1.0", "true", "\"5\"", "null", "[1]"})
    EXPECT_THAT(ids_error(fmt::format("{{\"ids\":[1]}}\n{{\"ids\":[7,{}]}}\n", id)),
                AllOf(HasSubstr("ids.jsonl line 2"), HasSubstr("ids[1]")));
  EXPECT_THAT(ids_error("{\"ids\":7}\n"), AllOf(HasSubstr("line 1"), HasSubstr("found number")));
  EXPECT_THAT(ids_error("{\"id\":7}\n"), HasSubstr("found none"));
  EXPECT_THAT(ids_error("[1,2]\n"), HasSubstr("found array"));
  EXPECT_THAT(ids_error("{\"ids\":[1],\"id\":[]}\n"), HasSubstr("key id"));
  EXPECT_THAT(ids_error(""), HasSubstr("found no documents"));
}

}  // namespace
}  // namespace sonde
