// What the stages of a pipeline have captured, put together on each of them.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "models/model.h"
#include "tests/models/activations.h"

namespace sonde::test {

class Packed {
 public:
  explicit Packed(std::string packed = {}) : bytes(std::move(packed)) {}

  template <class T>
  void add(const std::vector<T>& values) {
    const std::size_t n = values.size();
    bytes.append(reinterpret_cast<const char*>(&n), sizeof n);
    bytes.append(reinterpret_cast<const char*>(values.data()), n * sizeof(T));
  }
  template <class T>
  std::vector<T> take() {
    std::size_t n = 0;
    std::memcpy(&n, bytes.data() + at_, sizeof n);
    std::vector<T> values(n);
    if (n > 0) std::memcpy(values.data(), bytes.data() + at_ + sizeof n, n * sizeof(T));
    at_ += sizeof n + n * sizeof(T);
    return values;
  }
  bool empty() const { return at_ == bytes.size(); }

  std::string bytes;

 private:
  std::size_t at_ = 0;
};

// Every site is one stage's.
inline std::vector<Activations> of_all_stages(const Model& model, std::vector<Activations> mine) {
  if (model.stages == nullptr) return mine;
  Packed packed;
  for (std::size_t d = 0; d < mine.size(); ++d)
    for (const auto& [site, captured] : mine[d]) {
      packed.add(std::vector<std::size_t>{d});
      packed.add(std::vector<char>(site.begin(), site.end()));
      packed.add(captured.row_shape);
      packed.add(std::vector<std::int64_t>{captured.rows});
      packed.add(captured.values);
    }
  std::vector<Activations> all(mine.size());
  for (std::string& bytes : model.stages->gather_bytes(packed.bytes))
    for (Packed theirs(std::move(bytes)); !theirs.empty();) {
      const std::size_t d = theirs.take<std::size_t>()[0];
      const std::vector<char> site = theirs.take<char>();
      Captured captured{theirs.take<std::int64_t>(), 0, {}};
      captured.rows = theirs.take<std::int64_t>()[0];
      captured.values = theirs.take<float>();
      const bool first = all[d].emplace(std::string(site.begin(), site.end()), std::move(captured)).second;
      EXPECT_TRUE(first) << std::string(site.begin(), site.end()) << " on two stages";
    }
  return all;
}

}  // namespace sonde::test
