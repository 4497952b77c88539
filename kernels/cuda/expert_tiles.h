// A mixture's products with many rows, in tiles of an expert's rows each.
#pragma once

#include "kernels/cuda/experts.cuh"

namespace sonde::SONDE_GPU {

// Which rows are each expert's, found on the device.
struct RowsOfExperts {
  const int* counts;  // [n]
  const int* lists;   // [n, capacity]: the first counts[e] of each are rows, in no order
  int n;
  int capacity;  // tokens: a token's experts differ
  RowsOfExperts only(int expert) const {
    return {counts + expert, lists + std::int64_t{expert} * capacity, 1, capacity};
  }
};
// Words of memory that a choice of T tokens takes.
inline std::int64_t words_of_lists(std::int64_t experts, std::int64_t tokens) {
  return experts * (1 + tokens);
}
RowsOfExperts list_rows(Stream& stream, const Choice& choice, int tokens, int* memory);

// y[i][c] = w_e[c] . x[i / rows_of_one_x] for the rows i of every expert e; w_e [N, K] contiguous. Rows of x
// and w begin at multiples of 16 bytes.
template <class T>  // float, bf16, f16
struct ExpertOperands {
  Rows y;
  const T* x;
  std::int64_t x_stride;
  int rows_of_one_x;
  const T* const* weights;  // [n] on the device; null: `weight` is the only one
  const T* weight;
  std::int64_t n, k;
  std::int64_t rows;  // of all experts, at most
};
template <class T>
void expert_tiles(Stream& stream, const ExpertOperands<T>& o, const RowsOfExperts& rows);

}  // namespace sonde::SONDE_GPU
