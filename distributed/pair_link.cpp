#include "distributed/pair_link.h"

#include <vector>

#include "runtime/error.h"

namespace sonde {
namespace {

class PairLink : public RankLink {
 public:
  PairLink(RankLink& group, int lower) : group_(group), lower_(lower) {
    sonde_check(rank() == 0 || rank() == 1, "rank {} of {} in a pair with {} and {}", group.rank(),
                group.size(), lower, lower + 1);
  }
  int rank() const override { return group_.rank() - lower_; }
  int size() const override { return 2; }
  std::string name() const override { return group_.name(); }

  void exchange(std::span<const Send> sends, std::span<const Receive> receives) override {
    std::vector<Send> out(sends.begin(), sends.end());
    std::vector<Receive> in(receives.begin(), receives.end());
    for (Send& s : out) s.to += lower_;
    for (Receive& r : in) r.from += lower_;
    group_.exchange(out, in);
  }

  void device_calls(std::int64_t) override {}  // the group's other ranks make others
  void device_waits(const char* call, int peer, std::int64_t number) override {
    group_.device_waits(call, peer < 0 ? 1 - rank() + lower_ : peer + lower_, number);
  }
  void count(std::int64_t sent, std::int64_t received) override { group_.count(sent, received); }
  double patience() const override { return group_.patience(); }
  void end_run(const std::string& why, const std::function<void()>& last) override {
    group_.end_run(why, last);
  }

 private:
  RankLink& group_;
  const int lower_;
};

}  // namespace

std::unique_ptr<RankLink> make_pair_link(RankLink& group, int lower) {
  return std::make_unique<PairLink>(group, lower);
}

}  // namespace sonde
