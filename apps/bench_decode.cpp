#include "apps/bench_decode.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "kernels/cpu/peak.h"
#include "models/generator.h"
#include "runtime/cpu.h"
#include "runtime/error.h"

namespace sonde {
namespace {

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace

Json bench_decode(const Model& model, Backend& backend, std::int64_t tokens, std::int64_t documents,
                  std::int64_t steps, int repeats) {
  if (tokens + steps > model.spec.context)
    throw UsageError(fmt::format("--tokens and --decode: found {} and {}, expected at most {} together",
                                 tokens, steps, model.spec.context));
  std::mt19937 generator(1);
  std::vector<std::vector<std::int32_t>> prompts(static_cast<std::size_t>(documents));
  for (auto& prompt : prompts)
    for (std::int64_t t = 0; t < tokens; ++t)
      prompt.push_back(static_cast<std::int32_t>(generator() % static_cast<std::uint64_t>(model.spec.vocab)));
  GenerateOptions options;
  options.sampling.greedy = true;
  options.max_new = steps;
  options.sequences = documents;

  std::vector<double> rates, bandwidths;  // steps a second, GB/s
  for (int i = 0; i < repeats; ++i) {
    bandwidths.push_back(measure_read_bandwidth_gbs(thread_count(), 0.3));
    using Clock = std::chrono::steady_clock;
    Clock::time_point first, last;
    std::size_t begun = 0;
    Generator(model, backend, options, {})
        .run(
            prompts,
            [&](std::size_t, std::span<const std::int32_t> generated) {
              last = Clock::now();
              if (generated.size() == 1 && ++begun == prompts.size()) first = last;
              return false;
            },
            [](std::size_t, const Generated&) {});
    rates.push_back(static_cast<double>(steps - 1) / std::chrono::duration<double>(last - first).count());
  }
  const double rate = median(rates), bandwidth = median(bandwidths);
  const auto bytes = static_cast<double>(model.weight_bytes());
  const ModelSpec& s = model.spec;
  return {{"model", model.name},
          {"tokens_per_s", rate * static_cast<double>(documents)},
          {"steps_per_s", rate},
          {"weight_bytes", model.weight_bytes()},
          {"cache_bytes", Generator::cache_bytes(s, documents, tokens + steps)},
          {"read_bandwidth_gbs", bandwidth},
          {"weight_read_fraction", rate * bytes / (bandwidth * 1e9)},
          // with the keys and values of half the new tokens on average
          {"read_fraction",
           rate * (bytes + static_cast<double>(Generator::cache_bytes(s, documents, tokens + steps / 2))) /
               (bandwidth * 1e9)},
          {"threads", thread_count()},
          {"tokens", tokens},
          {"documents", documents},
          {"decode", steps}};
}

void print_decode(const Json& json) {
  fmt::print("{}: {:.1f} tokens/s, {} at once behind {} tokens ({}, {} threads)\n",
             json["model"].get<std::string>(), json["tokens_per_s"].get<double>(),
             json["documents"].get<std::int64_t>(), json["tokens"].get<std::int64_t>(),
             json["path"].get<std::string>(), json["threads"].get<int>());
  fmt::print(
      "weights read once a step: {:.1f} % of the {:.1f} GB/s read bandwidth; with keys and values {:.1f} %\n",
      100 * json["weight_read_fraction"].get<double>(), json["read_bandwidth_gbs"].get<double>(),
      100 * json["read_fraction"].get<double>());
}

}  // namespace sonde
