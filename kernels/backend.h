// Every op of Sonde, once. A backend implements all of them; the compiler proves it.
//
// Letters, used in every shape comment of the code base:
//   T tokens of the flattened batch   D model width        H query heads       K key/value heads
//   E head width                      F MLP width          V vocabulary        L layers
//   S keys of the longest document    B rows of a training batch               C targets of a probe
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

#include "runtime/tensor.h"

namespace sonde {

// Precision of a GEMM's inputs: bf16 rounds weights and activations to bfloat16 (to nearest even) and
// accumulates in float, on a CPU with bf16 dot products and on one without.
enum class Precision : std::uint8_t { f32, bf16 };

// A prepared weight [N, K]: packed for the backend's GEMM, opaque to callers.
class Weight {
 public:
  virtual ~Weight() = default;
  virtual std::int64_t n() const = 0;      // outputs
  virtual std::int64_t k() const = 0;      // inputs
  virtual std::int64_t bytes() const = 0;  // memory held
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

struct AttentionSpec {
  float scale;  // of q.k
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string describe() const = 0;  // "cpu avx2, 2 threads"
  virtual std::string path(
      Precision precision) const = 0;  // "avx2-f32": decides the bits, goes into manifests

  // ---- weights
  void dequantise(Tensor out /*f32 [n]*/, Tensor raw /*any dtype, n values*/);
  std::unique_ptr<Weight> prepare_weight(Tensor w /*f32 [N, K]*/, Precision precision);

  // ---- forward
  // y = x W' + bias; bias may be empty.
  void linear(Tensor y /*[T, N]*/, Tensor x /*[T, K]*/, const Weight& w, Tensor bias /*f32 [N]*/ = {});
  // out[t] = table[ids[t]], dequantised row by row.
  void embed(Tensor out /*[T, D]*/, Tensor table /*any dtype [V, D]*/, std::span<const std::int32_t> ids);
  // y = x / sqrt(mean(x^2) + eps) * weight (RMSNorm, arXiv:1910.07467)
  void rms_norm(Tensor y /*[T, D]*/, Tensor x /*[T, D]*/, Tensor weight /*f32 [D]*/, float eps);
  // The same in the three steps that hooks see; bitwise equal to rms_norm.
  void rms_scale(Tensor scale /*[T, 1]*/, Tensor x /*[T, D]*/, float eps);  // sqrt(mean(x^2) + eps)
  void divide_rows(Tensor y /*[T, D]*/, Tensor x /*[T, D]*/, Tensor scale /*[T, 1]*/);
  void multiply_columns(Tensor y /*[T, D]*/, Tensor x /*[T, D]*/, Tensor weight /*f32 [D]*/);
  // resid += delta; y = rms_norm(resid). Bitwise equal to add then rms_norm.
  void add_rms_norm(Tensor resid /*[T, D]*/, Tensor y /*[T, D]*/, Tensor delta /*[T, D]*/,
                    Tensor weight /*[D]*/, float eps);
  void add(Tensor y /*[T, D]*/, Tensor a /*[T, D]*/, Tensor b /*[T, D]*/);  // y may be a
  // Rotates halves: (x[i], x[i + R/2]) of each head, positions[t] indexes the table (RoPE, arXiv:2104.09864).
  void rope(Tensor y /*[T, H, E]*/, Tensor x /*[T, H, E]*/, std::span<const std::int32_t> positions,
            const RopeTable& table);
  void silu_mul(Tensor y /*[T, F]*/, Tensor gate /*[T, F]*/, Tensor up /*[T, F]*/);  // x sigmoid(x) * up
  // Causal attention within each document, online softmax: no T x T is written. Query head h reads kv head
  // h/(H/K).
  void attention(Tensor z /*[T, H, E]*/, Tensor q /*[T, H, E]*/, Tensor k /*[T, K, E]*/,
                 Tensor v /*[T, K, E]*/, const Documents& documents, const AttentionSpec& spec);
  // The same in the steps that hooks see. Keys are counted from the document's start; keys after the query's
  // own token, and past the document, hold -inf in scores and 0 in the pattern.
  void attention_scores(Tensor scores /*[T, H, S]*/, Tensor q, Tensor k, const Documents& documents,
                        const AttentionSpec& spec);
  void softmax(Tensor y /*[T, H, S]*/, Tensor x /*[T, H, S]*/);  // over S; exp(-inf) = 0
  void attention_apply(Tensor z /*[T, H, E]*/, Tensor pattern /*[T, H, S]*/, Tensor v,
                       const Documents& documents);

  // ---- capture and edits, on the given rows of x [T, ...] (strided)
  void gather_rows(Tensor y /*[n, ...]*/, Tensor x, std::span<const std::int32_t> rows);
  void replace_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values /*f32 [n or 1, width]*/);
  void add_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values /*f32 [n or 1, width]*/,
                float coefficient);
  void scale_rows(Tensor x, std::span<const std::int32_t> rows, float factor);
  // x -= basis' (basis x): removes the span of orthonormal rows.
  void project_out_rows(Tensor x, std::span<const std::int32_t> rows, Tensor basis /*f32 [r, width]*/);
  // f32 rows -> storage dtype (f32, bf16, f16), contiguous. f16 values beyond 65504 become inf: check before.
  void cast(Tensor y /*f32|bf16|f16 [n, ...]*/, Tensor x /*f32 [n, ...]*/);

 protected:
  virtual void do_dequantise(Tensor out, Tensor raw) = 0;
  virtual std::unique_ptr<Weight> do_prepare_weight(Tensor w, Precision precision) = 0;
  virtual void do_linear(Tensor y, Tensor x, const Weight& w, Tensor bias) = 0;
  virtual void do_embed(Tensor out, Tensor table, std::span<const std::int32_t> ids) = 0;
  virtual void do_rms_norm(Tensor y, Tensor x, Tensor weight, float eps) = 0;
  virtual void do_rms_scale(Tensor scale, Tensor x, float eps) = 0;
  virtual void do_divide_rows(Tensor y, Tensor x, Tensor scale) = 0;
  virtual void do_multiply_columns(Tensor y, Tensor x, Tensor weight) = 0;
  virtual void do_add_rms_norm(Tensor resid, Tensor y, Tensor delta, Tensor weight, float eps) = 0;
  virtual void do_add(Tensor y, Tensor a, Tensor b) = 0;
  virtual void do_rope(Tensor y, Tensor x, std::span<const std::int32_t> positions,
                       const RopeTable& table) = 0;
  virtual void do_silu_mul(Tensor y, Tensor gate, Tensor up) = 0;
  virtual void do_attention(Tensor z, Tensor q, Tensor k, Tensor v, const Documents& documents,
                            const AttentionSpec& spec) = 0;
  virtual void do_attention_scores(Tensor scores, Tensor q, Tensor k, const Documents& documents,
                                   const AttentionSpec& spec) = 0;
  virtual void do_softmax(Tensor y, Tensor x) = 0;
  virtual void do_attention_apply(Tensor z, Tensor pattern, Tensor v, const Documents& documents) = 0;
  virtual void do_gather_rows(Tensor y, Tensor x, std::span<const std::int32_t> rows) = 0;
  virtual void do_replace_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values) = 0;
  virtual void do_add_rows(Tensor x, std::span<const std::int32_t> rows, Tensor values,
                           float coefficient) = 0;
  virtual void do_scale_rows(Tensor x, std::span<const std::int32_t> rows, float factor) = 0;
  virtual void do_project_out_rows(Tensor x, std::span<const std::int32_t> rows, Tensor basis) = 0;
  virtual void do_cast(Tensor y, Tensor x) = 0;
};

std::unique_ptr<Backend> make_cpu_backend();

}  // namespace sonde
