// Every op at every point of a llama against the float64 forward with the same change at the same point; and
// at every point of every family, an op is the replacement by its result.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/edit_file.h"
#include "tests/models/activations.h"
#include "tests/models/random_decoder.h"

namespace sonde::test {
namespace {

const std::vector<Ids> kDocuments = {{3, 1, 4, 1, 5, 9, 2}, {6}, {5, 3, 5, 8, 9, 7, 9, 3, 2, 38, 46}};

// x' from a row x, in double.
using RowChange = std::function<void(std::vector<double>& row)>;

struct Case {
  std::string op;  // the entry's keys behind "site"
  RowChange change;
};

// The token positions that a case changes of n.
struct Tokens {
  const char* json;
  std::function<bool(int t, int n)> chosen;
};
const Tokens kTokens[] = {
    {"\"all\"", [](int, int) { return true; }},
    {"\"last\"", [](int t, int n) { return t + 1 == n; }},
    {"[0, -1]", [](int t, int n) { return t == 0 || t + 1 == n; }},
    {"\"every:3\"", [](int t, int) { return t % 3 == 0; }},
};

// Removes the span of two rows, solved by hand: Gram-Schmidt in double.
void remove_span(std::vector<double>& x, std::vector<std::vector<double>> basis) {
  const auto dot = [](const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  std::vector<std::vector<double>> unit;
  for (auto& row : basis) {
    const double before = dot(row, row);
    for (const auto& u : unit) {
      const double along = dot(row, u);
      for (std::size_t i = 0; i < row.size(); ++i) row[i] -= along * u[i];
    }
    const double size = std::sqrt(dot(row, row));
    if (size * size < 1e-12 * before) continue;
    for (double& v : row) v /= size;
    unit.push_back(row);
  }
  for (const auto& u : unit) {
    const double along = dot(x, u);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] -= along * u[i];
  }
}

class EditOracle : public ::testing::TestWithParam<std::string> {
 protected:
  EditOracle() : drawn(draw_decoder(GetParam(), 3)), weights(drawn.oracle_weights()) {
    drawn.write_folder(folder.path());
    model = std::make_unique<Model>(Model::load(folder.path(), {}, *backend));
  }

  // The ops of rows of `width`; values come from files written on the way.
  std::vector<Case> cases(int width, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    std::vector<std::vector<double>> rows;
    StoredTensors tensors;
    std::vector<float> stored;
    for (int r = 0; r < 3; ++r) {
      rows.emplace_back();
      for (int i = 0; i < width; ++i) {
        stored.push_back(normal(generator));
        rows.back().push_back(stored.back());
      }
    }
    tensors["one"] = stored_f32({width}, {stored.begin(), stored.begin() + width});
    tensors["two"] = stored_f32({2, width}, {stored.begin(), stored.begin() + 2 * width});
    tensors["three"] = stored_f32({3, width}, stored);
    const std::string file = "values" + std::to_string(width) + ".safetensors";
    write_safetensors(folder.path() / file, tensors);
    const auto value = [&](const char* name) {
      return "\"value\": {\"file\": \"" + file + "\", \"tensor\": \"" + name + "\"}";
    };
    const auto each = [](std::function<double(double, std::size_t)> f) {
      return [f](std::vector<double>& x) {
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = f(x[i], i);
      };
    };
    std::vector<Case> cases = {
        {"\"op\": \"zero\"", each([](double, std::size_t) { return 0; })},
        {"\"op\": \"scale\", \"value\": -1.5", each([](double x, std::size_t) { return -1.5 * x; })},
        {"\"op\": \"replace\", \"value\": 0.75", each([](double, std::size_t) { return 0.75; })},
        {"\"op\": \"clamp\", \"value\": 0.25",
         each([](double x, std::size_t) { return std::clamp(x, -0.25, 0.25); })},
        {"\"op\": \"clamp\", \"min\": 0.125", each([](double x, std::size_t) { return std::max(x, 0.125); })},
        {"\"op\": \"add\", \"value\": 0.5, \"coefficient\": 3",
         each([](double x, std::size_t) { return x + 1.5; })},
        {"\"op\": \"replace\", " + value("one"), each([rows](double, std::size_t i) { return rows[0][i]; })},
        {"\"op\": \"add\", \"coefficient\": -2, " + value("one"),
         each([rows](double x, std::size_t i) { return x - 2 * rows[0][i]; })},
        {"\"op\": \"mean_ablate\", " + value("three"),
         each([rows](double, std::size_t i) { return (rows[0][i] + rows[1][i] + rows[2][i]) / 3; })},
    };
    if (width > 2)  // of fewer nothing but rounding is left
      cases.push_back({"\"op\": \"project_out\", " + value("two"), [rows](std::vector<double>& x) {
                         remove_span(x, {rows[0], rows[1]});
                       }});
    return cases;
  }

  // Both forwards with one entry; every point of every document agrees.
  void compare(const std::string& entry, const std::function<oracle::Change(int n)>& change) {
    SCOPED_TRACE(entry);
    write_text(folder.path() / "edits.json", "[" + entry + "]");
    EditFile edits = read_edits(folder.path() / "edits.json", model->spec);
    const auto found =
        run_packed(*model, *backend, kDocuments, {{}, "all", [&](Hooks& hooks, const HookSizes& s) {
                                                    for (Edit& edit : edits.edits)
                                                      hooks.edit(std::move(edit), s);
                                                  }});
    for (std::size_t d = 0; d < kDocuments.size(); ++d) {
      const std::vector<int> ids(kDocuments[d].begin(), kDocuments[d].end());
      const auto expected = oracle::forward(drawn.spec, weights, ids, change(static_cast<int>(ids.size())));
      for (const auto& [site, captured] : found[d]) {
        const oracle::Array& array = expected.at(site);
        const bool square = site.ends_with("scores") || site.ends_with("pattern");
        const auto values = square ? rows_first(array.values, array.shape[0], array.shape[1]) : array.values;
        // One token's scores are a few dot products, any of them near zero.
        const double limit = site.ends_with("scores") && ids.size() == 1 ? 1e-3 : 2e-5;
        ASSERT_LE(relative_error(captured.values, values), limit) << site << " of document " << d;
      }
      if (HasFailure()) return;
    }
  }

  // Rows [T, width] of `site`, at the tokens chosen and of the heads given (width: of one head).
  oracle::Change at(const std::string& site, const Tokens& tokens, int n, const RowChange& change,
                    const std::vector<int>& heads = {}) {
    return [=](const std::string& hook, oracle::Array& x) {
      if (hook != site) return;
      const bool square = site.ends_with("scores") || site.ends_with("pattern");
      const int all_heads = square ? x.shape[0] : x.shape.size() == 3 ? x.shape[1] : 1;
      const int width = static_cast<int>(x.values.size()) / n / all_heads;
      for (int t = 0; t < n; ++t) {
        if (!tokens.chosen(t, n)) continue;
        const auto first = [&](int h) {
          return x.values.begin() + (square ? (h * n + t) : (t * all_heads + h)) * width;
        };
        std::vector<int> chosen = heads;
        for (int h = 0; heads.empty() && h < all_heads; ++h) chosen.push_back(h);
        std::vector<double> row;  // the whole row, or head by head
        const auto put_back = [&](std::size_t from, std::size_t to) {
          for (std::size_t i = from; i < to; ++i)
            std::copy_n(row.begin() + static_cast<std::ptrdiff_t>(i - from) * width, width, first(chosen[i]));
        };
        for (std::size_t i = 0; i < chosen.size(); ++i) {
          row.insert(row.end(), first(chosen[i]), first(chosen[i]) + width);
          if (heads.empty() && i + 1 < chosen.size()) continue;
          change(row);
          heads.empty() ? put_back(0, chosen.size()) : put_back(i, i + 1);
          row.clear();
        }
      }
    };
  }

  RandomDecoder drawn;
  oracle::Weights weights;
  TempFolder folder;
  std::unique_ptr<Backend> backend = make_cpu_backend();
  std::unique_ptr<Model> model;
};

bool long_run() { return std::getenv("SONDE_LONG") != nullptr; }

TEST_P(EditOracle, EveryOpAtEveryPoint) {
  const HookSizes sizes = model->spec.hook_sizes();
  std::size_t turn = 0;
  for (const Site site : model->spec.sites()) {
    // Half an expert is refused; a divisor of zero ends in NaN on both sides and says nothing.
    if (info(site.hook).shape == RowShape::HS || site.hook == Hook::expert_indices) continue;
    const bool divisor = info(site.hook).shape == RowShape::one;
    // LayerNorm of equal values is rounding noise.
    const bool levelled = drawn.spec.centred_norms && info(site.hook).shape == RowShape::D;
    const std::vector<std::int64_t> shape = row_shape(site.hook, sizes);
    std::int64_t width = 1;
    for (const std::int64_t n : shape) width *= n;
    const auto list = cases(static_cast<int>(width), 7);
    for (std::size_t c = long_run() ? 0 : turn % list.size(); c < list.size(); c += long_run() ? 1 : 7) {
      const Tokens& tokens = kTokens[turn++ % std::size(kTokens)];
      if (!(levelled && c == 2) && (!divisor || (c != 0 && c != 7 && c != 9)))
        compare("{\"site\": \"" + name(site) + "\", \"tokens\": " + tokens.json + ", " + list[c].op + "}",
                [&](int n) { return at(name(site), tokens, n, list[c].change); });
      if (shape.size() == 1) continue;
      const std::vector<int> heads = {static_cast<int>(shape[0]) - 1};
      const Case one = cases(static_cast<int>(shape[1]), 8)[c];
      compare("{\"site\": \"" + name(site) + "\", \"heads\": [" + std::to_string(heads[0]) +
                  "], \"tokens\": " + tokens.json + ", " + one.op + "}",
              [&](int n) { return at(name(site), tokens, n, one.change, heads); });
    }
    if (HasFailure()) return;
  }
}

TEST_P(EditOracle, ScoresAndPatterns) {
  const int last_head = drawn.spec.heads - 1, last_layer = drawn.spec.layers - 1;
  const std::string one_head = "\"heads\": [" + std::to_string(last_head) + "]";
  std::vector<int> all;
  for (int h = 0; h <= last_head; ++h) all.push_back(h);
  const double inf = std::numeric_limits<double>::infinity();
  const auto keys = [](std::vector<int> which, double value) {
    return [=](std::vector<double>& row) {
      for (const int key : which)
        if (const int at = key < 0 ? key + static_cast<int>(row.size()) : key;
            at < static_cast<int>(row.size()))
          row[static_cast<std::size_t>(at)] = value;
    };
  };
  const auto times = [](double factor) {
    return [=](std::vector<double>& row) {
      for (double& x : row) x *= factor;
    };
  };
  const std::string scores = "blocks." + std::to_string(last_layer) + ".attn.hook_attn_scores",
                    pattern = "blocks.0.attn.hook_pattern";
  for (const Tokens& tokens : kTokens) {
    const std::string begin = std::string("\"tokens\": ") + tokens.json + ", ";
    const auto entry = [&](const std::string& site, const std::string& rest) {
      return "{\"site\": \"" + site + "\", " + begin + rest + "}";
    };
    compare(entry(scores, R"("op": "mask_scores", "keys": "first")"),
            [&](int n) { return at(scores, tokens, n, keys({0}, -inf), all); });
    compare(entry(scores, R"("op": "mask_scores", "keys": [0, -1], )" + one_head), [&](int n) {
      return at(scores, tokens, n, keys({0, -1}, -inf), {last_head});
    });
    compare(entry(scores, R"("op": "mask_scores")"), [&](int n) {
      return at(scores, tokens, n, [&](std::vector<double>& row) { std::ranges::fill(row, -inf); });
    });
    compare(entry(scores, R"("op": "scale", "value": 0.5, )" + one_head),
            [&](int n) { return at(scores, tokens, n, times(0.5), {last_head}); });
    compare(entry(scores, R"("op": "replace", "value": 1.5, "keys": "last", )" + one_head),
            [&](int n) { return at(scores, tokens, n, keys({-1}, 1.5), {last_head}); });
    compare(entry(pattern, R"("op": "zero", )" + one_head),
            [&](int n) { return at(pattern, tokens, n, times(0), {last_head}); });
    compare(entry(pattern, R"("op": "zero", "keys": "first")"),
            [&](int n) { return at(pattern, tokens, n, keys({0}, 0), all); });
    compare(entry(pattern, R"("op": "scale", "value": 2)"),
            [&](int n) { return at(pattern, tokens, n, times(2)); });
  }
}

INSTANTIATE_TEST_SUITE_P(Families, EditOracle, ::testing::ValuesIn(decoder_families()),
                         [](const auto& p) { return p.param; });

}  // namespace
}  // namespace sonde::test
