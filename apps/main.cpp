// sonde SUBCOMMAND: finds the subcommand and turns exceptions into one error line and an exit code. Of
// several ranks one that fails ends all.
#include <malloc.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>
#include <string_view>
#include <thread>

#include "apps/command.h"
#include "distributed/world.h"
#include "io/file_util.h"
#include "runtime/error.h"

namespace {

using namespace sonde;

struct Subcommand {
  std::string_view name;
  int (*run)(const Arguments&);                          // on one rank
  int (*run_on_ranks)(const Arguments&, Communicator&);  // on any number of them
  std::string_view summary;
};

constexpr Subcommand kSubcommands[] = {
    {"describe", run_describe, nullptr,
     "what a model is: architecture, tensors, memory, tokenizer, hook points"},
    {"hooks", run_hooks, nullptr, "the points of a model that can be captured and edited"},
    {"tokenize", run_tokenize, nullptr, "text to token ids and back"},
    {"extract", nullptr, run_extract, "run texts through a model and record activations"},
    {"generate", nullptr, run_generate, "continue prompts"},
    {"score", nullptr, run_score, "log-probabilities, loss and perplexity of texts; choices ranked"},
    {"probe", nullptr, run_probe, "train probes on a store, or apply them"},
    {"depth", run_depth, nullptr, "at which layer can a probe read a concept: extract and probe in one"},
    {"store", run_store, nullptr, "check, show, compare and merge activation stores"},
    {"plan", run_plan, nullptr, "what a run on a cluster would take: memory, mesh, time, bytes"},
    {"scale-study", run_scale_study, nullptr,
     "speed-up and time by phase over numbers of ranks, beside the plan"},
    {"bench", nullptr, run_bench, "tokens per second as a fraction of what the machine can do"},
    {"devices", run_devices, nullptr, "what this machine computes with"},
};

void print_usage(std::FILE* out) {
  fmt::print(out, "sonde: a probe into large language models\n\nusage: sonde SUBCOMMAND [options]\n\n");
  for (const Subcommand& command : kSubcommands)
    fmt::print(out, "  {:<12} {}\n", command.name, command.summary);
  fmt::print(out, "\n`sonde SUBCOMMAND --help` shows its options and examples.\n");
}

// A thread that waits at a barrier spins first, by default for milliseconds: where other programs want the
// cores, that is time taken from the thread waited for. OpenMP reads how long before main runs, so the
// program starts itself again.
void spin_shortly(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error || setenv("GOMP_SPINCOUNT", "10000", 1) != 0) return;
  execv(self.c_str(), argv);  // if that fails, waiting is slower and nothing else
}

// Large blocks are mapped and go back to the system when they are freed. By default malloc soon takes even
// them from its heap, where small blocks come to lie between them: a run then holds up to twice what it
// needs.
void map_large_blocks() { mallopt(M_MMAP_THRESHOLD, 1 << 20); }

int report(const Communicator* world, const char* kind, const Error& error, int code) {
  // One line, whatever a hostile file put into the names that a message quotes.
  constexpr std::size_t kLongest = 4000;
  std::string line;
  if (world && world->size() > 1) line += fmt::format("[rank {}] ", world->rank());
  line += fmt::format("sonde: {}: {}", kind, printable(error.what(), kLongest));
  if (!error.hint().empty()) line += fmt::format(". HINT: {}", printable(error.hint(), kLongest));
  std::fputs((line + "\n").c_str(), stderr);  // in one piece: other ranks write, too
  return code;
}

int run_main(int argc, char** argv, Communicator& world) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "--help" || name == "-h" || name == "help") return print_usage(stdout), 0;
  if (name == "--version") return fmt::print("sonde {}\n", SONDE_VERSION), 0;
  for (const Subcommand& command : kSubcommands) {
    if (command.name != name) continue;
    if (command.run_on_ranks) return command.run_on_ranks({argv + 2, argv + argc}, world);
    if (world.size() > 1)
      throw UsageError(fmt::format("sonde {}: found {} ranks, expected one", name, world.size()),
                       "start it without mpiexec");
    return command.run({argv + 2, argv + argc});
  }
  if (name.empty()) return print_usage(stderr), 2;
  throw UsageError(fmt::format("unknown subcommand '{}'", name), "`sonde --help` lists them");
}

// Runs `body`; what it throws becomes a line and an exit code.
template <class Body>
int catch_errors(const std::unique_ptr<Communicator>& world, const Body& body) {
  try {
    return body();
  } catch (const UsageError& error) {
    // All ranks have the same command line: the first one speaks and ends all.
    if (world && world->rank() > 0) std::this_thread::sleep_for(std::chrono::seconds(2));
    return report(world.get(), "usage error", error, 2);
  } catch (const Error& error) {
    return report(world.get(), "error", error, 1);
  } catch (const std::bad_alloc&) {
    return report(world.get(), "error", Error("out of memory"), 1);
  } catch (const std::exception& error) {
    return report(world.get(), "error", Error(error.what()), 1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  spin_shortly(argv);
  map_large_blocks();
  std::unique_ptr<Communicator> world;
  bool failed = true;
  const int code = catch_errors(world, [&] {
    world = join_world();
    if (world->rank() > 0 && !std::freopen("/dev/null", "w", stdout))
      fail("/dev/null: cannot open for writing");
    const int result = run_main(argc, argv, *world);
    failed = false;
    return result;
  });
  if (failed && world) world->abort(code);
  return code;
}
