#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "api/test_model.h"

namespace tidemill {
namespace {

using testing::HasSubstr;

constexpr std::string_view kCompletionHead =
    R"({"id":"cmpl-0123456789abcdef01234567","object":"text_completion","created":1700000000,)"
    R"("model":"m","system_fingerprint":"fp_0123456789ab","choices":[)";

TEST(OpenAiCompletion, AWholeAnswerHasTheseBytes) {
  TestModel model({script_rule("*", "Hi é")});
  EXPECT_EQ(model.answer(parse_openai_completion, R"({"prompt":"hello","temperature":0})"),
            std::string(kCompletionHead) +
                R"({"index":0,"text":"Hi é","logprobs":null,"finish_reason":"stop",)"
                R"("stop_reason":null}],"usage":{"prompt_tokens":5,"completion_tokens":6,)"
                R"("total_tokens":11,"prompt_tokens_details":{"cached_tokens":0}}})");
}

TEST(OpenAiCompletion, AStreamOfOneTokenHasTheseBytes) {
  TestModel model({script_rule("*", "a")});
  const std::string head = "data: " + std::string(kCompletionHead);
  EXPECT_EQ(
      model.answer(parse_openai_completion, R"({"prompt":"hello","max_tokens":1,"stream":true,)"
                                            R"("stream_options":{"include_usage":true}})"),
      head + R"({"index":0,"text":"a","logprobs":null,"finish_reason":"length",)" +
          R"("stop_reason":null}],"usage":null})" + "\n\n" + head +
          R"(],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6,)" +
          R"("prompt_tokens_details":{"cached_tokens":0}}})" + "\n\ndata: [DONE]\n\n");
}

TEST(OpenAiCompletion, CM_1_ChoicesAreNumberedPromptByPrompt) {
  TestModel model({script_rule("one", "1"), script_rule("two", "2")});
  const auto json = parse_json(
      model.answer(parse_openai_completion, R"({"prompt":["one","two"],"n":2,"model":"m"})"));
  const JsonArray& choices = json->find("choices")->array();
  ASSERT_EQ(choices.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(choices[i].find("index")->integer(), static_cast<int64_t>(i));
    EXPECT_EQ(choices[i].find("text")->string(), i < 2 ? "1" : "2");
  }
  EXPECT_EQ(json->find("usage")->find("prompt_tokens")->integer(), 6);  // each prompt once
  EXPECT_EQ(json->find("usage")->find("completion_tokens")->integer(), 8);
}

TEST(OpenAiCompletion, CM_2_CM_3_LogprobListsHaveOnePlaceForEachToken) {
  TestModel model({script_rule("*", "é END")});
  const auto json = parse_json(model.answer(
      parse_openai_completion, R"({"prompt":"x","logprobs":0,"stop":"END","max_tokens":50})"));
  const JsonValue& choice = json->find("choices")->array()[0];
  EXPECT_EQ(choice.find("text")->string(), "é ");
  EXPECT_EQ(choice.find("stop_reason")->string(), "END");
  // Bytes that are no text alone are shown as such; what was cut away lies at the end of the text.
  EXPECT_EQ(to_json(*choice.find("logprobs")),
            R"({"text_offset":[0,0,1,2,2,2],"token_logprobs":[-0.5,-0.5,-0.5,-0.5,-0.5,-0.5],)"
            R"("tokens":["bytes:\\xc3","bytes:\\xa9"," ","E","N","D"],)"
            R"("top_logprobs":[{"bytes:\\xc3":-0.5},{"bytes:\\xa9":-0.5},{" ":-0.5},{"E":-0.5},)"
            R"({"N":-0.5},{"D":-0.5}]})");
}

TEST(OpenAiCompletion, RE_4_TheBestOfEachTokenAreListed) {
  TestModel model({script_rule("*", "a")});
  const auto json = parse_json(
      model.answer(parse_openai_completion, R"({"prompt":"x","logprobs":2,"max_tokens":1})"));
  EXPECT_EQ(to_json(*json->find("choices")->array()[0].find("logprobs")->find("top_logprobs")),
            R"([{"a":-0.5,"b":-1.5}])");
}

TEST(OpenAiCompletion, RE_5_ATokensBlankIsShownWhicheverListItStandsIn) {
  TestModel model({script_rule("*", "a")});
  // Alone, " the" and " a" are decoded without their blanks.
  const TokenText chosen{.id = 1,
                         .text = "the",
                         .bytes = " the",
                         .logprob = -0.5f,
                         .top = {{1, "the", " the", -0.5f}, {2, "a", " a", -1.0f}}};
  const std::vector<TextEvent> events = {
      {.text = "the", .tokens = {chosen}, .finish = Finish{.completion_tokens = 1}}};
  const auto json =
      parse_json(model.spell(parse_openai_completion, R"({"prompt":"x","logprobs":2})", events));
  const JsonValue& lists = *json->find("choices")->array()[0].find("logprobs");
  EXPECT_EQ(to_json(*lists.find("tokens")), R"([" the"])");
  EXPECT_EQ(to_json(*lists.find("top_logprobs")), R"([{" the":-0.5," a":-1.0}])");
}

TEST(OpenAiCompletion, CM_6_CM_7_EchoPutsThePromptInFront) {
  TestModel model({script_rule("*", "!")});
  const auto json =
      parse_json(model.answer(parse_openai_completion, R"({"prompt":"hé","echo":true})"));
  EXPECT_EQ(json->find("choices")->array()[0].find("text")->string(), "hé!");
  const auto events = events_of(model.answer(
      parse_openai_completion, R"({"prompt":[104,105],"echo":true,"stream":true,"max_tokens":1})"));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].find("choices")->array()[0].find("text")->string(), "hi");
  EXPECT_TRUE(events[0].find("choices")->array()[0].find("finish_reason")->is_null());
}

TEST(OpenAiCompletion, TokenIdsStandBesideTheTextWhenAsked) {
  TestModel model({script_rule("*", "ab")});
  const std::string body = R"({"prompt":["hi","x"],"return_token_ids":true,"stop":"b")";
  const auto json = parse_json(model.answer(parse_openai_completion, body + "}"));
  const JsonArray& choices = json->find("choices")->array();
  EXPECT_EQ(to_json(*choices[0].find("prompt_token_ids")), "[104,105]");
  EXPECT_EQ(to_json(*choices[1].find("prompt_token_ids")), "[120]");
  EXPECT_EQ(to_json(*choices[0].find("token_ids")), "[97,98]");  // what was cut away, too

  JsonArray prompt_ids;
  JsonArray ids;
  for (const JsonValue& event :
       events_of(model.answer(parse_openai_completion, body + R"(,"stream":true})"))) {
    const JsonValue& choice = event.find("choices")->array()[0];
    if (choice.find("index")->integer() != 0) continue;
    if (const JsonValue* of_prompt = choice.find("prompt_token_ids")) {
      prompt_ids.push_back(*of_prompt);
    }
    for (const JsonValue& id : choice.find("token_ids")->array()) ids.push_back(id);
  }
  EXPECT_EQ(to_json(prompt_ids), "[[104,105]]");  // once
  EXPECT_EQ(to_json(ids), "[97,98]");
}

TEST(OpenAiCompletion, RE_5_TokensMayBeSpelledAsIds) {
  TestModel model({script_rule("*", "a")});
  const auto json = parse_json(model.answer(
      parse_openai_completion,
      R"({"prompt":"x","logprobs":2,"max_tokens":1,"return_tokens_as_token_ids":true})"));
  const JsonValue& lists = *json->find("choices")->array()[0].find("logprobs");
  EXPECT_EQ(to_json(*lists.find("tokens")), R"(["token_id:97"])");
  EXPECT_EQ(to_json(*lists.find("top_logprobs")), R"([{"token_id:97":-0.5,"token_id:98":-1.5}])");
}

// The lists of log-probabilities for an answer of that token.
std::string top_of(const TokenText& token, const char* list = "top_logprobs") {
  TestModel model({script_rule("*", "a")});
  const std::vector<TextEvent> events = {
      {.text = token.text, .tokens = {token}, .finish = Finish{.completion_tokens = 1}}};
  const auto json =
      parse_json(model.spell(parse_openai_completion, R"({"prompt":"x","logprobs":3})", events));
  return to_json(*json->find("choices")->array()[0].find("logprobs")->find(list));
}

TEST(OpenAiCompletion, RE_5_WithoutTextsTokensAreNamedByTheirIds) {
  const TokenText token{.id = 8,
                        .logprob = -1.5f,
                        .top = {{7, "", "", -0.5f}, {8, "", "", -1.5f}, {9, "", "", -2.0f}}};
  EXPECT_EQ(top_of(token), R"([{"token_id:7":-0.5,"token_id:8":-1.5,"token_id:9":-2.0}])");
  EXPECT_EQ(top_of(token, "tokens"), R"(["token_id:8"])");
}

TEST(OpenAiCompletion, RE_5_OfTokensWithOneTextTheChosenKeepsItAndTheOthersHaveTheirIds) {
  TokenText token{.id = 9,
                  .text = "a",
                  .bytes = "a",
                  .logprob = -3.0f,
                  .top = {{7, "a", "a", -0.5f}, {5, "b", "b", -1.0f}, {6, "b", "b", -2.0f}}};
  EXPECT_EQ(top_of(token), R"([{"token_id:7":-0.5,"b":-1.0,"token_id:6":-2.0,"a":-3.0}])");
  EXPECT_EQ(top_of(token, "tokens"), R"(["a"])");
  token.id = 7;
  token.logprob = -0.5f;
  EXPECT_EQ(top_of(token), R"([{"a":-0.5,"b":-1.0,"token_id:6":-2.0}])");
}

TEST(OpenAiCompletion, CM_4_EchoWithLogprobsAsksForThoseOfThePrompt) {
  TestModel model({});
  const auto asked = [&](const char* more) {
    return model.parse(parse_openai_completion, format(R"({{"prompt":"x",{}}})", more))
        ->request.fields()
        .num_prompt_logprobs;
  };
  EXPECT_EQ(asked(R"("echo":true,"logprobs":2)"), 2);
  EXPECT_EQ(asked(R"("echo":true,"logprobs":2,"prompt_logprobs":5)"), 5);
  EXPECT_EQ(asked(R"("logprobs":2)"), -1);
  EXPECT_EQ(asked(R"("echo":true)"), -1);
}

// The lists' lengths agree with each other and with the usage, whatever is asked for.
TEST(OpenAiCompletion, CM_4_CM_5_EveryListHasThePromptsAndTheAnswersPlaces) {
  TestModel model({script_rule("*", "abc")});
  for (const int64_t max_tokens : {0, 1, 3}) {
    for (const char* stream : {"false", "true"}) {
      const std::string body = format(
          R"({{"prompt":["hé","xyz"],"n":2,"echo":true,"logprobs":1,"max_tokens":{},"stream":{}}})",
          max_tokens, stream);
      SCOPED_TRACE(body);
      const std::string answer = model.answer(parse_openai_completion, body);
      const auto parts = answer.starts_with("data: ") ? events_of(answer)
                                                      : std::vector<JsonValue>{*parse_json(answer)};
      std::map<int64_t, std::map<std::string, JsonArray>> lists;
      for (const JsonValue& part : parts) {
        for (const JsonValue& choice : part.find("choices")->array()) {
          const JsonValue* logprobs = choice.find("logprobs");
          if (logprobs->is_null()) continue;
          for (const JsonMember& list : logprobs->object()) {
            JsonArray& all = lists[choice.find("index")->integer()][list.first];
            all.insert(all.end(), list.second.array().begin(), list.second.array().end());
          }
        }
      }
      ASSERT_EQ(lists.size(), 4u);
      for (auto& [index, of_choice] : lists) {
        const size_t places = of_choice["tokens"].size();
        for (const char* name : {"text_offset", "token_logprobs", "top_logprobs"}) {
          EXPECT_EQ(of_choice[name].size(), places) << name;
        }
        EXPECT_EQ(places, 3 + static_cast<size_t>(max_tokens));  // either prompt has three bytes
        EXPECT_TRUE(of_choice["token_logprobs"][0].is_null());
        EXPECT_TRUE(of_choice["top_logprobs"][0].is_null());
      }
    }
  }
}

TEST(OpenAiCompletion, CM_5_NoTokensAtAllIsAnAnswer) {
  TestModel model({});
  const auto json = parse_json(
      model.answer(parse_openai_completion, R"({"prompt":"hi","echo":true,"max_tokens":0})"));
  EXPECT_EQ(json->find("choices")->array()[0].find("text")->string(), "hi");
  EXPECT_EQ(json->find("choices")->array()[0].find("finish_reason")->string(), "length");
  EXPECT_EQ(json->find("usage")->find("completion_tokens")->integer(), 0);
}

TEST(OpenAiCompletion, CM_8_UsageSoFarStandsInEachEventWhenAsked) {
  TestModel model({script_rule("*", "ab")});
  const auto events = events_of(
      model.answer(parse_openai_completion,
                   R"({"prompt":"x","stream":true,"max_tokens":2,"logprobs":0,"stream_options":)"
                   R"({"include_usage":true,"continuous_usage_stats":true}})"));
  ASSERT_GE(events.size(), 2u);
  for (const JsonValue& event : events) {
    EXPECT_GT(event.find("usage")->find("completion_tokens")->integer(), 0);
  }
  EXPECT_EQ(events.back().find("usage")->find("completion_tokens")->integer(), 2);
}

TEST(OpenAiCompletion, ER_7_AnErrorInsideAStreamIsARecordAndTheEnd) {
  ScriptRule bad = script_rule("*", "abc");
  bad.fail_at = 1;
  TestModel model({bad});
  const auto events =
      events_of(model.answer(parse_openai_completion, R"({"prompt":"x","stream":true})"));
  EXPECT_EQ(events.back().find("error")->find("code")->string(), "numerical_error");
}

TEST(OpenAiCompletion, TheModelsDefaultsLieUnderTheRequest) {
  TestModel model({});
  model.facts.generation_defaults = *parse_json(
      R"({"temperature":0.6,"top_p":0.9,"top_k":40,"min_p":0.05,"repetition_penalty":1.3})");
  const auto call = model.parse(parse_openai_completion, R"({"prompt":"x","top_p":0.5})");
  const GenerationFields& fields = call->request.fields();
  EXPECT_EQ(fields.temperature, 0.6);
  EXPECT_EQ(fields.top_p, 0.5);
  EXPECT_EQ(fields.top_k, 40);
  EXPECT_EQ(fields.min_p, 0.05);
  EXPECT_EQ(fields.repetition_penalty, 1.3);
  EXPECT_EQ(fields.max_new_tokens, 16);
  EXPECT_TRUE(fields.clamp_max_new_tokens);
}

TEST(OpenAiCompletion, EveryFieldReachesTheRequest) {
  TestModel model({});
  const auto call =
      model.parse(parse_openai_completion,
                  R"({"prompt":[[1,2.0],[3]],"max_tokens":7,"min_tokens":2,"temperature":0.1,)"
                  R"("top_k":3,"top_p":0.2,"seed":18446744073709551615,"n":2,"logprobs":4,)"
                  R"("stop":["a","b"],"stop_token_ids":[9],"ignore_eos":true,"best_of":2,)"
                  R"("include_stop_str_in_output":true,"skip_special_tokens":false,)"
                  R"("presence_penalty":0.5,"frequency_penalty":-1,"repetition_penalty":1.1,)"
                  R"("min_p":0.1,"typical_p":0.9,"logit_bias":{"5":1,"7":-2.5},"priority":-3,)"
                  R"("bad_words":["c"],"allowed_token_ids":[1,2],"truncate_prompt_tokens":5,)"
                  R"("cache_salt":"mine","prompt_logprobs":3,"response_format":{"type":"text"},)"
                  R"("suffix":"","user":"me","colour":"blue"})");
  ASSERT_TRUE(call) << call.error().message;
  const GenerationFields& fields = call->request.fields();
  ASSERT_EQ(fields.prompts.size(), 2u);
  EXPECT_THAT(std::get<TokenPrompt>(fields.prompts[0]).ids, testing::ElementsAre(1, 2));
  EXPECT_EQ(fields.max_new_tokens, 7);
  EXPECT_EQ(fields.min_new_tokens, 2);
  EXPECT_EQ(fields.temperature, 0.1);
  EXPECT_EQ(fields.top_k, 3);
  EXPECT_EQ(fields.top_p, 0.2);
  EXPECT_EQ(fields.seed, UINT64_MAX);
  EXPECT_EQ(fields.num_choices, 2);
  EXPECT_EQ(fields.num_logprobs, 4);
  EXPECT_THAT(fields.stop_strings, testing::ElementsAre("a", "b"));
  EXPECT_THAT(fields.stop_token_ids, testing::ElementsAre(9));
  EXPECT_EQ(fields.best_of, 2);
  EXPECT_EQ(fields.presence_penalty, 0.5);
  EXPECT_EQ(fields.frequency_penalty, -1.0);
  EXPECT_EQ(fields.repetition_penalty, 1.1);
  EXPECT_EQ(fields.min_p, 0.1);
  EXPECT_EQ(fields.typical_p, 0.9);
  EXPECT_THAT(fields.logit_bias, testing::ElementsAre(std::pair<int64_t, double>(5, 1.0),
                                                      std::pair<int64_t, double>(7, -2.5)));
  EXPECT_EQ(fields.priority, -3);
  EXPECT_THAT(fields.bad_words, testing::ElementsAre("c"));
  EXPECT_THAT(*fields.allowed_token_ids, testing::ElementsAre(1, 2));
  EXPECT_EQ(fields.truncate_prompt_tokens, 5);
  EXPECT_EQ(fields.cache_salt, "mine");
  EXPECT_EQ(fields.num_prompt_logprobs, 3);
  EXPECT_TRUE(fields.ignore_end && fields.keep_stop_text && !fields.skip_special_tokens);
  EXPECT_THAT(call->ignored_fields, testing::ElementsAre("colour"));
}

TEST(OpenAiCompletion, RE_6_RE_7_RE_8_EveryEventSaysWhoAnswers) {
  TestModel model({script_rule("*", "abc")});
  for (const auto& [field, name] : {std::pair("", "m"), std::pair(R"(,"model":"alias")", "alias"),
                                    std::pair(R"(,"model":"")", "m")}) {
    const auto events = events_of(model.answer(
        parse_openai_completion, format(R"({{"prompt":"x","stream":true{}}})", field)));
    ASSERT_GE(events.size(), 2u);
    for (const JsonValue& event : events) {
      EXPECT_EQ(event.find("model")->string(), name);
      EXPECT_EQ(*event.find("created"), JsonValue(1700000000));
      EXPECT_EQ(event.find("system_fingerprint")->string(), "fp_0123456789ab");
      const std::string& id = event.find("id")->string();
      EXPECT_TRUE(id.starts_with("cmpl-"));
      EXPECT_GE(id.size(), 5u + 24u);
      EXPECT_EQ(id, events.front().find("id")->string());
    }
  }
}

TEST(OpenAiCompletion, SS_8_AStepWithoutVisibleTextMakesNoEventUnlessItTellsSomething) {
  TestModel model({script_rule("*", "a")});
  const TextEvent held{.tokens = {{.id = 195, .bytes = "\xc3", .logprob = -0.5f}}};
  const TextEvent seen{.text = "é", .tokens = {{.id = 169, .text = "é", .bytes = "\xa9"}}};
  const std::vector<TextEvent> events = {held, seen};
  const auto plain =
      model.spell_chunks(parse_openai_completion, R"({"prompt":"x","stream":true})", events);
  EXPECT_EQ(plain[0], "");
  EXPECT_THAT(plain[1], HasSubstr(R"("text":"é")"));
  for (const char* more : {R"("logprobs":0)", R"("return_token_ids":true)"}) {
    const auto told = model.spell_chunks(
        parse_openai_completion, format(R"({{"prompt":"x","stream":true,{}}})", more), events);
    EXPECT_THAT(told[0], HasSubstr(R"("text":"")")) << more;
  }
}

TEST(OpenAiCompletion, CM_7_WithEchoAndLogprobsAPromptsFirstChoiceComesFirst) {
  TestModel model({script_rule("*", "a")});
  const TextEvent second{
      .choice = 1, .text = "b", .tokens = {{.id = 98, .text = "b", .bytes = "b"}}};
  const TextEvent first{
      .choice = 0, .text = "a", .tokens = {{.id = 97, .text = "a", .bytes = "a"}}};
  const std::vector<TextEvent> events = {second, first};
  const auto index = [](const JsonValue& event) {
    return event.find("choices")->array()[0].find("index")->integer();
  };
  const auto chunks =
      model.spell_chunks(parse_openai_completion,
                         R"({"prompt":"x","n":2,"echo":true,"logprobs":0,"stream":true})", events);
  EXPECT_EQ(chunks[0], "");  // the prompt's lists are not complete yet
  const auto all = events_of(chunks[1] + "data: [DONE]\n\n");
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(index(all[0]), 0);
  EXPECT_EQ(all[0].find("choices")->array()[0].find("text")->string(), "x");
  EXPECT_EQ(index(all[1]), 0);
  EXPECT_EQ(index(all[2]), 1);
  EXPECT_EQ(all[2].find("choices")->array()[0].find("text")->string(), "x");
  EXPECT_EQ(all[3].find("choices")->array()[0].find("text")->string(), "b");
}

TEST(OpenAiCompletion, ER_1_WhatIsWrongIsNamed) {
  TestModel model({});
  const std::vector<std::tuple<const char*, const char*, ErrorKind>> cases = {
      {R"({})", "prompt", ErrorKind::kMissingParameter},
      {R"({"prompt":null})", "prompt", ErrorKind::kMissingParameter},
      {R"({"prompt":[]})", "prompt", ErrorKind::kInvalidParameter},
      {R"({"prompt":[1,"a"]})", "prompt", ErrorKind::kInvalidParameter},
      {R"({"prompt":["a",[1]]})", "prompt", ErrorKind::kInvalidParameter},
      {R"({"prompt":[[]]})", "prompt", ErrorKind::kEmptyPrompt},
      {R"({"prompt":[259]})", "prompt", ErrorKind::kInvalidParameter},
      {R"({"prompt":[99999999999]})", "prompt", ErrorKind::kInvalidParameter},
      {R"({"prompt":"x","logprobs":-1})", "logprobs", ErrorKind::kInvalidParameter},
      {R"({"prompt":"x","logprobs":21})", "logprobs", ErrorKind::kInvalidParameter},
      {R"({"prompt":"x","suffix":"y"})", "suffix", ErrorKind::kUnsupportedParameter},
      {R"({"prompt":"x","prompt_logprobs":1,"stream":true})", "prompt_logprobs",
       ErrorKind::kInvalidParameter},
      {R"({"prompt":"x","best_of":-1})", "best_of", ErrorKind::kInvalidParameter},
      {R"({"prompt":"x","best_of":2,"n":3})", "best_of", ErrorKind::kInvalidParameter},
      {R"({"prompt":"x","best_of":2,"n":2,"stream":true})", "best_of",
       ErrorKind::kInvalidParameter},
      {R"({"prompt":"x","request_id":"mine"})", "request_id", ErrorKind::kUnsupportedParameter},
      {R"({"prompt":"x","temperature":2.5})", "temperature", ErrorKind::kInvalidParameter},
      {R"({"prompt":"x","n":0})", "n", ErrorKind::kInvalidParameter},
      {R"({"prompt":"x","stop":""})", "stop", ErrorKind::kInvalidParameter},
      {R"({"prompt":"x","stream_options":{}})", "stream_options", ErrorKind::kInvalidParameter},
      {R"({"prompt":"x","stream":true,"stream_options":{"include_usage":1}})",
       "stream_options.include_usage", ErrorKind::kInvalidParameter},
  };
  for (const auto& [body, field, kind] : cases) {
    const Error error = model.refusal(parse_openai_completion, body);
    EXPECT_EQ(error.field, field) << body;
    EXPECT_EQ(error.kind, kind) << body;
  }
}

TEST(OpenAiCompletion, CO_7_LaterWorkIsRefusedByName) {
  TestModel model({});
  for (const char* field :
       {R"("use_beam_search":true)", R"("guided_json":{})", R"("guided_regex":"a")",
        R"("structured_outputs":{})", R"("response_format":{"type":"json_object"})",
        R"("suffix":"s")", R"("parse_special":false)"}) {
    const Error error =
        model.refusal(parse_openai_completion, format(R"({{"prompt":"x",{}}})", field));
    EXPECT_EQ(error.kind, ErrorKind::kUnsupportedParameter) << field;
    EXPECT_THAT(std::string(field), HasSubstr("\"" + error.field + "\""));
    EXPECT_THAT(error.message, HasSubstr("not supported yet"));
  }
}

TEST(OpenAiCompletion, CO_6_StrictParametersRefuseTheUnknownInFewBytes) {
  TestModel model({});
  model.facts.strict_parameters = true;
  const Error error = model.refusal(parse_openai_completion,
                                    R"({"prompt":"x",")" + std::string(9000, 'n') + R"(":1})");
  EXPECT_EQ(error.kind, ErrorKind::kUnknownParameter);
  EXPECT_EQ(error.field, std::string(64, 'n'));
  EXPECT_LT(error.message.size(), 128u);
}

}  // namespace
}  // namespace tidemill
