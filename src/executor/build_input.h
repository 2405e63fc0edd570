// A StepPlan becomes a StepInput: the tokens, positions and block tables that it stands for.
#pragma once

#include <functional>

#include "executor/step_input.h"
#include "scheduler/scheduler.h"

namespace tidemill {

// How a sequence is sampled; the loop keeps one per sequence.
struct SequenceSampling {
  SamplingParams params;
  int32_t choice = 0;
  int32_t min_new_tokens = 0;
  std::vector<TokenId> end_ids;  // forbidden until min_new_tokens are there
  std::vector<TokenId> allowed_ids;
  std::vector<TokenId> bias_ids;
  std::vector<float> bias;  // one for each of bias_ids
  // Each as tokens: the last one is forbidden where what was generated ends in the others.
  std::vector<std::vector<TokenId>> bad_words;
  int32_t num_prompt_logprobs = -1;  // beside each token of the prompt
};

// Fills `input`, which keeps the memory that it has. `sampling_of` answers for every sequence of
// the plan.
void build_input(const StepPlan& plan, const Scheduler& scheduler,
                 const std::function<const SequenceSampling&(SequenceId)>& sampling_of,
                 StepInput& input);

}  // namespace tidemill
