// CUDA graphs of what runs again and again: launches that are equal in every byte of their arguments to an
// earlier piece's, such as a decoding step's, are recorded the second time and replayed from then on.
#pragma once

#include <array>
#include <bit>
#include <cstring>
#include <list>
#include <span>
#include <tuple>
#include <vector>

#include "kernels/cuda/check.h"

namespace sonde::SONDE_GPU {

// Launches that wait to be run, as bytes: of each its size, who calls it, and what it is given. Equal bytes
// are equal work, since kernels read all else from the device's memory.
class Calls {
 public:
  bool empty() const { return count_ == 0; }
  std::size_t count() const { return count_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  void clear() { bytes_.clear(), count_ = 0; }

  // Adds call(stream, arguments...).
  template <class... A>
  void add(void (*call)(cudaStream_t, A...), A... arguments) {
    const std::size_t start = bytes_.size();
    put(Header{}), put(call), (put(arguments), ...);
    const Header header{bytes_.size() - start, unpack<A...>};
    std::memcpy(bytes_.data() + start, &header, sizeof header);
    ++count_;
  }
  static void run(std::span<const std::byte> calls, cudaStream_t stream);

 private:
  struct Header {
    std::size_t bytes = 0;
    void (*unpack)(const std::byte* from, cudaStream_t stream) = nullptr;
  };
  static std::size_t room(std::size_t bytes) { return (bytes + 7) / 8 * 8; }

  template <class T>
  void put(T value) {
    static_assert(std::is_trivially_copyable_v<T>);
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
    __builtin_clear_padding(&value);  // else what lies there by chance may keep equal calls apart
#endif
#endif
    bytes_.resize(bytes_.size() + room(sizeof value));
    std::memcpy(bytes_.data() + bytes_.size() - room(sizeof value), &value, sizeof value);
  }
  template <class T>
  static T take(const std::byte*& from) {
    std::array<std::byte, sizeof(T)> bytes;
    std::memcpy(bytes.data(), from, sizeof(T));
    from += room(sizeof(T));
    return std::bit_cast<T>(bytes);
  }
  template <class... A>
  static void unpack(const std::byte* from, cudaStream_t stream) {
    using Call = void (*)(cudaStream_t, A...);
    const Call call = take<Call>(from);
    const std::tuple<A...> arguments{take<A>(from)...};  // in this order
    std::apply([&](const A&... values) { call(stream, values...); }, arguments);
  }

  std::vector<std::byte> bytes_;
  std::size_t count_ = 0;
};

class Graphs {
 public:
  Graphs() = default;
  ~Graphs();
  Graphs(const Graphs&) = delete;
  Graphs& operator=(const Graphs&) = delete;
  void run(const Calls& calls, cudaStream_t stream);

 private:
  static constexpr std::size_t kFewest = 4;    // launches that a graph is worth
  static constexpr std::size_t kMost = 16384;  // that are kept, in all graphs

  struct Known {
    std::size_t hash, count;
    std::vector<std::byte> calls;
    cudaGraphExec_t graph = nullptr;  // null: seen once
  };
  Known* find(const Calls& calls, std::size_t hash);
  void remember(const Calls& calls, std::size_t hash);

  std::list<Known> known_;  // latest first
  std::size_t kept_ = 0;    // launches of all
};

}  // namespace sonde::SONDE_GPU
