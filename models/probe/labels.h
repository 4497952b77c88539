// Labels of documents: text or numbers, turned into classes (or into numbers to regress on).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sonde {

// Classes sorted (by value where all are numbers, else by bytes); with two, the second is label 1, the
// positive one.
struct Labels {
  std::string column;
  std::vector<std::string> classes;
  std::vector<std::int32_t> of_document;  // index into classes
  std::vector<double> values;             // numbers to regress on; empty for classes
};

// `column` opens the messages. An empty value, or fewer than two classes, is an Error.
Labels encode_labels(std::span<const std::string> values, const std::string& column);
Labels numeric_labels(std::span<const std::string> values, const std::string& column);
// The classes alone, as they are: also used for groups.
Labels encode_classes(std::span<const std::string> values);

}  // namespace sonde
