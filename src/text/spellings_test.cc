#include "text/spellings.h"

#include <gtest/gtest.h>

namespace tidemill {
namespace {

TEST(Spellings, TheLeftmostAndThereTheLongestIsReplaced) {
  const std::vector<std::string> by = {"1", "2", "3", "", "5"};
  const Spellings spellings({"<a", "<a>", "b", "", "\xc3\xa9x"});
  const auto replaced = [&](std::string_view text) {
    return spellings.replace(text, [&](size_t index) { return std::string_view(by[index]); });
  };
  EXPECT_EQ(replaced("x<a>b<a<a"), "x2311");
  EXPECT_EQ(replaced("<<a>>\xc3\xa9x\xc3\xa9"), "<2>5\xc3\xa9");
  EXPECT_EQ(replaced(""), "");
}

TEST(Spellings, WhatIsBegunAtTheEndIsFound) {
  const Spellings spellings({"<|end|>", "<|", "ab"});
  EXPECT_EQ(spellings.begun_at_end("x<|en"), 4u);
  EXPECT_EQ(spellings.begun_at_end("x<|"), 2u);
  EXPECT_EQ(spellings.begun_at_end("x<|end|>"), 0u);
  EXPECT_EQ(spellings.begun_at_end("<a"), 1u);
  EXPECT_EQ(spellings.begun_at_end("b"), 0u);
  EXPECT_EQ(spellings.begun_at_end(""), 0u);
}

}  // namespace
}  // namespace tidemill
