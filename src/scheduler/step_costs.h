// How long a step may take, and what each of its parts costs, in numbers that somebody else has
// measured: the scheduler has no clock. All in one unit of time.
//
// A decode that stands at position p attends p + 1 keys, and so does a token of a prompt; where the
// network has a sliding window, no more than that.
#pragma once

namespace tidemill {

struct StepCosts {
  double limit = 0.0;  // 0: a step may take as long as it wants
  double fixed = 0.0;  // of every step
  double decode_token = 0.0;
  double decode_key = 0.0;
  double prompt_token = 0.0;
  double prompt_key = 0.0;
  // Of all prompts in a step whose time is limited, but for the block that it always takes; 0: as
  // many as fit.
  double most_prompt_tokens = 0.0;
};

// What a plan computes, in what costs are counted by.
struct StepWork {
  double decode_tokens = 0.0;
  double decode_keys = 0.0;
  double prompt_tokens = 0.0;
  double prompt_keys = 0.0;
};

inline double cost_of(const StepWork& work, const StepCosts& costs) {
  return costs.fixed + work.decode_tokens * costs.decode_token +
         work.decode_keys * costs.decode_key + work.prompt_tokens * costs.prompt_token +
         work.prompt_keys * costs.prompt_key;
}

}  // namespace tidemill
