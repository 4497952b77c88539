#include "apps/prompts.h"

#include "io/model_files.h"
#include "io/table.h"
#include "io/text_reader.h"
#include "runtime/error.h"

namespace sonde {
namespace {

bool is_json_lines(std::string_view name) {
  for (const std::string_view end : {".gz", ".zst"})
    if (name.ends_with(end)) name.remove_suffix(end.size());
  return name.ends_with(".jsonl") || name.ends_with(".ndjson");
}

// A prompt as its row gives it.
struct Row {
  Json id;
  std::optional<std::string> text;
  std::vector<std::int32_t> tokens;
};

Row json_row(std::string_view line, const std::string& where, const PromptOptions& options,
             std::size_t number) {
  const Json json = parse_json(line, where);
  if (!json.is_object()) fail("{}: found {}, expected an object", where, json.type_name());
  Row row;
  row.id = json.contains(options.id_column) ? json[options.id_column] : Json(number);
  if (json.contains("ids")) {
    if (!json["ids"].is_array())
      fail_hint("`sonde tokenize` writes such lines", "{}: key ids: found {}, expected an array of token ids",
                where, json["ids"].dump());
    for (const Json& id : json["ids"]) {
      if (!id.is_number_integer() || id < 0 || id > INT32_MAX)
        fail("{}: key ids: found {}, expected token ids of 0 to {}", where, id.dump(), INT32_MAX);
      row.tokens.push_back(id.get<std::int32_t>());
    }
    return row;
  }
  if (options.ids_only)
    fail_hint("`sonde tokenize` writes such lines", "{}: expected token ids 'ids'", where);
  if (options.chat && json.contains("messages")) {
    row.text = options.chat(json["messages"].dump(), true, where);
    return row;
  }
  const auto text = json.find(options.column);
  if (text == json.end() || !text->is_string())
    fail("{}: expected a text '{}' or token ids 'ids'", where, options.column);
  row.text = text->get<std::string>();
  if (options.chat) row.text = options.chat(*row.text, false, where);
  return row;
}

std::vector<Row> read_rows(const PromptOptions& options) {
  std::vector<Row> rows;
  for (const std::string& file : expand_globs(options.files)) {
    if (options.ids_only || (options.pattern.empty() && is_json_lines(file))) {
      LineReader lines(file);
      for (std::string_view line; lines.next(line);)
        if (line.find_first_not_of(" \t\r") != line.npos)
          rows.push_back(json_row(line, lines.where(), options, rows.size()));
      continue;
    }
    const Table table = read_table(std::span(&file, 1));
    for (std::int64_t row = 0; row < table.rows(); ++row) {
      const auto i = static_cast<std::size_t>(row);
      std::string text = options.pattern.empty() ? table.column(options.column)[i]
                                                 : fill_template(options.pattern, table, row);
      if (options.chat) text = options.chat(text, false, table.where(row));
      const Json id =
          table.has(options.id_column) ? Json(table.column(options.id_column)[i]) : Json(rows.size());
      rows.push_back({id, text, {}});
    }
  }
  if (rows.empty()) fail("{}: no prompts", options.files.empty() ? "--prompts" : options.files[0]);
  return rows;
}

}  // namespace

Prompts read_prompts(const PromptOptions& options, const FoundTokenizer& tokenizer) {
  std::vector<Row> rows = read_rows(options);
  std::vector<std::string> texts, names;
  for (const Row& row : rows)
    if (row.text) texts.push_back(*row.text), names.push_back(id_text(row.id));
  Inputs inputs;
  if (!texts.empty()) inputs = text_inputs(texts, names, options.bos, tokenizer.get());
  Prompts prompts;
  std::size_t text = 0;
  for (Row& row : rows) {
    prompts.ids.push_back(std::move(row.id));
    if (row.text) {
      const auto& all = inputs.documents;
      row.tokens.assign(all.tokens.begin() + all.starts[text], all.tokens.begin() + all.starts[text + 1]);
      ++text;
    }
    prompts.tokens.push_back(std::move(row.tokens));
  }
  return prompts;
}

Inputs documents_of(const Prompts& prompts) {
  Inputs inputs;
  inputs.documents.starts.push_back(0);
  for (std::size_t i = 0; i < prompts.ids.size(); ++i) {
    const auto& tokens = prompts.tokens[i];
    inputs.documents.ids.push_back(id_text(prompts.ids[i]));
    inputs.documents.tokens.insert(inputs.documents.tokens.end(), tokens.begin(), tokens.end());
    inputs.documents.starts.push_back(static_cast<std::int64_t>(inputs.documents.tokens.size()));
  }
  return inputs;
}

FoundTokenizer find_tokenizer(const std::filesystem::path& model) {
  try {
    return {load_tokenizer(model), {}};
  } catch (const Error& error) {
    return {nullptr, error.what()};
  }
}

const Tokenizer& FoundTokenizer::get() const {
  if (!tokenizer)
    fail_hint("token ids need none: {\"ids\": [..]} a line", "no tokenizer for texts: {}", missing);
  return *tokenizer;
}

std::string id_text(const Json& id) { return id.is_string() ? id.get<std::string>() : id.dump(); }
std::string json_line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace sonde
