#include "io/tokenizer/byte_level_bpe.h"

#include <algorithm>
#include <cstring>

#include "io/tokenizer/word_cache.h"

namespace sonde {
namespace {

struct Scratch final : ModelScratch {
  WordCache cache;
  BpeWord word;
  std::string key;  // for whole_words
};

class ByteLevelBpe final : public TokenModel {
 public:
  explicit ByteLevelBpe(ByteLevelBpeSpec spec) : spec_(std::move(spec)) {}

  std::unique_ptr<ModelScratch> make_scratch() const override { return std::make_unique<Scratch>(); }

  void encode(const Pieces& pieces, ModelScratch& scratch_base, TokenList& tokens) const override {
    auto& scratch = static_cast<Scratch&>(scratch_base);
    if (tokens.want_spans) return encode_with_spans(pieces, scratch, tokens);

    // Room for one more word's cached tokens is kept at all times, so that a hit copies a fixed number of
    // ids.
    std::vector<std::int32_t>& ids = tokens.ids;
    std::size_t n = ids.size();
    const auto make_room = [&](std::size_t more) {
      if (ids.size() < n + more + WordCache::kMaxTokens) ids.resize(2 * n + more + 256);
    };
    make_room(0);
    for (const Piece& piece : pieces.pieces) {
      const std::string_view bytes = pieces.text.substr(piece.begin, piece.end - piece.begin);
      WordCache::Entry* set = nullptr;
      if (WordCache::fits(bytes)) {
        set = scratch.cache.set_of(bytes);
        if (const WordCache::Entry* hit = WordCache::find(set, bytes)) {
          std::memcpy(&ids[n], hit->ids, sizeof(hit->ids));
          n += hit->tokens;
          make_room(0);
          continue;
        }
      }
      encode_word(bytes, scratch);
      if (set) WordCache::insert(set, bytes, scratch.word.ids);
      make_room(scratch.word.ids.size());
      std::copy(scratch.word.ids.begin(), scratch.word.ids.end(),
                ids.begin() + static_cast<std::ptrdiff_t>(n));
      n += scratch.word.ids.size();
    }
    ids.resize(n);
  }

 private:
  // The tokens of a word to scratch.word.ids.
  void encode_word(std::string_view bytes, Scratch& scratch) const {
    BpeWord& word = scratch.word;
    word.ids.clear();
    word.spans.clear();
    if (const std::int32_t whole = whole_word(bytes, scratch); whole >= 0) return word.ids.push_back(whole);
    bool gap = false, unknown_before = false;
    for (const char c : bytes) add_symbol(c, nullptr, word, gap, unknown_before);
    merge_word(spec_.merges, word);
    if (gap) std::erase(word.ids, -1);
  }

  void encode_with_spans(const Pieces& pieces, Scratch& scratch, TokenList& tokens) const {
    BpeWord& word = scratch.word;
    for (const Piece& piece : pieces.pieces) {
      const std::string_view bytes = pieces.text.substr(piece.begin, piece.end - piece.begin);
      word.ids.clear();
      word.spans.clear();
      if (const std::int32_t whole = whole_word(bytes, scratch); whole >= 0) {
        word.ids.push_back(whole);
        word.spans.push_back({pieces.span(piece.begin).begin, pieces.span(piece.end - 1).end});
      } else {
        bool gap = false, unknown_before = false;
        for (std::uint32_t i = piece.begin; i < piece.end; ++i) {
          const Span span = pieces.span(i);
          add_symbol(pieces.text[i], &span, word, gap, unknown_before);
        }
        merge_word(spec_.merges, word);
      }
      for (std::size_t i = 0; i < word.ids.size(); ++i) {
        if (word.ids[i] < 0) continue;
        tokens.ids.push_back(word.ids[i]);
        tokens.spans.push_back(word.spans[i]);
      }
    }
  }

  void add_symbol(char c, const Span* span, BpeWord& word, bool& gap, bool& unknown_before) const {
    std::int32_t id = spec_.byte_ids[static_cast<unsigned char>(c)];
    const bool is_unknown = id < 0 && spec_.missing == ByteLevelBpeSpec::MissingByte::unknown;
    if (id < 0) {
      if (spec_.missing == ByteLevelBpeSpec::MissingByte::close_gap) return;
      if (is_unknown) id = spec_.unknown_id;
      if (id < 0) gap = true;
    }
    if (is_unknown && unknown_before && spec_.fuse_unknown) {
      if (span) word.spans.back().end = span->end;
      return;
    }
    unknown_before = is_unknown;
    word.ids.push_back(id);
    if (span) word.spans.push_back(*span);
  }

  std::int32_t whole_word(std::string_view bytes, Scratch& scratch) const {
    if (!spec_.ignore_merges) return -1;
    scratch.key.assign(bytes);
    const auto found = spec_.whole_words.find(scratch.key);
    return found == spec_.whole_words.end() ? -1 : found->second;
  }

  ByteLevelBpeSpec spec_;
};

}  // namespace

std::unique_ptr<TokenModel> make_byte_level_bpe(ByteLevelBpeSpec spec) {
  return std::make_unique<ByteLevelBpe>(std::move(spec));
}

}  // namespace sonde
