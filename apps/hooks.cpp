// sonde hooks: the points of a model, in execution order.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apps/command.h"
#include "io/json.h"
#include "models/family.h"

namespace sonde {
namespace {

const Help kHelp = {
    "hooks MODEL [--json]",
    "Lists the points of MODEL that can be captured and edited: name, shape of a token's row, what it is.",
    "  sonde hooks model/\n  sonde hooks model.gguf --json\n"};

std::string shape_letters(RowShape shape) {
  constexpr const char* kLetters[] = {"1", "D", "H E", "K E", "H S", "F", "X", "k", "V"};
  return kLetters[static_cast<int>(shape)];
}

}  // namespace

int run_hooks(const Arguments& arguments) {
  po::options_description options("Options");
  options.add_options()("json", "print JSON")(
      "ignore-config-key", po::value<std::vector<std::string>>()->composing(), "as for extract");
  po::variables_map values;
  if (!parse_options(arguments, kHelp, options, {"MODEL"}, values)) return 0;
  IgnoredKeys ignored;
  if (values.count("ignore-config-key"))
    for (const std::string& key : values["ignore-config-key"].as<std::vector<std::string>>())
      ignored.allowed.insert(key);

  const ModelSpec spec = read_spec(ModelFiles::open(values["MODEL"].as<std::string>()), ignored);
  const HookSizes sizes = spec.hook_sizes();
  Json json = Json::array();
  if (!values.count("json"))
    fmt::print(
        "{} layers; l counts from 0 to {}. Rows are tokens; S: keys of the longest document.\n\n{:<34} {:<6} "
        "{:<14} {:<12} {}\n",
        spec.n_layers, spec.n_layers - 1, "point", "row", "sizes", "cost", "meaning");
  for (Hook hook : spec.hooks()) {
    const HookInfo& row = info(hook);
    constexpr const char* kCosts[] = {"free", "unfused", "materialises"};
    const char* cost = kCosts[static_cast<int>(row.cost)];
    std::vector<std::string> dims;
    for (std::int64_t n : row_shape(hook, sizes)) dims.push_back(n == 0 ? "S" : std::to_string(n));
    if (values.count("json"))
      json.push_back({{"name", row.name},
                      {"per_layer", per_layer(hook)},
                      {"row", shape_letters(row.shape)},
                      {"sizes", dims},
                      {"cost", cost},
                      {"meaning", row.meaning},
                      {"alias", row.alias}});
    else
      fmt::print("{:<34} {:<6} {:<14} {:<12} {}\n", row.name, shape_letters(row.shape),
                 fmt::format("{}", fmt::join(dims, " x ")), cost, row.meaning);
  }
  if (values.count("json")) fmt::print("{}\n", json.dump(2));
  return 0;
}

}  // namespace sonde
