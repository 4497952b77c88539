// A tokenizer put together from its stages: added tokens, normalisers, added tokens of the normalised text,
// pre-tokenizers, model, template, and the decoder for the way back.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/tokenizer/added_tokens.h"
#include "io/tokenizer/decoder.h"
#include "io/tokenizer/model.h"
#include "io/tokenizer/pre_tokenizer.h"
#include "io/tokenizer/tokenizer.h"

namespace sonde {

struct TokenizerParts {
  std::unique_ptr<AddedTokenFinder> added;             // on the text as it came
  std::unique_ptr<AddedTokenFinder> added_normalized;  // on what lies between, after normalisers; may be null
  std::vector<std::unique_ptr<PreTokenizer>> normalizers, pre_tokenizers;
  bool needs_spans = false;  // a stage asks where in the source its text began, after another has edited it
  std::unique_ptr<TokenModel> model;
  std::vector<std::int32_t> prefix, suffix;  // AddSpecial::tokenizer
  std::unique_ptr<TokenDecoder> decoder;

  std::int64_t vocab_size = 0;  // ids lie in [0, vocab_size)
  std::int32_t bos = -1, eos = -1;
  std::string description, fingerprint;
  std::string source;  // the file, for messages
};

std::unique_ptr<Tokenizer> make_pipeline(TokenizerParts parts);

}  // namespace sonde
