// The first stage of a tokenizer: tokens that are found in the raw text before anything else looks at it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/tokenizer/tokenizer.h"

namespace sonde {

// A stretch of the text: an added token, or (id < 0) text for the later stages.
struct Fragment {
  std::uint32_t begin, end;
  std::int32_t id;
};

class AddedTokenFinder {
 public:
  virtual ~AddedTokenFinder() = default;
  // Appends what text[begin, end) is cut into; nothing when it is empty.
  virtual void split(std::string_view text, std::uint32_t begin, std::uint32_t end, SpecialText special,
                     std::vector<Fragment>& fragments) const = 0;
};

// Longer ones are refused: searching costs up to this many steps a byte of text.
inline constexpr std::size_t kMaxAddedTokenBytes = 4096;

// An entry of tokenizer.json's added_tokens.
struct AddedToken {
  std::int32_t id;
  std::string content;
  bool special = false, single_word = false, lstrip = false, rstrip = false, normalized = false;
};
// As Hugging Face's library does: leftmost-longest. Tokens that are `normalized` need a finder of their own,
// which runs on the text between the others once that is normalised.
std::unique_ptr<AddedTokenFinder> make_hugging_face_finder(const std::vector<AddedToken>& tokens);

// A token of a GGUF vocabulary that is looked for in the text.
struct GgufSpecialToken {
  std::int32_t id;
  std::string text;
  bool only_when_parsed;  // CONTROL and UNKNOWN tokens; user-defined ones are found always
  bool strips_left = false, strips_right = false;  // swallows ASCII spaces beside it
};
// As llama.cpp does: one token after the other through the whole text, in the order given.
std::unique_ptr<AddedTokenFinder> make_llama_cpp_finder(std::vector<GgufSpecialToken> tokens);

}  // namespace sonde
