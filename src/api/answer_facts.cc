#include "api/answer_facts.h"

#include <numeric>

namespace tidemill {

std::string answer_id(std::string_view prefix, const RequestContext& context) {
  std::string id(prefix);
  for (const char c : context.unique_id) {
    if (c != '-') id += c;
  }
  return id;
}

void read_facts(AnswerFacts& facts, const ResponseStream& stream) {
  const auto& prompts = stream.prompt_tokens();
  facts.prompt_tokens = std::accumulate(prompts.begin(), prompts.end(), int64_t{0});
  facts.cached_tokens = stream.cached_tokens();
}

void write_usage(JsonWriter& out, const AnswerFacts& facts, int64_t completion_tokens) {
  out.begin_object();
  out.key("prompt_tokens").value(facts.prompt_tokens);
  out.key("completion_tokens").value(completion_tokens);
  out.key("total_tokens").value(facts.prompt_tokens + completion_tokens);
  out.key("prompt_tokens_details").begin_object();
  out.key("cached_tokens").value(facts.cached_tokens).end_object();
  out.end_object();
}

std::string_view openai_finish(FinishReason reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

void write_stop_reason(JsonWriter& out, const Finish& finish) {
  if (finish.stop_string) {
    out.value(*finish.stop_string);
  } else if (finish.stop_id) {
    out.value(int64_t{*finish.stop_id});
  } else {
    out.null();
  }
}

std::vector<WholeChoice> collect(std::span<const TextEvent> events, int64_t num_choices) {
  std::vector<WholeChoice> choices(static_cast<size_t>(num_choices));
  for (const TextEvent& event : events) {
    WholeChoice& choice = choices[static_cast<size_t>(event.choice)];
    choice.text += event.text;
    choice.tokens.insert(choice.tokens.end(), event.tokens.begin(), event.tokens.end());
    if (event.finish) choice.finish = *event.finish;
  }
  return choices;
}

std::string sse(std::string_view json) {
  std::string event = "data: ";
  event += json;
  event += "\n\n";
  return event;
}

}  // namespace tidemill
