// Two neighbours of a group as a group of their own: ranks `lower` and `lower + 1` are 0 and 1.
#pragma once

#include <memory>

#include "runtime/rank_link.h"

namespace sonde {

// Of one of the two; the group's link must outlive it. Others need not come.
std::unique_ptr<RankLink> make_pair_link(RankLink& group, int lower);

}  // namespace sonde
