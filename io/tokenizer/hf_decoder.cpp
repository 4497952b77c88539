#include <utility>

#include "io/tokenizer/decoder.h"
#include "io/tokenizer/utf8.h"

namespace sonde {
namespace {

class ByteLevelDecoder final : public TokenDecoder {
 public:
  explicit ByteLevelDecoder(std::vector<DecodedToken> tokens) : tokens_(std::move(tokens)) {}

  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const override {
    std::string text;
    for (const std::int32_t id : ids) {
      const DecodedToken& token = tokens_[static_cast<std::size_t>(id)];
      if (!(skip_special && token.is_special)) text += token.bytes;
    }
    return valid_utf8_prefix(text) == text.size() ? text : replace_invalid_utf8(text);
  }

 private:
  std::vector<DecodedToken> tokens_;
};

}  // namespace

std::unique_ptr<TokenDecoder> make_byte_level_decoder(std::vector<DecodedToken> tokens) {
  return std::make_unique<ByteLevelDecoder>(std::move(tokens));
}

}  // namespace sonde
