// What completions and chat completions share: fields, defaults, refusals (apis.md 5, 8, 9).
#pragma once

#include <string>

#include "api/fields.h"
#include "api/schema.h"

namespace tidemill {

struct StreamChoices {
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  std::vector<std::string> unknown;  // members of stream_options that nobody knows
};

// What else both routes' answers show.
struct AnswerExtras {
  bool token_ids = false;            // of prompt and answer
  bool tokens_as_ids = false;        // log-probabilities name tokens "token_id:N"
  int64_t num_prompt_logprobs = -1;  // of the prompt's tokens; -1: none
};

// temperature, top_p, top_k, seed, n, stop, ... with the model's own defaults underneath.
void read_sampling(Fields& fields, const ModelFacts& facts, GenerationFields& out);
StreamChoices read_stream(Fields& fields, const ModelFacts& facts);
AnswerExtras read_extras(Fields& fields, bool stream, GenerationFields& out);
void refuse_spaces(Fields& fields);
// What clients send that must name some model: absent, empty, "dummy", "tgi".
bool names_no_model(std::string_view name);
// The name the answer carries: the client's, or the model's.
std::string answer_model(Fields& fields, const ModelFacts& facts);

// A row of the table that nobody reads would be a promise that nobody keeps.
void check_all_read(const Fields& fields);
// Checks what was read, and makes the request. Every row of the table of `fields` has been read.
Result<ApiCall> finish_call(Fields& fields, GenerationFields generation, const FieldNames& names,
                            const ModelFacts& facts, const StreamChoices& stream,
                            std::unique_ptr<ResponseFormat> format);

}  // namespace tidemill
