#include "load/answer_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// The pieces come at 1, 2, 3, ... seconds.
AnswerFacts read(std::string_view content_type, const std::vector<std::string>& pieces,
                 int status = 200) {
  AnswerReader reader(status, content_type);
  double now = 0.0;
  for (const std::string& piece : pieces) {
    if (!reader.push(piece, now += 1.0)) break;
  }
  return reader.end();
}

constexpr const char* kEvents = "text/event-stream; charset=utf-8";

TEST(AnswerReader, ACompletionStreamTellsItsPiecesAndItsCounts) {
  const AnswerFacts facts =
      read(kEvents, {R"(data: {"choices":[{"text":"a","finish_reason":null}],"usage":null})"
                     "\n\n",
                     R"(data: {"choices":[{"text":"","finish_reason":null}]})"
                     "\n\n",
                     R"(data: {"choices":[{"text":"b","finish_reason":"length"}]})"
                     "\n\n",
                     R"(data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}})"
                     "\n\n",
                     "data: [DONE]\n\n"});
  EXPECT_EQ(facts.failure, "");
  EXPECT_THAT(facts.pieces, ElementsAre(1.0, 3.0));  // an empty text is no piece
  EXPECT_EQ(facts.prompt_tokens, 5);
  EXPECT_EQ(facts.completion_tokens, 3);
}

TEST(AnswerReader, AChatStreamBeginsWithItsFirstWordAndNotWithItsRole) {
  const AnswerFacts facts =
      read(kEvents, {R"(data: {"choices":[{"delta":{"role":"assistant","content":""}}]})"
                     "\n\n",
                     R"(data: {"choices":[{"delta":{"reasoning_content":"hm"}}]})"
                     "\n\n",
                     R"(data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]})"
                     "\n\n"});
  EXPECT_EQ(facts.failure, "");
  EXPECT_THAT(facts.pieces, ElementsAre(2.0, 3.0));
  EXPECT_EQ(facts.completion_tokens, std::nullopt);  // the server did not count
}

TEST(AnswerReader, JsonLinesTellEveryToken) {
  const AnswerFacts facts =
      read("application/jsonlines", {R"({"token": {"id": 1, "text": "a"}})"
                                     "\n"
                                     R"({"token": {"id")",
                                     R"(: 2, "text": ""}})"
                                     "\n",
                                     R"({"token": {"id": 3, "text": "b"}, "generated_text": "ab"})"
                                     "\n"});
  EXPECT_EQ(facts.failure, "");
  EXPECT_THAT(facts.pieces, ElementsAre(1.0, 2.0, 3.0));
  EXPECT_EQ(facts.completion_tokens, 3);
}

TEST(AnswerReader, TheOriginalsLinesEndWithoutAWord) {
  const AnswerFacts facts = read("application/jsonlines", {R"({"outputs": ["a"]})"
                                                           "\n",
                                                           R"({"outputs": ["b"]})"
                                                           "\n"});
  EXPECT_EQ(facts.failure, "");
  EXPECT_THAT(facts.pieces, ElementsAre(1.0, 2.0));
}

TEST(AnswerReader, DocumentsHaveCountsAndNoPieces) {
  const AnswerFacts openai =
      read("application/json", {R"({"choices":[{"text":"ab","finish_reason":"stop"}],"usage":)",
                                R"({"prompt_tokens":2,"completion_tokens":4}})"});
  EXPECT_EQ(openai.failure, "");
  EXPECT_THAT(openai.pieces, IsEmpty());
  EXPECT_EQ(openai.completion_tokens, 4);
  const AnswerFacts list =
      read("application/json", {R"([{"generated_text":"a","details":{"generated_tokens":2}},)"
                                R"({"generated_text":"b","details":{"generated_tokens":3}}])"});
  EXPECT_EQ(list.failure, "");
  EXPECT_EQ(list.completion_tokens, 5);
}

TEST(AnswerReader, WhatIsNoWholeAnswerSaysWhy) {
  const struct {
    const char* type;
    std::vector<std::string> pieces;
    int status;
    const char* reason;
  } cases[] = {
      {"application/json", {R"({"error":{"message":"too long"}})"}, 400, "HTTP 400: too long"},
      {"application/json", {R"({"code":424,"error":"bad","message":"bad"})"}, 424, "HTTP 424: bad"},
      {kEvents, {R"({"detail":"no key"})"}, 401, "HTTP 401: no key"},
      {"text/html", {"<html>gateway"}, 502, "HTTP 502: <html>gateway"},
      {"text/html", {"<html>hello"}, 200, "not JSON: <html>hello"},
      {kEvents, {"data: {\"error\":{\"message\":\"gone\"}}\n\n", "data: [DONE]\n\n"}, 200, "gone"},
      {kEvents,
       {"data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":\"error\"}]}\n\n"},
       200,
       "finish_reason is error"},
      {"application/jsonlines",
       {"{\"finish_reason\": \"error\", \"error\": \"died\", \"code\": 424}\n"},
       200,
       "died"},
      {kEvents, {"data: {\"choices\":[{\"text\":\"a\"}]}\n\n"}, 200, "without a finish reason"},
      {kEvents, {}, 200, "without a finish reason"},
      {"application/jsonlines", {"{\"token\": {}}\n{\"tok"}, 200, "no end"},
      {"application/json", {""}, 200, "not JSON"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(read(c.type, c.pieces, c.status).failure, HasSubstr(c.reason));
  }
}

}  // namespace
}  // namespace tidemill
