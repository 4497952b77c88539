#include "distributed/mpi_link.h"

#include <mpi.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "distributed/mpi_board.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::int64_t kPiece = std::int64_t{1} << 30;  // bytes of a message
constexpr int kTag = 1;

void check(int code, const char* call) {
  if (code != MPI_SUCCESS) fail("{}: MPI says {}", call, code);
}

class MpiLink : public RankLink {
 public:
  MpiLink(MPI_Comm group, std::string name, Axis axis, Board* board)
      : name_(std::move(name)), axis_(axis), board_(board) {
    check(MPI_Comm_dup(group, &comm_), "MPI_Comm_dup");  // never freed: that would be a collective call
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
    if (board_ == nullptr) return;
    members_.resize(static_cast<std::size_t>(size_));
    MPI_Comm_rank(MPI_COMM_WORLD, &world_rank_);
    check(MPI_Allgather(&world_rank_, 1, MPI_INT, members_.data(), 1, MPI_INT, comm_), "MPI_Allgather");
    slot_ = board_->add_group(name_, members_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string name() const override { return name_; }

  void exchange(std::span<const Send> sends, std::span<const Receive> receives) override {
    std::vector<MPI_Request> requests;
    for (const Receive& r : receives)
      in_pieces(r.bytes, [&](std::int64_t first, int bytes) {
        check(MPI_Irecv(static_cast<std::byte*>(r.data) + first, bytes, MPI_BYTE, r.from, kTag, comm_,
                        &requests.emplace_back()),
              "MPI_Irecv");
      });
    for (const Send& s : sends)
      in_pieces(s.bytes, [&](std::int64_t first, int bytes) {
        check(MPI_Isend(static_cast<const std::byte*>(s.data) + first, bytes, MPI_BYTE, s.to, kTag, comm_,
                        &requests.emplace_back()),
              "MPI_Isend");
      });
    check(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE),
          "MPI_Waitall");
  }

  void device_calls(std::int64_t count) override {
    if (board_ != nullptr) board_->device_calls(slot_, count);
  }
  void device_waits(const char* call, int peer, std::int64_t number) override {
    if (board_ == nullptr) return;
    board_->device_waits(slot_, call, number, peer < 0 ? -1 : members_[static_cast<std::size_t>(peer)]);
  }
  void count(std::int64_t sent, std::int64_t received) override { count_traffic(axis_, sent, received); }
  double patience() const override { return board_ != nullptr ? board_->patience() : 0; }
  void end_run(const std::string& why, const std::function<void()>& last) override {
    std::fputs(fmt::format("[rank {}] sonde: error: {}\n", world_rank_, why).c_str(), stderr);
    std::fflush(stderr);
    last();
    MPI_Abort(MPI_COMM_WORLD, 1);
    std::_Exit(1);
  }

 private:
  template <class F>
  static void in_pieces(std::int64_t bytes, const F& move) {
    for (std::int64_t first = 0; first < bytes; first += kPiece)
      move(first, static_cast<int>(std::min(kPiece, bytes - first)));
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  const std::string name_;
  const Axis axis_;
  Board* const board_;
  std::vector<int> members_;  // ranks of the run
  int rank_ = 0, size_ = 1, world_rank_ = 0, slot_ = 0;
};

}  // namespace

std::unique_ptr<RankLink> make_mpi_link(void* communicator, std::string name, Axis axis, Board* board) {
  return std::make_unique<MpiLink>(*static_cast<MPI_Comm*>(communicator), std::move(name), axis, board);
}

}  // namespace sonde
