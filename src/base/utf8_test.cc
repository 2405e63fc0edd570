#include "base/utf8.h"

#include <gtest/gtest.h>

namespace tidemill {
namespace {

TEST(Utf8, EveryCodePointWrittenIsValidAndCountsAsOne) {
  for (uint32_t code_point = 0; code_point <= 0x10ffff; ++code_point) {
    if (code_point >= 0xd800 && code_point <= 0xdfff) continue;
    std::string text;
    append_utf8(&text, code_point);
    ASSERT_FALSE(first_invalid_utf8(text)) << code_point;
    ASSERT_EQ(count_code_points(text), 1u) << code_point;
  }
}

TEST(Utf8, InvalidBytesAreFoundAtTheirOffset) {
  const std::pair<const char*, size_t> cases[] = {
      {"ab\x80", 2},   {"\xc0\xaf", 0},      {"a\xed\xa0\x80", 1}, {"\xf4\x90\x80\x80", 0},
      {"\xe2\x82", 0}, {"x\xf0\x9f\x98", 1}, {"\xff", 0},          {"\xf8\x88\x80\x80\x80", 0},
  };
  for (const auto& [text, offset] : cases) EXPECT_EQ(first_invalid_utf8(text), offset) << offset;
}

TEST(Utf8, TheBeginningOfACharacterAtTheEndIsKnown) {
  const std::pair<const char*, size_t> cases[] = {
      {"", 0},
      {"a", 0},
      {"\u00e9", 0},
      {"a\xc3", 1},
      {"\xe2\x82", 2},
      {"\xf0\x9f", 2},
      {"\xf0\x9f\x98", 3},
      {"\xed\xa0", 0},
      {"\xf4\x90", 0},
      {"\xc0", 0},
      {"\x80\x80", 0},
      {"\xe2\xe2", 1},
      {"\xff", 0},
      {"\xc3\xa9\x80", 0},
      {"\xe0", 1},
  };
  for (const auto& [text, length] : cases) EXPECT_EQ(unfinished_bytes(text), length) << text;
}

// What Unicode's standard shows for maximal subparts.
TEST(Utf8, WhatIsNoCharacterBecomesOneReplacementForEachPieceOfOne) {
  const std::pair<const char*, const char*> cases[] = {
      {"a\xc0\xaf\xe0\x80\xbf\xf0\x81\x82z", "a\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdz"},
      {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
      {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbfz", "\ufffd\ufffd\ufffd\ufffdz"},
      {"\xc3\xa9\xf0\x9f", "\u00e9\ufffd"},
  };
  for (const auto& [text, shown] : cases) EXPECT_EQ(lossy_utf8(text), shown);
}

TEST(Utf8, AnExcerptIsShortAndCutsNoCharacter) {
  EXPECT_EQ(excerpt("short"), "short");
  for (size_t shift = 0; shift < 4; ++shift) {
    std::string text(shift, 'x');
    for (int i = 0; i < 40; ++i) text += "😀";
    const std::string cut = excerpt(text);
    EXPECT_LE(cut.size(), 64u);
    EXPECT_GE(cut.size(), 61u);
    EXPECT_FALSE(first_invalid_utf8(cut));
  }
}

TEST(Utf8, AnExcerptOfBytesThatAreNoTextIsValidAllTheSame) {
  EXPECT_EQ(excerpt("a\xff"
                    "b\xe2\x82"),
            "a\ufffd"
            "b\ufffd\ufffd");
  EXPECT_LE(excerpt(std::string(100, '\x80')).size(), 64u);
  EXPECT_FALSE(first_invalid_utf8(excerpt(std::string(63, 'x') + "é")));
}

}  // namespace
}  // namespace tidemill
