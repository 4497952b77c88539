// Captured rows to the host beside the forward: packed in the ops' stream into one of two buffers on the
// device, copied in a stream of their own into pinned memory. Events order the two streams.
#pragma once

#include "kernels/cuda/gpu_backend.h"

namespace sonde::SONDE_GPU {

class GpuRowCopies : public RowCopies {
 public:
  GpuRowCopies(GpuBackend& ops, int ordinal, Stream& ops_stream, std::shared_ptr<DeviceMemory> pinned);
  ~GpuRowCopies() override;
  void copy(Tensor x, std::span<const std::int32_t> rows) override;
  Tensor take() override;

 private:
  struct Slot {
    Buffer packed, host;
    Tensor rows;  // in `host`
    cudaEvent_t is_packed = nullptr, is_copied = nullptr;
  };

  GpuBackend& ops_;
  Stream& ops_stream_;
  std::shared_ptr<DeviceMemory> pinned_;
  Stream copies_;
  Slot slots_[kMost];
  std::size_t copied_ = 0, taken_ = 0;  // so far
};

}  // namespace sonde::SONDE_GPU
