// The documents of a run: token ids, their names, and the tokens chosen by a mask or a span.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/table.h"
#include "io/tokenizer/tokenizer.h"
#include "models/token_selector.h"

namespace sonde {

struct Inputs {
  TokenIds documents;
  // For mask and span selectors: ascending positions per document; empty otherwise.
  std::vector<std::vector<std::int32_t>> positions;
  std::string fingerprint;  // sha256 over ids, tokens and positions

  std::int64_t size() const { return static_cast<std::int64_t>(documents.ids.size()); }
  std::int64_t length(std::int64_t document) const {
    return documents.starts[static_cast<std::size_t>(document) + 1] -
           documents.starts[static_cast<std::size_t>(document)];
  }
  // The tokens that `selector` chooses of a document of which the first `length` tokens run, ascending.
  std::vector<std::int32_t> select(const TokenSelector& selector, std::int64_t document,
                                   std::int64_t length) const;
};

struct TextOptions {
  std::vector<std::string> files;
  std::string column = "text";
  std::string pattern;           // template; empty: the column as it is
  std::string id_column = "id";  // used where the table has it
  std::optional<bool> bos;       // override of what the tokenizer adds
  // Chat template over a text, or over the column `messages` where there is one and `column` is "text".
  std::function<std::string(const std::string& text, bool is_messages, const std::string& where)> chat;
};

// Reads, fills the template and tokenises, in parallel over documents.
Inputs text_inputs(const TextOptions& options, const Tokenizer& tokenizer, const TokenSelector& selector);
// The same from texts at hand (noise already applied), one document each.
Inputs text_inputs(const std::vector<std::string>& texts, const std::vector<std::string>& ids,
                   std::optional<bool> bos, const Tokenizer& tokenizer);
// {"ids": [..]} a line; a mask selector reads its column from the same lines. `vocab` bounds the ids.
Inputs id_inputs(const std::vector<std::string>& files, const TokenSelector& selector, std::int64_t vocab);

// The same from ids at hand.
Inputs id_inputs(std::vector<std::string> ids, const std::vector<std::vector<std::int32_t>>& tokens);

// Every id must be a row of the embedding table.
void check_ids(const Inputs& inputs, std::int64_t vocab);

}  // namespace sonde
