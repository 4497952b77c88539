#include "io/tokenizer/decode_steps.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/utf8.h"

namespace sonde {
namespace {

using Tokens = std::vector<std::string>;

void replace_all(std::string& text, std::string_view from, std::string_view to, std::size_t most = SIZE_MAX) {
  if (from.empty() || text.find(from) == text.npos) return;
  std::string out;
  std::size_t done = 0;
  for (std::size_t at; most > 0 && (at = text.find(from, done)) != text.npos; --most) {
    out.append(text, done, at - done).append(to);
    done = at + from.size();
  }
  text = out.append(text, done);
}

// Spaces before punctuation and contractions.
void clean_up(std::string& text) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kRules = {{{" .", "."},
                                                                                     {" ?", "?"},
                                                                                     {" !", "!"},
                                                                                     {" ,", ","},
                                                                                     {" ' ", "'"},
                                                                                     {" n't", "n't"},
                                                                                     {" 'm", "'m"},
                                                                                     {" do not", " don't"},
                                                                                     {" 's", "'s"},
                                                                                     {" 've", "'ve"},
                                                                                     {" 're", "'re"}}};
  for (const auto& [from, to] : kRules) replace_all(text, from, to);
}

std::string joined(const Tokens& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

class ByteLevelStep final : public DecodeStep {
 public:
  void apply(Tokens& tokens) const override {
    std::string bytes;
    for (const std::string& token : tokens) bytes += bytes_of_token(token).value_or(token);
    tokens.assign(1, replace_invalid_utf8(bytes));
  }
};

class ReplaceStep final : public DecodeStep {
 public:
  ReplaceStep(std::string literal, std::unique_ptr<Regex> regex, std::string content)
      : literal_(std::move(literal)), regex_(std::move(regex)), content_(std::move(content)) {}

  void apply(Tokens& tokens) const override {
    for (std::string& token : tokens) {
      if (!regex_) {
        replace_all(token, literal_, content_);
        continue;
      }
      std::string out;
      std::size_t done = 0;
      regex_->for_each_match(token, 0, static_cast<std::uint32_t>(token.size()),
                             [&](std::uint32_t begin, std::uint32_t end) {
                               out.append(token, done, begin - done).append(content_);
                               done = end;
                             });
      token = out.append(token, done);
    }
  }

 private:
  std::string literal_;
  std::unique_ptr<Regex> regex_;
  std::string content_;
};

// The byte that a token like <0x0A> names, -1 for others. A plus sign is a digit to the library's parser.
int named_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  const int high = token[3] == '+' ? 0 : digit(token[3]), low = digit(token[4]);
  return high < 0 || low < 0 ? -1 : high << 4 | low;
}

class ByteFallbackStep final : public DecodeStep {
 public:
  void apply(Tokens& tokens) const override {
    Tokens out;
    std::string bytes;
    const auto flush = [&] {
      if (bytes.empty()) return;
      if (valid_utf8_prefix(bytes) == bytes.size())
        out.push_back(bytes);
      else
        out.insert(out.end(), bytes.size(), "\xEF\xBF\xBD");
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const int byte = named_byte(token); byte >= 0) {
        bytes.push_back(static_cast<char>(byte));
        continue;
      }
      flush();
      out.push_back(std::move(token));
    }
    flush();
    tokens.swap(out);
  }
};

class FuseStep final : public DecodeStep {
 public:
  void apply(Tokens& tokens) const override { tokens.assign(1, joined(tokens)); }
};

class StripStep final : public DecodeStep {
 public:
  StripStep(std::string character, std::size_t start, std::size_t stop)
      : character_(std::move(character)), start_(start), stop_(stop) {}

  void apply(Tokens& tokens) const override {
    for (std::string& token : tokens) {
      std::string_view rest = token;
      for (std::size_t i = 0; i < start_ && rest.starts_with(character_); ++i)
        rest.remove_prefix(character_.size());
      for (std::size_t i = 0; i < stop_ && rest.ends_with(character_); ++i)
        rest.remove_suffix(character_.size());
      token = std::string(rest);
    }
  }

 private:
  std::string character_;
  std::size_t start_, stop_;
};

class MetaspaceStep final : public DecodeStep {
 public:
  MetaspaceStep(std::string replacement, bool drops_first)
      : replacement_(std::move(replacement)), drops_first_(drops_first) {}

  void apply(Tokens& tokens) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      replace_all(tokens[i], replacement_, i == 0 && drops_first_ ? "" : " ");
  }

 private:
  std::string replacement_;
  bool drops_first_;
};

class WordPieceStep final : public DecodeStep {
 public:
  WordPieceStep(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}

  void apply(Tokens& tokens) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) {
        if (tokens[i].starts_with(prefix_))
          tokens[i].erase(0, prefix_.size());
        else
          tokens[i].insert(0, " ");
      }
      if (cleanup_) clean_up(tokens[i]);
    }
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

class SuffixStep final : public DecodeStep {
 public:
  explicit SuffixStep(std::string suffix) : suffix_(std::move(suffix)) {}

  void apply(Tokens& tokens) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      replace_all(tokens[i], suffix_, i + 1 == tokens.size() ? "" : " ");
  }

 private:
  std::string suffix_;
};

class CtcStep final : public DecodeStep {
 public:
  CtcStep(std::string pad, std::string delimiter, bool cleanup)
      : pad_(std::move(pad)), delimiter_(std::move(delimiter)), cleanup_(cleanup) {}

  void apply(Tokens& tokens) const override {
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    for (std::string& token : tokens) {
      replace_all(token, pad_, "");
      if (!cleanup_) continue;
      clean_up(token);
      replace_all(token, delimiter_, " ");
    }
    std::erase(tokens, "");
  }

 private:
  std::string pad_, delimiter_;
  bool cleanup_;
};

}  // namespace

std::unique_ptr<DecodeStep> make_byte_level_step() { return std::make_unique<ByteLevelStep>(); }
std::unique_ptr<DecodeStep> make_replace_step(std::string literal, std::unique_ptr<Regex> regex,
                                              std::string content) {
  return std::make_unique<ReplaceStep>(std::move(literal), std::move(regex), std::move(content));
}
std::unique_ptr<DecodeStep> make_byte_fallback_step() { return std::make_unique<ByteFallbackStep>(); }
std::unique_ptr<DecodeStep> make_fuse_step() { return std::make_unique<FuseStep>(); }
std::unique_ptr<DecodeStep> make_strip_step(std::string character, std::size_t start, std::size_t stop) {
  return std::make_unique<StripStep>(std::move(character), start, stop);
}
std::unique_ptr<DecodeStep> make_metaspace_step(std::string replacement, bool drops_first) {
  return std::make_unique<MetaspaceStep>(std::move(replacement), drops_first);
}
std::unique_ptr<DecodeStep> make_word_piece_step(std::string prefix, bool cleanup) {
  return std::make_unique<WordPieceStep>(std::move(prefix), cleanup);
}
std::unique_ptr<DecodeStep> make_suffix_step(std::string suffix) {
  return std::make_unique<SuffixStep>(std::move(suffix));
}
std::unique_ptr<DecodeStep> make_ctc_step(std::string pad, std::string delimiter, bool cleanup) {
  return std::make_unique<CtcStep>(std::move(pad), std::move(delimiter), cleanup);
}

}  // namespace sonde
