#include "api/openai_common.h"

#include "api/common_fields.h"
#include "api/error.h"
#include "base/check.h"

namespace tidemill {
namespace {

double default_number(const ModelFacts& facts, const char* name, double fallback) {
  const JsonValue* value = facts.generation_defaults.find(name);
  return value != nullptr && value->is_number() ? value->number() : fallback;
}

}  // namespace

void read_sampling(Fields& fields, const ModelFacts& facts, GenerationFields& out) {
  const auto number = [&](const char* name, double fallback) {
    return fields.number(name).value_or(default_number(facts, name, fallback));
  };
  out.temperature = number("temperature", 1.0);
  out.top_p = number("top_p", 1.0);
  out.top_k =
      fields.integer("top_k").value_or(static_cast<int64_t>(default_number(facts, "top_k", 0.0)));
  out.min_p = number("min_p", 0.0);
  out.repetition_penalty = number("repetition_penalty", 1.0);
  read_choosing(fields, out);
  read_common(fields, out);
  out.num_choices = fields.integer("n").value_or(1);
  out.truncate_prompt_tokens = fields.integer("truncate_prompt_tokens");
  out.priority = fields.integer("priority").value_or(0);
  out.cache_salt = fields.text("cache_salt");
  out.stop_strings = fields.texts("stop").value_or(std::vector<std::string>());
  out.min_new_tokens = fields.integer("min_tokens").value_or(0);
  out.clamp_max_new_tokens = fields.boolean("clamp_max_tokens").value_or(false);
  refuse_spaces(fields);
}

StreamChoices read_stream(Fields& fields, const ModelFacts& facts) {
  StreamChoices choices{.stream = fields.boolean("stream").value_or(false)};
  const JsonValue* options = fields.value("stream_options");
  if (options == nullptr) return choices;
  if (!choices.stream) {
    fields.problem(ErrorKind::kInvalidParameter, "stream_options",
                   "stream_options is only allowed with stream: true.");
  }
  Fields inner(*options, "stream_options.", kStreamOptionsTable, facts.limits);
  choices.include_usage = inner.boolean("include_usage").value_or(false);
  choices.continuous_usage = inner.boolean("continuous_usage_stats").value_or(false);
  fields.adopt(inner);
  for (const std::string& name : inner.unknown()) choices.unknown.push_back(inner.path_of(name));
  return choices;
}

AnswerExtras read_extras(Fields& fields, bool stream, GenerationFields& out) {
  const auto prompt_logprobs = fields.integer("prompt_logprobs");
  if (prompt_logprobs && stream) {
    fields.problem(ErrorKind::kInvalidParameter, "prompt_logprobs",
                   "prompt_logprobs is not allowed with stream: true. Send one without the other.");
  }
  out.num_prompt_logprobs = prompt_logprobs.value_or(-1);
  return {.token_ids = fields.boolean("return_token_ids").value_or(false),
          .tokens_as_ids = fields.boolean("return_tokens_as_token_ids").value_or(false),
          .num_prompt_logprobs = out.num_prompt_logprobs};
}

// Special tokens are never spaced here. Asking for it means nothing while they are skipped.
void refuse_spaces(Fields& fields) {
  const bool spaces = fields.boolean("spaces_between_special_tokens").value_or(false);
  if (!spaces || fields.boolean("skip_special_tokens").value_or(true)) return;
  fields.problem(ErrorKind::kUnsupportedParameter, "spaces_between_special_tokens",
                 format("{} is not supported with skip_special_tokens: false. Send false.",
                        fields.path_of("spaces_between_special_tokens")));
}

void write_openai_head(JsonWriter& out, const AnswerFacts& facts, std::string_view object) {
  out.begin_object().key("id").value(facts.id).key("object").value(object);
  out.key("created").value(facts.created).key("model").value(facts.model);
  out.key("system_fingerprint").value(facts.system_fingerprint);
}

void write_openai_ending(JsonWriter& out, const Finish* finish) {
  out.key("finish_reason");
  if (finish == nullptr) {
    out.null();
    return;
  }
  out.value(openai_finish(finish->reason)).key("stop_reason");
  write_stop_reason(out, *finish);
}

void write_usage_so_far(JsonWriter& out, const StreamChoices& stream, const AnswerFacts& facts,
                        int64_t completion_tokens) {
  if (!stream.include_usage) return;
  out.key("usage");
  if (stream.continuous_usage) {
    write_usage(out, facts, completion_tokens);
  } else {
    out.null();
  }
}

std::string openai_stream_end(std::string_view object, const StreamChoices& stream,
                              const AnswerFacts& facts, int64_t completion_tokens) {
  if (!stream.include_usage) return std::string(kSseDone);
  std::string json;
  JsonWriter out(&json);
  write_openai_head(out, facts, object);
  out.key("choices").begin_array().end_array().key("usage");
  write_usage(out, facts, completion_tokens);
  out.end_object();
  return sse(json) + std::string(kSseDone);
}

std::string openai_stream_error(const Error& error) {
  return sse(error_answer(error, Dialect::kOpenAi, "").body) + std::string(kSseDone);
}

bool names_no_model(std::string_view name) {
  return name.empty() || name == "dummy" || name == "tgi";
}

std::string answer_model(Fields& fields, const ModelFacts& facts) {
  const auto name = fields.text("model");
  return name && !names_no_model(*name) ? *name : facts.name;
}

void check_all_read(const Fields& fields) {
  const auto unread = fields.unread();
  CHECK(unread.empty(), "the row {} is never read", unread.front());
}

Result<ApiCall> finish_call(Fields& fields, GenerationFields generation, const FieldNames& names,
                            const ModelFacts& facts, const StreamChoices& stream,
                            std::unique_ptr<ResponseFormat> format) {
  check_all_read(fields);
  if (fields.first_problem()) return *fields.first_problem();
  std::vector<std::string> unknown = fields.unknown();
  unknown.insert(unknown.end(), stream.unknown.begin(), stream.unknown.end());
  if (facts.strict_parameters && !unknown.empty()) return Fields::unknown_field(unknown.front());
  auto request = GenerationRequest::make(std::move(generation), names, facts.limits);
  if (!request) return request.error();
  return ApiCall{.request = std::move(*request),
                 .stream = stream.stream,
                 .format = std::move(format),
                 .ignored_fields = std::move(unknown)};
}

}  // namespace tidemill
