// What the product captured against what the oracle computed.
#pragma once

#include "tests/models/activations.h"
#include "tests/oracle/decoder_forward.h"

namespace sonde::test {

inline double norm_of(const oracle::Array& a) {
  double squares = 0;
  for (double x : a.values) squares += std::isfinite(x) ? x * x : 0;
  return std::sqrt(squares);
}

inline void expect_close(const Activations& found, const oracle::Activations& expected,
                         const std::string& what, double limit = 5e-6) {
  for (const auto& [site, captured] : found) {
    ASSERT_TRUE(expected.count(site)) << site;
    const oracle::Array& array = expected.at(site);
    const bool scores = site.ends_with("hook_attn_scores") || site.ends_with("hook_pattern");
    const auto values = scores ? rows_first(array.values, array.shape[0], array.shape[1]) : array.values;
    double error = relative_error(captured.values, values);
    // The scores of one token are a few dot products, any of them near zero: measured against |q| |k| /
    // sqrt(E).
    if (site.ends_with("hook_attn_scores") && array.shape[1] == 1) {
      const std::string attn = site.substr(0, site.rfind('.') + 1);
      const bool rotates = expected.count(attn + "hook_rot_q") > 0;
      const oracle::Array& q = expected.at(attn + (rotates ? "hook_rot_q" : "hook_q"));
      const oracle::Array& k = expected.at(attn + (rotates ? "hook_rot_k" : "hook_k"));
      error *= norm_of(array) * std::sqrt(q.shape.back()) / (norm_of(q) * norm_of(k));
    }
    EXPECT_LE(error, limit) << what << ", " << site;
  }
}

}  // namespace sonde::test
