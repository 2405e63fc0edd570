// A StepPlan becomes a StepInput, and what a draft model has to do before it: the tokens, positions
// and block tables that it stands for.
#pragma once

#include <functional>

#include "executor/draft_input.h"
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

// The plan's draft rows, likewise. Drafts are chosen by a sequence's temperature, cuts and seed, by
// what it allows and prefers; what depends on the text is left to the step, which has the last
// word.
void build_draft_input(const StepPlan& plan, const Scheduler& scheduler,
                       const std::function<const SequenceSampling&(SequenceId)>& sampling_of,
                       DraftInput& input);

}  // namespace tidemill
