#include "kernels/emulation/race/traffic.h"

#include <algorithm>
#include <bit>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "kernels/emulation/block.h"
#include "kernels/emulation/race/source_line.h"
#include "runtime/error.h"

namespace sonde::emulation {
namespace {

constexpr std::uintptr_t kSector = 32, kBank = 4, kBanks = 32;

struct Request {
  std::uint32_t lanes = 0;
  std::uintptr_t address[kWarpLanes];
  unsigned bytes = 0;
  bool write = false, shared = false;
};
struct Place {
  std::uint32_t times[kWarpLanes] = {};             // that a lane came here
  std::unordered_map<std::uint32_t, Request> open;  // by that number
};

std::unordered_map<const void*, Place> places[kMaxWarps];
std::map<const void*, LineTraffic> sums;
std::unordered_set<std::uintptr_t> read_sectors, written_sectors;
std::uint64_t bytes_read = 0, bytes_written = 0;

// Wavefronts: 32 lanes of 4 bytes, 16 of 8 or 8 of 16 go together; two words of one bank do not.
void count_shared(const Request& r, LineTraffic& sum) {
  const unsigned together = r.bytes == 16 ? 8 : r.bytes == 8 ? 16 : 32;
  for (unsigned from = 0; from < kWarpLanes; from += together) {
    std::set<std::uintptr_t> words[kBanks];
    std::set<std::uintptr_t> all;
    for (unsigned lane = from; lane < from + together; ++lane) {
      if (!(r.lanes >> lane & 1)) continue;
      for (unsigned k = 0; k < std::max(r.bytes, 4u); k += kBank) {
        const std::uintptr_t word = (r.address[lane] + k) / kBank;
        words[word % kBanks].insert(word);
        all.insert(word);
      }
    }
    std::size_t most = 0;
    for (const auto& bank : words) most = std::max(most, bank.size());
    sum.needed += most;
    sum.least += (all.size() + kBanks - 1) / kBanks;
  }
}

void count_global(const Request& r, LineTraffic& sum) {
  std::set<std::uintptr_t> sectors, bytes;
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    if (!(r.lanes >> lane & 1)) continue;
    for (unsigned k = 0; k < r.bytes; ++k) {
      sectors.insert((r.address[lane] + k) / kSector);
      bytes.insert(r.address[lane] + k);
    }
    (r.write ? bytes_written : bytes_read) += r.bytes;
  }
  sum.needed += sectors.size();
  sum.least += (bytes.size() + kSector - 1) / kSector;
  (r.write ? written_sectors : read_sectors).insert(sectors.begin(), sectors.end());
}

void finish(const void* pc, const Request& r) {
  LineTraffic& sum = sums[pc];
  ++sum.requests;
  sum.bytes_per_lane = r.bytes;
  sum.write = r.write;
  sum.shared = r.shared;
  r.shared ? count_shared(r, sum) : count_global(r, sum);
}

}  // namespace

void clear_traffic() {
  for (auto& of_warp : places) of_warp.clear();
  sums.clear();
  read_sectors.clear();
  written_sectors.clear();
  bytes_read = bytes_written = 0;
}

void count_traffic(const void* data, std::size_t bytes, Access access, const void* pc, bool shared) {
  if (!pc) return;  // the end of a cp.async: its request was counted when it was issued
  const Fiber& fiber = *block->fiber;
  Place& place = places[fiber.warp][pc];
  const std::uint32_t number = place.times[fiber.lane]++;
  Request& r = place.open[number];
  r.lanes |= 1u << fiber.lane;
  r.address[fiber.lane] = reinterpret_cast<std::uintptr_t>(data);
  r.bytes = static_cast<unsigned>(bytes);
  r.write = access != Access::read;
  r.shared = shared;
  if (r.lanes == block->warps[fiber.warp].exists) {
    finish(pc, r);
    place.open.erase(number);
  }
}

void end_traffic_of_block() {
  for (auto& of_warp : places) {
    for (const auto& [pc, place] : of_warp)
      for (const auto& [number, request] : place.open) finish(pc, request);
    of_warp.clear();
  }
}

Traffic traffic() {
  Traffic all{{}, bytes_read, bytes_written, read_sectors.size(), written_sectors.size()};
  for (const auto& [pc, sum] : sums) {
    all.lines.push_back(sum);
    all.lines.back().line = source_line(pc);
  }
  return all;
}

std::string traffic_table() {
  std::string text = fmt::format("{:<28} {:<9} {:>5} {:>10} {:>10} {:>10} {:>7}\n", "line", "memory", "bytes",
                                 "requests", "needed", "least", "share");
  const Traffic all = traffic();
  for (const LineTraffic& t : all.lines)
    text += fmt::format("{:<28} {:<6} {:<2} {:>5} {:>10} {:>10} {:>10} {:>6.1f}%\n", t.line,
                        t.shared ? "shared" : "global", t.write ? "w" : "r", t.bytes_per_lane, t.requests,
                        t.needed, t.least, 100 * t.efficiency());
  return text + fmt::format("global: {} bytes read, {} written; distinct sectors {} and {}\n", all.bytes_read,
                            all.bytes_written, all.sectors_read, all.sectors_written);
}

}  // namespace sonde::emulation
