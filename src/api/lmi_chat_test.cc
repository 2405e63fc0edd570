#include "api/lmi_chat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/test_model.h"

namespace tidemill {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string chat(const std::string& members) {
  return R"({"messages":[{"role":"user","content":"x"}])" + members + "}";
}

GenerationFields chat_fields(const TestModel& model, const std::string& members) {
  auto call = model.parse(parse_lmi_invocation, chat(members));
  EXPECT_TRUE(call) << members << ": " << call.error().message;
  return call ? call->request.fields() : GenerationFields{};
}

const std::string kHead = R"({"id": "chatcmpl-0123456789abcdef01234567", "object": )";

TEST(LmiChat, OneAnswerIsAChatCompletionWithLmisEndings) {
  TestModel model({script_rule("*", "hi")});
  EXPECT_EQ(model.answer(parse_lmi_invocation, chat("")),
            kHead + R"("chat.completion", "created": 1700000000, "choices": [{"index": 0, )" +
                R"("message": {"role": "assistant", "content": "hi"}, "logprobs": null, )" +
                R"("finish_reason": "eos_token"}], "usage": {"prompt_tokens": 20, )" +
                R"("completion_tokens": 3, "total_tokens": 23}})");
}

TEST(LmiChat, AStreamIsALineForEachTokenAndTheFirstHasTheRole) {
  TestModel model({script_rule("*", "hi")});
  const std::string head =
      kHead + R"("chat.completion.chunk", "created": 1700000000, "choices": [{"index": 0, )";
  EXPECT_EQ(model.answer(parse_lmi_invocation, chat(R"(,"stream":true,"max_tokens":2)")),
            head + R"("delta": {"content": "h", "role": "assistant"}, "logprobs": null, )" +
                R"("finish_reason": null}]})" + "\n" + head +
                R"("delta": {"content": "i"}, "logprobs": null, "finish_reason": "length"}]})" +
                "\n");
}

TEST(LmiChat, FormattersHaveBothNames) {
  TestModel model({script_rule("*", "hi")});
  const auto with = [](const char* name) {
    return chat(std::string(R"(,"parameters":{"output_formatter":")") + name + "\"}");
  };
  for (const char* name : {"sse", "sse_chat"}) {
    const std::string answer = model.answer(parse_lmi_invocation, with(name));
    EXPECT_TRUE(answer.starts_with("data: {")) << answer;
    EXPECT_TRUE(answer.ends_with("}\n\ndata: [DONE]\n\n")) << answer;
    EXPECT_EQ(model.parse(parse_lmi_invocation, with(name))->format->content_type(),
              "text/event-stream");
  }
  EXPECT_EQ(model.parse(parse_lmi_invocation, with("jsonlines_chat"))->format->content_type(),
            "application/jsonlines");
  EXPECT_FALSE(model.parse(parse_lmi_invocation, with("json_chat"))->stream);
  EXPECT_EQ(model.answer(parse_lmi_invocation, with("none")), "hi");
  EXPECT_THAT(model.parse(parse_lmi_invocation, with("yaml"))->ignored_fields,
              ElementsAre("parameters.output_formatter"));
  model.facts.output_formatter = "sse_chat";
  EXPECT_TRUE(model.parse(parse_lmi_invocation, chat(""))->stream);
}

TEST(LmiChat, ItsDefaultsAreLmisAtTheTopLevel) {
  TestModel model({});
  model.facts.generation_defaults = *parse_json(R"({"temperature":0.6})");
  EXPECT_EQ(chat_fields(model, "").max_new_tokens, 30);
  EXPECT_EQ(chat_fields(model, "").temperature, 1.0);
  EXPECT_EQ(chat_fields(model, R"(,"temperature":0)").temperature, 0.0);
  EXPECT_EQ(chat_fields(model, R"(,"frequency_penalty":0.5)").frequency_penalty, 0.5);
  EXPECT_EQ(chat_fields(model, R"(,"presence_penalty":0.5)").presence_penalty, 0.5);
  EXPECT_THAT(chat_fields(model, R"(,"logit_bias":{"3":1})").logit_bias,
              ElementsAre(std::pair<int64_t, double>(3, 1.0)));
  EXPECT_THAT(chat_fields(model, R"(,"stop":"a")").stop_strings, ElementsAre("a"));
  EXPECT_EQ(chat_fields(model, R"(,"n":2)").num_choices, 2);
}

TEST(LmiChat, LogprobsStandBesideTheTokens) {
  TestModel model({script_rule("*", "h")});
  EXPECT_THAT(model.answer(parse_lmi_invocation, chat(R"(,"logprobs":true,"max_tokens":1)")),
              HasSubstr(R"("logprobs": {"content": [{"token": "h", "logprob": -0.5, )"
                        R"("bytes": [104], "top_logprobs": [{"token": "h", )"
                        R"("logprob": -0.5, "bytes": [104]}]}]})"));
}

TEST(LmiChat, WhatIsWrongIsNamed) {
  TestModel model({});
  const std::pair<const char*, const char*> cases[] = {
      {R"(,"temperature":3)", "temperature"},
      {R"(,"tools":[{"type":"function"}])", "tools"},
      {R"(,"tool_choice":"required")", "tool_choice"},
      {R"(,"max_tokens":-1)", "max_tokens"},
      {R"(,"top_logprobs":2)", "top_logprobs"},
      {R"(,"parameters":{"output_formatter":"3p"})", "parameters.output_formatter"},
  };
  for (const auto& [members, field] : cases) {
    EXPECT_EQ(model.refusal(parse_lmi_invocation, chat(members)).field, field) << members;
  }
  for (const char* body : {R"({"messages":[]})", R"({"messages":5})", R"({"messages":"x"})",
                           R"({"messages":{}})", R"({"messages":true})"}) {
    EXPECT_EQ(model.refusal(parse_lmi_invocation, body).field, "messages") << body;
  }
  EXPECT_EQ(model.refusal(parse_lmi_invocation, chat(R"(,"parameters":[1])")).field, "parameters");
  EXPECT_EQ(model.refusal(parse_lmi_invocation, chat(R"(,"chat_template_kwargs":5)")).field,
            "chat_template_kwargs");
}

TEST(LmiChat, AnErrorInsideAStreamIsTheLastRecord) {
  ScriptRule bad = script_rule("*", "abc");
  bad.fail_at = 1;
  TestModel model({bad});
  EXPECT_THAT(model.answer(parse_lmi_invocation, chat(R"(,"stream":true)")),
              HasSubstr("\n{\"finish_reason\": \"error\", \"error\": "));
}

}  // namespace
}  // namespace tidemill
