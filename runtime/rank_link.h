// A group of ranks as rooms below `distributed` see it: bytes from one to another, and what the watchdog
// wants to know of a device that waits for the others while the host does not. distributed implements it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace sonde {

class RankLink {
 public:
  struct Send {
    int to;
    const void* data;
    std::int64_t bytes;
  };
  struct Receive {
    int from;
    void* data;
    std::int64_t bytes;
  };

  virtual ~RankLink() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string name() const = 0;  // of the group, for messages
  // All at once; returns when what was sent may be overwritten and what was wanted is there. One thread at a
  // time; between two ranks messages keep their order.
  virtual void exchange(std::span<const Send> sends, std::span<const Receive> receives) = 0;

  // So many calls were handed to the device; it waits in one of that name, or in none (null). peer: of a
  // message, the so-manieth, the rank that it goes to or comes from; -1: all ranks are to come.
  virtual void device_calls(std::int64_t count) = 0;
  virtual void device_waits(const char* call, int peer, std::int64_t number) = 0;
  virtual void count(std::int64_t sent, std::int64_t received) = 0;  // bytes that devices exchange
  virtual double patience() const = 0;                               // seconds without progress; 0: endless
  // Says why, does what is left to do, and ends all ranks of the run.
  [[noreturn]] virtual void end_run(const std::string& why, const std::function<void()>& last) = 0;
};

}  // namespace sonde
