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

// Rows of x [T, D], each without its mean where the norm is centred (LayerNorm).
inline Values centre(Values x, Index T, Index D, bool centred) {
  for (Index t = 0; t < T && centred; ++t) {
    double mean = 0;
    for (Index d = 0; d < D; ++d) mean += x[t * D + d] / static_cast<double>(D);
    for (Index d = 0; d < D; ++d) x[t * D + d] -= mean;
  }
  return x;
}

// sqrt(mean(x^2) + eps) of each row of x [T, D]
inline Values norm_scale(const Values& given, Index T, Index D, double eps, bool centred = false) {
  const Values x = centre(given, T, D, centred);
  Values scale(T);
  for (Index t = 0; t < T; ++t) {
    double sum = 0;
    for (Index d = 0; d < D; ++d) sum += x[t * D + d] * x[t * D + d];
    scale[t] = std::sqrt(sum / static_cast<double>(D) + eps);
  }
  return scale;
}

// x / scale * weight + bias (empty: none)
inline Values norm(const Values& given, const Values& weight, const Values& bias, Index T, Index D,
                   double eps, bool centred = false) {
  const Values x = centre(given, T, D, centred), scale = norm_scale(given, T, D, eps, centred);
  Values y(T * D);
  for (Index i = 0; i < T * D; ++i)
    y[i] = x[i] / scale[i / D] * weight[i % D] + (bias.empty() ? 0 : bias[i % D]);
  return y;
}

inline Values add(const Values& a, const Values& b) {
  Values y(a.size());
  for (Index i = 0; i < a.size(); ++i) y[i] = a[i] + b[i];
  return y;
}

// x [T, H, E]; cos, sin [P, half]: the pair (x[i], x[i + half]), or (x[2i], x[2i + 1]), turns by the angle of
// its position.
inline Values rope(const Values& x, std::span<const std::int32_t> positions, const Values& cos,
                   const Values& sin, Index T, Index H, Index E, Index half, bool neighbours = false) {
  Values y = x;
  for (Index t = 0; t < T; ++t)
    for (Index h = 0; h < H; ++h)
      for (Index i = 0; i < half; ++i) {
        const Index head = (t * H + h) * E;
        const Index lo = head + (neighbours ? 2 * i : i), hi = neighbours ? lo + 1 : lo + half;
        const Index angle = static_cast<Index>(positions[t]) * half + i;
        y[lo] = x[lo] * cos[angle] - x[hi] * sin[angle];
        y[hi] = x[hi] * cos[angle] + x[lo] * sin[angle];
      }
  return y;
}

inline double silu(double x) { return x / (1 + std::exp(-x)); }
inline double gelu(double x) { return x / 2 * std::erfc(-x / std::sqrt(2.0)); }
inline double gelu_tanh(double x) {
  return x / 2 * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
}
inline double relu(double x) { return x > 0 ? x : 0; }
inline double relu_squared(double x) { return relu(x) * relu(x); }

// What attention sees besides q, k and v. Keys of document d: rows [first[d], first[d] + count[d]); its
// queries are its last tokens.
struct AttentionCase {
  std::vector<std::int32_t> starts, first, count;
  double scale, softcap = 0;
  Index window = 0, H, K, E, S;
};

// k and v packed as q is
inline AttentionCase packed_attention(std::span<const std::int32_t> starts, double scale, Index H, Index K,
                                      Index E, Index S) {
  AttentionCase c{{starts.begin(), starts.end()}, {}, {}, scale, 0, 0, H, K, E, S};
  for (Index d = 0; d + 1 < starts.size(); ++d) {
    c.first.push_back(starts[d]);
    c.count.push_back(starts[d + 1] - starts[d]);
  }
  return c;
}

// [T, H, S]: scale q.k, soft-capped, for the keys of the own document that a query sees, -inf elsewhere.
inline Values attention_scores(const Values& q, const Values& k, const AttentionCase& c) {
  Values scores(q.size() / c.E * c.S, -std::numeric_limits<double>::infinity());
  for (Index d = 0; d + 1 < c.starts.size(); ++d)
    for (std::int32_t t = c.starts[d]; t < c.starts[d + 1]; ++t)
      for (Index h = 0; h < c.H; ++h) {
        const std::int32_t position = c.count[d] - (c.starts[d + 1] - t);
        for (std::int32_t key = 0; key <= position; ++key) {
          if (c.window != 0 && position - key >= static_cast<std::int32_t>(c.window)) continue;
          double sum = 0;
          for (Index e = 0; e < c.E; ++e)
            sum += q[(static_cast<Index>(t) * c.H + h) * c.E + e] *
                   k[(static_cast<Index>(c.first[d] + key) * c.K + h / (c.H / c.K)) * c.E + e];
          sum *= c.scale;
          scores[(static_cast<Index>(t) * c.H + h) * c.S + static_cast<Index>(key)] =
              c.softcap == 0 ? sum : c.softcap * std::tanh(sum / c.softcap);
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
    if (std::isinf(largest)) continue;  // nothing to see
    for (Index s = 0; s < S; ++s) sum += y[row * S + s] = std::exp(x[row * S + s] - largest);
    for (Index s = 0; s < S; ++s) y[row * S + s] /= sum;
  }
  return y;
}

// z [T, H, E] = pattern [T, H, S] times the values of the token's document
inline Values attention_apply(const Values& pattern, const Values& v, const AttentionCase& c) {
  Values z(pattern.size() / c.S * c.E, 0.0);
  for (Index d = 0; d + 1 < c.starts.size(); ++d)
    for (auto t = static_cast<Index>(c.starts[d]); t < static_cast<Index>(c.starts[d + 1]); ++t)
      for (Index h = 0; h < c.H; ++h)
        for (Index key = 0; key < static_cast<Index>(c.count[d]); ++key)
          for (Index e = 0; e < c.E; ++e)
            z[(t * c.H + h) * c.E + e] +=
                pattern[(t * c.H + h) * c.S + key] *
                v[((static_cast<Index>(c.first[d]) + key) * c.K + h / (c.H / c.K)) * c.E + e];
  return z;
}

inline Values attention(const Values& q, const Values& k, const Values& v, const AttentionCase& c) {
  return attention_apply(softmax(attention_scores(q, k, c), c.S), v, c);
}

// Of each row's softmax over X experts the k largest in order, of equals the lower index.
struct Routed {
  Values weights, indices;  // [T, k]
};
inline Routed route(const Values& logits, Index T, Index X, Index k, bool renormalise) {
  const Values p = softmax(logits, X);
  Routed routed;
  for (Index t = 0; t < T; ++t) {
    std::vector<bool> taken(X);
    double sum = 0;
    for (Index j = 0; j < k; ++j) {
      Index best = X;
      for (Index i = 0; i < X; ++i)
        if (!taken[i] && (best == X || p[t * X + i] > p[t * X + best])) best = i;
      taken[best] = true;
      sum += p[t * X + best];
      routed.indices.push_back(static_cast<double>(best));
      routed.weights.push_back(p[t * X + best]);
    }
    for (Index j = 0; j < k && renormalise; ++j) routed.weights[t * k + j] /= sum;
  }
  return routed;
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
