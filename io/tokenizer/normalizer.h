// Stages that rewrite a text before it is cut (tokenizer.json's normalizers). They work on Pieces like
// pre-tokenizers and run before them, on each stretch between added tokens.
#pragma once

#include <memory>
#include <string>

#include "io/tokenizer/normal_forms.h"
#include "io/tokenizer/pre_tokenizer.h"
#include "io/tokenizer/regex.h"

namespace sonde {

std::unique_ptr<PreTokenizer> make_normal_form(NormalForm form);
std::unique_ptr<PreTokenizer> make_lower_case();
std::unique_ptr<PreTokenizer> make_strip_accents();  // takes marks out
std::unique_ptr<PreTokenizer> make_strip(bool left, bool right);
std::unique_ptr<PreTokenizer> make_prepend(std::string text);
std::unique_ptr<PreTokenizer> make_replace(std::string literal, std::string content);
std::unique_ptr<PreTokenizer> make_replace(std::unique_ptr<Regex> regex, std::string content);
// SentencePiece's clean-up of control characters and odd spaces.
std::unique_ptr<PreTokenizer> make_nmt();

// SentencePiece's compiled rules: a double array of prefixes, and the texts in their place. `file` and `key`
// name them in errors.
class CharsMap {
 public:
  CharsMap(const std::string& bytes, const std::string& file, const std::string& key);
  // The replacement of a prefix of text, or false. matched: its bytes.
  enum class Which { first, longest };
  bool find(std::string_view text, Which which, std::string_view& replacement, std::size_t& matched) const;

 private:
  std::vector<std::uint32_t> units_;
  std::string replacements_;  // each ends with NUL
};
std::unique_ptr<PreTokenizer> make_precompiled(CharsMap map);  // as Hugging Face's library applies it

}  // namespace sonde
