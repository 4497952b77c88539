#include "kernels/cuda/memory.h"

#include <algorithm>
#include <cstring>

namespace sonde::SONDE_GPU {

std::byte* StreamMemory::allocate(std::int64_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMallocAsync(&memory, static_cast<std::size_t>(bytes), stream_);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    fail_hint("smaller batches (--batch-tokens) or a shorter --context need less",
              "out of device memory: {} bytes wanted, {} of {} bytes are free", bytes, free, total);
  }
  check(error, "allocating device memory");
  return static_cast<std::byte*>(memory);
}

void StreamMemory::free(std::byte* memory, std::int64_t) noexcept {
  if (cudaFreeAsync(memory, stream_) != cudaSuccess)
    cudaGetLastError();  // the device is lost: so is its memory
}

std::byte* PinnedMemory::allocate(std::int64_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, static_cast<std::size_t>(bytes)), "allocating pinned memory");
  return static_cast<std::byte*>(memory);
}

void PinnedMemory::free(std::byte* memory, std::int64_t) noexcept {
  if (cudaFreeHost(memory) != cudaSuccess) cudaGetLastError();
}

Uploader::Uploader(cudaStream_t stream)
    : stream_(stream), pinned_(kSegments * kSegment, std::make_shared<PinnedMemory>()) {
  for (cudaEvent_t& event : copied_)
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
}

Uploader::~Uploader() {
  cudaStreamSynchronize(stream_);
  for (const cudaEvent_t event : copied_) cudaEventDestroy(event);
}

void Uploader::next_segment() {
  check(cudaEventRecord(copied_[segment_], stream_), "recording an event");
  segment_ = (segment_ + 1) % kSegments;
  check(cudaEventSynchronize(copied_[segment_]), "waiting for an upload");
  used_ = 0;
}

void Uploader::copy(std::byte* device, const std::byte* host, std::int64_t bytes) {
  fill(device, bytes, [host](std::byte* to, std::int64_t first, std::int64_t n) {
    std::memcpy(to, host + first, static_cast<std::size_t>(n));
  });
}

void Uploader::fill(std::byte* device, std::int64_t bytes, const Write& write) {
  for (std::int64_t first = 0; first < bytes;) {
    if (used_ == kSegment) next_segment();
    const std::int64_t n = std::min(bytes - first, kSegment - used_);
    std::byte* pinned = pinned_.data() + segment_ * kSegment + used_;
    write(pinned, first, n);
    check(
        cudaMemcpyAsync(device + first, pinned, static_cast<std::size_t>(n), cudaMemcpyHostToDevice, stream_),
        "copying to the device");
    used_ = std::min(kSegment, (used_ + n + 255) / 256 * 256);
    first += n;
  }
}

const std::int32_t* Lists::get(std::span<const std::int32_t> list) {
  if (list.empty()) return nullptr;
  const auto same = [&](const Entry& entry) {
    return entry.words.size() == list.size() &&
           std::memcmp(entry.words.data(), list.data(), list.size_bytes()) == 0;
  };
  auto at = std::ranges::find_if(entries_, same);
  if (at == entries_.end()) {
    if (entries_.size() == kKept) entries_.pop_back();
    const auto bytes = static_cast<std::int64_t>(list.size_bytes());
    entries_.push_front({{list.begin(), list.end()}, Buffer(bytes, memory_)});
    at = entries_.begin();
    uploader_.copy(at->device.data(), reinterpret_cast<const std::byte*>(list.data()), bytes);
  } else if (at != entries_.begin()) {
    Entry entry = std::move(*at);
    entries_.erase(at);
    entries_.push_front(std::move(entry));
    at = entries_.begin();
  }
  return reinterpret_cast<const std::int32_t*>(at->device.data());
}

const float* Lists::get(std::span<const float> list) {
  static_assert(sizeof(float) == sizeof(std::int32_t));
  std::vector<std::int32_t> words(list.size());
  std::memcpy(words.data(), list.data(), list.size_bytes());
  return reinterpret_cast<const float*>(get(std::span<const std::int32_t>(words.data(), words.size())));
}

}  // namespace sonde::SONDE_GPU
