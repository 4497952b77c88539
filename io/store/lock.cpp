#include "io/store/lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>

#include "io/file_util.h"
#include "io/json.h"
#include "io/store/files.h"
#include "runtime/error.h"

namespace sonde {
namespace {

using std::filesystem::path;

// A process id means a process only together with its boot and its start time.
std::string read_proc(const std::string& file) {
  std::string text;
  std::ifstream in("/proc/" + file);
  std::getline(in, text, '\0');
  return text;
}
std::string boot_id() { return read_proc("sys/kernel/random/boot_id").substr(0, 36); }

// Field 22 of /proc/PID/stat, clock ticks since boot; empty when there is no such process.
std::string start_time(long pid) {
  const std::string stat = read_proc(std::to_string(pid) + "/stat");
  const auto name_end = stat.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream fields(stat.substr(name_end + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  return field;
}

std::string our_card() {
  const long pid = getpid();
  return Json{{"host", host_name()}, {"pid", pid}, {"boot", boot_id()}, {"start", start_time(pid)}}.dump() +
         "\n";
}

struct Holder {
  std::string host = "an unknown host", boot, start;
  long pid = 0;
};

Holder parse_card(const std::string& card) {
  Holder holder;
  try {
    const Json json = parse_json(card, "lock");
    holder.host = json.value("host", holder.host);
    holder.pid = json.value("pid", 0L);
    holder.boot = json.value("boot", "");
    holder.start = json.value("start", "");
  } catch (const std::exception&) {  // a card that is half written: the holder stays unknown
  }
  return holder;
}

std::string read_card(const path& file) {
  try {
    return read_file(file, 4096);
  } catch (const Error&) {
    return {};
  }
}

[[noreturn]] void fail_held(const path& dir, const Holder& holder) {
  fail_hint("wait for it, stop it, or give another --out",
            "{}: another writer holds this store: process {} on {}", dir.string(), holder.pid, holder.host);
}

// The file stays when the lock is given back: removing it would let two writers hold two files of one name.
class KernelLock : public StoreLock {
 public:
  explicit KernelLock(File file) : file_(std::move(file)) {}
  ~KernelLock() override {
    if (ftruncate(file_.fd(), 0) != 0) return;  // the card is for messages only
  }

 private:
  File file_;
};

// nullptr where the file system has no locks.
std::unique_ptr<StoreLock> take_kernel_lock(const path& dir, const std::string& lock) {
  const path name = dir / lock;
  File file(name, O_RDWR | O_CREAT);
  struct flock request {};
  request.l_type = F_WRLCK;
  request.l_whence = SEEK_SET;
  if (fcntl(file.fd(), F_OFD_SETLK, &request) == 0) {
    const std::string card = our_card();
    file.truncate(0);
    file.write_at(card.data(), static_cast<std::int64_t>(card.size()), 0);
    return std::make_unique<KernelLock>(std::move(file));
  }
  if (errno == EAGAIN || errno == EACCES) fail_held(dir, parse_card(read_card(name)));
  if (errno == ENOSYS || errno == ENOTSUP || errno == ENOLCK || errno == EINVAL) return nullptr;
  fail_errno(name, "lock", errno);
}

// A file made with O_EXCL, whose time a thread keeps fresh.
class FileLock : public StoreLock {
 public:
  FileLock(path file, std::string card) : file_(std::move(file)), card_(std::move(card)) {
    beat_ = std::thread([this] {
      std::unique_lock guard(mutex_);
      while (!done_.wait_for(guard, std::chrono::seconds(kBeatSeconds), [this] { return stop_; }))
        utimensat(AT_FDCWD, file_.c_str(), nullptr, 0);
    });
  }
  ~FileLock() override {
    {
      const std::lock_guard guard(mutex_);
      stop_ = true;
    }
    done_.notify_all();
    beat_.join();
    if (read_card(file_) == card_) unlink(file_.c_str());
  }

 private:
  path file_;
  std::string card_;
  std::mutex mutex_;
  std::condition_variable done_;
  bool stop_ = false;
  std::thread beat_;
};

bool is_stale(const path& file, const Holder& holder) {
  if (holder.host == host_name() && !holder.boot.empty())
    return holder.boot != boot_id() || start_time(holder.pid) != holder.start;
  struct stat status {};
  if (stat(file.c_str(), &status) != 0) return false;  // gone: the next try finds out
  return std::time(nullptr) - status.st_mtime > StoreLock::kStaleSeconds;
}

std::unique_ptr<StoreLock> take_file_lock(const path& dir, const std::string& lock) {
  const path name = dir / (lock + ".held");
  const std::string card = our_card();
  // The card is written beside and linked into place, so that nobody ever sees a lock without its holder.
  const path mine = dir / fmt::format("{}.{}.{}", lock, host_name(), getpid());
  for (int attempt = 0; attempt < 100; ++attempt) {
    {
      const File file(mine, O_WRONLY | O_CREAT | O_TRUNC);
      file.write_at(card.data(), static_cast<std::int64_t>(card.size()), 0);
    }
    // rename2's RENAME_NOREPLACE and link(2) both fail where the name exists; link works on more file
    // systems.
    int error = link(mine.c_str(), name.c_str()) == 0 ? 0 : errno;
    if (error == EPERM || error == ENOTSUP || error == ENOSYS || error == EOPNOTSUPP) {
      const int fd = open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      error = fd >= 0 ? 0 : errno;
      if (fd >= 0 && write(fd, card.data(), card.size()) < 0) error = errno;
      if (fd >= 0) close(fd);
    }
    unlink(mine.c_str());
    if (error == 0) return std::make_unique<FileLock>(name, card);
    if (error != EEXIST) fail_errno(name, "make the lock file", error);

    const std::string found = read_card(name);
    const Holder holder = parse_card(found);
    if (!is_stale(name, holder)) {
      if (std::filesystem::exists(name)) fail_held(dir, holder);
      continue;
    }
    // Take the stale file away under a name of our own. If another writer was quicker and this is its fresh
    // lock, give it back.
    if (rename(name.c_str(), mine.c_str()) == 0 && read_card(mine) != found) {
      if (link(mine.c_str(), name.c_str()) != 0) rename(mine.c_str(), name.c_str());
    }
    unlink(mine.c_str());
  }
  fail("{}: writers keep taking this lock from each other", name.string());
}

}  // namespace

std::unique_ptr<StoreLock> StoreLock::take(const path& dir, const std::string& file) {
  const char* chosen = std::getenv("SONDE_STORE_LOCK");
  const std::string_view kind = chosen ? chosen : "auto";
  if (kind != "auto" && kind != "file")
    throw UsageError(fmt::format("SONDE_STORE_LOCK: found '{}', expected auto or file", printable(kind)));
  if (kind == "auto")
    if (auto lock = take_kernel_lock(dir, file)) return lock;
  return take_file_lock(dir, file);
}

}  // namespace sonde
