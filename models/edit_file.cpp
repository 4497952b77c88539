#include "models/edit_file.h"

#include <algorithm>
#include <cmath>
#include <limits>
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

// An entry of the file, with the words that name it in errors.
struct Entry {
  Json& json;
  std::string where;
  fs::path folder;  // that relative files are in

  bool has(const char* key) const { return json.contains(key) && !json[key].is_null(); }

  std::string text(const Json& object, const char* key, const char* otherwise = nullptr) const {
    const auto at = object.find(key);
    if (at == object.end() && otherwise != nullptr) return otherwise;
    if (at == object.end() || !at->is_string()) fail("{}: key {}: expected a string", where, key);
    return at->get<std::string>();
  }

  float number(const char* key) const {
    const auto at = json.find(key);
    if (!has(key)) fail("{}: key {} is missing", where, key);
    if (!at->is_number() || !std::isfinite(at->get<double>()))
      fail("{}: key {}: found {}, expected a number", where, key, at->type_name());
    return at->get<float>();
  }

  std::int64_t position(const Json& value, const char* key) const {
    if (!value.is_number_integer())
      fail("{}: key {}: found {}, expected positions", where, key, value.type_name());
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
    const TokenSelector selector = TokenSelector::parse(wanted);
    if (selector.kind() == TokenSelector::Kind::mask || selector.kind() == TokenSelector::Kind::span)
      fail("{}: key {}: found {}, expected all, last, first, positions or every:N", where, key,
           selector.text());
    return selector;
  }

  std::vector<std::int64_t> heads() const {
    if (!has("heads")) return {};
    if (!json["heads"].is_array() || json["heads"].empty())
      fail("{}: key heads: expected an array of head numbers", where);
    return positions(json["heads"], "heads");
  }

  // The site that a store's rows are of: the edit's own unless the value names another.
  std::string store_site(Site site) const { return text(json["value"], "site", name(site).c_str()); }

  fs::path store() const {
    fs::path path = text(json["value"], "store");
    return path.is_relative() ? folder / path : path;
  }

  // A tensor of a file as rows [r, width].
  OwnedTensor tensor(std::int64_t width) {
    Json& value = json["value"];
    fs::path file = text(value, "file");
    if (file.is_relative()) file = folder / file;
    const auto tensors = Safetensors::open(file);
    const std::string tensor = text(value, "tensor");
    const SafetensorsTensor* found = tensors->find(tensor);
    if (found == nullptr) fail("{}: {} has no tensor '{}'", where, file.string(), tensor);
    const std::int64_t count = found->view.count();
    if (count == 0 || width == 0 || count % width != 0)
      fail("{}: tensor {}: found {}, expected rows of {}", where, tensor, found->view.describe(), width);
    value["sha256"] =
        sha256_hex(std::span(found->view.data, static_cast<std::size_t>(bytes_of(found->view.dtype, count))));
    OwnedTensor rows = make_tensor(DType::f32, {count / width, width});
    make_cpu_backend()->dequantise(Tensor(rows.view.data, DType::f32, {count}), found->view);
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

// Elements of a value's row: of the point's row, or of one of the named heads. Of scores and patterns the
// rows of a tensor are its first dimension, whatever their length: the forward knows the keys.
std::int64_t value_width(const Edit& edit, const Entry& entry, const ModelSpec& spec) {
  const std::vector<std::int64_t> shape = row_shape(edit.site.hook, spec.hook_sizes());
  const Json& value = entry.json["value"];
  if (!value.contains("file")) return 0;
  fs::path file = entry.text(value, "file");
  if (file.is_relative()) file = entry.folder / file;
  const auto tensors = Safetensors::open(file);
  const SafetensorsTensor* found = tensors->find(entry.text(value, "tensor"));
  std::int64_t width = 1;
  for (const std::int64_t n : shape) width *= n;
  if (found == nullptr || found->view.rank == 0) return width;
  const std::int64_t last = found->view.rank == 1 ? found->view.count() : found->view.width();
  if (info(edit.site.hook).shape == RowShape::HS) return last;
  if (edit.heads.empty()) return width;
  const auto named = static_cast<std::int64_t>(edit.heads.size());
  return last == named * shape[1] || last == width ? last : shape[1];
}

void read_value(Edit& edit, Entry& entry, const ModelSpec& spec) {
  if (!entry.has("value")) fail("{}: key value is missing", entry.where);
  const auto value = entry.json.find("value");
  const bool by_token = edit.op == EditOp::replace || edit.op == EditOp::add;
  if (!value->is_object()) {
    if (!by_token) fail("{}: key value: expected {{\"file\": .., \"tensor\": ..}}", entry.where);
    edit.number = entry.number("value");
    return;
  }
  const bool store = value->contains("store");
  for (const auto& [key, unused] : value->items())
    if (store ? key != "store" && key != "site" && key != "sha256"
              : key != "file" && key != "tensor" && key != "sha256")
      fail("{}: value: unknown key {}", entry.where, key);
  if (store) {
    if (edit.op == EditOp::project_out)
      fail("{}: project_out: expected a basis {{\"file\": .., \"tensor\": ..}}", entry.where);
    const std::string site = entry.store_site(edit.site);
    std::int64_t width = 1;
    for (const std::int64_t n : row_shape(edit.site.hook, spec.hook_sizes())) width *= n;
    if (by_token)
      edit.rows = rows_of_store(entry.store(), site, width, info(edit.site.hook).shape, entry.where);
    else
      edit.value = mean_of_store(entry.store(), site, entry.where);
    (*value)["sha256"] = sha256_file(entry.store() / "shards.jsonl");
    return;
  }
  OwnedTensor rows = entry.tensor(value_width(edit, entry, spec));
  if (by_token && rows.view.rows() > 1)
    edit.rows = rows_of_tensor(std::move(rows), entry.where);
  else if (edit.op == EditOp::mean_ablate)
    edit.value = mean_row(rows.view);
  else
    edit.value = std::move(rows);
}

Edit read_edit(Entry& entry, Site site, EditOp op, const ModelSpec& spec) {
  Edit edit{.site = site, .op = op, .tokens = entry.selector("tokens")};
  edit.heads = entry.heads();
  if (entry.has("keys")) edit.keys = entry.selector("keys");
  const auto unused = [&](std::initializer_list<const char*> keys) {
    for (const char* key : keys)
      if (entry.has(key)) fail("{}: op {} has no key {}", entry.where, kOps[static_cast<int>(op)], key);
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
          fail("{}: clamp: expected value, or min or max", entry.where);
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
  if (!entry.json.is_object()) fail("{}: found {}, expected an object", entry.where, entry.json.type_name());
  for (const auto& [key, value] : entry.json.items())
    if (std::ranges::find(kKeys, key) == std::end(kKeys)) fail("{}: unknown key {}", entry.where, key);
  const std::string op_name = entry.text(entry.json, "op");
  const auto op = std::ranges::find(kOps, op_name);
  if (op == std::end(kOps))
    fail("{}: key op: found '{}', expected {}", entry.where, op_name, fmt::join(kOps, ", "));
  for (const Site site :
       match_sites(entry.text(entry.json, "site"), spec.sites(), static_cast<int>(spec.n_layers)))
    out.edits.push_back(read_edit(entry, site, static_cast<EditOp>(op - std::begin(kOps)), spec));
}

}  // namespace

EditFile read_edits(const fs::path& path, const ModelSpec& spec) {
  EditFile out;
  out.json = read_json(path);
  if (!out.json.is_array())
    fail("{}: found {}, expected an array of edits", path.string(), out.json.type_name());
  for (std::size_t i = 0; i < out.json.size(); ++i)
    add_edits(out, {out.json[i], fmt::format("{}: edit {}", path.string(), i), path.parent_path()}, spec);
  return out;
}

}  // namespace sonde
