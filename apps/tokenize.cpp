// sonde tokenize: texts to token ids, or ids to text.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdio>

#include "apps/chat.h"
#include "apps/command.h"
#include "io/file_util.h"
#include "io/json.h"
#include "io/table.h"
#include "io/text_reader.h"
#include "io/tokenizer/encode_batch.h"
#include "io/tokenizer/tokenizer.h"
#include "io/tokenizer/utf8.h"
#include "runtime/error.h"

namespace sonde {
namespace {

const Help kHelp = {
    "tokenize MODEL --texts FILE... --out IDS.jsonl [options]",
    "Writes {\"id\": .., \"ids\": [..]} for every text, or with --decode {\"id\": .., \"text\": ..} for "
    "every list of "
    "ids.\nMODEL: a Hugging Face folder, a tokenizer.json, a folder with only that, or a .gguf with a "
    "vocabulary.\n"
    "Special tokens in the text become their ids, and nothing is added; see --special and --plain.",
    "  sonde tokenize model.gguf --texts reviews.csv --column review --out ids.jsonl\n"
    "  # with the bos and eos that the tokenizer itself adds\n"
    "  sonde tokenize model/ --texts 'corpus/*.jsonl.zst' --special --out ids.jsonl\n"
    "  # and back\n"
    "  sonde tokenize model/ --decode --texts ids.jsonl --skip-special --out texts.jsonl\n"};

po::options_description tokenize_options() {
  po::options_description o("Options");
  auto add = o.add_options();
  add("texts", po::value<std::vector<std::string>>()->multitoken(),
      "CSV, TSV, JSONL or plain lines, .gz and .zst; files or globs");
  add("column", po::value<std::string>()->default_value("text"), "column that holds the text");
  add("id-column", po::value<std::string>()->default_value("id"),
      "column with the texts' ids; row numbers where there is none");
  add("out", po::value<std::string>(), "file to write");
  add("special", "add what the tokenizer adds around a text (bos, eos)");
  add("plain", "special tokens in the text are ordinary text");
  add("decode", "the other way: --texts (or --ids) holds {\"id\": .., \"ids\": [..]} a line");
  add("ids", po::value<std::vector<std::string>>()->multitoken(), "token ids to decode");
  add_chat_options(o);
  add("skip-special", "with --decode: leave special tokens out");
  return o;
}

bool is_json_lines(const std::string& file) {
  std::string_view name = file;
  for (const std::string_view end : {".gz", ".zst"})
    if (name.ends_with(end)) name.remove_suffix(end.size());
  return name.ends_with(".jsonl") || name.ends_with(".ndjson");
}

// Tables hold ids as text; whether a file wrote them as numbers is read off its first row.
bool has_number_ids(const std::string& file, const std::string& id_column) {
  std::error_code error;
  if (!is_json_lines(file) || !std::filesystem::exists(file, error)) return false;
  LineReader lines(file);
  for (std::string_view line; lines.next(line);) {
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const Json row = parse_json(line, lines.where());
    return row.is_object() && (!row.contains(id_column) || row[id_column].is_number());
  }
  return false;
}

std::string json_text(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string json_id(const std::string& id, bool is_number) {
  return is_number && Json::accept(id) && Json::parse(id).is_number() ? id : json_text(id);
}

std::vector<std::string> paths_of(const po::variables_map& values, const char* option) {
  return values.count(option) ? values[option].as<std::vector<std::string>>() : std::vector<std::string>();
}

void write_lines(const std::string& out, const std::vector<std::string>& lines) {
  std::size_t bytes = 0;
  for (const std::string& line : lines) bytes += line.size();
  std::string text;
  text.reserve(bytes);
  for (const std::string& line : lines) text += line;
  write_file_atomically(out, text);
}

void encode_texts(const Tokenizer& tokenizer, const po::variables_map& values, const std::string& out) {
  const auto& id_column = values["id-column"].as<std::string>();
  const Table table = read_table(paths_of(values, "texts"));
  const ChatRewrite chat = read_chat_options(values, values["MODEL"].as<std::string>(), tokenizer);
  const bool messages = chat && values["column"].defaulted() && table.has("messages");
  std::vector<std::string> texts = table.column(messages ? "messages" : values["column"].as<std::string>());
  if (chat)
    for (std::size_t i = 0; i < texts.size(); ++i)
      texts[i] = chat(texts[i], messages, table.where(static_cast<std::int64_t>(i)));
  const bool has_ids = table.has(id_column);
  if (!has_ids && !values["id-column"].defaulted()) table.column(id_column);  // says which columns there are
  const std::vector<std::string>* ids = has_ids ? &table.column(id_column) : nullptr;
  std::vector<bool> number_ids;  // per file
  for (const std::string& file : table.files) number_ids.push_back(has_number_ids(file, id_column));

  const SpecialText special = values.count("plain") ? SpecialText::plain : SpecialText::parse;
  const AddSpecial add = values.count("special") ? AddSpecial::tokenizer : AddSpecial::none;
  std::vector<std::string> lines(texts.size());
  std::atomic<std::int64_t> tokens = 0, broken = 0, broken_texts = 0;
  for_each_parallel(texts.size(), [&](std::size_t i) {
    std::vector<std::int32_t> encoded;
    tokenizer.encode(texts[i], special, add, encoded);
    tokens += static_cast<std::int64_t>(encoded.size());
    if (const std::int64_t bad = count_invalid_utf8(texts[i])) broken += bad, ++broken_texts;
    std::string id = std::to_string(i);
    if (ids) {
      const auto after = std::ranges::upper_bound(table.first_row_of_file, static_cast<std::int64_t>(i));
      id = json_id((*ids)[i],
                   number_ids[static_cast<std::size_t>(after - table.first_row_of_file.begin()) - 1]);
    }
    lines[i] = fmt::format("{{\"id\":{},\"ids\":[{}]}}\n", id, fmt::join(encoded, ","));
  });
  write_lines(out, lines);
  if (broken > 0)
    fmt::print(stderr, "sonde: warning: {} broken UTF-8 sequences in {} of {} texts were read as U+FFFD\n",
               broken.load(), broken_texts.load(), texts.size());
  fmt::print(stderr, "{} texts, {} tokens: {}\n", texts.size(), tokens.load(), out);
}

void decode_ids(const Tokenizer& tokenizer, const po::variables_map& values, const std::string& out) {
  const std::vector<std::string> paths = paths_of(values, values.count("ids") ? "ids" : "texts");
  const TokenIds documents = read_token_ids(paths);
  const bool number_ids =
      std::ranges::all_of(paths, [](const std::string& file) { return has_number_ids(file, "id"); });
  const bool skip_special = values.count("skip-special") > 0;
  std::vector<std::string> lines(documents.ids.size());
  for_each_parallel(lines.size(), [&](std::size_t i) {
    const auto begin = static_cast<std::size_t>(documents.starts[i]),
               end = static_cast<std::size_t>(documents.starts[i + 1]);
    const std::string text =
        tokenizer.decode(std::span(documents.tokens).subspan(begin, end - begin), skip_special);
    lines[i] = fmt::format("{{\"id\":{},\"text\":{}", json_id(documents.ids[i], number_ids), json_text(text));
    if (count_invalid_utf8(text) > 0) {  // what JSON cannot hold
      lines[i] += ",\"hex\":\"";
      for (const unsigned char byte : text) lines[i] += fmt::format("{:02x}", byte);
      lines[i] += "\"";
    }
    lines[i] += "}\n";
  });
  write_lines(out, lines);
  fmt::print(stderr, "{} texts, {} tokens: {}\n", lines.size(), documents.tokens.size(), out);
}

}  // namespace

int run_tokenize(const Arguments& arguments) {
  po::variables_map values;
  if (!parse_options(arguments, kHelp, tokenize_options(), {"MODEL"}, values)) return 0;
  const bool decode = values.count("decode") > 0;
  if (!values.count("out")) throw UsageError("--out is missing", "the file to write");
  if (values.count("special") && values.count("plain"))
    throw UsageError("--special and --plain exclude each other");
  if (!decode && (values.count("ids") || values.count("skip-special")))
    throw UsageError("--ids and --skip-special belong to --decode");
  if (decode && (values.count("special") || values.count("plain")))
    throw UsageError("--special and --plain are about encoding; with --decode there is --skip-special");
  if (asks_for_chat(values) && (decode || values.count("special") || values.count("plain")))
    throw UsageError("--chat writes the special tokens itself: --decode, --special and --plain exclude it");
  if (values.count("texts") + values.count("ids") != 1)
    throw UsageError(decode ? "give the ids as --texts or --ids, one of the two" : "--texts is missing",
                     "usage: sonde " + kHelp.usage);
  const auto tokenizer = load_tokenizer(values["MODEL"].as<std::string>());
  const auto& out = values["out"].as<std::string>();
  decode ? decode_ids(*tokenizer, values, out) : encode_texts(*tokenizer, values, out);
  return 0;
}

}  // namespace sonde
