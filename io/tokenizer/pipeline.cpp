#include "io/tokenizer/pipeline.h"

#include <mutex>
#include <utility>

#include "runtime/error.h"

namespace sonde {
namespace {

// Buffers of one encoding; kept for the next.
struct Workspace {
  std::unique_ptr<ModelScratch> model;
  Pieces pieces, inner_pieces;
  TokenList tokens;
  std::vector<Fragment> fragments, inner;
  std::string repaired;  // the text, if it was not UTF-8
  std::vector<Span> repaired_spans;
};

class Pipeline final : public Tokenizer {
 public:
  explicit Pipeline(TokenizerParts parts) : parts_(std::move(parts)) {}

  void encode(std::string_view text, SpecialText special, AddSpecial add,
              std::vector<std::int32_t>& ids) const override {
    auto workspace = borrow();
    run(text, special, add, false, *workspace);
    ids.assign(workspace->tokens.ids.begin(), workspace->tokens.ids.end());
    give_back(std::move(workspace));
  }

  Encoding encode_with_offsets(std::string_view text, SpecialText special, AddSpecial add) const override {
    auto workspace = borrow();
    run(text, special, add, true, *workspace);
    Encoding encoding;
    encoding.ids = workspace->tokens.ids;
    for (const Span span : workspace->tokens.spans) {
      encoding.begin.push_back(span.begin);
      encoding.end.push_back(span.end);
    }
    give_back(std::move(workspace));
    return encoding;
  }

  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const override {
    for (const std::int32_t id : ids)
      if (id < 0 || id >= parts_.vocab_size)
        fail("{}: cannot decode token id {}, expected 0 to {}", parts_.source, id, parts_.vocab_size - 1);
    return parts_.decoder->decode(ids, skip_special);
  }

  std::int64_t vocab_size() const override { return parts_.vocab_size; }
  std::int32_t bos() const override { return parts_.bos; }
  std::int32_t eos() const override { return parts_.eos; }
  std::string describe() const override { return parts_.description; }
  std::string fingerprint() const override { return parts_.fingerprint; }

 private:
  void run(std::string_view text, SpecialText special, AddSpecial add, bool want_spans, Workspace& w) const {
    if (text.size() >= UINT32_MAX)
      fail_hint("split the text into documents",
                "text of {} bytes is too long for one encoding, expected fewer than {}", text.size(),
                UINT32_MAX);
    const std::vector<Span>* spans = nullptr;
    if (valid_utf8_prefix(text) < text.size()) {
      w.repaired_spans.clear();
      w.repaired = replace_invalid_utf8(text, want_spans ? &w.repaired_spans : nullptr);
      text = w.repaired;
      if (text.size() >= UINT32_MAX) fail("text is too long once its broken bytes are replaced by U+FFFD");
      if (want_spans) spans = &w.repaired_spans;
    }
    w.tokens.ids.clear();
    w.tokens.spans.clear();
    w.tokens.want_spans = want_spans;
    w.pieces.want_spans = w.inner_pieces.want_spans = want_spans || parts_.needs_spans;

    const auto add_template = [&](const std::vector<std::int32_t>& ids, std::uint32_t at) {
      if (add == AddSpecial::none) return;
      for (const std::int32_t id : ids) add_token(id, {at, at}, w);
    };
    const auto source_of = [&](const Fragment& f) {
      return spans ? Span{(*spans)[f.begin].begin, (*spans)[f.end - 1].end} : Span{f.begin, f.end};
    };
    const auto size = static_cast<std::uint32_t>(text.size());
    add_template(parts_.prefix, 0);
    w.fragments.clear();
    parts_.added->split(text, 0, size, special, w.fragments);
    for (const Fragment& outer : w.fragments) {
      if (outer.id >= 0) {
        add_token(outer.id, source_of(outer), w);
        continue;
      }
      w.pieces.start(text, spans, {outer.begin, outer.end});
      for (const auto& stage : parts_.normalizers) stage->apply(w.pieces);
      if (parts_.added_normalized)
        encode_normalized(special, w);
      else
        encode_pieces(w.pieces, w);
    }
    add_template(parts_.suffix, spans && size > 0 ? spans->back().end : size);
  }

  void encode_pieces(Pieces& pieces, Workspace& w) const {
    for (const auto& stage : parts_.pre_tokenizers) stage->apply(pieces);
    parts_.model->encode(pieces, *w.model, w.tokens);
  }

  // Looks for added tokens in the normalised text and encodes what lies between.
  void encode_normalized(SpecialText special, Workspace& w) const {
    for (const Piece& piece : w.pieces.pieces) {
      w.inner.clear();
      parts_.added_normalized->split(w.pieces.text, piece.begin, piece.end, special, w.inner);
      for (const Fragment& fragment : w.inner) {
        if (fragment.id >= 0) {
          if (w.tokens.want_spans)
            w.tokens.spans.push_back(
                {w.pieces.span(fragment.begin).begin, w.pieces.span(fragment.end - 1).end});
          w.tokens.ids.push_back(fragment.id);
          continue;
        }
        const std::vector<Span>* spans = w.pieces.is_edited ? &w.pieces.edited_spans : w.pieces.source_spans;
        w.inner_pieces.start(w.pieces.text, w.pieces.want_spans ? spans : nullptr,
                             {fragment.begin, fragment.end});
        encode_pieces(w.inner_pieces, w);
      }
    }
  }

  static void add_token(std::int32_t id, Span span, Workspace& w) {
    w.tokens.ids.push_back(id);
    if (w.tokens.want_spans) w.tokens.spans.push_back(span);
  }

  // One workspace per thread that encodes at the moment. One lost to an exception is made anew.
  std::unique_ptr<Workspace> borrow() const {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        auto workspace = std::move(free_.back());
        free_.pop_back();
        return workspace;
      }
    }
    auto workspace = std::make_unique<Workspace>();
    workspace->model = parts_.model->make_scratch();
    return workspace;
  }
  void give_back(std::unique_ptr<Workspace> workspace) const {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(workspace));
  }

  TokenizerParts parts_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> free_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_pipeline(TokenizerParts parts) {
  return std::make_unique<Pipeline>(std::move(parts));
}

}  // namespace sonde
