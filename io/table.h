// Tables of text: CSV, TSV, JSONL and plain lines, .gz and .zst, several files or globs. Inputs of extract
// and labels of probe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sonde {

struct Table {
  std::vector<std::string> names;  // columns, in file order
  std::vector<std::vector<std::string>>
      columns;  // [column][row]; JSON strings as text, other JSON values as JSON; empty where a defect is
  std::vector<std::string> defects;  // [column] why column() refuses it (a missing or null JSON value), or ""
  std::vector<std::string> files;    // where rows came from, for messages
  std::vector<std::int64_t> first_row_of_file;  // files.size() + 1
  std::int64_t n_rows = 0;

  std::int64_t rows() const { return n_rows; }
  bool has(std::string_view name) const;
  // An unknown name is an Error that lists the columns; so is a column that some JSON row lacks or sets to
  // null.
  const std::vector<std::string>& column(std::string_view name) const;
  std::string where(
      std::int64_t row) const;  // "cities.csv row 12": rows of that file, from 1, header not counted
};

// Globs expand sorted; a path that exists is no glob. One that matches nothing is an Error.
std::vector<std::string> expand_globs(std::span<const std::string> paths);

// By extension: .csv .tsv .jsonl/.ndjson .txt (one column `text`), each also .gz or .zst. UTF-8 by
// convention: other bytes pass through. Globs expand sorted; a path that exists is no glob. Files must agree
// on their columns, in any order. Errors name file and line.
//   CSV, TSV  a header, RFC 4180 quoting ("" is a quote, quoted fields hold line ends); blank lines are
//   skipped JSONL     an object a line; columns are its keys; blank lines are skipped plain     every line is
//   a document, an empty line an empty one
// No rows at all is an Error.
Table read_table(std::span<const std::string> paths);

// "{statement} True or false?" with the row's columns; {{ and }} are literal braces; an unknown column is an
// Error.
std::string fill_template(std::string_view pattern, const Table& table, std::int64_t row);

// {"id":.., "ids":[..]} a line (id optional: the row number, from 0; other keys are ignored). Documents
// packed flat.
struct TokenIds {
  std::vector<std::string> ids;      // document ids
  std::vector<std::int32_t> tokens;  // all tokens
  std::vector<std::int64_t> starts;  // ids.size() + 1
};
TokenIds read_token_ids(std::span<const std::string> paths);

}  // namespace sonde
