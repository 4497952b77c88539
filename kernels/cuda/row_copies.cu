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

namespace {

Tensor rows_like(Tensor x, std::int64_t rows, DType dtype, std::byte* data) {
  x.shape[0] = rows;
  x.row_stride = x.width();
  x.dtype = dtype;
  x.data = data;
  x.device = kDevice;
  return x;
}
Tensor on_this_side(Tensor there, const Buffer& packed, const Buffer& host) {
  if (!there.empty()) there.data = host.data() + (there.data - packed.data());
  there.device = DeviceKind::cpu;
  return there;
}

}  // namespace

// A slot's last copy is done: the host waited for it when it took the rows.
GpuRowCopies::Slot& GpuRowCopies::next() {
  sonde_check(copied_ - taken_ < kMost, "{} copies on their way", copied_ - taken_);
  return slots_[copied_++ % kMost];
}

void GpuRowCopies::grow(Slot& slot, std::int64_t bytes) {
  if (slot.packed.bytes() < bytes) slot.packed = ops_.allocate(bytes);
  if (slot.host.bytes() < bytes) slot.host = Buffer(bytes, pinned_);
}

void GpuRowCopies::send(Slot& slot, std::int64_t bytes) {
  check(cudaEventRecord(slot.is_packed, ops_stream_), "recording an event");
  check(cudaStreamWaitEvent(copies_, slot.is_packed, 0), "ordering streams");
  check(cudaMemcpyAsync(slot.host.data(), slot.packed.data(), static_cast<std::size_t>(bytes),
                        cudaMemcpyDeviceToHost, copies_),
        "copying captured rows");
  check(cudaEventRecord(slot.is_copied, copies_), "recording an event");
  slot.here = {on_this_side(slot.there.rows, slot.packed, slot.host),
               on_this_side(slot.there.sums, slot.packed, slot.host)};
}

void GpuRowCopies::copy(Tensor x, std::span<const std::int32_t> rows) {
  Slot& slot = next();
  const auto n = static_cast<std::int64_t>(rows.size());
  const std::int64_t bytes = 4 * n * x.width();
  grow(slot, bytes);
  slot.there = {rows_like(x, n, DType::f32, slot.packed.data()), {}};
  slot.series = kNone;
  ops_.gather_rows(slot.there.rows, x, rows);
  send(slot, bytes);
}

// Behind each other: the sums, and the rows from the next 256 bytes on. Sums go on in the stream of the ops,
// from a slot that may be this one.
void GpuRowCopies::pack(Tensor x, std::span<const std::int32_t> rows, const PackFormat& format,
                        std::size_t series, First first) {
  Slot& slot = next();
  const auto n = static_cast<std::int64_t>(rows.size());
  const std::int64_t length = PackedSums::length(format.columns(x.width()));
  const std::int64_t head = (8 * length + 255) / 256 * 256;
  const std::int64_t bytes = head + bytes_of(format.dtype, n * x.width());
  Slot* before = nullptr;
  Buffer kept;  // until the kernel that reads it is in the stream
  if (first == First::no) {
    for (std::size_t back = 1; back <= kMost && before == nullptr; ++back)
      if (Slot& s = slots_[(copied_ - 1 + kMost - back) % kMost]; s.series == series) before = &s;
    sonde_check(before != nullptr, "captures of series {} that none of the last {} began", series, kMost);
  }
  const Tensor sums_before = before != nullptr ? before->there.sums : Tensor{};
  if (slot.packed.bytes() < bytes) kept = std::move(slot.packed);
  grow(slot, bytes);
  slot.there = {rows_like(x, n, format.dtype, slot.packed.data() + head),
                slot.packed.tensor(DType::f64, {length})};
  slot.series = series;
  ops_.pack_rows(slot.there.rows, slot.there.sums, x, rows, format, sums_before);
  send(slot, bytes);
}

PackedRows GpuRowCopies::take() {
  sonde_check(taken_ < copied_, "no copies on their way");
  const Slot& slot = slots_[taken_++ % kMost];
  check(cudaEventSynchronize(slot.is_copied), "waiting for captured rows");
  return slot.here;
}

std::unique_ptr<RowCopies> GpuBackend::make_row_copies() {
  return std::make_unique<GpuRowCopies>(*this, ordinal_, stream_, pinned_);
}

}  // namespace sonde::SONDE_GPU
