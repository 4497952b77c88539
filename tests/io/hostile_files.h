// What the tests of hostile files share: bytes put together by hand, and the error they must end in.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <string>
#include <string_view>

#include "runtime/error.h"
#include "tests/io/tokenizer_files.h"

namespace sonde::test {

// Little-endian bytes of a file.
class Bytes {
 public:
  template <class T>
  Bytes& put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  Bytes& raw(std::string_view text) { return bytes_ += text, *this; }
  Bytes& text(std::string_view text) { return put<std::uint64_t>(text.size()).raw(text); }
  Bytes& align(std::size_t n) { return bytes_.resize((bytes_.size() + n - 1) / n * n), *this; }
  const std::string& str() const { return bytes_; }

 private:
  std::string bytes_;
};

// Writes `bytes` as a file, reads it, and gives "message HINT: hint", or "" where it is read. An Error is the
// only exception there may be: anything else fails the test.
inline std::string refusal(const std::string& name, const std::string& bytes,
                           const std::function<void(const std::filesystem::path&)>& read) {
  const TemporaryFolder folder;
  const auto file = folder.write(name, bytes);
  try {
    read(file);
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_THAT(message, testing::HasSubstr(name)) << "names no file";
    EXPECT_EQ(message.find('\n'), std::string::npos);
    return message + " HINT: " + error.hint();
  }
  return "";
}

// CPU seconds of this thread and its children in `action`.
inline double cpu_seconds(const std::function<void()>& action) {
  const std::clock_t start = std::clock();
  action();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

// How much longer `action(4 n)` takes than `action(n)`: about 4 where the time is linear, 16 where it is
// quadratic. The best of three, since the machine is shared.
inline double growth(std::size_t n, const std::function<void(std::size_t)>& action) {
  double best = 1e9;
  for (int trial = 0; trial < 3 && best > 8; ++trial) {
    const double small = cpu_seconds([&] { action(n); }), large = cpu_seconds([&] { action(4 * n); });
    best = std::min(best, large / std::max(small, 1e-3));
  }
  return best;
}

}  // namespace sonde::test
