// A whole file mapped read-only.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

namespace sonde {

class MappedFile {
 public:
  // A regular file (symlinks are followed); anything else is an Error. An empty file maps to no bytes.
  static std::shared_ptr<MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::size_t size() const { return size_; }
  // For Tensor views, which are not const; the pages are read-only.
  std::byte* data() const { return data_; }

 private:
  MappedFile(std::filesystem::path path, std::byte* data, std::size_t size);

  std::filesystem::path path_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace sonde
