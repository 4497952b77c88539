#include "io/h5.h"

#include <algorithm>
#include <array>

#include "io/h5_call.h"
#include "runtime/error.h"

namespace sonde {
namespace {

using h5::Access;
using h5::Id;
using std::filesystem::path;

// A float of two bytes: mantissa bits from 0, exponent above, sign at bit 15.
Id half_type(const path& file, std::size_t exponent_bits, std::size_t bias) {
  Id type(SONDE_H5(file, H5Tcopy(H5T_IEEE_F32LE)));
  const std::size_t mantissa_bits = 15 - exponent_bits;
  SONDE_H5(file, H5Tset_fields(type, 15, mantissa_bits, exponent_bits, 0, mantissa_bits));
  SONDE_H5(file, H5Tset_size(type, 2));
  SONDE_H5(file, H5Tset_ebias(type, bias));
  return type;
}

Id file_type(const path& file, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return Id(SONDE_H5(file, H5Tcopy(H5T_IEEE_F32LE)));
    case DType::f64:
      return Id(SONDE_H5(file, H5Tcopy(H5T_IEEE_F64LE)));
    case DType::bf16:
      return half_type(file, 8, 127);
    case DType::f16:
      return half_type(file, 5, 15);
    case DType::i32:
      return Id(SONDE_H5(file, H5Tcopy(H5T_STD_I32LE)));
    case DType::i64:
      return Id(SONDE_H5(file, H5Tcopy(H5T_STD_I64LE)));
    case DType::u32:
      return Id(SONDE_H5(file, H5Tcopy(H5T_STD_U32LE)));
    default:
      fail("{}: the store has no datasets of {}", file.string(), name(dtype));
  }
}

std::vector<hsize_t> to_dims(const std::vector<std::int64_t>& shape) { return {shape.begin(), shape.end()}; }

Id make_space(const path& file, const std::vector<std::int64_t>& shape) {
  const auto dims = to_dims(shape);
  return Id(SONDE_H5(file, H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr)));
}

void put_attributes(const path& file, hid_t object, std::span<const H5Attribute> attributes) {
  for (const H5Attribute& attribute : attributes) {
    const Id scalar(SONDE_H5(file, H5Screate(H5S_SCALAR)));
    const auto* text = std::get_if<std::string>(&attribute.value);
    const Id type(SONDE_H5(file, H5Tcopy(text ? H5T_C_S1 : H5T_STD_I64LE)));
    if (text) {
      SONDE_H5(file, H5Tset_size(type, std::max<std::size_t>(text->size(), 1)));
      SONDE_H5(file, H5Tset_strpad(type, H5T_STR_NULLPAD));
      SONDE_H5(file, H5Tset_cset(type, H5T_CSET_UTF8));
    }
    const Id created(
        SONDE_H5(file, H5Acreate2(object, attribute.name.c_str(), type, scalar, H5P_DEFAULT, H5P_DEFAULT)));
    const void* bytes = text ? static_cast<const void*>(text->c_str())
                             : static_cast<const void*>(&std::get<std::int64_t>(attribute.value));
    SONDE_H5(file, H5Awrite(created, type, bytes));
  }
}

Id make_dataset(const path& file, hid_t h5, const H5Dataset& dataset, hid_t creation) {
  const Id links(SONDE_H5(file, H5Pcreate(H5P_LINK_CREATE)));
  SONDE_H5(file, H5Pset_create_intermediate_group(links, 1));
  const Id type = file_type(file, dataset.dtype);
  const Id space = make_space(file, dataset.shape);
  Id made(SONDE_H5(file, H5Dcreate2(h5, dataset.name.c_str(), type, space, links, creation, H5P_DEFAULT)));
  put_attributes(file, made, dataset.attributes);
  return made;
}

void put_values(const path& file, hid_t h5, std::span<const H5Values> values) {
  const Id creation(SONDE_H5(file, H5Pcreate(H5P_DATASET_CREATE)));
  SONDE_H5(file, H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY));
  SONDE_H5(file, H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER));
  for (const H5Values& item : values) {
    const Id made = make_dataset(file, h5, item.dataset, creation);
    const Id type = file_type(file, item.dataset.dtype);
    if (item.dataset.bytes() > 0)
      SONDE_H5(file, H5Dwrite(made, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, item.values));
  }
}

}  // namespace

std::vector<std::int64_t> h5_create(const path& file, std::span<const H5Dataset> datasets,
                                    std::span<const H5Attribute> attributes) {
  Id h5 = h5::open_file(file, Access::create);
  put_attributes(file, h5, attributes);
  const Id creation(SONDE_H5(file, H5Pcreate(H5P_DATASET_CREATE)));
  SONDE_H5(file, H5Pset_layout(creation, H5D_CONTIGUOUS));
  SONDE_H5(file, H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY));
  SONDE_H5(file, H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER));
  std::vector<std::int64_t> offsets;
  for (const H5Dataset& dataset : datasets) {
    const Id made = make_dataset(file, h5, dataset, creation);
    const haddr_t offset = H5Dget_offset(made);
    offsets.push_back(offset == HADDR_UNDEF ? -1 : static_cast<std::int64_t>(offset));
    if (dataset.bytes() > 0 && offsets.back() < 0)
      fail("{}: HDF5 gave dataset {} no place", file.string(), dataset.name);
  }
  h5::close_file(std::move(h5), file);
  return offsets;
}

void h5_append(const path& file, std::span<const H5Values> values) {
  Id h5 = h5::open_file(file, Access::write);
  put_values(file, h5, values);
  h5::close_file(std::move(h5), file);
}

void h5_create_index(const path& file, std::span<const H5Virtual> virtuals, std::span<const H5Values> values,
                     std::span<const H5Attribute> attributes) {
  Id h5 = h5::open_file(file, Access::create);
  put_attributes(file, h5, attributes);
  for (const H5Virtual& item : virtuals) {
    const Id creation(SONDE_H5(file, H5Pcreate(H5P_DATASET_CREATE)));
    const Id whole = make_space(file, item.dataset.shape);
    std::vector<std::int64_t> shape = item.dataset.shape;
    for (const H5Mapping& mapping : item.mappings) {
      shape[0] = mapping.rows;
      const auto count = to_dims(shape);
      std::vector<hsize_t> start(shape.size(), 0);
      start[0] = static_cast<hsize_t>(mapping.first);
      SONDE_H5(file,
               H5Sselect_hyperslab(whole, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr));
      const Id source = make_space(file, shape);
      SONDE_H5(file, H5Pset_virtual(creation, whole, mapping.file.c_str(), mapping.dataset.c_str(), source));
    }
    const Id made = make_dataset(file, h5, item.dataset, creation);
  }
  put_values(file, h5, values);
  h5::close_file(std::move(h5), file);
}

}  // namespace sonde
