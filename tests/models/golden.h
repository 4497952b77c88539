// A golden folder: its documents, what every hook point holds for them in float64, and how near is near
// enough.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "io/json.h"
#include "io/safetensors.h"
#include "tests/models/activations.h"

namespace sonde::test {

inline std::vector<float> floats(const SafetensorsTensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.view.count()));
  std::memcpy(values.data(), tensor.view.data, values.size() * 4);
  return values;
}

// "blocks.2.ln1.hook_scale" -> "ln1.hook_scale", as golden.json lists its tolerances.
inline std::string without_layer(const std::string& site) {
  if (!site.starts_with("blocks.")) return site;
  return site.substr(site.find('.', 7) + 1);
}

struct Golden {
  explicit Golden(const std::filesystem::path& folder)
      : json(read_json(folder / "golden.json")), file(Safetensors::open(folder / "golden.safetensors")) {
    for (const Json& prompt : json["prompts"]) documents.push_back(prompt["ids"].get<Ids>());
  }

  // Every capture is in the golden and agrees; `complete`: nothing of the golden is left out.
  void compare(const std::vector<Activations>& found, Precision precision, const std::string& what,
               bool complete = true) const {
    ASSERT_EQ(found.size(), documents.size());
    std::size_t compared = 0;
    double worst = 0;
    for (std::size_t i = 0; i < documents.size(); ++i) {
      for (const auto& [site, captured] : found[i]) {
        const SafetensorsTensor* tensor = file->find("seq" + std::to_string(i) + "/" + site);
        ASSERT_NE(tensor, nullptr) << site << " is not in the golden";
        const Tensor& view = tensor->view;
        std::vector<float> expected = floats(*tensor);
        const bool scores = site.ends_with("hook_attn_scores") || site.ends_with("hook_pattern");
        if (scores) {
          expected = rows_first(expected, view.dim(0), view.dim(1));
          ASSERT_EQ(captured.row_shape, (std::vector<std::int64_t>{view.dim(0), view.dim(2)})) << site;
        } else {
          ASSERT_EQ(captured.rows, view.dim(0)) << site;
          ASSERT_EQ(captured.row_shape.back(), view.dim(view.rank - 1)) << site;
        }
        const double limit = precision == Precision::f32
                                 ? json["tolerance"]["f32"].get<double>()
                                 : json["tolerance"]["bf16"][without_layer(site)].get<double>();
        ASSERT_GT(limit, 0);
        const double error = relative_error(captured.values, expected);
        EXPECT_LE(error, limit) << what << ", seq" << i << "/" << site;
        worst = std::max(worst, error / limit);
        ++compared;
      }
    }
    std::size_t hooks = 0;
    for (const SafetensorsTensor& tensor : file->tensors())
      hooks += !tensor.name.ends_with("/input_ids") && !tensor.name.ends_with("/greedy");
    if (complete) {
      EXPECT_EQ(compared, hooks);
    }
    EXPECT_GT(compared, hooks / 2);
    ::testing::Test::RecordProperty(what + " worst error over limit", std::to_string(worst));
  }

  Json json;
  std::shared_ptr<Safetensors> file;
  std::vector<Ids> documents;
};

}  // namespace sonde::test
