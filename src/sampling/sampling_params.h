// How tokens are chosen from logits, for one sequence. Plain values, already checked by
// GenerationRequest::make.
#pragma once

#include <cstdint>
#include <vector>

#include "base/token_id.h"

namespace tidemill {

struct SamplingParams {
  float temperature = 1.0f;   // below 1e-5: greedy
  int32_t top_k = 0;          // 0: off
  float top_p = 1.0f;         // 1: off; 0 keeps one token
  uint64_t seed = 0;          // the draw is a function of (seed, choice, position)
  int32_t num_logprobs = -1;  // -1: none; 0: of the chosen token; N: and of the N best
  bool operator==(const SamplingParams&) const = default;

  bool greedy() const { return temperature < 1e-5f; }
};

}  // namespace tidemill
