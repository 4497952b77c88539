// The half of a communicator that all transports share: contracts.
#include "distributed/communicator.h"

#include <algorithm>
#include <map>

#include "distributed/shares.h"
#include "runtime/error.h"
#include "runtime/profile.h"

namespace sonde {
namespace {

constexpr const char* kReduce[] = {"sum", "min", "max"};

// "rank 1", "ranks 0, 2"
std::string list_ranks(const std::vector<int>& ranks) {
  return fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s", fmt::join(ranks, ", "));
}

// What the ranks are about to call, where they differ: the rarest call first, it is the suspect.
std::string describe_difference(const std::vector<std::string>& calls) {
  std::map<std::string, std::vector<int>> groups;
  for (std::size_t r = 0; r < calls.size(); ++r) groups[calls[r]].push_back(static_cast<int>(r));
  std::vector<std::pair<std::string, std::vector<int>>> sorted(groups.begin(), groups.end());
  std::ranges::stable_sort(sorted, {}, [](const auto& group) { return group.second.size(); });
  std::string text;
  for (const auto& [call, ranks] : sorted)
    text += fmt::format("{}{} {}: {}", text.empty() ? "" : "; ", list_ranks(ranks),
                        ranks.size() == 1 ? "calls" : "call", call);
  return text;
}

}  // namespace

struct Communicator::Call {
  // `detail` is what all ranks must agree on beside the name.
  Call(Communicator& group, const char* name, const std::string& detail) : group_(group) {
    const std::int64_t number = ++group.calls_;
    group.enter(name, number, -1);
    if (!group.checking_ || group.size_ == 1) return;
    const std::vector<std::string> calls =
        group.do_gather_bytes(fmt::format("{}{}{}", name, detail.empty() ? "" : " of ", detail));
    if (std::ranges::all_of(calls, [&](const auto& call) { return call == calls[0]; })) return;
    group.leave();
    fail("{}: call {}: ranks differ: {}", group.name_, number, describe_difference(calls));
  }
  ~Call() { group_.leave(); }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  Communicator& group_;
  PhaseScope phase_{Phase::communication};
};

struct Communicator::Message {
  Message(Communicator& group, const char* name, int peer) : group_(group) {
    sonde_check(peer >= 0 && peer < group.size_ && (peer != group.rank_ || group.size_ == 1),
                "{}: {} on rank {} of {}: the other is rank {}", group.name_, name, group.rank_, group.size_,
                peer);
    group.enter(name, ++group.messages_, peer);
  }
  ~Message() { group_.leave(); }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;

  Communicator& group_;
  PhaseScope phase_{Phase::communication};
};

void Communicator::count_all(std::int64_t bytes) const {
  const std::int64_t own = bytes_each_way(bytes, size_);
  count_traffic(axis_, own, own);
}

void Communicator::check_sizes(const char* call, std::int64_t found, std::int64_t expected) const {
  sonde_check(found == expected, "{}: {} on rank {}: {} values, expected {}", name_, call, rank_, found,
              expected);
}

void Communicator::reduce_all(void* x, std::int64_t n, DType dtype, Reduce op) {
  const Call call(*this, "all_reduce",
                  fmt::format("{} {}, {}", n, sonde::name(dtype), kReduce[static_cast<int>(op)]));
  count_all(2 * bytes_of(dtype, n));
  if (n > 0) do_all_reduce(x, n, dtype, op);
}

void Communicator::gather_all(void* all, const void* mine, std::int64_t n, DType dtype) {
  const Call call(*this, "all_gather", fmt::format("{} {}", n, sonde::name(dtype)));
  count_all(size_ * bytes_of(dtype, n));
  if (n > 0) do_all_gather(all, mine, bytes_of(dtype, n));
}

void Communicator::scatter_sums(void* share, std::int64_t share_n, const void* x, std::int64_t n, DType dtype,
                                Reduce op) {
  check_sizes("reduce_scatter", share_n, share_of(n, rank_, size_).size());
  const Call call(*this, "reduce_scatter",
                  fmt::format("{} {}, {}", n, sonde::name(dtype), kReduce[static_cast<int>(op)]));
  count_all(bytes_of(dtype, n));
  if (n > 0) do_reduce_scatter(share, x, n, dtype, op);
}

void Communicator::send_all(void* x, std::int64_t n, DType dtype, int root) {
  sonde_check(root >= 0 && root < size_, "{}: broadcast from rank {} of {}", name_, root, size_);
  const Call call(*this, "broadcast", fmt::format("{} {} from rank {}", n, sonde::name(dtype), root));
  count_all(bytes_of(dtype, n));
  if (n > 0) do_broadcast(x, bytes_of(dtype, n), root);
}

std::string Communicator::broadcast_bytes(std::string bytes, int root) {
  std::int64_t size = static_cast<std::int64_t>(bytes.size());
  broadcast(std::span(&size, 1), root);
  bytes.resize(static_cast<std::size_t>(size));
  const Call call(*this, "broadcast_bytes", fmt::format("{} bytes from rank {}", size, root));
  count_all(size);
  if (size > 0) do_broadcast(bytes.data(), size, root);
  return bytes;
}

void Communicator::exchange(void* out, const void* in, std::int64_t n, DType dtype) {
  sonde_check(n % size_ == 0, "{}: all_to_all of {} values on {} ranks", name_, n, size_);
  const Call call(*this, "all_to_all", fmt::format("{} {}", n, sonde::name(dtype)));
  count_all(bytes_of(dtype, n));
  if (n > 0) do_all_to_all(out, in, bytes_of(dtype, n / size_));
}

void Communicator::send_one(const void* x, std::int64_t n, DType dtype, int to, int in_flight) {
  const Message message(*this, "send", to);
  count_traffic(axis_, bytes_of(dtype, n), 0);
  do_send(std::string(static_cast<const char*>(x), static_cast<std::size_t>(bytes_of(dtype, n))), dtype, to,
          in_flight);
}

void Communicator::receive_one(void* x, std::int64_t n, DType dtype, int from) {
  const Message message(*this, "receive", from);
  count_traffic(axis_, 0, bytes_of(dtype, n));
  do_receive(x, bytes_of(dtype, n), dtype, from);
}

void Communicator::check_message(MessageKind expected, MessageKind found, int from) const {
  const auto words = [](MessageKind m) {
    return fmt::format("{} bytes of {}", m.bytes, sonde::name(m.dtype));
  };
  if (found != expected)
    fail("{}: message {}: rank {} sends {}, rank {} expects {}", name_, messages_, from, words(found), rank_,
         words(expected));
}

// The length goes before.
void Communicator::send_bytes(std::string bytes, int to, int in_flight) {
  const auto size = static_cast<std::int64_t>(bytes.size());
  send_one(&size, 1, DType::i64, to, 2 * in_flight);
  const Message message(*this, "send", to);
  count_traffic(axis_, size, 0);
  do_send(std::move(bytes), DType::u8, to, 2 * in_flight);
}

std::string Communicator::receive_bytes(int from) {
  std::int64_t size = 0;
  receive_one(&size, 1, DType::i64, from);
  std::string bytes(static_cast<std::size_t>(size), '\0');
  receive_one(bytes.data(), size, DType::u8, from);
  return bytes;
}

std::vector<std::string> Communicator::gather_bytes(const std::string& mine) {
  const Call call(*this, "gather_bytes", "");
  const PhaseScope waiting(Phase::idle);  // the end of a run: for the slowest rank
  std::vector<std::string> all = do_gather_bytes(mine);
  std::int64_t received = -static_cast<std::int64_t>(mine.size());
  for (const std::string& one : all) received += static_cast<std::int64_t>(one.size());
  count_traffic(axis_, (size_ - 1) * static_cast<std::int64_t>(mine.size()), received);
  return all;
}

void Communicator::barrier() {
  const Call call(*this, "barrier", "");
  const PhaseScope waiting(Phase::idle);
  do_barrier();
}

std::unique_ptr<Communicator> Communicator::split(int colour, int key, const std::string& group) {
  const Call call(*this, "split", group);
  auto part = do_split(colour, key, name_ + "." + group);
  part->check_contracts(checking_);
  return part;
}

std::unique_ptr<Tickets> Communicator::make_tickets() {
  const Call call(*this, "make_tickets", "");
  return do_make_tickets();
}

}  // namespace sonde
