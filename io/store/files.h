// POSIX files as a store needs them, on top of file_util.h: checked positioned reads and writes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace sonde {

// Owns a file descriptor; every call throws on failure.
class File {
 public:
  File() = default;
  File(const std::filesystem::path& path, int flags);  // open(2), O_CLOEXEC added, mode 0666
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  int fd() const { return fd_; }
  std::int64_t size() const;
  void write_at(const void* data, std::int64_t n, std::int64_t offset) const;
  void read_at(void* out, std::int64_t n, std::int64_t offset) const;  // a file that ends before is an Error
  void append(std::string_view text) const;                            // of a file opened with O_APPEND
  void sync() const;
  void truncate(std::int64_t size) const;

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

void rename_durably(const std::filesystem::path& from,
                    const std::filesystem::path& to);  // the file is synced
void make_directories(const std::filesystem::path& dir);
std::string host_name();

}  // namespace sonde
