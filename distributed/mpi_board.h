// The watchdog: every rank keeps a line on a board that all can read without its help (MPI one-sided), and a
// thread of each rank looks at its neighbour's. A rank that shows no sign of life ends the run, with a
// message that names it and the call that the others wait in.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace sonde {

class Board {
 public:
  // Over all ranks; collective. `names` are "rank 2 (node7, process 4711)". one_node: no other rank needs our
  // help for its one-sided calls.
  Board(int rank, int ranks, std::vector<std::string> names, bool one_node);
  ~Board();  // collective

  int add_group(std::string name, std::vector<int> members);  // its number; splits are the same on all ranks
  // peer: of a message, the rank of the run it goes to or comes from; -1 of a collective.
  void enter(int group, const char* call, std::int64_t number, int peer);
  void leave();
  // The same of a device: calls are handed to it ahead of time, and it waits in them while the host may be
  // anywhere. null: it goes on.
  void device_calls(int group, std::int64_t count);
  void device_waits(int group, const char* call, std::int64_t number, int peer);
  double patience() const { return least_silence_; }
  void beat();       // from the second on, silence is measured against what went before
  void long_task();  // what follows may take long

 private:
  static constexpr int kGroups = 32;
  // One rank's line; only its owner writes it.
  struct Line {
    std::int64_t beats, waiting_group, call, allowed_ms, left;  // waiting_group: -1 while it computes
    std::int64_t pulse;           // of its watchdog's thread, whatever it waits in
    std::int64_t peer, message;   // -1 in a collective; number of the message
    std::int64_t calls[kGroups];  // number of the last call entered, by group
    bool computes() const { return !left && waiting_group < 0; }
    std::int64_t number() const { return peer >= 0 ? message : calls[waiting_group]; }
  };
  static_assert(sizeof(std::atomic<std::int64_t>) == sizeof(std::int64_t));
  struct Group {
    std::string name;
    std::vector<int> members;
  };
  struct Window;  // MPI's

  void set(std::int64_t& field, std::int64_t value) const;
  bool read(int rank, Line& line) const;  // false: it did not answer
  void run();
  void watch_neighbour(double now);
  void watch_own_call(double now);
  Group group(std::int64_t number) const;
  std::vector<int> waits_for(int rank, const Line& line) const;
  std::string describe_call(const Line& line) const;
  std::string who_waits(int culprit) const;
  [[noreturn]] void end_run(const std::string& message) const;

  const int rank_, ranks_;
  const std::vector<std::string> names_;
  const bool one_node_;
  double least_silence_;
  std::unique_ptr<Window> window_;
  Line* mine_ = nullptr;
  std::int64_t last_beat_ms_ = -1, longest_ms_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable stopping_;
  bool stop_ = false;
  std::vector<Group> groups_;
  std::atomic<std::int64_t> entered_ms_ = -1;  // of the call we are in
  Line seen_{};                                // the neighbour's, as it last changed
  double seen_at_ = -1, pulse_at_ = -1;
  std::vector<std::int64_t> stuck_;  // when we looked last: ranks that wait for each other, and in which call
  std::thread thread_;
};

}  // namespace sonde
