// Weights that a device has no room for: they stay in pinned memory of the host and are copied, in a stream
// of their own, into one of two buffers when a product wants them. While one is multiplied, the one behind it
// in the order of their preparation, which is the order of a forward, is on its way.
#pragma once

#include <vector>

#include "kernels/cuda/gpu_backend.h"

namespace sonde::SONDE_GPU {

class WeightStream {
 public:
  WeightStream(int ordinal, Stream& ops, std::shared_ptr<DeviceMemory> memory);
  ~WeightStream();
  WeightStream(const WeightStream&) = delete;
  WeightStream& operator=(const WeightStream&) = delete;

  // A weight's number; its bytes must stay where they are. `forget` before they go.
  std::size_t add(const Buffer& host);
  void forget(std::size_t weight);
  // Where ops that come now read the weight, until the next fetch.
  const std::byte* fetch(std::size_t weight);

 private:
  static constexpr std::size_t kNone = ~std::size_t{0};
  struct Slot {
    Buffer device;
    std::size_t weight = kNone;
    cudaEvent_t is_filled = nullptr, is_read = nullptr;
  };
  void fill(Slot& slot, std::size_t weight);
  std::size_t next(std::size_t weight) const;  // behind it; kNone: there is no other

  Stream& ops_;
  std::shared_ptr<DeviceMemory> memory_;
  Stream copies_;
  std::vector<std::span<const std::byte>> weights_;  // empty: forgotten
  Slot slots_[2];
  std::size_t current_ = 0;  // slot of the last fetch
};

}  // namespace sonde::SONDE_GPU
