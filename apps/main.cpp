// sonde SUBCOMMAND: finds the subcommand and turns exceptions into one error line and an exit code.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>
#include <string_view>

#include "apps/command.h"
#include "io/file_util.h"
#include "runtime/error.h"

namespace {

using namespace sonde;

struct Subcommand {
  std::string_view name;
  int (*run)(const Arguments&);
  std::string_view summary;
};

constexpr Subcommand kSubcommands[] = {
    {"describe", run_describe, "what a model is: architecture, tensors, memory, tokenizer, hook points"},
    {"hooks", run_hooks, "the points of a model that can be captured and edited"},
    {"tokenize", run_tokenize, "text to token ids and back"},
    {"extract", run_extract, "run texts through a model and record activations"},
    {"generate", run_generate, "continue prompts"},
    {"score", run_score, "log-probabilities, loss and perplexity of texts; choices ranked"},
    {"probe", run_probe, "train probes on a store, or apply them"},
    {"depth", run_depth, "at which layer can a probe read a concept: extract and probe in one"},
    {"store", run_store, "check, show, compare and merge activation stores"},
    {"bench", run_bench, "tokens per second as a fraction of what the machine can do"},
    {"devices", run_devices, "what this machine computes with"},
};

void print_usage(std::FILE* out) {
  fmt::print(out, "sonde: a probe into large language models\n\nusage: sonde SUBCOMMAND [options]\n\n");
  for (const Subcommand& command : kSubcommands)
    fmt::print(out, "  {:<10} {}\n", command.name, command.summary);
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

int report(const char* kind, const Error& error, int code) {
  // One line, whatever a hostile file put into the names that a message quotes.
  constexpr std::size_t kLongest = 4000;
  fmt::print(stderr, "sonde: {}: {}", kind, printable(error.what(), kLongest));
  if (!error.hint().empty()) fmt::print(stderr, ". HINT: {}", printable(error.hint(), kLongest));
  fmt::print(stderr, "\n");
  return code;
}

int run_main(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "--help" || name == "-h" || name == "help") return print_usage(stdout), 0;
  if (name == "--version") return fmt::print("sonde {}\n", SONDE_VERSION), 0;
  for (const Subcommand& command : kSubcommands)
    if (command.name == name) return command.run({argv + 2, argv + argc});
  if (name.empty()) return print_usage(stderr), 2;
  throw UsageError(fmt::format("unknown subcommand '{}'", name), "`sonde --help` lists them");
}

}  // namespace

int main(int argc, char** argv) {
  spin_shortly(argv);
  try {
    return run_main(argc, argv);
  } catch (const UsageError& error) {
    return report("usage error", error, 2);
  } catch (const Error& error) {
    return report("error", error, 1);
  } catch (const std::bad_alloc&) {
    return report("error", Error("out of memory"), 1);
  } catch (const std::exception& error) {
    return report("error", Error(error.what()), 1);
  }
}
