#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/test_model.h"

namespace tidemill {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

GenerationFields fields_of(const TestModel& model, const std::string& parameters) {
  auto call =
      model.parse(parse_lmi_invocation, R"({"inputs":"x","parameters":{)" + parameters + "}}");
  EXPECT_TRUE(call) << parameters << ": " << call.error().message;
  return call ? call->request.fields() : GenerationFields{};
}

TEST(LmiInvocation, OneInputIsAnsweredByOneObject) {
  TestModel model({script_rule("*", "a \"b\"\n/é")});
  EXPECT_EQ(model.answer(parse_lmi_invocation, R"({"inputs":"x"})"),
            R"({"generated_text": "a \"b\"\n/é"})");
}

TEST(LmiInvocation, AListIsAnsweredInItsOrder) {
  TestModel model({script_rule("one", "1"), script_rule("two", "2")});
  EXPECT_EQ(model.answer(parse_lmi_invocation, R"({"inputs":["two","one"]})"),
            R"([{"generated_text": "2"}, {"generated_text": "1"}])");
  EXPECT_EQ(model.answer(parse_lmi_invocation, R"({"inputs":["one"]})"),
            R"([{"generated_text": "1"}])");
}

TEST(LmiInvocation, DetailsTellOfTokensAndTheEnd) {
  TestModel model({script_rule("*", "ab")});
  EXPECT_EQ(model.answer(parse_lmi_invocation, R"({"inputs":"x","parameters":{"details":true}})"),
            R"({"generated_text": "ab", "details": {"finish_reason": "eos_token", )"
            R"("generated_tokens": 3, "inputs": "x", "tokens": [)"
            R"({"id": 97, "text": "a", "log_prob": -0.5}, {"id": 98, "text": "b", )"
            R"("log_prob": -0.5}, {"id": 257, "text": "", "log_prob": -0.5, )"
            R"("special_token": true}]}})");
}

TEST(LmiInvocation, AStreamIsALineForEachToken) {
  TestModel model({script_rule("*", "ab")});
  const std::string lines =
      R"({"token": {"id": 97, "text": "a", "log_prob": -0.5}})"
      "\n"
      R"({"token": {"id": 98, "text": "b", "log_prob": -0.5}, "generated_text": "xab")";
  const std::string parameters = R"("parameters":{"max_new_tokens":2,"return_full_text":true)";
  EXPECT_EQ(
      model.answer(parse_lmi_invocation, R"({"inputs":"x","stream":true,)" + parameters + "}}"),
      lines + "}\n");
  EXPECT_EQ(model.answer(parse_lmi_invocation,
                         R"({"inputs":"x","stream":true,)" + parameters + R"(,"details":true}})"),
            lines + R"(, "details": {"finish_reason": "length", "generated_tokens": 2, )" +
                R"("inputs": "x"}})" + "\n");
}

TEST(LmiInvocation, EventStreamsCarryTheSameRecords) {
  TestModel model({script_rule("*", "a")});
  const auto body = R"({"inputs":"x","parameters":{"output_formatter":"sse","max_new_tokens":1}})";
  EXPECT_EQ(model.parse(parse_lmi_invocation, body)->format->content_type(), "text/event-stream");
  EXPECT_EQ(model.answer(parse_lmi_invocation, body),
            R"(data: {"token": {"id": 97, "text": "a", "log_prob": -0.5}, "generated_text": "a"})"
            "\n\n");
}

TEST(LmiInvocation, NoneIsTextAloneStreamedWhereAskedFor) {
  TestModel model({script_rule("*", "a\"\n")});
  const std::string asked = R"("parameters":{"output_formatter":"none","return_full_text":true}})";
  const std::string whole = R"({"inputs":"x",)" + asked;
  EXPECT_FALSE(model.parse(parse_lmi_invocation, whole)->stream);
  EXPECT_EQ(model.parse(parse_lmi_invocation, whole)->format->content_type(), "text/plain");
  EXPECT_EQ(model.answer(parse_lmi_invocation, whole), "xa\"\n");
  const std::string streamed = R"({"inputs":"x","stream":true,)" + asked;
  EXPECT_TRUE(model.parse(parse_lmi_invocation, streamed)->stream);
  EXPECT_EQ(model.answer(parse_lmi_invocation, streamed), "xa\"\n");
}

TEST(LmiInvocation, ClientsOfTgiReadItsNames) {
  TestModel model({script_rule("*", "a")});
  model.facts.lmi.tgi_compat = true;
  EXPECT_EQ(model.answer(parse_lmi_invocation, R"({"inputs":"x"})"),
            R"([{"generated_text": "a", "details": {"finish_reason": "eos_token", )"
            R"("generated_tokens": 2, "inputs": "x", "tokens": [{"id": 97, "text": "a", )"
            R"("logprob": -0.5, "special": false}, {"id": 257, "text": "", "logprob": -0.5, )"
            R"("special": true}]}}])");
  EXPECT_EQ(
      model.parse(parse_lmi_invocation, R"({"inputs":"x","stream":true})")->format->content_type(),
      "text/event-stream");
}

TEST(LmiInvocation, TheBestTokensStandBesideEachToken) {
  TestModel model({script_rule("*", "a")});
  const std::string parameters = R"("parameters":{"details":true,"top_n_tokens":2,)"
                                 R"("max_new_tokens":1}})";
  const std::string top = R"("top_tokens": [{"id": 97, "text": "a", "log_prob": -0.5}, )"
                          R"({"id": 98, "text": "b", "log_prob": -1.5}])";
  EXPECT_THAT(model.answer(parse_lmi_invocation, R"({"inputs":"x","stream":true,)" + parameters),
              HasSubstr(top));
  EXPECT_THAT(model.answer(parse_lmi_invocation, R"({"inputs":"x",)" + parameters),
              HasSubstr(R"("top_tokens": [[{"id": 97, "text": "a", "log_prob": -0.5}, )"));
}

TEST(LmiInvocation, TheLikeliestOfSeveralSequencesIsTheAnswer) {
  TestModel model({});
  const std::string body = R"({"inputs":"x","parameters":{"n":2,"details":true}})";
  const auto event = [](int32_t choice, TokenId id, const char* text, float logprob) {
    return TextEvent{.choice = choice,
                     .text = text,
                     .tokens = {{.id = id, .text = text, .logprob = logprob}},
                     .finish = Finish{.completion_tokens = 1}};
  };
  const std::vector<TextEvent> events = {event(0, 97, "a", -2.0f), event(1, 98, "b", -1.0f)};
  EXPECT_EQ(model.spell(parse_lmi_invocation, body, events),
            R"({"generated_text": "b", "details": {"finish_reason": "length", )"
            R"("generated_tokens": 1, "inputs": "x", "tokens": [{"id": 98, "text": "b", )"
            R"("log_prob": -1.0}], "best_of_sequences": [{"generated_text": "a", )"
            R"("finish_reason": "length", "generated_tokens": 1, "tokens": [{"id": 97, )"
            R"("text": "a", "log_prob": -2.0}]}]}})");
}

TEST(LmiInvocation, K_3_NoByteOfAStopSequenceIsStreamed) {
  TestModel model({script_rule("*", "one END two")});
  const std::string lines =
      model.answer(parse_lmi_invocation,
                   R"({"inputs":"x","stream":true,"parameters":{"stop_sequences":["END"]}})");
  EXPECT_THAT(lines, testing::Not(HasSubstr(R"("text": "E")")));
  EXPECT_THAT(lines, HasSubstr(R"("generated_text": "one ")"));
}

TEST(LmiInvocation, AFormatterOfTheRequestWinsOverStream) {
  TestModel model({script_rule("*", "a")});
  const auto json = R"({"inputs":"x","stream":true,"parameters":{"output_formatter":"json"}})";
  EXPECT_FALSE(model.parse(parse_lmi_invocation, json)->stream);
  EXPECT_EQ(model.answer(parse_lmi_invocation, json), R"({"generated_text": "a"})");
  const auto lines = R"({"inputs":"x","parameters":{"output_formatter":"jsonlines"}})";
  EXPECT_TRUE(model.parse(parse_lmi_invocation, lines)->stream);
  EXPECT_EQ(model.parse(parse_lmi_invocation, lines)->format->content_type(),
            "application/jsonlines");
}

TEST(LmiInvocation, AFormatterNobodyKnowsIsReportedAndIgnored) {
  TestModel model({});
  const auto call = model.parse(parse_lmi_invocation,
                                R"({"inputs":"x","parameters":{"output_formatter":"yaml"}})");
  ASSERT_TRUE(call);
  EXPECT_FALSE(call->stream);
  EXPECT_THAT(call->ignored_fields, ElementsAre("parameters.output_formatter"));
}

TEST(LmiInvocation, WithoutAFormatterStreamDecides) {
  TestModel model({});
  EXPECT_FALSE(model.parse(parse_lmi_invocation, R"({"inputs":"x"})")->stream);
  EXPECT_TRUE(model.parse(parse_lmi_invocation, R"({"inputs":"x","stream":true})")->stream);
}

TEST(LmiInvocation, TheOperatorsFormatterWinsOverStream) {
  TestModel model({script_rule("*", "a")});
  model.facts.output_formatter = "json";
  EXPECT_EQ(model.answer(parse_lmi_invocation, R"({"inputs":"x","stream":true})"),
            R"({"generated_text": "a"})");
  const auto lines = R"({"inputs":"x","parameters":{"output_formatter":"jsonlines"}})";
  EXPECT_TRUE(model.parse(parse_lmi_invocation, lines)->stream);
  model.facts.output_formatter = "jsonlines";
  EXPECT_TRUE(model.parse(parse_lmi_invocation, R"({"inputs":"x"})")->stream);
  EXPECT_EQ(model.answer(parse_lmi_invocation, R"({"inputs":["x"]})"),
            R"([{"generated_text": "a"}])");
}

TEST(LmiInvocation, WithoutParametersItIsGreedyAnd30Tokens) {
  TestModel model({});
  model.facts.generation_defaults = *parse_json(R"({"temperature":0.6,"top_k":40})");
  const GenerationFields fields = fields_of(model, "");
  EXPECT_EQ(fields.temperature, 0.0);
  EXPECT_EQ(fields.top_k, 0);
  EXPECT_EQ(fields.max_new_tokens, 30);
}

TEST(LmiInvocation, SamplingIsAskedForOrImplied) {
  TestModel model({});
  EXPECT_EQ(fields_of(model, R"("do_sample":true)").temperature, 1.0);
  EXPECT_EQ(fields_of(model, R"("do_sample":true,"temperature":0.5)").temperature, 0.5);
  EXPECT_EQ(fields_of(model, R"("temperature":0.5)").temperature, 0.5);
  EXPECT_EQ(fields_of(model, R"("do_sample":false,"temperature":0.5)").temperature, 0.0);
  EXPECT_EQ(fields_of(model, R"("top_p":0.5)").temperature, 0.0);
  EXPECT_GT(fields_of(model, R"("temperature":1e300)").temperature, 1000.0);  // any finite one
}

TEST(LmiInvocation, BothSpellingsOfAParameterAreRead) {
  TestModel model({});
  EXPECT_THAT(fields_of(model, R"("stop":"a")").stop_strings, ElementsAre("a"));
  EXPECT_THAT(fields_of(model, R"("stop_sequences":["b"])").stop_strings, ElementsAre("b"));
  EXPECT_TRUE(fields_of(model, R"("ignore_eos_token":true)").ignore_end);
  EXPECT_TRUE(fields_of(model, R"("ignore_eos":true)").ignore_end);
  EXPECT_EQ(fields_of(model, R"("min_new_tokens":2)").min_new_tokens, 2);
  EXPECT_EQ(fields_of(model, R"("min_tokens":2)").min_new_tokens, 2);
  EXPECT_EQ(fields_of(model, R"("seed":-1)").seed, UINT64_MAX);
  EXPECT_THAT(fields_of(model, R"("stop_token_ids":[3])").stop_token_ids, ElementsAre(3));
}

TEST(LmiInvocation, EveryWayOfChoosingHasItsField) {
  TestModel model({});
  const GenerationFields fields = fields_of(
      model, R"("min_p":0.1,"typical_p":0.9,"repetition_penalty":1.2,"presence_penalty":0.5,)"
             R"("frequency_penalty":-0.5,"logit_bias":{"7":-100,"8":1.5},"bad_words":["no"],)"
             R"("allowed_token_ids":[1,2],"truncate":5)");
  EXPECT_EQ(fields.min_p, 0.1);
  EXPECT_EQ(fields.typical_p, 0.9);
  EXPECT_EQ(fields.repetition_penalty, 1.2);
  EXPECT_EQ(fields.presence_penalty, 0.5);
  EXPECT_EQ(fields.frequency_penalty, -0.5);
  EXPECT_THAT(fields.logit_bias,
              ElementsAre(std::pair<int64_t, double>(7, -100), std::pair<int64_t, double>(8, 1.5)));
  EXPECT_THAT(fields.bad_words, ElementsAre("no"));
  EXPECT_THAT(*fields.allowed_token_ids, ElementsAre(1, 2));
  EXPECT_EQ(fields.truncate_prompt_tokens, 5);
}

TEST(LmiInvocation, WhatTheAnswerShowsIsComputed) {
  TestModel model({});
  EXPECT_EQ(fields_of(model, "").num_logprobs, 0);  // every token tells its own
  EXPECT_EQ(fields_of(model, R"("top_n_tokens":3)").num_logprobs, 3);
  EXPECT_EQ(fields_of(model, R"("logprobs":1)").num_logprobs, 0);
  EXPECT_EQ(fields_of(model, R"("logprobs":2)").num_logprobs, 2);
  EXPECT_EQ(fields_of(model, "").num_prompt_logprobs, -1);
  EXPECT_EQ(fields_of(model, R"("decoder_input_details":true)").num_prompt_logprobs, 0);
  EXPECT_EQ(fields_of(model, R"("prompt_logprobs":2)").num_prompt_logprobs, 2);
  EXPECT_EQ(fields_of(model, R"("n":2)").num_choices, 2);
  EXPECT_EQ(fields_of(model, R"("best_of":3)").num_choices, 1);
  EXPECT_EQ(fields_of(model, R"("best_of":3)").best_of, 3);
  EXPECT_EQ(fields_of(model, R"("best_of":3,"details":true)").num_choices, 3);
}

TEST(LmiInvocation, NeutralValuesOfWhatIsNotDoneAreAccepted) {
  TestModel model({});
  fields_of(model, R"("num_beams":1,"length_penalty":1.0,"watermark":false,"min_length":0,)"
                   R"("use_beam_search":false,"early_stopping":false,"beam_width":1)");
}

TEST(LmiInvocation, WhatIsWrongIsNamed) {
  TestModel model({});
  const auto with = [](const char* parameter) {
    return format(R"({{"inputs":"x","parameters":{{{}}}}})", parameter);
  };
  const std::vector<std::tuple<std::string, const char*, ErrorKind>> cases = {
      {"{}", "inputs", ErrorKind::kMissingParameter},
      {R"({"inputs":5})", "inputs", ErrorKind::kInvalidParameter},
      {R"({"inputs":["a",1]})", "inputs", ErrorKind::kInvalidParameter},
      {R"({"inputs":[]})", "inputs", ErrorKind::kEmptyPrompt},
      {R"({"inputs":""})", "inputs", ErrorKind::kEmptyPrompt},
      {R"({"inputs":["a",""]})", "inputs", ErrorKind::kEmptyPrompt},
      {R"({"inputs":"x","parameters":[]})", "parameters", ErrorKind::kInvalidParameter},
      {R"({"inputs":["x","y"],"stream":true})", "stream", ErrorKind::kUnsupportedParameter},
      {R"({"inputs":["x"],"parameters":{"output_formatter":"jsonlines"}})", "inputs",
       ErrorKind::kUnsupportedParameter},
      {R"({"inputs":"x","adapters":"a"})", "adapters", ErrorKind::kUnsupportedParameter},
      {with(R"("do_sample":1)"), "parameters.do_sample", ErrorKind::kInvalidParameter},
      {with(R"("max_new_tokens":-3)"), "parameters.max_new_tokens", ErrorKind::kInvalidParameter},
      {with(R"("temperature":-1)"), "parameters.temperature", ErrorKind::kInvalidParameter},
      {with(R"("do_sample":false,"temperature":-1)"), "parameters.temperature",
       ErrorKind::kInvalidParameter},
      {with(R"("top_p":7)"), "parameters.top_p", ErrorKind::kInvalidParameter},
      {with(R"("top_k":-5)"), "parameters.top_k", ErrorKind::kInvalidParameter},
      {with(R"("stop_token_ids":[-1])"), "parameters.stop_token_ids", ErrorKind::kInvalidParameter},
      {with(R"("stop":"")"), "parameters.stop", ErrorKind::kInvalidParameter},
      {with(R"("stop_sequences":[""])"), "parameters.stop_sequences", ErrorKind::kInvalidParameter},
      {with(R"("min_tokens":-1)"), "parameters.min_tokens", ErrorKind::kInvalidParameter},
      {with(R"("spaces_between_special_tokens":true,"skip_special_tokens":false)"),
       "parameters.spaces_between_special_tokens", ErrorKind::kUnsupportedParameter},
      {with(R"("output_formatter":"3p")"), "parameters.output_formatter",
       ErrorKind::kUnsupportedParameter},
      {with(R"("output_formatter":"json_chat")"), "parameters.output_formatter",
       ErrorKind::kInvalidParameter},
      {with(R"("logprobs":50)"), "parameters.logprobs", ErrorKind::kInvalidParameter},
      {with(R"("logprobs":-1)"), "parameters.logprobs", ErrorKind::kInvalidParameter},
      {with(R"("top_n_tokens":-2)"), "parameters.top_n_tokens", ErrorKind::kInvalidParameter},
      {with(R"("prompt_logprobs":-1)"), "parameters.prompt_logprobs", ErrorKind::kInvalidParameter},
      {with(R"("num_beams":4)"), "parameters.num_beams", ErrorKind::kUnsupportedParameter},
      {with(R"("n":0)"), "parameters.n", ErrorKind::kInvalidParameter},
      {with(R"("best_of":-1,"details":true)"), "parameters.best_of", ErrorKind::kInvalidParameter},
      {with(R"("n":2,"output_formatter":"jsonlines")"), "parameters.n",
       ErrorKind::kUnsupportedParameter},
      {with(R"("best_of":2,"output_formatter":"sse")"), "parameters.best_of",
       ErrorKind::kUnsupportedParameter},
      {with(R"("logit_bias":{"a":1})"), "parameters.logit_bias", ErrorKind::kInvalidParameter},
      {with(R"("logit_bias":{"7":"x"})"), "parameters.logit_bias", ErrorKind::kInvalidParameter},
      {with(R"("logit_bias":[1])"), "parameters.logit_bias", ErrorKind::kInvalidParameter},
      {with(R"("min_length":5)"), "parameters.min_length", ErrorKind::kUnsupportedParameter},
      {with(R"("watermark":true)"), "parameters.watermark", ErrorKind::kUnsupportedParameter},
      {with(R"("guided_json":{})"), "parameters.guided_json", ErrorKind::kUnsupportedParameter},
  };
  for (const auto& [json, field, kind] : cases) {
    const Error error = model.refusal(parse_lmi_invocation, json);
    EXPECT_EQ(error.field, field) << json;
    EXPECT_EQ(error.kind, kind) << json;
  }
}

TEST(LmiInvocation, AMessageCallsAFieldByItsPath) {
  TestModel model({});
  EXPECT_THAT(
      model.refusal(parse_lmi_invocation, R"({"inputs":"x","parameters":{"top_p":7}})").message,
      testing::StartsWith("parameters.top_p is 7;"));
}

TEST(LmiInvocation, TheFormOfBedrockIsRefusedWithWhatIsAllowed) {
  TestModel model({});
  for (const char* name : {"3p", "3p_stream"}) {
    for (const char* prompt :
         {R"("inputs":"x")", R"("messages":[{"role":"user","content":"x"}])"}) {
      const Error error =
          model.refusal(parse_lmi_invocation,
                        format(R"({{{},"parameters":{{"output_formatter":"{}"}}}})", prompt, name));
      EXPECT_EQ(error.kind, ErrorKind::kUnsupportedParameter);
      EXPECT_EQ(error.field, "parameters.output_formatter");
      EXPECT_EQ(error.message,
                format("parameters.output_formatter is {}, which is not supported yet: answers "
                       "have no Bedrock form. Allowed are json, jsonlines, sse and none; leave it "
                       "out, and stream chooses json or jsonlines.",
                       name));
    }
  }
}

TEST(LmiInvocation, UnknownFieldsOfBothLevelsAreReported) {
  TestModel model({});
  const auto call =
      model.parse(parse_lmi_invocation, R"({"inputs":"x","a":1,"parameters":{"b":2}})");
  EXPECT_THAT(call->ignored_fields, ElementsAre("a", "parameters.b"));
}

TEST(LmiInvocation, APromptIsAnOpenAiRequest) {
  TestModel model({script_rule("*", "a")});
  EXPECT_THAT(model.answer(parse_lmi_invocation, R"({"inputs":null,"prompt":"x"})"),
              HasSubstr(R"("object":"text_completion")"));
}

TEST(LmiInvocation, AnErrorInsideAStreamIsTheLastLine) {
  ScriptRule bad = script_rule("*", "abc");
  bad.fail_at = 1;
  TestModel model({bad});
  const std::string lines = model.answer(parse_lmi_invocation, R"({"inputs":"x","stream":true})");
  const auto last = parse_json(lines.substr(lines.find('\n') + 1));
  ASSERT_TRUE(last) << lines;
  EXPECT_EQ(last->find("finish_reason")->string(), "error");
  EXPECT_EQ(last->find("code")->integer(), 424);
  EXPECT_EQ(last->find("reason")->string(), "numerical_error");
}

}  // namespace
}  // namespace tidemill
