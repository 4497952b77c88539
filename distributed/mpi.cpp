// Ranks over MPI: host memory, blocking calls. Sums are ours, in the order of the ranks: MPI only moves
// bytes.
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>

#include "distributed/mpi_board.h"
#include "distributed/mpi_link.h"
#include "distributed/reduce.h"
#include "distributed/shares.h"
#include "distributed/world.h"
#include "runtime/error.h"
#include "runtime/profile.h"

namespace sonde {
namespace {

constexpr std::int64_t kSmall = 32 << 10;                // bytes of all ranks that travel in one step
constexpr std::int64_t kPiece = std::int64_t{64} << 20;  // bytes of a large sum at once

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  fail("{}: {}", call, std::string_view(text.data(), static_cast<std::size_t>(length)));
}

int count_of(std::int64_t bytes, const char* call) {
  if (bytes > INT32_MAX) fail("{}: {} bytes in one call, expected at most {}", call, bytes, INT32_MAX);
  return static_cast<int>(bytes);
}

// A message on its way: MPI reads the bytes until it has arrived.
struct Sending {
  std::string bytes;
  int to;
  std::vector<MPI_Request> pieces;

  bool arrived() {
    int done = 0;
    check(MPI_Testall(static_cast<int>(pieces.size()), pieces.data(), &done, MPI_STATUSES_IGNORE),
          "MPI_Testall");
    return done != 0;
  }
  void wait() {
    check(MPI_Waitall(static_cast<int>(pieces.size()), pieces.data(), MPI_STATUSES_IGNORE), "MPI_Waitall");
  }
};

// MPI itself, from the first call to the last. What groups and tickets own lives here: freeing it is a
// collective call, which must not happen while an exception takes one rank apart.
struct Session {
  Session() {
    int provided = 0;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (provided != MPI_THREAD_MULTIPLE)
      fail_hint("Open MPI and MPICH as Debian builds them have it", "this MPI has no MPI_THREAD_MULTIPLE");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (size > 1) board = std::make_unique<Board>(rank, size, names(), one_node());
  }
  ~Session() {
    for (Sending& message : left_over) message.wait();
    for (auto win = windows.rbegin(); win != windows.rend(); ++win) {
      MPI_Win_unlock_all(*win);
      MPI_Win_free(&*win);
    }
    board.reset();
    MPI_Finalize();
  }

  std::vector<std::string> names() const {
    std::array<char, 300> mine{};
    gethostname(mine.data(), 256);
    const std::string host = mine.data();
    std::snprintf(mine.data(), mine.size(), "rank %d (%.250s, process %d)", rank, host.c_str(), getpid());
    std::vector<char> all(mine.size() * static_cast<std::size_t>(size));
    check(MPI_Allgather(mine.data(), static_cast<int>(mine.size()), MPI_CHAR, all.data(),
                        static_cast<int>(mine.size()), MPI_CHAR, MPI_COMM_WORLD),
          "MPI_Allgather");
    std::vector<std::string> result;
    for (int r = 0; r < size; ++r)
      result.emplace_back(all.data() + static_cast<std::size_t>(r) * mine.size());
    return result;
  }
  bool one_node() const {
    MPI_Comm node;
    check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node),
          "MPI_Comm_split_type");
    int on_node = 0;
    MPI_Comm_size(node, &on_node);
    MPI_Comm_free(&node);
    int least = on_node;
    check(MPI_Allreduce(&on_node, &least, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD), "MPI_Allreduce");
    return least == size;
  }

  int rank = 0, size = 1;
  std::unique_ptr<Board> board;
  std::vector<MPI_Win> windows;
  std::list<Sending> left_over;  // of groups that are gone
};

// A counter on rank 0 of the group, raised by MPI_Fetch_and_op: nobody serves it.
class MpiTickets : public Tickets {
 public:
  MpiTickets(Session& session, MPI_Comm comm, bool owner) {
    std::int64_t* value = nullptr;
    check(MPI_Win_allocate(owner ? sizeof *value : 0, sizeof *value, MPI_INFO_NULL, comm, &value, &win_),
          "MPI_Win_allocate");
    if (owner) *value = 0;
    check(MPI_Win_lock_all(MPI_MODE_NOCHECK, win_), "MPI_Win_lock_all");
    check(MPI_Barrier(comm), "MPI_Barrier");
    session.windows.push_back(win_);
  }
  std::int64_t next() override { return fetch(1, MPI_SUM); }
  void close() override { fetch(kClosed, MPI_SUM); }
  bool closed() const override { return fetch(0, MPI_NO_OP) >= kClosed; }

 private:
  static constexpr std::int64_t kClosed = std::int64_t{1} << 40;  // leaves room for a close() by each rank

  std::int64_t fetch(std::int64_t add, MPI_Op op) const {
    std::int64_t before = 0;
    check(MPI_Fetch_and_op(&add, &before, MPI_INT64_T, 0, 0, op, win_), "MPI_Fetch_and_op");
    check(MPI_Win_flush(0, win_), "MPI_Win_flush");
    return before;
  }
  MPI_Win win_ = MPI_WIN_NULL;
};

class MpiGroup : public Communicator {
 public:
  MpiGroup(std::shared_ptr<Session> session, MPI_Comm comm, int rank, int size, std::string name)
      : Communicator(rank, size, name), session_(std::move(session)), comm_(comm) {
    if (!session_->board) return;
    members_.resize(static_cast<std::size_t>(size));
    check(MPI_Allgather(&session_->rank, 1, MPI_INT, members_.data(), 1, MPI_INT, comm_), "MPI_Allgather");
    slot_ = session_->board->add_group(std::move(name), members_);
  }
  ~MpiGroup() override { session_->left_over.splice(session_->left_over.end(), sending_); }

  RankLink* link() override {
    if (!link_ && size() > 1) link_ = make_mpi_link(&comm_, name(), axis(), session_->board.get());
    return link_.get();
  }
  void beat() override {
    if (session_->board) session_->board->beat();
  }
  void long_task() override {
    if (session_->board) session_->board->long_task();
  }
  void abort(int code) override {
    MPI_Abort(MPI_COMM_WORLD, code);
    std::_Exit(code);
  }

 private:
  void enter(const char* call, std::int64_t number, int peer) override {
    if (session_->board)
      session_->board->enter(slot_, call, number, peer < 0 ? -1 : members_[static_cast<std::size_t>(peer)]);
  }
  void leave() override {
    if (session_->board) session_->board->leave();
  }

  void* scratch(std::int64_t bytes) {
    if (scratch_.bytes() < bytes) scratch_ = Buffer(bytes);
    return scratch_.data();
  }

  // Bytes of each rank's share of n elements, and where it starts.
  struct Shares {
    std::vector<int> bytes, begins;
  };
  Shares shares(std::int64_t n, std::int64_t size_of_one) const {
    Shares out;
    for (int r = 0; r < size(); ++r) {
      const Share share = share_of(n, r, size());
      out.bytes.push_back(static_cast<int>(share.size() * size_of_one));
      out.begins.push_back(static_cast<int>(share.begin * size_of_one));
    }
    return out;
  }

  // Every rank's values of my share [size, share], in scratch.
  const void* collect_share(const void* x, std::int64_t n, std::int64_t one) {
    const Shares to = shares(n, one);
    const int mine = to.bytes[static_cast<std::size_t>(rank())];
    std::vector<int> counts(static_cast<std::size_t>(size()), mine), begins;
    for (int r = 0; r < size(); ++r) begins.push_back(r * mine);
    void* rows = scratch(std::int64_t{mine} * size());
    check(MPI_Alltoallv(x, to.bytes.data(), to.begins.data(), MPI_BYTE, rows, counts.data(), begins.data(),
                        MPI_BYTE, comm_),
          "MPI_Alltoallv");
    return rows;
  }

  void do_all_reduce(void* x, std::int64_t n, DType dtype, Reduce op) override {
    const std::int64_t one = bytes_of(dtype, 1);
    if (n * one * size() <= kSmall) {
      void* rows = scratch(n * one * size());
      const int bytes = static_cast<int>(n * one);
      check(MPI_Allgather(x, bytes, MPI_BYTE, rows, bytes, MPI_BYTE, comm_), "MPI_Allgather");
      return reduce_rows(x, rows, size(), n, dtype, op);
    }
    for (std::int64_t first = 0, piece = kPiece / one; first < n; first += piece) {
      const std::int64_t count = std::min(piece, n - first);
      auto* at = static_cast<std::byte*>(x) + first * one;
      const Share mine = share_of(count, rank(), size());
      reduce_rows(at + mine.begin * one, collect_share(at, count, one), size(), mine.size(), dtype, op);
      const Shares all = shares(count, one);
      check(
          MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_BYTE, at, all.bytes.data(), all.begins.data(), MPI_BYTE, comm_),
          "MPI_Allgatherv");
    }
  }

  void do_reduce_scatter(void* share, const void* x, std::int64_t n, DType dtype, Reduce op) override {
    const std::int64_t one = bytes_of(dtype, 1);
    count_of(n * one, "reduce_scatter");
    reduce_rows(share, collect_share(x, n, one), size(), share_of(n, rank(), size()).size(), dtype, op);
  }

  void do_all_gather(void* all, const void* mine, std::int64_t bytes) override {
    const int n = count_of(bytes, "all_gather");
    check(MPI_Allgather(mine, n, MPI_BYTE, all, n, MPI_BYTE, comm_), "MPI_Allgather");
  }

  std::vector<std::string> do_gather_bytes(const std::string& mine) override {
    const int n = count_of(static_cast<std::int64_t>(mine.size()), "gather_bytes");
    std::vector<int> sizes(static_cast<std::size_t>(size())), begins;
    check(MPI_Allgather(&n, 1, MPI_INT, sizes.data(), 1, MPI_INT, comm_), "MPI_Allgather");
    std::int64_t total = 0;
    for (const int bytes : sizes) {
      begins.push_back(count_of(total, "gather_bytes"));
      total += bytes;
    }
    std::string all(static_cast<std::size_t>(count_of(total, "gather_bytes")), '\0');
    check(MPI_Allgatherv(mine.data(), n, MPI_BYTE, all.data(), sizes.data(), begins.data(), MPI_BYTE, comm_),
          "MPI_Allgatherv");
    std::vector<std::string> out;
    for (std::size_t r = 0; r < sizes.size(); ++r)
      out.push_back(all.substr(static_cast<std::size_t>(begins[r]), static_cast<std::size_t>(sizes[r])));
    return out;
  }

  void do_broadcast(void* x, std::int64_t bytes, int root) override {
    for (std::int64_t first = 0; first < bytes; first += kPiece)
      check(MPI_Bcast(static_cast<std::byte*>(x) + first, static_cast<int>(std::min(kPiece, bytes - first)),
                      MPI_BYTE, root, comm_),
            "MPI_Bcast");
  }

  void do_all_to_all(void* out, const void* in, std::int64_t block_bytes) override {
    const int n = count_of(block_bytes, "all_to_all");
    check(MPI_Alltoall(in, n, MPI_BYTE, out, n, MPI_BYTE, comm_), "MPI_Alltoall");
  }

  void do_barrier() override { check(MPI_Barrier(comm_), "MPI_Barrier"); }

  // Synchronous sends: one is over when its receiver has begun to take it, so that what is on its way is
  // counted.
  void do_send(std::string bytes, DType kind, int to, int in_flight) override {
    sending_.remove_if([](Sending& message) { return message.arrived(); });
    const auto to_there = [&](const Sending& message) { return message.to == to; };
    while (std::ranges::count_if(sending_, to_there) >= in_flight) {
      const PhaseScope waiting(Phase::idle);
      const auto oldest = std::ranges::find_if(sending_, to_there);
      oldest->wait();
      sending_.erase(oldest);
    }
    sending_.push_back({std::move(bytes), to, {}});
    Sending& message = sending_.back();
    const auto size = static_cast<std::int64_t>(message.bytes.size());
    for (std::int64_t first = 0; first == 0 || first < size; first += kPiece)
      check(MPI_Issend(message.bytes.data() + first, static_cast<int>(std::min(kPiece, size - first)),
                       MPI_BYTE, to, static_cast<int>(kind), comm_, &message.pieces.emplace_back()),
            "MPI_Issend");
  }

  void do_receive(void* x, std::int64_t bytes, DType kind, int from) override {
    for (std::int64_t first = 0; first == 0 || first < bytes; first += kPiece) {
      const std::int64_t expected = std::min(kPiece, bytes - first);
      MPI_Status status;
      {
        const PhaseScope waiting(Phase::idle);
        check(MPI_Probe(from, MPI_ANY_TAG, comm_, &status), "MPI_Probe");
      }
      int found = 0;
      check(MPI_Get_count(&status, MPI_BYTE, &found), "MPI_Get_count");
      check_message({kind, expected}, {static_cast<DType>(status.MPI_TAG), found}, from);
      check(MPI_Recv(static_cast<std::byte*>(x) + first, found, MPI_BYTE, from, status.MPI_TAG, comm_,
                     MPI_STATUS_IGNORE),
            "MPI_Recv");
    }
  }

  std::unique_ptr<Communicator> do_split(int colour, int key, std::string name) override {
    MPI_Comm part;
    check(MPI_Comm_split(comm_, colour, key, &part), "MPI_Comm_split");
    MPI_Comm_set_errhandler(part, MPI_ERRORS_RETURN);
    int rank = 0, size = 0;
    MPI_Comm_rank(part, &rank);
    MPI_Comm_size(part, &size);
    return std::make_unique<MpiGroup>(session_, part, rank, size, std::move(name));
  }

  std::unique_ptr<Tickets> do_make_tickets() override {
    return std::make_unique<MpiTickets>(*session_, comm_, rank() == 0);
  }

  std::shared_ptr<Session> session_;
  MPI_Comm comm_;
  int slot_ = 0;
  std::vector<int> members_;  // ranks of the run
  std::list<Sending> sending_;
  Buffer scratch_;
  std::unique_ptr<RankLink> link_;
};

}  // namespace

std::unique_ptr<Communicator> world_detail::join_mpi() {
  auto session = std::make_shared<Session>();
  MPI_Comm everyone;
  check(MPI_Comm_dup(MPI_COMM_WORLD, &everyone), "MPI_Comm_dup");
  MPI_Comm_set_errhandler(everyone, MPI_ERRORS_RETURN);
  const int rank = session->rank, size = session->size;
  auto world = std::make_unique<MpiGroup>(std::move(session), everyone, rank, size, "world");
  bool check_calls = false;
#ifndef NDEBUG
  check_calls = true;
#endif
  if (const char* asked = std::getenv("SONDE_CHECK_COLLECTIVES"))
    check_calls = std::string_view(asked) == "1";
  world->check_contracts(world->all_reduce(std::int64_t{check_calls}, Reduce::max) != 0);
  return world;
}

}  // namespace sonde
