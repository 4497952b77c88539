// A stream of a device. The ops' one keeps launches back and hands them over some at a time, so that those
// that it has seen before run as a graph.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/graphs.h"

namespace sonde::SONDE_GPU {

// How many GPUs the driver shows, and where there is none, why.
struct DeviceCount {
  int count = 0;
  std::string why_none;
};
DeviceCount device_count();

class Stream {
 public:
  // at_once: each launch when it is made. together: in pieces of up to kPiece, or what there is when anybody
  // else uses the stream. The host makes up one piece while the GPU runs another.
  enum class Launches : bool { at_once, together };

  // Makes the device the calling thread's.
  explicit Stream(int ordinal, Launches launches = Launches::at_once);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // For work that comes behind the launches so far: they are handed over first. To be asked anew for each
  // call of CUDA, not kept.
  operator cudaStream_t();
  cudaStream_t handle() const { return stream_; }  // for calls that put no work there
  // How often the stream went to somebody else.
  std::size_t turn() const { return turn_; }

  template <class... A>
  void run(void (*call)(cudaStream_t, A...), std::type_identity_t<A>... arguments) {
    if (launches_ == Launches::together) {
      if (calls_.count() == kPiece) hand_over();
      return calls_.add(call, arguments...);
    }
    hand_over();
    call(stream_, arguments...);
  }
  void hand_over();
  // Gives memory back behind the launches so far.
  void free(void* memory) noexcept;
  // Forgets what was kept back, for an end without anybody who'd see it.
  void drop() noexcept;
  // Called before launches are handed over: for what they read.
  void before_launches(std::function<void()> call) { before_ = std::move(call); }

 private:
  static constexpr std::size_t kPiece = 128;

  cudaStream_t stream_ = nullptr;
  Launches launches_;
  Calls calls_;
  Graphs graphs_;
  std::vector<void*> freed_;  // behind calls_
  std::function<void()> before_;
  std::size_t turn_ = 0;
  bool handing_over_ = false;
};

// A kernel in a stream; nothing where the grid is empty.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            Stream& stream, Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  using Call =
      void (*)(cudaStream_t, const char*, void (*)(Parameters...), dim3, dim3, std::size_t, Parameters...);
  const Call call = [](cudaStream_t to, const char* what, void (*function)(Parameters...), dim3 blocks,
                       dim3 threads, std::size_t bytes, Parameters... values) {
    check(gpu_launch(function, blocks, threads, bytes, to, values...), what);
  };
  stream.run(call, name, kernel, grid, block, shared_bytes,
             static_cast<Parameters>(std::forward<Arguments>(arguments))...);
}

}  // namespace sonde::SONDE_GPU
