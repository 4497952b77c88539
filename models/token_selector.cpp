#include "models/token_selector.h"

#include <algorithm>
#include <charconv>

#include "runtime/error.h"

namespace sonde {
namespace {

[[noreturn]] void wrong(std::string_view text) {
  throw UsageError(
      fmt::format("--tokens: found '{}'", text),
      "known forms are all, last, first, a list such as 0,3,-1 (negative: from the end), every:8, "
      "mask:COLUMN, span:COLUMN and span:COLUMN:last");
}

std::int64_t parse_integer(std::string_view digits, std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size()) wrong(text);
  return value;
}

}  // namespace

TokenSelector TokenSelector::parse(std::string_view text) {
  TokenSelector s;
  s.text_ = text;
  if (text == "all") return s;
  if (text == "last" || text == "first") {
    s.kind_ = text == "last" ? Kind::last : Kind::first;
  } else if (text.starts_with("every:")) {
    s.kind_ = Kind::every;
    s.every_ = parse_integer(text.substr(6), text);
    if (s.every_ < 1) wrong(text);
  } else if (text.starts_with("mask:")) {
    s.kind_ = Kind::mask;
    s.column_ = text.substr(5);
    if (s.column_.empty()) wrong(text);
  } else if (text.starts_with("span:")) {
    s.kind_ = Kind::span;
    std::string_view column = text.substr(5);
    s.span_last_ = column.ends_with(":last");
    if (s.span_last_) column.remove_suffix(5);
    if (column.ends_with(":all")) column.remove_suffix(4);
    s.column_ = column;
    if (s.column_.empty()) wrong(text);
  } else {
    s.kind_ = Kind::list;
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.find(',', begin), text.size());
      s.list_.push_back(parse_integer(text.substr(begin, end - begin), text));
      begin = end + 1;
    }
  }
  return s;
}

bool TokenSelector::depends_on_length() const {
  if (kind_ == Kind::list) return std::ranges::any_of(list_, [](std::int64_t p) { return p < 0; });
  return kind_ != Kind::all && kind_ != Kind::first && kind_ != Kind::every;
}

std::vector<std::int32_t> TokenSelector::select(std::int64_t length, std::string_view document) const {
  std::vector<std::int32_t> positions;
  const auto add = [&](std::int64_t p) { positions.push_back(static_cast<std::int32_t>(p)); };
  switch (kind_) {
    case Kind::all:
      for (std::int64_t p = 0; p < length; ++p) add(p);
      break;
    case Kind::every:
      for (std::int64_t p = 0; p < length; p += every_) add(p);
      break;
    case Kind::last:
      if (length > 0) add(length - 1);
      break;
    case Kind::first:
      if (length > 0) add(0);
      break;
    case Kind::list:
      for (std::int64_t p : list_) {
        const std::int64_t at = p < 0 ? p + length : p;
        if (at < 0 || at >= length)
          fail_hint("choose tokens that every document has",
                    "tokens {}: document {} has {} tokens, none at {}", text_, document, length, p);
        add(at);
      }
      std::ranges::sort(positions);
      positions.erase(std::unique(positions.begin(), positions.end()), positions.end());
      break;
    case Kind::mask:
    case Kind::span:
      fail("--tokens {} needs texts with the column '{}'", text_, column_);
  }
  return positions;
}

}  // namespace sonde
