#include "distributed/mpi_board.h"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "runtime/error.h"

namespace sonde {
namespace {

constexpr double kLeastSilence = 20;        // seconds; SONDE_WATCHDOG_SECONDS asks for another
constexpr std::int64_t kLongTask = 600000;  // ms: loading a model, closing a store
constexpr int kPatience = 10;               // times the longest piece of work so far
constexpr double kAnswer = 5;               // seconds a line may take to arrive
constexpr std::array<const char*, 17> kCalls = {
    "nothing", "all_reduce",      "all_gather",      "reduce_scatter", "broadcast",       "all_to_all",
    "barrier", "split",           "gather_bytes",    "make_tickets",   "broadcast_bytes", "send",
    "receive", "NCCL all_reduce", "NCCL all_gather", "NCCL send",      "NCCL receive"};

std::int64_t call_code(const char* call) {
  for (std::size_t i = 1; i < kCalls.size(); ++i)
    if (std::strcmp(kCalls[i], call) == 0) return static_cast<std::int64_t>(i);
  return 0;
}

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

double least_silence() {
  const char* asked = std::getenv("SONDE_WATCHDOG_SECONDS");
  if (!asked) return kLeastSilence;
  char* end = nullptr;
  const double seconds = std::strtod(asked, &end);
  if (end == asked || *end != '\0' || !(seconds >= 0))
    throw UsageError(
        fmt::format("SONDE_WATCHDOG_SECONDS: found '{}', expected seconds, or 0 for none", asked));
  return seconds;
}

}  // namespace

struct Board::Window {
  MPI_Win win = MPI_WIN_NULL;
};

Board::Board(int rank, int ranks, std::vector<std::string> names, bool one_node)
    : rank_(rank),
      ranks_(ranks),
      names_(std::move(names)),
      one_node_(one_node),
      least_silence_(least_silence()),
      window_(std::make_unique<Window>()) {
  MPI_Win_allocate(sizeof(Line), 1, MPI_INFO_NULL, MPI_COMM_WORLD, &mine_, &window_->win);
  *mine_ = Line{};
  mine_->waiting_group = mine_->peer = -1;
  mine_->allowed_ms = kLongTask;
  MPI_Win_lock_all(MPI_MODE_NOCHECK, window_->win);
  MPI_Barrier(MPI_COMM_WORLD);
  thread_ = std::thread([this] { run(); });
}

Board::~Board() {
  set(mine_->left, 1);
  {
    const std::lock_guard guard(mutex_);
    stop_ = true;
  }
  stopping_.notify_all();
  thread_.join();
  MPI_Win_unlock_all(window_->win);
  MPI_Win_free(&window_->win);
}

int Board::add_group(std::string name, std::vector<int> members) {
  const std::lock_guard guard(mutex_);
  groups_.push_back({std::move(name), std::move(members)});
  return static_cast<int>(groups_.size()) - 1;
}

void Board::set(std::int64_t& field, std::int64_t value) const { std::atomic_ref(field).store(value); }

void Board::enter(int group, const char* call, std::int64_t number, int peer) {
  if (peer >= 0) set(mine_->message, number);
  if (peer < 0 && group < kGroups) set(mine_->calls[group], number);
  set(mine_->peer, peer);
  set(mine_->call, call_code(call));
  set(mine_->waiting_group, group);
  entered_ms_ = now_ms();
}

void Board::leave() {
  entered_ms_ = -1;
  set(mine_->waiting_group, -1);
}

void Board::device_calls(int group, std::int64_t count) {
  if (group < kGroups) set(mine_->calls[group], count);
}

// A call that the host is in comes first: it is no less alive.
void Board::device_waits(int group, const char* call, std::int64_t number, int peer) {
  const std::atomic_ref waiting(mine_->waiting_group);
  std::int64_t before = call != nullptr ? -1 : group;
  if (!waiting.compare_exchange_strong(before, call != nullptr ? group : -1)) return;
  if (peer >= 0) set(mine_->message, number);
  set(mine_->peer, peer);
  if (call != nullptr) set(mine_->call, call_code(call));
  entered_ms_ = call != nullptr ? now_ms() : -1;
}

void Board::beat() {
  const std::int64_t now = now_ms();
  if (last_beat_ms_ >= 0) longest_ms_ = std::max(longest_ms_, now - last_beat_ms_);
  // One piece of work must be behind us before its length says anything.
  if (last_beat_ms_ >= 0)
    set(mine_->allowed_ms,
        std::max(static_cast<std::int64_t>(1000 * least_silence_), kPatience * longest_ms_));
  last_beat_ms_ = now;
  set(mine_->beats, mine_->beats + 1);
}

void Board::long_task() {
  last_beat_ms_ = -1;
  set(mine_->allowed_ms, kLongTask);
}

bool Board::read(int rank, Line& line) const {
  MPI_Request request;
  MPI_Rget(&line, sizeof line, MPI_BYTE, rank, 0, sizeof line, MPI_BYTE, window_->win, &request);
  const std::int64_t start = now_ms();
  for (int done = 0; !done;) {
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    if (done) break;
    if (now_ms() - start > 1000 * kAnswer) return false;  // the request stays: this run is about to end
    usleep(1000);
  }
  return true;
}

void Board::run() {
  // Between nodes a one-sided call may need its target to look into MPI now and then: this thread does.
  const auto pause = std::chrono::milliseconds(one_node_ ? 250 : 2);
  std::int64_t next = now_ms() + 1000;
  std::unique_lock guard(mutex_);
  while (!stopping_.wait_for(guard, pause, [this] { return stop_; })) {
    guard.unlock();
    int flag = 0;
    if (!one_node_) MPI_Iprobe(MPI_ANY_SOURCE, 0, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
    if (least_silence_ > 0 && now_ms() >= next) {
      next = now_ms() + 1000;
      set(mine_->pulse, mine_->pulse + 1);
      const double now = static_cast<double>(now_ms()) * 1e-3;
      watch_neighbour(now);
      watch_own_call(now);
    }
    guard.lock();
  }
}

Board::Group Board::group(std::int64_t number) const {
  const std::lock_guard guard(mutex_);
  const auto at = static_cast<std::size_t>(number);
  return number >= 0 && number < kGroups && at < groups_.size() ? groups_[at] : Group{};
}

// Of a rank in a call, the ranks that must come before it ends; none where all have.
std::vector<int> Board::waits_for(int rank, const Line& line) const {
  std::vector<int> ranks;
  if (line.peer >= 0 && line.peer < ranks_) {
    Line other{};
    const bool meets = read(static_cast<int>(line.peer), other) && !other.left && other.peer == rank &&
                       other.waiting_group == line.waiting_group && other.call != line.call;
    if (!meets) ranks.push_back(static_cast<int>(line.peer));
    return ranks;
  }
  for (const int r : group(line.waiting_group).members) {
    Line other{};
    if (r != rank && read(r, other) && other.calls[line.waiting_group] < line.calls[line.waiting_group])
      ranks.push_back(r);
  }
  return ranks;
}

// "receive (message 3 of world.pipeline)"
std::string Board::describe_call(const Line& line) const {
  return fmt::format("{} ({} {} of {})", kCalls[static_cast<std::size_t>(line.call)],
                     line.peer >= 0 ? "message" : "call", line.number(), group(line.waiting_group).name);
}

// A rank that waits for `culprit` in a call.
std::string Board::who_waits(int culprit) const {
  Line theirs{};
  if (!read(culprit, theirs)) return " and does not answer";
  for (int r = 0; r < ranks_; ++r) {
    Line line{};
    if (r == culprit || !read(r, line) || line.waiting_group < 0 || line.waiting_group >= kGroups) continue;
    const bool waits = line.peer >= 0
                           ? line.peer == culprit
                           : theirs.calls[line.waiting_group] < line.calls[line.waiting_group] &&
                                 std::ranges::count(group(line.waiting_group).members, culprit) > 0;
    if (waits)
      return fmt::format("; {} waits for it in {}", names_[static_cast<std::size_t>(r)], describe_call(line));
  }
  return {};
}

void Board::watch_neighbour(double now) {
  const int neighbour = (rank_ + 1) % ranks_;
  Line line{};
  const bool answered = read(neighbour, line);
  if (seen_at_ < 0 || (answered && (line.left || line.pulse != seen_.pulse))) pulse_at_ = now;
  seen_.pulse = line.pulse;
  if (answered && (line.left || line.waiting_group >= 0 || std::memcmp(&line, &seen_, sizeof line) != 0 ||
                   seen_at_ < 0)) {
    seen_ = line;
    seen_at_ = now;
    // Of a rank in a call nothing is expected but that its process runs.
    if (const double still = now - pulse_at_; still > least_silence_ + kAnswer)
      end_run(fmt::format("{} hangs: its process does not run for {:.0f} s{}",
                          names_[static_cast<std::size_t>(neighbour)], still, who_waits(neighbour)));
    return;
  }
  const double silence = now - seen_at_;
  if (silence * 1000 <= static_cast<double>(seen_.allowed_ms)) return;
  end_run(fmt::format("{} hangs: no sign of life for {:.0f} s{}", names_[static_cast<std::size_t>(neighbour)],
                      silence, who_waits(neighbour)));
}

// A call that never ends although nobody computes: ranks wait for each other in different calls, or one has
// left. A rank may wait for one that waits for one that computes: that one's neighbour watches it.
void Board::watch_own_call(double now) {
  const std::int64_t entered = entered_ms_;
  const std::vector<std::int64_t> before = std::exchange(stuck_, {});
  if (entered < 0 || now * 1000 - static_cast<double>(entered) < 1000 * least_silence_) return;
  std::vector<int> reached = {rank_};
  std::vector<std::int64_t> stuck;
  std::string missing;  // of those that this rank waits for itself
  for (std::size_t i = 0; i < reached.size(); ++i) {
    const int r = reached[i];
    Line line{};
    if (!read(r, line)) return;
    if (line.computes() || line.waiting_group >= kGroups) return;
    for (const std::int64_t part : {std::int64_t{r}, line.left, line.waiting_group, line.call})
      stuck.push_back(part);
    if (line.left) continue;
    stuck.push_back(line.number());
    const std::vector<int> others = waits_for(r, line);
    if (others.empty()) return;  // it is about to end
    for (const int other : others) {
      if (std::ranges::find(reached, other) == reached.end()) reached.push_back(other);
      Line theirs{};
      if (r != rank_ || !read(other, theirs)) continue;
      missing += fmt::format(
          "{}{} ({})", missing.empty() ? "" : ", ", names_[static_cast<std::size_t>(other)],
          theirs.left ? "has left"
                      : fmt::format("waits in {}", kCalls[static_cast<std::size_t>(theirs.call)]));
    }
  }
  stuck_ = stuck;
  if (stuck != before || entered_ms_ != entered) return;  // two looks, since ranks are not read at one time
  Line mine{};
  read(rank_, mine);
  end_run(fmt::format("{} waits since {:.0f} s for {}", describe_call(mine),
                      now - static_cast<double>(entered) * 1e-3, missing));
}

void Board::end_run(const std::string& message) const {
  std::fputs(fmt::format("[rank {}] sonde: error: {}. HINT: SONDE_WATCHDOG_SECONDS sets the patience\n",
                         rank_, message)
                 .c_str(),
             stderr);
  std::fflush(stderr);
  MPI_Abort(MPI_COMM_WORLD, 1);
  std::_Exit(1);
}

}  // namespace sonde
