#include "api/prompt_facts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

using testing::ElementsAre;

TokenText token(TokenId id, std::string text, float logprob,
                std::vector<TokenText::Alternative> top = {}) {
  return {.id = id, .text = text, .bytes = text, .logprob = logprob, .top = std::move(top)};
}

std::vector<int64_t> offsets(const std::vector<TokenPiece>& pieces) {
  std::vector<int64_t> all;
  for (const TokenPiece& piece : pieces) all.push_back(piece.offset);
  return all;
}

TEST(PromptFacts, CM_3_PlacesCountCodePointsOfTheEchoedText) {
  const std::vector<TokenText> tokens = {token(1, "hé", 0), token(2, "世", -1), token(3, "!", -2)};
  const auto pieces = prompt_pieces("hé世!", tokens);
  EXPECT_THAT(offsets(pieces), ElementsAre(0, 2, 3));
  EXPECT_TRUE(pieces[0].unknown);
  EXPECT_FALSE(pieces[1].unknown);
}

TEST(PromptFacts, CM_3_ATokenThatTheTextDoesNotSpellHasNoWidth) {
  TokenText begin = token(1, "<s>", 0);
  begin.special = true;
  const std::vector<TokenText> tokens = {begin, token(2, "ab", -1), token(3, "c", -1)};
  EXPECT_THAT(offsets(prompt_pieces("abc", tokens)), ElementsAre(0, 0, 2));
  EXPECT_THAT(offsets(prompt_pieces("<s>abc", tokens)), ElementsAre(0, 3, 5));
}

TEST(PromptFacts, RE_5_ATokenIsShownByItsBytesOrItsId) {
  EXPECT_EQ(completion_spelling(7, "the", " the", false), " the");
  EXPECT_EQ(completion_spelling(7, "\ufffd", "\xc3", false), "bytes:\\xc3");
  EXPECT_EQ(completion_spelling(7, "</s>", "", false), "</s>");
  EXPECT_EQ(completion_spelling(7, "the", " the", true), "token_id:7");
  EXPECT_EQ(completion_spelling(7, "", "", false), "token_id:7");
}

TEST(PromptFacts, ThePromptsLogprobsAreNullAndThenObjectsOfIds) {
  const std::vector<TokenText> tokens = {
      token(1, "a", 0), token(2, "b", -0.5f, {{2, "b", "b", -0.5f}, {3, "c", "c", -1.5f}}),
      token(4, "d", -7.0f, {{2, "b", "b", -0.5f}}), token(5, "e", -20000.0f)};
  std::string json;
  JsonWriter out(&json);
  write_prompt_logprobs(out, tokens);
  EXPECT_EQ(json, R"([null,{"2":{"logprob":-0.5,"rank":1,"decoded_token":"b"},)"
                  R"("3":{"logprob":-1.5,"rank":2,"decoded_token":"c"}},)"
                  R"({"2":{"logprob":-0.5,"rank":1,"decoded_token":"b"},)"
                  R"("4":{"logprob":-7.0,"rank":null,"decoded_token":"d"}},)"
                  R"({"5":{"logprob":-9999.0,"rank":null,"decoded_token":"e"}}])");
}

}  // namespace
}  // namespace tidemill
