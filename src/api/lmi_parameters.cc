#include "api/lmi_parameters.h"

#include <algorithm>

#include "api/common_fields.h"
#include "api/openai_common.h"
#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

constexpr int64_t kDefaultNewTokens = 30;
// Any finite temperature is accepted; beyond this one all tokens are equally likely anyway.
constexpr double kMaxTemperature = 1e6;

constexpr std::pair<std::string_view, LmiFraming> kFormatters[] = {
    {"json", LmiFraming::kJson},
    {"jsonlines", LmiFraming::kJsonLines},
    {"sse", LmiFraming::kSse},
    {"none", LmiFraming::kNone}};
constexpr std::string_view kChat = "_chat";  // behind the name, for answers to messages

std::optional<LmiFraming> framing_named(std::string_view name) {
  for (const auto& [known, framing] : kFormatters) {
    if (known == name) return framing;
  }
  return std::nullopt;
}

std::string_view without_chat(std::string_view name) {
  if (name.ends_with(kChat)) name.remove_suffix(kChat.size());
  return name;
}

void refuse_bedrock(Fields& parameters, const std::string& name) {
  parameters.problem(ErrorKind::kUnsupportedParameter, "output_formatter",
                     format("{} is {}, which is not supported yet: answers have no Bedrock form. "
                            "Allowed are json, jsonlines, sse and none; leave it out, and stream "
                            "chooses json or jsonlines.",
                            parameters.path_of("output_formatter"), name));
}

// do_sample decides; where it is absent, a temperature asks for sampling.
void read_temperature(Fields& fields, GenerationFields& out) {
  const auto do_sample = fields.boolean("do_sample");
  const auto given = fields.number("temperature");
  const double temperature = std::min(given.value_or(1.0), kMaxTemperature);
  const bool sample = do_sample.value_or(given.has_value());
  out.temperature = sample ? temperature : 0.0;
  out.max_temperature = kMaxTemperature;
}

void read_sampling(Fields& fields, GenerationFields& out) {
  read_temperature(fields, out);
  read_lmi_filters(fields, out);
  read_choosing(fields, out);
}

void read_ends(Fields& fields, GenerationFields& out) {
  out.max_new_tokens = fields.integer("max_new_tokens").value_or(kDefaultNewTokens);
  out.min_new_tokens =
      fields.integer("min_new_tokens").value_or(fields.integer("min_tokens").value_or(0));
  auto stops = fields.texts("stop_sequences");
  auto stop = fields.texts("stop");
  out.stop_strings = std::move(stops ? *stops : stop ? *stop : out.stop_strings);
  out.ignore_end = fields.boolean("ignore_eos_token").value_or(false);
}

// What the answer shows beside its text. The token itself is always told with its probability.
void read_details(Fields& fields, LmiShape& shape, GenerationFields& out) {
  shape.details = fields.boolean("details").value_or(shape.options.tgi_compat);
  shape.full_text = fields.boolean("return_full_text").value_or(false);
  shape.skip_special_tokens = out.skip_special_tokens;
  const int64_t top = fields.integer("top_n_tokens").value_or(0);
  const int64_t logprobs = fields.integer("logprobs").value_or(0);
  // A logprobs of one is the chosen token's own, which every token carries.
  out.num_logprobs = std::max(top, logprobs == 1 ? 0 : logprobs);
  shape.top_tokens = out.num_logprobs > 0;
  const bool prefill = fields.boolean("decoder_input_details").value_or(false);
  out.num_prompt_logprobs = fields.integer("prompt_logprobs").value_or(prefill ? 0 : -1);
  shape.prefill = out.num_prompt_logprobs >= 0;
}

// With details, what best_of computed is shown: the best as the answer, the others beside it.
void read_sequences(Fields& fields, LmiShape& shape, GenerationFields& out) {
  const auto n = fields.integer("n");
  out.best_of = fields.integer("best_of");
  out.num_choices = n.value_or(shape.details ? out.best_of.value_or(1) : 1);
  shape.num_sequences = out.num_choices;
  const bool several = out.num_choices != 1 || out.best_of.value_or(1) != 1;
  if (!several || shape.framing == LmiFraming::kJson) return;
  fields.problem(ErrorKind::kUnsupportedParameter, out.best_of ? "best_of" : "n",
                 format("{} is not streamed: which sequence is best is known only at the end. "
                        "Leave out stream and output_formatter.",
                        fields.path_of(out.best_of ? "best_of" : "n")));
}

}  // namespace

FieldNames lmi_names(const Fields& parameters) {
  return {.prompt = "inputs",
          .max_new_tokens = "parameters.max_new_tokens",
          .min_new_tokens = parameters.given_name({"min_new_tokens", "min_tokens"}),
          .num_choices = parameters.given_name({"n", "best_of"}),
          .num_logprobs = parameters.given_name({"top_n_tokens", "logprobs"}),
          .stop_strings = parameters.given_name({"stop_sequences", "stop"}),
          .best_of = "parameters.best_of",
          .num_prompt_logprobs = "parameters.prompt_logprobs",
          .truncate_prompt_tokens = "parameters.truncate"};
}

Error inside_parameters(Error error) {
  if (error.field.empty() || error.field == "inputs" || error.field.starts_with("parameters.")) {
    return error;
  }
  const std::string path = "parameters." + error.field;
  if (error.message.starts_with(error.field)) error.message.replace(0, error.field.size(), path);
  error.field = path;
  return error;
}

void read_lmi_filters(Fields& fields, GenerationFields& out) {
  out.top_k = fields.integer("top_k").value_or(0);
  out.top_p = fields.number("top_p").value_or(1.0);
  out.min_p = fields.number("min_p").value_or(0.0);
  out.repetition_penalty = fields.number("repetition_penalty").value_or(1.0);
}

void read_lmi_parameters(Fields& parameters, LmiShape& shape, GenerationFields& out) {
  read_sampling(parameters, out);
  read_ends(parameters, out);
  read_common(parameters, out);  // its ignore_eos wins over ignore_eos_token
  read_details(parameters, shape, out);
  read_sequences(parameters, shape, out);
  out.truncate_prompt_tokens = parameters.integer("truncate");
  refuse_spaces(parameters);
}

LmiFormatter read_lmi_formatter(Fields& parameters, const ModelFacts& facts, bool stream) {
  const std::string name = parameters.text("output_formatter").value_or("");
  if (name == "3p" || name == "3p_stream") refuse_bedrock(parameters, name);
  const bool chat = name.ends_with(kChat) && name != "none_chat";
  if (const auto framing = framing_named(chat ? without_chat(name) : name)) {
    return {.framing = *framing, .asked = true, .chat = chat};
  }
  const LmiFraming streamed = facts.lmi.tgi_compat ? LmiFraming::kSse : LmiFraming::kJsonLines;
  const LmiFraming by_stream = stream ? streamed : LmiFraming::kJson;
  LmiFormatter formatter{
      .framing = framing_named(without_chat(facts.output_formatter)).value_or(by_stream)};
  if (!name.empty()) formatter.unknown = parameters.path_of("output_formatter");
  return formatter;
}

}  // namespace tidemill
