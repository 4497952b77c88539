// The third stage of a tokenizer: pieces of text to token ids.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "io/tokenizer/pre_tokenizer.h"

namespace sonde {

// Ids found so far; with want_spans (which needs Pieces::want_spans) also the bytes of the source that each
// covers.
struct TokenList {
  bool want_spans = false;
  std::vector<std::int32_t> ids;
  std::vector<Span> spans;
};

// What one thread needs while it encodes: buffers, caches. Made by the model that uses it.
class ModelScratch {
 public:
  virtual ~ModelScratch() = default;
};

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  virtual std::unique_ptr<ModelScratch> make_scratch() const = 0;
  // Appends the tokens of every piece. Thread-safe with a scratch per thread.
  virtual void encode(const Pieces& pieces, ModelScratch& scratch, TokenList& tokens) const = 0;
};

}  // namespace sonde
