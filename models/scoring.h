// Log-probabilities of documents: of each token given those before it. No T x V is kept: logits exist for a
// few hundred tokens at a time.
#pragma once

#include <functional>
#include <vector>

#include "models/extraction.h"

namespace sonde {

// A document's natural log-probabilities, of its second token, its third, ... In a document that ran in
// pieces (--overflow split) each piece's first token has none.
using OnScored = std::function<void(std::int64_t document, const std::vector<double>& log_probs)>;

// Documents come in order, from first_document on. The plan's tokens are `all`.
void score_documents(const Model& model, Backend& backend, const Inputs& inputs,
                     const ExtractionOptions& options, const ExtractionPlan& plan, std::vector<Edit> edits,
                     std::int64_t first_document, const OnScored& on_scored,
                     const std::function<void(const Progress&)>& report);

// Minus the mean; NaN for a document of one token.
double mean_loss(const std::vector<double>& log_probs);

}  // namespace sonde
