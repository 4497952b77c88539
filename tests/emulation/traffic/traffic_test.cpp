// What the hot kernels ask of memory, counted access by access and held to limits: of every hot line at least
// 90 % of the sectors' bytes are wanted and no bank conflict is avoidable; of every kernel the distinct bytes
// are at most 1.1 times what the formula must move. SONDE_TRAFFIC=FILE keeps the figures as lines of JSON.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <numeric>

#include "kernels/devices.h"
#include "kernels/emulation/config.h"
#include "kernels/emulation/race/traffic.h"
#include "tests/emulation/traffic/device_tensors.h"

namespace sonde {
namespace {

using emulation::KernelTraffic;
using emulation::LineTraffic;

// What a kernel must at least move and compute, and which limits hold.
struct Least {
  std::string kernel;    // how its name begins
  double bytes;          // read and written, each value once
  double flops = 0;      // of the formula
  double passes = 1.1;   // sectors that warps ask for, counted each time: as often as L1 and L2 serve them
  double sectors = 0.9;  // wanted share of a hot line's sectors
  double wavefronts = 0.99;  // and of its wavefronts of shared memory
};

class Hot : public ::testing::Test {
 protected:
  Hot() {
    emulation::config().trace = true;
    emulation::config().streams = emulation::Streams::eager;
  }
  ~Hot() override { emulation::config().trace = false; }

  // Runs the op once and holds each of its kernels to its limits.
  template <class F>
  void measure(const std::string& op, const std::string& shape, const std::vector<Least>& expected,
               const F& f) {
    gpu.wait();
    emulation::clear_traffic();
    f();
    gpu.wait();
    std::size_t found = 0;
    for (const KernelTraffic& k : emulation::traffic_of_kernels())
      for (const Least& least : expected)
        if (k.kernel.starts_with(least.kernel)) {
          ++found;
          hold(op + " " + shape + ": " + k.kernel, k, least);
          keep(op, shape, k, least);
        }
    EXPECT_EQ(found, expected.size()) << op << " " << shape;
  }

  std::unique_ptr<Backend> owner = make_emulated_backend();
  Backend& gpu = *owner;
  test::DeviceTensors make{gpu};

 private:
  static double asked(const KernelTraffic& k) {  // bytes of all sectors of all requests
    double sectors = 0;
    for (const LineTraffic& line : k.lines) sectors += line.shared ? 0 : static_cast<double>(line.needed);
    return 32 * sectors;
  }
  static double distinct(const KernelTraffic& k) {
    return 32 * static_cast<double>(k.sectors_read + k.sectors_written);
  }
  // A line is hot that makes up 2 % of its kernel's traffic.
  static bool hot(const KernelTraffic& k, const LineTraffic& line) {
    double all = 0;
    for (const LineTraffic& other : k.lines)
      if (other.shared == line.shared) all += static_cast<double>(other.needed);
    return static_cast<double>(line.needed) >= 0.02 * all;
  }
  static double worst(const KernelTraffic& k, bool shared) {
    double efficiency = 1;
    for (const LineTraffic& line : k.lines)
      if (line.shared == shared && hot(k, line)) efficiency = std::min(efficiency, line.efficiency());
    return efficiency;
  }
  static void hold(const std::string& what, const KernelTraffic& k, const Least& least) {
    for (const LineTraffic& line : k.lines) {
      if (!hot(k, line)) continue;
      EXPECT_GE(line.efficiency(), line.shared ? least.wavefronts : least.sectors)
          << what << ": " << line.line << (line.write ? " writes " : " reads ") << line.bytes_per_lane
          << " bytes a lane, " << line.needed << (line.shared ? " wavefronts for " : " sectors for ")
          << line.least;
    }
    EXPECT_LE(distinct(k), 1.1 * least.bytes) << what;
    EXPECT_GE(distinct(k), 0.9 * least.bytes) << what << ": the formula asks for more than was moved";
    EXPECT_LE(asked(k), least.passes * least.bytes) << what;
  }
  static void keep(const std::string& op, const std::string& shape, const KernelTraffic& k,
                   const Least& least) {
    const char* file = std::getenv("SONDE_TRAFFIC");
    if (file == nullptr) return;
    std::uint64_t wide = 0, global = 0;
    for (const LineTraffic& line : k.lines) {
      if (line.shared) continue;
      global += line.requests;
      if (line.bytes_per_lane == 16) wide += line.requests;
    }
    static std::ofstream out(file);
    out << fmt::format(
        R"({{"op":"{}","shape":"{}","kernel":"{}","threads":{},"dynamic":{},"blocks":{},"least":{},"distinct":{},)"
        R"("asked":{},"sectors":{:.4f},"wavefronts":{:.4f},"requests":{},"wide":{},"flops":{},"mma":{}}})"
        "\n",
        op, shape, k.kernel, k.threads, k.dynamic_bytes, k.blocks, least.bytes, distinct(k), asked(k),
        worst(k, false), worst(k, true), global, wide, least.flops, k.mma_flops);
  }
};

// ---- rows

TEST_F(Hot, Norms) {
  const std::int64_t T = 6, D = 2048;
  const Tensor x = make.random({T, D}), y = make.random({T, D}), delta = make.random({T, D}),
               weight = make.random({D}), scale = make.random({T, 1});
  const double row = 4.0 * T * D;
  measure("norm", "6 x 2048", {{"norm_rows<true, false>", 2 * row + 4 * D, 4.0 * T * D, 2.5}},
          [&] { gpu.norm(NormKind::rms, y, x, weight, {}, 1e-5f); });
  measure("add_norm", "6 x 2048", {{"norm_rows<true, true>", 4 * row + 4 * D, 5.0 * T * D, 2}},
          [&] { gpu.add_norm(NormKind::rms, x, y, delta, weight, {}, 1e-5f); });
  measure("layer norm", "6 x 2048", {{"norm_rows<true, false>", 2 * row + 8 * D, 7.0 * T * D, 3}},
          [&] { gpu.norm(NormKind::layer, y, x, weight, make.random({D}), 1e-5f); });
  measure("norm_scale", "6 x 2048", {{"scale_of_rows<true>", row, 2.0 * T * D}},
          [&] { gpu.norm_scale(NormKind::rms, scale, x, 1e-5f); });
  measure("normalize", "6 x 2048", {{"normalize_rows<true>", 2 * row, 1.0 * T * D}},
          [&] { gpu.normalize(NormKind::rms, y, x, scale); });
  const Tensor heads = make.random({T, 8, 128}), head_weight = make.random({1, 128});
  measure("norm_heads", "6 x 8 x 128", {{"norm_and_turn_heads", 8.0 * T * 1024 + 512, 4.0 * T * 1024, 2.1}},
          [&] { gpu.norm_heads(NormKind::rms, heads, heads, head_weight, 1e-5f); });
}

TEST_F(Hot, Rope) {
  const std::int64_t T = 8, H = 8, E = 128;
  const Tensor x = make.random({T, H, E}), cos = make.random({T, E / 2}), sin = make.random({T, E / 2});
  std::vector<std::int32_t> positions(8);
  for (std::int32_t t = 0; t < 8; ++t) positions[static_cast<std::size_t>(t)] = t;
  const double least = 8.0 * T * H * E + 4.0 * T * E;
  for (const RopePairs pairs : {RopePairs::halves, RopePairs::neighbours})
    measure(pairs == RopePairs::halves ? "rope" : "rope of neighbours", "8 x 8 x 128",
            {{"rope_rows", least, 3.0 * T * H * E, 1.5}}, [&] {
              gpu.rope(x, x, positions, {cos, sin}, pairs);
            });
}

TEST_F(Hot, QkNormRope) {
  const std::int64_t T = 8, H = 8, K = 2, E = 128;
  const Tensor qkv = make.random({T, (H + 2 * K) * E}), cos = make.random({T, E / 2}),
               sin = make.random({T, E / 2}), weight = make.random({1, E});
  const Tensor q = qkv.slice_columns(0, H * E).reshape_row({H, E});
  const Tensor k = qkv.slice_columns(H * E, K * E).reshape_row({K, E});
  std::vector<std::int32_t> positions(8);
  for (std::int32_t t = 0; t < 8; ++t) positions[static_cast<std::size_t>(t)] = t;
  const double values = static_cast<double>(T * (H + K) * E), least = 8 * values + 4.0 * T * E + 4.0 * E;
  for (const RopePairs pairs : {RopePairs::halves, RopePairs::neighbours})
    measure(pairs == RopePairs::halves ? "qk_norm_rope" : "qk_norm_rope of neighbours", "8 x 8 (2) x 128",
            {{"norm_and_turn_heads", least, 7 * values, 2.5}}, [&] {
              gpu.qk_norm_rope(NormKind::rms, q, k, weight, weight, 1e-5f, positions, {cos, sin}, pairs);
            });
}

TEST_F(Hot, Maps) {
  const std::int64_t T = 6, F = 2048;
  const Tensor gate_up = make.random({T, 2 * F}), y = make.random({T, F}), x = make.random({T, F});
  const double row = 4.0 * T * F;
  measure("activate_mul silu", "6 x 2048", {{"map_rows<2, true", 3 * row, 12.0 * T * F}}, [&] {
    gpu.activate_mul(Activation::silu, y, gate_up.slice_columns(0, F), gate_up.slice_columns(F, F));
  });
  measure("activate gelu", "6 x 2048", {{"map_rows<1, true", 2 * row, 30.0 * T * F}},
          [&] { gpu.activate(Activation::gelu, y, x); });
  measure("add", "6 x 2048", {{"map_rows<2, true", 3 * row, 1.0 * T * F}}, [&] { gpu.add(y, x, y); });
  const Tensor narrow = make.empty(DType::bf16, {T, F});
  measure("cast bf16", "6 x 2048", {{"cast_rows", 1.5 * row}}, [&] { gpu.cast(narrow, x); });
  measure("softcap", "6 x 2048", {{"map_rows<1, true", 2 * row, 10.0 * T * F}},
          [&] { gpu.softcap(y, x, 30); });
}

TEST_F(Hot, CaptureAndEdits) {
  const std::int64_t T = 12, D = 2048;
  const Tensor x = make.random({T, D}), y = make.random({4, D}), values = make.random({1, D}),
               basis = make.random({2, D});
  const std::vector<std::int32_t> rows = {1, 5, 6, 11};
  const double row = 4.0 * 4 * D;
  measure("gather_rows", "4 of 12 x 2048", {{"map_rows<1, true", 2 * row}},
          [&] { gpu.gather_rows(y, x, rows); });
  measure("replace_rows", "4 of 12 x 2048", {{"map_rows<1, true", 2 * row}},
          [&] { gpu.replace_rows(x, rows, y); });
  measure("add_rows", "4 of 12 x 2048", {{"map_rows<2, true", 2 * row + 4 * D, 8.0 * D, 1.5}},
          [&] { gpu.add_rows(x, rows, values, 0.5f); });
  measure("scale_rows", "4 of 12 x 2048", {{"map_rows<1, true", 2 * row, 4.0 * D}},
          [&] { gpu.scale_rows(x, rows, 0.5f); });
  measure("clamp_rows", "4 of 12 x 2048", {{"map_rows<1, true", 2 * row, 8.0 * D}},
          [&] { gpu.clamp_rows(x, rows, -1, 1); });
  measure("project_out_rows", "4 of 12 x 2048, 2", {{"project_out_of", 2 * row + 8 * D, 4.0 * 4 * 2 * D, 4}},
          [&] { gpu.project_out_rows(x, rows, basis); });
}

TEST_F(Hot, PackRows) {
  const std::int64_t T = 200, D = 64;
  const Tensor wide = make.random({T, D + 64});
  std::vector<std::int32_t> rows(static_cast<std::size_t>(T));
  std::iota(rows.begin(), rows.end(), 0);
  const double values = static_cast<double>(T * D), sums = 32.0 * D;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const Tensor y = make.empty(dtype, {T, D}), of = make.empty(DType::f64, {PackedSums::length(D)});
    const double size = dtype == DType::f32 ? 4 : 2;
    measure(fmt::format("pack_rows {}", name(dtype)), "200 of 200 x 64",
            {{"pack_columns", (4 + size) * values + sums, 3 * values}}, [&] {
              gpu.pack_rows(y, of, wide.slice_columns(32, D), rows, {dtype, value_rule(dtype, false), 0});
            });
    const Tensor scores = make.random({8, 4, 400}), kept = make.empty(dtype, {8, 4, 400}),
                 pooled = make.empty(DType::f64, {5});
    const std::vector<std::int32_t> eight = {0, 1, 2, 3, 4, 5, 6, 7};
    measure(fmt::format("pack_rows {} of scores", name(dtype)), "8 x 4 x 400",
            {{"pack_pooled", (4 + size) * 12800 + 8 * 40, 3.0 * 12800}}, [&] {
              gpu.pack_rows(kept, pooled, scores, eight, {dtype, value_rule(dtype, true), 1600});
            });
  }
}

TEST_F(Hot, LogSoftmax) {
  const std::int64_t T = 3, V = 8192;
  const Tensor logits = make.random({T, V});
  std::vector<double> out(3);
  const std::vector<std::int32_t> targets = {1, 77, 8000};
  measure("log_softmax_at", "3 x 8192", {{"log_softmax_rows", 4.0 * T * V, 3.0 * T * V, 2.1}},
          [&] { gpu.log_softmax_at(out, logits, targets); });
}

TEST_F(Hot, TopK) {
  const std::int64_t T = 3, V = 8192;
  const Tensor logits = make.random({T, V});
  // k > 1: once a digit, mostly four times, and once more to gather; digits meet in banks as the values have
  // it.
  for (const auto& [k, passes] : {std::pair{1, 1.1}, std::pair{50, 6.6}}) {
    std::vector<Candidate> out(static_cast<std::size_t>(T * k));
    measure(fmt::format("top_k {}", k), "3 x 8192",
            {{k == 1 ? "largest_of_rows" : "top_k_of_rows", 4.0 * T * V + 8.0 * T * k, 0, passes, 0.9,
              k == 1 ? 0.99 : 0.5}},
            [&] { gpu.top_k(out, logits, k); });
  }
}

// ---- tables and weights of every format

const DType kFormats[] = {DType::f32,  DType::f16,    DType::bf16,   DType::q4_0, DType::q4_1, DType::q5_0,
                          DType::q5_1, DType::q8_0,   DType::q2_k,   DType::q3_k, DType::q4_k, DType::q5_k,
                          DType::q6_k, DType::iq4_nl, DType::iq4_xs, DType::mxfp4};

// Where 128 values of a format take more than 128 bytes, two lanes of a warp meet in a bank: Q8_0's 136.
double wavefronts_of(DType dtype) { return dtype == DType::q8_0 ? 0.5 : 0.99; }

TEST_F(Hot, EmbedAndDequantise) {
  const std::int64_t T = 3, D = 2048;
  for (const DType dtype : kFormats) {
    const Tensor table = make.raw(dtype, {8, D}), y = make.random({T, D}), whole = make.random({8 * D});
    const std::vector<std::int32_t> ids = {5, 2, 7};
    const double stored = static_cast<double>(bytes_of(dtype, D));
    measure(fmt::format("embed {}", name(dtype)), "3 of 8 x 2048",
            {{"expand_", T * (stored + 4 * D), 2.0 * T * D, 1.1, 0.9, wavefronts_of(dtype)}},
            [&] { gpu.embed(y, table, ids); });
    if (dtype == DType::f32) continue;
    measure(fmt::format("dequantise {}", name(dtype)), "16384",
            {{"expand_", 8 * (stored + 4 * D), 16.0 * D, 1.1, 0.9, wavefronts_of(dtype)}},
            [&] { gpu.dequantise(whole, table); });
  }
}

TEST_F(Hot, DecodeGemv) {
  const std::int64_t N = 32, K = 2048;
  for (const DType dtype : kFormats) {
    if (dtype == DType::f16) continue;  // becomes bf16 or f32 when it is loaded
    const bool plain = dtype == DType::f32 || dtype == DType::bf16;
    const auto weight = make.weight(dtype, N, K);
    const double stored = static_cast<double>(N * bytes_of(dtype, K));
    for (const std::int64_t rows : {1, 3}) {
      if (rows == 3 && !plain && dtype != DType::q4_k) continue;
      const Tensor x = make.random({rows, K}), y = make.random({rows, N});
      const double r = static_cast<double>(rows);
      // x comes from L1 for every column.
      measure(fmt::format("GEMV {}", name(dtype)), fmt::format("{} x 2048 x 32", rows),
              {{"gemv_columns", stored + 4 * r * (N + K), 2 * r * N * K,
                1.1 * (stored + 4 * r * N * K) / stored, 0.9, wavefronts_of(dtype)}},
              [&] { gpu.linear(y, x, *weight, {}); });
    }
  }
}

TEST_F(Hot, Fp8) {
  const std::int64_t N = 256, K = 2048;
  const auto weight = gpu.prepare_weight(make.random({N, K}), Precision::fp8);
  const Tensor bias = make.random({N});
  const auto least = [&](std::int64_t rows) {  // the row is read again to be rounded
    return Least{"round_rows", static_cast<double>(rows * (5 * K + 4)), static_cast<double>(3 * rows * K), 2};
  };
  for (const std::int64_t rows : {1, 3}) {
    const Tensor x = make.random({rows, K}), y = make.random({rows, N});
    const double r = static_cast<double>(rows), stored = static_cast<double>(N * (K + 8));
    measure("GEMV fp8", fmt::format("{} x 2048 x 256", rows),
            {least(rows), {"gemv_fp8", stored + r * (K + 4 * N), 2 * r * N * K, 1.1 * (1 + r)}},
            [&] { gpu.linear(y, x, *weight, bias); });
  }
  const Tensor x = make.random({16, K}), y = make.random({16, N});
  measure("product fp8", "16 x 2048 x 256", {least(16), {"scale_sums", 8.0 * 16 * N + 8 * N, 3.0 * 16 * N}},
          [&] { gpu.linear(y, x, *weight, bias); });
}

// ---- experts

TEST_F(Hot, FewRowsOfExperts) {
  const std::int64_t T = 3, k = 2, X = 8, N = 32, K = 2048;
  const Tensor x = make.random({T, K}), y = make.random({T * k, N});
  const Tensor experts = make.listed({0, 1, 1, 2, 5, 1}, {T, k});
  for (const DType dtype : {DType::f32, DType::bf16, DType::q4_k, DType::q6_k}) {
    std::vector<std::unique_ptr<Weight>> weights;
    std::vector<const Weight*> there;
    for (std::int64_t e = 0; e < X; ++e) {
      weights.push_back(make.weight(dtype, N, K));
      there.push_back(weights.back().get());
    }
    const double stored = 4.0 * static_cast<double>(N * bytes_of(dtype, K));  // of the four that are chosen
    measure(fmt::format("GEMV by expert {}", name(dtype)), "3 x 2 of 8 x 2048 x 32",
            {{"gemv_of_experts", stored + 4.0 * (T * K + T * k * N), 2.0 * T * k * N * K,
              1.2 * (stored + 4.0 * T * k * N * K) / stored, 0.9, wavefronts_of(dtype)}},
            [&] { gpu.linear_by_expert(y, x, experts, there, 0); });
  }
}

TEST_F(Hot, ManyRowsOfExperts) {
  const std::int64_t k = 2, X = 2, N = 256, K = 256;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const std::int64_t T : {64, 128}) {
      const Tensor x = make.random({T, K}), y = make.random({T * k, N});
      std::vector<float> both;
      for (std::int64_t t = 0; t < T; ++t) both.insert(both.end(), {0, 1});
      const Tensor experts = make.listed(both, {T, k});
      const auto one = make.weight(dtype, N, K), other = make.weight(dtype, N, K);
      const Weight* there[] = {one.get(), other.get()};
      const auto bytes = static_cast<double>(bytes_of(dtype, 1));
      const double least = bytes * static_cast<double>(T * K + X * N * K) + 4.0 * T * k * N;
      // From L2: rows of x for every tile of columns, rows of w for every tile of rows.
      const std::int64_t columns = dtype == DType::f32 ? 64 : 128,
                         rows = dtype == DType::f32 || T < 128 ? 64 : 128;
      const double asked =
          bytes * static_cast<double>(X * T * K * (N / columns) + X * N * K * (T / rows)) + 4.0 * T * k * N;
      measure(fmt::format("products by expert {}", name(dtype)), fmt::format("{} x 2 of 2 x 256 x 256", T),
              {{"products_of_experts", least, 2.0 * T * k * N * K, 1.1 * asked / least}},
              [&] { gpu.linear_by_expert(y, x, experts, there, 0); });
    }
}

TEST_F(Hot, RouterAndSums) {
  const std::int64_t T = 64, k = 4, X = 64, D = 2048;
  const Tensor logits = make.random({T, X}), indices = make.random({T, k}), weights = make.random({T, k});
  // Three passes over a row, two of them from L1; the chosen come one by one.
  measure("route", "64 x 64, 4", {{"route_rows", 4.0 * T * (X + 2 * k), 5.0 * T * X, 3.5, 0}},
          [&] { gpu.route(weights, indices, logits, Renormalise::no); });
  const std::int64_t few = 6;
  const Tensor x = make.random({few * k, D}), y = make.random({few, D});
  measure("add_up_experts", "6 x 4 x 2048",
          {{"add_up_rows_of_experts", 4.0 * few * D * (k + 1), 2.0 * few * k * D, 1.5}},
          [&] { gpu.add_up_experts(y, x, indices.slice_rows(0, few), weights.slice_rows(0, few), 0, X); });
}

// ---- attention

TEST_F(Hot, FlashAttention) {
  for (const std::int64_t E : {64, 128, 256}) {
    const std::int64_t T = 128, H = 2, K = 1;
    const Tensor qkv = make.random({T, (H + 2 * K) * E});
    const auto part = [&](std::int64_t from, std::int64_t heads) {
      return qkv.slice_columns(from * E, heads * E).reshape_row({heads, E});
    };
    const Tensor z = make.random({T, H, E});
    const std::vector<std::int32_t> starts = {0, 128};
    const double pairs = 0.5 * T * (T + 1) * H, te = static_cast<double>(T * E);
    measure("flash attention", fmt::format("128 x 2 (1) x {}", E),
            {{"pack_rows", te * (H + 2 * K) * 6},
             {"flash<", te * (2 * (H + 2 * K) + 4 * H), 4 * pairs * static_cast<double>(E), 2.2}},
            [&] {
              gpu.attention(z, part(0, H), part(H, K), part(H + K, K), {starts}, {},
                            {0.1f, 0, 0, Precision::bf16});
            });
  }
}

TEST_F(Hot, DecodeAttention) {
  const std::int64_t S = 512, H = 4, K = 2;
  for (const std::int64_t E : {64, 128}) {
    const Tensor q = make.random({1, H, E}), z = make.random({1, H, E}), k = make.random({S, K, E}),
                 v = make.random({S, K, E});
    const std::vector<std::int32_t> starts = {0, 1}, first = {0}, count = {512};
    const double keys = 8.0 * S * K * E;
    // k and v once per query head: the second head of a group finds them in L2.
    measure("decode attention", fmt::format("1 x 4 (2) x {} over 512", E),
            {{"attend", keys + 4.0 * H * E * 3, 4.0 * S * H * E, 2.3}}, [&] {
              gpu.attention(z, q, k, v, {starts}, {first, count}, {0.1f, 0, 0, Precision::f32});
            });
  }
}

TEST_F(Hot, AttentionInSteps) {
  const std::int64_t T = 64, H = 2, E = 64;
  const Tensor q = make.random({T, H, E}), k = make.random({T, H, E}), v = make.random({T, H, E}),
               z = make.random({T, H, E}), scores = make.random({T, H, T});
  const std::vector<std::int32_t> starts = {0, 64};
  const double all = 4.0 * T * H * T, rows = 4.0 * T * H * E;
  measure("attention_scores", "64 x 2 x 64", {{"score_keys", all + 2 * rows, 2.0 * T * H * T * E, 40}}, [&] {
    gpu.attention_scores(scores, q, k, {starts}, {}, {0.1f, 0, 0, Precision::f32});
  });
  measure("softmax", "64 x 2 x 64", {{"softmax_rows", 2 * all, 4.0 * T * H * T, 3}},
          [&] { gpu.softmax(scores, scores); });
  measure("attention_apply", "64 x 2 x 64", {{"apply_pattern", all + 2 * rows, 2.0 * T * H * T * E, 40}},
          [&] { gpu.attention_apply(z, scores, v, {starts}, {}); });
}

}  // namespace
}  // namespace sonde
