#include <utility>

#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/decode_steps.h"
#include "io/tokenizer/decoder.h"
#include "io/tokenizer/hf_components.h"
#include "io/tokenizer/utf8.h"

namespace sonde {
namespace {

// ByteLevel alone: the tokens' bytes, what is not UTF-8 as U+FFFD.
class ByteLevelDecoder final : public TokenDecoder {
 public:
  explicit ByteLevelDecoder(std::vector<DecodedToken> tokens) : tokens_(std::move(tokens)) {
    for (DecodedToken& token : tokens_)
      if (auto bytes = bytes_of_token(token.bytes)) token.bytes = std::move(*bytes);
  }

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

class StepsDecoder final : public TokenDecoder {
 public:
  StepsDecoder(std::vector<DecodedToken> tokens, DecodeSteps steps, std::string between)
      : tokens_(std::move(tokens)), steps_(std::move(steps)), between_(std::move(between)) {}

  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const override {
    std::vector<std::string> texts;
    texts.reserve(ids.size());
    for (const std::int32_t id : ids) {
      const DecodedToken& token = tokens_[static_cast<std::size_t>(id)];
      if (token.is_known && !(skip_special && token.is_special)) texts.push_back(token.bytes);
    }
    for (const auto& step : steps_) step->apply(texts);
    std::string text;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (i > 0) text += between_;
      text += texts[i];
    }
    return text;
  }

 private:
  std::vector<DecodedToken> tokens_;
  DecodeSteps steps_;
  std::string between_;
};

void read_step(const JsonField& decoder, DecodeSteps& steps, int depth) {
  const std::string type = decoder.type();
  const auto add = [&](std::unique_ptr<DecodeStep> step) { steps.push_back(std::move(step)); };
  if (type == "ByteLevel") return add(make_byte_level_step());
  if (type == "ByteFallback") return add(make_byte_fallback_step());
  if (type == "Fuse") return add(make_fuse_step());
  if (type == "Strip")
    return add(
        make_strip_step(decoder.at("content").character(), decoder.count("start"), decoder.count("stop")));
  if (type == "Metaspace") {
    const bool has_scheme = decoder.has("prepend_scheme");
    const bool never = has_scheme ? decoder.at("prepend_scheme").text() == "never"
                                  : !decoder.boolean("add_prefix_space", true);
    return add(make_metaspace_step(decoder.at("replacement").character(), !never));
  }
  if (type == "WordPiece")
    return add(make_word_piece_step(decoder.at("prefix").text(), decoder.at("cleanup").boolean()));
  if (type == "BPEDecoder") return add(make_suffix_step(decoder.at("suffix").text()));
  if (type == "CTC")
    return add(make_ctc_step(decoder.at("pad_token").text(), decoder.at("word_delimiter_token").text(),
                             decoder.at("cleanup").boolean()));
  if (type == "Replace") {
    HfPattern pattern = read_pattern(decoder);
    return add(make_replace_step(std::move(pattern.literal), std::move(pattern.regex),
                                 decoder.at("content").text()));
  }
  if (type == "Sequence") {
    if (depth > 32) refuse_component(decoder, "a Sequence in 32 others", "fewer");
    const JsonField list = decoder.at("decoders");
    for (std::size_t i = 0; i < list.array().value.size(); ++i) read_step(list.element(i), steps, depth + 1);
    return;
  }
  refuse_component(
      decoder, "decoder " + type,
      "ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, WordPiece, BPEDecoder, CTC or Sequence");
}

}  // namespace

std::unique_ptr<TokenDecoder> read_decoder(const JsonField& root, std::vector<DecodedToken> tokens) {
  DecodeSteps steps;
  if (!root.has("decoder")) return std::make_unique<StepsDecoder>(std::move(tokens), std::move(steps), " ");
  const JsonField decoder = root.at("decoder");
  if (decoder.type() == "ByteLevel") return std::make_unique<ByteLevelDecoder>(std::move(tokens));
  read_step(decoder, steps, 0);
  return std::make_unique<StepsDecoder>(std::move(tokens), std::move(steps), "");
}

}  // namespace sonde
