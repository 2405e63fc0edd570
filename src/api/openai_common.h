// What completions and chat completions share: fields, defaults, refusals (apis.md 5, 8, 9).
#pragma once

#include <string>

#include "api/answer_facts.h"
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
// Opens a whole answer, or an event of a stream, with what stands before its choices.
void write_openai_head(JsonWriter& out, const AnswerFacts& facts, std::string_view object);
// finish_reason, and stop_reason where the choice has ended; null: it goes on.
void write_openai_ending(JsonWriter& out, const Finish* finish);
// The usage of an event, where the request wants one: null, or so far.
void write_usage_so_far(JsonWriter& out, const StreamChoices& stream, const AnswerFacts& facts,
                        int64_t completion_tokens);
// What ends a stream: an event with the usage, where the request wants one, and the mark.
std::string openai_stream_end(std::string_view object, const StreamChoices& stream,
                              const AnswerFacts& facts, int64_t completion_tokens);
std::string openai_stream_error(const Error& error);

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
