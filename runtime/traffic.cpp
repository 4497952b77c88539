#include "runtime/traffic.h"

#include <atomic>

namespace sonde {
namespace {

std::array<std::atomic<std::int64_t>, kAxes> sent_bytes{}, received_bytes{};

}  // namespace

std::string_view name(Axis axis) {
  constexpr std::string_view kNames[kAxes] = {"data", "tensor", "pipeline"};
  return kNames[static_cast<std::size_t>(axis)];
}

void count_traffic(Axis axis, std::int64_t sent, std::int64_t received) {
  sent_bytes[static_cast<std::size_t>(axis)] += sent;
  received_bytes[static_cast<std::size_t>(axis)] += received;
}

std::array<Traffic, kAxes> traffic() {
  std::array<Traffic, kAxes> all;
  for (std::size_t a = 0; a < all.size(); ++a) all[a] = {sent_bytes[a], received_bytes[a]};
  return all;
}

}  // namespace sonde
