#include "io/resumable_lines.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "io/file_util.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::size_t kFlushBytes = 1 << 16;

std::filesystem::path with_suffix(std::filesystem::path path, const char* suffix) {
  path += suffix;
  return path;
}

}  // namespace

ResumableLines::ResumableLines(std::filesystem::path out, std::string identity)
    : out_(std::move(out)),
      partial_(with_suffix(out_, ".partial")),
      identity_path_(with_suffix(out_, ".partial.identity")),
      direct_(is_device_or_pipe(out_)) {
  if (direct_) {
    fd_ = ::open(out_.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd_ < 0) fail_errno(out_, "open for writing", errno);
    return;
  }
  fd_ = ::open(partial_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) fail_errno(partial_, "open", errno);
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    fail_hint("wait for it, or choose another --out", "{}: another process writes it", partial_.string());
  std::error_code error;
  const bool lines =
      std::filesystem::exists(identity_path_) && std::filesystem::file_size(partial_, error) > 0;
  if (lines) {
    if (read_file(identity_path_) != identity)
      fail_hint("finish it with the options it was started with, or remove it",
                "{}: holds the lines of another job (other model, inputs or options)", partial_.string());
    // A line that was cut short by the kill is written again.
    const std::string text = read_file(partial_);
    std::size_t whole = 0;
    for (std::size_t end; (end = text.find('\n', whole)) != std::string::npos; whole = end + 1)
      found_.push_back(text.substr(whole, end - whole));
    if (::ftruncate(fd_, static_cast<off_t>(whole)) != 0) fail_errno(partial_, "truncate", errno);
    ::lseek(fd_, 0, SEEK_END);
  } else {
    if (::ftruncate(fd_, 0) != 0) fail_errno(partial_, "truncate", errno);
    write_file_atomically(identity_path_, identity);
  }
}

ResumableLines::~ResumableLines() {
  try {
    flush();
  } catch (const Error&) {  // what is on the disk stays; the job failed already
  }
  if (fd_ >= 0) ::close(fd_);
}

void ResumableLines::append(std::string_view line) {
  buffer_ += line;
  buffer_ += '\n';
  if (buffer_.size() >= kFlushBytes) flush();
}

void ResumableLines::flush() {
  std::string_view left = buffer_;
  while (!left.empty() && fd_ >= 0) {
    const ssize_t n = ::write(fd_, left.data(), left.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno(direct_ ? out_ : partial_, "write", errno);
    left.remove_prefix(static_cast<std::size_t>(n));
  }
  buffer_.clear();
}

void ResumableLines::finish() {
  flush();
  if (direct_) return;
  if (::fsync(fd_) != 0) fail_errno(partial_, "sync", errno);
  if (::rename(partial_.c_str(), out_.c_str()) != 0) fail_errno(out_, "create", errno);
  sync_directory(out_.parent_path().empty() ? "." : out_.parent_path());
  std::filesystem::remove(identity_path_);
  ::close(fd_);
  fd_ = -1;
}

}  // namespace sonde
