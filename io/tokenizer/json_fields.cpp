#include "io/tokenizer/json_fields.h"

#include "io/file_util.h"
#include "io/tokenizer/utf8.h"
#include "runtime/error.h"

namespace sonde {

void JsonField::fail_expected(std::string_view expected) const {
  fail("{}: key {}: found {}, expected {}", file, name.empty() ? "(top)" : name,
       value.is_structured() ? value.type_name() : printable(value.dump(-1, ' ', true)), expected);
}

JsonField JsonField::at(const char* key) const {
  object();
  const auto found = value.find(key);
  const std::string full = name.empty() ? key : name + "." + key;
  if (found == value.end()) fail("{}: key {}: not found, expected in a tokenizer.json", file, full);
  return {*found, file, full};
}

JsonField JsonField::element(std::size_t index) const {
  if (index >= array().value.size()) fail_expected(fmt::format("at least {} elements", index + 1));
  return {value[index], file, fmt::format("{}[{}]", name, index)};
}

bool JsonField::has(const char* key) const {
  object();
  const auto found = value.find(key);
  return found != value.end() && !found->is_null();
}

const std::string& JsonField::text() const {
  if (!value.is_string()) fail_expected("a string");
  return value.get_ref<const std::string&>();
}

bool JsonField::boolean() const {
  if (!value.is_boolean()) fail_expected("true or false");
  return value.get<bool>();
}

bool JsonField::boolean(const char* key, bool otherwise) const {
  return has(key) ? at(key).boolean() : otherwise;
}

std::int32_t JsonField::id() const {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > INT32_MAX)
    fail_expected("a token id from 0 to 2147483647");
  return static_cast<std::int32_t>(value.get<std::uint64_t>());
}

std::size_t JsonField::count(const char* key) const {
  const JsonField field = at(key);
  if (!field.value.is_number_unsigned()) field.fail_expected("a count");
  return field.value.get<std::size_t>();
}

double JsonField::number() const {
  if (!value.is_number()) fail_expected("a number");
  return value.get<double>();
}

std::string JsonField::character() const {
  if (text().empty() || code_point_at(text().data()).bytes != text().size()) fail_expected("one character");
  return text();
}

const JsonField& JsonField::array() const {
  if (!value.is_array()) fail_expected("an array");
  return *this;
}

const JsonField& JsonField::object() const {
  if (!value.is_object()) fail_expected("an object");
  return *this;
}

}  // namespace sonde
