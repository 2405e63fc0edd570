// The best tokens of a row of logits, found without sorting the vocabulary: only those above
// a threshold are sorted, which the greatest of each few ids give or, where very many are wanted, a
// search. Private to sampling/.
#pragma once

#include <cstdint>
#include <vector>

#include "base/token_id.h"
#include "kernels/kernels.h"

namespace tidemill {

struct Candidate {
  TokenId id = 0;
  float logit = 0.0f;
};

// The order of "best first": by logit, ties by lower id.
inline bool better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// The `count` best by logit, ties by lower id, best first; all of them when there are fewer.
std::vector<Candidate> best_tokens(const Kernels& kernels, const float* logits, int64_t vocab_size,
                                   float max, int64_t count);

// Those within `distance` of the maximum, best first.
std::vector<Candidate> tokens_within(const Kernels& kernels, const float* logits,
                                     int64_t vocab_size, float max, float distance);

}  // namespace tidemill
