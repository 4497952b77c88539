// The forward of a decoder of any family in float64, one token and one head at a time, from the published
// formulas: the truth that tests compare with. Shares no code with the product.
//   RMSNorm arXiv:1910.07467 - LayerNorm arXiv:1607.06450 - RoPE arXiv:2104.09864 - GQA arXiv:2305.13245
//   SwiGLU arXiv:2002.05202 - YaRN arXiv:2309.00071 - LongRoPE arXiv:2402.13753 - windows arXiv:2310.06825
//   soft-caps and post-norms arXiv:2408.00118 - experts arXiv:2401.04088 - parallel blocks arXiv:2204.06745
//   Llama 3.1's wavelength rule: its reference implementation's apply_scaling
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace oracle {

struct Rope {
  std::string rule = "default";  // default | linear | dynamic | yarn | llama3 | longrope
  double theta = 10000, factor = 1, original = 0;
  double low_freq = 1, high_freq = 4;                           // llama3
  double beta_fast = 32, beta_slow = 1;                         // yarn
  bool truncate = true;                                         // yarn
  std::vector<double> short_factor = {}, long_factor = {};      // longrope
  double magnitude = std::numeric_limits<double>::quiet_NaN();  // yarn, longrope; NaN: their own rule
};

struct Decoder {
  int layers = 0, width = 0, heads = 0, kv_heads = 0, head_width = 0, mlp_width = 0, vocab = 0;
  double eps = 1e-5;
  bool centred_norms = false;  // LayerNorm; else RMSNorm
  bool parallel = false, shared_norm = false, pre_norms = true, post_norms = false;
  std::string qk_norm = "none";  // none | shared | per_head | whole
  bool learned_positions = false, neighbour_pairs = false;
  int rotary_width = 0;   // 0: the whole head
  Rope rope, local_rope;  // local: of layers with a window, where two_ropes
  bool two_ropes = false;
  std::vector<int> windows;  // [layers], 0: none; empty: none anywhere
  double score_scale = 0;    // 0: 1 / sqrt(head_width)
  bool scale_over_depth = false;
  double score_cap = 0, logit_cap = 0;
  std::string activation = "silu";  // silu | gelu | gelu_tanh | relu | relu2
  bool gated = true;
  int experts = 0, chosen = 0, expert_width = 0;
  bool renormalise = true;
  std::vector<bool> dense;  // [layers] without experts; empty: none
  double embed_scale = 1, logit_scale = 1;
};

// Parts by neutral names: embed, positions, ln_final, head (absent: tied); of layer l "l.q", "l.q.bias", ...;
// of its expert e "l.gate.e". Matrices are [out, in] row-major.
using Weights = std::map<std::string, std::vector<double>>;

struct Array {
  std::vector<int> shape;
  std::vector<double> values;
};
using Activations = std::map<std::string, Array>;  // hook name -> [T, ...]; scores and pattern [H, T, T]
// Changes what is at a point before anything reads it.
using Change = std::function<void(const std::string& hook, Array& x)>;

// Angle per position of each pair of dimensions, for a document of `length` tokens.
inline std::vector<double> frequencies(const Rope& rope, int head_width, int length) {
  const double e = head_width;
  std::vector<double> result;
  for (int pair = 0; pair < head_width / 2; ++pair) {
    double theta = rope.theta;
    if (rope.rule == "dynamic" && length > rope.original)  // NTK: stretch the base with the document
      theta *= std::pow(rope.factor * length / rope.original - (rope.factor - 1), e / (e - 2));
    const double f = std::pow(theta, -2.0 * pair / e);
    if (rope.rule == "linear") {
      result.push_back(f / rope.factor);
    } else if (rope.rule == "llama3") {
      const double turns = rope.original * f / (2 * M_PI);  // within the original context
      if (turns > rope.high_freq) {
        result.push_back(f);
      } else if (turns < rope.low_freq) {
        result.push_back(f / rope.factor);
      } else {
        const double keep = (turns - rope.low_freq) / (rope.high_freq - rope.low_freq);
        result.push_back(keep * f + (1 - keep) * f / rope.factor);
      }
    } else if (rope.rule == "yarn") {
      // The dimension whose wavelength fits `turns` times into the original context.
      const auto dimension = [&](double turns) {
        return e * std::log(rope.original / (turns * 2 * M_PI)) / (2 * std::log(rope.theta));
      };
      double low = dimension(rope.beta_fast), high = dimension(rope.beta_slow);
      if (rope.truncate) {
        low = std::floor(low);
        high = std::ceil(high);
      }
      low = std::max(low, 0.0);
      high = std::min(high, e - 1);
      if (low == high) high += 0.001;
      const double stretch = std::min(1.0, std::max(0.0, (pair - low) / (high - low)));
      result.push_back(stretch * f / rope.factor + (1 - stretch) * f);
    } else if (rope.rule == "longrope") {
      const auto& factors = length > rope.original ? rope.long_factor : rope.short_factor;
      result.push_back(f / factors.at(static_cast<std::size_t>(pair)));
    } else if (rope.rule == "default" || rope.rule == "dynamic") {
      result.push_back(f);
    } else {
      throw std::logic_error("oracle: unknown RoPE rule " + rope.rule);
    }
  }
  return result;
}

// cos and sin are multiplied by this.
inline double magnitude(const Rope& rope) {
  if (rope.rule != "yarn" && rope.rule != "longrope") return 1;
  if (!std::isnan(rope.magnitude)) return rope.magnitude;
  if (rope.factor <= 1) return 1;
  if (rope.rule == "yarn") return 0.1 * std::log(rope.factor) + 1;
  return std::sqrt(1 + std::log(rope.factor) / std::log(rope.original));
}

inline double activate(const std::string& name, double x) {
  if (name == "silu") return x / (1 + std::exp(-x));
  if (name == "gelu") return x / 2 * std::erfc(-x / std::sqrt(2.0));
  if (name == "gelu_tanh") return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  if (name == "relu") return std::max(x, 0.0);
  if (name == "relu2") return std::max(x, 0.0) * std::max(x, 0.0);
  throw std::logic_error("oracle: unknown activation " + name);
}

inline double cap(double x, double most) { return most > 0 ? most * std::tanh(x / most) : x; }

class Forward {
 public:
  using Values = std::vector<double>;
  Forward(const Decoder& model, const Weights& weights, Change change = {})
      : m_(model), w_(weights), change_(std::move(change)) {}

  Activations operator()(std::span<const int> ids) {
    out_.clear();
    t_ = static_cast<int>(ids.size());
    Values x, positions;  // [T, D]
    for (int t = 0; t < t_; ++t)
      for (int d = 0; d < m_.width; ++d) {
        x.push_back(w_.at("embed")[at(ids[static_cast<std::size_t>(t)], m_.width, d)] * m_.embed_scale);
        if (m_.learned_positions) positions.push_back(w_.at("positions")[at(t, m_.width, d)]);
      }
    put("hook_embed", {t_, m_.width}, x);
    if (m_.learned_positions) put("hook_pos_embed", {t_, m_.width}, positions), add(x, positions);
    for (int l = 0; l < m_.layers; ++l) block(x, l);
    const Values y = norm(x, m_.width, "ln_final", "ln_final.", true);
    Values logits = linear(y, m_.width, w_.count("head") ? "head" : "embed", m_.vocab);
    for (double& v : logits) v = cap(v * m_.logit_scale, m_.logit_cap);
    put("logits", {t_, m_.vocab}, logits);
    return out_;
  }

 private:
  static std::size_t at(int row, int width, int column) {
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(width) + static_cast<std::size_t>(column);
  }
  static void add(Values& x, const Values& y) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }
  void put(const std::string& name, std::vector<int> shape, Values& values) {
    Array& x = out_[name] = {std::move(shape), values};
    if (change_) change_(name, x);
    values = x.values;
  }
  const Values* find(const std::string& name) const {
    const auto found = w_.find(name);
    return found == w_.end() ? nullptr : &found->second;
  }

  // x [rows, in] times weight [out, in] transposed, plus bias where the model has one.
  Values linear(const Values& x, int in, const std::string& name, int out) const {
    const Values& w = w_.at(name);
    if (w.size() != static_cast<std::size_t>(in) * static_cast<std::size_t>(out))
      throw std::logic_error("oracle: size of " + name);
    const Values* bias = find(name + ".bias");
    const int rows = static_cast<int>(x.size()) / in;
    Values y(static_cast<std::size_t>(rows) * static_cast<std::size_t>(out));
    for (int t = 0; t < rows; ++t)
      for (int o = 0; o < out; ++o) {
        double sum = bias == nullptr ? 0 : (*bias)[static_cast<std::size_t>(o)];
        for (int i = 0; i < in; ++i) sum += x[at(t, in, i)] * w[at(o, in, i)];
        y[at(t, out, o)] = sum;
      }
    return y;
  }

  // Rows of x, d wide; the weight has one row for all of them, or one for each of `heads` in turn.
  Values norm(const Values& x, int d, const std::string& name, const std::string& hook, bool has_out) {
    const Values &weight = w_.at(name), *bias = find(name + ".bias");
    const int rows = static_cast<int>(x.size()) / d, weights = static_cast<int>(weight.size()) / d;
    Values means, scale, normalized, y;
    for (int t = 0; t < rows; ++t) {
      double mean = 0, squares = 0;
      for (int i = 0; i < d && m_.centred_norms; ++i) mean += x[at(t, d, i)] / d;
      for (int i = 0; i < d; ++i) squares += (x[at(t, d, i)] - mean) * (x[at(t, d, i)] - mean);
      means.push_back(mean);
      scale.push_back(std::sqrt(squares / d + m_.eps));
    }
    if (!hook.empty()) put(hook + "hook_scale", {rows, 1}, scale);
    for (int t = 0; t < rows; ++t)
      for (int i = 0; i < d; ++i)
        normalized.push_back((x[at(t, d, i)] - means[static_cast<std::size_t>(t)]) /
                             scale[static_cast<std::size_t>(t)]);
    if (!hook.empty()) put(hook + "hook_normalized", {rows, d}, normalized);
    for (int t = 0; t < rows; ++t)
      for (int i = 0; i < d; ++i)
        y.push_back(normalized[at(t, d, i)] * weight[at(t % weights, d, i)] +
                    (bias == nullptr ? 0 : (*bias)[static_cast<std::size_t>(i)]));
    if (has_out) put(hook + "hook_out", {rows, d}, y);
    return y;
  }

  Values qk_norm(const Values& x, const std::string& name, int heads) {
    if (m_.qk_norm == "none") return x;
    return norm(x, m_.qk_norm == "whole" ? heads * m_.head_width : m_.head_width, name, "", false);
  }

  // Pairs of the first values of each head turn by position times frequency.
  Values rotate(const Values& x, int heads, const Rope& rope) const {
    const int e = m_.head_width, turned = m_.rotary_width > 0 ? m_.rotary_width : e, half = turned / 2;
    const auto f = frequencies(rope, turned, t_);
    const double size = magnitude(rope);
    Values y = x;
    for (int t = 0; t < t_; ++t)
      for (int h = 0; h < heads; ++h)
        for (int i = 0; i < half; ++i) {
          const double angle = t * f[static_cast<std::size_t>(i)];
          const std::size_t one = at(t * heads + h, e, m_.neighbour_pairs ? 2 * i : i);
          const std::size_t two = at(t * heads + h, e, m_.neighbour_pairs ? 2 * i + 1 : i + half);
          y[one] = size * (x[one] * std::cos(angle) - x[two] * std::sin(angle));
          y[two] = size * (x[two] * std::cos(angle) + x[one] * std::sin(angle));
        }
    return y;
  }

  void block(Values& x, int l) {
    const std::string hook = "blocks." + std::to_string(l) + ".", name = std::to_string(l) + ".";
    const int d = m_.width;
    put(hook + "hook_resid_pre", {t_, d}, x);
    const Values before = x;
    const Values a = m_.pre_norms ? norm(x, d, name + "ln1", hook + "ln1.", true) : x;
    Values attn_out = attention(a, l, hook + "attn.", name);
    if (m_.post_norms) attn_out = norm(attn_out, d, name + "ln1_post", hook + "ln1_post.", false);
    put(hook + "hook_attn_out", {t_, d}, attn_out);
    add(x, attn_out);
    if (!m_.parallel) put(hook + "hook_resid_mid", {t_, d}, x);

    const Values& read = m_.parallel ? before : x;
    const Values b = m_.shared_norm ? a : m_.pre_norms ? norm(read, d, name + "ln2", hook + "ln2.", true) : x;
    const bool routed = m_.experts > 0 && (m_.dense.empty() || !m_.dense[static_cast<std::size_t>(l)]);
    Values mlp_out = routed ? route(b, hook + "mlp.", name) : mlp(b, m_.mlp_width, hook + "mlp.", name, "");
    if (m_.post_norms) mlp_out = norm(mlp_out, d, name + "ln2_post", hook + "ln2_post.", false);
    put(hook + "hook_mlp_out", {t_, d}, mlp_out);
    add(x, mlp_out);
    put(hook + "hook_resid_post", {t_, d}, x);
  }

  // hook: empty inside an expert; of: ".e" of expert e
  Values mlp(const Values& x, int f, const std::string& hook, const std::string& name,
             const std::string& of) {
    Values up = linear(x, m_.width, name + "up" + of, f);
    Values gate = m_.gated ? linear(x, m_.width, name + "gate" + of, f) : up;
    if (!hook.empty()) put(hook + "hook_pre", {t_, f}, gate);
    if (!hook.empty() && m_.gated) put(hook + "hook_pre_linear", {t_, f}, up);
    Values neurons;
    for (std::size_t i = 0; i < up.size(); ++i)
      neurons.push_back(activate(m_.activation, gate[i]) * (m_.gated ? up[i] : 1));
    if (!hook.empty()) put(hook + "hook_post", {t_, f}, neurons);
    return linear(neurons, f, name + "down" + of, m_.width);
  }

  Values route(const Values& x, const std::string& hook, const std::string& name) {
    Values logits = linear(x, m_.width, name + "router", m_.experts);
    put(hook + "hook_router_logits", {t_, m_.experts}, logits);
    Values indices, shares, y(x.size(), 0.0);
    for (int t = 0; t < t_; ++t) {
      const auto first = logits.begin() + t * m_.experts;
      const double most = *std::max_element(first, first + m_.experts);
      double all = 0, kept = 0;
      for (int e = 0; e < m_.experts; ++e) all += std::exp(first[e] - most);
      std::vector<int> order(static_cast<std::size_t>(m_.experts));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int i, int j) { return first[i] > first[j]; });
      order.resize(static_cast<std::size_t>(m_.chosen));
      for (const int e : order) kept += std::exp(first[e] - most) / all;
      for (const int e : order) {
        indices.push_back(e);
        shares.push_back(std::exp(first[e] - most) / all / (m_.renormalise ? kept : 1));
      }
    }
    put(hook + "hook_expert_indices", {t_, m_.chosen}, indices);
    put(hook + "hook_expert_weights", {t_, m_.chosen}, shares);
    for (int t = 0; t < t_; ++t)
      for (int c = 0; c < m_.chosen; ++c) {
        const Values row(x.begin() + t * m_.width, x.begin() + (t + 1) * m_.width);
        const auto expert = static_cast<int>(indices[at(t, m_.chosen, c)]);
        const Values out = mlp(row, m_.expert_width, "", name, "." + std::to_string(expert));
        for (int i = 0; i < m_.width; ++i)
          y[at(t, m_.width, i)] += shares[at(t, m_.chosen, c)] * out[static_cast<std::size_t>(i)];
      }
    return y;
  }

  Values attention(const Values& a, int l, const std::string& hook, const std::string& name) {
    const int d = m_.width, heads = m_.heads, kv = m_.kv_heads, e = m_.head_width;
    const int window = m_.windows.empty() ? 0 : m_.windows[static_cast<std::size_t>(l)];
    const Rope& rope = m_.two_ropes && window > 0 ? m_.local_rope : m_.rope;
    Values q = linear(a, d, name + "q", heads * e), k = linear(a, d, name + "k", kv * e);
    Values v = linear(a, d, name + "v", kv * e);
    put(hook + "hook_q", {t_, heads, e}, q);
    put(hook + "hook_k", {t_, kv, e}, k);
    put(hook + "hook_v", {t_, kv, e}, v);
    q = qk_norm(q, name + "q_norm", heads);
    k = qk_norm(k, name + "k_norm", kv);
    if (!m_.learned_positions) {
      q = rotate(q, heads, rope);
      k = rotate(k, kv, rope);
      put(hook + "hook_rot_q", {t_, heads, e}, q);
      put(hook + "hook_rot_k", {t_, kv, e}, k);
    }
    double scale = m_.score_scale > 0 ? m_.score_scale : 1 / std::sqrt(static_cast<double>(e));
    if (m_.scale_over_depth) scale /= l + 1;

    const auto square =
        static_cast<std::size_t>(heads) * static_cast<std::size_t>(t_) * static_cast<std::size_t>(t_);
    Values scores(square, -std::numeric_limits<double>::infinity()), pattern(square, 0.0);
    Values z(q.size(), 0.0);
    for (int h = 0; h < heads; ++h)
      for (int t = 0; t < t_; ++t)
        for (int s = window > 0 ? std::max(0, t - window + 1) : 0; s <= t; ++s) {
          double dot = 0;
          for (int i = 0; i < e; ++i)
            dot += q[at(t * heads + h, e, i)] * k[at(s * kv + h / (heads / kv), e, i)];
          scores[at(h * t_ + t, t_, s)] = cap(dot * scale, m_.score_cap);
        }
    put(hook + "hook_attn_scores", {heads, t_, t_}, scores);
    for (int row = 0; row < heads * t_; ++row) {
      double most = -std::numeric_limits<double>::infinity(), sum = 0;
      for (int s = 0; s < t_; ++s) most = std::max(most, scores[at(row, t_, s)]);
      if (std::isinf(most)) continue;  // nothing is seen: the pattern is 0
      for (int s = 0; s < t_; ++s) sum += std::exp(scores[at(row, t_, s)] - most);
      for (int s = 0; s < t_; ++s) pattern[at(row, t_, s)] = std::exp(scores[at(row, t_, s)] - most) / sum;
    }
    put(hook + "hook_pattern", {heads, t_, t_}, pattern);
    for (int h = 0; h < heads; ++h)
      for (int t = 0; t < t_; ++t)
        for (int s = 0; s < t_; ++s)
          for (int i = 0; i < e; ++i)
            z[at(t * heads + h, e, i)] +=
                pattern[at(h * t_ + t, t_, s)] * v[at(s * kv + h / (heads / kv), e, i)];
    put(hook + "hook_z", {t_, heads, e}, z);
    return linear(z, heads * e, name + "o", d);
  }

  const Decoder& m_;
  const Weights& w_;
  Change change_;
  Activations out_;
  int t_ = 0;
};

inline Activations forward(const Decoder& model, const Weights& weights, std::span<const int> ids,
                           const Change& change = {}) {
  return Forward(model, weights, change)(ids);
}

}  // namespace oracle
