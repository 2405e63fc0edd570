#include "api/openai_common.h"

#include "base/check.h"

namespace tidemill {
namespace {

double default_number(const ModelFacts& facts, const char* name, double fallback) {
  const JsonValue* value = facts.generation_defaults.find(name);
  return value != nullptr && value->is_number() ? value->number() : fallback;
}

}  // namespace

void read_sampling(Fields& fields, const ModelFacts& facts, GenerationFields& out) {
  out.temperature =
      fields.number("temperature").value_or(default_number(facts, "temperature", 1.0));
  out.top_p = fields.number("top_p").value_or(default_number(facts, "top_p", 1.0));
  out.top_k =
      fields.integer("top_k").value_or(static_cast<int64_t>(default_number(facts, "top_k", 0.0)));
  out.seed = fields.bits("seed");
  out.num_choices = fields.integer("n").value_or(1);
  out.stop_strings = fields.texts("stop").value_or(std::vector<std::string>());
  out.stop_token_ids = fields.integers("stop_token_ids").value_or(std::vector<int64_t>());
  out.min_new_tokens = fields.integer("min_tokens").value_or(0);
  out.ignore_end = fields.boolean("ignore_eos").value_or(false);
  out.keep_stop_text = fields.boolean("include_stop_str_in_output").value_or(false);
  out.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(true);
  out.clamp_max_new_tokens = fields.boolean("clamp_max_tokens").value_or(false);
}

StreamChoices read_stream(Fields& fields) {
  StreamChoices choices{.stream = fields.boolean("stream").value_or(false)};
  const JsonValue* options = fields.value("stream_options");
  if (options == nullptr) return choices;
  if (!options->is_object()) {
    fields.problem(ErrorKind::kInvalidParameter, "stream_options",
                   "stream_options must be an object.");
    return choices;
  }
  if (!choices.stream) {
    fields.problem(ErrorKind::kInvalidParameter, "stream_options",
                   "stream_options is only allowed with stream: true.");
  }
  Fields inner(*options, "stream_options.");
  choices.include_usage = inner.boolean("include_usage").value_or(false);
  choices.continuous_usage = inner.boolean("continuous_usage_stats").value_or(false);
  inner.accept({"include_obfuscation"});
  fields.adopt(inner);
  for (const std::string& name : inner.unknown()) choices.unknown.push_back(inner.path_of(name));
  return choices;
}

void refuse_later_work(Fields& fields) {
  constexpr const char* kLeaveOut = "Leave it out.";
  fields.refuse_unless("presence_penalty", 0, "Leave it out or send 0.");
  fields.refuse_unless("frequency_penalty", 0, "Leave it out or send 0.");
  fields.refuse_unless("repetition_penalty", 1, "Leave it out or send 1.");
  fields.refuse_unless("length_penalty", 1, "Leave it out or send 1.");
  fields.refuse_unless("min_p", 0, "Leave it out or send 0.");
  fields.refuse_unless("typical_p", 1, "Leave it out or send 1.");
  fields.refuse_unless("logit_bias", JsonObject{}, kLeaveOut);
  fields.refuse_unless("use_beam_search", false, "Leave it out.");
  fields.refuse_unless("early_stopping", false, kLeaveOut);
  fields.refuse_unless("bad_words", JsonArray{}, kLeaveOut);
  for (const char* name :
       {"structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
        "guided_decoding_backend", "prompt_logprobs", "truncate_prompt_tokens", "allowed_token_ids",
        "cache_salt", "kv_transfer_params"}) {
    fields.refuse_unless(name, JsonValue(), kLeaveOut);
  }
  fields.refuse_unless("priority", 0, "Leave it out or send 0.");
  fields.refuse_unless("return_token_ids", false, kLeaveOut);
  fields.refuse_unless("return_tokens_as_token_ids", false, kLeaveOut);
  fields.refuse_unless("response_format", JsonObject{{"type", "text"}},
                       "Only {\"type\": \"text\"} is answered.");
  fields.accept({"user", "metadata", "store", "service_tier", "safety_identifier",
                 "prompt_cache_key", "prompt_cache_retention", "prediction", "verbosity"});
  fields.refuse_unless("request_id", JsonValue(), "Send the header x-request-id.");
  refuse_spaces(fields);
}

// Special tokens are never spaced here. Asking for it means nothing while they are skipped.
void refuse_spaces(Fields& fields) {
  const bool spaces = fields.boolean("spaces_between_special_tokens").value_or(false);
  if (!spaces || fields.boolean("skip_special_tokens").value_or(true)) return;
  fields.problem(ErrorKind::kUnsupportedParameter, "spaces_between_special_tokens",
                 format("{} is not supported with skip_special_tokens: false. Send false.",
                        fields.path_of("spaces_between_special_tokens")));
}

bool names_no_model(std::string_view name) {
  return name.empty() || name == "dummy" || name == "tgi";
}

std::string answer_model(Fields& fields, const ModelFacts& facts) {
  const auto name = fields.text("model");
  return name && !names_no_model(*name) ? *name : facts.name;
}

Result<ApiCall> finish_call(Fields& fields, GenerationFields generation, const FieldNames& names,
                            const ModelFacts& facts, const StreamChoices& stream,
                            std::unique_ptr<ResponseFormat> format) {
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
