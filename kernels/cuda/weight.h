// A weight [N, K]: as float, bfloat16 or half, as e4m3 with scales (fp8.h), or as the blocks that a file has;
// on the device, or on the host and copied for each use.
#pragma once

#include <vector>

#include "kernels/cuda/gpu_backend.h"
#include "kernels/cuda/weight_stream.h"

namespace sonde::SONDE_GPU {

class GpuWeight : public Weight {
 public:
  // Rows of one type, below each other: [rows, K] at `offset` bytes.
  struct Segment {
    std::int64_t first, rows;  // of N
    DType dtype;
    std::int64_t offset;
  };
  GpuWeight(std::int64_t k, Precision precision, std::vector<Segment> segments, Buffer memory)
      : k_(k), precision_(precision), segments_(std::move(segments)), memory_(std::move(memory)) {}
  GpuWeight(GpuWeight&& other) = default;
  ~GpuWeight() override {
    if (stream_ != nullptr) stream_->forget(number_);
  }
  std::int64_t n() const override {
    return segments_.empty() ? 0 : segments_.back().first + segments_.back().rows;
  }
  std::int64_t k() const override { return k_; }
  std::int64_t bytes() const override { return memory_.bytes(); }
  Precision precision() const { return precision_; }
  const std::vector<Segment>& segments() const { return segments_; }

  void move_to_host(const std::shared_ptr<DeviceMemory>& pinned, Stream& ops,
                    std::shared_ptr<WeightStream> stream) {
    Buffer host(memory_.bytes(), pinned);
    check(cudaMemcpyAsync(host.data(), memory_.data(), static_cast<std::size_t>(memory_.bytes()),
                          cudaMemcpyDeviceToHost, ops),
          "copying a weight to the host");
    check(cudaStreamSynchronize(ops), "copying a weight to the host");
    memory_ = std::move(host);
    number_ = stream->add(memory_);
    stream_ = std::move(stream);
  }
  bool streamed() const { return stream_ != nullptr; }
  // Where ops that come now read it, until another weight is fetched.
  const std::byte* fetch() const { return stream_ != nullptr ? stream_->fetch(number_) : memory_.data(); }

 private:
  std::int64_t k_;
  Precision precision_;
  std::vector<Segment> segments_;
  Buffer memory_;
  std::shared_ptr<WeightStream> stream_;  // null: `memory_` is the device's
  std::size_t number_ = 0;                // in the stream
};

}  // namespace sonde::SONDE_GPU
