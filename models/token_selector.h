// Which tokens of a document are recorded or edited.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sonde {

// all | last | first | 0,3,-1 | every:8 | mask:COLUMN | span:COLUMN | span:COLUMN:last
// mask and span need the texts' columns; whoever has them resolves them to explicit positions.
class TokenSelector {
 public:
  enum class Kind { all, last, first, list, every, mask, span };

  static TokenSelector parse(std::string_view text);  // UsageError lists the forms

  // Ascending positions of a document of `length` tokens; `document` names it in errors (an index past its
  // end). Not for mask and span.
  std::vector<std::int32_t> select(std::int64_t length, std::string_view document) const;

  // Whether a token may be chosen in a text and not in the same text with more behind it, or the reverse.
  bool depends_on_length() const;

  Kind kind() const { return kind_; }
  const std::string& column() const { return column_; }  // mask, span
  bool span_last() const { return span_last_; }          // only the span's last token
  const std::string& text() const { return text_; }      // as given

 private:
  Kind kind_ = Kind::all;
  std::string text_, column_;
  std::vector<std::int64_t> list_;
  std::int64_t every_ = 1;
  bool span_last_ = false;
};

}  // namespace sonde
