// A client of the front door in a simulation: what it asked, what it must receive, and what it has
// received.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "executor/executor.h"
#include "executor/simulation/simulated_runner.h"

namespace tidemill {

// What one choice must say, computed alone and without the code that is tested.
struct ExpectedChoice {
  double mean_logprob = 0;
  std::vector<TokenId> tokens;
  std::string text;  // where there is a tokenizer: without the stop string
  FinishReason reason = FinishReason::kLength;
};

struct FrontClient {
  std::optional<ResponseStream> stream;  // nothing when it has left
  GenerationFields fields;
  VirtualClock::Time arrival;
  SequenceId first_sequence = 0;  // of all that are generated; they follow one another
  std::vector<ExpectedChoice> expected;
  int64_t all_tokens = 0;                    // of these and of those that best_of leaves out
  std::vector<std::vector<TokenId>> tokens;  // received so far, by choice
  std::vector<std::string> texts;
  std::vector<bool> finished;
  std::vector<bool> begun;  // had a row in a step; one for each sequence
  bool left = false;
  bool repeats_itself = false;  // what it is answered

  // `rooms`: how many tokens may be generated behind each prompt.
  void expect(const std::vector<int64_t>& rooms, bool has_text);
  // Takes what has come; false when it is not what must come.
  bool receive(const ResponseStream::Poll& poll, bool has_text);
  bool all_finished() const;

  int64_t num_sequences() const { return fields.best_of.value_or(fields.num_choices); }
  bool scores_prompts() const { return fields.num_prompt_logprobs >= 0; }
  const std::vector<TokenId>& prompt(size_t index) const {
    return std::get<TokenPrompt>(fields.prompts[index]).ids;
  }
  std::string_view salt() const {
    return fields.cache_salt ? std::string_view(*fields.cache_salt) : std::string_view();
  }

 private:
  bool take(const TextEvent& event, bool has_text);
  // That the stream has every score of that prompt, or none where nobody asked.
  bool has_prompt_scores(size_t prompt) const;
};

// Of one prompt that may have `room` tokens behind it, those that run; the others have nothing to
// generate.
int64_t num_running(const GenerationFields& fields, int64_t room);

}  // namespace tidemill
