// Text to token ids and back, exactly as the model's own tokenizer does it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sonde {

// parse: special tokens in the text become their ids (the default of both reference libraries).
// plain: special tokens in the text are ordinary text; non-special added tokens are still found.
enum class SpecialText { parse, plain };
// tokenizer: what the tokenizer itself adds around a text (bos/eos); yes/no: force a bos.
enum class AddSpecial { none, tokenizer };

struct Encoding {
  std::vector<std::int32_t> ids;
  // Token i covers bytes [begin[i], end[i]) of the input text; added special tokens cover nothing (begin ==
  // end).
  std::vector<std::uint32_t> begin, end;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // `text` is UTF-8; invalid bytes are replaced as Python's errors="replace" does (count_invalid_utf8 of
  // io/tokenizer/utf8.h counts them for a warning). What `ids` held is overwritten. Thread-safe.
  virtual void encode(std::string_view text, SpecialText special, AddSpecial add,
                      std::vector<std::int32_t>& ids) const = 0;
  virtual Encoding encode_with_offsets(std::string_view text, SpecialText special, AddSpecial add) const = 0;
  // Bytes of the ids, which must lie in [0, vocab_size); broken UTF-8 becomes U+FFFD where the tokenizer's
  // reference library does so.
  virtual std::string decode(std::span<const std::int32_t> ids, bool skip_special) const = 0;

  virtual std::int64_t vocab_size() const = 0;
  virtual std::int32_t bos() const = 0;         // -1: none
  virtual std::int32_t eos() const = 0;         // -1: none
  virtual std::string describe() const = 0;     // "byte-level BPE, 49152 tokens, pre-tokenizer smollm"
  virtual std::string fingerprint() const = 0;  // sha256 of what decides its results
};

// MODEL: a Hugging Face folder (tokenizer.json, tokenizer_config.json), a folder with only a tokenizer.json,
// a tokenizer.json, or a .gguf with a vocabulary. An unsupported component is an Error that names it.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model);

}  // namespace sonde
