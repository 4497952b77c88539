#include "distributed/agreement.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>

#include "runtime/error.h"

namespace sonde {

std::vector<std::string> rank_names(Communicator& ranks) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return ranks.gather_bytes(fmt::format("rank {} ({}, process {})", ranks.rank(), host.data(), getpid()));
}

void agree(Communicator& ranks, const std::string& what, const std::string& mine, const std::string& hint) {
  if (ranks.size() == 1) return;
  const std::vector<std::string> all = ranks.gather_bytes(mine);
  if (std::ranges::all_of(all, [&](const auto& one) { return one == all[0]; })) return;
  std::map<std::string, int> count;
  for (const auto& one : all) ++count[one];
  // The most frequent is right until told otherwise; of equals, what the first rank has.
  std::string usual = all[0];
  for (const auto& one : all)
    if (count[one] > count[usual]) usual = one;
  const std::vector<std::string> names = rank_names(ranks);
  std::string differing;
  for (std::size_t r = 0; r < all.size(); ++r)
    if (all[r] != usual)
      differing += fmt::format("{}{}: found {}", differing.empty() ? "" : "; ", names[r], all[r]);
  fail_hint(hint, "{} is not the same on all ranks: {}, expected {}", what, differing, usual);
}

}  // namespace sonde
