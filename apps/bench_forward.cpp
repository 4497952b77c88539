#include "apps/bench_forward.h"

#include <algorithm>
#include <cstring>
#include <random>

namespace sonde {

void MemorySink::put(Site, Tensor rows, std::int64_t) {
  const auto bytes = static_cast<std::size_t>(rows.count() * 4);
  if (memory_.size() < bytes) memory_.resize(bytes);
  std::memcpy(memory_.data(), rows.data, bytes);
}

BenchBatches::BenchBatches(std::int64_t tokens_per_document, std::int64_t documents, std::int64_t budget,
                           std::int64_t vocab) {
  std::mt19937 generator(1);
  for (std::int64_t i = 0; i < documents * tokens_per_document; ++i) {
    ids_.push_back(static_cast<std::int32_t>(generator() % static_cast<std::uint64_t>(vocab)));
    positions_.push_back(static_cast<std::int32_t>(i % tokens_per_document));
    selected_.push_back(static_cast<std::int32_t>(i));
    document_.push_back(i / tokens_per_document);
  }
  const std::int64_t per_batch = std::max<std::int64_t>(1, budget / tokens_per_document);
  for (std::int64_t d = 0; d < documents; d += per_batch) {
    std::vector<std::int32_t> starts;
    for (std::int64_t i = 0; i <= std::min(per_batch, documents - d); ++i)
      starts.push_back(static_cast<std::int32_t>(i * tokens_per_document));
    starts_.push_back(std::move(starts));
  }
}

void BenchBatches::run(Transformer& transformer, Hooks& hooks, StoreWriter* writer) const {
  std::size_t at = 0;
  std::int64_t number = 0;
  for (const auto& starts : starts_) {
    const auto n = static_cast<std::size_t>(starts.back());
    const auto part = [&](const auto& all) { return std::span(all).subspan(at, n); };
    if (writer != nullptr)
      writer->begin_batch(number++, static_cast<std::int64_t>(at),
                          {part(document_), part(positions_), part(ids_)});
    transformer.forward({part(ids_), part(positions_), Documents{starts}, std::span(selected_).first(n)},
                        hooks);
    if (writer != nullptr) writer->end_batch();
    at += n;
  }
}

}  // namespace sonde
