// sonde bench --decode: tokens a second while generating.
#pragma once

#include <cstdint>

#include "io/json.h"
#include "models/model.h"

namespace sonde {

// Medians of `repeats` runs in which `documents` prompts of `tokens` random tokens get `steps` new ones; the
// time in which the prompts are read does not count.
Json bench_decode(const Model& model, Backend& backend, std::int64_t tokens, std::int64_t documents,
                  std::int64_t steps, int repeats);
void print_decode(const Json& json);

}  // namespace sonde
