// POST /invocations and /predictions/{model} (serving-contract.md 4 and 5.10): today's LMI answers.
// JSON is spaced as the original's Python writes it: ", " and ": ".
//
// What a body means: `inputs` makes it an LMI request. A list, even of one, is answered by one JSON
// array in its order, and never streamed: a line does not say which input it belongs to. Otherwise
// `messages` or `prompt` makes it an OpenAI request, with that API's defaults and answers; only
// errors before the answer keep LMI's form. output_formatter wins over `stream`.
#include <algorithm>

#include "api/answer_facts.h"
#include "api/error.h"
#include "api/fields.h"
#include "api/openai_common.h"
#include "api/token_pieces.h"
#include "base/check.h"

namespace tidemill {
namespace {

constexpr int64_t kDefaultNewTokens = 30;

enum class Formatter { kJson, kJsonLines };
constexpr std::string_view kLaterFormatters[] = {"sse",      "none", "json_chat", "jsonlines_chat",
                                                 "sse_chat", "3p",   "3p_stream"};

struct LmiShape {
  Formatter formatter = Formatter::kJson;
  bool list = false;  // inputs was a list: so is the answer
  bool details = false;
  bool full_text = false;  // the prompt stands in front of generated_text
  bool skip_special_tokens = true;
};

void append(std::string* out, std::string_view name, std::string_view text) {
  *out += ::tidemill::format("\"{}\": ", name);
  append_json_string(out, text);
}

void append_number(std::string* out, std::string_view name, int64_t number) {
  *out += ::tidemill::format("\"{}\": {}", name, number);
}

std::string_view lmi_finish(FinishReason reason) {
  switch (reason) {
    case FinishReason::kLength:
      return "length";
    case FinishReason::kStopString:
      return "stop_sequence";
    default:
      return "eos_token";
  }
}

// {"id": 1, "text": "x", "log_prob": -0.1[, "special_token": true]}
std::string token_object(const TokenPiece& piece) {
  const TokenText& token = piece.token;
  std::string out = "{";
  append_number(&out, "id", token.id);
  out += ", ";
  append(&out, "text", piece.visible);
  out += ", \"log_prob\": ";
  JsonWriter(&out).value(std::max(token.logprob, kLeastLogprob));
  if (token.special) out += ", \"special_token\": true";
  return out + "}";
}

class LmiFormat : public ResponseFormat {
 public:
  explicit LmiFormat(LmiShape shape) : shape_(shape) {}

  void begin(const ResponseStream& stream) override {
    texts_.assign(static_cast<size_t>(stream.num_choices()), "");
    pieces_.assign(texts_.size(), TokenPieces(shape_.skip_special_tokens, 0));
    for (int64_t prompt = 0; prompt < stream.num_choices(); ++prompt) {
      prompts_.push_back(shape_.full_text || shape_.details ? stream.prompt_text(prompt) : "");
    }
  }

  std::string_view content_type() const override {
    return shape_.formatter == Formatter::kJson ? kJsonType : "application/jsonlines";
  }

  std::string chunk(std::span<const TextEvent> events) override {
    std::string bytes;
    for (const TextEvent& event : events) bytes += lines_of(event);
    return bytes;
  }

  std::string end(const ResponseStream&) override { return ""; }

  // One record that ends the stream; what was sent before stays readable line by line.
  std::string stream_error(const Error& error) override {
    const ErrorAnswer answer = error_answer(error, Dialect::kLmi, "");
    std::string out = "{";
    append(&out, "finish_reason", "error");
    out += ", ";
    append(&out, "error", error.message);
    out += ", ";
    append_number(&out, "code", answer.status);
    out += ", ";
    append(&out, "reason", answer.slug);
    return out + "}\n";
  }

  std::string whole(std::span<const TextEvent> events, const ResponseStream& stream) override {
    const auto choices = collect(events, stream.num_choices());
    if (!shape_.list) return answer_object(choices[0], 0);
    std::string out = "[";
    for (size_t i = 0; i < choices.size(); ++i) {
      out += (i == 0 ? "" : ", ") + answer_object(choices[i], i);
    }
    return out + "]";
  }

 private:
  // `tokens` may be null: its lines told of them already.
  std::string details_of(const std::vector<TokenPiece>* tokens, const Finish& finish,
                         size_t index) const {
    std::string out = "{";
    append(&out, "finish_reason", lmi_finish(finish.reason));
    out += ", ";
    append_number(&out, "generated_tokens", finish.completion_tokens);
    out += ", ";
    append(&out, "inputs", prompts_[index]);
    if (tokens != nullptr) {
      out += ", \"tokens\": [";
      for (size_t i = 0; i < tokens->size(); ++i) {
        out += (i == 0 ? "" : ", ") + token_object((*tokens)[i]);
      }
      out += "]";
    }
    return out + "}";
  }

  std::string generated(const std::string& text, size_t index) const {
    return shape_.full_text ? prompts_[index] + text : text;
  }

  std::string answer_object(const WholeChoice& choice, size_t index) {
    std::string out = "{";
    append(&out, "generated_text", generated(choice.text, index));
    if (shape_.details) {
      const auto tokens = pieces_[index].push(choice.text, choice.tokens, true);
      out += ", \"details\": " + details_of(&tokens, choice.finish, index);
    }
    return out + "}";
  }

  // The jsonlines formatter: a line per token; the last one holds the whole text.
  std::string lines_of(const TextEvent& event) {
    const auto index = static_cast<size_t>(event.choice);
    texts_[index] += event.text;
    const auto pieces = pieces_[index].push(event.text, event.tokens, event.finish.has_value());
    std::string out;
    for (size_t i = 0; i < pieces.size(); ++i) {
      out += "{\"token\": " + token_object(pieces[i]);
      if (event.finish && i + 1 == pieces.size()) out += ", " + ending(event, index);
      out += "}\n";
    }
    if (event.finish && pieces.empty()) out += "{" + ending(event, index) + "}\n";
    return out;
  }

  std::string ending(const TextEvent& event, size_t index) const {
    std::string out;
    append(&out, "generated_text", generated(texts_[index], index));
    if (shape_.details) out += ", \"details\": " + details_of(nullptr, *event.finish, index);
    return out;
  }

  const LmiShape shape_;
  std::vector<std::string> texts_;
  std::vector<std::string> prompts_;
  std::vector<TokenPieces> pieces_;
};

void read_inputs(Fields& fields, LmiShape& shape, std::vector<Prompt>& prompts) {
  const JsonValue* inputs = fields.value("inputs");
  if (inputs == nullptr) {
    fields.problem(ErrorKind::kMissingParameter, "inputs",
                   "inputs is missing: a string, or a list of strings.");
    return;
  }
  shape.list = inputs->is_array();
  const auto texts = fields.texts("inputs");
  if (!texts) return;
  if (texts->empty()) {
    fields.problem(ErrorKind::kEmptyPrompt, "inputs", "inputs is an empty list.");
  }
  for (const std::string& text : *texts) {
    if (text.empty()) {
      fields.problem(ErrorKind::kEmptyPrompt, "inputs", "inputs holds an empty string.");
    }
    prompts.push_back(TextPrompt{.text = text});
  }
}

// A name wins over `stream`: the request's, or else the server's. A name that nobody knows is as if
// it were absent, and is reported so, as the original does: returns whether it was one.
bool read_formatter(Fields& parameters, const ModelFacts& facts, bool stream, LmiShape& shape) {
  const std::string asked = parameters.text("output_formatter").value_or("");
  if (std::find(std::begin(kLaterFormatters), std::end(kLaterFormatters), asked) !=
      std::end(kLaterFormatters)) {
    parameters.problem(ErrorKind::kUnsupportedParameter, "output_formatter",
                       ::tidemill::format("output_formatter {} is not supported yet. Use json or "
                                          "jsonlines.",
                                          asked));
  }
  const bool known = asked == "json" || asked == "jsonlines";
  // A list is answered by one array, whatever the server's own choice is.
  const std::string configured = shape.list ? "" : facts.output_formatter;
  const std::string by_stream = stream ? "jsonlines" : "json";
  const std::string name = known ? asked : configured.empty() ? by_stream : configured;
  shape.formatter = name == "jsonlines" ? Formatter::kJsonLines : Formatter::kJson;
  return known || asked.empty();
}

// A line does not say which input it belongs to.
void check_list(Fields& fields, bool stream, const LmiShape& shape) {
  if (!shape.list || shape.formatter == Formatter::kJson) return;
  fields.problem(ErrorKind::kUnsupportedParameter, stream ? "stream" : "inputs",
                 "a list of inputs is answered as one JSON array. Send one string, or leave out "
                 "stream and output_formatter.");
}

// do_sample decides; where it is absent, a temperature asks for sampling (serving-contract.md 4.3).
void read_temperature(Fields& fields, GenerationFields& out) {
  const auto do_sample = fields.boolean("do_sample");
  const auto given = fields.number("temperature");
  // Any finite temperature is accepted; beyond this one all tokens are equally likely anyway.
  constexpr double kMaxTemperature = 1e6;
  const double temperature = std::min(given.value_or(1.0), kMaxTemperature);
  const bool sample = do_sample.value_or(given.has_value());
  // A negative one is refused whether it would be used or not.
  out.temperature = sample || temperature < 0 ? temperature : 0.0;
  out.max_temperature = kMaxTemperature;
}

// Of the chosen token always; lists of the best have no place in the answer yet.
int64_t read_logprobs(Fields& fields) {
  const auto count = fields.integer("logprobs");
  if (count && (*count < 0 || *count > 1)) {
    fields.problem(ErrorKind::kUnsupportedParameter, "logprobs",
                   ::tidemill::format("logprobs {} is not supported: each token carries its own "
                                      "log_prob. Leave it out or send 1.",
                                      *count));
  }
  return 0;
}

void read_parameters(Fields& fields, GenerationFields& out) {
  read_temperature(fields, out);
  out.top_k = fields.integer("top_k").value_or(0);
  out.top_p = fields.number("top_p").value_or(1.0);
  out.max_new_tokens = fields.integer("max_new_tokens").value_or(kDefaultNewTokens);
  out.min_new_tokens =
      fields.integer("min_new_tokens").value_or(fields.integer("min_tokens").value_or(0));
  out.seed = fields.bits("seed");
  auto stops = fields.texts("stop_sequences");
  auto stop = fields.texts("stop");
  out.stop_strings = std::move(stops ? *stops : stop ? *stop : out.stop_strings);
  out.stop_token_ids = fields.integers("stop_token_ids").value_or(std::vector<int64_t>());
  const bool ignore = fields.boolean("ignore_eos_token").value_or(false);
  out.ignore_end = fields.boolean("ignore_eos").value_or(ignore);
  out.keep_stop_text = fields.boolean("include_stop_str_in_output").value_or(false);
  out.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(true);
  out.num_logprobs = read_logprobs(fields);
}

void refuse_parameters(Fields& fields) {
  constexpr const char* kNeutral = "Leave it out.";
  for (const char* name : {"repetition_penalty", "typical_p", "length_penalty", "num_beams", "n",
                           "best_of", "beam_width"}) {
    fields.refuse_unless(name, 1, kNeutral);
  }
  for (const char* name :
       {"presence_penalty", "frequency_penalty", "min_p", "top_n_tokens", "min_length"}) {
    fields.refuse_unless(name, 0, kNeutral);
  }
  for (const char* name :
       {"use_beam_search", "decoder_input_details", "watermark", "early_stopping"}) {
    fields.refuse_unless(name, false, kNeutral);
  }
  for (const char* name : {"truncate", "prompt_logprobs", "cached_prompt", "penalty_alpha",
                           "decoding_strategy", "bad_words", "logit_bias"}) {
    fields.refuse_unless(name, JsonValue(), kNeutral);
  }
  fields.accept({"streaming", "use_lru_kv_cache"});
  refuse_spaces(fields);
}

// GenerationRequest calls some fields as every dialect does; here they stand inside `parameters`.
Error inside_parameters(Error error) {
  constexpr std::string_view kInside[] = {"temperature", "top_k", "top_p", "stop_token_ids"};
  if (std::find(std::begin(kInside), std::end(kInside), error.field) == std::end(kInside)) {
    return error;
  }
  const std::string path = "parameters." + error.field;
  if (error.message.starts_with(error.field)) error.message.replace(0, error.field.size(), path);
  error.field = path;
  return error;
}

Result<ApiCall> parse_inputs(const JsonValue& body, const ModelFacts& facts) {
  Fields fields(body, "");
  LmiShape shape;
  GenerationFields generation;
  read_inputs(fields, shape, generation.prompts);
  const bool stream = fields.boolean("stream").value_or(false);
  fields.refuse_unless("adapters", JsonValue(), "Serve the merged model instead.");
  fields.refuse_unless("cached_prompt", JsonValue(), "The prefix cache needs no hint.");
  fields.accept({"model"});
  const JsonValue* given = fields.value("parameters");
  const JsonValue none = JsonObject{};
  if (given != nullptr && !given->is_object()) {
    fields.problem(
        ErrorKind::kInvalidParameter, "parameters",
        ::tidemill::format("parameters is {}; it must be an object.", given->kind_name()));
    given = nullptr;
  }
  Fields parameters(given == nullptr ? none : *given, "parameters.");
  read_parameters(parameters, generation);
  shape.details = parameters.boolean("details").value_or(false);
  shape.full_text = parameters.boolean("return_full_text").value_or(false);
  shape.skip_special_tokens = generation.skip_special_tokens;
  const bool known_formatter = read_formatter(parameters, facts, stream, shape);
  refuse_parameters(parameters);
  check_list(fields, stream, shape);
  fields.adopt(parameters);
  if (fields.first_problem()) return *fields.first_problem();

  std::vector<std::string> unknown = fields.unknown();
  for (const std::string& name : parameters.unknown()) {
    unknown.push_back(parameters.path_of(name));
  }
  if (!known_formatter) unknown.push_back(parameters.path_of("output_formatter"));
  if (facts.strict_parameters && !unknown.empty()) {
    return Fields::unknown_field(unknown.front());
  }
  const FieldNames names{.prompt = "inputs",
                         .max_new_tokens = "parameters.max_new_tokens",
                         .min_new_tokens = parameters.given_name({"min_new_tokens", "min_tokens"}),
                         .num_choices = "parameters.n",
                         .num_logprobs = "parameters.logprobs",
                         .stop_strings = parameters.given_name({"stop_sequences", "stop"})};
  auto request = GenerationRequest::make(std::move(generation), names, facts.limits);
  if (!request) return inside_parameters(request.error());
  return ApiCall{.request = std::move(*request),
                 .stream = shape.formatter == Formatter::kJsonLines,
                 .format = std::make_unique<LmiFormat>(shape),
                 .ignored_fields = std::move(unknown)};
}

}  // namespace

// A body with messages or a prompt is an OpenAI request on this route, too, and answered as one.
Result<ApiCall> parse_lmi_invocation(const JsonValue& body, const ModelFacts& facts,
                                     const RequestContext& context) {
  const auto given = [&body](std::string_view name) {
    const JsonValue* value = body.find(name);
    return value != nullptr && !value->is_null();
  };
  if (!given("inputs")) {
    if (given("messages")) return parse_openai_chat(body, facts, context);
    if (given("prompt")) return parse_openai_completion(body, facts, context);
  }
  return parse_inputs(body, facts);
}

}  // namespace tidemill
