#include <algorithm>

#include "io/tokenizer/added_tokens.h"
#include "io/tokenizer/byte_trie.h"
#include "io/tokenizer/text_cursor.h"

namespace sonde {
namespace {

class HuggingFaceFinder final : public AddedTokenFinder {
 public:
  explicit HuggingFaceFinder(const std::vector<AddedToken>& tokens) : tokens_(tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      trie_.insert(tokens[i].content, static_cast<std::int32_t>(i));
  }

  void split(std::string_view whole, std::uint32_t first, std::uint32_t last, SpecialText special,
             std::vector<Fragment>& out) const override {
    const std::string_view text = whole.substr(0, last);
    const TextCursor cursor(text.data(), classes_);
    std::uint32_t done = first;
    // A match that is not taken still hides what overlaps it, as in the reference.
    for (Hit hit = next_match(text, done); hit.token >= 0; hit = next_match(text, hit.end)) {
      const AddedToken& token = tokens_[static_cast<std::size_t>(hit.token)];
      if (token.special && special == SpecialText::plain) continue;
      std::uint32_t begin = hit.begin, end = hit.end;
      const bool follows_word = begin > first && (cursor.classes(cursor.previous(begin)) & kWord);
      const bool leads_word = end < last && (cursor.classes(end) & kWord);
      if (token.single_word && (follows_word || leads_word)) continue;
      if (token.lstrip) {
        while (begin > first && (cursor.classes(cursor.previous(begin)) & kSpace))
          begin = cursor.previous(begin);
        begin = std::max(begin, done);
      }
      if (token.rstrip) end = cursor.run_of(kSpace, end, last);
      if (done < begin) out.push_back({done, begin, -1});
      if (begin < end) out.push_back({begin, end, token.id});  // else spaces that rstrip took before
      done = end;
    }
    if (done < last) out.push_back({done, last, -1});
  }

 private:
  struct Hit {
    std::uint32_t begin, end;
    std::int32_t token;  // < 0: none
  };
  // The leftmost match at or after `at`, of those the longest.
  Hit next_match(std::string_view text, std::uint32_t at) const {
    Hit hit{at, at, -1};
    for (; at < text.size() && hit.token < 0; ++at)
      if (trie_.may_begin(text[at]))
        trie_.match(text, at, [&](std::size_t end, std::int32_t token) {
          hit = {at, static_cast<std::uint32_t>(end), token};
        });
    return hit;
  }

  const CharClasses& classes_ = CharClasses::hugging_face();
  std::vector<AddedToken> tokens_;
  ByteTrie trie_;
};

}  // namespace

std::unique_ptr<AddedTokenFinder> make_hugging_face_finder(const std::vector<AddedToken>& tokens) {
  return std::make_unique<HuggingFaceFinder>(tokens);
}

}  // namespace sonde
