// How a program of ranks begins and ends: alone it checks everything and says "ok" on rank 0; with a CASE it
// fails in that way.
#pragma once

#include <fmt/format.h>

#include <exception>
#include <functional>
#include <memory>
#include <string_view>

#include "distributed/world.h"

namespace sonde::test {

inline int on_ranks(int argc, char** argv, const std::function<void(Communicator&)>& check_all,
                    const std::function<void(Communicator&, std::string_view)>& fail_as_asked) {
  std::unique_ptr<Communicator> world;
  try {
    world = join_world();
    if (argc > 1) return fail_as_asked(*world, argv[1]), 0;
    check_all(*world);
    world->barrier();
    if (world->rank() == 0) fmt::print("ok on {} ranks\n", world->size());
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "[rank {}] {}\n", world ? world->rank() : -1, error.what());
    if (world) world->abort(1);
    return 1;
  }
}

}  // namespace sonde::test
