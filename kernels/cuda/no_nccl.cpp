// A build with CUDA and without nccl.h.
#include "kernels/cuda/nccl.h"

namespace sonde::SONDE_GPU {

std::unique_ptr<DeviceRanks> join_nccl(int, Stream&, std::shared_ptr<DeviceMemory>, RankLink&,
                                       std::string& why_not) {
  why_not = "built without NCCL";
  return nullptr;
}

}  // namespace sonde::SONDE_GPU
