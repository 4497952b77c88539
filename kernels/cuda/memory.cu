#include "kernels/cuda/memory.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace sonde::SONDE_GPU {

std::byte* StreamMemory::allocate(std::int64_t bytes) {
  void* memory = nullptr;
  const auto ask = [&] {
    return cudaMallocAsync(&memory, static_cast<std::size_t>(bytes), stream_.handle());
  };
  cudaError_t error = ask();
  if (error == cudaErrorMemoryAllocation) {  // what waits to be given back may do
    stream_.hand_over();
    error = ask();
  }
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

void StreamMemory::free(std::byte* memory, std::int64_t) noexcept { stream_.free(memory); }

std::byte* PinnedMemory::allocate(std::int64_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, static_cast<std::size_t>(bytes)), "allocating pinned memory");
  return static_cast<std::byte*>(memory);
}

void PinnedMemory::free(std::byte* memory, std::int64_t) noexcept {
  if (cudaFreeHost(memory) != cudaSuccess) cudaGetLastError();
}

Uploader::Uploader(Stream& stream)
    : stream_(stream), pinned_(kSegments * kSegment, std::make_shared<PinnedMemory>()) {
  for (cudaEvent_t& event : copied_)
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
}

Uploader::~Uploader() {
  cudaStreamSynchronize(stream_.handle());
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
  const cudaStream_t stream = stream_;  // first: lists of the launches so far are uploaded, too
  for (std::int64_t first = 0; first < bytes;) {
    if (used_ == kSegment) next_segment();
    const std::int64_t n = std::min(bytes - first, kSegment - used_);
    std::byte* pinned = pinned_.data() + segment_ * kSegment + used_;
    write(pinned, first, n);
    check(
        cudaMemcpyAsync(device + first, pinned, static_cast<std::size_t>(n), cudaMemcpyHostToDevice, stream),
        "copying to the device");
    used_ = std::min(kSegment, (used_ + n + 255) / 256 * 256);
    first += n;
  }
}

Lists::Lists(Stream& stream, Uploader& uploader, std::shared_ptr<DeviceMemory> memory)
    : stream_(stream), uploader_(uploader), memory_(std::move(memory)) {
  stream.before_launches([this] { upload(); });
}

const std::int32_t* Lists::placed(const Entry& entry) const {
  return reinterpret_cast<const std::int32_t*>(chunks_[entry.chunk].device.data()) + entry.first;
}

const std::int32_t* Lists::get(std::span<const std::int32_t> list) {
  if (list.empty()) return nullptr;
  if (turn_ != stream_.turn()) {
    turn_ = stream_.turn();
    entries_.clear();
    for (Chunk& chunk : chunks_) chunk.used = 0;
  }
  const auto same = std::ranges::find_if(entries_, [&](const Entry& e) {
    return e.count == list.size() &&
           std::memcmp(chunks_[e.chunk].words.data() + e.first, list.data(), list.size_bytes()) == 0;
  });
  if (same != entries_.end()) return placed(*same);
  entries_.push_back(add(list));
  return placed(entries_.back());
}

Lists::Entry Lists::add(std::span<const std::int32_t> list) {
  std::size_t number = entries_.empty() ? 0 : entries_.back().chunk;
  while (number < chunks_.size() && chunks_[number].words.size() - chunks_[number].used < list.size())
    ++number;
  if (number == chunks_.size()) {
    const std::size_t words = std::bit_ceil(std::max(list.size(), kWords));
    chunks_.push_back({std::vector<std::int32_t>(words),
                       Buffer(static_cast<std::int64_t>(4 * words), memory_), 0, 0, words});
  }
  Chunk& chunk = chunks_[number];
  const Entry entry{number, chunk.used, list.size()};
  std::int32_t* const words = chunk.words.data() + entry.first;
  chunk.used = std::min(chunk.words.size(), (entry.first + list.size() + kApart - 1) / kApart * kApart);
  if (std::memcmp(words, list.data(), list.size_bytes()) == 0) return entry;
  std::memcpy(words, list.data(), list.size_bytes());
  const bool first = chunk.new_begin == chunk.new_end;
  chunk.new_begin = first ? entry.first : std::min(chunk.new_begin, entry.first);
  chunk.new_end = std::max(first ? 0 : chunk.new_end, entry.first + list.size());
  return entry;
}

void Lists::upload() {
  for (Chunk& chunk : chunks_) {
    if (chunk.new_begin == chunk.new_end) continue;
    uploader_.copy(chunk.device.data() + 4 * chunk.new_begin,
                   reinterpret_cast<const std::byte*>(chunk.words.data() + chunk.new_begin),
                   static_cast<std::int64_t>(4 * (chunk.new_end - chunk.new_begin)));
    chunk.new_begin = chunk.new_end = 0;
  }
}

const float* Lists::get(std::span<const float> list) {
  static_assert(sizeof(float) == sizeof(std::int32_t));
  std::vector<std::int32_t> words(list.size());
  std::memcpy(words.data(), list.data(), list.size_bytes());
  return reinterpret_cast<const float*>(get(std::span<const std::int32_t>(words.data(), words.size())));
}

}  // namespace sonde::SONDE_GPU
