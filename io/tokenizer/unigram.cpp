#include "io/tokenizer/unigram.h"

#include <algorithm>

#include "io/tokenizer/word_cache.h"
#include "runtime/error.h"

namespace sonde {
namespace {

// The best way to a place of the piece: its last token.
struct Step {
  double score;
  std::uint32_t begin;  // kUnreached: none so far
  std::int32_t id;
};
constexpr std::uint32_t kUnreached = 0xFFFFFFFF;

struct Scratch final : ModelScratch {
  WordCache cache;
  std::vector<Step> steps;
  std::vector<std::uint32_t> ends;  // of the best path's tokens, last first
  TokenList word;                   // spans: bytes of the text
};

class Unigram final : public TokenModel {
 public:
  explicit Unigram(UnigramSpec spec) : spec_(std::move(spec)) {}

  std::unique_ptr<ModelScratch> make_scratch() const override { return std::make_unique<Scratch>(); }

  void encode(const Pieces& pieces, ModelScratch& scratch_base, TokenList& tokens) const override {
    auto& scratch = static_cast<Scratch&>(scratch_base);
    for (const Piece& piece : pieces.pieces) {
      const std::string_view bytes = pieces.text.substr(piece.begin, piece.end - piece.begin);
      WordCache::Entry* set = nullptr;
      if (!tokens.want_spans && WordCache::fits(bytes)) {
        set = scratch.cache.set_of(bytes);
        if (const WordCache::Entry* hit = WordCache::find(set, bytes)) {
          tokens.ids.insert(tokens.ids.end(), hit->ids, hit->ids + hit->tokens);
          continue;
        }
      }
      find_best_path(bytes, scratch);
      write_tokens(bytes, scratch);
      if (set) WordCache::insert(set, bytes, scratch.word.ids);
      tokens.ids.insert(tokens.ids.end(), scratch.word.ids.begin(), scratch.word.ids.end());
      if (tokens.want_spans)
        for (const Span span : scratch.word.spans)
          tokens.spans.push_back(
              {pieces.span(piece.begin + span.begin).begin, pieces.span(piece.begin + span.end - 1).end});
    }
  }

 private:
  void find_best_path(std::string_view text, Scratch& scratch) const {
    std::vector<Step>& steps = scratch.steps;
    steps.assign(text.size() + 1, {0, kUnreached, -1});
    const auto offer = [&](std::size_t begin, std::size_t end, double score, std::int32_t id) {
      Step& step = steps[end];
      if (step.begin == kUnreached || score > step.score)
        step = {score, static_cast<std::uint32_t>(begin), id};
    };
    for (std::size_t at = 0; at < text.size();) {
      const double so_far = steps[at].score;
      const std::size_t next = at + code_point_at(text.data() + at).bytes;
      bool is_token = false;
      spec_.trie.match(text, at, [&](std::size_t end, std::int32_t id) {
        is_token |= end == next;
        offer(at, end, spec_.scores[static_cast<std::size_t>(id)] + so_far, id);
      });
      if (!is_token) {
        if (spec_.unknown_id < 0)
          fail_hint("token ids can be given in place of text: --ids",
                    "{}: the text has a character without a token, and the vocabulary has no unknown token",
                    spec_.source);
        offer(at, next, spec_.unknown_score + so_far, spec_.unknown_id);
      }
      at = next;
    }
  }

  void write_tokens(std::string_view text, Scratch& scratch) const {
    scratch.word.ids.clear();
    scratch.word.spans.clear();
    scratch.ends.clear();
    for (auto end = static_cast<std::uint32_t>(text.size()); end > 0; end = scratch.steps[end].begin)
      scratch.ends.push_back(end);
    std::uint32_t begin = 0;
    for (std::size_t i = scratch.ends.size(); i-- > 0;) {
      const std::int32_t id = scratch.steps[scratch.ends[i]].id;
      if (id == spec_.unknown_id)
        while (i > 0 && scratch.steps[scratch.ends[i - 1]].id == spec_.unknown_id) --i;
      const std::uint32_t end = scratch.ends[i];
      write(text, begin, end, id, scratch.word);
      begin = end;
    }
  }

  void write(std::string_view text, std::uint32_t begin, std::uint32_t end, std::int32_t id,
             TokenList& word) const {
    const auto add = [&](std::int32_t token) {
      word.ids.push_back(token);
      word.spans.push_back({begin, end});
    };
    if (id != spec_.unknown_id || spec_.vocabulary.empty()) return add(id);
    const std::string unknown(text.substr(begin, end - begin));
    if (const auto found = spec_.vocabulary.find(unknown); found != spec_.vocabulary.end())
      return add(found->second);
    const auto token_of = [&](char byte) { return spec_.byte_tokens[static_cast<unsigned char>(byte)]; };
    if (!spec_.byte_fallback || std::ranges::any_of(unknown, [&](char byte) { return token_of(byte) < 0; }))
      return add(id);
    for (const char byte : unknown) add(token_of(byte));
  }

  UnigramSpec spec_;
};

}  // namespace

std::unique_ptr<TokenModel> make_unigram(UnigramSpec spec) {
  return std::make_unique<Unigram>(std::move(spec));
}

}  // namespace sonde
