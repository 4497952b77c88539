// The parts of a tokenizer.json beside its vocabulary. A component that is not known stops the load by its
// name.
#pragma once

#include <string>
#include <vector>

#include "io/tokenizer/json_fields.h"
#include "io/tokenizer/pipeline.h"
#include "io/tokenizer/regex.h"

namespace sonde {

[[noreturn]] void refuse_component(const JsonField& component, std::string_view what,
                                   std::string_view supported);

// A pattern {"String": ..} or {"Regex": ..}.
struct HfPattern {
  std::string literal;
  std::unique_ptr<Regex> regex;  // null: the literal
};
HfPattern read_pattern(const JsonField& component);

// Appends the stages.
void read_normalizer(const JsonField& root, TokenizerParts& parts);
// Appends the stages but for a ByteLevel's letters at the very end, which the model may do without.
struct PreTokenizerSummary {
  std::string description;     // "Digits+ByteLevel"
  bool ends_in_bytes = false;  // the pieces are still to become letters of the byte alphabet
};
PreTokenizerSummary read_pre_tokenizer(const JsonField& root, TokenizerParts& parts);
// Sets prefix and suffix.
void read_post_processor(const JsonField& root, TokenizerParts& parts);
// tokens: text of each id, special where skip_special leaves it out.
std::unique_ptr<TokenDecoder> read_decoder(const JsonField& root, std::vector<DecodedToken> tokens);

}  // namespace sonde
