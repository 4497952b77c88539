// Random numbers of probes: a small generator for bootstrap draws and random features, and numpy's
// permutation.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

namespace sonde {

// SplitMix64 (Steele, Lea, Flood 2014). Seed and stream are scrambled apart, so that neighbours are
// unrelated.
class SplitMix {
 public:
  explicit SplitMix(std::uint64_t seed, std::uint64_t stream = 0)
      : state_(scramble(scramble(seed + 0x9e3779b97f4a7c15u) + stream * 0x9e3779b97f4a7c15u)) {}
  std::uint64_t next() { return scramble(state_ += 0x9e3779b97f4a7c15u); }
  std::uint64_t below(std::uint64_t n) {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(next()) * n) >> 64);
  }
  double uniform() { return (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53; }  // in (0, 1)
  double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(2 * std::numbers::pi * uniform()); }

 private:
  static std::uint64_t scramble(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
};

// numpy.random.RandomState(seed).permutation(n), number for number: what scikit-learn's splits are drawn
// with.
std::vector<std::int64_t> numpy_permutation(std::int64_t n, std::uint32_t seed);

}  // namespace sonde
