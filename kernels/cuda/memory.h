// Memory of a device and of the host beside it: stream-ordered, pooled, pinned.
#pragma once

#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "kernels/cuda/stream.h"
#include "runtime/tensor.h"

namespace sonde::SONDE_GPU {

// Stream-ordered: a block given back is there for whoever allocates behind it in the stream, without a wait.
class StreamMemory : public DeviceMemory {
 public:
  StreamMemory(Stream& stream, DeviceKind kind) : stream_(stream), kind_(kind) {}
  DeviceKind kind() const override { return kind_; }
  std::byte* allocate(std::int64_t bytes) override;
  void free(std::byte* memory, std::int64_t bytes) noexcept override;

 private:
  Stream& stream_;
  DeviceKind kind_;
};

// The host's, page-locked: copies to and from it run beside the host.
class PinnedMemory : public DeviceMemory {
 public:
  DeviceKind kind() const override { return DeviceKind::cpu; }
  std::byte* allocate(std::int64_t bytes) override;
  void free(std::byte* memory, std::int64_t bytes) noexcept override;
};

// Copies the host's bytes to the device through pinned segments, so that the host's memory is free when the
// call returns and the copy runs in the stream. A segment is written again when its copies are done.
class Uploader {
 public:
  explicit Uploader(Stream& stream);
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;
  void copy(std::byte* device, const std::byte* host, std::int64_t bytes);
  // The same of bytes that the host makes up as it goes: write(to, first, n) puts [first, first + n) there.
  using Write = std::function<void(std::byte* to, std::int64_t first, std::int64_t n)>;
  void fill(std::byte* device, std::int64_t bytes, const Write& write);

 private:
  static constexpr std::int64_t kSegment = 4 << 20;
  static constexpr int kSegments = 4;
  void next_segment();

  Stream& stream_;
  Buffer pinned_;  // kSegments segments
  cudaEvent_t copied_[kSegments] = {};
  int segment_ = 0;
  std::int64_t used_ = 0;  // bytes of the segment
};

// Lists of 32-bit words that ops are given by the host: positions, rows, document starts. The layers of a
// forward ask for the same few again and again. Of each turn of the stream the n-th list that differs from
// those before lies where the last turn's did, so that a step of equal shapes has equal addresses; what is
// new is copied just before the launches that read it.
class Lists {
 public:
  Lists(Stream& stream, Uploader& uploader, std::shared_ptr<DeviceMemory> memory);
  // Where launches find the list until the stream is used by somebody else.
  const std::int32_t* get(std::span<const std::int32_t> list);
  const float* get(std::span<const float> list);

 private:
  static constexpr std::size_t kWords = 1 << 16, kApart = 64;  // of a chunk at least; of lists

  struct Chunk {
    std::vector<std::int32_t> words;  // as the device has them when launches are handed over
    Buffer device;
    std::size_t used = 0;                    // in this turn
    std::size_t new_begin = 0, new_end = 0;  // yet to be copied
  };
  struct Entry {
    std::size_t chunk, first, count;
  };
  const std::int32_t* placed(const Entry& entry) const;
  Entry add(std::span<const std::int32_t> list);
  void upload();

  Stream& stream_;
  Uploader& uploader_;
  std::shared_ptr<DeviceMemory> memory_;
  std::deque<Chunk> chunks_;
  std::vector<Entry> entries_;  // of this turn
  std::size_t turn_ = 0;
};

}  // namespace sonde::SONDE_GPU
