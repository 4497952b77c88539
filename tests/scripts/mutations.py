"""The bugs that mutate.py plants: what the code says, and what it says then."""
from dataclasses import dataclass


@dataclass
class Mutation:
    name: str
    what: str       # for people
    file: str       # in kernels/cuda
    old: str
    new: str
    tests: str      # a filter of GoogleTest's; the first failure is enough
    mode: str = "plain"  # or backend, race, ranks (device_collectives on two)
    settings: str = ""   # SONDE_EMULATION
    compiled: str = ""   # for a header: the source that is compiled with it
    in_ci: bool = False


ATTENTION = "Paths/Attention.MatchesTheOracle/emulated"
BF16 = "Paths/Attention.WithOperandsInBf16/emulated"
NAN = "Paths/Attention.NanOfAKeyThatIsNotSeen*/emulated"
CACHE = "Paths/Attention.TokenByTokenFromACache/emulated"
LINEAR = "Paths/Linear.MatchesTheOracle/emulated"
NORM = "Paths/RowOps.NormsWholeFusedAndInSteps/emulated"
HEADS = "Paths/RowOps.NormOfEachHead/emulated"
ROPE = "Paths/RowOps.Rope/emulated"
ROUTE = "Paths/RowOps.Route/emulated"
TOP_K = "Paths/LogitOps.TopK/emulated"
QK = "Paths/RowOps.QkNormRope/emulated"
GATES = "Paths/RowOps.ActivationsAndGates/emulated"
SCORE = "Paths/LogitOps.LogSoftmaxAt/emulated"
EMBED = "Paths/RowOps.EmbedReadsRowsOfAnyType/emulated"
SCATTER = "Paths/RowOps.ScatterAddRows/emulated"
SCALE = "Paths/RowOps.ScaleZeroAndSoftcap/emulated"
LOGISTIC = "Paths/ProbeOpsTest.Logistic*/emulated_1"
MOMENTS = "Paths/ProbeOpsTest.MomentsAndGram/emulated_1"
CHOLESKY = "Paths/ProbeOpsTest.Cholesky*/emulated_1"
PACK = "Paths/PackRows.Columns/emulated"
EXPERTS = "Paths/ExpertOps.*/emulated"
POOLED = "Paths/PackRows.Pooled/emulated"
REFUSED = "Paths/PackRows.ValuesThatAStoreRefuses/emulated"
SLABS = "ProbeOps.SameBitsHeldAndStreamedOn_emulated"

MUTATIONS = [
    # ---- barriers
    Mutation("reduce_no_first_barrier", "block_reduce: no barrier between write and read", "block.cuh",
             "shared[threadIdx.x / 32] = value; __syncthreads();", "shared[threadIdx.x / 32] = value;", NORM,
             compiled="norm.cu", in_ci=True),
    Mutation("reduce_no_last_barrier", "block_reduce: the buffer is written again too early", "block.cuh",
             "__syncthreads();  // before anyone writes `shared` again", "", NORM, "race", compiled="norm.cu"),
    Mutation("route_no_syncwarp", "router: weights read before their lane wrote them", "experts.cu",
             "__syncwarp(); if (renormalise)", "if (renormalise)", ROUTE, "race"),
    Mutation("gemm_no_first_barrier", "GEMM: the tile is used before it is whole", "linear.cu",
             "to_float(w[(column0 + r) * k + k0 + c]) : 0.0f; } __syncthreads();",
             "to_float(w[(column0 + r) * k + k0 + c]) : 0.0f; }", LINEAR),
    Mutation("gemm_no_last_barrier", "GEMM: the next tile overwrites this one", "linear.cu",
             "sum[i][j] = fmaf(a[i], b[j], sum[i][j]); } __syncthreads();",
             "sum[i][j] = fmaf(a[i], b[j], sum[i][j]); }", LINEAR),
    Mutation("flash_no_barrier_after_wait", "flash: no barrier after the copies' wait", "flash_attention.cu",
             "cp_async_wait<1>(); __syncthreads();", "cp_async_wait<1>();", BF16),
    Mutation("flash_no_last_barrier", "flash: copies into a tile that is still read", "flash_attention.cu",
             "__syncthreads();  // before the next tile's copies", "//", BF16),
    Mutation("attend_no_barrier_after_query", "attention: the query is read before it is there", "attention.cu",
             "m.all[i] = 0; } __syncthreads();", "m.all[i] = 0; }", ATTENTION, settings="order=reverse"),
    # ---- copies in flight
    Mutation("flash_late_wait", "flash: wait_group lets one group too many be in flight", "flash_attention.cu",
             "cp_async_wait<1>()", "cp_async_wait<2>()", BF16),
    Mutation("flash_no_commit", "flash: the first copies are in the second's group", "flash_attention.cu",
             "(vs, v, k_stride, first_tile * kKeys, last_key + 1); cp_async_commit();",
             "(vs, v, k_stride, first_tile * kKeys, last_key + 1);", BF16),
    Mutation("flash_wrong_stage", "flash: the tile in flight is the one that is multiplied", "flash_attention.cu",
             "ks + here * kKeys", "ks + (here ^ 1) * kKeys", BF16),
    # ---- fragments
    Mutation("flash_swapped_fragment", "flash: the two halves of b are swapped", "flash_attention.cu",
             "mma(s[j], a, b[0], b[1], T{});", "mma(s[j], a, b[1], b[0], T{});", BF16),
    Mutation("flash_not_transposed", "flash: V is loaded without .trans", "flash_attention.cu",
             "ldmatrix_x4_trans(b, vt", "ldmatrix_x4(b, vt", BF16),
    Mutation("flash_wrong_rows_of_q", "flash: matrices of Q in the wrong order", "flash_attention.cu",
             "(warp * 16 + eighth % 2 * 8 + line) * kPitch + c * 16 + eighth / 2 * 8",
             "(warp * 16 + eighth / 2 * 8 + line) * kPitch + c * 16 + eighth % 2 * 8", BF16),
    Mutation("flash_probabilities_swapped", "flash: rows g and g + 8 of P are swapped", "flash_attention.cu",
             "pack2<T>(s[2 * c][0], s[2 * c][1]), pack2<T>(s[2 * c][2], s[2 * c][3])",
             "pack2<T>(s[2 * c][2], s[2 * c][3]), pack2<T>(s[2 * c][0], s[2 * c][1])", BF16),
    # ---- masks and tails
    Mutation("flash_future_key", "flash: a query sees the key after its own", "flash_attention.cu",
             "seen = key <= own && (rule.window", "seen = key <= own + 1 && (rule.window", BF16),
    Mutation("flash_window", "flash: the window is one key too wide", "flash_attention.cu",
             "key + rule.window > own)", "key + rule.window >= own)", BF16),
    Mutation("flash_tail_rows", "flash: rows past the document are written", "flash_attention.cu",
             "if (row >= task.rows) continue;", "", BF16),
    Mutation("flash_last_column", "flash: the last column of an odd width is not written", "flash_attention.cu",
             "if (column < x.e) z[column] = low;", "if (column + 1 < x.e) z[column] = low;", BF16),
    Mutation("attend_last_key", "attention: the own key is left out", "attention.cu",
             "return (chunk + 1) * kChunk < own + 1 ? (chunk + 1) * kChunk : own + 1;",
             "return (chunk + 1) * kChunk < own ? (chunk + 1) * kChunk : own;", ATTENTION),
    Mutation("attend_wrong_group", "attention: every query head reads kv head 0's neighbour", "attention.cu",
             "kv = head / x.group * x.e", "kv = head % x.group * x.e", ATTENTION),
    Mutation("attend_total_not_kept", "attention: the total is not scaled to the new maximum", "attention.cu",
             "fmaf(s.total, kept, block_reduce", "fmaf(s.total, 1.0f, block_reduce", ATTENTION),
    Mutation("join_no_factor", "attention: chunks are joined without their factor", "attention.cu",
             "m.sum[i] * joined.now);", "m.sum[i]);", ATTENTION),
    Mutation("gemm_row_tail", "GEMM: rows past the end are read", "linear.cu", "inside && row0 + r < rows",
             "inside", LINEAR, "race"),
    Mutation("gemm_k_tail", "GEMM: the tail of k is not masked", "linear.cu", "const bool inside = k0 + c < k;",
             "const bool inside = k0 + c <= k;", LINEAR),
    Mutation("gemm_bias", "GEMM: the bias of the row, not of the column", "linear.cu", "bias[c] : 0.0f);",
             "bias[0] : 0.0f);", LINEAR),
    Mutation("gemv_row_tail", "decode GEMV: the last column is left out", "linear.cu", "if (column >= n) return;",
             "if (column >= n - 1) return;", LINEAR),
    Mutation("map_tail", "maps: the last value of a row is left out", "rows.cuh", "for (std::int64_t c = first; c < width;",
             "for (std::int64_t c = first; c < width - 1;", SCALE, compiled="elementwise.cu", in_ci=True),
    Mutation("map_row_overrun", "maps: one row too many", "rows.cuh", "r < rows; r += gridDim.y) { float* to",
             "r <= rows; r += gridDim.y) { float* to", SCALE, "race", compiled="elementwise.cu"),
    # ---- arithmetic
    Mutation("norm_no_eps", "norm: eps is left out", "norm.cuh", "static_cast<float>(n)), eps))", "static_cast<float>(n)), 0.0f))",
             NORM, compiled="norm.cu"),
    Mutation("norm_uninitialised", "norm: the sum of squares starts anywhere", "norm.cuh", "float squares = 0;",
             "float squares;", NORM, in_ci=True, compiled="norm.cu"),
    Mutation("norm_four_of_three", "norm: the fourth value is not counted", "norm.cuh",
             "add(v.y), add(v.z), add(v.w);", "add(v.y), add(v.z);", "Norms.*", "backend", compiled="norm.cu"),
    Mutation("norm_no_mean", "LayerNorm: the mean is not taken off", "norm.cuh", "if (layer) {", "if (false) {", NORM, compiled="norm.cu"),
    Mutation("norm_wrong_head", "norm per head: the weight of the first head for all", "qk_norm_rope.cu",
             "heads.weight + head * heads.weight_stride", "heads.weight", HEADS),
    Mutation("qk_no_syncwarp", "qk-norm + RoPE: a lane overwrites what others still read", "qk_norm_rope.cu",
             "__syncwarp();  // all lanes have read what others overwrite", "", QK, "race"),
    Mutation("qk_wrong_head", "qk-norm + RoPE: key heads count on from the query's", "qk_norm_rope.cu",
             "of_q ? i : i - task.q.heads;", "i;", QK),
    Mutation("qk_angles_of_four", "qk-norm + RoPE: sine of the neighbouring pair", "qk_norm_rope.cu",
             "turned(lo.y, hi.y, cs.y, sn.y)", "turned(lo.y, hi.y, cs.y, sn.x)", QK),
    Mutation("rope_sign", "RoPE turns backwards", "rope.cuh", "fmaf(a, cosine, -(b * sine))",
             "fmaf(a, cosine, b * sine)", ROPE, compiled="rope.cu"),
    Mutation("rope_partner", "RoPE: the partner is one off", "rope.cu", "lo + 1 : lo + turning;", "lo + 1 : lo + turning - 1;", ROPE),
    Mutation("rope_rest", "RoPE: values that don't turn are not copied", "rope.cu", "i < heads * rest;", "i < heads * rest - 1;",
             ROPE),
    Mutation("gelu_constant", "GELU: erfc of the wrong sign", "activate.cu", "erfcf(-0.70710678118654752f * x)",
             "erfcf(0.70710678118654752f * x)", GATES, in_ci=True),
    Mutation("silu_gate", "the gate and its operand change places", "activate.cu", "activation<kF>(gate) * up;",
             "activation<kF>(up) * gate;", GATES),
    Mutation("route_ties", "router: of equals the higher expert", "experts.cu",
             "(0xffffffffu - static_cast<unsigned>(expert));", "static_cast<unsigned>(expert);", ROUTE),
    Mutation("route_chosen_again", "router: an expert is chosen twice", "experts.cu", "p[expert] = -1;", "", ROUTE),
    Mutation("score_no_maximum", "log-softmax: the maximum is not taken off", "log_softmax.cu",
             "- static_cast<double>(largest)) * factor", ") * factor", SCORE),
    Mutation("top_k_ties", "top-k: of equals the higher index", "top_k.cu",
             "(0xffffffffu - static_cast<std::uint32_t>(index));", "static_cast<std::uint32_t>(index);", TOP_K),
    Mutation("top_k_no_barrier", "top-k: digits are summed up before all are counted", "top_k.cu",
             "}); __syncthreads(); if (thread < 32) {", "}); if (thread < 32) {", TOP_K),
    Mutation("top_k_counts_kept", "top-k: a pass goes on with the last one's counts", "top_k.cu",
             "counts[thread] = 0;", "counts[thread] += 0;", TOP_K),
    Mutation("top_k_negative", "top-k: negative values in the wrong order", "top_k.cu", "? ~bits : bits | 0x80000000u;",
             "? bits : bits | 0x80000000u;", TOP_K),
    Mutation("penalty_sign", "penalty: negative logits are divided, too", "top_k.cu", "value > 0 ? wide / penalty",
             "value != 0 ? wide / penalty", "Paths/LogitOps.Penalise/emulated"),
    Mutation("algorithms_cache_first", "cuBLASLt: the cache's algorithm comes before the run's", "algorithms.cpp",
             "codes_.emplace(line.substr(0, colon), code);", "codes_[line.substr(0, colon)] = code;", "AlgorithmsOnDisk.*",
             "backend"),
    Mutation("experts_no_barrier", "experts: an expert's rows are used before they are listed", "expert_linear.cu",
             "list[kMostRows] = found; } __syncthreads();", "list[kMostRows] = found; }", EXPERTS, settings="order=reverse"),
    Mutation("experts_votes", "experts: a row's place in the list counts the row itself", "expert_linear.cu",
             "((1u << lane) - 1)", "((2u << lane) - 1)", EXPERTS),
    Mutation("experts_row", "experts: all rows of an expert read its first one's input", "expert_linear.cu",
             "list[first + r] / rows_of_one_x", "list[first] / rows_of_one_x", EXPERTS, in_ci=True),
    Mutation("experts_first", "experts: the weights' first expert is number 0", "expert_linear.cu",
             "weights[expert - choice.first]", "weights[expert]", EXPERTS),
    Mutation("experts_elsewhere", "experts: rows of another rank's experts are added", "expert_linear.cu",
             "if (expert >= choice.first && expert < choice.first + choice.n) sum",
             "if (expert >= 0) sum", EXPERTS),
    Mutation("scatter_overwrites", "scatter: the row is replaced, not added to", "experts.cu",
             "fmaf(weights[row], x, y)", "weights[row] * x", SCATTER),
    Mutation("embed_wrong_index", "embedding: the row's number for its id", "embed.cu", "index != nullptr ? index[r] : r",
             "r", EMBED, in_ci=True),
    Mutation("embed_block_offset", "embedding: every four values are a block's first", "embed.cu",
             "at % Format::kValues);", "0);", "Dequantise.*", "backend"),
    Mutation("blocks_no_syncwarp", "blocks: read before the warp's copies of them are there", "blocks.cuh",
             "__syncwarp(); return reinterpret_cast<const Byte*>(to) + skipped;",
             "return reinterpret_cast<const Byte*>(to) + skipped;", "Dequantise.*", "backend", compiled="embed.cu"),
    Mutation("keys_wrong_lane", "attention: a lane takes the product of its neighbour's key", "keys.cuh",
             "product, lane % 4 * 8)", "product, (lane + 1) % 4 * 8)", ATTENTION, compiled="attention.cu"),
    Mutation("flash_diagonal", "flash: the tile before the diagonal is the last that is masked", "flash_attention.cu",
             "tile * kKeys + kKeys - 1 > task.own ||", "tile * kKeys > task.own + 1 ||", BF16),
    # ---- streams and memory
    Mutation("upload_segment_too_early", "uploads: a pinned segment is written while it is copied", "memory.cu",
             "check(cudaEventSynchronize(copied_[segment_]), \"waiting for an upload\");", "", "Uploads.*", "backend"),
    Mutation("host_reads_too_early", "captures: the host reads before the copy is done", "gpu_backend.cu",
             "\"copying to the host\"); wait();", "\"copying to the host\");", NORM),
    Mutation("wrong_stream", "a copy to the host in the default stream", "gpu_backend.cu",
             "device.data, row * rows, cudaMemcpyDeviceToHost, stream_)",
             "device.data, row * rows, cudaMemcpyDeviceToHost, nullptr)", NORM),
    Mutation("half_a_row", "copies to the host: half of each row", "gpu_backend.cu",
             "device.data, row * rows, cudaMemcpyDeviceToHost", "device.data, row * rows / 2, cudaMemcpyDeviceToHost",
             NORM),
    # ---- probes
    Mutation("probe_shift", "probe: scores of rows that are not centred", "probe_ops.cu", "part_of(v[r], k)) - s) * wc",
             "part_of(v[r], k))) * wc", LOGISTIC),
    Mutation("probe_overflow", "probe: a log-loss that overflows", "probe_ops.cu", "exp(-fabs(m))", "exp(-m)", LOGISTIC),
    Mutation("probe_slot_replaced", "probe: a slab's sums replace the last one's", "probe_ops.cu",
             "partial[slot * C + c] += sum;", "partial[slot * C + c] = sum;", SLABS),
    Mutation("probe_held_rows", "probe: held rows counted from the first of all", "probe_ops.cu",
             "static_cast<std::int32_t>(row - least)", "static_cast<std::int32_t>(row)", SLABS),
    Mutation("gram_no_barrier", "Gram matrix: the tile is used before it is whole", "probe_gram.cu",
             "bs[d][c] = plain; } __syncthreads();", "bs[d][c] = plain; }", MOMENTS),
    Mutation("gram_mirror", "Gram matrix: the upper triangle is not the lower one", "probe_gram.cu",
             "c <= r ? r * D + c : c * D + r;", "r * D + c;", MOMENTS),
    Mutation("cholesky_no_barrier", "Cholesky: the column is used before it is divided", "probe_cholesky.cu",
             "__syncthreads(); const int rest", "const int rest", CHOLESKY, "race"),
    Mutation("cholesky_upper", "Cholesky: the product reaches the upper triangle", "probe_cholesky.cu",
             "if (r < rows && c <= r) rest", "if (r < rows && c < rows) rest", CHOLESKY),
    # ---- captures beside the forward
    Mutation("capture_no_event_wait", "captures: the copies' stream does not wait for the rows", "row_copies.cu",
             'check(cudaStreamWaitEvent(copies_, slot.is_packed, 0), "ordering streams");', "", "RowCopies.*", "backend"),
    Mutation("capture_wrong_stream", "captures: the event is recorded in the wrong stream", "row_copies.cu",
             "cudaEventRecord(slot.is_packed, ops_stream_)", "cudaEventRecord(slot.is_packed, copies_)", "RowCopies.*",
             "backend"),
    Mutation("capture_taken_early", "captures: the sink reads before the copy is done", "row_copies.cu",
             'check(cudaEventSynchronize(slot.is_copied), "waiting for captured rows");', "", "RowCopies.*", "backend",
             in_ci=True),
    Mutation("capture_one_buffer", "captures: the second capture overwrites the first", "row_copies.cu",
             "slots_[copied_++ % kMost]", "slots_[copied_++ % 1]", "RowCopies.*", "backend"),
    # ---- graphs
    Mutation("graph_of_other_arguments", "graphs: as many launches are equal launches", "graphs.cu",
             "known.hash == hash && std::ranges::equal(known.calls, calls.bytes())", "known.count == calls.count()",
             "Graphs.*", "backend"),
    Mutation("graph_stale_lists", "graphs: positions are copied behind the launches that read them", "stream.cu",
             "if (before_) before_(); if (!calls_.empty()) graphs_.run(calls_, stream_);",
             "if (!calls_.empty()) graphs_.run(calls_, stream_); if (before_) before_();", "Graphs.*", "backend"),
    Mutation("graph_freed_memory", "graphs: memory is given back before the launches that read it", "stream.cu",
             "if (!calls_.empty()) return freed_.push_back(memory);", "", "Graphs.*", "backend"),
    Mutation("graph_overtaken", "graphs: who uses the stream comes before the launches so far", "stream.cu",
             "hand_over(); ++turn_;", "++turn_;", "Graphs.*", "backend"),
    Mutation("upload_into_another", "uploads: lists of earlier launches go where these bytes wait", "memory.cu",
             "const cudaStream_t stream = stream_;", "Stream& stream = stream_;", "Graphs.*", "backend"),
    Mutation("lists_overwritten", "lists: the second of a turn lies where the first does", "memory.cu",
             "chunk.used = std::min(", "std::ignore = std::min(", "Graphs.*", "backend"),
    Mutation("pack_no_barrier", "capture pack: the tile is used before it is whole", "pack_rows.cu",
             "cp_async_wait<kStages - 2>(); __syncthreads();", "cp_async_wait<kStages - 2>();", PACK),
    Mutation("pack_in_flight", "capture pack: the tile that is used is still on its way", "pack_rows.cu",
             "cp_async_wait<kStages - 2>();", "cp_async_wait<kStages - 1>();", PACK),
    Mutation("pack_row_tail", "capture pack: rows of the last tile's end are counted", "pack_rows.cu",
             "for (int r = 0; r < n; ++r)", "for (int r = 0; r < kTileRows; ++r)", PACK),
    Mutation("pack_column_tail", "capture pack: columns past the last are read", "pack_rows.cu",
             "const bool inside = column0 + column_of < width;", "const bool inside = true;", PACK, "race"),
    Mutation("pack_starts_anew", "capture pack: sums forget the rows before", "pack_rows.cu",
             "before != nullptr ? before[warp * width + column] : 0", "0", PACK, in_ci=True),
    Mutation("pack_limit", "capture pack: the least value that is refused is kept", "pack_rows.cu",
             "if (size >= limit && refused == kNone) refused = static_cast<unsigned long long>(tile",
             "if (size > limit && refused == kNone) refused = static_cast<unsigned long long>(tile", REFUSED),
    Mutation("pack_rounds_up", "casts: halves are rounded up, not to even", "narrow.cuh", "((u >> 16) & 1u)", "1u",
             "Paths/RowOps.CastsRoundToNearestEven/emulated", compiled="cast.cu"),
    Mutation("pooled_lanes", "capture pack: a head's keys go on in the lanes of the one before", "pack_rows.cu",
             "(key_lane - at + kLanes) % kLanes", "key_lane", POOLED),
    Mutation("pooled_masked", "capture pack: masked scores are counted", "pack_rows.cu", "if (part == 2 && !masked)",
             "if (part == 2)", POOLED),
    Mutation("pooled_no_syncwarp", "capture pack: a row's next chunk overwrites this one", "pack_rows.cu",
             "__syncwarp();  // before the next chunk", "", POOLED, "race"),
    Mutation("pack_wrong_series", "captures: sums go on from another site's", "row_copies.cu", "s.series == series",
             "s.series != kNone", "RowCopies.*", "backend"),
    # ---- weights from the host
    Mutation("weight_no_wait", "streamed weights: a product does not wait for its weight", "weight_stream.cu",
             'check(cudaStreamWaitEvent(ops_, slot.is_filled, 0), "ordering streams");', "", "WeightStream.*", "backend"),
    Mutation("weight_overwritten", "streamed weights: a copy does not wait for the product that reads its buffer",
             "weight_stream.cu", 'check(cudaStreamWaitEvent(copies_, slot.is_read, 0), "ordering streams");', "",
             "WeightStream.*", "backend"),
    Mutation("weight_wrong_slot", "streamed weights: the next weight goes into the buffer in use", "weight_stream.cu",
             "fill(slots_[1 - current_], behind);", "fill(slots_[current_], behind);", "WeightStream.*", "backend"),
    Mutation("flash_masked_nan", "flash: a NaN reaches queries that do not see its key", "flash_attention.cu",
             "if (masks) take_out", "if (false) take_out", NAN),
    # ---- sums over ranks beside the ops
    Mutation("sum_no_wait", "sums over ranks: the sum does not wait for what it adds", "nccl.cpp",
             'check(cudaStreamWaitEvent(beside_, computed_, 0), "ordering streams");', "", "all", "ranks", in_ci=True),
    Mutation("sum_not_waited_for", "sums over ranks: ops do not wait for the sum", "nccl.cpp",
             'check(cudaStreamWaitEvent(stream_, summed_, 0), "ordering streams");', "", "all", "ranks"),
    Mutation("sum_event_too_early", "sums over ranks: the event that is waited for is the ops' own", "nccl.cpp",
             "cudaEventRecord(summed_, beside_)", "cudaEventRecord(summed_, stream_)", "all", "ranks"),
    Mutation("sum_wrong_stream", "sums over ranks: in the stream of nobody", "nccl.cpp",
             "void all_reduce(Tensor x) override { reduce(x, stream_); }",
             "void all_reduce(Tensor x) override { reduce(x, beside_); }", "all", "ranks"),
    # ---- attention in tiles of floats
    Mutation("tiled_no_barrier", "tiles: scores of a tile that is not whole", "tiled_attention.cu",
             "__syncthreads(); float s[kPer][kScores] = {};", "float s[kPer][kScores] = {};", ATTENTION),
    Mutation("tiled_no_last_barrier", "tiles: the next tile overwrites this one", "tiled_attention.cu",
             "__syncthreads();  // before the next tile overwrites", "//", ATTENTION),
    Mutation("tiled_future_key", "tiles: a query sees the key after its own", "tiled_attention.cu", "key <= own && (rule",
             "key <= own + 1 && (rule", ATTENTION),
    Mutation("tiled_not_kept", "tiles: sums are not scaled to the new maximum", "tiled_attention.cu",
             "sum[i][c][k] *= kept;", "sum[i][c][k] *= 1.0f;", ATTENTION),
    Mutation("tiled_masked_nan", "tiles: a NaN reaches queries that do not see its key", "tiled_attention.cu",
             "if (p[i] != 0) {", "if (true) {", "Paths/Attention.NanStays*/emulated"),
]
