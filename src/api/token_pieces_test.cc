#include "api/token_pieces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

using testing::ElementsAre;

std::vector<TokenText> tokens(std::initializer_list<const char*> texts) {
  std::vector<TokenText> tokens;
  for (const char* text : texts) tokens.push_back({.text = text, .bytes = text});
  return tokens;
}

// "offset:visible" of each.
std::vector<std::string> shown(const std::vector<TokenPiece>& pieces) {
  std::vector<std::string> shown;
  for (const TokenPiece& piece : pieces) {
    shown.push_back(std::to_string(piece.offset) + ":" + piece.visible);
  }
  return shown;
}

TEST(TokenPieces, ATokenWaitsUntilItsTextHasArrived) {
  TokenPieces pieces(/*skip_special_tokens=*/true, /*first_offset=*/0);
  EXPECT_THAT(shown(pieces.push("é", tokens({"é", "EN"}), false)), ElementsAre("0:é"));
  EXPECT_THAT(shown(pieces.push("", tokens({"ergy"}), false)), ElementsAre());
  EXPECT_THAT(shown(pieces.push("ENergy", {}, false)), ElementsAre("1:EN", "3:ergy"));
}

TEST(TokenPieces, WhatAStopStringCutAwayLiesAtTheEndOfTheText) {
  TokenPieces pieces(true, 0);
  EXPECT_THAT(shown(pieces.push("one", tokens({"one E", "N", "D"}), true)),
              ElementsAre("0:one", "3:", "3:"));
}

TEST(TokenPieces, SkippedTokensHaveNoShareOfTheText) {
  std::vector<TokenText> special = tokens({"a", "<end>"});
  special[1].special = true;
  TokenPieces skipping(true, 0);
  EXPECT_THAT(shown(skipping.push("a", special, true)), ElementsAre("0:a", "1:"));
  TokenPieces showing(false, 0);
  EXPECT_THAT(shown(showing.push("a<end>", special, true)), ElementsAre("0:a", "1:<end>"));
}

TEST(TokenPieces, HalfACharacterAtTheEndBelongsToTheLastToken) {
  TokenPieces pieces(true, 0);
  EXPECT_THAT(shown(pieces.push("a\ufffd", tokens({"a", ""}), true)),
              ElementsAre("0:a", "1:\ufffd"));
}

TEST(TokenPieces, TextBeginsBehindAnEchoedPrompt) {
  TokenPieces pieces(true, 5);
  EXPECT_THAT(shown(pieces.push("ab", tokens({"a", "b"}), false)), ElementsAre("5:a", "6:b"));
}

}  // namespace
}  // namespace tidemill
