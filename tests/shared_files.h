// Where tests find the project's shared reference data; a clone without it skips those tests with this
// reason.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace sonde::test {

// SONDE_SHARED, or ../shared beside the source tree.
inline std::filesystem::path shared_dir() {
  if (const char* dir = std::getenv("SONDE_SHARED")) return dir;
  return std::filesystem::path(SONDE_SOURCE_DIR) / ".." / "shared";
}

}  // namespace sonde::test

#define SONDE_REQUIRE_SHARED(relative)                                                \
  const std::filesystem::path shared_path = ::sonde::test::shared_dir() / (relative); \
  if (!std::filesystem::exists(shared_path))                                          \
  GTEST_SKIP() << "reference data not here: " << shared_path.string() << " (set SONDE_SHARED)"
