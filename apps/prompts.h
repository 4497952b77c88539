// Texts or token ids, one prompt a row, with the ids that name them in the output.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/chat.h"
#include "io/json.h"
#include "io/tokenizer/tokenizer.h"
#include "models/inputs.h"

namespace sonde {

struct PromptOptions {
  std::vector<std::string> files;  // JSONL, CSV, TSV, plain lines; .gz and .zst
  std::string column = "text", id_column = "id";
  std::string pattern;      // text made of columns; empty: the column as it is
  std::optional<bool> bos;  // override of what the tokenizer adds
  bool ids_only = false;    // {"ids": [..]} a line, whatever the files' names
  ChatRewrite chat;         // of texts, and of rows that have `messages`
};

struct Prompts {
  std::vector<Json> ids;  // as the files have them: text or number; row numbers where there are none
  std::vector<std::vector<std::int32_t>> tokens;
};
Inputs documents_of(const Prompts& prompts);  // the same, packed flat

// The model's tokenizer, or why there is none: only texts need one.
struct FoundTokenizer {
  std::unique_ptr<Tokenizer> tokenizer;
  std::string missing;
  const Tokenizer& get() const;  // an Error with that reason
};
FoundTokenizer find_tokenizer(const std::filesystem::path& model);

// A JSONL row holds {"ids": [..]} or the text column.
Prompts read_prompts(const PromptOptions& options, const FoundTokenizer& tokenizer);

std::string id_text(const Json& id);  // as a document's name
// JSON on one line; what is no UTF-8 becomes U+FFFD.
std::string json_line(const Json& json);

}  // namespace sonde
