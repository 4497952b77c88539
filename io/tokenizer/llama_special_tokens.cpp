#include <utility>

#include "io/tokenizer/added_tokens.h"
#include "io/tokenizer/byte_trie.h"

namespace sonde {
namespace {

class LlamaCppFinder final : public AddedTokenFinder {
 public:
  explicit LlamaCppFinder(std::vector<GgufSpecialToken> tokens) : tokens_(std::move(tokens)) {
    for (std::size_t i = 0; i < tokens_.size(); ++i)
      trie_.insert(tokens_[i].text, static_cast<std::int32_t>(i));
  }

  void split(std::string_view text, std::uint32_t begin, std::uint32_t end, SpecialText special,
             std::vector<Fragment>& fragments) const override {
    if (begin == end) return;
    // One pass tells which tokens occur at all; only those are worth a search each.
    std::vector<bool> occurs;
    for (std::size_t at = begin; at < end; ++at) {
      if (!trie_.may_begin(text[at])) continue;
      trie_.match(text.substr(0, end), at, [&](std::size_t, std::int32_t token) {
        occurs.resize(tokens_.size());
        occurs[static_cast<std::size_t>(token)] = true;
      });
    }
    std::vector<Fragment> found{{begin, end, -1}}, spare;
    for (std::size_t i = 0; i < occurs.size(); ++i) {
      if (!occurs[i] || (special == SpecialText::plain && tokens_[i].only_when_parsed)) continue;
      spare.clear();
      for (const Fragment& fragment : found) {
        if (fragment.id < 0)
          search(tokens_[i], text, fragment, spare);
        else
          spare.push_back(fragment);
      }
      found.swap(spare);
    }
    fragments.insert(fragments.end(), found.begin(), found.end());
  }

 private:
  static void search(const GgufSpecialToken& token, std::string_view text, const Fragment& fragment,
                     std::vector<Fragment>& out) {
    constexpr std::string_view kSpaces = " \t\n\v\f\r";
    const auto is_space = [&](std::uint32_t at) { return kSpaces.find(text[at]) != kSpaces.npos; };
    std::uint32_t done = fragment.begin;
    const std::string_view within = text.substr(0, fragment.end);
    for (std::size_t at; (at = within.find(token.text, done)) != std::string_view::npos;) {
      const auto begin = static_cast<std::uint32_t>(at);
      std::uint32_t end_before = begin;
      while (token.strips_left && end_before > done && is_space(end_before - 1)) --end_before;
      if (done < end_before) out.push_back({done, end_before, -1});
      done = begin + static_cast<std::uint32_t>(token.text.size());
      out.push_back({begin, done, token.id});
      while (token.strips_right && done < fragment.end && is_space(done)) ++done;
    }
    if (done < fragment.end) out.push_back({done, fragment.end, -1});
  }

  std::vector<GgufSpecialToken> tokens_;
  ByteTrie trie_;
};

}  // namespace

std::unique_ptr<AddedTokenFinder> make_llama_cpp_finder(std::vector<GgufSpecialToken> tokens) {
  return std::make_unique<LlamaCppFinder>(std::move(tokens));
}

}  // namespace sonde
