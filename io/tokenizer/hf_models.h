// The vocabulary and model of a tokenizer.json.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/tokenizer/added_tokens.h"
#include "io/tokenizer/json_fields.h"
#include "io/tokenizer/model.h"
#include "io/tokenizer/vocabulary.h"

namespace sonde {

struct HfVocabulary {
  TokenIndex index;               // of the model, without added tokens
  std::int64_t model_size = 0;    // how many tokens the library counts in the model
  std::vector<AddedToken> added;  // in the file's order
  std::int64_t size = 0;          // largest id + 1
  std::int32_t id_of(const std::string& text) const;
};

// Fills index, model_size and size. `is_byte_level`: the pieces are still to become letters of the byte
// alphabet; set to false where the model takes their bytes as they are.
std::unique_ptr<TokenModel> read_model(const JsonField& root, HfVocabulary& vocabulary, bool& is_byte_level,
                                       std::string& description);

}  // namespace sonde
