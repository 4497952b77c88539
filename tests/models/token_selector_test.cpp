#include "models/token_selector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/error.h"

namespace sonde {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::int32_t> select(const char* text, std::int64_t length) {
  return TokenSelector::parse(text).select(length, "7");
}

TEST(TokenSelector, Forms) {
  EXPECT_THAT(select("all", 3), ElementsAre(0, 1, 2));
  EXPECT_THAT(select("last", 3), ElementsAre(2));
  EXPECT_THAT(select("first", 3), ElementsAre(0));
  EXPECT_THAT(select("2", 3), ElementsAre(2));
  EXPECT_THAT(select("-1,0,3,3", 5), ElementsAre(0, 3, 4));  // ascending, each once
  EXPECT_THAT(select("4,-1", 5), ElementsAre(4));
  EXPECT_THAT(select("every:8", 17), ElementsAre(0, 8, 16));
  EXPECT_THAT(select("every:1", 2), ElementsAre(0, 1));
  for (const char* text : {"all", "last", "first", "every:2"})
    EXPECT_THAT(select(text, 0), IsEmpty()) << text;
}

TEST(TokenSelector, ColumnsAreResolvedByWhoeverHasThem) {
  const TokenSelector mask = TokenSelector::parse("mask:keep");
  EXPECT_EQ(mask.kind(), TokenSelector::Kind::mask);
  EXPECT_EQ(mask.column(), "keep");
  const TokenSelector span = TokenSelector::parse("span:city"), last = TokenSelector::parse("span:city:last");
  EXPECT_EQ(span.column(), "city");
  EXPECT_FALSE(span.span_last());
  EXPECT_EQ(last.column(), "city");
  EXPECT_TRUE(last.span_last());
  EXPECT_EQ(last.text(), "span:city:last");
  EXPECT_THROW(span.select(5, "7"), Error);
}

TEST(TokenSelector, WhatIsNoSelectorIsAUsageError) {
  for (const char* text : {"", "some", "1,,2", "1,", ",1", "1.5", "every:", "every:0", "every:-2", "every:x",
                           "mask:", "span:", "span::last", "99999999999999999999", "0 ,1", "LAST"})
    EXPECT_THROW(TokenSelector::parse(text), UsageError) << text;
}

TEST(TokenSelector, ATokenThatADocumentLacksIsNamed) {
  for (const auto& [text, at] : {std::pair{"0,3", "3"}, std::pair{"-4", "-4"}}) {
    try {
      select(text, 3);
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(),
                  AllOf(HasSubstr(text), HasSubstr("document 7"), HasSubstr("3 tokens"), HasSubstr(at)));
    }
  }
  EXPECT_THROW(select("0", 0), Error);
}

}  // namespace
}  // namespace sonde
