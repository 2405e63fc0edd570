// Logits to tokens. Greedy, temperature, top-k, top-p; log-probabilities. Never sorts the
// vocabulary: finds a threshold, collects what is above it, sorts only that.
//
// Order on the logits: temperature, top-k, top-p, draw. The draw is counter-based: a function of
// (seed, choice index, position) and the row's logits, whatever the neighbours.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/token_id.h"
#include "kernels/kernels.h"
#include "sampling/sampling_params.h"

namespace tidemill {

// Settings of one score row, flat: they travel in StepInput.
struct SamplingRow {
  SamplingParams params;
  int32_t choice = 0;    // index of the choice inside its request
  int32_t position = 0;  // of the token being chosen, in its sequence
  bool operator==(const SamplingRow&) const = default;
};

// The choice for one row; `finite` is false when a logit is NaN or infinite (no token then).
struct SampledToken {
  TokenId token = 0;
  float logprob = 0.0f;
  std::vector<std::pair<TokenId, float>> top;
  bool finite = true;
};

// One row of f32 logits; the caller's lane alone. Pure: equal arguments, equal bits. Ids in
// `forbidden` may not be chosen; where those are all that there are, one of them is (and the
// scheduler takes no end before the least tokens for one).
SampledToken choose_token(const Kernels& kernels, const float* logits, int64_t vocab_size,
                          const SamplingRow& row, std::span<const TokenId> forbidden = {});

}  // namespace tidemill
