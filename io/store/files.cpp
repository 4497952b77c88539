#include "io/store/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "io/file_util.h"
#include "runtime/error.h"

namespace sonde {
namespace {

using std::filesystem::path;

// Files are written in pieces below the 2 GiB that one system call takes.
constexpr std::int64_t kPiece = std::int64_t{1} << 30;

}  // namespace

File::File(const path& file, int flags) : path_(file), fd_(::open(file.c_str(), flags | O_CLOEXEC, 0666)) {
  if (fd_ < 0) fail_errno(file, (flags & O_ACCMODE) == O_RDONLY ? "open" : "open for writing", errno);
}
File::File(File&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}
File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

std::int64_t File::size() const {
  struct stat status {};
  if (fstat(fd_, &status) != 0) fail_errno(path_, "read the size", errno);
  return status.st_size;
}

void File::write_at(const void* data, std::int64_t n, std::int64_t offset) const {
  const char* from = static_cast<const char*>(data);
  while (n > 0) {
    const ssize_t done = pwrite(fd_, from, static_cast<std::size_t>(std::min(n, kPiece)), offset);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail_errno(path_, "write", done == 0 ? ENOSPC : errno);
    from += done;
    offset += done;
    n -= done;
  }
}

void File::read_at(void* out, std::int64_t n, std::int64_t offset) const {
  char* to = static_cast<char*>(out);
  while (n > 0) {
    const ssize_t done = pread(fd_, to, static_cast<std::size_t>(std::min(n, kPiece)), offset);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail_errno(path_, "read", errno);
    if (done == 0) fail("{}: the file ends at byte {}, expected {} more", path_.string(), offset, n);
    to += done;
    offset += done;
    n -= done;
  }
}

void File::append(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t done = write(fd_, text.data(), text.size());
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail_errno(path_, "write", done == 0 ? ENOSPC : errno);
    text.remove_prefix(static_cast<std::size_t>(done));
  }
}

void File::sync() const {
  if (fsync(fd_) != 0) fail_errno(path_, "flush to disk", errno);
}

void File::truncate(std::int64_t size) const {
  if (ftruncate(fd_, size) != 0) fail_errno(path_, "truncate", errno);
}

void rename_durably(const path& from, const path& to) {
  if (rename(from.c_str(), to.c_str()) != 0) fail_errno(to, "rename the finished file", errno);
  sync_directory(to.parent_path());
}

void make_directories(const path& dir) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (!error && !std::filesystem::is_directory(dir, error))
    error = std::make_error_code(std::errc::not_a_directory);
  if (error) fail_errno(dir, "make the folder", error.value());
}

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

}  // namespace sonde
