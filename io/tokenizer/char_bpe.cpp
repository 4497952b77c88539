#include "io/tokenizer/char_bpe.h"

#include "io/tokenizer/word_cache.h"

namespace sonde {
namespace {

struct Scratch final : ModelScratch {
  WordCache cache;
  BpeWord word;
  std::string key;
};

// A character without a token of its own.
constexpr std::int32_t kNoToken = -1;

class CharBpe final : public TokenModel {
 public:
  explicit CharBpe(CharBpeSpec spec) : spec_(std::move(spec)) {
    for (const auto& [text, id] : spec_.vocabulary) {
      if (text.empty() || valid_utf8_prefix(text) < text.size()) continue;
      const CodePoint c = code_point_at(text.data());
      if (c.bytes != text.size()) continue;
      std::vector<std::int32_t>& block = blocks_[c.value >> 8];
      if (block.empty()) block.assign(256, kNoToken);
      block[c.value & 255] = id;
    }
    is_decorated_ = !spec_.inner_prefix.empty() || !spec_.last_suffix.empty();
  }

  std::unique_ptr<ModelScratch> make_scratch() const override { return std::make_unique<Scratch>(); }

  void encode(const Pieces& pieces, ModelScratch& scratch_base, TokenList& tokens) const override {
    auto& scratch = static_cast<Scratch&>(scratch_base);
    for (const Piece& piece : pieces.pieces) {
      if (spec_.ignore_merges) {
        scratch.key.assign(pieces.text.substr(piece.begin, piece.end - piece.begin));
        const auto whole = spec_.vocabulary.find(scratch.key);
        if (whole != spec_.vocabulary.end()) {
          tokens.ids.push_back(whole->second);
          if (tokens.want_spans)
            tokens.spans.push_back({pieces.span(piece.begin).begin, pieces.span(piece.end - 1).end});
          continue;
        }
      }
      cut_and_encode(pieces, piece, scratch, tokens);
    }
  }

 private:
  std::int32_t token_of(char32_t c) const {
    const std::vector<std::int32_t>& block = blocks_[c >> 8];
    return block.empty() ? kNoToken : block[c & 255];
  }

  // Cuts where two known characters never stand together in a token.
  void cut_and_encode(const Pieces& pieces, const Piece& piece, Scratch& scratch, TokenList& tokens) const {
    if (is_decorated_) return encode_part(pieces, piece, piece, scratch, tokens);
    const char* text = pieces.text.data();
    std::uint32_t begin = piece.begin;
    CodePoint before = code_point_at(text + begin);
    std::int32_t token_before = token_of(before.value);
    for (std::uint32_t at = begin + before.bytes; at < piece.end;) {
      const CodePoint c = code_point_at(text + at);
      const std::int32_t token = token_of(c.value);
      if (token_before >= 0 && token >= 0 && !spec_.pairs.contains(before.value, c.value)) {
        encode_part(pieces, {begin, at}, piece, scratch, tokens);
        begin = at;
      }
      before = c;
      token_before = token;
      at += c.bytes;
    }
    encode_part(pieces, {begin, piece.end}, piece, scratch, tokens);
  }

  void encode_part(const Pieces& pieces, Piece part, Piece whole, Scratch& scratch, TokenList& tokens) const {
    const std::string_view bytes = pieces.text.substr(part.begin, part.end - part.begin);
    WordCache::Entry* set = nullptr;
    if (!tokens.want_spans && WordCache::fits(bytes)) {
      set = scratch.cache.set_of(bytes);
      if (const WordCache::Entry* hit = WordCache::find(set, bytes)) {
        tokens.ids.insert(tokens.ids.end(), hit->ids, hit->ids + hit->tokens);
        return;
      }
    }
    BpeWord& word = scratch.word;
    word.ids.clear();
    word.spans.clear();
    read_symbols(pieces, part, whole, scratch, tokens.want_spans);
    merge_word(spec_.merges, word);
    if (set) WordCache::insert(set, bytes, word.ids);
    tokens.ids.insert(tokens.ids.end(), word.ids.begin(), word.ids.end());
    tokens.spans.insert(tokens.spans.end(), word.spans.begin(), word.spans.end());
  }

  void read_symbols(const Pieces& pieces, Piece part, Piece whole, Scratch& scratch, bool want_spans) const {
    BpeWord& word = scratch.word;
    const auto add = [&](std::int32_t id, Span span) {
      word.ids.push_back(id);
      if (want_spans) word.spans.push_back(span);
    };
    // An unknown token is written once a known character follows, and so behind bytes that came after it: the
    // library does it this way.
    bool has_unknown = false;
    Span unknown;
    for (std::uint32_t at = part.begin; at < part.end;) {
      const CodePoint c = code_point_at(pieces.text.data() + at);
      const std::uint32_t next = at + c.bytes;
      const Span span = want_spans ? Span{pieces.span(at).begin, pieces.span(next - 1).end} : Span{};
      const std::int32_t id = is_decorated_ ? decorated(pieces, at, next, whole, scratch) : token_of(c.value);
      at = next;
      if (id >= 0) {
        if (has_unknown) add(spec_.unknown_id, unknown);
        has_unknown = false;
        add(id, span);
        continue;
      }
      if (spec_.byte_fallback &&
          add_bytes(pieces.text.substr(next - c.bytes, c.bytes), next, whole, span, add))
        continue;
      if (spec_.unknown_id < 0) continue;
      if (has_unknown && spec_.fuse_unknown) {
        unknown.end = span.end;
      } else {
        if (has_unknown) add(spec_.unknown_id, unknown);
        unknown = span;
      }
      has_unknown = true;
    }
    if (has_unknown) add(spec_.unknown_id, unknown);
  }

  // The library falls back to the bytes of the decorated character.
  template <class Add>
  bool add_bytes(std::string_view character, std::uint32_t end, Piece whole, Span span, Add add) const {
    std::string bytes(character);
    if (is_decorated_) {
      if (end - character.size() > whole.begin) bytes = spec_.inner_prefix + bytes;
      if (end == whole.end) bytes += spec_.last_suffix;
    }
    for (const char byte : bytes)
      if (spec_.byte_tokens[static_cast<unsigned char>(byte)] < 0) return false;
    for (const char byte : bytes) add(spec_.byte_tokens[static_cast<unsigned char>(byte)], span);
    return true;
  }

  std::int32_t decorated(const Pieces& pieces, std::uint32_t at, std::uint32_t next, Piece whole,
                         Scratch& scratch) const {
    scratch.key = at > whole.begin ? spec_.inner_prefix : "";
    scratch.key += pieces.text.substr(at, next - at);
    if (next == whole.end) scratch.key += spec_.last_suffix;
    const auto found = spec_.vocabulary.find(scratch.key);
    return found == spec_.vocabulary.end() ? kNoToken : found->second;
  }

  CharBpeSpec spec_;
  std::array<std::vector<std::int32_t>, 0x110000 / 256>
      blocks_;  // token of each character, by 256; empty: none
  bool is_decorated_;
};

}  // namespace

std::unique_ptr<TokenModel> make_char_bpe(CharBpeSpec spec) {
  return std::make_unique<CharBpe>(std::move(spec));
}

}  // namespace sonde
