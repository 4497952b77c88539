// The texts of continuations, token by token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "apps/prompts.h"

namespace sonde {

class Continuations {
 public:
  // tokenizer may be null: then there is no text.
  Continuations(const Tokenizer* tokenizer, const Prompts& prompts, std::vector<std::string> stops)
      : tokenizer_(tokenizer), prompts_(prompts), stops_(std::move(stops)) {}

  // What the generated ids add to the prompt's text; special tokens stand there as they are written.
  std::string text(std::size_t prompt, std::span<const std::int32_t> generated) const;
  // Where the first stop string begins, or npos.
  std::size_t stop_at(const std::string& text) const;
  // Bytes of text that nothing behind it can change: neither a character that is not complete nor the
  // beginning of a stop string.
  std::size_t settled(const std::string& text) const;
  bool has_stops() const { return !stops_.empty(); }

 private:
  std::string decode(std::span<const std::int32_t> ids) const;

  const Tokenizer* tokenizer_;
  const Prompts& prompts_;
  std::vector<std::string> stops_;
};

}  // namespace sonde
