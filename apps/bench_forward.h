// Forwards over documents of random tokens, as benchmarks run them.
#pragma once

#include <cstdint>
#include <vector>

#include "io/activation_store.h"
#include "models/transformer.h"

namespace sonde {

// Copies what it is given, as a store's staging buffer would.
class MemorySink : public CaptureSink {
 public:
  void put(Site, Tensor rows, std::int64_t) override;

 private:
  std::vector<std::byte> memory_;
};

// Documents of random tokens, all the same length, in batches within the token budget; every token is
// recorded.
class BenchBatches {
 public:
  BenchBatches(std::int64_t tokens_per_document, std::int64_t documents, std::int64_t budget,
               std::int64_t vocab);

  std::int64_t tokens() const { return static_cast<std::int64_t>(ids_.size()); }
  std::int64_t count() const { return static_cast<std::int64_t>(starts_.size()); }
  std::int64_t largest() const { return starts_[0].back(); }
  // writer: of a store with so many rows and batches, where the captured rows go to one.
  void run(Transformer& transformer, Hooks& hooks, StoreWriter* writer = nullptr) const;

 private:
  std::vector<std::int32_t> ids_, positions_, selected_;
  std::vector<std::int64_t> document_;             // of each token
  std::vector<std::vector<std::int32_t>> starts_;  // per batch, from 0
};

}  // namespace sonde
