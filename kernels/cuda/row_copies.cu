#include "kernels/cuda/row_copies.h"

namespace sonde::SONDE_GPU {

GpuRowCopies::GpuRowCopies(GpuBackend& ops, int ordinal, Stream& ops_stream,
                           std::shared_ptr<DeviceMemory> pinned)
    : ops_(ops), ops_stream_(ops_stream), pinned_(std::move(pinned)), copies_(ordinal) {
  for (Slot& slot : slots_)
    for (cudaEvent_t* event : {&slot.is_packed, &slot.is_copied})
      check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "creating an event");
}

GpuRowCopies::~GpuRowCopies() {
  cudaStreamSynchronize(copies_);
  for (const Slot& slot : slots_)
    for (const cudaEvent_t event : {slot.is_packed, slot.is_copied}) cudaEventDestroy(event);
}

// A slot's last copy is done: the host waited for it when it took the rows.
void GpuRowCopies::copy(Tensor x, std::span<const std::int32_t> rows) {
  sonde_check(copied_ - taken_ < kMost, "{} copies on their way", copied_ - taken_);
  Slot& slot = slots_[copied_++ % kMost];
  Tensor packed = x;
  packed.shape[0] = static_cast<std::int64_t>(rows.size());
  packed.row_stride = packed.width();
  const std::int64_t bytes = 4 * packed.count();
  if (slot.packed.bytes() < bytes) slot.packed = ops_.allocate(bytes);
  if (slot.host.bytes() < bytes) slot.host = Buffer(bytes, pinned_);
  packed.data = slot.packed.data();
  ops_.gather_rows(packed, x, rows);
  check(cudaEventRecord(slot.is_packed, ops_stream_), "recording an event");
  check(cudaStreamWaitEvent(copies_, slot.is_packed, 0), "ordering streams");
  check(cudaMemcpyAsync(slot.host.data(), packed.data, static_cast<std::size_t>(bytes),
                        cudaMemcpyDeviceToHost, copies_),
        "copying captured rows");
  check(cudaEventRecord(slot.is_copied, copies_), "recording an event");
  slot.rows = packed;
  slot.rows.data = slot.host.data();
  slot.rows.device = DeviceKind::cpu;
}

Tensor GpuRowCopies::take() {
  sonde_check(taken_ < copied_, "no copies on their way");
  const Slot& slot = slots_[taken_++ % kMost];
  check(cudaEventSynchronize(slot.is_copied), "waiting for captured rows");
  return slot.rows;
}

std::unique_ptr<RowCopies> GpuBackend::make_row_copies() {
  return std::make_unique<GpuRowCopies>(*this, ordinal_, stream_, pinned_);
}

}  // namespace sonde::SONDE_GPU
