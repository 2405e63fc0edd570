// What every answer says about its request, read from the stream once it was admitted.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/schema.h"
#include "base/json.h"

namespace tidemill {

struct AnswerFacts {
  std::string id;  // "cmpl-...", "chatcmpl-..."
  int64_t created = 0;
  std::string model;
  std::string system_fingerprint;
  int64_t prompt_tokens = 0;  // of all prompts, each once
  int64_t cached_tokens = 0;
};

// The prefix, and the letters and digits of the request's UUID.
std::string answer_id(std::string_view prefix, const RequestContext& context);

// {"prompt_tokens": ..., ...}
void write_usage(JsonWriter& out, const AnswerFacts& facts, int64_t completion_tokens);
void read_facts(AnswerFacts& facts, const ResponseStream& stream);

// OpenAI's names of endings.
std::string_view openai_finish(FinishReason reason);
// null, the stop string, or the stop token's id.
void write_stop_reason(JsonWriter& out, const Finish& finish);

// Log-probabilities below it, and infinite ones, are printed as it.
inline constexpr float kLeastLogprob = -9999.0f;

// One choice of a whole answer: its events joined.
struct WholeChoice {
  std::string text;
  std::vector<TokenText> tokens;
  Finish finish;
};
std::vector<WholeChoice> collect(std::span<const TextEvent> events, int64_t num_choices);

// One server-sent event.
std::string sse(std::string_view json);
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";
inline constexpr std::string_view kEventStream = "text/event-stream; charset=utf-8";
inline constexpr std::string_view kJsonType = "application/json";

}  // namespace tidemill
