// For LD_PRELOAD: a disk that is full after SONDE_TEST_DISK_BYTES more bytes of shards.
#include <dlfcn.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

bool is_shard(int fd) {
  char link[64], path[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, path, sizeof path - 1);
  path[n > 0 ? n : 0] = '\0';
  return std::strstr(path, "/shards/") != nullptr;
}

bool full(int fd, size_t bytes) {
  static std::atomic<long long> left = std::atoll(std::getenv("SONDE_TEST_DISK_BYTES"));
  if (!is_shard(fd) || (left -= static_cast<long long>(bytes)) >= 0) return false;
  errno = ENOSPC;
  return true;
}

template <class F>
F next(const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

ssize_t write(int fd, const void* data, size_t bytes) {
  static const auto real = next<ssize_t (*)(int, const void*, size_t)>("write");
  return full(fd, bytes) ? -1 : real(fd, data, bytes);
}
ssize_t pwrite(int fd, const void* data, size_t bytes, off_t at) {
  static const auto real = next<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  return full(fd, bytes) ? -1 : real(fd, data, bytes, at);
}
ssize_t pwrite64(int fd, const void* data, size_t bytes, off64_t at) {
  static const auto real = next<ssize_t (*)(int, const void*, size_t, off64_t)>("pwrite64");
  return full(fd, bytes) ? -1 : real(fd, data, bytes, at);
}

}  // extern "C"
