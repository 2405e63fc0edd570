#include "api/field_schemas.h"

#include <cmath>

#include "api/lmi_schemas.h"
#include "base/check.h"

namespace tidemill {
namespace {

const FieldTable* const kTables[] = {&kCompletionTable,     &kChatTable,
                                     &kMessageTable,        &kStreamOptionsTable,
                                     &kTokenizeTable,       &kDetokenizeTable,
                                     &kInvocationTable,     &kInvocationParametersTable,
                                     &kInvocationChatTable, &kInvocationChatParametersTable};

// 5 rather than 5.0 where that is meant.
JsonValue number(double value) {
  return value == std::floor(value) ? JsonValue(static_cast<int64_t>(value)) : JsonValue(value);
}

JsonValue json(std::string_view text) {
  auto value = parse_json(text);
  CHECK(value, "no JSON: {}", text);
  return std::move(*value);
}

JsonValue reference(std::string_view name) {
  return JsonObject{{"$ref", "#/components/schemas/" + std::string(name)}};
}

void add_bounds(JsonValue& schema, const FieldRange& range, const char* min, const char* max) {
  if (std::isfinite(range.min) && !range.above_min) schema.set(min, number(range.min));
  if (std::isfinite(range.min) && range.above_min)
    schema.set("exclusiveMinimum", number(range.min));
  if (std::isfinite(range.max)) schema.set(max, number(range.max));
}

JsonValue typed(const char* type) { return JsonObject{{"type", type}}; }

// Of a value that is not null.
JsonValue value_schema(const FieldRow& row) {
  JsonValue schema;
  switch (row.type) {
    case FieldType::kBoolean:
      return typed("boolean");
    case FieldType::kInteger:
    case FieldType::kNumber:
      schema = typed(row.type == FieldType::kInteger ? "integer" : "number");
      add_bounds(schema, row.range, "minimum", "maximum");
      return schema;
    case FieldType::kBits:
      return JsonObject{{"type", "integer"}, {"minimum", INT64_MIN}, {"maximum", UINT64_MAX}};
    case FieldType::kText:
      schema = typed("string");
      add_bounds(schema, row.range, "minLength", "maxLength");
      if (!row.values.empty()) {
        JsonArray values;
        for (const std::string_view value : row.values) values.emplace_back(std::string(value));
        schema.set("enum", std::move(values));
      }
      return schema;
    case FieldType::kTexts:
      schema = JsonObject{{"type", "array"}, {"items", typed("string")}};
      add_bounds(schema, row.range, "minItems", "maxItems");
      return JsonObject{{"anyOf", JsonArray{typed("string"), std::move(schema)}}};
    case FieldType::kIntegers:
      schema = JsonObject{{"type", "array"}, {"items", typed("integer")}};
      add_bounds(schema, row.range, "minItems", "maxItems");
      return schema;
    case FieldType::kList:
      schema = typed("array");
      if (!row.inner.empty()) schema.set("items", reference(row.inner));
      add_bounds(schema, row.range, "minItems", "maxItems");
      return schema;
    case FieldType::kObject:
      return row.inner.empty() ? typed("object") : reference(row.inner);
    case FieldType::kBias: {
      JsonValue bias = typed("number");
      add_bounds(bias, row.range, "minimum", "maximum");
      return JsonObject{{"type", "object"},
                        {"propertyNames", JsonObject{{"pattern", "^[0-9]{1,10}$"}}},
                        {"additionalProperties", std::move(bias)}};
    }
    case FieldType::kContent:
      return json(R"({"anyOf":[{"type":"string"},{"type":"array","items":{"anyOf":[)"
                  R"({"$ref":"#/components/schemas/TextPart"},)"
                  R"({"$ref":"#/components/schemas/RefusalPart"}]}}]})");
    case FieldType::kPrompt:
      return json(R"({"anyOf":[{"type":"string"},)"
                  R"({"type":"array","minItems":1,"items":{"type":"string"}},)"
                  R"({"type":"array","minItems":1,"items":{"type":"integer","minimum":0}},)"
                  R"({"type":"array","minItems":1,"items":{"type":"array","minItems":1,)"
                  R"("items":{"type":"integer","minimum":0}}}]})");
    case FieldType::kAny:
      break;
  }
  return JsonObject{};
}

std::string description(const FieldRow& row) {
  std::string text(row.sentence);
  if (row.use == FieldUse::kNoEffect) text = "Without effect. " + text;
  if (row.use == FieldUse::kRefused) text = "Not supported yet. " + text;
  if (row.range.limit != nullptr) text += format(" At most {}.", row.range.limit_name);
  return text;
}

JsonValue row_schema(const FieldRow& row) {
  JsonValue schema = JsonObject{};
  if (row.use == FieldUse::kRefused) {
    JsonArray accepted;
    if (!row.neutral.empty()) accepted.push_back(json(row.neutral));
    accepted.emplace_back();
    schema.set("enum", std::move(accepted));
  } else if (row.use == FieldUse::kUsed && row.required) {
    schema = value_schema(row);
  } else if (row.use == FieldUse::kUsed && row.type != FieldType::kAny) {
    schema.set("anyOf", JsonArray{value_schema(row), typed("null")});
  }
  if (!row.fallback.empty()) schema.set("default", json(row.fallback));
  schema.set("description", description(row));
  return schema;
}

// What a role asks of a message beside its fields.
constexpr std::string_view kMessageKinds = R"([
{"required":["content"],"properties":{"role":{"enum":["system","developer","user"]},
 "content":{"anyOf":[{"type":"string"},{"type":"array",
 "items":{"$ref":"#/components/schemas/TextPart"}}]},
 "tool_calls":{"type":["array","null"],"maxItems":0}}},
{"properties":{"role":{"const":"assistant"}}},
{"required":["tool_call_id"],"properties":{"role":{"const":"tool"},
 "content":{"anyOf":[{"type":["string","null"]},{"type":"array",
 "items":{"$ref":"#/components/schemas/TextPart"}}]},
 "tool_call_id":{"type":"string"},"tool_calls":{"type":["array","null"],"maxItems":0}}}
])";

// Bodies of several kinds, and answers.
constexpr std::string_view kOthers = R"({
"TextPart":{"type":"object","required":["type","text"],"properties":{"type":{"const":"text"},
 "text":{"type":"string"}}},
"RefusalPart":{"type":"object","required":["type","refusal"],"properties":{
 "type":{"const":"refusal"},"refusal":{"type":"string"}}},
"ToolCall":{"type":"object","required":["function"],"properties":{"function":{"type":"object",
 "required":["name"],"properties":{"name":{"type":"string"}}}}},
"Invocation":{"anyOf":[{"$ref":"#/components/schemas/InvocationRequest"},
 {"$ref":"#/components/schemas/InvocationChatRequest"},
 {"$ref":"#/components/schemas/CompletionRequest"}]},
"Error":{"type":"object","required":["error"],"properties":{"error":{"type":"object",
 "required":["message","type","param","code"],"properties":{"message":{"type":"string"},
 "type":{"type":"string","enum":["invalid_request_error","authentication_error","permission_error",
 "rate_limit_error","server_error"]},"param":{"type":["string","null"]},
 "code":{"type":["string","null"]}}}}},
"DjlError":{"type":"object","required":["code","type","message"],"properties":{
 "code":{"type":"integer"},"type":{"type":"string"},"message":{"type":"string"},
 "error":{"type":"string"},"reason":{"type":"string"},"param":{"type":"string"},
 "request_id":{"type":"string"}}},
"Usage":{"type":"object","required":["prompt_tokens","completion_tokens","total_tokens",
 "prompt_tokens_details"],"properties":{"prompt_tokens":{"type":"integer"},
 "completion_tokens":{"type":"integer"},"total_tokens":{"type":"integer"},
 "prompt_tokens_details":{"type":"object","required":["cached_tokens"],
 "properties":{"cached_tokens":{"type":"integer"}}}}},
"FinishReason":{"enum":["stop","length",null]},
"StopReason":{"type":["string","integer","null"]},
"CompletionLogprobs":{"type":"object","required":["text_offset","token_logprobs","tokens",
 "top_logprobs"],"properties":{"text_offset":{"type":"array","items":{"type":"integer"}},
 "token_logprobs":{"type":"array","items":{"type":["number","null"]}},
 "tokens":{"type":"array","items":{"type":"string"}},
 "top_logprobs":{"type":"array","items":{"type":["object","null"],
 "additionalProperties":{"type":"number"}}}}},
"PromptLogprobs":{"type":"array","items":{"type":["object","null"],"additionalProperties":{
 "type":"object","required":["logprob","rank","decoded_token"],"properties":{
 "logprob":{"type":"number"},"rank":{"type":["integer","null"]},
 "decoded_token":{"type":"string"}}}}},
"TokenIds":{"type":"array","items":{"type":"integer"}},
"Completion":{"type":"object","required":["id","object","created","model","system_fingerprint",
 "choices"],"properties":{"id":{"type":"string"},"object":{"const":"text_completion"},
 "created":{"type":"integer"},"model":{"type":"string"},"system_fingerprint":{"type":"string"},
 "choices":{"type":"array","items":{"type":"object",
 "required":["index","text","logprobs","finish_reason"],"properties":{"index":{"type":"integer"},
 "text":{"type":"string"},"logprobs":{"anyOf":[{"$ref":"#/components/schemas/CompletionLogprobs"},
 {"type":"null"}]},"finish_reason":{"$ref":"#/components/schemas/FinishReason"},
 "stop_reason":{"$ref":"#/components/schemas/StopReason"},
 "prompt_logprobs":{"$ref":"#/components/schemas/PromptLogprobs"},
 "prompt_token_ids":{"$ref":"#/components/schemas/TokenIds"},
 "token_ids":{"$ref":"#/components/schemas/TokenIds"}}}},
 "usage":{"anyOf":[{"$ref":"#/components/schemas/Usage"},{"type":"null"}]}}},
"ChatToken":{"type":"object","required":["token","logprob","bytes"],"properties":{
 "token":{"type":"string"},"logprob":{"type":"number"},
 "bytes":{"type":["array","null"],"items":{"type":"integer"}},
 "top_logprobs":{"type":"array","items":{"$ref":"#/components/schemas/ChatToken"}}}},
"ChatLogprobs":{"type":["object","null"],"required":["content","refusal"],"properties":{
 "content":{"type":"array","items":{"$ref":"#/components/schemas/ChatToken"}},
 "refusal":{"type":"null"}}},
"ChatCompletion":{"type":"object","required":["id","object","created","model",
 "system_fingerprint","choices","usage"],"properties":{"id":{"type":"string"},
 "object":{"const":"chat.completion"},"created":{"type":"integer"},"model":{"type":"string"},
 "system_fingerprint":{"type":"string"},"choices":{"type":"array","items":{"type":"object",
 "required":["index","message","logprobs","finish_reason","stop_reason"],"properties":{
 "index":{"type":"integer"},"message":{"type":"object","required":["role","content","refusal"],
 "properties":{"role":{"const":"assistant"},"content":{"type":["string","null"]},
 "refusal":{"type":["string","null"]}}},"logprobs":{"$ref":"#/components/schemas/ChatLogprobs"},
 "finish_reason":{"$ref":"#/components/schemas/FinishReason"},
 "stop_reason":{"$ref":"#/components/schemas/StopReason"},
 "token_ids":{"$ref":"#/components/schemas/TokenIds"}}}},
 "usage":{"$ref":"#/components/schemas/Usage"},
 "prompt_logprobs":{"$ref":"#/components/schemas/PromptLogprobs"},
 "prompt_token_ids":{"$ref":"#/components/schemas/TokenIds"}}},
"ChatCompletionChunk":{"type":"object","required":["id","object","created","model",
 "system_fingerprint","choices"],"properties":{"id":{"type":"string"},
 "object":{"const":"chat.completion.chunk"},"created":{"type":"integer"},
 "model":{"type":"string"},"system_fingerprint":{"type":"string"},"choices":{"type":"array",
 "items":{"type":"object","required":["index","delta","logprobs","finish_reason"],"properties":{
 "index":{"type":"integer"},"delta":{"type":"object","properties":{"role":{"const":"assistant"},
 "content":{"type":"string"}}},"logprobs":{"$ref":"#/components/schemas/ChatLogprobs"},
 "finish_reason":{"$ref":"#/components/schemas/FinishReason"},
 "stop_reason":{"$ref":"#/components/schemas/StopReason"},
 "token_ids":{"$ref":"#/components/schemas/TokenIds"}}}},
 "usage":{"anyOf":[{"$ref":"#/components/schemas/Usage"},{"type":"null"}]},
 "prompt_token_ids":{"$ref":"#/components/schemas/TokenIds"}}},
"Model":{"type":"object","required":["id","object","created","owned_by","root","parent",
 "max_model_len"],"properties":{"id":{"type":"string"},"object":{"const":"model"},
 "created":{"type":"integer"},"owned_by":{"type":"string"},"root":{"type":"string"},
 "parent":{"type":["string","null"]},"max_model_len":{"type":"integer"},
 "status":{"enum":["loading","failed"]}}},
"ModelList":{"type":"object","required":["object","data"],"properties":{"object":{"const":"list"},
 "data":{"type":"array","items":{"$ref":"#/components/schemas/Model"}}}},
"Tokens":{"anyOf":[{"type":"object","required":["count","max_model_len","tokens","token_strs"],
 "properties":{"count":{"type":"integer"},"max_model_len":{"type":"integer"},
 "tokens":{"$ref":"#/components/schemas/TokenIds"},
 "token_strs":{"type":["array","null"],"items":{"type":"string"}}}},
 {"type":"array","items":{"type":"object","required":["id","text","start","stop"],"properties":{
 "id":{"type":"integer"},"text":{"type":"string"},"start":{"type":"integer"},
 "stop":{"type":"integer"}}}}]},
"Text":{"type":"object","required":["prompt"],"properties":{"prompt":{"type":"string"}}},
"TokenizerInfo":{"type":"object","required":["tokenizer_class","bos_token","eos_token","unk_token",
 "pad_token","add_bos_token","model_max_length","chat_template"],"properties":{
 "tokenizer_class":{"type":["string","null"]},"bos_token":{"type":["string","null"]},
 "eos_token":{"type":["string","null"]},"unk_token":{"type":["string","null"]},
 "pad_token":{"type":["string","null"]},"add_bos_token":{"type":"boolean"},
 "model_max_length":{"type":"integer"},"chat_template":{"type":["string","null"]}}},
"Health":{"type":"object","properties":{"status":{"type":"string"},"model":{"type":"string"},
 "phase":{"type":"string"},"percent":{"type":"integer"},"detail":{"type":"string"}}},
"Version":{"type":"object","required":["version","build"],"properties":{
 "version":{"type":"string"},"build":{"type":"string"}}},
"Load":{"type":"object","required":["server_load"],"properties":{
 "server_load":{"type":"integer"}}},
"Any":{}
})";

// A `|` would end the cell.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

std::string code(std::string_view text) { return text.empty() ? "" : format("`{}`", cell(text)); }

bool has_rows(const FieldTable& table, FieldUse use) {
  for (const FieldRow& row : table.rows) {
    if (row.use == use) return true;
  }
  return false;
}

void add_used(std::string& page, const FieldTable& table) {
  page += "| field | type | default | allowed | what it does |\n|---|---|---|---|---|\n";
  for (const FieldRow& row : table.rows) {
    if (row.use != FieldUse::kUsed) continue;
    const std::string fallback = row.required ? "required" : code(row.fallback);
    page +=
        format("| `{}` | {} | {} | {} | {} |\n", row.name, expected(row.type), fallback,
               row.values.empty() ? range_text(row.range) : values_text(row), cell(row.sentence));
  }
}

void add_others(std::string& page, const FieldTable& table, FieldUse use) {
  if (!has_rows(table, use)) return;
  const bool refused = use == FieldUse::kRefused;
  page += refused ? "\nRefused with `unsupported_parameter`, unless null or as in the second "
                    "column:\n\n| field | accepted | the way out |\n|---|---|---|\n"
                  : "\nAccepted without effect:\n\n| field | why |\n|---|---|\n";
  for (const FieldRow& row : table.rows) {
    if (row.use != use) continue;
    page += format("| `{}` | ", row.name);
    if (refused) page += code(row.neutral) + " | ";
    page += cell(row.sentence) + " |\n";
  }
}

}  // namespace

JsonValue schema_of(const FieldTable& table) {
  JsonValue properties = JsonObject{};
  JsonArray required;
  for (const FieldRow& row : table.rows) {
    properties.set(row.name, row_schema(row));
    if (row.required) required.emplace_back(std::string(row.name));
  }
  JsonValue schema = JsonObject{{"type", "object"}};
  if (!required.empty()) schema.set("required", std::move(required));
  schema.set("properties", std::move(properties));
  return schema;
}

JsonValue component_schemas() {
  JsonValue schemas = JsonObject{};
  for (const FieldTable* table : kTables) schemas.set(table->name, schema_of(*table));
  schemas.find(kMessageTable.name)->set("anyOf", json(kMessageKinds));
  for (const JsonValue& others : {json(kOthers), lmi_answer_schemas()}) {
    for (const JsonMember& other : others.object()) schemas.set(other.first, other.second);
  }
  return schemas;
}

std::string fields_page() {
  std::string page;
  for (const FieldTable* table : kTables) {
    page += format("\n## {}\n\n", table->name);
    add_used(page, *table);
    add_others(page, *table, FieldUse::kNoEffect);
    add_others(page, *table, FieldUse::kRefused);
  }
  return page;
}

}  // namespace tidemill
