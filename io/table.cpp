#include "io/table.h"

#include <glob.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <limits>
#include <unordered_map>

#include "io/file_util.h"
#include "io/json.h"
#include "io/text_reader.h"
#include "runtime/error.h"

namespace sonde {
namespace {

enum class Format { csv, tsv, jsonl, plain };

Format format_of(const std::string& file) {
  std::string name = std::filesystem::path(file).filename().string();
  for (const char* packed : {".gz", ".zst"})
    if (name.ends_with(packed)) name.resize(name.size() - std::strlen(packed));
  std::string extension = std::filesystem::path(name).extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) { return std::tolower(c); });
  if (extension == ".csv") return Format::csv;
  if (extension == ".tsv") return Format::tsv;
  if (extension == ".jsonl" || extension == ".ndjson") return Format::jsonl;
  if (extension == ".txt") return Format::plain;
  fail_hint(
      "rename it to what it holds",
      "{}: found the extension '{}', expected .csv, .tsv, .jsonl, .ndjson or .txt, each also .gz or .zst",
      file, extension);
}

std::vector<std::string> expand(std::span<const std::string> paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored) || path.find_first_of("*?[") == std::string::npos) {
      files.push_back(path);
      continue;
    }
    glob_t found{};
    const int status = ::glob(path.c_str(), GLOB_NOSORT, nullptr, &found);
    const std::size_t first = files.size();
    if (status == 0) files.insert(files.end(), found.gl_pathv, found.gl_pathv + found.gl_pathc);
    ::globfree(&found);
    if (files.size() == first)
      fail_hint("quote the pattern and mind the folder", "{}: no file matches", path);
    std::sort(files.begin() + static_cast<std::ptrdiff_t>(first), files.end());
  }
  if (files.empty()) throw UsageError("no input file is given");
  return files;
}

std::string list(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 40;
  std::string text = names.empty() ? "none" : "";
  for (std::size_t i = 0; i < std::min(kMost, names.size()); ++i)
    text += (i > 0 ? ", " : "") + printable(names[i]);
  return names.size() <= kMost ? text : fmt::format("{} and {} more", text, names.size() - kMost);
}

// Splits records of a delimited file; reuses the fields' memory.
class DelimitedReader {
 public:
  DelimitedReader(LineReader& lines, char delimiter) : lines_(lines), delimiter_(delimiter) {}

  // False at the end of the file. first_line() then names the record's first line.
  bool next(std::vector<std::string>& fields) {
    do {
      if (!lines_.next(line_)) return false;
    } while (line_.empty() || line_ == "\r");
    first_line_ = lines_.line();
    std::size_t n = 0;
    std::size_t at = 0;
    for (bool more = true; more; ++n) {
      if (n == fields.size()) fields.emplace_back();
      more = at < line_.size() && line_[at] == '"' ? quoted(fields[n], at) : unquoted(fields[n], at);
    }
    fields.resize(n);
    return true;
  }
  std::int64_t first_line() const { return first_line_; }

 private:
  // Both take the field at `at` and move `at` behind its delimiter; false where the record ends.
  bool unquoted(std::string& field, std::size_t& at) {
    const std::size_t end = line_.find(delimiter_, at);
    field = line_.substr(at, end == line_.npos ? end : end - at);
    if (end == line_.npos && field.ends_with('\r')) field.pop_back();
    at = end + 1;
    return end != line_.npos;
  }

  bool quoted(std::string& field, std::size_t& at) {
    const std::int64_t opened = lines_.line();
    field.clear();
    ++at;
    while (true) {
      const std::size_t quote = line_.find('"', at);
      if (quote == line_.npos) {  // the field goes on in the next line
        field.append(line_, at).push_back('\n');
        if (!lines_.next(line_)) fail("{}: a quote opens here and never closes", lines_.where(opened));
        at = 0;
        continue;
      }
      field.append(line_, at, quote - at);
      at = quote + 1;
      if (at == line_.size() || line_[at] != '"') break;
      field.push_back('"');
      ++at;
    }
    if (at == line_.size() || line_.substr(at) == "\r") return false;
    if (line_[at] != delimiter_)
      fail_hint("quotes inside a quoted field are doubled",
                "{}: found '{}' after a closing quote, expected the next field", lines_.where(), line_[at]);
    ++at;
    return true;
  }

  LineReader& lines_;
  char delimiter_;
  std::string_view line_;
  std::int64_t first_line_ = 0;
};

class TableBuilder {
 public:
  explicit TableBuilder(Table& table) : table_(table) {}

  void read(const std::string& file) {
    table_.files.push_back(file);
    table_.first_row_of_file.push_back(table_.rows());
    LineReader lines(file);
    switch (format_of(file)) {
      case Format::csv:
        read_delimited(lines, ',');
        break;
      case Format::tsv:
        read_delimited(lines, '\t');
        break;
      case Format::jsonl:
        read_jsonl(lines);
        break;
      case Format::plain:
        read_plain(lines);
        break;
    }
  }

 private:
  std::size_t add_column(const std::string& name) {
    by_name_.emplace(name, table_.names.size());
    table_.names.push_back(name);
    table_.columns.emplace_back();
    table_.defects.emplace_back();
    whole_.push_back(table_.names.size() - 1);
    return table_.names.size() - 1;
  }

  // Columns of a file's header, as indices into the table's.
  std::vector<std::size_t> match_header(const std::vector<std::string>& names, const std::string& where) {
    const bool first = table_.names.empty();
    std::vector<std::size_t> places;
    std::vector<bool> seen(first ? names.size() : table_.names.size());
    for (const std::string& name : names) {
      const auto found = by_name_.find(name);
      if (found == by_name_.end() && first)
        places.push_back(add_column(name));
      else if (found != by_name_.end())
        places.push_back(found->second);
      else
        break;
      if (seen[places.back()]) fail("{}: column '{}' is there twice", where, printable(name));
      seen[places.back()] = true;
    }
    if (places.size() != names.size() || places.size() != table_.names.size())
      fail("{}: found the columns {}, expected those of {}: {}", where, list(names), table_.files[0],
           list(table_.names));
    return places;
  }

  void read_delimited(LineReader& lines, char delimiter) {
    DelimitedReader records(lines, delimiter);
    std::vector<std::string> fields;
    if (!records.next(fields))
      fail("{}: the file is empty, expected a header with column names", lines.file());
    const std::vector<std::size_t> places = match_header(fields, lines.where(records.first_line()));
    while (records.next(fields)) {
      if (fields.size() != places.size())
        fail_hint("a field that holds the delimiter, a quote or a line end is put in quotes",
                  "{}: found {} fields, expected {}", lines.where(records.first_line()), fields.size(),
                  places.size());
      for (std::size_t i = 0; i < fields.size(); ++i)
        table_.columns[places[i]].push_back(std::move(fields[i]));
      ++table_.n_rows;
    }
  }

  // A key that a row lacks, or that is null, only matters when its column is used: column() then names the
  // first one. Such a column holds nothing, or rows with ever new keys would cost rows times keys.
  void read_jsonl(LineReader& lines) {
    for (std::string_view line; lines.next(line);) {
      if (line.find_first_not_of(" \t\r") == line.npos) continue;
      const Json object = parse_json(line, lines.where());
      if (!object.is_object() || object.empty())
        fail("{}: found {}, expected a JSON object with keys", lines.where(),
             object.is_object() ? "{}" : object.type_name());
      const auto rows = static_cast<std::size_t>(table_.n_rows);
      for (const auto& [key, value] : object.items()) {
        const auto found = by_name_.find(key);
        const std::size_t place = found != by_name_.end() ? found->second : add_column(key);
        if (!table_.defects[place].empty()) continue;
        if (table_.columns[place].size() < rows)
          spoil(place,
                fmt::format("{}: key '{}' is missing in the rows before", lines.where(), printable(key)));
        else if (value.is_null())
          spoil(place, fmt::format("{}: key '{}' is null", lines.where(), printable(key)));
        else
          table_.columns[place].push_back(value.is_string() ? value.get<std::string>() : value.dump());
      }
      std::erase_if(whole_, [&](std::size_t place) {
        if (table_.defects[place].empty() && table_.columns[place].size() == rows)
          spoil(place, fmt::format("{}: key '{}' is missing", lines.where(), printable(table_.names[place])));
        return !table_.defects[place].empty();
      });
      ++table_.n_rows;
    }
  }

  void spoil(std::size_t place, std::string why) {
    table_.defects[place] = std::move(why);
    table_.columns[place] = {};
  }

  void read_plain(LineReader& lines) {
    const std::size_t place = match_header({"text"}, lines.file())[0];
    for (std::string_view line; lines.next(line);) {
      if (line.ends_with('\r')) line.remove_suffix(1);
      table_.columns[place].emplace_back(line);
      ++table_.n_rows;
    }
  }

  Table& table_;
  std::unordered_map<std::string, std::size_t> by_name_;
  std::vector<std::size_t> whole_;  // columns without a defect
};

}  // namespace

bool Table::has(std::string_view name) const { return std::ranges::find(names, name) != names.end(); }

const std::vector<std::string>& Table::column(std::string_view name) const {
  const auto found = std::ranges::find(names, name);
  if (found == names.end())
    fail("{}: found no column '{}', the columns are {}", list(files), printable(name), list(names));
  const auto place = static_cast<std::size_t>(found - names.begin());
  if (place < defects.size() && !defects[place].empty())
    fail_hint("every row needs a value in a column that is used", "{}", defects[place]);
  return columns[place];
}

std::string Table::where(std::int64_t row) const {
  const auto after = std::ranges::upper_bound(first_row_of_file, row);
  sonde_check(row >= 0 && row < rows() && after != first_row_of_file.end(), "row {} of {}", row, rows());
  const auto file = after - first_row_of_file.begin() - 1;
  return fmt::format("{} row {}", files[static_cast<std::size_t>(file)], row - *(after - 1) + 1);
}

std::vector<std::string> expand_globs(std::span<const std::string> paths) { return expand(paths); }

Table read_table(std::span<const std::string> paths) {
  Table table;
  TableBuilder builder(table);
  for (const std::string& file : expand(paths)) builder.read(file);
  table.first_row_of_file.push_back(table.rows());
  if (table.rows() == 0) fail("{}: found no rows", list(table.files));
  return table;
}

std::string fill_template(std::string_view pattern, const Table& table, std::int64_t row) {
  std::string text;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c != '{' && c != '}') {
      text.push_back(c);
    } else if (i + 1 < pattern.size() && pattern[i + 1] == c) {
      text.push_back(c);
      ++i;
    } else {
      const std::size_t close = c == '{' ? pattern.find('}', i) : pattern.npos;
      if (close == pattern.npos)
        throw UsageError(fmt::format("template '{}': found a lone '{}' at character {}", pattern, c, i),
                         "columns stand in braces; {{ and }} are literal braces");
      text += table.column(pattern.substr(i + 1, close - i - 1))[static_cast<std::size_t>(row)];
      i = close;
    }
  }
  return text;
}

TokenIds read_token_ids(std::span<const std::string> paths) {
  TokenIds documents;
  documents.starts.push_back(0);
  for (const std::string& file : expand(paths)) {
    LineReader lines(file);
    for (std::string_view line; lines.next(line);) {
      if (line.find_first_not_of(" \t\r") == line.npos) continue;
      const Json object = parse_json(line, lines.where());
      const auto ids = object.is_object() ? object.find("ids") : object.end();
      if (ids == object.end() || !ids->is_array())
        fail_hint("`sonde tokenize` writes such lines",
                  "{}: key ids: found {}, expected an object with a list of token ids: {{\"ids\": [1, 2]}}",
                  lines.where(),
                  !object.is_object()   ? object.type_name()
                  : ids == object.end() ? "none"
                                        : ids->type_name());
      for (const Json& id : *ids) {
        const bool fits = id.is_number_integer() &&
                          (id.is_number_unsigned() || id.get<std::int64_t>() >= 0) &&
                          id.get<std::uint64_t>() <= std::numeric_limits<std::int32_t>::max();
        if (!fits)
          fail("{}: key ids[{}]: found {}, expected a token id of 0 to 2147483647", lines.where(),
               documents.tokens.size() - static_cast<std::size_t>(documents.starts.back()), id.dump());
        documents.tokens.push_back(id.get<std::int32_t>());
      }
      documents.starts.push_back(static_cast<std::int64_t>(documents.tokens.size()));
      const auto name = object.find("id");
      if (name == object.end())
        documents.ids.push_back(std::to_string(documents.ids.size()));
      else if (name->is_string())
        documents.ids.push_back(name->get<std::string>());
      else if (name->is_number_integer())
        documents.ids.push_back(name->dump());
      else
        fail("{}: key id: found {}, expected text or an integer", lines.where(), name->dump());
    }
  }
  if (documents.ids.empty()) fail("{}: found no documents", fmt::join(paths, ", "));
  return documents;
}

}  // namespace sonde
