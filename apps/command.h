// One subcommand a file: options, wiring, report; no maths. The table of subcommands is in main.cpp.
#pragma once

#include <boost/program_options.hpp>
#include <string>
#include <vector>

#include "distributed/communicator.h"

namespace sonde {

namespace po = boost::program_options;
using Arguments = std::vector<std::string>;  // what follows the subcommand

// The outside of a subcommand: usage line, what it does, examples (one command a line, "# comment" allowed).
struct Help {
  std::string usage;
  std::string summary;
  std::string examples;
};

// Parses `arguments` (positional names in order; the last may repeat if `repeat_last`). Prints help and
// returns false for --help. Unknown options, missing values and trailing garbage in numbers are UsageErrors.
bool parse_options(const Arguments& arguments, const Help& help, const po::options_description& options,
                   const std::vector<std::string>& positional, po::variables_map& values,
                   bool repeat_last = false);

bool parse_yes_no(const po::variables_map& values, const std::string& option, bool otherwise);

int run_describe(const Arguments& arguments);
int run_hooks(const Arguments& arguments);
int run_tokenize(const Arguments& arguments);
int run_extract(const Arguments& arguments, Communicator& world);
int run_generate(const Arguments& arguments, Communicator& world);
int run_score(const Arguments& arguments, Communicator& world);
int run_probe(const Arguments& arguments, Communicator& world);
int run_depth(const Arguments& arguments);
int run_store(const Arguments& arguments);
int run_bench(const Arguments& arguments, Communicator& world);
int run_devices(const Arguments& arguments);
int run_plan(const Arguments& arguments);
int run_scale_study(const Arguments& arguments);

}  // namespace sonde
