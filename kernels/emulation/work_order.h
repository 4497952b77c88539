// Which work of which stream is over before which: a clock per stream counts its work, and an event, a wait
// or the host's waiting carries the clocks that it knows.
#pragma once

#include <cstdint>
#include <vector>

namespace sonde::emulation {

// [stream's number]: how much of that stream's work is known to be over
class Clock {
 public:
  void join(const Clock& other) {
    if (counts_.size() < other.counts_.size()) counts_.resize(other.counts_.size());
    for (std::size_t i = 0; i < other.counts_.size(); ++i)
      if (counts_[i] < other.counts_[i]) counts_[i] = other.counts_[i];
  }
  std::uint64_t tick(std::size_t stream) {
    if (counts_.size() <= stream) counts_.resize(stream + 1);
    return ++counts_[stream];
  }
  bool knows(std::size_t stream, std::uint64_t count) const {
    return stream < counts_.size() && counts_[stream] >= count;
  }

 private:
  std::vector<std::uint64_t> counts_;
};

// A piece of work that ran, or runs.
struct Moment {
  const char* what;  // "kernel", "memcpy"
  std::size_t stream;
  std::uint64_t count;  // of that stream's clock
};
struct WorkOrder {
  std::vector<Moment> moments;  // by number
  Clock now;                    // what the work that runs knows
  std::uint32_t current() const { return static_cast<std::uint32_t>(moments.size() - 1); }
  bool before_now(std::uint32_t number) const {
    const Moment& m = moments[number];
    return now.knows(m.stream, m.count);
  }
};
WorkOrder& work_order();

}  // namespace sonde::emulation
