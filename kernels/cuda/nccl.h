// Collectives on device memory by NCCL, in a backend's stream. The library is opened when ranks first join.
#pragma once

#include <memory>

#include "kernels/cuda/memory.h"
#include "kernels/device_ranks.h"
#include "runtime/rank_link.h"

namespace sonde::SONDE_GPU {

// Collective. Null, on every rank of the group, where one of them cannot: why_not says why. The link must
// outlive what comes back.
std::unique_ptr<DeviceRanks> join_nccl(int ordinal, Stream& stream, std::shared_ptr<DeviceMemory> memory,
                                       RankLink& link, std::string& why_not);

}  // namespace sonde::SONDE_GPU
