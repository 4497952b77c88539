#include "io/json.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "io/file_util.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::size_t kMaxDepth = 64;

// Builds the value from parser events. Object members are appended without ordered_json's search for an equal
// key (quadratic over a vocabulary); duplicates are found when an object closes.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  Builder(Json& root, std::string_view source) : root_(root), source_(source) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // JSON text has none

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  bool end_object() override {
    refuse_duplicates(open_.back()->get_ref<const Json::object_t&>());
    return close();
  }
  bool key(string_t& name) override {
    auto& members = open_.back()->get_ref<Json::object_t&>();
    members.emplace_back(std::move(name), nullptr);
    slot_ = &members.back().second;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    std::string_view what =
        error.what();  // "[json.exception.parse_error.101] parse error at line 1, ...: ..."
    if (const auto at = what.find("] "); at != std::string_view::npos) what.remove_prefix(at + 2);
    fail_hint("the file may be truncated, or not JSON at all", "{}: not valid JSON: {}", source_,
              printable(what, 300));
  }

 private:
  template <class T>
  Json& place(T&& value) {
    if (open_.empty()) return root_ = Json(std::forward<T>(value));
    if (open_.back()->is_object()) return *slot_ = Json(std::forward<T>(value));
    auto& elements = open_.back()->get_ref<Json::array_t&>();
    return elements.emplace_back(std::forward<T>(value));
  }
  template <class T>
  bool add(T&& value) {
    place(std::forward<T>(value));
    return true;
  }
  // The parent grows only after its open child has closed, so pointers in open_ stay valid.
  bool open(Json container) {
    if (open_.size() == kMaxDepth)
      fail("{}: JSON nested deeper than {} levels, expected at most {}", source_, kMaxDepth, kMaxDepth);
    open_.push_back(&place(std::move(container)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  void refuse_duplicates(const Json::object_t& members) const {
    std::vector<std::string_view> names;
    names.reserve(members.size());
    for (const auto& member : members) names.push_back(member.first);
    std::ranges::sort(names);
    if (const auto twice = std::ranges::adjacent_find(names); twice != names.end())
      fail("{}: key \"{}\": found twice in one JSON object, expected once", source_, printable(*twice));
  }

  Json& root_;
  std::string_view source_;
  std::vector<Json*> open_;  // containers from the root to the one being filled
  Json* slot_ = nullptr;     // where the value of the last key goes
};

}  // namespace

Json parse_json(std::string_view text, std::string_view source) {
  Json root;
  Builder builder(root, source);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return root;
}

Json read_json(const std::filesystem::path& path) { return parse_json(read_file(path), path.string()); }

void write_json(const std::filesystem::path& path, const Json& json) {
  write_file_atomically(path, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace sonde
