#include "io/tokenizer/ugm_normalizer.h"

#include "io/tokenizer/text_edit.h"
#include "io/tokenizer/token_trie.h"

namespace sonde {
namespace {

constexpr std::string_view kSpace = "\u2581";

class UgmNormalizer final : public PreTokenizer {
 public:
  explicit UgmNormalizer(UgmNormalizerSpec spec) : spec_(std::move(spec)) {
    for (const std::string& token : spec_.user_defined) user_defined_.insert(token, 0);
  }

  void apply(Pieces& pieces) const override {
    TextEdit edit(pieces);
    for (const Piece& piece : pieces.pieces) {
      edit.begin_piece();
      rewrite(pieces.text, piece, edit);
      edit.end_piece();
    }
    edit.commit();
  }

 private:
  void rewrite(std::string_view text, const Piece& piece, TextEdit& edit) const {
    bool has_prefix = false, in_word = false;
    for (std::uint32_t at = piece.begin; at < piece.end;) {
      std::string_view replacement;
      const std::uint32_t next = next_place(text, at, piece.end, replacement);
      for (std::size_t i = 0; i < replacement.size(); ++i) {
        if (replacement[i] == ' ') {
          in_word = false;
          if (!spec_.merge_spaces) edit.replace(at, next, kSpace);
          continue;
        }
        if (!in_word && ((spec_.space_prefix && !has_prefix) || spec_.merge_spaces)) {
          edit.replace(at, at, kSpace);
          has_prefix = true;
        }
        in_word = true;
        edit.replace(at, next, replacement.substr(i, 1));
      }
      at = next;
    }
  }

  // What stands in place of the text from `at` to the returned place.
  std::uint32_t next_place(std::string_view text, std::uint32_t at, std::uint32_t end,
                           std::string_view& replacement) const {
    std::size_t next = at;
    user_defined_.match(text.substr(0, end), at,
                        [&](std::size_t token_end, std::int32_t) { next = token_end; });
    std::size_t matched = 0;
    if (next == at && spec_.chars_map &&
        spec_.chars_map->find(text.substr(at, end - at), CharsMap::Which::longest, replacement, matched))
      return at + static_cast<std::uint32_t>(matched);
    if (next == at) next = at + code_point_at(text.data() + at).bytes;
    replacement = text.substr(at, next - at);
    return static_cast<std::uint32_t>(next);
  }

  UgmNormalizerSpec spec_;
  TokenTrie user_defined_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_ugm_normalizer(UgmNormalizerSpec spec) {
  return std::make_unique<UgmNormalizer>(std::move(spec));
}

}  // namespace sonde
