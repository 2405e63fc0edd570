// The members of records that several others hold, for wire.h.
#pragma once

#include "sampling/sampling_params.h"
#include "scheduler/step_plan.h"

namespace tidemill {

template <typename Visitor>
void visit_members(Visitor& visit, SamplingParams& params) {
  visit(params.temperature);
  visit(params.top_k);
  visit(params.top_p);
  visit(params.seed);
  visit(params.num_logprobs);
  visit(params.min_p);
  visit(params.typical_p);
  visit(params.repetition_penalty);
  visit(params.frequency_penalty);
  visit(params.presence_penalty);
  visit(params.processed_logprobs);
}

template <typename Visitor>
void visit_members(Visitor& visit, TokenChoice& choice) {
  visit(choice.token);
  visit(choice.logprob);
  visit(choice.top);
}

}  // namespace tidemill
