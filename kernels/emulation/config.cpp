#include "kernels/emulation/config.h"

#include <charconv>
#include <cstdlib>
#include <string>

#include "runtime/error.h"

namespace sonde::emulation {
namespace {

constexpr std::string_view kVariable = "SONDE_EMULATION";

template <class T>
T parse_number(std::string_view key, std::string_view value, T least, T most) {
  T number{};
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc{} || end != value.data() + value.size() || !(number >= least && number <= most))
    throw UsageError(fmt::format("{}: {}: found '{}', expected a number from {} to {}", kVariable, key, value,
                                 least, most));
  return number;
}

template <class T>
struct Choice {
  std::string_view name;
  T value;
};

template <class T, std::size_t n>
T parse_choice(std::string_view key, std::string_view value, const Choice<T> (&choices)[n]) {
  std::string names;
  for (const auto& choice : choices) {
    if (choice.name == value) return choice.value;
    names += names.empty() ? "" : ", ";
    names += choice.name;
  }
  throw UsageError(fmt::format("{}: {}: found '{}', expected one of {}", kVariable, key, value, names));
}

constexpr Choice<bool> kBool[] = {{"yes", true}, {"no", false}};
constexpr Choice<Order> kOrder[] = {
    {"forward", Order::forward}, {"reverse", Order::reverse}, {"random", Order::random}};
constexpr Choice<Streams> kStreams[] = {
    {"lazy", Streams::lazy}, {"random", Streams::random}, {"eager", Streams::eager}};
constexpr Choice<int> kCompute[] = {{"80", 80}, {"90", 90}};

void set(Config& c, std::string_view key, std::string_view value) {
  if (key == "order") {
    c.order = parse_choice(key, value, kOrder);
  } else if (key == "seed") {
    c.seed = parse_number<std::uint64_t>(key, value, 0, ~std::uint64_t{0});
  } else if (key == "preempt") {
    c.preempt = parse_number<double>(key, value, 0, 1);
  } else if (key == "streams") {
    c.streams = parse_choice(key, value, kStreams);
  } else if (key == "poison") {
    c.poison = parse_choice(key, value, kBool);
  } else if (key == "protect") {
    c.protect = parse_choice(key, value, kBool);
  } else if (key == "strict") {
    c.strict = parse_choice(key, value, kBool);
  } else if (key == "trace") {
    c.trace = parse_choice(key, value, kBool);
  } else if (key == "compute") {
    c.compute = parse_choice(key, value, kCompute);
  } else if (key == "devices") {
    c.devices = parse_number<int>(key, value, 0, 64);
  } else if (key == "driver") {
    c.driver = parse_number<int>(key, value, 0, 99990);
  } else if (key == "network") {
    c.network = parse_number<std::int64_t>(key, value, 0, std::int64_t{1} << 40);
  } else if (key == "memory") {
    c.memory = parse_number<std::int64_t>(key, value, 1 << 16, std::int64_t{1} << 40);
  } else {
    throw UsageError(fmt::format("{}: unknown key '{}'", kVariable, key),
                     "keys are order, seed, preempt, streams, poison, protect, strict, trace, compute, "
                     "devices, driver, network, memory");
  }
}

}  // namespace

Config parse_config(std::string_view text) {
  Config c;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view entry = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    const auto equals = entry.find('=');
    if (equals == std::string_view::npos)
      throw UsageError(fmt::format("{}: found '{}', expected key=value", kVariable, entry));
    set(c, entry.substr(0, equals), entry.substr(equals + 1));
  }
  return c;
}

Config& config() {
  static Config settings = [] {
    const char* text = std::getenv("SONDE_EMULATION");
    return parse_config(text ? text : "");
  }();
  return settings;
}

}  // namespace sonde::emulation
