// Neighbouring stages of a pipeline whose devices hand each other the residual stream, without the hosts.
// Each pair has a group of its own: what one pair does never waits for another's.
#pragma once

#include <memory>
#include <string>

#include "distributed/communicator.h"
#include "kernels/backend.h"

namespace sonde {

struct StageDevices {
  std::unique_ptr<RankLink> link_before, link_next;  // of the pairs
  // With the stage before as rank 0, with the next one as rank 1. Null: there is none, or the stream goes
  // through the hosts: on all stages, where one pair cannot.
  std::unique_ptr<DeviceRanks> before, next;
  std::string how = {};  // the stream goes, in words

  static StageDevices join(Communicator& stages, Backend& backend);  // collective
};

}  // namespace sonde
