#include <string_view>
#include <utility>

#include "io/tokenizer/decoder.h"

namespace sonde {
namespace {

// Copies text[0] and then calls step(i, out) for every later byte; step appends what stays.
template <class Step>
void rewrite(std::string& text, Step step) {
  if (text.empty()) return;
  std::string out(1, text[0]);
  out.reserve(text.size());
  for (std::size_t i = 1; i < text.size(); ++i) step(i, out);
  text.swap(out);
}

// llama.cpp's clean-up of spaces: three passes, each over the result of the one before and looking back at
// its input.
void clean_spaces(std::string& text) {
  rewrite(text, [&](std::size_t i, std::string& out) {  // " ?" " !" " ." " ,"
    const char c = text[i];
    if (text[i - 1] == ' ' && (c == '?' || c == '!' || c == '.' || c == ',')) out.pop_back();
    out.push_back(c);
  });
  rewrite(text, [&](std::size_t& i, std::string& out) {  // " ' "
    const char c = text[i];
    if (c == '\'' && i + 1 < text.size() && text[i - 1] == ' ' && text[i + 1] == ' ') {
      out.pop_back();
      text[++i] = '\0';  // skipped, and no longer a space for what follows
    }
    out.push_back(c);
  });
  rewrite(text, [&](std::size_t i, std::string& out) {  // " 's" " 'm" " 're" " 've"
    const std::string_view rest = std::string_view(text).substr(i);
    const auto begins = [&](std::string_view contraction) { return rest.starts_with(contraction); };
    if (text[i - 1] == ' ' && (begins("'s") || begins("'m") || begins("'re") || begins("'ve")))
      out.pop_back();
    out.push_back(text[i]);
  });
}

class LlamaCppDecoder final : public TokenDecoder {
 public:
  LlamaCppDecoder(std::vector<DecodedToken> tokens, LlamaCppDecoding options)
      : tokens_(std::move(tokens)), options_(options) {}

  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const override {
    bool drop_space = options_.drop_first_space;
    if (skip_special) {
      if (!ids.empty() && ids.front() == options_.added_bos) {
        ids = ids.subspan(1);
        drop_space = false;
      }
      if (!ids.empty() && ids.back() == options_.added_eos) ids = ids.first(ids.size() - 1);
    }
    std::string text;
    for (const std::int32_t id : ids) {
      const DecodedToken& token = tokens_[static_cast<std::size_t>(id)];
      if (!(skip_special && token.is_special)) text += token.bytes;
      if (drop_space && text.starts_with(' ')) text.erase(0, 1);
      drop_space = false;
    }
    if (options_.clean_spaces) clean_spaces(text);
    return text;
  }

 private:
  std::vector<DecodedToken> tokens_;
  LlamaCppDecoding options_;
};

}  // namespace

std::unique_ptr<TokenDecoder> make_llama_cpp_decoder(std::vector<DecodedToken> tokens,
                                                     LlamaCppDecoding options) {
  return std::make_unique<LlamaCppDecoder>(std::move(tokens), options);
}

}  // namespace sonde
