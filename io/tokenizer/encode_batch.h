// Many texts at once, threads across texts; results do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "io/tokenizer/tokenizer.h"

namespace sonde {

// result[i] holds the ids of texts[i].
std::vector<std::vector<std::int32_t>> encode_batch(const Tokenizer& tokenizer,
                                                    std::span<const std::string> texts, SpecialText special,
                                                    AddSpecial add);

// Calls work(i) for i in [0, n) on all threads; the exception of the lowest i that threw is thrown again.
void for_each_parallel(std::size_t n, const std::function<void(std::size_t)>& work);

}  // namespace sonde
