// Logits to tokens, and their log-probabilities. Never sorts the vocabulary: finds a threshold,
// collects what is above it, sorts only that. A row that nothing changes is not copied.
//
// Order on the logits: what logit_changes.h names; then the best (lowest id on a tie) where greedy,
// else temperature, top_k, top_p, typical_p, min_p (token_filters.h), draw. The draw is
// counter-based: a function of (seed, choice index, position) and the row's logits, whatever the
// neighbours.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/token_id.h"
#include "kernels/kernels.h"
#include "sampling/logit_changes.h"
#include "sampling/sampling_params.h"

namespace tidemill {

inline constexpr TokenId kNoToken = -1;

// Settings of one score row, flat: they travel in StepInput.
struct SamplingRow {
  SamplingParams params;
  int32_t choice = 0;    // index of the choice inside its request
  int32_t position = 0;  // of the token being chosen, in its sequence
  // A token that is there already (a prompt's): nothing is chosen, its log-probability is told.
  TokenId scored = kNoToken;
  bool operator==(const SamplingRow&) const = default;
};

// The choice for one row; `finite` is false when a logit is NaN or infinite (no token then).
struct SampledToken {
  TokenId token = 0;
  float logprob = 0.0f;
  std::vector<std::pair<TokenId, float>> top;
  bool finite = true;
};

// One row of logits; the caller's lane alone. Pure: equal arguments, equal bits. Where all that
// is allowed is forbidden, too, one of those is chosen (and the scheduler takes no end before the
// least tokens for one).
SampledToken choose_token(const Kernels& kernels, const Logits& logits, const SamplingRow& row,
                          LogitScratch& scratch, const LogitChanges& changes = {});

}  // namespace tidemill
