#include "apps/command.h"

#include <cstdio>
#include <sstream>

#include "runtime/error.h"

namespace sonde {

bool parse_options(const Arguments& arguments, const Help& help, const po::options_description& options,
                   const std::vector<std::string>& positional, po::variables_map& values, bool repeat_last) {
  po::options_description all = options;
  all.add_options()("help,h", "print this help");
  po::options_description with_positional = all;
  po::positional_options_description places;
  for (std::size_t i = 0; i < positional.size(); ++i) {
    const bool repeated = repeat_last && i + 1 == positional.size();
    places.add(positional[i].c_str(), repeated ? -1 : 1);
    if (repeated)
      with_positional.add_options()(positional[i].c_str(), po::value<std::vector<std::string>>());
    else
      with_positional.add_options()(positional[i].c_str(), po::value<std::string>());
  }

  for (const std::string& argument : arguments) {
    if (argument != "--help" && argument != "-h") continue;
    std::ostringstream text;
    text << "usage: sonde " << help.usage << "\n\n"
         << help.summary << "\n\n"
         << all << "\nExamples:\n"
         << help.examples;
    std::puts(text.str().c_str());
    return false;
  }

  try {
    // Long options only, never abbreviated, so that `--tokens -1` is a value.
    constexpr int style = po::command_line_style::allow_long | po::command_line_style::long_allow_adjacent |
                          po::command_line_style::long_allow_next;
    po::store(
        po::command_line_parser(arguments).options(with_positional).positional(places).style(style).run(),
        values);
    po::notify(values);
  } catch (const po::error& error) {
    throw UsageError(error.what(), fmt::format("usage: sonde {}; --help shows examples", help.usage));
  }
  for (const std::string& name : positional)
    if (!values.count(name) && !(repeat_last && name == positional.back()))
      throw UsageError(fmt::format("{} is missing", name),
                       fmt::format("usage: sonde {}; --help shows examples", help.usage));
  return true;
}

bool parse_yes_no(const po::variables_map& values, const std::string& option, bool otherwise) {
  if (!values.count(option)) return otherwise;
  const auto& value = values[option].as<std::string>();
  if (value == "yes") return true;
  if (value == "no") return false;
  throw UsageError(fmt::format("--{}: found '{}', expected yes or no", option, value));
}

}  // namespace sonde
