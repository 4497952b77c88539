#include "kernels/cuda/weight_stream.h"

namespace sonde::SONDE_GPU {

WeightStream::WeightStream(int ordinal, Stream& ops, std::shared_ptr<DeviceMemory> memory)
    : ops_(ops), memory_(std::move(memory)), copies_(ordinal) {
  for (Slot& slot : slots_)
    for (cudaEvent_t* event : {&slot.is_filled, &slot.is_read})
      check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "creating an event");
}

WeightStream::~WeightStream() {
  cudaStreamSynchronize(copies_);
  for (const Slot& slot : slots_)
    for (const cudaEvent_t event : {slot.is_filled, slot.is_read}) cudaEventDestroy(event);
}

std::size_t WeightStream::add(const Buffer& host) {
  weights_.emplace_back(host.data(), static_cast<std::size_t>(host.bytes()));
  return weights_.size() - 1;
}

void WeightStream::forget(std::size_t weight) {
  cudaStreamSynchronize(copies_);
  weights_[weight] = {};
  for (Slot& slot : slots_)
    if (slot.weight == weight) slot.weight = kNone;
}

std::size_t WeightStream::next(std::size_t weight) const {
  for (std::size_t i = 1; i < weights_.size(); ++i)
    if (const std::size_t other = (weight + i) % weights_.size(); !weights_[other].empty()) return other;
  return kNone;
}

// The copies wait for the ops that read what the slot holds now.
void WeightStream::fill(Slot& slot, std::size_t weight) {
  check(cudaStreamWaitEvent(copies_, slot.is_read, 0), "ordering streams");
  check(cudaMemcpyAsync(slot.device.data(), weights_[weight].data(), weights_[weight].size(),
                        cudaMemcpyHostToDevice, copies_),
        "copying a weight to the device");
  check(cudaEventRecord(slot.is_filled, copies_), "recording an event");
  slot.weight = weight;
}

const std::byte* WeightStream::fetch(std::size_t weight) {
  std::int64_t largest = 0;
  for (const auto& one : weights_) largest = std::max(largest, static_cast<std::int64_t>(one.size()));
  if (slots_[0].device.bytes() < largest) {
    check(cudaStreamSynchronize(copies_), "waiting for weights");
    for (Slot& slot : slots_) {  // there for the ops' stream, hence for what waits for it
      slot.device = Buffer(largest, memory_);
      slot.weight = kNone;
      check(cudaEventRecord(slot.is_read, ops_), "recording an event");
    }
  }
  if (slots_[current_].weight != weight) {
    check(cudaEventRecord(slots_[current_].is_read, ops_), "recording an event");
    current_ = 1 - current_;
    if (slots_[current_].weight != weight) fill(slots_[current_], weight);
  }
  const Slot& slot = slots_[current_];
  check(cudaStreamWaitEvent(ops_, slot.is_filled, 0), "ordering streams");
  if (const std::size_t behind = next(weight); behind != kNone && slots_[1 - current_].weight != behind)
    fill(slots_[1 - current_], behind);
  return slot.device.data();
}

}  // namespace sonde::SONDE_GPU
