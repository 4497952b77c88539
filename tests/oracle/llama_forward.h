// The Llama family's forward in float64, one token and one head at a time, from the published formulas: the
// truth that tests compare with. Shares no code with the product.
//   RMSNorm arXiv:1910.07467 - RoPE arXiv:2104.09864 - GQA arXiv:2305.13245 - SwiGLU arXiv:2002.05202
//   YaRN arXiv:2309.00071 - Llama 3.1's wavelength rule: its reference implementation's apply_scaling
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace oracle {

struct Rope {
  std::string rule = "default";  // default | linear | dynamic | yarn | llama3
  double theta = 10000, factor = 1, original = 0;
  double low_freq = 1, high_freq = 4;                           // llama3
  double beta_fast = 32, beta_slow = 1;                         // yarn
  bool truncate = true;                                         // yarn
  double magnitude = std::numeric_limits<double>::quiet_NaN();  // yarn; NaN: 0.1 ln(factor) + 1
};

struct Llama {
  int layers = 0, width = 0, heads = 0, kv_heads = 0, head_width = 0, mlp_width = 0, vocab = 0;
  double eps = 1e-5;
  Rope rope;
};

using Weights = std::map<std::string, std::vector<double>>;  // Hugging Face names, [out, in] row-major

struct Array {
  std::vector<int> shape;
  std::vector<double> values;
};
using Activations = std::map<std::string, Array>;  // hook name -> [T, ...]; scores and pattern [H, T, T]

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
  if (rope.rule != "yarn") return 1;
  if (!std::isnan(rope.magnitude)) return rope.magnitude;
  return rope.factor <= 1 ? 1 : 0.1 * std::log(rope.factor) + 1;
}

class Forward {
 public:
  Forward(const Llama& model, const Weights& weights) : m_(model), w_(weights) {}

  Activations operator()(std::span<const int> ids) {
    out_.clear();
    t_ = static_cast<int>(ids.size());
    std::vector<double> x;  // [T, D]
    for (int id : ids)
      for (int d = 0; d < m_.width; ++d)
        x.push_back(weight("model.embed_tokens.weight")[at(id, m_.width, d)]);
    put("hook_embed", {t_, m_.width}, x);
    for (int l = 0; l < m_.layers; ++l) block(x, l);
    const auto y = norm(x, "model.norm.weight", "ln_final.");
    const bool tied = w_.count("lm_head.weight") == 0;
    put("logits", {t_, m_.vocab}, linear(y, m_.width, tied ? "model.embed_tokens" : "lm_head", m_.vocab));
    return out_;
  }

 private:
  static std::size_t at(int row, int width, int column) {
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(width) + static_cast<std::size_t>(column);
  }
  const std::vector<double>& weight(const std::string& name) const { return w_.at(name); }
  void put(const std::string& name, std::vector<int> shape, const std::vector<double>& values) {
    out_[name] = {std::move(shape), values};
  }

  // x [T, in] times weight [out, in] transposed, plus bias where the model has one.
  std::vector<double> linear(const std::vector<double>& x, int in, const std::string& name, int out) const {
    const std::vector<double>& w = weight(name + ".weight");
    if (w.size() != static_cast<std::size_t>(in) * static_cast<std::size_t>(out))
      throw std::logic_error("oracle: size of " + name);
    const auto bias = w_.find(name + ".bias");
    std::vector<double> y(static_cast<std::size_t>(t_) * static_cast<std::size_t>(out));
    for (int t = 0; t < t_; ++t)
      for (int o = 0; o < out; ++o) {
        double sum = bias == w_.end() ? 0 : bias->second[static_cast<std::size_t>(o)];
        for (int i = 0; i < in; ++i) sum += x[at(t, in, i)] * w[at(o, in, i)];
        y[at(t, out, o)] = sum;
      }
    return y;
  }

  std::vector<double> norm(const std::vector<double>& x, const std::string& name, const std::string& hook) {
    const int d = m_.width;
    std::vector<double> scale, normalized, y;
    for (int t = 0; t < t_; ++t) {
      double squares = 0;
      for (int i = 0; i < d; ++i) squares += x[at(t, d, i)] * x[at(t, d, i)];
      scale.push_back(std::sqrt(squares / d + m_.eps));
      for (int i = 0; i < d; ++i) {
        normalized.push_back(x[at(t, d, i)] / scale.back());
        y.push_back(normalized.back() * weight(name)[static_cast<std::size_t>(i)]);
      }
    }
    put(hook + "hook_scale", {t_, 1}, scale);
    put(hook + "hook_normalized", {t_, d}, normalized);
    put(hook + "hook_out", {t_, d}, y);
    return y;
  }

  // Pairs (i, i + E/2) of each head turn by position times frequency.
  std::vector<double> rotate(const std::vector<double>& x, int heads) const {
    const int e = m_.head_width, half = e / 2;
    const auto f = frequencies(m_.rope, e, t_);
    const double size = magnitude(m_.rope);
    std::vector<double> y = x;
    for (int t = 0; t < t_; ++t)
      for (int h = 0; h < heads; ++h)
        for (int i = 0; i < half; ++i) {
          const double angle = t * f[static_cast<std::size_t>(i)];
          const double a = x[at(t * heads + h, e, i)], b = x[at(t * heads + h, e, i + half)];
          y[at(t * heads + h, e, i)] = size * (a * std::cos(angle) - b * std::sin(angle));
          y[at(t * heads + h, e, i + half)] = size * (b * std::cos(angle) + a * std::sin(angle));
        }
    return y;
  }

  void block(std::vector<double>& x, int l) {
    const std::string hook = "blocks." + std::to_string(l) + ".";
    const std::string name = "model.layers." + std::to_string(l) + ".";
    const int d = m_.width, heads = m_.heads, kv = m_.kv_heads, e = m_.head_width, f = m_.mlp_width;
    put(hook + "hook_resid_pre", {t_, d}, x);
    const auto a = norm(x, name + "input_layernorm.weight", hook + "ln1.");

    const auto q = linear(a, d, name + "self_attn.q_proj", heads * e);
    const auto k = linear(a, d, name + "self_attn.k_proj", kv * e);
    const auto v = linear(a, d, name + "self_attn.v_proj", kv * e);
    const auto rot_q = rotate(q, heads), rot_k = rotate(k, kv);
    put(hook + "attn.hook_q", {t_, heads, e}, q);
    put(hook + "attn.hook_k", {t_, kv, e}, k);
    put(hook + "attn.hook_v", {t_, kv, e}, v);
    put(hook + "attn.hook_rot_q", {t_, heads, e}, rot_q);
    put(hook + "attn.hook_rot_k", {t_, kv, e}, rot_k);
    const auto z = attention(rot_q, rot_k, v, hook);
    const auto attn_out = linear(z, heads * e, name + "self_attn.o_proj", d);
    put(hook + "hook_attn_out", {t_, d}, attn_out);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += attn_out[i];
    put(hook + "hook_resid_mid", {t_, d}, x);

    const auto b = norm(x, name + "post_attention_layernorm.weight", hook + "ln2.");
    const auto gate = linear(b, d, name + "mlp.gate_proj", f), up = linear(b, d, name + "mlp.up_proj", f);
    std::vector<double> neurons;
    for (std::size_t i = 0; i < gate.size(); ++i)
      neurons.push_back(gate[i] / (1 + std::exp(-gate[i])) * up[i]);
    const auto mlp_out = linear(neurons, f, name + "mlp.down_proj", d);
    put(hook + "mlp.hook_pre", {t_, f}, gate);
    put(hook + "mlp.hook_pre_linear", {t_, f}, up);
    put(hook + "mlp.hook_post", {t_, f}, neurons);
    put(hook + "hook_mlp_out", {t_, d}, mlp_out);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += mlp_out[i];
    put(hook + "hook_resid_post", {t_, d}, x);
  }

  std::vector<double> attention(const std::vector<double>& q, const std::vector<double>& k,
                                const std::vector<double>& v, const std::string& hook) {
    const int heads = m_.heads, kv = m_.kv_heads, e = m_.head_width;
    const auto square =
        static_cast<std::size_t>(heads) * static_cast<std::size_t>(t_) * static_cast<std::size_t>(t_);
    std::vector<double> scores(square, -std::numeric_limits<double>::infinity()), pattern(square, 0.0);
    std::vector<double> z(q.size(), 0.0);
    for (int h = 0; h < heads; ++h)
      for (int t = 0; t < t_; ++t) {
        const int shared = h / (heads / kv);
        double most = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int s = 0; s <= t; ++s) {
          double dot = 0;
          for (int i = 0; i < e; ++i) dot += q[at(t * heads + h, e, i)] * k[at(s * kv + shared, e, i)];
          scores[at(h * t_ + t, t_, s)] = dot / std::sqrt(static_cast<double>(e));
          most = std::max(most, scores[at(h * t_ + t, t_, s)]);
        }
        for (int s = 0; s <= t; ++s) sum += std::exp(scores[at(h * t_ + t, t_, s)] - most);
        for (int s = 0; s <= t; ++s) {
          const double p = std::exp(scores[at(h * t_ + t, t_, s)] - most) / sum;
          pattern[at(h * t_ + t, t_, s)] = p;
          for (int i = 0; i < e; ++i) z[at(t * heads + h, e, i)] += p * v[at(s * kv + shared, e, i)];
        }
      }
    put(hook + "attn.hook_attn_scores", {heads, t_, t_}, scores);
    put(hook + "attn.hook_pattern", {heads, t_, t_}, pattern);
    put(hook + "attn.hook_z", {t_, heads, e}, z);
    return z;
  }

  const Llama& m_;
  const Weights& w_;
  Activations out_;
  int t_ = 0;
};

inline Activations forward(const Llama& model, const Weights& weights, std::span<const int> ids) {
  return Forward(model, weights)(ids);
}

}  // namespace oracle
