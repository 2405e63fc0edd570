// Prompts and answers of the scheduler's unit tests.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "base/token_id.h"
#include "scheduler/step_plan.h"

namespace tidemill {

// first, first + 1, ...
inline std::vector<TokenId> prompt_of(int32_t length, TokenId first = 100) {
  std::vector<TokenId> tokens(static_cast<size_t>(length));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// That token for every row that asked.
inline StepResult answer(const StepPlan& plan, TokenId token = 7) {
  StepResult result;
  for (const PlanRow& row : plan.rows) {
    if (row.num_score_rows > 0) {
      result.rows.push_back({.sequence = row.sequence, .accepted = {{.token = token}}});
    }
  }
  return result;
}

}  // namespace tidemill
