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
  void pack(Tensor x, std::span<const std::int32_t> rows, const PackFormat& format, std::size_t series,
            First first) override;
  PackedRows take() override;

 private:
  static constexpr std::size_t kNone = SIZE_MAX;
  struct Slot {
    Buffer packed, host;
    PackedRows there;            // in `packed`
    PackedRows here;             // in `host`
    std::size_t series = kNone;  // of the sums there
    cudaEvent_t is_packed = nullptr, is_copied = nullptr;
  };

  Slot& next();
  void grow(Slot& slot, std::int64_t bytes);
  void send(Slot& slot, std::int64_t bytes);

  GpuBackend& ops_;
  Stream& ops_stream_;
  std::shared_ptr<DeviceMemory> pinned_;
  Stream copies_;
  Slot slots_[kMost];
  std::size_t copied_ = 0, taken_ = 0;  // so far
};

}  // namespace sonde::SONDE_GPU
