#include <utility>

#include <fmt/ranges.h>

#include "io/h5.h"
#include "io/h5_structure.h"
#include "runtime/error.h"

namespace sonde {
namespace {

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

const h5::Found& find(const h5::Structure& structure, const std::filesystem::path& file,
                      const std::string& name) {
  const auto at = structure.datasets().find(name);
  if (at == structure.datasets().end()) fail("{}: found no dataset {}", file.string(), name);
  return at->second;
}

}  // namespace

std::int64_t H5Dataset::bytes() const {
  std::int64_t bytes = info(dtype).block_bytes;
  for (const std::int64_t dim : shape)  // a shape that a file made up may be too large to count
    if (__builtin_mul_overflow(bytes, dim, &bytes)) return INT64_MAX;
  return bytes;
}

H5File::H5File(const std::filesystem::path& path)
    : path_(path), structure_(std::make_unique<h5::Structure>(MappedFile::open(path))) {}
H5File::~H5File() = default;

bool H5File::has(const std::string& name) const {
  const auto& datasets = structure_->datasets();
  const auto inside = datasets.lower_bound(name + "/");
  return datasets.contains(name) || (inside != datasets.end() && inside->first.starts_with(name + "/"));
}

H5Place H5File::place(const std::string& name) const { return find(*structure_, path_, name).place; }

std::vector<H5Mapping> H5File::mappings(const std::string& name) const {
  return structure_->mappings(find(*structure_, path_, name));
}

const std::byte* H5File::expect(const H5Dataset& expected) const {
  const h5::Found& found = find(*structure_, path_, expected.name);
  const H5Dataset& dataset = found.place.dataset;
  if (dataset.dtype != expected.dtype || dataset.shape != expected.shape)
    fail("{}: dataset {}: found {} {}, expected {} {}", path_.string(), expected.name, name(dataset.dtype),
         shape_text(dataset.shape), name(expected.dtype), shape_text(expected.shape));
  if (expected.bytes() > 0 && found.place.offset < 0)
    fail("{}: dataset {}: found no values, expected {} bytes", path_.string(), expected.name,
         expected.bytes());
  return structure_->bytes(found.place);
}

}  // namespace sonde
