// The conformance vectors of serving-contract.md 5.13, chunk by chunk. What follows is seen again
// from outside, in tests/outside/test_lmi_compat.py.
#include "api/lmi_0_25.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/test_model.h"

namespace tidemill {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class Lmi025 : public testing::Test {
 protected:
  Lmi025() {
    facts_.lmi.compat = "0.25.0";
    facts_.name = "m";
  }

  // Each text is a token; the last one ends the answer.
  std::vector<std::string> chunks(const std::vector<std::string>& texts) const {
    const auto format = make_lmi_0_25_format(facts_, true);
    std::vector<std::string> all;
    for (size_t i = 0; i < texts.size(); ++i) {
      TextEvent event{.text = texts[i], .tokens = {{.text = texts[i]}}};
      if (i + 1 == texts.size()) event.finish = Finish{};
      for (std::string& chunk : format->chunks({&event, 1})) all.push_back(std::move(chunk));
    }
    return all;
  }

  ModelFacts facts_;
};

TEST_F(Lmi025, JsonIsEscapedPieceByPiece) {
  EXPECT_THAT(chunks({"Hello", " \"w\"", "\n"}),
              ElementsAre(R"({"generated_text": "Hello)", R"( \"w\"\n"})"));
}

TEST_F(Lmi025, JsonLinesAreOnePerEvent) {
  facts_.output_formatter = "jsonlines";
  EXPECT_THAT(chunks({"Hello", " \"w\"", "\n"}),
              ElementsAre("{\"outputs\": [\"Hello\"]}\n",
                          "{\"outputs\": [\" \\\"w\\\"\"]}\n{\"outputs\": [\"\\n\"]}\n"));
}

TEST_F(Lmi025, OneEventIsOneChunk) {
  EXPECT_THAT(chunks({"Hi"}), ElementsAre(R"({"generated_text": "Hi"})"));
}

TEST_F(Lmi025, AnAnswerThatEndsAtOnceIsEmpty) {
  EXPECT_THAT(chunks({""}), ElementsAre(R"({"generated_text": ""})"));
}

TEST_F(Lmi025, FiveEventsAreTwoChunks) {
  EXPECT_THAT(chunks({"a", "b", "c", "d", "e"}),
              ElementsAre(R"({"generated_text": "a)", R"(bcde"})"));
}

TEST_F(Lmi025, SixEventsAreThreeChunks) {
  EXPECT_THAT(chunks({"a", "b", "c", "d", "e", "f"}),
              ElementsAre(R"({"generated_text": "a)", "bcde", R"(f"})"));
}

TEST_F(Lmi025, CharactersStayRawAndControlsAreEscaped) {
  EXPECT_THAT(chunks({"é", "😀", "\x01"}), ElementsAre("{\"generated_text\": \"é", "😀\\u0001\"}"));
  EXPECT_THAT(chunks({"\b\f\r\t\\/\x7f\x1f"}),
              ElementsAre("{\"generated_text\": \"\\b\\f\\r\\t\\\\/\x7f\\u001f\"}"));
}

TEST_F(Lmi025, AnExceptionInAStepLosesWhatWasBuffered) {
  const auto format = make_lmi_0_25_format(facts_, true);
  const std::vector<TextEvent> events = {{.text = "a", .tokens = {{.text = "a"}}},
                                         {.text = "b", .tokens = {{.text = "b"}}}};
  EXPECT_THAT(format->chunks(events), ElementsAre(R"({"generated_text": "a)"));
  EXPECT_EQ(format->stream_error({.kind = ErrorKind::kEngineError, .field = "", .message = "x"}),
            "{\n  \"error\": \"\",\n  \"code\": 424\n}");
}

TEST_F(Lmi025, ABodyThatCannotBeReadHasItsDecodersMessage) {
  EXPECT_EQ(lmi_0_25_error({.kind = ErrorKind::kInvalidJson, .field = "", .message = "no <\"'>"}),
            "{\n  \"error\": \"no \\u003c\\\"\\u0027\\u003e\",\n  \"code\": 424\n}");
}

TEST_F(Lmi025, NoneIsTextWithoutAType) {
  for (const char* name : {"none", "sse"}) {  // 0.25.0 does not know sse
    facts_.output_formatter = name;
    EXPECT_THAT(chunks({"a\"", "b"}), ElementsAre("a\"", "b"));
    EXPECT_THAT(chunks({""}), IsEmpty());  // a chunk of nothing would end the body
    EXPECT_EQ(lmi_0_25_content_type(facts_), "");
  }
}

TEST_F(Lmi025, ABufferOfOneOrNoneSendsEveryEvent) {
  for (const int64_t buffer : {0, 1}) {
    facts_.lmi.rolling_batch_buffer = buffer;
    EXPECT_THAT(chunks({"a", "b", "c"}), ElementsAre(R"({"generated_text": "a)", "b", R"(c"})"));
  }
  facts_.lmi.rolling_batch_buffer = 2;
  EXPECT_THAT(chunks({"a", "b", "c", "d"}),
              ElementsAre(R"({"generated_text": "a)", "bc", R"(d"})"));
}

TEST_F(Lmi025, WhatTheModelsSideRefusesIsTellableBehind200) {
  const auto tells = [](ErrorKind kind) {
    return lmi_0_25_tells_behind_200({.kind = kind, .field = "", .message = ""});
  };
  EXPECT_TRUE(tells(ErrorKind::kInvalidJson));
  EXPECT_TRUE(tells(ErrorKind::kPromptTooLong));
  EXPECT_TRUE(tells(ErrorKind::kEngineError));
  EXPECT_FALSE(tells(ErrorKind::kQueueFull));
  EXPECT_FALSE(tells(ErrorKind::kModelNotFound));
  EXPECT_FALSE(tells(ErrorKind::kDeadline));
}

TEST(Lmi025Request, OneInputIsAlwaysStreamedAndNothingChoosesItsForm) {
  TestModel model({script_rule("*", "ab")});
  model.facts.lmi.compat = "0.25.0";
  for (const char* body :
       {R"({"inputs":"x"})", R"({"inputs":["x"]})", R"({"inputs":"x","stream":false})",
        R"({"inputs":"x","parameters":{"details":true,"return_full_text":true}})",
        R"({"inputs":"x","parameters":{"output_formatter":"jsonlines"}})"}) {
    ASSERT_TRUE(model.parse(parse_lmi_invocation, body)->stream) << body;
    EXPECT_EQ(model.answer(parse_lmi_invocation, body), R"({"generated_text": "ab"})") << body;
  }
}

TEST(Lmi025Request, HalfACharacterIsAnEmptyEvent) {
  TestModel model({script_rule("*", "é!")});
  model.facts.lmi.compat = "0.25.0";
  model.facts.output_formatter = "jsonlines";
  EXPECT_EQ(model.answer(parse_lmi_invocation, R"({"inputs":"x"})"),
            "{\"outputs\": [\"\"]}\n{\"outputs\": [\"é\"]}\n{\"outputs\": [\"!\"]}\n"
            "{\"outputs\": [\"\"]}\n");
}

TEST(Lmi025Request, SeveralInputsAreAnsweredByAnArray) {
  TestModel model({script_rule("*", "a")});
  model.facts.lmi.compat = "0.25.0";
  EXPECT_EQ(model.answer(parse_lmi_invocation, R"({"inputs":["x","y"]})"),
            R"([{"generated_text": "a"}, {"generated_text": "a"}])");
}

}  // namespace
}  // namespace tidemill
