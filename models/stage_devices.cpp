#include "models/stage_devices.h"

#include <fmt/format.h>

#include "distributed/pair_link.h"

namespace sonde {

StageDevices StageDevices::join(Communicator& stages, Backend& backend) {
  StageDevices devices;
  const bool on_host = backend.device() == DeviceKind::cpu;
  if (stages.size() == 1 || stages.all_reduce(std::int64_t{on_host}, Reduce::max) != 0) {
    devices.how = "MPI";
    return devices;
  }
  RankLink& link = *stages.link();
  std::string why_not, how;
  // Pairs that have no rank in common join at once: (0, 1), (2, 3), ..; then (1, 2), (3, 4), ..
  for (const int parity : {0, 1}) {
    const bool first = stages.rank() % 2 == parity;  // of its pair
    const int lower = first ? stages.rank() : stages.rank() - 1;
    if (lower < 0 || lower + 1 == stages.size()) continue;
    auto& pair = first ? devices.link_next : devices.link_before;
    pair = make_pair_link(link, lower);
    std::string why;
    auto& joined = first ? devices.next : devices.before;
    joined = backend.join(*pair, why);
    if (joined)
      how = joined->describe();
    else
      why_not = fmt::format("stages {} and {}: {}", lower, lower + 1, why);
  }
  for (const std::string& theirs : stages.gather_bytes(why_not))
    if (why_not.empty() || (!theirs.empty() && theirs < why_not)) why_not = theirs;
  devices.how = how.substr(0, how.find(','));  // what follows is about sums
  if (why_not.empty()) return devices;
  devices.before.reset();
  devices.next.reset();
  devices.how = fmt::format("MPI, through the hosts' memory ({})", why_not);
  return devices;
}

}  // namespace sonde
