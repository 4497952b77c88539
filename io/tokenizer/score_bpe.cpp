#include "io/tokenizer/score_bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <numeric>

#include "io/file_util.h"
#include "io/tokenizer/pair_set.h"
#include "io/tokenizer/word_cache.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::uint32_t kNone = 0xFFFFFFFF;

// Polynomial hashes modulo 2^61 - 1: those of all prefixes give that of every stretch at once.
constexpr std::uint64_t kModulus = (std::uint64_t{1} << 61) - 1, kBase = 0x1B873593CC9E2D51u % kModulus;
std::uint64_t times(std::uint64_t a, std::uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  const std::uint64_t sum =
      static_cast<std::uint64_t>(product & kModulus) + static_cast<std::uint64_t>(product >> 61);
  return sum >= kModulus ? sum - kModulus : sum;
}
std::uint64_t append(std::uint64_t hash, char c) {
  const std::uint64_t sum = times(hash, kBase) + static_cast<unsigned char>(c) + 1;
  return sum >= kModulus ? sum - kModulus : sum;
}

struct Symbol {
  std::uint32_t begin, end;    // bytes of the text
  std::uint32_t next, before;  // kNone: none
  std::uint32_t rank;          // of the token it makes with its right neighbour, kNone: none
};

struct Scratch final : ModelScratch {
  WordCache cache;
  std::vector<std::uint64_t> hashes, powers{1};  // of prefixes of the part; of the base
  std::vector<Symbol> symbols;
  std::vector<std::uint64_t> heap;  // rank << 32 | symbol; entries may be outdated
  TokenList word;
};

class ScoreBpe final : public TokenModel {
 public:
  explicit ScoreBpe(ScoreBpeSpec spec)
      : spec_(std::move(spec)), slots_(std::bit_ceil(2 * spec_.tokens.size() + 2), -1) {
    // Equal scores are of one rank.
    std::vector<std::int32_t> order(spec_.tokens.size());
    std::iota(order.begin(), order.end(), 0);
    const auto score = [&](std::int32_t id) { return spec_.scores[static_cast<std::size_t>(id)]; };
    std::ranges::sort(order, [&](std::int32_t a, std::int32_t b) { return score(a) > score(b); });
    ranks_.resize(order.size());
    std::uint32_t rank = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (i > 0 && score(order[i]) != score(order[i - 1])) ++rank;
      ranks_[static_cast<std::size_t>(order[i])] = rank;
    }
    for (std::size_t id = 0; id < spec_.tokens.size(); ++id) {
      const std::string& text = spec_.tokens[id];
      std::uint64_t hash = 0;
      for (const char c : text) hash = append(hash, c);
      hashes_.push_back(hash);
      longest_ = std::max(longest_, text.size());
      std::size_t i = hash & (slots_.size() - 1);
      while (slots_[i] >= 0) i = (i + 1) & (slots_.size() - 1);
      slots_[i] = static_cast<std::int32_t>(id);
      pairs_.add_token(text);
    }
  }

  std::unique_ptr<ModelScratch> make_scratch() const override { return std::make_unique<Scratch>(); }

  // A piece is cut where no token has the characters on both sides.
  void encode(const Pieces& pieces, ModelScratch& scratch_base, TokenList& tokens) const override {
    auto& scratch = static_cast<Scratch&>(scratch_base);
    const char* text = pieces.text.data();
    for (const Piece& piece : pieces.pieces) {
      std::uint32_t begin = piece.begin;
      CodePoint before = code_point_at(text + begin);
      for (std::uint32_t at = begin + before.bytes; at < piece.end;) {
        const CodePoint c = code_point_at(text + at);
        if (!pairs_.contains(before.value, c.value)) {
          encode_part(pieces, begin, at, scratch, tokens);
          begin = at;
        }
        before = c;
        at += c.bytes;
      }
      encode_part(pieces, begin, piece.end, scratch, tokens);
    }
  }

 private:
  void encode_part(const Pieces& pieces, std::uint32_t begin, std::uint32_t end, Scratch& scratch,
                   TokenList& tokens) const {
    const std::string_view text = pieces.text.substr(begin, end - begin);
    WordCache::Entry* set = nullptr;
    if (!tokens.want_spans && WordCache::fits(text)) {
      set = scratch.cache.set_of(text);
      if (const WordCache::Entry* hit = WordCache::find(set, text)) {
        tokens.ids.insert(tokens.ids.end(), hit->ids, hit->ids + hit->tokens);
        return;
      }
    }
    scratch.word.ids.clear();
    scratch.word.spans.clear();
    merge(text, scratch);
    if (set) WordCache::insert(set, text, scratch.word.ids);
    tokens.ids.insert(tokens.ids.end(), scratch.word.ids.begin(), scratch.word.ids.end());
    if (tokens.want_spans)
      for (const Span span : scratch.word.spans)
        tokens.spans.push_back(
            {pieces.span(begin + span.begin).begin, pieces.span(begin + span.end - 1).end});
  }

  std::int32_t find(std::string_view text, std::uint32_t begin, std::uint32_t end,
                    const Scratch& scratch) const {
    if (end - begin > longest_) return -1;
    const std::uint64_t head = times(scratch.hashes[begin], scratch.powers[end - begin]);
    const std::uint64_t hash = scratch.hashes[end] + (scratch.hashes[end] < head ? kModulus : 0) - head;
    for (std::size_t i = hash & (slots_.size() - 1); slots_[i] >= 0; i = (i + 1) & (slots_.size() - 1)) {
      const auto id = static_cast<std::size_t>(slots_[i]);
      if (hashes_[id] == hash && spec_.tokens[id] == text.substr(begin, end - begin)) return slots_[i];
    }
    return -1;
  }

  void merge(std::string_view text, Scratch& s) const {
    s.hashes.assign(1, 0);
    for (const char c : text) s.hashes.push_back(append(s.hashes.back(), c));
    while (s.powers.size() <= std::min(text.size(), longest_))
      s.powers.push_back(times(s.powers.back(), kBase));
    s.symbols.clear();
    for (std::uint32_t at = 0; at < text.size();) {
      const auto n = static_cast<std::uint32_t>(s.symbols.size());
      const std::uint32_t next = at + code_point_at(text.data() + at).bytes;
      s.symbols.push_back({at, next, n + 1, n - 1, kNone});
      at = next;
    }
    s.symbols.front().before = kNone;
    s.symbols.back().next = kNone;
    s.heap.clear();
    const auto look_up = [&](std::uint32_t i) {
      Symbol& symbol = s.symbols[i];
      symbol.rank = kNone;
      if (symbol.next == kNone) return;
      const std::int32_t id = find(text, symbol.begin, s.symbols[symbol.next].end, s);
      if (id < 0) return;
      symbol.rank = ranks_[static_cast<std::size_t>(id)];
      s.heap.push_back(std::uint64_t{symbol.rank} << 32 | i);
      std::push_heap(s.heap.begin(), s.heap.end(), std::greater<>{});
    };
    for (std::uint32_t i = 0; i < s.symbols.size(); ++i) look_up(i);
    while (!s.heap.empty()) {
      std::pop_heap(s.heap.begin(), s.heap.end(), std::greater<>{});
      const std::uint64_t best = s.heap.back();
      s.heap.pop_back();
      const auto i = static_cast<std::uint32_t>(best);
      Symbol& left = s.symbols[i];
      if (left.rank != best >> 32) continue;
      Symbol& right = s.symbols[left.next];
      left.end = right.end;
      left.next = right.next;
      right.rank = kNone;
      if (left.next != kNone) s.symbols[left.next].before = i;
      look_up(i);
      if (left.before != kNone) look_up(left.before);
    }
    for (std::uint32_t i = 0; i != kNone; i = s.symbols[i].next) write(text, s.symbols[i], s);
  }

  void write(std::string_view text, const Symbol& symbol, Scratch& s) const {
    const auto add = [&](std::int32_t id) {
      s.word.ids.push_back(id);
      s.word.spans.push_back({symbol.begin, symbol.end});
    };
    if (const std::int32_t id = find(text, symbol.begin, symbol.end, s); id >= 0) return add(id);
    for (const char byte : text.substr(symbol.begin, symbol.end - symbol.begin)) {
      const std::int32_t id = spec_.byte_tokens[static_cast<unsigned char>(byte)];
      if (id < 0)
        fail_hint("token ids can be given in place of text: --ids",
                  "{}: key tokenizer.ggml.tokens: found no token <0x{:02X}>, expected one: the text has a "
                  "character "
                  "that is no token",
                  spec_.source, static_cast<unsigned char>(byte));
      add(id);
    }
  }

  ScoreBpeSpec spec_;
  std::vector<std::int32_t> slots_;  // ids by hash; -1: free
  std::vector<std::uint64_t> hashes_;
  std::vector<std::uint32_t> ranks_;  // of each id
  std::size_t longest_ = 0;           // bytes of a token
  PairSet pairs_;
};

}  // namespace

std::unique_ptr<TokenModel> make_score_bpe(ScoreBpeSpec spec) {
  return std::make_unique<ScoreBpe>(std::move(spec));
}

}  // namespace sonde
