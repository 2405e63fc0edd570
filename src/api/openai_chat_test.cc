#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/test_model.h"

namespace tidemill {
namespace {

using testing::HasSubstr;

constexpr std::string_view kChunk =
    R"(data: {"id":"chatcmpl-0123456789abcdef01234567","object":"chat.completion.chunk",)"
    R"("created":1700000000,"model":"m","system_fingerprint":"fp_0123456789ab","choices":[)";

std::string body(const std::string& more) {
  return R"({"messages":[{"role":"user","content":"hi"}])" + (more.empty() ? "" : "," + more) + "}";
}

TEST(OpenAiChat, AWholeAnswerHasTheseBytes) {
  TestModel model({script_rule("assistant\n", "Hello")});
  const std::string answer = model.answer(parse_openai_chat, body(""));
  EXPECT_THAT(
      answer,
      testing::StartsWith(
          R"({"id":"chatcmpl-0123456789abcdef01234567","object":"chat.completion",)"
          R"("created":1700000000,"model":"m","system_fingerprint":"fp_0123456789ab","choices":[)"
          R"({"index":0,"message":{"role":"assistant","content":"Hello","refusal":null},)"
          R"("logprobs":null,"finish_reason":"stop","stop_reason":null}],"usage":{)"));
}

TEST(OpenAiChat, CH_12_CH_13_AStreamHasTheRoleTheTextAndTheEnd) {
  TestModel model({script_rule("*", "H")});
  const std::string head(kChunk);
  EXPECT_EQ(model.answer(parse_openai_chat, body(R"("stream":true,"max_completion_tokens":1)")),
            head + R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,)" +
                R"("finish_reason":null}]})" + "\n\n" + head +
                R"({"index":0,"delta":{"content":"H"},"logprobs":null,"finish_reason":null}]})" +
                "\n\n" + head +
                R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"length",)" +
                R"("stop_reason":null}]})" + "\n\ndata: [DONE]\n\n");
}

TEST(OpenAiChat, TokenIdsStandBesideTheTextWhenAsked) {
  TestModel model({script_rule("*", "ab")});
  const auto json = parse_json(model.answer(parse_openai_chat, body(R"("return_token_ids":true)")));
  const std::string ids = to_json(*json->find("choices")->array()[0].find("token_ids"));
  EXPECT_EQ(ids, "[97,98,257]");
  const JsonValue& prompt_ids = *json->find("prompt_token_ids");
  EXPECT_EQ(static_cast<int64_t>(prompt_ids.array().size()),
            json->find("usage")->find("prompt_tokens")->integer());

  JsonArray streamed;
  int told = 0;
  for (const JsonValue& event : events_of(
           model.answer(parse_openai_chat, body(R"("return_token_ids":true,"stream":true)")))) {
    if (const JsonValue* prompt = event.find("prompt_token_ids")) {
      ++told;
      EXPECT_EQ(*prompt, prompt_ids);
    }
    const JsonValue* more = event.find("choices")->array()[0].find("token_ids");
    if (more == nullptr) continue;
    streamed.insert(streamed.end(), more->array().begin(), more->array().end());
  }
  EXPECT_EQ(told, 1);
  EXPECT_EQ(to_json(streamed), ids);
}

TEST(OpenAiChat, RE_5_TokensMayBeSpelledAsIds) {
  TestModel model({script_rule("*", "a")});
  const auto json = parse_json(
      model.answer(parse_openai_chat,
                   body(R"("logprobs":true,"top_logprobs":1,"return_tokens_as_token_ids":true)")));
  const JsonValue& place =
      json->find("choices")->array()[0].find("logprobs")->find("content")->array()[0];
  EXPECT_EQ(place.find("token")->string(), "token_id:97");
  EXPECT_EQ(to_json(*place.find("bytes")), "[97]");
  EXPECT_EQ(place.find("top_logprobs")->array()[0].find("token")->string(), "token_id:97");
}

TEST(OpenAiChat, CH_14_UsageIsTheLastEventWhenAsked) {
  TestModel model({script_rule("*", "abc")});
  const auto events = events_of(model.answer(
      parse_openai_chat, body(R"("stream":true,"stream_options":{"include_usage":true})")));
  for (size_t i = 0; i + 1 < events.size(); ++i) EXPECT_TRUE(events[i].find("usage")->is_null());
  EXPECT_TRUE(events.back().find("choices")->array().empty());
  EXPECT_EQ(events.back().find("usage")->find("completion_tokens")->integer(), 4);
}

TEST(OpenAiChat, CH_11_LogprobsTellOfTheContentsTokensAndTheirBytes) {
  TestModel model({script_rule("*", "é")});
  const auto json =
      parse_json(model.answer(parse_openai_chat, body(R"("logprobs":true,"top_logprobs":1)")));
  EXPECT_EQ(to_json(*json->find("choices")->array()[0].find("logprobs")),
            R"({"content":[{"token":"�","logprob":-0.5,"bytes":[195],"top_logprobs":)"
            R"([{"token":"�","logprob":-0.5,"bytes":[195]}]},{"token":"�","logprob":-0.5,)"
            R"("bytes":[169],"top_logprobs":[{"token":"�","logprob":-0.5,"bytes":[169]}]}],)"
            R"("refusal":null})");
}

TEST(OpenAiChat, CH_11_SpecialTokensOfTheContentAreListedWhenTheyAreNotSkipped) {
  ScriptRule rule = script_rule("*", "a");
  rule.reply.insert(rule.reply.begin(), 258);  // <|endoftext|>, no end of sequence here
  TestModel model({rule});
  const auto json = parse_json(
      model.answer(parse_openai_chat, body(R"("logprobs":true,"skip_special_tokens":false)")));
  const JsonValue& choice = json->find("choices")->array()[0];
  const JsonArray& tokens = choice.find("logprobs")->find("content")->array();
  ASSERT_EQ(tokens.size(), 2u);
  EXPECT_EQ(tokens[0].find("token")->string(), "<|endoftext|>");
  EXPECT_TRUE(tokens[0].find("bytes")->is_null());
}

TEST(OpenAiChat, CH_2_CH_4_MessagesReachTheTemplateInOneForm) {
  TestModel model({});
  const auto call = model.parse(
      parse_openai_chat,
      R"({"messages":[{"role":"developer","content":"be kind"},)"
      R"({"role":"user","name":"Ann","content":[{"type":"text","text":"a"},)"
      R"({"type":"text","text":"b"}]},{"role":"assistant","content":null,"tool_calls":[]},)"
      R"({"role":"tool","tool_call_id":"c1"},{"role":"user","content":"x"}]})");
  ASSERT_TRUE(call) << call.error().message;
  const auto& prompt = std::get<ChatPrompt>(call->request.fields().prompts[0]);
  const JsonArray& messages = prompt.messages.array();
  EXPECT_EQ(messages[0].find("role")->string(), "system");
  EXPECT_EQ(messages[1].find("content")->string(), "a\nb");
  EXPECT_EQ(messages[1].find("name")->string(), "Ann");
  EXPECT_EQ(messages[2].find("content")->string(), "");
  EXPECT_EQ(messages[3].find("content")->string(), "");
  EXPECT_TRUE(prompt.options.add_generation_prompt);
}

JsonArray messages_for(const TestModel& model, std::string_view json) {
  const auto call = model.parse(parse_openai_chat, json);
  EXPECT_TRUE(call) << call.error().message;
  return std::get<ChatPrompt>(call->request.fields().prompts[0]).messages.array();
}

TEST(OpenAiChat, CH_3_PartsReachATemplateThatGoesOverThem) {
  TestModel model({});
  model.facts.template_takes_parts = true;
  const JsonArray messages = messages_for(
      model, R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},)"
             R"({"type":"text","text":"b"}]},{"role":"assistant","content":[{"type":"refusal",)"
             R"("refusal":"no"}]},{"role":"user","content":"x"}]})");
  EXPECT_EQ(to_json(*messages[0].find("content")),
            R"([{"type":"text","text":"a"},{"type":"text","text":"b"}])");
  EXPECT_EQ(to_json(*messages[1].find("content")), R"([{"type":"text","text":"no"}])");
  EXPECT_EQ(messages[2].find("content")->string(), "x");
}

TEST(OpenAiChat, CH_4_CH_5_AnEarlierCallReachesTheTemplateAsAnObject) {
  TestModel model({});
  const JsonArray messages = messages_for(
      model, R"({"messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[)"
             R"({"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},)"
             R"({"id":"c2","type":"function","function":{"name":"g","arguments":"no JSON"}}]},)"
             R"({"role":"tool","tool_call_id":"c1","content":"y"}]})");
  EXPECT_TRUE(messages[1].find("content")->is_null());
  const JsonArray& calls = messages[1].find("tool_calls")->array();
  EXPECT_EQ(to_json(*calls[0].find("function")->find("arguments")), R"({"a":1})");
  EXPECT_EQ(to_json(*calls[1].find("function")->find("arguments")), R"("no JSON")");
}

TEST(OpenAiChat, CH_8_AFinalMessageThatIsContinuedIsOneText) {
  TestModel model({});
  model.facts.template_takes_parts = true;
  const JsonArray messages = messages_for(
      model, R"({"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[)"
             R"({"type":"text","text":"a"},{"type":"text","text":"b"}]}],)"
             R"("continue_final_message":true})");
  EXPECT_EQ(messages[1].find("content")->string(), "a\nb");
}

TEST(OpenAiChat, CH_1_TheDeveloperKeepsItsRoleWhereTheTemplateKnowsIt) {
  TestModel model({});
  const auto json = R"({"messages":[{"role":"developer","content":"x"}]})";
  EXPECT_EQ(messages_for(model, json)[0].find("role")->string(), "system");
  model.facts.template_has_developer = true;
  EXPECT_EQ(messages_for(model, json)[0].find("role")->string(), "developer");
}

TEST(OpenAiChat, CH_1_WhetherATemplateKnowsTheDeveloperIsReadFromItsText) {
  EXPECT_TRUE(ChatTemplate("{# developer or system #}", JsonObject{}).mentions_developer());
  EXPECT_FALSE(ChatTemplate(byte_chat_template(), JsonObject{}).mentions_developer());
}

TEST(OpenAiChat, K_1_TemplateArgumentsAreBoundedLikeThePrompt) {
  TestModel model({});
  const auto with = [](size_t bytes) {
    return body(R"("chat_template_kwargs":{"a":")" + std::string(bytes, 'x') + "\"}");
  };
  const size_t limit = 32 * 4096;
  EXPECT_TRUE(model.parse(parse_openai_chat, with(limit - 8)));
  const Error error = model.refusal(parse_openai_chat, with(limit - 7));
  EXPECT_EQ(error.kind, ErrorKind::kPromptTooLong);
  EXPECT_EQ(error.field, "chat_template_kwargs");
}

TEST(OpenAiChat, CO_6_UnknownStreamOptionsAreReportedOrRefused) {
  TestModel model({});
  const std::string json = body(R"("stream":true,"stream_options":{"colour":1,)"
                                R"("include_obfuscation":false})");
  EXPECT_THAT(model.parse(parse_openai_chat, json)->ignored_fields,
              testing::ElementsAre("stream_options.colour"));
  model.facts.strict_parameters = true;
  EXPECT_EQ(model.refusal(parse_openai_chat, json).field, "stream_options.colour");
}

TEST(OpenAiChat, RE_4_TheChosenTokenIsListedBehindTheBest) {
  TestModel model({script_rule("*", "c")});
  const TokenText chosen{.id = 3,
                         .text = "c",
                         .bytes = "c",
                         .logprob = -4.0f,
                         .top = {{1, "a", "a", -0.5f}, {2, "b", "b", -1.0f}}};
  const std::vector<TextEvent> events = {
      {.text = "c", .tokens = {chosen}, .finish = Finish{.completion_tokens = 1}}};
  const auto json = parse_json(
      model.spell(parse_openai_chat, body(R"("logprobs":true,"top_logprobs":2)"), events));
  EXPECT_EQ(to_json(*json->find("choices")
                         ->array()[0]
                         .find("logprobs")
                         ->find("content")
                         ->array()[0]
                         .find("top_logprobs")),
            R"([{"token":"a","logprob":-0.5,"bytes":[97]},{"token":"b","logprob":-1.0,)"
            R"("bytes":[98]},{"token":"c","logprob":-4.0,"bytes":[99]}])");
}

TEST(OpenAiChat, CH_15_TheNewerNameOfTheLengthWins) {
  TestModel model({});
  const auto call =
      model.parse(parse_openai_chat,
                  body(R"("max_tokens":5,"max_completion_tokens":7,"clamp_max_tokens":true)"));
  EXPECT_EQ(call->request.fields().max_new_tokens, 7);
  EXPECT_EQ(call->request.names().max_new_tokens, "max_completion_tokens");
  EXPECT_TRUE(call->request.fields().clamp_max_new_tokens);
  EXPECT_EQ(model.parse(parse_openai_chat, body(""))->request.fields().max_new_tokens,
            std::nullopt);
}

TEST(OpenAiChat, CH_8_AFinalMessageOfTheAssistantCanBeContinued) {
  TestModel model({});
  const auto call = model.parse(
      parse_openai_chat,
      R"({"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}],)"
      R"("continue_final_message":true})");
  ASSERT_TRUE(call);
  const auto& options = std::get<ChatPrompt>(call->request.fields().prompts[0]).options;
  EXPECT_TRUE(options.continue_final_message);
  EXPECT_FALSE(options.add_generation_prompt);
}

TEST(OpenAiChat, ER_1_WhatIsWrongIsNamedByItsPath) {
  TestModel model({});
  const auto message = [](const char* json) { return format(R"({{"messages":[{}]}})", json); };
  const std::vector<std::tuple<std::string, const char*, ErrorKind>> cases = {
      {"{}", "messages", ErrorKind::kMissingParameter},
      {message(""), "messages", ErrorKind::kInvalidParameter},
      {message("1"), "messages[0]", ErrorKind::kInvalidParameter},
      {message("{}"), "messages[0].role", ErrorKind::kMissingParameter},
      {message(R"({"role":"king","content":"x"})"), "messages[0].role",
       ErrorKind::kInvalidParameter},
      {message(R"({"role":"user"})"), "messages[0].content", ErrorKind::kMissingParameter},
      {message(R"({"role":"user","content":5})"), "messages[0].content",
       ErrorKind::kInvalidParameter},
      {message(R"({"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"}]})"),
       "messages[0].content[1].type", ErrorKind::kUnsupportedContent},
      {message(R"({"role":"user","content":[{"type":"text"}]})"), "messages[0].content[0].text",
       ErrorKind::kInvalidParameter},
      {message(R"({"role":"tool","content":"x"})"), "messages[0].tool_call_id",
       ErrorKind::kMissingParameter},
      {message(R"({"role":"assistant","tool_calls":[{}]})"),
       "messages[0].tool_calls[0].function.name", ErrorKind::kInvalidParameter},
      {message(R"({"role":"user","content":"x","tool_calls":[{"function":{"name":"f"}}]})"),
       "messages[0].tool_calls", ErrorKind::kInvalidParameter},
      {message(R"({"role":"user","content":"x","name":5})"), "messages[0].name",
       ErrorKind::kInvalidParameter},
      {message(R"({"role":"user","content":[{"type":"refusal","refusal":"no"}]})"),
       "messages[0].content[0].type", ErrorKind::kInvalidParameter},
      {message(R"({"role":"assistant","function_call":{"name":"f"}})"), "messages[0].function_call",
       ErrorKind::kUnsupportedParameter},
      {body(R"("continue_final_message":true)"), "continue_final_message",
       ErrorKind::kInvalidParameter},
      {body(R"("continue_final_message":true,"add_generation_prompt":true)"),
       "continue_final_message", ErrorKind::kInvalidParameter},
      {body(R"("logprobs":1)"), "logprobs", ErrorKind::kInvalidParameter},
      {body(R"("top_logprobs":1)"), "top_logprobs", ErrorKind::kInvalidParameter},
      {body(R"("logprobs":true,"top_logprobs":-1)"), "top_logprobs", ErrorKind::kInvalidParameter},
      {body(R"("logprobs":true,"top_logprobs":21)"), "top_logprobs", ErrorKind::kInvalidParameter},
      {body(R"("max_completion_tokens":0)"), "max_completion_tokens", ErrorKind::kInvalidParameter},
      {body(R"("tools":[])"), "tools", ErrorKind::kUnsupportedParameter},
      {body(R"("spaces_between_special_tokens":true,"skip_special_tokens":false)"),
       "spaces_between_special_tokens", ErrorKind::kUnsupportedParameter},
      {body(R"("chat_template_kwargs":[])"), "chat_template_kwargs", ErrorKind::kInvalidParameter},
  };
  for (const auto& [json, field, kind] : cases) {
    const Error error = model.refusal(parse_openai_chat, json);
    EXPECT_EQ(error.field, field) << json;
    EXPECT_EQ(error.kind, kind) << json;
  }
}

TEST(OpenAiChat, CO_7_LaterWorkIsRefusedByName) {
  TestModel model({});
  for (const char* field :
       {R"("tools":[{}])", R"("tool_choice":"auto")", R"("functions":[])",
        R"("function_call":"auto")", R"("modalities":["audio"])", R"("audio":{})",
        R"("web_search_options":{})", R"("reasoning_effort":"low")", R"("chat_template":"x")",
        R"("documents":[{}])", R"("echo":true)", R"("add_special_tokens":true)",
        R"("request_id":"x")", R"("response_format":{"type":"json_schema"})", R"("best_of":2)"}) {
    const Error error = model.refusal(parse_openai_chat, body(field));
    EXPECT_EQ(error.kind, ErrorKind::kUnsupportedParameter) << field;
    EXPECT_THAT(std::string(field), HasSubstr("\"" + error.field + "\""));
  }
}

TEST(OpenAiChat, AMessageNeverCutsACharacterOfWhatItQuotes) {
  TestModel model({});
  std::string type = "x";
  for (int i = 0; i < 60; ++i) type += "é";
  const Error error =
      model.refusal(parse_openai_chat,
                    R"({"messages":[{"role":"user","content":[{"type":")" + type + R"("}]}]})");
  EXPECT_TRUE(parse_json("\"" + error.message + "\"")) << error.message;
}

}  // namespace
}  // namespace tidemill
