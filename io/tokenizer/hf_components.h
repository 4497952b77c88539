// The parts of a tokenizer.json beside its vocabulary.
#pragma once

#include "io/tokenizer/json_fields.h"
#include "io/tokenizer/pipeline.h"

namespace sonde {

void refuse_normalizer(const JsonField& root);
// Appends the stages; returns their short description ("Digits+ByteLevel").
std::string read_pre_tokenizer(const JsonField& root, TokenizerParts& parts);
// Sets prefix and suffix.
void read_post_processor(const JsonField& root, TokenizerParts& parts);
void check_decoder(const JsonField& root);

}  // namespace sonde
