// Typed fields of tokenizer.json: a missing or mistyped one is an Error that names file, key, found and
// expected.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "io/json.h"

namespace sonde {

// An object of the file and how to call it in messages.
struct JsonField {
  const Json& value;
  const std::string& file;
  std::string name;  // "pre_tokenizer.pretokenizers[1]"

  [[noreturn]] void fail_expected(std::string_view expected) const;
  JsonField at(const char* key) const;  // Error when absent
  JsonField element(std::size_t index) const;
  bool has(const char* key) const;  // there and not null
  const std::string& text() const;
  bool boolean() const;
  bool boolean(const char* key, bool otherwise) const;
  std::int32_t id() const;                   // 0 to 2^31 - 1
  std::size_t count(const char* key) const;  // an integer >= 0
  double number() const;
  std::string character() const;   // a text of one code point
  const JsonField& array() const;  // itself, if it is one
  const JsonField& object() const;
  std::string type() const { return at("type").text(); }
};

}  // namespace sonde
