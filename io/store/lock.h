// One writer per store. The lock dies with its process, kill -9 included.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace sonde {

class StoreLock {
 public:
  static constexpr const char* kLockFile = "writer.lock";
  virtual ~StoreLock() = default;  // gives the lock back

  // An Error names the holder's host and process. Takes a lock of the file system (fcntl), and where that has
  // none, a lock file that its holder keeps fresh: it is stale when its process is gone, or on another host
  // when its time is older than kStaleSeconds. SONDE_STORE_LOCK=file in the environment asks for the lock
  // file.
  static std::unique_ptr<StoreLock> take(const std::filesystem::path& dir,
                                         const std::string& file = kLockFile);

  static constexpr int kBeatSeconds = 10, kStaleSeconds = 120;
};

}  // namespace sonde
