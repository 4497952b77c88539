#include "io/file_util.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/error.h"

namespace sonde {
namespace {

namespace fs = std::filesystem;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int close() { return fd_ < 0 ? 0 : ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

// Removes a temporary file unless it was renamed into place.
struct RemoveOnFailure {
  fs::path path;
  bool armed = true;
  ~RemoveOnFailure() {
    if (armed) ::unlink(path.c_str());
  }
};

void write_all(const fs::path& path, int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno(path, "write", errno);
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

std::string hint_for(int error) {
  switch (error) {
    case ENOENT:
      return "check the spelling of the path";
    case EACCES:
    case EPERM:
    case EROFS:
      return "check the permissions of the file and of its folder";
    case ENOSPC:
    case EDQUOT:
      return "free some space, or write to another disk";
    case EMFILE:
      return "raise the limit of open files (ulimit -n)";
    default:
      return {};
  }
}

// Bytes of the UTF-8 character at the start of text; 0 where it is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  const std::size_t length = first < 0x80                    ? 1
                             : first >= 0xc2 && first < 0xe0 ? 2
                             : first >= 0xe0 && first < 0xf0 ? 3
                             : first >= 0xf0 && first < 0xf5 ? 4
                                                             : 0;
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  return length;
}

}  // namespace

void fail_errno(const fs::path& path, std::string_view action, int error) {
  throw Error(fmt::format("{}: cannot {}: {}", path.string(), action, std::strerror(error)), hint_for(error));
}

std::string read_file(const fs::path& path, std::int64_t max_bytes) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) fail_errno(path, "open", errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail_errno(path, "stat", errno);
  if (!S_ISREG(status.st_mode)) fail("{}: expected a regular file, found something else", path.string());
  if (status.st_size > max_bytes)
    fail("{}: found {} bytes, expected at most {}", path.string(), status.st_size, max_bytes);

  std::string bytes(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno(path, "read", errno);
    if (n == 0) fail("{}: ended after {} of {} bytes while it was read", path.string(), done, bytes.size());
    done += static_cast<std::size_t>(n);
  }
  return bytes;
}

bool is_device_or_pipe(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  return fs::exists(status) && !fs::is_regular_file(status) && !fs::is_directory(status);
}

void write_file_atomically(const fs::path& path, std::string_view bytes) {
  if (is_device_or_pipe(path)) {
    Descriptor device(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (device.get() < 0) fail_errno(path, "open for writing", errno);
    write_all(path, device.get(), bytes);
    if (device.close() != 0) fail_errno(path, "close", errno);
    return;
  }
  static std::atomic<unsigned> counter = 0;
  fs::path temporary = path;
  temporary += fmt::format(".tmp-{}-{}", ::getpid(), counter++);
  RemoveOnFailure guard{temporary};

  Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (file.get() < 0) {
    guard.armed = false;
    fail_errno(path, "create", errno);
  }
  write_all(path, file.get(), bytes);
  if (::fsync(file.get()) != 0) fail_errno(path, "fsync", errno);
  if (file.close() != 0) fail_errno(path, "close", errno);
  if (::rename(temporary.c_str(), path.c_str()) != 0) fail_errno(path, "rename into place", errno);
  guard.armed = false;
  sync_directory(path.parent_path());
}

void sync_directory(const fs::path& dir) {
  const fs::path path = dir.empty() ? fs::path(".") : dir;
  const Descriptor folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() < 0) fail_errno(path, "open", errno);
  // Some file systems cannot sync a directory and say so with EINVAL: nothing more can be done there.
  if (::fsync(folder.get()) != 0 && errno != EINVAL) fail_errno(path, "fsync", errno);
}

std::string printable(std::string_view text, std::size_t limit) {
  std::string out;
  for (std::size_t shown = 0; !text.empty(); ++shown) {
    if (shown == limit) return out + "...";
    const auto first = static_cast<unsigned char>(text[0]);
    const std::size_t length = utf8_length(text);
    if (length == 0 || first < 0x20 || first == 0x7f) {
      out += fmt::format("\\x{:02x}", first);
      text.remove_prefix(1);
    } else {
      out += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return out;
}

}  // namespace sonde
