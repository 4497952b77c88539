#include "models/batch_arrays.h"

#include <algorithm>

namespace sonde {

std::vector<std::int32_t> recorded_tokens(const std::vector<std::int32_t>& chosen, std::int64_t begin,
                                          std::int64_t end, std::int64_t skip_first) {
  std::vector<std::int32_t> tokens;
  for (std::int32_t p : chosen)
    if (p >= std::max(begin, skip_first) && p < end) tokens.push_back(p);
  return tokens;
}

void BatchArrays::fill(const ExtractionPlan& plan, const Inputs& inputs, const ExtractionOptions& options,
                       std::int64_t b) {
  *this = {};
  starts.push_back(0);
  const auto sequence_of = [&](std::int64_t batch) {
    return plan.batch_sequence[static_cast<std::size_t>(batch)];
  };
  for (std::int64_t s = sequence_of(b); s < sequence_of(b + 1); ++s) {
    const Sequence& sequence = plan.sequences[static_cast<std::size_t>(s)];
    const std::int32_t* tokens =
        inputs.documents.tokens.data() + inputs.documents.starts[static_cast<std::size_t>(sequence.document)];
    const auto first = static_cast<std::int32_t>(ids.size());
    for (std::int64_t p = sequence.begin; p < sequence.end; ++p) {
      ids.push_back(tokens[p]);
      positions.push_back(static_cast<std::int32_t>(p - sequence.begin));
    }
    const auto chosen = inputs.select(options.tokens, sequence.document, sequence.document_length);
    for (std::int32_t p : recorded_tokens(chosen, sequence.begin, sequence.end, options.skip_first)) {
      selected.push_back(first + p - static_cast<std::int32_t>(sequence.begin));
      row_document.push_back(sequence.document);
      row_position.push_back(p);
      row_token.push_back(tokens[p]);
    }
    starts.push_back(static_cast<std::int32_t>(ids.size()));
    stretches.push_back({sequence.document, sequence.begin, sequence.document_length});
  }
}

}  // namespace sonde
