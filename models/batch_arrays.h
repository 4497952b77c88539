// The flat arrays of a planned batch.
#pragma once

#include <cstdint>
#include <vector>

#include "models/extraction.h"

namespace sonde {

struct BatchArrays {
  std::vector<std::int32_t> ids, positions, starts, selected;
  std::vector<Stretch> stretches;
  std::vector<std::int64_t> row_document;  // of the selected tokens
  std::vector<std::int32_t> row_position, row_token;

  // Those of batch b of the plan; what was here before is gone.
  void fill(const ExtractionPlan& plan, const Inputs& inputs, const ExtractionOptions& options,
            std::int64_t b);
  Batch batch() const { return {ids, positions, Documents{starts}, selected, stretches}; }
  RowMetadata rows() const { return {row_document, row_position, row_token}; }
};

// Of a document's chosen tokens, those that a sequence of its tokens [begin, end) records.
std::vector<std::int32_t> recorded_tokens(const std::vector<std::int32_t>& chosen, std::int64_t begin,
                                          std::int64_t end, std::int64_t skip_first);

}  // namespace sonde
