// HDF5 as the store needs it, in plain types: whole files of contiguous datasets, where their bytes lie, and
// virtual datasets. HDF5's library writes: every C call is checked in h5.cpp; failures are sonde::Errors with
// its own message, nothing is printed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "runtime/dtype.h"

namespace sonde {

struct H5Attribute {
  std::string name;
  std::variant<std::string, std::int64_t> value;
};

struct H5Dataset {
  std::string name;  // "/blocks.0.hook_resid_post"; groups on the way are made
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::vector<H5Attribute> attributes = {};

  std::int64_t bytes() const;
};

// A dataset with its values, row-major.
struct H5Values {
  H5Dataset dataset;
  const void* values = nullptr;
};

// Where a dataset lies in its file. offset is -1 for a dataset without bytes or without a place of its own.
struct H5Place {
  H5Dataset dataset;  // without attributes
  std::int64_t offset = -1;
};

// Rows [first, first + rows) of a virtual dataset are all rows of `dataset` in `file` (relative to the
// index).
struct H5Mapping {
  std::string file, dataset;
  std::int64_t first = 0, rows = 0;
  friend bool operator==(const H5Mapping&, const H5Mapping&) = default;
};

struct H5Virtual {
  H5Dataset dataset;
  std::vector<H5Mapping> mappings;
};

// Creates a file; its datasets have their place in it (contiguous, aligned to 4096, nothing written). Returns
// the offset of each, so that the caller can write the bytes itself.
std::vector<std::int64_t> h5_create(const std::filesystem::path& path, std::span<const H5Dataset> datasets,
                                    std::span<const H5Attribute> attributes);
void h5_append(const std::filesystem::path& path, std::span<const H5Values> values);  // to an existing file
// Creates a file of virtual datasets and small ordinary ones.
void h5_create_index(const std::filesystem::path& path, std::span<const H5Virtual> virtuals,
                     std::span<const H5Values> values, std::span<const H5Attribute> attributes);

namespace h5 {
class Structure;
}

// A file open for reading, by our own reader of its structure (h5_structure.h): a file that lies is an Error.
class H5File {
 public:
  explicit H5File(const std::filesystem::path& path);
  H5File(const H5File&) = delete;
  H5File& operator=(const H5File&) = delete;
  ~H5File();

  bool has(const std::string& name) const;                         // a dataset, or a group that holds some
  H5Place place(const std::string& name) const;                    // its bytes are inside the file
  std::vector<H5Mapping> mappings(const std::string& name) const;  // empty for an ordinary dataset
  // Reads a small dataset; an absent one, another dtype or another shape is an Error. T: double, an integer.
  template <class T>
  std::vector<T> read(const H5Dataset& dataset) const {
    const std::byte* bytes = expect(dataset);
    std::vector<T> values(static_cast<std::size_t>(dataset.bytes()) / sizeof(T));
    std::copy_n(bytes, dataset.bytes(), reinterpret_cast<std::byte*>(values.data()));
    return values;
  }

 private:
  const std::byte* expect(const H5Dataset& dataset) const;

  std::filesystem::path path_;
  std::unique_ptr<h5::Structure> structure_;
};

}  // namespace sonde
