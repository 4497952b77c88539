// Bytes that this process exchanges with other ranks, by the axis of the mesh along which they go. Of a
// collective call those of nccl-tests' bus bandwidth: what a rank has to send at least, however it is done.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace sonde {

enum class Axis : std::uint8_t {
  data,      // between models, and what all ranks say at the start and the end
  tensor,    // sums, gathered columns
  pipeline,  // the residual stream, captured rows on their way to the writer, what comes back
};
inline constexpr int kAxes = 3;
std::string_view name(Axis axis);

struct Traffic {
  std::int64_t sent = 0, received = 0;
};
// What each of so many ranks has to send, and to receive, where `bytes` are everybody's: of an all_gather all
// blocks, of an all_reduce x twice (reduce_scatter, all_gather).
inline std::int64_t bytes_each_way(std::int64_t bytes, int ranks) { return bytes / ranks * (ranks - 1); }

void count_traffic(Axis axis, std::int64_t sent, std::int64_t received);  // from any thread
std::array<Traffic, kAxes> traffic();                                     // so far

}  // namespace sonde
