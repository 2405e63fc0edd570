// POST /invocations, /predictions/{model} and /models/{model}/invoke (serving-contract.md 4, 5).
//
// What a body means: `inputs` makes it an LMI request. A list, even of one, is answered by one JSON
// array in its order, and never streamed: a record does not say which input it belongs to.
// Otherwise `messages` makes it a chat (lmi_chat.cc), and `prompt` an OpenAI completion, with that
// API's defaults and answers; only errors before the answer keep LMI's form.
#include "api/fields.h"
#include "api/lmi_0_25.h"
#include "api/lmi_chat.h"
#include "api/lmi_format.h"
#include "api/lmi_parameters.h"
#include "api/openai_common.h"
#include "base/check.h"

namespace tidemill {
namespace {

void read_inputs(Fields& fields, LmiShape& shape, std::vector<Prompt>& prompts) {
  const JsonValue* inputs = fields.value("inputs");
  if (inputs == nullptr) return;  // the table refused it
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

// Names of both levels that nobody knows.
std::vector<std::string> unknown_names(const Fields& fields, const Fields& parameters,
                                       const LmiFormatter& formatter) {
  std::vector<std::string> unknown = fields.unknown();
  for (const std::string& name : parameters.unknown()) {
    unknown.push_back(parameters.path_of(name));
  }
  if (formatter.unknown) unknown.push_back(*formatter.unknown);
  return unknown;
}

// One body with `inputs`, read member by member.
class InputsReader {
 public:
  InputsReader(const JsonValue& body, const ModelFacts& facts)
      : facts_(facts),
        fields_(body, "", kInvocationTable, facts.limits),
        given_parameters_(fields_.value("parameters")),
        parameters_(given_parameters_ != nullptr ? *given_parameters_ : none_, "parameters.",
                    kInvocationParametersTable, facts.limits) {
    shape_.options = facts.lmi;
  }

  Result<ApiCall> read() {
    read_inputs(fields_, shape_, generation_.prompts);
    stream_ = fields_.boolean("stream").value_or(false);
    formatter_ = read_lmi_formatter(parameters_, facts_, stream_);
    choose_framing();
    read_lmi_parameters(parameters_, shape_, generation_);
    fields_.adopt(parameters_);
    check_all_read(fields_);
    check_all_read(parameters_);
    return finish();
  }

 private:
  // 0.25.0 has one answer for one input, whatever the request says.
  bool as_0_25() const { return facts_.lmi.as_0_25() && generation_.prompts.size() == 1; }

  void choose_framing() {
    shape_.framing = formatter_.framing;
    if (formatter_.chat) {
      parameters_.problem(ErrorKind::kInvalidParameter, "output_formatter",
                          "parameters.output_formatter answers messages; for inputs use its name "
                          "without _chat.");
    }
    if (facts_.lmi.as_0_25()) {
      shape_.framing = LmiFraming::kJson;
      if (formatter_.asked) formatter_.unknown = parameters_.path_of("output_formatter");
      return;
    }
    if (!shape_.list) return;
    // A list is answered by one array, whatever the operator's own choice is.
    const bool records = formatter_.asked ? formatter_.framing != LmiFraming::kJson : stream_;
    if (!formatter_.asked) shape_.framing = LmiFraming::kJson;
    if (!records) return;
    fields_.problem(ErrorKind::kUnsupportedParameter, stream_ ? "stream" : "inputs",
                    "a list of inputs is answered as one JSON array. Send one string, or leave out "
                    "stream and output_formatter.");
  }

  Result<ApiCall> finish() {
    if (as_0_25() && generation_.num_choices != 1) {
      parameters_.problem(ErrorKind::kUnsupportedParameter, "n",
                          "parameters.n is not supported with lmi_compat. Leave it out.");
      fields_.adopt(parameters_);
    }
    if (fields_.first_problem()) return *fields_.first_problem();
    std::vector<std::string> unknown = unknown_names(fields_, parameters_, formatter_);
    if (facts_.strict_parameters && !unknown.empty()) return Fields::unknown_field(unknown.front());
    auto request =
        GenerationRequest::make(std::move(generation_), lmi_names(parameters_), facts_.limits);
    if (!request) return inside_parameters(request.error());
    const bool old = facts_.lmi.as_0_25() && request->fields().prompts.size() == 1;
    return ApiCall{.request = std::move(*request),
                   .stream = old || streams(),
                   .format = old ? make_lmi_0_25_format(facts_, shape_.skip_special_tokens)
                                 : make_lmi_format(shape_),
                   .ignored_fields = std::move(unknown)};
  }

  bool streams() const {
    if (shape_.framing == LmiFraming::kNone) return stream_;
    return shape_.framing != LmiFraming::kJson;
  }

  const ModelFacts& facts_;
  const JsonValue none_ = JsonObject{};
  Fields fields_;
  const JsonValue* given_parameters_;
  Fields parameters_;
  LmiShape shape_;
  LmiFormatter formatter_;
  GenerationFields generation_;
  bool stream_ = false;
};

}  // namespace

Result<ApiCall> parse_lmi_invocation(const JsonValue& body, const ModelFacts& facts,
                                     const RequestContext& context) {
  const auto given = [&body](std::string_view name) {
    const JsonValue* value = body.find(name);
    return value != nullptr && !value->is_null();
  };
  if (!given("inputs")) {
    if (given("messages")) return parse_lmi_chat(body, facts, context);
    if (given("prompt")) return parse_openai_completion(body, facts, context);
  }
  return InputsReader(body, facts).read();
}

}  // namespace tidemill
