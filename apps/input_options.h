// What extract and plan ask for alike: documents, and what is recorded of them.
#pragma once

#include <filesystem>
#include <string>

#include "apps/command.h"
#include "models/extraction.h"

namespace sonde {

void add_input_options(po::options_description& options);      // --texts, --ids, --column, --chat, ...
void add_recording_options(po::options_description& options);  // --sites, --store, --context, ...

std::int64_t at_least(const po::variables_map& values, const std::string& option, std::int64_t least);
ExtractionOptions read_recording_options(const po::variables_map& values, const ModelSpec& spec,
                                         const std::string& selector);
// Documents and, for texts, the fingerprint of the tokenizer that made them.
Inputs read_inputs(const po::variables_map& values, const std::filesystem::path& model, const ModelSpec& spec,
                   const TokenSelector& selector, std::string& tokenizer_fingerprint);

}  // namespace sonde
