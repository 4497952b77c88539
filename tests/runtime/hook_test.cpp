// The hook table against the goldens' own table, and how patterns and aliases find sites.
#include "runtime/hook.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "runtime/error.h"
#include "tests/shared_files.h"

namespace sonde {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<Hook> all_hooks() {
  std::vector<Hook> hooks;
  for (const HookInfo& row : hook_table()) hooks.push_back(row.hook);
  return hooks;
}

std::vector<std::string> names(const std::vector<Site>& sites) {
  std::vector<std::string> result;
  for (const Site site : sites) result.push_back(name(site));
  return result;
}

std::vector<std::string> matched(const std::string& patterns, int layers = 3) {
  return names(match_sites(patterns, sites_of(all_hooks(), layers), layers));
}

const char* letters(RowShape shape) {
  switch (shape) {
    case RowShape::one:
      return "T 1";
    case RowShape::D:
      return "T D";
    case RowShape::HE:
      return "T H E";
    case RowShape::KE:
      return "T K E";
    case RowShape::HS:
      return "H T T";  // as the goldens keep it; a store keeps a row per query
    case RowShape::F:
      return "T F";
    case RowShape::V:
      return "T V";
    case RowShape::X:
      return "T X";
    case RowShape::chosen:
      return "T k";
  }
  return "";
}

// Rows of the README's table: | `hook`, `hook` | shape, shape | meaning |
TEST(HookTable, IsTheGoldensTable) {
  SONDE_REQUIRE_SHARED("golden/models/README.md");
  std::ifstream in(shared_path);
  std::map<std::string, std::string> golden;
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("| `")) continue;
    const std::size_t bar = line.find(" | ");
    const std::string shapes = line.substr(bar + 3, line.find(" | ", bar + 3) - bar - 3);
    std::vector<std::string> hooks;
    std::istringstream cell(line.substr(2, bar - 2));
    for (std::string part; std::getline(cell, part, ',');) {
      const std::size_t first = part.find('`'), end = part.find('`', first + 1);
      if (first != std::string::npos) hooks.push_back(part.substr(first + 1, end - first - 1));
    }
    const bool hook_row = hooks[0].starts_with("hook_") || hooks[0].starts_with("blocks.") ||
                          hooks[0].starts_with("ln_final") || hooks[0] == "logits";
    if (!hook_row || shapes.starts_with("4") || shapes.find("e-") != std::string::npos) continue;
    for (std::size_t i = 0; i < hooks.size(); ++i) {
      std::string hook = hooks[i];
      // `blocks.{l}.attn.hook_q`, `hook_k`: later ones share the first one's prefix.
      if (i > 0) hook = hooks[0].substr(0, hooks[0].rfind('.') + 1) + hook;
      golden[hook] = shapes;
    }
  }
  ASSERT_GE(golden.size(), 25u);
  // The table writes the norms behind the sublayers with a star, and has no mixture of experts.
  std::set<std::string> ours, theirs;
  for (const auto& [hook, shape] : golden) theirs.insert(hook);
  for (const char* norm : {"blocks.{l}.ln1_post.", "blocks.{l}.ln2_post."}) {
    EXPECT_EQ(theirs.erase(std::string(norm) + "*"), 1u);
    for (const char* hook : {"hook_scale", "hook_normalized"}) theirs.insert(std::string(norm) + hook);
  }
  for (const char* hook : {"router_logits", "expert_indices", "expert_weights"})
    theirs.insert(std::string("blocks.{l}.mlp.hook_") + hook);
  for (const HookInfo& row : hook_table()) {
    ours.insert(std::string(row.name));
    const auto found = golden.find(std::string(row.name));
    if (found == golden.end() || found->second.starts_with("as ")) continue;
    EXPECT_THAT(found->second, HasSubstr(letters(row.shape))) << row.name;
  }
  EXPECT_EQ(ours, theirs);
}

TEST(HookTable, IsInOrderAndComplete) {
  int index = 0;
  std::set<std::string_view> seen, aliases;
  for (const HookInfo& row : hook_table()) {
    EXPECT_EQ(static_cast<int>(row.hook), index++);
    EXPECT_EQ(&info(row.hook), &row);
    EXPECT_TRUE(seen.insert(row.name).second) << row.name;
    EXPECT_FALSE(row.meaning.empty()) << row.name;
    EXPECT_EQ(row.meaning.find('\n'), std::string_view::npos);
    if (!row.alias.empty()) {
      EXPECT_TRUE(aliases.insert(row.alias).second) << row.alias;
      EXPECT_EQ(row.alias.find("{l}") != std::string_view::npos, per_layer(row.hook)) << row.alias;
    }
  }
  EXPECT_EQ(index, kHooks);
}

TEST(HookTable, RowShapes) {
  const HookSizes sizes{.L = 2, .D = 3, .H = 4, .K = 5, .E = 6, .F = 7, .V = 8, .S = 9, .X = 10, .chosen = 2};
  EXPECT_THAT(row_shape(Hook::embed, sizes), ElementsAre(3));
  EXPECT_THAT(row_shape(Hook::ln2_scale, sizes), ElementsAre(1));
  EXPECT_THAT(row_shape(Hook::rot_q, sizes), ElementsAre(4, 6));
  EXPECT_THAT(row_shape(Hook::v, sizes), ElementsAre(5, 6));
  EXPECT_THAT(row_shape(Hook::pattern, sizes), ElementsAre(4, 9));
  EXPECT_THAT(row_shape(Hook::mlp_post, sizes), ElementsAre(7));
  EXPECT_THAT(row_shape(Hook::logits, sizes), ElementsAre(8));
  EXPECT_THAT(row_shape(Hook::router_logits, sizes), ElementsAre(10));
  EXPECT_THAT(row_shape(Hook::expert_indices, sizes), ElementsAre(2));
}

TEST(Sites, ComeInTheOrderOfExecution) {
  const std::vector<Site> sites = sites_of(all_hooks(), 2);
  EXPECT_EQ(sites.size(), 6u + 2 * 29);
  EXPECT_EQ(name(sites.front()), "hook_embed");
  EXPECT_EQ(name(sites[2]), "blocks.0.hook_resid_pre");
  EXPECT_EQ(name(sites[30]), "blocks.0.hook_resid_post");
  EXPECT_EQ(name(sites[31]), "blocks.1.hook_resid_pre");
  EXPECT_EQ(name(sites.back()), "logits");
  EXPECT_THAT(names(sites_of(std::vector<Hook>{Hook::logits, Hook::resid_post, Hook::embed}, 2)),
              ElementsAre("hook_embed", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post", "logits"));
}

TEST(Sites, AreFoundByNameAndAlias) {
  for (const Site site : sites_of(all_hooks(), 12)) EXPECT_EQ(find_site(name(site), 12), site);
  EXPECT_EQ(find_site("model.layers.11.self_attn.q_proj", 12), (Site{Hook::q, 11}));
  EXPECT_EQ(find_site("model.norm", 12), (Site{Hook::ln_final_out, 0}));
  for (const char* none :
       {"blocks.12.hook_resid_post", "blocks.-1.hook_resid_post", "blocks.01.hook_resid_post", "",
        "hook_resid_post", "blocks.{l}.hook_resid_post", "model.layers.12"})
    EXPECT_FALSE(find_site(none, 12)) << none;
}

TEST(Patterns, StarsStayWithinAPart) {
  EXPECT_THAT(
      matched("blocks.*.hook_resid_post"),
      ElementsAre("blocks.0.hook_resid_post", "blocks.1.hook_resid_post", "blocks.2.hook_resid_post"));
  EXPECT_THAT(matched("*"), ElementsAre("hook_embed", "hook_pos_embed", "logits"));
  EXPECT_THAT(matched("blocks.1.hook_*"),
              ElementsAre("blocks.1.hook_resid_pre", "blocks.1.hook_attn_out", "blocks.1.hook_resid_mid",
                          "blocks.1.hook_mlp_out", "blocks.1.hook_resid_post"));
  EXPECT_THAT(matched("*.1.ln*.hook_out"), ElementsAre("blocks.1.ln1.hook_out", "blocks.1.ln2.hook_out"));
  EXPECT_THAT(matched("blocks.1*.hook_resid_pre", 12),
              ElementsAre("blocks.1.hook_resid_pre", "blocks.10.hook_resid_pre", "blocks.11.hook_resid_pre"));
  EXPECT_THAT(matched("blocks.2.attn.hook_rot_*"),
              ElementsAre("blocks.2.attn.hook_rot_q", "blocks.2.attn.hook_rot_k"));
}

TEST(Patterns, CommasUniteInTheOrderOfExecution) {
  EXPECT_THAT(matched("logits, blocks.0.hook_resid_post ,hook_embed,logits"),
              ElementsAre("hook_embed", "blocks.0.hook_resid_post", "logits"));
}

TEST(Patterns, AliasesWorkToo) {
  EXPECT_THAT(matched("model.layers.*"), ElementsAre("blocks.0.hook_resid_post", "blocks.1.hook_resid_post",
                                                     "blocks.2.hook_resid_post"));
  EXPECT_THAT(matched("model.layers.1.self_attn.*_proj"),
              ElementsAre("blocks.1.attn.hook_q", "blocks.1.attn.hook_k", "blocks.1.attn.hook_v"));
  EXPECT_THAT(matched("lm_head"), ElementsAre("logits"));
}

TEST(Patterns, NoMatchIsAUsageErrorThatNamesThePattern) {
  for (const char* wrong : {"blocks.*.hook_resid", "blocks.3.hook_resid_post", "", "logits,",
                            "**.hook_resid_post", "logits,nonsense", "BLOCKS.0.hook_resid_post"}) {
    try {
      matched(wrong);
      FAIL() << wrong;
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), HasSubstr("3 layers"));
      EXPECT_THAT(error.hint(), HasSubstr("sonde hooks"));
    }
  }
}

}  // namespace
}  // namespace sonde
