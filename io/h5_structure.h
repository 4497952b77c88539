// The structure of an HDF5 file as the store's writer makes it: superblock 0, groups as symbol tables, object
// headers of version 1, contiguous and virtual datasets. Read by us and not by HDF5's library, which crashes
// on some of the files that lie (docs/hostile-files.md).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/h5.h"
#include "io/mapped_file.h"

namespace sonde::h5 {

struct Found {
  H5Place place;
  std::uint64_t heap = 0;        // virtual: the collection of the global heap that holds its mappings,
  std::uint32_t heap_index = 0;  // and which object there; 0: an ordinary dataset
};

class Structure {
 public:
  // Reads all groups and dataset headers. Bytes of a dataset lie inside the file.
  explicit Structure(std::shared_ptr<MappedFile> file);

  const std::map<std::string, Found>& datasets() const { return datasets_; }  // by path: "/sums/count"
  std::vector<H5Mapping> mappings(const Found& dataset) const;
  const std::byte* bytes(const H5Place& place) const { return file_->data() + place.offset; }

 private:
  [[noreturn]] void damaged(std::uint64_t at, std::string_view found, std::string_view expected) const;
  std::string_view view(std::uint64_t at, std::uint64_t bytes) const;  // checked
  template <class T>
  T number(std::uint64_t at) const;
  std::string text(std::uint64_t at) const;  // up to its NUL
  void expect(std::uint64_t at, std::string_view signature) const;
  void visit();  // counts structures: more than the file can hold is a loop

  struct Messages;
  void read_group(const std::string& path, std::uint64_t header, int depth);
  void read_node(const std::string& path, std::uint64_t node, std::uint64_t names, int depth);
  Messages read_header(std::uint64_t header);
  void read_dataset(const std::string& path, const Messages& messages);

  std::shared_ptr<MappedFile> file_;
  std::map<std::string, Found> datasets_;
  std::uint64_t visits_ = 0;
};

}  // namespace sonde::h5
