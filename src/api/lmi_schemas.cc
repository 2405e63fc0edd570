#include "api/lmi_schemas.h"

#include <string_view>

#include "api/lmi_format.h"
#include "base/check.h"

namespace tidemill {
namespace {

// Beside what every answer has stand the members that a request or the operator asks for: with
// tgi_compat a token has logprob and special instead of log_prob and special_token, and one answer
// is a list, too; with lmi_compat, lines hold outputs, and errors of the model have status 200
// (what was sent before them keeps such a body from being JSON; alone they are).
constexpr std::string_view kSchemas = R"({
"LmiToken":{"type":"object","required":["id","text"],"properties":{"id":{"type":"integer"},
 "text":{"type":"string"},"log_prob":{"type":["number","null"]},"special_token":{"const":true},
 "logprob":{"type":["number","null"]},"special":{"type":"boolean"}},
 "anyOf":[{"required":["log_prob"]},{"required":["logprob","special"]}]},
"LmiTokens":{"type":"array","items":{"$ref":"#/components/schemas/LmiToken"}},
"LmiSequence":{"type":"object","required":["generated_text","finish_reason","generated_tokens",
 "tokens"],"properties":{"generated_text":{"type":"string"},
 "finish_reason":{"$ref":"#/components/schemas/LmiFinishReason"},
 "generated_tokens":{"type":"integer"},"tokens":{"$ref":"#/components/schemas/LmiTokens"},
 "top_tokens":{"type":"array","items":{"$ref":"#/components/schemas/LmiTokens"}}}},
"LmiDetails":{"type":"object","required":["finish_reason","generated_tokens","inputs","tokens"],
 "properties":{"finish_reason":{"$ref":"#/components/schemas/LmiFinishReason"},
 "generated_tokens":{"type":"integer"},"inputs":{"type":"string"},
 "tokens":{"$ref":"#/components/schemas/LmiTokens"},
 "prefill":{"$ref":"#/components/schemas/LmiTokens"},
 "top_tokens":{"type":"array","items":{"$ref":"#/components/schemas/LmiTokens"}},
 "best_of_sequences":{"type":"array","items":{"$ref":"#/components/schemas/LmiSequence"}}}},
"LmiAnswer":{"type":"object","required":["generated_text"],"properties":{
 "generated_text":{"type":"string"},"details":{"$ref":"#/components/schemas/LmiDetails"}}},
"LmiRecord":{"type":"object","anyOf":[{"required":["token"]},{"required":["generated_text"]}],
 "properties":{"token":{"$ref":"#/components/schemas/LmiToken"},
 "top_tokens":{"$ref":"#/components/schemas/LmiTokens"},"generated_text":{"type":"string"},
 "details":{"type":"object","required":["finish_reason","generated_tokens","inputs"],
 "properties":{"finish_reason":{"$ref":"#/components/schemas/LmiFinishReason"},
 "generated_tokens":{"type":"integer"},"inputs":{"type":"string"},
 "prefill":{"$ref":"#/components/schemas/LmiTokens"}}}}},
"LmiErrorRecord":{"type":"object","required":["finish_reason","error","code","reason"],
 "properties":{"finish_reason":{"const":"error"},"error":{"type":"string"},
 "code":{"type":"integer"},"reason":{"type":"string"}}},
"LmiLikely":{"type":"object","required":["token","logprob","bytes"],"properties":{
 "token":{"type":"string"},"logprob":{"type":"number"},
 "bytes":{"type":"array","items":{"type":"integer"}}}},
"LmiChatLogprobs":{"type":["object","null"],"required":["content"],"properties":{
 "content":{"type":"array","items":{"type":"object",
 "required":["token","logprob","bytes","top_logprobs"],"properties":{"token":{"type":"string"},
 "logprob":{"type":"number"},"bytes":{"type":"array","items":{"type":"integer"}},
 "top_logprobs":{"type":"array","items":{"$ref":"#/components/schemas/LmiLikely"}}}}}}},
"LmiChatCompletion":{"type":"object","required":["id","object","created","choices","usage"],
 "properties":{"id":{"type":"string"},"object":{"const":"chat.completion"},
 "created":{"type":"integer"},"choices":{"type":"array","items":{"type":"object",
 "required":["index","message","logprobs","finish_reason"],"properties":{
 "index":{"type":"integer"},"message":{"type":"object","required":["role","content"],
 "properties":{"role":{"const":"assistant"},"content":{"type":"string"}}},
 "logprobs":{"$ref":"#/components/schemas/LmiChatLogprobs"},
 "finish_reason":{"$ref":"#/components/schemas/LmiFinishReason"}}}},
 "usage":{"type":"object","required":["prompt_tokens","completion_tokens","total_tokens"],
 "properties":{"prompt_tokens":{"type":"integer"},"completion_tokens":{"type":"integer"},
 "total_tokens":{"type":"integer"}}}}},
"LmiChatChunk":{"type":"object","required":["id","object","created","choices"],
 "properties":{"id":{"type":"string"},"object":{"const":"chat.completion.chunk"},
 "created":{"type":"integer"},"choices":{"type":"array","items":{"type":"object",
 "required":["index","delta","logprobs","finish_reason"],"properties":{
 "index":{"type":"integer"},"delta":{"type":"object","required":["content"],"properties":{
 "content":{"type":"string"},"role":{"const":"assistant"}}},
 "logprobs":{"$ref":"#/components/schemas/LmiChatLogprobs"},
 "finish_reason":{"anyOf":[{"$ref":"#/components/schemas/LmiFinishReason"},
 {"type":"null"}]}}}}}},
"LmiCompatError":{"type":"object","required":["error","code"],"properties":{
 "error":{"type":"string"},"code":{"const":424}}},
"LmiCompatLine":{"type":"object","required":["outputs"],"properties":{
 "outputs":{"type":"array","items":{"type":"string"}}}},
"InvocationAnswer":{"anyOf":[{"$ref":"#/components/schemas/LmiAnswer"},
 {"type":"array","items":{"$ref":"#/components/schemas/LmiAnswer"}},
 {"$ref":"#/components/schemas/LmiChatCompletion"},{"$ref":"#/components/schemas/Completion"},
 {"$ref":"#/components/schemas/LmiCompatError"}]},
"InvocationRecord":{"description":"Of each line.","anyOf":[
 {"$ref":"#/components/schemas/LmiRecord"},{"$ref":"#/components/schemas/LmiChatChunk"},
 {"$ref":"#/components/schemas/LmiErrorRecord"},{"$ref":"#/components/schemas/LmiCompatLine"}]},
"InvocationEvent":{"description":"Of the data of each event but [DONE].","anyOf":[
 {"$ref":"#/components/schemas/LmiRecord"},{"$ref":"#/components/schemas/LmiChatChunk"},
 {"$ref":"#/components/schemas/LmiErrorRecord"},{"$ref":"#/components/schemas/Completion"},
 {"$ref":"#/components/schemas/Error"}]},
"InvocationText":{"type":"string"}
})";

}  // namespace

JsonValue lmi_answer_schemas() {
  auto schemas = parse_json(kSchemas);
  CHECK(schemas, "no JSON: {}", kSchemas);
  JsonArray endings;
  for (const FinishReason reason :
       {FinishReason::kEndToken, FinishReason::kStopString, FinishReason::kLength}) {
    endings.emplace_back(std::string(lmi_finish(reason)));
  }
  schemas->set("LmiFinishReason", JsonObject{{"enum", std::move(endings)}});
  return std::move(*schemas);
}

}  // namespace tidemill
