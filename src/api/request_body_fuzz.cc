// Bodies of every schema: accepted, or refused with a field and a message that can be sent in every
// dialect's error body.
#include "api/error.h"
#include "api/schema.h"
#include "base/fuzz_target.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

ModelFacts make_facts() {
  ModelFacts facts;
  facts.name = "m";
  facts.served_names = {"m"};
  facts.limits = {
      .max_model_len = 4096, .vocab_size = 259, .has_tokenizer = true, .has_chat_template = true};
  facts.generation_defaults = JsonObject{{"temperature", 0.5}};
  return facts;
}

void check_refusal(const Error& error) {
  CHECK(!error.message.empty() && error.message.size() < 1024, "{} bytes", error.message.size());
  CHECK(!first_invalid_utf8(error.message) && !first_invalid_utf8(error.field), "no UTF-8");
  for (const Dialect dialect : {Dialect::kOpenAi, Dialect::kLmi, Dialect::kPlain}) {
    const ErrorAnswer answer = error_answer(error, dialect, "id");
    CHECK(answer.status >= 400 && answer.status < 600, "status {}", answer.status);
    CHECK(parse_json(answer.body).has_value(), "an error that is no JSON: {}", answer.body);
  }
}

void check_call(const ApiCall& call, const RequestLimits& limits) {
  const size_t prompts = call.request.fields().prompts.size();
  CHECK(prompts > 0 && prompts <= static_cast<size_t>(limits.max_prompts), "{} prompts", prompts);
  CHECK(call.format != nullptr, "an answer without a form");
}

}  // namespace

void fuzz_one(std::string_view input) {
  static const ModelFacts facts = make_facts();
  const auto body = parse_json(input);
  if (!body) return check_refusal(body.error());
  const auto model = requested_model(*body);
  if (!model) check_refusal(model.error());
  const RequestContext context{.unique_id = "0123456789abcdef01234567", .created = 1700000000};
  for (const auto parse : {parse_openai_completion, parse_openai_chat, parse_lmi_invocation}) {
    const auto call = parse(*body, facts, context);
    if (call) {
      check_call(*call, facts.limits);
    } else {
      check_refusal(call.error());
    }
  }
}

std::vector<std::string> fuzz_seeds() {
  return {
      R"({"model":"m","prompt":"x","max_tokens":4,"temperature":0.5,"stop":["a"],"logprobs":2})",
      R"({"prompt":[[1,2],[3]],"n":2,"best_of":3,"seed":7,"echo":true,"logit_bias":{"5":-100}})",
      R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text",)"
      R"("text":"x"}]}],"stream":true,"stream_options":{"include_usage":true},"top_logprobs":3,)"
      R"("logprobs":true,"response_format":{"type":"text"},"tools":[]})",
      R"({"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":)"
      R"("function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","content":"1",)"
      R"("tool_call_id":"1"}],"continue_final_message":true,"add_generation_prompt":false})",
      R"({"inputs":"x","parameters":{"max_new_tokens":4,"do_sample":true,"top_k":5,"top_p":0.9,)"
      R"("details":true,"stop_sequences":["a"],"return_full_text":true,"seed":1},"stream":false})",
      R"({"inputs":["a","b"],"parameters":{"repetition_penalty":1.1,"typical_p":0.5}})"};
}

}  // namespace tidemill
