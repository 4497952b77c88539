// The algorithms of products on disk: a run finds what an earlier one chose, and a damaged file is named.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include <unistd.h>

#include "kernels/devices.h"

namespace sonde {
namespace {

namespace fs = std::filesystem;

class AlgorithmsOnDisk : public ::testing::Test {
 protected:
  AlgorithmsOnDisk() : before_(std::getenv("SONDE_CACHE") == nullptr ? "" : std::getenv("SONDE_CACHE")) {
    fs::create_directories(folder_);
    setenv("SONDE_CACHE", folder_.c_str(), 1);
  }
  ~AlgorithmsOnDisk() override {
    before_.empty() ? unsetenv("SONDE_CACHE") : setenv("SONDE_CACHE", before_.c_str(), 1);
    fs::remove_all(folder_);
  }
  // The product of two seeded matrices by a backend that starts now.
  std::vector<float> product(const fs::path& recorded = {}) const {
    const std::int64_t rows = 8, n = 64, k = 512;
    const auto backend = make_emulated_backend(recorded);
    Buffer w_memory(n * k * 4), x_memory(rows * k * 4), x_there, back;
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    const Tensor w = w_memory.tensor(DType::f32, {n, k}), x = x_memory.tensor(DType::f32, {rows, k});
    for (const Tensor& t : {w, x})
      for (std::int64_t i = 0; i < t.count(); ++i) t.f32()[i] = normal(random);
    const auto weight = backend->prepare_weight(w, Precision::f32);
    Buffer y_memory = backend->allocate(rows * n * 4);
    const Tensor y = y_memory.tensor(DType::f32, {rows, n});
    backend->linear(y, backend->on_device(x, x_there), *weight);
    const Tensor host = backend->on_host(y, back);
    return {host.f32(), host.f32() + host.count()};
  }
  fs::path file() const {
    for (const auto& entry : fs::directory_iterator(folder_))
      if (entry.is_regular_file()) return entry.path();
    return {};
  }
  std::string text() const {
    std::ifstream in(file());
    return {std::istreambuf_iterator<char>(in), {}};
  }

  fs::path folder_ = fs::temp_directory_path() / ("sonde_algorithms_" + std::to_string(getpid()));
  std::string before_;
};

TEST_F(AlgorithmsOnDisk, AreFoundByTheNextRun) {
  const std::vector<float> first = product();
  const std::string kept = text();
  ASSERT_NE(kept.find("8 rows 512 apart, weight 64 x 512, result 64 apart, f32: 0 0"), std::string::npos)
      << kept;
  EXPECT_EQ(product(), first);
  EXPECT_EQ(text(), kept) << "chosen once";
  std::string other = kept;
  other.replace(other.find(": 0"), 3, ": 1");  // as if another version of the heuristics had chosen
  std::ofstream(file()) << other;
  EXPECT_NE(product(), first) << "the algorithm of the file sums in another order";
  EXPECT_EQ(text(), other);
  other.replace(other.find(": 1"), 3, ": ff");  // the library does not know it: chosen anew
  std::ofstream(file()) << other;
  EXPECT_EQ(product(), first);
}

// What a run recorded decides, whatever the cache says by then.
TEST_F(AlgorithmsOnDisk, OfARunGoOnWithIt) {
  const fs::path run = folder_ / "run" / "algorithms.txt";
  const std::vector<float> first = product();
  std::string other = text();
  const fs::path cache = file();
  EXPECT_EQ(product(run), first);
  std::ifstream in(run);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), other) << "the cache's choice is recorded";
  other.replace(other.find(": 0"), 3, ": 1");
  std::ofstream(cache) << other;  // somebody chose anew
  EXPECT_NE(product(), first);
  EXPECT_EQ(product(run), first);
  fs::remove(cache);
  EXPECT_EQ(product(run), first);
  other.replace(other.find(": 1"), 3, ": ff");
  std::ofstream(run) << other;  // an algorithm that the library does not know
  try {
    product(run);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(run.string()), std::string::npos) << error.what();
  }
}

TEST_F(AlgorithmsOnDisk, ADamagedLineIsNamed) {
  product();
  std::ofstream(file(), std::ios::app) << "8 rows 512";
  try {
    product();
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("line 2"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace sonde
