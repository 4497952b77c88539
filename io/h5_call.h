// RAII ids and checked calls over HDF5's C interface. Included by h5*.cpp only.
#pragma once

#include <hdf5.h>

#include <filesystem>
#include <utility>

namespace sonde::h5 {

// Throws an Error with path, what was tried, and the innermost message of HDF5's error stack.
[[noreturn]] void fail_call(const std::filesystem::path& path, const char* call);
// HDF5 prints its error stack to stderr by default, per thread: switch that off in this one.
void be_quiet();

// result of an HDF5 call (ids and statuses are negative on failure).
template <class T>
T checked(T result, const std::filesystem::path& path, const char* call) {
  if (result < 0) fail_call(path, call);
  return result;
}

// Owns one id of any kind. H5Idec_ref closes whatever the id is.
class Id {
 public:
  Id() = default;
  explicit Id(hid_t id) : id_(id) {}
  Id(Id&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  Id& operator=(Id&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Id() {
    if (id_ >= 0) H5Idec_ref(id_);
  }
  operator hid_t() const { return id_; }
  hid_t release() { return std::exchange(id_, -1); }

 private:
  hid_t id_ = -1;
};

enum class Access { create, write };
Id open_file(const std::filesystem::path& path, Access access);
// Closing a written file is what writes it: failures count.
void close_file(Id file, const std::filesystem::path& path);

}  // namespace sonde::h5

// SONDE_H5(path, H5Dopen2(...)): the call's value, or an Error that names path and call.
#define SONDE_H5(path, call) ::sonde::h5::checked(call, path, #call)
