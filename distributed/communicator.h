// What ranks say to each other. A communicator is a group of ranks, 0 to size() - 1, that make the same calls
// in the same order; with one rank every call is the identity. Sums run in the order of the ranks, so that
// equal inputs on equally many ranks give equal bits on every rank, whatever the network does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/dtype.h"
#include "runtime/rank_link.h"
#include "runtime/tensor.h"
#include "runtime/traffic.h"

namespace sonde {

enum class Reduce { sum, min, max };

// Numbers 0, 1, 2, ..., each handed out once over all ranks: a queue without a master.
class Tickets {
 public:
  virtual ~Tickets() = default;
  virtual std::int64_t next() = 0;
  virtual void close() = 0;         // on any rank: from now on next() gives numbers beyond every list
  virtual bool closed() const = 0;  // by any rank
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& name() const { return name_; }  // "world", "world.tensor": for messages
  Axis axis() const { return axis_; }
  void lie_along(Axis axis) { axis_ = axis; }  // whose traffic its calls and its link count as

  // all_reduce: every rank gets the sum (least, largest) of all, in place.
  //          BEFORE             AFTER
  //   rank 0  [1 2 3]            [111 222 333]
  //   rank 1  [10 20 30]         [111 222 333]
  //   rank 2  [100 200 300]      [111 222 333]
  template <class T>
  void all_reduce(std::span<T> x, Reduce op = Reduce::sum) {
    reduce_all(x.data(), size_of(x), dtype_of<T>(), op);
  }
  template <class T>
  T all_reduce(T x, Reduce op = Reduce::sum) {
    all_reduce(std::span(&x, 1), op);
    return x;
  }

  // all_gather: every rank gets all blocks, in the order of the ranks.
  //          BEFORE             AFTER
  //   rank 0  [a]                [a b c]
  //   rank 1  [b]                [a b c]
  //   rank 2  [c]                [a b c]
  template <class T>
  void all_gather(std::span<T> all /*[size, n]*/, std::span<const T> mine /*[n]*/) {
    check_sizes("all_gather", size_of(all), size_of(mine) * size());
    gather_all(all.data(), mine.data(), size_of(mine), dtype_of<T>());
  }

  // reduce_scatter: rank r gets the r-th share of the sum. Shares are as even as whole elements allow
  // (shares.h).
  //          BEFORE             AFTER
  //   rank 0  [1 2 3]            [111]
  //   rank 1  [10 20 30]         [222]
  //   rank 2  [100 200 300]      [333]
  template <class T>
  void reduce_scatter(std::span<T> share, std::span<const T> x, Reduce op = Reduce::sum) {
    scatter_sums(share.data(), size_of(share), x.data(), size_of(x), dtype_of<T>(), op);
  }

  // broadcast: every rank gets what root has.
  //          BEFORE             AFTER (root 1)
  //   rank 0  [.]                [b]
  //   rank 1  [b]                [b]
  //   rank 2  [.]                [b]
  template <class T>
  void broadcast(std::span<T> x, int root = 0) {
    send_all(x.data(), size_of(x), dtype_of<T>(), root);
  }
  std::string broadcast_bytes(std::string bytes, int root = 0);  // of any length, known to root alone

  // all_to_all: block j of rank i becomes block i of rank j.
  //          BEFORE             AFTER
  //   rank 0  [a0 a1 a2]         [a0 b0 c0]
  //   rank 1  [b0 b1 b2]         [a1 b1 c1]
  //   rank 2  [c0 c1 c2]         [a2 b2 c2]
  template <class T>
  void all_to_all(std::span<T> out /*[size, n]*/, std::span<const T> in /*[size, n]*/) {
    check_sizes("all_to_all", size_of(out), size_of(in));
    exchange(out.data(), in.data(), size_of(in), dtype_of<T>());
  }

  // gather_bytes: every rank gets the bytes of all, of any lengths.
  //   rank 0  "a"                {"a", "", "ccc"}
  //   rank 1  ""                 {"a", "", "ccc"}
  //   rank 2  "ccc"              {"a", "", "ccc"}
  std::vector<std::string> gather_bytes(const std::string& mine);

  void barrier();  // nobody leaves before all have come

  // send, receive: a message from one rank to another, for which the others need not come. Messages of a rank
  // arrive in the order in which they were sent; one that is not of the length and type that its receiver
  // expects is an Error there. send gives x back at once, unless kInFlight earlier messages to that rank are
  // still to be received: then it waits for the oldest.
  //          BEFORE             AFTER (rank 0 sends to 2, rank 2 receives from 0)
  //   rank 0  [a]                [a]
  //   rank 1  [b]                [b]
  //   rank 2  [.]                [a]
  static constexpr int kInFlight = 4;
  template <class T>
  void send(std::span<const T> x, int to) {
    send_one(x.data(), size_of(x), dtype_of<T>(), to, kInFlight);
  }
  template <class T>
  void receive(std::span<T> x, int from) {
    receive_one(x.data(), size_of(x), dtype_of<T>(), from);
  }
  // Of any length, known to the sender alone; the memory changes hands.
  void send_bytes(std::string bytes, int to, int in_flight = kInFlight);
  std::string receive_bytes(int from);

  // split: ranks of one colour become a group, in the order of `key`, then of their ranks.
  //   colours 0 1 0 1     ->     ranks {0, 2} are 0, 1 of one group, {1, 3} are 0, 1 of another
  std::unique_ptr<Communicator> split(int colour, int key, const std::string& group);

  std::unique_ptr<Tickets> make_tickets();

  // The group for devices, whose messages don't meet those above; collective when first asked for, null with
  // one rank.
  virtual RankLink* link() { return nullptr; }

  // A sign of life: called after each piece of work, so that a rank that hangs is told from one that
  // computes.
  virtual void beat() {}
  virtual void long_task() {}  // what follows may take long without one
  // Ends all ranks of the run with this exit code; single: returns.
  virtual void abort(int /*code*/) {}

  // Contracts: before each call ranks compare what they are about to call; where they differ every rank
  // throws an Error that names them. On in debug builds, else by SONDE_CHECK_COLLECTIVES=1.
  void check_contracts(bool on) { checking_ = on; }

 protected:
  Communicator(int rank, int size, std::string name) : rank_(rank), size_(size), name_(std::move(name)) {}

  // `bytes` of each rank are the same here; the transports need not check.
  virtual void do_all_reduce(void* x, std::int64_t n, DType dtype, Reduce op) = 0;
  virtual void do_reduce_scatter(void* share, const void* x, std::int64_t n, DType dtype, Reduce op) = 0;
  virtual void do_all_gather(void* all, const void* mine, std::int64_t bytes) = 0;
  virtual std::vector<std::string> do_gather_bytes(const std::string& mine) = 0;
  virtual void do_broadcast(void* x, std::int64_t bytes, int root) = 0;
  virtual void do_all_to_all(void* out, const void* in, std::int64_t block_bytes) = 0;
  virtual void do_barrier() = 0;
  // kind: what both must say of a message beside its bytes.
  virtual void do_send(std::string bytes, DType kind, int to, int in_flight) = 0;
  virtual void do_receive(void* x, std::int64_t bytes, DType kind, int from) = 0;
  virtual std::unique_ptr<Communicator> do_split(int colour, int key, std::string name) = 0;
  virtual std::unique_ptr<Tickets> do_make_tickets() = 0;
  // An Error where what has come is not what this rank expects.
  struct MessageKind {
    DType dtype;
    std::int64_t bytes;
    friend bool operator==(const MessageKind&, const MessageKind&) = default;
  };
  void check_message(MessageKind expected, MessageKind found, int from) const;
  // Around every call: what a watchdog says when it never ends. peer: of a message, the other rank; else -1.
  virtual void enter(const char* /*call*/, std::int64_t /*number*/, int /*peer*/) {}
  virtual void leave() {}

 private:
  template <class T>
  static constexpr DType dtype_of();
  template <class T>
  static std::int64_t size_of(std::span<T> x) {
    return static_cast<std::int64_t>(x.size());
  }
  struct Call;     // enters, checks the contract, leaves
  struct Message;  // enters, leaves

  void count_all(std::int64_t bytes) const;  // of a call that all ranks are in
  void check_sizes(const char* call, std::int64_t found, std::int64_t expected) const;
  void reduce_all(void* x, std::int64_t n, DType dtype, Reduce op);
  void gather_all(void* all, const void* mine, std::int64_t n, DType dtype);
  void scatter_sums(void* share, std::int64_t share_n, const void* x, std::int64_t n, DType dtype, Reduce op);
  void send_all(void* x, std::int64_t n, DType dtype, int root);
  void exchange(void* out, const void* in, std::int64_t n, DType dtype);
  void send_one(const void* x, std::int64_t n, DType dtype, int to, int in_flight);
  void receive_one(void* x, std::int64_t n, DType dtype, int from);

  int rank_, size_;
  std::string name_;
  Axis axis_ = Axis::data;
  bool checking_ = false;
  std::int64_t calls_ = 0, messages_ = 0;
};

std::unique_ptr<Communicator> make_single();

template <class T>
constexpr DType Communicator::dtype_of() {
  using U = std::remove_const_t<T>;
  if constexpr (std::is_same_v<U, float>) return DType::f32;
  if constexpr (std::is_same_v<U, double>) return DType::f64;
  if constexpr (std::is_same_v<U, std::int64_t>) return DType::i64;
  if constexpr (std::is_same_v<U, std::int32_t>) return DType::i32;
  static_assert(std::is_same_v<U, float> || std::is_same_v<U, double> || std::is_same_v<U, std::int64_t> ||
                std::is_same_v<U, std::int32_t>);
}

}  // namespace sonde
