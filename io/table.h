// Tables of text: CSV, TSV, JSONL and plain lines, .gz and .zst, several files or globs. Inputs of extract and
// labels of probe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sonde {

struct Table {
  std::vector<std::string> names;                 // columns, in file order
  std::vector<std::vector<std::string>> columns;  // [column][row]; JSON strings as text, other JSON values as JSON
  std::vector<std::string> files;                 // where rows came from, for messages
  std::vector<std::int64_t> first_row_of_file;    // files.size() + 1

  std::int64_t rows() const { return columns.empty() ? 0 : static_cast<std::int64_t>(columns[0].size()); }
  bool has(std::string_view name) const;
  const std::vector<std::string>& column(std::string_view name) const;  // Error lists the columns that exist
  std::string where(std::int64_t row) const;                            // "cities.csv row 12"
};

// By extension: .csv .tsv .jsonl/.ndjson .txt (one column `text`), each also .gz or .zst. Globs expand sorted; files
// must agree on their columns. RFC 4180 quoting. Errors name file and line.
Table read_table(std::span<const std::string> paths);

// "{statement} True or false?" with the row's columns; {{ and }} are literal braces; an unknown column is an Error.
std::string fill_template(std::string_view pattern, const Table& table, std::int64_t row);

// {"id":.., "ids":[..]} a line (id optional: the row number). Documents packed flat.
struct TokenIds {
  std::vector<std::string> ids;       // document ids
  std::vector<std::int32_t> tokens;   // all tokens
  std::vector<std::int64_t> starts;   // ids.size() + 1
};
TokenIds read_token_ids(std::span<const std::string> paths);

}  // namespace sonde
