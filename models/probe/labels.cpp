#include "models/probe/labels.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <optional>

#include "runtime/error.h"

namespace sonde {
namespace {

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return {};
  return value;
}

void check_present(std::span<const std::string> values, const std::string& column) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i].empty())
      fail_hint("every document needs a label",
                "label column '{}', row {} (from 0): found nothing, expected a label", column, i);
}

}  // namespace

Labels encode_classes(std::span<const std::string> values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::vector<double> numbers;
  for (const std::string& value : values)
    if (const auto parsed = number(value)) numbers.push_back(*parsed);
  const bool numeric = numbers.size() == values.size();  // then 1 and 1.0 are one class
  const auto less = [&](std::size_t a, std::size_t b) {
    return numeric ? numbers[a] < numbers[b] : values[a] < values[b];
  };
  std::stable_sort(order.begin(), order.end(), less);
  Labels labels;
  labels.of_document.resize(values.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || less(order[i - 1], order[i])) labels.classes.push_back(values[order[i]]);
    labels.of_document[order[i]] = static_cast<std::int32_t>(labels.classes.size()) - 1;
  }
  return labels;
}

Labels encode_labels(std::span<const std::string> values, const std::string& column) {
  check_present(values, column);
  Labels labels = encode_classes(values);
  labels.column = column;
  if (labels.classes.size() < 2)
    fail_hint("a probe tells classes apart: name another column with --column",
              "label column '{}': found a single class ('{}'), expected at least two", column,
              labels.classes.empty() ? "" : labels.classes[0]);
  return labels;
}

Labels numeric_labels(std::span<const std::string> values, const std::string& column) {
  check_present(values, column);
  Labels labels;
  labels.column = column;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto value = number(values[i]);
    if (!value)
      fail_hint("--kind ridge-regression needs numbers; other kinds take any text",
                "label column '{}', row {} (from 0): found '{}', expected a finite number", column, i,
                values[i]);
    labels.values.push_back(*value);
  }
  return labels;
}

}  // namespace sonde
