// Ranks whose tensors lie on devices: calls on device memory, each in the order of the backend's ops. What
// they do is drawn in distributed/communicator.h.
#pragma once

#include <string>

#include "runtime/tensor.h"

namespace sonde {

class DeviceRanks {
 public:
  virtual ~DeviceRanks() = default;
  virtual std::string describe() const = 0;  // "NCCL 2.28.9, Ring, Simple": sums may differ in bits elsewhere
  virtual void all_reduce(Tensor x /*f32, contiguous*/) = 0;  // the sum, in place
  // The same beside the ops that follow, until those behind wait_for_sums.
  virtual void start_all_reduce(Tensor x) = 0;
  virtual void wait_for_sums() = 0;
  virtual void all_gather(Tensor all /*f32 [ranks, n]*/, Tensor mine /*f32 [n]*/) = 0;
  // From one rank to another. Ops that follow may overwrite x: a copy travels beside them, of kInFlight at
  // most; then the host waits until the oldest was taken.
  static constexpr int kInFlight = 2;
  virtual void send(Tensor x /*f32, contiguous*/, int to) = 0;
  virtual void receive(Tensor x /*f32, contiguous*/, int from) = 0;
};

}  // namespace sonde
