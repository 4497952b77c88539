#include "models/edit_file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <string_view>

#include "io/hash.h"
#include "io/safetensors.h"
#include "kernels/backend.h"
#include "models/edit_rows.h"
#include "runtime/error.h"

namespace sonde {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kOps[] = {"replace",     "add",         "scale", "zero",
                                     "mean_ablate", "project_out", "clamp", "mask_scores"};  // as EditOp
constexpr std::string_view kKeys[] = {"site",  "op",          "tokens", "heads", "keys",
                                      "value", "coefficient", "min",    "max"};

constexpr const char* kHint = "docs/edits.md describes ops and keys";

// An entry of the file, with the words that name it in errors.
struct Entry {
  Json& json;
  std::string where;
  fs::path folder;  // that relative files are in

  bool has(const char* key) const { return json.contains(key) && !json[key].is_null(); }

  // An Error of what is below names the entry, too.
  template <class F>
  auto named(const F& read) const {
    try {
      return read();
    } catch (const Error& error) {
      throw Error(where + ": " + error.what(), error.hint());
    }
  }

  std::string text(const Json& object, const char* key, const char* otherwise = nullptr) const {
    const auto at = object.find(key);
    if (at == object.end() && otherwise != nullptr) return otherwise;
    if (at == object.end() || !at->is_string())
      fail_hint(kHint, "{}: key {}: found {}, expected a string", where, key,
                at == object.end() ? "none" : at->dump());
    return at->get<std::string>();
  }

  float number(const char* key) const {
    const auto at = json.find(key);
    if (!has(key)) fail_hint(kHint, "{}: key {} is missing, expected a number", where, key);
    if (!at->is_number() || !std::isfinite(at->get<float>()))
      fail_hint(kHint, "{}: key {}: found {}, expected a number", where, key, at->dump());
    return at->get<float>();
  }

  std::int64_t position(const Json& value, const char* key) const {
    if (!value.is_number_integer())
      fail_hint(kHint, "{}: key {}: found {}, expected whole numbers", where, key, value.dump());
    return value.get<std::int64_t>();
  }
  std::vector<std::int64_t> positions(const Json& list, const char* key) const {
    std::vector<std::int64_t> result;
    for (const Json& value : list) result.push_back(position(value, key));
    return result;
  }

  TokenSelector selector(const char* key) const {
    std::string wanted = "all";
    if (has(key)) {
      const Json& given = json[key];  // "0,3,-1", 3 or [0, 3, -1]
      wanted = given.is_string()  ? given.get<std::string>()
               : given.is_array() ? fmt::format("{}", fmt::join(positions(given, key), ","))
                                  : fmt::format("{}", position(given, key));
    }
    try {
      const TokenSelector selector = TokenSelector::parse(wanted);
      if (selector.kind() != TokenSelector::Kind::mask && selector.kind() != TokenSelector::Kind::span)
        return selector;
    } catch (const UsageError&) {  // said below, in the words of the file
    }
    fail_hint(
        "positions count from 0, negative ones from the end",
        "{}: key {}: found '{}', expected all, last, first, positions such as \"0,3,-1\" or [0, 3, -1], "
        "or every:N",
        where, key, wanted);
  }

  std::vector<std::int64_t> heads() const {
    if (!has("heads")) return {};
    if (!json["heads"].is_array() || json["heads"].empty())
      fail_hint(kHint, "{}: key heads: found {}, expected an array of head numbers such as [3]", where,
                json["heads"].dump());
    return positions(json["heads"], "heads");
  }

  // The site that a store's rows are of: the edit's own unless the value names another.
  std::string store_site(Site site) const { return text(json["value"], "site", name(site).c_str()); }

  fs::path store() const {
    fs::path path = text(json["value"], "store");
    return path.is_relative() ? folder / path : path;
  }

  // A tensor of a file as rows [r, width]: its last dimensions are one of `shapes`; none of them: any rows.
  OwnedTensor tensor(const std::vector<std::vector<std::int64_t>>& shapes) {
    Json& value = json["value"];
    fs::path file = text(value, "file");
    if (file.is_relative()) file = folder / file;
    const auto tensors = named([&] { return Safetensors::open(file); });
    const std::string tensor = text(value, "tensor");
    const SafetensorsTensor* found = tensors->find(tensor);
    if (found == nullptr) {
      std::vector<std::string> names;
      for (const SafetensorsTensor& t : tensors->tensors()) names.push_back(t.name);
      if (names.size() > 8) names.resize(8), names.push_back("...");
      fail_hint(kHint, "{}: key value: {} has no tensor '{}', found {}", where, file.string(), tensor,
                fmt::join(names, ", "));
    }
    const Tensor view = found->view;
    const std::int64_t count = view.count();
    const std::vector<std::int64_t> dims(view.shape.begin(), view.shape.begin() + view.rank);
    std::int64_t width = shapes.empty() && !dims.empty() ? count / std::max<std::int64_t>(1, dims[0]) : 0;
    if (shapes.empty() && dims.size() == 1) width = count;
    for (const auto& shape : shapes)
      if (dims.size() >= shape.size() && dims.size() <= shape.size() + 1 &&
          std::equal(shape.rbegin(), shape.rend(), dims.rbegin()))
        width = std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
    if (count == 0 || width == 0) {
      std::vector<std::string> expected;
      for (const auto& shape : shapes) expected.push_back(fmt::format("[{}]", fmt::join(shape, ", ")));
      fail_hint("one row, or one for each chosen token in a first dimension",
                "{}: key value: {} tensor {}: found {}, expected {}", where, file.string(), tensor,
                view.describe(), fmt::join(expected, " or "));
    }
    value["sha256"] = sha256_hex(std::span(view.data, static_cast<std::size_t>(bytes_of(view.dtype, count))));
    OwnedTensor rows = make_tensor(DType::f32, {count / width, width});
    named([&] { make_cpu_backend()->dequantise(Tensor(rows.view.data, DType::f32, {count}), view); });
    for (std::int64_t i = 0; i < count; ++i)
      if (!std::isfinite(rows.view.f32()[i]))
        fail("{}: key value: {} tensor {}: element {} is {}, expected a finite number", where, file.string(),
             tensor, i, rows.view.f32()[i]);
    return rows;
  }
};

OwnedTensor mean_row(Tensor rows) {
  OwnedTensor mean = make_tensor(DType::f32, {1, rows.width()});
  for (std::int64_t j = 0; j < rows.width(); ++j) {
    double sum = 0;
    for (std::int64_t i = 0; i < rows.rows(); ++i) sum += static_cast<double>(rows.row(i)[j]);
    mean.view.f32()[j] = static_cast<float>(sum / static_cast<double>(rows.rows()));
  }
  return mean;
}

// Shapes that a row of a value may have: the point's, or that of a head, or of the named heads side by side.
// Rows of scores and patterns are as long as the document: any (check_edits looks).
std::vector<std::vector<std::int64_t>> value_shapes(const Edit& edit, const ModelSpec& spec) {
  const std::vector<std::int64_t> row = row_shape(edit.site.hook, spec.hook_sizes());
  if (info(edit.site.hook).shape == RowShape::HS) return {};
  if (row.size() == 1) return {row};
  const std::int64_t heads = row[0], e = row[1], named = static_cast<std::int64_t>(edit.heads.size());
  if (named == 0) return {{heads * e}, row};
  if (edit.op == EditOp::project_out) return {{e}};
  return {{heads * e}, {named * e}, {e}};
}

void read_value(Edit& edit, Entry& entry, const ModelSpec& spec) {
  if (!entry.has("value"))
    fail_hint(kHint,
              "{}: key value is missing, expected {}{{\"file\": .., \"tensor\": ..}} or {{\"store\": ..}}",
              entry.where, edit.op == EditOp::replace || edit.op == EditOp::add ? "a number, " : "");
  const auto value = entry.json.find("value");
  const bool by_token = edit.op == EditOp::replace || edit.op == EditOp::add;
  if (!value->is_object()) {
    if (!by_token)
      fail_hint(kHint, "{}: key value: found {}, expected {{\"file\": .., \"tensor\": ..}}", entry.where,
                value->dump());
    edit.number = entry.number("value");
    return;
  }
  const bool store = value->contains("store");
  for (const auto& [key, unused] : value->items())
    if (store ? key != "store" && key != "site" && key != "sha256"
              : key != "file" && key != "tensor" && key != "sha256")
      fail_hint(kHint, "{}: key value: unknown key {}, expected {}", entry.where, key,
                store ? "store and site" : "file and tensor");
  if (store) {
    if (edit.op == EditOp::project_out)
      fail_hint(kHint, "{}: key value: found a store, expected a basis {{\"file\": .., \"tensor\": ..}}",
                entry.where);
    const std::string site = entry.store_site(edit.site);
    std::int64_t width = 1;
    for (const std::int64_t n : row_shape(edit.site.hook, spec.hook_sizes())) width *= n;
    entry.named([&] {
      if (by_token)
        edit.rows = rows_of_store(entry.store(), site, width, info(edit.site.hook).shape, edit.where);
      else
        edit.value = mean_of_store(entry.store(), site);
      (*value)["sha256"] = sha256_file(entry.store() / "shards.jsonl");
    });
    return;
  }
  OwnedTensor rows = entry.tensor(value_shapes(edit, spec));
  if (by_token && rows.view.rows() > 1)
    edit.rows = rows_of_tensor(std::move(rows), edit.where);
  else if (edit.op == EditOp::mean_ablate)
    edit.value = mean_row(rows.view);
  else
    edit.value = std::move(rows);
}

Edit read_edit(Entry& entry, Site site, EditOp op, const ModelSpec& spec) {
  Edit edit{.site = site, .op = op, .tokens = entry.selector("tokens")};
  edit.where = entry.where;
  edit.heads = entry.heads();
  if (entry.has("keys")) edit.keys = entry.selector("keys");
  const auto unused = [&](std::initializer_list<const char*> keys) {
    for (const char* key : keys)
      if (entry.has(key))
        fail_hint(kHint, "{}: key {}: op {} has none", entry.where, key, kOps[static_cast<int>(op)]);
  };
  if (op != EditOp::add) unused({"coefficient"});
  if (op != EditOp::clamp) unused({"min", "max"});
  switch (op) {
    case EditOp::zero:
    case EditOp::mask_scores:
      unused({"value"});
      break;
    case EditOp::scale:
      edit.coefficient = entry.number("value");
      break;
    case EditOp::clamp:
      if (entry.has("value")) {
        unused({"min", "max"});
        edit.most = entry.number("value");
        edit.least = -edit.most;
      } else {
        if (!entry.has("min") && !entry.has("max"))
          fail_hint(kHint, "{}: key value is missing: clamp expects it, or min, or max", entry.where);
        edit.least = entry.has("min") ? entry.number("min") : -std::numeric_limits<float>::infinity();
        edit.most = entry.has("max") ? entry.number("max") : std::numeric_limits<float>::infinity();
      }
      break;
    default:
      if (entry.has("coefficient")) edit.coefficient = entry.number("coefficient");
      read_value(edit, entry, spec);
  }
  check_edit(edit, spec.hook_sizes());
  return edit;
}

void add_edits(EditFile& out, Entry entry, const ModelSpec& spec) {
  if (!entry.json.is_object())
    fail_hint(kHint, "{}: found {}, expected an object", entry.where, entry.json.type_name());
  for (const auto& [key, value] : entry.json.items())
    if (std::ranges::find(kKeys, key) == std::end(kKeys))
      fail_hint(kHint, "{}: unknown key {}, expected {}", entry.where, key, fmt::join(kKeys, ", "));
  const std::string op_name = entry.text(entry.json, "op");
  const auto op = std::ranges::find(kOps, op_name);
  if (op == std::end(kOps))
    fail_hint(kHint, "{}: key op: found '{}', expected {}", entry.where, op_name, fmt::join(kOps, ", "));
  const std::string sites = entry.text(entry.json, "site");
  for (const Site site :
       entry.named([&] { return match_sites(sites, spec.sites(), static_cast<int>(spec.n_layers)); }))
    out.edits.push_back(read_edit(entry, site, static_cast<EditOp>(op - std::begin(kOps)), spec));
}

}  // namespace

EditFile read_edits(const fs::path& path, const ModelSpec& spec) {
  EditFile out;
  out.json = read_json(path);
  if (!out.json.is_array())
    fail_hint(kHint, "{}: found {}, expected an array of edits", path.string(), out.json.type_name());
  for (std::size_t i = 0; i < out.json.size(); ++i)
    add_edits(out, {out.json[i], fmt::format("{}: edit {}", path.string(), i), path.parent_path()}, spec);
  return out;
}

}  // namespace sonde
