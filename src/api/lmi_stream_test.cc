// Joined, a stream on LMI's routes says what the same request says without streaming; and so does
// the answer of 0.25.0. Answers, stop strings and lengths are random.
#include <gtest/gtest.h>

#include <random>

#include "api/test_model.h"

namespace tidemill {
namespace {

std::string short_reply(std::mt19937& random) {
  constexpr const char* kCharacters[] = {"a", "E", "N", "D", " ", "\n", "é", "世", "😀", "\""};
  std::string reply;
  for (auto left = random() % 24; left > 0; --left) reply += kCharacters[random() % 10];
  return reply;
}

std::string text_of(const std::string& json, const char* member) {
  const auto value = parse_json(json);
  EXPECT_TRUE(value) << json;
  const JsonValue* text = value ? value->find(member) : nullptr;
  return text != nullptr ? text->string() : "(none)";
}

// The records of JSON lines: their tokens' texts, and the text of the last one.
void expect_lines(const std::string& lines, const std::string& text) {
  std::string joined, last;
  for (size_t begin = 0; begin < lines.size();) {
    const size_t end = lines.find('\n', begin);
    last = lines.substr(begin, end - begin);
    const auto record = parse_json(last);
    ASSERT_TRUE(record) << lines;
    if (const JsonValue* token = record->find("token")) joined += token->find("text")->string();
    begin = end + 1;
  }
  EXPECT_EQ(joined, text);
  EXPECT_EQ(text_of(last, "generated_text"), text);
}

TEST(LmiStream, SaysWhatTheWholeAnswerSays) {
  std::mt19937 random(5);
  for (int i = 0; i < 300; ++i) {
    TestModel model({script_rule("*", short_reply(random))});
    JsonValue parameters = JsonObject{{"max_new_tokens", static_cast<int64_t>(random() % 40 + 1)}};
    if (random() % 2 == 0) parameters.set("stop", JsonArray{"END", "aa"});
    JsonValue body = JsonObject{{"inputs", "x"}, {"parameters", parameters}};
    const std::string text =
        text_of(model.answer(parse_lmi_invocation, to_json(body)), "generated_text");
    model.facts.lmi.compat = "0.25.0";
    EXPECT_EQ(text_of(model.answer(parse_lmi_invocation, to_json(body)), "generated_text"), text);
    model.facts.lmi.compat = "";
    body.set("stream", true);
    expect_lines(model.answer(parse_lmi_invocation, to_json(body)), text);
    parameters.set("output_formatter", "none");
    body.set("parameters", parameters);
    EXPECT_EQ(model.answer(parse_lmi_invocation, to_json(body)), text);
  }
}

}  // namespace
}  // namespace tidemill
