// The best tokens of a row of logits, found without sorting the vocabulary: only those above
// a threshold are sorted, which the greatest of each few ids give or, where very many are wanted, a
// search. Private to sampling/.
#pragma once

#include <cstdint>
#include <memory_resource>
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

using CandidateList = std::pmr::vector<Candidate>;

// A row of logits, and where lists of it may lie.
struct LogitRow {
  const Kernels& kernels;
  Logits logits;
  float max;  // of them
  std::pmr::memory_resource* memory;
};

// The `count` best by logit, ties by lower id, best first; all of them when there are fewer.
CandidateList best_tokens(const LogitRow& row, int64_t count);

// Those within `distance` of the maximum, best first.
CandidateList tokens_within(const LogitRow& row, float distance);

}  // namespace tidemill
