// The members of SamplingParams for wire.h; two records hold them.
#pragma once

#include "sampling/sampling_params.h"

namespace tidemill {

template <typename Visitor>
void visit_members(Visitor& visit, SamplingParams& params) {
  visit(params.temperature);
  visit(params.top_k);
  visit(params.top_p);
  visit(params.seed);
  visit(params.num_logprobs);
}

}  // namespace tidemill
