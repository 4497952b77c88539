#include "models/edit_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "io/hash.h"
#include "io/safetensors.h"
#include "kernels/backend.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::array<std::string_view, 5> kOps = {"replace", "add", "scale", "zero",
                                                  "project_out"};  // as EditOp

std::string text_of(const Json& entry, const char* key, const std::string& where, const char* otherwise) {
  const auto at = entry.find(key);
  if (at == entry.end() && otherwise != nullptr) return otherwise;
  if (at == entry.end() || !at->is_string()) fail("{}: key {}: expected a string", where, key);
  return at->get<std::string>();
}

float number_of(const Json& value, const std::string& where, const char* key) {
  if (!value.is_number() || !std::isfinite(value.get<double>()))
    fail("{}: key {}: found {}, expected a number", where, key, value.type_name());
  return value.get<float>();
}

// The rows of a value: a tensor of a file as [r, width], or one row filled with a number.
OwnedTensor read_value(Json& entry, const std::string& where, const std::filesystem::path& folder,
                       std::int64_t width) {
  const auto at = entry.find("value");
  if (at == entry.end()) fail("{}: key value is missing", where);
  if (!at->is_object()) {
    OwnedTensor row = make_tensor(DType::f32, {1, width});
    std::fill_n(row.view.f32(), width, number_of(*at, where, "value"));
    return row;
  }
  std::filesystem::path file = text_of(*at, "file", where, nullptr);
  if (file.is_relative()) file = folder / file;
  const auto tensors = Safetensors::open(file);
  const std::string tensor = text_of(*at, "tensor", where, nullptr);
  const SafetensorsTensor* found = tensors->find(tensor);
  if (found == nullptr) fail("{}: {} has no tensor '{}'", where, file.string(), tensor);
  const std::int64_t count = found->view.count();
  if (count == 0 || count % width != 0)
    fail("{}: tensor {}: found {}, expected rows of {}", where, tensor, found->view.describe(), width);
  (*at)["sha256"] =
      sha256_hex(std::span(found->view.data, static_cast<std::size_t>(bytes_of(found->view.dtype, count))));
  OwnedTensor rows = make_tensor(DType::f32, {count / width, width});
  make_cpu_backend()->dequantise(Tensor(rows.view.data, DType::f32, {count}), found->view);
  return rows;
}

void add_edits(EditFile& out, Json& entry, const std::string& where, const std::filesystem::path& folder,
               const ModelSpec& spec) {
  if (!entry.is_object()) fail("{}: found {}, expected an object", where, entry.type_name());
  for (const auto& [key, value] : entry.items())
    if (key != "site" && key != "op" && key != "tokens" && key != "value" && key != "coefficient")
      fail("{}: unknown key {}", where, key);
  const std::string op_name = text_of(entry, "op", where, nullptr);
  const auto op = std::ranges::find(kOps, op_name);
  if (op == kOps.end())
    fail("{}: key op: found '{}', expected replace, add, scale, zero or project_out", where, op_name);
  const TokenSelector tokens = TokenSelector::parse(text_of(entry, "tokens", where, "all"));
  const std::vector<Site> sites =
      match_sites(text_of(entry, "site", where, nullptr), spec.sites(), static_cast<int>(spec.n_layers));
  for (const Site site : sites) {
    Edit edit{.site = site,
              .op = static_cast<EditOp>(op - kOps.begin()),
              .tokens = tokens,
              .value = {},
              .coefficient = 1};
    if (entry.contains("coefficient"))
      edit.coefficient = number_of(entry["coefficient"], where, "coefficient");
    std::int64_t width = 1;
    for (const std::int64_t n : row_shape(site.hook, spec.hook_sizes())) width *= n;
    if (edit.op == EditOp::scale) {
      if (!entry.contains("value")) fail("{}: key value is missing", where);
      edit.coefficient = number_of(entry["value"], where, "value");
    } else if (edit.op != EditOp::zero) {
      edit.value = read_value(entry, where, folder, width);
    }
    out.edits.push_back(std::move(edit));
  }
}

}  // namespace

EditFile read_edits(const std::filesystem::path& path, const ModelSpec& spec) {
  EditFile out;
  out.json = read_json(path);
  if (!out.json.is_array())
    fail("{}: found {}, expected an array of edits", path.string(), out.json.type_name());
  for (std::size_t i = 0; i < out.json.size(); ++i)
    add_edits(out, out.json[i], fmt::format("{}: edit {}", path.string(), i), path.parent_path(), spec);
  return out;
}

}  // namespace sonde
