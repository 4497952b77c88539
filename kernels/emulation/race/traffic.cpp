#include "kernels/emulation/race/traffic.h"

#include <algorithm>
#include <bit>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "kernels/emulation/block.h"
#include "kernels/emulation/race/source_line.h"
#include "kernels/emulation/statistics.h"
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

struct Record {
  KernelTraffic sum{};
  const void* address = nullptr;
  std::map<const void*, LineTraffic> lines;  // by address in the code
};
std::vector<Record> records;  // a kernel each
std::size_t current = 0;
// Of the launch that runs.
std::unordered_set<std::uintptr_t> read_sectors, written_sectors;
std::uint64_t mma_before = 0;

void end_launch() {
  if (records.empty()) return;
  KernelTraffic& sum = records[current].sum;
  sum.sectors_read += read_sectors.size();
  sum.sectors_written += written_sectors.size();
  sum.mma_flops += statistics().mma_flops - mma_before;
  mma_before = statistics().mma_flops;
  read_sectors.clear();
  written_sectors.clear();
}

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

void count_global(const Request& r, LineTraffic& sum, KernelTraffic& kernel) {
  std::set<std::uintptr_t> sectors, bytes;
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    if (!(r.lanes >> lane & 1)) continue;
    for (unsigned k = 0; k < r.bytes; ++k) {
      sectors.insert((r.address[lane] + k) / kSector);
      bytes.insert(r.address[lane] + k);
    }
    (r.write ? kernel.bytes_written : kernel.bytes_read) += r.bytes;
  }
  sum.needed += sectors.size();
  sum.least += (bytes.size() + kSector - 1) / kSector;
  (r.write ? written_sectors : read_sectors).insert(sectors.begin(), sectors.end());
}

void finish(const void* pc, const Request& r) {
  Record& record = records[current];
  LineTraffic& sum = record.lines[pc];
  ++sum.requests;
  sum.bytes_per_lane = r.bytes;
  sum.write = r.write;
  sum.shared = r.shared;
  r.shared ? count_shared(r, sum) : count_global(r, sum, record.sum);
}

}  // namespace

void clear_traffic() {
  for (auto& of_warp : places) of_warp.clear();
  records.clear();
  read_sectors.clear();
  written_sectors.clear();
}

void begin_traffic_of_grid(const Launch& launch) {
  end_launch();
  mma_before = statistics().mma_flops;
  const auto same = [&](const Record& r) { return r.address == launch.address; };
  current = static_cast<std::size_t>(std::ranges::find_if(records, same) - records.begin());
  if (current == records.size()) records.emplace_back().address = launch.address;
  KernelTraffic& sum = records[current].sum;
  sum.threads = launch.block.x * launch.block.y * launch.block.z;
  sum.dynamic_bytes = launch.dynamic_bytes;
  sum.blocks += std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  ++sum.launches;
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

std::vector<KernelTraffic> traffic_of_kernels() {
  end_launch();
  std::vector<KernelTraffic> all;
  for (const Record& record : records) {
    all.push_back(record.sum);
    all.back().kernel = kernel_name(record.address);
    for (const auto& [pc, line] : record.lines) {
      all.back().lines.push_back(line);
      all.back().lines.back().line = source_line(pc);
    }
  }
  return all;
}

Traffic traffic() {
  Traffic all{};
  for (const KernelTraffic& kernel : traffic_of_kernels()) {
    all.lines.insert(all.lines.end(), kernel.lines.begin(), kernel.lines.end());
    all.bytes_read += kernel.bytes_read;
    all.bytes_written += kernel.bytes_written;
    all.sectors_read += kernel.sectors_read;
    all.sectors_written += kernel.sectors_written;
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
