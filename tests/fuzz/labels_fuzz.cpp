// Labels, groups and splits: the lines of the input are a column's values.
#include "models/probe/labels.h"

#include "models/probe/split.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sonde;
  std::vector<std::string> values(1);
  for (const char c : fuzz::Input(data, size).bytes) {
    if (c == '\n')
      values.emplace_back();
    else
      values.back().push_back(c);
  }
  fuzz::refuse_or_read([&] {
    const Labels labels = encode_labels(values, "label");
    for (const std::int32_t label : labels.of_document)
      if (label < 0 || static_cast<std::size_t>(label) >= labels.classes.size()) __builtin_trap();
  });
  fuzz::refuse_or_read([&] { numeric_labels(values, "label"); });
  fuzz::refuse_or_read([&] { split_by_column(values, "split"); });
  fuzz::refuse_or_read([&] { split_by_groups(values, 0.4, 42); });
  return 0;
}
