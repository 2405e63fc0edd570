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
  std::vector<TokenId> tokens;
  std::string text;  // where there is a tokenizer: without the stop string
  FinishReason reason = FinishReason::kLength;
};

struct FrontClient {
  std::optional<ResponseStream> stream;  // nothing when it has left
  GenerationFields fields;
  VirtualClock::Time arrival;
  SequenceId first_sequence = 0;  // of its choices, which follow one another
  std::vector<ExpectedChoice> expected;
  std::vector<std::vector<TokenId>> tokens;  // received so far, by choice
  std::vector<std::string> texts;
  std::vector<bool> finished;
  std::vector<bool> begun;  // had a row in a step
  bool left = false;

  // Takes what has come; false when it is not what must come.
  bool receive(const ResponseStream::Poll& poll, bool has_text);
  bool all_finished() const;
};

// `room` is how many tokens may be generated behind each prompt.
std::vector<ExpectedChoice> expected_choices(const GenerationFields& fields,
                                             const std::vector<int64_t>& rooms, bool has_text);

}  // namespace tidemill
