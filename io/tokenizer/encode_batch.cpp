#include "io/tokenizer/encode_batch.h"

#include <cstddef>
#include <exception>
#include <mutex>

namespace sonde {

void for_each_parallel(std::size_t n, const std::function<void(std::size_t)>& work) {
  std::exception_ptr failure;
  std::size_t failed_at = n;
  std::mutex mutex;
#pragma omp parallel for schedule(dynamic, 16)
  for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(n); ++i) {
    const auto index = static_cast<std::size_t>(i);
    try {
      work(index);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (index < failed_at) {
        failed_at = index;
        failure = std::current_exception();
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
}

std::vector<std::vector<std::int32_t>> encode_batch(const Tokenizer& tokenizer,
                                                    std::span<const std::string> texts, SpecialText special,
                                                    AddSpecial add) {
  std::vector<std::vector<std::int32_t>> ids(texts.size());
  for_each_parallel(texts.size(), [&](std::size_t i) { tokenizer.encode(texts[i], special, add, ids[i]); });
  return ids;
}

}  // namespace sonde
