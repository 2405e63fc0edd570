// How tokens are chosen from logits, for one sequence. Plain values, already checked by
// GenerationRequest::make.
#pragma once

#include <cstdint>
#include <vector>

#include "base/token_id.h"

namespace tidemill {

struct SamplingParams {
  float temperature = 1.0f;         // below 1e-5: greedy
  int32_t top_k = 0;                // 0: off
  float top_p = 1.0f;               // 1: off; 0 keeps one token
  uint64_t seed = 0;                // the draw is a function of (seed, choice, position)
  int32_t num_logprobs = -1;        // -1: none; 0: of the chosen token; N: and of the N best
  float min_p = 0.0f;               // 0: off
  float typical_p = 1.0f;           // 1: off
  float repetition_penalty = 1.0f;  // 1: off; more than 0
  float frequency_penalty = 0.0f;   // 0: off
  float presence_penalty = 0.0f;    // 0: off
  // Log-probabilities are of what was drawn from, instead of the unmodified logits.
  bool processed_logprobs = false;
  bool operator==(const SamplingParams&) const = default;

  bool greedy() const { return temperature < 1e-5f; }
  // Whether the choice depends on the tokens before it, those of the prompt included or not.
  bool penalises_prompt() const { return repetition_penalty != 1.0f; }
  bool penalises_output() const {
    return penalises_prompt() || frequency_penalty != 0.0f || presence_penalty != 0.0f;
  }
};

}  // namespace tidemill
