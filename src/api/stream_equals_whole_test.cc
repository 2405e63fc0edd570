// SS-7 of the API specification: the joined events of a stream say exactly what the same request
// says without streaming. Answers, stop strings, logprobs and choices are random.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "api/test_model.h"

namespace tidemill {
namespace {

// Answers of characters of one to four bytes, whose bytes are tokens; sometimes half a character.
std::string random_reply(std::mt19937& random) {
  constexpr const char* kCharacters[] = {"a", "E", "N", "D", " ", "\n", "é", "世", "😀", "\""};
  std::string reply;
  for (auto left = random() % 24; left > 0; --left) reply += kCharacters[random() % 10];
  if (random() % 8 == 0) reply += "\xf0\x9f";
  return reply;
}

std::string pick(std::mt19937& random, std::vector<std::string> choices) {
  return choices[random() % choices.size()];
}

// A choice of an answer, from either form.
struct Joined {
  std::string text;
  std::string finish;
  JsonArray logprobs;
  JsonArray ids;
  JsonArray prompt_ids;
  bool operator==(const Joined&) const = default;
};

void append(JsonArray& all, const JsonArray& more) {
  all.insert(all.end(), more.begin(), more.end());
}

// The lists of a completion's logprobs as one list of places; a chat's as it is.
JsonArray places(const JsonValue& logprobs) {
  if (const JsonValue* content = logprobs.find("content")) return content->array();
  JsonArray all;
  for (size_t i = 0; logprobs.is_object() && i < logprobs.find("tokens")->array().size(); ++i) {
    JsonArray place;
    for (const JsonMember& list : logprobs.object()) place.push_back(list.second.array().at(i));
    all.push_back(std::move(place));
  }
  return all;
}

void join(std::map<int64_t, Joined>& choices, const JsonValue& choice) {
  Joined& joined = choices[choice.find("index")->integer()];
  const JsonValue* message = choice.find("message");
  const JsonValue* delta = message != nullptr ? message : choice.find("delta");
  const JsonValue* text = delta != nullptr ? delta->find("content") : choice.find("text");
  if (text != nullptr) joined.text += text->string();
  append(joined.logprobs, places(*choice.find("logprobs")));
  if (const JsonValue* ids = choice.find("token_ids")) append(joined.ids, ids->array());
  if (const JsonValue* ids = choice.find("prompt_token_ids"))
    append(joined.prompt_ids, ids->array());
  if (choice.find("finish_reason")->is_null()) return;
  EXPECT_EQ(joined.finish, "");
  joined.finish = choice.find("finish_reason")->string() + to_json(*choice.find("stop_reason"));
}

std::map<int64_t, Joined> joined(const std::vector<JsonValue>& answers, std::string* usage) {
  std::map<int64_t, Joined> choices;
  for (const JsonValue& answer : answers) {
    for (const JsonValue& choice : answer.find("choices")->array()) join(choices, choice);
    if (const JsonValue* value = answer.find("usage"); value != nullptr && !value->is_null()) {
      *usage = to_json(*value->find("prompt_tokens")) + to_json(*value->find("completion_tokens")) +
               to_json(*value->find("total_tokens"));
    }
  }
  return choices;
}

std::string random_fields(std::mt19937& random, bool chat) {
  std::string fields = R"("seed":5,"n":)" + pick(random, {"1", "3"});
  fields += pick(random, {"", R"(,"stop":"END")", R"(,"stop":["E ","é世"])", R"(,"stop":"a")"});
  fields += pick(random, {"", R"(,"include_stop_str_in_output":true)"});
  fields += pick(random, {"", R"(,"ignore_eos":true)"});
  fields += pick(random, {"", R"(,"skip_special_tokens":false)"});
  fields += pick(random, {"", R"(,"return_token_ids":true)"});
  fields += pick(random, {"", R"(,"return_tokens_as_token_ids":true)"});
  fields += R"(,"max_tokens":)" + pick(random, {chat ? "2" : "0", "1", "7", "40"});
  if (chat) {
    fields += pick(random, {"", R"(,"logprobs":true)", R"(,"logprobs":true,"top_logprobs":2)"});
    return R"("messages":[{"role":"user","content":"x"}],)" + fields;
  }
  fields += pick(random, {"", R"(,"logprobs":0)", R"(,"logprobs":2)"});
  fields += pick(random, {"", R"(,"echo":true)"});
  const std::string prompt =
      pick(random, {R"("x")", R"(["x","yé"])", "[120,121]", "[[120],[195,169],[121]]"});
  return R"("prompt":)" + prompt + "," + fields;
}

void expect_equal_in_both_forms(Parser parser, bool chat) {
  std::mt19937 random(7);
  for (int round = 0; round < 64; ++round) {
    TestModel model({script_rule("*", random_reply(random))});
    for (int request = 0; request < 8; ++request) {
      const std::string fields = random_fields(random, chat);
      SCOPED_TRACE(fields);
      std::string usage;
      std::string streamed_usage;
      const auto whole = joined({*parse_json(model.answer(parser, "{" + fields + "}"))}, &usage);
      const auto streamed = joined(
          events_of(model.answer(
              parser, "{" + fields + R"(,"stream":true,"stream_options":{"include_usage":true}})")),
          &streamed_usage);
      EXPECT_EQ(streamed, whole);
      EXPECT_EQ(streamed_usage, usage);
    }
  }
}

TEST(StreamEqualsWhole, SS_7_InCompletions) {
  expect_equal_in_both_forms(parse_openai_completion, /*chat=*/false);
}

TEST(StreamEqualsWhole, SS_7_InChats) {
  expect_equal_in_both_forms(parse_openai_chat, /*chat=*/true);
}

TEST(StreamEqualsWhole, SS_7_InInvocations) {
  std::mt19937 random(9);
  for (int round = 0; round < 200; ++round) {
    TestModel model({script_rule("*", random_reply(random))});
    const std::string body = R"({"inputs":"x","parameters":{"details":true,"max_new_tokens":)" +
                             pick(random, {"1", "7", "40"}) +
                             pick(random, {"", R"(,"stop":["END","é世"])"}) +
                             pick(random, {"", R"(,"ignore_eos":true)"}) + "}";
    SCOPED_TRACE(body);
    const auto whole = parse_json(model.answer(parse_lmi_invocation, body + "}"));
    std::string lines = model.answer(parse_lmi_invocation, body + R"(,"stream":true})");
    std::string text;
    JsonArray tokens;
    JsonValue last;
    for (size_t begin = 0; begin < lines.size(); begin = lines.find('\n', begin) + 1) {
      last = *parse_json(lines.substr(begin, lines.find('\n', begin) - begin));
      ASSERT_NE(last.find("token"), nullptr) << lines;
      tokens.push_back(*last.find("token"));
      text += tokens.back().find("text")->string();
    }
    EXPECT_EQ(text, whole->find("generated_text")->string());
    EXPECT_EQ(last.find("generated_text")->string(), text);
    EXPECT_EQ(JsonValue(tokens), *whole->find("details")->find("tokens"));
    EXPECT_EQ(*last.find("details")->find("finish_reason"),
              *whole->find("details")->find("finish_reason"));
  }
}

}  // namespace
}  // namespace tidemill
