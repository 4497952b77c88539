// Every op of the backend in float64, one thread, straight from its formula: what the fast kernels are judged
// by. Shares no code with them. Matrices are row-major vectors of double; shapes come as arguments.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace sonde::oracle {

using Values = std::vector<double>;
using Index = std::size_t;

// y [T, N] = x [T, K] w' [N, K] + bias [N] (empty: none)
inline Values linear(const Values& x, const Values& w, const Values& bias, Index T, Index N, Index K) {
  Values y(T * N);
  for (Index t = 0; t < T; ++t)
    for (Index n = 0; n < N; ++n) {
      double sum = bias.empty() ? 0 : bias[n];
      for (Index k = 0; k < K; ++k) sum += x[t * K + k] * w[n * K + k];
      y[t * N + n] = sum;
    }
  return y;
}

// sqrt(mean(x^2) + eps) of each row of x [T, D]
inline Values rms_scale(const Values& x, Index T, Index D, double eps) {
  Values scale(T);
  for (Index t = 0; t < T; ++t) {
    double sum = 0;
    for (Index d = 0; d < D; ++d) sum += x[t * D + d] * x[t * D + d];
    scale[t] = std::sqrt(sum / static_cast<double>(D) + eps);
  }
  return scale;
}

inline Values rms_norm(const Values& x, const Values& weight, Index T, Index D, double eps) {
  const Values scale = rms_scale(x, T, D, eps);
  Values y(T * D);
  for (Index i = 0; i < T * D; ++i) y[i] = x[i] / scale[i / D] * weight[i % D];
  return y;
}

inline Values add(const Values& a, const Values& b) {
  Values y(a.size());
  for (Index i = 0; i < a.size(); ++i) y[i] = a[i] + b[i];
  return y;
}

// x [T, H, E]; cos, sin [P, half]: the pair (x[i], x[i + half]) turns by the angle of its position.
inline Values rope(const Values& x, std::span<const std::int32_t> positions, const Values& cos,
                   const Values& sin, Index T, Index H, Index E, Index half) {
  Values y = x;
  for (Index t = 0; t < T; ++t)
    for (Index h = 0; h < H; ++h)
      for (Index i = 0; i < half; ++i) {
        const Index lo = (t * H + h) * E + i, hi = lo + half;
        const Index angle = static_cast<Index>(positions[t]) * half + i;
        y[lo] = x[lo] * cos[angle] - x[hi] * sin[angle];
        y[hi] = x[hi] * cos[angle] + x[lo] * sin[angle];
      }
  return y;
}

inline Values silu_mul(const Values& gate, const Values& up) {
  Values y(gate.size());
  for (Index i = 0; i < gate.size(); ++i) y[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
  return y;
}

// [T, H, S]: scale q.k for keys of the own document up to the own token, -inf elsewhere.
inline Values attention_scores(const Values& q, const Values& k, std::span<const std::int32_t> starts,
                               double scale, Index H, Index K, Index E, Index S) {
  Values scores(q.size() / E * S, -std::numeric_limits<double>::infinity());
  for (Index d = 0; d + 1 < starts.size(); ++d) {
    const auto begin = static_cast<Index>(starts[d]), end = static_cast<Index>(starts[d + 1]);
    for (Index t = begin; t < end; ++t)
      for (Index h = 0; h < H; ++h)
        for (Index key = begin; key <= t; ++key) {
          double sum = 0;
          for (Index e = 0; e < E; ++e) sum += q[(t * H + h) * E + e] * k[(key * K + h / (H / K)) * E + e];
          scores[(t * H + h) * S + key - begin] = sum * scale;
        }
  }
  return scores;
}

// Over the last S values of each row.
inline Values softmax(const Values& x, Index S) {
  Values y(x.size());
  for (Index row = 0; row < x.size() / S; ++row) {
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (Index s = 0; s < S; ++s) largest = std::fmax(largest, x[row * S + s]);
    for (Index s = 0; s < S; ++s) sum += y[row * S + s] = std::exp(x[row * S + s] - largest);
    for (Index s = 0; s < S; ++s) y[row * S + s] /= sum;
  }
  return y;
}

// z [T, H, E] = pattern [T, H, S] times the values of the token's document
inline Values attention_apply(const Values& pattern, const Values& v, std::span<const std::int32_t> starts,
                              Index H, Index K, Index E, Index S) {
  Values z(pattern.size() / S * E, 0.0);
  for (Index d = 0; d + 1 < starts.size(); ++d) {
    const auto begin = static_cast<Index>(starts[d]), end = static_cast<Index>(starts[d + 1]);
    for (Index t = begin; t < end; ++t)
      for (Index h = 0; h < H; ++h)
        for (Index key = begin; key < end; ++key)
          for (Index e = 0; e < E; ++e)
            z[(t * H + h) * E + e] +=
                pattern[(t * H + h) * S + key - begin] * v[(key * K + h / (H / K)) * E + e];
  }
  return z;
}

inline Values attention(const Values& q, const Values& k, const Values& v,
                        std::span<const std::int32_t> starts, double scale, Index H, Index K, Index E,
                        Index S) {
  return attention_apply(softmax(attention_scores(q, k, starts, scale, H, K, E, S), S), v, starts, H, K, E,
                         S);
}

// x - basis' (basis x) for one row x [D], basis [R, D]
inline Values project_out(const Values& x, const Values& basis, Index R, Index D) {
  Values y = x;
  for (Index r = 0; r < R; ++r) {
    double along = 0;
    for (Index d = 0; d < D; ++d) along += basis[r * D + d] * x[d];
    for (Index d = 0; d < D; ++d) y[d] -= along * basis[r * D + d];
  }
  return y;
}

// |a - b| / |b| over the whole tensor; infinities must be the same ones.
inline double relative_error(const Values& a, const Values& b) {
  double difference = 0, norm = 0;
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  for (Index i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) {
      if (std::isfinite(b[i])) norm += b[i] * b[i];
      continue;
    }
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  if (difference == 0) return 0;
  return std::isfinite(difference) && std::isfinite(norm) ? std::sqrt(difference / norm)
                                                          : std::numeric_limits<double>::infinity();
}

}  // namespace sonde::oracle
