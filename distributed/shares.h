// n units over `ranks` as evenly as whole units allow: rank r has [n r / ranks, n (r + 1) / ranks). A rank
// may get none.
#pragma once

#include <cstdint>

namespace sonde {

struct Share {
  std::int64_t begin, end;
  std::int64_t size() const { return end - begin; }
};

inline Share share_of(std::int64_t n, int rank, int ranks) {
  return {n * rank / ranks, n * (rank + 1) / ranks};
}

}  // namespace sonde
