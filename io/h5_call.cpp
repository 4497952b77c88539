#include "io/h5_call.h"

#include <cstdlib>
#include <string>

#include "io/file_util.h"
#include "runtime/error.h"

namespace sonde::h5 {
namespace {

herr_t keep_innermost(unsigned n, const H5E_error2_t* error, void* out) {
  if (n == 0 && error->desc) *static_cast<std::string*>(out) = error->desc;
  return 0;
}

Id access_properties(const std::filesystem::path& path) {
  Id properties(SONDE_H5(path, H5Pcreate(H5P_FILE_ACCESS)));
  // Datasets of a page or more start on one, as O_DIRECT wants. The store has a lock of its own, and HDF5's
  // flock does not work everywhere.
  SONDE_H5(path, H5Pset_alignment(properties, 4096, 4096));
  SONDE_H5(path, H5Pset_file_locking(properties, false, true));
  SONDE_H5(path, H5Pset_fclose_degree(properties, H5F_CLOSE_STRONG));
  // The oldest structures that hold what we write, whatever the library's version: h5_structure.cpp reads
  // them.
  SONDE_H5(path, H5Pset_libver_bounds(properties, H5F_LIBVER_EARLIEST, H5F_LIBVER_V110));
  return properties;
}

}  // namespace

void be_quiet() {
  // A file that a full disk left half closed crashes HDF5's own clean-up at exit; all others are closed by
  // then.
  static const bool no_clean_up = H5dont_atexit() >= 0;
  static_cast<void>(no_clean_up);
  thread_local const bool quiet = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  static_cast<void>(quiet);
}

void fail_call(const std::filesystem::path& path, const char* call) {
  std::string message;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &message);
  // The driver's message carries the errno of the system call that failed.
  if (const auto at = message.find("errno = "); at != std::string::npos)
    fail_errno(path, "write or read through HDF5", std::atoi(message.c_str() + at + 8));
  const std::string_view name(call);
  fail("{}: HDF5 refuses {}: {}", path.string(), name.substr(0, name.find('(')),
       message.empty() ? "no message" : message);
}

Id open_file(const std::filesystem::path& path, Access access) {
  be_quiet();
  const Id properties = access_properties(path);
  const char* file = path.c_str();
  if (access == Access::create)
    return Id(SONDE_H5(path, H5Fcreate(file, H5F_ACC_TRUNC, H5P_DEFAULT, properties)));
  return Id(SONDE_H5(path, H5Fopen(file, H5F_ACC_RDWR, properties)));
}

void close_file(Id file, const std::filesystem::path& path) {
  // Flush first: it reports a full disk while the file can still be closed.
  SONDE_H5(path, H5Fflush(file, H5F_SCOPE_LOCAL));
  SONDE_H5(path, H5Fclose(file.release()));
}

}  // namespace sonde::h5
