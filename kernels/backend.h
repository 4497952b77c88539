// Every op of Sonde, once. A backend implements all of them; the compiler proves it.
//
// Letters, used in every shape comment of the code base:
//   T tokens of the flattened batch   D model width        H query heads       K key/value heads
//   E head width                      F MLP width          V vocabulary        L layers
//   S keys of the longest document    B rows of a training batch               C targets of a probe
//   X experts
// H, K, F, V mean this rank's share when a tensor is sharded.
//
// Conventions: outputs first and pre-allocated; no op allocates tensors; activations are f32; a tensor's rows
// may be strided (column slabs of fused projections). Public methods check shapes once and call the protected
// do_* twin, so every backend refuses the same input with the same message. Results never depend on the
// number of threads, and a row's result never depends on which other rows are in the batch.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/device_ranks.h"
#include "runtime/packed_rows.h"
#include "runtime/rank_link.h"

namespace sonde {

// Precision of a GEMM's inputs: bf16 rounds weights and activations to bfloat16 (to nearest even) and
// accumulates in float, on a CPU with bf16 dot products and on one without; f16 does so to half, on devices;
// fp8, on devices from compute capability 8.9 on, to e4m3 (arXiv:2209.05433) times a scale for each row of
// both operands, the row's largest magnitude / 448.
enum class Precision : std::uint8_t { f32, bf16, f16, fp8 };
inline DType dtype_of(Precision precision) {
  constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f16, DType::e4m3};
  return kTypes[static_cast<std::size_t>(precision)];
}
// Bytes of a prepared weight [N, K], with its rows' scales; what a backend fills up is not counted.
inline std::int64_t bytes_of_weight(Precision precision, std::int64_t n, std::int64_t k) {
  return bytes_of(dtype_of(precision), n * k) + (precision == Precision::fp8 ? n * 4 : 0);
}

// A prepared weight [N, K]: packed for the backend's GEMM, opaque to callers.
class Weight {
 public:
  virtual ~Weight() = default;
  virtual std::int64_t n() const = 0;      // outputs
  virtual std::int64_t k() const = 0;      // inputs
  virtual std::int64_t bytes() const = 0;  // memory held
};

// One row of a weight as a file stores it: k values of any dtype.
struct RawRow {
  const std::byte* data;
  DType dtype;
};

// Documents packed flat: document i owns tokens [starts[i], starts[i + 1]).
struct Documents {
  std::span<const std::int32_t> starts;  // n_documents + 1, starts[0] == 0, last == T
  std::int64_t longest() const;
};

// cos and sin of position x frequency, computed in double by the model, one row per position.
struct RopeTable {
  Tensor cos;  // f32 [P, R/2], P positions, R rotated dimensions of a head (the first R of E)
  Tensor sin;  // f32 [P, R/2]
};

// Keys and values of each document: rows [first[i], first[i] + count[i]) of k and v. The document's queries
// are its last tokens, so a KV cache holds more keys than there are queries.
struct KeyRanges {
  std::span<const std::int32_t> first, count;  // n_documents each; empty: k and v are packed as q is
};

struct AttentionSpec {
  float scale;              // of q.k
  float softcap = 0;        // c: scores become c tanh(score / c); 0: none
  std::int64_t window = 0;  // a query sees its own key and window - 1 before it; 0: all before it
  Precision precision = Precision::f32;  // else a backend may multiply q, k, weights and v as bf16 or f16
  Tensor lse = {};  // f32 [T, H] or empty: the log of each query's sum of exp(score), for who asks
};

enum class NormKind : std::uint8_t { rms, layer };  // layer: the mean of the row is taken off first

// silu x sigmoid(x), gelu x Phi(x), gelu_tanh its approximation by tanh, relu, relu_squared
enum class Activation : std::uint8_t { silu, gelu, gelu_tanh, relu, relu_squared };

// Which values of a head turn together: (i, i + R/2), or (2i, 2i + 1).
enum class RopePairs : std::uint8_t { halves, neighbours };

enum class Renormalise : bool { no, yes };

// A value of a row and where it stands.
struct Candidate {
  float value;
  std::int32_t index;
};

// Rows on their way to the host while ops go on, first in, first out.
class RowCopies {
 public:
  static constexpr std::size_t kMost = 2;  // on the way at once
  virtual ~RowCopies() = default;
  // The given rows of x f32 [T, ...] as they are at this point of the ops.
  virtual void copy(Tensor x, std::span<const std::int32_t> rows) = 0;
  // The same rows packed. Of the copies with one `series`, which is the number of what they are rows of, the
  // sums go on from the one before unless it is said to be the first.
  enum class First : bool { no, yes };
  virtual void pack(Tensor x, std::span<const std::int32_t> rows, const PackFormat& format,
                    std::size_t series, First first) = 0;
  // Waits for the oldest: of the host, there until kMost more are copied.
  virtual PackedRows take() = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string describe() const = 0;  // "cpu avx2, 2 threads"
  virtual std::string path(
      Precision precision) const = 0;  // "avx2-f32": decides the bits, goes into manifests

  // ---- memory: the tensors of ops lie where the backend computes, and hosts read only the host's
  virtual DeviceKind device() const = 0;
  virtual Buffer allocate(std::int64_t bytes) = 0;  // for tensors of ops
  virtual void wait() = 0;                          // until all ops are done; an Error of any of them
  // The same values where ops, or the host, can read them: the tensor itself where it lies there, else a
  // contiguous copy in `memory`, which is grown.
  virtual Tensor on_device(Tensor host /*any dtype*/, Buffer& memory) = 0;
  virtual Tensor on_host(Tensor device /*any dtype*/, Buffer& memory) = 0;
  OwnedTensor on_device(OwnedTensor host);
  // Bytes that a device has left for tensors and weights; -1: those of the host.
  virtual std::int64_t memory_left() const { return -1; }
  // Of weights prepared from now on, those beyond so many bytes stay on the host and are copied for each use.
  virtual void limit_weights(std::int64_t /*bytes*/) {}
  // Null where the host reads what ops write; must not outlive the backend.
  virtual std::unique_ptr<RowCopies> make_row_copies() { return nullptr; }
  // Collective over the link's ranks, which it must not outlive, nor the backend: their devices talk to each
  // other without the hosts. Null, on all of them, where they cannot: why_not says why.
  virtual std::unique_ptr<DeviceRanks> join(RankLink& link, std::string& why_not);

  // ---- weights: those of the file are the host's
  void dequantise(Tensor out /*f32 [n]*/, Tensor raw /*any dtype, n values*/);
  std::unique_ptr<Weight> prepare_weight(Tensor w /*f32 [N, K]*/, Precision precision);
  // The same bits as prepare_weight of the dequantised rows, without a copy of them: raw rows stay where they
  // are (they must outlive the weight) and are expanded panel by panel in every GEMM. Not in fp8.
  std::unique_ptr<Weight> keep_weight(std::vector<RawRow> rows /*N*/, std::int64_t k, Precision precision);

  // ---- forward
  // y = x W' + bias; bias may be empty.
  void linear(Tensor y /*[T, N]*/, Tensor x /*[T, K]*/, const Weight& w, Tensor bias /*f32 [N]*/ = {});
  // out[t] = table[ids[t]], dequantised row by row.
  void embed(Tensor out /*[T, D]*/, Tensor table /*any dtype [V, D]*/, std::span<const std::int32_t> ids);
  // y = x / scale * weight + bias with scale = sqrt(mean(x^2) + eps) (RMSNorm, arXiv:1910.07467); LayerNorm
  // (arXiv:1607.06450) does so with x - mean(x). bias may be empty, y may be x.
  void norm(NormKind kind, Tensor y /*[T, D]*/, Tensor x /*[T, D]*/, Tensor weight /*f32 [D]*/,
            Tensor bias /*f32 [D] or empty*/, float eps);
  // The same in the three steps that hooks see; bitwise equal to norm.
  void norm_scale(NormKind kind, Tensor scale /*[T, 1]*/, Tensor x /*[T, D]*/, float eps);
  void normalize(NormKind kind, Tensor y /*[T, D]*/, Tensor x /*[T, D]*/, Tensor scale /*[T, 1]*/);
  void scale_columns(Tensor y /*[T, D]*/, Tensor x /*[T, D]*/, Tensor weight /*f32 [D]*/,
                     Tensor bias /*f32 [D] or empty*/);
  // resid += delta; y = norm(resid). Bitwise equal to add then norm.
  void add_norm(NormKind kind, Tensor resid /*[T, D]*/, Tensor y /*[T, D]*/, Tensor delta /*[T, D]*/,
                Tensor weight /*[D]*/, Tensor bias /*f32 [D] or empty*/, float eps);
  // norm of each head's E values; weight has one row for all heads or one per head. y may be x.
  void norm_heads(NormKind kind, Tensor y /*[T, H, E]*/, Tensor x /*[T, H, E]*/,
                  Tensor weight /*f32 [1 or H, E]*/, float eps);
  void zero(Tensor y /*[T, D]*/);
  void add(Tensor y /*[T, D]*/, Tensor a /*[T, D]*/, Tensor b /*[T, D]*/);  // y may be a
  void scale(Tensor y /*[T, D]*/, Tensor x /*[T, D]*/, float factor);       // y may be x
  void softcap(Tensor y /*[T, V]*/, Tensor x /*[T, V]*/, float cap);        // cap tanh(x / cap); y may be x
  // Rotates pairs of the first R values of each head; positions[t] indexes the table (RoPE,
  // arXiv:2104.09864).
  void rope(Tensor y /*[T, H, E]*/, Tensor x /*[T, H, E]*/, std::span<const std::int32_t> positions,
            const RopeTable& table, RopePairs pairs = RopePairs::halves);
  // Both of a token's queries and keys in place: norm_heads, where a weight isn't empty, then rope. Bitwise
  // equal to those.
  void qk_norm_rope(NormKind kind, Tensor q /*[T, H, E]*/, Tensor k /*[T, K, E]*/,
                    Tensor q_weight /*f32 [1 or H, E] or empty*/, Tensor k_weight, float eps,
                    std::span<const std::int32_t> positions, const RopeTable& table,
                    RopePairs pairs = RopePairs::halves);
  void activate(Activation f, Tensor y /*[T, F]*/, Tensor x /*[T, F]*/);  // y = f(x); y may be x
  // y = f(gate) * up, the gated MLP of arXiv:2002.05202
  void activate_mul(Activation f, Tensor y /*[T, F]*/, Tensor gate /*[T, F]*/, Tensor up /*[T, F]*/);
  // Causal attention within each document, online softmax: no T x T is written. Query head h reads kv head
  // h/(H/K).
  void attention(Tensor z /*[T, H, E]*/, Tensor q /*[T, H, E]*/, Tensor k /*[rows, K, E]*/,
                 Tensor v /*[rows, K, E]*/, const Documents& documents, const KeyRanges& keys,
                 const AttentionSpec& spec);
  // The same in the steps that hooks see. Keys are counted from the document's start; keys that the query
  // does not see, and past the document, hold -inf in scores and 0 in the pattern.
  void attention_scores(Tensor scores /*[T, H, S]*/, Tensor q, Tensor k, const Documents& documents,
                        const KeyRanges& keys, const AttentionSpec& spec);
  void softmax(Tensor y /*[T, H, S]*/, Tensor x /*[T, H, S]*/);  // over S; exp(-inf) = 0; all -inf: 0
  void attention_apply(Tensor z /*[T, H, E]*/, Tensor pattern /*[T, H, S]*/, Tensor v,
                       const Documents& documents, const KeyRanges& keys);
  // Router of a mixture of experts: p = softmax(logits) over all experts; the k largest in descending order
  // (of equals the lower index first) as indices and weights, which renormalise divides by their sum.
  void route(Tensor weights /*[T, k]*/, Tensor indices /*[T, k], whole numbers*/, Tensor logits /*[T, X]*/,
             Renormalise renormalise);
  // y[i] = w x[i / s], s the rows of y for one of x, w the weight of expert experts[i], of which weights[0]
  // is expert `first`'s; rows of other experts stay as they are. A token's experts differ; the host need not
  // know which they are.
  // False, and nothing done, where a backend had rather be told each expert's rows.
  bool linear_by_expert(Tensor y /*[T k, N]*/, Tensor x /*[T or T k, K]*/, Tensor experts /*[T, k]*/,
                        std::span<const Weight* const> weights, std::int64_t first);
  // y[t] = the sum of weights[t][i] x[t k + i] over t's experts from `first` to first + n, in the order of i;
  // NaN where experts[t][i] is none at all, below 0.
  void add_up_experts(Tensor y /*[T, D]*/, Tensor x /*[T k, D]*/, Tensor experts /*[T, k]*/,
                      Tensor weights /*[T, k]*/, std::int64_t first, std::int64_t n);
  // y[rows[i]] += weights[i] x[i]; rows are distinct.
  void scatter_add_rows(Tensor y /*[T, D]*/, std::span<const std::int32_t> rows, Tensor x /*[n, D]*/,
                        std::span<const float> weights /*[n]*/);
  // The log of the softmax of each row / temperature at the given column, summed in double: log
  // p(targets[t]).
  void log_softmax_at(std::span<double> out /*[T]*/, Tensor logits /*[T, V]*/,
                      std::span<const std::int32_t> targets /*[T]*/, float temperature = 1);
  // The k largest of each row in descending order, of equals the lower index first, NaN before all: row t's
  // at out[t k ..).
  static constexpr std::int64_t kMostCandidates = 1024;
  void top_k(std::span<Candidate> out /*[T k]*/, Tensor x /*[T, V]*/,
             std::int64_t k /*1 to kMostCandidates*/);
  // x[rows[i]][columns[i]] /= penalty where it is above 0, else *= penalty (CTRL, arXiv:1909.05858); the
  // pairs are distinct.
  void penalise(Tensor x /*[T, V]*/, std::span<const std::int32_t> rows,
                std::span<const std::int32_t> columns, double penalty);

  // ---- capture and edits, on the given rows of x [T, ...] (strided)
  void gather_rows(Tensor y /*[n, ...]*/, Tensor x, std::span<const std::int32_t> rows);
  void replace_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values /*f32 [n or 1, width]*/);
  void add_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values /*f32 [n or 1, width]*/,
                float coefficient);
  void scale_rows(Tensor x, std::span<const std::int32_t> rows, float factor);
  // x[row][column] = value for all given rows and columns of x [T, N].
  void fill_columns(Tensor x, std::span<const std::int32_t> rows, std::span<const std::int32_t> columns,
                    float value);
  void clamp_rows(Tensor x, std::span<const std::int32_t> rows, float least, float most);
  // x -= basis' (basis x): removes the span of orthonormal rows.
  void project_out_rows(Tensor x, std::span<const std::int32_t> rows, Tensor basis /*f32 [r, width]*/);
  // The rows as a store keeps them, and the sums of its statistics, which go on from `before` (which may be
  // `sums` itself) or from 0: runtime/packed_rows.h has their order.
  void pack_rows(Tensor y /*f32|bf16|f16 [n, ...]*/, Tensor sums /*f64 [4 C + 1]*/, Tensor x,
                 std::span<const std::int32_t> rows, const PackFormat& format,
                 Tensor before = {} /*f64 [4 C + 1]*/);
  // f32 rows -> storage dtype (f32, bf16, f16), contiguous. f16 values beyond 65504 become inf: check before.
  void cast(Tensor y /*f32|bf16|f16 [n, ...]*/, Tensor x /*f32 [n, ...]*/);

 protected:
  virtual void do_dequantise(Tensor out, Tensor raw) = 0;
  virtual std::unique_ptr<Weight> do_prepare_weight(Tensor w, Precision precision) = 0;
  virtual std::unique_ptr<Weight> do_keep_weight(std::vector<RawRow> rows, std::int64_t k,
                                                 Precision precision) = 0;
  virtual void do_linear(Tensor y, Tensor x, const Weight& w, Tensor bias) = 0;
  virtual void do_embed(Tensor out, Tensor table, std::span<const std::int32_t> ids) = 0;
  virtual void do_norm(NormKind kind, Tensor y, Tensor x, Tensor weight, Tensor bias, float eps) = 0;
  virtual void do_norm_scale(NormKind kind, Tensor scale, Tensor x, float eps) = 0;
  virtual void do_normalize(NormKind kind, Tensor y, Tensor x, Tensor scale) = 0;
  virtual void do_scale_columns(Tensor y, Tensor x, Tensor weight, Tensor bias) = 0;
  virtual void do_add_norm(NormKind kind, Tensor resid, Tensor y, Tensor delta, Tensor weight, Tensor bias,
                           float eps) = 0;
  virtual void do_norm_heads(NormKind kind, Tensor y, Tensor x, Tensor weight, float eps) = 0;
  virtual void do_zero(Tensor y) = 0;
  virtual void do_add(Tensor y, Tensor a, Tensor b) = 0;
  virtual void do_scale(Tensor y, Tensor x, float factor) = 0;
  virtual void do_softcap(Tensor y, Tensor x, float cap) = 0;
  virtual void do_rope(Tensor y, Tensor x, std::span<const std::int32_t> positions, const RopeTable& table,
                       RopePairs pairs) = 0;
  virtual void do_qk_norm_rope(NormKind kind, Tensor q, Tensor k, Tensor q_weight, Tensor k_weight, float eps,
                               std::span<const std::int32_t> positions, const RopeTable& table,
                               RopePairs pairs) = 0;
  virtual void do_activate(Activation f, Tensor y, Tensor x) = 0;
  virtual void do_activate_mul(Activation f, Tensor y, Tensor gate, Tensor up) = 0;
  virtual void do_attention(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents,
                            const KeyRanges& keys, const AttentionSpec& spec) = 0;
  virtual void do_attention_scores(Tensor scores, Tensor q, Tensor k, const Documents& documents,
                                   const KeyRanges& keys, const AttentionSpec& spec) = 0;
  virtual void do_softmax(Tensor y, Tensor x) = 0;
  virtual void do_attention_apply(Tensor z, Tensor pattern, Tensor v, const Documents& documents,
                                  const KeyRanges& keys) = 0;
  virtual void do_route(Tensor weights, Tensor indices, Tensor logits, Renormalise renormalise) = 0;
  virtual bool do_linear_by_expert(Tensor y, Tensor x, Tensor experts, std::span<const Weight* const> weights,
                                   std::int64_t first) = 0;
  virtual void do_add_up_experts(Tensor y, Tensor x, Tensor experts, Tensor weights, std::int64_t first,
                                 std::int64_t n) = 0;
  virtual void do_scatter_add_rows(Tensor y, std::span<const std::int32_t> rows, Tensor x,
                                   std::span<const float> weights) = 0;
  virtual void do_log_softmax_at(std::span<double> out, Tensor logits, std::span<const std::int32_t> targets,
                                 float temperature) = 0;
  virtual void do_top_k(std::span<Candidate> out, Tensor x, std::int64_t k) = 0;
  virtual void do_penalise(Tensor x, std::span<const std::int32_t> rows,
                           std::span<const std::int32_t> columns, double penalty) = 0;
  virtual void do_gather_rows(Tensor y, Tensor x, std::span<const std::int32_t> rows) = 0;
  virtual void do_replace_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values) = 0;
  virtual void do_add_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values,
                           float coefficient) = 0;
  virtual void do_scale_rows(Tensor x, std::span<const std::int32_t> rows, float factor) = 0;
  virtual void do_fill_columns(Tensor x, std::span<const std::int32_t> rows,
                               std::span<const std::int32_t> columns, float value) = 0;
  virtual void do_clamp_rows(Tensor x, std::span<const std::int32_t> rows, float least, float most) = 0;
  virtual void do_project_out_rows(Tensor x, std::span<const std::int32_t> rows, Tensor basis) = 0;
  virtual void do_pack_rows(Tensor y, Tensor sums, Tensor x, std::span<const std::int32_t> rows,
                            const PackFormat& format, Tensor before) = 0;
  virtual void do_cast(Tensor y, Tensor x) = 0;
};

std::unique_ptr<Backend> make_cpu_backend();

}  // namespace sonde
